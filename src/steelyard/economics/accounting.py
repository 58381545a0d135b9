"""Ledgers: the full cost of one successful task, line by line, each with its provenance (design section 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from steelyard.economics.costs import (
    CostModel,
    Estimates,
    cost_model,
    hours_levers,
    hours_of,
    is_tuned,
    measure,
    relabelled_per_month,
    retrainings_per_year,
)
from steelyard.economics.ledger import TERMS, ApproachFacts, Ledger, LedgerLine, TermName
from steelyard.economics.spec import MoneySpec, source_of
from steelyard.figures import MEASURED, Figure, Provenance, unknown, weakest
from steelyard.measure.intervals import bca_interval, mean_interval
from steelyard.measure.results import ApproachResults, Floats
from steelyard.measure.scoring import success_rate, task_costs

Reach = tuple[float | None, float | None]
"""Lower and upper end; `None` where there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Basis:
    """What a ledger rests on besides the facts and the money section: outcomes, or summary figures."""

    estimates: Estimates
    variable_usd: Figure
    """USD per task for calls and computing."""
    success: Figure
    """Success rate."""
    review: Provenance
    """Of the seconds per review."""
    cost_per_task: Reach
    """Range of the full cost of one task."""
    cost_per_success: Reach
    """Range of the full cost of one successful task."""
    stated: Provenance = MEASURED
    """Of what the facts state: hours, labels, cost of training, changes."""


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
        review=source_of(money, "review_seconds") if measured.review_s is None else MEASURED,
        cost_per_task=_bootstrap_reach(results, facts, model, per_success=False, alpha=alpha, seed=seed),
        cost_per_success=_bootstrap_reach(results, facts, model, per_success=True, alpha=alpha, seed=seed),
    )
    return ledger_on(basis, facts, money)


def ledger_on(basis: Basis, facts: ApproachFacts, money: MoneySpec) -> Ledger:
    """The ledger of one approach on any basis: every line with its working, the terms, the totals."""
    estimates = basis.estimates
    model = cost_model(facts, estimates, money)
    lines = tuple(_without_unknowns(_lines(basis, facts, money), facts))
    total_provenance = _combined(lines)
    per_task = model.cost_per_task(estimates.success, estimates.variable_usd)
    nothing = f"none of {estimates.n} cases succeeded" if estimates.n else "no task succeeds"
    per_success = unknown(nothing, provenance=total_provenance)
    if estimates.success > 0:
        per_success = _figure(per_task / estimates.success, basis.cost_per_success, total_provenance)
    volume = money.volume_per_month
    return Ledger(
        approach=facts.name,
        volume_per_month=volume,
        horizon_months=money.horizon_months,
        lines=lines,
        terms={term: _term_total(lines, term) for term in TERMS},
        total_usd_per_month=_figure(per_task * volume, _times(volume, basis.cost_per_task), total_provenance),
        cost_per_task_usd=_figure(per_task, basis.cost_per_task, total_provenance),
        cost_per_success_usd=per_success,
        setup_usd=Figure(
            value=model.setup_usd,
            provenance=_combined([line for line in lines if line.term == "setup"]),
        ),
    )


# --- private ---------------------------------------------------------------------------------------------------------


