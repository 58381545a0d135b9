"""Learning curves: forecasts with honest intervals, and honesty where there is nothing to forecast."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from steelyard.diagnosis.learning_curve import CurvePoint, LearningCurve, learning_curve, pooled_luck
from steelyard.diagnosis.power_law import fit_power_laws
from steelyard.measure.results import Floats
from tests.diagnosis.curves import SIZES, answers, counted, law


def curve(right: Floats, *, target: float | None = None, seed: int = 0, n_resamples: int = 300) -> LearningCurve:
    points = [CurvePoint(n_labels=int(n), right=one[None]) for n, one in zip(SIZES, right.T, strict=True)]
    return learning_curve(points, np.arange(len(right)), target=target, seed=seed, n_resamples=n_resamples)


def planted(*, n_cases: int = 400, seed: int = 1) -> Floats:
    return answers(law(SIZES, 0.95, 0.1, 0.5), n_cases, rng=np.random.default_rng(seed))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("a", "b", "c", "n_cases"), [(0.95, 0.1, 0.5, 300), (0.9, 0.05, 0.8, 150), (0.9, 0.03, 1.0, 300)]
)
def test_forecast_intervals_hold_the_truth_as_often_as_they_say(a: float, b: float, c: float, n_cases: int) -> None:
    """Of 300 studies of one truth, about nine in ten intervals at twice the labels hold it.

    The resampling is done here for all curves in one fit, by the same steps as in `learning_curve`.
    """
    rng = np.random.default_rng(11)
    n_curves, n_resamples = 300, 100
    right = [answers(law(SIZES, a, b, c), n_cases, rng=rng) for _ in range(n_curves)]
    times = rng.multinomial(n_cases, np.full(n_cases, 1 / n_cases), size=n_resamples)
    rates = np.concatenate([times @ one / n_cases for one in right])
    found = fit_power_laws(SIZES, rates, n_cases, rounds=2).success(2 * SIZES[-1]).reshape(n_curves, n_resamples)
    low, high = np.quantile(found, [0.05, 0.95], axis=1)
    truth = float(law(2 * SIZES[-1], a, b, c))
    assert ((low <= truth) & (truth <= high)).mean() >= 0.85


def test_a_planted_curve_is_found() -> None:
    """Four thousand cases: the forecast at twice the labels lies near the truth, and its interval holds it."""
    found = curve(planted(n_cases=4000))
    (_, forecast), _ = found.forecasts
    truth = float(law(1600, 0.95, 0.1, 0.5))
    assert found.shape == "rising"
    assert forecast.value == pytest.approx(truth, abs=0.03)
    assert forecast.low is not None
    assert forecast.high is not None
    assert forecast.low <= truth <= forecast.high
    assert forecast.provenance.kind == "assumed"


def test_the_same_seed_gives_the_same_curve() -> None:
    right = planted()
    assert curve(right, seed=3).forecasts == curve(right, seed=3).forecasts
    assert curve(right, seed=3).forecasts != curve(right, seed=4).forecasts


def test_cases_that_stay_together_know_less() -> None:
    """The same answers in clusters of five equal cases: a wider forecast, the same value."""
    right = planted(n_cases=100)
    points = [CurvePoint(n_labels=int(n), right=np.repeat(one, 5)[None]) for n, one in zip(SIZES, right.T, strict=True)]
    apart = learning_curve(points, np.arange(500))
    together = learning_curve(points, np.repeat(np.arange(100), 5))

    def width(found: LearningCurve) -> float:
        _, forecast = found.forecasts[0]
        assert forecast.low is not None
        assert forecast.high is not None
        return forecast.high - forecast.low

    assert together.forecasts[0][1].value == apart.forecasts[0][1].value
    assert width(together) > 1.3 * width(apart)


def test_luck_of_the_draw_is_measured_and_widens_the_forecast() -> None:
    """Two draws at 80% and 90%, two at 60% and 70%: √(2 · 2 · 0.05² / 2) = 0.0707."""
    shares = [(0.6, 0.7), (0.8, 0.9)]
    points = [
        CurvePoint(n_labels=100 * (i + 1), right=np.array([(np.arange(100) < 100 * share) for share in pair], float))
        for i, pair in enumerate(shares)
    ]
    assert pooled_luck(points) == pytest.approx(0.0707, abs=1e-4)
    right = planted()
    calm = [CurvePoint(n_labels=int(n), right=np.stack([one, one])) for n, one in zip(SIZES, right.T, strict=True)]
    shifted = right.copy()
    shifted[:20] = 0
    wild = [
        CurvePoint(n_labels=int(n), right=np.stack([one, other]))
        for n, one, other in zip(SIZES, right.T, shifted.T, strict=True)
    ]
    spreads = []
    for points in (calm, wild):
        found = learning_curve(points, np.arange(len(right)))
        forecast = found.forecasts[0][1]
        spreads.append((forecast.high or 0.0) - (forecast.low or 0.0))
    assert spreads[1] > spreads[0]


def test_a_flat_curve_is_not_fitted_but_bounded() -> None:
    """80% at every size: no forecast, and a doubling brings no more than the rise so far could have."""
    found = learning_curve(counted([80, 80, 81, 81], 100), np.arange(100), target=0.9)
    assert found.shape == "flat"
    assert found.law is None
    assert found.why_no_fit is not None
    assert "does not surely rise" in found.why_no_fit
    assert all(forecast.value is None for _, forecast in found.forecasts)
    assert found.gain.value is None
    assert found.most_gain == pytest.approx((found.rise.high or 0.0) / 3)
    assert found.needed is not None
    assert found.needed.kind == "unknown"


def test_a_falling_curve_says_so() -> None:
    found = learning_curve(counted([90, 85, 80, 70], 100), np.arange(100))
    assert found.shape == "falling"
    assert found.why_no_fit is not None
    assert "falls" in found.why_no_fit
    assert found.most_gain == 0


@pytest.mark.parametrize(("n_right", "n_cases", "why"), [([70, 80], 100, "3 sizes"), ([3, 4, 5, 6], 7, "independent")])
def test_too_little_to_fit_is_said(n_right: list[int], n_cases: int, why: str) -> None:
    found = learning_curve(counted(n_right, n_cases), np.arange(n_cases))
    assert found.law is None
    assert found.why_no_fit is not None
    assert why in found.why_no_fit
    assert found.most_gain is None


def test_labels_for_targets() -> None:
    """One within the sizes tried is a number; one above all that labels can bring is out of reach."""
    right = planted(n_cases=2000)
    near, never = curve(right, target=0.83).needed, curve(right, target=0.9999).needed
    assert near is not None
    assert never is not None
    assert near.kind == "about"
    assert near.labels == pytest.approx(800 * (0.1 / 0.12) ** 2, rel=0.25)
    assert near.low is not None
    assert near.high is not None
    assert near.low < (near.labels or 0.0) < near.high
    assert never.kind in ("never", "beyond")
    assert never.labels is None
    assert never.high is None


def test_sizes_must_rise() -> None:
    points = counted([70, 80, 90], 100)
    with pytest.raises(ValueError, match="rising"):
        learning_curve([points[0], replace(points[1], n_labels=points[0].n_labels), points[2]], np.arange(100))
