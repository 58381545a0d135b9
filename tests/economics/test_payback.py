"""Paybacks and the volume sweep, worked by hand and held against the ledger."""

from __future__ import annotations

import json
from datetime import date
from importlib.resources import as_file

import numpy as np
import pytest

from steelyard.decision.plan import PlanFile
from steelyard.economics.assessment import assess, payback
from steelyard.economics.crossing import CostDraws
from steelyard.economics.ledger import ApproachFacts
from steelyard.economics.payback import find_payback
from steelyard.economics.planning import (
    estimates_of,
    facts_of,
    plan_break_even,
    plan_ledger,
    plan_payback,
    plan_paybacks,
    plan_shares,
    plan_sweep,
)
from steelyard.economics.spec import MoneySpec
from steelyard.errors import Problem
from steelyard.measure.results import from_rows
from steelyard.studies import scenario
from steelyard.study.yaml_source import read_checked
from tests.economics.test_assessment import MONEY, PROMPT, TODAY, TUNED, outcomes
from tests.measure.rows import row


def point(setup: float, upkeep: float, per_task: float, success: float = 1.0) -> CostDraws:
    return CostDraws(
        success=np.array([success]),
        per_task_usd=np.array([per_task]),
        upkeep_usd_per_month=np.array([upkeep]),
        setup_usd=np.array([setup]),
        horizon_months=12,
    )


def months(a: CostDraws, b: CostDraws, volume: float = 1000) -> tuple[str, str, float | None]:
    found = find_payback("a", "b", at=(a, b), over=lambda: (a, b), volume=volume, as_of=TODAY)
    return found.kind, found.a, found.months


def test_a_payback_worked_by_hand() -> None:
    """$900 more at first, and $70 less a month for the 800 successes that the other delivers."""
    a, b = point(1000, 30, 0.18, success=0.9), point(100, 20, 0.24, success=0.8)
    # a: 800 / 0.9 · 0.18 + 30 = 190; b: 1,000 · 0.24 + 20 = 260; 70 a month less.
    kind, first, after = months(a, b)
    assert (kind, first) == ("months", "a")
    assert after == pytest.approx(900 / 70)
    assert months(b, a) == (kind, "b", after)  # the dearer one is put first


def test_never_at_once_and_swapped_are_answers() -> None:
    """Dearer to build and to run: never. As dear to build and cheaper to run: at once. A hundred years on: never."""
    assert months(point(1000, 0, 0.3), point(100, 0, 0.2)) == ("never", "a", None)
    assert months(point(100, 0, 0.2), point(1000, 0, 0.3)) == ("never", "b", None)
    assert months(point(100, 0, 0.1), point(100, 0, 0.2)) == ("at_once", "a", 0)
    assert months(point(100, 0, 0.2), point(100, 0, 0.1)) == ("at_once", "b", 0)
    assert months(point(100, 0, 0.1), point(100, 0, 0.1)) == ("never", "a", None)
    assert months(point(2000, 0, 0.1999), point(100, 0, 0.2)) == ("never", "a", None)


def test_the_range_of_a_payback_comes_from_the_draws() -> None:
    """Where running it is dearer in some draws, the upper end is never."""
    a, b = point(1000, 0, 0.1), point(100, 0, 0.2)
    draws = CostDraws(
        success=np.ones(100),
        per_task_usd=np.linspace(0.05, 0.25, 100),
        upkeep_usd_per_month=np.zeros(100),
        setup_usd=np.full(100, 1000.0),
        horizon_months=12,
    )
    other = CostDraws(
        success=np.ones(100),
        per_task_usd=np.full(100, 0.2),
        upkeep_usd_per_month=np.zeros(100),
        setup_usd=np.full(100, 100.0),
        horizon_months=12,
    )
    found = find_payback("a", "b", at=(a, b), over=lambda: (draws, other), volume=1000, as_of=TODAY)
    assert found.months == pytest.approx(9)
    assert found.low == pytest.approx(900 / 150, rel=0.05)
    assert found.high is None
    assert "range: 6.2 to never" in found.sentence
    assert "as of 2026-11-23" in found.sentence


