"""The tries of one call: sent until it has a result, no further try makes sense, or the run shall end."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime
from typing import Literal

from steelyard.engine.budget import lost_try_usd
from steelyard.engine.limits import Limits, ManagedEndpoint
from steelyard.engine.retry import wait_before_retry_s
from steelyard.errors import EndpointUnusable, Problem, RunStopped
from steelyard.models.calls import Attempt, AttemptStatus, ChatRequest
from steelyard.models.endpoint import EndpointFault, Response


class Stop:
    """Whether the run shall end, and why; set once, seen by everyone who is about to begin or to wait."""

    def __init__(self) -> None:
        self.reason: RunStopped | None = None
        self._event = asyncio.Event()
        self._hurry = asyncio.Event()

    def set(self, reason: RunStopped) -> None:
        """Ask the run to end; the first reason counts."""
        if self.reason is None:
            self.reason = reason
            self._event.set()

    def check(self) -> None:
        """Raise the reason, if there is one."""
        if self.reason is not None:
            raise type(self.reason)(self.reason.problem)

    def hurry(self) -> None:
        """Do not even wait for the calls in flight."""
        self._hurry.set()

    async def wait(self) -> None:
        """Return once the run shall end."""
        await self._event.wait()

    async def wait_for_hurry(self) -> None:
        """Return once the calls in flight shall not be waited for any more."""
        await self._hurry.wait()

    async def sleep(self, seconds: float) -> None:
        """Sleep, but no longer than until the run shall end; then raise the reason."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return
        self.check()


class Line:
    """One endpoint during one run: its limits, and how many calls failed in a row."""

    def __init__(self, managed: ManagedEndpoint, stop: Stop) -> None:
        self.managed = managed
        self.limits = Limits(managed, sleep=stop.sleep)
        self.failures_in_a_row = 0
        self.has_answered = False
        self.last_failure: str | None = None


class Tries:
    """The tries of one call."""

    def __init__(self, line: Line, request: ChatRequest, *, stop: Stop, jitter: random.Random) -> None:
        self._line = line
        self._request = request
        self._stop = stop
        self._jitter = jitter
        self._failed: list[tuple[EndpointFault, float]] = []

    async def until_done(self, digest: str, *, step: str, extra: bool) -> Attempt:
        """Try until there is a result or no further try makes sense.

        Raises:
            RunStopped: The endpoint is unusable, or the run ends while waiting for the next try.
        """
        managed, request = self._line.managed, self._request
        started_utc = datetime.now(UTC).isoformat(timespec="milliseconds")
        latency_s = 0.0
        while True:
            estimate = await self._line.limits.admit(request)
            self._stop.check()
            began = time.perf_counter()
            outcome: Response | EndpointFault
            try:
                outcome = await managed.endpoint.send(request, timeout_s=managed.timeout_s)
            except EndpointFault as fault:
                outcome = fault
            seconds = time.perf_counter() - began
            latency_s += seconds
            if isinstance(outcome, Response):
                used = (
                    None if outcome.prompt_tokens is None else outcome.prompt_tokens + (outcome.completion_tokens or 0)
                )
                self._line.limits.settle(estimate, used)
                return self._attempt(digest, outcome, latency_s, seconds, started_utc, step=step, extra=extra)
            if outcome.fatal:
                problem = Problem(what=f"endpoint {request.endpoint!r}: {outcome.message}", hint=outcome.hint)
                stopped = EndpointUnusable(problem)
                self._stop.set(stopped)
                raise stopped
            self._failed.append((outcome, seconds))
            wait_s = wait_before_retry_s(
                outcome, tries=len(self._failed), max_retries=managed.max_retries, random=self._jitter
            )
            if wait_s is None:
                status: Literal[AttemptStatus.TIMED_OUT, AttemptStatus.FAILED] = (
                    AttemptStatus.TIMED_OUT if outcome.kind == "timed_out" else AttemptStatus.FAILED
                )
                failed = Response(status=status, error=_last_words(outcome, tries=len(self._failed)))
                return self._attempt(digest, failed, latency_s, None, started_utc, step=step, extra=extra)
            await self._stop.sleep(wait_s)
            latency_s += wait_s

    def _attempt(
        self,
        digest: str,
        response: Response,
        latency_s: float,
        seconds: float | None,
        started_utc: str,
        *,
        step: str,
        extra: bool,
    ) -> Attempt:
        endpoint = self._line.managed.endpoint
        price = self.lost_usd(response.prompt_tokens)
        if seconds is not None and price is not None:
            last = self._price_of(response, seconds)
            price = None if last is None else price + last
        return Attempt(
            digest=digest,
            endpoint=self._request.endpoint,
            model=endpoint.model,
            status=response.status,
            text=response.text,
            tool_calls=response.tool_calls,
            error=response.error,
            prompt_tokens=response.prompt_tokens,
            cached_tokens=response.cached_tokens,
            completion_tokens=response.completion_tokens,
            logprob=response.logprob,
            latency_s=latency_s,
            price_usd=price,
            transport_retries=len(self._failed) - (seconds is None),
            step=step,
            extra=extra,
            started_utc=started_utc,
        )

    def _price_of(self, response: Response, seconds: float) -> float | None:
        price = self._line.managed.endpoint.price
        if response.status.is_turned_away and price.cpu_hour_usd is None:
            return 0.0  # turned away before any token was read
        return price.of_call(
            prompt_tokens=response.prompt_tokens,
            cached_tokens=response.cached_tokens,
            completion_tokens=response.completion_tokens,
            seconds=seconds,
        )

    def lost_usd(self, prompt_tokens: int | None = None) -> float | None:
        """What the failed tries are counted as; see `lost_try_usd`."""
        price = self._line.managed.endpoint.price
        total = 0.0
        for fault, seconds in self._failed:
            one = lost_try_usd(self._request, fault, price, seconds=seconds, prompt_tokens=prompt_tokens)
            if one is None:
                return None
            total += one
        return total


def _last_words(fault: EndpointFault, *, tries: int) -> str:
    words = fault.message if tries == 1 else f"{fault.message} (after {tries} tries)"
    if fault.retry_after_s is not None:
        words += f"; it asks to wait {fault.retry_after_s:g} s"
    return words
