"""Answers that a head is not sure of: they become the out-of-scope label, below a threshold chosen on dev."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steelyard.approaches.conformance import check_approach
from steelyard.approaches.fakes import ScriptedAsk
from steelyard.approaches.head_spec import HeadTuningSpec
from steelyard.approaches.tuning.head import HeadApproach, prepare_head
from steelyard.approaches.workbench import Workbench
from steelyard.cases.case import Case, CaseInput
from steelyard.errors import InputError
from tests.approaches.test_head import WORDS, cases, workbench
from tests.approaches.world import triage_task

LABELS = [*WORDS, "other"]
TASK = triage_task(labels=LABELS)
OUTSIDE = ["weather", "recipe", "football", "holiday", "poem", "guitar", "planet", "novel"]


def strangers(n: int, *, seed: int) -> tuple[Case, ...]:
    """Tickets of words that no label has."""
    rng = np.random.default_rng([seed, 1])
    return tuple(
        Case(id=f"out-{seed}-{i}", input={"text": " ".join(rng.choice(OUTSIDE, 4))}, expected={"label": "other"})
        for i in range(n)
    )


def bench_of(folder: Path, *, dev: Sequence[Case]) -> Workbench:
    return replace(workbench(folder, train=cases(150, seed=1), dev=dev), task=TASK)


def head_of(bench: Workbench, **settings: object) -> tuple[HeadApproach, dict[str, Any]]:
    prepared = prepare_head("head", HeadTuningSpec.model_validate({"method": "head", **settings}), bench)
    assert isinstance(prepared.approach, HeadApproach)
    return prepared.approach, dict(prepared.setup.card or {})


async def success(approach: HeadApproach, some: Sequence[Case]) -> float:
    answers = [await approach.answer(case.visible(), ScriptedAsk([])) for case in some]
    return float(np.mean([answer.output == case.expected for answer, case in zip(answers, some, strict=True)]))


async def test_strange_inputs_become_the_label(tmp_path: Path) -> None:
    """Though no train case has it; others keep theirs, and the confidence is the share that is right below."""
    dev = (*cases(90, seed=2), *strangers(60, seed=2))
    approach, card = head_of(bench_of(tmp_path, dev=dev), out_of_scope="other")
    plain, _ = head_of(bench_of(tmp_path, dev=dev))
    assert await success(approach, strangers(60, seed=4)) > 0.5
    assert await success(plain, strangers(60, seed=4)) == 0
    assert await success(approach, cases(60, seed=4)) > 0.7
    found = card["out_of_scope"]
    assert (found["label"], found["because"], found["n_dev"]) == ("other", "the most successes on dev", 60)
    assert 0.4 < card["calibration"]["coverage"] < 0.8
    assert card["calibration"]["success_above"] > 0.8
    assert card["calibration"]["success"] > 0.7
    answers = [await approach.answer(case.visible(), ScriptedAsk([])) for case in strangers(9, seed=5)]
    answer = next(one for one in answers if one.output == {"label": "other"})
    assert "not sure enough of" in answer.notes[0]
    assert answer.confidence == approach.head.rule.right_below > 0.6
    assert any("without a train case" in note for note in card["notes"])
    assert approach.fingerprint != plain.fingerprint


async def test_the_threshold_is_the_best_one_on_dev(tmp_path: Path) -> None:
    """No other threshold has more successes there, by trying them all."""
    dev = (*cases(60, seed=2, wrong=0.2), *strangers(40, seed=2))
    approach, _ = head_of(bench_of(tmp_path, dev=dev), out_of_scope="other")
    rule = approach.head.rule
    assert rule.threshold is not None
    at_best = await success(approach, dev)
    for threshold in np.linspace(0.01, 0.99, 50):
        other = replace(approach, head=replace(approach.head, rule=replace(rule, threshold=float(threshold))))
        assert await success(other, dev) <= at_best


def test_no_case_on_dev_no_threshold(tmp_path: Path) -> None:
    """It cannot be chosen, and that is said."""
    approach, card = head_of(bench_of(tmp_path, dev=cases(60, seed=2)), out_of_scope="other")
    assert approach.head.rule.threshold is None
    assert any("dev has no case of this label, so it cannot be chosen" in note for note in card["notes"])
    assert card["calibration"]["coverage"] == 1
    approach, card = head_of(bench_of(tmp_path, dev=strangers(5, seed=2)), out_of_scope="other")
    assert approach.head.rule.threshold is None
    assert "too few to choose one" in card["out_of_scope"]["because"]


async def test_a_threshold_can_be_set(tmp_path: Path) -> None:
    """With the label it becomes that; without, no answer is given, and no confidence in it."""
    dev = (*cases(90, seed=2), *strangers(60, seed=2))
    strange = [case.visible() for case in strangers(9, seed=5)]
    approach, card = head_of(bench_of(tmp_path, dev=dev), out_of_scope="other", abstain_below=0.6)
    assert (card["out_of_scope"]["threshold"], card["out_of_scope"]["because"]) == (0.6, "set in study.yaml")
    answers = [await approach.answer(case, ScriptedAsk([])) for case in strange]
    assert {"label": "other"} in [answer.output for answer in answers]
    bare, card = head_of(bench_of(tmp_path, dev=dev), abstain_below=0.6)
    none = [await bare.answer(case, ScriptedAsk([])) for case in strange]
    assert [one.output is None for one in none] == [one.output == {"label": "other"} for one in answers]
    answer = next(one for one in none if one.output is None)
    assert (answer.valid, answer.confidence) == (False, 0.0)
    assert "below 60.0%" in (answer.problem or "")
    assert card["calibration"]["coverage"] < 1
    await check_approach(lambda: bare, CaseInput(id="x", fields={"text": "my card was stolen"}))


def test_a_label_the_task_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'othr', which is no label of the task\n.*did you mean 'other'"):
        head_of(bench_of(tmp_path, dev=()), out_of_scope="othr")


def test_every_setting_that_changes_answers_changes_the_fingerprint(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, dev=(*cases(30, seed=2), *strangers(20, seed=2)))
    settings: list[dict[str, Any]] = [
        {},
        {"classifier": "mlp"},
        {"classifier": "auto"},
        {"balance": "weight"},
        {"out_of_scope": "other"},
        {"abstain_below": 0.5},
        {"out_of_scope": "other", "abstain_below": 0.5},
        {"seed": 1},
    ]
    assert len({head_of(bench, **one)[0].fingerprint for one in settings}) == len(settings)


def test_the_measure_on_dev_saw_none_of_what_it_measures(tmp_path: Path) -> None:
    """Labels of dev that are drawn by lot give no success beyond chance, and confidence says so."""
    rng = np.random.default_rng(6)
    dev = [replace(case, expected={"label": str(rng.choice(list(WORDS)))}) for case in cases(150, seed=2)]
    _, card = head_of(bench_of(tmp_path, dev=dev), classifier="auto")
    assert abs(card["calibration"]["success"] - 1 / 3) < 0.12
    assert abs(card["calibration"]["answers"]["confidence"] - 1 / 3) < 0.12
    assert sum(one["n"] for one in card["calibration"]["answers"]["bins"]) == 150
    assert "cross-fitted within dev" in card["calibration"]["measured"]
