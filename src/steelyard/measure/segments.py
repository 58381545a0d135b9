"""Success by segment: where an approach is better or worse than elsewhere, and how little that may mean.

Small groups of cases vary a lot by chance, and who looks at many of them finds one that looks special. Two things
hold against that. Each rate is also given shrunken: drawn towards the approach's own level, the more so the fewer
cases the segment has and the less segments differ from each other altogether. And a difference between approaches
within a segment is announced only after Holm over all segments, with a sentence on how many were looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from steelyard.figures import MEASURED, Figure, Provenance, unknown
from steelyard.measure.comparing import announced, pair_up, success_difference
from steelyard.measure.intervals import MIN_CASES, effective_n, wilson
from steelyard.measure.paired import holm
from steelyard.measure.results import ApproachResults, Floats, Ints, renumber
from steelyard.measure.scorecard import Announcement

MAX_SEGMENTS = 50
"""Beyond so many the smallest are put together: nobody reads more, and each costs the others power."""

NO_SEGMENT = "(no segment)"
"""Cases that were not given one."""

OTHER_SEGMENTS = "(all other segments)"
"""The smallest ones beyond `MAX_SEGMENTS`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentRow:
    """One approach on the cases of one segment."""

    approach: str
    segment: str
    n: int
    """Cases, failures included."""
    n_unscored: int
    success: Figure
    """Share of successes, as in a scorecard; no interval below `MIN_CASES` independent cases."""
    shrunken: Figure
    """The same drawn towards the approach's level over all segments: the better guess for the segment's true rate."""

    def to_json(self) -> dict[str, Any]:
        """The shape published in `score --json`."""
        return {
            "approach": self.approach,
            "segment": self.segment,
            "n": self.n,
            "n_unscored": self.n_unscored,
            "success": self.success.to_json(),
            "shrunken": self.shrunken.to_json(),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentDifference:
    """Two approaches on the same cases of one segment."""

    segment: str
    a: str
    b: str
    n: int
    """Cases both did."""
    a_only: int
    b_only: int
    difference: Figure
    """Success rate of `a` minus that of `b`; its interval is for this segment alone."""
    p_mcnemar: float | None
    p_adjusted: float | None
    """After Holm over all segments that could be tested."""
    evidence: Announcement
    """Wrong in any segment at all with a probability of at most alpha."""

    def to_json(self) -> dict[str, Any]:
        """The shape published in `score --json`."""
        return {
            "segment": self.segment,
            "a": self.a,
            "b": self.b,
            "n": self.n,
            "a_only": self.a_only,
            "b_only": self.b_only,
            "difference": self.difference.to_json(),
            "p_mcnemar": self.p_mcnemar,
            "p_adjusted": self.p_adjusted,
            "evidence": self.evidence,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentTables:
    """Success by segment, for every approach and between the two most successful ones."""

    segments: tuple[str, ...]
    """Largest first."""
    rows: tuple[SegmentRow, ...]
    """By approach in the given order, then by segment."""
    differences: tuple[SegmentDifference, ...]
    """By segment; empty with a single approach."""
    warning: str
    """How many comparisons were made, how many would look different by chance, and which stand after Holm."""

    def to_json(self) -> dict[str, Any]:
        """The shape published in `score --json`."""
        return {
            "segments": list(self.segments),
            "rows": [row.to_json() for row in self.rows],
            "differences": [difference.to_json() for difference in self.differences],
            "warning": self.warning,
        }


class Shrunken(NamedTuple):
    """Posterior means and ends of the intervals, shape (n_segments,) each."""

    value: Floats
    low: Floats
    high: Floats


def segment_tables(results: Mapping[str, ApproachResults], *, alpha: float = 0.05) -> SegmentTables | None:
    """Success of every approach by segment, and the paired difference of the two most successful ones.

    Args:
        results: By approach name.
        alpha: One minus the confidence level; for the differences, the chance of announcing any that is not there,
            over all segments together.

    Returns:
        `None` where cases do not fall into at least two segments.
    """
    segments, codes = _coded(results)
    if len(segments) < 2:
        return None
    rows = [row for name, one in results.items() for row in _rows(one, segments, codes[name], alpha=alpha)]
    differences = _differences(results, segments, codes, alpha=alpha)
    warning = _warning(differences, len(segments), alpha=alpha)
    return SegmentTables(segments=segments, rows=tuple(rows), differences=differences, warning=warning)


def shrunken_rates(rates: Floats, n: Floats, *, alpha: float = 0.05) -> Shrunken:
    """True rates of groups, given that groups of one kind resemble each other.

    A beta-binomial model: rates of the groups come from a beta distribution with mean μ and size m, as if m further
    cases had been seen. Both are estimated from all groups together, and averaged over what the data leave open about
    them instead of being put at their best value: that would make the intervals too narrow wherever groups are few.
    μ is uniform beforehand; so is the weight m / (m + n₀) that a group of middling size n₀ gives to the others.

    Args:
        rates: Observed share of each group, 0..1, shape (n_groups,).
        n: Independent cases of each group (effective number), shape (n_groups,); 0 gives the group no say.
        alpha: One minus the level of the intervals.

    Returns:
        Posterior means, each between group and overall rate, with equal-tailed intervals of a beta distribution of
        the same mean and variance.

    Source: Christiansen and Morris (1997) for the uniform weight; Kass and Steffey (1989) for averaging.
    """
    from scipy.special import betaincinv, betaln

    successes = rates * n
    mu, size, width = _grid(successes, n)  # (n_points,) each
    a, b = mu * size, (1 - mu) * size
    # (n_points, n_groups): groups are few and points some thousand
    one, other = a[:, None] + successes, b[:, None] + (n - successes)
    middling = float(np.median(n[n > 0])) if (n > 0).any() else 1.0
    # d(weight) = n₀ / (n₀ + m)² dm, and dm = m d(log m) on a grid even in log m
    log_prior = np.log(width) + np.log(size) - 2 * np.log(size + middling)
    log_weight = log_prior + (betaln(one, other) - betaln(a, b)[:, None]).sum(axis=1)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    total = size[:, None] + n
    means = one / total
    value = weight @ means
    second = weight @ (means * (one + 1) / (total + 1))
    variance = np.maximum(second - value**2, 1e-15)
    matched = np.maximum(value * (1 - value) / variance - 1, 1e-3)
    ends = [betaincinv(value * matched, (1 - value) * matched, level) for level in (alpha / 2, 1 - alpha / 2)]
    return Shrunken(value, *ends)


# Private


def _coded(results: Mapping[str, ApproachResults]) -> tuple[tuple[str, ...], dict[str, Ints]]:
    """Names of the segments, largest first, and each case's place among them."""
    places: dict[str, int] = {}
    coded: dict[int, Ints] = {}  # approaches on the same cases mostly share one tuple of segments
    for one in results.values():
        if id(one.segment) not in coded:
            lookup = {
                segment: places.setdefault(NO_SEGMENT if segment is None else segment, len(places))
                for segment in dict.fromkeys(one.segment)
            }
            coded[id(one.segment)] = np.fromiter((lookup[s] for s in one.segment), dtype=np.int64, count=one.n)
    names = list(places)
    if set(names) <= {NO_SEGMENT}:
        return (), {}
    counts = np.max([np.bincount(codes, minlength=len(names)) for codes in coded.values()], axis=0)
    largest_first = sorted(range(len(names)), key=lambda i: (-int(counts[i]), names[i]))
    rank = np.empty(len(names), dtype=np.int64)
    rank[largest_first] = np.arange(len(names))
    ordered = [names[i] for i in largest_first]
    if len(ordered) > MAX_SEGMENTS:
        rank = np.minimum(rank, MAX_SEGMENTS - 1)
        ordered = [*ordered[: MAX_SEGMENTS - 1], OTHER_SEGMENTS]
    return tuple(ordered), {name: rank[coded[id(one.segment)]] for name, one in results.items()}


def _members(codes: Ints, n_segments: int) -> list[Ints]:
    """Positions of the cases of each segment, in order."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.searchsorted(codes[order], np.arange(1, n_segments)))


class _Raw(NamedTuple):
    n: int
    n_scored: int
    value: float
    """Rate among scored cases; 0 where there are none."""
    lowest: float
    highest: float
    n_effective: float


def _rows(results: ApproachResults, segments: Sequence[str], codes: Ints, *, alpha: float) -> list[SegmentRow]:
    raw = [_raw(results, members, alpha=alpha) for members in _members(codes, len(segments))]
    sizes = np.array([_weight(one) for one in raw])
    rates = shrunken_rates(np.array([one.value for one in raw]), sizes, alpha=alpha)
    # Unscored cases widen here as everywhere: the ends are those of all wrong and of all right.
    lows, highs = rates.low, rates.high
    if any(one.highest > one.lowest for one in raw):
        n = np.array([max(_weight(one), min(one.n_effective, one.n)) for one in raw])
        lows = shrunken_rates(np.array([one.lowest for one in raw]), n, alpha=alpha).low
        highs = shrunken_rates(np.array([one.highest for one in raw]), n, alpha=alpha).high
    rows = []
    for segment, one, value, low, high in zip(segments, raw, rates.value, lows, highs, strict=True):
        if one.n_scored == 0:
            nothing = unknown("no cases" if one.n == 0 else "no scores were recorded")
            success = shrunken = nothing
        else:
            success = Figure(value=one.value, provenance=_measured_on(one))
            shrunken = replace(success, value=float(value))
            if one.n_effective >= MIN_CASES:
                success = replace(
                    success,
                    low=wilson(one.lowest, one.n_effective, alpha=alpha).low,
                    high=wilson(one.highest, one.n_effective, alpha=alpha).high,
                )
                shrunken = replace(shrunken, low=float(low), high=float(high))
        rows.append(
            SegmentRow(
                approach=results.name,
                segment=segment,
                n=one.n,
                n_unscored=one.n - one.n_scored,
                success=success,
                shrunken=shrunken,
            )
        )
    return rows


def _raw(results: ApproachResults, members: Ints, *, alpha: float) -> _Raw:
    n = len(members)
    success = results.success[members]
    low, high = results.success_low[members], results.success_high[members]
    n_scored = int((high <= low).sum())
    scored = success[~np.isnan(success)]
    if n == 0:
        return _Raw(0, 0, 0.0, 0.0, 1.0, 0.0)
    n_effective = float(n)
    if results.is_clustered:
        cluster = renumber(results.cluster[members])
        n_effective = min(effective_n(low, cluster, alpha=alpha), effective_n(high, cluster, alpha=alpha))
    value = float(scored.mean()) if len(scored) else 0.0
    return _Raw(n, n_scored if len(scored) else 0, value, float(low.mean()), float(high.mean()), n_effective)


def _weight(one: _Raw) -> float:
    """Independent scored cases; a segment with any counts for at least one, even if all stand in one cluster."""
    return max(1.0, one.n_effective * one.n_scored / one.n) if one.n_scored else 0.0


def _differences(
    results: Mapping[str, ApproachResults], segments: Sequence[str], codes: Mapping[str, Ints], *, alpha: float
) -> tuple[SegmentDifference, ...]:
    if len(results) < 2:
        return ()
    ranked = sorted(results, key=lambda name: (-float(results[name].success_low.mean()), name))
    a, b = results[ranked[0]], results[ranked[1]]
    pairing = pair_up(a, b)
    members = _members(codes[a.name][pairing.in_a], len(segments))
    found = [
        success_difference(pairing.only(positions), alpha=alpha) if len(positions) else None for positions in members
    ]
    tested = [i for i, one in enumerate(found) if one is not None and one.p is not None]
    p_values = [one.p for i in tested if (one := found[i]) is not None and one.p is not None]
    adjusted = dict(zip(tested, holm(p_values), strict=True))
    differences = []
    for i, (segment, one) in enumerate(zip(segments, found, strict=True)):
        figure = unknown("no case was done by both") if one is None else one.figure
        differences.append(
            SegmentDifference(
                segment=segment,
                a=a.name,
                b=b.name,
                n=len(members[i]),
                a_only=0 if one is None else one.a_only,
                b_only=0 if one is None else one.b_only,
                difference=figure,
                p_mcnemar=None if one is None else one.p,
                p_adjusted=adjusted.get(i),
                evidence=announced(figure, adjusted.get(i), alpha=alpha),
            )
        )
    return tuple(differences)


def _warning(differences: Sequence[SegmentDifference], n_segments: int, *, alpha: float) -> str:
    tested = [one for one in differences if one.p_mcnemar is not None]
    if not tested:
        return (
            f"{n_segments} segments were looked at: the highest and the lowest rate among them are extreme by chance as "
            "well. Trust the shrunken rates, and check anything surprising on new cases."
        )
    looks = sum(one.p_mcnemar is not None and one.p_mcnemar <= alpha for one in tested)
    stand = [one for one in tested if one.evidence != "undecided"]
    a, b = tested[0].a, tested[0].b
    if stand:
        named = "; ".join(f"{one.a if one.evidence == 'a' else one.b} is better in {one.segment!r}" for one in stand)
        verdict = f"after Holm's correction {len(stand)} {_stands(len(stand))}: {named}"
    else:
        verdict = "after Holm's correction none stands"
    return (
        f"{a} and {b} were compared in {len(tested)} segments: by chance alone up to {len(tested) * alpha:.1f} of them "
        f"would look different, {looks} {_do(looks)}, and {verdict}. Check what was found by looking on new cases."
    )


def _stands(n: int) -> str:
    return "stands" if n == 1 else "stand"


def _do(n: int) -> str:
    return "does" if n == 1 else "do"


def _measured_on(one: _Raw) -> Provenance:
    if one.n_scored == one.n:
        return MEASURED
    return Provenance(kind="measured", source=f"{one.n_scored} of {one.n} cases")


def _grid(successes: Floats, n: Floats) -> tuple[Floats, Floats, Floats]:
    """Points (μ, m) that cover the posterior, and the width each μ stands for.

    μ is dense around the overall rate, where many cases put it, and thin everywhere else, where it may be when groups
    differ so much that a few of them say little about the next; m is even in its logarithm.
    """
    total, right = float(n.sum()), float(successes.sum())
    centre = (right + 1) / (total + 2)
    shares = (successes + centre) / (n + 1)
    # Between segments as well as within: either may be what leaves μ open.
    variance = centre * (1 - centre) / (total + 3) + float(shares.var()) / len(n)
    reach = 5 * variance**0.5
    dense = np.linspace(max(1e-9, centre - reach), min(1 - 1e-9, centre + reach), 41)
    mu = np.unique(np.concatenate([dense, np.linspace(0.0125, 0.9875, 40)]))
    width = np.gradient(mu)
    size = np.geomspace(0.05, 1000 * (float(n.max()) + 10), 80)
    points = np.meshgrid(mu, size, indexing="ij")
    return points[0].ravel(), points[1].ravel(), np.repeat(width, len(size))
