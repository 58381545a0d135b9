"""What can be said of a JSON Schema before there is an instance: sound, satisfiable, fit for an endpoint to enforce."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

import jsonschema_rs
import orjson

from steelyard.errors import InputError, Problem

MAX_ENFORCED_BYTES = 20_000
MAX_ENFORCED_NODES = 1_000
"""Larger schemas take a server seconds to compile for every call, where it takes them at all."""

_DRAFTS = (
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema",
    "http://json-schema.org/draft-06/schema",
    "http://json-schema.org/draft-04/schema",
)
_EXAMPLE = "write {type: object, properties: {FIELD: {type: string}}, required: [FIELD]}"
_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
_LITERALS = ("const", "enum", "default", "examples")
"""What stands under these is a value, not a schema."""
_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
"""Mappings from a name to a schema."""
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


def sound_object_schema(schema: Any, *, where: str) -> dict[str, Any]:  # noqa: ANN401 - any JSON or YAML value
    """The schema with plain properties, or every problem it has.

    Args:
        schema: What stands in a file.
        where: Its place, for messages.

    Returns:
        The schema. It describes an object, has an object for each of `properties`, refers to nothing outside itself, so
        that checking an instance never opens a file or a connection, and some instance can satisfy it.

    Raises:
        InputError: It is none of that.
    """
    if not isinstance(schema, dict):
        raise InputError(
            Problem(what=f"the schema is a {type(schema).__name__}, not an object", where=where, hint=_EXAMPLE)
        )
    _refuse_outside_references(schema, where)
    try:
        orjson.dumps(schema)
    except TypeError as error:  # YAML knows dates, keys that are not text, and integers of any size
        raise InputError(
            Problem(
                what=f"the schema holds something JSON does not know ({error})",
                where=where,
                hint="put dates and keys in quotes",
            )
        ) from error
    try:
        jsonschema_rs.meta.validate(schema)
        jsonschema_rs.validator_for(schema, retriever=_refuse)
    except jsonschema_rs.ValidationError as error:
        place = ".".join(str(part) for part in error.instance_path)
        raise InputError(
            Problem(
                what=f"not a valid JSON Schema: {error.message[:300]}",
                where=f"{where}.{place}" if place else where,
                hint="see https://json-schema.org/understanding-json-schema for what each keyword takes",
            )
        ) from error
    if schema.get("type") != "object":
        raise InputError(
            Problem(what=f"the schema has type {schema.get('type')!r}, not 'object'", where=where, hint=_EXAMPLE)
        )
    found = contradiction(schema)
    if found is not None:
        raise InputError(
            Problem(
                what=f"no output can satisfy the schema: {found.what}",
                where=f"{where}.{found.path}" if found.path else where,
                hint="mend the contradiction; every answer would be invalid",
            )
        )
    properties = schema.get("properties", {})
    # `true` and `false` are schemas too; spelled out, every property has the same shape for the code that reads them.
    plain = {
        name: ({} if rule is True else {"not": {}} if rule is False else rule) for name, rule in properties.items()
    }
    return {**schema, "properties": plain}


class Contradiction(NamedTuple):
    """Why no instance can satisfy a schema."""

    path: str
    """Where in the schema, as in `properties.total`; empty for the whole of it."""
    what: str


def contradiction(schema: Mapping[str, Any]) -> Contradiction | None:
    """A reason why nothing can satisfy the schema, where one is cheap to find; `None` proves nothing.

    Found are bounds that cross, lists of values of which none fits, fields that are required and forbidden, and
    required fields that need themselves without end; only where every instance has to pass there.

    >>> contradiction({"type": "object", "required": ["a"], "additionalProperties": False})
    Contradiction(path='required', what="it requires 'a', which additionalProperties: false forbids")
    """
    return _Search(schema).impossible(schema, "", frozenset({"#"}))


def why_not_enforceable(schema: Mapping[str, Any]) -> str | None:
    """Why an endpoint should not be asked to enforce the schema, or `None`.

    What llama.cpp's grammar and the strict modes of hosted models ignore is no reason, since every answer is checked
    here anyway; what they refuse, or what lets a model nest without end, is.
    """
    size = len(orjson.dumps(schema))
    if size > MAX_ENFORCED_BYTES:
        return f"it has {size:,} bytes, more than {MAX_ENFORCED_BYTES:,}"
    target = _recursive_reference(schema)
    if target is not None:
        return f"it refers to itself ({target})"
    n_nodes = 0
    left: list[Any] = [schema]
    while left:
        node = left.pop()
        n_nodes += 1
        if n_nodes > MAX_ENFORCED_NODES:
            return f"it has more than {MAX_ENFORCED_NODES:,} parts"
        if isinstance(node, bool):
            return "it has true or false in place of a part"
        if not isinstance(node, Mapping):
            continue
        if node.get("enum") == []:
            return "it has a list of values that is empty"
        for keyword in _REFERENCES:
            target = node.get(keyword)
            if isinstance(target, str) and (keyword != "$ref" or not target.startswith("#/")):
                return f"it refers by {keyword} to {target}"
        left += _parts(node)
    return None


# ---- private --------------------------------------------------------------------------------------------------------


class _Search:
    """One search for a contradiction."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._dialect = {"$schema": root["$schema"]} if "$schema" in root else {}
        old = str(root.get("$schema", "")).rstrip("#") in _DRAFTS[2:]
        self._siblings_of_ref_count = not old

    def impossible(self, schema: Any, path: str, inside: frozenset[str]) -> Contradiction | None:  # noqa: ANN401 - JSON
        """Why nothing satisfies this part.

        Args:
            schema: The part.
            path: Where it stands.
            inside: References that lead here through parts every instance has.
        """
        if schema is False:
            return Contradiction(path, "nothing is allowed there")
        if not isinstance(schema, Mapping):
            return None
        target = schema.get("$ref")
        if isinstance(target, str):
            if target in inside:
                return Contradiction(path, f"it needs itself without end ({target})")
            found = self.impossible(_pointed_at(self._root, target), path, inside | {target})
            if found is not None or not self._siblings_of_ref_count:
                return found
        for number, part in enumerate(schema.get("allOf", ())):
            found = self.impossible(part, _join(path, f"allOf.{number}"), inside)
            if found is not None:
                return found
        for keyword in ("anyOf", "oneOf"):
            choices = [
                self.impossible(part, _join(path, f"{keyword}.{number}"), inside)
                for number, part in enumerate(schema.get(keyword, ()))
            ]
            if choices and None not in choices:
                return choices[0]
        if ("const" in schema or "enum" in schema) and not any(True for _ in _references(schema)):
            return self._impossible_values(schema, path)
        declared = schema.get("type", _TYPES)
        reasons = [
            self._impossible_as(kind, schema, path, inside)
            for kind in ([declared] if isinstance(declared, str) else declared)
        ]
        return reasons[0] if reasons and None not in reasons else None

    def _impossible_values(self, schema: Mapping[str, Any], path: str) -> Contradiction | None:
        """Whether a listed value fits the rest of the part, which refers to nothing else."""
        keyword = "const" if "const" in schema else "enum"
        values = [schema["const"]] if keyword == "const" else schema["enum"]
        rest = {key: value for key, value in schema.items() if key != keyword}
        validator = jsonschema_rs.validator_for({**rest, **self._dialect}, retriever=_refuse)
        if any(validator.is_valid(value) for value in values):
            return None
        said = "none of the listed values fits the rest" if values else "the list of values is empty"
        return Contradiction(_join(path, keyword), said)

    def _impossible_as(
        self, kind: str, schema: Mapping[str, Any], path: str, inside: frozenset[str]
    ) -> Contradiction | None:
        match kind:
            case "string":
                return _crossed(schema, path, "minLength", "maxLength")
            case "number" | "integer":
                return _crossed_numbers(schema, path)
            case "array":
                crossed = _crossed(schema, path, "minItems", "maxItems")
                items = schema.get("items")
                if crossed is None and _number(schema.get("minItems")) and "prefixItems" not in schema:
                    return self.impossible(items, _join(path, "items"), inside)
                return crossed
            case "object":
                crossed = _crossed(schema, path, "minProperties", "maxProperties")
                return crossed or self._impossible_fields(schema, path, inside)
        return None

    def _impossible_fields(self, schema: Mapping[str, Any], path: str, inside: frozenset[str]) -> Contradiction | None:
        required = schema.get("required", ())
        if not isinstance(required, list):  # draft 3 had a boolean here
            return None
        most = _number(schema.get("maxProperties"))
        if most is not None and len(set(required)) > most:
            return Contradiction(_join(path, "required"), f"it requires {len(set(required))} fields and allows {most}")
        properties = schema.get("properties", {})
        for name in required:
            if name in properties:
                found = self.impossible(properties[name], _join(path, f"properties.{name}"), inside)
                if found is not None:
                    return found
            elif schema.get("additionalProperties") is False and not schema.get("patternProperties"):
                said = f"it requires {name!r}, which additionalProperties: false forbids"
                return Contradiction(_join(path, "required"), said)
        return None


