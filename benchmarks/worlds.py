"""Task worlds whose truth is known, to see how often a verdict is right.

A world is a team's situation: some approaches, what they cost to build and keep, the money section, perhaps a goal, and
a population that cases are drawn from. Its truth is the ledger's formula (`steelyard.economics.costs`) at the true
rates. In the worlds made here success, price, review time, churn and correlation are drawn from a seed, and cases from
these; `published` makes worlds from tables of real outcomes.

What people only assume (hours, wages, volume) is the same in the truth and in the verdict: no number of cases tells
anything about it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np

from steelyard.decision.spec import GoalSpec
from steelyard.economics.costs import CostModel, Estimates, cost_model
from steelyard.economics.ledger import ApproachFacts, Changes
from steelyard.economics.spec import MoneySpec
from steelyard.measure.intervals import normal_quantile
from steelyard.measure.results import ApproachResults, Floats, Ints

Results = dict[str, ApproachResults]
Sampler = Callable[[int, np.random.Generator], Results]
"""Draws that many cases, the same ones for all approaches."""

WorldKind = Literal["mixed", "near tie", "clear winner", "cheap wins", "constrained"]
KINDS: tuple[WorldKind, ...] = ("mixed", "near tie", "clear winner", "cheap wins", "constrained")

N_CASES = (100, 200, 400, 800)
"""Labelled cases a team may have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lot:
    """What one approach is truly like."""

    success: float
    variable_usd: float
    """Mean per task."""
    review_s: float | None
    """Mean seconds per review; `None` where reviews are not timed and the money section's are right."""
    meets_goal: bool


@dataclass(frozen=True, kw_only=True)
class World:
    """One team's situation, and the truth about it."""

    kind: str
    facts: Mapping[str, ApproachFacts]
    money: MoneySpec
    goal: GoalSpec
    lots: Mapping[str, Lot]
    n_cases: int
    """Labelled cases there are."""
    sample: Sampler

    @cached_property
    def cost_per_success(self) -> dict[str, float]:
        """True full cost of one successful task in USD, by approach."""
        return {name: self._model(name).cost_per_task(lot.success, lot.variable_usd) / lot.success
                for name, lot in self.lots.items()}  # fmt: skip

    @cached_property
    def monthly_cost(self) -> dict[str, float]:
        """True full cost in USD a month, by approach."""
        volume = self.money.volume_per_month
        return {name: self.cost_per_success[name] * lot.success * volume for name, lot in self.lots.items()}

    @cached_property
    def oracle(self) -> str:
        """The approach to take for those who know the truth: the cheapest per success among those meeting the goal."""
        return min(
            self.cost_per_success, key=lambda name: (not self.lots[name].meets_goal, self.cost_per_success[name])
        )

    def loss_usd(self, name: str) -> float:
        """What choosing an approach instead of the oracle's costs in a month, as the verdict defines it.

        The difference in cost per successful task times its successful tasks; all it costs when it misses a goal that
        the oracle's choice meets.
        """
        if not self.lots[name].meets_goal and self.lots[self.oracle].meets_goal:
            return self.monthly_cost[name]
        excess = self.cost_per_success[name] - self.cost_per_success[self.oracle]
        return excess * self.lots[name].success * self.money.volume_per_month

    def regret(self, name: str) -> float:
        """The loss as a share of what the oracle's choice costs in a month."""
        return self.loss_usd(name) / self.monthly_cost[self.oracle]

    def _model(self, name: str) -> CostModel:
        lot = self.lots[name]
        estimates = Estimates(success=lot.success, variable_usd=lot.variable_usd, review_s=lot.review_s, n=self.n_cases)
        return cost_model(self.facts[name], estimates, self.money)


def drawn_world(seed: int, kind: WorldKind | None = None, *, n_cases: int | None = None) -> World:
    """A world from a seed; `kind` and `n_cases` are drawn too unless given."""
    rng = np.random.default_rng([seed, 17])
    drawn_kind = KINDS[int(rng.integers(len(KINDS)))]
    drawn_n = int(rng.choice(N_CASES))
    kind, n_cases = kind or drawn_kind, n_cases or drawn_n
    money = money_of(rng, kind)
    kinds = [_CATALOGUE[at] for at in sorted(rng.permutation(len(_CATALOGUE))[: rng.integers(3, 9)])]
    facts = {one.name: _facts(one, rng) for one in kinds}
    variable = {one.name: between(rng, *one.variable_usd) for one in kinds}
    success = _successes(rng, kind, kinds)
    if kind == "near tie":
        _make_twins(rng, facts, variable, success)
    goal = GoalSpec()
    latency = {name: between(rng, 0.2, 10.0) for name in facts}
    p95 = {name: mean * math.exp(_LATENCY_SPREAD * normal_quantile(0.95)) for name, mean in latency.items()}
    if kind == "constrained":
        goal = _goal(rng, success, p95)
    are_reviews_timed = money.review_share > 0 and rng.random() < 1 / 3
    lots = {
        name: Lot(
            success=success[name],
            variable_usd=variable[name],
            review_s=money.review_seconds * float(rng.lognormal(0, 0.3)) if are_reviews_timed else None,
            meets_goal=success[name] >= (goal.min_success or 0.0) and p95[name] <= (goal.max_p95_latency_s or math.inf),
        )
        for name in facts
    }
    shape = _Shape(
        shared=rng.uniform(0.3, 0.9),
        cluster_size=float(rng.uniform(2, 10)) if rng.random() < 1 / 3 else 1.0,
        within_cluster=rng.uniform(0.2, 0.7),
        cost_spread={name: rng.uniform(0.2, 1.5) for name in facts},
        cost_with_difficulty=rng.uniform(0, 0.8),
        latency_s=latency,
        n_reviewed=int(rng.integers(20, 101)),
    )
    return World(
        kind=kind,
        facts=facts,
        money=money,
        goal=goal,
        lots=lots,
        n_cases=n_cases,
        sample=lambda n, cases: _draw_cases(lots, shape, n, cases),
    )


