"""Learning curves in a report: success by number of labels, drawn as SVG, and as a table beneath.

Measured points are filled, with their intervals; the fitted law runs through them as a line, and what it forecasts is
hollow. Labels are on a logarithmic scale, since each step of a curve doubles them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from steelyard.figures import Figure
from steelyard.report.drawing import Axis, px, svg_line, svg_text, tick_values
from steelyard.report.format import count, interval, percent
from steelyard.report.sweep_plot import spread
from steelyard.report.text import one_line

_STEPS: Final = 60
_LABEL_ROOM: Final = 56.0
_LINE_HEIGHT: Final = 15.0
TUNERS: Final = {"head": "head", "lora": "LoRA"}
LEAD: Final = (
    "Trained on an eighth, a quarter, half and all of the labels, judged on dev cases; 90% intervals. Filled: measured."
    " Hollow: forecast by a power law, an empirical one that is good near the sizes tried."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class CurveRow:
    """Success at one number of labels."""

    n_labels: int
    success: Figure
    is_forecast: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Law:
    """The fitted curve: success = a - b · (labels / unit)^-c."""

    a: float
    b: float
    c: float
    unit: float

    def success(self, n: float) -> float:
        """Success at `n` labels, 0..1."""
        return float(min(1.0, max(0.0, self.a - self.b * (n / self.unit) ** -self.c)))


@dataclass(frozen=True, kw_only=True, slots=True)
class CurveShown:
    """The learning curve of one approach by one tuner."""

    approach: str
    tuner: str
    """`head` or `lora`."""
    is_own: bool
    """Whether it is the approach's own tuner; else it only shows the shape."""
    n_dev: int
    rows: tuple[CurveRow, ...]
    """By rising number of labels, forecasts last."""
    law: Law | None
    sentences: tuple[str, ...]
    """What was concluded, in the words of `steelyard tune --curve`."""

    @property
    def title(self) -> str:
        """What tells it from other curves of the approach."""
        return (
            TUNERS.get(self.tuner, self.tuner)
            if self.is_own
            else f"{TUNERS.get(self.tuner, self.tuner)}, for the shape"
        )


def by_approach(curves: Sequence[CurveShown]) -> dict[str, list[CurveShown]]:
    """Curves that are drawn together."""
    found: dict[str, list[CurveShown]] = {}
    for curve in curves:
        found.setdefault(curve.approach, []).append(curve)
    return found


def curves_svg(curves: Sequence[CurveShown], *, width: int, height: int, id_prefix: str) -> Markup:
    """Draw the curves of one approach.

    Args:
        curves: At least one, each with a measured point.
        width: Pixels of the drawing; it shrinks with the page but never grows.
        height: Pixels.
        id_prefix: Makes the ids of title and description unique in the page.
    """
    drawn = [(curve, row) for curve in curves for row in curve.rows if row.success.value is not None]
    left, right, top, bottom = 58.0, width - _LABEL_ROOM, 30.0, height - 50.0
    sizes = [row.n_labels for _, row in drawn]
    x = Axis(low=min(sizes) / 1.2, high=max(sizes) * 1.2, start=left, end=right, is_log=True)
    y = _success_axis([row.success for _, row in drawn], start=bottom, end=top)
    parts = [
        Markup(
            '<svg class="plot" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" '
            'aria-labelledby="{i}-title {i}-desc" xmlns="http://www.w3.org/2000/svg">'
            '<title id="{i}-title">Success rate against labelled cases</title>'
            '<desc id="{i}-desc">{desc}</desc>'
        ).format(w=width, h=height, i=id_prefix, desc=_description(curves))
    ]
    parts += _grid(x, y, left=left, right=right, top=top, bottom=bottom)
    parts += [_line(curve, x, y) for curve in curves if curve.law is not None]
    parts += [_point(curve, row, x, y) for curve, row in drawn]
    ends = {curve.tuner: y.pixel(_last(curve)) for curve in curves}
    for tuner, at in spread(ends, gap=_LINE_HEIGHT, low=top, high=bottom).items():
        own = any(curve.is_own for curve in curves if curve.tuner == tuner)
        name = TUNERS.get(tuner, tuner)
        parts.append(svg_text("label choice" if own else "label", right + 8, at + 4, name, anchor="start"))
    parts.append(Markup("</svg>"))
    return Markup("\n").join(parts)


