"""Outcomes as columns: one `ApproachResults` per approach, the only thing every statistic here is computed from.

Rows come from the journal or from an imported outcome file. Repeats of a case are averaged within the case first, so
that a case counts once however often it was run. Missing is unknown (`nan`), never 0. An outcome that ended in
anything but an answer is a failure and stays in the denominator. An unscored outcome is neither right nor wrong:
`success_low` counts it as wrong, `success_high` as right.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InputError, Problem
from steelyard.measure.layout import Layout, Shared, frozen

if TYPE_CHECKING:
    import polars as pl

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ANSWERED = "answered"
"""The one status that can be a success."""

Row = Mapping[str, Any]

LABELS = ("approach", "case_id", "status", "cluster", "segment", "time", "fingerprint", "split")
"""Columns of outcomes that hold text."""

NUMBERS = (
    "success", "score", "schema_pass", "retried", "extra_calls", "transport_retries", "latency_s", "own_s", "cost_usd",
    "prompt_tokens", "cached_tokens", "completion_tokens", "review_seconds", "corrected", "judge", "judge_cost_usd",
)  # fmt: skip
"""Columns of outcomes that hold numbers; each is averaged within a case."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ApproachResults:
    """What one approach did with every case of a split, one entry per case; arrays are parallel and read-only."""

    name: str
    fingerprint: str
    split: str
    case_ids: tuple[str, ...]
    """Sorted, so that two approaches on the same cases are parallel."""
    n_repeats: Ints
    """Outcomes behind each case."""
    success: Floats
    """Share of the scored repeats that succeeded; `nan` where none was scored."""
    success_low: Floats
    """The same with unscored repeats counted as wrong."""
    success_high: Floats
    """The same with unscored repeats counted as right."""
    score: Floats
    schema_pass: Floats
    retried: Floats
    extra_calls: Floats
    transport_retries: Floats
    latency_s: Floats
    own_s: Floats
    cost_usd: Floats
    """USD per task; `nan` where any repeat has no known price."""
    prompt_tokens: Floats
    cached_tokens: Floats
    completion_tokens: Floats
    review_seconds: Floats
    corrected: Floats
    judged: Floats
    """A judge's verdict in 0..1; `nan` where no judge looked. Success stays what people or scorers say."""
    judge_usd: Floats
    """USD that judging the case cost; never part of `cost_usd`."""
    cluster: Ints
    """Cluster code per case; cases without a cluster are each their own."""
    is_clustered: bool
    """Whether any two cases share a cluster."""
    segment: tuple[str | None, ...]
    time: tuple[str | None, ...]
    """ISO dates, where known."""
    status_counts: Mapping[str, int]
    """Outcomes (case and repeat) by how they ended."""
    n_transport_retries: int | None
    """All outcomes together; `None` where nobody counted them."""

    @property
    def n(self) -> int:
        """Cases."""
        return len(self.case_ids)

    @property
    def n_outcomes(self) -> int:
        """Outcomes, repeats counted apart."""
        return int(self.n_repeats.sum())

    @cached_property
    def unscored(self) -> NDArray[np.bool_]:
        """Cases with at least one unscored repeat."""
        found: NDArray[np.bool_] = self.success_high > self.success_low
        return found

    @property
    def n_unscored(self) -> int:
        """Cases with at least one unscored repeat."""
        return int(self.unscored.sum())

    @cached_property
    def n_clusters(self) -> int:
        """Independent units; equal to `n` where no cases share a cluster."""
        return int(self.cluster.max()) + 1 if self.n else 0

    def cluster_sums(self, *columns: Floats) -> Floats:
        """Sums of columns over clusters, shape (n_clusters, len(columns))."""
        if not self.is_clustered:
            return np.column_stack(columns)
        return cluster_sums(self.cluster, self.n_clusters, *columns)


