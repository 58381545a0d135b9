"""What was forgotten: counts, interval and test of the same instructions asked of two models."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.measure.forgetting import Forgetting, forgetting
from steelyard.measure.intervals import wilson
from steelyard.report.forgetting import forgetting_facts, forgetting_warning


def compared(base: str, tuned: str) -> Forgetting:
    """From strings of 1 (done) and 0, one character an instruction."""
    found = forgetting(
        {str(i): one == "1" for i, one in enumerate(base)}, {str(i): one == "1" for i, one in enumerate(tuned)}
    )
    assert found is not None
    return found


def test_what_was_kept_is_counted_among_what_the_base_did() -> None:
    """Worked by hand: 6 of 8 done by the base, 4 of them kept, 1 new; p of 2 against 1 is 1."""
    found = compared("11111100", "11110010")
    assert (found.n, found.base, found.tuned, found.kept, found.lost, found.gained) == (8, 6, 5, 4, 2, 1)
    assert found.kept_share.value == pytest.approx(4 / 6)
    assert (found.kept_share.low, found.kept_share.high) == pytest.approx(tuple(wilson(4 / 6, 6)))
    assert found.p_mcnemar == 1.0


def test_a_clear_loss_is_warned_of_and_a_doubtful_one_is_not() -> None:
    """The whole interval has to lie below 80%."""
    lost = compared("1" * 60, "1" * 30 + "0" * 30)
    assert lost.is_clear_loss
    assert "lora has forgotten general instructions: it keeps 30 of the 60" in (forgetting_warning("lora", lost) or "")
    assert lost.p_mcnemar < 1e-6
    doubtful = compared("1" * 10, "1" * 7 + "0" * 3)
    assert not doubtful.is_clear_loss
    assert forgetting_warning("lora", doubtful) is None


def test_a_base_that_does_nothing_can_lose_nothing() -> None:
    """Unknown, not 0% and not 100%."""
    found = compared("000", "010")
    assert found.kept_share.value is None
    assert not found.is_clear_loss
    assert ("kept of what the base did", "unknown (the base does none of the instructions)") in forgetting_facts(found)


def test_only_what_both_were_asked_is_compared() -> None:
    """What one of them was not asked is no loss."""
    found = forgetting({"a": True, "b": True}, {"b": True, "c": False})
    assert found is not None
    assert (found.n, found.base, found.kept) == (1, 1, 1)
    assert forgetting({"a": True}, {}) is None


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_counts_add_up(pairs: list[tuple[bool, bool]]) -> None:
    """Base = kept + lost, tuned = kept + gained, and swapping the two swaps lost and gained."""
    base, tuned = ({str(i): pair[side] for i, pair in enumerate(pairs)} for side in (0, 1))
    found, swapped = forgetting(base, tuned), forgetting(tuned, base)
    assert found is not None
    assert swapped is not None
    assert (found.base, found.tuned) == (found.kept + found.lost, found.kept + found.gained)
    assert (found.lost, found.gained, found.p_mcnemar) == (swapped.gained, swapped.lost, swapped.p_mcnemar)
    assert 0 <= found.p_mcnemar <= 1
