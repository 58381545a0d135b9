import json

import pytest

from steelyard.economics.accounting import ledger
from steelyard.economics.ledger import TERMS, ApproachFacts, Ledger
from steelyard.economics.spec import AuthoringHours, MoneySpec, source_of
from steelyard.figures import Provenance
from steelyard.measure.intervals import wilson
from steelyard.measure.results import from_rows
from tests.measure.rows import results_of, row, rows_of

MONEY = MoneySpec(
    volume_per_month=1000,
    wage_per_hour_usd=36,
    review_share=0.5,
    review_seconds=20,
    failed_task_usd=2,
    horizon_months=10,
    labelling_seconds_per_case=50,
)


def amounts(found: Ledger) -> dict[str, float | None]:
    return {line.label: line.usd_per_month.value for line in found.lines}


def test_a_prompt_ledger_worked_by_hand() -> None:
    """Every amount of a simple approach, as one would work it out on paper."""
    results = results_of({"p": [1] * 80 + [0] * 20}, cost_usd=0.01)["p"]
    found = ledger(results, ApproachFacts(name="p", levers=("prompt",), n_labels=12), MONEY)
    assert amounts(found) == pytest.approx(
        {
            "Model calls and computing": 1000 * 0.01,
            "People looking at answers": 1000 * 0.5 * 20 / 3600 * 36,  # 100
            "Failed tasks": 1000 * 0.2 * 2,  # 400
            "Maintenance": 1 * 36,
            "Building it": 4 * 36 / 10,
            "Labelling": 12 * 50 / 3600 * 36 / 10,
            "Training and indexing": 0,
            "Evaluation": 100 * 0.01 / 10,
        }
    )
    total = 10 + 100 + 400 + 36 + 14.4 + 0.6 + 0.1
    assert found.total_usd_per_month.value == pytest.approx(total)
    assert found.cost_per_success_usd.value == pytest.approx(total / 800)
    assert found.setup_usd.value == pytest.approx(151)
    assert sum(found.terms[term].value or 0 for term in TERMS) == pytest.approx(total)


def test_a_tuned_ledger_counts_hosting_and_retraining() -> None:
    """Tuning brings hosting, and curation, training and evaluation at every retraining."""
    results = results_of({"t": [1] * 50}, cost_usd=0.0)["t"]
    money = MONEY.model_copy(update={"hosting_usd_per_month": 70.0})
    facts = ApproachFacts(name="t", levers=("tuning",), calls_model=False, n_labels=1000, setup_cost_usd=6.0)
    found = amounts(ledger(results, facts, money))
    assert found["Hosting the tuned model"] == 70
    assert found["Retraining"] == pytest.approx(2 / 12 * (4 * 36 + 6))
    assert found["Maintenance"] == 3 * 36  # no prompt to keep: it asks no model
    assert found["Labelling"] == pytest.approx(1000 * 50 / 3600 * 36 / 10)


def test_timed_reviews_replace_the_assumed_seconds() -> None:
    """Measured where it can be."""
    results = from_rows([row("p", i, review_seconds=5.0) for i in range(20)])["p"]
    found = ledger(results, ApproachFacts(name="p", levers=("prompt",)), MONEY)
    assert amounts(found)["People looking at answers"] == pytest.approx(1000 * 0.5 * 5 / 3600 * 36)


def test_unknown_prices_make_the_cost_unknown() -> None:
    """Neither calls nor a preparation without a price count as free."""
    facts = ApproachFacts(name="p", levers=("prompt",))
    unpriced = ledger(results_of({"p": [1] * 20}, cost_usd=None)["p"], facts, MONEY)
    assert unpriced.cost_per_success_usd.value is None
    assert "no known cost" in (unpriced.cost_per_success_usd.unknown_because or "")
    setup = ApproachFacts(name="p", levers=("prompt",), setup_cost_usd=None)
    assert ledger(results_of({"p": [1] * 20})["p"], setup, MONEY).total_usd_per_month.value is None


def test_without_success_there_is_no_cost_per_success() -> None:
    """Nothing succeeded: unknown with the reason, not infinite and not 0."""
    found = ledger(results_of({"p": [0] * 20})["p"], ApproachFacts(name="p", levers=("prompt",)), MONEY)
    assert found.cost_per_success_usd.value is None
    assert found.cost_per_task_usd.value is not None


def test_every_figure_says_where_it_came_from() -> None:
    """Written values and unconfirmed defaults are told apart; quoted prices keep their date until mixed with them."""
    assert source_of(MONEY, "volume_per_month").source == "study.yaml: money.volume_per_month"
    assert source_of(MONEY, "retraining_per_year").source == "default of money.retraining_per_year"
    hours = MoneySpec(authoring_hours=AuthoringHours(prompt=2))
    assert source_of(hours, "authoring_hours.prompt").source == "study.yaml: money.authoring_hours.prompt"
    assert source_of(hours, "authoring_hours.tuning").source == "default of money.authoring_hours.tuning"
    quoted = Provenance(kind="quoted", source="https://example.org", as_of="2026-01-01")
    found = ledger(
        results_of({"p": [1, 0] * 20})["p"], ApproachFacts(name="p", levers=("prompt",), price=quoted), MONEY
    )
    for line in found.lines:
        assert line.usd_per_month.provenance.source
        assert line.working
    json.dumps(found.to_json())


def test_the_interval_holds_the_value_and_widens_with_unscored_cases() -> None:
    """Unscored cases stretch it from all right to all wrong."""
    facts = ApproachFacts(name="p", levers=("prompt",))
    scored = ledger(results_of({"p": [1] * 30 + [0] * 10})["p"], facts, MONEY).cost_per_success_usd
    assert None not in (scored.low, scored.high, scored.value)
    assert (scored.low or 0) < (scored.value or 0) < (scored.high or 0)
    unscored = ledger(results_of({"p": [1] * 30 + [0] * 10 + [None] * 8})["p"], facts, MONEY).cost_per_success_usd
    assert (unscored.high or 0) - (unscored.low or 0) > (scored.high or 0) - (scored.low or 0)


@pytest.mark.parametrize("n", [6, 40])
def test_no_failure_among_few_cases_leaves_the_cost_a_range(n: int) -> None:
    """Resamples of successes are successes; what the rate may still be is the upper end, as Wilson has it."""
    found = ledger(results_of({"p": [1] * n}, cost_usd=0.01)["p"], ApproachFacts(name="p", levers=("prompt",)), MONEY)
    cost, lowest = found.cost_per_success_usd, wilson(1.0, n).low
    model_usd = (cost.value or 0) * 1000 + (1 - lowest) * 1000 * MONEY.failed_task_usd
    assert cost.low == pytest.approx(cost.value)
    assert cost.high == pytest.approx(model_usd / (1000 * lowest))


def test_the_same_rows_give_the_same_ledger() -> None:
    """Whatever their order."""
    facts = ApproachFacts(name="p", levers=("prompt",))
    rows = rows_of({"p": [1, 0, 1] * 20})
    one, other = ledger(from_rows(rows)["p"], facts, MONEY), ledger(from_rows(rows[::-1])["p"], facts, MONEY)
    assert json.dumps(one.to_json()) == json.dumps(other.to_json())
