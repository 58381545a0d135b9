"""Outcomes as columns: one `ApproachResults` per approach, the only thing every statistic here is computed from.

Rows come from the journal or from an imported outcome file. Repeats of a case are averaged within the case first, so
that a case counts once however often it was run. Missing is unknown (`nan`), never 0. An outcome that ended in
anything but an answer is a failure and stays in the denominator. An unscored outcome is neither right nor wrong:
`success_low` counts it as wrong, `success_high` as right.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InputError, Problem

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ANSWERED = "answered"
"""The one status that can be a success."""

Row = Mapping[str, Any]


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
    n_transport_retries: int

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
        rows: Mappings with `approach`, `case_id` and `success` (1, 0 or `None`); `fingerprint`, `split`, `repeat`,
            `status`, `score`, `schema_pass`, `retried`, `extra_calls`, `transport_retries`, `latency_s`, `own_s`,
            `cost_usd`, `prompt_tokens`, `cached_tokens`, `completion_tokens`, `review_seconds`, `corrected`, `judge`,
            `judge_cost_usd`, `segment`, `cluster` and `time` where known.
        split: Keep rows of this split only; left out, all rows must be of one split.

    Returns:
        One `ApproachResults` per approach; empty when there are no rows.

    Raises:
        InputError: Splits are mixed, an approach appears in two versions, an outcome appears twice, or success is
            not 0 or 1.
    """
    by_approach: dict[str, list[Row]] = {}
    for row in rows:
        if split is None or row.get("split", split) == split:
            by_approach.setdefault(row["approach"], []).append(row)
    problems: list[Problem] = []
    splits = {row.get("split") or "test" for kept in by_approach.values() for row in kept}
    if len(splits) > 1:
        found = ", ".join(sorted(splits))
        problems.append(
            Problem(what=f"outcomes of several splits are mixed: {found}", hint="score one split at a time")
        )
    for name, kept in by_approach.items():
        problems += _problems(name, kept)
    if problems:
        raise InputError(problems)
    return {name: _one_approach(name, kept) for name, kept in by_approach.items()}


def on_common_cases(results: Mapping[str, ApproachResults]) -> dict[str, ApproachResults]:
    """The same approaches, each with only the cases that all of them did, so that their arrays are parallel."""
    ids = [one.case_ids for one in results.values()]
    if all(one == ids[0] for one in ids):
        return dict(results)
    common = set(ids[0]).intersection(*ids[1:])
    return {name: _taken(one, common) for name, one in results.items()}


def cluster_sums(cluster: Ints, n_clusters: int, *columns: Floats) -> Floats:
    """Sums of parallel columns over clusters, shape (n_clusters, len(columns))."""
    return np.column_stack([np.bincount(cluster, weights=column, minlength=n_clusters) for column in columns])


def renumber(codes: Ints) -> Ints:
    """Cluster codes of a subset of cases, renumbered from 0 without gaps."""
    return np.unique(codes, return_inverse=True)[1].astype(np.int64).ravel()


# --- private ---------------------------------------------------------------------------------------------------------


def _problems(name: str, rows: Sequence[Row]) -> list[Problem]:
    problems = []
    fingerprints = {row.get("fingerprint") for row in rows}
    if len(fingerprints) > 1:
        problems.append(
            Problem(
                what=f"outcomes of approach {name!r} come from {len(fingerprints)} versions of it",
                hint="keep the outcomes of one fingerprint",
            )
        )
    keys = [(row["case_id"], row.get("repeat") or 0) for row in rows]
    if len(set(keys)) < len(keys):
        twice = [key for key, count in Counter(keys).items() if count > 1]
        case_id, repeat = twice[0]
        problems.append(
            Problem(
                what=f"{len(twice)} outcomes of approach {name!r} appear more than once, first case {case_id!r}"
                f" repeat {repeat}",
                hint="number the repeats, or remove the duplicates",
            )
        )
    strange = next((row for row in rows if row.get("success") not in (None, 0, 1)), None)
    if strange is not None:
        problems.append(
            Problem(
                what=f"success of approach {name!r} on case {strange['case_id']!r} is {strange['success']!r}",
                hint="write 1 for success, 0 for failure, nothing when unscored",
            )
        )
    return problems


def _one_approach(name: str, rows: Sequence[Row]) -> ApproachResults:
    rows = sorted(rows, key=lambda row: (str(row["case_id"]), row.get("repeat") or 0))
    ids = [str(row["case_id"]) for row in rows]
    starts = np.array([i for i, key in enumerate(ids) if i == 0 or key != ids[i - 1]], dtype=np.int64)
    firsts = [rows[i] for i in starts]
    n_repeats = np.diff(np.append(starts, len(rows)))  # (n_cases,)
    status = [row.get("status") or ANSWERED for row in rows]
    success = _column(rows, "success")
    # Whatever did not end in an answer cannot be right, scored or not: failures stay in the denominator.
    success[np.array([ended != ANSWERED for ended in status])] = 0.0

    def mean_of(values: Floats) -> Floats:
        """Within-case mean; unknown as soon as one repeat is, so that a missing price never looks cheap."""
        return _frozen(np.add.reduceat(values, starts) / n_repeats)

    def column(key: str) -> Floats:
        return mean_of(_column(rows, key))

    scored = (~np.isnan(success)).astype(np.float64)
    n_scored = np.add.reduceat(scored, starts)
    n_right = np.add.reduceat(np.nan_to_num(success), starts)
    cluster, is_clustered = _clusters(firsts, len(starts))
    return ApproachResults(
        name=name,
        fingerprint=str(rows[0].get("fingerprint") or ""),
        split=str(rows[0].get("split") or "test"),
        case_ids=tuple(str(row["case_id"]) for row in firsts),
        n_repeats=_frozen(n_repeats),
        success=_frozen(np.divide(n_right, n_scored, out=np.full(len(starts), math.nan), where=n_scored > 0)),
        success_low=mean_of(np.nan_to_num(success, nan=0.0)),
        success_high=mean_of(np.nan_to_num(success, nan=1.0)),
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
        cluster=_frozen(cluster),
        is_clustered=is_clustered,
        segment=tuple(row.get("segment") for row in firsts),
        time=tuple(row.get("time") for row in firsts),
        status_counts=dict(sorted(Counter(str(ended) for ended in status).items())),
        n_transport_retries=int(np.nansum(_column(rows, "transport_retries"))),
    )


def _taken(results: ApproachResults, case_ids: Collection[str]) -> ApproachResults:
    kept = np.array([i for i, case_id in enumerate(results.case_ids) if case_id in case_ids], dtype=np.intp)
    columns: dict[str, Any] = {}
    for field in fields(results):
        value = getattr(results, field.name)
        if isinstance(value, np.ndarray):
            columns[field.name] = _frozen(value[kept])
        elif isinstance(value, tuple):
            columns[field.name] = tuple(value[i] for i in kept)
    cluster = _frozen(renumber(columns["cluster"]))
    is_clustered = len(np.unique(cluster)) < len(kept)
    return replace(results, **(columns | {"cluster": cluster, "is_clustered": is_clustered}))


def _column(rows: Sequence[Row], key: str) -> Floats:
    return np.array([row.get(key) for row in rows], dtype=np.float64)  # None becomes nan


def _clusters(rows: Sequence[Row], n: int) -> tuple[Ints, bool]:
    codes: dict[object, int] = {}
    labels = [row.get("cluster") for row in rows]
    cluster = [codes.setdefault(i if label is None else (label,), len(codes)) for i, label in enumerate(labels)]
    return np.array(cluster, dtype=np.int64), len(codes) < n


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.setflags(write=False)
    return array
