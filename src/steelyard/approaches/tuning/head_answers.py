"""What a head may answer: which labels a task knows, whether one or several are given, and when an answer is right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from steelyard.cases.case import Case
from steelyard.task.scorers import field_scoring, score_output
from steelyard.task.task import Task

_ASKS_ELSEWHERE: Final = ("judge", "similar", "python")
"""Kinds of scoring that need a model, or code of the study: too much to ask for each threshold that is tried."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerSpace:
    """The labels of a task."""

    field: str
    """The one expected field."""
    labels: tuple[str, ...]
    """In the order in which an answer lists them."""
    is_set: bool
    """Whether an answer is a list of labels; else it is one."""
    at_least: int = 0
    at_most: int | None = None

    def output(self, labels: Sequence[str]) -> dict[str, Any]:
        """Labels in the shape of the task's output."""
        return {self.field: list(labels) if self.is_set else labels[0]}


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """What an answer is worth by the task's own scorer."""

    score: float
    is_success: bool


Judge = Callable[[Case, tuple[str, ...]], Mark]


def answer_space(task: Task) -> AnswerSpace | None:
    """The labels of a task: its `labels`, or the values that its output schema lists for the one expected field.

    Returns:
        `None` where the task expects several fields, or something that is no choice.
    """
    if len(task.expected_fields) != 1:
        return None
    (field,) = task.expected_fields
    if task.labels:
        return AnswerSpace(field=field, labels=task.labels, is_set=False)
    rule = _resolved(task.output_schema.get("properties", {}).get(field), task.output_schema)
    if listed := _listed(rule):
        return AnswerSpace(field=field, labels=listed, is_set=False)
    items = _listed(_resolved(rule.get("items"), task.output_schema))
    if rule.get("type") != "array" or not items:
        return None
    return AnswerSpace(
        field=field, labels=items, is_set=True, at_least=rule.get("minItems", 0), at_most=rule.get("maxItems")
    )


def labels_of(case: Case, space: AnswerSpace) -> tuple[str, ...] | None:
    """The labels of a case in the order of the space; `None` where it has no answer, or one that is no choice."""
    value = None if case.expected is None else case.expected.get(space.field)
    given = value if space.is_set else [value]
    if not isinstance(given, list) or not all(isinstance(one, str) and one in space.labels for one in given):
        return None
    return tuple(label for label in space.labels if label in given)


def in_the_order_of(cases: Sequence[Case], space: AnswerSpace) -> AnswerSpace:
    """The space with its labels in the order in which cases list them: by the alphabet, or else that of the schema.

    It matters to scorers that compare lists place by place.
    """
    if not space.is_set:
        return space
    given = [list(case.expected[space.field]) for case in cases if case.expected is not None]
    place = {label: i for i, label in enumerate(space.labels)}
    n_as_schema = sum(one == sorted(one, key=place.__getitem__) for one in given)
    if sum(one == sorted(one) for one in given) <= n_as_schema:
        return space
    return AnswerSpace(
        field=space.field,
        labels=tuple(sorted(space.labels)),
        is_set=True,
        at_least=space.at_least,
        at_most=space.at_most,
    )


def scored_as_labels(task: Task) -> bool:
    """Whether answers are taken as right when all labels are: the task scores them in a way not asked for here."""
    return any(one.kind in _ASKS_ELSEWHERE for one in field_scoring(task).values())


def judge_of(task: Task, space: AnswerSpace) -> Judge:
    """How answers are marked; each distinct answer to a case is marked once."""
    known: dict[tuple[str, tuple[str, ...]], Mark] = {}
    plainly = scored_as_labels(task)

    def judge(case: Case, labels: tuple[str, ...]) -> Mark:
        found = known.get((case.id, labels))
        if found is None:
            if plainly:
                score = float(labels_of(case, space) == labels)
            else:
                score = score_output(space.output(labels), case.expected, task).score or 0.0
            found = known[case.id, labels] = Mark(score=score, is_success=score >= task.success_threshold)
        return found

    return judge


# ---- private --------------------------------------------------------------------------------------------------------


def _resolved(rule: Any, schema: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ANN401 - any JSON value
    """The rule, or the one that it refers to among the schema's own definitions."""
    reference = rule.get("$ref", "") if isinstance(rule, Mapping) else ""
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        rule = schema.get("$defs", {}).get(reference.removeprefix("#/$defs/"))
    return rule if isinstance(rule, Mapping) else {}


def _listed(rule: Mapping[str, Any]) -> tuple[str, ...]:
    values = rule.get("enum", ())
    return tuple(values) if len(values) > 1 and all(isinstance(value, str) for value in values) else ()
