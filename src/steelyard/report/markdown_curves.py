"""The part of the Markdown report on learning curves."""

from __future__ import annotations

from steelyard.report.content import ReportContent
from steelyard.report.format import count
from steelyard.report.learning_curves import LEAD
from steelyard.report.markup import bullets, cell, escape, table


def learning_curve_section(content: ReportContent) -> list[str]:
    """A table and what was concluded, by curve; nothing where none was measured."""
    if not content.curves:
        return []
    lines = ["## Is it worth labelling more?", "", escape(LEAD), ""]
    for curve in content.curves:
        rows = [
            (count(row.n_labels), cell(row.success, "percent"), "forecast" if row.is_forecast else "training")
            for row in curve.rows
        ]
        lines += [f"### {escape(curve.approach)}: {escape(curve.title)}, on {count(curve.n_dev)} dev cases", ""]
        lines += [*table(("Labelled cases", "Success", "Found by"), rows), *bullets(curve.sentences)]
    return lines
