"""Shares of variance: known models, scipy, and what they say about ledgers."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

from steelyard.economics.assessment import assess
from steelyard.economics.ledger import ApproachFacts
from steelyard.economics.spec import MoneySpec
from steelyard.economics.variance import TABLE, shares_from, sobol_shares, spread_of_draws, spread_of_rate
from steelyard.measure.layout import Floats
from steelyard.measure.results import from_rows
from tests.economics.test_assessment import MONEY, PROMPT, TODAY, TUNED, outcomes
from tests.measure.rows import row


def test_an_additive_model_splits_by_its_weights() -> None:
    """First and total shares agree and are the squared weights."""
    weights = np.array([3.0, 2.0, 1.0, 0.0])

    def model(uniform: Floats) -> Floats:
        return np.asarray(weights @ uniform)

    found = sobol_shares(model, 4, seed=1)
    assert found is not None
    assert found.first == pytest.approx(weights**2 / 14, abs=0.03)
    assert found.total == pytest.approx(weights**2 / 14, abs=0.03)


def test_inputs_that_act_together_show_in_the_total_share() -> None:
    """Ishigami's function: known shares, and a third input that matters only together with the first."""

    def ishigami(uniform: Floats) -> Floats:
        x = np.pi * (2 * uniform - 1)
        return np.asarray(np.sin(x[0]) + 7 * np.sin(x[1]) ** 2 + 0.1 * x[2] ** 4 * np.sin(x[0]))

    found = sobol_shares(ishigami, 3, n_points=8192, seed=2)
    assert found is not None
    assert found.first == pytest.approx([0.3139, 0.4424, 0.0], abs=0.03)
    assert found.total == pytest.approx([0.5576, 0.4424, 0.2437], abs=0.03)
    errors = np.abs(found.first - [0.3139, 0.4424, 0.0]) / found.first_error
    assert errors.max() < 4


def test_the_estimators_are_those_of_scipy() -> None:
    """On the same evaluations the figures are the same."""
    from scipy.stats import sobol_indices

    rng = np.random.default_rng(3)
    one, other = rng.normal(2, 1, 64), rng.normal(2, 1, 64)
    mixed = rng.normal(2, 1, (3, 64))
    theirs = sobol_indices(
        func={"f_A": one[None, :], "f_B": other[None, :], "f_AB": mixed[:, None, :]}, n=64, method="saltelli_2010"
    )
    ours = shares_from(one, other, mixed)
    assert ours is not None
    assert ours.first == pytest.approx(np.ravel(theirs.first_order), abs=1e-9)
    assert ours.total == pytest.approx(np.ravel(theirs.total_order), abs=1e-9)


def test_a_constant_has_no_shares() -> None:
    """Nothing varies, nothing to split, no division by nothing."""
    assert sobol_shares(lambda uniform: np.full(uniform.shape[1], 3.0), 2) is None


def test_spreads_are_those_of_their_distributions() -> None:
    """Jeffreys around the rate, narrower with more cases; bootstrap draws as they are."""
    few, many = spread_of_rate(0.8, 20), spread_of_rate(0.8, 2000)
    assert few[128] == pytest.approx(0.79, abs=0.02)
    assert np.ptp(few) > 5 * np.ptp(many)
    assert np.all(np.diff(few) > 0)
    drawn = spread_of_draws(np.linspace(0, 1, 10_001))
    assert drawn == pytest.approx(TABLE, abs=1e-3)
    assert spread_of_draws(np.ones(50)) is None


def shares_of(results: object = None, money: MoneySpec = MONEY, **facts: ApproachFacts) -> dict[str, float]:
    found = assess(
        results or outcomes(),  # type: ignore[arg-type]
        facts or {"prompt": PROMPT, "tuned": TUNED},
        money,
        as_of=TODAY,
    )
    json.dumps(found.to_json())
    return {one.name: one.first_order.value or 0.0 for one in found.shares}


def test_with_few_cases_the_verdict_hangs_on_success_with_many_on_what_is_assumed() -> None:
    """More cases move the uncertainty from the measured to the assumed inputs."""
    dear = MONEY.model_copy(update={"failed_task_usd": 0.5})
    few, many = shares_of(outcomes(40), dear), shares_of(outcomes(4000), dear)

    def measured(shares: dict[str, float]) -> float:
        return sum(share for name, share in shares.items() if name.endswith(": success"))

    assert measured(few) > 0.7
    assert measured(many) < 0.3
    assert many["money.failed_task_usd"] > few.get("money.failed_task_usd", 0.0)


def test_what_is_held_or_the_same_for_both_has_no_share() -> None:
    """The horizon is a choice; with no failed-task cost and a range of 1 only the measured inputs are left."""
    held = MONEY.model_copy(update={"assumed_range": 1.0})
    found = shares_of(money=held)
    assert found
    assert all(name.startswith(("prompt: ", "tuned: ")) for name in found)
    assert "money.horizon_months" not in shares_of()


def test_the_sentence_names_the_input_and_both_approaches() -> None:
    """And is the same in every process: the sample is seeded."""
    found = assess(outcomes(), {"prompt": PROMPT, "tuned": TUNED}, MONEY, as_of=TODAY).shares
    assert list(found) == sorted(found, key=lambda one: -(one.total.value or 0))
    first = found[0]
    assert "of what is uncertain about tuned against prompt comes from" in first.sentence
    assert first.label in first.sentence
    assert (first.a, first.b) == ("tuned", "prompt")
    for one in found:
        assert 0 <= (one.first_order.low or 0) <= (one.first_order.value or 0) <= (one.first_order.high or 0) <= 1
    again = assess(outcomes(), {"prompt": PROMPT, "tuned": TUNED}, MONEY, as_of=TODAY).shares
    assert found == again


def test_one_approach_has_no_shares_and_all_right_ones_warn_of_nothing() -> None:
    """Nothing to compare; and rates at the edge are no trouble."""
    rows = [row("a", i, 1, cost_usd=0.01) for i in range(30)] + [row("b", i, 1, cost_usd=0.02) for i in range(30)]
    facts = {name: ApproachFacts(name=name, levers=("prompt",)) for name in ("a", "b")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        both = assess(from_rows(rows), facts, MoneySpec(), as_of=TODAY)
    assert both.shares
    alone = assess(from_rows(rows[:30]), {"a": facts["a"]}, MoneySpec(), as_of=TODAY)
    assert alone.shares == ()
