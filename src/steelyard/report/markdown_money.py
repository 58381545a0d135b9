"""The money half of the Markdown report: ledgers, volume and break-even, what the verdict hinges on."""

from __future__ import annotations

from collections.abc import Sequence

from steelyard.economics.ledger import TERMS, Ledger
from steelyard.report.content import ReportContent
from steelyard.report.format import count, known_count, marker, money, seconds
from steelyard.report.markup import bullets, cell, escape, folded, table
from steelyard.report.pairs import NONE, PairRow, pair_rows
from steelyard.report.sweep_plot import sweep_rows
from steelyard.report.table import NOTHING_FLIPS, TERM_TITLES, no_ledger_reasons


def money_sections(content: ReportContent) -> list[str]:
    """What it costs, at which volume, and what that rests on."""
    return [*_ledger(content), *_volume(content), *_sensitivity(content)]


# --- private ---------------------------------------------------------------------------------------------------------


def _ledger(content: ReportContent) -> list[str]:
    economics = content.verdict.economics
    if not any(ledger.lines for ledger in economics.ledgers):
        reasons = "; ".join(escape(reason) for reason in no_ledger_reasons(economics))
        because = f": {reasons}" if reasons else ""
        return ["## The full cost of one successful task", "", f"No ledger could be made{because}.", ""]
    lines = [
        "## The full cost of one successful task",
        "",
        "US dollars a month.",
        "",
        *table(
            (
                "Approach",
                *(TERM_TITLES[term] for term in TERMS),
                "Total",
                "Per task",
                "Per successful task",
                "Setup, once",
            ),
            [
                (
                    escape(ledger.approach),
                    *(cell(ledger.terms[term], "usd") if term in ledger.terms else "–" for term in TERMS),
                    cell(ledger.total_usd_per_month, "usd"),
                    cell(ledger.cost_per_task_usd, "usd"),
                    cell(ledger.cost_per_success_usd, "usd"),
                    cell(ledger.setup_usd, "usd"),
                )
                for ledger in economics.ledgers
            ],
        ),
    ]
    workings = [
        (
            escape(ledger.approach),
            escape(line.label if line in ledger.lines else f"{line.label} (in no sum)"),
            cell(line.usd_per_month, "usd"),
            escape(line.working),
            escape(str(line.usd_per_month.provenance)),
        )
        for ledger in economics.ledgers
        for line in (*ledger.lines, *ledger.apart)
    ]
    lines += folded(
        "How each amount was worked out",
        table(("Approach", "For", "A month", "Working", "Where it comes from"), workings),
    )
    for ledger in economics.ledgers:
        if ledger.steps:
            lines += folded(f"What the calls of {escape(ledger.approach)} take, step by step", _steps(ledger))
    return lines


def _steps(ledger: Ledger) -> list[str]:
    letter = marker(ledger.terms["variable"].provenance)
    return table(
        ("Step", "Calls per task", "Prompt tokens", "Completion tokens", "Time", "Per task"),
        [
            (
                escape(step.step),
                f"{escape(count(step.calls))} m",
                f"{escape(known_count(step.prompt_tokens))} m",
                f"{escape(known_count(step.completion_tokens))} m",
                f"{escape(seconds(step.seconds))} m",
                f"{'unknown' if step.usd is None else escape(money(step.usd))} {letter}",
            )
            for step in ledger.steps
        ],
    )


def _volume(content: ReportContent) -> list[str]:
    economics = content.verdict.economics
    letter = marker(content.verdict.provenance)
    lines: list[str] = []
    if economics.sweep is not None:
        rows = sweep_rows(economics.sweep)
        lines += [
            f"What a success costs if only the monthly volume changes; now {count(economics.sweep.present)} tasks.",
            "",
            *table(
                ("Approach", *(f"{escape(count(volume))} tasks a month" for volume, _ in rows)),
                [
                    (escape(name), *(f"{escape(money(costs[name]))} {letter}" for _, costs in rows))
                    for name in economics.sweep.cost_per_success
                ],
            ),
        ]
    involved, others = pair_rows(economics, content.focus)
    lines += _pairs(involved, letter)
    if others:
        lines += (
            folded(f"All other pairs ({len(others)})", _pairs(others, letter)) if involved else _pairs(others, letter)
        )
    return ["## Volume and break-even", "", *lines] if lines else []


def _pairs(rows: Sequence[PairRow], letter: str) -> list[str]:
    return table(
        ("Compared", "Costs less per successful task", "Earns its dearer start back", "As of"),
        [
            (
                f"{escape(row.a)} against {escape(row.b)}",
                _ranged(row.break_even, row.break_even_range, letter),
                _ranged(row.payback, row.payback_range, letter),
                row.as_of,
            )
            for row in rows
        ],
    )


def _ranged(text: str, reach: str, letter: str) -> str:
    if text == NONE:
        return text
    return f"{escape(text)} {letter}" + (f"<br>range: {escape(reach)}" if reach else "")


def _sensitivity(content: ReportContent) -> list[str]:
    economics = content.verdict.economics
    flips = [hinge.sentence for hinge in economics.hinges if hinge.flips_at is not None]
    steady = [hinge.sentence for hinge in economics.hinges if hinge.flips_at is None]
    lines = bullets(flips or [NOTHING_FLIPS] if economics.hinges else [])
    if steady:
        lines += folded(f"Changes nothing within a quarter to four times ({len(steady)})", bullets(steady))
    lines += table(
        ("Where the uncertainty comes from", "On its own", "With others"),
        [
            (escape(share.label), cell(share.first_order, "percent"), cell(share.total, "percent"))
            for share in economics.shares
        ],
    )
    return ["## What the verdict hinges on", "", *lines] if lines else []
