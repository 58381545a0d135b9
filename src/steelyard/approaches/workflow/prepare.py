"""From `workflow.steps` (or `split`) to a workflow that is known to be sound: names, order, fields, templates, functions."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import orjson

from steelyard.approaches.asking import Asking
from steelyard.approaches.prompt_spec import PromptSpec
from steelyard.approaches.question import Question
from steelyard.approaches.retrieval.queries import query_writer
from steelyard.approaches.spec import ApproachSpec
from steelyard.approaches.templates import compile_argument, referenced_steps
from steelyard.approaches.workflow.flow import BEHAVIOUR, Flow, PlacedStep
from steelyard.approaches.workflow.searched import searched_steps, shows_passages
from steelyard.approaches.workflow.spec import StepSpec, WorkflowSpec
from steelyard.approaches.workflow.steps import (
    CallStep,
    CheckStep,
    GuardStep,
    MergeStep,
    PromptStep,
    QueryStep,
    RouteStep,
    Step,
)
from steelyard.errors import InputError, Problem
from steelyard.task.functions import load_function
from steelyard.task.task import Task

_OF_THE_WHOLE = ("allOf", "anyOf", "oneOf", "if", "then", "else", "not", "dependentRequired", "dependentSchemas")
"""Keywords that may speak of several fields; a part of the fields leaves them out."""


class PreparedFlow(NamedTuple):
    """A workflow with the questions in it."""

    approach: Flow
    questions: tuple[Question, ...]


def prepare_flow(
    name: str,
    spec: ApproachSpec,
    workflow: WorkflowSpec,
    asking: Asking,
    *,
    index_digest: str | None,
    short: bool = False,
) -> PreparedFlow:
    """Make a workflow ready.

    Args:
        name: Of the approach.
        spec: Of the approach.
        workflow: Its workflow, with steps or a split.
        asking: What all its questions have in common.
        index_digest: Of the index of nearest examples, where it retrieves.
        short: Leave instruction and labels out of default system messages, for a tuned model.

    Raises:
        InputError: A step names another that is not there, steps wait for each other in a circle, a field is unknown
            or answered by nobody, or a template, check or function is wrong; lists every problem found.
    """
    where = f"study.yaml:approaches.{name}.workflow"
    steps = workflow.steps if workflow.steps is not None else _of_split(spec.prompt, workflow)
    where = f"{where}.steps" if workflow.steps is not None else f"{where}.split"
    searched = searched_steps(
        spec, steps, asking.bench.task, where=f"study.yaml:approaches.{name}.retrieval.knowledge.question"
    )
    waits_for_search = {
        one for one, step in steps.items() if searched and shows_passages(one, step, spec.prompt, searched)
    }
    needs = _needs(steps, dict.fromkeys(waits_for_search, searched), where=where)
    builder = _Builder(
        asking=asking,
        workflow=workflow,
        steps=steps,
        needs=needs,
        prompt=spec.prompt,
        searched=searched,
        short=short,
    )
    placed: dict[str, PlacedStep] = {}
    problems: list[Problem] = []
    for step_name, step in steps.items():
        try:
            built = builder.build(step_name, step, where=f"{where}.{step_name}")
        except InputError as error:
            problems += error.problems
            continue
        placed[step_name] = PlacedStep(step=built, needs=needs[step_name], on=step.on)
    problems += _unanswered(steps, asking.bench.task, where)
    if problems:
        raise InputError(problems)
    questions = tuple(
        one.step.question
        for one in placed.values()
        if isinstance(one.step, PromptStep | CheckStep | RouteStep) and one.step.question is not None
    )
    written = tuple(one.step.writer.question for one in placed.values() if isinstance(one.step, QueryStep))
    flow = Flow(
        name=name,
        levers=spec.levers,
        fingerprint=_fingerprint(
            spec, (*questions, *written), builder.digests, model=asking.facts.model, index=index_digest
        ),
        endpoint=spec.model,
        task=asking.bench.task,
        steps=placed,
        searched_steps=searched,
    )
    return PreparedFlow(flow, questions)


def part_of(task: Task, fields: Iterable[str]) -> Task:
    """The task of answering some of the fields: their schema alone, and what is expected of them."""
    kept = set(fields)
    schema = {key: value for key, value in task.output_schema.items() if key not in _OF_THE_WHOLE}
    properties = task.output_schema.get("properties", {})
    schema["properties"] = {key: value for key, value in properties.items() if key in kept}
    schema["required"] = [key for key in task.output_schema.get("required", ()) if key in kept]
    expected = tuple(key for key in task.expected_fields if key in kept)
    # How answers are scored does not matter here, but that a field lists accepted answers does, for examples.
    lists = {key: one for key, one in (task.scoring or {}).items() if key in kept and one.any_of}
    return replace(task, output_schema=schema, expected_fields=expected, scoring=lists or None)


# ---- private --------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True, slots=True)
class _Builder:
    """Builds steps and remembers the digests of the study's functions they call."""

    asking: Asking
    workflow: WorkflowSpec
    steps: Mapping[str, StepSpec]
    needs: Mapping[str, tuple[str, ...]]
    prompt: PromptSpec
    searched: frozenset[str]
    short: bool
    """Whether instruction and labels are left out of default system messages, since a tuned model has learned them."""
    digests: dict[str, str] | None = None

    def build(self, name: str, spec: StepSpec, *, where: str) -> Step:
        """One step."""
        task = self.asking.bench.task
        repairs = spec.repair if spec.repair is not None else self.workflow.repair
        seen = {needed: _something_like(self.steps[needed], task) for needed in self.needs[name]}
        if spec.prompt is not None:
            asked = task if spec.fields is None else _known_part(task, spec.fields, where)
            # What is searched for is written before anything can be shown.
            asking = replace(self.asking, find_passages=None) if name in self.searched else self.asking
            question = asking.question(
                spec.prompt,
                asked,
                where=where,
                repairs=repairs,
                checks=spec.checks,
                short=self.short,
                steps=seen,
            )
            return PromptStep(question=question, n_votes=spec.vote)
        if spec.query is not None:
            plain = replace(self.asking, choose_examples=None, find_passages=None)
            return QueryStep(
                writer=query_writer(
                    plain.question, task, spec.query.n, where=f"{where}.query", prompt=spec.query.prompt, steps=seen
                )
            )
        if spec.merge is not None:
            return MergeStep(of=tuple(spec.merge))
        if spec.check is not None:
            question = self.asking.question(
                self.prompt, task, where=where, repairs=repairs, checks=spec.checks, short=self.short, steps=seen
            )
            return CheckStep(of=spec.check, question=question)
        if spec.route is not None:
            route = spec.route
            asked_question = None
            if route.prompt is not None:
                asked_question = self.asking.question(
                    route.prompt, _branch_task(task, route.branches), where=f"{where}.route", steps=seen
                )
                # Where it says nothing of passages itself, a route is picked without looking anything up.
                found = asked_question.prompting.find_passages if route.prompt.user is not None else None
                prompting = replace(asked_question.prompting, choose_examples=None, find_passages=found)
                asked_question = replace(asked_question, prompting=prompting, repairs=repairs)
            return RouteStep(
                branches=tuple(route.branches),
                otherwise=route.otherwise,
                rules=route.rules,
                question=asked_question,
                function=self._function(route.function, f"{where}.route.function") if route.function else None,
            )
        if spec.guard is not None:
            return GuardStep(spec=spec.guard)
        if spec.tool is not None:
            arguments = {
                parameter: compile_argument(source, task, where=f"{where}.tool.arguments.{parameter}")
                for parameter, source in spec.tool.arguments.items()
            }
            return CallStep(function=self._function(spec.tool.function, f"{where}.tool.function"), arguments=arguments)
        assert spec.function is not None  # the section has checked that there is one kind
        return CallStep(function=self._function(spec.function, f"{where}.function"))

    def _function(self, reference: str, where: str) -> Callable[..., Any]:
        function, digest = load_function(reference, self.asking.bench.study, where=where)
        self.digests = {**(self.digests or {}), reference: digest}
        return function