def first_cases(results: Mapping[str, ApproachResults], n_cases: int) -> Results:
    """The outcomes of the first cases only; clusters lie next to each other, so their codes stay without gaps."""
    return {name: _first(one, n_cases) for name, one in results.items()}


def money_of(rng: np.random.Generator, kind: WorldKind) -> MoneySpec:
    is_cheap = kind == "cheap wins"
    return MoneySpec(
        volume_per_month=between(rng, 100, 5e3 if is_cheap else 1e6),
        wage_per_hour_usd=rng.uniform(20, 80),
        failed_task_usd=rng.uniform(0, 0.2) if is_cheap else 0.0 if rng.random() < 0.2 else between(rng, 0.05, 5.0),
        review_share=float(rng.choice([0.0, 0.02, 0.1, 0.5])),
        review_seconds=between(rng, 5, 90),
        horizon_months=rng.uniform(6, 24),
    )


def outcomes_of(name: str, *, success: Floats, cluster: Ints | None = None, **columns: Floats) -> ApproachResults:
    """Outcomes as columns, one outcome a case, all scored; what is not given is unknown."""
    n = len(success)
    known: dict[str, Any] = {
        "name": name, "fingerprint": name, "split": "test", "case_ids": _case_ids(n),
        "n_repeats": np.ones(n, dtype=np.int64), "success": success, "success_low": success, "success_high": success,
        "score": success, "schema_pass": np.ones(n), "segment": (None,) * n, "time": (None,) * n,
        "cluster": np.arange(n, dtype=np.int64) if cluster is None else cluster,
        "is_clustered": cluster is not None and int(cluster.max()) + 1 < n,
        "status_counts": {"answered": n}, "n_transport_retries": 0,
    } | columns  # fmt: skip
    unknown = np.full(n, np.nan)
    return ApproachResults(**{field.name: known.get(field.name, unknown) for field in fields(ApproachResults)})


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """Between two ends, uniform on a log scale."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


# --- private ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kind:
    """A sort of approach; ranges are drawn from on a log scale."""

    name: str
    levers: tuple[str, ...]
    variable_usd: tuple[float, float]
    lift: float = 0.0
    """Typical success above the plainest approach."""
    calls_model: bool = True
    needs_labels: bool = False


_CATALOGUE = (
    _Kind(name="short-prompt", levers=("prompt",), variable_usd=(1e-4, 2e-3)),
    _Kind(name="examples", levers=("prompt",), variable_usd=(5e-4, 1e-2), lift=0.03),
    _Kind(name="strong-model", levers=("prompt",), variable_usd=(5e-3, 1e-1), lift=0.06),
    _Kind(name="workflow", levers=("workflow",), variable_usd=(5e-4, 2e-2), lift=0.05),
    _Kind(name="retrieval", levers=("retrieval",), variable_usd=(5e-4, 2e-2), lift=0.05),
    _Kind(name="retrieval-workflow", levers=("workflow", "retrieval"), variable_usd=(1e-3, 4e-2), lift=0.07),
    _Kind(name="nearest", levers=("retrieval",), variable_usd=(1e-6, 1e-4), calls_model=False, needs_labels=True),
    _Kind(name="head", levers=("tuning",), variable_usd=(1e-6, 1e-4), lift=0.04, calls_model=False, needs_labels=True),
    _Kind(name="lora", levers=("tuning",), variable_usd=(1e-5, 1e-3), lift=0.06, needs_labels=True),
    _Kind(name="lora-workflow", levers=("workflow", "tuning"), variable_usd=(1e-4, 2e-3), lift=0.08, needs_labels=True),
)  # fmt: skip

_LATENCY_SPREAD = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shape:
    """How cases differ and what they share."""

    shared: float
    """Share of the variance of 'how hard' that all approaches have in common."""
    cluster_size: float
    """Mean cases per cluster; 1 for none."""
    within_cluster: float
    """Share of the difficulty's variance that the cases of a cluster have in common."""
    cost_spread: Mapping[str, float]
    """Standard deviation of the log cost, by approach."""
    cost_with_difficulty: float
    """Correlation of log cost with difficulty."""
    latency_s: Mapping[str, float]
    n_reviewed: int
    """Cases whose review is timed, where reviews are: the first ones."""


