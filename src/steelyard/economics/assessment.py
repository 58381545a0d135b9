"""Ledgers of all approaches, break-even volumes between them, and which assumed input the ranking hinges on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Mapping
from datetime import date

import numpy as np

from steelyard.economics.accounting import ledger
from steelyard.economics.costs import CostModel, Estimates, cost_model, measure
from steelyard.economics.crossing import CostDraws, find_break_even, point_of
from steelyard.economics.flips import Variation, hinge, nearest_first
from steelyard.economics.ledger import ApproachFacts, BreakEven, Economics, Hinge
from steelyard.economics.spec import MoneySpec
from steelyard.measure.intervals import N_RESAMPLES, bootstrap_sums
from steelyard.measure.results import ApproachResults, Floats
from steelyard.measure.scoring import task_costs
from steelyard.models.spec import Section

VARIATIONS = (
    Variation(field="volume_per_month", label="tasks per month"),
    Variation(field="wage_per_hour_usd", label="wage per hour in USD"),
    Variation(field="failed_task_usd", label="cost of a failed task in USD", from_zero_to=5.0),
    Variation(field="review_share", label="share of answers a person looks at", highest=1.0),
    Variation(field="review_seconds", label="seconds per look at an answer"),
    Variation(field="horizon_months", label="months over which one-off work is written off"),
    Variation(field="authoring_hours", label="hours of building, all levers alike", is_factor=True),
    Variation(field="maintenance_hours_per_month", label="hours of maintenance, all levers alike", is_factor=True),
    Variation(field="labelling_seconds_per_case", label="seconds to label a case"),
    Variation(field="retraining_per_year", label="retrainings per year"),
    Variation(field="hosting_usd_per_month", label="hosting of a tuned model in USD per month", from_zero_to=1000.0),
)


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
    known = {name: found for name in in_the_running if (found := _known(results[name], facts[name])) is not None}
    return Economics(
        ledgers=tuple(ledger(results[name], facts[name], money, alpha=alpha, seed=seed) for name in results),
        break_evens=tuple(
            break_even(results[a], results[b], facts[a], facts[b], money, as_of=as_of, alpha=alpha, seed=seed)
            for a, b in itertools.combinations(known, 2)
        ),
        hinges=sensitivity({name: (facts[name], measured) for name, measured in known.items()}, money),
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

    The range comes from the bootstrap over measured terms (paired where both did the same cases) and from moving each approach's fixed cost by
    a factor of up to `money.assumed_range` either way.
    """
    measured_a, measured_b = _known(a, facts_a), _known(b, facts_b)
    if measured_a is None or measured_b is None or min(measured_a.success, measured_b.success) == 0:
        sentence = f"The volume from which {a.name} beats {b.name} is unknown: a cost or a success is missing."
        return BreakEven(
            a=a.name, b=b.name, kind="unknown", volume=None, low=None, high=None, as_of=as_of.isoformat(),
            sentence=sentence,
        )  # fmt: skip
    models = cost_model(facts_a, measured_a, money), cost_model(facts_b, measured_b, money)
    return find_break_even(
        a.name,
        b.name,
        at=(
            point_of(models[0], measured_a.success, measured_a.variable_usd),
            point_of(models[1], measured_b.success, measured_b.variable_usd),
        ),
        over=lambda: _draws(((a, facts_a, models[0]), (b, facts_b, models[1])), money, seed),
        as_of=as_of,
        alpha=alpha,
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


# --- private ---------------------------------------------------------------------------------------------------------


def _known(results: ApproachResults, facts: ApproachFacts) -> Estimates | None:
    found = measure(results, facts)
    return None if isinstance(found, str) else found


def _draws(
    both: tuple[tuple[ApproachResults, ApproachFacts, CostModel], tuple[ApproachResults, ApproachFacts, CostModel]],
    money: MoneySpec,
    seed: int,
) -> tuple[CostDraws, CostDraws]:
    """Bootstrap over what was measured, and the stated range of what was assumed, for two approaches."""
    rng = np.random.default_rng([seed, 2])
    reach = math.log(money.assumed_range)
    factors = np.exp(rng.uniform(-reach, reach, (2, N_RESAMPLES)))
    found = []
    for (results, facts, model), factor in zip(both, factors, strict=True):
        drawn = rate_and_cost_draws(results, facts, seed=seed)
        found.append(
            CostDraws(
                success=drawn[:, 0],
                per_task_usd=model.per_task_usd(drawn[:, 0], drawn[:, 1]),
                fixed_usd_per_month=model.fixed_usd_per_month * factor,
            )
        )
    return found[0], found[1]


def rate_and_cost_draws(results: ApproachResults, facts: ApproachFacts, *, seed: int) -> Floats:
    """Bootstrap draws of success rate and variable cost per task, shape (n_resamples, 2).

    The same seed resamples the same cases for every approach that did the same cases, which is what pairs them.
    """
    costs = task_costs(results, facts.price)
    assert costs.usd is not None  # callers have measured first
    scored = (~np.isnan(results.success)).astype(np.float64)
    sums = results.cluster_sums(np.nan_to_num(results.success), scored, costs.usd, np.ones(results.n))
    drawn = bootstrap_sums(sums, seed=seed)
    # A resample without any scored case says nothing about success: it counts as none.
    success = np.divide(drawn[:, 0], drawn[:, 1], out=np.zeros(len(drawn)), where=drawn[:, 1] > 0)
    return np.column_stack([success, drawn[:, 2] / drawn[:, 3]])
