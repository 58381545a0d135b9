"""The seam every approach implements, and the one door through which it may call a model.

An approach never talks to a model by itself. It asks the engine, which journals, prices, caches, limits, times and
retries transport faults, so that every call is counted for every approach in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from steelyard.approaches.spec import Lever
from steelyard.cases.case import CaseInput
from steelyard.models.calls import Attempt, ChatRequest


class Ask(Protocol):
    """The engine's door to a model."""

    async def __call__(self, request: ChatRequest, *, step: str = "answer", extra: bool = False) -> Attempt:
        """Make one model call and wait until its result is safe in the journal.

        Args:
            request: What to ask.
            step: Name of the approach's step, for the transcript.
            extra: Whether this call is beyond the approach's planned calls because an earlier answer was invalid,
                refused, empty or timed out.

        Returns:
            The attempt, whatever its status. Faults of the endpoint come back as data.

        Raises:
            RunStopped: The run ends here (budget, unusable endpoint, storage). Let it pass.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What an approach made of a case."""

    output: Mapping[str, Any] | None
    """The final output, or `None` when there is none."""
    valid: bool
    """Whether the final output satisfies the task's schema."""
    schema_pass: bool
    """Whether the FIRST structured answer was valid as it came, without repair."""
    problem: str | None = None
    """Why the output is missing or invalid."""
    sources: tuple[str, ...] = ()
    """Ids of the cases or documents that were retrieved, best first."""
    confidence: float | None = None
    """Probability the approach itself gives its answer, 0..1, where it has one."""
    notes: tuple[str, ...] = ()
    """What happened on the way that a person may want to know: a branch taken, something a guard flagged."""
    asked: tuple[str, ...] = ()
    """Of an approach made of others: those that were asked, in order; the answer is that of the last one named."""
    calls_s: float | None = None
    """Seconds of model calls along the longest chain of calls that waited for each other; `None` where each waited for
    the one before."""


class Approach(Protocol):
    """One runnable way to do the task, already prepared."""

    @property
    def name(self) -> str:
        """Name in the study."""
        ...

    @property
    def levers(self) -> frozenset[Lever]:
        """The levers it pulls."""
        ...

    @property
    def fingerprint(self) -> str:
        """Digest of everything that can change its answers: settings, task, train data used, model, adapter."""
        ...

    @property
    def endpoint(self) -> str | None:
        """Name of the endpoint it calls; `None` when it calls no model."""
        ...

    async def answer(self, case: CaseInput, ask: Ask) -> Answer:
        """Do the task for one case."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What preparing an approach took; belongs to the ledger's setup."""

    seconds: float
    """Machine seconds of the preparation when it was really done (not when it was reused)."""
    cost_usd: float | None
    """Machine cost of it; `None` when no price is known."""
    n_examples: int = 0
    """Labelled cases used."""
    reused: bool = False
    """Whether it was found on disk instead of being done again."""
    card: Mapping[str, Any] | None = None
    """Tuning card: data digest, base model, hyperparameters, curves, figures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """An approach that is ready to answer."""

    approach: Approach
    setup: Setup
    adapter: Path | None = None
    """GGUF LoRA file the local server has to load."""
    adapter_digest: str | None = None
    """What `ChatRequest.adapter` says to choose it."""
