"""What the report of a study shows of one answer: calls, what guards saw, and what a judge was asked, each apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.cli.tickets import serving, steelyard

PRICE = {"input": 2.0, "output": 6.0, "source": "https://prices.example/judge", "as_of": "2026-09-01"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guard that flags, one question about two fields, and a judge that is never content."""
    folder = tmp_path_factory.mktemp("judged")
    rows = [
        {"id": f"c{n}", "text": f"write to a{n}@example.org, ticket {n}", "label": "late", "reason": f"parcel {n}"}
        for n in range(30)
    ]
    (folder / "cases.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    answer = json.dumps({"label": "late", "reason": "the courier"})
    with (
        serving(reply=answer, prompt_tokens=50, cached_tokens=30) as model,
        serving(reply='{"reason": "another one", "mark": 0}') as judge,
    ):
        study = {
            "study": "judged",
            "cases": "cases.jsonl",
            "task": {
                "input": "text",
                "expected": ["label", "reason"],
                "scoring": {"label": "exact", "reason": {"kind": "judge", "rubric": "The same.", "model": "judge"}},
            },
            "models": {
                "endpoints": {
                    "stub": {"base_url": model.url, "model": "m"},
                    "judge": {"base_url": judge.url, "model": "j", "price_per_million": PRICE},
                }
            },
            "approaches": {
                "screened": {
                    "model": "stub",
                    "workflow": {"steps": {"screen": {"guard": {"pii": ["email"]}}, "read": {"prompt": {}}}},
                }
            },
        }
        (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False), "utf-8")
        ran = steelyard("run", folder, "--limit", "3", "--quiet")
    assert ran.code == 0, ran.err
    return folder


def test_a_judge_stands_apart_from_the_calls_of_the_approach(finished: Path) -> None:
    """Its request, reply and price are there, with the source of the judge's price and not the approach's."""
    report = steelyard("report", finished, "--format", "json", "-o", "-").json
    (answer,) = report["worst_cases"][0]["answers"]
    assert [call["step"] for call in answer["calls"]] == ["read"]
    assert answer["calls"][0]["cached_tokens"] == 30
    (judged,) = answer["judge_calls"]
    assert "The same." in judged["messages"][0]["content"]
    assert json.loads(judged["text"])["mark"] == 0
    assert judged["price_usd"] > 0
    assert judged["price_from"]["source"] == "https://prices.example/judge"
    page = steelyard("report", finished, "-o", "-").out
    assert page.index("Asked of a judge") < page.index("https://prices.example/judge")


def test_what_a_guard_saw_is_shown_with_the_answer(finished: Path) -> None:
    """A person who reads a worst case sees the flag, in the page and in Markdown."""
    report = steelyard("report", finished, "--format", "json", "-o", "-").json
    assert report["worst_cases"][0]["answers"][0]["notes"] == ["screen: text: 1 × email"]
    for options in ([], ["--format", "md"]):
        assert "screen: text: 1 × email" in steelyard("report", finished, *options, "-o", "-").out


def test_verdicts_of_fields_come_from_the_journal(finished: Path) -> None:
    """The field the judge refused is wrong, the other one right."""
    report = steelyard("report", finished, "--format", "json", "-o", "-").json
    fields = report["worst_cases"][0]["answers"][0]["fields"]
    assert {name: one["verdict"] for name, one in fields.items()} == {"label": "right", "reason": "wrong"}
