"""Heads on questions of real bank customers, beside the nearest neighbour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from steelyard.approaches.approach import Prepared
from steelyard.approaches.fakes import ScriptedAsk
from steelyard.approaches.prepare import prepare
from steelyard.approaches.spec import ApproachSpec
from steelyard.approaches.tuning.calibration import reliability
from steelyard.cases.case import Case
from steelyard.cases.duplicates import duplicate_groups
from steelyard.cases.spec import SplitSpec
from steelyard.cases.split import split_cases
from steelyard.models.embeddings import Remembering, load_embedder
from steelyard.task.resolve import resolve_task
from steelyard.task.scorers import score_output
from steelyard.task.spec import TaskSpec
from steelyard.task.task import Task
from tests.approaches.test_head import workbench

pytestmark = [pytest.mark.realdata, pytest.mark.model]

NEAREST = {"model": "none", "retrieval": {"examples": 5}}


def read(path: Path, field: str, *, most: int) -> list[Case]:
    """A sample of a file, drawn by seed."""
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    chosen = np.random.default_rng(0).permutation(len(rows))[:most]
    found = [rows[i] for i in sorted(chosen)]
    return [Case(id=row["id"], input=row["input"], expected={field: row["expected"][field]}) for row in found]


def made(
    cases: list[Case], task: Task, folder: Path, *settings: dict[str, Any]
) -> tuple[list[Prepared], tuple[Case, ...]]:
    """Approaches prepared on a split of our own, in which no repeat is on two sides, and its test cases."""
    splits = split_cases(cases, SplitSpec(), groups=duplicate_groups(cases, threshold=0.8))
    embed = Remembering(load_embedder())
    bench = replace(workbench(folder, train=splits.train, dev=splits.dev), task=task, embedder=lambda: embed)
    return [prepare("a", ApproachSpec.model_validate(one), bench) for one in settings], splits.test


async def right(prepared: Prepared, cases: Sequence[Case], task: Task) -> tuple[list[bool], list[float]]:
    answers = [await prepared.approach.answer(case.visible(), ScriptedAsk([])) for case in cases]
    scores = [
        score_output(answer.output, case.expected, task).score for answer, case in zip(answers, cases, strict=True)
    ]
    return [score == 1 for score in scores], [answer.confidence or 0.0 for answer in answers]


async def test_bank_intents(shared_data: Path, tmp_path: Path) -> None:
    """77 labels from some 900 cases: more often right than the neighbours, and its confidence can be believed."""
    cases = read(shared_data / "banking77" / "train77.jsonl", "label", most=1500)
    labels = sorted({str((case.expected or {})["label"]) for case in cases})
    task = resolve_task(TaskSpec.model_validate({"input": "text", "expected": "label", "labels": labels}), Path())
    head = {"model": "none", "tuning": {"method": "head", "classifier": "auto"}}
    (tuned, nearest), test = made(cases, task, tmp_path, head, NEAREST)
    success, confidence = await right(tuned, test, task)
    neighbours, _ = await right(nearest, test, task)
    assert np.mean(success) > 0.78
    assert np.mean(success) > np.mean(neighbours) - 0.02
    assert reliability(np.array(confidence), np.array(success)).ece < 0.08
    on_dev = (tuned.setup.card or {})["calibration"]["success"]
    assert abs(on_dev - np.mean(success)) < 0.08


async def test_sets_of_bank_intents(shared_data: Path, tmp_path: Path) -> None:
    """48 labels, none to six a case: the whole set is right far more often than that of the neighbours."""
    cases = read(shared_data / "nlupp_banking" / "train.jsonl", "labels", most=1450)
    labels = list(orjson.loads((shared_data / "nlupp_banking" / "labels.json").read_bytes()))
    schema = {
        "type": "object",
        "properties": {"labels": {"type": "array", "items": {"enum": labels}}},
        "required": ["labels"],
    }
    body = {"input": "text", "expected": "labels", "output_schema": schema, "scoring": {"labels": "set"}}
    task = resolve_task(TaskSpec.model_validate(body), Path())
    (tuned, nearest), test = made(cases, task, tmp_path, {"model": "none", "tuning": {"method": "head"}}, NEAREST)
    success, confidence = await right(tuned, test, task)
    neighbours, _ = await right(nearest, test, task)
    assert np.mean(success) > np.mean(neighbours) + 0.1
    assert reliability(np.array(confidence), np.array(success)).ece < 0.12
    assert (tuned.setup.card or {})["calibration"]["micro_f1"] > 0.75
