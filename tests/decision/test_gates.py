from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from steelyard.decision.gates import Evidence, pass_gates
from steelyard.decision.mistakes import find_mistakes
from steelyard.decision.spec import GoalSpec
from steelyard.decision.standings import draw_jointly
from steelyard.decision.verdict import Gate, Mistake
from steelyard.economics.ledger import ApproachFacts
from steelyard.economics.spec import MoneySpec
from steelyard.measure.results import from_rows
from tests.measure.rows import row


def facts(name: str, *levers: str, **more: object) -> ApproachFacts:
    return ApproachFacts(name=name, levers=levers or ("prompt",), **more)  # type: ignore[arg-type]  # test shorthand


def evidence(rows: list[dict[str, object]], *known: ApproachFacts) -> Evidence:
    return Evidence(
        results=from_rows(rows),
        facts={one.name: one for one in known},
        draws=None,
        alpha=0.05,
        margin=0.02,
        seed=0,
    )


def gates_of(found: Evidence) -> Mapping[str, Gate]:
    return {gate.name: gate for gate in pass_gates(found)}


def mistakes_of(found: Evidence) -> Mapping[str, Mistake]:
    return {mistake.name: mistake for mistake in find_mistakes(found, gates_of(found))}


def simple(name: str, n_right: int, n: int = 100, **more: object) -> list[dict[str, object]]:
    return [row(name, i, int(i < n_right), **more) for i in range(n)]


def test_every_gate_is_asked_in_order_and_unknown_names_its_cheapest_evidence() -> None:
    """With a single prompt hardly anything is known, and each unknown says what would settle it."""
    gates = pass_gates(evidence(simple("p", 60), facts("p")))
    names = ["base_fits", "workflow_pays", "knowledge_failures", "failures_recur", "tuning_ready"]
    assert [gate.name for gate in gates] == names
    for gate in gates:
        assert gate.evidence
        assert gate.answer != "unknown" or gate.cheapest_evidence


def test_a_base_that_cannot_take_the_cases_does_not_fit() -> None:
    """A tenth of the cases too long for the only model: no."""
    rows = [row("p", i, status="too_long" if i < 10 else "answered", success=None if i < 10 else 1) for i in range(100)]
    assert gates_of(evidence(rows, facts("p")))["base_fits"].answer == "no"


def test_two_fitting_bases_are_enough() -> None:
    """One base is not: a stronger or cheaper one has to be tried first."""
    one = evidence(simple("p", 60), facts("p", endpoint="small"))
    assert gates_of(one)["base_fits"].answer == "unknown"
    two = evidence(simple("p", 60) + simple("q", 70), facts("p", endpoint="small"), facts("q", endpoint="large"))
    assert gates_of(two)["base_fits"].answer == "yes"


@pytest.mark.parametrize(("n_right", "answer"), [(90, "yes"), (30, "no"), (62, "unknown")])
def test_workflow_pays_when_it_lifts_success(n_right: int, answer: str) -> None:
    """Compared on the same cases with the best prompt alone."""
    found = evidence(simple("p", 60) + simple("w", n_right), facts("p"), facts("w", "workflow"))
    assert gates_of(found)["workflow_pays"].answer == answer


@pytest.mark.parametrize(("cost", "answer"), [(0.5, "yes"), (3.0, "no"), (1.0, "unknown")])
def test_where_both_are_useful_workflow_pays_by_what_a_success_costs(cost: float, answer: str) -> None:
    """As many successes for half the money is a yes, for three times the money a no, without any further case."""
    rows = simple("p", 80, cost_usd=1.0) + simple("w", 80, cost_usd=cost)
    known = (facts("p"), facts("w"))  # the same hours, so that the calls alone decide
    found = evidence(rows, facts("p"), facts("w", "workflow"))
    draws = draw_jointly(found.results, {one.name: one for one in known}, MoneySpec(), GoalSpec(), ["p", "w"], seed=0)
    gate = gates_of(replace(found, draws=draws))["workflow_pays"]
    assert gate.answer == answer
    assert "costs less per successful task than p with probability" in gate.evidence or answer == "unknown"


@pytest.mark.parametrize(("n_right", "answer"), [(90, "yes"), (20, "no"), (42, "unknown")])
def test_gold_sources_that_were_given_are_the_probe(n_right: int, answer: str) -> None:
    """What passes once the source is there was knowledge; where fewer pass, it was not; a tie at 100 cases says nothing yet."""
    rows = simple("closed", 40) + simple("gold", n_right)
    found = evidence(rows, facts("closed"), facts("gold", "retrieval", is_ceiling=True))
    assert gates_of(found)["knowledge_failures"].answer == answer


