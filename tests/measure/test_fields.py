"""Field by field: counts by hand, and what repeats, clusters and unscored fields do to them."""

from __future__ import annotations

from typing import Any

import pytest

from steelyard.measure.fields import field_rows
from steelyard.measure.intervals import wilson


def rows(
    approach: str, cases: dict[str, dict[str, str]], *, repeat: int = 0, cluster: str | None = None
) -> list[dict[str, Any]]:
    return [
        {
            "approach": approach,
            "case_id": case,
            "repeat": repeat,
            "cluster": cluster,
            "field": field,
            "verdict": verdict,
        }
        for case, fields in cases.items()
        for field, verdict in fields.items()
    ]


CASES = {
    "c1": {"vendor": "right", "total": "right"},
    "c2": {"vendor": "right", "total": "wrong"},
    "c3": {"vendor": "missing", "total": "wrong"},
    "c4": {"vendor": "invented", "total": "right"},
    "c5": {"vendor": "right", "total": "right"},
    "c6": {"vendor": "right", "total": "unscored"},
}


def test_counts_by_hand() -> None:
    """Six documents; three are not wholly right: total spoils two of them, one of these alone."""
    vendor, total = field_rows(rows("a", CASES))
    assert (vendor.field, vendor.n, vendor.wrong, vendor.missing, vendor.invented, vendor.unscored) == (
        "vendor",
        6,
        0,
        1,
        1,
        0,
    )
    assert vendor.accuracy.value == pytest.approx(4 / 6)
    assert (vendor.accuracy.low, vendor.accuracy.high) == pytest.approx(tuple(wilson(4 / 6, 6)))
    assert (total.wrong, total.unscored, total.alone, vendor.alone) == (2, 1, 1, 1)
    assert total.accuracy.value == pytest.approx(3 / 5)
    assert str(total.accuracy.provenance) == "measured (5 of 6 cases)"
    assert total.sends_to_review.value == pytest.approx(2 / 3)
    assert total.sends_to_review.low is None  # three documents say nothing about an interval


def test_a_case_counts_once_however_often_it_was_repeated() -> None:
    """Right once and wrong once is not right; the interval is that of the cases, not of the repeats."""
    other = {case: {**fields, "vendor": "right"} for case, fields in CASES.items()}
    vendor, total = field_rows([*rows("a", CASES), *rows("a", other, repeat=1)])
    once, _ = field_rows(rows("a", CASES))
    assert (vendor.n, vendor.missing, vendor.invented, vendor.accuracy) == (6, 1, 1, once.accuracy)
    assert total.wrong == 2


def test_fields_of_one_cluster_say_less() -> None:
    """Documents of one vendor stand or fall together: the interval is wider, the rate the same."""
    many = {f"c{i}": {"a": "right" if i % 4 else "wrong", "b": "right"} for i in range(80)}
    free = field_rows(rows("x", many))[0].accuracy
    numbers = {case: int(case[1:]) for case in many}
    pairs = [
        row | {"cluster": f"v{numbers[row['case_id']] // 8}" if numbers[row["case_id"]] % 4 == 0 else None}
        for row in rows("x", many)
    ]
    bound = field_rows(pairs)[0].accuracy
    assert free.value == bound.value
    assert (bound.high or 0) - (bound.low or 0) > (free.high or 0) - (free.low or 0)


def test_one_field_alone_has_no_table() -> None:
    """Success says it already."""
    assert field_rows(rows("a", {"c": {"label": "right"}})) == ()


def test_nothing_wrong_sends_nothing_to_review() -> None:
    """A share of no documents is unknown, not 0."""
    vendor, _ = field_rows(rows("a", {"c1": {"vendor": "right", "total": "right"}}))
    assert vendor.sends_to_review.value is None
