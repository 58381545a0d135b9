"""Learning curves made up, with a known truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from steelyard.diagnosis.learning_curve import CurvePoint
from steelyard.measure.results import Floats

SIZES = np.array([100.0, 200.0, 400.0, 800.0])


def law(n: Floats | float, a: float, b: float, c: float) -> Floats:
    """Success at n labels; b is what is missing at 800."""
    rates: Floats = np.asarray(a - b * (np.asarray(n) / SIZES[-1]) ** -c)
    return rates


def answers(rates: Floats, n_cases: int, *, rng: np.random.Generator, alike: float = 0.8) -> Floats:
    """Right and wrong at each size, shape (n_cases, n_sizes); a case that is hard at one size is hard at all."""
    from scipy.special import ndtri

    hardness = np.sqrt(alike) * rng.standard_normal((n_cases, 1))
    hardness = hardness + np.sqrt(1 - alike) * rng.standard_normal((n_cases, len(rates)))
    right: Floats = (hardness < ndtri(rates)).astype(np.float64)
    return right


def counted(n_right: Sequence[int], n_cases: int) -> list[CurvePoint]:
    """Points with so many cases right, the first ones."""
    return [
        CurvePoint(n_labels=int(size), right=(np.arange(n_cases) < n)[None].astype(np.float64))
        for size, n in zip(SIZES[-len(n_right) :], n_right, strict=True)
    ]
