"""The call: which candidates there are, which one leads, and whether the evidence carries a choice.

The rule, in this order:

1. Out are approaches without a known cost, those that satisfy the goal with a probability below `SURELY_OUT`,
   and those that surely fail more often than they succeed, where the goal does not say what success is needed.
2. The leader is the candidate with the lowest expected monthly loss (`standings`).
3. Simpler first: among the candidates whose expected loss exceeds the leader's by no more than the leader's own (or
   by less than `NEGLIGIBLE` of its monthly cost), the one on the lowest rung is chosen, or the baseline
   if it is among them and that one does not clearly beat it.
4. There is no choice when the probability that it costs more than `MATERIAL` beyond the best one is above
   `MAY_BE_WRONG`, or when unscored cases could turn it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from steelyard.decision import wording
from steelyard.decision.spec import GoalSpec
from steelyard.decision.standings import SURELY_OUT, JointDraws, draw_jointly, p_meets_goal
from steelyard.economics.costs import measure
from steelyard.economics.ledger import ApproachFacts
from steelyard.economics.spec import MoneySpec
from steelyard.measure.comparing import comparisons
from steelyard.measure.intervals import MIN_RESAMPLED, normal_quantile
from steelyard.measure.paired import MAX_CASES
from steelyard.measure.results import ApproachResults, on_common_cases
from steelyard.measure.scoring import LADDER, success_rate

MATERIAL = 0.05
"""A choice is wrong when another one is better by more than this share of its monthly cost."""

MAY_BE_WRONG = 0.1
"""A choice needs no further argument when it is wrong with no more than this probability. It is the most for a single
choice; over all choices made so, far fewer are wrong (`benchmarks/decisions.py`: at most 5%)."""

NEGLIGIBLE = 0.01
"""A simpler approach is preferred even when it loses this share of the leader's monthly cost."""

BEATS = 0.95
"""Probability from which an approach is said to beat the baseline."""

USEFUL_SUCCESS = 0.5
"""Where the goal says nothing about success, an approach surely below this is of no use."""


