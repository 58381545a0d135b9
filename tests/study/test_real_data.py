"""A new user's path on cases nobody here wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

import steelyard
from steelyard.study.init import init_study


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
