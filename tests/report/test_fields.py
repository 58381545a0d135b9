"""What a study of several fields adds to every form of the report."""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import replace

import pytest
from rich.console import Console

from steelyard.figures import unknown
from steelyard.report.field_table import field_table
from steelyard.report.fields import compared_fields, fault_words, field_grid
from steelyard.report.html import render_html
from steelyard.report.json import render_json
from steelyard.report.markdown import render_markdown
from steelyard.report.spreadsheet import render_xlsx
from steelyard.report.table import columns_of
from steelyard.report.terminal import score_table
from tests.report.invoices_sample import APPROACHES, FIELDS, invoices_content, rows, worst_invoice
from tests.report.sample import sample_content
from tests.report.test_html import Seen


@pytest.fixture(scope="module")
def page() -> str:
    return render_html(invoices_content())


def part(page: str, name: str) -> str:
    """The text of one section of the page."""
    found = re.search(rf'<section id="{name}".*?</section>', page, re.DOTALL)
    assert found is not None
    return Seen(found[0]).text


def printed(*renderables: object, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, no_color=True)
    for one in renderables:
        console.print(one)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# ---- field by field --------------------------------------------------------------------------------------------------


def test_each_field_is_shown_with_its_interval_and_its_faults(page: str) -> None:
    """Accuracy with interval, and in how many cases a field is wrong, missing or invented, in both readable forms."""
    text = part(page, "fields")
    markdown = render_markdown(invoices_content())
    for said in ("62.5% m", "42.7–78.8%", "9 missing", "20 wrong", "4 invented", "2 unscored"):
        assert said in text
        assert said in markdown
    assert all(field in text for field in FIELDS)
    assert "Mean score of all" in text


def test_fields_that_send_a_document_to_a_person_are_named(page: str) -> None:
    """Of 20 faulty documents of few-shot all have faulty rows, and 11 nothing else."""
    text = part(page, "fields")
    assert "Which fields send a document to a person" in text
    assert "11 alone" in text
    assert "11 alone" in render_markdown(invoices_content())


def test_json_has_the_rows_that_score_prints() -> None:
    """A program finds field figures unrounded, and each field's verdict in the worst cases."""
    data = json.loads(render_json(invoices_content()))
    assert [(row["approach"], row["field"]) for row in data["fields"]] == [(a, f) for a in APPROACHES for f in FIELDS]
    assert data["fields"][1]["accuracy"]["value"] == pytest.approx(15 / 24)
    answer = data["worst_cases"][0]["answers"][1]
    assert answer["fields"]["invoice_date"] == {"score": 0.0, "verdict": "invented"}
    assert answer["notes"] == ["screen: text: 1 × email", "kind: german"]
    assert [call["step"] for call in answer["judge_calls"]] == ["judge"]


def test_the_workbook_has_a_sheet_of_fields() -> None:
    """One row a field and approach, before it the mean score."""
    with zipfile.ZipFile(io.BytesIO(render_xlsx(invoices_content()))) as book:
        names = re.findall(r'<sheet name="([^"]+)"', book.read("xl/workbook.xml").decode())
        sheet = book.read(f"xl/worksheets/sheet{names.index('Fields') + 1}.xml").decode()
        strings = book.read("xl/sharedStrings.xml").decode()
    assert sheet.count("<row ") == 3 + len(APPROACHES) * (1 + len(FIELDS))
    assert "Sends to review" in strings
    without = zipfile.ZipFile(io.BytesIO(render_xlsx(sample_content()))).read("xl/workbook.xml").decode()
    assert 'name="Fields"' not in without


def test_a_study_of_one_field_has_no_such_table() -> None:
    """Success says it all there."""
    assert 'id="fields"' not in render_html(sample_content())
    assert "Field by field" not in render_markdown(sample_content())


def test_a_field_that_one_approach_does_not_have_is_a_dash() -> None:
    """Outcomes made elsewhere may know other fields."""
    content = invoices_content()
    fewer = tuple(row for row in content.fields if (row.approach, row.field) != ("workflow", "total"))
    grid = field_grid(fewer, content.scorecards)
    assert grid.row("total", "workflow") is None
    changed = replace(content, fields=fewer)
    assert "–" in part(render_html(changed), "fields")
    assert "| – |" in render_markdown(changed)
    assert "total" in printed(field_table(fewer, content.scorecards))


def test_faults_are_worded_in_cases() -> None:
    """Nothing is said of a field that is always right."""
    by_place = {(row.approach, row.field): row for row in rows()}
    assert fault_words(by_place["workflow", "line_items"]) == "12 wrong"
    assert fault_words(by_place["workflow", "total"]) == ""


# ---- worst cases -----------------------------------------------------------------------------------------------------


def test_worst_cases_show_expected_against_given(page: str) -> None:
    """Every field is marked in words, not by colour alone; what nobody expected comes last, unmarked."""
    compared = {one.field: one for one in compared_fields(worst_invoice())}
    assert list(compared) == [*FIELDS, "remark"]
    assert not compared["invoice_date"].is_expected
    assert [given.verdict for given in compared["vendor"].given] == ["missing", "wrong", "right"]
    assert [given.verdict for given in compared["remark"].given] == [None, None, None]
    text = part(page, "worst")
    assert "2025-02-24 invented" in text
    assert "Grünwald wrong" in text
    assert "2025-02-24 `<br>**invented**" in render_markdown(invoices_content())


def test_one_field_needs_no_table() -> None:
    """Labels stand in the table of answers, as they did."""
    assert compared_fields(sample_content().worst_cases[0]) == ()


def test_notes_and_judges_stand_apart_from_the_calls(page: str) -> None:
    """What a guard saw is there; what a judge was asked is not counted among the calls, and its price has a source."""
    text = part(page, "worst")
    assert "on the way screen: text: 1 × email" in text
    assert "2 calls, 2 notes, judged" in text
    assert text.index("Asked of a judge") < text.index("judge: answered")
    assert "https://prices.example/judge" in page
    assert "on the way: ` screen: text: 1 × email `" in render_markdown(invoices_content())


# ---- cached tokens ---------------------------------------------------------------------------------------------------


def test_cached_tokens_stand_beside_prompt_tokens_where_there_are_any(page: str) -> None:
    """In all forms; and nowhere where no endpoint cached anything."""
    assert "Cached prompt tokens" in part(page, "scores")
    assert "412 prompt (180 cached) and 88 completion tokens" in part(page, "worst")
    assert "Of them cached" in render_markdown(invoices_content())
    content = invoices_content()
    text = printed(score_table(content.scorecards))
    assert "812 m" in text
    assert "cached: of the prompt tokens" in text
    bare = tuple(replace(card, cached_tokens_per_task=unknown("nobody said")) for card in content.scorecards)
    assert "cached" not in printed(score_table(bare))
    assert "Of them cached" not in render_markdown(replace(content, scorecards=bare))


def test_no_approach_is_best_at_caching() -> None:
    """More cached tokens may only mean more tokens."""
    found = next(one for one in columns_of(invoices_content().scorecards) if one.title == "Of them cached")
    assert found.better is None


@pytest.mark.parametrize("width", [80, 100])
def test_tables_with_cached_tokens_fit_a_terminal(width: int) -> None:
    """No line is longer than the terminal and no figure is cut."""
    content = invoices_content()
    text = printed(score_table(content.scorecards), field_table(content.fields, content.scorecards), width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
