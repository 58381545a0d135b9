"""Read a file of outcomes made elsewhere: every column checked, every problem reported at once, nothing guessed.

A blank cell is unknown, never 0. What comes out are the columns that `steelyard.measure.results.from_frame` takes, so
that outcomes from anywhere are counted as those of a run are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from steelyard.cases.frames import Columns, load_columns
from steelyard.errors import InputError, Problem
from steelyard.measure.results import ANSWERED
from steelyard.study.outcome_columns import COLUMNS, read_column
from steelyard.study.where import Condition, matching

if TYPE_CHECKING:
    import polars as pl

MOST_PROBLEMS = 1_000
"""So many are listed; of the others only the number is said."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class OutcomeRows:
    """The checked outcomes of a file."""

    name: str
    """File name."""
    frame: pl.DataFrame
    """One row an outcome, under the names of `COLUMNS` (but for `levers`); null is unknown, absent too."""
    levers: Mapping[str, tuple[str, ...]]
    """By approach, in the order in which approaches first appear; empty where not known."""
    notes: tuple[str, ...]
    """What a person should know about how the file was read."""


def read_outcome_rows(
    path: Path,
    *,
    threshold: float | None = None,
    where: Sequence[Condition] = (),
    levers: Mapping[str, tuple[str, ...]] | None = None,
) -> OutcomeRows:
    """Read and check a CSV, JSONL, JSON or Parquet file of outcomes.

    Args:
        path: The file.
        threshold: Score from which on an outcome is a success, 1 if left out; used where there is no column `success`.
        where: Only the rows that meet all of these are read.
        levers: By approach, from elsewhere; complete what the file says.

    Raises:
        InputError: The file cannot be read, a column is missing, a value has the wrong type, an outcome stands twice,
            or rows contradict each other; lists every problem found, each with `file:line:column`.
    """
    import polars as pl

    table = load_columns(path, of="outcomes")
    present = table.frame.columns
    spelled = {column.name: key for column in COLUMNS if (key := column.found_in(present)) is not None}
    problems = [*table.problems, *_missing_columns(table, present, spelled)]
    if problems and not table.frame.height:
        raise InputError(problems)
    n_all = table.frame.height
    if where:
        table = matching(table, where)
    frame = _checked(table, spelled, problems)
    problems += _repeated(table, frame, spelled)
    pulled = _levers(table, frame, levers or {}, spelled, problems)
    frame = _with_shared_clusters(table, frame, spelled, problems)
    if threshold is None and "success" not in spelled:
        problems += _beyond_one(table, frame, spelled)
    if problems:
        raise InputError(problems)
    notes = []
    if where:
        picked = " and ".join(map(str, where))
        notes.append(f"only the rows of {table.name} with {picked}: {frame.height:,} of {n_all:,}")
    used = {*spelled.values(), *(condition.column for condition in where)}
    unused = [key for key in present if key not in used]
    if unused:
        notes.append(f"columns of {table.name} that were not used: {', '.join(unused)}")
    if "success" not in spelled:
        least = 1.0 if threshold is None else threshold
        frame = frame.with_columns(success=(pl.col("score") >= least).cast(pl.Int8))
    elif threshold is not None:
        notes.append(f"the threshold was not used: {table.name} says itself what succeeded")
    if "status" in frame.columns:
        contradicted = frame.filter((pl.col("success") == 1) & (pl.col("status") != ANSWERED)).height
        if contradicted:
            notes.append(
                f"{contradicted:,} outcomes say success with a status other than answered: they count as failed"
            )
    return OutcomeRows(name=table.name, frame=frame.drop("levers", strict=False), levers=pulled, notes=tuple(notes))


# --- private ---------------------------------------------------------------------------------------------------------


def _missing_columns(table: Columns, present: list[str], spelled: Mapping[str, str]) -> list[Problem]:
    if not table.frame.height:
        return [] if table.problems else [Problem(what="the file holds no outcomes", where=table.name)]
    missing = []
    for column in COLUMNS:
        if column.is_required and column.name not in spelled:
            missing.append(f"{column.name} (or {column.alias})" if column.alias else column.name)
    if "success" not in spelled and "score" not in spelled:
        missing.append("success (or score)")
    hint = f"columns there are: {', '.join(present)}"
    if "case_id" not in spelled and "approach" in spelled:
        hint += f"; with one row an approach: steelyard whatif {table.name}"
    return [Problem(what=f"there is no column {name}", where=f"{table.name}:1", hint=hint) for name in missing]


