from __future__ import annotations

import json
import random
from collections.abc import Mapping
from datetime import date

import pytest

from steelyard.decision.deciding import decide
from steelyard.decision.spec import GoalSpec
from steelyard.decision.verdict import Verdict
from steelyard.economics.ledger import ApproachFacts
from steelyard.economics.spec import MaintenanceHours, MoneySpec
from steelyard.figures import Provenance
from steelyard.measure.results import from_rows
from tests.measure.rows import row

TODAY = date(2026, 11, 23)
LEVERS = {
    "zero-shot": ("prompt",),
    "workflow": ("workflow",),
    "retrieval": ("retrieval",),
    "nearest": ("retrieval",),
    "tuned": ("tuning",),
}


def study(
    rates: Mapping[str, float], *, n: int = 200, costs: Mapping[str, float] | None = None, seed: int = 1
) -> list[dict[str, object]]:
    """Outcomes with given success rates; hard cases are hard for all approaches."""
    rng = random.Random(seed)
    hardness = [rng.random() for _ in range(n)]
    return [
        row(name, i, int(0.8 * hardness[i] + 0.2 * rng.random() < rate), cost_usd=(costs or {}).get(name, 0.001))
        for name, rate in rates.items()
        for i in range(n)
    ]


def weigh(
    rows: list[dict[str, object]],
    *,
    money: MoneySpec | None = None,
    goal: GoalSpec | None = None,
    baseline: str | None = None,
    facts: Mapping[str, ApproachFacts] | None = None,
) -> Verdict:
    results = from_rows(rows)
    known = {
        name: ApproachFacts(
            name=name,
            levers=LEVERS.get(name, ("prompt",)),
            calls_model=name != "nearest",
            n_labels=1000 if name in ("tuned", "nearest", "retrieval") else 0,
        )
        for name in results
    }
    return decide(results, known | dict(facts or {}), as_of=TODAY, money=money, goal=goal, baseline=baseline)


def test_a_clear_winner_is_taken() -> None:
    """Better and not dearer: chosen with near certainty and nothing left to settle."""
    found = weigh(study({"zero-shot": 0.55, "workflow": 0.95}))
    assert found.choice == "workflow"
    assert found.runner_up == "zero-shot"
    assert (found.p_best or 0) > 0.95
    assert found.cases_to_settle == 0
    assert found.sentence.startswith("Take workflow over zero-shot")
    shape = json.loads(json.dumps(found.to_json()))
    assert shape["schema"] == "steelyard.verdict/1"
    assert [standing["name"] for standing in shape["standings"]] == ["workflow", "zero-shot"]


def test_the_cheap_baseline_may_be_recommended() -> None:
    """Looking up the nearest example does as well as tuning and costs no retraining: take it."""
    found = weigh(study({"zero-shot": 0.2, "tuned": 0.9, "nearest": 0.9}), baseline="nearest")
    assert found.choice == "nearest"
    beats = {standing.name: standing.beats_baseline for standing in found.standings}
    assert beats["nearest"] == "is_baseline"
    assert beats["tuned"] != "yes"


def test_it_says_when_it_cannot_tell_and_how_many_cases_would() -> None:
    """Ten cases and a failed task that costs a lot: the leader is not sure, and losing it would be dear."""
    money = MoneySpec(failed_task_usd=20, volume_per_month=50_000)
    rows = [row("zero-shot", i, int(i not in (0, 1, 2, 3))) for i in range(12)]
    rows += [row("retrieval", i, int(i not in (4, 5, 6))) for i in range(12)]
    found = weigh(rows, money=money)
    assert found.choice is None
    assert "Cannot tell" in found.sentence
    assert found.cases_to_settle is not None
    assert found.cases_to_settle > 12
    assert f"{found.cases_to_settle:,}" in found.sentence


def test_the_simpler_way_is_preferred_within_the_loss() -> None:
    """When the dearer rung saves less than the evidence leaves open, the lower rung is chosen."""
    money = MoneySpec(failed_task_usd=0.5, review_share=1, maintenance_hours_per_month=MaintenanceHours(workflow=0))
    found = weigh(study({"zero-shot": 0.9, "workflow": 0.905}, seed=3), money=money)
    losses = {one.name: one.expected_monthly_loss_usd or 0 for one in found.standings}
    assert losses["workflow"] < losses["zero-shot"] < 2 * losses["workflow"]
    assert found.choice == "zero-shot"
    assert "simpler" in found.sentence