# --- private ---------------------------------------------------------------------------------------------------------


def _success_axis(figures: Sequence[Figure], *, start: float, end: float) -> Axis:
    ends = [end for one in figures for end in (one.value, one.low, one.high) if end is not None]
    low, high = math.floor(min(ends) * 20 - 1e-9) / 20, math.ceil(max(ends) * 20 + 1e-9) / 20
    return Axis(low=max(0.0, low), high=min(1.0, high), start=start, end=end, is_log=False)


def _grid(x: Axis, y: Axis, *, left: float, right: float, top: float, bottom: float) -> list[Markup]:
    parts = []
    for tick in tick_values(y, 6):
        at = y.pixel(tick)
        parts += [svg_line("grid", left, at, right, at)]
        parts += [svg_text("tick", left - 8, at + 4, f"{100 * tick:.0f}%", anchor="end")]
    for tick in tick_values(x, max(3, int((right - left) // 70))):
        at = x.pixel(tick)
        parts += [svg_line("grid", at, top, at, bottom)]
        parts += [svg_text("tick", at, bottom + 18, count(tick), anchor="middle")]
    parts.append(svg_text("axis", (left + right) / 2, bottom + 40, "Labelled cases (log scale) →", anchor="middle"))
    parts.append(svg_text("axis", 4, 15, "↑ Success rate on dev", anchor="start"))
    return parts


def _line(curve: CurveShown, x: Axis, y: Axis) -> Markup:
    assert curve.law is not None
    first, last = curve.rows[0].n_labels, curve.rows[-1].n_labels
    sizes = [first * (last / first) ** (step / _STEPS) for step in range(_STEPS + 1)]
    points = " ".join(f"{px(x.pixel(n))},{px(y.pixel(curve.law.success(n)))}" for n in sizes)
    style = "curve choice" if curve.is_own else "curve"
    return Markup('<polyline class="{}" points="{}"/>').format(style, points)


def _point(curve: CurveShown, row: CurveRow, x: Axis, y: Axis) -> Markup:
    assert row.success.value is not None
    at_x, at_y = x.pixel(row.n_labels), y.pixel(row.success.value)
    whisker = Markup("")
    if row.success.low is not None and row.success.high is not None:
        low, high = y.pixel(row.success.low), y.pixel(row.success.high)
        whisker = svg_line("present" if row.is_forecast else "whisker", at_x, low, at_x, high)
    style = "dot choice" if curve.is_own and not row.is_forecast else "dot"
    return whisker + Markup('<circle class="{}" cx="{}" cy="{}" r="5"><title>{}</title></circle>').format(
        style, px(at_x), px(at_y), _sentence(curve, row)
    )


def _last(curve: CurveShown) -> float:
    return next(row.success.value for row in reversed(curve.rows) if row.success.value is not None)


def _sentence(curve: CurveShown, row: CurveRow) -> str:
    assert row.success.value is not None
    kind = "forecast" if row.is_forecast else "measured"
    reach = interval(row.success.low, row.success.high, "percent")
    name = TUNERS.get(curve.tuner, curve.tuner)
    return f"{name}, {count(row.n_labels)} labels: {percent(row.success.value)} ({reach}), {kind}"


def _description(curves: Sequence[CurveShown]) -> str:
    said = [_sentence(curve, row) for curve in curves for row in curve.rows if row.success.value is not None]
    return f"{one_line(curves[0].approach)}. {'; '.join(said)}."
