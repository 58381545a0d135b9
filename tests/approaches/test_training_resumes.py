"""A training that is stopped, whatever stops it, goes on from its last checkpoint or says why it cannot."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from steelyard.approaches.lora_spec import LoraTuningSpec
from steelyard.approaches.tuning import course, training
from steelyard.approaches.tuning.base_model import BaseModel, load_base
from steelyard.approaches.tuning.checkpoints import Checkpoint, kept_step, last_checkpoint, save_checkpoint
from steelyard.approaches.tuning.lora import TunedAdapter, prepare_adapter
from steelyard.approaches.tuning.progress_line import ProgressLine
from steelyard.approaches.tuning.spent import Spent
from steelyard.approaches.tuning.trained import Diverged, Trained
from steelyard.approaches.tuning.training import train_adapter
from steelyard.errors import InputError, RunStopped, StorageFailed
from steelyard.study.talk import Talk
from tests.approaches.test_lora import SMALL, cases, prompt, target, tokenised, workbench
from tests.approaches.tiny_llama import Notes, write_tiny_gguf

ROOT = Path(__file__).parents[2]
LONG = SMALL.model_copy(update={"epochs": 3.0, "batch_size": 2, "patience": 1000, "checkpoint_steps": 7})
"""81 steps of some milliseconds."""
PREPARE = """
from pathlib import Path
from tests.approaches.test_training_resumes import *
folder = Path({folder!r})
{before}
try:
    prepare_adapter({spec}, prompt=prompt, target=target, bench=workbench(folder, {cases}))
except Exception as error:
    print(type(error).__name__, getattr(error, "exit_code", None), error)
"""


class Stopped(Exception):
    """Stands for a kill."""


class StopAt:
    """Hears what is said, and stops the training as soon as a checkpoint of this step or later is there."""

    def __init__(self, folder: Path, step: int) -> None:
        self._folder, self._step = folder, step

    def __call__(self, line: str) -> None:
        if (kept_step(self._folder) or 0) >= self._step:
            raise Stopped


@pytest.fixture
def base(tmp_path: Path) -> BaseModel:
    return load_base(write_tiny_gguf(tmp_path / "tiny.gguf"))


@pytest.fixture
def chatty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A progress line after every step."""
    monkeypatch.setattr(ProgressLine, "step", lambda self, loss, n_tokens: self._say("step"))


def tuned(folder: Path, spec: LoraTuningSpec = LONG, say: Callable[[str], None] | None = None) -> TunedAdapter:
    if not (folder / "tiny.gguf").exists():
        folder.mkdir(exist_ok=True)
        write_tiny_gguf(folder / "tiny.gguf")
    bench = replace(workbench(folder, cases(60)), say=say or Notes())
    return prepare_adapter(spec, prompt=prompt, target=target, bench=bench)


def unfinished(folder: Path) -> Path:
    """The folder of the one training that is not complete."""
    (found,) = (folder / "prepared" / "unfinished").iterdir()
    return found


def in_a_process(
    folder: Path, *, spec: str = "LONG", before: str = "", cases: str = "cases(60)"
) -> subprocess.Popen[str]:
    script = textwrap.dedent(PREPARE).format(folder=str(folder), spec=spec, before=before, cases=cases)
    return subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def same(one: Trained, other: Trained) -> bool:
    """Same curve, same validations, same bytes."""
    return (
        (one.curve, one.validations, one.validation_right) == (other.curve, other.validations, other.validation_right)
        and one.n_tokens == other.n_tokens
        and all(values.tobytes() == other.adapter[name].tobytes() for name, values in one.adapter.items())
    )


# ------------------------------------------------------------------------------------------------ going on


