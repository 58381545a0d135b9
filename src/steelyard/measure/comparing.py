"""Comparisons: which of two approaches is better on the SAME cases, or that it is too early to say.

A difference is announced only when three things agree: the paired interval excludes zero, the exact test does after
Holm over all comparisons made together, and neither depends on how unscored cases would have turned out. Two
approaches are called equivalent when the whole interval lies within the margin. Everything else is undecided.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from steelyard.figures import MEASURED, Figure, Provenance, unknown
from steelyard.measure.intervals import MIN_CASES, Interval, effective_n, mean_interval
from steelyard.measure.judged import difference_with_judge
from steelyard.measure.paired import cases_needed, e_value, holm, newcombe, sign_flip_test
from steelyard.measure.power import detectable_figure
from steelyard.measure.results import ApproachResults, Floats, Ints, cluster_sums, renumber
from steelyard.measure.scorecard import Announcement, Comparison, Evidence

ALL_PAIRS_UP_TO = 8
"""With more approaches each is compared with the leader only, so that Holm leaves some power."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairing:
    """Two approaches on their common cases; arrays are parallel, shape (n_common,)."""

    a: ApproachResults
    b: ApproachResults
    in_a: Ints
    """Positions of the common cases in `a`."""
    in_b: Ints
    cluster: Ints
    n_clusters: int

    @property
    def n(self) -> int:
        """Common cases."""
        return len(self.in_a)

    def only(self, positions: Ints) -> Pairing:
        """The same two on some of their common cases; positions count from 0 within them."""
        cluster = self.cluster[positions]
        if self.n_clusters == self.n:
            cluster, n_clusters = np.arange(len(positions), dtype=np.int64), len(positions)
        else:
            cluster = renumber(cluster)
            n_clusters = int(cluster.max()) + 1 if len(cluster) else 0
        return replace(
            self, in_a=self.in_a[positions], in_b=self.in_b[positions], cluster=cluster, n_clusters=n_clusters
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SuccessDifference:
    """How far two approaches differ in success, before it is put beside other comparisons."""

    n_unscored: int
    """Cases unscored for either; they widen `figure`."""
    a_only: int
    """Cases where only `a` succeeded (with repeats: succeeded more often)."""
    b_only: int
    figure: Figure
    """Success rate of `a` minus that of `b`, paired interval."""
    n_effective: float
    """Independent cases the common ones are worth."""
    discordance: float | None
    """Mean squared difference of a case: the share of cases where they disagree; `None` when none was scored."""
    p: float | None
    """Exact two-sided p-value; `None` with too few cases."""
    e: float | None
    """Anytime-valid evidence against 'no difference'; `None` with too few cases."""


def comparisons(
    results: Mapping[str, ApproachResults],
    *,
    alpha: float = 0.05,
    margin: float = 0.02,
    pairs: Sequence[tuple[str, str]] | None = None,
    seed: int = 0,
) -> list[Comparison]:
    """Compare approaches pairwise on the cases both did.

    Args:
        results: By approach name.
        alpha: Chance of announcing any difference that is not there, over all comparisons together.
        margin: Success rates within this of each other count as equivalent; 0.02 is two points.
        pairs: Which to compare; left out, all pairs, or with more than `ALL_PAIRS_UP_TO` approaches each with the
            most successful one.
        seed: Of the bootstrap for latency and cost.
    """
    if pairs is None:
        pairs = _default_pairs(results)
    found = [
        _compare(pair_up(results[a], results[b]), alpha=alpha, margin=margin, n_pairs=len(pairs), seed=seed)
        for a, b in pairs
    ]
    tested = [i for i, comparison in enumerate(found) if comparison.p_mcnemar is not None]
    adjusted = holm([p for i in tested if (p := found[i].p_mcnemar) is not None])
    for i, p_adjusted in zip(tested, adjusted, strict=True):
        found[i] = _judged(replace(found[i], p_adjusted=p_adjusted), alpha=alpha, margin=margin)
    return found


def pair_up(a: ApproachResults, b: ApproachResults) -> Pairing:
    """The cases both approaches did."""
    if a.case_ids == b.case_ids:
        everything = np.arange(a.n, dtype=np.int64)
        return Pairing(a=a, b=b, in_a=everything, in_b=everything, cluster=a.cluster, n_clusters=a.n_clusters)
    place_in_b = {case_id: i for i, case_id in enumerate(b.case_ids)}
    common = [(i, place_in_b[case_id]) for i, case_id in enumerate(a.case_ids) if case_id in place_in_b]
    in_a, in_b = np.array(common, dtype=np.int64).reshape(-1, 2).T
    cluster = renumber(a.cluster[in_a])
    return Pairing(
        a=a, b=b, in_a=in_a, in_b=in_b, cluster=cluster, n_clusters=int(cluster.max()) + 1 if len(cluster) else 0
    )


def success_difference(pairing: Pairing, *, alpha: float = 0.05) -> SuccessDifference:
    """Difference in success of two approaches on their common cases, with paired interval and exact test.

    Unscored cases are not guessed: the interval reaches from all of them speaking for `b` to all of them for `a`, the
    p-value is the largest and the evidence the smallest that scoring them could give.
    """
    a, b = pairing.a, pairing.b
    difference = a.success[pairing.in_a] - b.success[pairing.in_b]
    scored = ~np.isnan(difference)
    worst = (a.success_low[pairing.in_a], b.success_high[pairing.in_b])
    best = (a.success_high[pairing.in_a], b.success_low[pairing.in_b])
    n_unscored = int(((best[0] > worst[0]) | (worst[1] > best[1])).sum())
    # Without unscored cases both extremes are the outcomes themselves.
    extremes = [worst] if n_unscored == 0 else [worst, best]
    n_effective = min(effective_n(one - other, pairing.cluster, alpha=alpha) for one, other in extremes)
    p = e = None
    interval: Interval | None = None
    if n_effective >= MIN_CASES and bool(scored.any()):
        intervals = [_newcombe(one, other, n_effective, alpha=alpha) for one, other in extremes]
        interval = Interval(intervals[0].low, intervals[-1].high)
        totals = [_unit_totals(one - other, pairing) for one, other in extremes]
        if int(totals[0].sum()) * int(totals[-1].sum()) < 0:
            # One extreme speaks for `a` and the other for `b`, so in between lies a tie that may be the truth.
            most = max(int(np.count_nonzero(total)) for total in totals)
            p, e = 1.0, e_value(most // 2, most - most // 2)
        else:
            p = max(sign_flip_test(total) for total in totals)
            e = min(e_value(int((total > 0).sum()), int((total < 0).sum())) for total in totals)
    return SuccessDifference(
        n_unscored=n_unscored,
        a_only=int((difference[scored] > 0).sum()),
        b_only=int((difference[scored] < 0).sum()),
        figure=_difference_figure(difference[scored], interval, n_scored=pairing.n - n_unscored, n=pairing.n),
        n_effective=n_effective,
        discordance=float((difference[scored] ** 2).mean()) if scored.any() else None,
        p=p,
        e=e,
    )


def announced(difference: Figure, p_adjusted: float | None, *, alpha: float) -> Announcement:
    """Which of two is better, when both the adjusted test and the interval say so."""
    low, high = difference.low, difference.high
    if low is None or high is None or p_adjusted is None or p_adjusted > alpha:
        return "undecided"
    return "a" if low > 0 else "b" if high < 0 else "undecided"


# --- private ---------------------------------------------------------------------------------------------------------


def _default_pairs(results: Mapping[str, ApproachResults]) -> list[tuple[str, str]]:
    if len(results) <= ALL_PAIRS_UP_TO:
        return list(itertools.combinations(results, 2))
    leader = max(results, key=lambda name: (float(results[name].success_low.mean()), name))
    return [(leader, name) for name in results if name != leader]


def _compare(pairing: Pairing, *, alpha: float, margin: float, n_pairs: int, seed: int) -> Comparison:
    """Everything but Holm and the judgement."""
    a, b = pairing.a, pairing.b
    success = success_difference(pairing, alpha=alpha)
    to_settle = None
    detectable = unknown("too few cases were done and scored by both")
    if success.p is not None and success.discordance is not None:
        unscored_share = success.n_unscored / pairing.n
        detectable = detectable_figure(
            success.n_effective, success.discordance, unscored_share=unscored_share, alpha=alpha / n_pairs
        )
        settled_at = cases_needed(
            success.figure.value or 0.0,
            success.discordance,
            success.n_effective,
            margin=margin,
            unscored_share=unscored_share,
            alpha=alpha / n_pairs,
        )
        if settled_at is not None:
            to_settle = max(1, math.ceil(settled_at * pairing.n / success.n_effective) - pairing.n)
    return Comparison(
        a=a.name,
        b=b.name,
        n=pairing.n,
        n_unscored=success.n_unscored,
        a_only=success.a_only,
        b_only=success.b_only,
        difference=success.figure,
        p_mcnemar=success.p,
        p_adjusted=None,
        e_value=success.e,
        evidence="undecided",
        margin=margin,
        cases_to_settle=to_settle,
        minimum_detectable=detectable,
        difference_with_judge=difference_with_judge(a, b, pairing.in_a, pairing.in_b, pairing.cluster, alpha=alpha),
        latency_difference_s=_mean_difference(pairing, a.latency_s, b.latency_s, "latency", alpha=alpha, seed=seed),
        cost_difference_usd=_mean_difference(pairing, a.cost_usd, b.cost_usd, "cost", alpha=alpha, seed=seed),
    )


def _judged(comparison: Comparison, *, alpha: float, margin: float) -> Comparison:
    low, high = comparison.difference.low, comparison.difference.high
    evidence: Evidence = announced(comparison.difference, comparison.p_adjusted, alpha=alpha)
    if evidence == "undecided" and low is not None and high is not None and -margin <= low and high <= margin:
        evidence = "equivalent"
    if evidence == "undecided":
        return comparison
    return replace(comparison, evidence=evidence, cases_to_settle=0)


def _newcombe(one: Floats, other: Floats, n_effective: float, *, alpha: float) -> Interval:
    """Newcombe's interval on the table of expected counts, scaled down to the effective number of cases.

    With single repeats the counts are the usual ones; with shares they are what independent repeats would give.
    """
    scale = n_effective / len(one)
    both, a_only, b_only = one @ other, one @ (1 - other), (1 - one) @ other
    neither = len(one) - both - a_only - b_only
    return newcombe(
        float(both) * scale, float(a_only) * scale, float(b_only) * scale, max(0.0, float(neither)) * scale, alpha=alpha
    )


def _unit_totals(difference: Floats, pairing: Pairing) -> Ints:
    """Whole-number differences per cluster: in units of one repeat where that comes out even, else only their signs."""
    repeats = math.lcm(*{int(r) for r in (*pairing.a.n_repeats[:1], *pairing.b.n_repeats[:1])}) if pairing.n else 1
    totals = difference
    if pairing.n_clusters < pairing.n:
        totals = cluster_sums(pairing.cluster, pairing.n_clusters, difference)[:, 0]
    scaled = totals * repeats
    whole = np.rint(scaled)
    if np.abs(scaled - whole).max(initial=0.0) > 1e-6:
        whole = np.where(np.abs(totals) < 1e-9, 0.0, np.sign(totals))
    return whole.astype(np.int64)


def _difference_figure(difference: Floats, interval: Interval | None, *, n_scored: int, n: int) -> Figure:
    if len(difference) == 0:
        return unknown("no case was done and scored by both")
    provenance = MEASURED if n_scored == n else Provenance(kind="measured", source=f"{n_scored} of {n} cases")
    return Figure(
        value=float(difference.mean()),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        provenance=provenance,
    )


def _mean_difference(pairing: Pairing, of_a: Floats, of_b: Floats, what: str, *, alpha: float, seed: int) -> Figure:
    difference = of_a[pairing.in_a] - of_b[pairing.in_b]
    known = ~np.isnan(difference)
    n_known = int(known.sum())
    if n_known == 0:
        return unknown(f"no {what} is known for both")
    cluster = pairing.cluster if n_known == pairing.n else renumber(pairing.cluster[known])
    interval = mean_interval(difference[known], cluster, seed=seed, alpha=alpha)
    return _difference_figure(difference[known], interval, n_scored=n_known, n=pairing.n)
