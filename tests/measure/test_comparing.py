import json
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.measure.comparing import comparisons
from steelyard.measure.paired import mcnemar, newcombe
from steelyard.measure.results import from_rows
from steelyard.measure.scorecard import Comparison, scorecards_json
from steelyard.measure.scoring import success_rate

from .rows import results_of, row, rows_of

bits = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=5, max_size=60)


def compare(successes: Mapping[str, Sequence[int | None]]) -> Comparison:
    return comparisons(results_of(successes))[0]


def test_counts_interval_and_p_value_are_those_of_the_table() -> None:
    """The paired table goes into the exact test and Newcombe's interval."""
    found = compare({"a": [1] * 30 + [1] * 12 + [0] * 3 + [0] * 15, "b": [1] * 30 + [0] * 12 + [1] * 3 + [0] * 15})
    assert (found.n, found.a_only, found.b_only) == (60, 12, 3)
    assert found.p_mcnemar == pytest.approx(mcnemar(12, 3))
    assert (found.difference.low, found.difference.high) == pytest.approx(newcombe(30, 12, 3, 15))
    assert found.evidence == "a"
    assert found.cases_to_settle == 0


def test_a_difference_that_straddles_zero_is_not_announced() -> None:
    """Six against three on thirty cases is undecided, and says how many more cases would settle it."""
    found = compare({"a": [1] * 6 + [0] * 3 + [1] * 21, "b": [0] * 6 + [1] * 3 + [1] * 21})
    assert found.evidence == "undecided"
    assert found.cases_to_settle is not None
    assert found.cases_to_settle > 30


def test_identical_approaches_end_up_equivalent() -> None:
    """A copy never wins; with few cases it is undecided, with many equivalent."""
    assert compare({"a": [1, 0] * 10, "b": [1, 0] * 10}).evidence == "undecided"
    found = compare({"a": [1, 0, 1] * 700, "b": [1, 0, 1] * 700})
    assert found.evidence in ("equivalent", "undecided")
    assert found.p_mcnemar == 1


def test_holm_holds_back_what_one_comparison_would_announce() -> None:
    """The same two approaches among many others need more evidence."""
    pair: Mapping[str, Sequence[int | None]] = {"a": [1] * 9 + [0] * 1 + [1] * 40, "b": [0] * 9 + [1] * 1 + [1] * 40}
    assert compare(pair).evidence == "a"
    base: Mapping[str, Sequence[int | None]] = {name: [1] * 50 for name in ("y1", "y2", "y3")}
    found = {(c.a, c.b): c for c in comparisons(results_of({**pair, **base}))}
    assert found["a", "b"].evidence == "undecided"


def test_unscored_cases_that_could_turn_it_leave_it_undecided() -> None:
    """Ten unscored cases of the better one undo a lead of eight."""
    lead = compare({"a": [1] * 8 + [1] * 52, "b": [0] * 8 + [1] * 52})
    assert lead.evidence == "a"
    unsure = compare({"a": [1] * 8 + [None] * 10 + [1] * 42, "b": [0] * 8 + [1] * 52})
    assert unsure.evidence == "undecided"
    assert unsure.n_unscored == 10


def test_unscored_cases_that_could_speak_for_either_leave_no_evidence() -> None:
    """Each extreme alone would be significant, for the other side: then there is a tie between them, and p is 1."""
    found = compare({"a": [None] * 60 + [1] * 20, "b": [None] * 60 + [1] * 18 + [0] * 2})
    assert found.p_mcnemar == 1
    assert found.e_value is not None
    assert found.e_value < 1
    one_way = compare({"a": [1] * 40 + [1] * 4 + [None] * 4, "b": [0] * 40 + [1] * 8})
    assert one_way.p_mcnemar == pytest.approx(mcnemar(40, 4))


def test_equivalence_is_said_as_such() -> None:
    """'As good as, within 2 points': a statement of its own and not a missing difference; the margin is in the JSON."""
    a, b = [1] * 3990 + [1] * 5 + [0] * 5, [1] * 3990 + [0] * 5 + [1] * 5
    found = compare({"a": a, "b": b})
    assert found.evidence == "equivalent"
    assert found.sentence == "a is as good as b, within 2 points"
    assert found.to_json()["sentence"] == found.sentence
    wide = comparisons(results_of({"a": a[-2000:], "b": b[-2000:]}), margin=0.035)[0]
    assert wide.sentence == "a is as good as b, within 3.5 points"
    few = compare({"a": [1, 0] * 10, "b": [1, 0] * 10})
    assert few.sentence.startswith("not enough evidence; about ")
    assert few.sentence.endswith("more cases should settle it")


@settings(max_examples=40)
@given(bits)
def test_failures_never_help(pairs: list[tuple[int, int]]) -> None:
    """Five further failures of `a` where `b` succeeds lower its lead and never turn the evidence towards it."""
    a, b = zip(*pairs, strict=True)
    before = compare({"a": a, "b": b})
    after = compare({"a": [*a, *[0] * 5], "b": [*b, *[1] * 5]})
    assert (after.difference.value or 0) <= (before.difference.value or 0) + 1e-12
    assert not (after.evidence == "a" and before.evidence != "a")


