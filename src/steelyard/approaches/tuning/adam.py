"""The adapter's weights as one vector, Adam over it, and the course of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from steelyard.approaches.tuning.base_model import Shape
from steelyard.approaches.tuning.llama import as_tensors, module_sizes

if TYPE_CHECKING:
    from torch import Tensor

WARM_UP = 0.1
MAX_GRADIENT_NORM = 1.0


class AdapterWeights:
    """The adapter's weights as views of one flat vector, and Adam over it.

    One vector makes a step a handful of operations instead of some for each of 200 tensors, and spares the seconds
    that the first use of `torch.optim` takes to import the compiler.

    Args:
        shape: Of the base.
        top: Adapters in so many layers from the top.
        rank: LoRA rank.
        seed: Of the initial weights.
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

    def put(self, adapter: Mapping[str, NDArray[np.float32]]) -> None:
        """Begin with these weights instead."""
        for name, tensor in self.named.items():
            tensor.data.copy_(as_tensors({name: adapter[name]})[name])

    def step(self, gradient: Any, learning_rate: float) -> None:  # noqa: ANN401 - sum() of tensors is typed `int | Tensor`
        """One step of Adam (Kingma and Ba 2015, betas 0.9 and 0.999) with the gradient's norm clipped to 1."""
        self._n += 1
        gradient = gradient * min(1.0, MAX_GRADIENT_NORM / (float(gradient.norm()) + 1e-6))
        self._mean.lerp_(gradient, 0.1)
        self._square.lerp_(gradient.square(), 0.001)
        mean = self._mean / (1 - 0.9**self._n)
        square = self._square / (1 - 0.999**self._n)
        self.flat -= learning_rate * mean / (square.sqrt() + 1e-8)

    def state(self) -> dict[str, NDArray[np.float32]]:
        """Weights and moments, copied: what `restore` takes."""
        vectors = {"weights": self.flat, "mean": self._mean, "square": self._square}
        return {name: vector.numpy().copy() for name, vector in vectors.items()}

    def restore(self, state: Mapping[str, NDArray[np.float32]], *, n_steps: int) -> None:
        """Put weights and moments back as they were after so many steps."""
        for vector, name in ((self.flat, "weights"), (self._mean, "mean"), (self._square, "square")):
            vector.copy_(as_tensors({name: state[name]})[name])
        self._n = n_steps


def schedule(step: int, n_steps: int) -> float:
    """Share of the peak learning rate: a linear warm-up over the first tenth, then half a cosine down to 0."""
    warm_up = max(1, round(WARM_UP * n_steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, n_steps - warm_up)))
