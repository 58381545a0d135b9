"""The trainer on PEFT takes the steps of the lean one; 4 bits and GPUs are chosen or refused before anything starts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from steelyard.approaches.lora_spec import LoraTuningSpec
from steelyard.approaches.tuning import peft_training
from steelyard.approaches.tuning.adam import AdapterWeights
from steelyard.approaches.tuning.base_model import BaseModel, load_base
from steelyard.approaches.tuning.checkpoints import kept_step
from steelyard.approaches.tuning.examples import Example
from steelyard.approaches.tuning.forward import Forward
from steelyard.approaches.tuning.hf_folder import convert_folder
from steelyard.approaches.tuning.llama import Llama
from steelyard.approaches.tuning.peft_model import PeftLlama
from steelyard.approaches.tuning.peft_training import train_adapter_peft
from steelyard.approaches.tuning.placement import Hardware, Placement, place, recomputes
from steelyard.approaches.tuning.progress_line import ProgressLine
from steelyard.approaches.tuning.trained import Trained
from steelyard.approaches.tuning.training import train_adapter
from steelyard.errors import InputError, MissingExtra
from steelyard.models.weights import SMOLLM2_135M_INSTRUCT, cached_path
from tests.approaches.test_lora import SMALL, WORDS, cases, tokenised, tuned, workbench
from tests.approaches.tiny_hf import write_hf_folder
from tests.approaches.tiny_llama import SHAPE, Notes, one_thread, write_tiny_gguf

pytest.importorskip("peft")
PEFT = SMALL.model_copy(update={"trainer": "peft"})
FLOAT32 = Placement(device="cpu", dtype="float32")
NONE = Hardware(has_cuda=False, cuda_bf16=False, cpu_bf16=False, has_bitsandbytes=False)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture
def base(tmp_path: Path) -> BaseModel:
    return load_base(write_tiny_gguf(tmp_path / "tiny.gguf"))


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both trainers compute in float32."""
    import torch

    monkeypatch.setattr("steelyard.approaches.tuning.training.native_dtype", lambda: torch.float32)
    monkeypatch.setattr(peft_training, "read_hardware", lambda: NONE)


def peft_model(base: BaseModel, *, recompute: bool = False, top: int = 2) -> PeftLlama:
    return PeftLlama(base, FLOAT32, top=top, rank=4, alpha=16.0, recompute=recompute)


def random_adapter(base: BaseModel) -> AdapterWeights:
    import torch

    weights = AdapterWeights(base.shape, top=2, rank=4, seed=0)
    weights.flat.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    return weights


# ------------------------------------------------------------------------------------------------ the same training


@pytest.mark.parametrize("kind", ["tiny", "qwen2", "sentencepiece", "long context"])
def test_both_forwards_agree_on_loss_and_greedy_answers(tmp_path: Path, base: BaseModel, kind: str) -> None:
    """The lean forward and Transformers with PEFT give the same losses for a batch, adapter included."""
    import torch

    if kind != "tiny":
        folder = write_hf_folder(
            tmp_path / "model",
            kind="qwen2" if kind == "qwen2" else "llama",
            cut={"qwen2": "qwen2", "sentencepiece": "sentencepiece"}.get(kind, "smollm"),
            long_context=kind == "long context",
        )
        base = load_base(convert_folder(folder, into=tmp_path / "converted", say=Notes()))
    weights = random_adapter(base)
    examples = tokenised(base, cases(7), max_tokens=200)
    model = peft_model(base)
    model.put(weights.named)
    with torch.no_grad():
        wanted, wanted_exact = Forward(Llama(base, torch.float32), examples, first_trained=1).nll(
            examples, weights.named, scale=4.0
        )
        found, is_exact = model.nll(examples)
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-3)
    assert is_exact.tolist() == wanted_exact.tolist()


@pytest.mark.usefixtures("exact")
def test_both_trainers_take_the_same_steps(tmp_path: Path, base: BaseModel) -> None:
    """Same beginning, same batches, same optimiser: after an epoch curves and weights are still the same."""
    examples = tokenised(base, cases(60))
    lean, peft = (
        train(base, examples[:48], examples[48:], spec, say=Notes(), checkpoints=tmp_path / spec.trainer)
        for train, spec in ((train_adapter, SMALL), (train_adapter_peft, PEFT))
    )
    assert (lean.n_steps, lean.n_tokens, lean.dtype) == (peft.n_steps, peft.n_tokens, peft.dtype)
    for one, other in zip(lean.curve, peft.curve, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-3)
    assert lean.validations[0]["loss"] == pytest.approx(peft.validations[0]["loss"], abs=1e-3)
    assert set(lean.adapter) == set(peft.adapter)
    for name, values in lean.adapter.items():
        np.testing.assert_allclose(peft.adapter[name], values, atol=5e-3)


