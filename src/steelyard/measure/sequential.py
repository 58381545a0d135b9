"""Evidence that may be looked at after every case: test martingales for bounded differences, and confidence sequences.

A gambler who bets on "the mean is above 0" cannot get rich when it is not: the wealth of such bets has expectation at
most 1 at every moment, planned or not (Ville). So acting once the wealth reaches 1/α is wrong with probability at
most α, however often and whenever one looks. All functions take many processes at once.

Source: Waudby-Smith and Ramdas (2024), Estimating means of bounded random variables by betting; Ramdas, Grünwald, Vovk
and Shafer (2023), Game-theoretic statistics and safe anytime-valid inference.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from steelyard.measure.layout import Floats

BETS = (0.95, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.025, 0.0125)
"""Shares of the largest safe bet that are mixed with equal weights: large ones find large differences within ten cases,
small ones small differences within thousands. None is the whole, so that one case at the bound ruins nobody."""

RESOLUTION = 1000
"""Ends of a confidence sequence are rounded outwards to this fraction."""


def log_wealth(values: Floats) -> Floats:
    """Running log wealth against 'the mean is at most 0', an equal mixture over the bets of `BETS`.

    Under the null (each value has, given those before it, a mean of at most 0) the wealth has expectation at most 1 at
    any stopping time. It does not matter how often and when one looks, nor how the values depend on each other.

    Args:
        values: In units of the bound, shape (..., n): each at least -1. A value below that, where the bound was only an
            estimate, ruins the bets it is too large for and leaves the smaller ones; no wealth becomes negative.

    Returns:
        Same shape; entry k is the log wealth after the first k + 1 values. `-inf` once all bets are ruined.
    """
    total: Floats | None = None
    for bet in BETS:
        with np.errstate(divide="ignore"):
            grown = np.cumsum(np.log(np.maximum(1.0 + bet * values, 0.0)), axis=-1)
        total = grown if total is None else np.logaddexp(total, grown)
    assert total is not None
    wealth: Floats = total - math.log(len(BETS))
    return wealth


def log_wealth_of_differences(differences: Floats, bound: float) -> Floats:
    """Running log wealth against 'the mean difference is at most 0'.

    Args:
        differences: Paired differences in their own unit, shape (..., n); each at least `-bound`.
        bound: Above 0.

    Raises:
        ValueError: A difference is below `-bound`, or the bound is not above 0.
    """
    if bound <= 0 or (differences.size and float(differences.min()) < -bound * (1 + 1e-9)):
        raise ValueError(f"differences must be at least -{bound}, with a bound above 0")
    return log_wealth(differences / bound)


def first_crossing(log_wealths: Floats, alpha: float) -> NDArray[np.int64]:
    """After how many values the wealth first reached 1/α; 0 where it never did. Shape (...,)."""
    crossed = log_wealths >= -math.log(alpha)
    return np.where(crossed.any(axis=-1), crossed.argmax(axis=-1) + 1, 0)


def confidence_sequence(values: Floats, *, alpha: float = 0.05) -> tuple[Floats, Floats]:
    """Bounds of a mean in [0, 1] that hold after every value at once, with probability 1 - α.

    The means that neither a gambler betting on more nor one betting on less has refuted; every bound is kept once it
    was reached, so the sequence only narrows.

    Args:
        values: Shape (n,), each in [0, 1].
        alpha: Chance that the mean is ever outside.

    Returns:
        `low` and `high`, shape (n,) each.

    Raises:
        ValueError: A value is outside [0, 1].

    Source: Waudby-Smith and Ramdas (2024), the hedged capital process with constant bets.
    """
    if values.size and (float(values.min()) < 0 or float(values.max()) > 1):
        raise ValueError("values must lie in [0, 1]")
    return _lower_bounds(values, alpha / 2), 1 - _lower_bounds(1 - values, alpha / 2)


def _lower_bounds(values: Floats, alpha: float) -> Floats:
    """Largest mean of the grid refuted so far; shape (n,).

    With constant bets the wealth against a mean falls as the mean rises: refuting one refutes all below it.
    """
    n = len(values)
    means = np.arange(1, RESOLUTION + 1) / RESOLUTION
    low = np.zeros(n)
    # In chunks of means, so that memory stays flat; from below, ending where nothing is refuted any more.
    for chunk in np.array_split(means, max(1, n * RESOLUTION // 2_000_000)):
        refuted = log_wealth(values[None, :] / chunk[:, None] - 1.0) >= -math.log(alpha)
        if not refuted.any():
            break
        low = np.maximum(low, np.where(refuted, chunk[:, None], 0.0).max(axis=0))
    bounds: Floats = np.maximum.accumulate(low)
    return bounds
