"""The judge of support: asks about answers that the quote check leaves undecided, and reads what it said.

Its calls go through the engine: journalled, priced, under the budget, never paid twice. They belong to no outcome, so that
they are in no figure of an approach; a verdict is found again by the content address of its call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from steelyard.engine.ask import GIVEN_UP, Calls
from steelyard.engine.budget import Budget
from steelyard.engine.interrupt import interruptible
from steelyard.engine.journal import Journal
from steelyard.engine.limits import ManagedEndpoint
from steelyard.errors import InputError, Problem, RunStopped
from steelyard.measure.shares import Row
from steelyard.models.calls import Attempt, ChatRequest
from steelyard.study import local_model
from steelyard.study.endpoints import hosted_endpoints
from steelyard.study.file import StudyFile
from steelyard.study.readings import Readings, answer_rules, readings
from steelyard.task.judge import AskJudge
from steelyard.task.support import SupportVerdict, answer_support
from steelyard.task.support_judge import support_mark

if TYPE_CHECKING:
    from steelyard.study.running import Plan

STEP = "judge of support"


@dataclass(frozen=True, kw_only=True, slots=True)
class Marks:
    """What the judge said of answers that words leave undecided."""

    by_outcome: Mapping[tuple[str, str, int], float]
    """By approach, case and repeat."""
    threshold: float = 0.5
    """The least mark of an answer that is supported."""
    waiting: tuple[ChatRequest, ...] = ()
    """Questions about the answers it was not asked about yet."""
    notes: tuple[str, ...] = ()

    def verdict(self, row: Row) -> SupportVerdict | None:
        """Whether an answer is supported; `None` where the judge was not asked or gave no verdict."""
        mark = self.by_outcome.get(_key(row))
        return None if mark is None else "supported" if mark >= self.threshold else "unsupported"


def judge_name(file: StudyFile) -> tuple[str, ...]:
    """The model that judges support, if any.

    Raises:
        InputError: The study has no such model.
    """
    if file.task.support is None:
        return ()
    name, models = file.task.support.judge, ("local", *file.models.endpoints)
    if name not in models:
        hint = f"models of this study: {', '.join(models)}"
        raise InputError(Problem(where="study.yaml:task.support.judge", what=f"no model {name!r} to judge", hint=hint))
    return (name,)


def recorded_marks(file: StudyFile, found: Readings, journal: Journal, *, models: Mapping[str, str]) -> Marks:
    """What the judge has said so far, from the journal alone.

    Args:
        file: Its settings.
        found: What was answered, and from which texts.
        journal: With the judge's calls.
        models: Identity of the model behind each endpoint.
    """
    spec = file.task.support
    if spec is None:
        return Marks(by_outcome={})
    attempts: dict[str, Attempt] = {}
    waiting: list[ChatRequest] = []

    async def ask(request: ChatRequest) -> Attempt:
        digest = request.digest(model=models.get(spec.judge, ""))
        attempt = attempts.get(digest) or journal.lookup(digest)
        if attempt is None or attempt.status in GIVEN_UP:
            waiting.append(request)
            raise LookupError(digest)
        attempts[digest] = attempt
        return attempt

    marks: dict[tuple[str, str, int], float] = {}
    for row, judged in _doubtful(file, found, ask):
        try:
            mark = _at_once(judged)
        except LookupError:
            continue
        if mark is not None:
            marks[_key(row)] = mark
    prices = [attempt.price_usd for attempt in attempts.values()]
    usd = "an unknown price" if None in prices else f"${sum(price for price in prices if price is not None):.4f}"
    said = (
        f"support of {len(marks):,} answers that words leave undecided was judged by {spec.judge}: {len(attempts):,} calls,"
        f" {usd}, in no figure of an approach"
    )
    left = f"; {len(waiting):,} are left (steelyard run asks the judge)" if waiting else ""
    return Marks(by_outcome=marks, threshold=spec.threshold, waiting=tuple(waiting), notes=(said + left,))


def judge_support(plan: Plan, journal: Journal, *, budget: Budget, say: Callable[[str], None]) -> None:
    """Ask the judge about every answer that words leave undecided and that it was not asked about yet.

    Raises:
        RunStopped: It ended early; what was said is kept, and the same call goes on from there.
    """
    from steelyard.study.scoring import read_evidence

    if not judge_name(plan.file):
        return
    evidence = read_evidence(journal, plan.file, where=str(plan.folder), approaches=plan.chosen)
    found = readings(plan.file, evidence.approaches, evidence.setups, journal)
    if found is None or not recorded_marks(plan.file, found, journal, models=evidence.record.models).waiting:
        return
    say("judging which answers are supported")
    with _endpoints(plan, budget, say) as endpoints:
        asyncio.run(_ask_all(plan.file, found, endpoints, journal, budget, note=say))
    say("support is judged")


# ---- private --------------------------------------------------------------------------------------------------------


def _key(row: Row) -> tuple[str, str, int]:
    return row["approach"], row["case_id"], row["repeat"]


def _doubtful(
    file: StudyFile, found: Readings, ask: AskJudge
) -> Iterator[tuple[Row, Coroutine[Any, Any, float | None]]]:
    """Outcomes whose support words leave undecided, each with the question to the judge."""
    spec = file.task.support
    assert spec is not None
    rules = answer_rules(file)
    native = spec.judge == "local" or file.models.endpoints[spec.judge].native_schema
    for row in found.read:
        texts = [text for text in found.texts_of(row) if text is not None]
        if not rules.answered(row) or len(texts) < len(row["sources"]):
            continue
        answer = row["output"][rules.field]
        if answer_support(answer, texts).verdict != "undecided":
            continue
        yield (
            row,
            support_mark(
                rules.field,
                answer,
                texts,
                model=spec.judge,
                instruction=file.task.instruction,
                ask=ask,
                native_schema=native,
            ),
        )


def _at_once(judged: Coroutine[Any, Any, float | None]) -> float | None:
    """The result of a question whose answer is at hand: nothing in it ever waits."""
    try:
        judged.send(None)
    except StopIteration as done:
        mark: float | None = done.value
        return mark
    raise AssertionError("a recorded answer was waited for")


@contextmanager
def _endpoints(plan: Plan, budget: Budget, say: Callable[[str], None]) -> Iterator[dict[str, ManagedEndpoint]]:
    """The judge's endpoint alone."""
    names = judge_name(plan.file)
    if "local" not in names:
        yield hosted_endpoints(plan.file, plan.task, {}, budget, also=names)
        return
    log_file = plan.state / "logs" / "llama.log"
    with local_model.serving(plan.file.models.local, plan.folder, adapters={}, log_file=log_file, say=say) as endpoint:
        yield {"local": endpoint}


