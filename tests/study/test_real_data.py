"""A new user's path on cases and results nobody here wrote."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest

import steelyard
from steelyard.study.init import init_study
from tests.cli.tickets import steelyard as command_line


@pytest.mark.realdata
@pytest.mark.model
def test_from_a_file_to_a_verdict_on_bank_questions(shared_data: Path, tmp_path: Path) -> None:
    """init, check, run, score and decide on 12 intents; looking up the nearest example is hard to beat there."""
    init_study(
        tmp_path / "bank", cases=shared_data / "banking77" / "train12.jsonl", inputs=["text"], expected=["label"]
    )
    study = steelyard.load(tmp_path / "bank")
    assert study.check().n_cases == 2106
    study.run(approaches=["nearest", "tuned-head", "workflow"], limit=40, progress=False)
    success = {card.name: card.success.value or 0.0 for card in study.score().scorecards}
    assert success["nearest"] > 0.75
    assert success["tuned-head"] > 0.75
    assert success["workflow"] < success["nearest"]
    assert study.decide().verdict.choice in ("nearest", "tuned-head")


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("file", "inputs", "expected"),
    [
        ("cfpb_loan_issues/complaints.jsonl", ["text"], ["issue"]),
        ("rustsec_triage/advisories.jsonl", ["title", "text"], ["label"]),
        ("usaddress/train.jsonl", ["text"], ["PlaceName", "StateName", "ZipCode"]),
        ("banking77/train77.jsonl", [], []),
    ],
)
def test_a_study_can_be_written_and_checked_for_other_tasks(
    shared_data: Path, tmp_path: Path, file: str, inputs: list[str], expected: list[str]
) -> None:
    """One label, several fields, guessed columns: init writes a study that passes check."""
    made = init_study(tmp_path / "s", cases=shared_data / file, inputs=inputs, expected=expected)
    found = steelyard.load(tmp_path / "s").check()
    assert found.n_cases == made.n_rows
    assert sum(found.n_by_split.values()) <= found.n_cases
    assert found.n_by_split["test"] > 0.1 * found.n_cases


# ---- published results, at the command line --------------------------------------------------------------------------

GROUPS = [
    ("results_airline_prompt_vs_ft", "all"),
    ("results_cfpb_14llm", "all"),
    ("results_llmdrift", "prime"),
    ("results_llmdrift", "happy_numbers"),
    ("results_llmdrift", "leetcode_easy"),
    ("results_llmdrift", "sensitive_answered"),
]


def read(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def said(*arguments: object) -> dict[str, Any]:
    ran = command_line(*arguments, "--json")
    assert ran.code == 0, ran.err
    shape: dict[str, Any] = ran.json
    return shape


def assert_printed(found: float | None, told: str, *, digits: int = 6) -> None:
    """Equal to the digits the reference prints."""
    assert found is not None
    assert abs(found - float(told)) <= 0.500001 * 10**-digits


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "group"), GROUPS)
def test_scores_of_published_results_are_those_of_the_reference(name: str, group: str, shared_data: Path) -> None:
    """Rates, Wilson ends, means of cost and latency, and every compared pair: counts, difference, exact p-value."""
    folder = shared_data / name
    where = [] if group == "all" else ["--where", f"task={group}"]
    shape = said("score", "--outcomes", folder / "results.csv", *where)
    cards = {card["name"]: card for card in shape["approaches"]}
    systems = [row for row in read(folder / "reference_systems.csv") if row["group"] == group]
    assert set(cards) == {row["system"] for row in systems}
    for row in systems:
        card = cards[row["system"]]
        assert card["n"] == int(row["n"])
        assert card["success"]["value"] == pytest.approx(int(row["successes"]) / int(row["n"]), abs=1e-12)
        assert_printed(card["success"]["low"], row["wilson_lo"])
        assert_printed(card["success"]["high"], row["wilson_hi"])
        if row.get("cost_usd_mean"):
            assert_printed(card["cost_per_task_usd"]["value"], row["cost_usd_mean"])
    told = {(row["a"], row["b"]): row for row in read(folder / "reference_pairs.csv") if row["group"] == group}
    compared = 0
    for pair in shape["comparisons"]:
        is_turned = (pair["a"], pair["b"]) not in told
        row = told[(pair["b"], pair["a"]) if is_turned else (pair["a"], pair["b"])]
        only = [int(row["a_only"]), int(row["b_only"])]
        assert [pair["n"], pair["a_only"], pair["b_only"]] == [int(row["n"]), *(only[::-1] if is_turned else only)]
        assert_printed(pair["difference"]["value"] * (-1 if is_turned else 1), row["diff"])
        assert pair["p_mcnemar"] == pytest.approx(float(row["mcnemar_exact_p"]), rel=1e-5, abs=1e-300)
        compared += 1
    n = len(cards)
    assert compared == (math.comb(n, 2) if n <= 8 else n - 1)


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "group"), [*GROUPS, ("results_tau_airline_4trials", "all")])
def test_published_results_end_in_a_verdict(name: str, group: str, shared_data: Path) -> None:
    """A choice where costs are known; where they are not, the verdict says that it cannot tell."""
    where = [] if group == "all" else ["--where", f"task={group}"]
    shape = said("decide", "--outcomes", shared_data / name / "results.csv", *where)
    assert shape["schema"] == "steelyard.verdict/1"
    if name == "results_llmdrift":
        chosen = {"leetcode_easy": "gpt-4-0314", "sensitive_answered": None}
        assert shape["choice"] == chosen.get(group, "gpt-3.5-turbo-0613")
    else:
        assert shape["choice"] is None
        assert shape["sentence"].startswith("Cannot tell")


@pytest.mark.realdata
def test_costs_from_a_table_beside_the_outcomes_give_a_choice(shared_data: Path, tmp_path: Path) -> None:
    """The outcomes hold no cost, the publisher's table of systems does: named in the settings, it counts as quoted."""
    folder = shared_data / "results_cfpb_14llm"
    lines = ["goal: {min_success: 0.7}", "approaches:"]
    for row in read(folder / "systems.csv"):
        quoted = "source: systems.csv, as_of: 2025-05-01, levers: [prompt]"
        cost = f"cost_per_task_usd: {row['cost_per_case_usd']}, " if row["cost_per_case_usd"] else ""
        lines.append(f"  {row['system']!r}: {{{cost}{quoted}}}")
    settings = tmp_path / "settings.yaml"
    settings.write_text("\n".join(lines) + "\n", encoding="utf-8")
    shape = said("decide", "--outcomes", folder / "results.csv", "--settings", settings)
    assert shape["choice"] is not None
    cards = {
        card["name"]: card
        for card in said("score", "--outcomes", folder / "results.csv", "--settings", settings)["approaches"]
    }
    assert cards[shape["choice"]]["cost_per_task_usd"]["provenance"] == "quoted (systems.csv, 2025-05-01)"
