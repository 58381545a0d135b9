"""Ledgers of all approaches, break-even volumes between them, and which assumed input the ranking hinges on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np

from steelyard.economics.accounting import ledger
from steelyard.economics.costs import CostModel, Estimates, cost_model, measure
from steelyard.economics.ledger import ApproachFacts, BreakEven, BreakEvenKind, Economics, Hinge
from steelyard.economics.spec import MoneySpec
from steelyard.measure.intervals import N_RESAMPLES, bootstrap_sums
from steelyard.measure.results import ApproachResults, Floats
from steelyard.measure.scoring import task_costs
from steelyard.models.spec import Section


@dataclass(frozen=True, kw_only=True, slots=True)
class Variation:
    """An assumed input that sensitivity varies."""

    field: str
    label: str
    highest: float = math.inf
    """Where the scale ends."""
    from_zero_to: float = 0.0
    """How far to go where the present value is 0 and four times of it would be nothing."""


VARIATIONS = (
    Variation(field="volume_per_month", label="tasks per month"),
    Variation(field="wage_per_hour_usd", label="wage per hour in USD"),
    Variation(field="failed_task_usd", label="cost of a failed task in USD", from_zero_to=5.0),
    Variation(field="review_share", label="share of answers a person looks at", highest=1.0),
    Variation(field="review_seconds", label="seconds per look at an answer"),
    Variation(field="horizon_months", label="months over which one-off work is written off"),
    Variation(field="authoring_hours", label="hours of building, all levers alike"),
    Variation(field="maintenance_hours_per_month", label="hours of maintenance, all levers alike"),
    Variation(field="labelling_seconds_per_case", label="seconds to label a case"),
    Variation(field="retraining_per_year", label="retrainings per year"),
    Variation(field="hosting_usd_per_month", label="hosting of a tuned model in USD per month", from_zero_to=1000.0),
)

FACTOR = 4.0
"""Inputs are varied from a quarter to four times their value."""

MOST_VOLUME = 1e8
"""A break-even beyond so many tasks a month is a rounding error between equal slopes, not a plan."""

STEPS = 24
"""Points tried on either side before the flip is pinned down by bisection."""


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

    With fixed cost F per month, other cost A per task and success rate p, the cost of a success is A/p + (F/p) / V,
    so the lines cross at V = (F_b/p_b - F_a/p_a) / (A_a/p_a - A_b/p_b), once or never. The range comes from the
    bootstrap over measured terms (paired where both did the same cases) and from moving each approach's fixed cost by
    a factor of up to `money.assumed_range` either way.
    """
    measured_a, measured_b = _known(a, facts_a), _known(b, facts_b)
    if measured_a is None or measured_b is None or min(measured_a.success, measured_b.success) == 0:
        sentence = f"The volume from which {a.name} beats {b.name} is unknown: a cost or a success is missing."
        return BreakEven(
            a=a.name, b=b.name, kind="unknown", volume=None, low=None, high=None, as_of=as_of.isoformat(),
            sentence=sentence,
        )  # fmt: skip
    model_a, model_b = cost_model(facts_a, measured_a, money), cost_model(facts_b, measured_b, money)
    point = _crossing(
        model_a, np.array([[measured_a.success, measured_a.variable_usd]]),
        model_b, np.array([[measured_b.success, measured_b.variable_usd]]),
    )  # fmt: skip
    kind, volume = _kind_of(float(point.a_slope[0]), float(point.a_fixed[0]))
    low = high = None
    if volume is not None:
        low, high = _range(kind, _draw_crossings(a, b, facts_a, facts_b, model_a, model_b, money, seed), alpha)
    sentence = _break_even_sentence(a.name, b.name, kind, volume, low, high, as_of)
    return BreakEven(
        a=a.name, b=b.name, kind=kind, volume=volume, low=low, high=high, as_of=as_of.isoformat(), sentence=sentence
    )  # fmt: skip