def from_rows(rows: Iterable[Row], *, split: str | None = None) -> dict[str, ApproachResults]:
    """Outcomes by approach, in the order in which the approaches first appear.

    Args:
        rows: Mappings with `approach`, `case_id` and `success` (1, 0 or `None`); `repeat` and the other columns of
            `LABELS` and `NUMBERS` where known.
        split: Keep rows of this split only; left out, all rows must be of one split.

    Returns:
        One `ApproachResults` per approach; empty when there are no rows.

    Raises:
        InputError: Splits are mixed, an approach appears in two versions, an outcome appears twice, or success is
            not 0 or 1.
    """
    import polars as pl

    kept = [row for row in rows if split is None or row.get("split", split) == split]
    columns = {name: pl.Series([_label(row.get(name)) for row in kept], dtype=pl.String) for name in LABELS}
    columns["repeat"] = pl.Series([row.get("repeat") or 0 for row in kept], dtype=pl.Int64)
    for name in NUMBERS:
        columns[name] = pl.Series(np.array([row.get(name) for row in kept], dtype=np.float64), nan_to_null=True)
    return from_frame(pl.DataFrame(columns))


def from_frame(outcomes: pl.DataFrame) -> dict[str, ApproachResults]:
    """The same for outcomes that are columns already.

    Args:
        outcomes: One row an outcome, in any order; columns as for `from_rows`, null where unknown. Only `approach`,
            `case_id` and `success` must be there.

    Raises:
        InputError: As for `from_rows`.
    """
    names = outcomes["approach"].unique(maintain_order=True).to_list()
    problems: list[Problem] = []
    splits = {split or "test" for split in _distinct(outcomes, "split")}
    if len(splits) > 1:
        found = ", ".join(sorted(splits))
        problems.append(
            Problem(what=f"outcomes of several splits are mixed: {found}", hint="score one split at a time")
        )
    results = {}
    shared = Shared()
    for name in names:
        mine = _rows_of(outcomes, name)
        layout = shared.layout(mine)
        problems += _problems(name, mine, layout)
        if not problems:
            results[name] = _one_approach(name, mine, layout, shared)
    if problems:
        raise InputError(problems)
    return results


def on_common_cases(results: Mapping[str, ApproachResults]) -> dict[str, ApproachResults]:
    """The same approaches, each with only the cases that all of them did, so that their arrays are parallel."""
    ids = [one.case_ids for one in results.values()]
    if all(one == ids[0] for one in ids):
        return dict(results)
    common = set(ids[0]).intersection(*ids[1:])
    return {name: _taken(one, common) for name, one in results.items()}


def cluster_sums(cluster: Ints, n_clusters: int, *columns: Floats) -> Floats:
    """Sums of parallel columns over clusters, shape (n_clusters, len(columns))."""
    if n_clusters == len(cluster) and np.array_equal(cluster, np.arange(n_clusters)):
        return np.column_stack(columns)  # every case is a cluster of its own
    return np.column_stack([np.bincount(cluster, weights=column, minlength=n_clusters) for column in columns])


def renumber(codes: Ints) -> Ints:
    """Cluster codes of a subset of cases, renumbered from 0 without gaps."""
    return np.unique(codes, return_inverse=True)[1].astype(np.int64).ravel()


# --- private ---------------------------------------------------------------------------------------------------------


def _problems(name: str, rows: pl.DataFrame, layout: Layout) -> list[Problem]:
    problems = []
    fingerprints = _distinct(rows, "fingerprint")
    if len(fingerprints) > 1:
        problems.append(
            Problem(
                what=f"outcomes of approach {name!r} come from {len(fingerprints)} versions of it",
                hint="keep the outcomes of one fingerprint",
            )
        )
    if layout.twice:
        case_id, repeat = layout.twice[0]
        problems.append(
            Problem(
                what=f"{len(layout.twice)} outcomes of approach {name!r} appear more than once, first case {case_id!r}"
                f" repeat {repeat}",
                hint="number the repeats, or remove the duplicates",
            )
        )
    success = rows["success"]
    strange = ((success != 0) & (success != 1)).fill_null(value=False).arg_true()
    if strange.len():
        at = int(strange[0])
        problems.append(
            Problem(
                what=f"success of approach {name!r} on case {rows['case_id'][at]!r} is {success[at]:g}",
                hint="write 1 for success, 0 for failure, nothing when unscored",
            )
        )
    return problems


