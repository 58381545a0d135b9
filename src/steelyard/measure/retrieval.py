"""Was the right source found: rankings against gold sources, one number a case and with an interval over cases.

The arithmetic works on whole studies at once: a ranking is a row of gains, shape (n_cases, depth), 0 where a place
holds nothing relevant.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from steelyard.figures import Figure
from steelyard.measure.results import Floats, Ints
from steelyard.measure.shares import CaseRows, Row, by_case, cluster_codes, mean, measured_on

PASSAGE_MARK = "#"
"""What stands between the id of a document and that of a passage in it: `leave-policy#3`."""

KS = (1, 3, 5, 10)
"""Depths that are reported, as far as anything was retrieved so deep."""

Level = Literal["document", "passage"]
Gold = Mapping[str, float]
"""Grade of each relevant source, above 0; 1 for all of them where relevance is yes or no."""


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


# ---- rows of gains --------------------------------------------------------------------------------------------------


def gains(rankings: Sequence[Sequence[str]], gold: Sequence[Gold]) -> Floats:
    """The grade at each place of each ranking.

    A source that comes again is taken out and what follows moves up: it is found once, and read once.

    Args:
        rankings: Ids, best first.
        gold: Parallel to `rankings`.

    Returns:
        Shape (n_cases, longest ranking), at least one column.
    """
    unique = [list(dict.fromkeys(ranking)) for ranking in rankings]
    table = np.zeros((len(unique), max(1, max(map(len, unique), default=1))))
    for row, ranking, grades in zip(table, unique, gold, strict=True):
        row[: len(ranking)] = [grades.get(source, 0.0) for source in ranking]
    return table


def ideal_gains(gold: Sequence[Gold]) -> Floats:
    """The gains of rankings that begin with all relevant sources, the best first; shape (n_cases, most sources)."""
    table = np.zeros((len(gold), max(1, max(map(len, gold), default=1))))
    for row, grades in zip(table, gold, strict=True):
        row[: len(grades)] = sorted(grades.values(), reverse=True)
    return table


def recall_at(found: Floats, n_gold: Ints, k: int) -> Floats:
    """Share of the gold sources of each case among its first k; 0..1, higher is better.

    Args:
        found: Gains, shape (n_cases, depth).
        n_gold: Gold sources of each case, at least 1.
        k: Depth, at least 1; a ranking that ends earlier finds no more.
    """
    share: Floats = (found[:, :k] > 0).sum(axis=1) / n_gold
    return share


def precision_at(found: Floats, k: int) -> Floats:
    """Share of the first k places of each case that hold a gold source, empty places counted; 0..1.

    Never above gold sources / k: with one gold source a case it cannot pass 1/k.
    """
    share: Floats = (found[:, :k] > 0).sum(axis=1) / k
    return share


def hit_at(found: Floats, k: int) -> Floats:
    """1 for each case with any gold source among its first k, else 0."""
    hit: Floats = np.asarray((found[:, :k] > 0).any(axis=1), dtype=np.float64)
    return hit


def reciprocal_rank(found: Floats) -> Floats:
    """One over the place of the first gold source of each case, 0 where there is none."""
    is_gold = found > 0
    first: Floats = 1.0 + is_gold.argmax(axis=1)
    return np.where(is_gold.any(axis=1), 1 / first, 0.0)


def ndcg_at(found: Floats, ideal: Floats, k: int) -> Floats:
    """Discounted cumulative gain of the first k of each case over that of the best possible ranking; 0..1.

    Gains are the grades themselves; where relevance is yes or no that is the same as 2^grade - 1.

    Source: Järvelin and Kekäläinen (2002), with the discount 1 / log2(place + 1).
    """

    def discounted(table: Floats) -> Floats:
        first = table[:, :k]
        # Not `@`: the last bits of BLAS depend on the number of threads.
        total: Floats = (first / np.log2(np.arange(first.shape[1]) + 2)).sum(axis=1)
        return total

    share: Floats = discounted(found) / discounted(ideal)
    return share


# ---- sources --------------------------------------------------------------------------------------------------------


def grades(sources: Iterable[str] | Mapping[str, float]) -> dict[str, float]:
    """Gold sources with their grades; without grades each is 1, and a grade of 0 is no gold source."""
    if isinstance(sources, Mapping):
        return {source: float(grade) for source, grade in sources.items() if grade > 0}
    return dict.fromkeys(sources, 1.0)


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
    kept = list(rows)
    names = is_retrieving(kept) if retrieves is None else set(retrieves)
    kept = [row for row in kept if row["approach"] in names]
    chosen = level or common_level(kept)
    depth = max((len(at_level(row.get("sources") or (), chosen)) for row in kept), default=1)
    depths = tuple(ks) if ks is not None else _depths(depth)
    return tuple(
        _ranking_row(approach, cases, chosen, depths, alpha=alpha) for approach, cases in by_case(kept).items()
    )


# ---- private --------------------------------------------------------------------------------------------------------


def _at(source: str, level: Level) -> str:
    return source.partition(PASSAGE_MARK)[0] if level == "document" else source


def _depths(deepest: int) -> tuple[int, ...]:
    last = max(1, min(deepest, KS[-1]))
    return (*(k for k in KS if k < last), last)


def _ranking_row(
    approach: str, cases: Sequence[CaseRows], level: Level, ks: tuple[int, ...], *, alpha: float
) -> RankingRow:
    with_gold = [case for case in cases if gold_at_level(case.rows[0].get("gold") or (), level)]
    outcomes = [(i, row) for i, case in enumerate(with_gold) for row in case.rows]
    case_of = np.array([i for i, _ in outcomes], dtype=np.int64)
    gold = [gold_at_level(row.get("gold") or (), level) for _, row in outcomes]
    rankings = [at_level(row.get("sources") or (), level) for _, row in outcomes]
    found, ideal = gains(rankings, gold), ideal_gains(gold)
    n_gold = np.array([len(one) for one in gold], dtype=np.int64)
    n_repeats = np.bincount(case_of, minlength=len(with_gold))
    cluster = cluster_codes(case.cluster for case in with_gold)
    provenance = measured_on(len(with_gold), len(cases))

    def figure(values: Floats) -> Figure:
        per_case = np.bincount(case_of, weights=values, minlength=len(with_gold)) / n_repeats
        return mean(per_case, cluster, nothing="no case names a gold source", provenance=provenance, alpha=alpha)

    return RankingRow(
        approach=approach,
        n=len(with_gold),
        n_without_gold=len(cases) - len(with_gold),
        n_retrieved=sum(map(len, rankings)) / max(1, len(rankings)),
        ks=ks,
        recall=tuple(figure(recall_at(found, n_gold, k)) for k in ks),
        precision=tuple(figure(precision_at(found, k)) for k in ks),
        hit=tuple(figure(hit_at(found, k)) for k in ks),
        ndcg=tuple(figure(ndcg_at(found, ideal, k)) for k in ks),
        mrr=figure(reciprocal_rank(found)),
    )
