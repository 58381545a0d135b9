"""The plot of cost per success against volume, and the table of break-even and payback beside it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.economics.ledger import BreakEven, Economics, Payback, VolumeSweep
from steelyard.report.html import render_html
from steelyard.report.markdown import render_markdown
from steelyard.report.pairs import pair_rows
from steelyard.report.sweep_plot import spread, sweep_rows, sweep_svg
from tests.report.sample import sample_content

SPACE = "{http://www.w3.org/2000/svg}"


def _sweep() -> VolumeSweep:
    found = sample_content().verdict.economics.sweep
    assert found is not None
    return found


def _draw(sweep: VolumeSweep, *, choice: str = "tuned-head", width: int = 820) -> ElementTree.Element:
    economics = sample_content().verdict.economics
    return ElementTree.fromstring(
        sweep_svg(sweep, choice=choice, break_evens=economics.break_evens, width=width, height=420, id_prefix="s")
    )


@pytest.mark.parametrize("width", [358, 820])
def test_every_approach_has_a_line_and_a_name(width: int) -> None:
    """Lines, names, the present volume, the break-even of the choice, and a description for who cannot see it."""
    svg = _draw(_sweep(), width=width)
    curves = svg.findall(f"{SPACE}polyline")
    assert len(curves) == 7
    assert [curve.get("class") for curve in curves].count("curve choice") == 1
    labels = [part.text for part in svg.findall(f"{SPACE}text") if "label" in part.get("class", "").split()]
    assert sorted(filter(None, labels)) == sorted(_sweep().cost_per_success)
    assert len([line for line in svg.findall(f"{SPACE}line") if line.get("class") == "present"]) == 1
    assert len(svg.findall(f"{SPACE}circle")) == 1
    description = svg.findtext(f"{SPACE}desc") or ""
    assert all(name in description for name in _sweep().cost_per_success)
    assert "now 8,000" in description


def test_the_ring_lies_on_the_line_of_the_choice() -> None:
    """The break-even is where both lines meet, not somewhere near."""
    svg = _draw(_sweep())
    ring = svg.find(f"{SPACE}circle")
    assert ring is not None
    x, y = float(ring.get("cx", "")), float(ring.get("cy", ""))
    for name in ("tuned-head", "nearest"):
        curve = next(part for part in svg.findall(f"{SPACE}polyline") if part.findtext(f"{SPACE}title") == name)
        points = [tuple(map(float, pair.split(","))) for pair in curve.get("points", "").split()]
        before, after = next((a, b) for a, b in pairwise(points) if a[0] <= x <= b[0])
        share = (x - before[0]) / (after[0] - before[0])
        assert before[1] + share * (after[1] - before[1]) == pytest.approx(y, abs=1.0)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(1e-6, 1e4), st.floats(0, 1e4)), min_size=1, max_size=10),
    st.floats(1, 1e7),
    st.sampled_from([358, 820]),
)
def test_everything_lies_inside_whatever_the_figures(
    data: list[tuple[float, float]], present: float, width: int
) -> None:
    """No coordinate is missing, infinite or outside the drawing."""
    volumes = tuple(present * 10 ** (step / 4) for step in range(-8, 9))
    costs = {f"approach-{i}": tuple(slope + fixed / v for v in volumes) for i, (slope, fixed) in enumerate(data)}
    svg = _draw(VolumeSweep(volumes=volumes, cost_per_success=costs, present=present), width=width)
    for part in svg.iter():
        for name in ("x1", "x2", "x", "cx"):
            assert 0 <= float(part.get(name, "0")) <= width
        for name in ("y1", "y2", "y", "cy"):
            assert 0 <= float(part.get(name, "0")) <= 420
        for pair in part.get("points", "").split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= 420


@given(
    st.dictionaries(st.text(alphabet="abcdefgh", min_size=1, max_size=3), st.floats(0, 400), min_size=1, max_size=14)
)
def test_names_at_the_lines_keep_their_distance_and_order(at: dict[str, float]) -> None:
    """However close lines end, their names can be told apart and stay in the order of the lines."""
    placed = spread(at, gap=15, low=30, high=370)
    assert placed.keys() == at.keys()
    in_order = sorted(at, key=lambda name: (at[name], name))
    places = [placed[name] for name in in_order]
    assert all(30 - 1e-6 <= place <= 370 + 1e-6 for place in places)
    assert all(b - a >= 15 - 1e-6 for a, b in pairwise(places))


def test_approaches_without_a_finite_cost_are_not_drawn() -> None:
    """A line that does not exist is left out; with none left there is no empty frame."""
    sweep = _sweep()
    broken = dict(sweep.cost_per_success) | {"nearest": tuple(float("inf") for _ in sweep.volumes)}
    assert len(_draw(replace(sweep, cost_per_success=broken)).findall(f"{SPACE}polyline")) == 6
    none = replace(sweep, cost_per_success={})
    assert sweep_svg(none, choice=None, break_evens=(), width=820, height=400, id_prefix="s") == ""


def test_the_table_beneath_has_the_ends_and_the_present() -> None:
    """Who cannot see the plot reads the same figures."""
    rows = sweep_rows(_sweep())
    assert rows[0][0] == _sweep().volumes[0]
    assert rows[-1][0] == _sweep().volumes[-1]
    assert rows[2][0] == pytest.approx(_sweep().present)
    assert rows[2][1]["nearest"] == pytest.approx(
        sample_content().verdict.economics.ledger_of("nearest").cost_per_success_usd.value
    )


def _crossing(kind: str, **fields: object) -> BreakEven:
    given = {"volume": None, "low": None, "high": None, "as_of": "2026-11-23", "sentence": "s"} | fields
    return BreakEven(a="a", b="b", kind=kind, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("item", "words", "reach"),
    [
        (
            _crossing("from", volume=2400, low=0, high=None),
            "a from about 2,400 tasks a month",
            "the first task to never",
        ),
        (
            _crossing("up_to", volume=90, low=0, high=None),
            "a up to about 90 tasks a month",
            "no volume to every volume",
        ),
        (_crossing("always"), "a at every volume", ""),
        (_crossing("never"), "b at every volume", ""),
        (_crossing("unknown"), "unknown", ""),
    ],
)
def test_break_evens_are_worded_with_never_and_always(item: BreakEven, words: str, reach: str) -> None:
    """Each kind reads as what it means, whichever approach it is about."""
    ledgers = tuple(
        replace(sample_content().verdict.economics.ledgers[i], approach=name) for i, name in enumerate("ab")
    )
    (row,), others = pair_rows(Economics(ledgers=ledgers, break_evens=(item,), hinges=()), "a")
    assert (row.break_even, row.break_even_range, row.payback, others) == (words, reach, "–", [])


def test_a_payback_joins_its_pair_whichever_is_named_first() -> None:
    """Break-even and payback of two approaches stand in one row."""
    payback = Payback(a="b", b="a", kind="months", months=7.4, low=0, high=None, as_of="2026-11-23", sentence="s")
    found = Economics(ledgers=(), break_evens=(_crossing("never"),), hinges=(), paybacks=(payback,))
    rows, _ = pair_rows(found, "b")
    assert [(row.a, row.b, row.break_even, row.payback, row.payback_range) for row in rows] == [
        ("a", "b", "neither: both cost the same", "b after about 7.4 months", "at once to never")
    ]
    assert pair_rows(replace(found, paybacks=(replace(payback, kind="never", months=None),)), None)[1][0].payback == (
        "b never"
    )


def test_html_and_markdown_show_the_same_pairs_and_shares() -> None:
    """Break-even, payback, sensitivity, factors and segments are in both."""
    content = sample_content()
    page, text = render_html(content), render_markdown(content)
    for part in (
        "tuned-head after about 7.4 months", "cost of a failed task in USD", "62.0%", "16 hours of building",
        "3 segments were looked at", "stop, it does not matter", "extract", "6.7 points",
    ):  # fmt: skip
        assert part in page, part
        assert part in text, part
