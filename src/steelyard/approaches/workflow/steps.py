"""The kinds of step a workflow is made of: each takes the state so far and gives a result."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jinja2
import orjson

from steelyard.approaches.approach import Ask
from steelyard.approaches.question import RESAMPLE_TEMPERATURE, Question, Reply
from steelyard.approaches.retrieval.queries import QueryWriter
from steelyard.approaches.templates import render_argument
from steelyard.approaches.tools import called
from steelyard.approaches.workflow.calls import Lookups, TimedAsk
from steelyard.approaches.workflow.guards import guard
from steelyard.approaches.workflow.spec import GuardSpec, RouteRule
from steelyard.cases.case import CaseInput

_SEEDS_PER_SAMPLE = 50
"""Samples of a vote stay clear of each other's repairs."""
_MAX_ROUTE_TEXT = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """What one step made of a case."""

    output: Mapping[str, Any] | None = None
    is_skipped: bool = False
    """On a branch that was not taken."""
    is_blocked: bool = False
    """The case ends here without an output."""
    as_it_came: bool | None = None
    """Of a step that answers: whether its first answer was valid as it came."""
    problem: str | None = None
    branch: str | None = None
    """Of a route: the branch taken."""
    fields: Mapping[str, Any] | None = None
    """Of a guard on the input that mends: the input from here on."""
    confidence: float | None = None
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    calls_s: float = 0.0
    """Seconds of model calls, those side by side counted once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """What a step sees."""

    case: CaseInput
    """As mended by guards."""
    results: Mapping[str, StepResult]
    """Of the steps that are done."""
    lookups: Lookups
    """What was looked up for the case."""

    @property
    def outputs(self) -> dict[str, Mapping[str, Any]]:
        """Outputs of earlier steps by name; a step without one reads as an empty object."""
        return {name: result.output or {} for name, result in self.results.items()}


class Step(Protocol):
    """One prepared step."""

    async def run(self, name: str, state: State, ask: Ask) -> StepResult:
        """Do it; faults of models and of the study's functions come back as data."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptStep:
    """Asks the model about some or all fields, once or with a vote."""

    question: Question
    n_votes: int = 1

    async def run(self, name: str, state: State, ask: Ask) -> StepResult:
        """Ask; of several samples take the majority of each field."""
        if self.n_votes == 1:
            timed = TimedAsk(ask)
            reply = await self.question.put(
                state.case, timed, step=name, repair_step=f"{name}: repair", steps=state.outputs,
                look_up=state.lookups.of(self.question, timed),
            )  # fmt: skip
            return _of_reply(reply, timed.seconds)
        asks = [TimedAsk(ask) for _ in range(self.n_votes)]
        warm = max(self.question.temperature, RESAMPLE_TEMPERATURE)
        replies = await side_by_side(
            self.question.put(
                state.case, timed, step=name, repair_step=f"{name}: repair", steps=state.outputs,
                seed=number * _SEEDS_PER_SAMPLE, temperature=warm, look_up=state.lookups.of(self.question, timed),
            )
            for number, timed in enumerate(asks)
        )  # fmt: skip
        return _vote(replies, max(timed.seconds for timed in asks))


@dataclass(frozen=True, kw_only=True, slots=True)
class MergeStep:
    """Puts outputs together."""

    of: tuple[str, ...]

    async def run(self, name: str, state: State, ask: Ask) -> StepResult:
        """A later step wins over an earlier one, but never with null; nothing at all gives no output."""
        merged: dict[str, Any] = {}
        for part in self.of:
            for key, value in (state.results[part].output or {}).items():
                if value is not None or key not in merged:
                    merged[key] = value
        return StepResult(output=merged or None)


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckStep:
    """Checks another step's output and asks for a better one while it fails."""

    of: str
    question: Question

    async def run(self, name: str, state: State, ask: Ask) -> StepResult:
        """Pass on what is right, mend what is not."""
        checked = state.results[self.of]
        if checked.output is None:
            return StepResult(problem=checked.problem)
        timed = TimedAsk(ask)
        reply = await self.question.mend(
            checked.output, state.case, timed, step=name, steps=state.outputs, as_it_came=False,
            look_up=state.lookups.of(self.question, timed),
        )  # fmt: skip
        # What was right as it stood is as sure as the step that gave it.
        sure = checked.confidence if reply.output == checked.output else reply.confidence
        # Whether answers were valid as they came was settled by the steps that asked.
        return replace(_of_reply(reply, timed.seconds), as_it_came=None, confidence=sure)


