"""A task is resolved once, and whatever is wrong with its schema is said with a place and a way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from steelyard.errors import InputError
from steelyard.task.output import validate
from steelyard.task.resolve import resolve_task
from steelyard.task.spec import TaskSpec


def spec(**fields: object) -> TaskSpec:
    return TaskSpec.model_validate({"input": "text", "expected": "label", **fields})


def test_labels_make_a_closed_schema(tmp_path: Path) -> None:
    """With labels, an output is one of them and nothing else."""
    task = resolve_task(spec(labels={"refund": "money back", "login": ""}), tmp_path)
    assert task.labels == ("refund", "login")
    assert task.label_definitions == {"refund": "money back", "login": ""}
    assert task.single_field == "label"
    assert validate({"label": "refund"}, task) is None
    assert validate({"label": "other"}, task) == 'label: "other" is not one of "refund", "login"'
    assert validate({}, task) == 'the field "label" is missing'
    assert validate({"label": "login", "why": 1}, task) == 'unknown field "why"'


def test_one_free_field_is_text_that_is_not_empty(tmp_path: Path) -> None:
    """Without labels, one field holds text."""
    task = resolve_task(spec(expected="answer"), tmp_path)
    assert task.single_field == "answer"
    assert validate({"answer": "forty-two"}, task) is None
    assert validate({"answer": ""}, task) is not None
    assert validate({"answer": 42}, task) is not None


def test_several_fields_are_all_required(tmp_path: Path) -> None:
    """Several fields hold anything flat, and all of them are asked for."""
    task = resolve_task(spec(expected=["total", "vendor"]), tmp_path)
    assert task.single_field is None
    assert validate({"total": 12.5, "vendor": None}, task) is None
    assert validate({"total": [1], "vendor": "x"}, task) is not None
    assert validate({"total": 1}, task) is not None


def test_a_schema_file_means_the_same_as_the_schema_inline(tmp_path: Path) -> None:
    """It does not matter for the task where its schema was written."""
    inline = {"type": "object", "properties": {"label": {"type": "string"}, "why": True}, "required": ["label"]}
    (tmp_path / "schema.json").write_text(
        '{"type":"object","properties":{"label":{"type":"string"},"why":true},"required":["label"]}'
    )
    from_file = resolve_task(spec(output_schema="schema.json"), tmp_path)
    assert from_file.digest() == resolve_task(spec(output_schema=inline), tmp_path).digest()
    assert from_file.single_field is None


OBJECT = '{"type": "object", "properties": {"label": %s}}'


@pytest.mark.parametrize(
    ("content", "what", "where"),
    [
        (None, "cannot be read", "study.yaml:task.output_schema"),
        ('{\n "type": "object",\n}', "not JSON", "schema.json:2"),
        ("[]", "a list, not an object", "schema.json"),
        ('{"type": "array"}', "has type 'array'", "schema.json"),
        (OBJECT % '{"type": "strin"}', "not a valid JSON Schema", "schema.json.properties.label.type"),
        (OBJECT % '{"pattern": "("}', "not a valid JSON Schema", "schema.json.properties.label.pattern"),
        (OBJECT % '{"$ref": "#/$defs/no"}', "not a valid JSON Schema", "schema.json"),
        (OBJECT % '{"$ref": "http://127.0.0.1:9/x.json"}', "outside itself", "schema.json"),
        (OBJECT % '{"$ref": "file:///etc/passwd"}', "outside itself", "schema.json"),
        ('{"$schema": "http://127.0.0.1:9/d", "type": "object"}', "unknown schema dialect", "schema.json.$schema"),
        ('{"type": "object", "properties": {"labels": {}}}', "'label' is not among", "schema.json.properties"),
    ],
)
def test_a_wrong_schema_file_is_refused_with_place_and_hint(
    tmp_path: Path, content: str | None, what: str, where: str
) -> None:
    """Every fault names its place; nothing outside the file is ever opened."""
    if content is not None:
        (tmp_path / "schema.json").write_text(content)
    with pytest.raises(InputError) as caught:
        resolve_task(spec(output_schema="schema.json"), tmp_path)
    (problem,) = caught.value.problems
    assert what in problem.what
    assert problem.where == where
    assert problem.hint


@pytest.mark.parametrize("path", ["../schema.json", "/etc/hostname", "inside/../../schema.json"])
def test_a_schema_outside_the_study_is_refused(tmp_path: Path, path: str) -> None:
    """A study folder is complete: it refers to nothing beside it."""
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    study = tmp_path / "study"
    study.mkdir()
    with pytest.raises(InputError, match="outside the study folder"):
        resolve_task(spec(output_schema=path), study)


def test_a_link_out_of_the_study_is_refused(tmp_path: Path) -> None:
    """A link inside the folder does not make what it points to part of the folder."""
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    study = tmp_path / "study"
    study.mkdir()
    (study / "schema.json").symlink_to(tmp_path / "schema.json")
    with pytest.raises(InputError, match="outside the study folder"):
        resolve_task(spec(output_schema="schema.json"), study)


def test_yaml_dates_in_an_inline_schema_are_refused(tmp_path: Path) -> None:
    """What YAML knows and JSON does not is named instead of crashing later."""
    import datetime

    schema = {"type": "object", "properties": {"label": {"const": datetime.timedelta(1)}}}
    with pytest.raises(InputError, match="JSON does not know"):
        resolve_task(spec(output_schema=schema), tmp_path)


def test_a_nearby_property_is_suggested(tmp_path: Path) -> None:
    """A misspelt expected field comes with the right one."""
    with pytest.raises(InputError, match="did you mean 'label'"):
        resolve_task(spec(expected="lable", output_schema={"type": "object", "properties": {"label": {}}}), tmp_path)


MODELS = '''
from __future__ import annotations
from datetime import date
from decimal import Decimal
from typing import Callable
from pydantic import BaseModel

class Line(BaseModel):
    text: str
    amount: Decimal

class Invoice(BaseModel):
    """An invoice as it was read."""
    vendor: str
    day: date | None = None
    lines: list[Line]

class Node(BaseModel):
    name: str
    kids: list[Node] = []

class Odd(BaseModel):
    when: Missing

class Lazy(BaseModel):
    call: Callable[[], int]

NOT_A_MODEL = dict
'''


def test_a_pydantic_model_gives_the_schema(tmp_path: Path) -> None:
    """`FILE.py:NAME` is the model's JSON Schema, with annotations of its module, nested models included."""
    (tmp_path / "models.py").write_text(MODELS)
    task = resolve_task(spec(expected=["vendor", "lines"], output_schema="models.py:Invoice"), tmp_path)
    right = {"vendor": "Acme", "lines": [{"text": "tea", "amount": "3.50"}]}
    assert validate(right, task) is None
    assert "amount" in str(validate({"vendor": "Acme", "lines": [{"text": "tea"}]}, task))
    assert validate({**right, "day": 3}, task) is not None
    tree = resolve_task(spec(expected=["name"], output_schema="models.py:Node"), tmp_path)
    assert validate({"name": "a", "kids": [{"name": "b"}]}, tree) is None


