"""Read the cases of a study: every row validated, all problems reported at once.

What production data is known for is no error here: an empty input text and a missing expected output make a case all
the same, and `audit` lists them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from steelyard.cases import columns as cols
from steelyard.cases.case import Case, GoldText, SplitName
from steelyard.cases.columns import MISSING, lookup
from steelyard.cases.formats import Row, Table, load_table
from steelyard.cases.spec import CasesSpec
from steelyard.cases.timestamps import to_utc
from steelyard.errors import InputError, Problem

SPLIT_NAMES: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
    "testing": "test",
}
"""What files call the three splits."""

TIME_NAMES = ("time", "date")
"""Columns that are taken for the time of a case where the study names none."""

SOURCES_NAMES = ("sources", "doc_ids", "doc_id")
"""Columns that are taken for the ids of the documents which hold the answer."""


def read_cases(
    path: Path, spec: CasesSpec, *, input_fields: Sequence[str], expected_fields: Sequence[str]
) -> list[Case]:
    """Read and validate every case of a file.

    Args:
        path: The file; `spec.file` is not looked at.
        spec: Which columns hold id, time, segment, cluster and split, and how long an input may be.
        input_fields: Input fields of the task. A bare name means the column of that name, else `input.NAME`, else
            `meta.NAME`. A null becomes an empty text.
        expected_fields: Fields of the expected output: the column of that name, else `expected.NAME`, else
            `meta.NAME`. A case with none of them filled has no expected output.

    Returns:
        The cases in file order. Their fields carry the names given here.

    Raises:
        InputError: With every problem of the file, each with its place (`cases.csv:17:text`).
    """
    table = load_table(path)
    if not table.rows and not table.problems:
        raise InputError(Problem(what="the file holds no cases", where=table.name, hint="put at least one case in it"))
    problems = list(table.problems)
    if table.rows:
        found = _find_fields(table, spec, input_fields, expected_fields, problems)
        cases = _build_cases(table, spec, found, problems)
        if not problems:
            return cases
    raise InputError(sorted(problems, key=_file_order))


# ---------------------------------------------------------------------------------------------------------------------
# Which column holds what
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Fields:
    """Where in a row each part of a case stands; None where the file has no such column."""

    input: dict[str, cols.Path]
    expected: dict[str, cols.Path]
    id: cols.Path | None
    time: cols.Path | None
    is_time_asked_for: bool
    """A time that cannot be read is an error where the study needs times, else the column is left alone."""
    segment: cols.Path | None
    cluster: cols.Path | None
    split: cols.Path | None
    sources: cols.Path | None
    passages: cols.Path | None
    access: cols.Path | None
    question: cols.Path | None
    rest: dict[str, cols.Path]
    """Columns no part of the case was read from."""


def _find_fields(
    table: Table,
    spec: CasesSpec,
    input_fields: Sequence[str],
    expected_fields: Sequence[str],
    problems: list[Problem],
) -> _Fields:
    columns = cols.find_columns(table)

    def find(name: str, option: str, sections: Sequence[str]) -> cols.Path | None:
        path = cols.resolve(name, table, columns, sections=sections)
        if path is None:
            problems.append(cols.unknown_column(name, option=option, file=table.name, columns=columns))
        return path

    def find_all(names: Sequence[str], option: str, sections: Sequence[str]) -> dict[str, cols.Path]:
        found = {name: find(name, option, sections) for name in names}
        return {name: path for name, path in found.items() if path is not None}

    inputs = find_all(input_fields, "task.input", ("input", "meta"))
    expected = find_all(expected_fields, "task.expected", ("expected", "meta"))
    in_the_task = {*inputs.values(), *expected.values()}

    def find_role(named: str | None, option: str, customary: Sequence[str]) -> cols.Path | None:
        if named is not None:
            return find(named, option, ("meta", "input"))
        full_name = cols.resolve_first(customary, columns)
        # A column the task reads (the date of an invoice) says something else than the customary name suggests.
        return None if full_name is None or columns[full_name] in in_the_task else columns[full_name]

    fields = {
        "id": find(spec.id, "cases.id", ("meta", "input")) if spec.id else columns.get("id"),
        "time": find_role(spec.time, "cases.time", TIME_NAMES),
        "segment": find_role(spec.segment, "cases.segment", ("segment",)),
        "cluster": find_role(spec.cluster, "cases.cluster", ("cluster",)),
        "split": find(spec.split_column, "cases.split_column", ("meta",)) if spec.split_column else None,
        "sources": find_role(None, "sources", SOURCES_NAMES),
        "passages": find(spec.passages, "cases.passages", ("meta",)) if spec.passages else None,
        "access": find(spec.access, "cases.access", ("meta", "input")) if spec.access else None,
        "question": find(spec.question, "cases.question", ("meta", "input")) if spec.question else None,
    }
    used = in_the_task | set(fields.values())
    return _Fields(
        input=inputs,
        expected=expected,
        is_time_asked_for=spec.time is not None or spec.split.by == "time",
        rest={name: path for name, path in columns.items() if path not in used},
        **fields,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Rows to cases
# ---------------------------------------------------------------------------------------------------------------------


def _build_cases(table: Table, spec: CasesSpec, fields: _Fields, problems: list[Problem]) -> list[Case]:
    times = _read_times(table, fields, problems)
    first_place: dict[str, str] = {}
    cases = []
    for index, row in enumerate(table.rows):
        case_id = _read_id(table, index, row, fields, problems)
        if (earlier := first_place.setdefault(case_id, table.where(index))) != table.where(index):
            what = f"the id {case_id!r} is already used at {earlier}"
            hint = "give every case its own id, or name another column in cases.id"
            problems.append(Problem(what=what, where=table.where(index, "id"), hint=hint))
        cases.append(
            Case(
                id=case_id,
                input=_read_input(table, index, row, fields, spec.max_chars, problems),
                expected=_read_expected(row, fields, is_text_only=table.is_text_only),
                time=times[index],
                segment=_text(row, fields.segment),
                cluster=_text(row, fields.cluster),
                sources=_read_list(row, fields.sources, _SOURCES_BETWEEN),
                passages=_read_passages(table, index, row, fields, problems),
                access=_read_list(row, fields.access, _TAGS_BETWEEN),
                question=_text(row, fields.question),
                declared_split=_read_split(table, index, row, fields, problems),
                where=table.where(index),
                meta={name: value for name, path in fields.rest.items() if (value := lookup(row, path)) is not MISSING},
            )
        )
    return cases


def _read_id(table: Table, index: int, row: Row, fields: _Fields, problems: list[Problem]) -> str:
    if fields.id is None:
        return f"row-{index + 1}"
    case_id = _text(row, fields.id)
    if case_id is None:
        where = table.where(index, ".".join(fields.id))
        problems.append(Problem(what="the case has no id", where=where, hint="give every case its own id"))
        return f"row-{index + 1}"
    return case_id


def _read_input(
    table: Table, index: int, row: Row, fields: _Fields, max_chars: int, problems: list[Problem]
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, path in fields.input.items():
        value = lookup(row, path)
        if value is MISSING:
            hint = 'add the field; where there is nothing to say, write ""'
            problems.append(Problem(what=f"the input field {name!r} is missing", where=table.where(index), hint=hint))
            continue
        n_chars = len(value) if isinstance(value, str) else len(orjson.dumps(value))
        if n_chars > max_chars:
            what = f"the input field {name!r} has {n_chars:,} characters, more than the {max_chars:,} allowed"
            hint = "shorten it, or raise cases.max_chars"
            problems.append(Problem(what=what, where=table.where(index, name), hint=hint))
        values[name] = "" if value is None else value
    return values


def _read_expected(row: Row, fields: _Fields, *, is_text_only: bool) -> dict[str, Any] | None:
    """The expected output; None where no field of it is filled.

    A null beside filled fields is kept, since an output schema may allow it; a blank CSV cell has no such meaning.
    """
    values: dict[str, Any] = {}
    for name, path in fields.expected.items():
        value = lookup(row, path)
        if is_text_only and isinstance(value, str):
            value = value.strip() or MISSING
        if value is not MISSING:
            values[name] = value
    is_filled = any(value is not None and value != "" for value in values.values())
    return values if is_filled else None


def _read_times(table: Table, fields: _Fields, problems: list[Problem]) -> list[str | None]:
    if fields.time is None:
        return [None] * len(table.rows)
    times: list[str | None] = []
    unreadable = []
    for index, row in enumerate(table.rows):
        value = lookup(row, fields.time)
        if value is MISSING or value is None or value == "":
            times.append(None)
            continue
        try:
            times.append(to_utc(value))
        except ValueError:
            times.append(None)
            what = f"{_shortened(value)} is not a time this program can read"
            hint = "write times like 2025-03-31 or 2025-03-31T14:05:00Z"
            unreadable.append(Problem(what=what, where=table.where(index, ".".join(fields.time)), hint=hint))
    if unreadable and not fields.is_time_asked_for:
        # Nobody said that this column is the time; half a column of times would be worse than none.
        return [None] * len(table.rows)
    problems.extend(unreadable)
    return times


def _read_split(table: Table, index: int, row: Row, fields: _Fields, problems: list[Problem]) -> SplitName | None:
    if fields.split is None:
        return None
    value = _text(row, fields.split)
    split = SPLIT_NAMES.get((value or "").casefold())
    if split is None:
        what = "the case names no split" if value is None else f"{_shortened(value)} is not a split"
        where = table.where(index, ".".join(fields.split))
        problems.append(Problem(what=what, where=where, hint="write train, dev or test"))
    return split


_SOURCES_BETWEEN = r"[;|]"
_TAGS_BETWEEN = r"[;|,]"


def _read_list(row: Row, path: cols.Path | None, between: str) -> tuple[str, ...]:
    value = MISSING if path is None else lookup(row, path)
    if isinstance(value, str):
        value = _json_list(value) or re.split(between, value)
    items = value if isinstance(value, list) else [] if value is MISSING or value is None else [value]
    return tuple(text for item in items if item is not None and (text := str(item).strip()))


def _read_passages(
    table: Table, index: int, row: Row, fields: _Fields, problems: list[Problem]
) -> tuple[GoldText, ...]:
    value = MISSING if fields.passages is None else lookup(row, fields.passages)
    if isinstance(value, str):
        value = (_json_list(value) or [value]) if value.strip() else []
    items = [] if value is MISSING or value is None else value
    found = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    texts = [(item.get("source"), item.get("text")) for item in found]
    if (
        not isinstance(items, list)
        or len(found) < len(items)
        or not all(isinstance(part, str) and part.strip() for pair in texts for part in pair)
    ):
        hint = 'write a list of objects: [{"source": "id of a document", "text": "..."}]'
        where = table.where(index, ".".join(fields.passages or ()))
        problems.append(Problem(what="these are no passages of documents", where=where, hint=hint))
        return ()
    return tuple(GoldText(str(source), str(text)) for source, text in texts)


def _json_list(text: str) -> list[Any] | None:
    if not text.lstrip().startswith("["):
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, list) else None


def _text(row: Row, path: cols.Path | None) -> str | None:
    """A cell as text without outer space; None where there is nothing in it."""
    value = None if path is None else lookup(row, path)
    if value is MISSING or value is None:
        return None
    return str(value).strip() or None


def _shortened(value: object, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


_LINE: Callable[[str], re.Match[str] | None] = re.compile(r".*?:(\d+)(?::|$)").match


def _file_order(problem: Problem) -> int:
    """Problems of the whole file first, the others by line."""
    match = _LINE(problem.where or "")
    return int(match[1]) if match else 0
