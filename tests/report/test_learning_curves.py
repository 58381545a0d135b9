"""Learning curves in a report."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from steelyard.errors import InputError
from steelyard.figures import Figure
from steelyard.report.learning_curves import CurveRow, CurveShown, Law, by_approach, curves_svg
from steelyard.study.curve_file import curve_file, read_curves

LAW = Law(a=0.95, b=0.1, c=0.5, unit=800.0)


def shown(*, approach: str = "head", tuner: str = "head", is_own: bool = True, law: Law | None = LAW) -> CurveShown:
    sizes = (100, 200, 400, 800, 1600)
    rows = [
        CurveRow(
            n_labels=n,
            success=Figure(value=LAW.success(n), low=LAW.success(n) - 0.02, high=LAW.success(n) + 0.02),
            is_forecast=n > 800,
        )
        for n in sizes
        if law is not None or n <= 800
    ]
    return CurveShown(
        approach=approach, tuner=tuner, is_own=is_own, n_dev=300, rows=tuple(rows), law=law, sentences=("it rises",)
    )


def draw(*curves: CurveShown) -> ET.Element:
    return ET.fromstring(str(curves_svg(curves, width=820, height=380, id_prefix="x")))


def test_every_point_is_drawn_and_more_success_is_higher_up() -> None:
    dots = [one for one in draw(shown()).iter() if one.tag.endswith("circle")]
    assert len(dots) == 5
    assert [one.get("class") for one in dots] == ["dot choice"] * 4 + ["dot"]
    heights = [float(one.get("cy") or 0) for one in dots]
    assert heights == sorted(heights, reverse=True)
    across = [float(one.get("cx") or 0) for one in dots]
    gaps = [b - a for a, b in pairwise(across)]
    assert max(gaps) - min(gaps) < 0.2  # each size is twice the one before


def test_the_line_goes_through_the_law_and_is_left_out_where_nothing_was_fitted() -> None:
    assert len([one for one in draw(shown()).iter() if one.tag.endswith("polyline")]) == 1
    assert not [one for one in draw(shown(law=None)).iter() if one.tag.endswith("polyline")]


def test_two_tuners_of_an_approach_are_drawn_together_and_named() -> None:
    head, lora = shown(is_own=False), shown(tuner="lora")
    assert by_approach([head, lora]) == {"head": [head, lora]}
    texts = [one.text for one in draw(head, lora).iter() if one.tag.endswith("text")]
    assert {"head", "LoRA"} <= set(texts)


def test_a_hostile_name_stays_text() -> None:
    svg = str(curves_svg([shown(approach="<script>x</script>")], width=358, height=300, id_prefix="x"))
    assert "<script" not in svg
    assert not re.search(r"https?://(?!www\.w3\.org)", svg)


def kept(folder: Path, **changed: Any) -> None:  # noqa: ANN401 - any JSON
    point = {"n_labels": 100, "success": {"value": 0.8, "low": 0.7, "high": 0.9}}
    curve = {
        "tuner": "head",
        "is_own": True,
        "n_dev": 50,
        "points": [point],
        "forecasts": [{"n_labels": 200, "success": {"value": None}}],
        "law": None,
        "sentences": ["no forecast"],
    }
    path = folder / curve_file("head")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"fingerprint": "f", "curves": [curve], **changed}))


def test_a_curve_that_is_kept_is_read_back(tmp_path: Path) -> None:
    """Forecasts that were not made are no rows; a curve of an approach as it was before is not shown."""
    kept(tmp_path)
    (found,) = read_curves(tmp_path, {"head": "f", "other": "g"})
    assert [row.n_labels for row in found.rows] == [100]
    assert found.sentences == ("no forecast",)
    assert read_curves(tmp_path, {"head": "changed"}) == ()


def test_a_damaged_curve_says_what_to_do(tmp_path: Path) -> None:
    kept(tmp_path, curves=[{}])
    with pytest.raises(InputError, match="cannot be read") as error:
        read_curves(tmp_path, {"head": "f"})
    assert "delete it" in str(error.value.problems[0].hint)
