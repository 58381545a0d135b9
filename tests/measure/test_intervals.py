import math
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from steelyard.measure.intervals import (
    bca_interval,
    bootstrap_sums,
    effective_n,
    mean_interval,
    percentile,
    percentile_interval,
    ratio,
    wilson,
)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (1, 7), (19, 20), (20, 20), (359, 1200)])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_wilson_agrees_with_statsmodels(k: int, n: int, alpha: float) -> None:
    """An independent implementation gives the same interval."""
    assert wilson(k / n, n, alpha=alpha) == pytest.approx(proportion_confint(k, n, alpha, "wilson"), abs=1e-12)


def test_wilson_covers_where_wald_fails() -> None:
    """At n = 20 and a rate of 0.95 the exact coverage is near its level, where Wald has 65%."""
    n, p = 20, 0.95
    covers = [low <= p <= high for low, high in (wilson(k / n, n) for k in range(n + 1))]
    assert stats.binom.pmf(np.arange(n + 1), n, p) @ covers > 0.92


def test_independent_cases_are_worth_what_they_are() -> None:
    """Without shared clusters nothing is taken off."""
    assert effective_n(np.array([1.0, 0, 1, 1]), np.arange(4)) == 4


def test_copies_of_a_case_in_one_cluster_are_worth_one() -> None:
    """Ten clusters of five equal cases are at most ten cases."""
    values = np.repeat(np.array([1.0, 0] * 5), 5)
    assert effective_n(values, np.repeat(np.arange(10), 5)) <= 10
    assert effective_n(np.ones(50), np.repeat(np.arange(10), 5)) <= 10


def test_clustered_wilson_covers() -> None:
    """With strongly correlated clusters the interval still covers in about 95 of 100 studies; the naive one does not."""
    rng = np.random.default_rng(3)
    cluster = np.repeat(np.arange(30), 6)
    hits = naive = 0
    for _ in range(300):
        p = rng.beta(1.4, 0.6, 30)  # mean 0.7
        values = (rng.random(180) < p[cluster]).astype(float)
        low, high = wilson(values.mean(), effective_n(values, cluster))
        hits += low <= 0.7 <= high
        low, high = wilson(values.mean(), 180)
        naive += low <= 0.7 <= high
    assert hits / 300 > 0.92
    assert naive / 300 < 0.85


def test_percentile_is_a_value_that_occurred() -> None:
    """The smallest value that the asked share does not exceed."""
    values = np.arange(1.0, 21.0)
    assert percentile(values, 0.95) == 19
    assert percentile(values, 0.5) == 10
    assert percentile(np.array([3.0]), 0.95) == 3


def test_ideal_bootstrap_is_what_many_resamples_approach() -> None:
    """The closed form agrees with drawing the bootstrap."""
    rng = np.random.default_rng(0)
    values = np.sort(rng.exponential(size=120))
    drawn = np.sort(values[rng.integers(0, 120, (40_000, 120))], axis=1)[:, math.ceil(0.95 * 120) - 1]
    low, high = np.quantile(drawn, [0.025, 0.975], method="inverted_cdf")
    found = percentile_interval(values, 0.95)
    assert found[0] is not None
    assert found[1] is not None
    # Quantiles of a discrete distribution: at most one order statistic apart.
    assert abs(np.searchsorted(values, found[0]) - np.searchsorted(values, low)) <= 1
    assert abs(np.searchsorted(values, found[1]) - np.searchsorted(values, high)) <= 1


def test_a_percentile_the_sample_cannot_bound_has_no_upper_end() -> None:
    """With 40 cases nothing bounds the p95 from above; with 100 something does."""
    values = np.random.default_rng(1).exponential(size=100)
    low, high = percentile_interval(values[:40], 0.95)
    assert low is not None
    assert high is None
    assert None not in percentile_interval(values, 0.95)
    assert percentile_interval(values[:4], 0.5) == (None, None)


