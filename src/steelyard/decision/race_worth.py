"""What the cases a race has not run yet could still be worth: next to nothing, and it need not go on.

Going on pays only where it changes who is taken. The leader after all cases is somebody else, at a gain, with the
probability that a normal distribution gives: its mean is the present difference in cost per success, its variance the
part of the present one that the remaining cases take away (1 - n / N of it). No claim follows from such a stop.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from steelyard.decision.race_evidence import Constraint, Entrant, Lane, shares_of
from steelyard.decision.spec import GoalSpec
from steelyard.measure.results import Floats

MIN_CASES = 50
"""Before so many cases nothing is said about the rest."""

MIN_UNITS = 20
"""Nor before so many clusters, from which the standard errors come."""

OPEN_WITHIN = 2.0
"""Standard errors around a constraint within which it is open whether it is met."""


def worth_of_rest(
    entrants: Sequence[Entrant],
    lanes: Mapping[str, Lane],
    *,
    n: int,
    n_cases: int,
    goal: GoalSpec,
    constraints: Sequence[Constraint],
    starts: NDArray[np.intp],
) -> float:
    """Expected gain of running the remaining cases, as a share of the leader's cost per success.

    Args:
        entrants: Those still in.
        lanes: Their outcomes in the order of the race.
        n: Cases done.
        n_cases: Cases there are.
        goal: Constraints of the study.
        constraints: The same as shares of cases.
        starts: Where each unit (a case, or a cluster of them) begins.

    Returns:
        Infinite where it cannot be told: too few cases, an unknown cost, or a constraint that is still open.
    """
    units = starts[starts < n]
    if n < MIN_CASES or len(units) < MIN_UNITS:
        return math.inf
    able, cost, influence = [], {}, {}
    for one in entrants:
        lane = lanes[one.name]
        states = [_state(shares_of(lane, asked, goal), asked.least, units, n) for asked in constraints]
        if "open" in states and goal != GoalSpec():
            return math.inf
        if "missed" in states:
            continue
        success = (lane.success_low[:n] + lane.success_high[:n]) / 2
        full = one.fixed_usd + one.variable_factor * lane.cost_usd[:n] + (1 - success) * one.failed_task_usd
        rate = float(success.mean())
        if rate == 0 or np.isnan(full).any():
            return math.inf
        able.append(one.name)
        cost[one.name] = float(full.mean()) / rate
        influence[one.name] = (full - cost[one.name] * success) / rate
    if not able:
        return math.inf
    leader = min(able, key=lambda name: cost[name])
    if cost[leader] <= 0:
        return math.inf
    to_come = math.sqrt(max(0.0, 1 - n / n_cases))
    worth = 0.0
    for name in able:
        if name != leader:
            error = to_come * _standard_error(influence[name] - influence[leader], units, n)
            worth += _expected_gain((cost[name] - cost[leader]) / cost[leader], error / cost[leader])
    return worth


def _state(shares: tuple[Floats, Floats], least: float, units: NDArray[np.intp], n: int) -> str:
    low, high = shares
    share = (low[:n] + high[:n]) / 2
    if np.isnan(share).any():
        return "open"
    mean = float(share.mean())
    error = max(_standard_error(share - mean, units, n), math.sqrt(max(0.0, least * (1 - least)) / n))
    if abs(mean - least) < OPEN_WITHIN * error:
        return "open"
    return "met" if mean >= least else "missed"


def _standard_error(centred: Floats, units: NDArray[np.intp], n: int) -> float:
    sums = np.add.reduceat(centred, units)
    return math.sqrt(float(sums @ sums)) / n


def _expected_gain(difference: float, spread: float) -> float:
    """Mean of the part of a normal variable below zero."""
    if spread <= 0:
        return 0.0
    u = difference / spread
    return spread * (math.exp(-u * u / 2) / math.sqrt(2 * math.pi) - u * math.erfc(u / math.sqrt(2)) / 2)
