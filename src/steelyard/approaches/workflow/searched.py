"""Steps whose outputs are searched for in documents, and steps that show what was found."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from steelyard.approaches.prompt_spec import PromptSpec
from steelyard.approaches.spec import ApproachSpec
from steelyard.approaches.templates import reads_passages
from steelyard.approaches.workflow.spec import StepSpec
from steelyard.errors import InputError, Problem
from steelyard.task.task import Task


def searched_steps(spec: ApproachSpec, steps: Mapping[str, StepSpec], task: Task, *, where: str) -> frozenset[str]:
    """The steps that `retrieval.knowledge.question` names as `STEP.FIELD`.

    Args:
        spec: Of the approach.
        steps: Of its workflow.
        task: Of the study; a name of one of its input fields is no step.
        where: Place of the option, for messages.

    Raises:
        InputError: There is no such step, or it gives no such field; lists every problem found.
    """
    named = (spec.knowledge.question if spec.knowledge is not None else None) or ()
    parts = [name.partition(".") for name in named if name not in task.input_fields]
    problems = []
    for step, _, field in parts:
        given = _given(steps[step], task) if step in steps else ()
        if step not in steps:
            what, hint = f"there is no step {step!r}", _did_you_mean(step, steps)
        elif given is not None and field not in given:
            what, hint = f"step {step!r} gives no field {field!r}", _did_you_mean(field, given)
        else:
            continue
        problems.append(Problem(what=what, where=where, hint=hint))
    if problems:
        raise InputError(problems)
    return frozenset(step for step, _, _ in parts)


def shows_passages(name: str, spec: StepSpec, prompt: PromptSpec, searched: frozenset[str]) -> bool:
    """Whether a step shows what was found, so that it waits for what is searched for.

    Args:
        name: Of the step.
        spec: The step.
        prompt: Of the approach, with which a check asks for a better output.
        searched: Steps that are searched for: they show passages only if they say so, which is a circle.
    """
    if spec.route is not None:
        user = spec.route.prompt.user if spec.route.prompt is not None else None
        return user is not None and reads_passages(user)
    asked = spec.prompt if spec.prompt is not None else prompt if spec.check is not None else None
    if asked is None:
        return False
    return reads_passages(asked.user) if asked.user is not None else name not in searched


# ---- private --------------------------------------------------------------------------------------------------------


def _given(spec: StepSpec, task: Task) -> list[str] | None:
    """Fields of what a step gives; `None` where a function says it."""
    if spec.tool is not None or spec.function is not None:
        return None
    if spec.query is not None:
        return ["queries"]
    if spec.route is not None or (spec.guard is not None and spec.guard.on == "input"):
        return []
    return list(spec.fields or task.output_schema.get("properties", {}))


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"there is: {', '.join(known) or 'nothing to search for'}"
