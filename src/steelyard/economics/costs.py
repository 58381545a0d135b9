"""The ledger's formula as arithmetic on plain numbers, so that resampling and sensitivity can repeat it quickly.

    cost per successful task = (variable + review + failure + upkeep + setup) / (volume · success rate)

`CostModel` holds what does not depend on the cases; success rate and variable cost per task are arguments and may be
arrays of bootstrap draws. `accounting` shows the same amounts line by line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from steelyard.economics.ledger import ApproachFacts
from steelyard.economics.spec import MoneySpec
from steelyard.measure.layout import Floats
from steelyard.measure.results import ApproachResults
from steelyard.measure.scoring import TaskCosts, task_costs

SECONDS_PER_MONTH = 2_629_800
"""A twelfth of a year of 365.25 days."""

T = TypeVar("T", float, Floats)
"""One number, or one per bootstrap draw."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimates:
    """Point estimates of one approach."""

    success: float
    """Share of scored cases done successfully."""
    variable_usd: float
    """Variable cost per task in USD."""
    review_s: float | None
    """Mean seconds per review of this approach; `None` takes the money section's."""
    n: int
    """Cases it is evaluated on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CostModel:
    """What one approach costs apart from the calls it makes, in USD."""

    volume_per_month: float
    variable_factor: float = 1.0
    """What is left of the cost of calls after the discount for those that can wait."""
    review_usd_per_task: float
    failed_task_usd: float
    upkeep_usd_per_month: float
    setup_usd: float
    horizon_months: float

    @property
    def fixed_usd_per_month(self) -> float:
        """What has to be paid whatever the volume: upkeep and the month's part of the setup."""
        return self.upkeep_usd_per_month + self.setup_usd / self.horizon_months

    def per_task_usd(self, success: T, variable_usd: T) -> T:
        """Cost of one task without the fixed part."""
        return variable_usd * self.variable_factor + self.review_usd_per_task + (1 - success) * self.failed_task_usd

    def cost_per_task(self, success: T, variable_usd: T) -> T:
        """Full cost of one task."""
        return self.per_task_usd(success, variable_usd) + self.fixed_usd_per_month / self.volume_per_month

    def cost_per_success(self, success: Floats, variable_usd: Floats) -> Floats:
        """Full cost of one successful task; infinite where nothing succeeds."""
        with np.errstate(divide="ignore"):
            cost: Floats = self.cost_per_task(success, variable_usd) / success
        return cost


def measure(results: ApproachResults, facts: ApproachFacts) -> Estimates | str:
    """Point estimates for the ledger, or why there are none."""
    if np.isnan(results.success).all():
        return "no case was scored"
    costs: TaskCosts = task_costs(results, facts.price)
    if costs.usd is None:
        return costs.unknown_because or "no price is known"
    if facts.setup_cost_usd is None:
        return "the machine cost of its preparation is not known"
    reviewed = ~np.isnan(results.review_seconds)
    return Estimates(
        success=float(np.nanmean(results.success)),
        variable_usd=float(costs.usd.mean()),
        review_s=float(results.review_seconds[reviewed].mean()) if reviewed.any() else None,
        n=results.n,
    )


def cost_model(facts: ApproachFacts, measured: Estimates, money: MoneySpec) -> CostModel:
    """Put the money section and the facts about an approach together; what is unknown of them is left out.

    Raises:
        ValueError: The setup cost of the approach is unknown.
    """
    if facts.setup_cost_usd is None:
        raise ValueError(f"setup cost of {facts.name!r} is unknown")
    wage = money.wage_per_hour_usd
    review_s = money.review_seconds if measured.review_s is None else measured.review_s
    evaluation = measured.n * measured.variable_usd
    upkeep = hours_of(facts, money, "maintenance_hours_per_month") * wage
    if facts.changes is not None:
        upkeep += facts.changes.per_month * facts.changes.edit_hours * wage
        upkeep += relabelled_per_month(facts) * money.labelling_seconds_per_case / 3600 * wage
    if is_tuned(facts):
        one_retraining = money.curation_hours_per_retraining * wage + facts.setup_cost_usd + evaluation
        upkeep += money.hosting_usd_per_month + retrainings_per_year(facts, money) / 12 * one_retraining
    if "retrieval" in facts.levers:
        upkeep += reindexing_usd(facts, money) or 0.0
    setup = (
        hours_of(facts, money, "authoring_hours") * wage
        + facts.n_labels * money.labelling_seconds_per_case / 3600 * wage
        + facts.setup_cost_usd
        + (facts.search_cost_usd or 0.0)
        + (facts.teacher_cost_usd or 0.0)
        + evaluation
    )
    return CostModel(
        volume_per_month=money.volume_per_month,
        variable_factor=1 - money.batch_share * (facts.batch_discount or 0.0),
        review_usd_per_task=money.review_share * review_s / 3600 * wage,
        failed_task_usd=money.failed_task_usd,
        upkeep_usd_per_month=upkeep,
        setup_usd=setup,
        horizon_months=money.horizon_months,
    )


def hours_levers(facts: ApproachFacts) -> tuple[str, ...]:
    """Levers whose hours an approach needs: those it pulls, and the prompt wherever a model is asked.

    Of an imported approach whose levers are not named the hours are unknown and not counted.
    """
    if facts.is_imported and not facts.levers:
        return ()
    prompted = ("prompt",) if facts.calls_model and "prompt" not in facts.levers else ()
    return (*prompted, *facts.levers)


def hours_of(
    facts: ApproachFacts, money: MoneySpec, field: Literal["authoring_hours", "maintenance_hours_per_month"]
) -> float:
    """Hours of an approach: as stated for itself, or those of all its levers."""
    stated: float | None = getattr(facts, field)
    if stated is not None:
        return stated
    by_lever = getattr(money, field)
    return sum(float(getattr(by_lever, lever)) for lever in hours_levers(facts))


def retrainings_per_year(facts: ApproachFacts, money: MoneySpec) -> float:
    """How often a tuned approach is trained again: as planned, or after every change of the task if that is oftener."""
    return max(money.retraining_per_year, 12 * facts.changes.per_month if facts.changes else 0.0)


def relabelled_per_month(facts: ApproachFacts) -> float:
    """Cases to label again or anew in a month because the task changed; none where no labels are needed."""
    return facts.changes.per_month * facts.changes.relabelled if facts.changes and facts.n_labels else 0.0


def index_cost_usd(facts: ApproachFacts) -> float | None:
    """What building the index again costs in computing; `None` where it is not told apart from training."""
    if facts.index_cost_usd is not None:
        return facts.index_cost_usd
    return None if is_tuned(facts) else facts.setup_cost_usd


def reindexing_usd(facts: ApproachFacts, money: MoneySpec) -> float | None:
    """What keeping the index of an approach up to date takes in a month: as planned, else as measured, else unknown."""
    if not money.reindex_per_month:
        seconds, price = facts.index_seconds_per_month, facts.index_usd_per_hour
        return None if seconds is None or price is None else seconds / 3600 * price
    once = index_cost_usd(facts)
    return None if once is None else money.reindex_per_month * once


def is_tuned(facts: ApproachFacts) -> bool:
    """Whether the approach has weights that have to be trained again from time to time."""
    return "tuning" in facts.levers
