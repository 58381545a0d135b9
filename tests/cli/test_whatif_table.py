"""`steelyard whatif TABLE.csv`: a leaderboard or a paper's table in place of a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.tickets import steelyard

TABLE = """\
system,board,cases,passed,total_cost_usd,valid
small,x,200,120,2.0,99%
large,x,200,180,30.0,98.5%
larger,x,200,170,40.0,97%
secret,x,200,190,0,100%
old,x,200,100,,90%
small,y,50,40,1.0,100%
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "board.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


def weighed(*arguments: object) -> dict[str, Any]:
    ran = steelyard("whatif", *arguments, "--json")
    assert ran.code == 0, ran.err
    shape: dict[str, Any] = ran.json
    return shape


def test_counts_and_totals_become_rates_and_costs_per_task(table: Path) -> None:
    """120 of 200 is 60%, $2 for 200 cases is a cent each."""
    shape = weighed(table, "--where", "board=x")
    found = {one["name"]: one for one in shape["approaches"]}
    assert list(found) == ["small", "large"]
    assert found["small"]["success"]["value"] == 0.6
    assert found["small"]["success"]["low"] < 0.6 < found["small"]["success"]["high"]
    ledger = next(one for one in shape["economics"]["ledgers"] if one["approach"] == "small")
    assert ledger["terms"]["variable"]["value"] == pytest.approx(10_000 * 0.01)


def test_no_known_cost_is_shown_and_not_ranked(table: Path) -> None:
    """0 and blank are unknown alike, and neither wins for being free."""
    shape = weighed(table, "--where", "board=x")
    because = {one["name"]: one["because"] for one in shape["left_out"]}
    assert because == {
        "secret": "its cost is not known",
        "old": "its cost is not known",
        "larger": "large does at least as well for no more",
    }
    assert shape["choice"] not in because
    assert any("a cost of 0 is taken as unknown for secret" in note for note in shape["notes"])
    ran = steelyard("whatif", table, "--where", "board=x")
    assert "secret: success 95.0%; its cost is not known" in ran.out


def test_foreign_names_and_percent_are_told_in_the_settings(table: Path, tmp_path: Path) -> None:
    settings = tmp_path / "s.yaml"
    settings.write_text("goal: {min_schema_pass: 0.985}\ncolumns: {schema_pass: valid}\n", encoding="utf-8")
    shape = weighed(table, "--where", "board=x", "--settings", settings)
    assert [one["schema_pass"]["value"] for one in shape["approaches"]] == [0.99, 0.985]
    percent = tmp_path / "p.csv"
    percent.write_text("approach,rate,cost_per_task_usd\na,60,0.01\nb,90.5,0.02\n", encoding="utf-8")
    settings.write_text("columns: {success: rate %}\n", encoding="utf-8")
    shape = weighed(percent, "--settings", settings)
    assert [one["success"]["value"] for one in shape["approaches"]] == [0.6, 0.905]
    settings.write_text("columns: {success: rate}\n", encoding="utf-8")
    refused = steelyard("whatif", percent, "--settings", settings)
    assert refused.code == 2
    assert "p.csv:2:rate: 'a': input should be less than or equal to 1, got '60'" in refused.err
    assert "(success: rate %)" in refused.err


def test_rows_of_one_name_are_told_apart(table: Path) -> None:
    """By a column that does; else it is an error with its place."""
    shape = weighed(table)
    names = {one["name"] for one in [*shape["approaches"], *shape["left_out"]]}
    assert {"small (x)", "small (y)", "large"} <= names
    twice = table.with_name("twice.csv")
    twice.write_text("approach,success,cost_per_task_usd\na,0.5,1\na,0.5,1\n", encoding="utf-8")
    refused = steelyard("whatif", twice)
    assert refused.code == 2
    assert "twice.csv:3:approach: 'a' stands there on line 2 already" in refused.err


