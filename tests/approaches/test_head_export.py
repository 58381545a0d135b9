"""An exported head answers as the head does, with nothing but numpy and safetensors."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from steelyard.approaches.tuning.exports import write_readme
from steelyard.approaches.tuning.head_export import write_head
from steelyard.approaches.tuning.head_model import Head, Layer, Rule, read_head, save_head


def head(*, is_set: bool, hidden: bool, threshold: float | None = None) -> Head:
    rng = np.random.default_rng(0)

    def layer(n_out: int, n_in: int) -> Layer:
        return Layer(rng.normal(size=(n_out, n_in)).astype(np.float32), rng.normal(size=n_out).astype(np.float32))

    return Head(
        labels=("a", "b", "ç"),
        is_set=is_set,
        network=(layer(5, 8), layer(3, 5)) if hidden else (layer(3, 8),),
        rule=Rule(
            scale=np.array([0.7, 0.8, 0.9]) if is_set else np.full(3, 0.7),
            shift=np.array([0.1, 0.0, -0.5]) if is_set else np.zeros(3),
            cut=0.4,
            at_least=1,
            at_most=2,
            answer_scale=0.8,
            answer_shift=-0.1,
            threshold=threshold,
            right_below=0.6,
        ),
    )


def program(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("classify", folder / "classify.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("is_set", [False, True])
@pytest.mark.parametrize("hidden", [False, True])
def test_the_exported_program_answers_as_the_head(tmp_path: Path, is_set: bool, hidden: bool) -> None:
    """Probabilities, labels and confidence, below the threshold too."""
    one = head(is_set=is_set, hidden=hidden, threshold=0.5)
    folder = tmp_path / "head"
    write_head(folder, one, embedder="mini@1", input_fields=("text",), field="label", out_of_scope="b")
    classifier = program(folder).Classifier(folder)
    embeddings = np.random.default_rng(1).normal(size=(60, 8)).astype(np.float32)
    found = one.decide(embeddings)
    n_below = 0
    for row, marks, confidence in zip(embeddings, found.marks, found.confidence, strict=True):
        np.testing.assert_allclose(classifier.probabilities(row), one.probabilities(row[None])[0], rtol=1e-4)
        labels, sure = classifier.answer(row)
        if confidence < 0.5 and one.names(marks) != ("b",):
            n_below += 1
            assert (labels, sure) == (["b"], 0.6)
        else:
            assert (tuple(labels), sure) == (one.names(marks), pytest.approx(confidence, rel=1e-4))
    assert 0 < n_below < 60
    facts = json.loads((folder / "head.json").read_text(encoding="utf-8"))
    assert (facts["labels"], facts["embedder"], facts["field"]) == (["a", "b", "ç"], "mini@1", "label")
    assert {path.name for path in folder.iterdir()} == {"head.safetensors", "head.json", "classify.py"}
    write_readme(tmp_path, approach="mine", facts=[])
    assert "Classifier('head').answer(embedding)" in (tmp_path / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("is_set", [False, True])
def test_what_is_kept_is_what_was_trained(tmp_path: Path, is_set: bool) -> None:
    """Written and read, every number is the same."""
    for threshold in (None, 0.25):
        one = head(is_set=is_set, hidden=True, threshold=threshold)
        save_head(tmp_path / "head.npz", one)
        again = read_head(tmp_path / "head.npz")
        assert (again.labels, again.is_set) == (one.labels, one.is_set)
        embeddings = np.random.default_rng(2).normal(size=(20, 8)).astype(np.float32)
        np.testing.assert_array_equal(again.probabilities(embeddings), one.probabilities(embeddings))
        np.testing.assert_array_equal(again.decide(embeddings).confidence, one.decide(embeddings).confidence)
        assert (again.rule.threshold, again.rule.at_most, again.rule.right_below) == (threshold, 2, 0.6)
