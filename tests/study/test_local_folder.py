"""`models.local.folder`: a Hugging Face folder is the local model, converted once and known by its content."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from steelyard.errors import InputError
from steelyard.models.spec import LocalModelSpec
from steelyard.study import local_model
from tests.approaches.test_lora import Served
from tests.approaches.tiny_hf import write_hf_folder
from tests.approaches.tiny_llama import Notes


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEELYARD_CACHE", str(tmp_path / "cache"))


def test_it_is_served_and_known_by_its_content(tmp_path: Path) -> None:
    """The path starts from the study; llama.cpp loads what came out; other weights are another model."""
    write_hf_folder(tmp_path / "base")
    spec, notes = LocalModelSpec(folder="base"), Notes()
    weights = local_model.gguf(spec, tmp_path, notes)
    assert weights.is_relative_to(tmp_path / "cache")
    assert local_model.gguf(spec, tmp_path, notes) == weights
    assert notes.lines == ["converting base to GGUF, once"]
    answer = Served(weights).post("/completion", {"prompt": [1, 2, 3], "n_predict": 3, "temperature": 0})
    assert answer["tokens_predicted"] >= 1
    before = local_model.identity(spec, tmp_path)
    assert before.startswith("base ")
    (tmp_path / "other").mkdir()
    write_hf_folder(tmp_path / "other" / "base", seed=1)
    assert local_model.identity(LocalModelSpec(folder="other/base"), tmp_path) != before


def test_a_wrong_path_or_two_models_are_refused(tmp_path: Path) -> None:
    """One sentence each, with the place in study.yaml."""
    with pytest.raises(InputError, match=r"study.yaml:models.local.folder: there is no folder"):
        local_model.identity(LocalModelSpec(folder="none"), tmp_path)
    with pytest.raises(ValidationError, match="gguf and folder both name the model"):
        LocalModelSpec(gguf="a.gguf", folder="b")
