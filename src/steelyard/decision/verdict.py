"""Result types of the decision room: gates, mistakes, standings, the verdict.

Only shapes live here; `steelyard.decision.deciding` puts a verdict together and `steelyard.decision.wording` builds
its sentences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from steelyard.economics.ledger import Economics, Hinge
from steelyard.figures import Figure, Provenance, unknown, weakest

VERDICT_SCHEMA = "steelyard.verdict/1"

GateAnswer = Literal["yes", "no", "unknown"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """A named question about the evidence."""

    name: str
    """Stable id: `base_fits`, `workflow_pays`, `knowledge_failures`, `failures_recur`, `tuning_ready`."""
    question: str
    answer: GateAnswer
    evidence: str
    """What the answer rests on, with its numbers."""
    cheapest_evidence: str | None = None
    """What would settle it most cheaply; always set when the answer is `unknown`."""

    def to_json(self) -> dict[str, Any]:
        """One gate of `decide --json`."""
        return {
            "name": self.name,
            "question": self.question,
            "answer": self.answer,
            "evidence": self.evidence,
            "cheapest_evidence": self.cheapest_evidence,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """One of the five classic mistakes, found in this study."""

    name: str
    """Stable id: `unstable_task`, `tuning_for_knowledge`, `giant_prompt`, `no_exit_path`, `no_evaluation`."""
    title: str
    evidence: str
    """What triggered it, with its numbers."""
    remedy: str

    def to_json(self) -> dict[str, Any]:
        """One mistake of `decide --json`."""
        return {"name": self.name, "title": self.title, "evidence": self.evidence, "remedy": self.remedy}


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Where one approach stands in the choice."""

    name: str
    rung: str
    cost_per_success_usd: Figure
    p_meets_goal: float | None
    """Probability that it satisfies all constraints; `None` when that cannot be computed."""
    p_best: float | None
    """Probability that it is the cheapest per successful task among those satisfying the constraints."""
    expected_monthly_loss_usd: float | None
    """What choosing it costs per month beyond the best one, on average over what the data leave open."""
    beats_baseline: Literal["yes", "no", "undecided", "is_baseline", "no_baseline"]
    excluded_because: str | None = None
    """Why it is out of the running, if it is."""

    def to_json(self, provenance: Provenance) -> dict[str, Any]:
        """One standing of `decide --json`.

        Args:
            provenance: Of what is computed over all ledgers together.
        """
        return {
            "name": self.name,
            "rung": self.rung,
            "cost_per_success_usd": self.cost_per_success_usd.to_json(),
            "p_meets_goal": _weighed(self.p_meets_goal, self.cost_per_success_usd.provenance),
            "p_best": _weighed(self.p_best, provenance),
            "expected_monthly_loss_usd": _weighed(self.expected_monthly_loss_usd, provenance),
            "beats_baseline": self.beats_baseline,
            "excluded_because": self.excluded_because,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class FactorCell:
    """What one decision factor comes to for one approach."""

    text: str
    """The answer with its numbers, for a person."""
    figure: Figure | None = None
    """The number it turns on; `None` where the answer is not a number."""
    parts: Mapping[str, Figure] = field(default_factory=dict)
    """Every number of the text, by name with its unit; those not named here are plain counts of outcomes."""

    def to_json(self) -> dict[str, Any]:
        """One cell of `decide --json`'s factors."""
        return {
            "text": self.text,
            "figure": None if self.figure is None else self.figure.to_json(),
            "parts": {name: figure.to_json() for name, figure in self.parts.items()},
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class FactorRow:
    """One of the eight decision factors, filled for every approach."""

    factor: str
    """Stable id: `speed`, `labels`, `knowledge`, `change`, `overhead`, `evaluation`, `switching`, `best_use`."""
    title: str
    cells: Mapping[str, FactorCell]
    """By approach, in the order of the standings."""

    def to_json(self) -> dict[str, Any]:
        """One row of `decide --json`'s factors."""
        return {
            "factor": self.factor,
            "title": self.title,
            "cells": {approach: cell.to_json() for approach, cell in self.cells.items()},
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class EvidenceOffer:
    """What a number of further cases is worth, and what it costs."""

    n_cases: int
    """Further cases, labelled and done by every candidate."""
    worth_usd: Figure
    """Expected saving over the horizon from deciding after these cases instead of now."""
    price_usd: Figure
    """Labelling them, and running all candidates on them."""

    def to_json(self) -> dict[str, Any]:
        """One offer of `decide --json`'s worth of evidence."""
        return {
            "n_cases": self.n_cases,
            "worth_usd": self.worth_usd.to_json(),
            "price_usd": self.price_usd.to_json(),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class EvidenceWorth:
    """The value of more evidence against its price."""

    n_cases: int
    """Further cases of the offer that gains most, or loses least."""
    worth_usd: Figure
    """Of that offer: expected saving over the horizon from deciding after it instead of now."""
    price_usd: Figure
    """Of that offer."""
    is_worth_it: bool
    """Whether it is worth more than it costs; if not: stop, it does not matter."""
    sentence: str
    perfect_usd: Figure
    """What knowing everything would be worth over the horizon: no evidence is worth more than this."""
    offers: tuple[EvidenceOffer, ...] = ()
    """Each number of cases looked at, fewest first."""

    def to_json(self) -> dict[str, Any]:
        """The worth of more evidence in `decide --json`."""
        return {
            "n_cases": self.n_cases,
            "worth_usd": self.worth_usd.to_json(),
            "price_usd": self.price_usd.to_json(),
            "is_worth_it": self.is_worth_it,
            "sentence": self.sentence,
            "perfect_usd": self.perfect_usd.to_json(),
            "offers": [offer.to_json() for offer in self.offers],
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The recommended next step, with reasons, what would change it, and what is still unknown."""

    choice: str | None
    """The approach to take; `None` when the evidence does not carry a choice."""
    sentence: str
    """The verdict in one sentence."""
    reasons: tuple[str, ...]
    runner_up: str | None
    p_best: float | None
    """Probability that `choice` (or, without one, the leader) is the best."""
    expected_monthly_loss_usd: float | None
    """Expected monthly cost of this choice (or the leader) turning out not to be the best."""
    hinges_on: tuple[Hinge, ...]
    """Assumed inputs that would change the cheapest approach, nearest first."""
    cases_to_settle: int | None
    """How many more cases should make it clear; 0 when it is, `None` when no realistic number would."""
    what_would_change_it: tuple[str, ...]
    unknowns: tuple[str, ...]
    gates: tuple[Gate, ...]
    mistakes: tuple[Mistake, ...]
    stale_prices: tuple[str, ...]
    """Prices older than the study allows, with the page to check."""
    standings: tuple[Standing, ...]
    """All approaches, best first; excluded ones last."""
    economics: Economics
    as_of: str
    """ISO date of the verdict."""
    factors: tuple[FactorRow, ...] = ()
    """The eight decision factors for this task."""
    worth: EvidenceWorth | None = None
    """Whether more evidence is worth its price; `None` where there is nothing to choose between."""

    @property
    def provenance(self) -> Provenance:
        """Where what is computed over all ledgers comes from: probabilities of being best, losses, break-evens."""
        return weakest(standing.cost_per_success_usd.provenance for standing in self.standings)

    def to_json(self) -> dict[str, Any]:
        """What `decide --json` prints."""
        return {
            "schema": VERDICT_SCHEMA,
            "as_of": self.as_of,
            "choice": self.choice,
            "sentence": self.sentence,
            "reasons": list(self.reasons),
            "runner_up": self.runner_up,
            "p_best": _weighed(self.p_best, self.provenance),
            "expected_monthly_loss_usd": _weighed(self.expected_monthly_loss_usd, self.provenance),
            "hinges_on": [hinge.to_json() for hinge in self.hinges_on],
            "cases_to_settle": self.cases_to_settle,
            "what_would_change_it": list(self.what_would_change_it),
            "unknowns": list(self.unknowns),
            "gates": [gate.to_json() for gate in self.gates],
            "mistakes": [mistake.to_json() for mistake in self.mistakes],
            "stale_prices": list(self.stale_prices),
            "standings": [standing.to_json(self.provenance) for standing in self.standings],
            "factors": [row.to_json() for row in self.factors],
            "worth_of_evidence": None if self.worth is None else self.worth.to_json(),
            "economics": self.economics.to_json(),
        }


def _weighed(value: float | None, provenance: Provenance) -> dict[str, Any]:
    """A number that follows from ledgers, in the shape of a figure."""
    found = unknown("it is not in the running") if value is None else Figure(value=value, provenance=provenance)
    return found.to_json()
