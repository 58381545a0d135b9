"""The approach that asks a generative model: prompt, workflow, retrieval and tuned adapter are settings of it.

The conversation is the system message, the fixed examples, the nearest examples (most similar last) and the case, in
this order: what stays the same comes first, so that a provider's prefix cache can hold it.

Without a workflow there is exactly one call. With one, an answer that cannot be used is asked again up to `repair`
times:

- After text that does not satisfy the schema, the conversation goes on with that answer and the message of the failed
  check. Only the latest answer is fed back, so that the prompt stays bounded.
- After no text (empty, refused, timed out) the question is asked again as it was.
- Not after an endpoint that failed (the engine has retried already) or a prompt that is too long: neither gets
  better by repeating it.

The n-th extra call adds n to the seed. If its conversation is one this case has already had, the temperature is
raised to at least `RESAMPLE_TEMPERATURE` too: at temperature 0 the same words bring the same failure again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from steelyard.approaches.approach import Answer, Ask
from steelyard.approaches.examples import expected_output, shortened
from steelyard.approaches.spec import ApproachSpec, Lever
from steelyard.approaches.templates import PromptText
from steelyard.cases.case import Case, CaseInput
from steelyard.models.calls import Attempt, AttemptStatus, ChatRequest, Message
from steelyard.task.output import ParsedOutput, parse_output
from steelyard.task.task import Task

BEHAVIOUR = 1
"""Raised by one whenever this module, or the reading of answers, changes what an approach would do."""
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

    def converse(self, case: CaseInput) -> Conversation:
        """The conversation up to the answer.

        A train case is never its own example, so that training on these conversations does not show the answer.
        """
        fixed = [example for example in self.fixed if example.id != case.id]
        shown = {example.id for example in fixed}
        nearest = self.choose_examples(case) if self.choose_examples is not None else ()
        added = [example for example in reversed(nearest) if example.id not in shown]
        messages = [Message("system", self.text.system)] if self.text.system else []
        for example in (*fixed, *added):
            messages.append(Message("user", self.text.user(shortened(example.input, self.example_chars))))
            messages.append(Message("assistant", self.target(example)))
        messages.append(Message("user", self.text.user(case.fields)))
        return Conversation(tuple(messages), tuple(example.id for example in nearest))

    def target(self, case: Case) -> str:
        """The answer the model should give for a labelled case."""
        return self.text.target(expected_output(case, self.task))


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompted:
    """One prepared way to ask a model; see the module for what it does."""

    name: str
    levers: frozenset[Lever]
    fingerprint: str
    endpoint: str
    task: Task
    prompting: Prompting
    temperature: float = 0.0
    seed: int = 0
    repairs: int = 0
    """Extra calls at most."""
    native_schema: bool = False
    """Whether the endpoint is asked to enforce the output schema."""
    adapter: str | None = None
    """Digest of the LoRA adapter to use."""

    async def answer(self, case: CaseInput, ask: Ask) -> Answer:
        """Ask, read, and where a workflow says so repair.

        The first valid output ends the work, whether it came so or was read leniently; if none is valid, the last
        output that could be read is given, with what is wrong with it.
        """
        conversation = self.prompting.converse(case)
        messages = conversation.messages
        said: set[tuple[Message, ...]] = set()
        schema_pass = False
        best: ParsedOutput | None = None
        problem: str | None = None
        for n_extra in range(self.repairs + 1):
            temperature = max(self.temperature, RESAMPLE_TEMPERATURE) if messages in said else self.temperature
            said.add(messages)
            request = self._request(messages, temperature=temperature, seed=self.seed + n_extra)
            attempt = await ask(request, step="repair" if n_extra else "answer", extra=n_extra > 0)
            read = self._read(attempt)
            if n_extra == 0:
                schema_pass = read.as_it_came
            if read.valid or read.output is not None:
                best = read
            problem = read.problem
            if read.valid or not (attempt.status.has_text or attempt.status in _ASK_AGAIN):
                break
            messages = conversation.messages
            if attempt.text.strip():  # chat endpoints refuse an empty turn
                messages = (*messages, *self._objection(attempt, read))
        return Answer(
            output=best.output if best else None,
            valid=best is not None and best.valid,
            schema_pass=schema_pass,
            problem=None if best is not None and best.valid else problem,
            sources=conversation.sources,
        )

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

    def _objection(self, attempt: Attempt, read: ParsedOutput) -> tuple[Message, Message]:
        return (
            Message("assistant", attempt.text[:_MAX_FED_BACK]),
            Message("user", f"That answer cannot be used: {read.problem}. {self.prompting.text.reminder}"),
        )


def fingerprint(
    spec: ApproachSpec, *, prompting: Prompting, model: str, index: str | None = None, adapter: str | None = None
) -> str:
    """Digest of everything that can change a prompted approach's answers.

    Args:
        spec: The approach as declared.
        prompting: Its compiled prompt, with task and fixed examples.
        model: Identity of the model behind the endpoint.
        index: Digest of the example index.
        adapter: Digest of the LoRA adapter.

    Returns:
        32 hexadecimal characters, the same in every process.
    """
    body: list[Any] = [
        "prompted",
        BEHAVIOUR,
        spec.model_dump(mode="json"),
        prompting.task.digest(),
        model,
        prompting.text.system,
        prompting.text.user_source,
        prompting.text.form,
        prompting.text.reminder,
        [case.digest() for case in prompting.fixed],
        index,
        adapter,
    ]
    return hashlib.blake2b(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()
