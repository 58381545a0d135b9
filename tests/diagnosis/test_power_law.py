"""The power law that is fitted to learning curves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit, minimize

from steelyard.diagnosis.power_law import FLATTEST, STEEPEST, fit_power_laws
from tests.diagnosis.curves import SIZES, answers, law

PLANTED = [(0.95, 0.10, 0.5), (0.9, 0.05, 0.8), (0.99, 0.2, 0.3), (0.8, 0.02, 1.2)]


@pytest.mark.parametrize(("a", "b", "c"), PLANTED)
def test_points_on_a_law_give_that_law_back(a: float, b: float, c: float) -> None:
    """Without noise the fit is the truth, and what least squares of another library finds."""
    rates = law(SIZES, a, b, c)
    found = fit_power_laws(SIZES, rates[None], 200, rounds=6)
    assert [found.a[0], found.b[0], found.c[0]] == pytest.approx([a, b, c], abs=2e-3)
    (other_a, other_b, other_c), _ = curve_fit(
        lambda n, a, b, c: a - b * (n / SIZES[-1]) ** -c, SIZES, rates, p0=(0.9, 0.1, 0.6), maxfev=20_000
    )
    assert [found.a[0], found.b[0], found.c[0]] == pytest.approx([other_a, other_b, other_c], abs=2e-3)


def test_with_noise_no_other_law_is_likelier() -> None:
    """A general optimiser over the same bounds finds nothing better than the grid does."""
    rng = np.random.default_rng(5)
    for _ in range(5):
        rates = answers(law(SIZES, 0.93, 0.12, 0.5), 300, rng=rng).mean(axis=0)

        def loss(parameters: np.ndarray, rates: np.ndarray = rates) -> float:
            p = np.clip(law(SIZES, *parameters), 1e-6, 1 - 1e-6)
            return -float((rates * np.log(p) + (1 - rates) * np.log1p(-p)).sum())

        bounds = [(0.0, 1.0), (0.0, None), (FLATTEST, STEEPEST)]
        best = min(
            minimize(loss, start, bounds=bounds, method="L-BFGS-B").fun
            for start in ([0.9, 0.1, 0.3], [0.95, 0.1, 1.0], [1.0, 0.2, 0.1])
        )
        found = fit_power_laws(SIZES, rates[None], 300, rounds=6)
        assert loss(np.array([found.a[0], found.b[0], found.c[0]])) <= best + 1e-6


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=3, max_size=5))
def test_whatever_the_points_the_law_keeps_its_bounds(rates: list[float]) -> None:
    """It never falls with more labels, never leaves 0 to 1, and every number is a number."""
    sizes = np.array([100.0 * 2**i for i in range(len(rates))])
    found = fit_power_laws(sizes, np.array([rates]), 100)
    assert found.b[0] >= 0
    assert found.a[0] <= 1
    assert 0 < found.c[0] <= STEEPEST * (1 + 1e-9)
    forecasts = [float(found.success(n)[0]) for n in (50, 100, 1000, 1e6)]
    assert forecasts == sorted(forecasts)
    assert all(0 <= one <= 1 for one in forecasts)


def test_many_laws_at_once_are_those_one_by_one() -> None:
    rates = np.array([law(SIZES, *one) for one in PLANTED])
    together = fit_power_laws(SIZES, rates, 200)
    for row, one in enumerate(rates):
        alone = fit_power_laws(SIZES, one[None], 200)
        assert (together.a[row], together.b[row], together.c[row]) == (alone.a[0], alone.b[0], alone.c[0])


def test_labels_for_a_target_by_hand() -> None:
    """0.9 - 0.1 · (n / 800)^-0.5 = 0.85 at (0.1 / 0.05)² = 4 times 800 labels; 0.9 is never reached."""
    found = fit_power_laws(SIZES, law(SIZES, 0.9, 0.1, 0.5)[None], 500, rounds=8)
    assert found.labels_for(0.85)[0] == pytest.approx(3200, rel=0.02)
    assert found.success(3200)[0] == pytest.approx(0.85, abs=1e-3)
    assert np.isinf(found.labels_for(0.95)[0])


def test_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="3 sizes"):
        fit_power_laws(SIZES[:2], np.array([[0.5, 0.6]]), 100)
