"""Markdown and JSON say what the HTML says; the terminal says it in plain text."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console, RenderableType

from steelyard.figures import Figure
from steelyard.report.content import ReportContent
from steelyard.report.format import shown
from steelyard.report.json import render_json, report_json
from steelyard.report.markdown import render_markdown
from steelyard.report.markup import code, escape
from steelyard.report.table import COLUMNS, evidence_sentence
from steelyard.report.terminal import comparison_lines, score_table, verdict_panel
from tests.report.sample import hostile_content, sample_content
from tests.report.test_html import PAYLOADS

EXPECTED_TABLE = """\
                              schema,    latency  prompt      cost per
approach      n     success     retry   p50, p95  tokens       success   review
───────────────────────────────────────────────────────────────────────────────
tuned-lora  300     89.3% m  100.0% m    0.19s m  61.4 m      $0.301 a  25.0s a
                 85.3–92.3%    0.0% m    0.27s m          $0.288–0.317
tuned-head  300     91.7% m  100.0% m  0.0047s m     0 m      $0.262 a  25.0s a
                 88.0–94.3%    0.0% m  0.0081s m          $0.252–0.274
m measured · a assumed, or computed from such · q quoted price
below success and cost: 95% interval · schema: first answer valid as it came
retry: a further call was needed · review: a person's time per reviewed task
cost per success: calls, review, failures, upkeep and setup together"""
OUR_TAGS = {"br", "details", "summary"}


def _printed(*renderables: RenderableType, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, no_color=True, force_terminal=False)
    for renderable in renderables:
        console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def test_markdown_and_json_hold_the_figures_of_the_html() -> None:
    """Three forms, one set of figures."""
    content = sample_content()
    markdown, data = render_markdown(content), report_json(content)
    for card, published in zip(content.scorecards, data["approaches"], strict=True):
        for column in COLUMNS:
            text = shown(column.figure_of(card), column.unit)
            value = escape(text.text)
            assert f"{value} {text.marker}" in markdown or f"**{value}** {text.marker}" in markdown
        assert published["success"]["value"] == card.success.value
        assert published["cost_per_success_usd"]["provenance"] == str(card.cost_per_success_usd.provenance)
    for comparison in content.comparisons:
        assert escape(evidence_sentence(comparison)) in markdown
    for ledger in content.verdict.economics.ledgers:
        assert all(escape(line.working) in markdown for line in ledger.lines)
    assert content.method.command in markdown


def test_json_is_versioned_and_complete() -> None:
    """Programs can rely on a schema id, and transcripts are there."""
    data = json.loads(render_json(sample_content()))
    assert data["schema"] == "steelyard.report/1"
    assert data["verdict"]["schema"] == "steelyard.verdict/1"
    assert data["worst_cases"][0]["answers"][2]["calls"][1]["messages"][0]["role"] == "system"
    assert data["setup"][4]["parity"]["as_served"]["value"] == 0.892


def test_json_survives_what_json_does_not_know() -> None:
    """Infinite e-values, dates and broken surrogates neither crash it nor turn into numbers."""
    content = sample_content()
    pair = replace(content.comparisons[0], e_value=float("inf"))
    case = replace(content.worst_cases[0], fields={"text": "\ud800\u202e", "n": float("nan"), "when": object})
    text = render_json(replace(content, comparisons=(pair,), worst_cases=(case,)))
    assert text.isascii()
    assert json.loads(text)["comparisons"][0]["e_value"] == "inf"


@pytest.mark.parametrize(
    "payload", [*PAYLOADS, "`` ` ```", "| a | b |", "@team #12 [x](http://e.example)", "# h\n---\n- x"]
)
def test_hostile_text_cannot_break_the_markdown(payload: str) -> None:
    """No tag but our own, no table row of another width, no live link or mention."""
    text = render_markdown(hostile_content(payload))
    outside = re.sub(r"(`+) .*? \1(?!`)", "", text)

    class Tags(HTMLParser):
        found: set[str]

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found.add(tag)

    tags = Tags()
    tags.found = set()
    tags.feed(outside)
    assert tags.found <= OUR_TAGS
    harmless = render_markdown(hostile_content("harmless"))
    assert len(text.splitlines()) == len(harmless.splitlines())
    assert [_cells(line) for line in text.splitlines()] == [_cells(line) for line in harmless.splitlines()]
    assert not re.search(r"@team|#12|(?<!\\)://", outside)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


def _cells(line: str) -> int:
    return len(re.findall(r"(?<!\\)\|", line))


def test_a_code_span_cannot_be_closed_from_inside() -> None:
    """Backticks in a model's answer are quoted by a longer run."""
    assert code("a ``` b") == "```` a ``` b ````"