async def _ask_all(
    file: StudyFile,
    found: Readings,
    endpoints: Mapping[str, ManagedEndpoint],
    journal: Journal,
    budget: Budget,
    *,
    note: Callable[[str], None],
) -> None:
    """Ask side by side; when one stops, those in flight end and are kept."""
    calls = Calls(endpoints=endpoints, journal=journal, budget=budget)

    async def ask(request: ChatRequest) -> Attempt:
        return await calls.make(request, calls.digest(request, repeat=0), step=STEP, extra=False)

    async def until_stopped(judged: Coroutine[Any, Any, float | None]) -> None:
        try:
            await judged
        except RunStopped as reason:
            calls.stop.set(reason)

    try:
        with interruptible(calls.stop, note):
            everyone = asyncio.gather(*(until_stopped(judged) for _, judged in _doubtful(file, found, ask)))
            hurried = asyncio.create_task(calls.stop.wait_for_hurry())
            await asyncio.wait((everyone, hurried), return_when=asyncio.FIRST_COMPLETED)
            hurried.cancel()
            everyone.cancel()  # does nothing to what has ended
            with suppress(asyncio.CancelledError):
                await everyone
    finally:
        await journal.flush()
        for one in endpoints.values():
            await one.endpoint.close()
    calls.stop.check()
