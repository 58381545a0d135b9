"""The report as a workbook with live formulas, for whoever has to follow the money (XLSX).

Verdict first, then inputs and ledgers, then what was measured. Texts from cases, models and study files are string
cells and nothing else; there are no links, macros or external references. The same content gives the same bytes.
"""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, time
from typing import Any

from steelyard.figures import Figure
from steelyard.report.content import ReportContent
from steelyard.report.fields import field_grid
from steelyard.report.format import Unit
from steelyard.report.sheet import NumberStyle, Page, formats_of
from steelyard.report.sheet_inputs import write_inputs
from steelyard.report.sheet_ledger import Live, write_break_evens, write_ledgers, write_summary, write_sweep
from steelyard.report.table import columns_of, evidence_sentence, settle_text

_STYLE_OF: dict[Unit, NumberStyle] = {
    "percent": "share", "points": "share", "usd": "usd", "usd_difference": "usd", "seconds": "seconds",
    "seconds_difference": "seconds", "count": "number",
}  # fmt: skip
_UNIT_WORDS: dict[Unit, str] = {
    "percent": "share", "points": "difference of shares", "usd": "USD", "usd_difference": "USD", "seconds": "seconds",
    "seconds_difference": "seconds", "count": "number",
}  # fmt: skip
_VERDICT_COLUMNS = 11


def render_xlsx(content: ReportContent) -> bytes:
    """Write the report as a workbook; the same content gives the same bytes."""
    import xlsxwriter

    written = io.BytesIO()
    workbook = xlsxwriter.Workbook(
        written,
        {"in_memory": True, "strings_to_urls": False, "strings_to_formulas": False, "strings_to_numbers": False},
    )
    # The day of the verdict instead of the clock: the file says nothing of when it was written.
    day = datetime.combine(date.fromisoformat(content.verdict.as_of), time(), tzinfo=UTC).replace(tzinfo=None)
    workbook.set_properties({"title": "Steelyard report", "created": day})
    formats = formats_of(workbook)
    economics = content.verdict.economics

    def page(name: str) -> Page:
        sheet = workbook.add_worksheet(name)
        sheet.hide_gridlines(2)
        return Page(name=name, sheet=sheet, formats=formats)

    verdict = page("Verdict")
    if economics.ledgers:
        cells = write_inputs(page("Inputs"), economics.ledgers, as_of=content.verdict.as_of)
        live = write_ledgers(page("Ledger"), economics.ledgers, cells)
    else:
        live = Live(blocks=())
    _write_verdict(verdict, content, live)
    if any(ledger.steps for ledger in economics.ledgers):
        _write_steps(page("Steps"), content)
    _write_scorecards(page("Scorecards"), content)
    if content.fields:
        _write_fields(page("Fields"), content)
    if content.comparisons:
        _write_comparisons(page("Comparisons"), content)
    if economics.break_evens or economics.paybacks:
        write_break_evens(page("Break-even"), economics, live)
    if economics.sweep is not None:
        write_sweep(page("Volume sweep"), economics.sweep, live, workbook=workbook)
    if economics.hinges or economics.shares:
        _write_sensitivity(page("Sensitivity"), content)
    workbook.close()
    return written.getvalue()


# --- private ---------------------------------------------------------------------------------------------------------


