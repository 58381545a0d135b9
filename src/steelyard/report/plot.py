"""The plot: cost per successful task against success rate, with intervals both ways, as SVG text.

Pure geometry: no plotting library, no randomness, coordinates rounded to a tenth, so that the same content gives the
same bytes. Colours are classes; the page's style sheet gives them for light, dark and print.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from steelyard.measure.scorecard import Scorecard
from steelyard.report.format import interval, money, percent
from steelyard.report.text import one_line

LOG_ABOVE = 10.0
"""The cost axis is logarithmic when the dearest point costs more than this many times the cheapest."""
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
class PlotPoint:
    """One approach in data units."""

    name: str
    cost: float
    cost_low: float
    cost_high: float
    success: float
    success_low: float
    success_high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Axis:
    """Maps data to pixels along one direction."""

    low: float
    high: float
    start: float
    """Pixel of `low`."""
    end: float
    """Pixel of `high`."""
    is_log: bool

    def pixel(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        if self.is_log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def plottable(scorecards: Sequence[Scorecard]) -> tuple[list[PlotPoint], list[str]]:
    """The approaches that have both figures, and a sentence for each one that has not."""
    points, left_out = [], []
    for card in scorecards:
        cost, success = card.cost_per_success_usd, card.success
        if cost.value is None or success.value is None or not math.isfinite(cost.value):
            reason = cost.unknown_because or success.unknown_because or "its cost is not finite"
            left_out.append(f"{card.name} is not drawn: {reason}")
            continue
        points.append(
            PlotPoint(
                name=card.name,
                cost=cost.value,
                cost_low=_or(cost.low, cost.value),
                cost_high=_or(cost.high, cost.value),
                success=success.value,
                success_low=_or(success.low, success.value),
                success_high=_or(success.high, success.value),
            )
        )
    return points, left_out


def plot_svg(
    points: Sequence[PlotPoint],
    *,
    choice: str | None,
    min_success: float | None,
    width: int,
    height: int,
    id_prefix: str,
) -> Markup:
    """Draw the plot.

    Args:
        points: What to draw; nothing is drawn for none.
        choice: The approach to emphasise.
        min_success: Goal to draw as a dashed line, as a rate.
        width: Pixels of the drawing; it shrinks with the page but never grows.
        height: Pixels.
        id_prefix: Makes the ids of title and description unique in the page.

    Returns:
        An `svg` element without any reference to the outside, every text escaped.
    """
    if not points:
        return Markup("")
    left, right, top, bottom = 58.0, width - 16.0, 30.0, height - 50.0
    x = _cost_axis(points, left, right)
    y = _success_axis(points, min_success, bottom, top)
    parts = [
        Markup(
            '<svg class="plot" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" '
            'aria-labelledby="{i}-title {i}-desc" xmlns="http://www.w3.org/2000/svg">'
            '<title id="{i}-title">Success rate against cost per successful task</title>'
            '<desc id="{i}-desc">{desc}</desc>'
        ).format(w=width, h=height, i=id_prefix, desc=_description(points, min_success))
    ]
    parts += _grid(x, y, left=left, right=right, top=top, bottom=bottom)
    if min_success is not None:
        parts.append(_goal_line(y.pixel(min_success), min_success, left, right))
    # The choice first: the first label finds the best place.
    drawn = sorted(points, key=lambda point: (point.name != choice, point.cost, -point.success, point.name))
    parts += [_whiskers(point, x, y) for point in drawn]
    parts += [_dot(point, x, y, is_choice=point.name == choice) for point in reversed(drawn)]
    taken = [_around(x.pixel(point.cost), y.pixel(point.success), 7.0) for point in drawn]
    if min_success is not None:
        taken.append(_goal_label_box(y.pixel(min_success), right))
    whiskers = [box for point in drawn for box in _whisker_boxes(point, x, y)]
    if min_success is not None:
        goal = y.pixel(min_success)
        whiskers.append(Box(left=left, top=goal - 1, right=right, bottom=goal + 1))
    inside = Box(left=left + 2, top=top, right=right, bottom=bottom - 2)
    labels: list[Box] = []
    for point in drawn:
        text = _label_text(point.name)
        at = (x.pixel(point.cost), y.pixel(point.success))
        rivals = [(x.pixel(other.cost), y.pixel(other.success)) for other in drawn if other is not point]
        box = place_label(text, at, inside=inside, taken=taken + labels, thin=whiskers, rivals=rivals)
        labels.append(box)
        parts.append(_label(text, box, at, is_choice=point.name == choice))
    parts.append(Markup("</svg>"))
    return Markup("\n").join(parts)


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


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _cost_axis(points: Sequence[PlotPoint], start: float, end: float) -> _Axis:
    costs = [point.cost for point in points]
    cheapest, dearest = min(costs), max(costs)
    if cheapest > 0 and dearest / cheapest > LOG_ABOVE:
        # An interval may reach to infinity when success is near zero; its whisker is cut at the edge instead.
        low = max(min(min(point.cost_low for point in points), cheapest), cheapest / 3)
        high = min(max(point.cost_high for point in points), dearest * 4)
        return _Axis(low=low / 1.15, high=max(high, dearest) * 1.25, start=start, end=end, is_log=True)
    spread = max(dearest - cheapest, dearest * 0.1, 1e-9)
    low = max(min(point.cost_low for point in points), cheapest - 2 * spread)
    high = min(max(point.cost_high for point in points), dearest + 2 * spread)
    margin = max(high - low, spread) * 0.1
    return _Axis(
        low=max(0.0, low - margin) if low >= 0 else low - margin, high=high + margin, start=start, end=end, is_log=False
    )


def _success_axis(points: Sequence[PlotPoint], min_success: float | None, start: float, end: float) -> _Axis:
    goal = [] if min_success is None else [min_success]
    low = min([point.success_low for point in points] + goal)
    high = max([point.success_high for point in points] + goal)
    low, high = math.floor(low * 10 - 1e-9) / 10, math.ceil(high * 10 + 1e-9) / 10
    return _Axis(low=max(0.0, low), high=min(1.0, high), start=start, end=end, is_log=False)


def _ticks(axis: _Axis, about: int) -> list[float]:
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


def _grid(x: _Axis, y: _Axis, *, left: float, right: float, top: float, bottom: float) -> list[Markup]:
    parts = []
    for tick in _ticks(y, 6):
        at = y.pixel(tick)
        parts.append(_line("grid", left, at, right, at))
        parts.append(_text("tick", left - 8, at + 4, f"{100 * tick:.0f}%", anchor="end"))
    ticks = _ticks(x, max(3, int((right - left) // 90)))
    for tick in ticks:
        at = x.pixel(tick)
        parts.append(_line("grid", at, top, at, bottom))
        label = _tick_money(tick, step=tick if x.is_log or len(ticks) < 2 else ticks[1] - ticks[0])
        parts.append(_text("tick", at, bottom + 18, label, anchor="middle"))
    scale = " (log scale)" if x.is_log else ""
    parts.append(_text("axis", (left + right) / 2, bottom + 40, f"Cost per successful task{scale} →", anchor="middle"))
    parts.append(_text("axis", 4, 15, "↑ Success rate", anchor="start"))
    return parts


def _tick_money(usd: float, *, step: float) -> str:
    """A tick of the cost axis, with the decimals its step needs; cents are always two digits."""
    decimals = max(0, math.ceil(-math.log10(abs(step)) - 1e-9)) if step else 0
    decimals = 2 if decimals == 1 else decimals
    return f"{'−' if usd < 0 else ''}${abs(usd):,.{decimals}f}"


def _goal_line(at: float, goal: float, left: float, right: float) -> Markup:
    return _line("goal", left, at, right, at) + _text("goal-label", right - 4, at - 5, _goal_text(goal), anchor="end")


def _goal_text(goal: float) -> str:
    return f"goal {percent(goal)}"


def _goal_label_box(at: float, right: float) -> Box:
    return Box(left=right - 90, top=at - 19, right=right, bottom=at + 1)


def _whisker_boxes(point: PlotPoint, x: _Axis, y: _Axis) -> list[Box]:
    at_x, at_y = x.pixel(point.cost), y.pixel(point.success)
    return [
        Box(left=x.pixel(point.cost_low), top=at_y - 2, right=x.pixel(point.cost_high), bottom=at_y + 2),
        Box(left=at_x - 2, top=y.pixel(point.success_high), right=at_x + 2, bottom=y.pixel(point.success_low)),
    ]


def _whiskers(point: PlotPoint, x: _Axis, y: _Axis) -> Markup:
    """Both intervals; an end beyond the axes is drawn to the edge, without a cap."""
    at_x, at_y = x.pixel(point.cost), y.pixel(point.success)
    lines = []
    if point.cost_high > point.cost_low:
        lines.append(_line("whisker", x.pixel(point.cost_low), at_y, x.pixel(point.cost_high), at_y))
        for end in (point.cost_low, point.cost_high):
            if x.low < end < x.high:
                lines.append(_line("whisker", x.pixel(end), at_y - 4, x.pixel(end), at_y + 4))
    if point.success_high > point.success_low:
        lines.append(_line("whisker", at_x, y.pixel(point.success_low), at_x, y.pixel(point.success_high)))
        for end in (point.success_low, point.success_high):
            lines.append(_line("whisker", at_x - 4, y.pixel(end), at_x + 4, y.pixel(end)))
    return Markup("").join(lines)


def _dot(point: PlotPoint, x: _Axis, y: _Axis, *, is_choice: bool) -> Markup:
    return Markup('<circle class="{}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>').format(
        "dot choice" if is_choice else "dot",
        _px(x.pixel(point.cost)),
        _px(y.pixel(point.success)),
        "6.5" if is_choice else "5",
        _sentence(point),
    )


def _label(text: str, box: Box, at: tuple[float, float], *, is_choice: bool) -> Markup:
    middle = (box.left + box.right) / 2
    far = _distance(box, at) > 16
    leader = _line("leader", *at, *_nearest_in(box, at)) if far else Markup("")
    # The text is anchored on the side of its point: the box is wider than most fonts need.
    if at[0] < box.left:
        anchor, x = "start", box.left
    elif at[0] > box.right:
        anchor, x = "end", box.right
    else:
        anchor, x = "middle", middle
    return leader + _text("label choice" if is_choice else "label", x, box.bottom - 4, text, anchor=anchor)


def _label_text(name: str) -> str:
    name = one_line(name)
    return name if len(name) <= _LONGEST_LABEL else f"{name[: _LONGEST_LABEL - 1]}…"


def _around(x: float, y: float, radius: float) -> Box:
    return Box(left=x - radius, top=y - radius, right=x + radius, bottom=y + radius)


def _sentence(point: PlotPoint) -> str:
    return (
        f"{one_line(point.name)}: success {percent(point.success)} "
        f"({interval(point.success_low, point.success_high, 'percent')}), "
        f"{money(point.cost)} ({interval(point.cost_low, point.cost_high, 'usd')}) per successful task"
    )


def _description(points: Sequence[PlotPoint], min_success: float | None) -> str:
    goal = "" if min_success is None else f" The goal is a success rate of {percent(min_success)}."
    return "; ".join(_sentence(point) for point in points) + "." + goal


def _line(name: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(name, _px(x1), _px(y1), _px(x2), _px(y2))


def _text(name: str, x: float, y: float, text: str, *, anchor: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        name, _px(x), _px(y), anchor, text
    )


def _px(value: float) -> str:
    return f"{value:.1f}"
