"""The report as Markdown: what is right field by field, and the worst cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steelyard.measure.fields import FieldRow
from steelyard.report.content import ReportContent, WorstCase
from steelyard.report.fields import (
    FIELDS_LEAD,
    REVIEW_LEAD,
    ComparedField,
    compared_fields,
    fault_words,
    field_grid,
    value_text,
)
from steelyard.report.format import count, marker, money, seconds
from steelyard.report.markup import cell, code, escape, folded, table
from steelyard.report.text import as_text, excerpt
from steelyard.task.field_scorers import FieldVerdict

_FIELD_LIMIT = 1_500
_CELL_LIMIT = 400
_VERDICTS: Mapping[FieldVerdict, str] = {
    "right": "right",
    "wrong": "**wrong**",
    "missing": "**missing**",
    "invented": "**invented**",
    "unscored": "unscored",
}


def field_section(content: ReportContent) -> list[str]:
    """Accuracy by field and approach, and folded which fields send a document to a person."""
    grid = field_grid(content.fields, content.scorecards)
    if not grid.fields or not grid.approaches:
        return []
    header = ("Field", *(escape(name) for name in grid.approaches))
    mean = ("*mean score of all*", *(cell(grid.cards[name].mean_score, "percent") for name in grid.approaches))
    accuracy = [
        (escape(field), *(_accuracy(grid.row(field, name)) for name in grid.approaches)) for field in grid.fields
    ]
    review = [(escape(field), *(_review(grid.row(field, name)) for name in grid.approaches)) for field in grid.fields]
    return [
        "## Field by field",
        "",
        FIELDS_LEAD,
        "",
        *table(header, [mean, *accuracy]),
        *folded("Which fields send a document to a person", [REVIEW_LEAD, "", *table(header, review)]),
    ]


def worst_case_section(content: ReportContent) -> list[str]:
    """The cases that most approaches fail, folded."""
    if not content.worst_cases:
        return ["## Worst cases", "", "No case was failed by any approach.", ""]
    lines = ["## Worst cases", ""]
    for case in content.worst_cases:
        lines += folded(f"{escape(case.case_id)} ({escape(case.where)})", _worst_case(case, content))
    return lines


def _worst_case(case: WorstCase, content: ReportContent) -> list[str]:
    compared = compared_fields(case)
    priced = {card.name: marker(card.cost_per_task_usd.provenance) for card in content.scorecards}
    return [
        *(f"- {escape(name)}: {code(excerpt(as_text(value), _FIELD_LIMIT))}" for name, value in case.fields.items()),
        *([] if compared else [f"- **Expected:** {_expected(case)}"]),
        "",
        *_compared(compared),
        *table(
            ("Approach", *([] if compared else ["Output"]), "Ended", "Score", "Latency", "Cost", "Problem"),
            [
                (
                    escape(answer.approach),
                    *([] if compared else [_output(answer.output)]),
                    escape(answer.status.replace("_", " ")),
                    "unscored"
                    if answer.score is None
                    else f"{count(answer.score)} {'right' if answer.success else 'wrong'} m",
                    f"{escape(seconds(answer.latency_s))} m",
                    "unknown"
                    if answer.cost_usd is None
                    else f"{escape(money(answer.cost_usd))} {priced.get(answer.approach, '')}",
                    code(answer.problem or answer.unscored_because or "–"),
                )
                for answer in case.answers
            ],
        ),
        *_notes(case),
    ]


def _compared(fields: Sequence[ComparedField]) -> list[str]:
    if not fields:
        return []
    return table(
        ("Field", "Expected", *(escape(given.approach) for given in fields[0].given)),
        [
            (
                escape(one.field),
                code(excerpt(value_text(one.expected), _CELL_LIMIT)) if one.is_expected else "none",
                *(
                    (code(excerpt(value_text(given.value), _CELL_LIMIT)) if given.is_given else "none")
                    + (f"<br>{_VERDICTS[given.verdict]}" if given.verdict is not None else "")
                    for given in one.given
                ),
            )
            for one in fields
        ],
    )


def _notes(case: WorstCase) -> list[str]:
    notes = [
        f"- {escape(answer.approach)}, on the way: {code(note)}" for answer in case.answers for note in answer.notes
    ]
    return [*notes, ""] if notes else []


def _expected(case: WorstCase) -> str:
    return "unknown" if case.expected is None else _output(case.expected)


def _output(output: Mapping[str, Any] | None) -> str:
    if output is None:
        return "none"
    return code(", ".join(f"{name}: {excerpt(as_text(value), _FIELD_LIMIT)}" for name, value in output.items()))


def _accuracy(row: FieldRow | None) -> str:
    if row is None:
        return "–"
    faults = fault_words(row)
    return cell(row.accuracy, "percent") + (f"<br>{faults}" if faults else "")


def _review(row: FieldRow | None) -> str:
    if row is None:
        return "–"
    return cell(row.sends_to_review, "percent") + (f"<br>{count(row.alone)} alone" if row.alone else "")
