"""Figures of what a search has tried, from rows in the journal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from steelyard.cases.case import Case
from steelyard.figures import Figure, unknown
from steelyard.measure.comparing import pair_up, success_difference
from steelyard.measure.intervals import mean_interval
from steelyard.measure.results import ApproachResults, Floats, from_rows
from steelyard.measure.shares import cluster_codes

Row = Mapping[str, Any]
"""One outcome as `Journal.measurements` gives it."""


def difference_of(of_rival: Sequence[Row], of_own: Sequence[Row], *, n_tried: int) -> Figure:
    """Mean score of one prompt minus that of another on the same cases.

    The interval is widened for the choice of the best among several (Bonferroni over all other prompts tried),
    so it holds for whichever of them turned out best.

    Args:
        of_rival: Outcomes of the one.
        of_own: Outcomes of the other.
        n_tried: Prompts that took part in the search.
    """
    alpha = 0.05 / max(1, n_tried - 1)
    rival, own = _results("rival", of_rival), _results("own", of_own)
    pairing = pair_up(rival, own)
    if all(_is_success_alone(one) for one in (rival, own)):
        return success_difference(pairing, alpha=alpha).figure
    difference = rival.score[pairing.in_a] - own.score[pairing.in_b]
    known = ~np.isnan(difference)
    if not known.any():
        return unknown("no case was scored for both")
    common = pairing.only(np.flatnonzero(known))
    reach = mean_interval(difference[known], common.cluster, alpha=alpha)
    return Figure(
        value=float(difference[known].mean()),
        low=reach.low if reach else None,
        high=reach.high if reach else None,
    )


def mean_difference(of_one: Floats, of_other: Floats, cases: Sequence[Case], *, n_tried: int) -> Figure:
    """Mean of something in one way minus that in another, on the same cases, with a paired interval.

    Widened for the choice of the best among several, as in `difference_of`.

    Args:
        of_one: One value a case.
        of_other: The same of the other way.
        cases: Parallel to both.
        n_tried: Ways that were tried.
    """
    difference = of_one - of_other
    cluster = cluster_codes([case.cluster or ("case", case.id) for case in cases])
    reach = mean_interval(difference, cluster, alpha=0.05 / max(1, n_tried - 1))
    return Figure(value=float(difference.mean()), low=reach.low if reach else None, high=reach.high if reach else None)


def share_of(rows: Sequence[Row], column: str) -> float | None:
    """Mean of a column over the rows where it is known; `None` where it is in none."""
    known = [float(row[column]) for row in rows if row[column] is not None]
    return math.fsum(known) / len(known) if known else None


def cost_of(rows: Iterable[Row]) -> float | None:
    """Cost of outcomes, their judges included; `None` where one is unknown."""
    costs = [(row["cost_usd"], row["judge_cost_usd"]) for row in rows]
    known = [cost + (judge or 0.0) for cost, judge in costs if cost is not None]
    return math.fsum(known) if len(known) == len(costs) else None


# ---- private --------------------------------------------------------------------------------------------------------


def _results(name: str, rows: Sequence[Row]) -> ApproachResults:
    return from_rows({**row, "approach": name} for row in rows)[name]


def _is_success_alone(results: ApproachResults) -> bool:
    return bool(np.array_equal(results.score, results.success, equal_nan=True))
