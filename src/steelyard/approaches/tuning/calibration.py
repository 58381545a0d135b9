"""Probabilities that mean what they say: how they are fitted, and how far they are off.

A classifier's own probabilities are too bold or too shy. They are mended with one or two numbers, fitted on cases the
classifier was not trained on: a temperature for labels that exclude each other, a slope and an intercept (Platt) for
each label of a set and for whole answers. How far they are off is measured on cases that had no part in either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS: Final = 10
_TEMPERATURES: Final = np.geomspace(0.2, 5.0, 49)
_LEAST: Final = 1e-6
"""No probability counts as smaller, so that one surprise does not outweigh everything."""
_STEPS: Final = 50
_HALVINGS: Final = 20


class Platt(NamedTuple):
    """Log odds z become log odds `scale * z + shift`."""

    scale: Floats
    """Shape (n_columns,), never below 0: what was likelier stays likelier."""
    shift: Floats
    """Shape (n_columns,)."""


class Bin(NamedTuple):
    """Answers whose confidence lies in [low, high), the last bin up to 1 included."""

    low: float
    high: float
    n: int
    confidence: float
    """Mean of the answers in the bin."""
    right: float
    """Share of them that is right."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """How well confidence agrees with what happened."""

    n: int
    right: float
    """Share that is right, 0..1."""
    confidence: float
    """Mean confidence, 0..1."""
    ece: float
    """Expected calibration error, 0..1, lower is better: mean over the answers of the distance between the share that is
    right and the mean confidence in their bin. Some is left by chance: with few answers a bin cannot agree exactly."""
    brier: float
    """Mean squared distance between confidence and right (1) or wrong (0), 0..1, lower is better."""
    bins: tuple[Bin, ...]
    """Those that hold answers, lowest first."""

    def to_json(self) -> Mapping[str, Any]:
        """Plain data for a card."""
        return {**asdict(self), "bins": [one._asdict() for one in self.bins]}


def reliability(confidence: Floats, right: NDArray[Any]) -> Reliability:
    """Compare confidence with what happened, in ten bins of equal width.

    Args:
        confidence: Shape (n,), 0..1, n at least 1.
        right: Shape (n,), true or false.

    Source:
        Guo, Pleiss, Sun and Weinberger (2017), On Calibration of Modern Neural Networks, section 2. Brier (1950).
    """
    happened = right.astype(np.float64)
    at = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = tuple(
        Bin(
            i / BINS,
            (i + 1) / BINS,
            int(inside.sum()),
            float(confidence[inside].mean()),
            float(happened[inside].mean()),
        )
        for i in range(BINS)
        for inside in (at == i,)
        if inside.any()
    )
    return Reliability(
        n=len(confidence),
        right=float(happened.mean()),
        confidence=float(confidence.mean()),
        ece=sum(one.n * abs(one.right - one.confidence) for one in bins) / len(confidence),
        brier=float(((confidence - happened) ** 2).mean()),
        bins=bins,
    )


def temperature(logits: Floats, truth: NDArray[np.int64]) -> float:
    """What to divide logits by to make the true labels likeliest; never changes which label is likeliest.

    Args:
        logits: Shape (n_cases, n_labels).
        truth: Shape (n_cases,), column of the true label, or -1 where it has none: such a case says nothing here.

    Returns:
        0.2..5, more than 1 for a classifier that is too bold.

    Source:
        Guo, Pleiss, Sun and Weinberger (2017), section 4.2; here by search over a grid.
    """
    return float(min(_TEMPERATURES, key=lambda one: log_loss(softmax(logits / one), truth)))


def platt(
    z: Floats, happened: NDArray[Any], *, scale: float | Floats = 1.0, shift: float | Floats = 0.0, trust: float = 1.0
) -> Platt:
    """Slope and intercept of log odds, fitted column by column.

    Without evidence a column keeps `scale` and `shift`; each case that happened or not pulls it away. So a label with
    three positive cases borrows from all others, and one with three hundred stands on its own.

    Args:
        z: Log odds, shape (n_cases, n_columns).
        happened: True or false, the same shape.
        scale: What columns are pulled towards; a number, or one a column.
        shift: The same for the intercept.
        trust: How hard they are pulled: the precision of a normal prior around both.

    Source:
        Platt (1999), Probabilistic Outputs for Support Vector Machines; with a prior in place of smoothed targets.
    """
    t = happened.astype(np.float64)
    a0, b0 = (np.broadcast_to(np.asarray(one, np.float64), z.shape[1:]) for one in (scale, shift))
    a, b = a0.copy(), b0.copy()

    def cost(a: Floats, b: Floats) -> Floats:
        u = a * z + b
        loss: Floats = (np.logaddexp(0.0, u) - t * u).sum(axis=0)
        return loss + trust / 2 * ((a - a0) ** 2 + (b - b0) ** 2)

    for _ in range(_STEPS):  # Newton's method; each column halves its step until it is no step back
        p = sigmoid(a * z + b)
        miss, spread = p - t, p * (1 - p)
        grad_a, grad_b = (miss * z).sum(axis=0) + trust * (a - a0), miss.sum(axis=0) + trust * (b - b0)
        aa, ab, bb = (spread * z * z).sum(axis=0) + trust, (spread * z).sum(axis=0), spread.sum(axis=0) + trust
        determinant = aa * bb - ab * ab
        step_a, step_b = (bb * grad_a - ab * grad_b) / determinant, (aa * grad_b - ab * grad_a) / determinant
        length, before = np.ones_like(a), cost(a, b)
        for _ in range(_HALVINGS):
            worse = cost(a - length * step_a, b - length * step_b) > before
            if not worse.any():
                break
            length[worse] /= 2
        a, b = a - length * step_a, b - length * step_b
        if max(np.abs(length * step_a).max(initial=0.0), np.abs(length * step_b).max(initial=0.0)) < 1e-8:
            break
    return Platt(np.maximum(a, 0.0), b)


def platt_by_label(z: Floats, happened: NDArray[Any]) -> Platt:
    """A slope and an intercept for each label, pulled towards the pair that fits all labels together.

    Args:
        z: Log odds, shape (n_cases, n_labels).
        happened: Whether the case has the label, the same shape.
    """
    shared = platt(z.reshape(-1, 1), happened.reshape(-1, 1))
    return platt(z, happened, scale=float(shared.scale[0]), shift=float(shared.shift[0]))


def log_loss(probabilities: Floats, truth: NDArray[np.int64]) -> float:
    """Mean negative log probability of the true label; one in a million where the label is not known (-1)."""
    of_truth = np.where(truth >= 0, probabilities[np.arange(len(truth)), truth], 0.0)
    return float(-np.log(np.maximum(of_truth, _LEAST)).mean())


def binary_log_loss(probabilities: Floats, happened: NDArray[Any]) -> float:
    """Mean negative log probability of each label being there or not; shape (n_cases, n_labels)."""
    of_truth = np.where(happened, probabilities, 1 - probabilities)
    return float(-np.log(np.maximum(of_truth, _LEAST)).mean())


def softmax(logits: NDArray[Any]) -> Floats:
    """Rows that sum to 1."""
    shifted = np.exp((logits - logits.max(axis=1, keepdims=True)).astype(np.float64))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def sigmoid(logits: NDArray[Any]) -> Floats:
    """From log odds to probability, without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float64))))


def log_odds(probabilities: NDArray[Any]) -> Floats:
    """From probability to log odds; never surer than one in a million."""
    p = np.clip(probabilities.astype(np.float64), _LEAST, 1 - _LEAST)
    return np.asarray(np.log(p) - np.log1p(-p))
