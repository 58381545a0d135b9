"""What a trainer of LoRA adapters is given and gives back: the small protocol that all of them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from steelyard.approaches.lora_spec import LoraTuningSpec

if TYPE_CHECKING:
    from steelyard.approaches.tuning.base_model import BaseModel
    from steelyard.approaches.tuning.examples import Example


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A trained adapter and how it came about."""

    adapter: Mapping[str, NDArray[np.float32]]
    """`blk.N.MODULE.lora_a` (rank, in) and `.lora_b` (out, rank), Hugging Face order of rows."""
    curve: Sequence[Mapping[str, float]]
    """Training loss over the steps, thinned to at most 60 points (each the mean over its steps)."""
    validations: Sequence[Mapping[str, float]]
    """Each time it was validated: step, loss per token, exact match."""
    validation_right: Sequence[bool]
    """For each validation example whether these weights answer it right; empty without a validation set."""
    n_steps: int
    n_tokens: int
    """Tokens trained on, prompts included."""
    dtype: str
    resumed_at: Sequence[int] = ()
    """Steps at which a training that had been stopped was taken up again."""
    device: str = "cpu"
    """What computed: `cpu`, or a GPU by name, whose seconds have no price here."""


class Train(Protocol):
    """A trainer: from tokenised examples to an adapter."""

    def __call__(
        self,
        base: BaseModel,
        train: Sequence[Example],
        validation: Sequence[Example],
        spec: LoraTuningSpec,
        *,
        say: Callable[[str], None],
        checkpoints: Path,
    ) -> Trained:
        """Train a LoRA.

        Args:
            base: The frozen model.
            train: At least one example.
            validation: Held-out examples; may be empty.
            spec: Hyperparameters.
            say: Shows progress; called about once a second, which is also when what was spent is noted down. To lines
                that begin with `training: step` the money spent so far is added.
            checkpoints: Folder of this training alone, by data and settings; may not be there yet. What lies there
                lets a killed training go on. The caller removes it once the adapter is kept.

        Raises:
            Diverged: The loss is no longer a number.
            MemoryError: Or what PyTorch raises when memory runs out; the caller says what to lower.
        """
        ...


class Diverged(ArithmeticError):
    """The loss is no longer a number."""

    def __init__(self, *, step: int, n_steps: int) -> None:
        self.step, self.n_steps = step, n_steps
        super().__init__(f"the loss is not a number at step {step} of {n_steps}")