def test_tokens_of_a_table_of_totals_must_be_named(tmp_path: Path) -> None:
    """A count for a whole run is not one for a task, and nobody should have to notice."""
    path = tmp_path / "t.csv"
    path.write_text(
        "approach,cases,passed,total_cost_usd,prompt_tokens\na,10,9,1,50000\nb,10,8,0.5,9000\n", encoding="utf-8"
    )
    shape = weighed(path)
    assert shape["approaches"][0]["prompt_tokens"]["value"] is None
    assert any("total_prompt_tokens: prompt_tokens" in note for note in shape["notes"])
    settings = tmp_path / "s.yaml"
    settings.write_text("columns: {total_prompt_tokens: prompt_tokens}\n", encoding="utf-8")
    shape = weighed(path, "--settings", settings)
    assert [one["prompt_tokens"]["value"] for one in shape["approaches"]] == [5000, 900]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name,success\na,1\n", "t.csv:1: there is no column approach (or system)"),
        ("approach,cost_per_task_usd\na,1\n", "t.csv:1: no column says how often the task is done right"),
        ("approach,success\na,0.9\n", "t.csv: no approach has a known cost, so none can be weighed"),
        ("approach,success,cost_per_task_usd\n,0.9,1\n", "t.csv:2:approach: 'approach' is empty"),
        ("approach,success,cost_per_task_usd\na,0.9,much\n", "t.csv:2:cost_per_task_usd: 'a': input should be"),
        ("approach,success,total_cost_usd,cases\na,0.9,much,5\n", "t.csv:2:total_cost_usd: 'total_cost_usd' is 'much'"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_its_place(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    refused = steelyard("whatif", path)
    assert (refused.code, refused.out) == (2, "")
    assert told in refused.err


def test_settings_name_columns_that_are_there(table: Path, tmp_path: Path) -> None:
    settings = tmp_path / "s.yaml"
    settings.write_text("columns: {sucess: passed, schema_pass: vlid}\n", encoding="utf-8")
    refused = steelyard("whatif", table, "--settings", settings)
    assert "s.yaml: columns.sucess: there is no figure 'sucess'" in refused.err
    assert "s.yaml: columns.schema_pass: board.csv has no column 'vlid'" in refused.err
    plan = steelyard("whatif", "triage", "--settings", settings)
    assert plan.code == 2
    assert "go with a table" in plan.err


@pytest.mark.realdata
@pytest.mark.parametrize(
    "board", ["polyglot_leaderboard", "edit_leaderboard", "architect", "quant", "qwen3_leaderboard"]
)
def test_every_board_of_a_real_leaderboard_is_weighed(board: str, shared_data: Path) -> None:
    """Those without a price are never the choice, and every row is shown or given a reason."""
    file = shared_data / "results_aider" / "systems.csv"
    shape = weighed(file, "--where", f"board={board}")
    n_rows = sum(line.startswith(f"{board},") for line in file.read_text(encoding="utf-8").splitlines())
    assert len(shape["approaches"]) + len(shape["left_out"]) == n_rows
    assert shape["sentence"]
    if board == "polyglot_leaderboard":
        assert sum(one["because"] == "its cost is not known" for one in shape["left_out"]) == 18


def test_many_approaches_are_shown_without_breaking_an_amount(tmp_path: Path) -> None:
    """Four of them side by side; a table of twelve columns would write $123.20 as $123.2 and 0."""
    rows = "".join(f"m{i:02},{0.7 + i / 100},{0.0012 * (1 + i)}\n" for i in range(12))
    path = tmp_path / "many.csv"
    path.write_text(f"approach,success,cost_per_task_usd\n{rows}", encoding="utf-8")
    ran = steelyard("whatif", path)
    totals = [line.split() for line in ran.out.splitlines() if line.startswith("Total ")]
    assert [len(line) for line in totals] == [9, 9, 9]
    assert all(amount.startswith("$") for line in totals for amount in line[1::2])


def test_rows_of_cases_and_rows_of_approaches_are_told_apart(tmp_path: Path) -> None:
    """Whoever takes the wrong command is told the right one."""
    cases, approaches = tmp_path / "cases.csv", tmp_path / "systems.csv"
    cases.write_text("system,case_id,success\na,1,1\n", encoding="utf-8")
    approaches.write_text("system,success\na,0.9\n", encoding="utf-8")
    wrong = steelyard("whatif", cases)
    assert (wrong.code, "steelyard decide --outcomes cases.csv" in wrong.err) == (2, True)
    wrong = steelyard("decide", "--outcomes", approaches)
    assert (wrong.code, "steelyard whatif systems.csv" in wrong.err) == (2, True)