def test_an_identical_copy_never_wins() -> None:
    """A copy under another name shares the probability: the same outcomes are next to no reason to prefer either."""
    rows = study({"workflow": 0.9})
    rows += [{**one, "approach": "a-copy"} for one in rows]
    facts = {"a-copy": ApproachFacts(name="a-copy", levers=("workflow",))}
    found = weigh(rows, facts=facts)
    assert found.choice in ("workflow", "a-copy")
    assert found.p_best == pytest.approx(0.5, abs=0.03)
    monthly = found.economics.ledger_of("workflow").total_usd_per_month.value or 0
    assert (found.expected_monthly_loss_usd or 0) < 0.01 * monthly


def test_the_goal_comes_before_the_cost() -> None:
    """The cheapest is out when it surely misses the goal; what may miss it keeps its probability."""
    rows = study({"zero-shot": 0.6, "tuned": 0.93})
    cheap = weigh(rows, money=MoneySpec(volume_per_month=300))
    assert cheap.choice == "zero-shot"
    found = weigh(rows, money=MoneySpec(volume_per_month=300), goal=GoalSpec(min_success=0.9))
    assert found.choice == "tuned"
    standing = {one.name: one for one in found.standings}
    assert "goal" in (standing["zero-shot"].excluded_because or "")
    assert 0.05 < (standing["tuned"].p_meets_goal or 0) <= 1


def test_latency_and_schema_constraints_exclude() -> None:
    """A slow approach and one with invalid answers are out; one without recorded latency cannot be judged."""
    rows = [row("slow", i, latency_s=9.0) for i in range(60)] + [row("sloppy", i, schema_pass=i % 2) for i in range(60)]
    rows += [row("unclear", i, latency_s=None) for i in range(60)] + [row("fine", i) for i in range(60)]
    found = weigh(rows, goal=GoalSpec(max_p95_latency_s=2, min_schema_pass=0.9))
    assert found.choice == "fine"
    assert {one.name for one in found.standings if one.excluded_because} == {"slow", "sloppy", "unclear"}


def test_when_nothing_is_useful_it_says_so() -> None:
    """A cheap approach that mostly fails is not recommended for being cheap."""
    found = weigh(study({"zero-shot": 0.1, "workflow": 0.2}))
    assert found.choice is None
    assert "No approach reaches a useful level" in found.sentence
    assert "workflow" in found.sentence


def test_unscored_cases_that_could_turn_it_hold_it_back() -> None:
    """The leader's unscored cases might be failures; then the other would be better."""
    rows = [row("zero-shot", i, None if i < 30 else 1) for i in range(100)]
    rows += [row("other", i, int(i % 20 > 0)) for i in range(100)]
    found = weigh(rows, money=MoneySpec(failed_task_usd=5))
    assert found.choice is None
    assert "unscored" in found.sentence


def test_unknown_costs_and_too_few_cases_are_no_verdict() -> None:
    """No price: nothing is known. Seven cases: too few to be resampled, so not enough for any statement."""
    unpriced = weigh([row("zero-shot", i, cost_usd=None) for i in range(40)])
    assert unpriced.choice is None
    assert "cost" in unpriced.sentence
    few = weigh([row(name, i) for name in ("zero-shot", "workflow") for i in range(7)])
    assert few.choice is None
    assert "not enough" in few.sentence


def test_the_only_one_left_is_not_said_to_be_the_cheapest() -> None:
    """With nothing to weigh it against there is no probability of being cheapest to announce."""
    alone = weigh([row("zero-shot", i) for i in range(40)])
    assert alone.choice == "zero-shot"
    assert alone.sentence.startswith("Take zero-shot: nothing else is in the running")


def test_it_names_what_it_hinges_on() -> None:
    """The volume at which tuning would pay is in the verdict, with its value."""
    rows = study({"zero-shot": 0.9, "tuned": 0.9}, costs={"zero-shot": 0.03, "tuned": 0.0001})
    found = weigh(rows, money=MoneySpec(volume_per_month=5000))
    assert found.choice == "zero-shot"
    volume = next(hinge for hinge in found.hinges_on if hinge.name == "money.volume_per_month")
    assert volume.winner_then == "tuned"
    assert any("tasks" in change for change in found.what_would_change_it)


