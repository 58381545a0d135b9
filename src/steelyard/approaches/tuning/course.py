"""The course of a training, whoever computes its gradients: steps, validation, early stopping, checkpoints.

A training that goes on from a checkpoint does the same steps on the same batches from the same weights and moments.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import numpy as np

from steelyard.approaches.lora_spec import LoraTuningSpec
from steelyard.approaches.tuning.adam import AdapterWeights, schedule
from steelyard.approaches.tuning.base_model import BaseModel
from steelyard.approaches.tuning.checkpoints import Checkpoint, last_checkpoint, save_checkpoint
from steelyard.approaches.tuning.examples import Example
from steelyard.approaches.tuning.llama import as_tensors
from steelyard.approaches.tuning.progress_line import ProgressLine
from steelyard.approaches.tuning.store import content_digest
from steelyard.approaches.tuning.trained import Diverged, Trained

if TYPE_CHECKING:
    from torch import Tensor

VALIDATION_BATCH: Final = 16
CURVE_POINTS: Final = 60
CHECKPOINT_STEPS: Final = 50
CHECKPOINT_SECONDS: Final = 60.0


class HasTokens(Protocol):
    """What a batch is made of: an example, or a pair of answers."""

    @property
    def n_tokens(self) -> int:
        """Prompt and answers together."""
        ...


Item = TypeVar("Item", bound=HasTokens)
Item_contra = TypeVar("Item_contra", bound=HasTokens, contravariant=True)


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


class Run:
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

    def trained(self, *, dtype: str, device: str = "cpu") -> Trained:
        """What came of it: the best weights, or the last where nothing was held out."""
        if self.best is not None:
            self.weights.flat.copy_(self.best)
        return Trained(
            adapter={name: tensor.detach().numpy().copy() for name, tensor in self.weights.named.items()},
            curve=thinned(self.losses),
            validations=self.validations,
            validation_right=self.right,
            n_steps=len(self.losses),
            n_tokens=self.n_tokens,
            dtype=dtype,
            resumed_at=self.resumed_at,
            device=device,
        )

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


class Engine(Protocol[Item_contra]):
    """What computes: the gradient of a batch, and how well the weights do on what was held out."""

    def gradient(self, batch: Sequence[Item_contra]) -> tuple[float, Any]:
        """Loss of a batch, and its gradient as one flat vector in the order of the adapter's weights."""
        ...

    def judge(self) -> Validation | None:
        """How the weights do on held-out examples; nothing without any."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """How a training runs."""

    n_steps: int
    learning_rate: float
    """At its peak."""
    validate_steps: int
    """Validate after every so many steps, and at the end."""
    patience: int
    """End after so many validations in a row that found nothing better."""
    checkpoint_steps: int | None
    """Keep a checkpoint after every so many steps; left out, by steps and time."""
    seed: int
    belongs_to: str
    """Digest of everything that decides what the training does."""
    checkpoints: Path
    """Folder of this training alone."""


def supervised_course(spec: LoraTuningSpec, *, n_batches: int, belongs_to: str, checkpoints: Path) -> Course:
    """The course that the settings ask for on so many batches."""
    return Course(
        n_steps=max(1, math.ceil(spec.epochs * n_batches)),
        learning_rate=spec.learning_rate,
        validate_steps=spec.validate_steps or n_batches,
        patience=spec.patience,
        checkpoint_steps=spec.checkpoint_steps,
        seed=spec.seed,
        belongs_to=belongs_to,
        checkpoints=checkpoints,
    )


def follow(
    course: Course,
    run: Run,
    engine: Engine[Item],
    batches: Sequence[Sequence[Item]],
    *,
    say: Callable[[str], None],
) -> None:
    """Take all steps, or those that a stopped training had still to take.

    Args:
        course: Steps and settings.
        run: The beginning; changed as the training goes on, and put to the last checkpoint if there is one.
        engine: Computes gradients from the weights of `run`.
        batches: Gone through in a new order each epoch.
        say: Shows progress.

    Raises:
        Diverged: The loss is no longer a number.
        StorageFailed: A checkpoint cannot be written.
    """
    if found := last_checkpoint(course.checkpoints, belongs_to=course.belongs_to, say=say):
        run.restore(found)
        say(f"training goes on from the checkpoint at step {found.step:,} of {course.n_steps:,}")
    due = CheckpointsDue(course.checkpoint_steps)
    progress = ProgressLine(say, course.n_steps, done=run.step)
    for position in islice(epochs(len(batches), seed=course.seed), run.step, course.n_steps):
        if run.n_without_best >= course.patience:
            break  # going on only learns the training examples by heart
        batch = batches[position]
        loss, gradient = engine.gradient(batch)
        if not (math.isfinite(loss) and gradient.isfinite().all()):
            raise Diverged(step=run.step + 1, n_steps=course.n_steps)
        run.weights.step(gradient, course.learning_rate * schedule(run.step, course.n_steps))
        run.losses.append(loss)
        n_tokens = sum(item.n_tokens for item in batch)
        run.n_tokens += n_tokens
        progress.step(loss, n_tokens)
        is_last = run.step == course.n_steps
        judged = engine.judge() if is_last or run.step % course.validate_steps == 0 else None
        if judged is not None:
            if not math.isfinite(judged.loss):
                raise Diverged(step=run.step, n_steps=course.n_steps)
            run.judge(judged)
        if due(run.step) and not is_last:
            if not run.weights.flat.isfinite().all():
                raise Diverged(step=run.step, n_steps=course.n_steps)
            save_checkpoint(course.checkpoints, run.checkpoint(), belongs_to=course.belongs_to)


def belongs_to(
    base: BaseModel, train: Sequence[Example], validation: Sequence[Example], spec: LoraTuningSpec, *how: object
) -> str:
    """Digest of everything that decides what a training does; `how` is what the trainer adds."""
    examples = [[[one.prompt, one.completion, one.weight] for one in some] for some in (train, validation)]
    settings = spec.model_dump(mode="json", exclude={"checkpoint_steps"})
    return content_digest([base.sha256, examples, settings, *how])


def by_length(items: Sequence[Item], batch_size: int, *, seed: int) -> list[list[Item]]:
    """Batches of examples of about the same length, so that little is padding; ties are shuffled."""
    order = np.random.default_rng([seed, 4]).permutation(len(items))
    sorted_items = sorted((items[i] for i in order), key=lambda item: item.n_tokens)
    return [sorted_items[i : i + batch_size] for i in range(0, len(sorted_items), batch_size)]


def epochs(n_batches: int, *, seed: int) -> Iterator[int]:
    """Indices of batches without end, each epoch in a new order."""
    rng = np.random.default_rng([seed, 5])
    while True:
        yield from (int(i) for i in rng.permutation(n_batches))


def thinned(losses: Sequence[float]) -> list[dict[str, float]]:
    """Mean loss of evenly sized stretches of steps."""
    stretches = np.array_split(np.arange(len(losses)), min(CURVE_POINTS, len(losses)))
    return [{"step": int(s[-1]) + 1, "loss": float(np.mean([losses[i] for i in s]))} for s in stretches]


# ---------------------------------------------------------------------------------------------------- private


class CheckpointsDue:
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
