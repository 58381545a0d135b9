"""A plan: what `steelyard whatif` reads, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from steelyard.decision.spec import GoalSpec
from steelyard.economics.ledger import Economics, Hinge
from steelyard.economics.spec import MoneySpec
from steelyard.economics.summary import OutlookSpec, SummarySpec
from steelyard.figures import Figure
from steelyard.models.spec import Section

WHATIF_SCHEMA = "steelyard.whatif/1"

Step = Literal["take", "test", "none"]


class PlanFile(Section):
    """Approaches to one task as summary figures: a plan before any data, or a paper's table."""

    plan: Annotated[str, Field(min_length=1, max_length=80)]
    """Name of the plan, as it is shown."""
    task: OutlookSpec = OutlookSpec()
    """What is known about the task itself."""
    approaches: Annotated[dict[str, SummarySpec], Field(min_length=1)]
    """The ways to do the task that are compared, by name."""
    money: MoneySpec = MoneySpec()
    """Volume, wages and hours, as in study.yaml; what is left out is assumed and marked so."""
    goal: GoalSpec = GoalSpec()
    """What an approach must reach to be considered at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedApproach:
    """One approach of a plan: what was stated, and what one successful task costs with it."""

    name: str
    rung: str
    figures: Mapping[str, Figure]
    """What was stated, by field of the plan file; unknown where nothing was."""
    cost_per_success_usd: Figure
    excluded_because: str | None
    """Why it is out of the running, if it is."""

    def to_json(self) -> dict[str, Any]:
        """One approach of `whatif --json`."""
        return {
            "name": self.name,
            "rung": self.rung,
            **{field: figure.to_json() for field, figure in self.figures.items()},
            "cost_per_success_usd": self.cost_per_success_usd.to_json(),
            "excluded_because": self.excluded_because,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanVerdict:
    """What to do first, by figures nobody has measured yet."""

    plan: str
    step: Step
    """`take` an approach, `test` one that is costly to turn back from, or `none` where nothing reaches the goal."""
    choice: str | None
    sentence: str
    reasons: tuple[str, ...]
    runner_up: str | None
    hinges_on: tuple[Hinge, ...]
    """Inputs that would change the cheapest approach, nearest first."""
    what_would_change_it: tuple[str, ...]
    gather_first: tuple[str, ...]
    """Evidence to gather, the most useful first."""
    unknowns: tuple[str, ...]
    stale_prices: tuple[str, ...]
    approaches: tuple[PlannedApproach, ...]
    economics: Economics
    as_of: str
    """ISO date of the verdict."""

    def to_json(self) -> dict[str, Any]:
        """What `whatif --json` prints."""
        return {
            "schema": WHATIF_SCHEMA,
            "plan": self.plan,
            "as_of": self.as_of,
            "step": self.step,
            "choice": self.choice,
            "sentence": self.sentence,
            "reasons": list(self.reasons),
            "runner_up": self.runner_up,
            "hinges_on": [hinge.to_json() for hinge in self.hinges_on],
            "what_would_change_it": list(self.what_would_change_it),
            "gather_first": list(self.gather_first),
            "unknowns": list(self.unknowns),
            "stale_prices": list(self.stale_prices),
            "approaches": [approach.to_json() for approach in self.approaches],
            "economics": self.economics.to_json(),
        }
