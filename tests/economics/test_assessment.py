from __future__ import annotations

import json
from datetime import date

import pytest

from steelyard.economics.assessment import assess, break_even
from steelyard.economics.costs import cost_model, measure
from steelyard.economics.ledger import ApproachFacts
from steelyard.economics.spec import MoneySpec
from steelyard.measure.results import ApproachResults, from_rows
from tests.measure.rows import row

TODAY = date(2026, 11, 23)
PROMPT = ApproachFacts(name="prompt", levers=("prompt",))
TUNED = ApproachFacts(name="tuned", levers=("tuning",), n_labels=500)
MONEY = MoneySpec(volume_per_month=20_000, review_share=0)


def outcomes(n: int = 200, *, prompt_cost: float = 0.03, tuned_cost: float = 0.001) -> dict[str, ApproachResults]:
    rows = [row("prompt", i, int(i % 10 < 8), cost_usd=prompt_cost * (1 + i % 3 / 10)) for i in range(n)]
    rows += [row("tuned", i, int(i % 10 < 9), cost_usd=tuned_cost * (1 + i % 3 / 10)) for i in range(n)]
    return from_rows(rows)


def test_at_the_break_even_volume_both_cost_the_same() -> None:
    """The tuned approach is cheaper from a volume on, and at that volume the two costs per success meet."""
    results = outcomes()
    found = break_even(results["tuned"], results["prompt"], TUNED, PROMPT, MONEY, as_of=TODAY)
    assert found.kind == "from"
    assert found.volume is not None
    there = MONEY.model_copy(update={"volume_per_month": found.volume})
    costs = []
    for facts in (PROMPT, TUNED):
        measured = measure(results[facts.name], facts)
        assert not isinstance(measured, str)
        model = cost_model(facts, measured, there)
        costs.append(model.cost_per_task(measured.success, measured.variable_usd) / measured.success)
    assert costs[0] == pytest.approx(costs[1])
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.volume < found.high
    assert "2026-11-23" in found.sentence


def test_break_even_seen_from_the_other_side() -> None:
    """The prompt is cheaper up to the volume from which the tuned approach is."""
    results = outcomes()
    one = break_even(results["tuned"], results["prompt"], TUNED, PROMPT, MONEY, as_of=TODAY)
    other = break_even(results["prompt"], results["tuned"], PROMPT, TUNED, MONEY, as_of=TODAY)
    assert other.kind == "up_to"
    assert other.volume == pytest.approx(one.volume)


def test_never_always_and_unknown_are_answers() -> None:
    """Dearer in both parts: never. Cheaper in both: always. No price: unknown."""
    results = outcomes(prompt_cost=0.0001, tuned_cost=0.1)
    assert break_even(results["tuned"], results["prompt"], TUNED, PROMPT, MONEY, as_of=TODAY).kind == "never"
    assert break_even(results["prompt"], results["tuned"], PROMPT, TUNED, MONEY, as_of=TODAY).kind == "always"
    unpriced = from_rows([row("prompt", i, cost_usd=None) for i in range(20)])["prompt"]
    found = break_even(results["tuned"], unpriced, TUNED, PROMPT, MONEY, as_of=TODAY)
    assert (found.kind, found.volume) == ("unknown", None)


def test_a_break_even_beyond_any_real_volume_is_never() -> None:
    """Two approaches whose cost per task is all but equal do not meet at billions of tasks a month: they never do."""
    rows = [row("prompt", i, 1, cost_usd=0.001) for i in range(50)]
    rows += [row("tuned", i, 1, cost_usd=0.001 - 1e-9) for i in range(50)]
    results = from_rows(rows)
    money = MONEY.model_copy(update={"failed_task_usd": 0.0})
    assert break_even(results["tuned"], results["prompt"], TUNED, PROMPT, money, as_of=TODAY).kind == "never"
    assert break_even(results["prompt"], results["tuned"], PROMPT, TUNED, money, as_of=TODAY).kind == "always"


def test_sensitivity_names_the_volume_at_which_the_winner_flips() -> None:
    """The flip of the volume is the break-even volume."""
    results = outcomes()
    crossing = break_even(results["tuned"], results["prompt"], TUNED, PROMPT, MONEY, as_of=TODAY).volume
    assert crossing is not None
    money = MONEY.model_copy(update={"volume_per_month": crossing * 2})
    found = assess(results, {"prompt": PROMPT, "tuned": TUNED}, money, as_of=TODAY)
    volume = next(hinge for hinge in found.hinges if hinge.name == "money.volume_per_month")
    assert (volume.winner, volume.winner_then) == ("tuned", "prompt")
    assert volume.flips_at == pytest.approx(crossing, rel=0.02)  # evaluation cost makes setup depend a little on it
    flips = [hinge.flips_at is not None for hinge in found.hinges]
    assert flips == sorted(flips, reverse=True)
    json.dumps(found.to_json())


def test_an_assumed_zero_is_varied_too() -> None:
    """A failed task counted as free can still be what decides: cheap and poor against dear and good."""
    rows = [row("cheap", i, int(i % 10 < 6), cost_usd=0.001) for i in range(100)]
    rows += [row("good", i, int(i % 20 < 19), cost_usd=0.2) for i in range(100)]
    facts = {name: ApproachFacts(name=name, levers=("prompt",)) for name in ("cheap", "good")}
    found = assess(from_rows(rows), facts, MoneySpec(), as_of=TODAY)
    failed = next(hinge for hinge in found.hinges if hinge.name == "money.failed_task_usd")
    assert failed.value == 0
    assert failed.winner_then == "good"
    assert failed.flips_at is not None
    assert "good becomes the cheapest" in failed.sentence


def test_one_approach_has_no_hinges() -> None:
    """Nothing to flip to."""
    results = {"prompt": outcomes()["prompt"]}
    found = assess(results, {"prompt": PROMPT}, MONEY, as_of=TODAY)
    assert found.hinges == ()
    assert found.break_evens == ()
    assert found.ledger_of("prompt").cost_per_success_usd.value is not None
    with pytest.raises(KeyError):
        found.ledger_of("other")