@pytest.mark.parametrize("q", [0.05, 0.5, 0.95])
def test_each_end_of_a_percentile_interval_is_wrong_in_at_most_one_of_forty(q: float) -> None:
    """Whatever the distribution and at every n: the number of values below the percentile is binomial."""
    for n in range(5, 400):
        low, high = percentile_interval(np.arange(1.0, n + 1), q)
        assert low is None or stats.binom.cdf(low - 1, n, q) <= 0.025 + 1e-12
        assert high is None or stats.binom.sf(high - 1, n, q) <= 0.025 + 1e-12


def test_percentile_interval_agrees_with_scipy() -> None:
    """The exact interval of scipy's quantile test, or one rank wider where the bootstrap is."""
    values = np.random.default_rng(8).lognormal(size=237)
    for q in (0.1, 0.5, 0.9, 0.95):
        reference: Any = stats.quantile_test(values, q=0.0, p=q).confidence_interval(confidence_level=0.95)
        low, high = percentile_interval(values, q)
        ranks = np.searchsorted(np.sort(values), [low, reference.low, high, reference.high])
        assert 0 <= ranks[1] - ranks[0] <= 1
        assert 0 <= ranks[2] - ranks[3] <= 1


def test_percentile_interval_covers() -> None:
    """About 95 of 100 studies have the true p95 inside."""
    rng = np.random.default_rng(2)
    truth = stats.expon.ppf(0.95)
    found = [percentile_interval(rng.exponential(size=200), 0.95) for _ in range(400)]
    hits = [low <= truth <= high for low, high in found if low is not None and high is not None]
    assert 0.92 < np.mean(hits) <= 1


def test_mean_interval_of_few_cases_is_wider_than_plain_bca() -> None:
    """At twelve cases a resample varies too little and Student's quantile is larger; at hundreds both agree."""
    values = np.random.default_rng(6).lognormal(size=12)
    reference = stats.bootstrap((values,), np.mean, n_resamples=9999, rng=np.random.default_rng(1)).confidence_interval
    found = mean_interval(values, np.arange(12))
    assert found is not None
    assert found.low < reference.low
    assert found.high > reference.high


def test_mean_interval_agrees_with_scipy_bca() -> None:
    """Another BCa implementation gives the same interval up to resampling noise."""
    values = np.random.default_rng(5).lognormal(size=150)
    reference = stats.bootstrap((values,), np.mean, n_resamples=9999, rng=np.random.default_rng(1)).confidence_interval
    found = mean_interval(values, np.arange(150))
    assert found is not None
    width = reference.high - reference.low
    assert found.low == pytest.approx(reference.low, abs=0.06 * width)
    assert found.high == pytest.approx(reference.high, abs=0.06 * width)


def test_pooling_many_cases_keeps_the_interval() -> None:
    """Beyond a thousand cases random groups stand in for cases; the width stays that of the normal theory."""
    values = np.random.default_rng(7).exponential(size=30_000)
    found = mean_interval(values, np.arange(30_000))
    assert found is not None
    normal = 2 * 1.96 * values.std() / math.sqrt(30_000)
    assert found.high - found.low == pytest.approx(normal, rel=0.1)


def test_no_interval_without_enough_or_varying_cases() -> None:
    """Seven cases, or cases that are all alike, say nothing about spread: no interval instead of ±0."""
    assert mean_interval(np.array([1.0, 2, 3, 4, 5, 6, 7]), np.arange(7)) is None
    assert mean_interval(np.full(50, 0.25), np.arange(50)) is None
    assert mean_interval(np.arange(8.0), np.repeat(np.arange(4), 2)) is None


def test_cost_per_success_without_any_success_is_unbounded() -> None:
    """A ratio whose denominator is often zero has no interval."""
    sums = np.column_stack([np.arange(1.0, 11), np.eye(10)[0]])
    assert bca_interval(sums, ratio) is None


def test_same_seed_same_bytes() -> None:
    """Resampling depends on nothing but seed and number of units, so approaches are paired."""
    one = bootstrap_sums(np.arange(20.0).reshape(10, 2), seed=4)
    other = bootstrap_sums(np.arange(20.0).reshape(10, 2)[:, 1:], seed=4)
    assert one[:, 1].tobytes() == other[:, 0].tobytes()
    assert one.tobytes() != bootstrap_sums(np.arange(20.0).reshape(10, 2), seed=5).tobytes()
