"""The inputs of a ledger by the names its formulas use, each with its provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from steelyard.economics.costs import (
    SECONDS_PER_MONTH,
    Estimates,
    hours_levers,
    hours_of,
    index_cost_usd,
    relabelled_per_month,
    retrainings_per_year,
)
from steelyard.economics.ledger import ApproachFacts
from steelyard.economics.spec import MoneySpec, source_of
from steelyard.figures import MEASURED, Figure, Provenance, weakest

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
    review_formula: str = "money__review_seconds"
    """Seconds per review, as arithmetic over money fields and `review_inputs`."""
    review_inputs: Mapping[str, Figure] = field(default_factory=dict)
    seconds_per_task: Figure | None = None
    """What one task takes where tasks come one after the other; `None` when not measured."""
    judge_usd_per_case: Figure | None = None
    """What judging one case cost; `None` where nothing was judged or nobody knows."""
    cost_per_task: Reach
    """Range of the full cost of one task."""
    cost_per_success: Reach
    """Range of the full cost of one successful task."""


def figures_of(basis: Basis, facts: ApproachFacts, money: MoneySpec) -> dict[str, Figure]:
    """Everything a formula may name."""

    def stated(value: float, provenance: Provenance = facts.stated_by) -> Figure:
        return Figure(value=float(value), provenance=provenance)

    # The same estimate throughout: a rounding apart, the rate of the scorecard is the one of the ledger.
    success = Figure(
        value=basis.estimates.success,
        low=basis.success.low,
        high=basis.success.high,
        provenance=basis.success.provenance,
    )
    found = {
        "success": success,
        "variable_usd": basis.variable_usd,
        "n_cases": stated(basis.estimates.n, basis.success.provenance),
        "n_labels": stated(facts.n_labels),
        "setup_cost_usd": stated(facts.setup_cost_usd or 0.0, weakest([facts.price, facts.stated_by])),
        **basis.review_inputs,
    }
    optional: tuple[tuple[str, float | None, Provenance], ...] = (
        ("authoring_hours", facts.authoring_hours, facts.stated_by),
        ("maintenance_hours_per_month", facts.maintenance_hours_per_month, facts.stated_by),
        ("search_cost_usd", facts.search_cost_usd, facts.price),
        ("teacher_cost_usd", facts.teacher_cost_usd, MEASURED),
        ("index_cost_usd", index_cost_usd(facts), weakest([facts.price, facts.stated_by])),
        ("index_usd_per_hour", facts.index_usd_per_hour, weakest([facts.price, facts.stated_by])),
        ("index_seconds_per_month", facts.index_seconds_per_month, MEASURED),
        ("batch_discount", facts.batch_discount, facts.price),
        ("cached_saving_usd_per_task", facts.cached_saving_usd_per_task, basis.variable_usd.provenance),
    )
    found |= {name: stated(value, provenance) for name, value, provenance in optional if value is not None}
    for name, figure in (
        ("seconds_per_task", basis.seconds_per_task),
        ("judge_usd_per_case", basis.judge_usd_per_case),
    ):
        if figure is not None:
            found[name] = figure
    if facts.changes is not None:
        changes = facts.changes
        found["task__label_changes_per_month"] = stated(changes.per_month, changes.stated_by)
        found["task__edit_hours_per_change"] = stated(changes.edit_hours, changes.stated_by)
        found["task__relabelled_per_change"] = stated(changes.relabelled, changes.stated_by)
    for field_name in _MONEY_FIELDS:
        found[f"money__{field_name}"] = stated(getattr(money, field_name), source_of(money, field_name))
    for section in ("authoring_hours", "maintenance_hours_per_month"):
        for lever in hours_levers(facts):
            dotted = f"{section}.{lever}"
            hours = getattr(getattr(money, section), lever)
            found[f"money__{section}__{lever}"] = stated(hours, source_of(money, dotted))
    return found


def shown_of(basis: Basis, facts: ApproachFacts, money: MoneySpec) -> dict[str, float]:
    """Numbers that make a working readable and are no inputs themselves."""
    estimates = basis.estimates
    seconds = basis.seconds_per_task.value if basis.seconds_per_task is not None else None
    shown = {
        "failure": 1 - estimates.success,
        "evaluation_usd": estimates.n * estimates.variable_usd,
        "retrainings": retrainings_per_year(facts, money),
        "relabelled": relabelled_per_month(facts),
        "building_hours": hours_of(facts, money, "authoring_hours"),
        "maintenance_hours": hours_of(facts, money, "maintenance_hours_per_month"),
        "setup_seconds": facts.setup_seconds,
        "busy": (seconds or 0.0) * money.volume_per_month / SECONDS_PER_MONTH,
    }
    if "review_seconds" not in basis.review_inputs:
        shown["review_seconds"] = money.review_seconds if estimates.review_s is None else estimates.review_s
    return shown


def hours_formula(facts: ApproachFacts, section: Literal["authoring_hours", "maintenance_hours_per_month"]) -> str:
    """Hours of an approach as arithmetic: as stated for itself, or those of all its levers."""
    if getattr(facts, section) is not None:
        return section
    levers = [f"money__{section}__{lever}" for lever in hours_levers(facts)]
    return f"({' + '.join(levers)})" if levers else "0"


# --- private ---------------------------------------------------------------------------------------------------------

_MONEY_FIELDS = (
    "volume_per_month",
    "wage_per_hour_usd",
    "review_share",
    "review_seconds",
    "failed_task_usd",
    "horizon_months",
    "labelling_seconds_per_case",
    "retraining_per_year",
    "curation_hours_per_retraining",
    "hosting_usd_per_month",
    "reindex_per_month",
    "batch_share",
)