@dataclass(frozen=True, kw_only=True, slots=True)
class RouteStep:
    """Picks a branch by rules, by a question or by a function."""

    branches: tuple[str, ...]
    otherwise: str | None
    rules: tuple[RouteRule, ...] = ()
    question: Question | None = None
    """Its one output field is the branch."""
    function: Callable[..., Any] | None = None

    async def run(self, name: str, state: State, ask: Ask) -> StepResult:
        """Pick; where nothing decides and there is no other branch, the case is blocked."""
        timed = TimedAsk(ask)
        picked: object = None
        if self.question is not None:
            reply = await self.question.put(
                state.case, timed, step=name, repair_step=f"{name}: repair", steps=state.outputs,
                look_up=state.lookups.of(self.question, timed),
            )  # fmt: skip
            picked = next(iter(reply.output.values()), None) if reply.valid and reply.output else None
        elif self.function is not None:
            picked = await called(self.function, state.case.fields, state.outputs)
        else:
            picked = next((rule.branch for rule in self.rules if _holds(rule, state)), None)
        branch = str(picked) if picked in self.branches else self.otherwise
        if branch is None:
            said = "no rule holds" if self.rules else f"{picked!r} is no branch"
            return StepResult(is_blocked=True, problem=f"{said} and there is no `otherwise`", calls_s=timed.seconds)
        return StepResult(branch=branch, notes=(f"{name}: {branch}",), calls_s=timed.seconds)


@dataclass(frozen=True, kw_only=True, slots=True)
class QueryStep:
    """Has the model write search queries, for steps that show passages."""

    writer: QueryWriter

    async def run(self, name: str, state: State, ask: Ask) -> StepResult:
        """Ask once; where nothing comes of it the list is empty, and the question alone is searched."""
        timed = TimedAsk(ask)
        written = await self.writer.write(state.case, timed, step=name, steps=state.outputs)
        notes = tuple(f"{name}: {note}" for note in written.notes)
        return StepResult(output={"queries": written.queries}, notes=notes, calls_s=timed.seconds)


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardStep:
    """Looks at the input or at an output without a model."""

    spec: GuardSpec

    async def run(self, name: str, state: State, ask: Ask) -> StepResult:
        """Block, mend or flag what is caught; the output of a guarded step is passed on."""
        is_input = self.spec.on == "input"
        guarded = state.case.fields if is_input else state.results[self.spec.on].output
        if guarded is None:
            return StepResult(problem=state.results[self.spec.on].problem)
        found = guard(guarded, self.spec)
        notes = tuple(f"{name}: {said}" for said in found.findings)
        if found.findings and self.spec.action == "block":
            return StepResult(is_blocked=True, problem="; ".join(found.findings), notes=notes)
        if is_input:
            return StepResult(fields=found.fields, notes=notes)
        return StepResult(output=found.fields, notes=notes)


@dataclass(frozen=True, kw_only=True, slots=True)
class CallStep:
    """Calls a function of the study, with named arguments (a tool) or with fields and outputs."""

    function: Callable[..., Any]
    arguments: Mapping[str, jinja2.Template] | None = None

    async def run(self, name: str, state: State, ask: Ask) -> StepResult:
        """Call it; what it returns must be an object."""
        if self.arguments is None:
            output = await called(self.function, state.case.fields, state.outputs)
        else:
            texts = {
                parameter: render_argument(template, state.case.fields, state.outputs)
                for parameter, template in self.arguments.items()
            }
            output = await called(self.function, **texts)
        if not isinstance(output, Mapping):
            raise TypeError(f"it returned {type(output).__name__}, not an object")
        return StepResult(output=output)


async def side_by_side(work: Any) -> list[Any]:  # noqa: ANN401 - coroutines of one kind
    """Await all at once; the first that raises cancels the others."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


# ---- private --------------------------------------------------------------------------------------------------------


def _of_reply(reply: Reply, seconds: float) -> StepResult:
    return StepResult(
        output=reply.output,
        as_it_came=reply.as_it_came,
        problem=reply.problem,
        sources=reply.sources,
        notes=reply.notes,
        confidence=reply.confidence,
        calls_s=seconds,
    )


def _vote(replies: list[Reply], seconds: float) -> StepResult:
    """The majority of each field among the valid outputs; of equals the one that came first. Confidence: mean share."""
    valid = [reply for reply in replies if reply.valid and reply.output is not None]
    as_it_came = all(reply.as_it_came for reply in replies)
    if not valid:
        return replace(_of_reply(replies[0], seconds), as_it_came=False)
    outputs = [reply.output or {} for reply in valid]
    chosen: dict[str, Any] = {}
    shares = []
    for name in dict.fromkeys(key for output in outputs for key in output):
        packed = [orjson.dumps(output[name], option=orjson.OPT_SORT_KEYS) for output in outputs if name in output]
        winner, n = Counter(packed).most_common(1)[0]
        chosen[name] = orjson.loads(winner)
        shares.append(n / len(replies))
    return StepResult(
        output=chosen,
        as_it_came=as_it_came,
        problem=valid[0].problem,
        confidence=sum(shares) / len(shares) if shares else None,
        sources=valid[0].sources,
        notes=tuple(dict.fromkeys(note for reply in replies for note in reply.notes)),
        calls_s=seconds,
    )


def _holds(rule: RouteRule, state: State) -> bool:
    step, _, name = rule.field.partition(".")
    value = (state.outputs.get(step) or {}).get(name) if name else state.case.fields.get(rule.field)
    text = "" if value is None else str(value)
    if rule.longer_than is not None:
        return len(text) > rule.longer_than
    return re.search(rule.matches or "", text[:_MAX_ROUTE_TEXT]) is not None
