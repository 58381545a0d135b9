"""What is found out about a schema before a call is paid for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.errors import InputError
from steelyard.task.json_schema import contradiction, sound_object_schema, why_not_enforceable
from steelyard.task.output import validate_schema

DATA = Path(__file__).parents[3] / "shared" / "data" / "schemastore"
NODE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}


def needing(name: str, rule: object, **more: object) -> dict[str, Any]:
    return {"type": "object", "properties": {name: rule}, "required": [name], **more}


@pytest.mark.parametrize(
    ("schema", "path", "what"),
    [
        (needing("a", {"type": "string", "minLength": 5, "maxLength": 2}), "properties.a", "minLength 5 is more than"),
        (needing("a", {"type": "integer", "minimum": 3, "maximum": 2}), "properties.a", "no number lies between"),
        (needing("a", {"type": "number", "exclusiveMinimum": 2, "maximum": 2}), "properties.a", "no number"),
        (needing("a", {"enum": []}), "properties.a.enum", "the list of values is empty"),
        (needing("a", {"type": "integer", "enum": ["x"]}), "properties.a.enum", "none of the listed values fits"),
        (needing("a", {"type": "string", "const": 3}), "properties.a.const", "none of the listed values fits"),
        (needing("a", False), "properties.a", "nothing is allowed there"),
        (
            {"type": "object", "required": ["a"], "properties": {"b": {}}, "additionalProperties": False},
            "required",
            "it requires 'a', which additionalProperties: false forbids",
        ),
        ({"type": "object", "required": ["a", "b"], "maxProperties": 1}, "required", "requires 2 fields and allows 1"),
        (needing("a", {"type": "array", "minItems": 2, "maxItems": 1}), "properties.a", "minItems 2 is more than"),
        (needing("a", {"type": "array", "minItems": 1, "items": False}), "properties.a.items", "nothing is allowed"),
        (needing("a", {"allOf": [{"type": "string"}, {"enum": []}]}), "properties.a.allOf.1.enum", "empty"),
        (needing("a", {"anyOf": [False, {"enum": []}]}), "properties.a.anyOf.0", "nothing is allowed"),
        (needing("a", {"$ref": "#"}), "properties.a", "it needs itself without end"),
        (
            needing("a", {"$ref": "#/$defs/n"}, **{"$defs": {"n": needing("b", {"$ref": "#/$defs/n"})}}),
            "properties.a.properties.b",
            "it needs itself without end",
        ),
    ],
)
def test_a_contradiction_is_found_and_named_with_its_place(schema: dict[str, Any], path: str, what: str) -> None:
    """A schema nothing can satisfy would make every answer invalid; it is refused before any is paid for."""
    found = contradiction(schema)
    assert found is not None
    assert found.path == path
    assert what in found.what
    with pytest.raises(InputError) as caught:
        sound_object_schema(schema, where="schema.json")
    if "no output can satisfy" in caught.value.problems[0].what:  # an empty list is no JSON Schema in some drafts
        assert caught.value.problems[0].where == f"schema.json.{path}"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "string", "minLength": 5, "maxLength": 2}}},
        needing("a", {"type": ["string", "null"], "minLength": 5, "maxLength": 2}),
        needing("a", {"anyOf": [{"enum": []}, {"type": "string"}]}),
        needing("a", {"anyOf": [{"type": "null"}, {"$ref": "#"}]}),
        needing("a", {"type": "array", "items": {"$ref": "#"}}),
        needing("a", {"minLength": 5, "maxLength": 2}),
        needing("a", {"$ref": "#/$defs/n"}, **{"$defs": {"n": {"type": "string"}}}),
        {"$schema": "http://json-schema.org/draft-04/schema#", **needing("a", {"type": "number", "minimum": 1, "maximum": 1})},
        {"type": "object", "required": ["ab"], "additionalProperties": False, "patternProperties": {"^a": {}}},
    ],
)  # fmt: skip
def test_what_some_output_can_satisfy_is_no_contradiction(schema: dict[str, Any]) -> None:
    """Only what every output has to pass counts; an optional field that nothing fits can be left out."""
    assert contradiction(schema) is None


SCALARS = st.sampled_from([None, True, 0, 1, 2.5, "", "a", "abc"])
LEAVES = st.fixed_dictionaries(
    {"type": st.sampled_from(["string", "integer", "number", "null", "boolean"])},
    optional={
        "minLength": st.integers(0, 3), "maxLength": st.integers(0, 3), "minimum": st.integers(0, 3),
        "maximum": st.integers(0, 3), "exclusiveMaximum": st.integers(0, 3), "enum": st.lists(SCALARS, min_size=1, max_size=3),
    },
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(rule=LEAVES, value=SCALARS)
def test_a_contradiction_is_never_claimed_of_what_a_value_satisfies(rule: dict[str, Any], value: object) -> None:
    """Held against the validator: where any value passes, nothing is refused."""
    schema = needing("a", rule)
    if jsonschema_rs.is_valid(schema, {"a": value}):
        assert contradiction(schema) is None


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (needing("a", {"type": "array", "items": {"$ref": "#"}}), "it refers to itself (#)"),
        (needing("a", {"$ref": "#/$defs/node"}, **{"$defs": {"node": NODE}}), "it refers to itself (#/$defs/node)"),
        (needing("a", {"type": "string", "description": "x" * 30_000}), "bytes, more than 20,000"),
        ({"type": "object", "properties": {f"f{n}": {} for n in range(1_200)}}, "more than 1,000 parts"),
        (needing("a", True), "true or false in place of a part"),
        ({**needing("a", {"$ref": "#n"}), "$defs": {"n": {"$anchor": "n"}}}, "it refers by $ref to #n"),
        (needing("a", {"$ref": "#/$defs/b"}, **{"$defs": {"b": {"type": "string"}}}), None),
        (needing("a", {"type": "string"}, additionalProperties=False), None),
        (needing("enum", {"type": "string"}), None),
    ],
)
def test_a_schema_no_endpoint_should_enforce_is_known_beforehand(schema: dict[str, Any], why: str | None) -> None:
    """Recursive, huge, or with parts llama.cpp refuses."""
    said = why_not_enforceable(schema)
    assert (why in said) if why is not None and said is not None else said is why


def test_a_field_called_like_a_keyword_is_still_looked_into() -> None:
    """`default` among the properties is a field, not a literal."""
    with pytest.raises(InputError, match="outside itself"):
        sound_object_schema(needing("default", {"$ref": "https://example.com/a.json"}), where="schema.json")


@pytest.mark.realdata
@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
def test_real_schemas_compile_and_instances_validate_as_their_files_say() -> None:
    """Hundred published schemas of three drafts, none of them contradictory, checked without a network."""
    schemas: dict[str, dict[str, Any]] = {}
    for line in (DATA / "schemas.jsonl").read_text().splitlines():
        row = json.loads(line)
        schemas[row["id"]] = json.loads(row["text"])
    assert len(schemas) == 100
    for name, schema in schemas.items():
        assert contradiction(schema) is None, name
        why_not_enforceable(schema)
    wrong = []
    rows = [json.loads(line) for line in (DATA / "instances.jsonl").read_text().splitlines()]
    for row in rows:
        found = validate_schema(row["input"]["instance"], schemas[row["input"]["schema_name"]])
        if (found is None) != row["expected"]["valid"]:
            wrong.append((row["id"], found))
    assert len(rows) == 185
    assert wrong == []
