"""Ledgers and the verdict on a plan for a terminal, as rich renderables; see `report.terminal` for the rules."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from steelyard.decision.plan import PlanVerdict
from steelyard.economics.ledger import TERMS, Ledger
from steelyard.figures import Figure
from steelyard.report.format import MARKERS, shown
from steelyard.report.table import TERM_TITLES
from steelyard.report.terminal import bullets, first_few
from steelyard.report.text import one_line

MOST_HINGES = 14
"""Sentences shown of what a verdict hinges on, nearest first: a plan of two approaches has so many."""

MOST_COLUMNS = 4
"""Approaches side by side; more would break amounts in two on a narrow terminal."""


def ledger_tables(ledgers: Sequence[Ledger]) -> list[Table]:
    """USD a month, term by term and line by line, one approach a column; several tables where there are many."""
    tables = [_ledger_table(ledgers[at : at + MOST_COLUMNS]) for at in range(0, len(ledgers), MOST_COLUMNS)]
    legend = (
        "a assumed, or computed from such · q quoted · nothing here was measured; the working of each line is in --json"
    )
    for table in tables:
        table.caption = Text(legend if table is tables[-1] else " ", style="dim")
        table.caption_justify = "left"
    return tables


def plan_panel(verdict: PlanVerdict) -> Panel:
    """The verdict: the sentence, why, what it hinges on, what would change it, what to find out first."""
    parts: list[RenderableType] = [Text(one_line(verdict.sentence), style="bold")]
    for heading, sentences in (
        ("Why", verdict.reasons),
        (
            "It hinges on",
            first_few([hinge.sentence for hinge in verdict.hinges_on], most=MOST_HINGES, rest="all are in --json"),
        ),
        ("Break-even, and what else would change it", verdict.what_would_change_it),
        ("Gather first", verdict.gather_first),
        ("Still unknown", verdict.unknowns),
        ("Old prices", verdict.stale_prices),
    ):
        if sentences:
            parts += [Text(f"\n{heading}", style="bold"), bullets(sentences)]
    title = Text(f"What if: {one_line(verdict.plan)}")
    return Panel(Group(*parts), title=title, title_align="left", box=box.ROUNDED, padding=(1, 2))


def _ledger_table(ledgers: Sequence[Ledger]) -> Table:
    """Provenance letter behind each amount."""
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True, header_style="bold", show_edge=False
    )
    volumes = " or ".join(f"{volume:,.0f}" for volume in sorted({one.volume_per_month for one in ledgers}))
    table.add_column(f"USD a month at\n{volumes} tasks", overflow="fold", min_width=24)
    for one in ledgers:
        table.add_column(Text(one_line(one.approach), style="bold"), justify="right", overflow="fold")
    for term in TERMS:
        labels = dict.fromkeys(line.label for one in ledgers for line in one.lines if line.term == term)
        table.add_row(Text(TERM_TITLES[term], style="bold"), *(_amount(one.terms[term], "bold") for one in ledgers))
        for label in labels if len(labels) > 1 else ():
            table.add_row(Text(f"  {label}", style="dim"), *(_line(one, label) for one in ledgers))
    table.add_section()
    table.add_row(Text("Total", style="bold"), *(_amount(one.total_usd_per_month, "bold") for one in ledgers))
    table.add_row(Text("One task"), *(_amount(one.cost_per_task_usd) for one in ledgers))
    table.add_row(
        Text("One successful task", style="bold"), *(_amount(one.cost_per_success_usd, "bold") for one in ledgers)
    )
    table.add_row(Text("  over the stated ranges", style="dim"), *(_range(one.cost_per_success_usd) for one in ledgers))
    return table


def _line(ledger: Ledger, label: str) -> Text:
    found = next((line.usd_per_month for line in ledger.lines if line.label == label), None)
    return Text("-", style="dim") if found is None else _amount(found, "dim")


def _amount(figure: Figure, style: str = "") -> Text:
    text = shown(figure, "usd")
    return Text(text.text, style=style).append(f" {MARKERS[figure.provenance.kind]}", style="dim")


def _range(figure: Figure) -> Text:
    return Text(shown(figure, "usd").interval or "", style="dim")
