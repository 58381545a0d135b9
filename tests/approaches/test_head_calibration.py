"""Probabilities are mended and measured: against scikit-learn, and on data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from steelyard.approaches.tuning.calibration import (
    binary_log_loss,
    log_loss,
    log_odds,
    platt,
    platt_by_label,
    reliability,
    sigmoid,
    softmax,
    temperature,
)


def test_bins_and_brier_are_those_of_scikit_learn() -> None:
    """Bins of equal width, empty ones left out; squared distances."""
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import brier_score_loss

    rng = np.random.default_rng(0)
    confidence = np.concatenate([rng.beta(5, 2, 400), [0.0, 1.0]])
    right = rng.random(402) < confidence**2
    found = reliability(confidence, right)
    shares, means = calibration_curve(right, confidence, n_bins=10, strategy="uniform")
    np.testing.assert_allclose([one.right for one in found.bins], shares)
    np.testing.assert_allclose([one.confidence for one in found.bins], means)
    assert found.brier == pytest.approx(brier_score_loss(right, confidence))
    counts = np.array([one.n for one in found.bins])
    assert counts.sum() == found.n == 402
    assert found.ece == pytest.approx((counts * np.abs(shares - means)).sum() / 402)


def test_perfect_and_wrong_confidence() -> None:
    """Certain and right: no error; certain and wrong: as much as can be."""
    ones = np.ones(8)
    assert (reliability(ones, ones).ece, reliability(ones, ones).brier) == (0, 0)
    assert (reliability(ones, 0 * ones).ece, reliability(ones, 0 * ones).brier) == (1, 1)


def test_platt_is_logistic_regression_on_log_odds() -> None:
    """With hardly any pull it is scikit-learn's fit on the one number."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(1)
    z = rng.normal(0, 3, 500)
    happened = rng.random(500) < sigmoid(0.4 * z - 1)
    found = platt(z[:, None], happened[:, None], trust=1e-9)
    expected = LogisticRegression(C=1e9).fit(z[:, None], happened)
    assert found.scale[0] == pytest.approx(expected.coef_[0, 0], abs=1e-3)
    assert found.shift[0] == pytest.approx(expected.intercept_[0], abs=1e-3)


def test_a_label_without_evidence_borrows_from_the_others() -> None:
    """Columns with many cases get what fits them; one with none keeps what fits all."""
    rng = np.random.default_rng(2)
    z = rng.normal(0, 2, (400, 2))
    happened = rng.random((400, 2)) < sigmoid(z * [0.3, 0.3] + [1.0, -1.0])
    own = platt(z, happened)
    np.testing.assert_allclose(own.scale, 0.3, atol=0.1)
    np.testing.assert_allclose(own.shift, [1.0, -1.0], atol=0.3)
    nothing = platt(np.zeros((0, 2)), np.zeros((0, 2), bool), scale=0.7, shift=-0.2)
    np.testing.assert_allclose(nothing.scale, 0.7)
    np.testing.assert_allclose(nothing.shift, -0.2)
    by_label = platt_by_label(z, happened)
    assert binary_log_loss(sigmoid(z * by_label.scale + by_label.shift), happened) < binary_log_loss(
        sigmoid(z), happened
    )


def test_separable_and_reversed_columns_stay_finite() -> None:
    """Cases that split without overlap give a steep slope, not infinity; what speaks against itself gives no slope."""
    z = np.linspace(-3, 3, 40)[:, None]
    steep = platt(z, z > 0)
    assert 1 < steep.scale[0] < 50
    assert platt(z, z < 0, trust=0.01).scale[0] == 0


def test_the_temperature_undoes_boldness() -> None:
    """Logits three times too large are divided by about three; the likeliest label stays."""
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 1.5, (2000, 4))
    truth = np.array([rng.choice(4, p=row) for row in softmax(logits)])
    assert temperature(3 * logits, truth) == pytest.approx(3, rel=0.15)
    unknown = np.where(np.arange(2000) < 100, -1, truth)
    assert temperature(3 * logits, unknown) == pytest.approx(3, rel=0.2)
    assert log_loss(softmax(logits), np.full(2000, -1)) == pytest.approx(-np.log(1e-6))


def test_extreme_values_do_not_overflow() -> None:
    """Warnings are errors here."""
    assert sigmoid(np.array([-1e6, 0, 1e6])).tolist() == [0, 0.5, 1]
    assert np.isfinite(log_odds(np.array([0.0, 1.0]))).all()
    np.testing.assert_allclose(softmax(np.array([[1e6, 0]])), [[1, 0]])
