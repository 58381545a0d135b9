"""What the journal hands out besides calls and outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from steelyard.engine.outcome import Outcome
from steelyard.models.calls import ChatRequest


class Spent(NamedTuple):
    """What a study has paid for model calls so far, in all runs; replayed calls are not in it."""

    calls: int
    usd: float
    """Sum of what the calls cost; where a call's price is unknown, the most it can have cost, as far as that is known."""
    unpriced_calls: int
    """Calls without a known price."""


class RunRecord(NamedTuple):
    """One run of a command on the study."""

    id: int
    command: str
    package_version: str
    started_utc: str
    study: Mapping[str, Any]
    """The resolved study."""
    finished_utc: str | None
    ended: str | None
    """How it ended; `None` for a run that was killed or still goes on."""


class DropRecord(NamedTuple):
    """A version of an approach that a race dropped before it had done all cases."""

    approach: str
    fingerprint: str
    n_cases: int
    """Cases it had done when it was dropped."""
    reason: str
    """Sentence with the figures."""
    terms: Mapping[str, Any]
    """The money and the goal the race weighed."""


class StepSums(NamedTuple):
    """What one step of an approach took in all outcomes of a split together."""

    approach: str
    step: str
    calls: int
    prompt_tokens: float | None
    """Calls that did not say, because they failed, are counted like the others; `None` where no call said."""
    cached_tokens: int | None
    """What was reported; `None` where no call said."""
    completion_tokens: float | None
    """As for the prompt."""
    seconds: float
    usd: float | None
    """`None` where the price of a call is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Transcript:
    """An outcome with everything that was said, for people to read."""

    outcome: Outcome
    requests: tuple[ChatRequest, ...]
    """One per attempt, in order."""
    judge_requests: tuple[ChatRequest, ...] = ()
    """One per call of a judge, in order."""
