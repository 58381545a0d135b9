"""The plot's geometry."""

from __future__ import annotations

import re
from itertools import combinations
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.report.drawing import Box, place_label
from steelyard.report.plot import PlotPoint, plot_svg, plottable
from tests.report.sample import sample_content


def _point(name: str, cost: float, success: float) -> PlotPoint:
    return PlotPoint(
        name=name, cost=cost, cost_low=cost * 0.8, cost_high=cost * 1.3, success=success,
        success_low=max(0.0, success - 0.05), success_high=min(1.0, success + 0.04),
    )  # fmt: skip


def _draw(points: list[PlotPoint], *, goal: float | None = None, width: int = 820) -> ElementTree.Element:
    return ElementTree.fromstring(
        plot_svg(points, choice=points[0].name, min_success=goal, width=width, height=420, id_prefix="p")
    )


def test_the_sample_is_drawn_whole() -> None:
    """Seven dots, seven labels, a goal, a title and a description for who cannot see it."""
    points, left_out = plottable(sample_content().scorecards)
    for width in (820, 358):
        svg = _draw(points, goal=0.85, width=width)
        space = "{http://www.w3.org/2000/svg}"
        assert len(svg.findall(f"{space}circle")) == 7
        labels = [part.text for part in svg.findall(f"{space}text") if "label" in part.get("class", "").split()]
        assert sorted(filter(None, labels)) == sorted(point.name for point in points)
        assert len([part for part in svg.findall(f"{space}line") if part.get("class") == "goal"]) == 1
        description = svg.findtext(f"{space}desc") or ""
        assert all(point.name in description for point in points)
    assert left_out == []


def test_cost_axis_is_logarithmic_only_beyond_ten_times() -> None:
    """A small range is not blown up, a large one not crushed."""
    near = ElementTree.tostring(_draw([_point("a", 1, 0.5), _point("b", 9, 0.8)]), encoding="unicode")
    far = ElementTree.tostring(_draw([_point("a", 1, 0.5), _point("b", 11, 0.8)]), encoding="unicode")
    assert "log scale" not in near
    assert "log scale" in far


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(min_value=1e-7, max_value=1e5), st.floats(min_value=0, max_value=1)),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([358, 820]),
)
def test_everything_lies_inside_whatever_the_figures(data: list[tuple[float, float]], width: int) -> None:
    """No coordinate is missing, infinite or outside the drawing."""
    points = [_point(f"approach-{index}", cost, success) for index, (cost, success) in enumerate(data)]
    svg = _draw(points, goal=0.9, width=width)
    for part in svg.iter():
        for name in ("x1", "x2", "cx"):
            assert 0 <= float(part.get(name, "0")) <= width
        for name in ("y1", "y2", "cy"):
            assert 0 <= float(part.get(name, "0")) <= 420


def test_an_endless_interval_is_cut_at_the_edge() -> None:
    """Success near zero makes the upper end of the cost huge; the plot stays readable."""
    endless = PlotPoint(
        name="b", cost=5, cost_low=2, cost_high=float("inf"), success=0.02, success_low=0.0, success_high=0.1
    )
    svg = ElementTree.tostring(_draw([_point("a", 1, 0.9), endless]), encoding="unicode")
    assert "inf" not in re.sub(r"<(ns0:)?(title|desc).*?</", "", svg)


def test_labels_do_not_cover_each_other_in_a_crowd() -> None:
    """Ten approaches in one corner can still be told apart."""
    inside = Box(left=60, top=30, right=800, bottom=380)
    dots = [(120.0 + 7 * (index % 3), 60.0 + 6 * index) for index in range(10)]
    taken = [Box(left=x - 7, top=y - 7, right=x + 7, bottom=y + 7) for x, y in dots]
    labels: list[Box] = []
    for dot in dots:
        rivals = [other for other in dots if other != dot]
        labels.append(place_label("approach-name", dot, inside=inside, taken=taken + labels, rivals=rivals))
    assert sum(a.overlap(b) for a, b in combinations(labels, 2)) == 0
    assert sum(label.overlap(dot) for label in labels for dot in taken) == 0


def test_nothing_to_draw_draws_nothing() -> None:
    """Without a known cost there is no empty frame."""
    assert plot_svg([], choice=None, min_success=0.9, width=820, height=420, id_prefix="p") == ""
