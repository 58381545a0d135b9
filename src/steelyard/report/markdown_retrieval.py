"""The part of the Markdown report on retrieval."""

from __future__ import annotations

from steelyard.report.content import ReportContent
from steelyard.report.markup import bullets, cell, escape, legend, table
from steelyard.report.retrieval_sections import Grid, retrieval_sections


def retrieval_section(content: ReportContent) -> list[str]:
    """All tables on retrieval under their questions; nothing for a study without documents."""
    if content.retrieval is None:
        return []
    lines = ["## Retrieval", ""]
    for section in retrieval_sections(content.retrieval):
        lines += [f"### {escape(section.question)}", ""]
        for grid in section.grids:
            lines += _table(grid)
    return [*lines, *legend(), *bullets(content.retrieval.notes)]


# ---- private --------------------------------------------------------------------------------------------------------


def _table(grid: Grid) -> list[str]:
    rows = [
        (
            escape(line.name),
            *(n.replace("\n", "<br>") for n in line.counts),
            *(cell(figure, unit) for figure, unit in zip(line.figures, grid.units, strict=True)),
        )
        for line in grid.lines
    ]
    return [*table(("Approach", *grid.headings), rows), escape(grid.sentence), ""]
