"""The tables on retrieval: the same in a terminal and in every report; they fit, and let nothing hostile through."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

from rich.console import Console, Group

from steelyard.measure.answers import AnswerRules
from steelyard.measure.freshness import VersionedAnswer
from steelyard.measure.retrieval_report import RetrievalReport, retrieval_report
from steelyard.report.html import render_html
from steelyard.report.json import render_json
from steelyard.report.markdown import render_markdown
from steelyard.report.retrieval_sections import retrieval_sections
from steelyard.report.retrieval_table import retrieval_parts
from tests.report import sample


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
    return retrieval_report(
        rows,
        rules,
        texts_of=lambda row: [f"{source[1:]} and 10 days" for source in row["sources"]],
        versions=versions,
        planted={"y": ("10 days",)},
    )


def shown(made: RetrievalReport, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(Group(*retrieval_parts(made)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_question_is_asked_and_answered() -> None:
    """Tables under seven questions, with intervals; nothing is cut off at eighty columns."""
    text = shown(report())
    for question in ("document found", "was the answer right", "no answer", "supported", "cited", "keep up", "orders?"):
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


def test_every_report_shows_the_same_tables() -> None:
    """HTML, Markdown and JSON hold each question and each figure of the terminal, and their number of cases."""
    made = report(("retrieval", "tuned-retrieval", "a|b <i>c</i>"))
    content = replace(sample.sample_content(), retrieval=made)
    page, markdown, shape = _words(render_html(content)), render_markdown(content), json.loads(render_json(content))
    assert shape["retrieval"] == json.loads(json.dumps(made.to_json()))
    for section in retrieval_sections(made):
        assert section.question in page
        assert section.question in markdown
        for grid in section.grids:
            assert all(len(line.figures) == len(grid.units) for line in grid.lines)
            assert all(len(line.counts) + len(line.figures) == len(grid.titles) for line in grid.lines)
            for title in grid.headings:
                assert title in page
                assert f"| {title} |" in markdown
    assert "<i>" not in markdown
    assert "a|b <i>c</i>" in page
    assert all(note in page for note in made.notes)


def test_a_study_without_documents_has_no_such_part() -> None:
    content = sample.sample_content()
    assert 'id="retrieval"' not in render_html(content)
    assert "## Retrieval" not in render_markdown(content)
    assert json.loads(render_json(content))["retrieval"] is None


def _words(page: str) -> str:
    """What a reader of a page sees."""
    reader = _Reader()
    reader.feed(page)
    return " ".join(" ".join(reader.found).split())


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        self.found.append(data)