def _of_split(prompt: PromptSpec, workflow: WorkflowSpec) -> dict[str, StepSpec]:
    parts = workflow.split or {}
    steps = {name: StepSpec(prompt=prompt, fields=fields) for name, fields in parts.items()}
    steps["merged"] = StepSpec(merge=list(parts))
    if workflow.checks:
        steps["checked"] = StepSpec(check="merged", checks=workflow.checks)
    return steps


def _named(spec: StepSpec) -> list[tuple[str, str]]:
    """Steps that a step names, each with the option that names it."""
    found = [("after", name) for name in spec.after] + [("on", name) for name in spec.on]
    found += [("merge", name) for name in spec.merge or ()]
    if spec.check is not None:
        found.append(("check", spec.check))
    if spec.guard is not None and spec.guard.on != "input":
        found.append(("guard.on", spec.guard.on))
    templates = [("prompt.user", prompt.user) for prompt in (spec.prompt, spec.route and spec.route.prompt) if prompt]
    templates += [("tool.arguments", source) for source in (spec.tool.arguments.values() if spec.tool else ())]
    found += [(place, name) for place, source in templates if source for name in sorted(referenced_steps(source))]
    if spec.route is not None:
        found += [("route.rules", rule.field.split(".")[0]) for rule in spec.route.rules if "." in rule.field]
    return found


