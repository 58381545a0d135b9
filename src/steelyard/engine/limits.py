"""What one endpoint may be asked at a time: calls in flight, requests and tokens per minute."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from steelyard.models.calls import ChatRequest
from steelyard.models.endpoint import LIKELY_IMAGE_TOKENS, Endpoint
from steelyard.models.spec import EndpointSpec

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class ManagedEndpoint:
    """An endpoint and how the engine may use it."""

    endpoint: Endpoint
    concurrency: int = 16
    """Calls in flight at the same time."""
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    """Prompt and answer together."""
    timeout_s: float = 60.0
    """Seconds before one try is given up."""
    max_retries: int = 4
    """Transport retries per call."""


def managed(endpoint: Endpoint, spec: EndpointSpec) -> ManagedEndpoint:
    """The endpoint with the limits study.yaml gives it."""
    return ManagedEndpoint(
        endpoint=endpoint,
        concurrency=spec.concurrency,
        requests_per_minute=spec.requests_per_minute,
        tokens_per_minute=spec.tokens_per_minute,
        timeout_s=spec.timeout_s,
        max_retries=spec.max_retries,
    )


class TokenBucket:
    """A rate per minute with at most one second's worth of it at once, handed out in the order of asking.

    Kept as the moment at which all that was handed out is earned (the generic cell rate algorithm), so there is no
    refill to schedule and no lock. An amount larger than the bucket waits until it is earned.
    """

    def __init__(self, per_minute: float, *, clock: Clock = time.monotonic, sleep: Sleep = asyncio.sleep) -> None:
        self._seconds_each = 60.0 / per_minute
        self._burst_s = max(1.0, self._seconds_each)
        self._earned_at = clock() - self._burst_s
        self._clock = clock
        self._sleep = sleep

    async def take(self, amount: float) -> None:
        """Wait until `amount` may be used."""
        now = self._clock()
        self._earned_at = max(self._earned_at, now - self._burst_s) + amount * self._seconds_each
        if self._earned_at > now:
            await self._sleep(self._earned_at - now)

    def correct(self, difference: float) -> None:
        """Charge what was used beyond the estimate, or give back what was not (negative)."""
        self._earned_at += difference * self._seconds_each


class Limits:
    """The gate in front of one endpoint."""

    def __init__(self, managed: ManagedEndpoint, *, sleep: Sleep = asyncio.sleep) -> None:
        self.in_flight = asyncio.Semaphore(managed.concurrency)
        requests, tokens = managed.requests_per_minute, managed.tokens_per_minute
        self._requests = None if requests is None else TokenBucket(requests, sleep=sleep)
        self._tokens = None if tokens is None else TokenBucket(tokens, sleep=sleep)

    async def admit(self, request: ChatRequest) -> float:
        """Wait until a try may start; returns the tokens it was estimated at, for `settle`."""
        if self._requests is not None:
            await self._requests.take(1)
        if self._tokens is None:
            return 0.0
        estimate = likely_prompt_tokens(request) + request.max_tokens
        await self._tokens.take(estimate)
        return estimate

    def settle(self, estimate: float, used: int | None) -> None:
        """Replace the estimate by what the endpoint counted, where it did."""
        if self._tokens is not None and used is not None:
            self._tokens.correct(used - estimate)


def likely_prompt_tokens(request: ChatRequest) -> int:
    """About how many tokens a prompt has: a quarter of its characters, and a few a message for the chat template.

    A reranker reads the question again with each text.
    """
    n_tools = sum(len(tool.description) + len(str(tool.parameters)) for tool in request.tools) // 4
    n_images = sum(len(message.images) for message in request.messages)
    n_again = 0
    if request.operation == "rerank":
        n_again = (len(request.messages) - 2) * (len(request.messages[0].content) // 4 + 4)
    n_text = sum(len(message.content) // 4 + 4 for message in request.messages) + n_again
    return n_text + n_images * LIKELY_IMAGE_TOKENS + n_tools
