"""What `steelyard tune --curve` found: points, fit, forecasts, and whether labelling more pays; as JSON and as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steelyard.diagnosis.label_worth import LabelWorth
from steelyard.diagnosis.learning_curve import LearningCurve, Need
from steelyard.figures import Figure
from steelyard.report.format import duration, interval, money, percent, points

SCHEMA = "steelyard.learning-curve/1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What the trainings of one size took, when they were really done."""

    seconds: float
    usd: float | None
    """`None` when no price is known."""
    reused: bool
    """Whether all of them were there from before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """The curve of one tuner."""

    tuner: str
    is_own: bool
    """Whether it is the approach's own tuner; else it only shows the shape."""
    fingerprint: str | None
    """Of the approach with all its labels; `None` where that was not trained."""
    judged: str
    curve: LearningCurve
    costs: tuple[Cost, ...]
    """One per point."""
    n_available: int
    """Labelled train cases it could learn from, used or not."""
    worth: LabelWorth | None
    """`None` for a curve that only shows the shape."""
    left_out: tuple[str, ...]
    """Sizes that were not trained, and why."""

    def to_json(self) -> dict[str, Any]:
        """One of `curves` in `steelyard.learning-curve/1`."""
        curve, law = self.curve, self.curve.law
        return {
            "tuner": self.tuner,
            "is_own": self.is_own,
            "judged": self.judged,
            "n_dev": curve.n_cases,
            "n_available": self.n_available,
            "points": [
                {
                    "n_labels": point.n_labels,
                    "n_draws": len(point.right),
                    "success": success.to_json(),
                    "spread": point.spread,
                    "seconds": cost.seconds,
                    "cost_usd": cost.usd,
                    "reused": cost.reused,
                }
                for point, success, cost in zip(curve.points, curve.success, self.costs, strict=True)
            ],
            "spread_between_draws": curve.luck,
            "shape": curve.shape,
            "law": None
            if law is None
            else {"a": float(law.a[0]), "b": float(law.b[0]), "c": float(law.c[0]), "unit": law.unit},
            "why_no_fit": curve.why_no_fit,
            "rise": curve.rise.to_json(),
            "forecasts": [
                {"times": times, "n_labels": times * curve.n_labels, "success": success.to_json()}
                for times, success in curve.forecasts
            ],
            "gain": curve.gain.to_json(),
            "most_gain": curve.most_gain,
            "needed": None if curve.needed is None else curve.needed.to_json(),
            "worth": None if self.worth is None else self.worth.to_json(),
            "left_out": list(self.left_out),
            "sentences": [line.strip() for line in _conclusions(self)],
        }

    def __str__(self) -> str:
        return "\n".join(_lines(self))


@dataclass(frozen=True, kw_only=True, slots=True)
class Curves:
    """All curves of one approach, the cheap tuner first."""

    approach: str
    curves: tuple[Curve, ...]
    left_out: tuple[str, ...]
    """Tuners whose curve was not begun, and why."""
    file: Path
    """Where they are kept, relative to the study folder."""

    def to_json(self) -> dict[str, Any]:
        """The shape `steelyard.learning-curve/1`."""
        return {
            "schema": SCHEMA,
            "approach": self.approach,
            "fingerprint": next((curve.fingerprint for curve in self.curves if curve.is_own), None),
            "file": str(self.file),
            "curves": [curve.to_json() for curve in self.curves],
            "left_out": list(self.left_out),
        }

    def __str__(self) -> str:
        parts = []
        for curve in self.curves:
            what = "" if curve.is_own else ", in the place of its own tuner: for the shape alone"
            parts.append(f"{self.approach}: learning curve of a {_NAMES[curve.tuner]}{what}\n{curve}")
        parts += [f"left out: {one}" for one in self.left_out]
        return "\n\n".join([*parts, f"kept in {self.file}; the test cases were not touched"])


# ---- private --------------------------------------------------------------------------------------------------------

_NAMES = {"head": "head", "lora": "LoRA"}


def _lines(found: Curve) -> Iterator[str]:
    yield f"judged on {found.curve.n_cases:,} dev cases: {found.judged}"
    yield from _table(found)
    yield from _conclusions(found)


def _conclusions(found: Curve) -> Iterator[str]:
    """Everything but the table, for a terminal and for a report."""
    curve = found.curve
    yield from (f"left out: {one}" for one in found.left_out)
    yield _luck(found)
    yield from _fit(curve)
    if curve.needed is not None:
        yield _needed(curve.needed, curve.n_labels)
    if found.n_available > curve.n_labels:
        unused = found.n_available - curve.n_labels
        yield f"{unused:,} labelled train cases are not used here (max_examples, or sizes left out): they need no labelling"
    if found.worth is not None:
        yield from _worth(found.worth)


