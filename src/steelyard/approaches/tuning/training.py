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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from steelyard.approaches.lora_spec import LoraTuningSpec
from steelyard.approaches.tuning.base_model import BaseModel, Shape
from steelyard.approaches.tuning.examples import Example
from steelyard.approaches.tuning.forward import Forward
from steelyard.approaches.tuning.llama import Llama, as_tensors, module_sizes, native_dtype
from steelyard.approaches.tuning.threads import shard_threads
from steelyard.approaches.tuning.trained import Trained
from steelyard.errors import InputError, Problem

if TYPE_CHECKING:
    from torch import Tensor

N_SHARDS = 2
VALIDATION_BATCH = 16
WARM_UP = 0.1
MAX_GRADIENT_NORM = 1.0
CURVE_POINTS = 60
CACHE_BYTES = 1_000_000_000
"""Most memory that is spent on keeping the frozen layers' results from epoch to epoch."""


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
    """Train a LoRA on the top `spec.layers` layers.

    Args:
        base: The frozen model.
        train: At least one example.
        validation: Held-out examples; may be empty, then the last weights are kept.
        spec: Hyperparameters.
        say: Shows progress, about once a second.

    Returns:
        The weights with the lowest validation loss among the ends of epochs.

    Raises:
        InputError: The loss is no longer a number.
    """
    import torch

    dtype = native_dtype()
    top = min(spec.layers, base.shape.layers)
    with shard_threads(N_SHARDS) as pool:
        model = Llama(base, dtype)
        forward = Forward(model, [*train, *validation], first_trained=base.shape.layers - top)
        weights = _Weights(base.shape, top=top, rank=spec.rank, seed=spec.seed)
        scale = spec.alpha / spec.rank
        batches = _by_length(train, spec.batch_size, seed=spec.seed)
        n_steps = max(1, math.ceil(spec.epochs * len(batches)))
        bytes_kept = sum(example.n_tokens for example in train) * base.shape.hidden * dtype.itemsize
        if spec.epochs > 1 and bytes_kept <= CACHE_BYTES:
            forward.keep = {}

        def gradients(batch: Sequence[Example], n_targets: int) -> tuple[float, Tensor]:
            nll, _ = forward.nll(batch, weights.named, scale=scale)
            loss = nll.sum() / n_targets
            found = torch.autograd.grad(loss, list(weights.named.values()))
            return loss.item(), torch.cat([gradient.flatten() for gradient in found])

        losses: list[float] = []
        validations: list[dict[str, float]] = []
        best: Tensor | None = None
        right: tuple[bool, ...] = ()
        n_tokens = 0
        progress = _Progress(say, n_steps)
        order = _epochs(len(batches), seed=spec.seed)
        for step in range(n_steps):
            batch = batches[next(order)]
            n_targets = sum(len(example.completion) for example in batch)
            shards = [shard for shard in (batch[i::N_SHARDS] for i in range(N_SHARDS)) if shard]
            parts = list(pool.map(lambda shard: gradients(shard, n_targets), shards))  # noqa: B023 - used at once
            loss = sum(part[0] for part in parts)
            if not math.isfinite(loss):
                raise _diverged(step + 1, n_steps, spec)
            weights.step(sum(part[1] for part in parts), spec.learning_rate * _schedule(step, n_steps))
            losses.append(loss)
            batch_tokens = sum(example.n_tokens for example in batch)
            n_tokens += batch_tokens
            progress.step(loss, batch_tokens)
            if validation and ((step + 1) % len(batches) == 0 or step + 1 == n_steps):
                found = validate(forward, validation, weights.named, scale=scale, pool=pool)
                if not math.isfinite(found.loss):
                    raise _diverged(step + 1, n_steps, spec)
                rises = bool(validations) and found.loss > min(v["loss"] for v in validations)
                validations.append({"step": step + 1, "loss": found.loss, "exact_match": found.exact_match})
                if rises:
                    break  # a later epoch only learns the training examples by heart
                best, right = weights.flat.clone(), found.right
        if best is not None:
            weights.flat.copy_(best)
        return Trained(
            adapter={name: tensor.detach().numpy().copy() for name, tensor in weights.named.items()},
            curve=_thinned(losses),
            validations=validations,
            validation_right=right,
            n_steps=len(losses),
            n_tokens=n_tokens,
            dtype=str(dtype).removeprefix("torch."),
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


class _Weights:
    """The adapter's weights as views of one flat vector, and Adam over it.

    One vector makes a step a handful of operations instead of some for each of 200 tensors, and spares the seconds
    that the first use of `torch.optim` takes to import the compiler.
    """

    def __init__(self, shape: Shape, *, top: int, rank: int, seed: int) -> None:
        import torch

        rng = np.random.default_rng([seed, 3])
        initial: dict[str, NDArray[np.float32]] = {}
        for layer in range(shape.layers - top, shape.layers):
            for module, (size_out, size_in) in module_sizes(shape).items():
                bound = 1 / math.sqrt(size_in)
                initial[f"blk.{layer}.{module}.lora_a"] = rng.uniform(-bound, bound, (rank, size_in)).astype(np.float32)
                initial[f"blk.{layer}.{module}.lora_b"] = np.zeros((size_out, rank), np.float32)
        self.flat = torch.cat([tensor.flatten() for tensor in as_tensors(initial).values()])
        self.named: dict[str, Tensor] = {}
        start = 0
        for name, array in initial.items():
            view = self.flat[start : start + array.size].view(array.shape)
            self.named[name] = view.detach().requires_grad_()
            start += array.size
        self._mean, self._square = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        self._n = 0

    def step(self, gradient: Any, learning_rate: float) -> None:  # noqa: ANN401 - sum() of tensors is typed `int | Tensor`
        """One step of Adam (Kingma and Ba 2015, betas 0.9 and 0.999) with the gradient's norm clipped to 1."""
        self._n += 1
        gradient = gradient * min(1.0, MAX_GRADIENT_NORM / (float(gradient.norm()) + 1e-6))
        self._mean.lerp_(gradient, 0.1)
        self._square.lerp_(gradient.square(), 0.001)
        mean = self._mean / (1 - 0.9**self._n)
        square = self._square / (1 - 0.999**self._n)
        self.flat -= learning_rate * mean / (square.sqrt() + 1e-8)


class _Progress:
    """One line about every second: step, loss, tokens per second, time left."""

    def __init__(self, say: Callable[[str], None], n_steps: int) -> None:
        self._say, self._n_steps = say, n_steps
        self._started = self._said = time.monotonic()
        self._n, self._tokens, self._loss = 0, 0, 0.0

    def step(self, loss: float, n_tokens: int) -> None:
        """Count a step and, if a second has gone by, say where we are."""
        self._n += 1
        self._tokens += n_tokens
        self._loss = loss if self._n == 1 else 0.9 * self._loss + 0.1 * loss
        now = time.monotonic()
        if now - self._said < 1 and self._n < self._n_steps:
            return
        self._said = now
        spent = now - self._started
        left = spent / self._n * (self._n_steps - self._n)
        self._say(
            f"training: step {self._n} of {self._n_steps}, loss {self._loss:.3f}, "
            f"{self._tokens / max(spent, 1e-9):,.0f} tokens/s, {left:.0f} s left"
        )


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


def _schedule(step: int, n_steps: int) -> float:
    """Share of the peak learning rate: a linear warm-up over the first tenth, then half a cosine down to 0."""
    warm_up = max(1, round(WARM_UP * n_steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, n_steps - warm_up)))


def _thinned(losses: Sequence[float]) -> list[dict[str, float]]:
    """Mean loss of evenly sized stretches of steps."""
    stretches = np.array_split(np.arange(len(losses)), min(CURVE_POINTS, len(losses)))
    return [{"step": int(s[-1]) + 1, "loss": float(np.mean([losses[i] for i in s]))} for s in stretches]


def _diverged(step: int, n_steps: int, spec: LoraTuningSpec) -> InputError:
    return InputError(
        Problem(
            what=f"training diverged: the loss is not a number at step {step} of {n_steps}; nothing was kept",
            where="study.yaml:approaches:tuning.learning_rate",
            hint=f"lower learning_rate (now {spec.learning_rate:g}), for example to {spec.learning_rate / 4:g}",
        )
    )
