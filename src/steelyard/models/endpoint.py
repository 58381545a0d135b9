"""The seam to a model: one try of one call, and how it can go wrong.

The engine owns everything around a try (limits, budget, retries, cache, journal); an `Endpoint` only sends once and
says what happened. Built in: `models.http` for anything that speaks the OpenAI format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import orjson

from steelyard.figures import Provenance
from steelyard.models.calls import AttemptStatus, ChatRequest, ToolCall

LIKELY_IMAGE_TOKENS = 1_000
MOST_IMAGE_TOKENS = 60_000
"""Vendors charge between some hundred tokens and, for small models with multipliers, about 50,000 a picture."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """What one successful try brought back."""

    status: AttemptStatus
    """`ANSWERED`, `TRUNCATED`, `EMPTY`, `REFUSED`, `CALLED_TOOLS`, `TOO_LONG` or `SCHEMA_REFUSED`."""
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    """What the model asked for, where the status is `CALLED_TOOLS`."""
    error: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    logprob: float | None = None
    """Sum of the log-probabilities of the answer's tokens."""


class EndpointFault(Exception):
    """One try failed. `retry` says whether another try makes sense; `fatal` whether no call can ever work."""

    def __init__(
        self,
        kind: Literal["rate_limited", "server_error", "dropped", "timed_out", "unreadable", "rejected", "unusable"],
        message: str,
        *,
        retry_after_s: float | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.retry_after_s = retry_after_s
        self.hint = hint

    @property
    def retry(self) -> bool:
        """429, 5xx, a dropped connection, a timeout and an unreadable body may pass on another try."""
        return self.kind in ("rate_limited", "server_error", "dropped", "timed_out", "unreadable")

    @property
    def fatal(self) -> bool:
        """Wrong key, unknown model, nobody listening: no call can work until the person mends it."""
        return self.kind == "unusable"


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """What a model's tokens, or a machine's seconds, cost."""

    input_per_million_usd: float | None = None
    cached_input_per_million_usd: float | None = None
    """`None`: cached tokens cost as much as others."""
    output_per_million_usd: float | None = None
    """Not needed for embeddings and reranking, which generate nothing."""
    cpu_hour_usd: float | None = None
    """For local models: the price of one hour of one CPU core kept busy."""
    provenance: Provenance

    def of_call(
        self, *, prompt_tokens: int | None, cached_tokens: int | None, completion_tokens: int | None, seconds: float
    ) -> float | None:
        """Price of one call in USD, or `None` when a needed token count or price is unknown.

        Args:
            prompt_tokens: All prompt tokens, cached ones included.
            cached_tokens: How many of them were served from the provider's cache; `None` counts as none.
            completion_tokens: Generated tokens.
            seconds: Busy seconds, used only where the machine's time is priced.
        """
        if self.cpu_hour_usd is not None:
            return seconds / 3600 * self.cpu_hour_usd
        if self.input_per_million_usd is None or prompt_tokens is None or completion_tokens is None:
            return None
        if self.output_per_million_usd is None and completion_tokens:
            return None  # where nothing is generated, as for embeddings, its price is not needed
        cached = min(cached_tokens or 0, prompt_tokens)
        cached_rate = self.cached_input_per_million_usd
        if cached_rate is None:
            cached_rate = self.input_per_million_usd
        return (
            (prompt_tokens - cached) * self.input_per_million_usd
            + cached * cached_rate
            + completion_tokens * (self.output_per_million_usd or 0.0)
        ) / 1e6

    def upper_bound(self, request: ChatRequest, *, timeout_s: float, tries: int) -> float | None:
        """No try of this request, nor all of them together, can cost more than this; `None` when unknown.

        A token is at least one byte, so the bytes of the request bound its prompt tokens; 16 a message allow for the
        chat template, or for the marks around a text that is embedded. A picture costs what the vendor says; see
        `MOST_IMAGE_TOKENS`. A reranker reads the question again with each text.
        """
        n_tokens = sum(len(m.content.encode()) + 16 + len(m.images) * MOST_IMAGE_TOKENS for m in request.messages)
        if request.operation == "rerank":
            n_tokens += (len(request.messages) - 2) * (len(request.messages[0].content.encode()) + 16)
        n_tokens += sum(len(part.encode()) for m in request.messages for call in m.tool_calls for part in call)
        if request.tools:
            n_tokens += len(orjson.dumps(request.tools))
        bound = self.of_call(
            prompt_tokens=n_tokens, cached_tokens=0, completion_tokens=request.max_tokens, seconds=timeout_s
        )
        return None if bound is None else bound * tries


class Endpoint(Protocol):
    """One model behind one address."""

    @property
    def name(self) -> str:
        """Name in the study."""
        ...

    @property
    def model(self) -> str:
        """Identity of the model: what makes two answers interchangeable."""
        ...

    @property
    def price(self) -> Price:
        """What calls cost."""
        ...

    @property
    def context_tokens(self) -> int | None:
        """Longest prompt plus answer in tokens; `None` when unknown."""
        ...

    async def send(self, request: ChatRequest, *, timeout_s: float) -> Response:
        """Send once.

        Raises:
            EndpointFault: The try failed; see its `kind`.
        """
        ...

    async def close(self) -> None:
        """Give up connections."""
        ...
