"""Races: who is dropped, when they end, and how seldom they drop the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from steelyard.decision.racing import MIN_CASES, Entrant, Lane, Race, entrant, lane, look_points, race
from steelyard.decision.spec import GoalSpec
from steelyard.economics.costs import Estimates, cost_model
from steelyard.economics.ledger import ApproachFacts
from steelyard.economics.spec import MoneySpec
from steelyard.measure.results import from_rows
from tests.measure.rows import row

ALPHA = 0.05


def world(
    rng: np.random.Generator,
    rates: Sequence[float],
    *,
    n: int = 400,
    fixed: float | Sequence[float] = 0.05,
    variable: float | Sequence[float] = 0.01,
    skew: float = 0.5,
    failed: float = 0.0,
    clusters: Sequence[int] | None = None,
) -> tuple[list[Entrant], dict[str, Lane]]:
    """Approaches `a0`, `a1`, ... that find the same cases hard, with skewed costs."""
    from scipy.special import ndtri

    hardness = rng.normal(size=n)
    if clusters is not None:
        hardness = rng.normal(size=max(clusters) + 1)[np.array(clusters)]
    entrants, lanes = [], {}
    for k, rate in enumerate(rates):
        solved = (0.8 * hardness + 0.6 * rng.normal(size=n) < ndtri(rate)).astype(np.float64)
        cost = (variable if isinstance(variable, float) else variable[k]) * rng.lognormal(-(skew**2) / 2, skew, size=n)
        fixed_usd = fixed if isinstance(fixed, float) else fixed[k]
        entrants.append(
            Entrant(name=f"a{k}", fixed_usd=fixed_usd, variable_factor=1.0, failed_task_usd=failed, rung=(False, k % 4))
        )
        lanes[f"a{k}"] = Lane(
            success_low=solved, success_high=solved, cost_usd=cost, schema_pass=np.ones(n), latency_s=np.ones(n)
        )
    return entrants, lanes


def shortened(lanes: dict[str, Lane], n: int) -> dict[str, Lane]:
    return {
        name: Lane(
            success_low=one.success_low[:n],
            success_high=one.success_high[:n],
            cost_usd=one.cost_usd[:n],
            schema_pass=one.schema_pass[:n],
            latency_s=one.latency_s[:n],
        )
        for name, one in lanes.items()
    }


# ---- error rates -----------------------------------------------------------------------------------------------------

EVERY = list(range(MIN_CASES, 301))


@pytest.mark.parametrize(
    ("rates", "settings", "goal"),
    [
        ((0.8,) * 4, {}, None),
        ((0.9, 0.8, 0.6), {"fixed": (0.09, 0.08, 0.06), "variable": (0.009, 0.008, 0.006)}, None),
        ((0.8,) * 3, {"fixed": 0.0, "variable": 0.02, "skew": 1.2}, None),
        ((0.85,) * 3, {"failed": 2.0}, None),
        ((0.8, 0.79, 0.78), {"fixed": (0.05, 0.02, 0.02)}, GoalSpec(min_success=0.8)),
    ],
    ids=["all equal", "as dear for other reasons", "skewed costs", "dear failures", "rivals just short of the goal"],
)
def test_the_best_is_dropped_in_at_most_alpha_of_the_races(
    rates: Sequence[float], settings: dict[str, float], goal: GoalSpec | None
) -> None:
    """With a look after every case, `a0` being as cheap as anybody (or the only one to reach the goal)."""
    rng = np.random.default_rng(11)
    n_races = 80
    lost = 0
    for _ in range(n_races):
        entrants, lanes = world(rng, rates, n=300, **settings)  # type: ignore[arg-type]
        lost += "a0" not in race(entrants, lanes, n_cases=300, goal=goal, looks=EVERY, alpha=ALPHA).left
    assert lost / n_races <= ALPHA


def test_whole_clusters_are_the_units() -> None:
    """Where the cases of a cluster stand or fall together, treating them as independent would drop the best too often."""
    rng = np.random.default_rng(12)
    clusters = np.repeat(np.arange(50), 6).tolist()
    lost = {"clusters": 0, "cases": 0}
    for _ in range(60):
        # Each approach has clusters of its own that it fails throughout.
        solved = (rng.random((3, 50)) < 0.75).astype(np.float64).repeat(6, axis=1)
        ones = np.ones(300)
        lanes = {
            f"a{k}": Lane(
                success_low=solved[k], success_high=solved[k], cost_usd=0.01 * ones, schema_pass=ones, latency_s=ones
            )
            for k in range(3)
        }
        entrants = [Entrant(name=name, fixed_usd=0.05, variable_factor=1.0, failed_task_usd=0.0) for name in lanes]
        for kind, given in (("clusters", clusters), ("cases", None)):
            found = race(entrants, lanes, n_cases=300, clusters=given, looks=EVERY, negligible=0)
            lost[kind] += "a0" not in found.left
    assert lost["clusters"] / 60 <= ALPHA
    assert lost["cases"] / 60 > 2 * ALPHA


def test_a_race_saves_calls_and_keeps_the_best() -> None:
    """Six approaches of which two are good: under half of the calls, and the winner within delta of the best."""
    rng = np.random.default_rng(13)
    outcomes, lost = 0, 0
    for _ in range(20):
        entrants, lanes = world(rng, (0.93, 0.8, 0.75, 0.7, 0.6, 0.3), n=500)
        found = race(entrants, lanes, n_cases=500)
        outcomes += found.n_outcomes
        lost += "a0" not in found.left
    assert outcomes / (20 * 6 * 500) < 0.4
    assert lost <= 1


# ---- rules -----------------------------------------------------------------------------------------------------------


def fixed_world(*approaches: tuple[float, float], n: int = 400) -> tuple[list[Entrant], dict[str, Lane]]:
    """Approaches by success rate and cost per task, with the rates met evenly along the way."""
    entrants, lanes = [], {}
    for k, (rate, cost) in enumerate(approaches):
        at = np.arange(1, n + 1)
        solved = np.floor(at * rate + 1e-9) - np.floor((at - 1) * rate + 1e-9)
        entrants.append(
            Entrant(name=f"a{k}", fixed_usd=cost, variable_factor=1.0, failed_task_usd=0.0, rung=(False, k))
        )
        lanes[f"a{k}"] = Lane(
            success_low=solved, success_high=solved, cost_usd=np.zeros(n), schema_pass=np.ones(n), latency_s=np.ones(n)
        )
    return entrants, lanes


def test_the_dearer_one_is_dropped_with_the_figures_and_the_race_ends() -> None:
    entrants, lanes = fixed_world((0.9, 0.1), (0.9, 0.5))
    found = race(entrants, lanes, n_cases=400)
    assert found.is_over
    assert found.winner == "a0"
    assert found.left == ("a0",)
    (drop,) = found.dropped
    assert (drop.name, drop.by) == ("a1", "a0")
    assert drop.n_cases >= MIN_CASES
    assert "$0.1" in drop.reason
    assert "$0.5" in drop.reason
    assert found.n_outcomes < 200
    assert found.sentence.endswith("a0 is the only one left")


def test_nobody_is_dropped_before_there_are_enough_cases() -> None:
    entrants, lanes = fixed_world((1.0, 0.001), (0.0, 9.0))
    found = race(entrants, lanes, n_cases=400, looks=range(1, 401))
    assert [drop.n_cases >= MIN_CASES for drop in found.dropped] == [True]
    assert not race(entrants, shortened(lanes, 9), n_cases=9).dropped


def test_who_misses_the_goal_is_out_and_beats_nobody() -> None:
    """`a1` is cheaper but misses the goal: it goes, and `a0` stays."""
    entrants, lanes = fixed_world((0.95, 0.1), (0.6, 0.01))
    found = race(entrants, lanes, n_cases=400, goal=GoalSpec(min_success=0.8), negligible=0)
    assert found.winner == "a0"
    assert [(drop.name, drop.by) for drop in found.dropped] == [("a1", None)]
    assert "80.0%" in found.dropped[0].reason
    assert race(entrants, lanes, n_cases=400, negligible=0).winner == "a1"


def test_nobody_is_left_where_nobody_is_of_use() -> None:
    entrants, lanes = fixed_world((0.1, 0.1), (0.2, 0.01))
    found = race(entrants, lanes, n_cases=400)
    assert (found.left, found.winner, found.is_over) == ((), None, True)
    assert all("fails more often than it succeeds" in drop.reason for drop in found.dropped)
    assert "none reaches the goal" in found.sentence


@pytest.mark.parametrize(
    ("goal", "field", "value", "words"),
    [
        (GoalSpec(min_schema_pass=0.9), "schema_pass", 0.0, "valid first answers"),
        (GoalSpec(max_p95_latency_s=2.0), "latency_s", 5.0, "within 2 s"),
    ],
)
def test_every_constraint_is_watched(goal: GoalSpec, field: str, value: float, words: str) -> None:
    entrants, lanes = fixed_world((0.9, 0.1), (0.9, 0.1))
    lanes["a1"] = replace(lanes["a1"], **{field: np.full(400, value)})
    found = race(entrants, lanes, n_cases=400, goal=goal)
    assert [drop.name for drop in found.dropped] == ["a1"]
    assert words in found.dropped[0].reason


def test_of_equals_the_lower_rung_wins_and_the_race_ends_early() -> None:
    """Three that cost the same and fail on the same few cases: as good as each other, so the simplest is enough."""
    entrants, lanes = fixed_world((0.95, 0.1), (0.95, 0.1), (0.95, 0.1), n=2000)
    found = race(entrants, lanes, n_cases=2000, negligible=0)
    assert found.winner == "a0"
    assert found.left == ("a0", "a1", "a2")
    assert found.n_cases < 2000
    assert "at most 5.0% more" in found.sentence


def test_what_is_unknown_drops_nobody() -> None:
    """Without prices nothing is said about cost; unscored cases count neither for nor against."""
    entrants, lanes = fixed_world((0.9, 0.1), (0.9, 0.5))
    unpriced = lanes | {"a1": replace(lanes["a1"], cost_usd=np.full(400, np.nan))}
    assert not race([replace(entrants[0]), replace(entrants[1], fixed_usd=0.05)], unpriced, n_cases=400).dropped
    assert not race([entrants[0], replace(entrants[1], fixed_usd=np.nan)], lanes, n_cases=400).dropped
    unscored = lanes | {"a1": replace(lanes["a1"], success_low=np.zeros(400), success_high=np.ones(400))}
    assert not race([entrants[0], replace(entrants[1], fixed_usd=0.08)], unscored, n_cases=400).dropped


# ---- purity ----------------------------------------------------------------------------------------------------------


def test_a_race_followed_look_by_look_is_the_race_seen_whole() -> None:
    """Decisions hang on the outcomes up to their look alone, so a resumed race comes to the same ones."""
    rng = np.random.default_rng(14)
    for clusters in (None, np.repeat(np.arange(120), 3).tolist()):
        entrants, lanes = world(rng, (0.9, 0.85, 0.7, 0.5, 0.3), n=360, clusters=clusters)
        whole = race(entrants, lanes, n_cases=360, clusters=clusters)
        seen: list[Race] = []
        done = dict.fromkeys(lanes, 0)
        while not seen or not seen[-1].is_over:
            look = look_points(360)[0] if not seen else seen[-1].next_look
            assert look is not None
            done |= dict.fromkeys(seen[-1].left if seen else lanes, look)
            partial = {name: shortened({name: one}, done[name])[name] for name, one in lanes.items()}
            seen.append(race(entrants, partial, n_cases=360, clusters=clusters))
        assert seen[-1] == whole
        assert whole.dropped[: len(seen[0].dropped)] == seen[0].dropped
        assert sum(done.values()) == whole.n_outcomes


def test_looks_become_rarer() -> None:
    assert look_points(60) == (10, 20, 30, 40, 50, 60)
    assert look_points(4) == (4,)
    assert look_points(10_000)[-1] == 10_000
    assert len(look_points(10_000)) < 40


def test_an_entrant_costs_what_the_ledger_says() -> None:
    """The straight line a race uses is the cost model's, setup, evaluation and retraining included."""
    money = MoneySpec(failed_task_usd=1.5, hosting_usd_per_month=20)
    facts = ApproachFacts(name="tuned", levers=("prompt", "tuning"), n_labels=500, setup_cost_usd=3.0)
    one = entrant(facts, money, n_cases=200)
    measured = Estimates(success=0.8, variable_usd=0.02, review_s=None, n=200)
    expected = cost_model(facts, measured, money).cost_per_task(0.8, 0.02)
    assert one.fixed_usd + one.variable_factor * 0.02 + 0.2 * one.failed_task_usd == pytest.approx(expected, rel=1e-12)
    assert one.rung == (True, 3)
    unknown = entrant(replace(facts, setup_cost_usd=None), money, n_cases=200)
    assert np.isnan(unknown.fixed_usd)


