"""The line a person sees while an adapter is trained."""

from __future__ import annotations

import time
from collections.abc import Callable


class ProgressLine:
    """One line about every second: step, loss, tokens per second, time left.

    Args:
        say: Shows a line.
        n_steps: Steps of the whole training.
        done: Steps that were done before, by a part of it that was stopped.
    """

    def __init__(self, say: Callable[[str], None], n_steps: int, *, done: int = 0) -> None:
        self._say, self._n_steps, self._before = say, n_steps, done
        self._started = self._said = time.monotonic()
        self._n, self._tokens, self._loss = 0, 0, 0.0

    def step(self, loss: float, n_tokens: int) -> None:
        """Count a step and, if a second has gone by, say where we are."""
        self._n += 1
        self._tokens += n_tokens
        self._loss = loss if self._n == 1 else 0.9 * self._loss + 0.1 * loss
        now = time.monotonic()
        at = self._before + self._n
        if now - self._said < 1 and at < self._n_steps:
            return
        self._said = now
        spent = now - self._started
        left = spent / self._n * (self._n_steps - at)
        self._say(
            f"training: step {at:,} of {self._n_steps:,}, loss {self._loss:.3f}, "
            f"{self._tokens / max(spent, 1e-9):,.0f} tokens/s, {left:.0f} s left"
        )
