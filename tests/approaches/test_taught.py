"""What tuners make of labels that a teacher gave: after people's, never validated on, weighed, counted apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.approaches.approach import Setup
from steelyard.approaches.head_spec import HeadTuningSpec
from steelyard.approaches.hosted_spec import HostedTuningSpec
from steelyard.approaches.lora_spec import LoraTuningSpec
from steelyard.approaches.prepare import prepare
from steelyard.approaches.spec import ApproachSpec
from steelyard.approaches.tuning.base_model import load_base
from steelyard.approaches.tuning.examples import Example, balanced, choose, hold_out, tokenise
from steelyard.approaches.tuning.head_fit import Learnt, fit_linear
from steelyard.approaches.tuning.head_model import logits
from steelyard.approaches.tuning.lora import TrainingData, adapter_digest
from steelyard.approaches.tuning.repeats import without_repeats
from steelyard.approaches.tuning.taught import cost_of_teachers, taught, training_cases, with_teachers
from steelyard.cases.case import Case
from tests.approaches.test_lora import cases, prompt, target
from tests.approaches.tiny_llama import write_tiny_gguf
from tests.approaches.world import triage_task, workbench

LORA = LoraTuningSpec(method="lora")
HEAD = HeadTuningSpec(method="head")


def distilled(n: int, *, cost_usd: float | None = 0.25, cluster: str | None = None) -> tuple[Case, ...]:
    meta = {"licence": "MIT", "cost_usd": cost_usd}
    return tuple(
        replace(case, id=f"d{i}", input={"text": f"{case.input['text']} grown {i}"}, teacher="big", meta=meta,
                cluster=cluster)
        for i, case in enumerate(cases(n, seed=1))
    )  # fmt: skip


# ---- choosing --------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 60), st.integers(0, 3))
def test_labels_of_people_come_first(n_people: int, n_grown: int, at_most: int, seed: int) -> None:
    """A teacher's fill what people's leave room for, and change nothing of which of theirs are taken."""
    people, grown = cases(n_people), distilled(n_grown)
    chosen = choose([*grown, *people], target, at_most=at_most, seed=seed)
    alone = choose(people, target, at_most=at_most, seed=seed)
    assert chosen[: len(alone)] == alone
    assert all(case.teacher == "big" for case in chosen[len(alone) :])
    assert len(chosen) == min(at_most, n_people + n_grown)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 3))
def test_a_teacher_is_never_validated_on(n_people: int, n_grown: int, seed: int) -> None:
    """Else stopping early would reward agreeing with it; the validation cases are those there would be without it."""
    people = cases(n_people)
    train, validation = hold_out([*people, *distilled(n_grown)], target, seed=seed)
    assert validation == hold_out(people, target, seed=seed)[1]
    assert len(train) + len(validation) == n_people + n_grown


def test_what_belongs_to_a_validation_case_is_not_learned() -> None:
    """One customer's cases are on one side, whoever labelled them."""
    people = tuple(replace(case, cluster=case.id) for case in cases(40))
    _, validation = hold_out(people, target, seed=0)
    grown = [replace(case, cluster=people[i].id) for i, case in enumerate(distilled(40))]
    train, again = hold_out([*people, *grown], target, seed=0)
    assert again == validation
    assert not {case.cluster for case in train} & {case.cluster for case in validation}
    assert len(train) == 80 - 2 * len(validation)


def test_the_bench_of_prompts_keeps_peoples_labels(tmp_path: Path) -> None:
    """Only what tuners are handed has the others behind; weight 0 leaves them out; a repeat of a person's goes."""
    people = cases(9)
    grown = (*distilled(4), replace(distilled(1)[0], id="again", input=people[0].input, expected=people[0].expected))
    bench = replace(workbench(tmp_path, train=people), distilled=grown)
    assert bench.train == people
    assert taught(bench, LORA).train == (*people, *grown)
    assert [case.id for case in training_cases(bench, LORA)][-4:] == ["d0", "d1", "d2", "d3"]
    for spec in (
        LORA.model_copy(update={"distilled": 0.0}),
        HEAD.model_copy(update={"distilled": 0.0}),
        HostedTuningSpec(method="hosted", distilled=0),
    ):
        assert taught(bench, spec).train == people


# ---- weights ---------------------------------------------------------------------------------------------------------


def test_a_distilled_example_has_its_weight_and_the_mean_is_1(tmp_path: Path) -> None:
    """However labels are balanced besides."""
    write_tiny_gguf(tmp_path / "tiny.gguf")
    base = load_base(tmp_path / "tiny.gguf")
    some = [*cases(6), *distilled(3)]
    examples = tokenise(base, some, prompt, target, max_tokens=96, distilled_weight=0.25).examples
    assert [one.weight for one in examples] == [1.0] * 6 + [0.25] * 3
    for how in ("none", "oversample", "weight"):
        weighed = balanced(examples, how)
        assert np.mean([one.weight for one in weighed]) == pytest.approx(1)
    plain = balanced(examples, "none")
    assert plain[-1].weight / plain[0].weight == pytest.approx(0.25)