def _needs(
    steps: Mapping[str, StepSpec], searched: Mapping[str, frozenset[str]], *, where: str
) -> dict[str, tuple[str, ...]]:
    """By step: all steps it waits for, directly or not, in declared order.

    Args:
        steps: By name.
        searched: By step that shows passages: the steps whose outputs are searched for.
        where: Place of the steps, for messages.
    """
    input_guards = [name for name, spec in steps.items() if spec.guard is not None and spec.guard.on == "input"]
    problems: list[Problem] = []
    direct: dict[str, set[str]] = {}
    for name, spec in steps.items():
        direct[name] = set() if name in input_guards else set(input_guards)
        direct[name] |= searched.get(name, frozenset())
        for option, other in _named(spec):
            if other in steps:
                direct[name].add(other)
                continue
            near = difflib.get_close_matches(other, list(steps), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"steps: {', '.join(steps)}"
            problems.append(Problem(what=f"there is no step {other!r}", where=f"{where}.{name}.{option}", hint=hint))
        for route, branch in spec.on.items():
            routing = steps[route].route if route in steps else None
            if route in steps and (routing is None or branch not in routing.branches):
                known = f"its branches: {', '.join(routing.branches)}" if routing else "it is no route"
                problems.append(
                    Problem(what=f"{route!r} has no branch {branch!r}", where=f"{where}.{name}.on", hint=known)
                )
    if problems:
        raise InputError(problems)
    needs: dict[str, set[str]] = {}

    def closure(name: str, path: tuple[str, ...]) -> set[str]:
        if name in path:
            members = path[path.index(name) :]
            hint = "a step may use earlier ones only"
            if any(one in searched for one in members):
                hint += ", and what is written before the search shows no passages: leave them out of its prompt.user"
            what = f"steps wait for each other: {' -> '.join((*members, name))}"
            raise InputError(Problem(what=what, where=where, hint=hint))
        if name not in needs:
            needs[name] = direct[name].union(*(closure(other, (*path, name)) for other in sorted(direct[name])))
        return needs[name]

    for name in steps:
        closure(name, ())
    return {name: tuple(other for other in steps if other in needs[name]) for name in steps}


def _known_part(task: Task, fields: Iterable[str], where: str) -> Task:
    known = list(task.output_schema.get("properties", {}))
    unknown = [field for field in fields if field not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"output fields: {', '.join(known)}"
        raise InputError(Problem(what=f"there is no output field {unknown[0]!r}", where=f"{where}.fields", hint=hint))
    return part_of(task, fields)


def _unanswered(steps: Mapping[str, StepSpec], task: Task, where: str) -> list[Problem]:
    """Fields the schema requires and no step can give; functions and tools may give any."""
    if any(spec.tool or spec.function for spec in steps.values()):
        return []
    asking = [spec for spec in steps.values() if spec.prompt is not None]
    if not asking:
        return [Problem(what="no step answers anything", where=where, hint="add a step with a prompt")]
    given = {field for spec in asking for field in (spec.fields or task.output_schema.get("properties", {}))}
    missing = [field for field in task.output_schema.get("required", ()) if field not in given]
    if not missing:
        return []
    return [Problem(what=f"no step answers {', '.join(map(repr, missing))}, which the schema requires", where=where)]


def _branch_task(task: Task, branches: Iterable[str]) -> Task:
    names = list(branches)
    schema = {
        "type": "object",
        "properties": {"branch": {"type": "string", "enum": names}},
        "required": ["branch"],
        "additionalProperties": False,
    }
    return replace(
        task,
        output_schema=schema,
        expected_fields=("branch",),
        labels=tuple(names),
        label_definitions=None,
        scoring=None,
        instruction=f"Decide which kind of input this is: {', '.join(names)}.",
    )


class _Anything(dict[str, Any]):
    """Stands for an output whose fields are not known beforehand."""

    def __missing__(self, key: str) -> None:
        return None


def _something_like(spec: StepSpec, task: Task) -> dict[str, Any]:
    """An output of the step with nothing in it, so that templates that read an unknown field fail before they cost."""
    if spec.prompt is None:
        return _Anything()
    return dict.fromkeys(spec.fields or task.output_schema.get("properties", {}))


def _fingerprint(
    spec: ApproachSpec,
    questions: Iterable[Question],
    digests: Mapping[str, str] | None,
    *,
    model: str,
    index: str | None,
) -> str:
    body: list[Any] = [
        "flow",
        BEHAVIOUR,
        spec.model_dump(mode="json"),
        [question.digest_parts() for question in questions],
        dict(digests or {}),
        model,
        index,
    ]
    return hashlib.blake2b(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()