@pytest.mark.slow
def test_a_killed_training_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """SIGKILL in the middle, the same call again: the same curve and the same file, and both parts are paid for."""
    whole = tuned(tmp_path / "whole")
    killed = tmp_path / "killed"
    killed.mkdir()
    write_tiny_gguf(killed / "tiny.gguf")
    process = in_a_process(killed)
    try:
        while not list(killed.glob("prepared/unfinished/*/step-00000014.json")):
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    spent = Spent(unfinished(killed) / "spent.json")
    at, before = kept_step(unfinished(killed)), spent.cpu_seconds
    resumed = tuned(killed)
    one, other = whole.setup.card, resumed.setup.card
    assert one is not None
    assert other is not None
    assert (one["resumed_at"], other["resumed_at"]) == ([], [at])
    for field in ("loss_curve", "validations", "validation_right", "n_steps", "n_tokens", "adapter_sha256"):
        assert one[field] == other[field], field
    assert resumed.digest == whole.digest
    assert other["cpu_seconds"] > before
    assert list((killed / "prepared" / "unfinished").iterdir()) == []


@pytest.mark.usefixtures("chatty")
def test_stops_at_any_step_change_nothing(base: BaseModel, tmp_path: Path) -> None:
    """Before and after validations, twice in one training, with the frozen layers' results kept or not."""
    examples = tokenised(base, cases(40))
    spec = LONG.model_copy(update={"epochs": 3.0, "batch_size": 4, "checkpoint_steps": 2, "validate_steps": 3})

    def train(folder: Path, say: Callable[[str], None]) -> Trained:
        return train_adapter(base, examples[:32], examples[32:], spec, say=say, checkpoints=folder)

    whole = train(tmp_path / "whole", Notes())
    for step in (4, 12):
        with pytest.raises(Stopped):
            train(tmp_path / "parts", StopAt(tmp_path / "parts", step))
    parts = train(tmp_path / "parts", Notes())
    assert parts.resumed_at == [4, 12]
    assert same(whole, parts)
    assert [found["step"] for found in whole.validations] == [*range(3, 25, 3)]


def test_a_training_that_ended_early_does_not_go_on(base: BaseModel, tmp_path: Path) -> None:
    """A checkpoint at which patience was at its end is the end."""
    examples = tokenised(base, cases(40))
    spec = LONG.model_copy(update={"epochs": 3.0, "checkpoint_steps": 1, "validate_steps": 1, "patience": 2})
    rising = spec.model_copy(update={"learning_rate": 1.0})
    one = train_adapter(base, examples[:32], examples[32:], rising, say=Notes(), checkpoints=tmp_path)
    assert one.n_steps < 48
    assert same(one, train_adapter(base, examples[:32], examples[32:], rising, say=Notes(), checkpoints=tmp_path))


def test_what_was_spent_by_a_killed_part_counts(tmp_path: Path) -> None:
    """An hour noted by an earlier part is on the card, in seconds and in money."""
    tuned(tmp_path / "first", SMALL)
    folder = next((tmp_path / "first" / "prepared").glob("lora-*"))
    note = tmp_path / "second" / "prepared" / "unfinished" / folder.name / "spent.json"
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"seconds": 3600, "cpu_seconds": 7200}))
    setup = tuned(tmp_path / "second", SMALL).setup
    assert setup.seconds > 3600
    assert setup.cost_usd == pytest.approx(2 * 0.36, rel=0.05)
    assert setup.card is not None
    assert setup.card["cpu_hours"] == pytest.approx(2, rel=0.05)


# ------------------------------------------------------------------------------------------------ damage


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step=step, tensors={"weights": np.full(3, step, np.float32)}, facts={"losses": [0.1] * step})


@pytest.mark.parametrize("what", ["json", "json digest", "tensors", "tensors cut", "tensors gone", "not mine"])
def test_a_checkpoint_that_cannot_be_used_is_set_aside(tmp_path: Path, what: str) -> None:
    """One sentence, the files are kept aside, and the one before it serves."""
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, checkpoint(step), belongs_to="me" if step < 3 or what != "not mine" else "other")
    assert sorted(path.stem for path in tmp_path.glob("*.json")) == ["step-00000002", "step-00000003"]
    newest = tmp_path / "step-00000003.json"
    tensors = newest.with_suffix(".safetensors")
    if what == "json":
        newest.write_text("{")
    elif what == "json digest":
        newest.write_text(newest.read_text().replace("0.1", "0.2", 1))
    elif what == "tensors":
        tensors.write_bytes(tensors.read_bytes()[:-1] + b"x")
    elif what == "tensors cut":
        tensors.write_bytes(tensors.read_bytes()[:-1])
    elif what == "tensors gone":
        tensors.unlink()
    said = Notes()
    found = last_checkpoint(tmp_path, belongs_to="me", say=said)
    assert found is not None
    assert (found.step, found.tensors["weights"].tolist()) == (2, [2, 2, 2])
    (line,) = said.lines
    assert ("belongs to a training with other data or settings" if what == "not mine" else "is damaged") in line
    assert (tmp_path / "set-aside" / newest.name).exists()
    assert last_checkpoint(tmp_path, belongs_to="me", say=said) is not None
    assert len(said.lines) == 1


