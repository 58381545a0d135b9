"""One question to a model about a case, asked again while the answer cannot be used.

An answer that cannot be used is asked again up to `repairs` times:

- After text that does not satisfy the schema or fails a check, the conversation goes on with that answer and the messages of what
  failed. Only the latest answer is fed back, so that the prompt stays bounded.
- After no text (empty, refused, timed out) the question is asked again as it was.
- Not after an endpoint that failed (the engine has retried already), a prompt that is too long, or a model that asks
  for tools without end: none gets better by repeating it.

The n-th extra call adds n to the seed. If its conversation is one this case has already had, the temperature is
raised to at least `RESAMPLE_TEMPERATURE` too: at temperature 0 the same words bring the same failure again.

On the way to one answer there may be more calls, which are planned ones like the call they continue:

- A model that asks for tools gets their results and is asked again, up to `tool_rounds` times. Where a call named no
  tool or gave it wrong arguments, the call that follows is an extra one.
- An endpoint that refuses the schema it was asked to enforce is asked without it, with the schema in the prompt. A
  refused call costs nothing and is journalled, so that each case goes the same way whatever other cases met.

Checks beyond the schema are advice: an output that fails them to the end still counts as valid, because the document
itself may be what does not add up. Of several valid outputs the one that fails the fewest checks is taken, the first of equals.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from steelyard.approaches.approach import Ask
from steelyard.approaches.prompting import LookedUp, Prompting
from steelyard.approaches.tools import OwnTool, run_tools
from steelyard.approaches.workflow.checks import Check, failed_checks
from steelyard.cases.case import CaseInput
from steelyard.errors import InputError
from steelyard.models.calls import Attempt, AttemptStatus, ChatRequest, Message
from steelyard.task.output import ParsedOutput, parse_output, validate
from steelyard.task.task import Task

LookUp = Callable[[CaseInput, Ask, Mapping[str, Any] | None], Awaitable[LookedUp | None]]
"""Looks documents up for a case, with the outputs of earlier steps."""
RESAMPLE_TEMPERATURE = 0.7
_MAX_FED_BACK = 2000
"""Characters of an unusable answer that are shown to the model again."""
_ASK_AGAIN = (AttemptStatus.EMPTY, AttemptStatus.REFUSED, AttemptStatus.TIMED_OUT)
_NO_TEXT = {
    AttemptStatus.EMPTY: "the model gave no text",
    AttemptStatus.REFUSED: "the model refused",
    AttemptStatus.TIMED_OUT: "the model did not answer in time",
    AttemptStatus.FAILED: "the endpoint failed",
    AttemptStatus.TOO_LONG: "the prompt is too long for the model",
    AttemptStatus.CALLED_TOOLS: "the model asked for a tool, and was offered none",
    AttemptStatus.SCHEMA_REFUSED: "the endpoint refused the schema",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What came of a question."""

    output: Mapping[str, Any] | None
    """The output that is taken, valid or not; `None` when none could be read."""
    valid: bool
    as_it_came: bool
    """Whether the first answer was valid as it came."""
    problem: str | None = None
    """Why the output is missing or invalid, or which checks it still fails."""
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What a person may want to know of how it came about."""
    confidence: float | None = None
    """Probability of the answer as it was written, where the endpoint was asked and says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One prepared question; see the module for how it is asked."""

    endpoint: str
    task: Task
    """Its schema decides what is valid; of a step it may be a part of the whole task's."""
    prompting: Prompting
    temperature: float = 0.0
    sampling: Mapping[str, float] = field(default_factory=dict)
    """Further sampling settings, as request fields."""
    seed: int = 0
    repairs: int = 0
    """Extra calls at most."""
    checks: tuple[Check, ...] = ()
    native_schema: bool = False
    """Whether the endpoint is asked to enforce the output schema."""
    logprobs: bool = False
    """Whether the endpoint is asked how probable its answer was."""
    tools: tuple[OwnTool, ...] = ()
    """Functions the model may ask for."""
    tool_rounds: int = 0
    """How often it may."""
    adapter: str | None = None
    """Digest of the LoRA adapter to use."""
    tuned_model: str | None = None
    """Name of the model a host has tuned, asked in place of the endpoint's own."""

    def digest_parts(self) -> list[Any]:
        """Everything compiled into the question that can change an answer; settings are in the specs they came from."""
        checks = [check.digest for check in self.checks]
        tools = [[tool.definition, tool.digest] for tool in self.tools]
        return [*self.prompting.digest_parts(), checks, *([tools] if tools else [])]

    async def put(
        self,
        case: CaseInput,
        ask: Ask,
        *,
        step: str = "answer",
        repair_step: str = "repair",
        steps: Mapping[str, Any] | None = None,
        seed: int = 0,
        temperature: float | None = None,
        look_up: LookUp | None = None,
    ) -> Reply:
        """Ask, read, and where an answer cannot be used ask again.

        Args:
            case: What the model sees.
            ask: The engine's door to the model.
            step: Name of the first call in the transcript.
            repair_step: Name of the further ones.
            steps: Outputs of earlier steps, for the template.
            seed: Added to the seed, for samples of one question.
            temperature: In place of the question's own.
            look_up: Looks documents up where others do that for several questions; left out, `Prompting.look_up`.
        """
        found = await (look_up or self.prompting.look_up)(case, ask, steps)
        if found is not None and found.problem is not None:
            return Reply(output=None, valid=False, as_it_came=False, problem=found.problem)
        try:
            conversation = self.prompting.converse(case, steps, found)
        except InputError as error:  # a template that cannot be filled in with this case, or a picture that is none
            return Reply(output=None, valid=False, as_it_came=False, problem=error.problems[0].what)
        tries = _Tries(self, case, notes=found.notes if found is not None else ())
        await self._go_on(
            tries, conversation.messages, conversation.messages, ask,
            steps=(step, repair_step), seed=self.seed + seed,
            temperature=self.temperature if temperature is None else temperature, n_extra=0,
        )  # fmt: skip
        return tries.reply(conversation.sources)

    async def mend(
        self,
        output: Mapping[str, Any],
        case: CaseInput,
        ask: Ask,
        *,
        step: str,
        steps: Mapping[str, Any] | None = None,
        as_it_came: bool,
        look_up: LookUp | None = None,
    ) -> Reply:
        """Check an output that came from elsewhere, and ask for a better one while it fails.

        Args:
            output: To be checked against schema and checks.
            case: What the model sees.
            ask: The engine's door to the model.
            step: Name of the calls in the transcript; all of them are extra ones.
            steps: Outputs of earlier steps, for the template.
            as_it_came: Whether the answers behind the output were valid as they came.
            look_up: As for `put`.
        """
        tries = _Tries(self, case, as_it_came=as_it_came)
        problem = validate(output, self.task)
        objection = tries.take(ParsedOutput(output=output, valid=problem is None, as_it_came=False, problem=problem))
        if objection is not None and self.repairs:
            found = await (look_up or self.prompting.look_up)(case, ask, steps)
            conversation = self.prompting.converse(case, steps, found).messages
            said = self._objection(conversation, self.prompting.text.target(output), objection)
            await self._go_on(
                tries, conversation, said, ask,
                steps=(step, step), seed=self.seed, temperature=self.temperature, n_extra=1,
            )  # fmt: skip
        return tries.reply(())

    async def _go_on(
        self,
        tries: _Tries,
        opening: tuple[Message, ...],
        messages: tuple[Message, ...],
        ask: Ask,
        *,
        steps: tuple[str, str],
        seed: int,
        temperature: float,
        n_extra: int,
    ) -> None:
        """Ask until nothing is wrong or no extra call is left."""
        said: set[tuple[Message, ...]] = set()
        schema = self.task.output_schema if self.native_schema else None
        for n in range(n_extra, self.repairs + 1):
            warmer = max(temperature, RESAMPLE_TEMPERATURE) if messages in said else temperature
            said.add(messages)
            request = ChatRequest(
                endpoint=self.endpoint,
                messages=messages,
                max_tokens=self.task.max_output_tokens,
                temperature=warmer,
                seed=seed + n,
                response_schema=schema,
                tools=tuple(tool.definition for tool in self.tools),
                adapter=self.adapter,
                extra={**self.sampling, **({"model": self.tuned_model} if self.tuned_model else {})},
                logprobs=self.logprobs,
            )
            turn = await self._turn(request, ask, step=steps[n > 0], extra=n > 0)
            if turn.refusal is not None:
                schema = None
                opening = self.prompting.with_schema(opening)
                tries.notes.append(f"the endpoint refused the schema, which is in the prompt instead: {turn.refusal}")
            attempt = turn.attempt
            objection = tries.take(self._read(attempt, turn.n_rounds), attempt.logprob)
            if objection is None or not (attempt.status.has_text or attempt.status in _ASK_AGAIN):
                return
            messages = opening
            if attempt.text.strip():  # chat endpoints refuse an empty turn
                messages = self._objection(turn.with_tools(opening), attempt.text, objection)

    async def _turn(self, request: ChatRequest, ask: Ask, *, step: str, extra: bool) -> _Turn:
        """One answer, with the calls on the way to it."""
        refusal: str | None = None
        exchange: tuple[Message, ...] = ()
        n_rounds = 0
        is_extra = extra
        while True:
            attempt = await ask(request, step=step, extra=is_extra)
            if attempt.status is AttemptStatus.SCHEMA_REFUSED and request.response_schema is not None:
                refusal = attempt.error or "no reason given"
                request = replace(request, response_schema=None, messages=self.prompting.with_schema(request.messages))
                continue
            if not (self.tools and attempt.tool_calls):
                break
            n_rounds += 1
            if n_rounds > self.tool_rounds:
                break
            results = await run_tools(self.tools, attempt.tool_calls)
            round_ = (Message("assistant", attempt.text, tool_calls=attempt.tool_calls), *results.messages)
            exchange += round_
            request = replace(request, messages=(*request.messages, *round_))
            is_extra = extra or results.is_any_invalid
        return _Turn(attempt, exchange, n_rounds, refusal)

    def _read(self, attempt: Attempt, n_rounds: int) -> ParsedOutput:
        if not attempt.status.has_text:
            said = _NO_TEXT[attempt.status]
            problem = f"{said}: {attempt.error}" if attempt.error else said
            if n_rounds > self.tool_rounds:
                problem = f"the model asked for tools {n_rounds} times without an answer"
            return ParsedOutput(output=None, valid=False, as_it_came=False, problem=problem)
        read = parse_output(attempt.text, self.task)
        if attempt.status is AttemptStatus.TRUNCATED:
            # What was cut may still be readable, but no program would take it as it came.
            cut = f"the answer was cut at {self.task.max_output_tokens} tokens"
            objection = None if read.valid else f"{cut}; {read.problem}"
            return ParsedOutput(output=read.output, valid=read.valid, as_it_came=False, problem=objection)
        return read

    def _objection(self, opening: tuple[Message, ...], answer: str, problem: str) -> tuple[Message, ...]:
        return (
            *opening,
            Message("assistant", answer[:_MAX_FED_BACK]),
            Message("user", f"That answer cannot be used: {problem}. {self.prompting.text.reminder}"),
        )


