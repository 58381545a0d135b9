"""A report of outcomes made elsewhere: figures and verdict as for a run, without what nobody knows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from steelyard.report.content import ImportFacts
from steelyard.study.imported_report import build_content, place_of_report, render_outcomes_report
from steelyard.study.outcomes import import_outcomes, load_outcomes


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "theirs.csv"
    rows = ["approach,case_id,success,cost_usd,segment,time,levers"]
    for approach, every, levers in (("a", 10, "prompt"), ("b", 3, "prompt+workflow")):
        for case in range(60):
            segment = "shop" if case % 2 else "app"
            rows.append(f"{approach},c{case},{int(case % every > 0)},0.002,{segment},2026-11-20T10:00:00Z,{levers}")
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_the_report_has_the_figures_of_score_and_decide(file: Path) -> None:
    """Nothing is worked out in another way for a report."""
    outcomes = load_outcomes(file)
    content = build_content(outcomes, file, command="c")
    assert content.scorecards == outcomes.score().scorecards
    assert content.comparisons == outcomes.score().comparisons
    assert content.verdict.to_json() == outcomes.decide().verdict.to_json()
    assert content.segments is not None
    assert content.split_counts == {"imported": 60}


def test_it_says_where_the_outcomes_came_from(file: Path, tmp_path: Path) -> None:
    """File name, digest and number of outcomes stand in the method; the command makes the report again."""
    source = build_content(load_outcomes(file), file, command="c").method.source
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert source == ImportFacts(file="theirs.csv", digest=digest, n_outcomes=120)
    page = render_outcomes_report(load_outcomes(file), file, options=["--threshold", "0.5"]).decode()
    assert digest in page
    assert f"steelyard report --outcomes {file} --threshold 0.5" in page
    made = import_outcomes(file, tmp_path / "made").folder
    text = render_outcomes_report(load_outcomes(made), made, form="md").decode()
    assert f"steelyard report {made} --format md" in text


def test_what_such_a_file_cannot_say_is_left_out(file: Path) -> None:
    """No transcripts, preparation, models or looks at the test split are made up."""
    outcomes = load_outcomes(file)
    page = render_outcomes_report(outcomes, file).decode()
    for absent in (
        "Worst cases",
        "Preparation",
        "Repeats per case",
        "Study digest",
        "test split was scored",
        "the journal",
    ):
        assert absent not in page
    data = json.loads(render_outcomes_report(outcomes, file, form="json"))
    assert data["method"]["outcomes_from"] == "file"
    assert data["worst_cases"] == data["setup"] == []
    assert data["data"]["test_looks"] is None


@pytest.mark.parametrize("form", ["html", "md", "json", "xlsx", "csv"])
def test_the_same_outcomes_give_the_same_bytes(file: Path, form: str) -> None:
    """Every form is rebuilt byte for byte from the file."""
    first, second = (render_outcomes_report(load_outcomes(file), file, form=form) for _ in range(2))  # type: ignore[arg-type]
    assert first == second


def test_a_report_goes_beside_the_file_or_into_the_folder(file: Path, tmp_path: Path) -> None:
    """Without a place it does not overwrite what is there."""
    assert place_of_report(file, "csv") == tmp_path / "theirs.report.csv"
    made = import_outcomes(file, tmp_path / "made").folder
    assert place_of_report(made, "xlsx") == made / "report.xlsx"
