"""A head that answers with several labels: learned one by one, cut where the task's own score is best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steelyard.approaches.fakes import ScriptedAsk
from steelyard.approaches.head_spec import HeadTuningSpec
from steelyard.approaches.tuning.head import HeadApproach, prepare_head
from steelyard.approaches.tuning.head_answers import answer_space, in_the_order_of, labels_of
from steelyard.approaches.workbench import Workbench
from steelyard.cases.case import Case
from steelyard.errors import InputError
from steelyard.task.resolve import resolve_task
from steelyard.task.scorers import score_output
from steelyard.task.spec import TaskSpec
from steelyard.task.task import Task
from tests.approaches.test_head import WORDS, workbench

SPEC = HeadTuningSpec(method="head")


def task_of(rule: dict[str, Any] | None = None, **fields: object) -> Task:
    items = rule or {"type": "array", "items": {"enum": list(WORDS)}}
    schema = {"type": "object", "properties": {"topics": items}, "required": ["topics"], "additionalProperties": False}
    body = {"input": "text", "expected": "topics", "output_schema": schema, "scoring": {"topics": "set"}, **fields}
    return resolve_task(TaskSpec.model_validate(body), Path())


def cases(n: int, *, seed: int, most: int = 2) -> tuple[Case, ...]:
    """Tickets of two words of each of their labels, and two words of any."""
    rng = np.random.default_rng(seed)
    every_word = [word for words in WORDS.values() for word in words]
    found = []
    for i in range(n):
        labels = list(rng.permutation(list(WORDS))[: rng.integers(0, most + 1)])
        words = [word for label in labels for word in rng.choice(WORDS[label], 2)]
        expected = {"topics": [label for label in WORDS if label in labels]}
        found.append(
            Case(
                id=f"{seed}-{i}",
                input={"text": " ".join([*words, "hello", *rng.choice(every_word, 2)])},
                expected=expected,
            )
        )
    return tuple(found)


def bench_of(folder: Path, *, task: Task | None = None, n: int = 200, dev: Sequence[Case] | None = None) -> Workbench:
    bench = workbench(folder, train=cases(n, seed=1), dev=cases(120, seed=2) if dev is None else dev)
    return replace(bench, task=task or task_of())


def head_of(bench: Workbench, spec: HeadTuningSpec = SPEC) -> tuple[HeadApproach, dict[str, Any]]:
    prepared = prepare_head("head", spec, bench)
    assert isinstance(prepared.approach, HeadApproach)
    return prepared.approach, dict(prepared.setup.card or {})


@pytest.mark.parametrize("classifier", ["linear", "mlp"])
async def test_it_learns_sets(tmp_path: Path, classifier: str) -> None:
    """Most new tickets get just their labels, none included; confidence is the share of sets that is right."""
    spec = HeadTuningSpec.model_validate({"method": "head", "classifier": classifier})
    approach, card = head_of(bench_of(tmp_path), spec)
    new = cases(200, seed=3)
    answers = [await approach.answer(case.visible(), ScriptedAsk([])) for case in new]
    task = task_of()
    right = [
        score_output(answer.output, case.expected, task).score == 1 for answer, case in zip(answers, new, strict=True)
    ]
    share, confidence = sum(right) / len(new), sum(answer.confidence or 0.0 for answer in answers) / len(new)
    assert share > 0.5
    assert abs(share - confidence) < 0.1
    assert all(answer.valid for answer in answers)
    assert {"topics": []} in [answer.output for answer in answers]
    assert abs(card["calibration"]["success"] - share) < 0.12
    assert card["calibration"]["micro_f1"] > card["calibration"]["exact"] > 0.5
    assert card["calibration"]["labels"]["n"] == 120 * 3
    assert card["hyperparameters"]["classifier"] == classifier


def test_the_cut_follows_the_score_of_the_task(tmp_path: Path) -> None:
    """Where half the labels are enough for a success, another cut may be best; the head is another one."""
    strict, strict_card = head_of(bench_of(tmp_path))
    loose, loose_card = head_of(bench_of(tmp_path, task=task_of(success_threshold=0.5)))
    assert strict.fingerprint != loose.fingerprint
    assert loose_card["calibration"]["success"] > strict_card["calibration"]["success"]
    assert 0.05 <= strict_card["cut"] <= 0.95


async def test_the_schema_bounds_the_number_of_labels(tmp_path: Path) -> None:
    """At least one where the schema says so, at most one where it says that."""
    rule = {"type": "array", "items": {"enum": list(WORDS)}, "minItems": 1, "maxItems": 1}
    bench = bench_of(tmp_path, task=task_of(rule))
    one = [case for case in bench.train if len((case.expected or {})["topics"]) == 1]
    approach, _ = head_of(replace(bench, train=tuple(one), dev=()))
    for case in cases(30, seed=5):
        answer = await approach.answer(case.visible(), ScriptedAsk([]))
        assert answer.output is not None
        assert len(answer.output["topics"]) == 1


async def test_lists_are_ordered_as_the_cases_order_them(tmp_path: Path) -> None:
    """Scorers that compare lists place by place are served: by the alphabet here, though the schema lists otherwise."""
    task = task_of()
    space = answer_space(task)
    assert space is not None
    case = Case(id="a", input={"text": "x"}, expected={"topics": ["card lost", "login"]})
    assert in_the_order_of([case], space).labels == ("card lost", "login", "refund")
    assert in_the_order_of(cases(20, seed=1), space).labels == tuple(WORDS)


def test_which_tasks_have_labels() -> None:
    """Labels, an enumeration, a list of one, a definition of the schema's own; free text and open lists have none."""
    listed = {"enum": ["a", "b"]}
    assert (single := answer_space(task_of({"type": "string", **listed}))) is not None
    assert (single.is_set, single.labels) == (False, ("a", "b"))
    assert answer_space(task_of({"type": "array", "items": {"type": "string"}})) is None
    assert answer_space(task_of({"type": "string"})) is None
    task = task_of()
    found = answer_space(task)
    assert found is not None
    assert (found.is_set, found.labels) == (True, tuple(WORDS))
    for expected in (None, {}, {"topics": None}, {"topics": "login"}, {"topics": ["login", "other"]}):
        assert labels_of(Case(id="x", input={}, expected=expected), found) is None