# ---- private --------------------------------------------------------------------------------------------------------


class _Turn(NamedTuple):
    """One answer and what led to it."""

    attempt: Attempt
    exchange: tuple[Message, ...]
    """Calls of tools and their results."""
    n_rounds: int
    """How often tools were asked for."""
    refusal: str | None
    """Why the endpoint refused the schema, in its words."""

    def with_tools(self, opening: tuple[Message, ...]) -> tuple[Message, ...]:
        return (*opening, *self.exchange)


class _Tries:
    """The answers to one question so far, and the one to take."""

    __slots__ = ("_as_it_came", "_best", "_case", "_failed", "_logprob", "_problem", "_question", "notes")

    def __init__(
        self, question: Question, case: CaseInput, *, as_it_came: bool | None = None, notes: Sequence[str] = ()
    ) -> None:
        self._question = question
        self._case = case
        self._as_it_came = as_it_came
        self._best: ParsedOutput | None = None
        self._failed: list[str] = []
        self._logprob: float | None = None
        self._problem: str | None = None
        self.notes = list(notes)

    def take(self, read: ParsedOutput, logprob: float | None = None) -> str | None:
        """Look at one more answer, given how probable it was; returns what is wrong with it."""
        if self._as_it_came is None:
            self._as_it_came = read.as_it_came
        self._problem = read.problem
        if not read.valid or read.output is None:
            # A valid output is never given up for an invalid one.
            if read.output is not None and (self._best is None or not self._best.valid):
                self._best, self._logprob = read, logprob
            return read.problem or "it is not valid"
        failed = failed_checks(self._question.checks, read.output, self._case.fields)
        if self._best is None or not self._best.valid or len(failed) < len(self._failed):
            self._best, self._failed, self._logprob = read, failed, logprob
        return "; ".join(failed) if failed else None

    def reply(self, sources: tuple[str, ...]) -> Reply:
        best = self._best
        is_valid = best is not None and best.valid
        problem = ("; ".join(self._failed) or None) if is_valid else self._problem
        return Reply(
            output=best.output if best else None,
            valid=is_valid,
            as_it_came=bool(self._as_it_came),
            problem=problem,
            sources=sources,
            notes=tuple(self.notes),
            confidence=None if self._logprob is None else math.exp(self._logprob),
        )
