"""Numbers that cannot be meant are asked about, and what was stated is not called unknown."""

from __future__ import annotations

from pathlib import Path

import pytest

from steelyard.errors import InputError
from tests.study.test_outcomes import loaded, problems, rows_of


def test_scores_of_another_scale_need_a_threshold(tmp_path: Path) -> None:
    """60 of 100 points is no success just because it is above 1; with a threshold it is what that says."""
    rows = [{"approach": "a", "case_id": f"c{i}", "score": 60 + i} for i in range(20)]
    assert problems(tmp_path / "o.csv", rows) == [
        "o.csv:21:score: scores go up to 79, and nothing says which score is a success\n  hint: say it with --threshold SCORE"
    ]
    (card,) = loaded(tmp_path / "o.csv", rows, threshold=70).score().scorecards
    assert card.success.value == 0.5


@pytest.mark.parametrize("column", ["cost_usd", "latency_s", "review_seconds", "prompt_tokens"])
def test_amounts_beyond_reason_are_refused(column: str, tmp_path: Path) -> None:
    """A cost of 1e300 would overflow the first sum it is in."""
    (said,) = problems(tmp_path / "o.csv", rows_of("a", [1], **{column: 1e300}))
    assert said.startswith(f"o.csv:2:{column}: {column!r} is '1e+300', expected a number from 0 to 1e12")


def test_labels_and_setup_that_were_stated_are_not_called_unknown(tmp_path: Path) -> None:
    """The verdict names what was left out of the ledger: nothing of an approach that stated it, be it 0."""
    rows = [*rows_of("a", [1] * 20, cost_usd=0.1), *rows_of("b", [1] * 20, cost_usd=0.2)]
    own = "{levers: [prompt], labels: 0, setup_usd: 0}"
    settings = tmp_path / "s.yaml"
    settings.write_text(f"approaches:\n  a: {own}\n  b: {own}\n", encoding="utf-8")
    unknowns = loaded(tmp_path / "o.csv", rows, settings=settings).decide().verdict.unknowns
    assert not [one for one in unknowns if "labels and training" in one]
    settings.write_text(f"approaches:\n  a: {own}\n  b: {{levers: [prompt]}}\n", encoding="utf-8")
    unknowns = loaded(tmp_path / "o.csv", rows, settings=settings).decide().verdict.unknowns
    assert [one.split(":")[0] for one in unknowns if "training" in one] == ["What labels and training cost for b"]


def test_a_threshold_below_the_scores_is_taken_as_said(tmp_path: Path) -> None:
    """Whoever says 1 means it, whatever the scale."""
    rows = [{"approach": "a", "case_id": f"c{i}", "score": 60.0} for i in range(5)]
    (card,) = loaded(tmp_path / "o.csv", rows, threshold=1).score().scorecards
    assert card.success.value == 1
    with pytest.raises(InputError):
        loaded(tmp_path / "o.csv", rows)
