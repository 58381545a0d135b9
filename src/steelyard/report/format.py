"""How numbers are written, in one place for terminal, HTML and Markdown.

Rates become percentages here and nowhere else. A number too small for its decimals is written as a bound (`<$0.0001`,
`<0.1%`, `>99.9%`) and never as a misleading 0 or 100%; an unknown one is written `unknown`, with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from steelyard.decision.wording import likelihood
from steelyard.figures import Figure, Provenance

Unit = Literal["percent", "points", "usd", "usd_difference", "seconds", "seconds_difference", "count"]

UNKNOWN = "unknown"
MARKERS = {"measured": "m", "assumed": "a", "quoted": "q"}
MARKER_MEANINGS = {
    "m": "measured on the cases of this study",
    "a": "assumed: written in study.yaml or a default, or computed from at least one such input",
    "q": "quoted from a dated source such as a price page, or computed from one and from measurements",
}


def percent(rate: float) -> str:
    """A fraction in 0..1 as a percentage with one decimal.

    >>> percent(0.9423), percent(0.0004), percent(0.9999), percent(1.0)
    ('94.2%', '<0.1%', '>99.9%', '100.0%')
    """
    return f"{_percent_number(rate)}%"


def points(difference: float) -> str:
    """A difference of two rates in percentage points, signed.

    >>> points(0.034), points(-0.0002), points(0.0)
    ('+3.4 points', '−<0.1 points', '0.0 points')
    """
    return f"{_points_number(difference)} points"


def money(usd: float) -> str:
    """US dollars with as many decimals as the amount deserves.

    >>> money(1234.4), money(56.789), money(0.01234), money(0.00002), money(0)
    ('$1,234', '$56.79', '$0.0123', '<$0.0001', '$0')
    """
    size = abs(usd)
    sign = "−" if usd < 0 else ""
    if size == 0:
        return "$0"
    if size < 0.0001:
        return f"{sign}<$0.0001"
    decimals = 0 if size >= 999.5 else 2 if size >= 0.995 else 3 if size >= 0.0995 else 4
    return f"{sign}${size:,.{decimals}f}"


def seconds(value: float) -> str:
    """Seconds, to two digits or more.

    >>> seconds(123.4), seconds(12.34), seconds(0.3123), seconds(0.0123), seconds(0.0047), seconds(0.00001)
    ('123 s', '12.3 s', '0.31 s', '0.012 s', '0.0047 s', '<0.0001 s')
    """
    return f"{_seconds_number(value)} s"


def duration(value: float) -> str:
    """A longer stretch of seconds, in words a person would use.

    >>> duration(7.25), duration(94.6), duration(7384)
    ('7.25 s', '1 min 35 s', '2 h 3 min')
    """
    whole = round(value)
    if whole < 60:
        return seconds(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count(value: float) -> str:
    """A count or a mean of counts.

    >>> count(1234), count(36.42), count(0.02), count(0.004)
    ('1,234', '36.4', '0.02', '<0.01')
    """
    size = abs(value)
    sign = "−" if value < 0 else ""
    if size == 0:
        return "0"
    if size < 0.01:
        return f"{sign}<0.01"
    if float(value).is_integer() or size >= 99.95:
        return f"{sign}{size:,.0f}"
    return f"{sign}{size:.1f}" if size >= 9.995 else f"{sign}{size:.2f}"


def known_count(value: float) -> str:
    """A count that may not be a number, which is then `unknown`.

    >>> known_count(1234), known_count(float("nan"))
    ('1,234', 'unknown')
    """
    return count(value) if math.isfinite(value) else UNKNOWN


def p_value(value: float | None) -> str:
    """A p-value, or that there are too few cases for one.

    >>> p_value(0.0312), p_value(0.00001), p_value(None)
    ('0.031', '<0.001', 'too few cases')
    """
    if value is None:
        return "too few cases"
    return "<0.001" if value < 0.0005 else f"{value:.3f}"


def e_value(value: float | None) -> str:
    """An e-value to three digits.

    >>> e_value(23.456), e_value(4.2e9), e_value(0.0001), e_value(None)
    ('23.5', '>1,000,000', '<0.01', 'unknown')
    """
    if value is None:
        return UNKNOWN
    if value > 1_000_000:
        return ">1,000,000"
    return f"{value:,.0f}" if value >= 99.95 else count(value) if value < 9.995 else f"{value:.1f}"


def probability(value: float | None) -> str:
    """A probability as a percentage, or `unknown`; found by resampling, so never quite 0 or 100."""
    return UNKNOWN if value is None else likelihood(value)


def marker(provenance: Provenance) -> str:
    """The letter that stands beside a figure: m, a or q."""
    return MARKERS[provenance.kind]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A figure as text, for every face of the report."""

    text: str
    """The value with its unit, or `unknown`."""
    interval: str
    """`88.1–94.0%`, or nothing."""
    marker: str
    origin: str
    """Provenance in full."""
    exact: str
    """The value to six digits, for whoever wants more than is shown."""
    because: str | None
    """Why it is unknown, when it is."""

    @property
    def plain(self) -> str:
        """All in one line: `92.3% (88.1–94.0%) m`."""
        interval = f" ({self.interval})" if self.interval else ""
        return f"{self.text}{interval} {self.marker}"


