"""Racing: who is out of a run before all cases are spent on it, and when the rest may stop.

Rules, at every look after `MIN_CASES` cases:

1. Out is whoever surely misses a constraint of the goal (without a goal for success: whoever surely fails more often
   than it succeeds).
2. Out is whoever is surely not the cheapest per success of those that surely satisfy the goal: the wealth of the bets
   that these are cheaper is added up, and one still in has to be ahead of it.
3. The race is over when one that surely satisfies the goal is surely within delta of the cost of everybody left (of
   several such ones the lowest rung wins), or is alone; when nobody is left; or when all cases are used.
4. It also ends, without a winner, where the remaining cases are worth next to nothing (`race_worth`): among those left
   the choice is then made by the verdict on all outcomes, as after a run that was planned to be this long.

What 'surely' means. Every test has the level α / (K - 1 + J) for K approaches and J constraints. Let the truly best be
the cheapest per success of those that satisfy all constraints. What could go wrong with it:

- One of J: that it satisfies a constraint, which is true, is rejected.
- Another one that misses the goal is said to satisfy it, and beats it, or wins the race.
- Of the others, which satisfy the goal, none is cheaper. Each bet that one is has wealth of expectation at most 1 at any
  time; that of m of them together reaches (K - 1 + J) / α with a probability of at most m times the level. If one that
  is truly dearer by more than delta ends the race as 'within delta', let the wealth of that bet stand for it: this is
  another bet on what is false, and wins at least as much on every case, so the same sum covers this as well.

Each of the K - 1 others counts once, so the chance that any of this ever happens is at most α, whenever and however
often one looks. What may depend on what, and what is bet, is in `race_evidence`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from steelyard.decision.call import MATERIAL
from steelyard.decision.race_evidence import Constraint, Entrant, Evidence, Lane, entrant, lane, shares_of
from steelyard.decision.race_worth import worth_of_rest
from steelyard.decision.spec import GoalSpec
from steelyard.decision.wording import listed, percent, usd

__all__ = ["MIN_CASES", "ROUND", "Drop", "Entrant", "Lane", "Race", "entrant", "lane", "look_points", "race"]

NEGLIGIBLE = 0.003
"""Remaining cases worth less than this share of the cost of a success are not run."""

MIN_CASES = 10
"""Nobody is dropped before so many cases."""

ROUND = 10
"""Cases from one look to the next at first; later a quarter of what is done, so that there are few rounds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drop:
    """One approach that is out."""

    name: str
    n_cases: int
    """Cases it had done then."""
    by: str | None
    """Who beat it; `None` where it missed the goal."""
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Race:
    """Where a race stands."""

    n_cases: int
    """Cases at the last look."""
    dropped: tuple[Drop, ...]
    """In the order in which they went out."""
    left: tuple[str, ...]
    winner: str | None
    """Who surely satisfies the goal and is surely within delta of the cost of everybody left."""
    is_over: bool
    next_look: int | None
    """Cases everybody left has to have done before more can be said; `None` when it is over."""
    sentence: str

    @property
    def n_outcomes(self) -> int:
        """Cases that were needed, all approaches together."""
        return sum(drop.n_cases for drop in self.dropped) + len(self.left) * self.n_cases