def _one_approach(name: str, rows: pl.DataFrame, layout: Layout, shared: Shared) -> ApproachResults:
    n = len(layout.starts)
    ended = rows["status"].fill_null(ANSWERED) if "status" in rows.columns else None
    success = layout.ordered(_floats(rows["success"]))
    if ended is not None and (failed := (ended != ANSWERED)).any():
        # Whatever did not end in an answer cannot be right, scored or not: failures stay in the denominator.
        success = np.where(layout.ordered(failed.to_numpy()), 0.0, success)
    is_scored = ~np.isnan(success)
    rate = low = high = layout.mean(success)
    if not is_scored.all():
        low = layout.mean(np.where(is_scored, success, 0.0))
        high = layout.mean(np.where(is_scored, success, 1.0))
        n_scored = np.add.reduceat(is_scored.astype(np.float64), layout.starts)
        n_right = np.add.reduceat(np.where(is_scored, success, 0.0), layout.starts)
        rate = frozen(np.divide(n_right, n_scored, out=np.full(n, math.nan), where=n_scored > 0))

    def column(key: str) -> Floats:
        if key not in rows.columns or rows[key].null_count() == len(rows):
            return shared.unknown(n)
        return layout.mean(layout.ordered(_floats(rows[key])))

    def texts(key: str) -> tuple[str | None, ...]:
        return shared.texts(key, _labels(rows, key, layout))

    cluster = shared.clusters(_labels(rows, "cluster", layout))
    counts = {ANSWERED: len(rows)} if ended is None else _counts(ended)
    retries = rows["transport_retries"].drop_nulls() if "transport_retries" in rows.columns else None
    return ApproachResults(
        name=name,
        fingerprint=_distinct(rows, "fingerprint")[0] or "",
        split=_distinct(rows, "split")[0] or "test",
        case_ids=layout.case_ids,
        n_repeats=layout.n_repeats,
        success=rate,
        success_low=low,
        success_high=high,
        score=column("score"),
        schema_pass=column("schema_pass"),
        retried=column("retried"),
        extra_calls=column("extra_calls"),
        transport_retries=column("transport_retries"),
        latency_s=column("latency_s"),
        own_s=column("own_s"),
        cost_usd=column("cost_usd"),
        prompt_tokens=column("prompt_tokens"),
        cached_tokens=column("cached_tokens"),
        completion_tokens=column("completion_tokens"),
        review_seconds=column("review_seconds"),
        corrected=column("corrected"),
        judged=column("judge"),
        judge_usd=column("judge_cost_usd"),
        cluster=cluster,
        is_clustered=int(cluster.max()) + 1 < n,
        segment=texts("segment"),
        time=texts("time"),
        status_counts=dict(sorted(counts.items())),
        n_transport_retries=int(retries.sum()) if retries is not None and len(retries) else None,
    )


def _rows_of(outcomes: pl.DataFrame, approach: str) -> pl.DataFrame:
    places = (outcomes["approach"] == approach).arg_true()
    first, n = int(places[0]), places.len()
    # Mostly the rows of an approach stand together, and then nothing need be copied.
    is_block = int(places[-1]) - first + 1 == n
    return outcomes.slice(first, n) if is_block else outcomes[places]


def _floats(values: pl.Series) -> Floats:
    import polars as pl

    found: Floats = values.cast(pl.Float64).fill_null(math.nan).to_numpy()
    return found


def _distinct(rows: pl.DataFrame, column: str) -> list[str | None]:
    return rows[column].unique(maintain_order=True).to_list() if column in rows.columns else [None]


def _labels(rows: pl.DataFrame, column: str, layout: Layout) -> pl.Series:
    """One label a case; where there is no such column, none for any."""
    import polars as pl

    if column not in rows.columns:
        return pl.Series(column, [None], dtype=pl.String).new_from_index(0, len(layout.starts))
    return layout.first(rows[column])


def _counts(labels: pl.Series) -> dict[str, int]:
    return {str(label): int(n) for label, n in labels.value_counts().iter_rows()}


def _label(value: object) -> str | None:
    return None if value is None else str(value)


def _taken(results: ApproachResults, case_ids: Collection[str]) -> ApproachResults:
    kept = np.array([i for i, case_id in enumerate(results.case_ids) if case_id in case_ids], dtype=np.intp)
    columns: dict[str, Any] = {}
    for field in fields(results):
        value = getattr(results, field.name)
        if isinstance(value, np.ndarray):
            columns[field.name] = frozen(value[kept])
        elif isinstance(value, tuple):
            columns[field.name] = tuple(value[i] for i in kept)
    cluster = frozen(renumber(columns["cluster"]))
    is_clustered = len(np.unique(cluster)) < len(kept)
    return replace(results, **(columns | {"cluster": cluster, "is_clustered": is_clustered}))
