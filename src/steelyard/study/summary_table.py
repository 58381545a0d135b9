"""A paper's or leaderboard's table of summary figures, one row an approach, as a plan to weigh.

Columns are the fields of `SummarySpec`, and a few ways in which tables say the same: `passed` of `cases` for a success
rate, totals of a run for figures per task. A blank cell is unknown. So is a cost of 0 of an approach that asks a model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from steelyard.cases.frames import Columns, load_columns
from steelyard.decision.plan import PlanFile
from steelyard.decision.spec import GoalSpec
from steelyard.economics.spec import MoneySpec
from steelyard.economics.summary import OutlookSpec, SummarySpec
from steelyard.errors import InputError, Problem
from steelyard.models.spec import Section
from steelyard.study.where import Condition, matching

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".pq")
"""Of tables; everything else is a plan in YAML."""

PER_RUN = {
    "total_cost_usd": "cost_per_task_usd",
    "total_prompt_tokens": "prompt_tokens",
    "total_completion_tokens": "completion_tokens",
}
"""Columns that hold the total of a run, and the figure per task they stand for."""

COLUMNS = ("approach", "passed", *PER_RUN, *SummarySpec.model_fields)
"""What a column may be; `n` may be called `cases`, `approach` may be called `system`."""

_ALIASES = {"approach": ("system", "model"), "n": ("cases",)}
_PRICE = ("price_per_million.input", "price_per_million.output", "price_per_million.as_of", "price_per_million.source")


class TableSettings(Section):
    """What a table of summary figures is weighed under, and how it is to be read."""

    money: MoneySpec = MoneySpec()
    """Volume, wages and hours, as in study.yaml."""
    goal: GoalSpec = GoalSpec()
    """What an approach must reach to be considered at all."""
    task: OutlookSpec = OutlookSpec()
    """What is known about the task itself."""
    columns: dict[str, str | None] = Field(default_factory=dict)
    """Figure -> column of the table that holds it, with ` %` behind where it is in percent; empty to leave it out."""


@dataclass(frozen=True, kw_only=True)
class SummaryTable:
    """A table as a plan, and what of it cannot be weighed."""

    plan: PlanFile
    """Approaches with a known cost that no other beats in both success and cost."""
    left_out: Mapping[str, tuple[SummarySpec, str]]
    """The others, with the reason."""
    notes: tuple[str, ...]


def read_summary_table(
    path: Path, settings: TableSettings, *, settings_name: str = "settings", where: Sequence[Condition] = ()
) -> SummaryTable:
    """Read a table.

    Args:
        path: CSV, TSV, JSONL or Parquet.
        settings: Money, goal, and foreign names of columns.
        settings_name: File of the settings, for messages.
        where: Only the rows that meet all of these.

    Raises:
        InputError: The file, a column or a cell is not as it must be; lists every problem found.
    """
    table = load_columns(path, of="summary figures")
    if table.problems:
        raise InputError(table.problems)
    if "case_id" in table.frame.columns:
        hint = f"steelyard decide --outcomes {table.name}"
        raise InputError(Problem(what="this holds one row a case, not one an approach", where=table.name, hint=hint))
    n_all = table.frame.height
    table = matching(table, where) if where else table
    notes = []
    if where:
        picked = " and ".join(map(str, where))
        notes.append(f"only the rows of {table.name} with {picked}: {table.frame.height:,} of {n_all:,}")
    spelled, percent = _spelled(table, settings, settings_name, notes)
    used = {*spelled.values(), *(condition.column for condition in where)}
    names = _names(table, spelled, notes)
    if unused := [name for name in table.frame.columns if name not in used]:
        notes.append(f"columns of {table.name} that were not used: {', '.join(unused)}")
    problems: list[Problem] = []
    free: list[str] = []
    said: dict[str, SummarySpec] = {}
    unpriced: list[str] = []
    for index, name in enumerate(names):
        values = _values(table, index, spelled, percent, problems)
        if values.get("cost_per_task_usd") == 0 and values.get("calls_model", True):
            free.append(name)
            del values["cost_per_task_usd"]
        values.setdefault("levers", ["prompt"])
        if not _has_cost(values):
            unpriced.append(name)
            values["cost_per_task_usd"] = 0.0  # takes the place of what is not known; nothing is computed from it
        try:
            said[name] = SummarySpec.model_validate(values)
        except ValidationError as error:
            problems += [_problem(table, index, name, spelled, one) for one in error.errors(include_url=False)]
    if problems:
        raise InputError(problems)
    if "levers" not in spelled:
        notes.append(
            "the table does not say what the approaches pull: prompt is taken for all (a column levers says it)"
        )
    if free:
        notes.append(
            f"a cost of 0 is taken as unknown for {_several(free)}: calls to a model are not free (leave the cell empty,"
            " or say calls_model false)"
        )
    left_out = {name: (said[name], "its cost is not known") for name in unpriced}
    if unpriced:
        notes.append(f"without a known cost, and so not in the ranking by cost: {_several(unpriced)}")
    priced = {name: one for name, one in said.items() if name not in left_out}
    beaten = _beaten(priced, settings.goal)
    left_out |= {name: (said[name], f"{by} does at least as well for no more") for name, by in beaten.items()}
    if beaten:
        notes.append(f"{len(beaten)} approaches are not weighed because another does at least as well for no more")
    kept = {name: one for name, one in priced.items() if name not in beaten}
    if not kept:
        hint = "give total_cost_usd, cost_per_task_usd, or tokens and price_per_million, for some of them"
        raise InputError(
            Problem(where=table.name, what="no approach has a known cost, so none can be weighed", hint=hint)
        )
    title = " · ".join([path.stem, *(condition.value for condition in where)])[:80]
    plan = PlanFile(plan=title, task=settings.task, approaches=kept, money=settings.money, goal=settings.goal)
    return SummaryTable(plan=plan, left_out=left_out, notes=tuple(notes))


# --- private ---------------------------------------------------------------------------------------------------------


def _spelled(
    table: Columns, settings: TableSettings, settings_name: str, notes: list[str]
) -> tuple[dict[str, str], set[str]]:
    """Column of the table for each figure, and the figures that are in percent."""
    present, known = table.frame.columns, (*COLUMNS, *_PRICE)
    spelled = {}
    for figure in known:
        found = next((name for name in (figure, *_ALIASES.get(figure, ())) if name in present), None)
        if found is not None:
            spelled[figure] = found
    if "total_cost_usd" in spelled:
        # A table that speaks of whole runs may well do so for tokens too: then they must be named.
        vague = [figure for figure in ("prompt_tokens", "completion_tokens") if figure in spelled]
        if asked := [figure for figure in vague if figure not in settings.columns]:
            notes.append(
                f"{' and '.join(asked)} not used: say under columns: whether they are of the whole run"
                f" (total_{asked[0]}: {asked[0]}) or of one task ({asked[0]}: {asked[0]})"
            )
        for figure in vague:
            del spelled[figure]
    percent = set()
    problems = []
    for figure, column in settings.columns.items():
        place = f"{settings_name}: columns.{figure}"
        if figure not in known:
            problems.append(
                Problem(where=place, what=f"there is no figure {figure!r}", hint=f"use: {', '.join(known)}")
            )
        if not column:
            spelled.pop(figure, None)
            continue
        plain = column.removesuffix("%").strip()
        if plain not in present:
            what = f"{table.name} has no column {plain!r}"
            problems.append(Problem(where=place, what=what, hint=f"columns are: {', '.join(present)}"))
        spelled[figure] = plain
        if column.endswith("%"):
            percent.add(figure)
    if not {"success", "schema_pass"} & set(spelled) and not {"passed", "n"} <= set(spelled):
        hint = f"give success, or passed and cases, or name the column under columns:; there are: {', '.join(present)}"
        problems.append(
            Problem(where=f"{table.name}:1", what="no column says how often the task is done right", hint=hint)
        )
    if "approach" not in spelled:
        hint = f"columns are: {', '.join(present)}"
        problems.append(Problem(where=f"{table.name}:1", what="there is no column approach (or system)", hint=hint))
    if problems:
        raise InputError(problems)
    return spelled, percent


def _names(table: Columns, spelled: Mapping[str, str], notes: list[str]) -> list[str]:
    """Names of the approaches; those that stand there twice with what tells them apart behind."""
    names = [str(name or "").strip() for name in table.frame[spelled["approach"]]]
    blank = [index for index, name in enumerate(names) if not name]
    if blank:
        key = spelled["approach"]
        raise InputError(Problem(what=f"{key!r} is empty", where=table.where(index, key)) for index in blank)
    if len(set(names)) == len(names):
        return names
    for column in table.frame.columns:
        if column in spelled.values():
            continue
        told = [
            f"{name} ({cell})" if names.count(name) > 1 else name
            for name, cell in zip(names, table.frame[column], strict=True)
        ]
        if len(set(told)) == len(told):
            notes.append(f"rows of the same name are told apart by their {column}")
            return told
    twice = next(index for index, name in enumerate(names) if name in names[:index])
    what = f"{names[twice]!r} stands there on line {table.lines[names.index(names[twice])]} already"
    raise InputError(
        Problem(what=what, where=table.where(twice, spelled["approach"]), hint="pick rows with --where COLUMN=VALUE")
    )


def _values(
    table: Columns, index: int, spelled: Mapping[str, str], percent: set[str], problems: list[Problem]
) -> dict[str, Any]:
    """One row as the fields of `SummarySpec`."""
    cells: dict[str, Any] = {}
    for figure, column in spelled.items():
        cell = table.frame[column][index]
        cell = cell.strip() if isinstance(cell, str) else cell
        if figure == "approach" or cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell)):
            continue
        if figure == "levers":
            cell = [part.strip().lower() for part in str(cell).replace(",", "+").split("+")]
        elif isinstance(cell, str) and cell.endswith("%"):
            cell = _hundredth(cell[:-1])
        elif figure in percent:
            cell = _hundredth(cell)
        cells[figure] = cell
    numbers = {}
    for figure in ("passed", "n", *PER_RUN):
        if figure in cells:
            try:
                numbers[figure] = float(cells[figure])
            except ValueError:
                key = spelled[figure]
                what = f"{key!r} is {cells[figure]!r}, expected a number"
                problems.append(
                    Problem(what=what, where=table.where(index, key), hint="leave it empty where it is unknown")
                )
    n, passed = numbers.get("n"), cells.pop("passed", None)
    if n and passed is not None and "passed" in numbers and "success" not in cells:
        cells["success"] = numbers["passed"] / n
    for figure, per_task in PER_RUN.items():
        if cells.pop(figure, None) is not None and n and figure in numbers:
            cells.setdefault(per_task, numbers[figure] / n)
    if price := {name.split(".")[1]: cells.pop(name) for name in _PRICE if name in cells}:
        cells["price_per_million"] = price
        if "cost_per_task_usd" in cells:
            del cells["price_per_million"]  # what was paid says more than what the tokens should have cost
    return cells


def _hundredth(cell: object) -> object:
    try:
        return float(str(cell)) / 100
    except ValueError:
        return cell


def _has_cost(values: Mapping[str, Any]) -> bool:
    if "cost_per_task_usd" in values or values.get("calls_model") in (False, "false", "False", "0"):
        return True
    return {"prompt_tokens", "completion_tokens", "price_per_million"} <= set(values)


def _beaten(approaches: Mapping[str, SummarySpec], goal: GoalSpec) -> dict[str, str]:
    """Approaches that another one of the same making beats or equals in success and cost, and the cheapest such."""
    kept: dict[str, SummarySpec] = {}
    beaten = {}
    # The most successful first, of these the cheapest: whoever beats an approach is kept before it is looked at.
    comparable = {name: one for name, one in approaches.items() if None not in (one.success, one.cost_per_task_usd)}
    for name in sorted(comparable, key=lambda name: (-(_success(comparable[name])), _cost(comparable[name]))):
        one = comparable[name]
        least = goal.min_schema_pass
        better = [
            other
            for other, summary in kept.items()
            if _cost(summary) <= _cost(one)
            and summary.model_dump(exclude=_COMPARED) == one.model_dump(exclude=_COMPARED)
            and (least is None or (summary.schema_pass is not None and summary.schema_pass >= least))
        ]
        if better:
            beaten[name] = min(better, key=lambda other: _cost(kept[other]))
        else:
            kept[name] = one
    return beaten


_COMPARED = {
    "success", "n", "cost_per_task_usd", "schema_pass", "retry", "prompt_tokens", "completion_tokens", "source", "as_of",
}  # fmt: skip
"""In what approaches of the same making may differ."""


def _success(one: SummarySpec) -> float:
    return one.success or 0.0


def _cost(one: SummarySpec) -> float:
    return one.cost_per_task_usd or 0.0


def _problem(table: Columns, index: int, name: str, spelled: Mapping[str, str], error: Any) -> Problem:  # noqa: ANN401
    """One complaint about a row, at the cell it is about."""
    field = str(error["loc"][0]) if error["loc"] else ""
    column = spelled.get(field)
    message = str(error["msg"]).removeprefix("Value error, ")
    what = f"{name!r}: {message[:1].lower()}{message[1:]}"
    if column is None:
        return Problem(what=what, where=table.where(index))
    cell = table.frame[column][index]
    hint = None
    if field in ("success", "schema_pass", "retry", "correction_rate"):
        hint = f"rates are 0 to 1; where the column is in percent, say so under columns: ({field}: {column} %)"
    return Problem(what=f"{what}, got {cell!r}", where=table.where(index, column), hint=hint)


def _several(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