Beats = Literal["yes", "no", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Weighing:
    """What is weighed, and how."""

    results: Mapping[str, ApproachResults]
    facts: Mapping[str, ApproachFacts]
    money: MoneySpec
    goal: GoalSpec
    baseline: str | None
    alpha: float
    seed: int
    dropped: Mapping[str, str] = field(default_factory=dict)
    """Approaches a race took out, with the reason; they did fewer cases than the others."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """The decision itself."""

    sentence: str
    choice: str | None = None
    leader: str | None = None
    """The choice, or who would be it if the evidence carried one."""
    runner_up: str | None = None
    p_best: float | None = None
    loss_usd: float | None = None
    cases_to_settle: int | None = None
    is_open: bool = False
    """Whether it is the number of cases that keeps the evidence from carrying a choice."""


def weigh(
    results: Mapping[str, ApproachResults],
    facts: Mapping[str, ApproachFacts],
    *,
    money: MoneySpec | None = None,
    goal: GoalSpec | None = None,
    baseline: str | None = None,
    dropped: Mapping[str, str] | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> Weighing:
    """What is weighed; arguments as for `decide`."""
    return Weighing(
        results=results,
        facts=facts,
        money=money or MoneySpec(),
        goal=goal or GoalSpec(),
        baseline=baseline if baseline in results else None,
        alpha=alpha,
        seed=seed,
        dropped=dropped or {},
    )


def choose(weighing: Weighing) -> Call:
    """The call alone, without ledgers, gates and reasons."""
    excluded = exclusions(weighing)
    return call_it(
        weighing, draw_candidates(weighing, [name for name in weighing.results if name not in excluded]), excluded
    )


def exclusions(weighing: Weighing) -> dict[str, str]:
    """Approaches that are out before costs are compared, with the reason."""
    excluded = {}
    for name, results in weighing.results.items():
        if name in weighing.dropped:
            excluded[name] = weighing.dropped[name]
            continue
        if weighing.facts[name].is_ceiling:
            excluded[name] = "it is shown the gold passages: what retrieval could reach, and nothing to deploy"
            continue
        measured = measure(results, weighing.facts[name])
        if isinstance(measured, str):
            excluded[name] = f"its cost per successful task is unknown: {measured}"
            continue
        probability = p_meets_goal(results, weighing.goal)
        success = success_rate(results, alpha=weighing.alpha)
        is_useless = weighing.goal.min_success is None and success.high is not None and success.high < USEFUL_SUCCESS
        if measured.success == 0:
            excluded[name] = "none of its cases succeeded"
        elif probability is None or probability < SURELY_OUT:
            excluded[name] = wording.missing_goal(probability, success, weighing.goal)
        elif is_useless:
            excluded[name] = wording.missing_goal(1.0, success, GoalSpec())
    return excluded


def draw_candidates(weighing: Weighing, names: Collection[str]) -> JointDraws | None:
    """Resample the candidates on the cases all of them did; `None` when these are none or too few."""
    if not names:
        return None
    common = on_common_cases({name: weighing.results[name] for name in names})
    usable = {
        name: one for name, one in common.items() if one.n and not isinstance(measure(one, weighing.facts[name]), str)
    }
    if len(usable) < len(common) or next(iter(usable.values())).n_clusters < MIN_RESAMPLED:
        return None
    return draw_jointly(usable, weighing.facts, weighing.money, weighing.goal, list(usable), seed=weighing.seed)


def beats(draws: JointDraws, name: str, baseline: str) -> Beats:
    """Whether an approach is almost surely the better choice than the baseline, or almost surely not."""
    probability = draws.p_cheaper(name, baseline)
    if probability >= BEATS:
        return "yes"
    return "no" if probability <= 1 - BEATS else "undecided"


def call_it(weighing: Weighing, draws: JointDraws | None, excluded: Mapping[str, str]) -> Call:
    """Apply the rule of this module."""
    if draws is None:
        return _no_candidates(weighing, excluded)
    alone = _alone_and_poor(weighing, draws)
    if alone is not None:
        return alone
    leader = _leader(draws)
    choice = _simpler(weighing, draws, leader)
    at = draws.names.index(choice)
    p_best, loss = float(draws.p_best[at]), float(draws.expected_monthly_loss[at])
    runner_up = _runner_up(draws, choice)
    p_wrong = draws.p_loses_more(choice, MATERIAL)
    call = Call(
        sentence=wording.chosen(
            choice, p_best, loss, runner_up, p_near=1 - p_wrong, near=MATERIAL, is_simpler=choice != leader
        ),
        choice=choice,
        leader=choice,
        runner_up=runner_up,
        p_best=p_best,
        loss_usd=loss,
        cases_to_settle=0,
    )
    if p_wrong > MAY_BE_WRONG:
        more = _cases_to_settle(draws, choice, runner_up)
        sentence = wording.cannot_tell(choice, runner_up, p_best, loss)
        return replace(call, choice=None, sentence=sentence, cases_to_settle=more, is_open=True)
    other = _turned_by_unscored(weighing, draws, choice)
    if other is not None:
        n_unscored = max(weighing.results[name].n_unscored for name in draws.names)
        sentence = wording.flips_with_unscored(choice, other, n_unscored)
        return replace(call, choice=None, runner_up=other, sentence=sentence, cases_to_settle=None)
    return call


def ladder_height(facts: ApproachFacts) -> tuple[bool, int]:
    """Place on the ladder: single levers in their order, then combinations."""
    return len(facts.levers) > 1, max((LADDER.index(lever) for lever in facts.levers), default=0)


# --- private ---------------------------------------------------------------------------------------------------------


def _no_candidates(weighing: Weighing, excluded: Mapping[str, str]) -> Call:
    left = [name for name in weighing.results if name not in excluded]
    if left:
        n_common = min(one.n for one in on_common_cases({name: weighing.results[name] for name in left}).values())
        return Call(sentence=wording.too_few(n_common, MIN_RESAMPLED))
    scored = {
        name: figure
        for name, results in weighing.results.items()
        if not weighing.facts[name].is_ceiling
        and (figure := success_rate(results, alpha=weighing.alpha)).value is not None
    }
    if not scored:
        return Call(sentence=wording.nothing_known())
    best = max(scored, key=lambda name: (scored[name].value or 0.0, name))
    if all(isinstance(measure(weighing.results[name], weighing.facts[name]), str) for name in scored):
        rivals = [(best, name) for name in scored if name != best]
        pairs = comparisons(weighing.results, alpha=weighing.alpha, pairs=rivals, seed=weighing.seed)
        not_behind = [pair.b for pair in pairs if pair.evidence != "a"]
        return Call(sentence=wording.no_cost_known(best, scored[best], not_behind))
    return Call(sentence=wording.none_useful(best, scored[best], weighing.goal))


def _alone_and_poor(weighing: Weighing, draws: JointDraws) -> Call | None:
    """Being the only one that is not surely useless is no reason to take what fails more often than it succeeds."""
    if len(draws.names) > 1 or weighing.goal.min_success is not None:
        return None
    (name,) = draws.names
    success = success_rate(weighing.results[name], alpha=weighing.alpha)
    if success.value is None or success.value >= USEFUL_SUCCESS:
        return None
    return Call(sentence=wording.none_useful(name, success, weighing.goal))


def _leader(draws: JointDraws) -> str:
    return min(draws.names, key=lambda name: draws.loss_of(name))


def _runner_up(draws: JointDraws, choice: str) -> str | None:
    others = [name for name in draws.names if name != choice]
    return min(others, key=lambda name: draws.loss_of(name), default=None)


def _simpler(weighing: Weighing, draws: JointDraws, leader: str) -> str:
    """The lowest rung among the candidates that lose no more than the leader may be losing anyway."""
    loss = dict(zip(draws.names, draws.expected_monthly_loss.tolist(), strict=True))
    least = loss[leader]
    tolerance = max(least, NEGLIGIBLE * float(draws.monthly_cost[draws.names.index(leader)]))
    close = [name for name in draws.names if loss[name] - least <= tolerance]
    choice = min(close, key=lambda name: (ladder_height(weighing.facts[name]), loss[name]))
    if weighing.baseline in close and choice != weighing.baseline and beats(draws, choice, weighing.baseline) != "yes":
        return weighing.baseline
    return choice


def _cases_to_settle(draws: JointDraws, choice: str, rival: str | None) -> int | None:
    """More cases after which the better of the two should stand out with 95%, if the present means are the truth."""
    if rival is None:
        return None
    difference = draws.cost_difference(choice, rival)
    if len(difference) < 2 or difference.mean() == 0 or difference.std() == 0:
        return None
    needed = draws.n_cases * (normal_quantile(BEATS) * float(difference.std() / difference.mean())) ** 2
    return max(1, math.ceil(needed) - draws.n_cases) if needed <= MAX_CASES else None


def _turned_by_unscored(weighing: Weighing, draws: JointDraws, choice: str) -> str | None:
    """Who would lead if the unscored cases of the choice were wrong and those of all others right."""
    if all(weighing.results[name].n_unscored == 0 for name in draws.names):
        return None
    turned = {
        name: replace(
            one,
            success=one.success_low if name == choice else one.success_high,
            success_low=one.success_low if name == choice else one.success_high,
            success_high=one.success_low if name == choice else one.success_high,
        )
        for name, one in weighing.results.items()
        if name in draws.names
    }
    worst = draw_candidates(replace(weighing, results=turned), draws.names)
    if worst is None:
        return None
    leader = _leader(worst)
    at = worst.names.index(choice)
    is_material = float(worst.expected_monthly_loss[at]) > MATERIAL * float(worst.monthly_cost[at])
    return leader if leader != choice and is_material else None
