"""How good the decisions are: `python -m benchmarks.decisions`.

Every strategy decides in the same worlds, on the same cases; the truth is known (`worlds`, `published`). Ours is the
rule behind `steelyard decide` (`decision.call.choose`), without the ledgers and reasons around it. Where it says that
it cannot tell, its leader is what counts for regret, and no verdict is counted. A verdict is wrong when the approach is
not the best one and truly loses more than `MATERIAL` of its monthly cost.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.check import Check
from benchmarks.published import published_tables, table_world
from benchmarks.table import aligned
from benchmarks.worlds import Results, World, drawn_world, first_cases
from steelyard.decision.call import MATERIAL, USEFUL_SUCCESS, choose, weigh
from steelyard.decision.racing import entrant, lane, race
from steelyard.economics.costs import cost_model, measure
from steelyard.measure.intervals import percentile

N_WORKERS = 2
N_DRAWN = 3000
N_FROM_TABLES = 2000

FEW_CASES = 50
"""What many teams evaluate on."""

OURS, RACING = "steelyard", "steelyard, racing"
BEST_COST, BEST_COST_50 = "(i) best mean cost", f"(ii) best mean cost, {FEW_CASES} cases"
MOST_ACCURATE = "(iii) accuracy only"
STRATEGIES = (OURS, RACING, BEST_COST, BEST_COST_50, MOST_ACCURATE)

BINS = (0.0, 0.5, 0.65, 0.8, 0.9, 0.95, 0.99, 1.0 + 1e-9)
"""Ends of the bins of stated probability."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pick:
    """What a strategy takes, and how sure it says it is."""

    name: str
    n_outcomes: int
    """Calls spent: cases times approaches."""
    is_verdict: bool = True
    """Whether it claims that the choice is settled."""
    p_best: float | None = None
    loss_usd: float | None = None
    """Expected monthly loss as stated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A pick held against the truth."""

    kind: str
    """Of the world."""
    regret: float
    """Monthly loss over what the oracle's choice costs in a month."""
    is_best: bool
    is_wrong: bool
    is_verdict: bool
    p_best: float | None
    stated_loss: float | None
    """Share of the true monthly cost of the choice."""
    true_loss: float
    calls: float
    """Share of all approaches times all cases."""


def decide_on(world: World, results: Results, *, dropped: Mapping[str, str] | None = None) -> Pick:
    """Our rule on what was run."""
    call = choose(weigh(results, world.facts, money=world.money, goal=world.goal, dropped=dropped))
    return Pick(
        name=call.leader or most_accurate(results),
        n_outcomes=sum(one.n for one in results.values()),
        is_verdict=call.choice is not None,
        p_best=call.p_best,
        loss_usd=call.loss_usd,
    )


def decide_racing(world: World, results: Results) -> Pick:
    """Our rule after a race, on what the race ran."""
    one = next(iter(results.values()))
    entrants = []
    for name, outcomes in results.items():
        measured = measure(outcomes, world.facts[name])
        review_s = None if isinstance(measured, str) else measured.review_s
        entrants.append(entrant(world.facts[name], world.money, n_cases=one.n, review_s=review_s))
    ended = race(
        entrants,
        {name: lane(outcomes, one.case_ids) for name, outcomes in results.items()},
        n_cases=one.n,
        goal=world.goal,
        clusters=one.cluster.tolist() if one.is_clustered else None,
    )
    n_done = dict.fromkeys(ended.left, ended.n_cases) | {drop.name: drop.n_cases for drop in ended.dropped}
    run = {name: first_cases({name: outcomes}, n_done[name])[name] for name, outcomes in results.items()}
    return decide_on(world, run, dropped={drop.name: drop.reason for drop in ended.dropped})


def best_cost(world: World, results: Results) -> Pick:
    """The lowest cost per success at the means, among those whose means meet the goal."""
    n = sum(one.n for one in results.values())
    costs = {}
    for name, outcomes in results.items():
        measured = measure(outcomes, world.facts[name])
        least = USEFUL_SUCCESS if world.goal.min_success is None else world.goal.min_success
        if isinstance(measured, str) or measured.success < max(least, 1e-9):
            continue
        within = world.goal.max_p95_latency_s
        if within is not None and percentile(outcomes.latency_s, 0.95) > within:
            continue
        model = cost_model(world.facts[name], measured, world.money)
        costs[name] = model.cost_per_task(measured.success, measured.variable_usd) / measured.success
    return Pick(name=min(costs, key=lambda name: costs[name]) if costs else most_accurate(results), n_outcomes=n)


