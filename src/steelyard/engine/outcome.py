"""Outcome: what one approach did with one case (and repeat)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from steelyard.cases.case import SplitName
from steelyard.models.calls import Attempt
from steelyard.task.field_scorers import FieldScore

WorkSplit = SplitName | Literal["guard"]
"""What work is on: a split of the cases, or the guard set, which belongs to no task."""


class OutcomeStatus(StrEnum):
    """How the work on one case ended; all of them stay in every denominator."""

    ANSWERED = "answered"
    """There is a valid output."""
    INVALID = "invalid"
    """There is an output, but it does not satisfy the schema, or none could be read from the answer."""
    EMPTY = "empty"
    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    FAILED = "failed"
    """The endpoint failed after all transport retries."""
    TOO_LONG = "too_long"
    CRASHED = "crashed"
    """The approach raised; `problem` has type and message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """One row of the journal's outcomes; every figure of every report is computed from these."""

    approach: str
    fingerprint: str
    case_id: str
    case_digest: str
    split: WorkSplit
    repeat: int = 0
    status: OutcomeStatus
    output: Mapping[str, Any] | None
    problem: str | None = None
    score: float | None
    """0..1; `None` when unscored (no expected output, or a scorer without a verdict)."""
    unscored_because: str | None = None
    success: bool | None
    """Score at or above the task's threshold and output valid; `None` when unscored."""
    schema_pass: bool
    attempts: tuple[Attempt, ...] = ()
    latency_s: float
    """Own work plus recorded attempt latencies; queueing excluded."""
    own_s: float
    """The part of `latency_s` spent in the approach itself (retrieval, validation, classifier)."""
    cost_usd: float | None
    """Attempts plus own compute; `None` when any price is unknown."""
    sources: tuple[str, ...] = ()
    confidence: float | None = None
    notes: tuple[str, ...] = ()
    """What happened on the way: branches taken, what guards flagged."""
    asked: tuple[str, ...] = ()
    """Of an approach made of others: those that were asked, in order; the answer is that of the last one named."""
    fields: Mapping[str, FieldScore] = field(default_factory=dict)
    """How right each expected field is."""
    judge_attempts: tuple[Attempt, ...] = ()
    """Calls of a judge that scored the answer; no part of what the approach did, took or cost."""
    segment: str | None = None
    cluster: str | None = None
    time: str | None = None

    @property
    def extra_calls(self) -> int:
        """Calls beyond the planned ones."""
        return sum(attempt.extra for attempt in self.attempts)

    @property
    def retried(self) -> bool:
        """Whether at least one extra call was needed."""
        return self.extra_calls > 0

    @property
    def transport_retries(self) -> int:
        """Tries repeated because of transport faults."""
        return sum(attempt.transport_retries for attempt in self.attempts)

    @property
    def judge_usd(self) -> float | None:
        """What judging cost; `None` where nothing was judged or a price is unknown."""
        prices = [attempt.price_usd for attempt in self.judge_attempts]
        known = [price for price in prices if price is not None]
        return sum(known) if prices and len(known) == len(prices) else None

    @property
    def prompt_tokens(self) -> int | None:
        """Prompt tokens of all calls; `None` when an endpoint did not say, 0 when no model was called."""
        counts = [attempt.prompt_tokens for attempt in self.attempts]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    @property
    def completion_tokens(self) -> int | None:
        """Generated tokens of all calls; `None` when an endpoint did not say."""
        counts = [attempt.completion_tokens for attempt in self.attempts]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None
