"""The HTML report: complete, deterministic, self-contained, and deaf to hostile text."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from steelyard.figures import unknown
from steelyard.report.format import shown
from steelyard.report.html import render_html
from steelyard.report.pairs import break_even_words, payback_words
from steelyard.report.table import COLUMNS
from tests.report.sample import hostile_content, sample_content

PAYLOADS = [
    "<script>alert(1)</script>",
    "</style><style>*{display:none}</style>",
    "</title></head><body onload=alert(1)>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "</text></svg><svg onload=alert(1)><foreignObject>",
    "{{ 7*7 }}{% for x in y %}{{ content }}{# c #}",
    "<!-- --><![CDATA[ ]]>&lt;b&gt;",
    "\u202egnp.exe\u2066\x1b[31m\x00\x9b2J",
    "<a href=https://evil.example/x>",
]


class Seen(HTMLParser):
    """Every tag and attribute of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()
        self.shape: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {(tag, name) for name, _ in attrs}
        self.shape.append(f"{tag} {' '.join(sorted(name for name, _ in attrs))}")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


@pytest.fixture(scope="module")
def page() -> str:
    return render_html(sample_content())


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_text_adds_no_element_and_no_attribute(payload: str) -> None:
    """The page has the same shape whatever customers, models and study files say."""
    harmless, hostile = Seen(render_html(hostile_content("harmless"))), Seen(render_html(hostile_content(payload)))
    assert hostile.shape == harmless.shape
    assert not {name for _, name in hostile.attributes if name.startswith("on") or name in {"href", "src", "action"}}
    assert not hostile.tags & {
        "script",
        "img",
        "iframe",
        "link",
        "object",
        "embed",
        "form",
        "a",
        "foreignobject",
        "base",
    }


def test_hostile_text_is_still_readable() -> None:
    """Escaping shows what was written, and a template expression in it is not computed."""
    text = Seen(render_html(hostile_content("<b>{{ 7*7 }}</b>"))).text
    assert "<b>{{ 7*7 }}</b>" in text


def test_control_and_direction_characters_do_not_reach_the_page() -> None:
    """Escape sequences and direction overrides appear by name."""
    page = render_html(hostile_content("\u202eevil\x1b[31m\x9b"))
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f\x7f-\x9f]", page)
    assert "⟨U+202E⟩evil⟨U+001B⟩[31m⟨U+009B⟩" in page


def test_the_page_loads_nothing(page: str) -> None:
    """No element, style or policy of the page reaches the network, and a policy forbids it besides."""
    seen = Seen(page)
    assert not {
        name for _, name in seen.attributes if name in {"href", "src", "srcset", "action", "data", "xlink:href"}
    }
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in page
    assert "script" not in seen.tags


def test_same_content_same_bytes_in_a_fresh_process(page: str) -> None:
    """The report has no clock and no randomness, not even that of hashing."""
    code = "import sys; from tests.report.sample import *; from steelyard.report.html import render_html;"
    code += "sys.stdout.buffer.write(render_html(sample_content()).encode())"
    for seed in ("1", "2"):
        fresh = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, env={"PYTHONHASHSEED": seed, "PATH": ""}
        )
        assert fresh.stdout == page.encode()


