"""The training loop of a LoRA: two data-parallel shards, loss on the answer's tokens only, best weights kept.

Every step's batch is divided into two shards that are computed by two threads with their own gradients, which are
then added in a fixed order. The division does not depend on the machine, so the same seed gives the same adapter on
the same processor and PyTorch build whatever else runs; across processors it agrees to rounding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from steelyard.approaches.lora_spec import LoraTuningSpec
from steelyard.approaches.tuning.adam import AdapterWeights, schedule
from steelyard.approaches.tuning.base_model import BaseModel
from steelyard.approaches.tuning.checkpoints import Checkpoint, last_checkpoint, save_checkpoint
from steelyard.approaches.tuning.examples import Example
from steelyard.approaches.tuning.forward import Forward
from steelyard.approaches.tuning.llama import Llama, as_tensors, native_dtype
from steelyard.approaches.tuning.progress_line import ProgressLine
from steelyard.approaches.tuning.store import content_digest
from steelyard.approaches.tuning.threads import shard_threads
from steelyard.approaches.tuning.trained import Diverged, Trained

if TYPE_CHECKING:
    import torch
    from torch import Tensor

N_SHARDS: Final = 2
VALIDATION_BATCH: Final = 16
CURVE_POINTS: Final = 60
CACHE_BYTES: Final = 1_000_000_000
"""Most memory that is spent on keeping the frozen layers' results from epoch to epoch."""
CHECKPOINT_STEPS: Final = 50
CHECKPOINT_SECONDS: Final = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Validation:
    """How the model does on held-out examples when it is forced along the wanted answer."""

    loss: float
    """Mean negative log-likelihood per answer token, in nats."""
    right: tuple[bool, ...]
    """For each example whether its greedy answer would be the wanted one, token for token."""

    @property
    def exact_match(self) -> float:
        """Share of examples answered right."""
        return sum(self.right) / len(self.right)


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
    batches = _by_length(train, spec.batch_size, seed=spec.seed)
    n_steps = max(1, math.ceil(spec.epochs * len(batches)))
    belongs_to = _belongs_to(base, train, validation, spec, dtype)
    run = _Run(AdapterWeights(base.shape, top=top, rank=spec.rank, seed=spec.seed))
    if found := last_checkpoint(checkpoints, belongs_to=belongs_to, say=say):
        run.restore(found)
        say(f"training: goes on from the checkpoint at step {found.step:,} of {n_steps:,}")
    with shard_threads(N_SHARDS) as pool:
        forward = Forward(Llama(base, dtype), [*train, *validation], first_trained=base.shape.layers - top)
        bytes_kept = sum(example.n_tokens for example in train) * base.shape.hidden * dtype.itemsize
        if spec.epochs > 1 and bytes_kept <= CACHE_BYTES:
            forward.keep = {}
        shards = _Shards(forward, run.weights, scale=spec.alpha / spec.rank, pool=pool)
        due = _Due(spec.checkpoint_steps)
        progress = ProgressLine(say, n_steps, done=run.step)
        for position in islice(_epochs(len(batches), seed=spec.seed), run.step, n_steps):
            if run.n_without_best >= spec.patience:
                break  # going on only learns the training examples by heart
            batch = batches[position]
            loss, gradient = shards.gradient(batch)
            if not (math.isfinite(loss) and gradient.isfinite().all()):
                raise Diverged(step=run.step + 1, n_steps=n_steps)
            run.weights.step(gradient, spec.learning_rate * schedule(run.step, n_steps))
            run.losses.append(loss)
            n_tokens = sum(example.n_tokens for example in batch)
            run.n_tokens += n_tokens
            progress.step(loss, n_tokens)
            is_last = run.step == n_steps
            if validation and (is_last or run.step % (spec.validate_steps or len(batches)) == 0):
                judged = validate(forward, validation, run.weights.named, scale=shards.scale, pool=pool)
                if not math.isfinite(judged.loss):
                    raise Diverged(step=run.step, n_steps=n_steps)
                run.judge(judged)
            if due(run.step) and not is_last:
                if not run.weights.flat.isfinite().all():
                    raise Diverged(step=run.step, n_steps=n_steps)
                save_checkpoint(checkpoints, run.checkpoint(), belongs_to=belongs_to)
        if run.best is not None:
            run.weights.flat.copy_(run.best)
        return Trained(
            adapter={name: tensor.detach().numpy().copy() for name, tensor in run.weights.named.items()},
            curve=_thinned(run.losses),
            validations=run.validations,
            validation_right=run.right,
            n_steps=len(run.losses),
            n_tokens=run.n_tokens,
            dtype=str(dtype).removeprefix("torch."),
            resumed_at=run.resumed_at,
        )


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

    by_length = sorted(range(len(examples)), key=lambda i: examples[i].n_tokens)
    batches = [by_length[i : i + VALIDATION_BATCH] for i in range(0, len(by_length), VALIDATION_BATCH)]
    keep, forward.keep = forward.keep, None
    parts = list(pool.map(one, batches))
    forward.keep = keep
    n_targets = sum(len(example.completion) for example in examples)
    right = dict(zip(by_length, (found for part in parts for found in part[1]), strict=True))
    return Validation(
        loss=sum(part[0] for part in parts) / n_targets, right=tuple(right[i] for i in range(len(examples)))
    )


# ---------------------------------------------------------------------------------------------------- private