def test_only_answers_are_learned(base: BaseModel) -> None:
    """The loss of an example depends on its answer's tokens alone; a weight of 0 takes it out of the gradient."""
    import torch

    model = peft_model(base)
    examples = tokenised(base, cases(3))
    nll, _ = model.nll(examples)
    assert len(nll) == sum(len(example.completion) for example in examples)
    alone, _ = model.nll(examples[1:2])
    first = len(examples[0].completion)
    np.testing.assert_allclose(
        nll[first : first + len(alone)].detach().numpy(), alone.detach().numpy(), atol=1e-4
    )  # padding and neighbours change nothing
    weights = random_adapter(base)
    engine = peft_training._Supervised(model, weights, ())
    _, both = engine.gradient([replace(examples[0], weight=0.0), examples[1]])
    _, one = engine.gradient([examples[1]])
    assert torch.allclose(both, one, atol=1e-5)


def test_computing_layers_again_changes_no_gradient(base: BaseModel) -> None:
    """Gradient checkpointing saves memory and nothing else."""
    import torch

    weights = random_adapter(base)
    examples = tokenised(base, cases(6))
    kept, again = (
        peft_training._Supervised(peft_model(base, recompute=recompute), weights, ()).gradient(examples)
        for recompute in (False, True)
    )
    assert kept[0] == pytest.approx(again[0], abs=1e-6)
    assert torch.allclose(kept[1], again[1], atol=1e-6)
    assert float(kept[1].norm()) > 0


@pytest.mark.usefixtures("exact")
def test_it_stops_when_validation_gets_worse(tmp_path: Path, base: BaseModel) -> None:
    """With labels of pure chance later epochs only memorise: they end early and the best weights are kept."""
    rng = np.random.default_rng(0)
    some = tuple(replace(case, expected={"label": str(rng.choice(list(WORDS)))}) for case in cases(30))
    examples = tokenised(base, some)
    spec = PEFT.model_copy(update={"epochs": 20.0, "learning_rate": 0.1})
    trained = train_adapter_peft(base, examples[:20], examples[20:], spec, say=Notes(), checkpoints=tmp_path)
    losses = [found["loss"] for found in trained.validations]
    assert len(losses) < 20
    assert losses[-1] > min(losses)


class Killed(Exception):
    """Stands for a kill."""


def killed_at(folder: Path, step: int) -> Callable[[str], None]:
    def say(line: str) -> None:
        if (kept_step(folder) or 0) >= step:
            raise Killed

    return say