def test_labels_can_stand_in_a_definition() -> None:
    """As Pydantic writes a list of an enumeration."""
    schema = {
        "type": "object",
        "properties": {"topics": {"type": "array", "items": {"$ref": "#/$defs/Topic"}}},
        "$defs": {"Topic": {"type": "string", "enum": ["a", "b"]}},
        "required": ["topics"],
    }
    task = resolve_task(
        TaskSpec.model_validate({"input": "text", "expected": "topics", "output_schema": schema}), Path()
    )
    space = answer_space(task)
    assert space is not None
    assert (space.is_set, space.labels) == (True, ("a", "b"))


def test_a_schema_that_asks_for_more_is_refused(tmp_path: Path) -> None:
    """A head fills one field; what else is required it cannot invent."""
    properties = {"topics": {"type": "array", "items": {"enum": list(WORDS)}}, "reason": {"type": "string"}}
    schema = {"type": "object", "properties": properties, "required": ["topics", "reason"]}
    with pytest.raises(InputError, match=r"fills 'topics' alone.*reason"):
        head_of(bench_of(tmp_path, task=task_of(output_schema=schema)))


async def test_twenty_cases_and_no_dev(tmp_path: Path) -> None:
    """It trains with usual settings, and says that nothing was chosen."""
    for classifier in ("linear", "mlp", "auto"):
        spec = HeadTuningSpec.model_validate({"method": "head", "classifier": classifier})
        approach, card = head_of(bench_of(tmp_path, n=20, dev=()), spec)
        assert card["calibration"] is None
        assert any("dev has 0 labelled cases" in note for note in card["notes"])
        answer = await approach.answer(cases(1, seed=9)[0].visible(), ScriptedAsk([]))
        assert answer.valid
        assert 0 < (answer.confidence or 0) < 1
