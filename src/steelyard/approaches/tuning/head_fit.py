"""Fitting the classifiers of a head: logistic regression by scikit-learn, and a network with one hidden layer.

The network is written out here, since scikit-learn's stops early by accuracy, on examples drawn without regard to
clusters, and knows no weights for the labels of a set. It is small enough to be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from steelyard.approaches.tuning.calibration import sigmoid, softmax
from steelyard.approaches.tuning.head_model import Layer, Marks, Network, Singles

Numbers = NDArray[Any]
"""Of whatever precision; training is in single."""

HIDDEN: Final = 256
MLP_DECAYS: Final = (0.3, 2.0)
"""Weight decays that are tried."""
_RATE: Final = 3e-4
_BATCH: Final = 32
_MOST_EPOCHS: Final = 100
_PATIENCE: Final = 8
"""Epochs without a lower loss on held-out examples, after which training ends."""
_UNWATCHED_EPOCHS: Final = 60
"""Epochs where there are too few examples to hold some out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Learnt:
    """Examples to learn from."""

    x: Singles
    """Embeddings, shape (n_examples, n_dimensions)."""
    marks: Marks
    """Labels of each example, shape (n_examples, n_labels); exactly one a row unless they are sets."""
    is_set: bool
    weights: Singles | None = None
    """How much each example counts, shape (n_examples,); `None` where all count alike."""

    def of(self, rows: Marks) -> Learnt:
        """Some of them."""
        weights = None if self.weights is None else self.weights[rows]
        return Learnt(x=self.x[rows], marks=self.marks[rows], is_set=self.is_set, weights=weights)


class Fitted(NamedTuple):
    """A network and how it came about."""

    network: Network
    epochs: int | None
    """Passes over the examples; `None` for a linear one."""


def fit_linear(learnt: Learnt, *, strength: float, is_weighted: bool) -> Network:
    """Logistic regression: one for all labels, or one for each label of a set.

    Args:
        learnt: Examples; every label has at least one.
        strength: Inverse regularisation, `C` in scikit-learn.
        is_weighted: Whether rare labels weigh more.
    """
    if not learnt.is_set:
        return (_logistic(learnt, learnt.marks.argmax(axis=1), strength, is_weighted),)
    rows = [_one_against_rest(learnt, column, strength, is_weighted) for column in learnt.marks.T]
    return (Layer(np.stack([row.weights[0] for row in rows]), np.concatenate([row.bias for row in rows])),)


def fit_mlp(learnt: Learnt, held: Marks, *, decay: float, seed: int, is_weighted: bool) -> Fitted:
    """A network with one hidden layer, by Adam with weight decay, stopped early.

    It is trained on some examples until the loss on the held-out ones stops falling, and then anew on all of them, for
    as many epochs as were best.

    Args:
        learnt: Examples.
        held: Which of them to hold out first, shape (n_examples,); where none is, a fixed number of epochs is run.
        decay: Share of the weights that is taken off at each step, in units of the learning rate.
        seed: Of first weights and order.
        is_weighted: Whether rare labels weigh more.

    Source:
        Loshchilov and Hutter (2019), Decoupled Weight Decay Regularization.
    """
    epochs = _UNWATCHED_EPOCHS
    if held.any():
        watched = _train(learnt.of(~held), _MOST_EPOCHS, learnt.of(held), decay=decay, seed=seed, weigh=is_weighted)
        epochs = watched.epochs or 1
    return _train(learnt, epochs, None, decay=decay, seed=seed, weigh=is_weighted)


def gradient(
    parameters: list[Numbers], x: NDArray[Any], marks: NDArray[Any], weights: Numbers, *, is_set: bool
) -> list[Numbers]:
    """Slope of the mean weighted log loss in the parameters of a network with one hidden layer.

    Args:
        parameters: Weights and bias of the hidden layer, then of the last one.
        x: Inputs, shape (n, n_in).
        marks: Labels, shape (n, n_labels).
        weights: Of each example, shape (n, 1), or of each label of each example, shape (n, n_labels).
        is_set: Whether labels are independent of each other.
    """
    w1, b1, w2, b2 = parameters
    inner = x @ w1.T + b1
    hidden = np.maximum(inner, 0)
    out = hidden @ w2.T + b2
    p = sigmoid(out) if is_set else softmax(out)
    miss = ((p - marks) * weights / len(x)).astype(x.dtype)  # (n, n_labels)
    back = (miss @ w2) * (inner > 0)  # (n, n_hidden)
    return [back.T @ x, back.sum(axis=0), miss.T @ hidden, miss.sum(axis=0)]


def label_weights(marks: Marks, *, is_set: bool, is_weighted: bool) -> Numbers:
    """Weights under which all labels count alike, 1 on average; all 1 where they are not asked for.

    Returns:
        Shape (n, 1); for sets (n, n_labels), where having a label and not having it count alike.
    """
    n = len(marks)
    if not is_weighted:
        return np.ones((n, 1))
    counts = marks.sum(axis=0)
    if not is_set:
        return np.asarray((n / (np.maximum(counts, 1) * (counts > 0).sum()))[marks.argmax(axis=1)][:, None])
    return np.asarray(np.where(marks, n / (2 * np.maximum(counts, 1)), n / (2 * np.maximum(n - counts, 1))))


