"""Expected values that leave a choice: several answers to one question that are all right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice, product
from typing import Any

from steelyard.task.output import validate
from steelyard.task.spec import FieldScoring
from steelyard.task.task import Task

_MAX_CHECKED = 200
"""Combinations of accepted answers whose validity is checked, of several fields with many each."""


def accepted_answers(expected: object, scoring: FieldScoring) -> tuple[object, ...]:
    """The values of a field that count as right, at least one.

    Args:
        expected: The expected value; a list of accepted ones where the field is scored with `any_of`.
        scoring: How the field is compared.

    Returns:
        An empty list of accepted answers stands for 'there is none': `(None,)`.
    """
    if scoring.any_of and isinstance(expected, list):
        return tuple(expected) or (None,)
    return (expected,)


def reference_output(expected: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """An expected output as a model should have given it: of accepted answers the first.

    For examples in prompts and for training, where a list of variants would teach the wrong form.
    """
    scoring: Mapping[str, FieldScoring] = task.scoring or {}
    return {
        name: accepted_answers(value, scoring[name])[0] if name in scoring else value
        for name, value in expected.items()
    }


def expected_fault(expected: Mapping[str, Any], task: Task) -> str | None:
    """What is wrong with an expected output by the task's schema, or `None`; every accepted answer has to be valid."""
    scoring: Mapping[str, FieldScoring] = task.scoring or {}
    choices: list[Sequence[object]] = [
        accepted_answers(value, scoring[name]) if name in scoring else (value,) for name, value in expected.items()
    ]
    for values in islice(product(*choices), _MAX_CHECKED):
        fault = validate(dict(zip(expected, values, strict=True)), task)
        if fault is not None:
            return fault
    return None
