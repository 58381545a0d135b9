"""A score says how right an output is; what cannot be scored says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.task.resolve import resolve_task
from steelyard.task.scorers import SCORERS, Scored, score_output
from steelyard.task.spec import TaskSpec
from steelyard.task.task import Task
from steelyard.task.text import fold_text


def task_with(scorer: str) -> Task:
    return resolve_task(
        TaskSpec.model_validate({"input": "text", "expected": ["a", "b"], "scorer": scorer}),
        Path(),
    )


@pytest.mark.parametrize(
    ("output", "expected", "exact", "normalised", "fields"),
    [
        ({"a": "x", "b": "y"}, {"a": "x", "b": "y"}, 1, 1, 1),
        ({"a": "x", "b": "y", "c": 1}, {"a": "x", "b": "y"}, 1, 1, 1),
        ({"a": "X ", "b": "y!"}, {"a": "x", "b": "y"}, 0, 1, 1),
        ({"a": "x", "b": "z"}, {"a": "x", "b": "y"}, 0, 0, 0.5),
        ({"a": "x"}, {"a": "x", "b": "y"}, 0, 0, 0.5),
        ({"a": 1, "b": 2.0}, {"a": 1.0, "b": 2}, 1, 1, 1),
        ({"a": "12.50", "b": 2}, {"a": 12.5, "b": "2"}, 0, 1, 1),
        ({"a": "5", "b": ""}, {"a": "-5", "b": None}, 0, 0, 0.5),
        ({"a": True, "b": 1}, {"a": 1, "b": True}, 0, 0, 0),
        ({"a": ["X", 1], "b": {"k": "V"}}, {"a": ["x", "1"], "b": {"k": "v"}}, 0, 1, 1),
        ({"a": ["x"], "b": "x"}, {"a": "x", "b": ["x"]}, 0, 0, 0),
        ({"a": "ﬁne", "b": "ＡＢＣ"}, {"a": "fine", "b": "abc"}, 0, 1, 1),
        ({"a": "$5", "b": "y"}, {"a": "€5", "b": "y"}, 0, 0, 0.5),
    ],
)
def test_scores(
    output: dict[str, Any], expected: dict[str, Any], exact: float, normalised: float, fields: float
) -> None:
    """Each scorer forgives what it says it forgives, and nothing else."""
    scores = {name: score_output(output, expected, task_with(name)).score for name in SCORERS}
    assert scores == {"exact": exact, "normalised": normalised, "fields": fields}


@pytest.mark.parametrize("scorer", list(SCORERS))
def test_no_output_is_wrong_and_no_expected_output_is_unscored(scorer: str) -> None:
    """A crash counts against the approach; a missing label counts against nobody."""
    task = task_with(scorer)
    assert score_output(None, {"a": "x", "b": "y"}, task).score == 0.0
    for expected in (None, {}, {"a": "x"}):
        scored = score_output({"a": "x", "b": "y"}, expected, task)
        assert scored.score is None
        assert "'b'" in str(scored.unscored_because)


def test_a_score_is_a_number_or_a_reason() -> None:
    """Neither both nor none."""
    with pytest.raises(ValueError, match="either"):
        Scored(score=None)
    with pytest.raises(ValueError, match="either"):
        Scored(score=1.0, unscored_because="x")


@given(st.text())
def test_folding_twice_changes_nothing_more(text: str) -> None:
    """Folded text is a fixed point, so the order in which texts were folded never matters."""
    assert fold_text(fold_text(text)) == fold_text(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(json_values, json_values)
def test_scores_are_symmetric_and_everything_equals_itself(left: object, right: object) -> None:
    """Swapping output and expected changes no score, and the expected output itself always scores 1."""
    for name in SCORERS:
        task = task_with(name)
        one, other = {"a": left, "b": 0}, {"a": right, "b": 0}
        assert score_output(one, one, task).score == 1
        assert score_output(one, other, task).score == score_output(other, one, task).score
