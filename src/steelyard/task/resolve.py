"""From the `task:` section of study.yaml to a `Task`: the schema is built or loaded, and is itself checked."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson

from steelyard.errors import InputError, Problem
from steelyard.task.functions import resolve_scoring
from steelyard.task.spec import TaskSpec
from steelyard.task.task import Task

_WHERE = "study.yaml:task.output_schema"
_MAX_SCHEMA_BYTES = 1_000_000
_DRAFTS = (
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema",
    "http://json-schema.org/draft-06/schema",
    "http://json-schema.org/draft-04/schema",
)


def resolve_task(spec: TaskSpec, folder: Path) -> Task:
    """The task a study describes, with an output schema that is known to be sound.

    Args:
        spec: The `task:` section.
        folder: The study folder; a schema file must lie inside it.

    Returns:
        The task. Its schema has an object for `properties` and refers to nothing outside itself, so that checking an
        output never opens a file or a connection.

    Raises:
        InputError: The schema file is missing, outside the folder, too large or not JSON; the schema is not valid
            JSON Schema, does not describe an object, refers to something outside itself, or knows nothing of an
            expected field.
    """
    definitions = spec.labels if isinstance(spec.labels, dict) else None
    labels = tuple(spec.labels or ())
    if spec.output_schema is None:
        schema = schema_of_fields(tuple(spec.expected), labels)
    elif isinstance(spec.output_schema, str):
        schema, where = _load(spec.output_schema, folder)
        schema = _checked(schema, where, spec.expected)
    else:
        schema = _checked(spec.output_schema, _WHERE, spec.expected)
    scoring, functions, digests = resolve_scoring(spec, folder) if spec.scoring is not None else (None, {}, {})
    return Task(
        instruction=spec.instruction.strip(),
        input_fields=tuple(spec.input),
        expected_fields=tuple(spec.expected),
        output_schema=schema,
        labels=labels,
        label_definitions=definitions,
        scorer=spec.scorer,
        scoring=scoring,
        functions=functions,
        function_digests=digests,
        success_threshold=spec.success_threshold,
        max_output_tokens=spec.max_output_tokens,
    )


def schema_of_fields(expected: tuple[str, ...], labels: tuple[str, ...] = ()) -> dict[str, Any]:
    """The schema that follows from the expected fields: all required, nothing else allowed.

    One field holds text (one of `labels`, where there are any). Several fields hold text, numbers, booleans or null,
    since nothing is known of them.
    """
    if labels:
        value: dict[str, Any] = {"type": "string", "enum": list(labels)}
    elif len(expected) == 1:
        value = {"type": "string", "minLength": 1}
    else:
        value = {"type": ["string", "number", "boolean", "null"]}
    return {
        "type": "object",
        "properties": {name: dict(value) for name in expected},
        "required": list(expected),
        "additionalProperties": False,
    }


# ---- private --------------------------------------------------------------------------------------------------------


def _load(name: str, folder: Path) -> tuple[Any, str]:
    """The parsed schema file and its name for messages."""
    root = folder.resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise InputError(
            Problem(
                what=f"the schema file {name!r} lies outside the study folder",
                where=_WHERE,
                hint="copy it into the folder, so that the study stays complete when it is moved",
            )
        )
    try:
        if path.stat().st_size > _MAX_SCHEMA_BYTES:
            raise InputError(
                Problem(
                    what=f"the schema file {name!r} is larger than {_MAX_SCHEMA_BYTES:,} bytes",
                    where=_WHERE,
                    hint="a schema of this size does not fit into a prompt; keep to the fields you score",
                )
            )
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(
            Problem(
                what=f"the schema file {name!r} cannot be read ({error.strerror})",
                where=_WHERE,
                hint="give a JSON file by its path inside the study folder, or write the schema inline",
            )
        ) from error
    try:
        return orjson.loads(raw), name
    except orjson.JSONDecodeError as error:
        raise InputError(
            Problem(
                what=f"the schema file is not JSON: {error.msg}",
                where=f"{name}:{error.lineno}",
                hint="mend the file; JSON wants double quotes and no trailing commas",
            )
        ) from error


def _checked(schema: Any, where: str, expected: list[str]) -> dict[str, Any]:  # noqa: ANN401 - any JSON or YAML value
    """The schema with plain properties, or every problem it has."""
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
    properties = schema.get("properties", {})
    problems = [
        Problem(
            what=f"the expected field {name!r} is not among the schema's properties",
            where=f"{where}.properties",
            hint=_nearest(name, properties),
        )
        for name in expected
        if name not in properties
    ]
    if problems:
        raise InputError(problems)
    # `true` and `false` are schemas too; spelled out, every property has the same shape for the code that reads them.
    plain = {
        name: ({} if rule is True else {"not": {}} if rule is False else rule) for name, rule in properties.items()
    }
    return {**schema, "properties": plain}


_EXAMPLE = "write {type: object, properties: {FIELD: {type: string}}, required: [FIELD]}"


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
    """Every `$ref`. A literal under `const`, `enum`, `default` or `examples` is a value, not a schema."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key in ("$ref", "$dynamicRef", "$recursiveRef") and isinstance(value, str):
                yield value
            elif key not in ("const", "enum", "default", "examples"):
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _refuse(uri: str) -> Any:  # noqa: ANN401 - the library's signature
    raise ValueError(f"{uri} lies outside the schema")


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"add it, or expect one of {', '.join(map(repr, list(known)[:10]))}" if known else "add it to the schema"
