"""Ledgers of all approaches, break-evens and paybacks between them, and which inputs the ranking hinges on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np

from steelyard.economics.accounting import ledger
from steelyard.economics.costs import CostModel, Estimates, cost_model, measure
from steelyard.economics.crossing import CostDraws, draws_of_model, find_break_even, point_of
from steelyard.economics.flips import Variation, hinge, nearest_first, varying
from steelyard.economics.ledger import ApproachFacts, BreakEven, Economics, Hinge, Ledger, Payback, VarianceShare
from steelyard.economics.payback import find_payback, unknown_payback
from steelyard.economics.spec import MoneySpec
from steelyard.economics.sweep import sweep_volumes
from steelyard.economics.variance import Spread, spread_of_draws, spread_of_rate, two_cheapest, variance_shares
from steelyard.measure.intervals import N_RESAMPLES, bootstrap_sums, effective_n
from steelyard.measure.layout import Floats
from steelyard.measure.results import ApproachResults
from steelyard.measure.scoring import task_costs
from steelyard.models.spec import Section

VARIATIONS = (
    varying("volume_per_month"),
    varying("wage_per_hour_usd"),
    varying("failed_task_usd", from_zero_to=5.0),
    varying("review_share", highest=1.0),
    varying("review_seconds"),
    varying("horizon_months"),
    varying("authoring_hours", is_factor=True),
    varying("maintenance_hours_per_month", is_factor=True),
    varying("labelling_seconds_per_case"),
    varying("retraining_per_year"),
    varying("hosting_usd_per_month", from_zero_to=1000.0),
    varying("reindex_per_month"),
    varying("batch_share", highest=1.0),
)
"""Fields of the money section that sensitivity varies."""


def assess(
    results: Mapping[str, ApproachResults],
    facts: Mapping[str, ApproachFacts],
    money: MoneySpec,
    *,
    as_of: date,
    candidates: Collection[str] | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> Economics:
    """Everything money says about a set of approaches.

    Args:
        results: Outcomes by approach name.
        facts: What else is known, by the same names.
        money: The money section.
        as_of: Day of the assessment.
        candidates: Approaches that may win; left out, all. Break-even and sensitivity look at these only.
        alpha: One minus the confidence level.
        seed: Of all resampling.
    """
    in_the_running = [name for name in results if candidates is None or name in candidates]
    costed = {
        name: found
        for name in in_the_running
        if (found := _costed(results[name], facts[name], money, seed=seed)) is not None
    }
    ledgers = tuple(ledger(results[name], facts[name], money, alpha=alpha, seed=seed) for name in results)
    pairs = tuple(itertools.combinations(costed.values(), 2))
    return Economics(
        ledgers=ledgers,
        break_evens=tuple(_break_even(a, b, money, as_of=as_of, alpha=alpha, seed=seed) for a, b in pairs),
        hinges=sensitivity({name: (one.facts, one.estimates) for name, one in costed.items()}, money),
        paybacks=tuple(_payback(a, b, money, as_of=as_of, alpha=alpha, seed=seed) for a, b in pairs),
        shares=_shares(costed, ledgers, money, seed=seed),
        sweep=sweep_volumes(
            {name: one.point for name, one in costed.items() if one.estimates.success > 0}, money.volume_per_month
        ),
    )


def break_even(
    a: ApproachResults,
    b: ApproachResults,
    facts_a: ApproachFacts,
    facts_b: ApproachFacts,
    money: MoneySpec,
    *,
    as_of: date,
    alpha: float = 0.05,
    seed: int = 0,
) -> BreakEven:
    """Monthly volume at which two approaches cost the same per successful task.

    The range comes from the bootstrap over measured terms (paired where both did the same cases) and from moving each
    approach's fixed cost by a factor of up to `money.assumed_range` either way.
    """
    return _break_even(
        _costed(a, facts_a, money, seed=seed) or a.name,
        _costed(b, facts_b, money, seed=seed) or b.name,
        money,
        as_of=as_of,
        alpha=alpha,
        seed=seed,
    )


def payback(
    a: ApproachResults,
    b: ApproachResults,
    facts_a: ApproachFacts,
    facts_b: ApproachFacts,
    money: MoneySpec,
    *,
    as_of: date,
    alpha: float = 0.05,
    seed: int = 0,
) -> Payback:
    """Months until the one of two approaches that costs more at first has earned that back (`economics.payback`).

    The range is that of `break_even`.
    """
    return _payback(
        _costed(a, facts_a, money, seed=seed) or a.name,
        _costed(b, facts_b, money, seed=seed) or b.name,
        money,
        as_of=as_of,
        alpha=alpha,
        seed=seed,
    )


def sensitivity(known: Mapping[str, tuple[ApproachFacts, Estimates]], money: MoneySpec) -> tuple[Hinge, ...]:
    """Vary each assumed input alone, from a quarter to four times its value, and see whether the winner changes.

    Returns:
        One hinge per input that was varied; the nearest flip first, inputs that change nothing last. Empty with
        fewer than two approaches.
    """
    if len(known) < 2:
        return ()

    def winner_at(variation: Variation, present: float) -> Callable[[float], str]:
        return lambda value: cheapest(known, varied(money, variation.field, present, value))

    found = []
    for variation in VARIATIONS:
        present = value_of(money, variation.field)
        found.append(hinge(variation, present, winner_at(variation, present), name=f"money.{variation.field}"))
    return nearest_first(one for one in found if one is not None)


def cheapest(known: Mapping[str, tuple[ApproachFacts, Estimates]], money: MoneySpec) -> str:
    """The approach with the lowest cost of one successful task at the point estimates."""

    def cost(name: str) -> float:
        facts, measured = known[name]
        if measured.success == 0:
            return math.inf
        return cost_model(facts, measured, money).cost_per_task(measured.success, measured.variable_usd) / (
            measured.success
        )

    return min(known, key=lambda name: (cost(name), name))


def value_of(money: MoneySpec, field: str) -> float:
    """A field of the money section as one number; 1 for a section of hours, which is varied by a factor."""
    value = getattr(money, field)
    # Hours of all levers move together, so their present value is the factor 1.
    return 1.0 if isinstance(value, Section) else float(value)


def varied(money: MoneySpec, field: str, present: float, value: float) -> MoneySpec:
    """The money section with one field at another value; a section of hours is scaled by value over present."""
    now = getattr(money, field)
    if isinstance(now, Section):
        scaled = {lever: getattr(now, lever) * value / present for lever in type(now).model_fields}
        return money.model_copy(update={field: now.model_copy(update=scaled)})
    return money.model_copy(update={field: value})


def rate_and_cost_draws(results: ApproachResults, facts: ApproachFacts, model: CostModel, *, seed: int) -> Floats:
    """Bootstrap draws of success rate and variable cost per task, shape (n_resamples, 2).

    The same seed resamples the same cases for every approach that did the same cases, which is what pairs them. Timed
    reviews vary with the cases too: what a resample's mean review costs above the measured mean is in the variable cost.
    """
    costs = task_costs(results, facts.price)
    assert costs.usd is not None  # callers have measured first
    scored = (~np.isnan(results.success)).astype(np.float64)
    timed = (~np.isnan(results.review_seconds)).astype(np.float64)
    sums = results.cluster_sums(
        np.nan_to_num(results.success),
        scored,
        costs.usd,
        np.ones(results.n),
        np.nan_to_num(results.review_seconds),
        timed,
    )
    drawn = bootstrap_sums(sums, seed=seed)
    # A resample without any scored case says nothing about success: it counts as none.
    success = np.divide(drawn[:, 0], drawn[:, 1], out=np.zeros(len(drawn)), where=drawn[:, 1] > 0)
    variable = drawn[:, 2] / drawn[:, 3]
    mean_s = float(np.nanmean(results.review_seconds)) if timed.any() else 0.0
    if mean_s > 0 and model.variable_factor > 0:
        review_s = np.divide(drawn[:, 4], drawn[:, 5], out=np.full(len(drawn), mean_s), where=drawn[:, 5] > 0)
        variable = variable + model.review_usd_per_task * (review_s / mean_s - 1) / model.variable_factor
    return np.column_stack([success, variable])


# --- private ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Costed:
    """An approach whose cost is known, with the draws that everything here shares."""

    name: str
    results: ApproachResults
    facts: ApproachFacts
    estimates: Estimates
    model: CostModel
    seed: int

    @cached_property
    def point(self) -> CostDraws:
        """The point estimates."""
        return point_of(self.model, self.estimates.success, self.estimates.variable_usd)

    @cached_property
    def drawn(self) -> Floats:
        """Bootstrap draws of success rate and variable cost, shape (n_resamples, 2)."""
        return rate_and_cost_draws(self.results, self.facts, self.model, seed=self.seed)

    def draws(self, factor: Floats) -> CostDraws:
        """Bootstrap over what was measured; `factor` is what the assumed fixed cost is off by."""
        success, variable = self.drawn[:, 0], self.drawn[:, 1]
        return draws_of_model(self.model, success, self.model.per_task_usd(success, variable), factor)

    def spreads(self) -> dict[str, Spread]:
        """What the cases leave open of success and variable cost."""
        n = effective_n(self.results.success_low, self.results.cluster)
        return {
            "success": spread_of_rate(self.estimates.success, n),
            "variable_usd": spread_of_draws(self.drawn[:, 1]),
        }


def _costed(results: ApproachResults, facts: ApproachFacts, money: MoneySpec, *, seed: int) -> _Costed | None:
    found = measure(results, facts)
    if isinstance(found, str):
        return None
    return _Costed(
        name=results.name,
        results=results,
        facts=facts,
        estimates=found,
        model=cost_model(facts, found, money),
        seed=seed,
    )


def _over(a: _Costed, b: _Costed, money: MoneySpec, seed: int) -> Callable[[], tuple[CostDraws, CostDraws]]:
    """Draws of two approaches, when they are asked for."""

    def draw() -> tuple[CostDraws, CostDraws]:
        reach = math.log(money.assumed_range)
        factors = np.exp(np.random.default_rng([seed, 2]).uniform(-reach, reach, (2, N_RESAMPLES)))
        return a.draws(factors[0]), b.draws(factors[1])

    return draw


def _break_even(
    a: _Costed | str, b: _Costed | str, money: MoneySpec, *, as_of: date, alpha: float, seed: int
) -> BreakEven:
    """As `break_even`; an approach whose cost is not known is just its name."""
    if not isinstance(a, str) and not isinstance(b, str) and min(a.estimates.success, b.estimates.success) > 0:
        over = _over(a, b, money, seed)
        return find_break_even(a.name, b.name, at=(a.point, b.point), over=over, as_of=as_of, alpha=alpha)
    names = [one if isinstance(one, str) else one.name for one in (a, b)]
    return BreakEven(
        a=names[0],
        b=names[1],
        kind="unknown",
        volume=None,
        low=None,
        high=None,
        as_of=as_of.isoformat(),
        sentence=f"The volume from which {names[0]} beats {names[1]} is unknown: a cost or a success is missing.",
    )


def _payback(a: _Costed | str, b: _Costed | str, money: MoneySpec, *, as_of: date, alpha: float, seed: int) -> Payback:
    """As `payback`; an approach whose cost is not known is just its name."""
    if not isinstance(a, str) and not isinstance(b, str) and min(a.estimates.success, b.estimates.success) > 0:
        over, volume = _over(a, b, money, seed), money.volume_per_month
        return find_payback(a.name, b.name, at=(a.point, b.point), over=over, volume=volume, as_of=as_of, alpha=alpha)
    names = [one if isinstance(one, str) else one.name for one in (a, b)]
    return unknown_payback(names[0], names[1], as_of=as_of)


def _shares(
    costed: Mapping[str, _Costed], ledgers: Sequence[Ledger], money: MoneySpec, *, seed: int
) -> tuple[VarianceShare, ...]:
    """Shares of the variance between the two cheapest."""
    pair = two_cheapest([one for one in ledgers if one.approach in costed])
    if pair is None:
        return ()
    spreads = {one.approach: costed[one.approach].spreads() for one in pair}
    return variance_shares(*pair, spreads=spreads, assumed_range=money.assumed_range, seed=seed)
