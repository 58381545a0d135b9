"""Rankings against gold sources: by hand, against scikit-learn, and what repeats, failures and missing gold do."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.measure.intervals import wilson
from steelyard.measure.ranking import (
    gains,
    hit_at,
    ideal_gains,
    ndcg_at,
    precision_at,
    recall_at,
    reciprocal_rank,
)
from steelyard.measure.retrieval import (
    at_level,
    common_level,
    gold_at_level,
    ranking_differences,
    ranking_rows,
)

IDS = [f"d{i}" for i in range(12)]
RANKINGS = st.lists(st.sampled_from(IDS), max_size=10)
GOLD = st.dictionaries(st.sampled_from(IDS), st.integers(1, 3).map(float), min_size=1, max_size=5)


def row(case: str, sources: list[str], gold: object, approach: str = "a", **more: object) -> dict[str, Any]:
    return {"approach": approach, "case_id": case, "sources": sources, "gold": gold, **more}


def test_by_hand() -> None:
    """Two of three gold sources, at places 2 and 4."""
    gold = {"x": 1.0, "y": 1.0, "z": 1.0}
    found, ideal, n_gold = gains([["a", "x", "b", "y"]], [gold]), ideal_gains([gold]), np.array([3])
    assert recall_at(found, n_gold, 1)[0] == 0
    assert recall_at(found, n_gold, 2)[0] == pytest.approx(1 / 3)
    assert recall_at(found, n_gold, 10)[0] == pytest.approx(2 / 3)
    assert precision_at(found, 4)[0] == pytest.approx(2 / 4)
    assert precision_at(found, 10)[0] == pytest.approx(2 / 10)  # places left empty count
    assert (hit_at(found, 1)[0], hit_at(found, 2)[0]) == (0, 1)
    assert reciprocal_rank(found)[0] == pytest.approx(1 / 2)
    best = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert ndcg_at(found, ideal, 4)[0] == pytest.approx((1 / np.log2(3) + 1 / np.log2(5)) / best)


def test_a_source_that_comes_twice_is_found_once_and_takes_one_place() -> None:
    """Five chunks of one document are one document, and what follows moves up."""
    found = gains([["x", "x", "x", "y"]], [{"x": 1.0, "y": 1.0}])
    assert found.tolist() == [[1.0, 1.0]]
    (only,) = ranking_rows([row("c", ["x#1", "x#2", "y#1"], ["x", "y"])])
    assert (only.recall[-1].value, only.n_retrieved) == (1.0, 2.0)


@settings(deadline=None)
@given(st.lists(st.tuples(RANKINGS, GOLD), min_size=1, max_size=6), st.integers(1, 12))
def test_ndcg_is_that_of_scikit_learn(cases: list[tuple[list[str], dict[str, float]]], k: int) -> None:
    """With grades, with ties in nothing, at every depth, ranking and gold of any length."""
    from sklearn.metrics import ndcg_score

    rankings, gold = [one for one, _ in cases], [one for _, one in cases]
    ours = ndcg_at(gains(rankings, gold), ideal_gains(gold), k)
    for ranking, grade, mine in zip(rankings, gold, ours, strict=True):
        unique = list(dict.fromkeys(ranking))
        # What was not retrieved comes last and counts as nothing: it stands beyond the depth.
        true = [grade.get(one, 0.0) for one in unique] + [0.0] * k + [grade[one] for one in grade if one not in unique]
        assert mine == pytest.approx(ndcg_score([true], [list(range(len(true), 0, -1))], k=k))


@given(RANKINGS, GOLD, st.integers(1, 12))
def test_slow_and_obvious(ranking: list[str], gold: dict[str, float], k: int) -> None:
    """The columns agree with sets and loops."""
    first = list(dict.fromkeys(ranking))[:k]
    found = gains([ranking], [gold])
    assert recall_at(found, np.array([len(gold)]), k)[0] == pytest.approx(len(set(first) & gold.keys()) / len(gold))
    assert precision_at(found, k)[0] == pytest.approx(len(set(first) & gold.keys()) / k)
    assert bool(hit_at(found, k)[0]) == bool(set(first) & gold.keys())
    ranks = [i for i, one in enumerate(dict.fromkeys(ranking), start=1) if one in gold]
    assert reciprocal_rank(found)[0] == pytest.approx(1 / ranks[0] if ranks else 0)


@given(RANKINGS, GOLD, st.integers(1, 11))
def test_deeper_never_finds_less(ranking: list[str], gold: dict[str, float], k: int) -> None:
    """Recall and hit only grow with depth, and everything lies within 0..1."""
    found, n_gold = gains([ranking], [gold]), np.array([len(gold)])
    assert recall_at(found, n_gold, k)[0] <= recall_at(found, n_gold, k + 1)[0] <= 1
    assert hit_at(found, k)[0] <= hit_at(found, k + 1)[0]
    assert 0 <= ndcg_at(found, ideal_gains([gold]), k)[0] <= 1 + 1e-12


@given(GOLD)
def test_the_best_ranking_scores_one(gold: dict[str, float]) -> None:
    """Gold sources in order of their grades: nDCG 1 at every depth, MRR 1."""
    ranking = sorted(gold, key=lambda one: -gold[one])
    found = gains([ranking], [gold])
    assert all(ndcg_at(found, ideal_gains([gold]), k)[0] == pytest.approx(1) for k in range(1, 7))
    assert reciprocal_rank(found)[0] == 1


def test_levels() -> None:
    """Passages are compared only where all of both sides are passages; a document is worth its best passage."""
    assert common_level([row("c", ["d#1"], ["d#2"])]) == "passage"
    assert common_level([row("c", ["d#1"], ["d"])]) == "document"
    assert common_level([row("c", ["d"], ["d#2"])]) == "document"
    assert at_level(["d#1", "e#1", "d#2"], "document") == ["d", "e"]
    assert gold_at_level({"d#1": 1, "d#2": 3, "e": 0}, "document") == {"d": 3.0}
    (strict,) = ranking_rows([row("c", ["d#1"], ["d#2"])])
    (loose,) = ranking_rows([row("c", ["d#1"], ["d#2"])], level="document")
    assert (strict.recall[0].value, loose.recall[0].value) == (0, 1)


def test_cases_without_gold_are_left_out_and_counted() -> None:
    """An unanswerable question has nothing to find."""
    (only,) = ranking_rows([row("c1", ["d"], ["d"]), row("c2", ["d"], []), row("c3", ["d"], None)])
    assert (only.n, only.n_without_gold, only.recall[0].value) == (1, 2, 1.0)
    assert str(only.recall[0].provenance) == "measured (1 of 3 cases)"
    (nothing,) = ranking_rows([row("c2", ["d"], [])])
    assert nothing.recall[0].value is None
    assert nothing.mrr.unknown_because == "no case names a gold source"


def test_a_failure_found_nothing() -> None:
    """Crashing on the hard cases does not raise recall; approaches without retrieval are not in the table."""
    rows = [
        row("c1", ["d"], ["d"]),
        row("c2", [], ["d"]),
        row("c1", [], ["d"], "closed"),
        row("c2", [], ["d"], "closed"),
    ]
    (only,) = ranking_rows(rows)
    assert (only.approach, only.n, only.recall[0].value) == ("a", 2, 0.5)
    named = ranking_rows(rows, retrieves=["closed"])
    assert [(one.approach, one.recall[0].value) for one in named] == [("closed", 0.0)]


def test_intervals() -> None:
    """One gold source a case is a proportion and has Wilson's; several make a mean, by bootstrap; few cases have none."""
    (share,) = ranking_rows([row(f"c{i}", ["d"], ["d" if i % 2 else "e"]) for i in range(40)])
    assert (share.recall[0].low, share.recall[0].high) == pytest.approx(tuple(wilson(0.5, 40)))
    (mean,) = ranking_rows([row(f"c{i}", ["d", "e"][: 1 + i % 2], ["d", "e"]) for i in range(40)])
    figure = mean.recall[-1]
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low < 0.75 < figure.high
    (few,) = ranking_rows([row(f"c{i}", ["d"], ["d"]) for i in range(3)])
    assert few.recall[0].low is None


