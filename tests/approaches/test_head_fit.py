"""Classifiers of a head: against scikit-learn, against finite differences, and the same bytes for the same seed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from steelyard.approaches.tuning.head_fit import Learnt, fit_linear, fit_mlp, gradient, label_weights
from steelyard.approaches.tuning.head_model import Network, logits


def learnt(n: int = 240, *, is_set: bool, seed: int = 0, n_labels: int = 3, rare: int = 0) -> Learnt:
    """Unit vectors around one centre a label, and for sets around two of them; a label may be rare."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(n_labels, 16))
    marks = np.zeros((n, n_labels), bool)
    marks[np.arange(n), np.where(np.arange(n) < rare, n_labels - 1, np.arange(n) % (n_labels - bool(rare)))] = True
    if is_set:
        marks |= np.roll(marks, 1, axis=1) & (rng.random((n, 1)) < 0.5)
    x = marks @ centres + rng.normal(0, 1.5, (n, 16))
    return Learnt(x=(x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), marks=marks, is_set=is_set)


def digest(network: Network) -> str:
    return hashlib.sha256(b"".join(layer.weights.tobytes() + layer.bias.tobytes() for layer in network)).hexdigest()


def right(network: Network, data: Learnt) -> float:
    raw = logits(network, data.x)
    found = raw > 0 if data.is_set else raw.argmax(axis=1)[:, None] == np.arange(raw.shape[1])
    return float((found == data.marks).all(axis=1).mean())


def test_a_linear_head_for_sets_is_one_regression_a_label() -> None:
    """Log odds are those of scikit-learn's one-versus-rest."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    data = learnt(is_set=True)
    network = fit_linear(data, strength=10.0, is_weighted=False)
    expected = OneVsRestClassifier(LogisticRegression(C=10.0, max_iter=5000)).fit(data.x, data.marks.astype(int))
    np.testing.assert_allclose(logits(network, data.x), expected.decision_function(data.x), atol=1e-2)


def test_a_label_that_all_or_no_examples_have_gets_its_odds() -> None:
    """There is nothing to tell apart, and no error."""
    data = learnt(is_set=True)
    marks = np.column_stack([data.marks[:, 0], np.ones(240, bool), np.zeros(240, bool)])
    network = fit_linear(Learnt(x=data.x, marks=marks, is_set=True), strength=10.0, is_weighted=False)
    raw = logits(network, data.x)
    assert (raw[:, 1] > 5).all()
    assert (raw[:, 2] < -5).all()


@pytest.mark.parametrize("is_set", [False, True])
def test_gradients_are_slopes(is_set: bool) -> None:
    """They agree with finite differences of the weighted log loss."""
    data = learnt(12, is_set=is_set)
    rng = np.random.default_rng(4)
    parameters = [rng.normal(size=shape) for shape in ((5, 16), (5,), (3, 5), (3,))]
    weights = label_weights(data.marks, is_set=is_set, is_weighted=True)
    x = data.x.astype(np.float64)

    def loss() -> float:
        w1, b1, w2, b2 = parameters
        out = np.maximum(x @ w1.T + b1, 0) @ w2.T + b2
        if is_set:
            each = np.logaddexp(0, out) - data.marks * out
        else:
            each = (np.log(np.exp(out).sum(axis=1, keepdims=True)) - out) * data.marks
        return float((each * weights).sum() / len(x))

    slopes = gradient(parameters, x, data.marks, weights, is_set=is_set)
    for parameter, slope in zip(parameters, slopes, strict=True):
        for at in ((0, 0), (2, 3)) if parameter.ndim == 2 else ((0,), (2,)):
            kept, step = parameter[at], 1e-5
            parameter[at] = kept + step
            above = loss()
            parameter[at] = kept - step
            below = loss()
            parameter[at] = kept
            assert slope[at] == pytest.approx((above - below) / (2 * step), abs=1e-6)


@pytest.mark.parametrize("is_set", [False, True])
def test_a_hidden_layer_learns_what_a_linear_one_does(is_set: bool) -> None:
    """On new examples it is about as often right, and it stops before its last epoch."""
    data, new = learnt(600, is_set=is_set), learnt(400, is_set=is_set, seed=1)
    fitted = fit_mlp(data, np.arange(600) % 10 == 0, decay=0.3, seed=0, is_weighted=False)
    assert right(fitted.network, new) > right(fit_linear(data, strength=10.0, is_weighted=False), new) - 0.05
    assert fitted.epochs is not None
    assert 1 <= fitted.epochs < 100


def test_a_hidden_layer_learns_what_a_linear_one_cannot() -> None:
    """Exclusive or: opposite corners belong together."""
    rng = np.random.default_rng(5)
    corners = rng.choice([-1.0, 1.0], (400, 2)) + rng.normal(0, 0.15, (400, 2))
    is_one = corners[:, 0] * corners[:, 1] > 0
    x = (corners / np.linalg.norm(corners, axis=1, keepdims=True)).astype(np.float32)
    data = Learnt(x=x, marks=np.column_stack([is_one, ~is_one]), is_set=False)
    fitted = fit_mlp(data, np.arange(400) % 10 == 0, decay=0.3, seed=0, is_weighted=False)
    assert right(fitted.network, data) > 0.95
    assert right(fit_linear(data, strength=10.0, is_weighted=False), data) < 0.85  # one corner of four is wrong


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_threads() -> None:
    """In a fresh process, told to use another number of threads; another seed gives others."""
    data, held = learnt(is_set=False), np.arange(240) % 10 == 0
    here = fit_mlp(data, held, decay=0.3, seed=7, is_weighted=False).network
    script = """
import numpy as np
from tests.approaches.test_head_fit import digest, fit_mlp, learnt
print(digest(fit_mlp(learnt(is_set=False), np.arange(240) % 10 == 0, decay=0.3, seed=7, is_weighted=False).network))
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"}
    ran = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    assert ran.stdout.strip() == digest(here)
    assert digest(fit_mlp(data, held, decay=0.3, seed=8, is_weighted=False).network) != digest(here)


@pytest.mark.parametrize("classifier", ["linear", "mlp"])
def test_weights_find_more_of_a_rare_label(classifier: str) -> None:
    """With 12 examples of 600, weighting raises the share of the rare label that is found."""
    data, new = learnt(600, is_set=False, rare=12), learnt(600, is_set=False, seed=1, rare=200)
    held = np.arange(600) % 10 == 0
    found = []
    for is_weighted in (False, True):
        if classifier == "linear":
            network = fit_linear(data, strength=1.0, is_weighted=is_weighted)
        else:
            network = fit_mlp(data, held, decay=0.3, seed=0, is_weighted=is_weighted).network
        best = logits(network, new.x).argmax(axis=1)
        found.append(float((best[:200] == 2).mean()))
    assert found[1] > found[0] + 0.05


@pytest.mark.parametrize("is_set", [False, True])
def test_weights_make_labels_count_alike(is_set: bool) -> None:
    """They are those of scikit-learn's 'balanced'."""
    from sklearn.utils.class_weight import compute_sample_weight

    data = learnt(is_set=is_set, rare=12)
    weights = label_weights(data.marks, is_set=is_set, is_weighted=True)
    columns = data.marks.T if is_set else [data.marks.argmax(axis=1)]
    for i, column in enumerate(columns):
        np.testing.assert_allclose(weights[:, i], compute_sample_weight("balanced", column))
    assert (label_weights(data.marks, is_set=is_set, is_weighted=False) == 1).all()