class _Run:
    """Everything that changes while an adapter is trained: what a checkpoint holds."""

    def __init__(self, weights: AdapterWeights) -> None:
        self.weights = weights
        self.losses: list[float] = []
        self.n_tokens = 0
        self.validations: list[dict[str, float]] = []
        self.n_without_best = 0
        """Validations in a row that found nothing better."""
        self.best: Tensor | None = None
        self.right: tuple[bool, ...] = ()
        self.resumed_at: list[int] = []

    @property
    def step(self) -> int:
        """Steps done."""
        return len(self.losses)

    def judge(self, found: Validation) -> None:
        """Note a validation; the weights are kept if they are the best so far."""
        is_best = found.loss <= min((one["loss"] for one in self.validations), default=math.inf)
        self.validations.append({"step": self.step, "loss": found.loss, "exact_match": found.exact_match})
        self.n_without_best = 0 if is_best else self.n_without_best + 1
        if is_best:
            self.best, self.right = self.weights.flat.clone(), found.right

    def checkpoint(self) -> Checkpoint:
        """Where it stands."""
        facts = {
            "losses": self.losses,
            "n_tokens": self.n_tokens,
            "validations": self.validations,
            "n_without_best": self.n_without_best,
            "right": list(self.right),
            "resumed_at": self.resumed_at,
        }
        best = {} if self.best is None else {"best": self.best.numpy().copy()}
        return Checkpoint(step=self.step, tensors=self.weights.state() | best, facts=facts)

    def restore(self, found: Checkpoint) -> None:
        """Stand where a checkpoint stood."""
        self.weights.restore(found.tensors, n_steps=found.step)
        self.best = as_tensors({"best": found.tensors["best"]})["best"] if "best" in found.tensors else None
        self.losses = list(found.facts["losses"])
        self.n_tokens = found.facts["n_tokens"]
        self.validations = list(found.facts["validations"])
        self.n_without_best = found.facts["n_without_best"]
        self.right = tuple(found.facts["right"])
        self.resumed_at = [*found.facts["resumed_at"], found.step]


class _Shards:
    """Gradients of a batch: its two shards side by side, added in a fixed order."""

    def __init__(self, forward: Forward, weights: AdapterWeights, *, scale: float, pool: ThreadPoolExecutor) -> None:
        self._forward, self._weights, self.scale, self._pool = forward, weights, scale, pool

    def gradient(self, batch: Sequence[Example]) -> tuple[float, Any]:
        """Mean loss per answer token, examples counted by their weights, and its gradient as one flat vector."""
        mass = sum(example.weight * len(example.completion) for example in batch)
        shards = [shard for shard in (batch[i::N_SHARDS] for i in range(N_SHARDS)) if shard]
        parts = list(self._pool.map(lambda shard: self._of_shard(shard, mass), shards))
        return sum(part[0] for part in parts), sum(part[1] for part in parts)

    def _of_shard(self, shard: Sequence[Example], mass: float) -> tuple[float, Tensor]:
        import torch

        nll, _ = self._forward.nll(shard, self._weights.named, scale=self.scale)
        by_token = [example.weight for example in shard for _ in example.completion]
        loss = (nll * torch.tensor(by_token)).sum() / mass
        found = torch.autograd.grad(loss, list(self._weights.named.values()))
        return loss.item(), torch.cat([gradient.flatten() for gradient in found])


class _Due:
    """When the next checkpoint is to be kept."""

    def __init__(self, every_steps: int | None) -> None:
        self._every_steps = every_steps
        self._kept_at = time.monotonic()

    def __call__(self, step: int) -> bool:
        """Whether one is due after this step."""
        if self._every_steps is not None:
            return step % self._every_steps == 0
        is_due = step % CHECKPOINT_STEPS == 0 or time.monotonic() - self._kept_at >= CHECKPOINT_SECONDS
        if is_due:
            self._kept_at = time.monotonic()
        return is_due


def _belongs_to(
    base: BaseModel,
    train: Sequence[Example],
    validation: Sequence[Example],
    spec: LoraTuningSpec,
    dtype: torch.dtype,
) -> str:
    """Digest of everything that decides what a training does."""
    examples = [[[one.prompt, one.completion, one.weight] for one in some] for some in (train, validation)]
    settings = spec.model_dump(mode="json", exclude={"checkpoint_steps"})
    return content_digest([base.sha256, examples, settings, str(dtype), N_SHARDS])


def _by_length(examples: Sequence[Example], batch_size: int, *, seed: int) -> list[list[Example]]:
    """Batches of examples of about the same length, so that little is padding; ties are shuffled."""
    order = np.random.default_rng([seed, 4]).permutation(len(examples))
    by_length = sorted((examples[i] for i in order), key=lambda example: example.n_tokens)
    return [by_length[i : i + batch_size] for i in range(0, len(by_length), batch_size)]


def _epochs(n_batches: int, *, seed: int) -> Iterator[int]:
    """Indices of batches without end, each epoch in a new order."""
    rng = np.random.default_rng([seed, 5])
    while True:
        yield from (int(i) for i in rng.permutation(n_batches))


def _thinned(losses: Sequence[float]) -> list[dict[str, float]]:
    """Mean loss of evenly sized stretches of steps."""
    stretches = np.array_split(np.arange(len(losses)), min(CURVE_POINTS, len(losses)))
    return [{"step": int(s[-1]) + 1, "loss": float(np.mean([losses[i] for i in s]))} for s in stretches]
