"""The tables on retrieval: they hold what was measured, fit a terminal, and let nothing hostile through."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console, Group

from steelyard.measure.answers import AnswerRules
from steelyard.measure.freshness import VersionedAnswer
from steelyard.measure.retrieval_report import RetrievalReport, retrieval_report
from steelyard.report.retrieval_table import retrieval_parts


def report(names: tuple[str, ...] = ("retrieval", "tuned-retrieval"), n: int = 60) -> RetrievalReport:
    """Every second question is found by the first, two of three by the others; every sixth has no answer."""
    rows: list[dict[str, Any]] = []
    for place, name in enumerate(names):
        for i in range(n):
            answerable, found = i % 6 > 0, i % (place + 2) > 0
            answer = f"{10 + i} days" if answerable and found else None
            rows.append(
                {
                    "approach": name,
                    "case_id": f"c{i}",
                    "success": int((answer is not None) == answerable),
                    "sources": (f"d{i}" if found else "x", "y"),
                    "gold": (f"d{i}",) if answerable else (),
                    "output": {"answer": answer, "source": f"d{i}"},
                    "expected": {"answer": f"{10 + i} days" if answerable else None},
                    "time": "2026-01-01",
                }
            )
    versions = {
        f"c{i}": (
            VersionedAnswer(valid_from="2024-01-01", expected=f"{9 + i} days"),
            VersionedAnswer(valid_from="2025-01-01", expected=f"{10 + i} days"),
        )
        for i in range(1, n, 6)
    }
    rules = AnswerRules(field="answer", citations="source")
    return retrieval_report(rows, rules, text_of=lambda source: f"{source[1:]} and 10 days", versions=versions)


def shown(made: RetrievalReport, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(Group(*retrieval_parts(made)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_question_is_asked_and_answered() -> None:
    """Six tables under six questions, with intervals; nothing is cut off at eighty columns."""
    text = shown(report())
    for question in ("document found", "was the answer right", "no answer", "supported", "cited", "keep up"):
        assert question in text
    assert "tuned-retrieval − retrieval" in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert "note: 10 of 60 cases name no gold source" in " ".join(text.split())


def test_nothing_is_shown_of_what_was_not_measured() -> None:
    """Without anything retrieved there is one note, and no empty table."""
    rows = [{"approach": "closed-book", "case_id": "1", "success": 1, "sources": (), "output": {"answer": "x"}}]
    text = shown(retrieval_report(rows, AnswerRules(field="answer")))
    assert text.strip() == "note: no approach retrieves: nothing is said of finding sources"


def test_one_approach_has_no_differences() -> None:
    """There is nothing to compare it with."""
    assert "−" not in shown(report(("retrieval",))).split("Was a gold source")[0]


def test_names_are_hostile_text() -> None:
    """A name can neither recolour the terminal nor be read as markup."""
    text = shown(report(("[red]a[/red]", "b\x1b[31m")), width=200)
    assert "[red]a[/red]" in text
    assert "\x1b" not in text