def _crossed(schema: Mapping[str, Any], path: str, least: str, most: str) -> Contradiction | None:
    low, high = _number(schema.get(least)), _number(schema.get(most))
    if low is None or high is None or low <= high:
        return None
    return Contradiction(path, f"{least} {low} is more than {most} {high}")


def _crossed_numbers(schema: Mapping[str, Any], path: str) -> Contradiction | None:
    bounds = {
        key: value
        for key in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
        if (value := _number(schema.get(key))) is not None
    }
    for low in ("minimum", "exclusiveMinimum"):
        for high in ("maximum", "exclusiveMaximum"):
            if low not in bounds or high not in bounds:
                continue
            # Draft 4 says `exclusiveMinimum: true` beside the minimum.
            is_open = (low, high) != ("minimum", "maximum") or True in (
                schema.get("exclusiveMinimum"),
                schema.get("exclusiveMaximum"),
            )
            if bounds[low] > bounds[high] or (is_open and bounds[low] == bounds[high]):
                return Contradiction(path, f"no number lies between {low} {bounds[low]} and {high} {bounds[high]}")
    return None


def _number(value: object) -> float | int | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _join(path: str, more: str) -> str:
    return f"{path}.{more}" if path else more


def _pointed_at(root: Mapping[str, Any], target: str) -> Any:  # noqa: ANN401 - any JSON value
    """What a reference inside the schema points at; `{}`, which allows anything, where that cannot be told."""
    if target == "#":
        return root
    node: Any = root
    if not target.startswith("#/"):
        return {}
    for part in unquote(target).removeprefix("#/").split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list) and re.fullmatch(r"\d+", name) and int(name) < len(node):
            node = node[int(name)]
        elif isinstance(node, Mapping) and name in node:
            node = node[name]
        else:
            return {}
    return node