def most_accurate(results: Results) -> str:
    """The highest mean success, whatever it costs."""
    return max(results, key=lambda name: float(results[name].success.mean()))


def trial(world: World, seed: int) -> dict[str, Judged]:
    """All strategies in one world, on the same cases."""
    results = world.sample(world.n_cases, np.random.default_rng([seed, 19]))
    everything = len(results) * world.n_cases
    picks = {
        OURS: decide_on(world, results),
        RACING: decide_racing(world, results),
        BEST_COST: best_cost(world, results),
        BEST_COST_50: best_cost(world, first_cases(results, FEW_CASES)),
        MOST_ACCURATE: Pick(name=most_accurate(results), n_outcomes=everything),
    }
    return {strategy: _judge(world, pick, everything) for strategy, pick in picks.items()}


def drawn_trial(seed: int, *, n_cases: int | None = None) -> dict[str, Judged]:
    """A trial in the drawn world of this seed."""
    return trial(drawn_world(seed, n_cases=n_cases), seed)


def table_trial(seed: int) -> dict[str, Judged]:
    """A trial in a world from one of the published tables, in turn."""
    tables = published_tables()
    return trial(table_world(seed, tables[seed % len(tables)]), seed)


def summary(trials: Sequence[Mapping[str, Judged]]) -> str:
    """One row per strategy; shares with their standard errors."""
    rows = []
    for strategy in trials[0]:
        judged = [one[strategy] for one in trials]
        verdicts = [one for one in judged if one.is_verdict]
        states = any(one.p_best is not None for one in judged)
        regrets = np.array([one.regret for one in judged])
        row = [
            strategy,
            f"{_percent(regrets.mean())} ±{_percent(regrets.std() / math.sqrt(len(regrets)))}",
            _percent(np.quantile(regrets, 0.95)),
            _share([one.is_wrong for one in judged]),
            _share([one.is_verdict for one in judged]) if states else "-",
            _share([one.is_wrong for one in verdicts]) if states else "-",
        ]
        for least in (0.8, 0.95):
            sure = [one for one in verdicts if (one.p_best or 0) >= least]
            row.append(f"{_share([one.is_wrong for one in sure])} of {len(sure):,}" if states else "-")
        rows.append([*row, _percent(np.mean([one.calls for one in judged]))])
    head = (
        "strategy", "regret", "95th pct", "wrong", "verdicts", "wrong verdicts", "where P(best) >= .8", "... >= .95", "calls",
    )  # fmt: skip
    return aligned(head, rows)


def calibration(trials: Sequence[Mapping[str, Judged]]) -> str:
    """What our verdicts and leaders say of themselves, and what is true, by stated probability of being best."""
    judged = [one[OURS] for one in trials if one[OURS].p_best is not None]
    rows = []
    for low, high in itertools.pairwise(BINS):
        found = [one for one in judged if low <= (one.p_best or 0) < high]
        if found:
            rows.append(
                (
                    f"{low:.2f} to {min(high, 1):.2f}",
                    f"{len(found):,}",
                    _percent(np.mean([one.p_best or 0 for one in found])),
                    _share([one.is_best for one in found]),
                    _percent(np.mean([one.stated_loss or 0 for one in found])),
                    _percent(np.mean([one.true_loss for one in found])),
                )
            )
    return aligned(("stated P(best)", "worlds", "mean", "truly best", "expected loss", "true loss"), rows)