def _facts(kind: _Kind, rng: np.random.Generator) -> ApproachFacts:
    is_tuned = "tuning" in kind.levers
    changes = Changes(per_month=between(rng, 0.05, 2.0), edit_hours=rng.uniform(0.5, 3), relabelled=100)
    return ApproachFacts(
        name=kind.name,
        levers=kind.levers,
        calls_model=kind.calls_model,
        n_labels=int(between(rng, 300, 3000)) if kind.needs_labels else 0,
        setup_cost_usd=between(rng, 0.1, 50) if is_tuned else 0.0,
        changes=changes if is_tuned and rng.random() < 0.5 else None,
    )


def _successes(rng: np.random.Generator, kind: WorldKind, kinds: Sequence[_Kind]) -> dict[str, float]:
    plainest = rng.uniform(0.6, 0.9)
    spread = 0.02 if kind == "clear winner" else 0.05
    lift = 0.2 if kind == "cheap wins" else 1.0
    success = {one.name: plainest + lift * one.lift + rng.normal(0, spread * lift) for one in kinds}
    if kind == "clear winner":
        success[kinds[int(rng.integers(len(kinds)))].name] += rng.uniform(0.08, 0.2)
    return {name: float(np.clip(rate, 0.55, 0.99)) for name, rate in success.items()}


def _make_twins(
    rng: np.random.Generator, facts: dict[str, ApproachFacts], variable: dict[str, float], success: dict[str, float]
) -> None:
    """Turn every approach into a variant of the first one: same levers, almost the same success and price."""
    first = next(iter(facts))
    for name in facts:
        facts[name] = replace(facts[first], name=name)
        variable[name] = variable[first] * float(rng.lognormal(0, 0.1))
        success[name] = float(np.clip(success[first] + rng.normal(0, 0.015), 0.55, 0.99))


def _goal(rng: np.random.Generator, success: Mapping[str, float], p95: Mapping[str, float]) -> GoalSpec:
    """Constraints that the most successful approach meets and some others do not."""
    best = max(success, key=lambda name: success[name])
    rates = list(success.values())
    least = float(np.clip(np.quantile(rates, rng.uniform(0.1, 0.9)) - rng.uniform(0, 0.02), 0.5, success[best] - 0.005))
    within = p95[best] * rng.uniform(1.1, 4) if rng.random() < 0.3 else None
    return GoalSpec(min_success=least, max_p95_latency_s=within)


def _draw_cases(lots: Mapping[str, Lot], shape: _Shape, n: int, rng: np.random.Generator) -> Results:
    """Cases of a drawn world: a latent difficulty that all approaches share, and noise of their own."""
    if shape.cluster_size > 1:
        cluster = _clusters(n, shape.cluster_size, rng)
        of_cluster = rng.standard_normal(int(cluster.max()) + 1)[cluster]
        difficulty = math.sqrt(shape.within_cluster) * of_cluster
        difficulty += math.sqrt(1 - shape.within_cluster) * rng.standard_normal(n)
    else:
        cluster = np.arange(n, dtype=np.int64)
        difficulty = rng.standard_normal(n)
    found = {}
    for name, lot in lots.items():
        hardness = math.sqrt(shape.shared) * difficulty + math.sqrt(1 - shape.shared) * rng.standard_normal(n)
        tied = shape.cost_with_difficulty
        spread = shape.cost_spread[name]
        log_cost = spread * (tied * difficulty + math.sqrt(1 - tied**2) * rng.standard_normal(n))
        reviews = np.full(n, np.nan)
        if lot.review_s is not None:
            reviews[: shape.n_reviewed] = lot.review_s * rng.lognormal(-0.32, 0.8, min(n, shape.n_reviewed))
        found[name] = outcomes_of(
            name,
            success=(hardness < normal_quantile(lot.success)).astype(np.float64),
            cost_usd=lot.variable_usd * np.exp(log_cost - spread**2 / 2),  # so that the mean is the true one
            latency_s=shape.latency_s[name] * rng.lognormal(0, _LATENCY_SPREAD, n),
            review_seconds=reviews,
            cluster=cluster,
        )
    return found


def _clusters(n: int, mean_size: float, rng: np.random.Generator) -> Ints:
    """Cluster codes from 0 without gaps; sizes are geometric."""
    starts_one = rng.random(n) < 1 / mean_size
    starts_one[0] = True
    codes: Ints = np.cumsum(starts_one).astype(np.int64) - 1
    return codes


@lru_cache(maxsize=8)
def _case_ids(n: int) -> tuple[str, ...]:
    return tuple(f"c{i:06d}" for i in range(n))


def _first(results: ApproachResults, n: int) -> ApproachResults:
    shorter: dict[str, Any] = {"status_counts": {"answered": n}}
    for field in fields(results):
        column = getattr(results, field.name)
        if isinstance(column, np.ndarray | tuple):
            shorter[field.name] = column[:n]
    return replace(results, **shorter)
