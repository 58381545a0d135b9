"""A power law of learning, success = a - b · n^-c, fitted to several sizes at once for many resamples.

Error that falls as a power of the number of examples, down to a floor 1 - a, describes learners of many kinds over
orders of magnitude. It is an empirical law: it holds between the sizes tried and not far beyond them.

Source: C. Cortes et al., Learning Curves: Asymptotic Values and Rate of Convergence, NIPS 6 (1993); J. Hestness et al.,
Deep Learning Scaling is Predictable, Empirically, arXiv:1712.00409 (2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from steelyard.measure.layout import Floats

STEEPEST: Final = 1.5
"""Largest exponent c."""
FLATTEST: Final = 0.01
"""Smallest exponent c; the curve is then a straight line over the logarithm of n."""
FEWEST_SIZES: Final = 3
"""Fewer sizes than parameters leave the law undetermined."""

_GRID: Final = 20
_ROUNDS: Final = 3
_REWEIGHTINGS: Final = 4
_NEARLY_0: Final = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerLaws:
    """One law or many: success = a - b · (n / unit)^-c."""

    a: Floats
    """Success that more labels approach, at most 1; shape (n_laws,)."""
    b: Floats
    """What is missing from it at `unit` labels, at least 0."""
    c: Floats
    """How quickly that shrinks, `FLATTEST` to `STEEPEST`."""
    unit: float
    """Number of labels that b refers to; keeps b of the size of a rate."""

    def success(self, n: float) -> Floats:
        """Success at `n` labels, 0..1; shape (n_laws,)."""
        rate: Floats = np.clip(self.a - self.b * (n / self.unit) ** -self.c, 0.0, 1.0)
        return rate

    def labels_for(self, target: float) -> Floats:
        """Labels at which each law reaches `target`; infinite where it never does; shape (n_laws,)."""
        never = self.a <= target
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            n = self.unit * (self.b / np.where(never, 1.0, self.a - target)) ** (1 / self.c)
        return np.where(never, np.inf, n)


def fit_power_laws(sizes: Floats, rates: Floats, n_cases: float, *, rounds: int = _ROUNDS) -> PowerLaws:
    """The likeliest law of each row of rates, by binomial likelihood with 0 <= b, 0 < c <= `STEEPEST`, a <= 1.

    For a given c the law is linear in a and b, so these are found by iteratively reweighted least squares, held to
    their bounds; c is found on a grid that is narrowed around the best.

    Args:
        sizes: Numbers of labels, rising; shape (n_sizes,), at least `FEWEST_SIZES`.
        rates: Share of right answers at each size; shape (n_laws, n_sizes).
        n_cases: Cases behind each rate.
        rounds: How often the grid is narrowed; each narrows it about tenfold.
    """
    if len(sizes) < FEWEST_SIZES:
        raise ValueError(f"a power law needs {FEWEST_SIZES} sizes, not {len(sizes)}")
    unit = float(sizes[-1])
    log_size = np.log(sizes / unit)
    low, high = np.full(len(rates), np.log(FLATTEST)), np.full(len(rates), np.log(STEEPEST))
    rows = np.arange(len(rates))
    a = b = c = best = np.zeros(len(rates))
    for _ in range(rounds):
        grid = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, _GRID)  # (n_laws, n_grid)
        tried = np.exp(grid)
        levels, drops, likelihood = _linear_fits(np.exp(-tried[:, :, None] * log_size), rates, n_cases)
        best = likelihood.argmax(axis=1)
        a, b, c = levels[rows, best], drops[rows, best], tried[rows, best]
        low, high = grid[rows, np.maximum(best - 1, 0)], grid[rows, np.minimum(best + 1, _GRID - 1)]
    return PowerLaws(a=a, b=b, c=c, unit=unit)


# --- private ---------------------------------------------------------------------------------------------------------


def _linear_fits(x: Floats, rates: Floats, n_cases: float) -> tuple[Floats, Floats, Floats]:
    """a, b and log-likelihood for every law and exponent; `x` is (n/unit)^-c, shape (n_laws, n_grid, n_sizes)."""
    y = np.broadcast_to(rates[:, None, :], x.shape)
    p = (y * n_cases + 0.5) / (n_cases + 1)
    a = b = np.zeros(x.shape[:2])
    for _ in range(_REWEIGHTINGS):
        w = 1 / (p * (1 - p))
        total = w.sum(axis=2)
        mean_x, mean_y = (w * x).sum(axis=2) / total, (w * y).sum(axis=2) / total
        off = x - mean_x[:, :, None]
        b = -(w * off * y).sum(axis=2) / np.maximum((w * off * off).sum(axis=2), 1e-300)
        a = mean_y + b * mean_x
        # Beyond a bound the best lies on it: the problem is convex for a given exponent.
        b_at_1 = (w * x * (1 - y)).sum(axis=2) / (w * x * x).sum(axis=2)
        a, b = np.where(a > 1, 1.0, a), np.where(a > 1, b_at_1, b)
        a, b = np.where(b < 0, mean_y, a), np.maximum(b, 0.0)
        p = np.clip(a[:, :, None] - b[:, :, None] * x, _NEARLY_0, 1 - _NEARLY_0)
    likelihood = (y * np.log(p) + (1 - y) * np.log1p(-p)).sum(axis=2)
    return a, b, likelihood