def test_cases_of_a_cluster_and_repeats_of_a_case_widen() -> None:
    """A hundred questions from twenty customers say less than a hundred; a repeated case counts once."""
    hits = [i // 5 % 2 for i in range(100)]
    alone = [row(f"c{i}", ["d"], ["d" if hit else "e"]) for i, hit in enumerate(hits)]
    together = [one | {"cluster": f"k{i // 5}"} for i, one in enumerate(alone)]

    def width(rows: list[dict[str, Any]]) -> float:
        (only,) = ranking_rows(rows)
        assert only.recall[0].low is not None
        assert only.recall[0].high is not None
        return only.recall[0].high - only.recall[0].low

    assert width(together) > 1.5 * width(alone)
    repeated = [one | {"repeat": i} for one in alone for i in range(3)]
    assert ranking_rows(repeated)[0].recall == ranking_rows(alone)[0].recall


def test_the_order_of_rows_does_not_matter() -> None:
    """The same journal in another order gives the same rates."""
    rows = [row(f"c{i}", ["d", "e"], [["d"], ["e"], ["f"]][i % 3], name) for i in range(30) for name in ("a", "b")]
    shuffled = random.Random(0).sample(rows, len(rows))
    for one in ranking_rows(rows):
        other = next(mine for mine in ranking_rows(shuffled) if mine.approach == one.approach)
        assert [figure.value for figure in one.ndcg] == pytest.approx([figure.value for figure in other.ndcg])


def test_depths_are_those_that_were_reached() -> None:
    """No recall@10 where nobody retrieves more than four."""
    assert ranking_rows([row("c", ["a", "b", "c", "d"], ["d"])])[0].ks == (1, 3, 4)
    assert ranking_rows([row("c", [f"s{i}" for i in range(30)], ["d"])])[0].ks == (1, 3, 5, 10)
    assert ranking_rows([row("c", ["a"], ["d"])], ks=(1, 5))[0].ks == (1, 5)


def test_differences_are_paired() -> None:
    """A second approach that finds one source more in every fifth case is ahead, though both vary widely by case."""
    rows = []
    for i in range(60):
        hard = i % 2 == 0
        rows.append(row(f"c{i}", ["x"] if hard else ["d"], ["d"], "old"))
        rows.append(row(f"c{i}", ["x"] if hard and i % 5 else ["d"], ["d"], "new"))
    (difference,) = ranking_differences(rows)
    assert (difference.a, difference.b, difference.n) == ("new", "old", 60)
    assert difference.recall.value == pytest.approx(0.1)
    assert difference.recall.low is not None
    assert difference.recall.low > 0
    assert ranking_differences([one for one in rows if one["approach"] == "new"]) == ()


def test_an_identical_copy_is_not_ahead() -> None:
    """Nothing is said of a difference that does not vary."""
    rows = [row(f"c{i}", ["d"], ["d" if i % 3 else "e"], name) for i in range(30) for name in ("one", "copy")]
    (difference,) = ranking_differences(rows)
    assert (difference.recall.value, difference.recall.low) == (0.0, None)
