import json

import pytest

from steelyard.figures import Provenance
from steelyard.measure.intervals import wilson
from steelyard.measure.results import from_rows
from steelyard.measure.scorecard import scorecards_json
from steelyard.measure.scoring import scorecard, scorecards, task_costs

from .rows import results_of, row


def test_if_half_the_cases_fail_the_rate_says_so() -> None:
    """Crashes are in the denominator: 5 of 10 crashing is 50%, not 100%."""
    rows = [row(case=i) for i in range(5)] + [row(case=i, success=None, status="crashed") for i in range(5, 10)]
    card = scorecard(from_rows(rows)["a"])
    assert card.success.value == 0.5
    assert (card.success.low, card.success.high) == wilson(0.5, 10)
    assert card.status_counts == {"answered": 5, "crashed": 5}


def test_unscored_cases_widen_the_range_to_all_wrong_and_all_right() -> None:
    """Two unscored of twenty: the value is of the scored ones, the ends count them either way."""
    card = scorecard(results_of({"a": [1] * 12 + [0] * 6 + [None] * 2})["a"])
    assert card.success.value == pytest.approx(12 / 18)
    assert card.success.low == wilson(12 / 20, 20).low
    assert card.success.high == wilson(14 / 20, 20).high
    assert card.n_unscored == 2
    assert card.success.provenance.source == "18 of 20 cases"


@pytest.mark.parametrize("n", [1, 4])
def test_few_cases_have_no_interval(n: int) -> None:
    """Below five cases no figure claims a range, and none has width zero."""
    card = scorecard(results_of({"a": [1] * n})["a"])
    for figure in (card.success, card.latency_p95_s, card.cost_per_task_usd, card.extra_calls_per_case):
        assert figure.value is not None
        assert figure.low is None
        assert figure.high is None


def test_nothing_scored_is_unknown() -> None:
    """No score at all gives a reason instead of a number."""
    card = scorecard(results_of({"a": [None] * 8})["a"])
    assert card.success.value is None
    assert card.success.unknown_because


def test_an_unknown_price_is_never_zero() -> None:
    """Without prices the cost is unknown; a single missing one is filled in openly."""
    rows = [row(case=i, cost_usd=None) for i in range(40)]
    assert scorecard(from_rows(rows)["a"]).cost_per_task_usd.value is None
    rows = [row(case=i, cost_usd=None if i == 0 else 0.002) for i in range(40)]
    costs = task_costs(from_rows(rows)["a"])
    assert costs.usd is not None
    assert costs.usd.mean() == pytest.approx(0.002)
    assert costs.provenance.kind == "assumed"


def test_price_provenance_is_passed_on() -> None:
    """A quoted price makes the cost quoted, with its page and date."""
    price = Provenance(kind="quoted", source="https://example.org/prices", as_of="2026-01-01")
    assert scorecard(results_of({"a": [1] * 10})["a"], price=price).cost_per_task_usd.provenance == price


def test_review_effort_is_of_the_reviewed_tasks() -> None:
    """Unreviewed tasks are not missing verdicts: they leave the denominator."""
    rows = [row(case=i, review_seconds=10.0 + i, corrected=i % 2) for i in range(10)] + [
        row(case=i) for i in range(10, 90)
    ]
    card = scorecard(from_rows(rows)["a"])
    assert card.review_s.value == 14.5
    assert card.correction_rate.value == 0.5


def test_clusters_widen_the_interval() -> None:
    """The same answers say less when every five cases stem from one thread."""
    successes = ([1] * 5 + [0] * 5) * 6
    rows = [row(case=i, success=s, cluster=f"k{i // 5}") for i, s in enumerate(successes)]
    alone = scorecard(results_of({"a": successes})["a"]).success
    together = scorecard(from_rows(rows)["a"]).success
    assert together.value == alone.value
    assert None not in (alone.low, together.low)
    assert (together.low or 0) < (alone.low or 0)


def test_the_published_shape() -> None:
    """`score --json` has the fields the design names, and is JSON."""
    cards = scorecards(results_of({"a": [1, 0] * 10}), levers={"a": ["tuning", "retrieval"]})
    shape = json.loads(json.dumps(scorecards_json(cards, [])))
    assert shape["schema"] == "steelyard.scorecards/1"
    one = shape["approaches"][0]
    assert one["levers"] == ["retrieval", "tuning"]
    assert set(one["latency_s"]) == {"p50", "p95"}
    assert set(one["success"]) >= {"value", "low", "high", "provenance"}
    named = {"name", "levers", "split", "n", "schema_pass", "retry", "review_s", "cost_per_success_usd"}
    assert named | {"prompt_tokens_per_task"} <= set(one)
