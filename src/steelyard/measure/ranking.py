"""Metrics of rankings: recall, precision, hit, reciprocal rank and nDCG, one number a case.

They work on a whole study at once: a ranking is a row of gains, shape (n_cases, depth), 0 where a place holds nothing
relevant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from steelyard.measure.results import Floats, Ints

Gold = Mapping[str, float]
"""Grade of each relevant source, above 0; 1 for all of them where relevance is yes or no."""


def grades(sources: Iterable[str] | Mapping[str, float]) -> dict[str, float]:
    """Gold sources with their grades; without grades each is 1, and a grade of 0 is no gold source."""
    if isinstance(sources, Mapping):
        return {source: float(grade) for source, grade in sources.items() if grade > 0}
    return dict.fromkeys(sources, 1.0)


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