def look_points(n_cases: int) -> tuple[int, ...]:
    """After how many cases a race looks: rounds of `ROUND` cases, later longer ones."""
    points = [min(MIN_CASES, n_cases)]
    while points[-1] < n_cases:
        points.append(min(n_cases, points[-1] + max(ROUND, points[-1] // 4)))
    return tuple(points)


def race(
    entrants: Sequence[Entrant],
    lanes: Mapping[str, Lane],
    *,
    n_cases: int,
    goal: GoalSpec | None = None,
    clusters: Sequence[object] | None = None,
    looks: Sequence[int] | None = None,
    alpha: float = 0.05,
    delta: float = MATERIAL,
    negligible: float = NEGLIGIBLE,
) -> Race:
    """Go through all looks the outcomes reach, from the first one on.

    A function of its arguments alone: whoever was dropped at a look is found dropped there again, and outcomes beyond
    the look at which an approach was dropped do not count.

    Args:
        entrants: The approaches, by distinct names.
        lanes: Outcomes of each in the same random order of cases; those dropped may have fewer.
        n_cases: Cases there are.
        goal: Constraints.
        clusters: Cluster of each case in the order of the race, those of a cluster next to each other, `None` for a
            case of its own; left out, each case stands for itself.
        looks: Numbers of cases after which to look, ascending; left out, `look_points`.
        alpha: Chance that the truly best one is dropped, or the race ends for one dearer by more than `delta`.
        delta: Share of the cost of a success that does not matter.
        negligible: The race ends, without a winner, where the remaining cases are worth less than this share; 0 goes on.
    """
    course = _Course(entrants, lanes, goal or GoalSpec(), clusters, alpha=alpha, delta=delta)
    n, winner, following = 0, None, None
    for look in look_points(n_cases) if looks is None else looks:
        if min(lanes[name].n for name in course.left) < look:
            following = look
            break
        n = look
        course.look(n)
        winner = course.winner(n)
        if winner is not None or not course.left or course.worth_of_rest(n, n_cases) < negligible:
            break
    return Race(
        n_cases=n,
        dropped=tuple(course.dropped),
        left=tuple(course.left),
        winner=winner,
        is_over=following is None,
        next_look=following,
        sentence=_sentence(course.left, winner, n, n_cases, delta, is_over=following is None),
    )


# --- private ---------------------------------------------------------------------------------------------------------


class _Course:
    """Who is left, and the rules."""

    def __init__(
        self,
        entrants: Sequence[Entrant],
        lanes: Mapping[str, Lane],
        goal: GoalSpec,
        clusters: Sequence[object] | None,
        *,
        alpha: float,
        delta: float,
    ) -> None:
        self.left = [one.name for one in entrants]
        self.dropped: list[Drop] = []
        self._entrants = {one.name: one for one in entrants}
        self._lanes = lanes
        self._goal = goal
        self._alpha = alpha
        self._evidence = Evidence(entrants, lanes, goal, clusters, delta=delta)
        self._sure = math.log((len(entrants) - 1 + len(self._evidence.constraints)) / alpha)

    def look(self, n: int) -> None:
        """Drop whoever is out after `n` cases."""
        if n < MIN_CASES:
            return
        for name in list(self.left):
            wealth, constraint = self._evidence.misses(name, n)
            if wealth >= self._sure:
                self._drop(name, n, by=None, because=self._missed(name, constraint, n))
        able = [name for name in self._entrants if self._is_able(name, n)]
        against = {x: [(self._cheaper(w, x, n), w) for w in able if w != x] for x in self.left}
        totals = {x: float(np.logaddexp.reduce([wealth for wealth, _ in bets])) for x, bets in against.items() if bets}
        for x in sorted(totals, key=lambda x: -totals[x]):
            ahead = max((bet for bet in against[x] if bet[1] in self.left), default=(-math.inf, x))
            if totals[x] >= self._sure and ahead[0] > 0:
                self._drop(x, n, by=ahead[1], because=self._beaten(x, ahead[1], n))

    def worth_of_rest(self, n: int, n_cases: int) -> float:
        """What the remaining cases could still be worth, as a share of the leader's cost per success."""
        return worth_of_rest(
            [self._entrants[name] for name in self.left],
            self._lanes,
            n=n,
            n_cases=n_cases,
            goal=self._goal,
            constraints=self._evidence.constraints,
            starts=self._evidence.starts,
        )

    def winner(self, n: int) -> str | None:
        """Who has won after `n` cases."""
        if n < MIN_CASES:
            return None
        able = [
            one
            for one in self.left
            if self._is_able(one, n)
            and all(self._evidence.near(one, x, n) >= self._sure for x in self.left if x != one)
        ]
        return min(able, key=lambda one: (self._entrants[one].rung, self._cost(one, n)), default=None)

    def _is_able(self, name: str, n: int) -> bool:
        return self._evidence.meets(name, self._cases_of(name, n)) >= self._sure

    def _cheaper(self, one: str, other: str, n: int) -> float:
        """The bet that `one` is cheaper than `other`; it rests once one of them is out."""
        return self._evidence.cheaper(one, other, min(self._cases_of(one, n), self._cases_of(other, n)))

    def _cases_of(self, name: str, n: int) -> int:
        return next((drop.n_cases for drop in self.dropped if drop.name == name), n)

    def _drop(self, name: str, n: int, *, by: str | None, because: str) -> None:
        reason = f"dropped by the race after {n:,} cases: {because}"
        self.left.remove(name)
        self.dropped.append(Drop(name=name, n_cases=n, by=by, reason=reason))

    def _cost(self, name: str, n: int) -> float:
        """Cost per success on the first `n` cases, in USD; infinite without a success or where it is not known."""
        lane, one = self._lanes[name], self._entrants[name]
        success = float((lane.success_low[:n] + lane.success_high[:n]).mean()) / 2
        variable = lane.cost_usd[:n][~np.isnan(lane.cost_usd[:n])]
        if success == 0 or not len(variable) or math.isnan(one.fixed_usd):
            return math.inf
        full = one.fixed_usd + one.variable_factor * float(variable.mean()) + (1 - success) * one.failed_task_usd
        return full / success

    def _beaten(self, name: str, by: str, n: int) -> str:
        cost = self._cost(name, n)
        own = f"against {usd(cost)} of its own" if math.isfinite(cost) else "while it has no success at a known cost"
        return (
            f"{by} costs less per successful task ({usd(self._cost(by, n))} so far, {own};"
            f" the chance that the race drops the best one is at most {percent(self._alpha)})"
        )

    def _missed(self, name: str, constraint: Constraint, n: int) -> str:
        low, high = shares_of(self._lanes[name], constraint, self._goal)
        share, least = percent(float(np.nanmean((low[:n] + high[:n]) / 2))), percent(constraint.least)
        match constraint.kind:
            case "useful":
                return f"it fails more often than it succeeds (success {share} so far)"
            case "success":
                return f"it misses the goal of {least} success (it has {share} so far)"
            case "schema":
                return f"it misses the goal of {least} valid first answers (it has {share} so far)"
            case "latency":
                limit = f"{self._goal.max_p95_latency_s:g} s"
                return f"it misses the goal of {least} of the tasks within {limit} (it has {share} so far)"


def _sentence(left: Sequence[str], winner: str | None, n: int, n_cases: int, delta: float, *, is_over: bool) -> str:
    after = f"after {n:,} of {n_cases:,} cases"
    others = listed([name for name in left if name != winner])
    if not left:
        return f"over {after}: no approach is left, none reaches the goal"
    if winner is not None and len(left) == 1:
        return f"over {after}: {winner} is the only one left"
    if winner is not None:
        return f"over {after}: {winner} costs at most {percent(delta)} more per successful task than {others}"
    if n >= n_cases:
        return f"over: all {n_cases:,} cases are used, and {others} {'is' if len(left) == 1 else 'are'} still in"
    if is_over and len(left) == 1:
        return f"over {after}: {others} is the only one left, and the remaining cases are worth next to nothing"
    if is_over:
        return f"over {after}: between {others} the remaining cases are worth next to nothing"
    return f"{after}, {others} {'is' if len(left) == 1 else 'are'} still in"
