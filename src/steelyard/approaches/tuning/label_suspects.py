"""Labels that all other cases speak against: out-of-fold probabilities, and the rule of confident learning on them.

The library of the method's authors would bring pandas along for these few lines of counting.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FOLDS: Final = 5
_STRENGTH: Final = 10.0
"""Inverse regularisation of the classifier, for embeddings of length 1."""


class Suspect(NamedTuple):
    """A label that speaks against what all other cases say."""

    position: int
    suggested: str
    p_given: float
    p_suggested: float


def confident_suspects(given: Sequence[str], probabilities: Floats, classes: Sequence[str]) -> list[Suspect]:
    """Labels that out-of-sample probabilities speak against, by the rule of confident learning.

    A class is confident for an example when its probability reaches the mean that this class has among the examples
    labelled with it. An example is suspect when the likeliest of its confident classes is another than its label, and
    likelier than its label. Thresholds of each class's own make up for classes a classifier is shy or bold about.

    Args:
        given: Label of each example; each one is among the classes.
        probabilities: Shape (n_examples, n_classes), from a classifier that did not see the example.
        classes: Labels in the order of the columns.

    Returns:
        Suspects, the widest margin first.

    Source:
        Northcutt, Jiang and Chuang (2021), Confident Learning: Estimating Uncertainty in Dataset Labels, section 3.1:
        the off-diagonal of the confident joint. There, that the suggested class is likelier than the given one is not
        asked for.
    """
    column = {label: i for i, label in enumerate(classes)}
    at = np.array([column[label] for label in given], dtype=int)
    thresholds = np.full(len(classes), np.inf)  # a class nobody carries is never confident
    for i in range(len(classes)):
        if (at == i).any():
            thresholds[i] = probabilities[at == i, i].mean()
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)  # (n_examples, n_classes)
    best = confident.argmax(axis=1)
    rows = np.arange(len(at))
    p_given, p_best = probabilities[rows, at], confident[rows, best]
    found = [
        Suspect(int(i), classes[best[i]], float(p_given[i]), float(p_best[i]))
        for i in np.flatnonzero((best != at) & (p_best > p_given))
    ]
    return sorted(found, key=lambda suspect: (suspect.p_given - suspect.p_suggested, suspect.position))


def out_of_fold(
    vectors: NDArray[Any], labels: Sequence[str], units: Sequence[Sequence[int]], *, seed: int
) -> tuple[Floats, tuple[str, ...]]:
    """Probabilities of each example from a linear classifier that saw neither it nor what belongs together with it.

    Args:
        vectors: Shape (n_examples, n_dimensions).
        labels: One an example; at least two different ones.
        units: Positions that belong together; every position once.
        seed: Of the division into folds, which is even over the labels.

    Returns:
        Shape (n_examples, n_classes), and the classes. A class that a fold's training did not hold has probability 0.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    def lot(unit: Sequence[int]) -> tuple[str, bytes]:
        return labels[unit[0]], hashlib.blake2b(f"{seed}:{unit[0]}".encode(), digest_size=8).digest()

    fold = np.zeros(len(labels), dtype=int)
    for i, unit in enumerate(sorted(units, key=lot)):
        fold[list(unit)] = i % FOLDS
    classes = tuple(sorted(set(labels)))
    column = {label: i for i, label in enumerate(classes)}
    y = np.array(labels, dtype=object)
    probabilities = np.zeros((len(labels), len(classes)))
    for number in range(FOLDS):
        held, rest = np.flatnonzero(fold == number), fold != number
        seen = sorted(set(y[rest]))
        if len(held) == 0 or not seen:
            continue
        if len(seen) == 1:
            probabilities[held, column[seen[0]]] = 1.0
            continue
        # Matrices this small are waited for longer than worked on when cores share them: up to 35 times, if others work too.
        with threadpool_limits(1):
            model = LogisticRegression(C=_STRENGTH, max_iter=5000).fit(vectors[rest], y[rest].astype(str))
        columns = np.array([column[str(label)] for label in model.classes_])
        probabilities[held[:, None], columns] = model.predict_proba(vectors[held])
    return probabilities, classes
