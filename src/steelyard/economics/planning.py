"""Ledgers, break-evens, paybacks and sensitivity from summary figures: the same arithmetic as for outcomes, on other numbers.

Nothing here was measured, so ranges come from the stated range of the inputs (`money.assumed_range`, a factor either
way): each approach's fixed cost and the cost of its calls move on their own, what people's time and failed tasks cost
moves for all approaches alike. A success rate moves only where it says from how many cases it is. Quoted costs of
calls are held.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date

import numpy as np

from steelyard.economics.accounting import ledger_on
from steelyard.economics.basis import Basis
from steelyard.economics.costs import CostModel, Estimates, cost_model
from steelyard.economics.crossing import CostDraws, draws_of_model, find_break_even, point_of
from steelyard.economics.ledger import ApproachFacts, BreakEven, Changes, Ledger, Payback, VarianceShare, VolumeSweep
from steelyard.economics.payback import find_payback
from steelyard.economics.spec import MoneySpec
from steelyard.economics.summary import OutlookSpec, SummarySpec
from steelyard.economics.sweep import sweep_volumes
from steelyard.economics.variance import Spread, spread_of_rate, two_cheapest, variance_shares
from steelyard.figures import Figure, Provenance, unknown, weakest
from steelyard.measure.intervals import N_RESAMPLES, wilson
from steelyard.measure.scoring import in_ladder_order


def facts_of(name: str, summary: SummarySpec, outlook: OutlookSpec, *, file: str) -> ApproachFacts:
    """What the ledger has to know of an approach besides its rates."""
    changes = Changes(
        per_month=outlook.label_changes_per_month,
        edit_hours=outlook.edit_hours_per_change,
        relabelled=outlook.relabelled_per_change,
        stated_by=Provenance(kind="assumed", source=f"{file}: task"),
    )
    return ApproachFacts(
        name=name,
        levers=in_ladder_order(summary.levers),
        calls_model=summary.calls_model,
        n_labels=summary.labels,
        setup_cost_usd=summary.training_usd,
        price=_price_source(name, summary, file),
        batch_discount=summary.price_per_million.batch_discount if summary.price_per_million else None,
        authoring_hours=summary.authoring_hours,
        maintenance_hours_per_month=summary.maintenance_hours_per_month,
        changes=changes if changes.per_month else None,
        stated_by=stated_by(name, summary, file=file),
    )


def estimates_of(summary: SummarySpec, outlook: OutlookSpec, money: MoneySpec) -> Estimates:
    """Point estimates of an approach; each retry counts as one more call of the same length."""
    success = summary.schema_pass if summary.success is None else summary.success
    assert success is not None  # the section refuses a summary without either
    review_s = summary.review_seconds
    if review_s is None and summary.correction_rate is not None:
        review_s = money.review_seconds + summary.correction_rate * outlook.correction_seconds
    return Estimates(success=success, variable_usd=_call_usd(summary), review_s=review_s, n=summary.n or 0)


def stated_by(name: str, summary: SummarySpec, *, file: str) -> Provenance:
    """Provenance of the figures of one approach: quoted where it says from where and when, else assumed."""
    if summary.source is not None and summary.as_of is not None:
        return Provenance(kind="quoted", source=summary.source, as_of=summary.as_of.isoformat())
    return Provenance(kind="assumed", source=f"{file}: approaches.{name}")


def stated(value: float | None, what: str, provenance: Provenance, n: int | None = None) -> Figure:
    """A stated figure; a rate from `n` cases has its Wilson interval."""
    if value is None:
        return unknown(f"no {what} was given", provenance=provenance)
    interval = wilson(value, n) if n is not None else None
    return Figure(
        value=value,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        provenance=provenance,
    )


def plan_ledger(
    facts: ApproachFacts,
    summary: SummarySpec,
    outlook: OutlookSpec,
    money: MoneySpec,
    *,
    file: str,
    alpha: float = 0.05,
    seed: int = 0,
) -> Ledger:
    """The ledger of one approach; its ranges are those of this module."""
    estimates = estimates_of(summary, outlook, money)
    source = stated_by(facts.name, summary, file=file)
    drawn = draws_of(facts, summary, estimates, money, seed=seed)
    volume = money.volume_per_month
    success = stated(estimates.success, "success", source, summary.n)
    has_range = money.assumed_range > 1 or summary.n is not None
    review_formula, review_inputs = _review_of(summary, outlook, source, file)
    basis = Basis(
        estimates=estimates,
        variable_usd=Figure(value=estimates.variable_usd, provenance=weakest([source, facts.price])),
        success=success,
        review_formula=review_formula,
        review_inputs=review_inputs,
        cost_per_task=_ends(drawn.cost_per_task(volume), alpha) if has_range else (None, None),
        cost_per_success=_ends(drawn.cost_per_success(volume), alpha) if has_range else (None, None),
    )
    return ledger_on(basis, facts, money)


Known = Mapping[str, tuple[ApproachFacts, SummarySpec, Estimates]]
"""Approaches of a plan by name."""


def plan_break_even(
    a: str, b: str, known: Known, money: MoneySpec, *, as_of: date, alpha: float = 0.05, seed: int = 0
) -> BreakEven:
    """From or up to which monthly volume `a` costs less per successful task than `b`; both with some success."""
    at, over = _of_pair(a, b, known, money, seed)
    return find_break_even(a, b, at=at, over=over, as_of=as_of, alpha=alpha)


def plan_break_evens(
    known: Known, money: MoneySpec, *, as_of: date, alpha: float = 0.05, seed: int = 0
) -> tuple[BreakEven, ...]:
    """Break-even volumes of all pairs."""
    return tuple(
        plan_break_even(a, b, known, money, as_of=as_of, alpha=alpha, seed=seed)
        for a, b in itertools.combinations(known, 2)
    )


def plan_p_cheaper(a: str, b: str, known: Known, money: MoneySpec, *, seed: int = 0) -> float:
    """Share of the draws over the stated ranges in which a success of `a` costs less than one of `b` at the volume."""
    one, other = (draw.cost_per_success(money.volume_per_month) for draw in _of_pair(a, b, known, money, seed)[1]())
    return float((one < other).mean() + 0.5 * (one == other).mean())


def plan_payback(
    a: str, b: str, known: Known, money: MoneySpec, *, as_of: date, alpha: float = 0.05, seed: int = 0
) -> Payback:
    """Months until the one of two approaches that costs more at first has earned that back; both with some success."""
    at, over = _of_pair(a, b, known, money, seed)
    return find_payback(a, b, at=at, over=over, volume=money.volume_per_month, as_of=as_of, alpha=alpha)


def plan_paybacks(
    known: Known, money: MoneySpec, *, as_of: date, alpha: float = 0.05, seed: int = 0
) -> tuple[Payback, ...]:
    """Paybacks of all pairs; goes into `Economics.paybacks`."""
    return tuple(
        plan_payback(a, b, known, money, as_of=as_of, alpha=alpha, seed=seed)
        for a, b in itertools.combinations(known, 2)
    )


def plan_sweep(known: Known, money: MoneySpec) -> VolumeSweep | None:
    """Cost of one successful task over a range of volumes; goes into `Economics.sweep`."""
    return sweep_volumes({name: _point(known, name, money) for name in known}, money.volume_per_month)


def plan_shares(
    known: Known, ledgers: Sequence[Ledger], money: MoneySpec, *, seed: int = 0
) -> tuple[VarianceShare, ...]:
    """Shares of the variance between the two cheapest of `known`; goes into `Economics.shares`.

    A success rate moves only where it says from how many cases it is, and calls not where their price is quoted.
    """
    pair = two_cheapest([one for one in ledgers if one.approach in known])
    if pair is None:
        return ()
    spreads: dict[str, dict[str, Spread]] = {}
    for ledger in pair:
        facts, summary, estimates = known[ledger.approach]
        own = spreads.setdefault(ledger.approach, {})
        own["success"] = None if summary.n is None else spread_of_rate(estimates.success, summary.n)
        if facts.price.kind == "quoted":
            own["variable_usd"] = None
    return variance_shares(*pair, spreads=spreads, assumed_range=money.assumed_range, seed=seed)


def draws_of(
    facts: ApproachFacts, summary: SummarySpec, estimates: Estimates, money: MoneySpec, *, seed: int
) -> CostDraws:
    """Draws over the stated ranges; the same seed moves what the approaches share alike."""
    shared = np.random.default_rng([seed, 3])
    own = np.random.default_rng([seed, 4, *facts.name.encode()])
    reach = math.log(money.assumed_range)
    people = np.exp(shared.uniform(-reach, reach, N_RESAMPLES))
    fixed, calls = np.exp(own.uniform(-reach, reach, (2, N_RESAMPLES)))
    if facts.price.kind == "quoted":
        calls = np.ones(N_RESAMPLES)
    success = np.full(N_RESAMPLES, estimates.success)
    if summary.n is not None:  # Jeffreys posterior
        right = estimates.success * summary.n
        success = own.beta(right + 0.5, summary.n - right + 0.5, N_RESAMPLES)
    model: CostModel = cost_model(facts, estimates, money)
    people_usd = model.per_task_usd(success, np.zeros(N_RESAMPLES))  # review and failed tasks, without calls
    per_task_usd = estimates.variable_usd * model.variable_factor * calls + people_usd * people
    return draws_of_model(model, success, per_task_usd, fixed)


# --- private ---------------------------------------------------------------------------------------------------------


def _call_usd(summary: SummarySpec) -> float:
    """Calls and computing of one task in USD, retries included."""
    if summary.cost_per_task_usd is not None:
        return summary.cost_per_task_usd
    price = summary.price_per_million
    if price is None:
        return 0.0  # asks no model, and no cost was given
    once = (summary.prompt_tokens or 0.0) * price.input + (summary.completion_tokens or 0.0) * price.output
    return once / 1e6 * (1 + (summary.retry or 0.0))


def _point(known: Known, name: str, money: MoneySpec) -> CostDraws:
    facts, _, estimates = known[name]
    return point_of(cost_model(facts, estimates, money), estimates.success, estimates.variable_usd)


def _of_pair(
    a: str, b: str, known: Known, money: MoneySpec, seed: int
) -> tuple[tuple[CostDraws, CostDraws], Callable[[], tuple[CostDraws, CostDraws]]]:
    """Point estimates of two approaches, and their draws when they are asked for."""

    def drawn(name: str) -> CostDraws:
        facts, summary, estimates = known[name]
        return draws_of(facts, summary, estimates, money, seed=seed)

    return (_point(known, a, money), _point(known, b, money)), lambda: (drawn(a), drawn(b))


def _review_of(
    summary: SummarySpec, outlook: OutlookSpec, source: Provenance, file: str
) -> tuple[str, dict[str, Figure]]:
    """Seconds per review as arithmetic, and the inputs of it besides the money section."""
    if summary.review_seconds is not None:
        return "review_seconds", {"review_seconds": Figure(value=summary.review_seconds, provenance=source)}
    if summary.correction_rate is None:
        return "money__review_seconds", {}
    is_written = "correction_seconds" in outlook.model_fields_set
    where = f"{file}: task" if is_written else "default of task"
    return "money__review_seconds + correction_rate * task__correction_seconds", {
        "correction_rate": Figure(value=summary.correction_rate, provenance=source),
        "task__correction_seconds": Figure(
            value=outlook.correction_seconds,
            provenance=Provenance(kind="assumed", source=f"{where}.correction_seconds"),
        ),
    }


def _price_source(name: str, summary: SummarySpec, file: str) -> Provenance:
    price = summary.price_per_million
    if price is None:
        return stated_by(name, summary, file=file)
    if price.as_of is not None and "source" in price.model_fields_set:
        return Provenance(kind="quoted", source=price.source, as_of=price.as_of.isoformat())
    return Provenance(kind="assumed", source=f"{file}: approaches.{name}.price_per_million")


def _ends(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], alpha: float) -> tuple[float | None, float | None]:
    low, high = np.quantile(values, [alpha / 2, 1 - alpha / 2], method="inverted_cdf")
    return (float(low) if math.isfinite(low) else None, float(high) if math.isfinite(high) else None)
