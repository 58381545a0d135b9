"""Calls that are paid before any case is asked: the documents of a study are embedded by an endpoint.

They pass the same budget, limits, tries and prices as the calls of a run, but what comes back is the caller's to keep: the
vectors of a hundred thousand chunks have no place in the journal. What the journal keeps is their money, as one job that
is counted at the most it can have cost before anything is sent and at what it did cost once that is kept.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from steelyard.engine.budget import Budget, Purse, most_usd, unpriced
from steelyard.engine.interrupt import interruptible
from steelyard.engine.journal import Journal
from steelyard.engine.limits import ManagedEndpoint
from steelyard.engine.tries import Line, Stop, Tries
from steelyard.errors import EndpointUnusable, InputError, Problem, RunStopped
from steelyard.models.calls import Attempt, AttemptStatus, ChatRequest


class PaidCalls:
    """Makes calls outside of a run; called with requests, it returns when all have an answer that was kept."""

    def __init__(
        self,
        managed: ManagedEndpoint,
        *,
        journal: Journal,
        budget: Budget,
        note: Callable[[str], None] | None = None,
        seed: int = 0,
    ) -> None:
        """Say with what.

        Args:
            managed: The one endpoint.
            journal: Of the study, which this process has locked.
            budget: Ceiling of the study, earlier runs included.
            note: Shows a line to the person.
            seed: Seed of the jitter between tries.
        """
        self._managed = managed
        self._journal = journal
        self._budget = budget
        self._note = note
        self._jitter = random.Random(seed)

    def __call__(self, requests: Sequence[ChatRequest], keep: Callable[[int, Attempt], None]) -> None:
        """Make calls side by side, as the limits of the endpoint allow.

        Args:
            requests: What to ask.
            keep: Given the place of a request and its answer, which is safe on disk when this returns. Called once for
                each, in the order in which answers come.

        Raises:
            InputError: A text is too long for the model, or a budget in money meets an unknown price.
            RunStopped: The budget is reached, the endpoint gave no answer in all its tries, or Ctrl-C. What came until
                then has been kept.
        """
        job = _Job(self._managed, self._journal, self._budget, self._jitter, keep)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run(job.do(requests, self._note))
        else:  # asked from within a look-up that is being tried out: that waits, on a loop of our own
            with ThreadPoolExecutor(max_workers=1) as thread:
                thread.submit(asyncio.run, job.do(requests, self._note)).result()


class _Job:
    """The calls of one `PaidCalls.__call__`."""

    def __init__(
        self,
        managed: ManagedEndpoint,
        journal: Journal,
        budget: Budget,
        jitter: random.Random,
        keep: Callable[[int, Attempt], None],
    ) -> None:
        self._stop = Stop()
        self._line = Line(managed, self._stop)
        self._journal = journal
        self._counts_money = budget.usd is not None
        self._purse = Purse(budget, spent=journal.spent())
        self._jitter = jitter
        self._keep = keep
        # Each has a mark of its own: what one that was killed had set aside stays counted.
        self._mark = f"{managed.endpoint.name} {time.time_ns()} {os.getpid()}"
        self._in_flight: dict[int, float | None] = {}
        """The most that calls can cost which have not ended, by place."""
        self._paid: list[float | None] = []
        self._failure: InputError | None = None

    async def do(self, requests: Sequence[ChatRequest], note: Callable[[str], None] | None) -> None:
        """Make all calls, and see to it that those in flight end when one fails."""
        try:
            with interruptible(self._stop, note):
                everyone = asyncio.gather(*(self._guarded(place, one) for place, one in enumerate(requests)))
                hurried = asyncio.create_task(self._stop.wait_for_hurry())
                await asyncio.wait((everyone, hurried), return_when=asyncio.FIRST_COMPLETED)
                hurried.cancel()
                everyone.cancel()  # does nothing to what has ended
                with suppress(asyncio.CancelledError):
                    await everyone
        finally:
            await self._line.managed.endpoint.close()
        if self._failure is not None:
            raise self._failure
        self._stop.check()

    async def _guarded(self, place: int, request: ChatRequest) -> None:
        try:
            async with self._line.limits.in_flight:
                self._stop.check()
                await self._make(place, request)
        except RunStopped as stopped:
            self._stop.set(stopped)
        except InputError as error:
            self._failure = self._failure or error
            self._stop.set(RunStopped(error.problems[0]))

    async def _make(self, place: int, request: ChatRequest) -> None:
        most = most_usd(request, self._line.managed)
        if self._counts_money and most is None:
            raise unpriced(request)
        reserved = await self._purse.reserve(most)
        self._in_flight[place] = most
        self._count()
        usd: float | None = 0.0
        called = False
        tries = Tries(self._line, request, stop=self._stop, jitter=self._jitter)
        try:
            try:
                attempt = await tries.until_done("", step="embed", extra=False)
            except RunStopped:
                usd = tries.lost_usd()
                called = usd != 0.0
                raise
            except asyncio.CancelledError:
                usd, called = most, True  # nobody waits for what it did cost
                raise
            called = True
            usd = attempt.price_usd if attempt.price_usd is not None else most
            if attempt.status is AttemptStatus.ANSWERED:
                self._keep(place, attempt)
        finally:
            del self._in_flight[place]
            if called:
                self._paid.append(usd)
            self._purse.settle(reserved, usd=usd, called=called)
            self._count()
        if attempt.status is not AttemptStatus.ANSWERED:
            raise _no_answer(request, attempt)

    def _count(self) -> None:
        """Write down what is paid and what may still be."""
        amounts = [*self._paid, *self._in_flight.values()]
        known = [one for one in amounts if one is not None]
        usd = sum(known) if len(known) == len(amounts) else None
        self._journal.record_job(self._mark, usd, calls=len(amounts))


def _no_answer(request: ChatRequest, attempt: Attempt) -> InputError | EndpointUnusable:
    what = f"endpoint {request.endpoint!r} gave no answer: {attempt.error}"
    if attempt.status is AttemptStatus.TOO_LONG:
        longest = max(len(message.content) for message in request.messages)
        hint = f"the longest text has {longest:,} characters; lower knowledge.chunk_tokens"
        return InputError(Problem(what=what, hint=hint))
    hint = "look at what it says; the same command goes on from here, and nothing is paid twice"
    return EndpointUnusable(Problem(what=what, hint=hint))
