"""Statistics of two approaches on the same cases: exact tests, paired intervals, evidence that may be watched."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from steelyard.measure.intervals import Interval, normal_quantile, wilson
from steelyard.measure.results import Floats, Ints

MAX_EXACT_RANGE = 20_000
"""Longest sign-flip distribution that is worked out exactly; beyond it a normal approximation is as good."""

MAX_CASES = 1_000_000
"""A study will not grow beyond this; `cases_to_settle` says 'none would' instead."""


def mcnemar(a_only: int, b_only: int) -> float:
    """Exact two-sided McNemar p-value: chance of a split at least this uneven between equally good approaches.

    Source: McNemar (1947), exact binomial version.
    """
    from scipy.special import bdtr

    n = a_only + b_only
    return min(1.0, 2 * float(bdtr(min(a_only, b_only), n, 0.5))) if n else 1.0


def sign_flip_test(totals: Sequence[int] | Ints) -> float:
    """Exact two-sided p-value of 'each unit's difference is as likely to have the opposite sign'.

    With one case per unit and differences of ±1 this is the exact McNemar test; with clusters (or repeats) the unit
    is the cluster and its difference the sum over its cases, so cases of a cluster stand or fall together.

    Args:
        totals: Differences per unit, whole numbers.

    Source: Fisher's randomisation test; the distribution is built by convolving one binomial per distinct size.
    """
    sizes, counts = np.unique(np.abs(np.asarray(totals, dtype=np.int64)), return_counts=True)
    sizes, counts = sizes[sizes > 0], counts[sizes > 0]
    observed = abs(int(np.sum(totals)))
    if len(sizes) == 0:
        return 1.0
    if len(sizes) == 1:
        step, n = int(sizes[0]), int(counts[0])
        larger = (n + observed // step) // 2
        return mcnemar(larger, n - larger)
    reach = int(sizes @ counts)
    if reach > MAX_EXACT_RANGE:
        from scipy.special import ndtr

        return min(1.0, 2 * float(ndtr(-observed / math.sqrt(float((sizes**2) @ counts)))))
    from scipy.special import gammaln

    distribution = np.ones(1)  # of the number of +1 steps; index i stands for the sum 2i - reach
    for size, n in zip(sizes.tolist(), counts.tolist(), strict=True):
        k = np.arange(n + 1)
        spread = np.zeros(size * n + 1)
        spread[::size] = np.exp(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1) - n * math.log(2))
        distribution = np.convolve(distribution, spread)
    sums = 2 * np.arange(reach + 1) - reach
    return min(1.0, float(distribution[np.abs(sums) >= observed].sum()))


def newcombe(both: float, a_only: float, b_only: float, neither: float, *, alpha: float = 0.05) -> Interval:
    """Interval of the difference of two paired proportions, `a` minus `b`: Newcombe's method 10.

    Args:
        both: Cases both got right; likewise the other three cells of the table. At least one case in all.
        a_only: Right for `a` alone.
        b_only: Right for `b` alone.
        neither: Right for none.
        alpha: One minus the confidence level.

    Source: Newcombe (1998), Statistics in Medicine 17, 2635-2650.
    """
    n = both + a_only + b_only + neither
    product = both * neither - a_only * b_only
    if product > 0:
        product = max(product - n / 2, 0.0)
    scale = (both + a_only) * (b_only + neither) * (both + b_only) * (a_only + neither)
    correlation = product / math.sqrt(scale) if scale > 0 else 0.0
    return square_and_add((both + a_only) / n, (both + b_only) / n, n, correlation, alpha=alpha)


def square_and_add(rate_a: float, rate_b: float, n: float, correlation: float, *, alpha: float = 0.05) -> Interval:
    """Interval of `rate_a - rate_b` from two Wilson intervals on `n` (effective) cases and their correlation.

    With counts and Newcombe's corrected phi this is his method 10; with shares (repeats) and an effective n
    (clusters) it is its natural extension.

    Source: Newcombe (1998); Zou and Donner (2008) for the general form.
    """
    return combined(
        rate_a, wilson(rate_a, n, alpha=alpha), rate_b, wilson(rate_b, n, alpha=alpha), correlation=correlation
    )


def combined(rate_a: float, a: Interval, rate_b: float, b: Interval, *, correlation: float) -> Interval:
    """Interval of `rate_a - rate_b` from the interval of each and their correlation, within -1..1.

    Source: Zou and Donner (2008), 'method of variance estimates recovery'.
    """
    difference = rate_a - rate_b

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))

    low = difference - reach(rate_a - a.low, b.high - rate_b)
    high = difference + reach(rate_b - b.low, a.high - rate_a)
    return Interval(max(-1.0, low), min(1.0, high))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for having made all these comparisons, in the given order.

    Source: Holm (1979).
    """
    adjusted = [1.0] * len(p_values)
    running = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, (len(p_values) - rank) * p_values[i])
        adjusted[i] = min(1.0, running)
    return adjusted