def _lines(basis: Basis, facts: ApproachFacts, money: MoneySpec) -> list[LedgerLine]:
    volume, wage, months = money.volume_per_month, money.wage_per_hour_usd, money.horizon_months
    estimates, success, variable = basis.estimates, basis.success, basis.variable_usd

    def assumed(*fields: str) -> Provenance:
        return weakest(source_of(money, field) for field in fields)

    def hours(field: Literal["authoring_hours", "maintenance_hours_per_month"]) -> Provenance:
        return basis.stated if getattr(facts, field) is not None else assumed(*_hour_fields(facts, field))

    def line(term: TermName, label: str, figure: Figure, working: str) -> LedgerLine:
        return LedgerLine(name="", term=term, label=label, usd_per_month=figure, formula="", inputs={}, working=working)

    def amount(term: TermName, label: str, usd: float, provenance: Provenance, working: str) -> LedgerLine:
        return line(term, label, Figure(value=usd, provenance=provenance), working)

    wrong = (None if success.high is None else 1 - success.high, None if success.low is None else 1 - success.low)
    evaluation = estimates.n * estimates.variable_usd
    authoring = hours_of(facts, money, "authoring_hours")
    maintenance = hours_of(facts, money, "maintenance_hours_per_month")
    review_s = money.review_seconds if estimates.review_s is None else estimates.review_s
    setup_cost = facts.setup_cost_usd or 0.0
    found = [
        line(
            "variable",
            "Model calls and computing",
            _figure(
                volume * estimates.variable_usd,
                _times(volume, (variable.low, variable.high)),
                weakest([variable.provenance, assumed("volume_per_month")]),
            ),
            f"{volume:,.0f} tasks × ${estimates.variable_usd:.6f}",
        ),
        amount(
            "review",
            "People looking at answers",
            volume * money.review_share * review_s / 3600 * wage,
            weakest([assumed("volume_per_month", "review_share", "wage_per_hour_usd"), basis.review]),
            f"{volume:,.0f} tasks × {money.review_share:.0%} × {review_s:.0f} s × ${wage:.2f}/h",
        ),
        line(
            "failure",
            "Failed tasks",
            _figure(
                volume * (1 - estimates.success) * money.failed_task_usd,
                _times(volume * money.failed_task_usd, wrong),
                weakest([success.provenance, assumed("volume_per_month", "failed_task_usd")]),
            ),
            f"{volume:,.0f} tasks × {1 - estimates.success:.1%} × ${money.failed_task_usd:.2f}",
        ),
        amount(
            "upkeep",
            "Maintenance",
            maintenance * wage,
            weakest([hours("maintenance_hours_per_month"), assumed("wage_per_hour_usd")]),
            f"{maintenance:g} h × ${wage:.2f}/h",
        ),
        amount(
            "setup",
            "Building it",
            authoring * wage / months,
            weakest([hours("authoring_hours"), assumed("wage_per_hour_usd", "horizon_months")]),
            f"{authoring:g} h × ${wage:.2f}/h over {months:g} months",
        ),
        amount(
            "setup",
            "Labelling",
            facts.n_labels * money.labelling_seconds_per_case / 3600 * wage / months,
            weakest([basis.stated, assumed("labelling_seconds_per_case", "wage_per_hour_usd", "horizon_months")]),
            f"{facts.n_labels:,} cases × {money.labelling_seconds_per_case:g} s × ${wage:.2f}/h over {months:g} months",
        ),
        amount(
            "setup",
            "Training and indexing",
            setup_cost / months,
            weakest([facts.price, basis.stated, assumed("horizon_months")]),
            f"{facts.setup_seconds:.0f} s of computing, ${setup_cost:.4f}, over {months:g} months",
        ),
        amount(
            "setup",
            "Evaluation",
            evaluation / months,
            weakest([variable.provenance, assumed("horizon_months")]),
            f"{estimates.n:,} cases × ${estimates.variable_usd:.6f} over {months:g} months",
        ),
    ]
    before_setup = next(at for at, one in enumerate(found) if one.term == "setup")
    if facts.changes is not None:
        changes, relabelled = facts.changes, relabelled_per_month(facts)
        found[before_setup:before_setup] = [
            amount(
                "upkeep",
                "Following changes of the task",
                changes.per_month * changes.edit_hours * wage,
                weakest([basis.stated, assumed("wage_per_hour_usd")]),
                f"{changes.per_month:g} changes a month × {changes.edit_hours:g} h × ${wage:.2f}/h",
            ),
            amount(
                "upkeep",
                "Relabelling",
                relabelled * money.labelling_seconds_per_case / 3600 * wage,
                weakest([basis.stated, assumed("labelling_seconds_per_case", "wage_per_hour_usd")]),
                f"{relabelled:g} cases × {money.labelling_seconds_per_case:g} s × ${wage:.2f}/h",
            ),
        ]
    if is_tuned(facts):
        times = retrainings_per_year(facts, money)
        training = "training not counted" if facts.is_imported else f"${setup_cost:.4f} training"
        found[before_setup:before_setup] = [
            amount(
                "upkeep",
                "Hosting the tuned model",
                money.hosting_usd_per_month,
                assumed("hosting_usd_per_month"),
                f"${money.hosting_usd_per_month:,.2f} a month",
            ),
            amount(
                "upkeep",
                "Retraining",
                times / 12 * (money.curation_hours_per_retraining * wage + setup_cost + evaluation),
                weakest(
                    [assumed("retraining_per_year", "curation_hours_per_retraining", "wage_per_hour_usd"), facts.price]
                ),
                f"{times:g} a year × ({money.curation_hours_per_retraining:g} h × ${wage:.2f}/h"
                f" + {training} + ${evaluation:.4f} evaluation)",
            ),
        ]
    return found


def _without_unknowns(lines: Sequence[LedgerLine], facts: ApproachFacts) -> list[LedgerLine]:
    """The lines of an imported approach, with those nobody knows marked unknown; they are in no sum."""
    if not facts.is_imported:
        return list(lines)
    because = dict.fromkeys(("Labelling", "Training and indexing"), "its results were made elsewhere")
    if not facts.levers:
        because |= dict.fromkeys(("Maintenance", "Building it"), "which levers it pulls is not known")
    return [
        replace(line, usd_per_month=unknown(because[line.label]), working=f"not counted: {because[line.label]}")
        if line.label in because
        else line
        for line in lines
    ]


def _hour_fields(facts: ApproachFacts, section: str) -> list[str]:
    return [f"{section}.{lever}" for lever in hours_levers(facts)]


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
    return (optimistic.low if optimistic else None, pessimistic.high if pessimistic else None)


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
