"""The eight decision factors: each cell follows the figures behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from steelyard.decision.verdict import FactorCell, Verdict
from steelyard.economics.ledger import ApproachFacts, Changes
from steelyard.economics.spec import AuthoringHours, MoneySpec
from steelyard.figures import Provenance
from tests.decision.test_verdict import study, weigh

RATES = {"zero-shot": 0.6, "retrieval": 0.8, "tuned": 0.9}


def facts(**changed: Mapping[str, Any]) -> dict[str, ApproachFacts]:
    base: dict[str, dict[str, Any]] = {
        "zero-shot": {"levers": ("prompt",), "is_local": False, "endpoint": "vendor"},
        "retrieval": {"levers": ("retrieval",), "n_labels": 500, "setup_cost_usd": 0.2},
        "tuned": {"levers": ("tuning",), "n_labels": 800, "setup_cost_usd": 1.5, "setup_seconds": 300.0},
    }
    return {
        name: ApproachFacts(name=name, **(one | dict(changed.get(name.replace("-", "_"), {}))))
        for name, one in base.items()
    }


def decided(
    *,
    money: MoneySpec | None = None,
    rows: list[dict[str, object]] | None = None,
    n: int = 200,
    **changed: Mapping[str, Any],
) -> Verdict:
    return weigh(rows or study(RATES, n=n), money=money, facts=facts(**changed))


def cell(found: Verdict, factor: str, approach: str) -> FactorCell:
    return {row.factor: row for row in found.factors}[factor].cells[approach]


def test_all_eight_are_there_for_every_approach() -> None:
    found = decided()
    factors = ["speed", "labels", "knowledge", "change", "overhead", "evaluation", "switching", "best_use"]
    assert [row.factor for row in found.factors] == factors
    for row in found.factors:
        assert list(row.cells) == [standing.name for standing in found.standings]
        assert all(one.text.endswith(".") for one in row.cells.values())


CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("speed", "tuned", {"money": MoneySpec(authoring_hours=AuthoringHours(tuning=40))}),
    ("speed", "tuned", {"tuned": {"setup_seconds": 9000.0}}),
    ("speed", "tuned", {"money": MoneySpec(labelling_seconds_per_case=100)}),
    ("labels", "tuned", {"tuned": {"n_labels": 1200}}),
    ("labels", "tuned", {"money": MoneySpec(labelling_seconds_per_case=100)}),
    ("knowledge", "retrieval", {"retrieval": {"index_cost_usd": 7.0}}),
    ("change", "tuned", {"money": MoneySpec(curation_hours_per_retraining=9)}),
    ("change", "tuned", {"tuned": {"changes": Changes(per_month=1, edit_hours=3, relabelled=100)}}),
    ("change", "zero-shot", {"money": MoneySpec(wage_per_hour_usd=77)}),
    ("evaluation", "zero-shot", {"n": 300}),
    ("evaluation", "zero-shot", {"money": MoneySpec(labelling_seconds_per_case=100)}),
    ("switching", "zero-shot", {"zero_shot": {"price": Provenance(kind="quoted", source="page", as_of="2026-10-01")}}),
    ("switching", "zero-shot", {"zero_shot": {"is_local": True, "endpoint": "local"}}),
    ("switching", "tuned", {"tuned": {"setup_cost_usd": 500.0}}),
    ("best_use", "tuned", {"money": MoneySpec(volume_per_month=500)}),
    ("best_use", "zero-shot", {"money": MoneySpec(failed_task_usd=3)}),
]  # fmt: skip


@pytest.mark.parametrize(("factor", "approach", "changed"), CASES)
def test_a_cell_changes_with_the_figure_behind_it(factor: str, approach: str, changed: dict[str, Any]) -> None:
    before, after = cell(decided(), factor, approach), cell(decided(**changed), factor, approach)
    assert before.text != after.text
    assert before.parts != after.parts or before.figure != after.figure or factor == "switching"


def test_overhead_follows_latency_and_tokens() -> None:
    """Longer prompts are told as a multiple of the shortest; slower calls as seconds."""
    rows = [{**one, "prompt_tokens": 1000} if one["approach"] == "zero-shot" else one for one in study(RATES)]
    rows = [{**one, "latency_s": 9.0} if one["approach"] == "tuned" else one for one in rows]
    found = decided(rows=rows)
    assert "10.0 times those of" in cell(found, "overhead", "zero-shot").text
    assert "p95 9 s" in cell(found, "overhead", "tuned").text
    slowest = cell(found, "overhead", "tuned").figure
    assert slowest is not None
    assert slowest.value == 9.0


def test_knowledge_follows_the_gate() -> None:
    """Retrieval that lifts success shows knowledge failures; without an effect it is open."""
    assert "failures here are knowledge failures" in cell(decided(), "knowledge", "tuned").text
    flat = cell(decided(rows=study({"zero-shot": 0.8, "retrieval": 0.8, "tuned": 0.9})), "knowledge", "tuned")
    assert "whether failures here are knowledge failures is unknown" in flat.text


def test_numbers_that_are_not_measured_say_so() -> None:
    found = decided()
    assert "(assumed)" in cell(found, "speed", "zero-shot").text
    assert "(assumed)" not in cell(found, "labels", "tuned").text.split(",")[0]
    for row in found.factors:
        for one in row.cells.values():
            for figure in one.parts.values():
                assert figure.value is not None or figure.unknown_because


def test_what_imported_outcomes_do_not_say_is_unknown() -> None:
    known = {name: ApproachFacts(name=name, levers=(), is_imported=True, is_local=False) for name in RATES}
    found = weigh(study(RATES), facts=known)
    assert "unknown" in cell(found, "speed", "tuned").text
    assert "Unknown" in cell(found, "labels", "tuned").text
    assert "unknown" in cell(found, "change", "tuned").text
    assert "not recorded" in cell(found, "switching", "tuned").text


def test_best_use_says_who_leads_and_from_which_volume_another_would() -> None:
    """The leader is the one to take at the present volume; a rival is told by its break-even volume with it."""
    found = decided(money=MoneySpec(failed_task_usd=1))
    leader = found.choice or found.standings[0].name
    assert cell(found, "best_use", leader).text.startswith("The one to take at 10,000 tasks a month")
    crossings = {frozenset((one.a, one.b)): one for one in found.economics.break_evens}
    rivals = [name for name in RATES if name != leader]
    told = {name: cell(found, "best_use", name).text for name in rivals}
    volumes = {name: crossings[frozenset((name, leader))].volume for name in rivals}
    assert any(volume is not None for volume in volumes.values())
    for name, volume in volumes.items():
        assert (f"about {volume:,.0f} tasks a month" if volume is not None else "at every volume") in told[name]
