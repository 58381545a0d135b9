"""`steelyard tune --curve`: nested parts of the labels, judged on dev, kept, priced, never on test."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from steelyard.approaches.prepare import prepare
from steelyard.cases.case import Case
from steelyard.errors import InputError
from steelyard.models import embeddings
from steelyard.study import local_model
from steelyard.study.curve_points import KnownVectors, LoraLearner
from steelyard.study.learning_curve import curve_of
from steelyard.study.running import plan_run, workbench
from steelyard.study.study import load_study
from steelyard.study.tuning import tune_approach
from steelyard.study.tuning_ground import ground_of
from tests.approaches.tiny_llama import write_tiny_gguf
from tests.cli.tickets import Ran, steelyard, write_cases

STUDY = """
study: tickets
cases: {file: cases.csv, split: {train: 0.5, dev: 0.25}}
task: {input: text, expected: label, labels: [billing, delivery]}
models: {local: {gguf: tiny.gguf}}
approaches:
  head: {model: none, tuning: {method: head}}
  lora: {tuning: {method: lora, layers: 2, rank: 4, max_tokens: 512, max_examples: 96}}
  zero-shot: {}
money: {failed_task_usd: 5.0, labelling_seconds_per_case: 1}
"""
N_TRAIN, N_DEV = 320, 160


def tickets(n: int) -> list[tuple[str, str]]:
    """Each label has forty words of its own, of which a ticket holds two: more labels teach more words."""
    source = random.Random(3)
    rows = []
    for i in range(n):
        label = ("billing", "delivery")[i % 2]
        words = [f"{label[0]}{source.randrange(40)}", f"{label[0]}{source.randrange(40)}"]
        rows.append((" ".join([*words, *(f"x{source.randrange(300)}" for _ in range(4)), f"no{i}"]), label))
    return rows


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model, "embedder", lambda say: embeddings.HashingEmbedder())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    folder.mkdir()
    write_tiny_gguf(folder / "tiny.gguf")
    write_cases(folder / "cases.csv", tickets(640))
    (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
    return folder


def curve(folder: Path, approach: str, *arguments: object) -> Ran:
    return steelyard("tune", folder, "--approach", approach, "--curve", "--quiet", *arguments)


def prepared(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / ".steelyard" / "prepared").iterdir() if path.name != "unfinished")


def test_a_head_rises_with_its_labels(folder: Path) -> None:
    """Four sizes, doubling; a fit, forecasts, the labels for a target, and what labelling more is worth. The last point
    is the approach as `tune` trains it, and a second curve trains nothing and finds the same.
    """
    ran = curve(folder, "head", "--target", "0.99", "--seeds", 2, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["schema"] == "steelyard.learning-curve/1"
    (found,) = ran.json["curves"]
    assert [point["n_labels"] for point in found["points"]] == [40, 80, 160, 320]
    assert [point["n_draws"] for point in found["points"]] == [2, 2, 2, 1]
    assert found["n_dev"] == N_DEV
    assert found["shape"] == "rising"
    assert found["rise"]["low"] > 0
    assert [one["n_labels"] for one in found["forecasts"]] == [640, 1280]
    assert all(one["success"]["low"] <= one["success"]["value"] <= one["success"]["high"] for one in found["forecasts"])
    assert found["needed"]["target"] == 0.99
    assert found["worth"]["answer"] in ("worth it", "not worth it", "cannot tell")
    assert found["worth"]["n_to_label"] == N_TRAIN
    assert found["worth"]["labelling_usd"]["provenance"].startswith("assumed")
    assert json.loads((folder / ".steelyard" / "curves" / "head.json").read_text()) == ran.json
    there = prepared(folder)
    assert len(there) == 3 * 2 + 1
    assert tune_approach(load_study(folder), "head", progress=False).reused
    again = curve(folder, "head", "--seeds", 2, "--json").json["curves"][0]
    assert prepared(folder) == there
    assert all(point["reused"] for point in again["points"])
    for figure in ("shape", "law", "rise", "forecasts", "gain"):
        assert again[figure] == found[figure]
    said = curve(folder, "head", "--seeds", 1).out
    for line in ("judged on 160 dev cases", "labels  draws  success  90% interval", "each size was drawn once"):
        assert line in said
    assert "is it worth labelling more? " in said
    assert "the test cases were not touched" in said
    assert "None" not in said


class Untouchable(tuple[Case, ...]):
    """A test split that fails whoever looks at it."""

    def _touched(self, *_: object) -> NoReturn:
        raise AssertionError("the test split was looked at")

    __iter__ = __len__ = __getitem__ = __contains__ = __bool__ = __add__ = _touched


@pytest.mark.parametrize("approach", ["head", "lora"])
def test_the_test_split_is_never_looked_at(folder: Path, approach: str) -> None:
    study = load_study(folder)
    splits = replace(study.material.splits, test=Untouchable())
    study.__dict__["material"] = replace(study.material, splits=splits)
    with pytest.raises(AssertionError, match="looked at"):
        list(study.material.splits.test)
    assert curve_of(study, approach, draws=1, tuner="own", progress=False).curves


def test_a_lora_comes_after_a_head_that_shows_the_shape(folder: Path) -> None:
    """The head is worth nothing by itself; what a call of the LoRA costs is unknown before the first run."""
    ran = curve(folder, "lora", "--seeds", 1, "--json")
    assert ran.code == 0, ran.err
    head, lora = ran.json["curves"]
    assert (head["tuner"], head["is_own"], head["worth"]) == ("head", False, None)
    assert (lora["tuner"], lora["is_own"]) == ("lora", True)
    assert [point["n_labels"] for point in lora["points"]] == [12, 24, 48, 96]
    assert "teacher-forced" in lora["judged"]
    assert lora["n_available"] == N_TRAIN
    assert lora["worth"]["answer"] == "cannot tell"
    assert "not known" in lora["worth"]["because"] or lora["shape"] != "rising"
    assert lora["worth"]["balance_usd"]["value"] is None
    assert tune_approach(load_study(folder), "lora", progress=False).reused
    said = curve(folder, "lora", "--seeds", 1, "--tuner", "head").out
    assert "in the place of its own tuner: for the shape alone" in said
    assert "is it worth" not in said


def test_a_lora_is_judged_as_training_judged_it(folder: Path) -> None:
    """Cases that training was validated on come out the same when they are judged for a curve."""
    study = load_study(folder)
    plan = plan_run(study.folder, study.file, study.task, study.material, approaches=["lora"], limit=None)
    ground = ground_of(plan, "lora", lambda line: None)
    bench = workbench(plan, say=lambda line: None)
    learner = LoraLearner(
        name="lora",
        spec=ground.spec,
        bench=bench,
        target=ground.target,
        kept=folder / ".steelyard" / "curves" / "judged",
    )
    made = prepare("lora", ground.spec, bench)
    assert made.setup.card is not None
    known: dict[str, Any] = made.setup.card["validation_right"]
    cases = [case for case in bench.train if case.id in known]
    right = learner.right(made, cases)
    assert [bool(one) for one in right] == [known[case.id] for case in cases]
    (kept,) = learner.kept.iterdir()
    kept.write_text(json.dumps({case.id: True for case in cases}))  # what is kept is not judged again
    assert learner.right(made, cases).all()


def test_what_there_is_no_time_for_is_left_out_and_named(folder: Path) -> None:
    """The first size of the cheap tuner is always tried; a curve of one size says that it needs three."""
    ran = curve(folder, "lora", "--max-seconds", "0.001", "--json")
    assert ran.code == 0, ran.err
    (head,) = ran.json["curves"]
    assert [point["n_labels"] for point in head["points"]] == [12]
    assert "3 sizes" in head["why_no_fit"]
    assert len(head["left_out"]) == 4
    assert all("no time left" in one for one in head["left_out"])
    assert ran.json["left_out"] == ["lora: no time left"]


def test_what_cannot_be_measured_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="is not tuned"):
        curve_of(load_study(folder), "zero-shot", progress=False)
    study = load_study(folder)
    study.__dict__["material"] = replace(study.material, splits=replace(study.material.splits, dev=()))
    with pytest.raises(InputError, match="no labelled case to judge on"):
        curve_of(study, "head", progress=False)


@pytest.mark.parametrize("arguments", [("--curve", "--audit"), ("--curve", "--export", "out"), ("--target", "0.9")])
def test_options_that_do_not_go_together_are_refused(folder: Path, arguments: tuple[str, ...]) -> None:
    ran = steelyard("tune", folder, "--approach", "head", *arguments)
    assert ran.code == 2
    assert "--curve" in ran.err


def test_each_text_is_embedded_once() -> None:
    """All points of a head share the vectors of their texts, which are those of the embedder."""
    asked: list[str] = []

    class Counting(embeddings.HashingEmbedder):
        def embed(self, texts: Any) -> embeddings.Vectors:  # noqa: ANN401 - as the embedder takes them
            asked.extend(texts)
            return super().embed(texts)

    known, plain = KnownVectors(Counting()), embeddings.HashingEmbedder()
    for texts in (["a", "b", "a"], ["b", "c"], []):
        assert (known.embed(texts) == plain.embed(texts)).all()
    assert asked == ["a", "b", "c"]
    assert known.identity == plain.identity
