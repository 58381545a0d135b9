"""Was the source found, was it used, and what becomes of answers when there is none or it changes: for a terminal."""

from __future__ import annotations

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from steelyard.figures import Figure
from steelyard.measure.retrieval_report import RetrievalReport
from steelyard.report.format import Unit, shown
from steelyard.report.retrieval_sections import Grid, retrieval_sections
from steelyard.report.text import one_line


def retrieval_parts(report: RetrievalReport) -> list[RenderableType]:
    """All tables that have something to say, each under its question, and what was left out."""
    parts: list[RenderableType] = []
    for section in retrieval_sections(report):
        parts += [Text(f"\n{section.question}", style="bold"), *map(_table, section.grids)]
    return [*parts, *(Text(f"note: {one_line(note)}", style="dim") for note in report.notes)]


# ---- private --------------------------------------------------------------------------------------------------------


def _table(grid: Grid) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True, header_style="bold", show_edge=False
    )
    table.add_column("approach", overflow="fold", min_width=8)
    for title in grid.titles:
        table.add_column(title, justify="right")
    for line in grid.lines:
        cells = map(_cell, line.figures, grid.units)
        table.add_row(Text(one_line(line.name), style="bold"), *map(Text, line.counts), *cells)
    table.caption = Text(grid.legend, style="dim")
    table.caption_justify = "left"
    return table


def _cell(figure: Figure, unit: Unit) -> Text:
    if figure.value is None:
        return Text("-", style="dim")
    text = shown(figure, unit)
    interval = text.interval.removesuffix(" points")
    return Text(text.text.removesuffix(" points")).append(f"\n{interval}" if interval else "", style="dim")