def log_e_values(signs: Sequence[int] | Ints) -> Floats:
    """Running log evidence that discordant pairs do not split evenly, after each pair.

    A uniform mixture over all splits against one half: (b! c! / (b + c + 1)!) · 2^(b + c). Its expectation under
    'split evenly' is at most 1 at any stopping time, so acting on a value of 1/α or more is wrong with probability
    at most α, however often and whenever one looks.

    Args:
        signs: +1 or -1 per discordant pair (with clusters: per cluster, by the sign of its sum), in the order seen.

    Returns:
        Shape (n_pairs,). Its last entry does not depend on the order.

    Source: Ville (1939); Ramdas et al. (2023) on e-processes.
    """
    from scipy.special import betaln

    plus = np.cumsum(np.asarray(signs) > 0)
    minus = np.cumsum(np.asarray(signs) < 0)
    log_e: Floats = betaln(plus + 1.0, minus + 1.0) + (plus + minus) * math.log(2)
    return log_e


def e_value(a_only: int, b_only: int) -> float:
    """The last of `log_e_values` as a number; 1 when there are no discordant pairs."""
    from scipy.special import betaln

    return math.exp(min(700.0, float(betaln(a_only + 1.0, b_only + 1.0)) + (a_only + b_only) * math.log(2)))


def cases_needed(
    difference: float,
    discordance: float,
    n: float,
    *,
    margin: float,
    unscored_share: float = 0.0,
    alpha: float = 0.05,
    power: float = 0.8,
) -> int | None:
    """Cases at which the comparison should be settled, one way or the other, if the observed rates are the true ones.

    The smaller of two numbers: cases for a McNemar test to find the difference, and cases for the interval to lie
    within ±margin, each with probability `power`. The observed rates are shrunk by one discordant case each way, so
    that no discordance so far is not taken for none ever.

    Args:
        difference: Observed success rate of `a` minus `b`.
        discordance: Share of cases where they disagree.
        n: Cases so far (effective number, where cases share clusters), above 0.
        margin: Within this the two count as equivalent.
        unscored_share: Share of cases that stay unscored; it is taken off the difference and off the margin, because
            more cases of the same kind do not remove it.
        alpha: Level of the test, already divided by the number of comparisons.
        power: Wanted probability of settling.

    Returns:
        Total number of cases, or `None` when it is beyond `MAX_CASES`.

    Source: Connor (1987) for McNemar, with Edwards's (1948) continuity correction for the exact test: the root of
        signal · n - noise · √n - 1 = 0; two one-sided tests for equivalence.
    """
    d = abs(difference) * n / (n + 2)
    spread = (discordance * n + 2) / (n + 2)
    z, z_power = normal_quantile(1 - alpha / 2), normal_quantile(power)
    variance = max(spread - d * d, 1e-9)
    needed = math.inf
    if d > unscored_share:
        noise, signal = z * math.sqrt(spread) + z_power * math.sqrt(variance), d - unscored_share
        needed = ((noise + math.sqrt(noise * noise + 4 * signal)) / (2 * signal)) ** 2
    room = margin - d - unscored_share
    if room > 0:
        needed = min(needed, (z + normal_quantile((1 + power) / 2)) ** 2 * variance / room**2)
    return math.ceil(needed) if needed <= MAX_CASES else None
