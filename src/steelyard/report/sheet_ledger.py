"""The live sheets of the spreadsheet: ledgers, break-even volumes and the volume sweep.

Each input stands once, on the sheet Inputs; everything else is a formula that leads back to it, built from what the
ledger's own lines say they are. The value stored with a formula is the figure of the ledger, so that the file shows
the report's figures before anything is worked out again. An unknown amount is the word `unknown`, which sums skip;
how many were skipped stands beside the total.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steelyard.economics.crossing import MOST_VOLUME
from steelyard.economics.ledger import TERMS, BreakEven, Economics, Ledger, LedgerLine, TermName, VolumeSweep
from steelyard.figures import Figure
from steelyard.report.sheet import Cells, Page
from steelyard.report.table import TERM_TITLES


@dataclass(frozen=True, kw_only=True)
class Block:
    """Where the amounts of one approach stand on the sheet Ledger."""

    ledger: Ledger
    terms: Mapping[TermName, str]
    total: str
    per_task: str
    per_success: str
    setup: str
    not_counted: str
    success: str | None
    """Its success rate on the sheet Inputs; `None` where no line rests on one."""
    volume: str | None


@dataclass(frozen=True, kw_only=True)
class Live:
    """What other sheets may refer to."""

    blocks: tuple[Block, ...]

    def block_of(self, approach: str) -> Block | None:
        """The block of one approach, if its ledger can be worked out."""
        return next((b for b in self.blocks if b.ledger.approach == approach and b.success and b.volume), None)


def write_ledgers(page: Page, ledgers: Sequence[Ledger], inputs: Mapping[str, Cells]) -> Live:
    """Write the lines of each approach, its terms and its totals."""
    page.widths(30, 34, 15, 14, 14, 62, 62)
    page.text(0, 0, "The full cost of one successful task", "title")
    page.text(1, 0, "US dollars a month. Every amount is a formula on the sheet Inputs.", "plain")
    row, blocks = 3, []
    for ledger in ledgers:
        block, row = _write_block(page, row, ledger, inputs[ledger.approach])
        blocks.append(block)
    return Live(blocks=tuple(blocks))


def write_summary(page: Page, row: int, live: Live) -> int:
    """Write terms and totals of all approaches side by side, as references to their ledgers; returns the last row."""
    titles = (*(TERM_TITLES[term] for term in TERMS), "Total a month", "One task", "One successful task")
    page.heads(row, ("USD a month", *titles, "Setup, once", "Lines unknown, in no sum"))
    for block in live.blocks:
        row += 1
        ledger = block.ledger
        page.text(row, 0, ledger.approach, "bold")
        amounts = [(block.terms[term], ledger.terms[term]) for term in TERMS] + [
            (block.total, ledger.total_usd_per_month),
            (block.per_task, ledger.cost_per_task_usd),
            (block.per_success, ledger.cost_per_success_usd),
            (block.setup, ledger.setup_usd),
        ]
        for column, (cell, figure) in enumerate(amounts, start=1):
            page.formula(row, column, cell, figure.value, "usd")
        page.formula(row, len(amounts) + 1, f"N({block.not_counted})", _n_unknown(ledger), "number")
    return row


def write_break_evens(page: Page, economics: Economics, live: Live) -> None:
    """Write break-even volumes and paybacks: as found, with ranges, and the volume once more as a formula."""
    page.widths(24, 24, 12, 14, 14, 14, 12, 22, 24, 18, 70)
    page.text(0, 0, "Break-even volume and payback", "title")
    page.text(
        1, 0, "Ranges are as they were worked out on the date beside them; the columns marked live follow Inputs."
    )
    page.heads(
        3,
        (
            "From (or up to) the volume this costs less", "than this", "Kind", "Tasks a month", "Low", "High", "As of",
            "Live: difference per success without fixed cost, USD",
            "Live: difference of fixed cost a month per success rate, USD", "Live: tasks a month", "In words",
        ),
    )  # fmt: skip
    page.sheet.set_row(3, 62)
    row = 3
    for item in economics.break_evens:
        row += 1
        for column, text in ((0, item.a), (1, item.b), (2, item.kind.replace("_", " ")), (6, item.as_of)):
            page.text(row, column, text)
        page.number(row, 3, item.volume)
        page.number(row, 4, item.low)
        page.number(row, 5, item.high)
        page.text(row, 10, item.sentence, "wrap")
        _live_break_even(page, row, item, live)
    if not economics.paybacks:
        return
    row += 2
    page.heads(
        row, ("Dearer at first", "against", "Kind", "Months to earn it back", "Low", "High", "As of", "In words")
    )
    for payback in economics.paybacks:
        row += 1
        for column, text in ((0, payback.a), (1, payback.b), (2, payback.kind.replace("_", " ")), (6, payback.as_of)):
            page.text(row, column, text)
        page.number(row, 3, payback.months)
        page.number(row, 4, payback.low)
        page.number(row, 5, payback.high)
        page.text(row, 7, payback.sentence)


def write_sweep(page: Page, sweep: VolumeSweep, live: Live, *, workbook: Any) -> None:  # noqa: ANN401 - untyped library
    """Write the cost of a success over volumes, as formulas in the volume, with a chart."""
    names = [name for name in sweep.cost_per_success if live.block_of(name)]
    page.widths(16, *([16] * len(names)))
    page.text(0, 0, "Cost of one successful task by monthly volume", "title")
    page.text(1, 0, f"USD, everything else held; tasks a month now: {sweep.present:,.0f}. Volumes may be changed.")
    head, first = 3, 4
    last = first + len(sweep.volumes) - 1
    page.heads(head, ("Tasks a month", *names))
    page.sheet.freeze_panes(first, 1)
    for row, volume in enumerate(sweep.volumes, start=first):
        page.number(row, 0, volume, "input_number")
    chart = workbook.add_chart({"type": "scatter", "subtype": "straight"})
    for column, name in enumerate(names, start=1):
        block = live.block_of(name)
        assert block is not None  # chosen above
        for row, cost in enumerate(sweep.cost_per_success[name], start=first):
            formula = f"({_per_task(block)}+{_fixed(block)}/$A{row + 1})/{block.success}"
            page.formula(row, column, formula, cost, "usd")
        chart.add_series(
            {
                "name": [page.name, head, column],
                "categories": [page.name, first, 0, last, 0],
                "values": [page.name, first, column, last, column],
            }
        )
    chart.set_title({"name": "Cost of one successful task", "overlay": False})
    axis = {"log_base": 10, "major_gridlines": {"visible": True, "line": {"color": "#E2DFD8"}}}
    volumes = sweep.volumes
    costs = [cost for name in names for cost in sweep.cost_per_success[name]]
    chart.set_x_axis({**axis, "name": "Tasks a month", "num_format": "#,##0", **_decades(volumes)})
    chart.set_y_axis({**axis, "name": "USD", "num_format": "[>=1]$#,##0;$0.0#####", **_decades(costs)})
    chart.set_legend({"position": "bottom"})
    chart.set_size({"width": 860, "height": 460})
    if names:
        page.sheet.insert_chart(last + 2, 0, chart)


# --- private ---------------------------------------------------------------------------------------------------------


def _write_block(page: Page, row: int, ledger: Ledger, cells: Cells) -> tuple[Block, int]:
    """One approach from `row` on; returns where its amounts are and the first free row."""
    page.text(row, 0, ledger.approach, "bold")
    page.sheet.set_row(row, 22)
    row += 1
    page.heads(row, ("Term", "For", "USD a month", "Low", "High", "Working", "Where it comes from"))
    terms: dict[TermName, str] = {}
    spans: list[str] = []
    for term in TERMS:
        own = [line for line in ledger.lines if line.term == term]
        first = row + 1
        for line in own:
            row += 1
            _write_line(page, row, line, cells)
        row += 1
        page.text(row, 0, TERM_TITLES[term], "bold")
        page.text(row, 1, "together", "bold")
        span = page.between((first, 2), (row - 1, 2)) if own else None
        spans += [span] if span else []
        _sum(page, (row, 2), span, ledger.terms.get(term))
        terms[term] = page.at(row, 2)
    success, volume = cells.places.get("success"), cells.places.get("money__volume_per_month")
    horizon = cells.places.get("money__horizon_months")
    row += 1
    total = page.at(row, 2)
    page.text(row, 0, "Total a month", "bold")
    all_terms = ",".join(terms.values())
    _sum(page, (row, 2), all_terms if spans else None, ledger.total_usd_per_month)
    row += 1
    page.text(row, 0, "Lines unknown, in no sum")
    not_counted = page.at(row, 2)
    if spans:
        unknown_lines = "+".join(f'COUNTIF({span},"unknown")' for span in spans)
        page.formula(row, 2, unknown_lines, _n_unknown(ledger), "number")
    row += 1
    page.text(row, 0, "One task", "bold")
    _ratio(page, (row, 2), f"{total}/{volume}", (total, volume), ledger.cost_per_task_usd)
    per_task = page.at(row, 2)
    row += 1
    page.text(row, 0, "One successful task", "bold")
    _ratio(page, (row, 2), f"{total}/({volume}*{success})", (total, volume, success), ledger.cost_per_success_usd)
    per_success = page.at(row, 2)
    row += 1
    page.text(row, 0, "Setup, once", "bold")
    _ratio(page, (row, 2), f"{terms['setup']}*{horizon}", (terms["setup"], horizon), ledger.setup_usd)
    setup = page.at(row, 2)
    if ledger.apart:
        row += 1
        page.text(row, 0, "Apart, in no sum", "bold")
        for line in ledger.apart:
            row += 1
            _write_line(page, row, line, cells)
    block = Block(
        ledger=ledger, terms=terms, total=total, per_task=per_task, per_success=per_success, setup=setup,
        not_counted=not_counted, success=success if spans else None, volume=volume,
    )  # fmt: skip
    return block, row + 2


def _write_line(page: Page, row: int, line: LedgerLine, cells: Cells) -> None:
    page.text(row, 0, TERM_TITLES[line.term], "soft")
    page.text(row, 1, line.label)
    figure = line.usd_per_month
    if line.formula:
        page.formula(row, 2, cells.formula(line.formula), figure.value, "usd")
    else:
        page.value(row, 2, figure.value, "usd")
    if figure.value is not None:
        page.number(row, 3, figure.low, "usd")
        page.number(row, 4, figure.high, "usd")
    page.text(row, 5, line.working, "wrap")
    page.text(row, 6, figure.unknown_because or str(figure.provenance), "wrap")


def _sum(page: Page, at: tuple[int, int], cells: str | None, figure: Figure | None) -> None:
    value = figure.value if figure else None
    if cells is None:
        page.value(*at, value, "total")
    else:
        page.formula(*at, f'IF(COUNT({cells})=0,"unknown",SUM({cells}))', value, "total")
    _reach(page, at, figure)


def _ratio(page: Page, at: tuple[int, int], formula: str, needs: tuple[str | None, ...], figure: Figure) -> None:
    """An amount that needs other cells to be numbers above 0; `unknown` otherwise."""
    if None in needs:
        page.value(*at, figure.value, "total")
    else:
        page.formula(*at, f'IFERROR({formula},"unknown")', figure.value, "total")
    _reach(page, at, figure)


def _reach(page: Page, at: tuple[int, int], figure: Figure | None) -> None:
    if figure is not None and figure.value is not None:
        page.number(at[0], at[1] + 1, figure.low, "usd")
        page.number(at[0], at[1] + 2, figure.high, "usd")


def _n_unknown(ledger: Ledger) -> int:
    return sum(line.usd_per_month.value is None for line in ledger.lines)


def _per_task(block: Block) -> str:
    """Cost of one task without the fixed part, as a formula; unknown terms are skipped by SUM."""
    return f"SUM({','.join(block.terms[term] for term in ('variable', 'review', 'failure'))})/{block.volume}"


def _fixed(block: Block) -> str:
    """What is paid a month whatever the volume, as a formula."""
    return f"SUM({block.terms['upkeep']},{block.terms['setup']})"


def _known(figures: Sequence[Figure]) -> float:
    return sum(figure.value or 0.0 for figure in figures)


def _live_break_even(page: Page, row: int, item: BreakEven, live: Live) -> None:
    a, b = live.block_of(item.a), live.block_of(item.b)
    if a is None or b is None:
        for column in (7, 8, 9):
            page.text(row, column, "unknown")
        return
    slope, fixed = page.at(row, 7), page.at(row, 8)
    slopes, fixeds = [], []
    for block in (a, b):
        ledger, success = block.ledger, _success_of(block.ledger)
        slopes.append(_known([ledger.terms[term] for term in ("variable", "review", "failure")]) / success)
        fixeds.append(_known([ledger.terms[term] for term in ("upkeep", "setup")]) / success)
    volume = a.ledger.volume_per_month
    page.formula(
        row, 7, f"{_per_task(a)}/{a.success}-{_per_task(b)}/{b.success}", (slopes[0] - slopes[1]) / volume, "usd"
    )
    page.formula(row, 8, f"{_fixed(a)}/{a.success}-{_fixed(b)}/{b.success}", fixeds[0] - fixeds[1], "usd")
    crossing = f'IF({slope}*{fixed}<0,IF(-{fixed}/{slope}<={MOST_VOLUME:.0f},-{fixed}/{slope},"none"),"none")'
    page.formula(row, 9, crossing, "none" if item.volume is None else item.volume, "number")


def _success_of(ledger: Ledger) -> float:
    found = next((line.inputs["success"].value for line in ledger.lines if "success" in line.inputs), None)
    return found or float("nan")


def _decades(values: Sequence[float]) -> dict[str, float]:
    """Whole decades around some values, as the ends of a logarithmic axis."""
    positive = [value for value in values if value > 0 and math.isfinite(value)]
    if not positive:
        return {}
    return {"min": 10.0 ** math.floor(math.log10(min(positive))), "max": 10.0 ** math.ceil(math.log10(max(positive)))}
