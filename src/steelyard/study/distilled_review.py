"""The review list of a teacher's answers: a table that a person fills in with any spreadsheet, and that is read back.

Inputs and answers are other people's text. In the list each stands on one line, none is a formula, and only the columns
`accept` and `correct` are read back as said: the answer itself is taken from the journal.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from steelyard.cases.case import Case
from steelyard.cases.duplicates import input_text
from steelyard.cases.formats import Row, Table, load_table
from steelyard.engine.writer import storage_failed
from steelyard.errors import InputError, Problem
from steelyard.report.ledger_csv import harmless
from steelyard.report.text import excerpt
from steelyard.task.accepted import expected_fault
from steelyard.task.task import Task

HEADER: Final = ("case_id", "where", "input", "given", "why", "accept", "correct")
_LONGEST_INPUT: Final = 2_000
"""Characters of an input that are shown; spreadsheets cut cells off at some length."""
_YES: Final = frozenset({"yes", "y", "x", "1", "true", "accept"})
_NO: Final = frozenset({"no", "n", "0", "false", "reject"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Review:
    """One answer for a person to look at."""

    case: Case
    given: Mapping[str, Any]
    why: str
    """Why it was not accepted without a person."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decided:
    """What a person decided about one answer."""

    case_id: str
    expected: Mapping[str, Any] | None
    """The label; `None` where the answer was turned down."""
    is_corrected: bool = False


def review_path(folder: Path, teacher: str) -> Path:
    """Where the list of a teacher lies, in a study folder."""
    return folder / ".steelyard" / "distilled" / f"{quote(teacher, safe='')}.review.csv"


def write_review(path: Path, reviews: Sequence[Review]) -> Path:
    """Write the list; what a person filled in before stays, where the answer is still the same.

    Raises:
        StorageFailed: It cannot be written.
    """
    marks = _marks(path)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for one in reviews:
        given = shown_answer(one.given)
        kept = marks.get((harmless(one.case.id), given), ("", ""))
        shown = excerpt(input_text(one.case), _LONGEST_INPUT)
        told = (harmless(one.case.id), harmless(one.case.where), harmless(shown), given, harmless(one.why))
        writer.writerow((*told, *kept))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        raise storage_failed(error, str(path)) from error
    return path


def read_review(path: Path, given: Mapping[str, Mapping[str, Any]], task: Task) -> list[Decided]:
    """Read a list that a person filled in; rows without a mark are not decided, and left alone.

    Args:
        path: CSV, with commas, semicolons or tabs.
        given: The teacher's answers by case id, as they are now.
        task: Says what a valid label is.

    Raises:
        InputError: The file cannot be read, or rows are wrong; all of them are named.
    """
    table = load_table(path, of="review lists")
    missing = [name for name in ("case_id", "given", "accept", "correct") if table.rows and name not in table.rows[0]]
    if missing:
        hint = "give the file that `steelyard distill` wrote, with its columns as they are"
        raise InputError(Problem(what=f"there is no column {missing[0]!r}", where=f"{path.name}:1", hint=hint))
    ids = {harmless(case_id): case_id for case_id in given}
    problems = list(table.problems)
    decided = []
    for index in range(len(table.rows)):
        found = _decide(table, index, ids, given, task)
        if isinstance(found, Problem):
            problems.append(found)
        elif found is not None:
            decided.append(found)
    if problems:
        raise InputError(problems)
    if not decided:
        hint = "write yes or no into the column accept, or the right answer into the column correct"
        raise InputError(Problem(what="no row of the review list is marked", where=path.name, hint=hint))
    return decided


def shown_answer(expected: Mapping[str, Any]) -> str:
    """An answer as the list shows it: a single text as it is, anything else as JSON."""
    (value,) = expected.values() if len(expected) == 1 else (expected,)
    return harmless(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


# ---- private --------------------------------------------------------------------------------------------------------


def _decide(
    table: Table, index: int, ids: Mapping[str, str], given: Mapping[str, Mapping[str, Any]], task: Task
) -> Decided | Problem | None:
    row = table.rows[index]
    accept, correct = _cell(row, "accept").casefold(), _cell(row, "correct")
    if not accept and not correct:
        return None

    def wrong(field: str, what: str, hint: str) -> Problem:
        return Problem(what=what, where=table.where(index, field), hint=hint)

    case_id = ids.get(_cell(row, "case_id"))
    if case_id is None:
        what = f"the teacher has no answer to a case {_cell(row, 'case_id')!r}"
        return wrong("case_id", what, "leave the column as it was written; distil first, if the teacher has changed")
    if _cell(row, "given") != shown_answer(given[case_id]).strip():
        what = f"the teacher's answer to case {case_id!r} is not the one that was reviewed"
        return wrong("given", what, "leave the column as it was written, and review again if the teacher has changed")
    if accept and accept not in _YES | _NO:
        return wrong("accept", f"{accept!r} is no decision", "write yes or no")
    if accept in _NO:
        if correct:
            return wrong("correct", "the answer is turned down and corrected", "clear one of the two columns")
        return Decided(case_id=case_id, expected=None)
    if not correct:
        return Decided(case_id=case_id, expected=given[case_id])
    expected = _corrected(correct, task)
    fault = f"it is no JSON object with {', '.join(task.expected_fields)}"
    if expected is not None:
        fault = expected_fault(expected, task) or ""
    if expected is None or fault:
        return wrong(
            "correct", f"{correct!r} is no right answer: {fault}", "write it as the column given shows answers"
        )
    return Decided(case_id=case_id, expected=expected, is_corrected=expected != given[case_id])


def _corrected(text: str, task: Task) -> dict[str, Any] | None:
    """What a person wrote, as an expected output; `None` where it cannot be read as one."""
    names = task.expected_fields
    plain = text.removeprefix("'")  # copied from the list, where it keeps a text from being a formula
    try:
        value = json.loads(plain)
    except ValueError:
        value = None
    if len(names) > 1:
        return value if isinstance(value, dict) and set(value) == set(names) else None
    readings = [{names[0]: one} for one in (text, plain, value)]
    return next((one for one in readings if expected_fault(one, task) is None), readings[0])


def _marks(path: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """What a person has filled in, by case id and answer as they are shown."""
    if not path.exists():
        return {}
    rows = [row for row in load_table(path, of="review lists").rows if set(HEADER) <= set(row)]
    return {
        (_cell(row, "case_id"), _cell(row, "given")): (harmless(_cell(row, "accept")), harmless(_cell(row, "correct")))
        for row in rows
        if _cell(row, "accept") or _cell(row, "correct")
    }


def _cell(row: Row, name: str) -> str:
    value = row.get(name)
    return "" if value is None else str(value).strip()
