"""The Python face: the same functions as the command line, with results that read well in a notebook."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

import steelyard
from steelyard.study.study import Study
from tests.cli.tickets import N_TEST, serving, write_study
from tests.cli.tickets import steelyard as command_line


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """A study in which two approaches were run on models of different opinions."""
    folder = tmp_path_factory.mktemp("api") / "study"
    with serving(reply="billing") as billing, serving(reply="delivery") as delivery:
        write_study(
            folder,
            billing.url,
            others=[f"other: {{base_url: '{delivery.url}', model: m2, price_per_million: {{input: 3, output: 9}}}}"],
            approaches=["a: {model: stub}", "b: {model: other, prompt: {examples: 2}}"],
            more=["run: {repeats: 2}"],
        )
        loaded = steelyard.load(folder)
        result = loaded.run(progress=False)
        assert result.summary.n_outcomes == 4 * N_TEST
        yield loaded


def test_results_read_like_the_command_line(study: Study) -> None:
    """`repr` in a notebook is what the terminal shows, without colour."""
    assert repr(study.score()) == command_line("score", study.folder).out
    assert repr(study.decide()) == command_line("decide", study.folder).out
    assert "success" in repr(study.score())
    assert "Verdict" in repr(study.decide())


def test_results_as_json_are_what_the_command_line_prints(study: Study) -> None:
    assert study.score().to_json() == command_line("score", study.folder, "--json").json
    assert study.decide().to_json() == command_line("decide", study.folder, "--json").json
    assert study.check().to_json() == command_line("check", study.folder, "--json").json
    assert study.estimate().to_json() == command_line("run", study.folder, "--dry-run", "--json").json


def test_scores_become_a_frame_with_a_row_an_approach(study: Study) -> None:
    """Each metric has its interval and provenance beside it, as columns a notebook can filter by."""
    frame = study.score().to_polars()
    assert frame["name"].to_list() == ["a", "b"]
    for metric in (
        "success",
        "schema_pass",
        "retry",
        "latency_s_p50",
        "cost_per_success_usd",
        "prompt_tokens_per_task",
    ):
        for suffix in ("", "_low", "_high", "_provenance"):
            assert f"{metric}{suffix}" in frame.columns
    assert frame.schema["success"] == pl.Float64
    assert frame["n"].to_list() == [N_TEST, N_TEST]
    assert frame["success_provenance"].to_list() == ["measured", "measured"]


def test_a_decision_becomes_a_frame_with_a_row_an_approach(study: Study) -> None:
    frame = study.decide().to_polars()
    assert set(frame["name"]) == {"a", "b"}
    assert frame["cost_per_success_usd"].null_count() == 0
    assert {"p_best", "expected_monthly_loss_usd", "cost_per_success_usd_provenance"} <= set(frame.columns)


def test_a_run_result_reads_as_a_sentence(study: Study) -> None:
    again = study.run(progress=False)
    assert str(again).startswith("0 outcomes in 0 s, 48 were there before; spent $0.0000 in this run")


def test_score_can_be_asked_for_some_approaches_only(study: Study) -> None:
    assert [card.name for card in study.score(approaches=["b"]).scorecards] == ["b"]


def test_a_report_is_written_where_it_is_asked_for(study: Study, tmp_path: Path) -> None:
    path = study.report(tmp_path / "report.md", form="md")
    assert path.read_text(encoding="utf-8") == study.render_report("md")
    assert study.report().is_relative_to(study.folder / ".steelyard")


def test_a_study_can_be_read_from_its_journal_alone(study: Study, tmp_path: Path) -> None:
    """Without study.yaml and cases the settings of the last run are used: the verdict does not change."""
    copy = tmp_path / "copy"
    (copy / ".steelyard").mkdir(parents=True)
    for file in (study.folder / ".steelyard").glob("journal.sqlite3*"):
        (copy / ".steelyard" / file.name).write_bytes(file.read_bytes())
    alone = steelyard.load(copy)
    assert alone.score().to_json() == study.score().to_json()
    assert alone.decide().to_json() == study.decide().to_json()


def test_todays_money_counts_without_running_anything_again(study: Study, tmp_path: Path) -> None:
    """Prices of people and volumes are settings of the ledger; changing them asks no model."""
    before = study.score().to_json()["approaches"][0]
    path = study.folder / "study.yaml"
    text = path.read_text()
    try:
        path.write_text(text + "money: {wage_per_hour_usd: 400}\n")
        dearer = steelyard.load(study.folder).score().to_json()["approaches"][0]
    finally:
        path.write_text(text)
    assert dearer["cost_per_success_usd"]["value"] > 5 * before["cost_per_success_usd"]["value"]
    assert dearer["success"] == before["success"]


def test_mistakes_are_exceptions_with_every_problem(tmp_path: Path) -> None:
    """The same sentences as on the command line, as a list a program can walk through."""
    with pytest.raises(steelyard.InputError, match=r"there is no study\.yaml here"):
        steelyard.load(tmp_path)
    folder = write_study(tmp_path / "s", "http://127.0.0.1:9/v1", rows=[("a b c", "biling"), ("d e f", "delivry")])
    with pytest.raises(steelyard.InputError) as caught:
        steelyard.load(folder).check()
    assert [problem.where for problem in caught.value.problems] == ["cases.csv:2:expected", "cases.csv:3:expected"]
    with pytest.raises(steelyard.InputError, match="nothing was run"):
        steelyard.load(folder).score()


def test_a_stopped_run_is_an_exception_and_keeps_what_was_done(tmp_path: Path) -> None:
    with serving(reply="billing") as stub:
        study = steelyard.load(write_study(tmp_path / "s", stub.url))
        with pytest.raises(steelyard.RunStopped, match="budget"):
            study.run(budget_usd=0.0005, progress=False)
        done = len(list(study.score().scorecards))
        assert done == 1
        assert study.run(progress=False).summary.n_skipped > 0


def test_loading_reads_no_cases_until_they_are_needed(tmp_path: Path) -> None:
    """Score and report must work where the case file is big, moved or gone."""
    folder = write_study(tmp_path / "s", "http://127.0.0.1:9/v1")
    (folder / "cases.csv").unlink()
    assert steelyard.load(folder).file.study == "tickets"


def test_every_public_function_of_a_study_has_a_command() -> None:
    """`check`, `run`, `score`, `decide`, `recheck` and `report` are the same word in both faces."""
    public = {name for name, _ in inspect.getmembers(Study, inspect.isfunction) if not name.startswith("_")}
    assert {"report", "render_report"} <= public
    assert {name for name in public if "report" not in name} == {
        *("check", "estimate", "run", "score", "decide", "recheck", "history", "optimise", "estimate_search"),
    }


def test_a_decision_that_rests_on_few_cases_says_so(study: Study) -> None:
    """Twelve cases decide nothing between two models; the text must not sound as if they did."""
    verdict = study.decide().verdict
    assert "no_evaluation" in {mistake.name for mistake in verdict.mistakes}
