"""Success by segment, and success with a judge, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from steelyard.figures import Figure
from steelyard.measure.scorecard import Scorecard
from steelyard.measure.segments import SegmentDifference, SegmentTables
from steelyard.report.format import Unit, p_value, shown
from steelyard.report.text import one_line


def segment_parts(tables: SegmentTables | None) -> list[RenderableType]:
    """Rates by segment, differences by segment, and what to make of them."""
    if tables is None:
        return [Text("\nThe cases do not fall into segments: there is no column 'segment', or a single value in it.")]
    parts: list[RenderableType] = [Text("\nSuccess by segment:"), rate_table(tables)]
    if tables.differences:
        a, b = tables.differences[0].a, tables.differences[0].b
        title = f"\n{one_line(a)} against {one_line(b)}, the two most successful, on the same cases of each segment:"
        parts += [Text(title), difference_table(tables)]
    return [*parts, Text(f"\n{one_line(tables.warning)}")]


def rate_table(tables: SegmentTables) -> Table:
    """Segment, approach, n, raw rate with interval, shrunken rate with interval."""
    table = _table("segment", "approach")
    for title in ("n", "success", "95% interval", "shrunken", "95% interval"):
        table.add_column(title, justify="right")
    by_place = {(row.segment, row.approach): row for row in tables.rows}
    approaches = tuple(dict.fromkeys(row.approach for row in tables.rows))
    for segment in tables.segments:
        for i, approach in enumerate(approaches):
            row = by_place[segment, approach]
            n = f"{row.n:,}" + (f" ({row.n_unscored:,} unscored)" if row.n_unscored else "")
            table.add_row(
                Text(one_line(segment) if i == 0 else "", style="bold"),
                Text(one_line(approach)),
                Text(n),
                *_figure(row.success, "percent"),
                *_figure(row.shrunken, "percent"),
            )
    table.caption = Text(
        "shrunken: drawn towards the approach's own level, the more so the fewer cases; no interval: too few cases",
        style="dim",
    )
    table.caption_justify = "left"
    return table


def difference_table(tables: SegmentTables) -> Table:
    """Segment, n, paired difference with interval, adjusted p, and what may be said."""
    table = _table("segment")
    for title in ("n", "difference", "95% interval", "p (Holm)"):
        table.add_column(title, justify="right")
    table.add_column("evidence", overflow="fold")
    for one in tables.differences:
        table.add_row(
            Text(one_line(one.segment), style="bold"),
            Text(f"{one.n:,}"),
            *_figure(one.difference, "points"),
            Text(p_value(one.p_adjusted)),
            Text(one_line(_said(one))),
        )
    return table


def judge_lines(scorecards: Sequence[Scorecard]) -> list[Text]:
    """One line for each approach whose success a judge helps to know."""
    lines = []
    for card in scorecards:
        if card.success_with_judge.value is None:
            continue
        value, interval = _figure(card.success_with_judge, "percent")
        agreement = _figure(card.judge_agreement, "percent")[0]
        source = card.success_with_judge.provenance.source or ""
        lines.append(
            Text(
                f"{one_line(card.name)} with the judge's help: {value} ({interval or 'too few cases for an interval'}); "
                f"{source}; they agree on {agreement}"
            )
        )
    return [Text(""), *lines] if lines else []


# Private


def _table(*labels: str) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True, header_style="bold", show_edge=False
    )
    for label in labels:
        table.add_column(label, overflow="fold", min_width=8)
    return table


def _figure(figure: Figure, unit: Unit) -> tuple[Text, Text]:
    text = shown(figure, unit)
    return Text(f"{text.text} {text.marker}"), Text(text.interval, style="dim")


def _said(one: SegmentDifference) -> str:
    if one.evidence == "undecided":
        return "not enough evidence"
    return f"{one.a if one.evidence == 'a' else one.b} is better here"