def sensitivity(known: Mapping[str, tuple[ApproachFacts, Estimates]], money: MoneySpec) -> tuple[Hinge, ...]:
    """Vary each assumed input alone, from a quarter to four times its value, and see whether the winner changes.

    Returns:
        One hinge per input that was varied; the nearest flip first, inputs that change nothing last. Empty with
        fewer than two approaches.
    """
    if len(known) < 2:
        return ()
    hinges = [hinge for variation in VARIATIONS if (hinge := _hinge(variation, known, money)) is not None]

    def distance(hinge: Hinge) -> float:
        if hinge.flips_at is None:
            return math.inf
        # A value of 0 has no factor; it counts as far as the scale goes.
        return abs(math.log(hinge.flips_at / hinge.value)) if hinge.value and hinge.flips_at else math.log(FACTOR)

    return tuple(sorted(hinges, key=distance))


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


# --- private ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Crossing:
    """`a` minus `b` per successful task is a_slope + a_fixed / V; shapes (n_draws,)."""

    a_slope: Floats
    a_fixed: Floats


def _known(results: ApproachResults, facts: ApproachFacts) -> Estimates | None:
    found = measure(results, facts)
    return None if isinstance(found, str) else found


def _crossing(
    model_a: CostModel,
    draws_a: Floats,
    model_b: CostModel,
    draws_b: Floats,
    factor_a: Floats | float = 1.0,
    factor_b: Floats | float = 1.0,
) -> _Crossing:
    """Draws have columns success rate and variable cost; factors multiply the fixed cost."""
    success_a, success_b = draws_a[:, 0], draws_b[:, 0]
    slope = model_a.per_task_usd(success_a, draws_a[:, 1]) / success_a
    slope -= model_b.per_task_usd(success_b, draws_b[:, 1]) / success_b
    fixed = model_a.fixed_usd_per_month * factor_a / success_a - model_b.fixed_usd_per_month * factor_b / success_b
    return _Crossing(a_slope=slope, a_fixed=np.asarray(fixed))


def _kind_of(slope: float, fixed: float) -> tuple[BreakEvenKind, float | None]:
    if slope <= 0 and fixed <= 0:
        # Equal in every respect is not cheaper.
        return ("never" if slope == 0 and fixed == 0 else "always"), None
    if slope >= 0 and fixed >= 0:
        return "never", None
    volume = -fixed / slope
    if volume > MOST_VOLUME:
        return ("never" if slope < 0 else "always"), None
    return ("from" if slope < 0 else "up_to"), volume


def _draw_crossings(
    a: ApproachResults,
    b: ApproachResults,
    facts_a: ApproachFacts,
    facts_b: ApproachFacts,
    model_a: CostModel,
    model_b: CostModel,
    money: MoneySpec,
    seed: int,
) -> _Crossing:
    rng = np.random.default_rng([seed, 2])
    reach = math.log(money.assumed_range)
    factors = np.exp(rng.uniform(-reach, reach, (2, N_RESAMPLES)))
    draws_a, draws_b = rate_and_cost_draws(a, facts_a, seed=seed), rate_and_cost_draws(b, facts_b, seed=seed)
    some = (draws_a[:, 0] > 0) & (draws_b[:, 0] > 0)
    return _crossing(model_a, draws_a[some], model_b, draws_b[some], factors[0, some], factors[1, some])


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


def _range(kind: str, crossing: _Crossing, alpha: float) -> tuple[float | None, float | None]:
    """Quantiles of the crossing volume, with 'always' and 'never' at the ends of the scale."""
    slope, fixed = crossing.a_slope, crossing.a_fixed
    if len(slope) == 0:
        return None, None
    if kind == "up_to":  # the same picture seen from b
        slope, fixed = -slope, -fixed
    volumes = np.where(slope < 0, np.maximum(0.0, -fixed / np.where(slope < 0, slope, -1.0)), np.inf)
    volumes[volumes > MOST_VOLUME] = np.inf
    # The other direction (cheaper only below some volume) never becomes cheaper by growing.
    low, high = np.quantile(volumes, [alpha / 2, 1 - alpha / 2], method="inverted_cdf")
    return (float(low) if math.isfinite(low) else None), (float(high) if math.isfinite(high) else None)


