"""What the cascades of a study did on the test split: how many cases went on, at which threshold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steelyard.approaches.approach import Setup
from steelyard.engine.journal import Journal
from steelyard.figures import Figure
from steelyard.measure.intervals import wilson
from steelyard.report.format import money
from steelyard.study.record import ApproachRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class CascadeUse:
    """One cascade on the test split."""

    approach: str
    first: str
    then: str
    threshold: float
    """Calibrated confidence below which a case goes on, 0..1."""
    n: int
    """Outcomes."""
    escalated: Figure
    """Share of the outcomes for which the second approach was asked, 0..1."""
    answered_by: Mapping[str, int]
    """Outcomes by the approach whose answer they are."""
    chosen_on: str
    """Why the threshold is what it is, as a sentence about dev."""

    def to_json(self) -> dict[str, Any]:
        """The part of `score --json`."""
        return {
            "name": self.approach,
            "first": self.first,
            "then": self.then,
            "threshold": self.threshold,
            "n": self.n,
            "escalated": self.escalated.to_json(),
            "answered_by": dict(self.answered_by),
            "chosen_on_dev": self.chosen_on,
        }

    def __str__(self) -> str:
        share, low, high = self.escalated.value or 0.0, self.escalated.low or 0.0, self.escalated.high or 0.0
        return (
            f"{self.approach}: {share:.0%} of {self.n:,} test cases ({low:.0%} to {high:.0%}) went on from {self.first}"
            f" to {self.then}; set on dev: {self.chosen_on}"
        )


def cascade_uses(
    approaches: Mapping[str, ApproachRecord], setups: Mapping[str, Setup | None], journal: Journal
) -> tuple[CascadeUse, ...]:
    """What each cascade among the approaches did."""
    found = []
    for name, one in approaches.items():
        setup = setups[name]
        card = (setup.card or {}).get("cascade") if setup is not None else None
        if card is not None:
            found.append(_use(name, one, card, journal))
    return tuple(found)


def cascade_lines(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the card of a cascade says, label and text.

    Args:
        card: The part `cascade` of a setup card.
    """
    stated, mended = card["calibration"]["stated"], card["calibration"]["calibrated"]
    points = card["curve"]
    some = points[:: max(1, len(points) // _POINTS_SHOWN)]
    shown = [_point(one) for one in (*some, *(points[-1:] if some[-1] is not points[-1] else ()))]
    believed = (
        f"{stated['n']:,} answers on dev, {stated['right']:.1%} right; stated confidence {stated['confidence']:.1%}"
        f" (calibration error {stated['ece']:.3f}), calibrated {mended['confidence']:.1%} ({mended['ece']:.3f})"
    )
    return [
        ("cascade", card["sentence"]),
        ("calibration", believed),
        ("below, goes on, right on dev, cost of a case", "; ".join(shown)),
    ]


# ---- private --------------------------------------------------------------------------------------------------------

_POINTS_SHOWN = 10


def _point(point: Mapping[str, Any]) -> str:
    usd = "unknown" if point["cost_usd"] is None else money(point["cost_usd"])
    return f"{point['threshold']:.2f}: {point['escalated']:.0%}, {point['success']:.1%}, {usd}"


def _use(name: str, one: ApproachRecord, card: Mapping[str, Any], journal: Journal) -> CascadeUse:
    answered_by: Counter[str] = Counter()
    n = n_escalated = 0
    for outcome in journal.outcomes({name: one.fingerprint}, split="test"):
        n += 1
        n_escalated += len(outcome.asked) > 1
        answered_by.update(outcome.asked[-1:])
    share = n_escalated / n
    low, high = wilson(share, n)
    return CascadeUse(
        approach=name,
        first=card["first"],
        then=card["then"],
        threshold=card["threshold"],
        n=n,
        escalated=Figure(value=share, low=low, high=high),
        answered_by=dict(answered_by),
        chosen_on=card["sentence"],
    )
