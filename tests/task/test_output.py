"""What counts as an answer that came right, and what can still be read when it did not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.task.output import parse_output, validate
from steelyard.task.resolve import resolve_task
from steelyard.task.spec import TaskSpec
from steelyard.task.task import Task


def task_of(**fields: object) -> Task:
    return resolve_task(TaskSpec.model_validate({"input": "text", **fields}), Path())


TRIAGE = task_of(expected="label", labels=["refund", "card", "card lost", "Log-in problem"])
FREE = task_of(expected="answer")
INVOICE = task_of(
    expected=["total", "currency"],
    output_schema={
        "type": "object",
        "properties": {"total": {"type": "number"}, "currency": {"enum": ["EUR", "USD"]}},
        "required": ["total", "currency"],
        "additionalProperties": False,
    },
)


@pytest.mark.parametrize(
    ("task", "text", "output"),
    [
        (TRIAGE, "refund", {"label": "refund"}),
        (TRIAGE, " \n refund\n", {"label": "refund"}),
        (TRIAGE, '{"label": "card lost"}', {"label": "card lost"}),
        (TRIAGE, ' {"label":"card lost"}\n', {"label": "card lost"}),
        (FREE, "It is 42.", {"answer": "It is 42."}),
        (FREE, '{"answer": "It is 42."}', {"answer": "It is 42."}),
        (FREE, "a {brace} in text", {"answer": "a {brace} in text"}),
        (INVOICE, '{"total": 3, "currency": "EUR"}', {"total": 3, "currency": "EUR"}),
    ],
)
def test_what_a_program_could_use_directly_passes(task: Task, text: str, output: dict[str, Any]) -> None:
    """The exact object, or for one text field the bare value, is a schema pass."""
    read = parse_output(text, task)
    assert (read.output, read.valid, read.as_it_came, read.problem) == (output, True, True, None)


@pytest.mark.parametrize(
    ("task", "text", "output"),
    [
        (TRIAGE, "Refund.", {"label": "refund"}),
        (TRIAGE, '"refund"', {"label": "refund"}),
        (TRIAGE, "login problem", None),
        (TRIAGE, "LOG IN PROBLEM", {"label": "Log-in problem"}),
        (TRIAGE, "Label: refund", {"label": "refund"}),
        (TRIAGE, "The category is card lost.", {"label": "card lost"}),
        (TRIAGE, "refund\n\nThe customer wants money back.", {"label": "refund"}),
        (TRIAGE, '```json\n{"label": "refund"}\n```', {"label": "refund"}),
        (TRIAGE, 'Sure! {"label": "refund"} Anything else?', {"label": "refund"}),
        (TRIAGE, '{"Label": "REFUND"}', {"label": "refund"}),
        (TRIAGE, 'Not {this} but {"label": "refund"}', {"label": "refund"}),
        (FREE, '```\n{"answer": "42"}\n```', {"answer": "42"}),
        (INVOICE, 'Here: {"Total": 3, "currency": "eur"}', {"total": 3, "currency": "EUR"}),
    ],
)
def test_what_needs_mending_is_used_but_does_not_pass(task: Task, text: str, output: dict[str, Any] | None) -> None:
    """A second reading makes an output usable without a call; schema pass stays false."""
    read = parse_output(text, task)
    assert not read.as_it_came
    assert read.valid == (output is not None)
    if output is not None:
        assert read.output == output


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (TRIAGE, ""),
        (TRIAGE, " \n"),
        (TRIAGE, "banana"),
        (TRIAGE, "refund or card lost"),
        (TRIAGE, "It may be a refund, I am not sure"),
        (TRIAGE, "discard"),
        (TRIAGE, '{"label": "banana"}'),
        (TRIAGE, '{"label": ["refund"]}'),
        (TRIAGE, '{"label": "refund", "why": "because"}'),
        (TRIAGE, "[1, 2]"),
        (TRIAGE, "{" * 5000),
        (TRIAGE, '{"a":' * 5000),
        (FREE, '{"answer": 42}'),
        (FREE, '{"answer": "42", "why": "because"}'),
        (INVOICE, "three euro"),
        (INVOICE, '{"total": NaN, "currency": "EUR"}'),
        (INVOICE, 'x {"total": NaN, "currency": "EUR"}'),
        (INVOICE, 'x {"total": "3", "currency": "EUR"}'),
        (INVOICE, '{"total": 3}'),
    ],
)
def test_what_cannot_be_used_says_why(task: Task, text: str) -> None:
    """An unusable answer has a short reason, fit to be fed back to the model."""
    read = parse_output(text, task)
    assert not read.valid
    assert not read.as_it_came
    assert read.problem
    assert len(read.problem) < 800
    assert "\n" not in read.problem


def test_messages_stay_short_on_huge_values() -> None:
    """Neither a huge answer nor a long list of labels makes a huge message."""
    task = task_of(expected="label", labels=[f"label number {n}" for n in range(500)])
    problem = validate({"label": "x" * 100_000}, task)
    assert problem is not None
    assert "and 480 more" in problem
    assert len(problem) < 1000


def test_labels_that_fold_to_the_same_text_are_told_apart_or_not_at_all() -> None:
    """A lenient reading never guesses between two labels."""
    task = task_of(expected="label", labels=["re-fund", "re fund"])
    assert parse_output("re fund", task).as_it_came
    assert not parse_output("RE FUND", task).valid


@given(st.text())
def test_no_text_makes_the_reading_raise_or_contradict_itself(text: str) -> None:
    """Whatever a model writes: no exception, valid iff the schema holds, and as-it-came implies valid."""
    for task in (TRIAGE, FREE, INVOICE):
        read = parse_output(text, task)
        assert read.valid == (read.problem is None)
        assert read.valid or not read.as_it_came
        if read.output is not None:
            assert read.valid == (validate(read.output, task) is None)


@given(st.sampled_from(TRIAGE.labels), st.sampled_from(["", "\n", "```", "**", '"', "."]))
def test_decoration_never_changes_the_label_that_is_read(label: str, decoration: str) -> None:
    """Quotes, fences and full stops around a label do not turn it into another one."""
    read = parse_output(f"{decoration}{label}{decoration}", TRIAGE)
    assert read.output == {"label": label}
    assert read.as_it_came == (decoration in ("", "\n"))