def _break_even_sentence(
    a: str, b: str, kind: str, volume: float | None, low: float | None, high: float | None, as_of: date
) -> str:
    day = as_of.isoformat()
    if volume is None:
        when = "at every volume" if kind == "always" else "at no volume"
        return f"{a} costs less per successful task than {b} {when} (as of {day})."
    # Beyond the scale, growing volume never makes `a` cheaper ("from"), or never makes it dearer ("up to").
    beyond = "never" if kind == "from" else "every volume"
    start = "the first task" if kind == "from" else "no volume"
    ends = [beyond if end is None else start if end == 0 else f"{end:,.0f}" for end in (low, high)]
    return (
        f"{a} costs less per successful task than {b} {'from' if kind == 'from' else 'up to'} about {volume:,.0f} tasks"
        f" a month (range: {ends[0]} to {ends[1]}; as of {day})."
    )


def _hinge(
    variation: Variation, known: Mapping[str, tuple[ApproachFacts, Estimates]], money: MoneySpec
) -> Hinge | None:
    present = _value_of(money, variation.field)
    winner = cheapest(known, money)
    if present == 0 and not variation.from_zero_to:
        return None
    found: list[tuple[float, float, str]] = []  # distance in steps, value, winner there
    for towards in (1 / FACTOR, FACTOR):
        flip = _first_flip(variation, known, money, present, towards, winner)
        if flip is not None:
            found.append(flip)
    _, flips_at, winner_then = min(found, default=(math.inf, None, None))
    return Hinge(
        name=f"money.{variation.field}",
        label=variation.label,
        value=present,
        flips_at=flips_at,
        winner=winner,
        winner_then=winner_then,
        sentence=_hinge_sentence(variation, present, flips_at, winner, winner_then),
    )


def _first_flip(
    variation: Variation,
    known: Mapping[str, tuple[ApproachFacts, Estimates]],
    money: MoneySpec,
    present: float,
    towards: float,
    winner: str,
) -> tuple[float, float, str] | None:
    def value_at(step: float) -> float:
        if present == 0:
            return variation.from_zero_to * step / STEPS
        return float(min(variation.highest, present * towards ** (step / STEPS)))

    def winner_at(step: float) -> str:
        return cheapest(known, _varied(money, variation.field, present, value_at(step)))

    if present == 0 and towards < 1:
        return None
    for step in range(1, STEPS + 1):
        if winner_at(step) == winner:
            continue
        inside, outside = float(step - 1), float(step)
        for _ in range(20):
            middle = (inside + outside) / 2
            if winner_at(middle) == winner:
                inside = middle
            else:
                outside = middle
        return outside, value_at(outside), winner_at(outside)
    return None


def _value_of(money: MoneySpec, field: str) -> float:
    value = getattr(money, field)
    # Hours of all levers move together, so their present value is the factor 1.
    return 1.0 if isinstance(value, Section) else float(value)


def _varied(money: MoneySpec, field: str, present: float, value: float) -> MoneySpec:
    now = getattr(money, field)
    if isinstance(now, Section):
        scaled = {lever: getattr(now, lever) * value / present for lever in type(now).model_fields}
        return money.model_copy(update={field: now.model_copy(update=scaled)})
    return money.model_copy(update={field: value})


def _hinge_sentence(
    variation: Variation, present: float, flips_at: float | None, winner: str, winner_then: str | None
) -> str:
    if flips_at is None:
        return f"{winner} stays the cheapest whatever the {variation.label}, within the range tried."
    is_factor = variation.field in ("authoring_hours", "maintenance_hours_per_month")
    side = "above" if flips_at > present else "below"
    if is_factor:
        return (
            f"{winner_then} becomes the cheapest when {variation.label}, are {side} {flips_at:.2f} times the present."
        )
    return f"{winner_then} becomes the cheapest when {variation.label} goes {side} {flips_at:,.4g} (now {_plain(present)})."


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
