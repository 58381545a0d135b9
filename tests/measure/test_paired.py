import itertools
import math

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep

from steelyard.measure.paired import (
    cases_needed,
    e_value,
    holm,
    log_e_values,
    mcnemar,
    newcombe,
    sign_flip_test,
    square_and_add,
)


def test_cases_needed_by_hand() -> None:
    """8 points at a discordance of 0.2: √n is the root of 0.08 n - 1.2467 √n - 1 = 0, so 268 cases."""
    # noise = 1.959964 · √0.2 + 0.841621 · √(0.2 - 0.0064) = 0.876523 + 0.370313 = 1.246836
    # √n = (1.246836 + √(1.554600 + 0.32)) / 0.16 = 16.3499, n = 267.3
    assert cases_needed(0.08, 0.2, 1e12, margin=0.0) == 268


@pytest.mark.parametrize(("b", "c"), [(0, 0), (3, 9), (154, 165), (222, 213), (1, 0), (40, 2)])
def test_mcnemar_agrees_with_statsmodels(b: int, c: int) -> None:
    """The exact p-value of an independent implementation."""
    assert mcnemar(b, c) == pytest.approx(reference_mcnemar([[5, b], [c, 5]], exact=True).pvalue, rel=1e-9)


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [((36, 12, 2, 0), 0.0569, 0.3404), ((20, 12, 2, 16), 0.0562, 0.3292), ((14, 5, 0, 22), 0.011, 0.226)],
)
def test_newcombe_gives_the_published_intervals(table: tuple[int, ...], low: float, high: float) -> None:
    """Worked examples of Newcombe (1998) and of Altman et al. (2000)."""
    found = newcombe(*table)
    places = 3 if high == 0.226 else 4
    assert (round(found.low, places), round(found.high, places)) == (low, high)


def test_uncorrelated_square_and_add_is_the_unpaired_newcombe_interval() -> None:
    """With no correlation it agrees with the interval for independent samples."""
    reference = confint_proportions_2indep(45, 60, 30, 60, method="newcomb", compare="diff")
    assert square_and_add(0.75, 0.5, 60, 0.0) == pytest.approx(reference, abs=1e-9)


def test_sign_flip_is_mcnemar_for_single_cases_and_exact_for_clusters() -> None:
    """All sign patterns counted by hand give the same p-value."""
    assert sign_flip_test([1] * 3 + [-1] * 9 + [0] * 4) == pytest.approx(mcnemar(3, 9), rel=1e-12)
    for totals in ([3, 1, -1, 2, 2], [2, 2, 2, -2], [5, -1, -1, -1], [4, 0, 3, 3, 1, -2]):
        patterns = [abs(sum(s * t for s, t in zip(signs, totals, strict=True))) for signs in
                    itertools.product([-1, 1], repeat=len(totals))]  # fmt: skip
        expected = np.mean([pattern >= abs(sum(totals)) for pattern in patterns])
        assert sign_flip_test(totals) == pytest.approx(expected, abs=1e-12)


def test_sign_flip_of_very_many_cases_is_the_normal_limit() -> None:
    """Beyond the exact range the approximation joins smoothly."""
    rng = np.random.default_rng(0)
    totals = rng.choice([-2, -1, 1, 2], 9_000)
    totals[:150] = np.abs(totals[:150])
    exact = sign_flip_test(totals)
    assert sign_flip_test(np.tile(totals, 2)) < exact
    assert 0 < exact < 1


def test_holm_agrees_with_statsmodels() -> None:
    """Adjusted p-values in the given order."""
    p = [0.04, 0.001, 0.2, 0.03, 0.03]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1].tolist())
    assert holm([]) == []


def test_watching_the_e_process_does_not_raise_false_alarms() -> None:
    """Stopping at the first value of 20 or more goes wrong in at most 5% of studies without any difference."""
    rng = np.random.default_rng(11)
    signs = rng.choice([-1, 1], (2000, 400))
    alarms = [log_e_values(one).max() >= math.log(20) for one in signs]
    assert np.mean(alarms) <= 0.05


def test_the_e_process_finds_a_real_difference_and_ignores_order() -> None:
    """A 3:1 split is found; the last value depends on the counts only."""
    signs = [1, 1, 1, -1] * 20
    running = log_e_values(signs)
    assert running[-1] == pytest.approx(log_e_values(sorted(signs))[-1])
    assert math.exp(running[-1]) == pytest.approx(e_value(60, 20))
    assert e_value(60, 20) > 20
    assert e_value(0, 0) == 1


def test_cases_needed_settles_with_the_promised_power() -> None:
    """At the number it names, about 80% of studies with these rates find the difference."""
    needed = cases_needed(0.06, 0.2, 10**6, margin=0.02)
    assert needed is not None
    rng = np.random.default_rng(4)
    cells = rng.multinomial(needed, [0.13, 0.07, 0.8], size=400)
    found = [mcnemar(int(b), int(c)) <= 0.05 for b, c, _ in cells]
    assert 0.7 < np.mean(found) < 0.9


def test_no_number_of_cases_settles_what_stays_unscored() -> None:
    """When the unscored share exceeds difference and margin, more of the same does not help."""
    assert cases_needed(0.01, 0.1, 200, margin=0.02, unscored_share=0.1) is None
    assert cases_needed(0.02, 0.1, 10**9, margin=0.02) is not None