def test_a_damaged_checkpoint_is_said_even_between_lines_of_progress(tmp_path: Path) -> None:
    """Progress is thinned out where it is piped; what is said once is not."""
    save_checkpoint(tmp_path, checkpoint(1), belongs_to="me")
    (tmp_path / "step-00000001.safetensors").write_bytes(b"x")
    shown = io.StringIO()
    say = Talk(shown)
    say("training: reading the base model")
    assert last_checkpoint(tmp_path, belongs_to="me", say=say) is None
    assert "step-00000001 is damaged" in shown.getvalue()


def test_without_a_usable_checkpoint_training_begins_anew(base: BaseModel, tmp_path: Path) -> None:
    """A checkpoint of other settings is not gone on from, even if it lies where this one's would."""
    examples = tokenised(base, cases(16))
    spec = SMALL.model_copy(update={"checkpoint_steps": 1, "batch_size": 4})
    train_adapter(base, examples, (), spec, say=Notes(), checkpoints=tmp_path / "a")
    said = Notes()
    other = spec.model_copy(update={"learning_rate": 0.01})
    trained = train_adapter(base, examples, (), other, say=said, checkpoints=tmp_path / "a")
    assert trained.resumed_at == []
    assert sum("other data or settings" in line for line in said.lines) == 2
    assert same(trained, train_adapter(base, examples, (), other, say=Notes(), checkpoints=tmp_path / "b"))


def test_a_finished_adapter_that_is_damaged_is_refused(tmp_path: Path) -> None:
    """One changed byte of the adapter, or half a card: named, with what to delete; nothing is served."""
    adapter = tuned(tmp_path, SMALL).path
    content = adapter.read_bytes()
    adapter.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(
        InputError, match=r"lora-.*: what was trained is damaged: adapter.gguf .*\n.*delete this folder"
    ):
        tuned(tmp_path, SMALL)
    adapter.write_bytes(content)
    assert tuned(tmp_path, SMALL).setup.reused
    card = adapter.parent / "card.json"
    card.write_text(card.read_text()[:100])
    with pytest.raises(InputError, match=r"what was trained is damaged: its card\.json cannot be read"):
        tuned(tmp_path, SMALL)


# ------------------------------------------------------------------------------------------------ what runs out


def test_a_loss_that_is_no_number_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    """The message names step, setting and a value; nothing looks finished; a lower rate trains from the beginning."""
    absurd = SMALL.model_copy(update={"learning_rate": 1e30, "checkpoint_steps": 1})
    with pytest.raises(InputError) as caught:
        tuned(tmp_path, absurd)
    said = str(caught.value)
    assert "training diverged: the loss is not a number at step" in said
    assert "is kept" in said or "no step was kept" in said
    assert "lower learning_rate (now 1e+30)" in said
    assert list((tmp_path / "prepared").glob("lora-*")) == []
    mended = tuned(tmp_path, SMALL).setup.card
    assert mended is not None
    assert mended["resumed_at"] == []