def test_everything_is_there(page: str) -> None:
    """Every scorecard, comparison, ledger line, gate, mistake, case, note and fact is on the page."""
    content, text = sample_content(), Seen(page).text
    verdict, run = content.verdict, content.method.run
    assert run is not None
    expected = [
        content.study,
        content.instruction,
        verdict.sentence,
        content.method.command,
        run.study_digest,
    ]
    expected += [*verdict.reasons, *verdict.what_would_change_it, *verdict.unknowns, *verdict.stale_prices]
    expected += [*content.data_notes, run.started_utc, *(model.identity for model in run.models)]
    for gate in verdict.gates:
        expected += [gate.question, gate.answer, gate.evidence, gate.cheapest_evidence or ""]
    for mistake in verdict.mistakes:
        expected += [mistake.title, mistake.evidence, mistake.remedy]
    for ledger in verdict.economics.ledgers:
        expected += [part for line in ledger.lines for part in (line.label, line.working)]
    assert verdict.worth is not None
    assert content.segments is not None
    expected += [verdict.worth.sentence, content.segments.warning]
    expected += [part for row in verdict.factors for part in (row.title, *(cell.text for cell in row.cells.values()))]
    expected += [break_even_words(item) for item in verdict.economics.break_evens]
    expected += [payback_words(item) for item in verdict.economics.paybacks]
    expected += [share.label for share in verdict.economics.shares]
    expected += [step.step for ledger in verdict.economics.ledgers for step in ledger.steps]
    expected += [item.sentence for item in verdict.economics.hinges]
    for case in content.worst_cases:
        expected += [case.case_id, case.where]
        expected += [call.text for answer in case.answers for call in answer.calls]
    assert [part for part in expected if re.sub(r"\s+", " ", part) not in text] == []
    for card in content.scorecards:
        for column in COLUMNS:
            figure = shown(column.figure_of(card), column.unit)
            assert f"{figure.text} {figure.marker}" in text
            assert figure.interval in text


def test_verdict_comes_first(page: str) -> None:
    """A reader who stops after one screen has the answer."""
    order = [
        page.index(f'id="{name}"')
        for name in (
            "verdict",
            "scores",
            "plot",
            "factors",
            "gates",
            "ledger",
            "volume",
            "sensitivity",
            "comparisons",
            "worst",
        )
    ]
    assert order == sorted(order)


def test_every_money_figure_in_a_table_carries_a_letter(page: str) -> None:
    """A dollar amount in a table cell never stands without provenance."""
    cells = re.findall(r"<td class=\"num\">(.*?)</td>", page, re.DOTALL)
    money = [cell for cell in cells if "$" in cell]
    assert len(money) > 50
    assert [cell for cell in money if 'class="mark"' not in cell] == []


def test_unknown_is_never_zero() -> None:
    """A cost nobody knows is shown as unknown with its reason, in table and plot."""
    content = sample_content()
    cards = tuple(
        replace(card, cost_per_success_usd=unknown("no case succeeded")) if card.name == "zero-shot" else card
        for card in content.scorecards
    )
    text = Seen(render_html(replace(content, scorecards=cards))).text
    assert "Cost per successful task of zero-shot: unknown, no case succeeded" in text
    assert "not drawn: zero-shot (no case succeeded)" in text


def test_a_report_without_a_choice_or_any_extras_reads_well() -> None:
    """One approach, no comparison, no ledger, nothing failed: still a page, without a made-up verdict."""
    content = sample_content()
    verdict = replace(
        content.verdict, choice=None, runner_up=None, p_best=None, expected_monthly_loss_usd=None, cases_to_settle=None,
        hinges_on=(), mistakes=(), standings=content.verdict.standings[:1],
        economics=replace(content.verdict.economics, ledgers=(), break_evens=(), hinges=(), paybacks=(), shares=(), sweep=None),
    )  # fmt: skip
    verdict = replace(verdict, factors=(), worth=None)
    bare = replace(
        content,
        segments=None,
        scorecards=content.scorecards[:1],
        comparisons=(),
        verdict=verdict,
        worst_cases=(),
        data_notes=(),
        setup=(),
    )
    text = Seen(render_html(bare)).text
    assert "nothing yet" in text
    assert "No ledger could be made" in text
    assert "None" not in text.replace("None of the five", "")


def test_a_megabyte_case_does_not_swell_the_page() -> None:
    """A pasted log is cut, visibly."""
    content = sample_content()
    case = replace(content.worst_cases[0], fields={"text": "x" * 1_000_000})
    page = render_html(replace(content, worst_cases=(case,)))
    assert len(page) < 300_000
    assert "characters left out here" in page
