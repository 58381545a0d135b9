"""Ledgers: the full cost of one successful task, line by line, each with its provenance (design section 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from steelyard.economics.basis import Basis, Reach
from steelyard.economics.costs import CostModel, cost_model, measure
from steelyard.economics.ledger import TERMS, ApproachFacts, Ledger, LedgerLine, StepCost, TermName
from steelyard.economics.lines import lines_apart, lines_of
from steelyard.economics.spec import MoneySpec
from steelyard.figures import Figure, Provenance, unknown, weakest
from steelyard.measure.intervals import MIN_CASES, bca_interval, effective_n, mean_interval, wilson
from steelyard.measure.layout import Floats
from steelyard.measure.results import ApproachResults
from steelyard.measure.scoring import success_rate, task_costs

REST = "own computing and rounding"
"""What the calls of the steps leave of the measured cost of a task."""


def ledger(
    results: ApproachResults, facts: ApproachFacts, money: MoneySpec, *, alpha: float = 0.05, seed: int = 0
) -> Ledger:
    """The ledger of one approach.

    Interval of the cost of one successful task: BCa bootstrap over cases of success and variable cost together;
    assumed inputs are held at their values, because their uncertainty is shown as sensitivity. Where cases are
    unscored it reaches from all of them right to all of them wrong.

    Args:
        results: Its outcomes.
        facts: Levers, labels and setup of the approach.
        money: The money section.
        alpha: One minus the confidence level.
        seed: Of the bootstrap.

    Returns:
        A ledger whose amounts are unknown, with the reason, where a price or a score is missing.
    """
    measured = measure(results, facts)
    if isinstance(measured, str):
        return _unknown_ledger(facts, money, measured)
    model = cost_model(facts, measured, money)
    costs = task_costs(results, facts.price)
    assert costs.usd is not None  # measured, or we would not be here
    variable = mean_interval(costs.usd, results.cluster, seed=seed, alpha=alpha)
    reach = (variable.low, variable.high) if variable else (None, None)
    basis = Basis(
        estimates=measured,
        variable_usd=_figure(measured.variable_usd, reach, costs.provenance),
        success=success_rate(results, alpha=alpha),
        review_formula="money__review_seconds" if measured.review_s is None else "review_seconds",
        review_inputs={} if measured.review_s is None else {"review_seconds": Figure(value=measured.review_s)},
        seconds_per_task=_mean_of_known(results.latency_s),
        judge_usd_per_case=(
            _mean_of_known(results.judge_usd)
            if facts.judge_usd_per_case is None
            else Figure(value=facts.judge_usd_per_case, provenance=facts.stated_by)
        ),
        cost_per_task=_bootstrap_reach(results, facts, model, per_success=False, alpha=alpha, seed=seed),
        cost_per_success=_bootstrap_reach(results, facts, model, per_success=True, alpha=alpha, seed=seed),
    )
    return ledger_on(basis, facts, money)


def ledger_on(basis: Basis, facts: ApproachFacts, money: MoneySpec) -> Ledger:
    """The ledger of one approach on any basis: every line with its working, the terms, the totals."""
    estimates = basis.estimates
    model = cost_model(facts, estimates, money)
    lines = lines_of(basis, facts, money)
    total_provenance = _combined(lines)
    per_task = model.cost_per_task(estimates.success, estimates.variable_usd)
    nothing = f"none of {estimates.n} cases succeeded" if estimates.n else "no task succeeds"
    per_success = unknown(nothing, provenance=total_provenance)
    if estimates.success > 0:
        per_success = _figure(per_task / estimates.success, basis.cost_per_success, total_provenance)
    volume = money.volume_per_month
    terms = {term: _term_total(lines, term) for term in TERMS}
    if basis.variable_usd.low is not None:  # one measured figure moves all its lines, so the sum keeps its interval
        calls = volume * model.variable_factor
        reach = _times(calls, (basis.variable_usd.low, basis.variable_usd.high))
        terms["variable"] = _figure(calls * estimates.variable_usd, reach, terms["variable"].provenance)
    return Ledger(
        approach=facts.name,
        volume_per_month=volume,
        horizon_months=money.horizon_months,
        lines=lines,
        terms=terms,
        total_usd_per_month=_figure(per_task * volume, _times(volume, basis.cost_per_task), total_provenance),
        cost_per_task_usd=_figure(per_task, basis.cost_per_task, total_provenance),
        cost_per_success_usd=per_success,
        setup_usd=Figure(
            value=model.setup_usd,
            provenance=_combined([line for line in lines if line.term == "setup"]),
        ),
        apart=lines_apart(basis, facts, money),
        steps=_steps(facts, estimates.variable_usd),
    )


# --- private ---------------------------------------------------------------------------------------------------------


def _bootstrap_reach(
    results: ApproachResults, facts: ApproachFacts, model: CostModel, *, per_success: bool, alpha: float, seed: int
) -> tuple[float | None, float | None]:
    costs = task_costs(results, facts.price)
    assert costs.usd is not None  # measured, or we would not be here

    def statistic(sums: Floats) -> Floats:  # columns: cost, successes, cases
        success, variable = sums[:, 1] / sums[:, 2], sums[:, 0] / sums[:, 2]
        return model.cost_per_success(success, variable) if per_success else model.cost_per_task(success, variable)

    ends = []
    # More successes mean cheaper ones, so the optimistic count gives the lower end.
    for counted in (results.success_high, results.success_low):
        sums = results.cluster_sums(costs.usd, counted, np.ones(results.n))
        ends.append(bca_interval(sums, statistic, seed=seed, alpha=alpha))
        if results.n_unscored == 0:
            ends *= 2
            break
    optimistic, pessimistic = ends
    low, high = optimistic.low if optimistic else None, pessimistic.high if pessimistic else None
    n = effective_n(results.success_low, results.cluster, alpha=alpha)
    if per_success and results.success_low.min() >= 1 and n >= MIN_CASES:
        # No resample holds a failure where no case did: the rate may still be as low as Wilson's end.
        cost, dearest = float(costs.usd.mean()), np.array([wilson(1.0, n, alpha=alpha).low])
        low = float(model.cost_per_success(np.ones(1), np.array([cost]))[0]) if low is None else low
        high = max(high or 0.0, float(model.cost_per_success(dearest, np.array([cost]))[0]))
    return low, high


def _mean_of_known(values: Floats) -> Figure | None:
    known = values[~np.isnan(values)]
    return Figure(value=float(known.mean())) if len(known) else None


def _steps(facts: ApproachFacts, variable_usd: float) -> tuple[StepCost, ...]:
    """The steps of an approach, with what is left of its cost as the last, so that they sum up to it."""
    if not facts.step_costs:
        return ()
    rest = variable_usd - math.fsum(step.usd for step in facts.step_costs if step.usd is not None)
    if abs(rest) <= 1e-9 * variable_usd:
        return facts.step_costs
    return (*facts.step_costs, StepCost(step=REST, calls=0, prompt_tokens=0, completion_tokens=0, seconds=0, usd=rest))


def _figure(value: float, reach: Sequence[float | None], provenance: Provenance) -> Figure:
    low, high = reach
    return Figure(value=value, low=low, high=high, provenance=provenance)


def _times(factor: float, reach: Reach) -> Reach:
    low, high = reach
    return (None if low is None else factor * low, None if high is None else factor * high)


def _term_total(lines: Sequence[LedgerLine], term: TermName) -> Figure:
    figures = [line.usd_per_month for line in lines if line.term == term]
    known = [figure for figure in figures if figure.value is not None]
    if not known:
        return figures[0]
    # Only single-line terms (variable, failure) carry an interval, so nothing is lost by dropping it in sums.
    if len(figures) == 1:
        return figures[0]
    return Figure(
        value=math.fsum(figure.value for figure in known if figure.value is not None),
        provenance=_combined([line for line in lines if line.term == term]),
    )


def _combined(lines: Sequence[LedgerLine]) -> Provenance:
    """Provenance of a sum of lines, pointing at the lines instead of repeating all their sources."""
    known = [line for line in lines if line.usd_per_month.value is not None]
    left_out = [line.label for line in lines if line.usd_per_month.value is None]
    combined = weakest(line.usd_per_month.provenance for line in known)
    if combined.kind != "assumed" and not left_out:
        return combined
    n_assumed = sum(line.usd_per_month.provenance.kind == "assumed" for line in known)
    notes = [f"{n_assumed} of {len(lines)} ledger lines rest on assumed inputs"] if n_assumed else []
    if left_out:
        notes.append(f"unknown and not counted: {', '.join(left_out)}")
    return Provenance(kind="assumed", source="; ".join(notes))


def _unknown_ledger(facts: ApproachFacts, money: MoneySpec, because: str) -> Ledger:
    figure = unknown(because, provenance=facts.price)
    return Ledger(
        approach=facts.name,
        volume_per_month=money.volume_per_month,
        horizon_months=money.horizon_months,
        lines=(),
        terms=dict.fromkeys(TERMS, figure),
        total_usd_per_month=figure,
        cost_per_task_usd=figure,
        cost_per_success_usd=figure,
        setup_usd=figure,
    )
