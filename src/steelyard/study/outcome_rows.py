"""Read a file of outcomes made elsewhere: every column checked, every problem reported at once, nothing guessed.

A blank cell is unknown, never 0. What comes out are the rows that `steelyard.measure.results.from_rows` takes, so that
outcomes from anywhere are counted as those of a run are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steelyard.cases.formats import Table, load_table
from steelyard.cases.timestamps import to_utc
from steelyard.engine.outcome import OutcomeStatus
from steelyard.errors import InputError, Problem
from steelyard.measure.results import ANSWERED
from steelyard.measure.scoring import LADDER, in_ladder_order

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class OutcomeRows:
    """The checked rows of a file of outcomes."""

    name: str
    """File name."""
    rows: tuple[Row, ...]
    """One outcome each, under the names of `COLUMNS`; `None` is unknown."""
    levers: Mapping[str, tuple[str, ...]]
    """By approach, in the order in which approaches first appear; empty where not known."""
    notes: tuple[str, ...]
    """What a person should know about how the file was read."""


def read_outcome_rows(path: Path, *, threshold: float | None = None) -> OutcomeRows:
    """Read and check a CSV, JSONL, JSON or Parquet file of outcomes.

    Args:
        path: The file.
        threshold: Score from which on an outcome is a success, 1 if left out; used where there is no column `success`.

    Raises:
        InputError: The file cannot be read, a column is missing, a value has the wrong type, an outcome stands twice,
            or rows contradict each other; lists every problem found, each with `file:line:column`.
    """
    table = load_table(path, of="outcomes")
    # Keys in order of first appearance; the rows of JSON Lines need not have the same ones.
    present = list(dict.fromkeys(key for row in table.rows for key in row))
    spelled = {column.name: key for column in COLUMNS if (key := column.found_in(present)) is not None}
    problems = [*table.problems, *_missing_columns(table, present, spelled)]
    if problems and not table.rows:
        raise InputError(problems)
    rows = _rows(table, spelled, problems)
    problems += _repeated(table, rows, spelled)
    levers = _levers(table, rows, spelled, problems)
    _share_clusters(table, rows, spelled, problems)
    if problems:
        raise InputError(problems)
    notes = []
    unused = [key for key in present if key not in spelled.values()]
    if unused:
        notes.append(f"columns of {table.name} that were not used: {', '.join(unused)}")
    if "success" not in spelled:
        _judge(rows, 1.0 if threshold is None else threshold)
    elif threshold is not None:
        notes.append(f"the threshold was not used: {table.name} says itself what succeeded")
    contradicted = sum(row["success"] == 1 and row["status"] != ANSWERED for row in rows)
    if contradicted:
        notes.append(f"{contradicted:,} outcomes say success with a status other than answered: they count as failed")
    return OutcomeRows(name=table.name, rows=tuple(rows), levers=levers, notes=tuple(notes))


# --- private ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Column:
    name: str
    read: Callable[[object], Any]
    """The value of a cell that is not blank; raises `TypeError` or `ValueError` where it is not as expected."""
    expected: str
    is_required: bool = False
    alias: str | None = None

    def found_in(self, present: list[str]) -> str | None:
        """How the file spells this column."""
        return next((name for name in (self.name, self.alias) if name in present), None)


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise TypeError
    return str(value).strip()


def _number(value: object) -> float:
    # Python reads 1_000 as a number; in a table it is a slip.
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or "_" in str(value):
        raise ValueError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _amount(value: object) -> float:
    number = _number(value)
    if number < 0:
        raise ValueError
    return number


def _count(value: object) -> int:
    number = _amount(value)
    if not number.is_integer():
        raise ValueError
    return int(number)


def _flag(value: object) -> int:
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return int(value.strip().lower() == "true")
    number = float(value) if isinstance(value, bool) else _number(value)
    if number not in (0, 1):
        raise ValueError
    return int(number)


def _share(value: object) -> float:
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return float(value.strip().lower() == "true")
    number = float(value) if isinstance(value, bool) else _number(value)
    if not 0 <= number <= 1:
        raise ValueError
    return number


def _status(value: object) -> str:
    return str(OutcomeStatus(_text(value).lower()))


def _pulled(value: object) -> tuple[str, ...]:
    parts = value if isinstance(value, list) else _text(value).replace(",", "+").split("+")
    return in_ladder_order(_text(part).lower() for part in parts)


_FLAG = "1 or 0 (true or false)"
_AMOUNT = "a number of 0 or more"
COLUMNS = (
    _Column(name="approach", alias="system", read=_text, expected="a name", is_required=True),
    _Column(name="case_id", read=_text, expected="a name", is_required=True),
    _Column(name="success", read=_flag, expected=_FLAG),
    _Column(name="score", read=_number, expected="a number"),
    _Column(name="status", read=_status, expected=f"one of: {', '.join(OutcomeStatus)}"),
    _Column(name="repeat", alias="trial", read=_count, expected="a whole number of 0 or more"),
    _Column(name="schema_pass", read=_flag, expected=_FLAG),
    _Column(name="retried", read=_flag, expected=_FLAG),
    _Column(name="extra_calls", read=_count, expected="a whole number of 0 or more"),
    _Column(name="cost_usd", read=_amount, expected=_AMOUNT),
    _Column(name="latency_s", read=_amount, expected=_AMOUNT),
    _Column(name="prompt_tokens", read=_amount, expected=_AMOUNT),
    _Column(name="completion_tokens", read=_amount, expected=_AMOUNT),
    _Column(name="cached_tokens", read=_amount, expected=_AMOUNT),
    _Column(name="review_seconds", read=_amount, expected=_AMOUNT),
    _Column(name="corrected", read=_flag, expected=_FLAG),
    _Column(name="judge", read=_share, expected="a number from 0 to 1 (or true or false)"),
    _Column(name="judge_cost_usd", read=_amount, expected=_AMOUNT),
    _Column(name="cluster", read=_text, expected="a name"),
    _Column(name="segment", read=_text, expected="a name"),
    _Column(name="time", read=to_utc, expected="a date or time such as 2026-03-31"),
    _Column(name="levers", read=_pulled, expected=f"levers joined by +, of: {', '.join(LADDER)}"),
)
"""What a file of outcomes may say; any other column is not used."""


def _missing_columns(table: Table, present: list[str], spelled: Mapping[str, str]) -> list[Problem]:
    if not table.rows:
        return [] if table.problems else [Problem(what="the file holds no outcomes", where=table.name)]
    missing = []
    for column in COLUMNS:
        if column.is_required and column.name not in spelled:
            missing.append(f"{column.name} (or {column.alias})" if column.alias else column.name)
    if "success" not in spelled and "score" not in spelled:
        missing.append("success (or score)")
    hint = f"columns there are: {', '.join(present)}"
    return [Problem(what=f"there is no column {name}", where=f"{table.name}:1", hint=hint) for name in missing]


def _rows(table: Table, spelled: Mapping[str, str], problems: list[Problem]) -> list[Row]:
    used = [(column, spelled[column.name]) for column in COLUMNS if column.name in spelled]
    rows = []
    for index, cells in enumerate(table.rows):
        row: Row = dict.fromkeys((column.name for column in COLUMNS), None)
        for column, key in used:
            value = cells.get(key)
            if _is_blank(value):
                if column.is_required:
                    problems.append(Problem(what=f"{key!r} is empty", where=table.where(index, key)))
                continue
            try:
                row[column.name] = column.read(value)
            except (TypeError, ValueError, OverflowError):
                what = f"{key!r} is {_shortened(value)}, expected {column.expected}"
                hint = None if column.is_required else "leave it empty where it is unknown"
                problems.append(Problem(what=what, where=table.where(index, key), hint=hint))
        row["status"] = row["status"] or ANSWERED
        row["repeat"] = row["repeat"] or 0
        if row["retried"] is None and row["extra_calls"] is not None:
            row["retried"] = int(row["extra_calls"] > 0)
        rows.append(row)
    return rows


def _is_blank(value: object) -> bool:
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and not value.strip())


def _shortened(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:59]}…"


def _repeated(table: Table, rows: list[Row], spelled: Mapping[str, str]) -> list[Problem]:
    problems = []
    first: dict[tuple[Any, ...], int] = {}
    for index, row in enumerate(rows):
        key = (row["approach"], row["case_id"], row["repeat"])
        if None in key:
            continue  # reported already
        seen = first.setdefault(key, index)
        if seen != index:
            again = f" repeat {row['repeat']}" if "repeat" in spelled else ""
            problems.append(
                Problem(
                    what=f"{row['approach']!r} did case {row['case_id']!r}{again} on line {table.lines[seen]} already",
                    where=table.where(index, spelled.get("case_id")),
                    hint="number the repeats of a case in a column repeat, or remove one of the two",
                )
            )
    return problems


def _levers(
    table: Table, rows: list[Row], spelled: Mapping[str, str], problems: list[Problem]
) -> dict[str, tuple[str, ...]]:
    """Levers by approach; said on any row of an approach they hold for all of its rows."""
    levers: dict[str, tuple[str, ...]] = {}
    for index, row in enumerate(rows):
        if row["approach"] is None:
            continue
        known = levers.setdefault(row["approach"], ())
        if row["levers"] and known and row["levers"] != known:
            what = f"the levers of {row['approach']!r} are {'+'.join(row['levers'])}, and {'+'.join(known)} further up"
            hint = "give approaches that pull different levers different names"
            problems.append(Problem(what=what, where=table.where(index, spelled["levers"]), hint=hint))
        elif row["levers"]:
            levers[row["approach"]] = row["levers"]
    without = [name for name, known in levers.items() if not known]
    if without and len(without) < len(levers):
        what = f"the levers of {', '.join(map(repr, without))} are not given, those of other approaches are"
        hint = "give them for all approaches or for none: hours counted for some only would make the others look cheap"
        problems.append(Problem(what=what, where=f"{table.name}:{spelled['levers']}", hint=hint))
    return levers


def _share_clusters(table: Table, rows: list[Row], spelled: Mapping[str, str], problems: list[Problem]) -> None:
    """A case is in one cluster whoever did it: said on any of its rows it holds for all."""
    cluster_of: dict[str, str] = {}
    for index, row in enumerate(rows):
        if row["cluster"] is None or row["case_id"] is None:
            continue
        known = cluster_of.setdefault(row["case_id"], row["cluster"])
        if known != row["cluster"]:
            what = f"case {row['case_id']!r} is in cluster {row['cluster']!r}, and in {known!r} further up"
            problems.append(Problem(what=what, where=table.where(index, spelled["cluster"])))
    for row in rows:
        row["cluster"] = cluster_of.get(row["case_id"])


def _judge(rows: list[Row], threshold: float) -> None:
    for row in rows:
        if row["score"] is not None:
            row["success"] = int(row["score"] >= threshold)