@pytest.mark.parametrize(
    ("reference", "what"),
    [
        ("models.py:NOT_A_MODEL", "is not a Pydantic model"),
        ("models.py:Invoise", "has no function 'Invoise'"),
        ("other.py:Invoice", "cannot be read"),
        ("../models.py:Invoice", "lies outside the study folder"),
        ("models.py:Odd", "has no JSON Schema"),
        ("models.py:Lazy", "has no JSON Schema"),
        ("models.py:Line", "the expected field 'label' is not among"),
    ],
)
def test_what_is_no_usable_model_is_named(tmp_path: Path, reference: str, what: str) -> None:
    """A wrong class, file or field is one sentence."""
    (tmp_path / "models.py").write_text(MODELS)
    with pytest.raises(InputError) as caught:
        resolve_task(spec(output_schema=reference), tmp_path)
    assert what in caught.value.problems[0].what


def test_one_field_that_is_an_object_is_asked_for_as_json(tmp_path: Path) -> None:
    """A reference may lead to anything, so no bare answer is expected."""
    schema = {
        "type": "object",
        "properties": {"label": {"$ref": "#/$defs/L"}},
        "$defs": {"L": {"type": "object", "properties": {"a": {"type": "string"}}}},
    }
    assert resolve_task(spec(output_schema=schema), tmp_path).single_field is None


def test_pictures_are_input_fields(tmp_path: Path) -> None:
    """The list names input fields, and a task without it has the digest it always had."""
    with pytest.raises(ValueError, match="images names 'scan', which is not among the input fields"):
        spec(images=["scan"])
    plain, pictured = resolve_task(spec(), tmp_path), resolve_task(spec(images="text"), tmp_path)
    assert pictured.image_fields == ("text",)
    assert plain.digest() != pictured.digest()
