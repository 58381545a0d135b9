"""Who is best, how likely, and what being wrong costs: one joint bootstrap over cases.

In each of the resamples the same cases are drawn for all approaches, so what they share cancels out; one case more of
which nothing is known keeps a handful of cases from looking like certainty. An approach
satisfies the goal in a share of the resamples equal to its probability of doing so (Jeffreys posterior on its
effective number of cases), and these are the resamples in which it succeeds most often. The best one of a resample
is the cheapest per successful task among those satisfying the goal.

The loss of choosing an approach is, in a resample where another is best, the difference in cost per successful task
times its successful tasks per month; where it misses the goal and another does not, all it costs in a month, since
what it delivers does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from steelyard.decision.spec import GoalSpec
from steelyard.economics.assessment import rate_and_cost_draws
from steelyard.economics.costs import cost_model, measure
from steelyard.economics.ledger import ApproachFacts
from steelyard.economics.spec import MoneySpec
from steelyard.measure.intervals import effective_n
from steelyard.measure.results import ApproachResults, Floats

SURELY_OUT = 0.05
"""An approach that satisfies the goal with less than this probability is out of the running."""


@dataclass(frozen=True, kw_only=True)
class JointDraws:
    """Costs and constraint satisfaction of the candidates in every resample; shapes (n_resamples, n_approaches)."""

    names: tuple[str, ...]
    n_cases: int
    """Cases all of them did."""
    cost_per_success: Floats
    successes_per_month: Floats
    meets_goal: NDArray[np.bool_]

    @cached_property
    def best_cost(self) -> Floats:
        """Lowest cost among those meeting the goal, infinite where none does; shape (n_resamples,)."""
        lowest: Floats = np.where(self.meets_goal, self.cost_per_success, np.inf).min(axis=1)
        return lowest

    @cached_property
    def p_best(self) -> Floats:
        """Probability of being best, ties shared; shape (n_approaches,). Sums to less than 1 where none meets the goal."""
        is_best: NDArray[np.bool_] = np.logical_and(self.meets_goal, self.cost_per_success <= self.best_cost[:, None])
        winners = is_best.sum(axis=1, keepdims=True)
        shares: Floats = np.divide(is_best, winners, out=np.zeros(is_best.shape), where=winners > 0).mean(axis=0)
        return shares

    @cached_property
    def monthly_loss(self) -> Floats:
        """USD per month that choosing each costs, per resample; shape (n_resamples, n_approaches)."""
        with np.errstate(invalid="ignore"):  # infinity less infinity where nothing succeeds, replaced below
            excess = np.where(self.meets_goal, self.cost_per_success - self.best_cost[:, None], self.cost_per_success)
            loss = np.where(self._any_feasible, excess * self.successes_per_month, 0.0)
        # No success at all: infinite cost of no tasks. What is lost then is the monthly bill, which is finite.
        finite: Floats = np.where(np.isfinite(loss), loss, self.monthly_cost.max())
        return finite

    @cached_property
    def expected_monthly_loss(self) -> Floats:
        """USD per month that choosing each costs on average; shape (n_approaches,)."""
        average: Floats = self.monthly_loss.mean(axis=0)
        return average

    def p_loses_more(self, name: str, share: float) -> float:
        """Probability that an approach misses the goal or costs more than this share of its monthly cost beyond the best."""
        at = self.names.index(name)
        loses_more = self.monthly_loss[:, at] > share * self.monthly_cost[at]
        # Where nobody meets the goal nothing is lost against the best, but the choice is not right either.
        return float(np.logical_or(loses_more, ~self.meets_goal[:, at]).mean())

    @cached_property
    def monthly_cost(self) -> Floats:
        """USD per month, shape (n_approaches,), over the resamples with any success."""
        with np.errstate(invalid="ignore"):
            cost = np.where(self.successes_per_month > 0, self.cost_per_success * self.successes_per_month, 0.0)
        average: Floats = cost.mean(axis=0)
        return average

    def loss_of(self, name: str) -> float:
        """Expected monthly loss of one approach, in USD."""
        return float(self.expected_monthly_loss[self.names.index(name)])

    def p_cheaper(self, one: str, other: str) -> float:
        """Probability that `one` is the better of two: cheaper while meeting the goal, or alone in meeting it."""
        i, j = self.names.index(one), self.names.index(other)
        cost = np.where(self.meets_goal, self.cost_per_success, np.inf)
        return float((cost[:, i] < cost[:, j]).mean() + 0.5 * (cost[:, i] == cost[:, j]).mean())

    def cost_difference(self, one: str, other: str) -> Floats:
        """Cost per success of `one` minus that of `other`, per resample with successes of both."""
        both = self.cost_per_success[:, [self.names.index(one), self.names.index(other)]]
        both = both[np.isfinite(both).all(axis=1)]
        difference: Floats = both[:, 0] - both[:, 1]
        return difference

    @cached_property
    def _any_feasible(self) -> NDArray[np.bool_]:
        any_feasible: NDArray[np.bool_] = np.asarray(self.meets_goal.any(axis=1, keepdims=True))
        return any_feasible


def draw_jointly(
    results: Mapping[str, ApproachResults],
    facts: Mapping[str, ApproachFacts],
    money: MoneySpec,
    goal: GoalSpec,
    names: Sequence[str],
    *,
    seed: int,
) -> JointDraws:
    """Resample the cases jointly for the named approaches.

    Args:
        results: Outcomes on the same cases for all (`on_common_cases`), with known costs.
        facts: Levers and setup by name.
        money: The money section.
        goal: Constraints.
        names: The candidates, at least one.
        seed: Of the resampling.
    """
    costs, successes, meets = [], [], []
    for name in names:
        measured = measure(results[name], facts[name])
        assert not isinstance(measured, str)  # candidates have known costs
        model = cost_model(facts[name], measured, money)
        draws = rate_and_cost_draws(results[name], facts[name], model, seed=seed)
        success, variable = _with_one_unseen(draws[:, 0], results[name], seed=seed), draws[:, 1]
        costs.append(model.cost_per_success(success, variable))
        successes.append(success * money.volume_per_month)
        probability = p_meets_goal(results[name], goal)
        # Resamples in order of success, the least successful first; ties keep their order, so the draw is repeatable.
        rank = np.argsort(np.argsort(success, kind="stable"), kind="stable")
        meets.append(rank >= (1 - (probability if probability is not None else 0.0)) * len(success))
    return JointDraws(
        names=tuple(names),
        n_cases=results[names[0]].n,
        cost_per_success=np.column_stack(costs),
        successes_per_month=np.column_stack(successes),
        meets_goal=np.column_stack(meets),
    )


def p_meets_goal(results: ApproachResults, goal: GoalSpec) -> float | None:
    """Probability that an approach satisfies all constraints, taken as independent of each other.

    Each constraint is a share of cases: successes, schema passes, cases within the latency. Its probability is the
    upper tail of the Jeffreys posterior Beta(k + ½, n - k + ½), with n the effective number of cases. Unscored cases
    count half.

    Returns:
        1 without constraints; `None` when a constraint is on something that was not recorded.
    """
    asked: list[tuple[Floats, float]] = []
    if goal.min_success is not None:
        asked.append(((results.success_low + results.success_high) / 2, goal.min_success))
    if goal.min_schema_pass is not None:
        asked.append((results.schema_pass, goal.min_schema_pass))
    if goal.max_p95_latency_s is not None:
        within = np.where(np.isnan(results.latency_s), np.nan, results.latency_s <= goal.max_p95_latency_s)
        asked.append((within, 0.95))
    probability = 1.0
    for shares, least in asked:
        if np.isnan(shares).any() or results.n == 0:
            return None
        probability *= _p_share_at_least(shares, least, results)
    return probability


# --- private ---------------------------------------------------------------------------------------------------------


def _with_one_unseen(success: Floats, results: ApproachResults, *, seed: int) -> Floats:
    """Draws of a success rate with one more case added of which nothing is known.

    A resample cannot show what no case has shown: five successes of five would be success for sure. The Jeffreys
    posterior Beta(k + ½, n - k + ½) can, and is W · Beta(k, n - k) + (1 - W) · Beta(½, ½) with W from Beta(n, 1). Here
    the resamples stand in for Beta(k, n - k), so what the approaches share still cancels out; the unseen case is each
    approach's own. At hundreds of cases it changes nothing.
    """
    generator = np.random.default_rng([seed, 6, *results.name.encode()])
    n = max(1.0, effective_n(results.success_low, results.cluster))
    seen = generator.beta(n, 1.0, len(success))
    drawn: Floats = seen * success + (1 - seen) * generator.beta(0.5, 0.5, len(success))
    return drawn


def _p_share_at_least(shares: Floats, least: float, results: ApproachResults) -> float:
    from scipy.special import betainc

    n = effective_n(shares, results.cluster)
    k = float(shares.mean()) * n
    return float(1 - betainc(k + 0.5, n - k + 0.5, least))
