"""Every amount of a ledger follows from its formula and inputs, and the lines sum up to the total."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from datetime import date
from importlib.resources import as_file

import pytest

from steelyard.decision.plan import PlanFile
from steelyard.decision.planning import decide_plan
from steelyard.economics.accounting import REST, ledger
from steelyard.economics.formulas import evaluate, names_in
from steelyard.economics.ledger import ApproachFacts, Changes, Ledger, LedgerLine, StepCost
from steelyard.economics.spec import MoneySpec
from steelyard.errors import Problem
from steelyard.figures import Provenance
from steelyard.measure.results import from_rows
from steelyard.studies import scenario, scenarios
from steelyard.study.yaml_source import read_checked
from tests.measure.rows import results_of, row

MONEY = MoneySpec(
    volume_per_month=1000,
    wage_per_hour_usd=36,
    review_share=0.5,
    review_seconds=20,
    failed_task_usd=2,
    horizon_months=10,
    labelling_seconds_per_case=50,
    hosting_usd_per_month=70,
    reindex_per_month=4,
    batch_share=0.25,
)
QUOTED = Provenance(kind="quoted", source="https://example.org/prices", as_of="2026-11-01")
OUTCOMES = results_of({"x": [1] * 40 + [0] * 10}, cost_usd=0.01, latency_s=2.0)["x"]
CHANGES = Changes(per_month=1, edit_hours=1.5, relabelled=30)
FACTS = {
    "prompt": ApproachFacts(name="x", levers=("prompt",), n_labels=12, price=QUOTED, batch_discount=0.5),
    "retrieval": ApproachFacts(
        name="x", levers=("prompt", "retrieval"), n_labels=50, setup_cost_usd=0.4, search_cost_usd=3.0
    ),
    "tuned": ApproachFacts(name="x", levers=("tuning",), calls_model=False, n_labels=1000, setup_cost_usd=6.0),
    "tuned with changes": ApproachFacts(
        name="x", levers=("tuning",), n_labels=1000, setup_cost_usd=6.0, changes=CHANGES
    ),
    "changes without labels": ApproachFacts(name="x", levers=("workflow",), changes=CHANGES),
    "own hours": ApproachFacts(name="x", levers=("workflow",), authoring_hours=7, maintenance_hours_per_month=0.5),
    "retrieval and tuning": ApproachFacts(name="x", levers=("retrieval", "tuning"), setup_cost_usd=6.0),
    "imported": ApproachFacts(name="x", levers=(), is_imported=True),
    "imported and completed": ApproachFacts(
        name="x",
        levers=("tuning",),
        is_imported=True,
        n_labels=0,
        setup_cost_usd=9.0,
        stated=frozenset({"n_labels", "setup_cost_usd"}),
        stated_by=QUOTED,
        judge_usd_per_case=0.002,
    ),
}


def line_of(found: Ledger, name: str) -> LedgerLine:
    return next(line for line in (*found.lines, *found.apart) if line.name == name)


def usd_of(found: Ledger, name: str) -> float | None:
    return line_of(found, name).usd_per_month.value


def check(found: Ledger) -> None:
    """The properties of every ledger."""
    for line in (*found.lines, *found.apart):
        if line.usd_per_month.value is None:
            assert (line.formula, line.inputs) == ("", {})
            continue
        values = {name: figure.value for name, figure in line.inputs.items()}
        assert None not in values.values()
        assert line.usd_per_month.value == pytest.approx(evaluate(line.formula, values), abs=1e-12)  # type: ignore[type-var]
        # The same text is Python, and nothing in it but arithmetic and its inputs.
        assert line.usd_per_month.value == pytest.approx(eval(line.formula, {}, dict(values)), abs=1e-12)
        assert set(names_in(line.formula)) == set(line.inputs)
        assert not re.sub(r"[\w.+\-*/() ]", "", line.formula)
        if line.usd_per_month.low is not None and line.usd_per_month.high is not None:
            assert line.usd_per_month.low <= line.usd_per_month.value <= line.usd_per_month.high
    known = [line.usd_per_month.value for line in found.lines if line.usd_per_month.value is not None]
    assert found.total_usd_per_month.value == pytest.approx(math.fsum(known))
    assert math.fsum(one.value or 0 for one in found.terms.values()) == pytest.approx(math.fsum(known))
    setup = math.fsum(line.usd_per_month.value or 0 for line in found.lines if line.term == "setup")
    assert found.setup_usd.value == pytest.approx(setup * found.horizon_months)
    names = [line.name for line in (*found.lines, *found.apart)]
    assert len(set(names)) == len(names)
    assert all(names)
    json.dumps(found.to_json())


@pytest.mark.parametrize("kind", FACTS)
def test_every_line_is_its_formula_and_all_lines_are_the_total(kind: str) -> None:
    """Whatever an approach pulls: the spreadsheet gives what the ledger says."""
    check(ledger(OUTCOMES, FACTS[kind], MONEY))
    check(ledger(OUTCOMES, FACTS[kind], MoneySpec()))


@pytest.mark.parametrize("name", scenarios())
def test_a_plan_is_its_formulas_too(name: str) -> None:
    """And one name means one input: money and task are the same figures for all approaches."""
    with as_file(scenario(name)) as path:
        plan = read_checked(path, PlanFile, absent=Problem(what=name), page="whatif.md")
    shared: dict[str, object] = {}
    for found in decide_plan(plan, as_of=date(2026, 11, 23)).economics.ledgers:
        check(found)
        for line in found.lines:
            for key, figure in line.inputs.items():
                if key.startswith(("money__", "task__")):
                    assert shared.setdefault(key, figure) == figure


def test_timed_reviews_are_an_input_of_the_approach() -> None:
    """Measured seconds are its own, assumed ones those of the money section."""
    timed = from_rows([row("x", i, review_seconds=5.0) for i in range(20)])["x"]
    assert "review_seconds" in line_of(ledger(timed, FACTS["prompt"], MONEY), "review").inputs
    assert "money__review_seconds" in line_of(ledger(OUTCOMES, FACTS["prompt"], MONEY), "review").inputs
    check(ledger(timed, FACTS["prompt"], MONEY))


@pytest.mark.parametrize("formula", ["f(x)", "x ** 2", "x if x else 1", "[x]", "x.real", "'a' * x"])
def test_a_formula_is_arithmetic_only(formula: str) -> None:
    """What a spreadsheet could not follow is refused."""
    with pytest.raises(ValueError, match="not arithmetic"):
        evaluate(formula, {"x": 1.0})


# ---- the terms, worked by hand ---------------------------------------------------------------------------------------


def test_calls_that_can_wait_get_the_batch_discount() -> None:
    """A quarter of 1,000 tasks at $0.01 waits for half the price: $1.25 of $10 less, intervals included."""
    found = ledger(OUTCOMES, FACTS["prompt"], MONEY)
    assert usd_of(found, "model_calls") == pytest.approx(10.0)
    assert usd_of(found, "batch_discount") == pytest.approx(-1.25)
    assert found.terms["variable"].value == pytest.approx(8.75)
    assert line_of(found, "batch_discount").usd_per_month.provenance.kind == "assumed"
    undiscounted = ledger(OUTCOMES, replace(FACTS["prompt"], batch_discount=None), MONEY)
    assert (undiscounted.total_usd_per_month.value or 0) - (found.total_usd_per_month.value or 0) == pytest.approx(1.25)
    assert "batch_discount" not in [line.name for line in undiscounted.lines]
    noisy = from_rows([row("x", i, int(i % 5 > 0), cost_usd=0.005 + 0.01 * (i % 2)) for i in range(50)])["x"]
    calls, variable = (
        ledger(noisy, FACTS["prompt"], MONEY).lines[0].usd_per_month,
        ledger(noisy, FACTS["prompt"], MONEY).terms["variable"],
    )
    assert variable.low == pytest.approx((calls.low or 0) * 0.875)
    assert variable.high == pytest.approx((calls.high or 0) * 0.875)


def test_re_indexing_follows_its_cadence() -> None:
    """Four times a month what the index cost; where training is mixed in and it is not stated: unknown, in no sum."""
    assert usd_of(ledger(OUTCOMES, FACTS["retrieval"], MONEY), "reindexing") == pytest.approx(4 * 0.4)
    mixed = ledger(OUTCOMES, FACTS["retrieval and tuning"], MONEY)
    assert usd_of(mixed, "reindexing") is None
    stated = replace(FACTS["retrieval and tuning"], index_cost_usd=0.3)
    assert usd_of(ledger(OUTCOMES, stated, MONEY), "reindexing") == pytest.approx(1.2)
    never = ledger(OUTCOMES, FACTS["retrieval"], MoneySpec())
    assert "reindexing" not in [line.name for line in never.lines]


def test_an_index_of_documents_costs_what_its_updates_were_measured_to_take() -> None:
    """900 s a month at 2 USD an hour, unless a plan says otherwise; not watched yet is unknown and in no sum."""
    watched = replace(FACTS["retrieval"], index_usd_per_hour=2.0, index_seconds_per_month=900.0)
    found = ledger(OUTCOMES, watched, MoneySpec())
    check(found)
    line = line_of(found, "reindexing")
    assert line.term == "upkeep"
    assert line.usd_per_month.value == pytest.approx(0.5)
    assert line.inputs["index_seconds_per_month"].provenance.kind == "measured"
    assert usd_of(ledger(OUTCOMES, watched, MONEY), "reindexing") == pytest.approx(4 * 0.4)
    unwatched = ledger(OUTCOMES, replace(watched, index_seconds_per_month=None), MoneySpec())
    check(unwatched)
    assert line_of(unwatched, "reindexing").usd_per_month.unknown_because is not None
    assert "Re-indexing as documents change" in str(unwatched.total_usd_per_month.provenance)


def test_looking_for_a_prompt_is_paid_once() -> None:
    """Three dollars over ten months; not known is said, not counted as nothing without a word."""
    assert usd_of(ledger(OUTCOMES, FACTS["retrieval"], MONEY), "search") == pytest.approx(0.3)
    found = ledger(OUTCOMES, replace(FACTS["retrieval"], search_cost_usd=None), MONEY)
    assert usd_of(found, "search") is None
    assert "Looking for prompt and settings" in str(found.total_usd_per_month.provenance)


def test_a_teacher_is_paid_once() -> None:
    """Five dollars over ten months, measured, in the sum; not repeated by a retraining, and no line where there is none."""
    plain, taught = FACTS["prompt"], replace(FACTS["prompt"], teacher_cost_usd=5.0)
    found = ledger(OUTCOMES, taught, MONEY)
    check(found)
    assert usd_of(found, "distillation") == pytest.approx(0.5)
    assert line_of(found, "distillation").inputs["teacher_cost_usd"].provenance.kind == "measured"
    total, without = found.total_usd_per_month.value, ledger(OUTCOMES, plain, MONEY).total_usd_per_month.value
    assert total is not None
    assert without is not None
    assert total - without == pytest.approx(0.5)
    assert "distillation" not in {line.name for line in ledger(OUTCOMES, plain, MONEY).lines}
    unknown = ledger(OUTCOMES, replace(plain, teacher_cost_usd=None), MONEY)
    assert usd_of(unknown, "distillation") is None
    assert "Labels from a teacher" in str(unknown.total_usd_per_month.provenance)


def test_judging_is_shown_and_in_no_sum() -> None:
    """50 cases at $0.002 over 10 months, from the facts or from what the outcomes say."""
    facts = replace(FACTS["prompt"], judge_usd_per_case=0.002)
    found = ledger(OUTCOMES, facts, MONEY)
    assert usd_of(found, "judging") == pytest.approx(50 * 0.002 / 10)
    assert found.total_usd_per_month.value == ledger(OUTCOMES, FACTS["prompt"], MONEY).total_usd_per_month.value
    judged = from_rows([row("x", i, judge=1.0, judge_cost_usd=0.004) for i in range(20)])["x"]
    assert usd_of(ledger(judged, FACTS["prompt"], MONEY), "judging") == pytest.approx(20 * 0.004 / 10)


def test_prompt_caching_shows_what_it_saved() -> None:
    """The measured cost has it already, so it changes no sum."""
    facts = replace(FACTS["prompt"], cached_saving_usd_per_task=0.003)
    found = ledger(OUTCOMES, facts, MONEY)
    assert usd_of(found, "cached_saving") == pytest.approx(3.0)
    assert found.total_usd_per_month.value == ledger(OUTCOMES, FACTS["prompt"], MONEY).total_usd_per_month.value


def test_a_rented_machine_stands_idle_most_of_the_month() -> None:
    """1,000 tasks of 2 s are 2,000 of 2,629,800 s; the rest of the $70 pays for waiting. Too much work is said."""
    found = ledger(OUTCOMES, FACTS["tuned"], MONEY)
    assert usd_of(found, "idle_hosting") == pytest.approx(70 * (1 - 2000 / 2_629_800))
    assert usd_of(found, "hosting") == 70
    busy = ledger(OUTCOMES, FACTS["tuned"], MONEY.model_copy(update={"volume_per_month": 2_629_800.0}))
    assert usd_of(busy, "idle_hosting") == 0
    assert "2.0 months of work" in line_of(busy, "idle_hosting").working
    assert not ledger(OUTCOMES, FACTS["tuned"], MoneySpec()).apart  # nothing is rented


def test_retraining_after_each_change_follows_the_task() -> None:
    """Once a month beats twice a year, and then the formula hangs on the task and no longer on the plan."""
    followed = line_of(ledger(OUTCOMES, FACTS["tuned with changes"], MONEY), "retraining")
    assert followed.usd_per_month.value == pytest.approx(4 * 36 + 6 + 50 * 0.01)
    assert "task__label_changes_per_month" in followed.inputs
    planned = line_of(ledger(OUTCOMES, FACTS["tuned"], MONEY), "retraining")
    assert planned.usd_per_month.value == pytest.approx(2 / 12 * (4 * 36 + 6 + 50 * 0.01))
    assert "money__retraining_per_year" in planned.inputs


def test_steps_sum_up_to_the_model_calls() -> None:
    """What the calls of the steps leave of the cost of a task is the last row."""
    steps = (
        StepCost(step="extract", calls=1.0, prompt_tokens=900, completion_tokens=40, seconds=1.2, usd=0.006),
        StepCost(step="repair", calls=0.1, prompt_tokens=90, completion_tokens=4, seconds=0.1, usd=0.001),
    )
    found = ledger(OUTCOMES, replace(FACTS["prompt"], step_costs=steps), MONEY)
    assert [step.step for step in found.steps] == ["extract", "repair", REST]
    per_task = math.fsum(step.usd or 0 for step in found.steps)
    assert per_task * 1000 == pytest.approx(usd_of(found, "model_calls"))
    assert ledger(OUTCOMES, FACTS["prompt"], MONEY).steps == ()


def test_what_an_imported_approach_states_is_counted() -> None:
    """Stated labels and setup are known, also when they are 0; without levers or hours building stays unknown."""
    unstated = ledger(OUTCOMES, FACTS["imported"], MONEY)
    assert {line.name for line in unstated.lines if line.usd_per_month.value is None} == {
        "maintenance",
        "building",
        "labelling",
        "training",
    }
    stated = ledger(OUTCOMES, FACTS["imported and completed"], MONEY)
    assert usd_of(stated, "labelling") == 0
    assert usd_of(stated, "training") == pytest.approx(0.9)
    hours = replace(FACTS["imported"], authoring_hours=10.0, maintenance_hours_per_month=1.0)
    assert usd_of(ledger(OUTCOMES, hours, MONEY), "building") == pytest.approx(36.0)


def test_a_plan_counts_the_batch_rate_of_its_price() -> None:
    """Half the tasks wait for half the price: a quarter off the calls; cost per success and ranges follow."""
    price = {"input": 1.0, "output": 2.0, "batch_discount": 0.5}
    approach = {"levers": ["prompt"], "success": 0.8, "prompt_tokens": 100, "completion_tokens": 50}
    shape = {"plan": "p", "approaches": {"x": {**approach, "price_per_million": price}}, "money": {"batch_share": 0.5}}
    found = decide_plan(PlanFile.model_validate(shape), as_of=date(2026, 11, 23)).economics.ledger_of("x")
    check(found)
    assert found.terms["variable"].value == pytest.approx(10_000 * 0.0002 * 0.75)
    per_success = found.cost_per_success_usd
    assert (per_success.low or 0) < (per_success.value or 0) < (per_success.high or 0)
