"""Labels grown by a teacher: what a stronger approach answered to inputs that nobody has labelled.

They lie beside the cases in a JSONL file of their own, one a line, and say where they came from:

    {"id": "T-17", "input": {"text": "..."}, "expected": {"label": "refund"}, "origin": "distilled", "teacher": "large",
     "teacher_version": "...", "licence": "...", "accepted_by": "valid", "confidence": null, "cost_usd": 0.0004,
     "cluster": null, "time": null}

A distilled label is the teacher's opinion. So it may be learned from and never measured on: none reaches dev or test,
and none that resembles a case there is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from steelyard.cases.case import Case, Splits
from steelyard.cases.duplicates import duplicate_groups, fold, input_text
from steelyard.cases.formats import Table, load_table
from steelyard.cases.leakage import apart_from
from steelyard.cases.spec import SplitSpec
from steelyard.errors import InputError, Problem

ORIGIN: Final = "distilled"
UNKNOWN_LICENCE: Final = "unknown"
UNKNOWN_TERMS: Final = "a vendor's terms may forbid training on its answers; read them before this model is used"
_HINT: Final = "`steelyard distill` writes this file; put labels that people gave into cases.file"


@dataclass(frozen=True, kw_only=True, slots=True)
class Distilled:
    """What a file of distilled labels comes to in a study."""

    cases: tuple[Case, ...] = ()
    """Those that may be learned from."""
    left_out: Mapping[str, int] | None = None
    """How many may not, by reason."""


# ---- the file --------------------------------------------------------------------------------------------------------


def read_distilled(path: Path, *, input_fields: Sequence[str], expected_fields: Sequence[str]) -> list[Case]:
    """Read distilled labels.

    Returns:
        Cases with `teacher` set; `meta` holds `teacher_version`, `licence`, `accepted_by`, `confidence` and `cost_usd`.

    Raises:
        InputError: The file cannot be read, or lines are no distilled labels of this task; all of them are named.
    """
    table = load_table(path, of="distilled labels")
    problems = list(table.problems)
    first: dict[str, str] = {}
    cases = []
    for index in range(len(table.rows)):
        found = _problems(table, index, input_fields, expected_fields)
        case_id = str(table.rows[index].get("id", ""))
        if not found and (earlier := first.setdefault(case_id, table.where(index))) != table.where(index):
            what = f"the id {case_id!r} is already used at {earlier}"
            found = [Problem(what=what, where=table.where(index, "id"), hint="remove one of the two lines")]
        problems += found
        if not found:
            cases.append(_case(table, index, input_fields, expected_fields))
    if problems:
        raise InputError(problems)
    return cases


def distilled_line(case: Case) -> bytes:
    """One line of the file."""
    body = {
        "id": case.id,
        "input": case.input,
        "expected": case.expected,
        "origin": ORIGIN,
        "teacher": case.teacher,
        **{name: case.meta.get(name) for name in _KEPT},
        "cluster": case.cluster,
        "time": case.time,
    }
    return orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE)


# ---- what of it may be learned from ----------------------------------------------------------------------------------


def for_training(
    found: Sequence[Case], splits: Splits, spec: SplitSpec, *, groups: Mapping[str, str], near_duplicates: float
) -> Distilled:
    """Keep away whatever could make dev or test easier than production, and what a person has labelled.

    Args:
        found: Distilled cases.
        splits: The labelled cases.
        spec: How they were divided.
        groups: Group id by case id over all cases of the file, unlabelled ones included.
        near_duplicates: Least Jaccard similarity of near-duplicates.
    """
    by_people = (*splits.train, *splits.dev, *splits.test)
    labelled_ids = {case.id for case in by_people}
    train_texts = {fold(input_text(case)) for case in splits.train}
    newest = max((case.time for case in splits.train if case.time is not None), default=None)
    left_out: Counter[str] = Counter()
    kept = []
    for case in found:
        if case.id in labelled_ids or fold(input_text(case)) in train_texts:
            left_out["labelled by a person"] += 1
        elif spec.by == "time" and (case.time is None or newest is None or case.time > newest):
            left_out["newer than the train cases"] += 1
        else:
            kept.append(case)
    held_out = (*splits.dev, *splits.test)
    apart = apart_from(kept, held_out, groups)
    apart = apart_from(apart, held_out, duplicate_groups([*apart, *held_out], threshold=near_duplicates))
    if len(apart) < len(kept):
        left_out["like a dev or test case"] = len(kept) - len(apart)
    return Distilled(cases=apart, left_out=dict(left_out))


def by_teacher(cases: Iterable[Case]) -> dict[str, int]:
    """Distilled cases by teacher, those of most first."""
    return dict(Counter(case.teacher for case in cases if case.teacher is not None).most_common())


# ---------------------------------------------------------------------------------------------------------------------
# Private
# ---------------------------------------------------------------------------------------------------------------------

_KEPT: Final = ("teacher_version", "licence", "accepted_by", "confidence", "cost_usd")


def _problems(table: Table, index: int, input_fields: Sequence[str], expected_fields: Sequence[str]) -> list[Problem]:
    row = table.rows[index]

    def wrong(field: str, what: str, hint: str = _HINT) -> Problem:
        return Problem(what=what, where=table.where(index, field), hint=hint)

    problems = []
    if row.get("origin") != ORIGIN:
        problems.append(wrong("origin", f"origin is {row.get('origin')!r}, not {ORIGIN!r}"))
    problems += [
        wrong(name, f"the distilled label names no {name}")
        for name in ("id", "teacher", "licence")
        if not isinstance(row.get(name), str) or not row[name].strip()
    ]
    for name, fields in (("input", input_fields), ("expected", expected_fields)):
        value = row.get(name)
        missing = [field for field in fields if field not in value] if isinstance(value, dict) else list(fields)
        if missing and (name == "input" or not isinstance(value, dict) or len(missing) == len(fields)):
            what = f"the {name} has no field {missing[0]!r}"
            problems.append(wrong(f"{name}.{missing[0]}", what, "distil again after a change of the task's fields"))
    cost = row.get("cost_usd")
    if cost is not None and (isinstance(cost, bool) or not isinstance(cost, int | float) or cost < 0):
        problems.append(wrong("cost_usd", f"cost_usd is {cost!r}, not a number of 0 or more", "write null if unknown"))
    return problems


def _case(table: Table, index: int, input_fields: Sequence[str], expected_fields: Sequence[str]) -> Case:
    row: Mapping[str, Any] = table.rows[index]
    return Case(
        id=row["id"],
        input={name: "" if row["input"][name] is None else row["input"][name] for name in input_fields},
        expected={name: row["expected"][name] for name in expected_fields if name in row["expected"]},
        time=row.get("time"),
        cluster=row.get("cluster"),
        teacher=row["teacher"],
        where=table.where(index),
        meta={name: row.get(name) for name in _KEPT},
    )