def _table(found: Curve) -> Iterator[str]:
    yield f"  {'labels':>8}  {'draws':>5}  {'success':>7}  {'90% interval':<14}  {'training':>14}  {'cost':>9}"
    for point, success, cost in zip(found.curve.points, found.curve.success, found.costs, strict=True):
        usd = "unknown" if cost.usd is None else money(cost.usd)
        kept = "  (from before)" if cost.reused else ""
        yield (
            f"  {point.n_labels:>8,}  {len(point.right):>5}  {percent(point.rate):>7}"
            f"  {interval(success.low, success.high, 'percent'):<14}  {duration(cost.seconds):>14}  {usd:>9}{kept}"
        )
    for times, forecast in found.curve.forecasts:
        if forecast.value is not None:
            reach = interval(forecast.low, forecast.high, "percent")
            n = times * found.curve.n_labels
            yield f"  {n:>8,}  {'':>5}  {percent(forecast.value):>7}  {reach:<14}  forecast"


def _luck(found: Curve) -> str:
    luck = found.curve.luck
    if luck is None:
        return (
            "each size was drawn once: the luck of which labels are drawn is not in the forecast, whose intervals are too"
            " narrow by that (--seeds 3 measures it)"
        )
    return f"success differs by {100 * luck:.1f} points (standard deviation) between draws of equal size"


def _fit(curve: LearningCurve) -> Iterator[str]:
    if curve.law is None:
        yield f"no forecast: {curve.why_no_fit}"
        if curve.rise.value is not None:
            yield f"from the fewest to the most labels: {points(curve.rise.value)}{_reach(curve.rise, 'points')}"
        return
    law = curve.law
    yield (
        f"fit: success = {law.a[0]:.3f} − {law.b[0]:.3f} × (labels / {law.unit:,.0f})^−{law.c[0]:.2f};"
        " an empirical law, good near the sizes tried"
    )
    assert curve.gain.value is not None
    yield f"twice the labels: {points(curve.gain.value)} of success{_reach(curve.gain, 'points')}"


def _needed(need: Need, n_labels: int) -> str:
    target = percent(need.target)
    low = "never" if need.low is None else f"{need.low:,.0f}"
    high = "never" if need.high is None else f"{need.high:,.0f}"
    match need.kind:
        case "unknown":
            return f"labels for {target}: unknown, {need.because}"
        case "never":
            return f"labels for {target}: never ({need.p_reached:.0%} of the resampled curves reach it)"
        case "beyond":
            return (
                f"labels for {target}: far beyond the {n_labels:,} tried, from {low} to {high};"
                f" {need.p_reached:.0%} of the resampled curves reach it"
            )
        case "about":
            return f"labels for {target}: about {need.labels:,.0f} (90% interval {low} to {high})"


def _worth(worth: LabelWorth) -> Iterator[str]:
    training = "unknown" if worth.training_usd.value is None else money(worth.training_usd.value)
    yield f"is it worth labelling more? {worth.answer}: {worth.because}"
    yield f"  cost of {worth.n_more:,} more labels: {_labelling(worth)}; training {training} more"
    gain = worth.successes_per_month
    if gain.value is not None:
        yield f"  gain: {gain.value:,.0f} more successful tasks a month{_reach(gain, 'count')}"
    now, then = worth.cost_per_success_usd
    if now.value is not None and then.value is not None:
        yield f"  full cost of a successful task: {money(now.value)} now, {money(then.value)}{_reach(then, 'usd')} then"
    balance = worth.balance_usd
    if balance.value is not None:
        yield f"  balance over the horizon: {money(balance.value)}{_reach(balance, 'usd')}; money figures are {balance.provenance.kind}"
    elif balance.low is not None and balance.high is not None:
        yield f"  balance over the horizon: from {money(balance.low)} without any gain to {money(balance.high)} at most"
    yield from (f"  what would change it: {one}" for one in worth.would_change)


def _labelling(worth: LabelWorth) -> str:
    free = worth.n_more - worth.n_to_label
    if not worth.n_to_label:
        return "nothing, all of them are labelled already (raise tuning.max_examples)"
    there = f", {free:,} of them being labelled already" if free else ""
    return f"{worth.hours.value or 0:.1f} h of labelling, {money(worth.labelling_usd.value or 0.0)}{there}"


def _reach(figure: Figure, unit: Any) -> str:  # noqa: ANN401 - a unit of the report
    if figure.low is None or figure.high is None:
        return ""
    return f" ({interval(figure.low, figure.high, unit)})"