def test_a_lane_follows_the_order_of_the_race_up_to_the_first_case_not_done() -> None:
    results = from_rows([row("a", i, int(i % 2 == 0), cost_usd=float(i)) for i in (0, 1, 2, 4)])["a"]
    ids = results.case_ids
    order = [ids[2], ids[0], ids[1], "not done", ids[3]]
    found = lane(results, order)
    assert found.cost_usd.tolist() == [2.0, 0.0, 1.0]
    assert found.success_low.tolist() == [1.0, 1.0, 0.0]


def test_a_race_ends_where_the_rest_is_worth_next_to_nothing() -> None:
    """Equals: no more cases could make a difference that matters, so none are run; nothing is claimed by that."""
    entrants, lanes = fixed_world((0.95, 0.1), (0.95, 0.1), (0.95, 0.1), n=2000)
    found = race(entrants, lanes, n_cases=2000)
    assert (found.is_over, found.winner, found.dropped, found.n_cases) == (True, None, (), 50)
    assert found.sentence == (
        "over after 50 of 2,000 cases: between a0, a1 and a2 the remaining cases are worth next to nothing"
    )


def test_a_race_goes_on_where_the_rest_may_change_who_is_taken() -> None:
    """Two whose order is open by more than a little: the cases are run."""
    entrants, lanes = fixed_world((0.80, 0.1), (0.78, 0.099), n=400)
    assert race(entrants, lanes, n_cases=400).n_cases > 50
