"""The plot: cost per successful task against success rate, with intervals both ways, as SVG text.

What it is drawn with is in `drawing`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from steelyard.measure.scorecard import Scorecard
from steelyard.report.drawing import (
    Axis,
    Box,
    around,
    label_text,
    place_label,
    px,
    svg_label,
    svg_line,
    svg_text,
    tick_money,
    tick_values,
)
from steelyard.report.format import interval, money, percent
from steelyard.report.text import one_line

LOG_ABOVE = 10.0
"""The cost axis is logarithmic when the dearest point costs more than this many times the cheapest."""


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


def plottable(scorecards: Sequence[Scorecard]) -> tuple[list[PlotPoint], list[str]]:
    """The approaches that have both figures, and a sentence for each reason why others have not."""
    points: list[PlotPoint] = []
    absent: dict[str, list[str]] = {}
    for card in scorecards:
        cost, success = card.cost_per_success_usd, card.success
        if cost.value is None or success.value is None or not math.isfinite(cost.value):
            reason = cost.unknown_because or success.unknown_because or "its cost is not finite"
            absent.setdefault(reason, []).append(card.name)
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
    return points, [f"not drawn: {', '.join(names)} ({reason})" for reason, names in absent.items()]


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
    taken = [around(x.pixel(point.cost), y.pixel(point.success), 7.0) for point in drawn]
    if min_success is not None:
        taken.append(_goal_label_box(y.pixel(min_success), right))
    whiskers = [box for point in drawn for box in _whisker_boxes(point, x, y)]
    if min_success is not None:
        goal = y.pixel(min_success)
        whiskers.append(Box(left=left, top=goal - 1, right=right, bottom=goal + 1))
    inside = Box(left=left + 2, top=top, right=right, bottom=bottom - 2)
    labels: list[Box] = []
    for point in drawn:
        text = label_text(point.name)
        at = (x.pixel(point.cost), y.pixel(point.success))
        rivals = [(x.pixel(other.cost), y.pixel(other.success)) for other in drawn if other is not point]
        box = place_label(text, at, inside=inside, taken=taken + labels, thin=whiskers, rivals=rivals)
        labels.append(box)
        parts.append(svg_label(text, box, at, is_choice=point.name == choice))
    parts.append(Markup("</svg>"))
    return Markup("\n").join(parts)


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _cost_axis(points: Sequence[PlotPoint], start: float, end: float) -> Axis:
    costs = [point.cost for point in points]
    cheapest, dearest = min(costs), max(costs)
    if cheapest > 0 and dearest / cheapest > LOG_ABOVE:
        # An interval may reach to infinity when success is near zero; its whisker is cut at the edge instead.
        low = max(min(min(point.cost_low for point in points), cheapest), cheapest / 3)
        high = min(max(point.cost_high for point in points), dearest * 4)
        return Axis(low=low / 1.15, high=max(high, dearest) * 1.25, start=start, end=end, is_log=True)
    spread = max(dearest - cheapest, dearest * 0.1, 1e-9)
    low = max(min(point.cost_low for point in points), cheapest - 2 * spread)
    high = min(max(point.cost_high for point in points), dearest + 2 * spread)
    margin = max(high - low, spread) * 0.1
    return Axis(
        low=max(0.0, low - margin) if low >= 0 else low - margin, high=high + margin, start=start, end=end, is_log=False
    )


def _success_axis(points: Sequence[PlotPoint], min_success: float | None, start: float, end: float) -> Axis:
    goal = [] if min_success is None else [min_success]
    low = min([point.success_low for point in points] + goal)
    high = max([point.success_high for point in points] + goal)
    low, high = math.floor(low * 10 - 1e-9) / 10, math.ceil(high * 10 + 1e-9) / 10
    return Axis(low=max(0.0, low), high=min(1.0, high), start=start, end=end, is_log=False)


def _grid(x: Axis, y: Axis, *, left: float, right: float, top: float, bottom: float) -> list[Markup]:
    parts = []
    for tick in tick_values(y, 6):
        at = y.pixel(tick)
        parts.append(svg_line("grid", left, at, right, at))
        parts.append(svg_text("tick", left - 8, at + 4, f"{100 * tick:.0f}%", anchor="end"))
    ticks = tick_values(x, max(3, int((right - left) // 90)))
    for tick in ticks:
        at = x.pixel(tick)
        parts.append(svg_line("grid", at, top, at, bottom))
        label = tick_money(tick, step=tick if x.is_log or len(ticks) < 2 else ticks[1] - ticks[0])
        parts.append(svg_text("tick", at, bottom + 18, label, anchor="middle"))
    scale = " (log scale)" if x.is_log else ""
    parts.append(
        svg_text("axis", (left + right) / 2, bottom + 40, f"Cost per successful task{scale} →", anchor="middle")
    )
    parts.append(svg_text("axis", 4, 15, "↑ Success rate", anchor="start"))
    return parts


def _goal_line(at: float, goal: float, left: float, right: float) -> Markup:
    return svg_line("goal", left, at, right, at) + svg_text(
        "goal-label", right - 4, at - 5, _goal_text(goal), anchor="end"
    )


def _goal_text(goal: float) -> str:
    return f"goal {percent(goal)}"


def _goal_label_box(at: float, right: float) -> Box:
    return Box(left=right - 90, top=at - 19, right=right, bottom=at + 1)


def _whisker_boxes(point: PlotPoint, x: Axis, y: Axis) -> list[Box]:
    at_x, at_y = x.pixel(point.cost), y.pixel(point.success)
    return [
        Box(left=x.pixel(point.cost_low), top=at_y - 2, right=x.pixel(point.cost_high), bottom=at_y + 2),
        Box(left=at_x - 2, top=y.pixel(point.success_high), right=at_x + 2, bottom=y.pixel(point.success_low)),
    ]


def _whiskers(point: PlotPoint, x: Axis, y: Axis) -> Markup:
    """Both intervals; an end beyond the axes is drawn to the edge, without a cap."""
    at_x, at_y = x.pixel(point.cost), y.pixel(point.success)
    lines = []
    if point.cost_high > point.cost_low:
        lines.append(svg_line("whisker", x.pixel(point.cost_low), at_y, x.pixel(point.cost_high), at_y))
        for end in (point.cost_low, point.cost_high):
            if x.low < end < x.high:
                lines.append(svg_line("whisker", x.pixel(end), at_y - 4, x.pixel(end), at_y + 4))
    if point.success_high > point.success_low:
        lines.append(svg_line("whisker", at_x, y.pixel(point.success_low), at_x, y.pixel(point.success_high)))
        for end in (point.success_low, point.success_high):
            lines.append(svg_line("whisker", at_x - 4, y.pixel(end), at_x + 4, y.pixel(end)))
    return Markup("").join(lines)


def _dot(point: PlotPoint, x: Axis, y: Axis, *, is_choice: bool) -> Markup:
    return Markup('<circle class="{}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>').format(
        "dot choice" if is_choice else "dot",
        px(x.pixel(point.cost)),
        px(y.pixel(point.success)),
        "6.5" if is_choice else "5",
        _sentence(point),
    )


def _sentence(point: PlotPoint) -> str:
    return (
        f"{one_line(point.name)}: success {percent(point.success)} "
        f"({interval(point.success_low, point.success_high, 'percent')}), "
        f"{money(point.cost)} ({interval(point.cost_low, point.cost_high, 'usd')}) per successful task"
    )


def _description(points: Sequence[PlotPoint], min_success: float | None) -> str:
    goal = "" if min_success is None else f" The goal is a success rate of {percent(min_success)}."
    return "; ".join(_sentence(point) for point in points) + "." + goal
