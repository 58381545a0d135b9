"""The engine's door to the models: every call of every approach goes through `Calls.make`.

In this order: the journal is asked for the answer; the same call already in flight is waited for; the budget sets the
most it can cost aside; the endpoint's limits admit it; it is tried until it has a result or no more tries; and it is
journalled before anyone sees it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from steelyard.engine.budget import Budget, Purse, lost_try_usd, most_usd, unpriced
from steelyard.engine.journal import Journal
from steelyard.engine.limits import Limits, ManagedEndpoint
from steelyard.engine.retry import wait_before_retry_s
from steelyard.errors import EndpointUnusable, InputError, Problem, RunStopped
from steelyard.models.calls import Attempt, AttemptStatus, ChatRequest
from steelyard.models.endpoint import EndpointFault, Response

FAILURES_BEFORE_STOP = 10
"""Calls in a row that fail for good before the endpoint counts as out of order and the run stops."""

SEEDS_PER_REPEAT = 1000
"""Repeats of a case are separate samples, so each asks with seeds of its own; an approach counts up within one."""

GIVEN_UP = (AttemptStatus.FAILED, AttemptStatus.TIMED_OUT)
"""Without a result: such a call is made again where it is asked for again."""


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


class _Line:
    """One endpoint during one run: its limits, and how many calls failed in a row."""

    def __init__(self, managed: ManagedEndpoint, stop: Stop) -> None:
        self.managed = managed
        self.limits = Limits(managed, sleep=stop.sleep)
        self.failures_in_a_row = 0
        self.has_answered = False
        self.last_failure: str | None = None


class Calls:
    """Makes the model calls of one run."""

    def __init__(
        self, *, endpoints: Mapping[str, ManagedEndpoint], journal: Journal, budget: Budget, seed: int = 0
    ) -> None:
        self.stop = Stop()
        self.purse = Purse(budget, spent=journal.spent())
        self._counts_money = budget.usd is not None
        self._lines = {name: _Line(managed, self.stop) for name, managed in endpoints.items()}
        self._journal = journal
        # Nobody else writes while a run has the study's lock, so what is not in here need not be looked up: a query
        # that finds nothing would cost a fifth of the engine's time per call.
        self._journalled = journal.call_digests()
        self._random = random.Random(seed)
        self._in_flight: dict[str, asyncio.Future[Attempt]] = {}

    def digest(self, request: ChatRequest, *, repeat: int, again: int = 0) -> str:
        """Content address of a call.

        Args:
            request: What is asked.
            repeat: Index of the repeat of the case.
            again: How often the same task has asked exactly this before: asking again means wanting a new answer.
        """
        model = self._line(request).managed.endpoint.model
        return request.digest(model=f"{model} asked again {again}" if again else model, repeat=repeat)

    async def make(self, request: ChatRequest, digest: str, *, step: str, extra: bool) -> Attempt:
        """One model call, or its journalled result; see `Ask`."""
        known = self._journal.lookup(digest) if digest in self._journalled else None
        if known is not None and known.status not in GIVEN_UP:
            return replace(known, step=step, extra=extra)
        self.stop.check()
        other = self._in_flight.get(digest)
        if other is not None:
            # Shielded: this task may be cancelled without taking the other's call down.
            attempt = await asyncio.shield(other)
            return replace(attempt, step=step, extra=extra, replayed=True)
        future: asyncio.Future[Attempt] = asyncio.get_running_loop().create_future()
        self._in_flight[digest] = future
        try:
            attempt = await self._pay(request, digest, step=step, extra=extra)
        except asyncio.CancelledError:
            future.cancel()
            raise
        except Exception as error:
            future.set_exception(error)
            future.exception()  # looked at, since perhaps nobody waits for it
            raise
        else:
            future.set_result(attempt)
            return attempt
        finally:
            del self._in_flight[digest]

    async def _pay(self, request: ChatRequest, digest: str, *, step: str, extra: bool) -> Attempt:
        line = self._line(request)
        async with line.limits.in_flight:
            self.stop.check()
            bound = most_usd(request, line.managed) if self._counts_money else None
            if self._counts_money and bound is None:
                raise unpriced(request.endpoint)
            reserved = await self.purse.reserve(bound)
            counted_usd: float | None = 0.0
            called = False
            try:
                tries = _Tries(self, line, request)
                try:
                    attempt = await tries.until_done(digest, step=step, extra=extra)
                except (RunStopped, asyncio.CancelledError):
                    lost_usd = tries.lost_usd()
                    if lost_usd:
                        counted_usd, called = lost_usd, True
                        await self._journal.record_lost(request.endpoint, lost_usd)
                    raise
                called = True
                counted_usd = attempt.price_usd
                if counted_usd is None:
                    # Unknown stays unknown in every figure, but the ceiling holds for the worst.
                    counted_usd = most_usd(request, line.managed)
                self._journalled.add(digest)
                await self._journal.record_call(request, attempt, counted_usd=counted_usd)
            finally:
                self.purse.settle(reserved, usd=counted_usd, called=called)
        self._judge(line, attempt)
        return attempt

    def _judge(self, line: _Line, attempt: Attempt) -> None:
        """Stop the run when nothing but failures comes back."""
        if attempt.status not in GIVEN_UP:
            line.failures_in_a_row = 0
            line.has_answered = True
            return
        line.failures_in_a_row += 1
        line.last_failure = attempt.error
        if line.failures_in_a_row >= FAILURES_BEFORE_STOP:
            self._stop_at(line)

    def stop_if_never_answered(self, endpoint: str) -> None:
        """Stop the run when every call of it to this endpoint failed, few as they may have been."""
        line = self._lines[endpoint]
        if line.failures_in_a_row and not line.has_answered:
            self._stop_at(line)

    def _stop_at(self, line: _Line) -> None:
        n_failed = line.failures_in_a_row
        calls = f"{n_failed} calls in a row failed, the last with" if n_failed > 1 else "the only call failed with"
        what = f"endpoint {line.managed.endpoint.name!r} seems to be out of order: {calls}: {line.last_failure}"
        hint = "look at what it says; once it answers, the same command goes on from here"
        self.stop.set(EndpointUnusable(Problem(what=what, hint=hint)))

    def _line(self, request: ChatRequest) -> _Line:
        try:
            return self._lines[request.endpoint]
        except KeyError:
            known = ", ".join(sorted(self._lines)) or "none"
            raise InputError(
                Problem(what=f"there is no endpoint {request.endpoint!r}", hint=f"endpoints of this study: {known}")
            ) from None


class _Tries:
    """The tries of one call."""

    def __init__(self, calls: Calls, line: _Line, request: ChatRequest) -> None:
        self._calls = calls
        self._line = line
        self._request = request
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
            self._calls.stop.check()
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
                self._calls.stop.set(stopped)
                raise stopped
            self._failed.append((outcome, seconds))
            wait_s = wait_before_retry_s(
                outcome, tries=len(self._failed), max_retries=managed.max_retries, random=self._calls._random
            )
            if wait_s is None:
                status: Literal[AttemptStatus.TIMED_OUT, AttemptStatus.FAILED] = (
                    AttemptStatus.TIMED_OUT if outcome.kind == "timed_out" else AttemptStatus.FAILED
                )
                failed = Response(status=status, error=_last_words(outcome, tries=len(self._failed)))
                return self._attempt(digest, failed, latency_s, None, started_utc, step=step, extra=extra)
            await self._calls.stop.sleep(wait_s)
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


class CaseAsk:
    """`Ask` for one task (one case, one repeat): remembers its attempts and the time spent waiting for them."""

    __slots__ = ("_began", "_calls", "_open", "_repeat", "_seen", "attempts", "waited_s")

    def __init__(self, calls: Calls, *, repeat: int) -> None:
        self.attempts: list[Attempt] = []
        self.waited_s = 0.0
        """Wall-clock seconds during which at least one call was open."""
        self._calls = calls
        self._repeat = repeat
        self._seen: dict[str, int] = {}
        self._open = 0
        self._began = 0.0

    async def __call__(self, request: ChatRequest, *, step: str = "answer", extra: bool = False) -> Attempt:
        """Make one model call and wait until its result is safe in the journal; see `Ask`."""
        if self._repeat and request.seed is not None:
            request = replace(request, seed=request.seed + self._repeat * SEEDS_PER_REPEAT)
        # Calls may overlap (asyncio.gather in an approach): the clock runs from the first to the last of them.
        if self._open == 0:
            self._began = time.perf_counter()
        self._open += 1
        try:
            digest = self._calls.digest(request, repeat=self._repeat)
            again = self._seen.get(digest, 0)
            self._seen[digest] = again + 1
            if again:
                digest = self._calls.digest(request, repeat=self._repeat, again=again)
            attempt = await self._calls.make(request, digest, step=step, extra=extra)
        finally:
            self._open -= 1
            if self._open == 0:
                self.waited_s += time.perf_counter() - self._began
        self.attempts.append(attempt)
        return attempt


def _last_words(fault: EndpointFault, *, tries: int) -> str:
    words = fault.message if tries == 1 else f"{fault.message} (after {tries} tries)"
    if fault.retry_after_s is not None:
        words += f"; it asks to wait {fault.retry_after_s:g} s"
    return words