def _checked(table: Columns, spelled: Mapping[str, str], problems: list[Problem]) -> pl.DataFrame:
    """The values of all known columns, null where blank or wrong; says which are wrong, line by line."""
    import polars as pl

    values: dict[str, pl.Series] = {}
    found: list[tuple[int, int, Problem]] = []
    n_wrong = 0
    for position, column in enumerate(COLUMNS):
        key = spelled.get(column.name)
        if key is None:
            continue
        # Raw cells are let go of column by column: a million cases of each approach should not be held twice.
        cells = table.frame.drop_in_place(key)
        values[column.name], blank, wrong = read_column(column, cells, table.odd.get(key, {}))
        n_wrong += len(wrong) + (len(blank) if column.is_required else 0)
        for index in map(int, wrong[:MOST_PROBLEMS]):
            what = (
                f"{key!r} is {_shortened(table.odd.get(key, {}).get(index, cells[index]))}, expected {column.expected}"
            )
            hint = None if column.is_required else "leave it empty where it is unknown"
            found.append((index, position, Problem(what=what, where=table.where(index, key), hint=hint)))
        for index in map(int, blank[:MOST_PROBLEMS] if column.is_required else ()):
            found.append((index, position, Problem(what=f"{key!r} is empty", where=table.where(index, key))))
    listed = sorted(found, key=lambda one: one[:2])[:MOST_PROBLEMS]
    if n_wrong > len(listed):
        problems.append(
            Problem(what=f"{n_wrong:,} cells are not as expected; the first {len(listed):,} follow", where=table.name)
        )
    problems += [problem for _, _, problem in listed]
    frame = pl.DataFrame(values)
    if "extra_calls" in values:
        from_calls = (pl.col("extra_calls") > 0).cast(pl.Int8)
        said = pl.coalesce("retried", from_calls) if "retried" in values else from_calls
        frame = frame.with_columns(said.alias("retried"))
    filled = [pl.col(name).fill_null(value) for name, value in (("status", ANSWERED), ("repeat", 0)) if name in values]
    return frame.with_columns(filled)


def _beyond_one(table: Columns, frame: pl.DataFrame, spelled: Mapping[str, str]) -> list[Problem]:
    """Scores above 1 are on another scale: taking 1 for a success there would make every 60 of 100 one."""
    highest = frame["score"].arg_max() if "score" in frame.columns else None
    if highest is None or frame["score"][highest] <= 1:
        return []
    what = f"scores go up to {frame['score'][highest]:g}, and nothing says which score is a success"
    return [Problem(what=what, where=table.where(highest, spelled["score"]), hint="say it with --threshold SCORE")]


def _shortened(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:59]}…"


def _repeated(table: Columns, frame: pl.DataFrame, spelled: Mapping[str, str]) -> list[Problem]:
    import polars as pl

    keys = [key for key in ("approach", "case_id", "repeat") if key in frame.columns]
    if not {"approach", "case_id"} <= set(keys) or not _any_twice(frame.select(keys)):
        return []
    complete = frame.select(keys).with_row_index("row").drop_nulls()
    again = complete.with_columns(first=pl.col("row").first().over(keys)).filter(pl.col("row") != pl.col("first"))
    hint = "number the repeats of a case in a column repeat, or remove one of the two"
    if telling := _telling_apart(table, frame.select(keys), spelled):
        hint = f"a row of another {telling.split('=')[0]} is another outcome: --where {telling}; else {hint}"
    problems = []
    for row in again.head(MOST_PROBLEMS).iter_rows(named=True):
        repeat = f" repeat {row['repeat']}" if "repeat" in spelled else ""
        seen = table.lines[row["first"]]
        what = f"{row['approach']!r} did case {row['case_id']!r}{repeat} on line {seen} already"
        where = table.where(row["row"], spelled.get("case_id"))
        problems.append(Problem(what=what, where=where, hint=hint))
    if again.height > len(problems):
        first = f"{again.height:,} outcomes stand there twice; the first {len(problems):,} follow"
        problems.insert(0, Problem(what=first, where=table.name, hint=hint))
    return problems


