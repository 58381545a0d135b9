"""What of an approach a model can be tuned on: its one question about all fields, alone or as a step of a workflow.

A model is tuned on the very prompt it is asked, so that prompt has to be known for a labelled case without running
anything. That is so for an approach without steps, and for a workflow in which exactly one step asks about all fields
and waits for nothing that changes what it says.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from steelyard.approaches.approach import Approach
from steelyard.approaches.prompted import Prompted
from steelyard.approaches.question import Question
from steelyard.approaches.workflow.flow import Flow, PlacedStep
from steelyard.approaches.workflow.steps import CheckStep, GuardStep, PromptStep
from steelyard.errors import InputError, Problem


def learned_question(approach: Approach, *, where: str) -> Question:
    """The question a tuned model learns to answer.

    Args:
        approach: Prepared; tuned or not.
        where: Place of the approach in study.yaml, for messages.

    Raises:
        InputError: There is no such question, or there are several.
    """
    if isinstance(approach, Prompted):
        return approach.question
    if not isinstance(approach, Flow):
        raise InputError(Problem(what="it asks no model anything", where=where, hint="leave out tuning"))
    return _step(approach, learned_step(approach, where=where))


def learned_step(flow: Flow, *, where: str) -> str:
    """Name of the step whose question a tuned model learns.

    Raises:
        InputError: There is no such step, or there are several.
    """
    asking = [name for name, placed in flow.steps.items() if isinstance(placed.step, PromptStep)]
    if len(asking) != 1 or _step(flow, asking[0]).task.output_schema != flow.task.output_schema:
        found = f"{len(asking)} steps ask about the case" if len(asking) != 1 else f"{asking[0]!r} asks for some fields"
        raise InputError(
            Problem(
                what=f"a tuned model learns one question about all fields, and here {found}",
                where=f"{where}.workflow",
                hint="give one step with a prompt, without fields, or leave out workflow.steps, workflow.split or tuning",
            )
        )
    (name,) = asking
    before = [needed for needed in flow.steps[name].needs if not _leaves_the_prompt_alone(flow.steps[needed])]
    if before:
        raise InputError(
            Problem(
                what=f"the prompt of step {name!r} hangs on {', '.join(before)}, which training cannot run",
                where=f"{where}.workflow.steps.{name}",
                hint="let only guards of the input that flag or block come before it, or leave out tuning",
            )
        )
    return name


def with_adapter(flow: Flow, digest: str, *, where: str) -> Flow:
    """The workflow with its question, and the repairs of its answer, put to the tuned model.

    Args:
        flow: Prepared for tuning.
        digest: Of the LoRA adapter.
        where: Place of the approach in study.yaml, for messages.

    Raises:
        InputError: As for `learned_step`.
    """
    learned = learned_step(flow, where=where)
    steps = dict(flow.steps)
    for name, placed in flow.steps.items():
        if name == learned or isinstance(placed.step, CheckStep):
            assert isinstance(placed.step, PromptStep | CheckStep)
            question = replace(placed.step.question, adapter=digest)
            steps[name] = replace(placed, step=replace(placed.step, question=question))
    both = hashlib.blake2b(f"{flow.fingerprint} {digest}".encode(), digest_size=16).hexdigest()
    return replace(flow, steps=steps, fingerprint=both)


# ---- private --------------------------------------------------------------------------------------------------------


def _step(flow: Flow, name: str) -> Question:
    step = flow.steps[name].step
    assert isinstance(step, PromptStep)
    return step.question


def _leaves_the_prompt_alone(placed: PlacedStep) -> bool:
    step = placed.step
    return isinstance(step, GuardStep) and step.spec.on == "input" and step.spec.action != "redact"
