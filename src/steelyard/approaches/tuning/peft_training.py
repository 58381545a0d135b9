"""The second trainer: Transformers and PEFT, for a GPU and for comparison; the same steps on the same batches as `lean`.

Both trainers begin with the same weights, see the same batches in the same order and take the same steps, so that their
curves agree to rounding. What differs is who computes the gradient: here a general model class, on a GPU where there
is one, in 4 bits if that is asked for. Checkpoints and their resuming are those of `lean`.

On a CPU an operation gets half of the cores: on two busy ones, threads that wait for each other within an operation took
nine times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from steelyard.approaches.lora_spec import LoraTuningSpec
from steelyard.approaches.tuning.adam import AdapterWeights
from steelyard.approaches.tuning.base_model import BaseModel
from steelyard.approaches.tuning.course import (
    VALIDATION_BATCH,
    Run,
    Validation,
    belongs_to,
    by_length,
    follow,
    supervised_course,
)
from steelyard.approaches.tuning.examples import Example
from steelyard.approaches.tuning.peft_model import PeftLlama, quiet, require_peft
from steelyard.approaches.tuning.placement import Placement, free_memory, place, read_hardware, recomputes
from steelyard.approaches.tuning.threads import shard_threads
from steelyard.approaches.tuning.trained import Trained
from steelyard.approaches.tuning.training import N_SHARDS

if TYPE_CHECKING:
    from torch import Tensor


def train_adapter_peft(
    base: BaseModel,
    train: Sequence[Example],
    validation: Sequence[Example],
    spec: LoraTuningSpec,
    *,
    say: Callable[[str], None],
    checkpoints: Path,
) -> Trained:
    """Train a LoRA on the top `spec.layers` layers with PEFT, or go on with a training that was stopped.

    Args:
        base: The frozen model.
        train: At least one example.
        validation: Held-out examples; may be empty, then the last weights are kept.
        spec: Hyperparameters.
        say: Shows progress, about once a second.
        checkpoints: Folder of this training's checkpoints.

    Returns:
        The weights with the lowest validation loss of all times it was validated.

    Raises:
        MissingExtra: The extra `peft` is not installed.
        InputError: 4 bits are asked for and cannot be had here.
        Diverged: The loss is no longer a number.
        StorageFailed: A checkpoint cannot be written.
    """
    placement = check_placement(spec)
    batches = by_length(train, spec.batch_size, seed=spec.seed)
    model = load_peft(base, spec, placement, batches)
    top = min(spec.layers, base.shape.layers)
    run = Run(AdapterWeights(base.shape, top=top, rank=spec.rank, seed=spec.seed))
    course = supervised_course(
        spec,
        n_batches=len(batches),
        belongs_to=belongs_to(base, train, validation, spec, str(placement)),
        checkpoints=checkpoints,
    )
    with quiet(), shard_threads(N_SHARDS):
        follow(course, run, _Supervised(model, run.weights, validation), batches, say=say)
    return run.trained(dtype=placement.dtype, device=device_name(placement))


def check_placement(spec: LoraTuningSpec) -> Placement:
    """Where a training will run; raises what would stop it, before anything starts.

    Raises:
        MissingExtra: The extra `peft` is not installed.
        InputError: 4 bits are asked for and cannot be had here.
    """
    require_peft(feature="training with Transformers and PEFT")
    return place(read_hardware(), spec.quantise)


def load_peft(
    base: BaseModel, spec: LoraTuningSpec, placement: Placement, batches: Iterable[Sequence[Example]]
) -> PeftLlama:
    """The base with an adapter, set up for the largest of the batches."""
    top = min(spec.layers, base.shape.layers)
    most = max(len(batch) * max(example.n_tokens for example in batch) for batch in batches)
    return PeftLlama(
        base,
        placement,
        top=top,
        rank=spec.rank,
        alpha=spec.alpha,
        recompute=recomputes(base.shape, placement, n_layers=top, batch_tokens=most, free_bytes=free_memory(placement)),
    )


def device_name(placement: Placement) -> str:
    """What computes: `cpu`, or the GPU by name."""
    if placement.device == "cpu":
        return "cpu"
    import torch

    return str(torch.cuda.get_device_name())


def judged_by(model: PeftLlama, weights: AdapterWeights, examples: Sequence[Example]) -> Validation | None:
    """Loss and exact match of these weights on examples; nothing without any."""
    import torch

    if not examples:
        return None
    model.put(weights.named)
    order = sorted(range(len(examples)), key=lambda i: examples[i].n_tokens)
    right, total, n_targets = [False] * len(order), 0.0, 0
    for start in range(0, len(order), VALIDATION_BATCH):
        some = order[start : start + VALIDATION_BATCH]
        with torch.no_grad():
            nll, is_exact = model.nll([examples[i] for i in some])
        total, n_targets = total + float(nll.sum()), n_targets + len(nll)
        for i, is_right in zip(some, is_exact.tolist(), strict=True):
            right[i] = is_right
    return Validation(loss=total / n_targets, right=tuple(right))


# ---------------------------------------------------------------------------------------------------- private


class _Supervised:
    """Loss on the answers' tokens only, examples counted by their weights."""

    def __init__(self, model: PeftLlama, weights: AdapterWeights, validation: Sequence[Example]) -> None:
        self._model, self._weights, self._validation = model, weights, validation

    def gradient(self, batch: Sequence[Example]) -> tuple[float, Tensor]:
        import torch

        self._model.put(self._weights.named)
        nll, _ = self._model.nll(batch)
        by_token = torch.tensor([example.weight for example in batch for _ in example.completion], device=nll.device)
        loss = (nll * by_token).sum() / by_token.sum()
        loss.backward()  # type: ignore[no-untyped-call]  # PyTorch leaves it untyped
        return loss.item(), self._model.gradient(list(self._weights.named))

    def judge(self) -> Validation | None:
        return judged_by(self._model, self._weights, self._validation)
