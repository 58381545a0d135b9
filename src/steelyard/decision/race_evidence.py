"""The evidence a race runs on: what is known of each approach, and the wealth of the bets on it after every case.

Two cases at a time, or two whole clusters where cases share clusters, are a block. With c the full cost of a case and
s its success (in clusters: their sums), one block gives an unbiased and paired look at which of two ratios is larger:

    X = (1 + margin) [c_x(1) s_w(2) + c_x(2) s_w(1)] / 2 - [c_w(1) s_x(2) + c_w(2) s_x(1)] / 2

has a mean above 0 if and only if w costs less per success than 1 + margin times what x does, and is never below the
largest cost of w. That is a known part (review, fixed costs, a failed task) plus a variable one, taken to stay below
`SAFETY` times the largest variable cost in the blocks before. In the first block there is none before, so nothing is
bet on it. A case beyond the bound ruins the bets it is too large for and leaves the smaller ones; where one approach's
costs are so heavy-tailed that this matters, the level is missed by about the chance of such a case.

Unscored and unpriced cases count for the one under suspicion, so that they can delay a decision and never make one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from steelyard.decision.call import USEFUL_SUCCESS, ladder_height
from steelyard.decision.spec import GoalSpec
from steelyard.economics.costs import Estimates, cost_model
from steelyard.economics.ledger import ApproachFacts
from steelyard.economics.spec import MoneySpec
from steelyard.measure.layout import Floats
from steelyard.measure.results import ApproachResults
from steelyard.measure.sequential import log_wealth

SAFETY = 2.0
"""Variable costs are taken to stay below this multiple of the largest one in the blocks before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entrant:
    """What a task costs with an approach: `fixed_usd + variable_factor · variable + (1 - success) · failed_task_usd`."""

    name: str
    fixed_usd: float
    """Review, and its part of upkeep and setup, in USD a task; `nan` where unknown: it then neither beats nor is beaten."""
    variable_factor: float
    """USD of full cost per USD of variable cost: 1, and a little more for the evaluation it also pays for."""
    failed_task_usd: float
    rung: tuple[bool, int] = (False, 0)
    """Place on the ladder; the lower one is preferred."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Lane:
    """Outcomes of one entrant in the order of the race; parallel arrays over the cases it did."""

    success_low: Floats
    """Share of the repeats that succeeded, unscored ones counted as wrong."""
    success_high: Floats
    """The same with unscored ones counted as right."""
    cost_usd: Floats
    """Variable cost in USD; `nan` where unknown."""
    schema_pass: Floats
    latency_s: Floats

    @property
    def n(self) -> int:
        """Cases done."""
        return len(self.cost_usd)


class Constraint(NamedTuple):
    """A share of cases that must be reached."""

    kind: Literal["success", "useful", "schema", "latency"]
    least: float


def entrant(facts: ApproachFacts, money: MoneySpec, *, n_cases: int, review_s: float | None = None) -> Entrant:
    """What the ledger says about an approach before its outcomes are known.

    Args:
        facts: Levers, setup and the like.
        money: The money section.
        n_cases: Cases of the whole evaluation, which is part of the setup.
        review_s: Measured seconds of a review; left out, those of the money section.
    """
    fixed = with_one_usd = math.nan
    if facts.setup_cost_usd is not None:
        fixed, with_one_usd = (
            cost_model(
                facts, Estimates(success=1.0, variable_usd=variable, review_s=review_s, n=n_cases), money
            ).cost_per_task(1.0, variable)
            for variable in (0.0, 1.0)
        )
    return Entrant(
        name=facts.name,
        fixed_usd=fixed,
        variable_factor=with_one_usd - fixed,
        failed_task_usd=money.failed_task_usd,
        rung=ladder_height(facts),
    )


def lane(results: ApproachResults | None, order: Sequence[str]) -> Lane:
    """The outcomes of an approach in the order of a race, up to the first case it has not done.

    Args:
        results: Its outcomes; `None` where it has none.
        order: Case ids.
    """
    if results is None:
        nothing = np.zeros(0)
        return Lane(success_low=nothing, success_high=nothing, cost_usd=nothing, schema_pass=nothing, latency_s=nothing)
    place = {case_id: i for i, case_id in enumerate(results.case_ids)}
    taken: list[int] = []
    for case_id in order:
        if case_id not in place:
            break
        taken.append(place[case_id])
    at = np.array(taken, dtype=np.intp)
    return Lane(
        success_low=results.success_low[at],
        success_high=results.success_high[at],
        cost_usd=results.cost_usd[at],
        schema_pass=results.schema_pass[at],
        latency_s=results.latency_s[at],
    )


def constraints_of(goal: GoalSpec) -> tuple[Constraint, ...]:
    """What is asked of which share of cases; without a goal for success, that it is of any use."""
    asked = [Constraint("useful", USEFUL_SUCCESS)]
    if goal.min_success is not None:
        asked = [Constraint("success", goal.min_success)]
    if goal.min_schema_pass is not None:
        asked.append(Constraint("schema", goal.min_schema_pass))
    if goal.max_p95_latency_s is not None:
        asked.append(Constraint("latency", 0.95))
    return tuple(asked)


def shares_of(lane: Lane, constraint: Constraint, goal: GoalSpec) -> tuple[Floats, Floats]:
    """Lower and upper share per case of what a constraint is on, `nan` where unknown; shape (n,) each."""
    if constraint.kind == "latency":
        within = np.where(np.isnan(lane.latency_s), np.nan, lane.latency_s <= (goal.max_p95_latency_s or 0.0))
        return within, within
    if constraint.kind == "schema":
        return lane.schema_pass, lane.schema_pass
    return lane.success_low, lane.success_high


class Evidence:
    """Log wealth of all bets of a race: the largest so far, which is what counts against 1/α, unless said otherwise."""

    def __init__(
        self,
        entrants: Sequence[Entrant],
        lanes: Mapping[str, Lane],
        goal: GoalSpec,
        clusters: Sequence[object] | None,
        *,
        delta: float,
    ) -> None:
        n = max((one.n for one in lanes.values()), default=0)
        self._at = {one.name: i for i, one in enumerate(entrants)}
        self._units = _Units(clusters, n)
        self.starts = self._units.starts
        """Where each case, or cluster of cases, begins; shape (n_units,)."""
        self.constraints = constraints_of(goal)

        def padded(columns: list[Floats]) -> Floats:
            return np.array([np.pad(one, (0, n - len(one)), constant_values=np.nan) for one in columns])

        in_order = [lanes[one.name] for one in entrants]
        shares = [[shares_of(one, asked, goal) for one in in_order] for asked in self.constraints]
        self._meets = [
            _above(self._units, padded([low for low, _ in some]), asked.least)
            for some, asked in zip(shares, self.constraints, strict=True)
        ]
        self._misses = [
            _above(self._units, 1 - padded([high for _, high in some]), 1 - asked.least)
            for some, asked in zip(shares, self.constraints, strict=True)
        ]
        costs = _Costs(
            entrants,
            self._units,
            success_low=padded([one.success_low for one in in_order]),
            success_high=padded([one.success_high for one in in_order]),
            variable=padded([one.cost_usd for one in in_order]),
        )
        self._cheaper = log_wealth(costs.scaled(0.0))
        self._near = _most_so_far(costs.scaled(delta))

    def cheaper(self, one: str, other: str, n: int) -> float:
        """That `one` costs less per success than `other`, after `n` cases; as it is then, so that it may be added up."""
        return self._of_pair(self._cheaper, one, other, n)

    def near(self, one: str, other: str, n: int) -> float:
        """That `one` costs at most delta more than `other`, after `n` cases."""
        return self._of_pair(self._near, one, other, n)

    def meets(self, name: str, n: int) -> float:
        """That an approach reaches all constraints: the least of the evidence for each."""
        return min(self._of_one(meets, name, n) for meets in self._meets)

    def misses(self, name: str, n: int) -> tuple[float, Constraint]:
        """The most there is of evidence that it misses one, and which."""
        found = [(self._of_one(misses, name, n), i) for i, misses in enumerate(self._misses)]
        most, at = max(found, key=lambda found: found[0])
        return most, self.constraints[at]

    def _of_pair(self, wealth: Floats, one: str, other: str, n: int) -> float:
        blocks = int(self._units.complete[n]) // 2
        return float(wealth[self._at[one], self._at[other], blocks - 1]) if blocks else -math.inf

    def _of_one(self, wealth: Floats, name: str, n: int) -> float:
        units = int(self._units.complete[n])
        return float(wealth[self._at[name], units - 1]) if units else -math.inf


# --- private ---------------------------------------------------------------------------------------------------------


class _Units:
    """What may be treated as independent: cases, or whole clusters of them, which stand next to each other."""

    def __init__(self, clusters: Sequence[object] | None, n: int) -> None:
        labels: list[object] = [*range(n)]
        if clusters is not None:
            labels = [i if cluster is None else (cluster,) for i, cluster in enumerate(clusters)]
        starts = [i for i, label in enumerate(labels) if i == 0 or label != labels[i - 1]]
        ends = [*starts[1:], len(labels)] if starts else []
        sizes = sorted(end - start for start, end in zip(starts, ends, strict=True))[-2:] or [1]
        self.starts = np.array([start for start in starts if start < n], dtype=np.intp)
        self._are_cases = len(self.starts) == n
        # Sizes are those of the whole race: a bound that followed the cases would bet more where clusters are small.
        self.largest = float(sizes[-1])
        self.largest_product = float(math.prod(sizes)) if len(sizes) > 1 else self.largest**2
        self.complete = np.searchsorted(np.array(ends, dtype=np.intp), np.arange(n + 1), side="right")
        """Units of which all cases are among the first so many cases, shape (n + 1,)."""

    def sums(self, values: Floats) -> Floats:
        """Sums over units; shapes (K, n) to (K, n_units)."""
        return values if self._are_cases else np.add.reduceat(values, self.starts, axis=-1)

    def maxima(self, values: Floats) -> Floats:
        """Largest values over units; shapes as above."""
        return values if self._are_cases else np.maximum.reduceat(values, self.starts, axis=-1)


class _Costs:
    """Full cost and success of all entrants per unit, at their best and at their worst; shapes (K, n_units)."""

    def __init__(
        self, entrants: Sequence[Entrant], units: _Units, *, success_low: Floats, success_high: Floats, variable: Floats
    ) -> None:
        fixed, factor, failed = (
            np.array([[getattr(one, name)] for one in entrants])
            for name in ("fixed_usd", "variable_factor", "failed_task_usd")
        )
        self._largest = SAFETY * _largest_before(units, variable)  # (K, n_blocks), infinite where none is known
        n_blocks = self._largest.shape[1]
        self._first, self._second = slice(0, 2 * n_blocks, 2), slice(1, 2 * n_blocks, 2)
        block_of_case = np.minimum(units.complete[:-1] // 2, max(0, n_blocks - 1))
        assumed = self._largest[:, block_of_case] if n_blocks else np.full_like(variable, np.inf)
        self._low, self._high = units.sums(success_low), units.sums(success_high)
        with np.errstate(invalid="ignore"):
            at_most, at_least = np.where(np.isnan(variable), assumed, variable), np.nan_to_num(variable, nan=0.0)
            self._cheap = units.sums(fixed + factor * at_least + failed * (1 - success_high))
            self._dear = units.sums(fixed + factor * at_most + failed * (1 - success_low))
            self._bound = (fixed + failed + factor * self._largest) * units.largest_product

    def scaled(self, margin: float) -> Floats:
        """X for row w and column x in units of its bound; shape (K, K, n_blocks)."""
        first, second = self._first, self._second
        low, dear = self._low[:, None], self._dear[:, None]
        high, cheap = self._high[None], (1 + margin) * self._cheap[None]
        with np.errstate(invalid="ignore", divide="ignore"):
            gain = cheap[..., first] * low[..., second] + cheap[..., second] * low[..., first]
            loss = dear[..., first] * high[..., second] + dear[..., second] * high[..., first]
            scaled = (gain - loss) / 2 / self._bound[:, None]
        # Nothing is bet where a cost is unknown (nan); who cannot cost anything (a bound of 0) bets at no risk.
        safe: Floats = np.nan_to_num(scaled, nan=0.0, posinf=1.0, neginf=-1.0)
        return safe


def _largest_before(units: _Units, variable: Floats) -> Floats:
    """Largest known variable cost in the blocks before each; infinite where there is none. Shape (K, n_blocks)."""
    largest = units.maxima(np.where(np.isnan(variable), -np.inf, variable))
    n_blocks = largest.shape[1] // 2
    by_block = np.maximum(largest[:, 0 : 2 * n_blocks : 2], largest[:, 1 : 2 * n_blocks : 2])
    so_far = np.maximum.accumulate(by_block, axis=1)
    before = np.concatenate([np.full((len(variable), 1), -np.inf), so_far[:, :-1]], axis=1)[:, :n_blocks]
    known: Floats = np.where(np.isneginf(before), np.inf, before)
    return known


def _above(units: _Units, shares: Floats, least: float) -> Floats:
    """That shares are above `least` on average; unknown ones count as 0. Shapes (K, n) to (K, n_units)."""
    excess = units.sums(np.nan_to_num(shares, nan=0.0) - least)
    # Against a share of 0 a single case is proof.
    without_risk = np.where(excess > 0, np.inf, 0.0)
    return _most_so_far(excess / (least * units.largest) if least > 0 else without_risk)


def _most_so_far(scaled: Floats) -> Floats:
    most: Floats = np.maximum.accumulate(log_wealth(scaled), axis=-1)
    return most
