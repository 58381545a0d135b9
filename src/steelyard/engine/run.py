"""Run approaches on cases: who works on what, what an outcome is made of, and how a run ends early.

Approaches run one after the other, because a local server must not switch adapters back and forth; the cases of one
approach run concurrently. A case whose outcome is journalled is skipped, a call whose result is journalled is not
sent again: so the same command, given again, does only what is left.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from steelyard.approaches.approach import Answer, Approach, Ask
from steelyard.approaches.cascade import endpoints_of
from steelyard.approaches.own_work import WAITING
from steelyard.cases.case import Case
from steelyard.engine.ask import GIVEN_UP, Calls, CaseAsk
from steelyard.engine.budget import Budget, check_prices
from steelyard.engine.entries import Spent
from steelyard.engine.interrupt import interruptible
from steelyard.engine.journal import Journal
from steelyard.engine.limits import ManagedEndpoint
from steelyard.engine.outcome import Outcome, OutcomeStatus, WorkSplit
from steelyard.engine.progress import Progress
from steelyard.errors import EndpointUnusable, InputError, Problem, RunStopped, SteelyardError, StorageFailed
from steelyard.models.calls import Attempt, AttemptStatus
from steelyard.models.endpoint import Price
from steelyard.task.scorers import Scored

Score = Callable[[Answer, Case, Ask], Awaitable[Scored]]
"""Scores an answer against its case; a judge asks through the door it is given, and is journalled apart."""

_GRACE_S = 3.0
"""How long other calls may still end once an endpoint has turned out to be unusable."""

_STATUS_OF_LAST_CALL = {
    AttemptStatus.EMPTY: OutcomeStatus.EMPTY,
    AttemptStatus.REFUSED: OutcomeStatus.REFUSED,
    AttemptStatus.TIMED_OUT: OutcomeStatus.TIMED_OUT,
    AttemptStatus.FAILED: OutcomeStatus.FAILED,
    AttemptStatus.TOO_LONG: OutcomeStatus.TOO_LONG,
    AttemptStatus.SCHEMA_REFUSED: OutcomeStatus.FAILED,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """One approach and the cases it shall be run on."""

    approach: Approach
    cases: Sequence[Case]
    split: WorkSplit
    repeats: int = 1

    def left(self, journal: Journal) -> Iterator[tuple[Case, str, int]]:
        """Case, case digest and repeat of everything without an outcome."""
        done = journal.done(self.approach.name, self.approach.fingerprint)
        for repeat in range(self.repeats):
            for case in self.cases:
                digest = case.digest()
                if (case.id, digest, self.split, repeat) not in done:
                    yield case, digest, repeat


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSummary:
    """What one run did."""

    n_outcomes: int
    """Outcomes recorded in this run."""
    n_skipped: int
    """Outcomes that were there before."""
    statuses: Mapping[str, Mapping[OutcomeStatus, int]]
    """Recorded outcomes by approach and status."""
    spent: Spent
    """What the study has paid so far, all runs together."""
    spent_usd: float
    """What this run added to it."""
    seconds: float


@dataclass(kw_only=True, slots=True)
class _Tally:
    n_outcomes: int = 0
    n_skipped: int = 0
    statuses: dict[str, Counter[OutcomeStatus]] = field(default_factory=dict)


async def run(
    work: Sequence[Work],
    *,
    endpoints: Mapping[str, ManagedEndpoint],
    journal: Journal,
    score: Score,
    success_threshold: float = 1.0,
    budget: Budget | None = None,
    compute_price: Price,
    in_flight: int = 32,
    progress: Progress | None = None,
    seed: int = 0,
    followed_by: Callable[[], Sequence[Work]] | None = None,
) -> RunSummary:
    """Do what is left of the work.

    Args:
        work: Approaches with their cases, in the order in which they shall run.
        endpoints: Endpoints by name; closing them stays with the caller.
        journal: Where everything is recorded.
        score: Scores an answer against its case.
        success_threshold: A valid answer with at least this score is a success.
        budget: Ceiling for the whole study, earlier runs included.
        compute_price: Price of this machine's time, for the approaches' own work.
        in_flight: Cases worked on at the same time.
        progress: Told what happens.
        seed: Seed of the jitter between retries.
        followed_by: Asked for more work whenever all is done and on disk, until there is none. Its approaches must be
            among those of `work`.

    Raises:
        InputError: An approach needs an endpoint that is not there, or a budget in money meets an unknown price.
        RunStopped: The run ended early; everything recorded so far is kept and the same call goes on from there.
    """
    budget = budget or Budget()
    _check_endpoints(work, endpoints)
    check_prices(budget, [endpoints[name] for one in work for name in endpoints_of(one.approach)])
    began = time.perf_counter()
    calls = Calls(endpoints=endpoints, journal=journal, budget=budget, seed=seed)
    usd_before = calls.purse.spent.usd
    tally = _Tally()
    crew = _Crew(
        calls=calls,
        journal=journal,
        score=score,
        success_threshold=success_threshold,
        compute_price=compute_price,
        progress=progress,
        tally=tally,
    )
    with interruptible(calls.stop, progress.on_note if progress is not None else None):
        try:
            more = work
            while more:
                for one in more:
                    await crew.work_on(one, in_flight=in_flight)
                    calls.stop.check()
                await journal.flush()
                more = followed_by() if followed_by is not None else ()
        finally:
            with suppress(StorageFailed):  # then the run stops for that reason already, or below
                await journal.flush()
            if progress is not None:
                progress.on_end(calls.purse.spent)
    await journal.flush()
    return RunSummary(
        n_outcomes=tally.n_outcomes,
        n_skipped=tally.n_skipped,
        statuses=tally.statuses,
        spent=calls.purse.spent,
        spent_usd=calls.purse.spent.usd - usd_before,
        seconds=time.perf_counter() - began,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Crew:
    """The workers of one run and what they share."""

    calls: Calls
    journal: Journal
    score: Score
    success_threshold: float
    compute_price: Price
    progress: Progress | None
    tally: _Tally

    async def work_on(self, work: Work, *, in_flight: int) -> None:
        """Run one approach on what is left of its cases; returns early, without raising, when the run shall end."""
        approach = work.approach
        n_all = len(work.cases) * work.repeats
        n_left = sum(1 for _ in work.left(self.journal))
        self.tally.n_skipped += n_all - n_left
        if self.progress is not None:
            title = approach.name if work.split == "test" else f"{approach.name} on {work.split} cases"
            self.progress.on_start(title, n_left, n_all - n_left)
        jobs = work.left(self.journal)
        outage: list[tuple[str, int]] = []
        n_workers = min(in_flight, n_left)
        workers = [asyncio.create_task(self._worker(work, jobs, outage)) for _ in range(n_workers)]
        if not workers:
            return
        everyone = asyncio.gather(*workers)
        stopped = asyncio.create_task(self.calls.stop.wait())
        hurried = asyncio.create_task(self.calls.stop.wait_for_hurry())
        try:
            await asyncio.wait((everyone, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not everyone.done():
                # What was sent is paid for: it may end and be journalled, where that still makes sense.
                await asyncio.wait((everyone, hurried), timeout=self._patience_s(), return_when=asyncio.FIRST_COMPLETED)
            if everyone.done():
                everyone.result()
                if len(outage) == n_left == n_all:
                    for endpoint in endpoints_of(approach):
                        self.calls.stop_if_never_answered(endpoint)
        finally:
            for task in (*workers, stopped, hurried):
                task.cancel()
            await asyncio.gather(*workers, stopped, hurried, return_exceptions=True)
        if outage and isinstance(self.calls.stop.reason, EndpointUnusable):
            # These failed because the endpoint was down, which says nothing about the approach.
            self.journal.forget_outcomes(approach.name, approach.fingerprint, outage)

    def _patience_s(self) -> float | None:
        match self.calls.stop.reason:
            case EndpointUnusable():
                return _GRACE_S
            case StorageFailed():
                return 0.0
            case _:
                return None

    async def _worker(self, work: Work, jobs: Iterator[tuple[Case, str, int]], outage: list[tuple[str, int]]) -> None:
        stop = self.calls.stop
        for case, digest, repeat in jobs:
            if stop.reason is not None:
                return
            try:
                outcome = await self._outcome(work, case, digest, repeat)
                await self.journal.record_outcome(outcome)
            except RunStopped as reason:
                stop.set(reason)
                return
            if any(attempt.status in GIVEN_UP for attempt in outcome.attempts):
                outage.append((case.id, repeat))
            elif outcome.attempts:
                outage.clear()
            else:
                await asyncio.sleep(0)  # an approach without calls would not let Ctrl-C and the progress through
            self.tally.n_outcomes += 1
            self.tally.statuses.setdefault(outcome.approach, Counter())[outcome.status] += 1
            if self.progress is not None:
                self.progress.on_outcome(outcome, self.calls.purse.spent)

    async def _outcome(self, work: Work, case: Case, digest: str, repeat: int) -> Outcome:
        approach = work.approach
        ask = CaseAsk(self.calls, repeat=repeat)
        crash: str | None = None
        WAITING.set(ask.waiting)  # seen by this case's task and those it starts
        began = time.perf_counter()
        try:
            answer = await approach.answer(case.visible(), ask)
        except SteelyardError:
            raise
        except Exception as error:  # noqa: BLE001 - an approach may be anybody's code; its crash is data
            crash = f"{type(error).__name__}: {error}"
            answer = Answer(output=None, valid=False, schema_pass=False, problem=crash)
        own_s = max(0.0, time.perf_counter() - began - ask.waited_s)
        judge_ask = CaseAsk(self.calls, repeat=repeat)
        scored = await self._scored(answer, case, judge_ask)
        attempts = tuple(ask.attempts)
        calls_s = answer.calls_s if answer.calls_s is not None else sum(attempt.latency_s for attempt in attempts)
        return Outcome(
            approach=approach.name,
            fingerprint=approach.fingerprint,
            case_id=case.id,
            case_digest=digest,
            split=work.split,
            repeat=repeat,
            status=OutcomeStatus.CRASHED if crash is not None else status_of(answer, attempts),
            output=answer.output,
            problem=answer.problem,
            score=scored.score,
            unscored_because=scored.unscored_because,
            success=None if scored.score is None else answer.valid and scored.score >= self.success_threshold,
            schema_pass=answer.schema_pass,
            attempts=attempts,
            latency_s=own_s + calls_s,
            own_s=own_s,
            cost_usd=self._cost_usd(attempts, own_s),
            sources=answer.sources,
            confidence=answer.confidence,
            notes=answer.notes,
            asked=answer.asked,
            fields=scored.fields,
            judge_attempts=tuple(judge_ask.attempts),
            segment=case.segment,
            cluster=case.cluster,
            time=case.time,
        )

    async def _scored(self, answer: Answer, case: Case, ask: Ask) -> Scored:
        try:
            return await self.score(answer, case, ask)
        except SteelyardError:
            raise
        except Exception as error:  # noqa: BLE001 - a scorer may be anybody's code; the case is then unscored
            return Scored(score=None, unscored_because=f"the scorer raised {type(error).__name__}: {error}")

    def _cost_usd(self, attempts: Sequence[Attempt], own_s: float) -> float | None:
        total = self.compute_price.of_call(prompt_tokens=0, cached_tokens=0, completion_tokens=0, seconds=own_s)
        if total is None:
            return None
        for attempt in attempts:
            if attempt.price_usd is None:
                return None
            total += attempt.price_usd
        return total


def status_of(answer: Answer, attempts: Sequence[Attempt]) -> OutcomeStatus:
    """How the work on a case ended: with a valid output, or for the reason its last call gives."""
    if answer.valid and answer.output is not None:
        return OutcomeStatus.ANSWERED
    if attempts and answer.output is None:
        return _STATUS_OF_LAST_CALL.get(attempts[-1].status, OutcomeStatus.INVALID)
    return OutcomeStatus.INVALID


def _check_endpoints(work: Sequence[Work], endpoints: Mapping[str, ManagedEndpoint]) -> None:
    known = ", ".join(sorted(endpoints)) or "none"
    problems = [
        Problem(
            what=f"approach {one.approach.name!r} needs the endpoint {endpoint!r}, which is not there",
            hint=f"endpoints of this study: {known}",
        )
        for one in work
        for endpoint in endpoints_of(one.approach)
        if endpoint not in endpoints
    ]
    if problems:
        raise InputError(problems)
