"""Break-even volume and payback of two approaches in one row, worded once for HTML and Markdown."""

from __future__ import annotations

from collections.abc import Callable
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


def pair_rows(economics: Economics, focus: str | None) -> tuple[list[PairRow], list[PairRow]]:
    """Rows of the pairs that involve the approach a reader looks at first, and of the others."""
    paybacks = {frozenset((item.a, item.b)): item for item in economics.paybacks}
    crossings = {frozenset((item.a, item.b)): item for item in economics.break_evens}
    costs = {ledger.approach: ledger.cost_per_success_usd.value for ledger in economics.ledgers}
    rows = [
        _row(crossings.get(pair), paybacks.get(pair), is_same=len({costs.get(name) for name in pair}) == 1)
        for pair in dict.fromkeys((*crossings, *paybacks))
    ]
    involved = [row for row in rows if focus in (row.a, row.b)]
    return involved, [row for row in rows if row not in involved]


def break_even_words(item: BreakEven) -> str:
    """Who costs less per successful task, and where."""
    volume = None if item.volume is None else count(round(item.volume))
    return {
        "from": f"{item.a} from about {volume} tasks a month",
        "up_to": f"{item.a} up to about {volume} tasks a month",
        "always": f"{item.a} at every volume",
        "never": f"{item.b} at every volume",
        "unknown": UNKNOWN,
    }[item.kind]


def payback_words(item: Payback) -> str:
    """Whether and when a dearer start is earned back."""
    if item.kind == "months" and item.months is not None:
        return f"{item.a} after about {stretch(item.months)}"
    return {"at_once": f"{item.a} at once", "never": f"{item.a} never"}.get(item.kind, UNKNOWN)


def stretch(months: float) -> str:
    """A number of months in words; less than one in days.

    >>> stretch(7.42), stretch(1.0), stretch(0.1), stretch(0.01)
    ('7.4 months', '1 month', '3 days', '1 day')
    """
    if months >= 0.95:
        text = f"{months:,.0f}" if months >= 99.5 else f"{months:.1f}".removesuffix(".0")
        return f"{text} month" + ("" if text == "1" else "s")
    days = max(1, round(months * 30.4))
    return f"{days} day" + ("" if days == 1 else "s")


# --- private ---------------------------------------------------------------------------------------------------------


def _row(crossing: BreakEven | None, payback: Payback | None, *, is_same: bool) -> PairRow:
    first = crossing or payback
    assert first is not None  # pairs come from one or the other
    crossing_range = payback_range = ""
    if crossing is not None and crossing.volume is not None:
        # Beyond the scale, growing volume never makes `a` cheaper ("from"), or never makes it dearer ("up to").
        beyond = "never" if crossing.kind == "from" else "every volume"
        start = "the first task" if crossing.kind == "from" else "no volume"
        crossing_range = _range(crossing.low, crossing.high, start=start, beyond=beyond, word=_tasks)
    if payback is not None and payback.months is not None and payback.kind == "months":
        payback_range = _range(payback.low, payback.high, start="at once", beyond="never", word=stretch)
    return PairRow(
        a=first.a,
        b=first.b,
        break_even=NONE if crossing is None else _words(crossing, is_same=is_same),
        break_even_range=crossing_range,
        payback=NONE if payback is None else payback_words(payback),
        payback_range=payback_range,
        as_of=first.as_of,
    )


def _words(crossing: BreakEven, *, is_same: bool) -> str:
    # 'Never cheaper' is also what two approaches are that cost the same.
    return "neither: both cost the same" if is_same and crossing.kind == "never" else break_even_words(crossing)


def _range(low: float | None, high: float | None, *, start: str, beyond: str, word: Callable[[float], str]) -> str:
    ends = [beyond if end is None else start if end == 0 else word(end) for end in (low, high)]
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def _tasks(volume: float) -> str:
    return count(round(volume))
