"""One question to a model about a case, asked again while the answer cannot be used.

The conversation is the system message, the fixed examples, the nearest examples (most similar last) and the case, in
this order: what stays the same comes first, so that a provider's prefix cache can hold it.

An answer that cannot be used is asked again up to `repairs` times:

- After text that does not satisfy the schema or fails a check, the conversation goes on with that answer and the messages of what
  failed. Only the latest answer is fed back, so that the prompt stays bounded.
- After no text (empty, refused, timed out) the question is asked again as it was.
- Not after an endpoint that failed (the engine has retried already) or a prompt that is too long: neither gets
  better by repeating it.

The n-th extra call adds n to the seed. If its conversation is one this case has already had, the temperature is
raised to at least `RESAMPLE_TEMPERATURE` too: at temperature 0 the same words bring the same failure again.

Checks beyond the schema are advice: an output that fails them to the end still counts as valid, because the document
itself may be what does not add up. Of several valid outputs the one that fails the fewest checks is taken, the first of equals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from steelyard.approaches.approach import Ask
from steelyard.approaches.examples import expected_output, shortened
from steelyard.approaches.templates import PromptText
from steelyard.approaches.workflow.checks import Check, failed_checks
from steelyard.cases.case import Case, CaseInput
from steelyard.errors import InputError
from steelyard.models.calls import Attempt, AttemptStatus, ChatRequest, Message
from steelyard.task.output import ParsedOutput, parse_output, validate
from steelyard.task.task import Task

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
}

ChooseExamples = Callable[[CaseInput], Sequence[Case]]
"""The examples for one case, most similar first; never the case itself."""


class Conversation(NamedTuple):
    """What is said to the model about one case."""

    messages: tuple[Message, ...]
    sources: tuple[str, ...]
    """Ids of the cases that were chosen for it, best first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompting:
    """How a case becomes a conversation; the same for training as for the deployed prompt."""

    text: PromptText
    task: Task
    fixed: tuple[Case, ...] = ()
    choose_examples: ChooseExamples | None = None
    example_chars: int = 400

    def converse(self, case: CaseInput, steps: Mapping[str, Any] | None = None) -> Conversation:
        """The conversation up to the answer.

        A train case is never its own example, so that training on these conversations does not show the answer.

        Args:
            case: What the model sees.
            steps: Outputs of earlier steps, for the user message about the case itself; examples have none.
        """
        fixed = [example for example in self.fixed if example.id != case.id]
        shown = {example.id for example in fixed}
        nearest = self.choose_examples(case) if self.choose_examples is not None else ()
        added = [example for example in reversed(nearest) if example.id not in shown]
        messages = [Message("system", self.text.system)] if self.text.system else []
        for example in (*fixed, *added):
            known = {name: expected_output(example, self.task) for name in steps or ()}
            messages.append(Message("user", self.text.user(shortened(example.input, self.example_chars), known)))
            messages.append(Message("assistant", self.target(example)))
        messages.append(Message("user", self.text.user(case.fields, steps)))
        return Conversation(tuple(messages), tuple(example.id for example in nearest))

    def target(self, case: Case) -> str:
        """The answer the model should give for a labelled case."""
        return self.text.target(expected_output(case, self.task))

    def digest_parts(self) -> list[Any]:
        """Everything about the conversation, the index of nearest examples apart, that can change an answer."""
        text = self.text
        fixed = [case.digest() for case in self.fixed]
        return [self.task.digest(), text.system, text.user_source, text.form, text.reminder, fixed]


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One prepared question; see the module for how it is asked."""

    endpoint: str
    task: Task
    """Its schema decides what is valid; of a step it may be a part of the whole task's."""
    prompting: Prompting
    temperature: float = 0.0
    seed: int = 0
    repairs: int = 0
    """Extra calls at most."""
    checks: tuple[Check, ...] = ()
    native_schema: bool = False
    """Whether the endpoint is asked to enforce the output schema."""
    adapter: str | None = None
    """Digest of the LoRA adapter to use."""

    def digest_parts(self) -> list[Any]:
        """Everything compiled into the question that can change an answer; settings are in the specs they came from."""
        return [*self.prompting.digest_parts(), [check.digest for check in self.checks]]

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
        """
        try:
            conversation = self.prompting.converse(case, steps)
        except InputError as error:  # a template that meets a case it cannot be filled in with
            return Reply(output=None, valid=False, as_it_came=False, problem=error.problems[0].what)
        tries = _Tries(self, case)
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
    ) -> Reply:
        """Check an output that came from elsewhere, and ask for a better one while it fails.

        Args:
            output: To be checked against schema and checks.
            case: What the model sees.
            ask: The engine's door to the model.
            step: Name of the calls in the transcript; all of them are extra ones.
            steps: Outputs of earlier steps, for the template.
            as_it_came: Whether the answers behind the output were valid as they came.
        """
        tries = _Tries(self, case, as_it_came=as_it_came)
        problem = validate(output, self.task)
        objection = tries.take(ParsedOutput(output=output, valid=problem is None, as_it_came=False, problem=problem))
        if objection is not None and self.repairs:
            conversation = self.prompting.converse(case, steps).messages
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
        for n in range(n_extra, self.repairs + 1):
            warmer = max(temperature, RESAMPLE_TEMPERATURE) if messages in said else temperature
            said.add(messages)
            request = self._request(messages, temperature=warmer, seed=seed + n)
            attempt = await ask(request, step=steps[n > 0], extra=n > 0)
            objection = tries.take(self._read(attempt))
            if objection is None or not (attempt.status.has_text or attempt.status in _ASK_AGAIN):
                return
            messages = opening
            if attempt.text.strip():  # chat endpoints refuse an empty turn
                messages = self._objection(opening, attempt.text, objection)

    def _request(self, messages: tuple[Message, ...], *, temperature: float, seed: int) -> ChatRequest:
        return ChatRequest(
            endpoint=self.endpoint,
            messages=messages,
            max_tokens=self.task.max_output_tokens,
            temperature=temperature,
            seed=seed,
            response_schema=self.task.output_schema if self.native_schema else None,
            adapter=self.adapter,
        )

    def _read(self, attempt: Attempt) -> ParsedOutput:
        if not attempt.status.has_text:
            said = _NO_TEXT[attempt.status]
            problem = f"{said}: {attempt.error}" if attempt.error else said
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


class _Tries:
    """The answers to one question so far, and the one to take."""

    __slots__ = ("_as_it_came", "_best", "_case", "_failed", "_problem", "_question")

    def __init__(self, question: Question, case: CaseInput, *, as_it_came: bool | None = None) -> None:
        self._question = question
        self._case = case
        self._as_it_came = as_it_came
        self._best: ParsedOutput | None = None
        self._failed: list[str] = []
        self._problem: str | None = None

    def take(self, read: ParsedOutput) -> str | None:
        """Look at one more answer; returns what is wrong with it."""
        if self._as_it_came is None:
            self._as_it_came = read.as_it_came
        self._problem = read.problem
        if not read.valid or read.output is None:
            # A valid output is never given up for an invalid one.
            if read.output is not None and (self._best is None or not self._best.valid):
                self._best = read
            return read.problem or "it is not valid"
        failed = failed_checks(self._question.checks, read.output, self._case.fields)
        if self._best is None or not self._best.valid or len(failed) < len(self._failed):
            self._best, self._failed = read, failed
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
        )
