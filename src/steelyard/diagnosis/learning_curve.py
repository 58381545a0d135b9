"""The learning curve of an approach: success by number of labels, what twice as many would bring, how many a target takes.

A power law (`power_law`) is fitted to the success on the same dev cases at several numbers of labels. Its uncertainty
comes from refitting it to resamples of those cases: a resample holds the same cases at every size, so that what is easy
or hard about them moves all points together and does not pass for a shape. Where several draws of labels were tried at a
size, their spread is added to each resample as normal noise. Nothing is fitted to points that do not surely rise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from steelyard.diagnosis.power_law import FEWEST_SIZES, PowerLaws, fit_power_laws
from steelyard.figures import Figure, Provenance, unknown
from steelyard.measure.intervals import MIN_RESAMPLED, bootstrap_sums, effective_n, wilson
from steelyard.measure.results import Floats, Ints, cluster_sums

ALPHA: Final = 0.1
"""One minus the level of every interval of a curve: 90%."""
N_RESAMPLES: Final = 1000
FORECAST_TIMES: Final = (2, 4)
"""A forecast is made for so many times the labels there are."""
TOLD_EXACTLY: Final = 8
"""Beyond so many times the labels tried a number of labels is given as a range, not as a figure."""
OUT_OF_REACH: Final = 1000
"""A target that takes more than so many times the labels tried counts as never reached."""

Shape = Literal["rising", "flat", "falling", "unknown"]
NeedKind = Literal["about", "beyond", "never", "unknown"]
_EXACT_ROUNDS: Final = 6
_QUICK_ROUNDS: Final = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class CurvePoint:
    """One number of labels, and which dev cases were then right."""

    n_labels: int
    right: Floats
    """1 right, 0 wrong, for every draw of labels and dev case; shape (n_draws, n_cases)."""

    @property
    def rate(self) -> float:
        """Success, the mean over draws and cases."""
        return float(self.right.mean())

    @property
    def spread(self) -> float | None:
        """Standard deviation of success between draws of labels; `None` with a single draw."""
        return float(self.right.mean(axis=1).std(ddof=1)) if len(self.right) > 1 else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """How many labels a target takes."""

    target: float
    kind: NeedKind
    """`about` a number; `beyond` what can be told exactly, so a range; `never` in nineteen of twenty resampled curves; or
    nobody knows."""
    labels: float | None
    """At the likeliest law; `None` unless `about`."""
    low: float | None
    high: float | None
    """`None` reads 'never': more than one in twenty resampled curves stays below the target."""
    p_reached: float | None
    """Share of the resampled curves that reach the target at all."""
    because: str = ""
    """Why nobody knows."""

    def to_json(self) -> dict[str, Any]:
        """`needed` of a curve in `steelyard.learning-curve/1`."""
        return {
            "target": self.target,
            "kind": self.kind,
            "labels": self.labels,
            "low": self.low,
            "high": self.high,
            "p_reached": self.p_reached,
            **({"because": self.because} if self.because else {}),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningCurve:
    """Success by number of labels, and what more of them should bring."""

    points: tuple[CurvePoint, ...]
    """By rising number of labels."""
    success: tuple[Figure, ...]
    """At each point, with its interval over dev cases."""
    luck: float | None
    """Standard deviation of success between draws of labels, pooled over sizes; `None` where each had one draw."""
    shape: Shape
    why_no_fit: str | None
    """Why there is no law; `None` where there is one."""
    law: PowerLaws | None
    """The likeliest law, as a row of one."""
    resampled: PowerLaws | None
    """The laws of the resamples."""
    rise: Figure
    """Success at the most labels minus success at the fewest."""
    forecasts: tuple[tuple[int, Figure], ...]
    """How many times the labels there are, and success then."""
    gain: Figure
    """What doubling the labels adds to success."""
    most_gain: float | None
    """Upper end of that gain. Without a law it is that of the mean gain per doubling so far: a power law never gains
    more with the next doubling than with those before. `None` where nothing bounds it."""
    needed: Need | None
    """`None` where no target was asked for."""

    @property
    def n_labels(self) -> int:
        """The most labels tried."""
        return self.points[-1].n_labels

    @property
    def n_cases(self) -> int:
        """Dev cases."""
        return int(self.points[-1].right.shape[1])


def learning_curve(
    points: Sequence[CurvePoint],
    cluster: Ints,
    *,
    target: float | None = None,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> LearningCurve:
    """Fit a curve and forecast.

    Args:
        points: By rising number of labels, all on the same dev cases in the same order.
        cluster: Cluster code of each dev case, 0-based without gaps; clusters are resampled whole.
        target: Success that is wanted, 0..1.
        seed: Of the resamples.
        n_resamples: How many.

    Returns:
        The curve; without a law, and with the reason, where there are too few sizes or cases or it does not rise.
    """
    sizes = np.array([point.n_labels for point in points], dtype=np.float64)
    if (np.diff(sizes) <= 0).any():
        raise ValueError("points must have rising numbers of labels")
    by_case = np.stack([point.right.mean(axis=0) for point in points], axis=1)  # (n_cases, n_sizes)
    rates = by_case.mean(axis=0)
    luck = pooled_luck(points)
    draws = _resampled_rates(by_case, cluster, points, luck, seed=seed, n_resamples=n_resamples)
    rise = _rise(draws, rates, len(points))
    shape = _shape(rise)
    why = _why_no_fit(points, draws, shape)
    law = resampled = None
    if why is None and draws is not None:
        n_cases = float(len(by_case))
        law = fit_power_laws(sizes, rates[None, :], n_cases, rounds=_EXACT_ROUNDS)
        resampled = fit_power_laws(sizes, draws, n_cases, rounds=_QUICK_ROUNDS)
    gain, most_gain = _gain(sizes, law, resampled, rise, why)
    return LearningCurve(
        points=tuple(points),
        success=tuple(_success(column, cluster) for column in by_case.T),
        luck=luck,
        shape=shape,
        why_no_fit=why,
        law=law,
        resampled=resampled,
        rise=rise,
        forecasts=tuple((times, _forecast(times * sizes[-1], law, resampled, why)) for times in FORECAST_TIMES),
        gain=gain,
        most_gain=most_gain,
        needed=None if target is None else _need(target, sizes[-1], law, resampled, why),
    )


def pooled_luck(points: Sequence[CurvePoint]) -> float | None:
    """Standard deviation of success between draws of labels, over all sizes that have several; `None` where none has."""
    several = [point.right.mean(axis=1) for point in points if len(point.right) > 1]
    freedom = sum(len(rates) - 1 for rates in several)
    if not freedom:
        return None
    return math.sqrt(sum(float(((rates - rates.mean()) ** 2).sum()) for rates in several) / freedom)


# --- private ---------------------------------------------------------------------------------------------------------


def _resampled_rates(
    by_case: Floats, cluster: Ints, points: Sequence[CurvePoint], luck: float | None, *, seed: int, n_resamples: int
) -> Floats | None:
    """Success at every size in resamples of the dev cases, shape (n_resamples, n_sizes)."""
    n_clusters = int(cluster.max()) + 1 if len(cluster) else 0
    if n_clusters < MIN_RESAMPLED:
        return None
    sums = cluster_sums(cluster, n_clusters, np.ones(len(by_case)), *by_case.T)
    totals = bootstrap_sums(sums, seed=seed, n_resamples=n_resamples)
    # Resamples vary by a factor (n - 1) / n too little; with few clusters that shows.
    rates = totals[:, 1:] / totals[:, :1]
    centre = by_case.mean(axis=0)
    rates = centre + (rates - centre) * math.sqrt(n_clusters / (n_clusters - 1))
    if luck:
        n_draws = np.array([len(point.right) for point in points])
        rates = rates + np.random.default_rng([seed, 2]).normal(0.0, luck / np.sqrt(n_draws), rates.shape)
    clipped: Floats = np.clip(rates, 0.0, 1.0)
    return clipped


def _success(by_case: Floats, cluster: Ints) -> Figure:
    rate, n = float(by_case.mean()), effective_n(by_case, cluster, alpha=ALPHA)
    if n <= 0:
        return Figure(value=rate)
    low, high = wilson(rate, n, alpha=ALPHA)
    return Figure(value=rate, low=low, high=high)


def _rise(draws: Floats | None, rates: Floats, n_sizes: int) -> Figure:
    if n_sizes < 2:
        return unknown("there is one size only")
    value = float(rates[-1] - rates[0])
    if draws is None:
        return Figure(value=value)
    low, high = _ends(draws[:, -1] - draws[:, 0])
    return Figure(value=value, low=low, high=high)


def _shape(rise: Figure) -> Shape:
    if rise.low is None or rise.high is None:
        return "unknown"
    if rise.low > 0:
        return "rising"
    return "falling" if rise.high < 0 else "flat"


def _why_no_fit(points: Sequence[CurvePoint], draws: Floats | None, shape: Shape) -> str | None:
    if len(points) < FEWEST_SIZES:
        return f"a curve needs {FEWEST_SIZES} sizes, and there are {len(points)}"
    if draws is None:
        return f"dev has fewer than {MIN_RESAMPLED} independent cases"
    first, last = points[0].n_labels, points[-1].n_labels
    if shape == "falling":
        return f"success falls from {first:,} to {last:,} labels: something else than their number is the matter"
    if shape == "flat":
        return f"success does not surely rise from {first:,} to {last:,} labels, so nothing can be told of its course"
    return None


def _forecast(n: float, law: PowerLaws | None, resampled: PowerLaws | None, why: str | None) -> Figure:
    if law is None or resampled is None:
        return unknown(why or "no law was fitted")
    low, high = _ends(resampled.success(n))
    return Figure(value=float(law.success(n)[0]), low=low, high=high, provenance=_forecast_source(law))


def _gain(
    sizes: Floats, law: PowerLaws | None, resampled: PowerLaws | None, rise: Figure, why: str | None
) -> tuple[Figure, float | None]:
    if law is not None and resampled is not None:
        n = float(sizes[-1])
        low, high = _ends(resampled.success(2 * n) - resampled.success(n))
        value = float(law.success(2 * n)[0] - law.success(n)[0])
        return Figure(value=value, low=low, high=high, provenance=_forecast_source(law)), high
    if rise.high is None or len(sizes) < FEWEST_SIZES:
        return unknown(why or "no law was fitted"), None
    return unknown(why or "no law was fitted"), max(0.0, rise.high / math.log2(sizes[-1] / sizes[0]))


def _need(target: float, n: float, law: PowerLaws | None, resampled: PowerLaws | None, why: str | None) -> Need:
    if law is None or resampled is None:
        nothing = why or "no law was fitted"
        return Need(target=target, kind="unknown", labels=None, low=None, high=None, p_reached=None, because=nothing)
    most = OUT_OF_REACH * n
    labels = float(law.labels_for(target)[0])
    drawn = resampled.labels_for(target)
    drawn = np.where(drawn > most, np.inf, drawn)
    ends = np.quantile(drawn, [ALPHA / 2, 1 - ALPHA / 2], method="inverted_cdf")
    low, high = (float(end) if math.isfinite(end) else None for end in ends)
    kind: NeedKind = "about"
    if low is None:
        kind = "never"
    elif labels > TOLD_EXACTLY * n:
        kind = "beyond"
    return Need(
        target=target,
        kind=kind,
        labels=labels if kind == "about" else None,
        low=low,
        high=high,
        p_reached=float(np.isfinite(drawn).mean()),
    )


def _ends(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)


def _forecast_source(law: PowerLaws) -> Provenance:
    return Provenance(kind="assumed", source=f"power law through the sizes tried, up to {law.unit:,.0f} labels")
