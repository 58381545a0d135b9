import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import normal_power_het

from steelyard.measure.comparing import comparisons
from steelyard.measure.paired import cases_needed
from steelyard.measure.power import detectable_figure, minimum_detectable

from .rows import results_of


def exact_power(n: int, difference: float, discordance: float, alpha: float) -> float:
    """Chance that the exact McNemar test finds the difference and its sign, summed over all outcomes."""
    found = 0.0
    for m in range(1, n + 1):
        seen = stats.binom.pmf(m, n, discordance)
        if seen > 1e-9:
            b = np.arange(m // 2 + 1, m + 1)
            p = np.minimum(1, 2 * stats.binom.sf(b - 1, m, 0.5))
            right_way = (discordance + difference) / 2 / discordance
            found += seen * float(stats.binom.pmf(b, m, right_way) @ (p <= alpha))
    return found


def test_hand_worked() -> None:
    """100 cases of which a quarter disagree show 14.8 points, plus what unscored cases may hide."""
    # (d - 0.01) · 10 = 1.959964 · 0.5 + 0.841621 · √(0.25 - d²), iterated by hand: 0.15, 0.14814, 0.14819, 0.14819
    assert minimum_detectable(100, 0.25) == pytest.approx(0.14819, abs=1e-5)
    hidden = minimum_detectable(100, 0.25, unscored_share=0.05)
    assert hidden == pytest.approx(0.19669, abs=1e-5)  # (d - 0.06) · 10 = the same right-hand side
    # All disagreements one way: (d - 0.02) · √50 = √d · (1.959964 + 0.841621 · √(1 - d)), by hand 0.1858
    assert minimum_detectable(50, 0.0) == pytest.approx(0.1858, abs=5e-5)


@pytest.mark.parametrize("n", [100, 400, 3000])
@pytest.mark.parametrize("discordance", [0.1, 0.3, 0.6])
@pytest.mark.parametrize(("alpha", "power"), [(0.05, 0.8), (0.01, 0.9)])
def test_agrees_with_statsmodels(n: int, discordance: float, alpha: float, power: float) -> None:
    """A normal test with other variances under null and alternative has the promised power at this difference."""
    found = minimum_detectable(n, discordance, alpha=alpha, power=power)
    assert found is not None
    spread = max(discordance, found)
    reference = normal_power_het(
        found - 1 / n,
        n,
        alpha / 2,
        std_null=math.sqrt(spread),
        std_alternative=math.sqrt(spread - found**2),
        alternative="larger",
    )
    assert reference == pytest.approx(power, abs=1e-6)


@pytest.mark.parametrize(("n", "discordance"), [(20, 0.1), (50, 0.3), (100, 0.1), (100, 0.5), (300, 0.05), (300, 0.3)])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 6])
def test_the_exact_test_has_the_promised_power(n: int, discordance: float, alpha: float) -> None:
    """The formula is approximate, and errs on the safe side: power is 80% or more, hardly more where cases are many."""
    found = minimum_detectable(n, discordance, alpha=alpha)
    assert found is not None
    power = exact_power(n, found, max(discordance, found), alpha)
    assert 0.8 <= power <= (0.87 if n * discordance >= 30 else 0.985)


@given(
    n=st.integers(30, 5000),
    discordance=st.floats(0.02, 0.9),
    share=st.floats(0, 0.05),
    alpha=st.sampled_from([0.05, 0.01]),
)
def test_it_is_the_inverse_of_cases_needed(n: int, discordance: float, share: float, alpha: float) -> None:
    """The difference that n cases show is the one for which n cases are needed."""
    found = minimum_detectable(n, discordance, alpha=alpha)
    assert found is not None
    if found < discordance:  # beyond it, cases_needed would be told of a discordance there cannot be
        # So many cases so far that the two disagreements it adds do not matter.
        assert cases_needed(found, discordance, 1e12, margin=0.0, alpha=alpha) == pytest.approx(n, abs=1.001)
    shifted = minimum_detectable(n, discordance, unscored_share=share, alpha=alpha)
    assert shifted is None or found <= shifted <= found + 3 * share + 1e-9


@given(n=st.integers(5, 2000), discordance=st.floats(0, 1))
def test_more_cases_and_fewer_comparisons_find_smaller_differences(n: int, discordance: float) -> None:
    """It falls with n and rises with the number of comparisons; nothing is beyond 100 points."""
    found, more = minimum_detectable(n, discordance), minimum_detectable(2 * n, discordance)
    strict = minimum_detectable(n, discordance, alpha=0.005)
    if found is not None:
        assert more is not None
        assert more < found <= 1
        assert strict is None or strict > found


def test_so_few_cases_find_nothing() -> None:
    """Five cases cannot give p <= 0.05, and the figure says so."""
    assert minimum_detectable(5, 0.5) is None
    assert detectable_figure(5, 0.5).value is None
    assert "no difference, however large" in (detectable_figure(5, 0.5).unknown_because or "")
    assert detectable_figure(50, None).value is None


def test_comparisons_carry_it() -> None:
    """It stands in every comparison and in its JSON, smaller with more cases and with fewer comparisons."""
    few = comparisons(results_of({"a": [1, 0, 1, 1] * 15, "b": [1, 1, 0, 1] * 15}))[0]
    many = comparisons(results_of({"a": [1, 0, 1, 1] * 60, "b": [1, 1, 0, 1] * 60}))[0]
    three = comparisons(results_of({name: [1, 0, 1, 1] * 60 for name in "xyz"} | {"x": [1, 1, 0, 1] * 60}))[0]
    assert few.minimum_detectable.value is not None
    assert many.minimum_detectable.value is not None
    assert three.minimum_detectable.value is not None
    assert many.minimum_detectable.value < few.minimum_detectable.value
    assert many.minimum_detectable.value < three.minimum_detectable.value
    assert many.to_json()["minimum_detectable"]["value"] == many.minimum_detectable.value
    none = comparisons(results_of({"a": [1, 0], "b": [1, 1]}))[0]
    assert none.minimum_detectable.value is None