def test_only_cases_both_did_are_compared() -> None:
    """An approach stopped early is compared on what it did."""
    rows = rows_of({"a": [1] * 40}) + rows_of({"b": [0] * 20})
    assert comparisons(from_rows(rows))[0].n == 20
    nothing = comparisons(from_rows([row("a", 1), row("b", 2)]))[0]
    assert nothing.n == 0
    assert nothing.evidence == "undecided"
    assert nothing.difference.value is None


def test_copies_of_a_case_are_no_evidence() -> None:
    """Four clusters of ten equal cases are four cases: too few to announce anything."""
    rows = [row(name, i, int(name == "a"), cluster=f"k{i // 10}") for name in "ab" for i in range(40)]
    assert comparisons(from_rows(rows))[0].evidence == "undecided"


def test_repeats_count_as_shares() -> None:
    """With repeats the difference is the mean difference of shares, and the test stays exact."""
    rows = [row("a", i, int(r < 2), repeat=r) for i in range(12) for r in range(3)]
    rows += [row("b", i, int(r < 1), repeat=r) for i in range(12) for r in range(3)]
    found = comparisons(from_rows(rows))[0]
    assert found.difference.value == pytest.approx(1 / 3)
    assert found.p_mcnemar == pytest.approx(2 / 2**12)


def test_cost_and_latency_are_compared_on_the_same_cases() -> None:
    """Mean paired differences with intervals; unknown prices give no difference."""
    rng = np.random.default_rng(0)
    base = rng.exponential(size=60)
    rows = [row("a", i, latency_s=base[i] + 0.5 + rng.random() * 0.1) for i in range(60)]
    rows += [row("b", i, latency_s=base[i], cost_usd=None) for i in range(60)]
    found = comparisons(from_rows(rows))[0]
    low, high = found.latency_difference_s.low, found.latency_difference_s.high
    assert low is not None
    assert high is not None
    assert 0.5 < low < high < 0.6
    assert found.cost_difference_usd.value is None


def test_many_approaches_are_compared_with_the_leader_only() -> None:
    """Nine approaches give eight comparisons instead of thirty-six."""
    results = results_of({f"a{i}": [1] * (i + 1) + [0] * (9 - i) for i in range(9)})
    found = comparisons(results)
    assert len(found) == 8
    assert {c.a for c in found} == {"a8"}


@given(bits)
@settings(max_examples=40, deadline=None)
def test_swapping_flips_the_sign(pairs: list[tuple[int, int]]) -> None:
    """Swapping the two approaches mirrors everything."""
    a, b = [p[0] for p in pairs], [p[1] for p in pairs]
    one = comparisons(results_of({"a": a, "b": b}))[0]
    other = comparisons(results_of({"b": b, "a": a}))[0]
    assert one.difference.value == pytest.approx(-(other.difference.value or 0))
    assert one.difference.low == pytest.approx(-(other.difference.high or 0))
    assert one.p_mcnemar == pytest.approx(other.p_mcnemar)
    assert {"a": "b", "b": "a"}.get(one.evidence, one.evidence) == other.evidence


@given(bits)
@settings(max_examples=40, deadline=None)
def test_an_identical_copy_never_wins(pairs: list[tuple[int, int]]) -> None:
    """Whatever the outcomes."""
    a = [p[0] for p in pairs]
    assert comparisons(results_of({"a": a, "b": a}))[0].evidence in ("equivalent", "undecided")


@given(st.lists(st.integers(0, 1), min_size=5, max_size=60))
@settings(max_examples=40, deadline=None)
def test_duplicating_all_cases_narrows_and_failures_never_raise(successes: list[int]) -> None:
    """Twice the same cases: same mean, narrower interval. One more failure: never a higher mean."""
    one = success_rate(results_of({"a": successes})["a"])
    twice = success_rate(results_of({"a": successes * 2})["a"])
    worse = success_rate(results_of({"a": [*successes, 0]})["a"])
    assert one.value is not None
    assert twice.value == pytest.approx(one.value)
    assert (twice.high or 0) - (twice.low or 0) < (one.high or 0) - (one.low or 0)
    assert (worse.value or 0) <= one.value


@pytest.mark.slow
def test_the_paired_interval_covers() -> None:
    """In about 95 of 100 studies of 40 cases the true difference lies inside."""
    rng = np.random.default_rng(9)
    cells = rng.multinomial(40, [0.6, 0.2, 0.05, 0.15], size=2000)
    hits = [low <= 0.15 <= high for low, high in (newcombe(*map(int, one)) for one in cells)]
    assert np.mean(hits) > 0.93


def test_comparisons_are_published() -> None:
    """The shape of `score --json`."""
    found = comparisons(results_of({"a": [1, 0] * 5, "b": [1, 1] * 5}))
    shape = json.loads(json.dumps(scorecards_json([], found)))["comparisons"][0]
    named = {"a", "b", "n", "a_only", "b_only", "difference", "p_mcnemar", "evidence", "cases_to_settle"}
    assert named <= set(shape)
