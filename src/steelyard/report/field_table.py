"""What is right field by field, approaches side by side, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from steelyard.measure.fields import FieldRow
from steelyard.measure.scorecard import Scorecard
from steelyard.report.fields import field_grid
from steelyard.report.format import shown
from steelyard.report.text import one_line

_LEGEND = """\
accuracy with its 95% interval · w wrong value, m missing, i invented, in cases
last column: share of the cases with a fault in which this field is at fault, and cases in which it alone is
(of the approach with the highest mean score)"""


def field_table(rows: Sequence[FieldRow], scorecards: Sequence[Scorecard]) -> Table:
    """Fields down, approaches across; the mean score of all fields first."""
    grid = field_grid(rows, scorecards)
    names, cards = grid.approaches, grid.cards
    best = max(names, key=lambda name: cards[name].mean_score.value or 0.0)
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True, header_style="bold", show_edge=False
    )
    table.add_column("field", overflow="fold", min_width=10)
    for name in names:
        table.add_column(one_line(name), justify="right", overflow="fold")
    table.add_column("sends to\nreview", justify="right")
    table.add_row(Text("mean score", style="bold"), *(_figure(cards[name]) for name in names), Text(""))
    for field in grid.fields:
        cells = [_accuracy(grid.row(field, name)) for name in names]
        table.add_row(Text(one_line(field)), *cells, _review(grid.row(field, best)))
    table.caption = Text(_LEGEND, style="dim")
    table.caption_justify = "left"
    return table


# --- private ---------------------------------------------------------------------------------------------------------


def _figure(card: Scorecard) -> Text:
    score = shown(card.mean_score, "percent")
    return Text(score.text).append(f"\n{score.interval}" if score.interval else "", style="dim")


def _accuracy(row: FieldRow | None) -> Text:
    if row is None:
        return Text("-")
    accuracy = shown(row.accuracy, "percent")
    cell = Text(accuracy.text).append(f"\n{accuracy.interval}" if accuracy.interval else "", style="dim")
    faults = [f"{n:,}{letter}" for n, letter in ((row.wrong, "w"), (row.missing, "m"), (row.invented, "i")) if n]
    return cell.append(f"\n{' '.join(faults)}" if faults else "", style="dim")


def _review(row: FieldRow | None) -> Text:
    if row is None or row.sends_to_review.value is None:
        return Text("-")
    return Text(shown(row.sends_to_review, "percent").text).append(f"\n{row.alone:,} alone", style="dim")
