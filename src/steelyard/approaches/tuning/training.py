"""The lean trainer of a LoRA: two data-parallel shards, loss on the answer's tokens only, best weights kept.

Every step's batch is divided into two shards that are computed by two threads with their own gradients, which are
then added in a fixed order. The division does not depend on the machine, so the same seed gives the same adapter on
the same processor and PyTorch build whatever else runs; across processors it agrees to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

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
from steelyard.approaches.tuning.forward import Forward
from steelyard.approaches.tuning.llama import Llama, native_dtype
from steelyard.approaches.tuning.threads import shard_threads
from steelyard.approaches.tuning.trained import Trained

if TYPE_CHECKING:
    from torch import Tensor

N_SHARDS: Final = 2
CACHE_BYTES: Final = 1_000_000_000
"""Most memory that is spent on keeping the frozen layers' results from epoch to epoch."""


def train_adapter(
    base: BaseModel,
    train: Sequence[Example],
    validation: Sequence[Example],
    spec: LoraTuningSpec,
    *,
    say: Callable[[str], None],
    checkpoints: Path,
) -> Trained:
    """Train a LoRA on the top `spec.layers` layers, or go on with a training that was stopped.

    A training that goes on does the same steps on the same batches from the same weights and moments, so it ends with
    the very bytes it would have ended with on this machine.

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
        Diverged: The loss is no longer a number.
        StorageFailed: A checkpoint cannot be written.
    """
    dtype = native_dtype()
    top = min(spec.layers, base.shape.layers)
    batches = by_length(train, spec.batch_size, seed=spec.seed)
    run = Run(AdapterWeights(base.shape, top=top, rank=spec.rank, seed=spec.seed))
    course = supervised_course(
        spec,
        n_batches=len(batches),
        belongs_to=belongs_to(base, train, validation, spec, str(dtype), N_SHARDS),
        checkpoints=checkpoints,
    )
    with shard_threads(N_SHARDS) as pool:
        forward = Forward(Llama(base, dtype), [*train, *validation], first_trained=base.shape.layers - top)
        bytes_kept = sum(example.n_tokens for example in train) * base.shape.hidden * dtype.itemsize
        if spec.epochs > 1 and bytes_kept <= CACHE_BYTES:
            forward.keep = {}
        engine = _Shards(forward, run.weights, validation, scale=spec.alpha / spec.rank, pool=pool)
        follow(course, run, engine, batches, say=say)
    return run.trained(dtype=str(dtype).removeprefix("torch."))


def validate(
    forward: Forward,
    examples: Sequence[Example],
    adapter: Mapping[str, Tensor],
    *,
    scale: float,
    pool: ThreadPoolExecutor,
) -> Validation:
    """Loss and exact match on examples.

    Greedy decoding gives the wanted answer exactly when every token of it is the likeliest after the ones before it,
    so one pass along the wanted answer tells what decoding would, without decoding.
    """
    import torch

    def one(batch: Sequence[int]) -> tuple[float, list[bool]]:
        with torch.no_grad():
            nll, is_exact = forward.nll([examples[i] for i in batch], adapter, scale=scale)
        return nll.sum().item(), [bool(found) for found in is_exact]

    order = sorted(range(len(examples)), key=lambda i: examples[i].n_tokens)
    batches = [order[i : i + VALIDATION_BATCH] for i in range(0, len(order), VALIDATION_BATCH)]
    keep, forward.keep = forward.keep, None
    parts = list(pool.map(one, batches))
    forward.keep = keep
    n_targets = sum(len(example.completion) for example in examples)
    right = dict(zip(order, (found for part in parts for found in part[1]), strict=True))
    return Validation(
        loss=sum(part[0] for part in parts) / n_targets, right=tuple(right[i] for i in range(len(examples)))
    )


# ---------------------------------------------------------------------------------------------------- private


class _Shards:
    """Gradients of a batch: its two shards side by side, added in a fixed order."""

    def __init__(
        self,
        forward: Forward,
        weights: AdapterWeights,
        validation: Sequence[Example],
        *,
        scale: float,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._forward, self._weights, self._validation = forward, weights, validation
        self._scale, self._pool = scale, pool

    def gradient(self, batch: Sequence[Example]) -> tuple[float, Any]:
        """Mean loss per answer token, examples counted by their weights, and its gradient as one flat vector."""
        mass = sum(example.weight * len(example.completion) for example in batch)
        shards = [shard for shard in (batch[i::N_SHARDS] for i in range(N_SHARDS)) if shard]
        parts = list(self._pool.map(lambda shard: self._of_shard(shard, mass), shards))
        return sum(part[0] for part in parts), sum(part[1] for part in parts)

    def judge(self) -> Validation | None:
        """Loss and exact match on the held-out examples."""
        if not self._validation:
            return None
        return validate(self._forward, self._validation, self._weights.named, scale=self._scale, pool=self._pool)

    def _of_shard(self, shard: Sequence[Example], mass: float) -> tuple[float, Tensor]:
        import torch

        nll, _ = self._forward.nll(shard, self._weights.named, scale=self._scale)
        by_token = [example.weight for example in shard for _ in example.completion]
        loss = (nll * torch.tensor(by_token)).sum() / mass
        found = torch.autograd.grad(loss, list(self._weights.named.values()))
        return loss.item(), torch.cat([gradient.flatten() for gradient in found])
