"""Training files for a hosted job: the deployed prompt and the wanted answer of each train case, one JSON object a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from steelyard.approaches.hosted_spec import HostedTuningSpec
from steelyard.approaches.prompting import Prompting
from steelyard.approaches.tuning.examples import choose, hold_out
from steelyard.cases.case import Case
from steelyard.errors import InputError, Problem
from steelyard.models.calls import ChatRequest, Tool
from steelyard.models.chat_format import request_fields

_MORE_A_MESSAGE = 16
"""Tokens a chat template may add to a message; see `Price.upper_bound`."""
_CHARS_PER_TOKEN = 4
"""Of English text, roughly; only for a cost that the host does not tell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingFiles:
    """What is uploaded."""

    training: bytes
    validation: bytes
    """Empty where the train split is too small to hold anything back."""
    n_train: int
    n_validation: int
    n_left_out: int
    """Cases that cannot serve: not labelled or, for preferences, without an answer that was turned down."""
    most_tokens: int
    """No tokeniser makes more of one pass over both files: a token is at least one byte."""
    likely_tokens: int
    """Of one pass over the training file, roughly."""


def training_files(
    cases: Sequence[Case], spec: HostedTuningSpec, prompting: Prompting, tools: Sequence[Tool], *, where: str
) -> TrainingFiles:
    """Write the files in the OpenAI chat format, or for `dpo` in its preference format.

    Args:
        cases: Cases of the train split that can serve as examples.
        spec: How many, which and of what kind.
        prompting: The deployed prompt; it never shows a case its own answer.
        tools: Functions the deployed model is offered.
        where: Place of the section in study.yaml, for messages.

    Raises:
        InputError: There is nothing to train on.
    """
    target = prompting.target
    usable = [case for case in cases if spec.method_kind == "supervised" or _turned_down(case, spec, prompting)]
    chosen = choose(usable, target, at_most=spec.max_examples, seed=spec.seed)
    if not chosen:
        raise InputError(
            Problem(
                what="there is no train case to tune on"
                + (f": none has an answer that was turned down in {spec.rejected!r}" if cases else ""),
                where=where,
                hint="label some cases, or leave out this approach",
            )
        )
    train, validation = hold_out(chosen, target, seed=spec.seed)
    lines = {
        name: [_line(case, spec, prompting, tools) for case in held]
        for name, held in (("training", train), ("validation", validation))
    }
    files = {
        name: b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in found)
        for name, found in lines.items()
    }
    n_messages = sum(_n_messages(line) for found in lines.values() for line in found)
    return TrainingFiles(
        training=files["training"],
        validation=files["validation"],
        n_train=len(train),
        n_validation=len(validation),
        n_left_out=len(cases) - len(usable),
        most_tokens=len(files["training"]) + len(files["validation"]) + n_messages * _MORE_A_MESSAGE,
        likely_tokens=len(files["training"]) // _CHARS_PER_TOKEN,
    )


# ---- private --------------------------------------------------------------------------------------------------------


def _line(case: Case, spec: HostedTuningSpec, prompting: Prompting, tools: Sequence[Tool]) -> dict[str, Any]:
    asked = ChatRequest(endpoint="", messages=prompting.converse(case.visible()).messages, max_tokens=1)
    # The very function that writes requests, so that training and use cannot differ.
    messages = request_fields(asked, native_schema=False)["messages"]
    offered = {"tools": [{"type": "function", "function": tool} for tool in tools]} if tools else {}
    wanted = {"role": "assistant", "content": prompting.target(case)}
    if spec.method_kind == "supervised":
        return {"messages": [*messages, wanted], **offered}
    return {
        "input": {"messages": messages, **offered},
        "preferred_output": [wanted],
        "non_preferred_output": [{"role": "assistant", "content": _turned_down(case, spec, prompting)}],
    }


def _turned_down(case: Case, spec: HostedTuningSpec, prompting: Prompting) -> str:
    """The answer a person turned down, in the form the model would have written it; empty where there is none."""
    given = case.meta.get(spec.rejected)
    if given is None or given == "" or case.expected is None:
        return ""
    names = prompting.task.expected_fields
    if isinstance(given, dict):
        said = prompting.text.target({name: given[name] for name in names if name in given}) if given else ""
    else:
        said = prompting.text.target({names[0]: given}) if len(names) == 1 else str(given)
    return "" if said == prompting.target(case) else said


def _n_messages(line: dict[str, Any]) -> int:
    return len(line["messages"]) if "messages" in line else len(line["input"]["messages"]) + 2
