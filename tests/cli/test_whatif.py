"""`steelyard whatif`: what it prints, what it refuses, and that every field of a plan is documented."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from steelyard.studies import available, scenarios
from steelyard.study.reference import PLAN_INTRODUCTION, plan_reference
from tests.cli.tickets import steelyard

DOCS = Path(__file__).parents[2] / "docs"
GOOD = """\
plan: tickets
approaches:
  prompt-only:
    levers: [prompt]
    success: 0.89
    cost_per_task_usd: 0.001
  tuned:
    levers: [tuning]
    success: 0.94
    cost_per_task_usd: 0.0002
    labels: 3000
"""


def complaint(tmp_path: Path, text: str) -> str:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    ran = steelyard("whatif", path)
    assert ran.code == 2
    assert ran.out == ""
    return ran.err


# ---- output ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["invoices", "triage", "triage-changing"])
def test_the_scenarios_that_ship_work_by_name(name: str) -> None:
    """Ledger line by line, verdict, hinges and what to find out first, from any folder."""
    ran = steelyard("whatif", name)
    assert ran.code == 0, ran.err
    for part in ("Calls and compute", "Review", "Upkeep", "Setup", "Total", "One successful task", "It hinges on"):
        assert part in ran.out
    assert "Gather first" in ran.out
    assert "Break-even" in ran.out


def test_json_has_the_published_fields() -> None:
    """The fields named here and no others: programs read this."""
    shape = steelyard("whatif", "triage", "--json").json
    assert shape["schema"] == "steelyard.whatif/1"
    assert set(shape) == {
        "schema", "plan", "as_of", "step", "choice", "sentence", "reasons", "runner_up", "hinges_on",
        "what_would_change_it", "gather_first", "unknowns", "stale_prices", "approaches", "economics",
        "left_out", "notes",
    }  # fmt: skip
    assert date.fromisoformat(shape["as_of"])
    assert set(shape["approaches"][0]) == {
        "name", "rung", "success", "schema_pass", "retry", "review_seconds", "correction_rate", "prompt_tokens",
        "completion_tokens", "p95_latency_s", "cost_per_success_usd", "excluded_because",
    }  # fmt: skip
    assert set(shape["economics"]) == {
        *("ledgers", "break_evens", "hinges", "paybacks", "variance_shares", "volume_sweep"),
    }
    assert (shape["step"], shape["choice"]) == ("test", "tuned")


def test_a_file_of_the_same_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user wrote is never shadowed by what ships."""
    monkeypatch.chdir(tmp_path)
    Path("triage").write_text(GOOD)
    assert steelyard("whatif", "triage", "--json").json["plan"] == "tickets"


def test_names_of_approaches_cannot_steer_the_terminal(tmp_path: Path) -> None:
    """A plan may come from anywhere; control characters are shown by name."""
    path = tmp_path / "plan.yaml"
    path.write_text(GOOD.replace("  tuned:", '  "tuned\\e[31m":'))
    ran = steelyard("whatif", path)
    assert ran.code == 0, ran.err
    assert "\x1b" not in ran.out


# ---- bad input -------------------------------------------------------------------------------------------------------


def test_an_unknown_field_names_its_line_and_the_nearest_right_one(tmp_path: Path) -> None:
    message = complaint(tmp_path, GOOD.replace("success: 0.94", "sucess: 0.94"))
    assert "plan.yaml:9:approaches.tuned.sucess: unknown field 'sucess'" in message
    assert "did you mean 'success'?" in message


def test_a_missing_field_points_to_its_own_page(tmp_path: Path) -> None:
    message = complaint(tmp_path, GOOD.replace("    levers: [tuning]\n", ""))
    assert "plan.yaml:7:approaches.tuned.levers: the field 'levers' is missing" in message
    assert "docs/whatif.md" in message


def test_an_unknown_lever_is_refused_on_its_line(tmp_path: Path) -> None:
    assert "plan.yaml:8:approaches.tuned.levers.0" in complaint(tmp_path, GOOD.replace("[tuning]", "[finetuning]"))


def test_a_rate_above_one_is_refused_on_its_line(tmp_path: Path) -> None:
    """89 was meant as a percentage."""
    assert "plan.yaml:5:approaches.prompt-only.success" in complaint(tmp_path, GOOD.replace("0.89", "89"))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("    success: 0.94\n", "", "give success (or at least schema_pass)"),
        ("    cost_per_task_usd: 0.0002\n", "    prompt_tokens: 9\n", "or cost_per_task_usd"),
        ("    labels: 3000\n", "    source: Table 3\n", "both: source (where it was read) and as_of (when)"),
        ("approaches:\n", "task: {stable: false}\napproaches:\n", "say how often: label_changes_per_month"),
        ("approaches:\n", "task: {stable: true, label_changes_per_month: 1}\napproaches:\n", "contradict each other"),
    ],
)
def test_what_does_not_fit_together_is_refused(old: str, new: str, told: str, tmp_path: Path) -> None:
    """With the place and what to write instead."""
    message = complaint(tmp_path, GOOD.replace(old, new))
    assert told in message
    assert "plan.yaml:" in message


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    message = complaint(tmp_path, GOOD.replace("plan: tickets\n", "").replace("0.94", "-1"))
    assert "'plan' is missing" in message
    assert "approaches.tuned.success" in message


def test_a_name_that_is_nothing_lists_what_ships(tmp_path: Path) -> None:
    ran = steelyard("whatif", "invoice")
    assert ran.code == 2
    assert "did you mean 'invoices'?" in ran.err
    assert "triage-changing" in ran.err
    folder = steelyard("whatif", tmp_path)
    assert folder.code == 2
    assert "this is a folder" in folder.err


# ---- documentation ---------------------------------------------------------------------------------------------------


def test_the_page_is_up_to_date() -> None:
    """Made by `python -m steelyard.study.reference docs`; run it after changing a section."""
    assert (DOCS / "whatif.md").read_text(encoding="utf-8") == plan_reference()


def test_every_field_says_what_it_means() -> None:
    """An empty last column would be a field nobody documented."""
    rows = [line for line in plan_reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 40
    for row in rows:
        assert row.rstrip("| ").count("|") >= 4, row


def test_the_example_on_the_page_works(tmp_path: Path) -> None:
    """What is shown can be typed in."""
    found = re.search(r"```yaml\n(.*?)```", PLAN_INTRODUCTION, re.DOTALL)
    assert found is not None
    path = tmp_path / "plan.yaml"
    path.write_text(found.group(1))
    ran = steelyard("whatif", path)
    assert ran.code == 0, ran.err


def test_help_and_page_name_every_scenario() -> None:
    """And scenarios are no studies."""
    told = steelyard("whatif", "--help").out
    for name in scenarios():
        assert name in told
        assert f"`{name}`" in PLAN_INTRODUCTION
    assert "scenarios" not in available()