def test_score_table_at_100_columns() -> None:
    """The table a person sees: nothing cut, letters behind the figures, a legend below."""
    content = sample_content()
    lines = _printed(score_table(content.scorecards[4:6])).splitlines()
    assert "\n".join(lines) == EXPECTED_TABLE


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_approach_is_lost_in_a_narrow_terminal(width: int) -> None:
    """All names and success rates are readable at common widths, and no line is longer than the terminal."""
    content = sample_content()
    text = _printed(
        score_table(content.scorecards),
        *comparison_lines(content.comparisons),
        verdict_panel(content.verdict),
        width=width,
    )
    assert max(len(line) for line in text.splitlines()) <= width
    assert "91.7% m" in text
    assert "\x1b" not in text
    assert all(card.name in text for card in content.scorecards)
    assert "$0.252–0.274" in text
    assert "…" not in text


@pytest.mark.parametrize(
    "payload", ["[red]x[/red][/]", "[link=http://e.example]y[/link]", "\x1b[2J\x1b]0;t\x07", "a\nb\u202e"]
)
def test_hostile_text_cannot_style_or_move_the_terminal(payload: str) -> None:
    """Markup is shown, control characters are named."""
    content = hostile_content(payload)
    console = Console(file=io.StringIO(), width=400, force_terminal=True, color_system="truecolor")
    for renderable in (
        score_table(content.scorecards),
        *comparison_lines(content.comparisons),
        verdict_panel(content.verdict),
    ):
        console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "\u202e" not in text
    assert "\x07" not in text
    assert "\x1b[2J" not in text
    assert "\x1b]8" not in text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    if payload.startswith("["):
        assert payload in plain


def test_comparison_lines_can_be_limited_to_the_choice() -> None:
    """The terminal shows the pairs that matter, in one sentence each."""
    content = sample_content()
    lines = [line.plain for line in comparison_lines(content.comparisons, choice="tuned-head")]
    assert len(lines) == 6
    assert "tuned-lora against tuned-head: −2.4 points m (−7.2 to +2.2 points)" in lines[4]
    assert "not enough evidence; about 540 more cases should settle it" in lines[4]


def test_undecided_is_never_worded_as_a_win() -> None:
    """Where the interval straddles zero nobody is named better."""
    for pair in sample_content().comparisons:
        sentence = evidence_sentence(pair)
        assert ("not enough evidence" in sentence) == (pair.evidence == "undecided")
        assert not (pair.evidence == "undecided" and "more often" in sentence)


def test_an_unscored_case_is_counted_in_every_form() -> None:
    """Cases nobody could score are visible beside n."""
    content = sample_content()
    cards = (replace(content.scorecards[0], n_unscored=7), *content.scorecards[1:])
    assert "7 unscored" in _printed(score_table(cards))
    assert "7 unscored" in render_markdown(replace(content, scorecards=cards))


def test_forms_are_deterministic() -> None:
    """Same content, same text."""

    def forms(content: ReportContent) -> tuple[str, str]:
        return render_markdown(content), render_json(content)

    assert forms(sample_content()) == forms(sample_content())
    assert isinstance(sample_content().scorecards[0].success, Figure)
