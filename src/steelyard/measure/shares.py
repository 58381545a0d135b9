"""Shares and means over cases as figures, whole clusters kept together: what the tables on answers are made of."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from steelyard.figures import MEASURED, Figure, Provenance, unknown
from steelyard.measure.intervals import MIN_CASES, Interval, effective_n, mean_interval, wilson
from steelyard.measure.results import Floats, Ints, renumber

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseRows:
    """All repeats of one case by one approach."""

    case_id: str
    cluster: Hashable
    """What it shares with related cases; its own where it shares nothing."""
    rows: tuple[Row, ...]


def by_case(rows: Iterable[Row]) -> dict[str, tuple[CaseRows, ...]]:
    """Rows by approach and case, in the order in which they first appear.

    Args:
        rows: Mappings with `approach`, `case_id` and, where known, `cluster`.
    """
    found: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        found.setdefault(row["approach"], {}).setdefault(row["case_id"], []).append(row)
    return {
        approach: tuple(
            CaseRows(case_id=case_id, cluster=mine[0].get("cluster") or ("case", case_id), rows=tuple(mine))
            for case_id, mine in cases.items()
        )
        for approach, cases in found.items()
    }


def outcomes_of(cases: Iterable[CaseRows]) -> list[tuple[Hashable, Row]]:
    """Every repeat with the cluster of its case.

    For shares of outcomes of a kind (of those that abstained, ...): repeats of a case stand in one cluster, so that
    they make an interval no narrower than the case alone.
    """
    return [(case.cluster, row) for case in cases for row in case.rows]


def cluster_codes(clusters: Iterable[Hashable]) -> Ints:
    """0-based codes without gaps, by first appearance."""
    codes: dict[Hashable, int] = {}
    return np.array([codes.setdefault(cluster, len(codes)) for cluster in clusters], dtype=np.int64)


def measured_on(n: int, n_all: int, what: str = "cases") -> Provenance:
    """Measured, with how many of the cases, where not on all of them."""
    return MEASURED if n == n_all else Provenance(kind="measured", source=f"{n:,} of {n_all:,} {what}")


def share(
    values: Floats,
    cluster: Ints,
    *,
    nothing: str,
    provenance: Provenance = MEASURED,
    undecided: Floats | None = None,
    alpha: float = 0.05,
) -> Figure:
    """A share of cases with its Wilson interval.

    Args:
        values: One a case, 0..1 (within a case the mean of its repeats); with `undecided`, the part that is known.
        cluster: Cluster code of each case.
        nothing: Why there is no figure when there are no cases.
        provenance: Of the figure.
        undecided: The part of each case that could not be decided, 0..1. The value is the share among what was
            decided, and the interval reaches from all of it no to all of it yes.
        alpha: One minus the confidence level.

    Returns:
        No interval below `MIN_CASES` independent cases.
    """
    open_part = np.zeros(len(values)) if undecided is None else undecided
    n_decided = float(len(values) - open_part.sum())
    if n_decided <= 0:
        return unknown(nothing if not len(values) else "no case could be decided", provenance=provenance)
    codes = renumber(cluster)
    low_values, high_values = values, values + open_part
    n = min(effective_n(low_values, codes, alpha=alpha), effective_n(high_values, codes, alpha=alpha))
    low = high = None
    if n >= MIN_CASES:
        low = wilson(float(low_values.mean()), n, alpha=alpha).low
        high = wilson(min(1.0, float(high_values.mean())), n, alpha=alpha).high
    return Figure(value=float(values.sum()) / n_decided, low=low, high=high, provenance=provenance)


def mean(
    values: Floats, cluster: Ints, *, nothing: str, provenance: Provenance = MEASURED, alpha: float = 0.05
) -> Figure:
    """The mean over cases of something in 0..1: a Wilson interval where each case is 0 or 1, else a bootstrap.

    Values that are all the same do not vary in any resample; where they are all 0 or all 1 Wilson still says how sure
    that is, elsewhere there is no interval.
    """
    if not len(values):
        return unknown(nothing, provenance=provenance)
    if np.isin(values, (0.0, 1.0)).all():
        return share(values, cluster, nothing=nothing, provenance=provenance, alpha=alpha)
    found = mean_interval(values, renumber(cluster), alpha=alpha)
    # Student's reach inside the bootstrap may step over what is possible.
    ends = Interval(max(0.0, found.low), min(1.0, found.high)) if found else None
    return Figure(
        value=float(values.mean()),
        low=ends.low if ends else None,
        high=ends.high if ends else None,
        provenance=provenance,
    )


def share_of(
    outcomes: Sequence[tuple[Hashable, Row]],
    holds: Callable[[Row], bool],
    nothing: str,
    *,
    provenance: Provenance = MEASURED,
    alpha: float = 0.05,
) -> Figure:
    """The share of some outcomes (see `outcomes_of`) of which something holds; arguments as for `share`."""
    values = np.array([float(holds(row)) for _, row in outcomes])
    cluster = cluster_codes(cluster for cluster, _ in outcomes)
    return share(values, cluster, nothing=nothing, provenance=provenance, alpha=alpha)


def row_json(row: DataclassInstance) -> dict[str, Any]:
    """The fields of a row of a table, figures in their published shape."""
    values = {one.name: getattr(row, one.name) for one in fields(row)}
    return {name: value.to_json() if isinstance(value, Figure) else value for name, value in values.items()}