def _write_verdict(page: Page, content: ReportContent, live: Live) -> None:
    verdict = content.verdict
    page.widths(26, *([15] * (_VERDICT_COLUMNS - 1)))
    page.text(0, 0, content.study, "title")
    page.text(1, 0, f"Steelyard report, as of {verdict.as_of}", "plain")
    _wide(page, 3, verdict.sentence, "sentence", lines=3)
    row = 5
    facts = (
        ("Take", verdict.choice or "nothing yet"),
        ("Runner-up", verdict.runner_up or "none"),
        ("Further cases wanted", settle_text(verdict)),
    )
    for label, text in facts:
        page.text(row, 0, label, "bold")
        page.text(row, 1, text)
        row += 1
    chances: tuple[tuple[str, float | None, NumberStyle], ...] = (
        ("Probability of being best", verdict.p_best, "share"),
        ("Expected loss, USD a month", verdict.expected_monthly_loss_usd, "usd"),
    )
    for label, value, style in chances:
        page.text(row, 0, label, "bold")
        page.value(row, 1, value, style)
        page.text(row, 2, str(verdict.provenance))
        row += 1
    worth = () if verdict.worth is None else (verdict.worth.sentence,)
    for title, sentences in (
        ("Why", verdict.reasons),
        ("What would change it", verdict.what_would_change_it),
        ("Worth of more evidence", worth),
        ("Still unknown", verdict.unknowns),
        ("Old prices", verdict.stale_prices),
    ):
        if sentences:
            row += 1
            page.text(row, 0, title, "bold")
        for sentence in sentences:
            row += 1
            _wide(page, row, sentence, "wrap", lines=1 + len(sentence) // 165)
        row += bool(sentences)
    if live.blocks:
        row += 1
        page.text(row, 0, "What it costs now (live: follows the sheet Inputs)", "bold")
        write_summary(page, row + 1, live)


def _wide(page: Page, row: int, text: str, style: Any, *, lines: int) -> None:  # noqa: ANN401 - a style of the page
    """A text over the whole width, in a row high enough for it."""
    page.sheet.merge_range(row, 0, row, _VERDICT_COLUMNS - 1, "", page.formats[style])
    page.text(row, 0, text, style)
    page.sheet.set_row(row, 18 * lines)


def _write_scorecards(page: Page, content: ReportContent) -> None:
    page.widths(24, 26, 20, 8, 24, 14, 14, 14, 12, 60)
    page.text(0, 0, "Six metrics", "title")
    page.text(1, 0, "Measured on the test cases; failed, refused and empty answers count against an approach.")
    page.heads(
        3,
        ("Approach", "Levers", "Metric", "Cases", "Unit", "Value", "Low, 95%", "High, 95%", "Provenance", "Source"),
    )
    page.sheet.freeze_panes(4, 1)
    row = 3
    for card in content.scorecards:
        for column in columns_of(content.scorecards):
            row += 1
            page.text(row, 0, card.name, "bold")
            page.text(row, 1, card.rung)
            page.text(row, 2, column.title)
            page.number(row, 3, card.n)
            page.text(row, 4, _UNIT_WORDS[column.unit])
            _figure(page, row, 5, column.figure_of(card), column.unit)
    page.sheet.autofilter(3, 0, row, 9)


def _write_fields(page: Page, content: ReportContent) -> None:
    page.widths(24, 24, 8, 14, 14, 14, 12, 28, 10, 10, 10, 10, 16, 14, 14, 16)
    page.text(0, 0, "Field by field", "title")
    page.text(
        1, 0, "Wrong, missing and invented in cases; sends to review: of the cases with a fault, those with it here."
    )
    heads = (
        "Approach", "Field", "Cases", "Accuracy", "Low, 95%", "High, 95%", "Provenance", "Source", "Wrong", "Missing",
        "Invented", "Unscored", "Sends to review", "Low, 95%", "High, 95%", "At fault alone",
    )  # fmt: skip
    page.heads(3, heads)
    page.sheet.freeze_panes(4, 2)
    row = 3
    grid = field_grid(content.fields, content.scorecards)
    for approach in grid.approaches:
        row += 1
        page.text(row, 0, approach, "bold")
        page.text(row, 1, "(mean score of all)", "soft")
        page.number(row, 2, grid.cards[approach].n)
        _figure(page, row, 3, grid.cards[approach].mean_score, "percent")
        for name in grid.fields:
            found = grid.row(name, approach)
            if found is None:
                continue
            row += 1
            page.text(row, 0, approach, "bold")
            page.text(row, 1, name)
            page.number(row, 2, found.n)
            _figure(page, row, 3, found.accuracy, "percent")
            counts = (found.wrong, found.missing, found.invented, found.unscored)
            for column, n in enumerate(counts, start=8):
                page.number(row, column, n)
            page.figure(row, 12, found.sends_to_review, "share")
            page.number(row, 15, found.alone)
    page.sheet.autofilter(3, 0, row, len(heads) - 1)


def _write_steps(page: Page, content: ReportContent) -> None:
    page.widths(24, 32, 14, 16, 18, 14, 16, 40)
    page.text(0, 0, "What the calls take, step by step", "title")
    page.text(
        1, 0, "Measured, on average over all tasks; the amounts of an approach sum up to its calls and computing."
    )
    heads = (
        "Approach",
        "Step",
        "Calls a task",
        "Prompt tokens",
        "Completion tokens",
        "Seconds",
        "USD a task",
        "Source",
    )
    page.heads(3, heads)
    page.sheet.freeze_panes(4, 2)
    row = 3
    for ledger in content.verdict.economics.ledgers:
        for step in ledger.steps:
            row += 1
            page.text(row, 0, ledger.approach, "bold")
            page.text(row, 1, step.step)
            for column, value in enumerate((step.calls, step.prompt_tokens, step.completion_tokens), start=2):
                page.value(row, column, value, "number")
            page.value(row, 5, step.seconds, "seconds")
            page.value(row, 6, step.usd, "usd")
            page.text(row, 7, str(ledger.terms["variable"].provenance))


def _write_comparisons(page: Page, content: ReportContent) -> None:
    page.widths(22, 22, 8, 10, 10, 12, 12, 12, 12, 12, 12, 14, 60)
    page.text(0, 0, "Paired comparisons of success", "title")
    page.text(1, 0, "The first against the second on the same cases; exact McNemar test, Holm over all pairs.")
    page.heads(
        3,
        (
            "First", "Second", "Cases", "Only first right", "Only second right", "Difference", "Low, 95%", "High, 95%",
            "p, Holm", "e-value", "Smallest difference found with 80% power", "More cases to settle", "What it shows",
        ),
    )  # fmt: skip
    page.sheet.set_row(3, 62)
    page.sheet.freeze_panes(4, 2)
    for row, pair in enumerate(content.comparisons, start=4):
        page.text(row, 0, pair.a, "bold")
        page.text(row, 1, pair.b, "bold")
        for column, count in ((2, pair.n), (3, pair.a_only), (4, pair.b_only)):
            page.number(row, column, count)
        page.figure(row, 5, pair.difference, "share")
        page.value(row, 8, pair.p_adjusted, "number")
        page.value(row, 9, pair.e_value, "number")
        page.value(row, 10, pair.minimum_detectable.value, "share")
        page.value(row, 11, pair.cases_to_settle, "number")
        page.text(row, 12, evidence_sentence(pair), "wrap")


def _write_sensitivity(page: Page, content: ReportContent) -> None:
    economics = content.verdict.economics
    page.widths(40, 44, 16, 16, 24, 24, 80)
    page.text(0, 0, "What the verdict hinges on", "title")
    page.text(1, 0, "One input at a time, from a quarter to four times its value, all others held.")
    page.heads(3, ("Input", "What it is", "Now", "Flips at", "Cheapest now", "Cheapest then", "In words"))
    row = 3
    for hinge in economics.hinges:
        row += 1
        page.text(row, 0, hinge.name)
        page.text(row, 1, hinge.label)
        page.number(row, 2, hinge.value)
        if hinge.flips_at is None:
            page.text(row, 3, "does not flip")
        else:
            page.number(row, 3, hinge.flips_at)
        page.text(row, 4, hinge.winner)
        page.text(row, 5, hinge.winner_then or "")
        page.text(row, 6, hinge.sentence, "wrap")
    if economics.shares:
        row += 2
        page.text(row, 0, "Where the uncertainty comes from", "title")
        row += 1
        page.text(row, 0, "Shares of the variance of the cost difference between the two cheapest approaches.")
        row += 1
        page.heads(row, ("Input", "What it is", "On its own", "With others", "Cheapest", "Next", "In words"))
    for share in economics.shares:
        row += 1
        page.text(row, 0, share.name)
        page.text(row, 1, share.label)
        page.value(row, 2, share.first_order.value, "share")
        page.value(row, 3, share.total.value, "share")
        page.text(row, 4, share.a)
        page.text(row, 5, share.b)
        page.text(row, 6, share.sentence, "wrap")


def _figure(page: Page, row: int, column: int, figure: Figure, unit: Unit) -> None:
    page.figure(row, column, figure, _STYLE_OF[unit])
    page.text(row, column + 3, figure.provenance.kind)
    page.text(row, column + 4, figure.unknown_because or figure.provenance.source or "")
