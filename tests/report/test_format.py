"""How numbers are written."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.figures import MEASURED, Figure, Provenance, unknown
from steelyard.report.format import Unit, count, duration, interval, money, percent, points, seconds, shown


@given(st.floats(min_value=1e-12, max_value=1e9))
def test_a_positive_amount_never_reads_as_zero(value: float) -> None:
    """What is more than nothing is shown as more than nothing, in every unit."""
    for text in (money(value), seconds(value), count(value), percent(min(value, 1.0)), points(value)):
        assert text.startswith(("<", "+<")) or any(digit in text for digit in "123456789"), text


@given(st.floats(min_value=0, max_value=1, exclude_max=True))
def test_less_than_all_never_reads_as_all(rate: float) -> None:
    """A rate below one is never shown as 100%."""
    assert percent(rate) != "100.0%"


@given(st.floats(min_value=0.0001, max_value=1e7))
def test_money_is_accurate_to_half_a_percent_or_a_hundredth_of_a_cent(usd: float) -> None:
    """Adaptive digits lose nothing that matters."""
    read_back = float(money(usd).replace("$", "").replace(",", ""))
    assert math.isclose(read_back, usd, rel_tol=0.006, abs_tol=0.00006)


def test_negative_amounts_keep_their_sign() -> None:
    """Savings are not shown as costs."""
    assert money(-12.5) == "−$12.50"
    assert seconds(-0.25) == "−0.25 s"
    assert money(-0.00001) == "−<$0.0001"


def test_long_times_read_as_a_person_would_say_them() -> None:
    """Minutes and hours instead of thousands of seconds, without '60 s'."""
    assert duration(59.7) == "1 min 0 s"
    assert duration(3600) == "1 h 0 min"


@pytest.mark.parametrize(
    "unit", ["percent", "points", "usd", "usd_difference", "seconds", "seconds_difference", "count"]
)
def test_an_unknown_figure_is_unknown_with_its_reason(unit: Unit) -> None:
    """An unknown value is never a number."""
    text = shown(unknown("no price is known"), unit)
    assert text.text == "unknown"
    assert text.because == "no price is known"
    assert not any(character.isdigit() for character in text.plain)


def test_infinity_is_not_printed_as_a_number() -> None:
    """No successful task at all: the cost of one has no finite value."""
    assert shown(Figure(value=math.inf), "usd").text == "unknown"
    assert interval(0.5, math.inf, "usd") == "at least $0.500"


def test_an_interval_of_one_reading_is_written_once() -> None:
    """Two equal ends would only repeat themselves."""
    assert interval(0.00001, 0.00002, "usd") == "<$0.0001"
    assert interval(0.0, 0.0, "count") == ""


@pytest.mark.parametrize(
    ("provenance", "letter"),
    [
        (MEASURED, "m"),
        (Provenance(kind="assumed"), "a"),
        (Provenance(kind="quoted", source="page", as_of="2026-01-01"), "q"),
    ],
)
def test_every_figure_carries_its_letter(provenance: Provenance, letter: str) -> None:
    """Provenance stands beside each number."""
    assert shown(Figure(value=1.0, provenance=provenance), "usd").plain == f"$1.00 {letter}"
