"""From the `task:` section of study.yaml to a `Task`: the schema is built or loaded, and is itself checked."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, PydanticInvalidForJsonSchema, PydanticUserError

from steelyard.errors import InputError, Problem
from steelyard.task.functions import load_function, resolve_scoring
from steelyard.task.json_schema import sound_object_schema
from steelyard.task.spec import TaskSpec
from steelyard.task.task import Task

_WHERE = "study.yaml:task.output_schema"
_MAX_SCHEMA_BYTES = 1_000_000


def resolve_task(spec: TaskSpec, folder: Path) -> Task:
    """The task a study describes, with an output schema that is known to be sound.

    Args:
        spec: The `task:` section.
        folder: The study folder; a schema file must lie inside it.

    Returns:
        The task, with a schema as `sound_object_schema` gives it.

    Raises:
        InputError: The schema file is missing, outside the folder, too large or not JSON; the Pydantic model cannot be
            loaded or is none; the schema is not sound, or knows nothing of an expected field.
    """
    definitions = spec.labels if isinstance(spec.labels, dict) else None
    labels = tuple(spec.labels or ())
    if spec.output_schema is None:
        schema = schema_of_fields(tuple(spec.expected), labels)
    elif isinstance(spec.output_schema, str) and ".py:" in spec.output_schema:
        schema = _checked(_of_model(spec.output_schema, folder), _WHERE, spec.expected)
    elif isinstance(spec.output_schema, str):
        schema, where = _load(spec.output_schema, folder)
        schema = _checked(schema, where, spec.expected)
    else:
        schema = _checked(spec.output_schema, _WHERE, spec.expected)
    if spec.citations is not None and spec.citations not in schema["properties"]:
        hint = _nearest(spec.citations, schema["properties"])
        what = f"there is no output field {spec.citations!r}"
        raise InputError(Problem(what=what, where="study.yaml:task.citations", hint=hint))
    scoring, functions, digests = resolve_scoring(spec, folder) if spec.scoring is not None else (None, {}, {})
    return Task(
        instruction=spec.instruction.strip(),
        input_fields=tuple(spec.input),
        expected_fields=tuple(spec.expected),
        image_fields=tuple(spec.images),
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
    """The schema, known to be sound and to know every expected field."""
    sound = sound_object_schema(schema, where=where)
    properties = sound["properties"]
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
    return sound


def _of_model(reference: str, folder: Path) -> dict[str, Any]:
    """The JSON Schema of a Pydantic model of the study."""
    model, _ = load_function(reference, folder, where=_WHERE)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise InputError(
            Problem(
                what=f"{reference} is not a Pydantic model",
                where=_WHERE,
                hint="name a class that inherits from pydantic.BaseModel, or a .json file with a JSON Schema",
            )
        )
    try:
        schema = model.model_json_schema()
    except (PydanticInvalidForJsonSchema, PydanticUserError) as error:
        raise InputError(
            Problem(
                what=f"{reference} has no JSON Schema: {error.message}",
                where=_WHERE,
                hint="use fields that JSON can hold, or describe them with pydantic.WithJsonSchema",
            )
        ) from error
    if "$ref" in schema:  # a model that holds itself is all in the definitions
        definitions = schema["$defs"]
        return {**definitions[schema["$ref"].rpartition("/")[2]], "$defs": definitions}
    return schema


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"add it, or expect one of {', '.join(map(repr, list(known)[:10]))}" if known else "add it to the schema"