def shown(figure: Figure, unit: Unit) -> Shown:
    """Write a figure in its unit, with interval and provenance."""
    known = figure.value is not None and math.isfinite(figure.value)
    because = None if known else figure.unknown_because or "the value is not a finite number"
    return Shown(
        text=_WRITERS[unit](figure.value) if known and figure.value is not None else UNKNOWN,
        interval=interval(figure.low, figure.high, unit) if known else "",
        marker=marker(figure.provenance),
        origin=str(figure.provenance),
        exact=f"{figure.value:.6g}" if known else "",
        because=because,
    )


def interval(low: float | None, high: float | None, unit: Unit) -> str:
    """An interval in the unit of its figure; ends that may be negative are joined by 'to' instead of a dash.

    Nothing for an interval without width; ends that read the same are written once.

    >>> interval(0.881, 0.94, "percent"), interval(-0.02, 0.03, "points"), interval(0.012, 0.1, "usd")
    ('88.1–94.0%', '−2.0 to +3.0 points', '$0.0120–0.100')
    """
    low = low if low is not None and math.isfinite(low) else None
    high = high if high is not None and math.isfinite(high) else None
    write = _WRITERS[unit]
    if low is None and high is None:
        return ""
    if low is None or high is None:
        return f"at most {write(high)}" if high is not None else f"at least {write(low or 0.0)}"
    if write(low) == write(high):
        return "" if low == high else write(low)
    if unit == "percent":
        return f"{_percent_number(low)}–{_percent_number(high)}%"
    if unit == "points":
        return f"{_points_number(low)} to {_points_number(high)} points"
    if unit == "seconds":
        return f"{_seconds_number(low)}–{_seconds_number(high)} s"
    if unit == "usd" and low >= 0.0001:
        return f"{write(low)}–{write(high).removeprefix('$')}"
    return f"{write(low)}{' to ' if unit.endswith('_difference') else '–'}{write(high)}"


def _percent_number(rate: float) -> str:
    if rate < 0:
        return f"−{_percent_number(-rate)}"
    if 0 < rate < 0.0005:
        return "<0.1"
    if 0.9995 <= rate < 1:
        return ">99.9"
    return f"{100 * rate:.1f}"


def _points_number(difference: float) -> str:
    sign = "+" if difference > 0 else "−" if difference < 0 else ""
    size = abs(difference)
    return f"{sign}<0.1" if 0 < size < 0.0005 else f"{sign}{100 * size:.1f}"


def _seconds_number(value: float) -> str:
    size = abs(value)
    sign = "−" if value < 0 else ""
    if size == 0:
        return "0"
    if size < 0.0001:
        return f"{sign}<0.0001"
    steps = ((99.95, 0), (9.995, 1), (0.0995, 2), (0.00995, 3))
    decimals = next((decimals for least, decimals in steps if size >= least), 4)
    return f"{sign}{size:,.{decimals}f}"


def _signed(write: Callable[[float], str]) -> Callable[[float], str]:
    return lambda value: f"+{write(value)}" if value > 0 else write(value)


_WRITERS: dict[Unit, Callable[[float], str]] = {
    "percent": percent,
    "points": points,
    "usd": money,
    "usd_difference": _signed(money),
    "seconds": seconds,
    "seconds_difference": _signed(seconds),
    "count": count,
}