def test_retrieval_that_helps_means_knowledge_failures_and_otherwise_a_probe_is_needed() -> None:
    """Retrieval without effect may have found the wrong sources, so it never proves 'no'."""
    helps = evidence(simple("p", 40) + simple("r", 90), facts("p"), facts("r", "retrieval"))
    assert gates_of(helps)["knowledge_failures"].answer == "yes"
    useless = gates_of(evidence(simple("p", 40) + simple("r", 41), facts("p"), facts("r", "retrieval")))
    assert useless["knowledge_failures"].answer == "unknown"
    assert "gold-source probe" in (useless["knowledge_failures"].cheapest_evidence or "")


def drifting(name: str) -> list[dict[str, object]]:
    """Right in the older year, mostly wrong in the newer one."""
    return [row(name, i, int(i < 100 or i % 4 == 0), time=f"{2024 + i // 100}-{1 + i % 12:02d}-01") for i in range(200)]


def test_drift_over_time_is_not_stable_and_tuning_it_is_a_mistake() -> None:
    """Success that falls from the older to the newer half is named, with both figures."""
    found = evidence(drifting("t"), facts("t", "tuning", n_labels=500))
    gate = gates_of(found)["failures_recur"]
    assert gate.answer == "no"
    assert "100.0%" in gate.evidence
    assert "unstable_task" in mistakes_of(found)


def test_failures_that_come_and_go_do_not_recur() -> None:
    """With repeats: failing now and then is noise, failing always is a pattern."""
    noisy = [row("p", i, (i + r) % 2, repeat=r) for i in range(60) for r in range(3)]
    assert gates_of(evidence(noisy, facts("p")))["failures_recur"].answer == "no"
    steady = [
        row("p", i, int(i % 4 > 0), repeat=r, time=f"2025-{1 + i % 7:02d}-01") for i in range(800) for r in range(2)
    ]
    assert gates_of(evidence(steady, facts("p")))["failures_recur"].answer == "yes"


def test_cases_of_one_day_have_no_older_half() -> None:
    """Without a spread of dates stability over time is unknown."""
    found = evidence(simple("p", 60, time="2025-01-01"), facts("p"))
    assert gates_of(found)["failures_recur"].answer == "unknown"


def test_too_few_labels_are_not_ready_for_tuning() -> None:
    """Forty labels: no, whatever the gain looks like."""
    found = evidence(simple("p", 40) + simple("t", 90), facts("p"), facts("t", "tuning", n_labels=40))
    assert gates_of(found)["tuning_ready"].answer == "no"


def test_tuning_for_knowledge_is_named() -> None:
    """Retrieval lifts success and tuning does no better."""
    rows = simple("p", 40) + simple("r", 95) + simple("t", 70)
    found = evidence(rows, facts("p"), facts("r", "retrieval"), facts("t", "tuning", n_labels=500))
    assert "tuning_for_knowledge" in mistakes_of(found)


def test_a_giant_prompt_is_named_when_a_short_one_does_as_well() -> None:
    """Four times the tokens for nothing; not when it is what lifts success."""
    short = simple("short", 60, prompt_tokens=200)
    giant = evidence(simple("big", 30, prompt_tokens=3000) + short, facts("big"), facts("short"))
    assert "giant_prompt" in mistakes_of(giant)
    worth_it = evidence(simple("big", 90, prompt_tokens=3000) + short, facts("big"), facts("short"))
    assert "giant_prompt" not in mistakes_of(worth_it)


def test_one_provider_for_everything_is_no_exit_path() -> None:
    """Until anything of one's own, or a second provider, was measured too."""
    hosted = facts("p", endpoint="vendor", is_local=False)
    assert "no_exit_path" in mistakes_of(evidence(simple("p", 60), hosted))
    both = evidence(simple("p", 60) + simple("n", 50), hosted, facts("n", "retrieval", calls_model=False))
    assert "no_exit_path" not in mistakes_of(both)


def test_a_handful_of_cases_is_no_evaluation() -> None:
    """Twenty scored cases are named; a hundred are not."""
    assert "no_evaluation" in mistakes_of(evidence(simple("p", 15, n=20), facts("p")))
    assert "no_evaluation" not in mistakes_of(evidence(simple("p", 60), facts("p")))
