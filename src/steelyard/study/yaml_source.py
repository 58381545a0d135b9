"""Read the user's YAML files so that every complaint names the line and field it is about."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from steelyard.errors import InputError, Problem
from steelyard.study.file import StudyFile

KeyPath = tuple[str | int, ...]
Checked = TypeVar("Checked", bound=BaseModel)


def read_study_file(path: Path) -> StudyFile:
    """Parse and check study.yaml.

    Raises:
        InputError: The file is missing, is not YAML, or does not fit the schema; all problems at once, each with
            `study.yaml:line:field`.
    """
    hint = f"write one with: steelyard init {path.parent} --cases FILE --input COLUMN --expected COLUMN"
    return read_checked(path, StudyFile, absent=Problem(where=str(path), what="there is no study.yaml here", hint=hint))


def read_checked(path: Path, schema: type[Checked], *, absent: Problem, page: str = "study-yaml.md") -> Checked:
    """Parse and check a YAML file.

    Args:
        path: The file.
        schema: What it must fit.
        absent: The problem to report when there is no such file.
        page: The page under docs/ that documents its fields.

    Raises:
        InputError: As for `read_study_file`, under the file's own name.
    """
    raw, lines = _parse(_read(path, absent), path.name)
    if not isinstance(raw, dict):
        such_as = " and ".join(f"`{name}:`" for name in list(schema.model_fields)[:2])
        raise InputError(Problem(where=f"{path.name}:1", what=f"the file must hold fields such as {such_as}"))
    try:
        return schema.model_validate(raw)
    except ValidationError as error:
        raise InputError(_problems(error, lines, path.name, schema, page)) from None


def _read(path: Path, absent: Problem) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(absent) from None
    except NotADirectoryError:
        raise InputError(
            Problem(
                where=str(path.parent),
                what="this is a file, not a study folder",
                hint=f"name the folder that {path.name} lies in: {path.parent.parent}",
            )
        ) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(
            Problem(where=f"{path.name}:{line}", what="the file is not UTF-8", hint="save it again as UTF-8")
        ) from None
    except OSError as error:
        raise InputError(
            Problem(
                where=str(path),
                what=f"the file cannot be read: {error.strerror or error}",
                hint="check what it is and who may read it",
            )
        ) from None


# Reading with positions


def _parse(text: str, file_name: str) -> tuple[Any, dict[KeyPath, int]]:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines: dict[KeyPath, int] = {}
        repeated = _walk(node, (), lines)
        if repeated:
            raise InputError(
                Problem(where=f"{file_name}:{line}:{key}", what=f"the field {key!r} stands here a second time")
                for key, line in repeated
            )
        return yaml.safe_load(text), lines
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(
            Problem(
                where=f"{file_name}:{mark.line + 1}" if mark else file_name,
                what=f"this is not valid YAML: {what}",
                hint="check the indentation and quote values that hold ': ' or begin with a special character",
            )
        ) from None


def _walk(node: yaml.Node | None, path: KeyPath, lines: dict[KeyPath, int]) -> list[tuple[str, int]]:
    """Note the line of every key and list item below `node`; return keys that stand twice, with their lines."""
    repeated: list[tuple[str, int]] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in seen:
                repeated.append((key, line))
            seen.add(key)
            lines[(*path, key)] = line
            repeated += _walk(value_node, (*path, key), lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
            repeated += _walk(item, (*path, index), lines)
    return repeated


# Wording


def _problems(
    error: ValidationError, lines: dict[KeyPath, int], file_name: str, schema: type[BaseModel], page: str
) -> list[Problem]:
    problems: dict[tuple[str | None, str], Problem] = {}
    for item in error.errors(include_url=False):
        path = _in_file(item["loc"], lines)
        problem = _problem(item, path, lines, file_name, schema, page)
        problems.setdefault((problem.where, problem.what), problem)
    return list(problems.values())


def _in_file(loc: tuple[str | int, ...], lines: dict[KeyPath, int]) -> KeyPath:
    """The location without the marks pydantic adds for unions (`list[str]`, `function-after[...]`)."""
    path: KeyPath = ()
    for position, part in enumerate(loc):
        last = position == len(loc) - 1
        if (*path, part) in lines or (last and isinstance(part, str) and "[" not in part and part != "str"):
            path = (*path, part)
    return path


def _problem(
    item: Any,  # noqa: ANN401 - one of pydantic's error details
    path: KeyPath,
    lines: dict[KeyPath, int],
    file_name: str,
    schema: type[BaseModel],
    page: str,
) -> Problem:
    known = path
    while known and known not in lines:
        known = known[:-1]
    field = ".".join(str(part) for part in path)
    where = f"{file_name}:{lines.get(known, 1)}" + (f":{field}" if field else "")
    kind = item["type"]
    if kind == "extra_forbidden":
        kinds = {part for part in item["loc"] if isinstance(part, str)} - set(path)
        allowed = sorted(_fields_at(schema, path[:-1], kinds))
        nearest = difflib.get_close_matches(str(path[-1]), allowed, n=1, cutoff=0.5)
        guess = f"did you mean {nearest[0]!r}? " if nearest else ""
        return Problem(
            where=where, what=f"unknown field {path[-1]!r}", hint=f"{guess}fields here: {', '.join(allowed)}"
        )
    if kind == "missing":
        return Problem(where=where, what=f"the field {path[-1]!r} is missing", hint=f"see docs/{page}")
    if kind == "union_tag_not_found":
        name = str(item["ctx"]["discriminator"]).strip("'")
        return Problem(where=where, what=f"the field {name!r} is missing", hint=f"see docs/{page}")
    if kind == "union_tag_invalid":
        name = str(item["ctx"]["discriminator"]).strip("'")
        what = f"input should be {item['ctx']['expected_tags']}, got {item['ctx']['tag']!r}"
        return Problem(where=f"{file_name}:{lines.get((*path, name), lines.get(known, 1))}:{field}.{name}", what=what)
    message = str(item["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    got = item.get("input")
    shown = "" if kind == "value_error" or isinstance(got, dict | list) else f", got {got!r}"
    hint: str | None = None
    if isinstance(got, bool | int | float) and kind == "string_type":
        hint = "YAML reads words like yes, no, on, off and bare numbers as values; put quotes around it"
    return Problem(where=where, what=f"{message}{shown}", hint=hint)


def _fields_at(schema: type[BaseModel], path: KeyPath, kinds: Collection[str]) -> list[str]:
    """Names of the fields the schema allows at a place, where there are several kinds of section in one of these."""
    section = _section_at(schema, path, kinds)
    return list(section.model_fields) if section else []


def _section_at(
    annotation: Any,  # noqa: ANN401 - any type annotation
    path: KeyPath,
    kinds: Collection[str],
) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not path:
            return annotation
        field = annotation.model_fields.get(str(path[0]))
        return _section_at(field.annotation, path[1:], kinds) if field else None
    if get_origin(annotation) is dict:
        return _section_at(get_args(annotation)[1], path[1:], kinds) if path else None
    found = [_section_at(argument, path, kinds) for argument in get_args(annotation)]
    sections = [section for section in found if section is not None]
    return next((section for section in sections if _is_one_of(section, kinds)), sections[0] if sections else None)


def _is_one_of(section: type[BaseModel], kinds: Collection[str]) -> bool:
    """Whether a field of the section says that it is of one of these kinds."""
    stated = [
        get_args(one.annotation) for one in section.model_fields.values() if get_origin(one.annotation) is Literal
    ]
    return any(kind in values for values in stated for kind in kinds)