def _any_twice(keys: pl.DataFrame) -> bool:
    """Approach by approach, since tables of a million keys are quicker than one of six; none for ids in order."""
    for name in keys["approach"].drop_nulls().unique():
        mine = keys.filter(keys["approach"] == name).drop("approach")
        ids = mine["case_id"]
        is_rising = ids.null_count() == 0 and ids.is_sorted() and not (ids == ids.shift(1)).any()
        if not is_rising and mine.drop_nulls().is_duplicated().any():
            return True
    return False


def _telling_apart(table: Columns, keys: pl.DataFrame, spelled: Mapping[str, str]) -> str | None:
    """`column=value` of a column with few values of which each holds every outcome once."""
    for name in table.frame.columns:
        if name in spelled.values() or table.odd.get(name):
            continue
        values = table.frame[name]
        few = values.n_unique()
        if 1 < few <= 50 and not keys.with_columns(values.alias("other value")).is_duplicated().any():
            return f"{name}={values[0]}"
    return None


def _levers(
    table: Columns,
    frame: pl.DataFrame,
    elsewhere: Mapping[str, tuple[str, ...]],
    spelled: Mapping[str, str],
    problems: list[Problem],
) -> dict[str, tuple[str, ...]]:
    """Levers by approach; said on any row of an approach they hold for all of its rows."""
    import polars as pl

    if "approach" not in frame.columns:
        return {}
    names = frame["approach"].drop_nulls().unique(maintain_order=True).to_list()
    levers: dict[str, tuple[str, ...]] = dict.fromkeys(names, ())
    if "levers" in frame.columns:
        said = frame.select("approach", "levers").with_row_index("row").drop_nulls()
        first = said.unique("approach", keep="first", maintain_order=True)
        levers |= {row["approach"]: tuple(row["levers"].split("+")) for row in first.iter_rows(named=True)}
        other = said.with_columns(first=pl.col("levers").first().over("approach"))
        for row in other.filter(pl.col("levers") != pl.col("first")).head(MOST_PROBLEMS).iter_rows(named=True):
            what = f"the levers of {row['approach']!r} are {row['levers']}, and {row['first']} further up"
            hint = "give approaches that pull different levers different names"
            problems.append(Problem(what=what, where=table.where(row["row"], spelled["levers"]), hint=hint))
    levers = {name: known or elsewhere.get(name, ()) for name, known in levers.items()}
    without = [name for name, known in levers.items() if not known]
    if without and len(without) < len(levers):
        what = f"the levers of {', '.join(map(repr, without))} are not given, those of other approaches are"
        hint = "give them for all approaches or for none: hours counted for some only would make the others look cheap"
        problems.append(Problem(what=what, where=f"{table.name}:{spelled.get('levers', 'levers')}", hint=hint))
    return levers


def _with_shared_clusters(
    table: Columns, frame: pl.DataFrame, spelled: Mapping[str, str], problems: list[Problem]
) -> pl.DataFrame:
    """A case is in one cluster whoever did it: said on any of its rows it holds for all."""
    import polars as pl

    if not {"cluster", "case_id"} <= set(frame.columns) or frame["cluster"].null_count() == frame.height:
        return frame
    said = frame.select("case_id", "cluster").with_row_index("row").drop_nulls()
    pairs = said.unique(["case_id", "cluster"], keep="first", maintain_order=True)
    cluster_of = pairs.unique("case_id", keep="first", maintain_order=True)
    if cluster_of.height < pairs.height:
        first = said.join(cluster_of.select("case_id", first="cluster"), on="case_id", maintain_order="left")
        for row in first.filter(pl.col("cluster") != pl.col("first")).head(MOST_PROBLEMS).iter_rows(named=True):
            what = f"case {row['case_id']!r} is in cluster {row['cluster']!r}, and in {row['first']!r} further up"
            problems.append(Problem(what=what, where=table.where(row["row"], spelled["cluster"])))
    if frame["cluster"].null_count():
        told = cluster_of.select("case_id", "cluster")
        frame = frame.drop("cluster").join(told, on="case_id", how="left", maintain_order="left")
    return frame
