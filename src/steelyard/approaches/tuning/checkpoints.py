"""Checkpoints of a training: what a killed one goes on from, complete from the moment it can be seen.

A checkpoint is `step-N.safetensors` (weights, the optimiser's moments, the best weights so far) and `step-N.json`
(step, losses, validations, what it belongs to). The JSON file is written last and names the digest of the other, so
that a kill at any moment leaves either a whole checkpoint or none. The last two are kept: should the newest be damaged,
the one before it serves. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from steelyard.approaches.tuning.store import content_digest
from steelyard.errors import Problem, StorageFailed

KEPT: Final = 2
_SET_ASIDE: Final = "set-aside"


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """Where a training stood."""

    step: int
    """Optimiser steps done."""
    tensors: Mapping[str, NDArray[np.float32]]
    facts: Mapping[str, Any]
    """Plain data: losses, validations and whatever else the trainer has to know again."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, belongs_to: str) -> None:
    """Write a checkpoint, then remove all but the last two.

    Args:
        folder: Of this training alone; made if it is not there.
        checkpoint: Where the training stands.
        belongs_to: Digest of data, settings and base; only the same training reads it back.

    Raises:
        StorageFailed: It cannot be written; earlier checkpoints are still there.
    """
    from safetensors.numpy import save

    stem = f"step-{checkpoint.step:08d}"
    tensors = save(dict(checkpoint.tensors))
    body = {
        "belongs_to": belongs_to,
        "step": checkpoint.step,
        "facts": dict(checkpoint.facts),
        "tensors_sha256": hashlib.sha256(tensors).hexdigest(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / f"{stem}.safetensors", tensors)
        text = json.dumps({**body, "digest": content_digest(body)}, indent=2) + "\n"
        write_whole(folder / f"{stem}.json", text.encode())
        for old in _steps(folder)[:-KEPT]:
            _remove(old)
    except OSError as error:
        kept = kept_step(folder)
        going_on = "begins again" if kept is None else f"goes on from step {kept:,}"
        what = f"the checkpoint at step {checkpoint.step:,} cannot be written ({error})"
        raise StorageFailed(
            Problem(what=what, where=str(folder), hint=f"make room there; the same command then {going_on}")
        ) from error


def last_checkpoint(folder: Path, *, belongs_to: str, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole and belongs to this training; others are set aside, and that is said.

    Args:
        folder: Where `save_checkpoint` put them.
        belongs_to: As it was given there.
        say: Gets one sentence for each checkpoint that cannot be used.

    Raises:
        StorageFailed: A damaged checkpoint cannot be moved away.
    """
    for path in reversed(_steps(folder)):
        found = _read(path, belongs_to)
        if isinstance(found, Checkpoint):
            return found
        try:
            _set_aside(path)
        except OSError as error:
            hint = "make the folder writable, or delete it to train from the beginning"
            raise StorageFailed(Problem(what=f"{found} ({error})", where=str(folder), hint=hint)) from error
        say(f"{found}, and set aside: {folder / _SET_ASIDE}")  # a topic of its own, so that it stays on the screen
    return None


def kept_step(folder: Path) -> int | None:
    """Step of the newest checkpoint in a folder; `None` where there is none."""
    steps = _steps(folder)
    return int(steps[-1].stem.removeprefix("step-")) if steps else None


def drop_checkpoints(folder: Path) -> None:
    """Remove everything of a training that is complete; what cannot be removed is left."""
    shutil.rmtree(folder, ignore_errors=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file aside, make sure it is on the disk, and put it in its place in one step.

    Raises:
        OSError: It cannot be written; what was at `path` is still there.
    """
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        Path(partial).unlink(missing_ok=True)
        raise


# ---------------------------------------------------------------------------------------------------- private


def _steps(folder: Path) -> list[Path]:
    """The JSON files of all checkpoints, oldest first."""
    return sorted(folder.glob("step-*.json"))


def _read(path: Path, belongs_to: str) -> Checkpoint | str:
    """The checkpoint, or a sentence that says why it cannot be used."""
    import safetensors.numpy

    damaged = f"the checkpoint {path.stem} is damaged"
    try:
        body = json.loads(path.read_bytes())
        digest = body.pop("digest")
        tensors = path.with_suffix(".safetensors").read_bytes()
        is_whole = digest == content_digest(body) and body["tensors_sha256"] == hashlib.sha256(tensors).hexdigest()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return damaged
    if not is_whole:
        return damaged
    if body["belongs_to"] != belongs_to:
        return f"the checkpoint {path.stem} belongs to a training with other data or settings"
    return Checkpoint(step=body["step"], tensors=safetensors.numpy.load(tensors), facts=body["facts"])


def _set_aside(path: Path) -> None:
    aside = path.parent / _SET_ASIDE
    aside.mkdir(exist_ok=True)
    for one in (path, path.with_suffix(".safetensors")):
        if one.exists():
            os.replace(one, aside / one.name)


def _remove(path: Path) -> None:
    """Remove one checkpoint, the file that makes it one first."""
    path.unlink(missing_ok=True)
    path.with_suffix(".safetensors").unlink(missing_ok=True)
