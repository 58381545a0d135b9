"""The plot of cost per successful task against monthly volume, both on logarithmic scales, as SVG text.

A line an approach, named at its right end; the present volume and the break-even volumes of the choice are marked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from steelyard.economics.ledger import BreakEven, VolumeSweep
from steelyard.report.drawing import Axis, label_text, px, svg_line, svg_text, tick_money, tick_values
from steelyard.report.format import count, money
from steelyard.report.text import one_line

_LINE_HEIGHT = 15.0
_LABEL_SHARE = 0.24
"""Share of the width kept for the names at the right."""


def sweep_svg(
    sweep: VolumeSweep,
    *,
    choice: str | None,
    break_evens: Sequence[BreakEven],
    width: int,
    height: int,
    id_prefix: str,
) -> Markup:
    """Draw the plot.

    Args:
        sweep: What to draw; nothing is drawn where no approach has a cost above 0.
        choice: The approach to emphasise.
        break_evens: Crossings to mark: those of the choice that lie on its line.
        width: Pixels of the drawing; it shrinks with the page but never grows.
        height: Pixels.
        id_prefix: Makes the ids of title and description unique in the page.
    """
    lines = _drawable(sweep)
    if not lines or len(sweep.volumes) < 2:
        return Markup("")
    room = max(96.0, width * _LABEL_SHARE)
    left, right, top, bottom = 58.0, width - room, 30.0, height - 50.0
    x = Axis(low=sweep.volumes[0], high=sweep.volumes[-1], start=left, end=right, is_log=True)
    costs = [cost for line in lines.values() for cost in line]
    y = Axis(low=min(costs) / 1.3, high=max(costs) * 1.3, start=bottom, end=top, is_log=True)
    parts = [
        Markup(
            '<svg class="plot sweep" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" '
            'aria-labelledby="{i}-title {i}-desc" xmlns="http://www.w3.org/2000/svg">'
            '<title id="{i}-title">Cost per successful task against tasks a month</title>'
            '<desc id="{i}-desc">{desc}</desc>'
        ).format(w=width, h=height, i=id_prefix, desc=_description(sweep, lines))
    ]
    parts += _grid(x, y, left=left, right=right, top=top, bottom=bottom)
    at = x.pixel(sweep.present)
    parts.append(svg_line("present", at, top, at, bottom))
    parts.append(svg_text("present-label", at, top - 5, f"now {count(sweep.present)}", anchor="middle"))
    in_order = sorted(lines, key=lambda name: (name == choice, name))
    parts += [_curve(sweep.volumes, lines[name], x, y, name, is_choice=name == choice) for name in in_order]
    parts += _crossings(sweep, lines, choice, break_evens, x, y)
    ends = {name: y.pixel(lines[name][-1]) for name in in_order}
    for name, middle in spread(ends, gap=_LINE_HEIGHT, low=top, high=bottom).items():
        parts.append(svg_line("leader", right + 2, ends[name], right + 12, middle))
        style = "label choice" if name == choice else "label"
        parts.append(svg_text(style, right + 15, middle + 4, _fitting(name, room - 17), anchor="start"))
    parts.append(Markup("</svg>"))
    return Markup("\n").join(parts)


def spread(at: Mapping[str, float], *, gap: float, low: float, high: float) -> dict[str, float]:
    """Move labels on a line apart, as little as their order allows.

    >>> spread({"a": 10.0, "b": 12.0, "c": 50.0}, gap=10, low=0, high=100)
    {'a': 6.0, 'b': 16.0, 'c': 50.0}

    Args:
        at: Where each wants to be.
        gap: Least distance between two; squeezed where there are too many.
        low: No label lies below this.
        high: No label lies above this.
    """
    names = sorted(at, key=lambda name: (at[name], name))
    gap = min(gap, (high - low) / max(1, len(names) - 1))
    groups: list[tuple[list[str], float]] = []  # names, position of the first
    for name in names:
        members, first = [name], min(max(at[name], low), high)
        while groups and groups[-1][1] + gap * len(groups[-1][0]) > first:
            before, _ = groups.pop()
            members = before + members
            wanted = sum(at[one] - gap * index for index, one in enumerate(members)) / len(members)
            first = max(low, min(wanted, high - gap * (len(members) - 1)))
        groups.append((members, first))
    return {name: first + gap * index for members, first in groups for index, name in enumerate(members)}


def sweep_rows(sweep: VolumeSweep, *, n: int = 5) -> list[tuple[float, dict[str, float]]]:
    """A few volumes with the cost of a success of each approach there, for a table beneath the plot."""
    last = len(sweep.volumes) - 1
    picked = sorted({round(index * last / max(1, n - 1)) for index in range(n)})
    return [
        (sweep.volumes[index], {name: costs[index] for name, costs in sweep.cost_per_success.items()})
        for index in picked
    ]


# --- private ---------------------------------------------------------------------------------------------------------


def _drawable(sweep: VolumeSweep) -> dict[str, tuple[float, ...]]:
    return {
        name: costs
        for name, costs in sweep.cost_per_success.items()
        if costs and all(math.isfinite(cost) and cost > 0 for cost in costs)
    }


def _grid(x: Axis, y: Axis, *, left: float, right: float, top: float, bottom: float) -> list[Markup]:
    parts = []
    for tick in tick_values(y, 6):
        at = y.pixel(tick)
        parts += [svg_line("grid", left, at, right, at)]
        parts += [svg_text("tick", left - 8, at + 4, tick_money(tick, step=tick), anchor="end")]
    for tick in tick_values(x, max(3, int((right - left) // 80))):
        at = x.pixel(tick)
        parts += [svg_line("grid", at, top, at, bottom)]
        parts += [svg_text("tick", at, bottom + 18, count(tick), anchor="middle")]
    parts.append(svg_text("axis", (left + right) / 2, bottom + 40, "Tasks a month (log scale) →", anchor="middle"))
    parts.append(svg_text("axis", 4, 12, "↑ Cost per success", anchor="start"))
    return parts


def _curve(volumes: Sequence[float], costs: Sequence[float], x: Axis, y: Axis, name: str, *, is_choice: bool) -> Markup:
    points = " ".join(f"{px(x.pixel(v))},{px(y.pixel(c))}" for v, c in zip(volumes, costs, strict=True))
    return Markup('<polyline class="{}" points="{}"><title>{}</title></polyline>').format(
        "curve choice" if is_choice else "curve", points, one_line(name)
    )


def _crossings(
    sweep: VolumeSweep,
    lines: Mapping[str, Sequence[float]],
    choice: str | None,
    break_evens: Sequence[BreakEven],
    x: Axis,
    y: Axis,
) -> list[Markup]:
    parts = []
    for item in break_evens:
        if item.volume is None or choice not in (item.a, item.b) or choice not in lines:
            continue
        if {item.a, item.b} <= lines.keys() and x.low <= item.volume <= x.high:
            cost = _at(sweep.volumes, lines[choice], item.volume)
            parts.append(
                Markup('<circle class="crossing" cx="{}" cy="{}" r="4.5"><title>{}</title></circle>').format(
                    px(x.pixel(item.volume)), px(y.pixel(cost)), one_line(item.sentence)
                )
            )
    return parts


def _at(volumes: Sequence[float], costs: Sequence[float], volume: float) -> float:
    """Cost at a volume between two of the sweep, straight on the logarithmic scales."""
    index = next((i for i, one in enumerate(volumes) if one >= volume), len(volumes) - 1)
    before = max(0, index - 1)
    width = math.log(volumes[index] / volumes[before]) if index != before else 1.0
    share = math.log(volume / volumes[before]) / width if index != before else 0.0
    return math.exp((1 - share) * math.log(costs[before]) + share * math.log(costs[index]))


def _fitting(name: str, room: float) -> str:
    text = label_text(name)
    most = max(4, int(room / 6.6))
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _description(sweep: VolumeSweep, lines: Mapping[str, Sequence[float]]) -> str:
    low, high = count(sweep.volumes[0]), count(sweep.volumes[-1])
    each = "; ".join(
        f"{one_line(name)}: {money(costs[0])} at {low}, {money(costs[-1])} at {high}" for name, costs in lines.items()
    )
    return f"From {low} to {high} tasks a month, now {count(sweep.present)}. {each}."
