"""Was the right source found: rankings of approaches against gold sources, with intervals over cases."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from steelyard.figures import Figure, unknown
from steelyard.measure.intervals import mean_interval
from steelyard.measure.ranking import (
    gains,
    grades,
    hit_at,
    ideal_gains,
    ndcg_at,
    precision_at,
    recall_at,
    reciprocal_rank,
)
from steelyard.measure.results import Floats, Ints
from steelyard.measure.shares import CaseRows, Row, by_case, cluster_codes, mean, measured_on, row_json

PASSAGE_MARK = "#"
"""What stands between the id of a document and that of a passage in it: `leave-policy#3`."""

KS = (1, 3, 5, 10)
"""Depths that are reported, as far as anything was retrieved so deep."""

Level = Literal["document", "passage"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RankingRow:
    """How well one approach finds the gold sources."""

    approach: str
    n: int
    """Cases with gold sources; failures count as nothing found."""
    n_without_gold: int
    """Cases that name no gold source, unanswerable ones among them: left out."""
    n_retrieved: float
    """Mean number of different sources retrieved for a case."""
    ks: tuple[int, ...]
    recall: tuple[Figure, ...]
    """Share of a case's gold sources among the first k, for each of `ks`."""
    precision: tuple[Figure, ...]
    """Share of the first k places that hold a gold source; places left empty count against it."""
    hit: tuple[Figure, ...]
    """Share of cases with any gold source among the first k."""
    ndcg: tuple[Figure, ...]
    """Gain of the first k, discounted by place, over the best possible."""
    mrr: Figure
    """Mean of one over the place of the first gold source; 0 where there is none."""

    def to_json(self) -> dict[str, Any]:
        """One row of `rankings`."""
        at_k = {"recall": self.recall, "precision": self.precision, "hit": self.hit, "ndcg": self.ndcg}
        return {
            "approach": self.approach,
            "n": self.n,
            "n_without_gold": self.n_without_gold,
            "n_retrieved": self.n_retrieved,
            **{
                name: {str(k): figure.to_json() for k, figure in zip(self.ks, figures, strict=True)}
                for name, figures in at_k.items()
            },
            "mrr": self.mrr.to_json(),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class RankingDifference:
    """Two approaches on the same cases: by how much one finds more than the other."""

    a: str
    b: str
    n: int
    """Cases with gold sources that both did."""
    k: int
    recall: Figure
    """Recall at k of `a` minus that of `b`."""
    ndcg: Figure
    """The same of nDCG at k."""

    def to_json(self) -> dict[str, Any]:
        """One row of `ranking_differences`."""
        return row_json(self)


# ---- sources --------------------------------------------------------------------------------------------------------


def common_level(rows: Iterable[Row]) -> Level:
    """Whether rankings and gold sources can be compared passage by passage: only where all of both name passages."""
    for row in rows:
        if any(PASSAGE_MARK not in source for source in (*(row.get("sources") or ()), *(row.get("gold") or ()))):
            return "document"
    return "passage"


def at_level(ranking: Iterable[str], level: Level) -> list[str]:
    """A ranking of documents or passages, the same one only once, at its best place.

    >>> at_level(["leave#2", "travel#1", "leave#5"], "document")
    ['leave', 'travel']
    """
    return list(dict.fromkeys(_at(source, level) for source in ranking))


def gold_at_level(gold: Iterable[str] | Mapping[str, float], level: Level) -> dict[str, float]:
    """Gold sources at a level; a document is worth what its best passage is."""
    found: dict[str, float] = {}
    for source, grade in grades(gold).items():
        name = _at(source, level)
        found[name] = max(grade, found.get(name, 0.0))
    return found


def is_retrieving(rows: Iterable[Row]) -> set[str]:
    """Approaches with any retrieved source."""
    return {row["approach"] for row in rows if row.get("sources")}


# ---- the table ------------------------------------------------------------------------------------------------------


def ranking_rows(
    rows: Iterable[Row],
    *,
    level: Level | None = None,
    retrieves: Collection[str] | None = None,
    ks: Sequence[int] | None = None,
    alpha: float = 0.05,
) -> tuple[RankingRow, ...]:
    """How well approaches find the gold sources.

    Replaces recall over the outcomes that have a ranking, which forgives every failure.

    1. Cases without any gold source are left out and counted. 2. An outcome that failed retrieved nothing. 3. Repeats
    are averaged within a case. 4. Cases that share a cluster are resampled together, or count as fewer.

    Args:
        rows: Mappings with `approach`, `case_id`, `sources` (retrieved ids, best first), `gold` (ids, or grade by id)
            and, where known, `repeat` and `cluster`.
        level: Whether documents or passages are looked for; left out, passages where all ids name passages.
        retrieves: Approaches that retrieve documents; left out, those that name any source.
        ks: Depths; left out, those of `KS` that any approach reaches, and how deep the deepest one goes below 10.
        alpha: One minus the confidence level.

    Returns:
        One row per approach that retrieves, in the order in which they first appear.
    """
    kept, chosen, reached = _prepared(rows, level, retrieves)
    depths = tuple(ks) if ks is not None else reached
    return tuple(
        _ranking_row(approach, cases, chosen, depths, alpha=alpha) for approach, cases in by_case(kept).items()
    )


def ranking_differences(
    rows: Iterable[Row],
    *,
    level: Level | None = None,
    retrieves: Collection[str] | None = None,
    k: int | None = None,
    alpha: float = 0.05,
) -> tuple[RankingDifference, ...]:
    """By how much the approach that finds most finds more than each other one, case by case.

    Args:
        rows: As for `ranking_rows`, which also explains `level` and `retrieves`.
        level: Likewise.
        retrieves: Likewise.
        k: Depth; left out, the greatest that `ranking_rows` reports.
        alpha: One minus the confidence level; each interval stands for itself.

    Returns:
        One row for each other approach, in the order in which they first appear; empty with fewer than two. The best
        one was chosen on these cases, so its lead is a little too large.
    """
    kept, chosen, depths = _prepared(rows, level, retrieves)
    at = depths[-1] if k is None else k
    each = {name: _measured(cases, chosen) for name, cases in by_case(kept).items()}
    each = {name: one for name, one in each.items() if one.cases}
    if len(each) < 2:
        return ()
    best = max(each, key=lambda name: float(each[name].per_case(each[name].recall(at)).mean()))
    return tuple(_difference(best, each[best], other, each[other], at, alpha=alpha) for other in each if other != best)


# ---- private --------------------------------------------------------------------------------------------------------


def _at(source: str, level: Level) -> str:
    return source.partition(PASSAGE_MARK)[0] if level == "document" else source


def _depths(deepest: int) -> tuple[int, ...]:
    last = max(1, min(deepest, KS[-1]))
    return (*(k for k in KS if k < last), last)


def _prepared(
    rows: Iterable[Row], level: Level | None, retrieves: Collection[str] | None
) -> tuple[list[Row], Level, tuple[int, ...]]:
    """The rows of approaches that retrieve, the level and the depths."""
    kept = list(rows)
    names = is_retrieving(kept) if retrieves is None else set(retrieves)
    kept = [row for row in kept if row["approach"] in names]
    chosen = level or common_level(kept)
    return (
        kept,
        chosen,
        _depths(max((len(at_level(row.get("sources") or (), chosen)) for row in kept), default=1)),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Measured:
    """The rankings of one approach on the cases that name a gold source."""

    cases: tuple[CaseRows, ...]
    case_of: Ints
    """Case of each outcome."""
    found: Floats
    ideal: Floats
    n_gold: Ints
    n_retrieved: Ints

    def per_case(self, values: Floats) -> Floats:
        """Mean over the repeats of each case."""
        n = len(self.cases)
        mean: Floats = np.bincount(self.case_of, weights=values, minlength=n) / np.bincount(self.case_of, minlength=n)
        return mean

    def recall(self, k: int) -> Floats:
        return recall_at(self.found, self.n_gold, k)

    def ndcg(self, k: int) -> Floats:
        return ndcg_at(self.found, self.ideal, k)


def _measured(cases: Sequence[CaseRows], level: Level) -> _Measured:
    with_gold = tuple(case for case in cases if gold_at_level(case.rows[0].get("gold") or (), level))
    outcomes = [(i, row) for i, case in enumerate(with_gold) for row in case.rows]
    gold = [gold_at_level(row.get("gold") or (), level) for _, row in outcomes]
    rankings = [at_level(row.get("sources") or (), level) for _, row in outcomes]
    return _Measured(
        cases=with_gold,
        case_of=np.array([i for i, _ in outcomes], dtype=np.int64),
        found=gains(rankings, gold),
        ideal=ideal_gains(gold),
        n_gold=np.array([len(one) for one in gold], dtype=np.int64),
        n_retrieved=np.array([len(one) for one in rankings], dtype=np.int64),
    )


def _ranking_row(
    approach: str, cases: Sequence[CaseRows], level: Level, ks: tuple[int, ...], *, alpha: float
) -> RankingRow:
    measured = _measured(cases, level)
    n = len(measured.cases)
    cluster = cluster_codes(case.cluster for case in measured.cases)
    provenance = measured_on(n, len(cases))

    def figure(values: Floats) -> Figure:
        nothing = "no case names a gold source"
        return mean(measured.per_case(values), cluster, nothing=nothing, provenance=provenance, alpha=alpha)

    return RankingRow(
        approach=approach,
        n=n,
        n_without_gold=len(cases) - n,
        n_retrieved=float(measured.n_retrieved.mean()) if n else 0.0,
        ks=ks,
        recall=tuple(figure(measured.recall(k)) for k in ks),
        precision=tuple(figure(precision_at(measured.found, k)) for k in ks),
        hit=tuple(figure(hit_at(measured.found, k)) for k in ks),
        ndcg=tuple(figure(measured.ndcg(k)) for k in ks),
        mrr=figure(reciprocal_rank(measured.found)),
    )


def _difference(a: str, one: _Measured, b: str, other: _Measured, k: int, *, alpha: float) -> RankingDifference:
    places = {case.case_id: i for i, case in enumerate(other.cases)}
    common = [(i, places[case.case_id]) for i, case in enumerate(one.cases) if case.case_id in places]
    in_a, in_b = np.array(common, dtype=np.int64).reshape(-1, 2).T
    cluster = cluster_codes(one.cases[i].cluster for i in in_a)

    def figure(of_a: Floats, of_b: Floats) -> Figure:
        if not common:
            return unknown("no case was done by both")
        differences = one.per_case(of_a)[in_a] - other.per_case(of_b)[in_b]
        ends = mean_interval(differences, cluster, alpha=alpha)
        low, high = (max(-1.0, ends.low), min(1.0, ends.high)) if ends else (None, None)
        return Figure(value=float(differences.mean()), low=low, high=high)

    return RankingDifference(
        a=a,
        b=b,
        n=len(common),
        k=k,
        recall=figure(one.recall(k), other.recall(k)),
        ndcg=figure(one.ndcg(k), other.ndcg(k)),
    )
