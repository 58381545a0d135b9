"""What every plot of the report is drawn with: axes, ticks, labels that keep clear of each other, SVG elements.

Pure geometry: no plotting library, no randomness, coordinates rounded to a tenth, so that the same content gives the
same bytes. Colours are classes; the page's style sheet gives them for light, dark and print.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from steelyard.report.text import one_line

_CHARACTER_WIDTH = 7.4
"""Widest average width of a character of a label at 13 px; errs on the wide side."""
_LABEL_HEIGHT = 16.0
_LONGEST_LABEL = 26


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Shared area in square pixels."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """Maps data to pixels along one direction."""

    low: float
    high: float
    start: float
    """Pixel of `low`."""
    end: float
    """Pixel of `high`."""
    is_log: bool

    def pixel(self, value: float) -> float:
        """Where a value lies; beyond the ends, at the end."""
        value = min(max(value, self.low), self.high)
        if self.is_log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def place_label(
    text: str,
    at: tuple[float, float],
    *,
    inside: Box,
    taken: Sequence[Box],
    thin: Sequence[Box] = (),
    rivals: Sequence[tuple[float, float]] = (),
) -> Box:
    """Find a place for a label near its point: beside it if that is free, else further out.

    A label that would sit closer to another point than to its own is moved away: it would be read as the other's.

    Args:
        text: The label.
        at: Pixel of the point.
        inside: Where labels may lie.
        taken: What a label must not cover: points and labels already placed.
        thin: What it should rather not cover: whiskers.
        rivals: Pixels of the other points.

    Returns:
        The box with the least cover; of equals the nearest.
    """
    width = len(text) * _CHARACTER_WIDTH
    best: tuple[float, Box] | None = None
    for step in range(14):
        gap = 9.0 + 9.0 * step
        for dx, dy in ((1, 0), (1, -1), (1, 1), (-1, 0), (-1, -1), (-1, 1), (0, -1), (0, 1)):
            centre_x = at[0] + dx * (gap * (0.72 if dy else 1) + width / 2)
            centre_y = at[1] + dy * (gap + _LABEL_HEIGHT / 2 - (4 if dx else 0))
            box = Box(
                left=centre_x - width / 2,
                top=centre_y - _LABEL_HEIGHT / 2,
                right=centre_x + width / 2,
                bottom=centre_y + _LABEL_HEIGHT / 2,
            )
            outside = width * _LABEL_HEIGHT - box.overlap(inside)
            cover = 50 * sum(box.overlap(other) for other in taken) + 0.3 * sum(box.overlap(other) for other in thin)
            own = _distance(box, at)
            misleading = sum(_distance(box, rival) < own + 5.0 for rival in rivals)
            crossed = sum(_near_leader(rival, at, box) for rival in rivals)
            penalty = 50 * outside + cover + 6.0 * step + 60.0 * misleading + 60.0 * crossed
            if best is None or penalty < best[0] - 1e-9:
                best = (penalty, box)
    assert best is not None, "there is always a candidate"
    return best[1]


def tick_values(axis: Axis, about: int) -> list[float]:
    """About so many round values on an axis."""
    if not axis.is_log:
        rough = (axis.high - axis.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
        first, last = math.ceil(axis.low / step - 1e-9), math.floor(axis.high / step + 1e-9)
        return [round(index * step, 12) for index in range(first, last + 1)]
    exponents = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [f * 10.0**e for e in exponents for f in factors if axis.low <= f * 10.0**e <= axis.high]
        if len(found) <= about:
            return found
    return found[:: math.ceil(len(found) / about)]


def tick_money(usd: float, *, step: float) -> str:
    """A tick of the cost axis, with the decimals its step needs; cents are always two digits."""
    decimals = max(0, math.ceil(-math.log10(abs(step)) - 1e-9)) if step else 0
    decimals = 2 if decimals == 1 else decimals
    return f"{'−' if usd < 0 else ''}${abs(usd):,.{decimals}f}"


def svg_label(text: str, box: Box, at: tuple[float, float], *, is_choice: bool) -> Markup:
    """A label in its box, with a leader to its point where that is far."""
    middle = (box.left + box.right) / 2
    far = _distance(box, at) > 16
    leader = svg_line("leader", *at, *_nearest_in(box, at)) if far else Markup("")
    # The text is anchored on the side of its point: the box is wider than most fonts need.
    if at[0] < box.left:
        anchor, x = "start", box.left
    elif at[0] > box.right:
        anchor, x = "end", box.right
    else:
        anchor, x = "middle", middle
    return leader + svg_text("label choice" if is_choice else "label", x, box.bottom - 4, text, anchor=anchor)


def label_text(name: str) -> str:
    """A name as a label: one line, cut where it is long."""
    name = one_line(name)
    return name if len(name) <= _LONGEST_LABEL else f"{name[: _LONGEST_LABEL - 1]}…"


def svg_line(name: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    """A line of a class."""
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(name, px(x1), px(y1), px(x2), px(y2))


def svg_text(name: str, x: float, y: float, text: str, *, anchor: str) -> Markup:
    """A text of a class, escaped."""
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(name, px(x), px(y), anchor, text)


def px(value: float) -> str:
    """A coordinate."""
    return f"{value:.1f}"


def around(x: float, y: float, radius: float) -> Box:
    """The square around a point."""
    return Box(left=x - radius, top=y - radius, right=x + radius, bottom=y + radius)


# --- private -----------------------------------------------------------------------------------------------------------


def _distance(box: Box, at: tuple[float, float]) -> float:
    near_x, near_y = _nearest_in(box, at)
    return math.hypot(near_x - at[0], near_y - at[1])


def _nearest_in(box: Box, at: tuple[float, float]) -> tuple[float, float]:
    """Where a leader from `at` meets the label."""
    return min(max(at[0], box.left), box.right), min(max(at[1], box.top + 3), box.bottom - 3)


def _near_leader(rival: tuple[float, float], at: tuple[float, float], box: Box) -> bool:
    """Whether the line from a point to its label passes within 7 pixels of another point."""
    end = _nearest_in(box, at)
    dx, dy = end[0] - at[0], end[1] - at[1]
    length = dx * dx + dy * dy
    along = (rival[0] - at[0]) * dx + (rival[1] - at[1]) * dy
    if along <= 0:
        return False
    share = min(1.0, along / length)
    # A rival that coincides with the point itself is near every leader and tells nothing.
    coincides = math.hypot(at[0] - rival[0], at[1] - rival[1]) < 2.0
    return not coincides and math.hypot(at[0] + share * dx - rival[0], at[1] + share * dy - rival[1]) < 7.0
