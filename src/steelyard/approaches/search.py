"""Successive halving over prompts on paired dev cases, planned so that it cannot break its budget.

All candidates of a round are scored on the same dev cases, a prefix of one seeded order; the better half goes on to a
prefix of twice the length, so that what was asked before is never asked again and each round takes about the same
share of the budget: few cases for many candidates first, many cases for few at the end. The unchanged prompt goes through to the
last round whatever it scores, because the question is whether anything is better than it.

Everything here is arithmetic on scores; who asks whom is in `steelyard.study.optimise`. What is decided hangs on the
plan and the scores alone, so a search that was killed and is given again takes the same decisions.

Source: Jamieson and Talwalkar (2016), Non-stochastic best arm identification and hyperparameter optimization.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

UNCHANGED = 0
"""Index of the unchanged prompt among the candidates."""

MIN_FIRST_CASES = 8
"""Dev cases of the first round at least; with fewer the better half is mostly luck."""

TRIAL_SHARE = 0.2
"""Share of the budget that trial calls on train cases may take."""


MINIBATCH = 3
"""Train cases a rewriting of the instruction learns from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """One round of a search."""

    n_candidates: int
    n_cases: int
    """Dev cases each of them has done at the end of the round, those of earlier rounds included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchPlan:
    """What a search will ask."""

    rounds: tuple[Round, ...]
    n_trials: int
    """Train cases asked with the unchanged prompt beforehand."""
    calls_per_case: int
    """Calls one case can take at most, repairs included."""
    n_reflections: int = 0
    """Calls to a model that rewrites the instruction."""

    @property
    def n_candidates(self) -> int:
        """How many prompts are tried."""
        return self.rounds[0].n_candidates

    @property
    def n_cases(self) -> int:
        """Dev cases the finalists do."""
        return self.rounds[-1].n_cases

    @property
    def n_dev_outcomes(self) -> int:
        """Candidate and dev case pairs that are asked."""
        return _cost(self.rounds)

    @property
    def most_calls(self) -> int:
        """Calls it can take at most."""
        return (self.n_trials + self.n_dev_outcomes) * self.calls_per_case + self.n_reflections


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How far a search is."""

    round: int
    """Index of the round that is going on, or number of rounds when it is over."""
    left: tuple[int, ...]
    """Candidates still in, best first as far as they are ranked; the unchanged one is always among them."""
    n_cases: int
    """Dev cases all of them have done in the rounds before."""
    dropped: Mapping[int, int]
    """Candidate -> dev cases after which it was dropped."""