def test_a_loss_that_turns_bad_leaves_the_last_good_checkpoint(base: BaseModel, tmp_path: Path) -> None:
    """Not a number in the middle: the step before it is kept, with weights that are numbers."""
    examples = [
        replace(one, weight=float("nan") if i == 7 else 1.0) for i, one in enumerate(tokenised(base, cases(16)))
    ]
    spec = SMALL.model_copy(update={"checkpoint_steps": 1, "batch_size": 1})
    with pytest.raises(Diverged) as caught:
        train_adapter(base, examples, (), spec, say=Notes(), checkpoints=tmp_path)
    assert 1 < caught.value.step < 16
    assert kept_step(tmp_path) == caught.value.step - 1
    newest = (tmp_path / f"step-{caught.value.step - 1:08d}.safetensors").read_bytes()
    assert all(np.isfinite(values).all() for values in safetensors.numpy.load(newest).values())


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_memory_that_runs_out_says_what_to_lower(tmp_path: Path) -> None:
    """PyTorch's real allocator fails under a real limit; exit code 1, settings named, no traceback."""
    write_tiny_gguf(tmp_path / "tiny.gguf")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))"
    greedy = 'SMALL.model_copy(update={"batch_size": 256, "max_tokens": 4000, "max_examples": 250})'
    many = 'tuple(replace(c, input={"text": str(c.input["text"]) + "x" * 3500}) for c in cases(250))'
    said, _ = in_a_process(tmp_path, before=limit, spec=greedy, cases=many).communicate()
    assert said.startswith("RunStopped 1 study.yaml:approaches:tuning: training needs more memory than there is")
    assert "lower batch_size (now 256), max_tokens (now 4000) or layers (now 2)" in said


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_a_full_disk_stops_the_training_and_keeps_the_last_checkpoint(base: BaseModel, tmp_path: Path) -> None:
    """A real limit on the size of files: the step is named, earlier checkpoints stay whole, room lets it go on."""
    import resource

    examples = tokenised(base, cases(16))
    spec = SMALL.model_copy(update={"checkpoint_steps": 1, "batch_size": 2})
    whole = train_adapter(base, examples, (), spec, say=Notes(), checkpoints=tmp_path / "whole")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    folder = tmp_path / "full"

    def save_then_fill(where: Path, found: Checkpoint, *, belongs_to: str) -> None:
        if found.step == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        save_checkpoint(where, found, belongs_to=belongs_to)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(course, "save_checkpoint", save_then_fill)
        try:
            with pytest.raises(StorageFailed) as caught:
                train_adapter(base, examples, (), spec, say=Notes(), checkpoints=folder)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "the checkpoint at step 3 cannot be written" in str(caught.value)
    assert "goes on from step 2" in str(caught.value)
    assert not list(folder.glob(".*"))
    resumed = train_adapter(base, examples, (), spec, say=Notes(), checkpoints=folder)
    assert resumed.resumed_at == [2]
    assert same(whole, resumed)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_a_disk_that_is_full_at_the_end_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    """The adapter cannot be written: said with the folder, and with room the same call ends well."""
    import resource

    write_tiny_gguf(tmp_path / "tiny.gguf")
    load_base(tmp_path / "tiny.gguf")  # its dequantised copy is no part of this
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        with pytest.raises(StorageFailed, match=r"lora-.*: what was trained cannot be written .*\n.*make room there"):
            tuned(tmp_path, SMALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in (tmp_path / "prepared").iterdir()] == ["unfinished"]
    assert not tuned(tmp_path, SMALL).setup.reused


def test_other_faults_are_not_called_a_lack_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug keeps its traceback."""

    def broken(*_: object, **__: object) -> Trained:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(training, "train_adapter", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        tuned(tmp_path, SMALL)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")])
def test_every_lack_of_memory_is_said_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Python's own, and that of a graphics card."""

    def broken(*_: object, **__: object) -> Trained:
        raise error

    monkeypatch.setattr(training, "train_adapter", broken)
    with pytest.raises(RunStopped, match="training needs more memory than there is; no step was kept"):
        tuned(tmp_path, SMALL)


def test_the_progress_line_says_what_it_costs(tmp_path: Path) -> None:
    """Step, loss, speed, time left and the money so far."""
    said = Notes()
    tuned(tmp_path, SMALL, say=said)
    assert re.search(r"training: step 7 of 7, loss \d\.\d+, .* tokens/s, \d+ s left, \$0\.\d{4} so far", said.lines[-1])