# ---- private --------------------------------------------------------------------------------------------------------


def _logistic(learnt: Learnt, y: NDArray[np.int64], strength: float, is_weighted: bool) -> Layer:
    """One row of weights a class, classes in order."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    model = LogisticRegression(C=strength, max_iter=5000, class_weight="balanced" if is_weighted else None)
    with threadpool_limits(1):  # matrices this small are waited for longer than worked on when cores share them
        model.fit(learnt.x, y, sample_weight=learnt.weights)
    weights, bias = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # the library keeps one row of log odds; the first label's logit is then 0
        weights, bias = np.vstack([np.zeros_like(weights), weights]), np.concatenate([[0.0], bias])
    return Layer(weights.astype(np.float32), bias.astype(np.float32))


def _one_against_rest(learnt: Learnt, has: Marks, strength: float, is_weighted: bool) -> Layer:
    """One row of log odds for having the label; where all examples have it or none does, the same odds for any input."""
    if has.all() or not has.any():
        odds = np.log((has.sum() + 0.5) / ((~has).sum() + 0.5))
        return Layer(np.zeros((1, learnt.x.shape[1]), np.float32), np.array([odds], np.float32))
    both = _logistic(learnt, has.astype(np.int64), strength, is_weighted)
    return Layer(both.weights[1:], both.bias[1:])


def _train(learnt: Learnt, epochs: int, watch: Learnt | None, *, decay: float, seed: int, weigh: bool) -> Fitted:
    """Train from scratch; with held-out examples, until their loss stops falling."""
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng([seed, 3])
    n, n_in = learnt.x.shape
    n_labels = learnt.marks.shape[1]
    # Embeddings have length 1; at this scale each of their numbers is about 1, as the first weights expect.
    scale = np.float32(np.sqrt(n_in))
    x, marks = learnt.x * scale, learnt.marks.astype(np.float32)
    weights = _weights(learnt, weigh)
    parameters = [
        rng.normal(0, np.sqrt(2 / n_in), (HIDDEN, n_in)).astype(np.float32),
        np.zeros(HIDDEN, np.float32),
        rng.normal(0, np.sqrt(1 / HIDDEN), (n_labels, HIDDEN)).astype(np.float32),
        np.zeros(n_labels, np.float32),
    ]
    first, second = ([np.zeros_like(one) for one in parameters] for _ in range(2))
    best, best_epoch, step = np.inf, 0, 0
    with threadpool_limits(1):  # and so that another number of cores gives the same weights
        for epoch in range(1, epochs + 1):
            order = rng.permutation(n)
            for start in range(0, n, _BATCH):
                rows = order[start : start + _BATCH]
                slopes = gradient(parameters, x[rows], marks[rows], weights[rows], is_set=learnt.is_set)
                step += 1
                _adam(parameters, slopes, first, second, step, decay)
            if watch is None:
                continue
            loss = _loss(parameters, watch, scale, weigh)
            if loss < best:
                best, best_epoch = loss, epoch
            elif epoch - best_epoch >= _PATIENCE:
                break
    w1, b1, w2, b2 = parameters
    return Fitted((Layer(w1 * scale, b1), Layer(w2, b2)), best_epoch if watch is not None else epochs)


def _weights(learnt: Learnt, weigh: bool) -> Numbers:
    """Of each example, or of each label of each example."""
    by_label = label_weights(learnt.marks, is_set=learnt.is_set, is_weighted=weigh)
    return by_label if learnt.weights is None else np.asarray(by_label * learnt.weights[:, None])


def _adam(
    parameters: list[Numbers],
    slopes: list[Numbers],
    first: list[Numbers],
    second: list[Numbers],
    step: int,
    decay: float,
) -> None:
    """One step, in place. Biases are decayed too: they are few."""
    rate = np.float32(_RATE * np.sqrt(1 - 0.999**step) / (1 - 0.9**step))
    for one, slope, mean, square in zip(parameters, slopes, first, second, strict=True):
        mean += np.float32(0.1) * (slope - mean)
        square += np.float32(0.001) * (slope * slope - square)
        one -= rate * mean / (np.sqrt(square) + np.float32(1e-8)) + np.float32(_RATE * decay) * one


def _loss(parameters: list[Numbers], watch: Learnt, scale: np.float32, weigh: bool) -> float:
    w1, b1, w2, b2 = parameters
    out = np.maximum(watch.x * scale @ w1.T + b1, 0) @ w2.T + b2
    p = sigmoid(out) if watch.is_set else softmax(out)
    of_truth = np.where(watch.marks, p, 1 - p if watch.is_set else 1.0)
    weights = _weights(watch, weigh)
    return float(-(np.log(np.maximum(of_truth, 1e-12)) * weights).mean())