def plan_search(
    n_candidates: int, n_dev: int, *, budget_calls: int, calls_per_case: int = 1, n_trials: int = 0
) -> SearchPlan | None:
    """Plan a search with as many candidates as the budget carries.

    Args:
        n_candidates: Candidates there are, the unchanged prompt included; at least 2.
        n_dev: Dev cases there are, at least 1.
        budget_calls: Most calls, trial calls included.
        calls_per_case: Calls one case can take at most, repairs included.
        n_trials: Trial calls wanted; fewer are planned, or none, where they would take more than a fifth.

    Returns:
        A plan with `most_calls <= budget_calls`; `None` where not even two candidates can be compared on
        `MIN_FIRST_CASES` dev cases (or on all, where there are fewer).
    """
    n_outcomes = budget_calls // calls_per_case
    trials = min(n_trials, int(n_outcomes * TRIAL_SHARE))
    trials = trials if 2 * trials >= n_trials else 0  # too few to choose examples from
    first = min(MIN_FIRST_CASES, n_dev)
    for n in range(min(n_candidates, n_outcomes // first), 1, -1):
        rounds = _rounds(n, n_dev, n_outcomes - trials)
        if rounds[0].n_cases >= first:
            return SearchPlan(rounds=rounds, n_trials=trials, calls_per_case=calls_per_case)
    if trials:
        return plan_search(n_candidates, n_dev, budget_calls=budget_calls, calls_per_case=calls_per_case)
    return None


def plan_reflection(
    n_dev: int, *, budget_calls: int, calls_per_case: int = 1, minibatch: int = MINIBATCH
) -> SearchPlan | None:
    """Plan a search by reflection: each turn asks two minibatches of train cases, one rewriting, and all chosen dev cases.

    Args:
        n_dev: Dev cases there are, at least 1.
        budget_calls: Most calls, rewriting included.
        calls_per_case: Calls one case can take at most, repairs included.
        minibatch: Train cases a rewriting learns from.

    Returns:
        A plan with `most_calls <= budget_calls`; `None` where not even one turn fits.
    """
    n_cases = min(n_dev, max(MIN_FIRST_CASES, budget_calls // calls_per_case // 6))
    seed, turn = n_cases * calls_per_case, (2 * minibatch + n_cases) * calls_per_case + 1
    n_turns = (budget_calls - seed) // turn
    if n_turns < 1:
        return None
    return SearchPlan(
        rounds=(Round(n_candidates=1 + n_turns, n_cases=n_cases),),
        n_trials=2 * minibatch * n_turns,
        calls_per_case=calls_per_case,
        n_reflections=n_turns,
    )


def smallest_budget(n_dev: int, *, calls_per_case: int = 1) -> int:
    """The fewest calls with which there is a plan."""
    return 2 * min(MIN_FIRST_CASES, n_dev) * calls_per_case


def standing(plan: SearchPlan, scores: Mapping[int, Sequence[float]], lengths: Sequence[float]) -> Standing:
    """Where a search stands, from the scores so far.

    Args:
        plan: The plan.
        scores: By candidate: score of each dev case done, in the order of the cases, 0..1; nan where unscored.
        lengths: By candidate: length of its prompt; of equals the shorter one goes on.
    """
    left = tuple(range(plan.n_candidates))
    dropped: dict[int, int] = {}
    n_before = 0
    for number, one in enumerate(plan.rounds):
        if any(len(scores.get(candidate, ())) < one.n_cases for candidate in left):
            return Standing(round=number, left=left, n_cases=n_before, dropped=dropped)
        ranked = sorted(left, key=lambda c: (-mean(scores[c][: one.n_cases]), lengths[c], c))
        is_last = number + 1 == len(plan.rounds)
        n_next = len(left) if is_last else plan.rounds[number + 1].n_candidates
        kept = ranked[:n_next]
        if UNCHANGED not in kept:
            kept = [*kept[:-1], UNCHANGED]
        dropped |= {candidate: one.n_cases for candidate in ranked if candidate not in kept}
        left, n_before = tuple(kept), one.n_cases
    return Standing(round=len(plan.rounds), left=left, n_cases=n_before, dropped=dropped)


def winner(now: Standing, scores: Mapping[int, Sequence[float]], lengths: Sequence[float]) -> int:
    """The candidate to use: the unchanged prompt unless another one still in scores more on the same cases."""
    if not now.n_cases:
        return UNCHANGED
    means = {candidate: mean(scores[candidate][: now.n_cases]) for candidate in now.left}
    best = min(now.left, key=lambda c: (-means[c], lengths[c], c))
    return best if means[best] > means[UNCHANGED] else UNCHANGED


def mean(scores: Sequence[float]) -> float:
    """Mean of the scores that are known; 0 where none is."""
    known = [score for score in scores if not math.isnan(score)]
    return math.fsum(known) / len(known) if known else 0.0


# ---- private --------------------------------------------------------------------------------------------------------


def _rounds(n_candidates: int, n_dev: int, n_outcomes: int) -> tuple[Round, ...]:
    """Rounds that halve the candidates down to two while the cases double, as long as `n_outcomes` allows.

    What doubling leaves over goes to the last round.
    """
    sizes = [n_candidates]
    while sizes[-1] > 2:
        sizes.append(max(2, math.ceil(sizes[-1] / 2)))
    first = bisect.bisect_right(
        range(1, n_dev + 1), n_outcomes, key=lambda n_cases: _cost(_doubling(sizes, n_cases, n_dev))
    )
    rounds = _doubling(sizes, first, n_dev)
    last = rounds[-1]
    more = min((n_outcomes - _cost(rounds)) // last.n_candidates, n_dev - last.n_cases)
    return (*rounds[:-1], Round(n_candidates=last.n_candidates, n_cases=last.n_cases + max(0, more)))


def _doubling(sizes: Sequence[int], first: int, n_dev: int) -> tuple[Round, ...]:
    rounds: list[Round] = []
    for number, size in enumerate(sizes):
        n_cases = min(n_dev, first * 2**number)
        if not rounds or n_cases > rounds[-1].n_cases:
            rounds.append(Round(n_candidates=size, n_cases=n_cases))
    return tuple(rounds)


def _cost(rounds: Sequence[Round]) -> int:
    """Candidate and case pairs asked in these rounds."""
    befores = [0, *(one.n_cases for one in rounds)]
    return sum(one.n_candidates * (one.n_cases - before) for one, before in zip(rounds, befores, strict=False))