@pytest.mark.usefixtures("exact")
def test_a_killed_training_goes_on_to_the_same_end(
    tmp_path: Path, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after a checkpoint and called again it ends with the curve and weights of one that was never stopped."""
    monkeypatch.setattr(ProgressLine, "step", lambda self, loss, n_tokens: self._say("step"))
    examples = tokenised(base, cases(40))
    spec = PEFT.model_copy(update={"epochs": 2.0, "checkpoint_steps": 3})

    def train(folder: Path, say: Callable[[str], None]) -> Trained:
        return train_adapter_peft(base, examples[:32], examples[32:], spec, say=say, checkpoints=folder)

    whole = train(tmp_path / "whole", Notes())
    with pytest.raises(Killed):
        train(tmp_path / "killed", killed_at(tmp_path / "killed", 3))
    notes = Notes()
    resumed = train(tmp_path / "killed", notes)
    assert list(resumed.resumed_at) == [3]
    assert any("goes on from the checkpoint at step 3 of 8" in line for line in notes.lines)
    assert resumed.curve == whole.curve
    assert resumed.validations == whole.validations
    for name, values in whole.adapter.items():
        np.testing.assert_allclose(resumed.adapter[name], values, atol=1e-6)


def test_prepared_with_peft_it_is_kept_like_any_other(tmp_path: Path) -> None:
    """The same files and the same card come out, and the second time it is found."""
    write_tiny_gguf(tmp_path / "tiny.gguf")
    bench = workbench(tmp_path, cases(60))
    first = tuned(bench, PEFT)
    card = first.setup.card
    assert card is not None
    assert (card["hyperparameters"]["trainer"], card["device"]) == ("peft", "cpu")
    assert {"adapter.gguf", "adapter_model.safetensors", "card.json"} <= {p.name for p in first.path.parent.iterdir()}
    assert tuned(bench, PEFT).setup.reused
    assert tuned(bench).path != first.path


def test_it_is_silent_and_reaches_no_network(tmp_path: Path) -> None:
    """Nothing is printed by the libraries, no warning leaves them, and no socket is opened."""
    script = f"""
import socket, sys
def refuse(*arguments, **named):
    raise AssertionError("a socket was opened")
socket.socket.connect = refuse
from pathlib import Path
from tests.approaches.test_peft_training import PEFT
from tests.approaches.test_lora import cases, tokenised
from tests.approaches.tiny_llama import Notes, write_tiny_gguf
from steelyard.approaches.tuning.base_model import load_base
from steelyard.approaches.tuning.peft_training import train_adapter_peft
base = load_base(write_tiny_gguf(Path({str(tmp_path)!r}) / "tiny.gguf"))
train_adapter_peft(base, tokenised(base, cases(8)), (), PEFT, say=Notes(), checkpoints=Path({str(tmp_path)!r}) / "c")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        check=False,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# ------------------------------------------------------------------------------------------------ where it runs


def test_the_gpu_is_taken_where_there_is_one_and_bfloat16_where_it_is_native() -> None:
    """Never float16, whose range is too small; 4 bits only if asked for."""
    gpu = replace(NONE, has_cuda=True, cuda_bf16=True, has_bitsandbytes=True)
    assert place(NONE, "none") == Placement(device="cpu", dtype="float32")
    assert place(replace(NONE, cpu_bf16=True), "none") == Placement(device="cpu", dtype="bfloat16")
    assert place(gpu, "none") == Placement(device="cuda", dtype="bfloat16")
    assert place(replace(gpu, cuda_bf16=False), "none") == Placement(device="cuda", dtype="float32")
    assert place(gpu, "4bit") == Placement(device="cuda", dtype="bfloat16", four_bit=True)


def test_four_bits_are_refused_without_their_hardware_or_library() -> None:
    """The sentence says what is missing and where it was asked for."""
    with pytest.raises(InputError, match=r"tuning.quantise: .*needs a GPU with CUDA"):
        place(NONE, "4bit")
    with pytest.raises(InputError, match="needs the library bitsandbytes"):
        place(replace(NONE, has_cuda=True), "4bit")
    with pytest.raises(ValidationError, match="quantise needs trainer: peft"):
        LoraTuningSpec(method="lora", quantise="4bit")


def test_layers_are_computed_again_when_memory_asks_for_it() -> None:
    """More tokens, more layers or less memory lead there, never the other way round."""

    def asks(free_bytes: float, batch_tokens: int = 4096, n_layers: int = 3) -> bool:
        return recomputes(SHAPE, FLOAT32, n_layers=n_layers, batch_tokens=batch_tokens, free_bytes=free_bytes)

    assert not asks(float("inf"))
    assert asks(1e6)
    edge = next(2.0**power for power in range(10, 50) if not asks(2.0**power))
    assert asks(edge / 2)
    assert asks(edge, batch_tokens=8192)
    assert asks(edge, batch_tokens=4096, n_layers=300)


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing library is a sentence with the extra's name, before anything is trained."""
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "peft" else find(name, *rest))
    example = Example(prompt=(5, 6), completion=(7, 2))
    with pytest.raises(MissingExtra, match="peft"):
        train_adapter_peft(base, [example], (), PEFT, say=Notes(), checkpoints=tmp_path)


@pytest.mark.model
def test_both_forwards_agree_on_the_real_model() -> None:
    """On SmolLM2-135M, in float32, the losses of a batch agree to 1e-3."""
    import torch

    base = load_base(cached_path(SMOLLM2_135M_INSTRUCT))
    examples = tokenised(base, cases(4))
    weights = AdapterWeights(base.shape, top=2, rank=4, seed=0)
    model = peft_model(base)
    model.put(weights.named)
    lean = Forward(Llama(base, torch.float32), examples, first_trained=base.shape.layers - 2)
    with torch.no_grad():
        wanted, _ = lean.nll(examples, weights.named, scale=4.0)
        found, _ = model.nll(examples)
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-3)
