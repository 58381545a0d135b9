"""Break-even volume and payback of two approaches in one row, worded once for HTML and Markdown."""

from __future__ import annotations

from dataclasses import dataclass

from steelyard.economics.ledger import BreakEven, Economics, Payback
from steelyard.report.format import UNKNOWN, count

NONE = "–"


@dataclass(frozen=True, kw_only=True, slots=True)
class PairRow:
    """What two approaches cost against each other."""

    a: str
    b: str
    break_even: str
    """Who costs less, and from or up to which volume."""
    break_even_range: str
    payback: str
    """How long the dearer start takes to be earned back, and whose it is; a dash where there is none."""
    payback_range: str
    as_of: str


def pair_rows(economics: Economics, choice: str | None) -> tuple[list[PairRow], list[PairRow]]:
    """Rows of the pairs that involve the choice, and of the others."""
    paybacks = {frozenset((item.a, item.b)): item for item in economics.paybacks}
    crossings = {frozenset((item.a, item.b)): item for item in economics.break_evens}
    rows = [_row(crossings.get(pair), paybacks.get(pair)) for pair in dict.fromkeys((*crossings, *paybacks))]
    involved = [row for row in rows if choice in (row.a, row.b)]
    return involved, [row for row in rows if row not in involved]


def break_even_words(item: BreakEven) -> str:
    """Who costs less per successful task, and where."""
    volume = None if item.volume is None else count(round(item.volume))
    return {
        "from": f"{item.a} from about {volume} tasks a month",
        "up_to": f"{item.a} up to about {volume} tasks a month",
        "always": f"{item.a} at every volume",
        "never": f"{item.b} at every volume, or both cost the same",
        "unknown": UNKNOWN,
    }[item.kind]


def payback_words(item: Payback) -> str:
    """Whether and when a dearer start is earned back."""
    if item.kind == "months" and item.months is not None:
        return f"{item.a} after about {_number(item.months)} months"
    return {"at_once": f"{item.a} at once", "never": f"{item.a} never"}.get(item.kind, UNKNOWN)


# --- private ---------------------------------------------------------------------------------------------------------


def _row(crossing: BreakEven | None, payback: Payback | None) -> PairRow:
    first = crossing or payback
    assert first is not None  # pairs come from one or the other
    crossing_range = payback_range = ""
    if crossing is not None and crossing.volume is not None:
        # Beyond the scale, growing volume never makes `a` cheaper ("from"), or never makes it dearer ("up to").
        beyond = "never" if crossing.kind == "from" else "every volume"
        start = "the first task" if crossing.kind == "from" else "no volume"
        crossing_range = _range(crossing.low, crossing.high, start=start, beyond=beyond)
    if payback is not None and payback.months is not None and payback.kind == "months":
        payback_range = _range(payback.low, payback.high, start="at once", beyond="never")
    return PairRow(
        a=first.a,
        b=first.b,
        break_even=NONE if crossing is None else break_even_words(crossing),
        break_even_range=crossing_range,
        payback=NONE if payback is None else payback_words(payback),
        payback_range=payback_range,
        as_of=first.as_of,
    )


def _range(low: float | None, high: float | None, *, start: str, beyond: str) -> str:
    ends = [
        beyond if end is None else start if end == 0 else count(round(end) if end >= 100 else end)
        for end in (low, high)
    ]
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.1f}"
