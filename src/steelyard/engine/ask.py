"""The engine's door to the models: every call of every approach goes through `Calls.make`.

In this order: the journal is asked for the answer; the same call already in flight is waited for; the budget sets the
most it can cost aside; the endpoint's limits admit it; it is tried until it has a result or no more tries; and it is
journalled before anyone sees it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from steelyard.engine.budget import Budget, Purse, most_usd, unpriced
from steelyard.engine.journal import Journal
from steelyard.engine.limits import ManagedEndpoint
from steelyard.engine.tries import Line, Stop, Tries
from steelyard.errors import EndpointUnusable, InputError, Problem, RunStopped
from steelyard.models.calls import Attempt, AttemptStatus, ChatRequest

FAILURES_BEFORE_STOP = 10
"""Calls in a row that fail for good before the endpoint counts as out of order and the run stops."""

SEEDS_PER_REPEAT = 1000
"""Repeats of a case are separate samples, so each asks with seeds of its own; an approach counts up within one."""

GIVEN_UP = (AttemptStatus.FAILED, AttemptStatus.TIMED_OUT)
"""Without a result: such a call is made again where it is asked for again."""


class Calls:
    """Makes the model calls of one run."""

    def __init__(
        self, *, endpoints: Mapping[str, ManagedEndpoint], journal: Journal, budget: Budget, seed: int = 0
    ) -> None:
        self.stop = Stop()
        self.purse = Purse(budget, spent=journal.spent())
        self._counts_money = budget.usd is not None
        self._lines = {name: Line(managed, self.stop) for name, managed in endpoints.items()}
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
        if request.operation != "chat":
            repeat = again = 0  # no samples: a vector or a ranking is the same however often it is asked for
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
                raise unpriced(request)
            reserved = await self.purse.reserve(bound)
            counted_usd: float | None = 0.0
            called = False
            try:
                tries = Tries(line, request, stop=self.stop, jitter=self._random)
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

    def _judge(self, line: Line, attempt: Attempt) -> None:
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

    def _stop_at(self, line: Line) -> None:
        n_failed = line.failures_in_a_row
        calls = f"{n_failed} calls in a row failed, the last with" if n_failed > 1 else "the only call failed with"
        what = f"endpoint {line.managed.endpoint.name!r} seems to be out of order: {calls}: {line.last_failure}"
        hint = "look at what it says; once it answers, the same command goes on from here"
        self.stop.set(EndpointUnusable(Problem(what=what, hint=hint)))

    def _line(self, request: ChatRequest) -> Line:
        try:
            return self._lines[request.endpoint]
        except KeyError:
            known = ", ".join(sorted(self._lines)) or "none"
            raise InputError(
                Problem(what=f"there is no endpoint {request.endpoint!r}", hint=f"endpoints of this study: {known}")
            ) from None


class CaseAsk:
    """`Ask` for one task (one case, one repeat): remembers its attempts and the time spent waiting for them."""

    __slots__ = ("_began", "_calls", "_open", "_repeat", "_seen", "attempts", "waited_s")

    def __init__(self, calls: Calls, *, repeat: int) -> None:
        self.attempts: list[Attempt] = []
        self.waited_s = 0.0
        """Wall-clock seconds during which at least one call was open, or a piece of own work waited for its turn."""
        self._calls = calls
        self._repeat = repeat
        self._seen: dict[str, int] = {}
        self._open = 0
        self._began = 0.0

    async def __call__(self, request: ChatRequest, *, step: str = "answer", extra: bool = False) -> Attempt:
        """Make one model call and wait until its result is safe in the journal; see `Ask`."""
        if self._repeat and request.seed is not None:
            request = replace(request, seed=request.seed + self._repeat * SEEDS_PER_REPEAT)
        with self.waiting():
            digest = self._calls.digest(request, repeat=self._repeat)
            again = self._seen.get(digest, 0)
            self._seen[digest] = again + 1
            if again:
                digest = self._calls.digest(request, repeat=self._repeat, again=again)
            attempt = await self._calls.make(request, digest, step=step, extra=extra)
        self.attempts.append(attempt)
        return attempt

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A block that is no work of the approach itself.

        Blocks may overlap (asyncio.gather in an approach): the clock runs from the first to the last of them.
        """
        if self._open == 0:
            self._began = time.perf_counter()
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            if self._open == 0:
                self.waited_s += time.perf_counter() - self._began