def test_stale_prices_are_called_out() -> None:
    """A price read longer ago than allowed is named with the page to check."""
    price = Provenance(kind="quoted", source="https://example.org/prices", as_of="2026-06-01")
    facts = {"zero-shot": ApproachFacts(name="zero-shot", levers=("prompt",), price=price)}
    found = weigh(study({"zero-shot": 0.9}), facts=facts)
    assert len(found.stale_prices) == 1
    assert "https://example.org/prices" in found.stale_prices[0]
    assert "175 days" in found.stale_prices[0]


def test_the_same_journal_gives_the_same_verdict() -> None:
    """Shuffled rows, same bytes."""
    rows = study({"zero-shot": 0.7, "workflow": 0.8, "nearest": 0.75}, n=80)
    shuffled = sorted(rows, key=lambda one: (one["approach"] != "zero-shot", str(one["case_id"])[::-1]))
    order = {name: i for i, name in enumerate(("zero-shot", "workflow", "nearest"))}
    shuffled.sort(key=lambda one: order[str(one["approach"])])
    assert json.dumps(weigh(rows).to_json()) == json.dumps(weigh(shuffled).to_json())


@pytest.mark.slow
def test_p_best_is_calibrated() -> None:
    """Over many small studies the approach said to be best with 80% or more mostly is."""
    sure, right = 0, 0
    for seed in range(60):
        found = weigh(study({"zero-shot": 0.75, "other": 0.82}, n=60, seed=seed))
        best = max(found.standings, key=lambda one: one.p_best or 0)
        if (best.p_best or 0) >= 0.8:
            sure += 1
            right += best.name == "other"
    assert sure > 15
    assert right / sure > 0.85


def test_who_wins_may_be_open_where_it_matters_little() -> None:
    """Two that cost almost the same: no winner to tell, but a choice, and the sentence says how near it comes."""
    money = MoneySpec(review_share=1.0, maintenance_hours_per_month=MaintenanceHours(workflow=0))
    found = weigh(study({"zero-shot": 0.95, "few-shot": 0.955}, n=400, seed=2), money=money)
    assert found.choice is not None
    assert (found.p_best or 0) < 0.95
    assert "no more than 5% above the least" in found.sentence


def test_a_likely_winner_is_not_taken_where_being_wrong_would_be_dear() -> None:
    """Four in five that it is the best would do for a small difference, not where a failed task costs $20."""
    money = MoneySpec(failed_task_usd=20, volume_per_month=50_000)
    rows = [row("zero-shot", i, int(i > 9)) for i in range(60)]
    rows += [row("retrieval", i, int(not 9 < i < 17)) for i in range(60)]
    found = weigh(rows, money=money)
    assert 0.6 < (found.p_best or 0) < 0.9
    assert found.choice is None
    assert "Cannot tell" in found.sentence


def test_the_last_one_left_is_not_taken_where_it_fails_more_often_than_it_succeeds() -> None:
    """Of two, one is surely useless and the other probably: the verdict says that neither will do."""
    rows = [row("a", i, 0) for i in range(24)] + [row("b", i, int(i < 8)) for i in range(24)]
    verdict = decide(
        from_rows(rows), {name: ApproachFacts(name=name, levers=("prompt",)) for name in "ab"}, as_of=date(2026, 11, 1)
    )
    assert verdict.choice is None
    assert verdict.sentence.startswith("No approach reaches a useful level; the closest, b, succeeds in 33.3%")


def test_a_ceiling_is_not_named_as_the_closest() -> None:
    """Gold context cannot be deployed, so it is no consolation either."""
    rows = [row("closed", i, int(i < 2)) for i in range(40)] + [row("gold", i, int(i < 30)) for i in range(40)]
    facts = {
        "closed": ApproachFacts(name="closed", levers=("prompt",)),
        "gold": ApproachFacts(name="gold", levers=("retrieval",), is_ceiling=True),
    }
    verdict = decide(from_rows(rows), facts, as_of=date(2026, 11, 1))
    assert verdict.choice is None
    assert "the closest, closed," in verdict.sentence
