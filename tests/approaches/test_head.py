"""A head learns labels from embeddings, knows how sure it is, and answers with numpy alone."""

from __future__ import annotations

import re
import subprocess
import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from steelyard.approaches.approach import Answer
from steelyard.approaches.conformance import check_approach
from steelyard.approaches.fakes import ScriptedAsk
from steelyard.approaches.head_spec import HeadTuningSpec
from steelyard.approaches.prepare import prepare
from steelyard.approaches.spec import ApproachSpec, Lever
from steelyard.approaches.tuning.head import HeadApproach, prepare_head
from steelyard.approaches.workbench import Workbench
from steelyard.cases.case import Case, CaseInput
from steelyard.errors import InputError
from tests.approaches.world import triage_task

SPEC = HeadTuningSpec(method="head")
TASK = triage_task()
WORDS = {
    "refund": ["money", "refund", "charged", "payment", "amount"],
    "login": ["password", "login", "account", "code", "locked"],
    "card lost": ["card", "stolen", "lost", "gone", "wallet"],
}


class WordHashes:
    """Embeds a text as the normalised sum of one random direction a word."""

    identity = "word-hashes"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.zeros((len(texts), 32), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                row += np.random.default_rng(zlib.crc32(word.encode())).normal(size=32)
            row /= max(float(np.linalg.norm(row)), 1e-9)
        return rows


def cases(n: int, *, seed: int, wrong: float = 0.0) -> tuple[Case, ...]:
    """Tickets of three words of their label and two of any; a share of them with another label."""
    rng = np.random.default_rng(seed)
    labels, every_word = list(WORDS), [word for words in WORDS.values() for word in words]
    found = []
    for i in range(n):
        label = labels[i % 3]
        text = " ".join([*rng.choice(WORDS[label], 3), *rng.choice(every_word, 2)])
        said = labels[(i + 1) % 3] if rng.random() < wrong else label
        found.append(Case(id=f"{seed}-{i}", input={"text": text}, expected={"label": said}))
    return tuple(found)


def workbench(folder: Path, *, train: Sequence[Case] = (), dev: Sequence[Case] = ()) -> Workbench:
    return Workbench(
        task=TASK,
        train=tuple(train),
        dev=tuple(dev),
        folder=folder,
        endpoints={},
        embedder=WordHashes,
        base_gguf=lambda: pytest.fail("a head needs no generative model"),
        cpu_hour_usd=0.36,
        say=lambda line: None,
    )


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return workbench(tmp_path / "prepared", train=cases(150, seed=1), dev=cases(60, seed=2))


async def answered(approach: HeadApproach, text: str) -> Answer:
    return await approach.answer(CaseInput(id="x", fields={"text": text}), ScriptedAsk([]))


def head_of(bench: Workbench, spec: HeadTuningSpec = SPEC) -> HeadApproach:
    approach = prepare_head("head", spec, bench).approach
    assert isinstance(approach, HeadApproach)
    return approach


async def test_it_learns_the_labels(bench: Workbench) -> None:
    """New tickets get their label, in the task's output shape, without a model call."""
    approach = head_of(bench)
    assert (approach.endpoint, approach.levers) == (None, frozenset({Lever.TUNING}))
    new = cases(60, seed=3)
    answers = [await approach.answer(case.visible(), ScriptedAsk([])) for case in new]
    right = sum(answer.output == case.expected for answer, case in zip(answers, new, strict=True))
    assert right >= 54
    assert all(answer.valid and answer.schema_pass for answer in answers)


async def test_it_conforms(bench: Workbench) -> None:
    """It does what every approach must do, a blank case included."""
    case = CaseInput(id="x", fields={"text": "my card was stolen"})
    await check_approach(lambda: prepare("head", _approach_spec(), bench).approach, case)


async def test_confidence_agrees_with_accuracy(tmp_path: Path) -> None:
    """On noisy labels the mean confidence on new cases is near the share that is right, not near 1."""
    bench = workbench(tmp_path, train=cases(300, seed=1, wrong=0.3), dev=cases(600, seed=2, wrong=0.3))
    approach = head_of(bench)
    new = cases(600, seed=4, wrong=0.3)
    answers = [await approach.answer(case.visible(), ScriptedAsk([])) for case in new]
    right = sum(answer.output == case.expected for answer, case in zip(answers, new, strict=True)) / len(new)
    confidence = sum(answer.confidence or 0 for answer in answers) / len(new)
    assert abs(right - confidence) < 0.1


def test_probabilities_are_those_of_the_library(bench: Workbench) -> None:
    """The kept matrix gives scikit-learn's own probabilities, for two labels and for three."""
    from sklearn.linear_model import LogisticRegression

    for labels in (("refund", "login"), tuple(WORDS)):
        train = [case for case in bench.train if case.expected and case.expected["label"] in labels]
        head = head_of(replace(bench, train=tuple(train), dev=())).head
        x = WordHashes().embed([str(case.input["text"]) for case in train])
        y = [str(case.expected["label"]) for case in train if case.expected]
        expected = LogisticRegression(C=10.0, max_iter=5000).fit(x, y)
        assert head.labels == tuple(expected.classes_)
        np.testing.assert_allclose(head.probabilities(x), expected.predict_proba(x), atol=1e-3)


def test_it_is_trained_once(bench: Workbench) -> None:
    """The same data find the same head; the cost is the first training's, and the folder holds no pickle."""
    first = prepare_head("head", SPEC, bench)
    second = prepare_head("head", SPEC, bench)
    assert (first.setup.reused, second.setup.reused) == (False, True)
    assert first.approach.fingerprint == second.approach.fingerprint
    assert second.setup.seconds == first.setup.seconds
    assert second.setup.cost_usd == pytest.approx((second.setup.card or {})["cpu_seconds"] * 0.36 / 3600)
    assert {path.name for path in bench.folder.glob("head-*/*")} == {"head.npz", "card.json"}
    more = replace(bench, train=(*bench.train, *cases(3, seed=9)))
    assert prepare_head("head", SPEC, more).approach.fingerprint != first.approach.fingerprint


def test_a_head_that_is_there_needs_no_scikit_learn(bench: Workbench) -> None:
    """Finding and using a trained head imports numpy only."""
    prepare_head("head", SPEC, bench)
    script = f"""
import asyncio, sys
from pathlib import Path
from tests.approaches.test_head import answered, cases, head_of, workbench
bench = workbench(Path({str(bench.folder)!r}), train=cases(150, seed=1), dev=cases(60, seed=2))
assert asyncio.run(answered(head_of(bench), "refund the payment")).output == {{"label": "refund"}}
assert "sklearn" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])


async def test_rare_labels_and_empty_texts_are_no_trouble(tmp_path: Path) -> None:
    """A label seen once is learnt, an empty text gets some label with its confidence, other labels are left out."""
    two = [case for case in cases(60, seed=1) if case.expected != {"label": "card lost"}]
    rare = Case(id="r", input={"text": "wallet stolen"}, expected={"label": "card lost"})
    empty = Case(id="e", input={"text": ""}, expected={"label": "login"})
    missing = Case(id="m", input={}, expected={"label": "login"})
    foreign = Case(id="f", input={"text": "hello"}, expected={"label": "greeting"})
    unlabelled = Case(id="u", input={"text": "hello"})
    bench = workbench(tmp_path, train=[*two, rare, empty, missing, foreign, unlabelled])
    prepared = prepare_head("head", SPEC, bench)
    assert prepared.setup.n_examples == len(two) + 3
    assert (prepared.setup.card or {})["n_left_out"] == 1
    approach = head_of(bench)
    assert "card lost" in approach.head.labels
    assert (await answered(approach, "")).output is not None
    assert 0 < ((await answered(approach, "")).confidence or 0) < 1


def test_too_little_to_learn_from_is_refused(tmp_path: Path) -> None:
    """One label, no labelled case, or a task without labels: a sentence with what to do."""
    one = [case for case in cases(30, seed=1) if case.expected == {"label": "login"}]
    with pytest.raises(InputError, match=r"at least two labels, and there is only 'login'"):
        prepare_head("head", SPEC, workbench(tmp_path, train=one))
    with pytest.raises(InputError, match=r"at least two labels, and there is none"):
        prepare_head("head", SPEC, workbench(tmp_path))
    free = replace(workbench(tmp_path, train=cases(30, seed=1)), task=triage_task(labels=None))
    with pytest.raises(InputError, match=r"approaches\.head\.tuning.*this task has none\n.*method: lora"):
        prepare_head("head", SPEC, free)


def test_max_examples_bounds_the_training_set(bench: Workbench) -> None:
    """A learning curve can be drawn: fewer examples, same labels, another head."""
    small = prepare_head("head", SPEC.model_copy(update={"max_examples": 30}), bench)
    assert small.setup.n_examples == 30
    assert small.approach.fingerprint != prepare_head("head", SPEC, bench).approach.fingerprint


def _approach_spec() -> ApproachSpec:
    return ApproachSpec.model_validate({"model": "none", "tuning": {"method": "head"}})