def by_kind(trials: Sequence[Mapping[str, Judged]]) -> str:
    """Ours in each kind of world."""
    rows = []
    for kind in sorted({one[OURS].kind for one in trials}):
        judged = [one for one in trials if one[OURS].kind == kind]
        ours = [one[OURS] for one in judged]
        rows.append(
            (
                kind,
                f"{len(ours):,}",
                _percent(np.mean([one.regret for one in ours])),
                _percent(np.mean([one[BEST_COST].regret for one in judged])),
                _share([one.is_verdict for one in ours]),
                _share([one.is_wrong for one in ours if one.is_verdict]),
                _percent(np.mean([one[RACING].calls for one in judged])),
            )
        )
    return aligned(
        ("worlds", "n", "our regret", "regret of (i)", "verdicts", "wrong verdicts", "calls when racing"), rows
    )


def wrong_verdicts(trials: Sequence[Mapping[str, Judged]], strategy: str) -> float:
    """Share of a strategy's verdicts that are wrong."""
    return float(np.mean([one[strategy].is_wrong for one in trials if one[strategy].is_verdict]))


def regret_difference(trials: Sequence[Mapping[str, Judged]], one: str, other: str) -> tuple[float, float]:
    """Mean regret of one strategy less that of another in the same worlds, and its standard error."""
    differences = np.array([judged[one].regret - judged[other].regret for judged in trials])
    return float(differences.mean()), float(differences.std() / math.sqrt(len(differences)))


def section(n_drawn: int = N_DRAWN, n_from_tables: int = N_FROM_TABLES) -> list[Check]:
    """Run all trials, print the tables, and hold the figures against their limits."""
    checks = []
    with ProcessPoolExecutor(N_WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        run = partial(pool.map, chunksize=25)
        drawn = list(run(drawn_trial, range(n_drawn)))
        checks += _report("drawn worlds", drawn)
        if published_tables():
            checks += _report("worlds from published tables", list(run(table_trial, range(n_from_tables))))
        else:
            print("left out: worlds from published tables, which are not beside this checkout\n", flush=True)
    return checks


# --- private ---------------------------------------------------------------------------------------------------------


def _judge(world: World, pick: Pick, everything: int) -> Judged:
    loss = world.loss_usd(pick.name) / world.monthly_cost[pick.name]
    is_best = world.regret(pick.name) <= 0
    return Judged(
        kind=world.kind,
        regret=world.regret(pick.name),
        is_best=is_best,
        is_wrong=not is_best and loss > MATERIAL,
        is_verdict=pick.is_verdict,
        p_best=pick.p_best,
        stated_loss=None if pick.loss_usd is None else pick.loss_usd / world.monthly_cost[pick.name],
        true_loss=loss,
        calls=pick.n_outcomes / everything,
    )


def _report(title: str, trials: Sequence[Mapping[str, Judged]]) -> list[Check]:
    print(f"{len(trials):,} {title}", end="\n\n")
    for table in (summary(trials), calibration(trials), by_kind(trials)):
        print(table, end="\n\n", flush=True)
    gap, error = regret_difference(trials, RACING, BEST_COST)
    calls = float(np.mean([one[RACING].calls / one[BEST_COST].calls for one in trials]))
    print(f"Regret of racing less that of {BEST_COST}: {100 * gap:+.2f} ±{100 * error:.2f} points\n", flush=True)
    return [
        Check(what=f"{title}: wrong verdicts", measured=100 * wrong_verdicts(trials, OURS), limit=5, unit="%"),
        Check(what=f"{title}: wrong after a race", measured=100 * wrong_verdicts(trials, RACING), limit=5, unit="%"),
        Check(what=f"{title}: calls of racing against (i)", measured=100 * calls, limit=60, unit="%"),
        Check(
            what=f"{title}: regret of racing above (i), in standard errors",
            measured=gap / error if error else 0.0,
            limit=2,
            unit="",
        ),
    ]


def _percent(share: float | np.floating) -> str:
    return f"{100 * share:.1f}%"


def _share(flags: Sequence[bool]) -> str:
    """A share with its standard error."""
    if not flags:
        return "-"
    share = float(np.mean(flags))
    return f"{_percent(share)} ±{100 * math.sqrt(share * (1 - share) / len(flags)):.1f}"


def main() -> None:
    """Print tables and checks."""
    start = time.perf_counter()
    checks = section()
    print(aligned(("what", "measured", "limit", "ok?"), [check.row() for check in checks]))
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