def test_equal_weights_are_left_as_they_are() -> None:
    """So that what was trained before there were distilled labels is found again."""
    examples = [Example(prompt=(1,), completion=(i % 2, 9)) for i in range(5)]
    assert balanced(examples, "none") == tuple(examples)


def test_a_head_leans_to_what_weighs_more() -> None:
    """The same input with two labels: the odds follow the weights; equal weights are as none."""
    x = np.tile(np.eye(4, dtype=np.float32)[0], (8, 1))
    marks = np.array([[True, False]] * 4 + [[False, True]] * 4)
    even = Learnt(x=x, marks=marks, is_set=False)
    ones = replace(even, weights=np.ones(8, np.float32))
    leaning = replace(even, weights=np.array([1.6] * 4 + [0.4] * 4, np.float32))

    def odds(learnt: Learnt) -> float:
        first, second = logits(fit_linear(learnt, strength=1e6, is_weighted=False), x[:1])[0]
        return float(first - second)

    assert odds(even) == pytest.approx(odds(ones), abs=1e-6)
    assert odds(leaning) == pytest.approx(np.log(4), abs=0.05)


def test_the_weight_is_part_of_the_address_only_where_it_matters() -> None:
    """Without distilled labels the setting changes nothing that was trained; with them each weight is another training."""

    def digest(some: tuple[Case, ...], weight: float) -> str:
        spec = LORA.model_copy(update={"distilled": weight})
        data = TrainingData(cases=some, prompt=prompt, target=target, distilled_weight=weight)
        return adapter_digest(spec, data, base_sha256="b")

    people = cases(4)
    assert digest(people, 1.0) == digest(people, 0.5) == digest(people, 0.0)
    both = (*people, *distilled(2))
    assert digest(both, 1.0) != digest(both, 0.5)
    # An own label and a teacher's with the same words are not the same: only one is validated on.
    assert digest(both, 1.0) != digest(tuple(replace(case, teacher=None) for case in both), 1.0)


# ---- the card --------------------------------------------------------------------------------------------------------


def test_people_are_counted_apart_and_the_teacher_is_paid_for() -> None:
    some = (*cases(30), *distilled(20))
    setup = Setup(seconds=1.0, cost_usd=0.1, n_examples=50, card={"kind": "lora"})
    found = with_teachers(setup, some, LORA)
    assert found.n_examples == 30
    assert found.cost_usd == 0.1  # of the training; the teacher has a line of its own
    assert found.card is not None
    facts = found.card["distilled"]
    assert (facts["n"], facts["n_by_people"], facts["cost_usd"]) == (20, 30, 5.0)
    assert facts["teachers"] == {"big": 20}
    assert facts["licences"] == {"big": ["MIT"]}
    assert with_teachers(setup, cases(30), LORA) is setup


def test_a_lora_learns_them_and_says_so_on_its_card(tmp_path: Path) -> None:
    """Trained on the prompt as deployed, validated on people's labels alone; found again."""
    write_tiny_gguf(tmp_path / "tiny.gguf")
    people, grown = cases(30), distilled(10)
    bench = workbench(tmp_path, train=people, task=triage_task(labels=sorted({target(case) for case in people})))
    bench = replace(bench, distilled=grown, base_gguf=lambda: tmp_path / "tiny.gguf")
    tuning = LORA.model_copy(update={"layers": 2, "rank": 4, "max_tokens": 512, "epochs": 0.3})
    prepared = prepare("a", ApproachSpec(tuning=tuning), bench)
    card = prepared.setup.card or {}
    n_people = len(without_repeats(people))
    assert (card["n_train"], card["n_validation"]) == (n_people - 3 + 10, 3)
    assert set(card["validation_right"]) <= {case.id for case in people}
    assert (card["distilled"]["n"], prepared.setup.n_examples) == (10, n_people)
    assert prepare("a", ApproachSpec(tuning=tuning), bench).setup.reused


def test_a_sample_leaves_distilled_ones_out_first() -> None:
    setup = Setup(seconds=1.0, cost_usd=0.1, n_examples=35)
    found = with_teachers(setup, (*cases(30), *distilled(20)), LORA.model_copy(update={"max_examples": 35}))
    assert (found.n_examples, (found.card or {})["distilled"]["n"]) == (30, 5)


def test_an_unknown_cost_stays_unknown() -> None:
    assert cost_of_teachers((*distilled(2), *distilled(1, cost_usd=None))) is None
    assert cost_of_teachers(cases(3)) == 0
