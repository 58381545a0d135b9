"""docs/extraction.md: every block of YAML in it is a study that passes check."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

import steelyard
from steelyard.study.file import StudyFile
from steelyard.study.init import init_study
from steelyard.study.study import Study

GUIDE = Path(__file__).parents[2] / "docs" / "extraction.md"
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)]
SHOPS = ("Corner Books Ltd", "Harbour Café", "Nails & Paint", "Green Grocer", "Night Chemist")
N_RECEIPTS = 40


def receipt(number: int) -> dict[str, Any]:
    shop, day, total = SHOPS[number % len(SHOPS)], f"{number % 28 + 1:02}/03/2025", f"{number + 1}.50"
    items = [{"description": f"item {number}", "quantity": 1, "amount": total}]
    address = f"{number} Mill Lane"
    return {
        "id": f"r-{number:03}",
        "input": {"text": f"{shop.upper()}\n{address}\n{day}\nitem {number} 1 {total}\nTOTAL RM {total}"},
        "expected": {"company": shop, "date": day, "address": address, "total": total, "line_items": items},
        "company": shop,
    }


def write_receipts(folder: Path, *, without: Sequence[str] = ()) -> Path:
    rows = [receipt(number) for number in range(N_RECEIPTS)]
    for row in rows:
        for name in without:
            row["expected"].pop(name)
    path = folder / "receipts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def study_with(block: dict[str, Any], folder: Path) -> Study:
    """The study of section 2 with what the block says instead."""
    body = BLOCKS[0] if block is BLOCKS[0] else {**BLOCKS[0], **block}
    write_receipts(folder)
    (folder / "study.yaml").write_text(yaml.safe_dump(body, sort_keys=False), "utf-8")
    return steelyard.load(folder)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_every_block_passes_check(block: dict[str, Any], tmp_path: Path) -> None:
    """Fields, rules, patterns, steps and templates are compiled, not only parsed."""
    found = study_with(block, tmp_path).check()
    assert found.n_cases == N_RECEIPTS


def test_the_guide_shows_each_way_to_work_on_a_prompt() -> None:
    """Scoring by field, checks, repair, split and steps are all there."""
    workflows = [
        approach["workflow"]
        for block in BLOCKS
        for approach in (block.get("approaches") or {}).values()
        if approach and "workflow" in approach
    ]
    keys = {key for workflow in workflows for key in workflow}
    assert {"checks", "repair", "split", "steps"} <= keys
    assert StudyFile.model_validate(BLOCKS[0]).task.scoring is not None


def test_the_line_of_json_is_a_case_that_init_reads(tmp_path: Path) -> None:
    """The example of a case has the shape that the command beside it expects."""
    line = re.search(r"```json\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    assert line is not None
    shown = json.loads(line[1])
    assert set(shown["expected"]) == {"company", "date", "address", "total"}
    made = init_study(
        tmp_path / "study",
        cases=write_receipts(tmp_path, without=["line_items"]),
        inputs=["text"],
        expected=list(shown["expected"]),
    )
    assert made.n_rows == N_RECEIPTS


def test_the_amounts_and_dates_named_as_equal_are_equal(tmp_path: Path) -> None:
    """What the comments in section 2 promise."""
    from steelyard.task.scorers import score_output

    task = study_with(BLOCKS[0], tmp_path).task
    expected = {"company": "Corner Books Ltd", "date": "25/12/2025", "address": "12 Mill Lane", "total": "9.00"}
    for date in ("25/12/2025", "2025-12-25", "25 Dec 2025"):
        for total in ("RM 9.00", 9, "9,00"):
            given = {"company": "CORNER  BOOKS, LTD.", "date": date, "address": "12 Mill Lane", "total": total}
            assert score_output(given, expected, task).score == 1.0