def _parts(node: Mapping[str, Any]) -> Iterator[Any]:
    """The schemas directly inside a schema."""
    for key, value in node.items():
        if key in _LITERALS:
            continue
        if key in _BY_NAME and isinstance(value, Mapping):
            yield from value.values()
        elif isinstance(value, Mapping):
            yield value
        elif isinstance(value, list):
            yield from (part for part in value if isinstance(part, Mapping | bool))
        elif isinstance(value, bool) and key in ("items", "not", "if", "then", "else", "contains", "propertyNames"):
            yield value


def _recursive_reference(schema: Mapping[str, Any]) -> str | None:
    """A reference that leads back to itself."""
    safe: set[str] = set()

    def leads_back(node: Any, inside: tuple[str, ...]) -> str | None:  # noqa: ANN401 - any JSON value
        for target in set(_references(node)):
            if target in inside:
                return target
            if target not in safe:
                found = leads_back(_pointed_at(schema, target), (*inside, target))
                if found is not None:
                    return found
                safe.add(target)
        return None

    plain = {key: value for key, value in schema.items() if key not in ("$defs", "definitions")}
    return leads_back(plain, ("#",))


def _refuse_outside_references(schema: Mapping[str, Any], where: str) -> None:
    dialect = schema.get("$schema")
    if dialect is not None and str(dialect).rstrip("#") not in _DRAFTS:
        raise InputError(
            Problem(
                what=f"unknown schema dialect {dialect!r}",
                where=f"{where}.$schema",
                hint=f"leave it out, or write {_DRAFTS[0]!r}",
            )
        )
    outside = sorted({target for target in _references(schema) if not target.startswith("#")})
    if outside:
        raise InputError(
            [
                Problem(
                    what=f"the schema refers to {target!r}, outside itself",
                    where=where,
                    hint="copy that part under '$defs' and refer to it as '#/$defs/NAME'",
                )
                for target in outside
            ]
        )


def _references(node: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    """Every reference in a schema."""
    if isinstance(node, Mapping):
        yield from (node[key] for key in _REFERENCES if isinstance(node.get(key), str))
        for part in _parts(node):
            yield from _references(part)


def _refuse(uri: str) -> Any:  # noqa: ANN401 - the library's signature
    raise ValueError(f"{uri} lies outside the schema")