def test_outcomes_have_paybacks_with_ranges() -> None:
    """Between candidates, dated, inside their range; unknown where a cost is missing."""
    results, facts = outcomes(), {"prompt": PROMPT, "tuned": TUNED}
    found = assess(results, facts, MONEY, as_of=TODAY)
    (one,) = found.paybacks
    assert (one.a, one.b, one.kind) == ("tuned", "prompt", "months")
    assert one.low is not None
    assert one.high is not None
    assert one.months is not None
    assert one.low < one.months < one.high
    assert one == payback(results["prompt"], results["tuned"], PROMPT, TUNED, MONEY, as_of=TODAY)
    unpriced = from_rows([row("prompt", i, cost_usd=None) for i in range(20)])["prompt"]
    assert payback(results["tuned"], unpriced, TUNED, PROMPT, MONEY, as_of=TODAY).kind == "unknown"
    json.dumps(found.to_json())


def test_the_sweep_goes_through_the_ledger() -> None:
    """At the present volume it is the cost per success of the ledger, and the lines cross at the break-even volume."""
    found = assess(outcomes(), {"prompt": PROMPT, "tuned": TUNED}, MONEY, as_of=TODAY)
    sweep = found.sweep
    assert sweep is not None
    now = sweep.volumes.index(sweep.present)
    assert sweep.volumes[0] == pytest.approx(sweep.present / 100)
    assert sweep.volumes[-1] == pytest.approx(sweep.present * 100)
    for name, costs in sweep.cost_per_success.items():
        assert costs[now] == pytest.approx(found.ledger_of(name).cost_per_success_usd.value)
        assert list(costs) == sorted(costs, reverse=True)
    crossing = found.break_evens[0].volume
    assert crossing is not None
    for volume, prompt, tuned in zip(
        sweep.volumes, sweep.cost_per_success["prompt"], sweep.cost_per_success["tuned"], strict=True
    ):
        assert (tuned < prompt) == (volume > crossing)


def test_what_never_succeeds_is_not_swept() -> None:
    """It has no cost per success to draw; nor has anything where no price is known."""
    rows = [row("good", i, 1) for i in range(20)] + [row("bad", i, 0) for i in range(20)]
    facts = {name: ApproachFacts(name=name, levers=("prompt",)) for name in ("good", "bad")}
    sweep = assess(from_rows(rows), facts, MoneySpec(), as_of=TODAY).sweep
    assert sweep is not None
    assert list(sweep.cost_per_success) == ["good"]
    unpriced = from_rows([row("good", i, 1, cost_usd=None) for i in range(20)])
    assert assess(unpriced, {"good": facts["good"]}, MoneySpec(), as_of=TODAY).sweep is None


def test_the_triage_plan_pays_back() -> None:
    """20 h of building, 3,000 labels and $5 of training against 4 h, worked by hand."""
    with as_file(scenario("triage")) as path:
        plan = read_checked(path, PlanFile, absent=Problem(what="triage"), page="whatif.md")
    known = {
        name: (
            facts_of(name, summary, plan.task, file="plan.yaml"),
            summary,
            estimates_of(summary, plan.task, plan.money),
        )
        for name, summary in plan.approaches.items()
    }
    found = plan_payback("tuned", "prompt-only", known, plan.money, as_of=date(2026, 11, 23))
    # One-off: tuned 800 + 666.67 labels + 5 = 1,471.67; prompt 160. The prompt delivers 9,790 successes a month for
    # 812.0875 + 40 = 852.0875; tuned runs 9,790 / 0.94 tasks at 0.0401528 and keeps 160 + 60 + 27.5: 665.6861.
    extra = 1471.6667 - 160
    saving = (11_000 * 0.0738261 + 40) - (9790 / 0.94 * 0.0401528 + 247.5)
    assert found.months == pytest.approx(extra / saving, rel=1e-4)
    assert found.low is not None
    assert found.low < (found.months or 0)
    assert plan_paybacks(known, plan.money, as_of=date(2026, 11, 23)) == (
        plan_payback("prompt-only", "tuned", known, plan.money, as_of=date(2026, 11, 23)),
    )
    ledgers = [
        plan_ledger(facts, summary, plan.task, plan.money, file="plan.yaml") for facts, summary, _ in known.values()
    ]
    sweep = plan_sweep(known, plan.money)
    assert sweep is not None
    for ledger in ledgers:
        at = sweep.volumes.index(sweep.present)
        assert sweep.cost_per_success[ledger.approach][at] == pytest.approx(ledger.cost_per_success_usd.value)
    crossing = plan_break_even("tuned", "prompt-only", known, plan.money, as_of=date(2026, 11, 23)).volume
    assert crossing == pytest.approx(8297, abs=1)
    shares = plan_shares(known, ledgers, plan.money)
    assert shares
    assert not [one.name for one in shares if "success" in one.name or "variable" in one.name]  # no n, quoted prices
    json.dumps([one.to_json() for one in shares])
