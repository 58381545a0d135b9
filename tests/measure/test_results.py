import numpy as np
import pytest

from steelyard.errors import InputError
from steelyard.measure.results import from_rows, on_common_cases

from .rows import results_of, row, rows_of


def test_a_case_counts_once_however_often_it_was_repeated() -> None:
    """Repeats are averaged within a case first."""
    rows = [row(case=0, success=1), *[row(case=1, success=s, repeat=i) for i, s in enumerate([0, 1, 0, 0])]]
    results = from_rows(rows)["a"]
    assert results.n == 2
    assert results.n_outcomes == 5
    assert results.success.tolist() == [1.0, 0.25]


def test_missing_is_unknown_and_never_zero() -> None:
    """A case with one unpriced repeat has no known cost."""
    rows = [row(case=0, cost_usd=None), row(case=1, cost_usd=0.5), row(case=1, repeat=1, cost_usd=None)]
    assert np.isnan(from_rows(rows)["a"].cost_usd).all()


@pytest.mark.parametrize("status", ["failed", "timed_out", "refused", "empty", "crashed", "invalid", "too_long"])
def test_what_did_not_end_in_an_answer_is_a_failure(status: str) -> None:
    """Even when nobody scored it: failures stay in the denominator."""
    results = from_rows([row(case=0), row(case=1, success=None, status=status)])["a"]
    assert results.success.tolist() == [1.0, 0.0]
    assert results.n_unscored == 0


def test_an_unscored_case_is_neither_right_nor_wrong() -> None:
    """It counts as wrong in one column and as right in the other."""
    results = results_of({"a": [1, None, 0]})["a"]
    assert np.isnan(results.success[1])
    assert results.success_low.tolist() == [1, 0, 0]
    assert results.success_high.tolist() == [1, 1, 0]
    assert results.n_unscored == 1


def test_the_order_of_rows_does_not_matter() -> None:
    """Cases are sorted, so shuffled rows give equal columns."""
    rows = rows_of({"a": [1, 0, 1, 0, 0]})
    one, other = from_rows(rows)["a"], from_rows(rows[::-1])["a"]
    assert one.case_ids == other.case_ids
    assert one.success.tolist() == other.success.tolist()


def test_a_bare_outcome_file_is_enough() -> None:
    """Approach, case and success are all that an imported file must have."""
    results = from_rows([{"approach": "x", "case_id": "1", "success": 1}])["x"]
    assert results.split == "test"
    assert np.isnan(results.latency_s).all()


def test_everything_wrong_with_the_rows_is_said_at_once() -> None:
    """Duplicates, mixed versions, mixed splits and strange success values are all reported."""
    rows = [
        row(case=0),
        row(case=0),
        row("b", 0, fingerprint="x"),
        row("b", 1),
        row("b", 2, 7),
        row("b", 3, split="dev"),
    ]
    with pytest.raises(InputError) as caught:
        from_rows(rows)
    said = str(caught.value)
    assert "appear more than once" in said
    assert "2 versions" in said
    assert "several splits" in said
    assert "is 7" in said


def test_a_split_can_be_picked() -> None:
    """Only the rows of the asked split are kept."""
    assert from_rows([row(case=0), row(case=1, split="dev")], split="dev")["a"].n == 1


def test_common_cases_are_parallel() -> None:
    """Approaches that did different cases are cut to the ones all did, clusters renumbered."""
    rows = [row("a", i, cluster=f"k{i // 2}") for i in range(6)] + [
        row("b", i, cluster=f"k{i // 2}") for i in (3, 4, 5)
    ]
    common = on_common_cases(from_rows(rows))
    assert common["a"].case_ids == common["b"].case_ids == ("c00003", "c00004", "c00005")
    assert common["a"].cluster.tolist() == [0, 1, 1]
