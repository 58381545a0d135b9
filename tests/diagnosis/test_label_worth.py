"""Whether labelling more pays, by the ledger that a verdict uses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from steelyard.diagnosis.label_worth import LabelWorth, worth_of_labels
from steelyard.diagnosis.learning_curve import CurvePoint, LearningCurve, learning_curve
from steelyard.economics.ledger import ApproachFacts
from steelyard.economics.spec import AuthoringHours, MaintenanceHours, MoneySpec
from steelyard.figures import Figure, unknown
from tests.diagnosis.curves import SIZES, answers, law

FACTS = ApproachFacts(name="head", levers=("tuning",), calls_model=False, n_labels=800, setup_cost_usd=10.0)
FREE = Figure(value=0.0)


def money(**fields: Any) -> MoneySpec:  # noqa: ANN401 - fields of the section
    """Only labels, training and failures cost anything."""
    return MoneySpec(
        **{
            "volume_per_month": 1000,
            "wage_per_hour_usd": 36,
            "labelling_seconds_per_case": 10,
            "review_share": 0,
            "failed_task_usd": 1.0,
            "horizon_months": 10,
            "authoring_hours": AuthoringHours(tuning=0),
            "maintenance_hours_per_month": MaintenanceHours(tuning=0),
            "retraining_per_year": 0,
            **fields,
        }
    )


def rising() -> LearningCurve:
    right = answers(law(SIZES, 0.95, 0.1, 0.5), 1000, rng=np.random.default_rng(2))
    points = [CurvePoint(n_labels=int(n), right=one[None]) for n, one in zip(SIZES, right.T, strict=True)]
    return learning_curve(points, np.arange(1000), n_resamples=300)


def flat() -> LearningCurve:
    right = answers(np.full(4, 0.8), 500, rng=np.random.default_rng(2))
    points = [CurvePoint(n_labels=int(n), right=one[None]) for n, one in zip(SIZES, right.T, strict=True)]
    found = learning_curve(points, np.arange(500), n_resamples=300)
    assert found.shape == "flat"
    return found


def weigh(curve: LearningCurve, *, n_available: int = 800, facts: ApproachFacts = FACTS, **fields: Any) -> LabelWorth:  # noqa: ANN401
    return worth_of_labels(curve, facts, FREE, money(**fields), n_available=n_available, n_evaluated=100)


def test_by_hand() -> None:
    """800 labels at 10 s and $36 an hour are $80, training is $10 more, over 10 months of 1,000 tasks.

    A failed task costs $1. Now a success costs ((1 - s) · 1 + 9 a month / 1000) / s, where 9 is ($80 + $10) / 10; then
    ((1 - t) · 1 + 18 / 1000) / t. The balance is the difference times s · 1,000 tasks times 10 months.
    """
    curve = rising()
    found = weigh(curve)
    assert curve.law is not None
    s, t = float(curve.law.success(800)[0]), float(curve.law.success(1600)[0])
    now, then = ((1 - s) + 0.009) / s, ((1 - t) + 0.018) / t
    assert found.n_more == found.n_to_label == 800
    assert found.hours.value == pytest.approx(800 * 10 / 3600)
    assert found.labelling_usd.value == pytest.approx(80.0)
    assert found.training_usd.value == pytest.approx(10.0)
    assert found.cost_per_success_usd[0].value == pytest.approx(now)
    assert found.cost_per_success_usd[1].value == pytest.approx(then)
    assert found.balance_usd.value == pytest.approx((now - then) * s * 1000 * 10)
    assert found.successes_per_month.value == pytest.approx((t - s) * 1000)
    assert found.answer == "worth it"


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({}, "worth it"),
        ({"labelling_seconds_per_case": 3600}, "not worth it"),
        ({"volume_per_month": 1}, "not worth it"),
        ({"failed_task_usd": 50.0, "labelling_seconds_per_case": 60}, "worth it"),
    ],
)
def test_dear_labels_small_volumes_and_dear_failures_decide(fields: dict[str, Any], answer: str) -> None:
    assert weigh(rising(), **fields).answer == answer


def test_at_the_turning_point_the_balance_is_zero() -> None:
    """What is said to change the answer does: money written down at that value gives a balance of nothing."""
    found = weigh(rising())
    volume, failed = found.would_change
    turn = float(volume.split("from ")[1].split(" tasks")[0].replace(",", ""))
    assert abs(weigh(rising(), volume_per_month=turn).balance_usd.value or 0) < 0.02 * (found.balance_usd.value or 0)
    turn = float(failed.split("$")[1].split(" ")[0])
    assert abs(weigh(rising(), failed_task_usd=turn).balance_usd.value or 0) < 0.02 * (found.balance_usd.value or 0)


def test_labels_that_are_there_cost_nothing_more() -> None:
    """With 1,200 labelled cases, 400 of the 800 further ones are to be labelled; with 5,000, none."""
    some, none = weigh(rising(), n_available=1200), weigh(rising(), n_available=5000)
    assert (some.n_to_label, none.n_to_label) == (400, 0)
    assert none.labelling_usd.value == 0
    assert (none.balance_usd.value or 0) > (weigh(rising()).balance_usd.value or 0)


def test_what_is_unknown_leaves_the_answer_open() -> None:
    """Neither an unknown price of training nor of a call counts as nothing."""
    untrained = weigh(rising(), facts=replace(FACTS, setup_cost_usd=None))
    uncalled = worth_of_labels(rising(), FACTS, unknown("not run"), money(), n_available=800, n_evaluated=100)
    for found in (untrained, uncalled):
        assert found.answer == "cannot tell"
        assert found.balance_usd.value is None
        assert "not known" in found.because
    assert untrained.training_usd.value is None


def test_a_flat_curve_with_dear_labels_is_not_worth_it() -> None:
    """Even the most that a doubling can bring does not pay; with cheap ones nobody can tell."""
    dear, cheap = weigh(flat(), labelling_seconds_per_case=600), weigh(flat(), labelling_seconds_per_case=0.1)
    assert dear.answer == "not worth it"
    assert dear.balance_usd.value is None
    assert dear.balance_usd.high is not None
    assert dear.balance_usd.high < 0
    assert cheap.answer == "cannot tell"


def test_figures_that_rest_on_assumed_money_are_assumed() -> None:
    found = weigh(rising())
    assert found.balance_usd.provenance.kind == "assumed"
    assert found.to_json()["balance_usd"]["provenance"].startswith("assumed")
