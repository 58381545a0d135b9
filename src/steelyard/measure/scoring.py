"""Scorecards: the six metrics of design section 4, each with an interval and a provenance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from steelyard.figures import MEASURED, Figure, Provenance, unknown, weakest
from steelyard.measure.intervals import (
    MIN_CASES,
    effective_n,
    mean_interval,
    percentile,
    percentile_interval,
    wilson,
)
from steelyard.measure.judged import judge_agreement, success_with_judge
from steelyard.measure.results import ApproachResults, Floats, renumber
from steelyard.measure.scorecard import Scorecard

MAX_UNKNOWN_COST_SHARE = 0.05
"""Up to this share of cases may lack a price before the mean cost counts as unknown."""

LADDER = ("prompt", "workflow", "retrieval", "tuning")
"""Levers in the order in which they are to be tried."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskCosts:
    """Variable cost of every case in USD, or why it is not known."""

    usd: Floats | None
    """Shape (n_cases,), no `nan`."""
    provenance: Provenance
    unknown_because: str | None = None


def scorecard(
    results: ApproachResults,
    *,
    levers: Iterable[str] = (),
    price: Provenance = MEASURED,
    assumed_review_s: Figure | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> Scorecard:
    """The six metrics of one approach.

    Args:
        results: Its outcomes.
        levers: Levers it pulls.
        price: Where the prices behind `cost_usd` came from.
        assumed_review_s: Review seconds per task to show when no review was timed.
        alpha: One minus the confidence level of all intervals.
        seed: Of the bootstrap.
    """
    pulled = in_ladder_order(levers)
    costs = task_costs(results, price)
    return Scorecard(
        name=results.name,
        levers=pulled,
        rung=rung_of(pulled),
        split=results.split,
        n=results.n,
        n_unscored=results.n_unscored,
        status_counts=results.status_counts,
        success=success_rate(results, alpha=alpha),
        mean_score=_mean(results, results.score, "scores", alpha=alpha, seed=seed),
        schema_pass=_rate(results, results.schema_pass, "schema passes", alpha=alpha),
        retry=_rate(results, results.retried, "retries", alpha=alpha),
        extra_calls_per_case=_mean(results, results.extra_calls, "extra calls", alpha=alpha, seed=seed),
        transport_retries=results.n_transport_retries,
        review_s=_review_seconds(results, assumed_review_s, alpha=alpha, seed=seed),
        correction_rate=_correction_rate(results, alpha=alpha),
        latency_p50_s=_latency(results, 0.5, alpha=alpha),
        latency_p95_s=_latency(results, 0.95, alpha=alpha),
        cost_per_task_usd=_mean_cost(results, costs, alpha=alpha, seed=seed),
        cost_per_success_usd=unknown("no ledger was worked out"),
        prompt_tokens_per_task=_mean(results, results.prompt_tokens, "prompt tokens", alpha=alpha, seed=seed),
        cached_tokens_per_task=_mean(results, results.cached_tokens, "cached tokens", alpha=alpha, seed=seed),
        completion_tokens_per_task=_mean(results, results.completion_tokens, "answer tokens", alpha=alpha, seed=seed),
        success_with_judge=success_with_judge(results, alpha=alpha),
        judge_agreement=judge_agreement(results, alpha=alpha),
    )


def success_rate(results: ApproachResults, *, alpha: float = 0.05) -> Figure:
    """Share of all cases done successfully, with its Wilson interval.

    Replaces "mean of the scores we have", which rewards an approach for failing on hard cases.

    1. Failed, refused, empty, timed-out and invalid outcomes count as not successful.
    2. Unscored cases are not guessed: the value is the rate among scored cases, the interval reaches from all of
       them wrong to all of them right.
    3. Cases that share a cluster count as fewer (`effective_n`).

    Returns:
        In 0..1, higher is better; no interval below `MIN_CASES` independent cases; unknown when nothing was scored.
    """
    return _rate(results, results.success, "scores", alpha=alpha, low=results.success_low, high=results.success_high)


def task_costs(results: ApproachResults, price: Provenance = MEASURED) -> TaskCosts:
    """Variable cost per case, with few missing prices filled in openly and many refused.

    A missing price is never 0. When at most `MAX_UNKNOWN_COST_SHARE` of the cases lack one (a call that timed out
    without reporting its tokens), they are counted at the mean of the others and the result is marked assumed.
    """
    missing = np.isnan(results.cost_usd)
    n_missing = int(missing.sum())
    if n_missing == 0 and results.n:
        return TaskCosts(usd=results.cost_usd, provenance=price)
    if results.n == 0 or n_missing > MAX_UNKNOWN_COST_SHARE * results.n:
        because = f"{n_missing:,} of {results.n:,} cases have no known cost"
        return TaskCosts(usd=None, provenance=price, unknown_because=because)
    filled = np.where(missing, np.nanmean(results.cost_usd), results.cost_usd)
    note = Provenance(
        kind="assumed", source=f"{n_missing} of {results.n} costs are unknown and counted at the mean of the others"
    )
    return TaskCosts(usd=filled, provenance=weakest([price, note]))


def in_ladder_order(levers: Iterable[str]) -> tuple[str, ...]:
    """Levers in the order of the ladder, as plain words."""
    return tuple(sorted({str(lever) for lever in levers}, key=LADDER.index))


def rung_of(levers: Iterable[str]) -> str:
    """The rung as one readable word.

    >>> rung_of(["tuning", "retrieval"])
    'retrieval + tuning'
    """
    return " + ".join(in_ladder_order(levers)) or "unknown"


def scorecards(
    results: Mapping[str, ApproachResults],
    *,
    levers: Mapping[str, Iterable[str]] | None = None,
    prices: Mapping[str, Provenance] | None = None,
    assumed_review_s: Figure | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> list[Scorecard]:
    """One scorecard per approach, in the given order; `levers` and `prices` by approach name."""
    return [
        scorecard(
            one,
            levers=(levers or {}).get(name, ()),
            price=(prices or {}).get(name, MEASURED),
            assumed_review_s=assumed_review_s,
            alpha=alpha,
            seed=seed,
        )
        for name, one in results.items()
    ]


# --- private ---------------------------------------------------------------------------------------------------------


def _rate(
    results: ApproachResults,
    values: Floats,
    what: str,
    *,
    alpha: float,
    low: Floats | None = None,
    high: Floats | None = None,
) -> Figure:
    known = ~np.isnan(values)
    n_known = int(known.sum())
    if n_known == 0:
        return unknown("no cases" if results.n == 0 else f"no {what} were recorded")
    low = np.nan_to_num(values, nan=0.0) if low is None else low
    high = np.nan_to_num(values, nan=1.0) if high is None else high
    n_unclear = int((high > low).sum())
    n_low = effective_n(low, results.cluster, alpha=alpha)
    n_high = effective_n(high, results.cluster, alpha=alpha)
    has_interval = min(n_low, n_high) >= MIN_CASES
    return Figure(
        value=float(values[known].mean()),
        low=wilson(float(low.mean()), n_low, alpha=alpha).low if has_interval else None,
        high=wilson(float(high.mean()), n_high, alpha=alpha).high if has_interval else None,
        provenance=_measured_on(results.n - n_unclear, results.n),
    )


def _mean(results: ApproachResults, values: Floats, what: str, *, alpha: float, seed: int) -> Figure:
    known = ~np.isnan(values)
    n_known = int(known.sum())
    if n_known == 0:
        return unknown("no cases" if results.n == 0 else f"no {what} were recorded")
    cluster = results.cluster if n_known == results.n else renumber(results.cluster[known])
    interval = mean_interval(values[known], cluster, seed=seed, alpha=alpha)
    return Figure(
        value=float(values[known].mean()),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        provenance=_measured_on(n_known, results.n),
    )


def _mean_cost(results: ApproachResults, costs: TaskCosts, *, alpha: float, seed: int) -> Figure:
    if costs.usd is None:
        return unknown(costs.unknown_because or "no price", provenance=costs.provenance)
    interval = mean_interval(costs.usd, results.cluster, seed=seed, alpha=alpha)
    return Figure(
        value=float(costs.usd.mean()),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        provenance=costs.provenance,
    )


def _latency(results: ApproachResults, q: float, *, alpha: float) -> Figure:
    known = ~np.isnan(results.latency_s)
    n_known = int(known.sum())
    if n_known == 0:
        return unknown("no cases" if results.n == 0 else "no latency was recorded")
    values = results.latency_s[known]
    cluster = renumber(results.cluster[known]) if results.is_clustered else None
    low, high = percentile_interval(values, q, cluster=cluster, alpha=alpha)
    return Figure(value=percentile(values, q), low=low, high=high, provenance=_measured_on(n_known, results.n))


def _review_seconds(results: ApproachResults, assumed: Figure | None, *, alpha: float, seed: int) -> Figure:
    if np.isnan(results.review_seconds).all():
        return assumed or unknown("no review was timed")
    return _mean(results, results.review_seconds, "reviews", alpha=alpha, seed=seed)


def _correction_rate(results: ApproachResults, *, alpha: float) -> Figure:
    # Unreviewed cases are a choice of sample, not missing verdicts: the denominator is the reviewed ones.
    reviewed = ~np.isnan(results.corrected)
    n_reviewed = int(reviewed.sum())
    if n_reviewed == 0:
        return unknown("no outcome was reviewed")
    values = results.corrected[reviewed]
    n = effective_n(values, renumber(results.cluster[reviewed]), alpha=alpha)
    interval = wilson(float(values.mean()), n, alpha=alpha) if n >= MIN_CASES else None
    return Figure(
        value=float(values.mean()),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        provenance=_measured_on(n_reviewed, results.n),
    )


def _measured_on(n_known: int, n: int) -> Provenance:
    return MEASURED if n_known == n else Provenance(kind="measured", source=f"{n_known} of {n} cases")
