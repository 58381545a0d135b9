"""How right an output is: one number between 0 and 1, or the reason why there is none.

A missing or unreadable output is wrong (0); a missing *expected* output is nobody's fault (unscored), and so is a field
whose judge gave no verdict. Nothing in between is made up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from steelyard.task.field_scorers import FieldScore, Means, score_field, weighted_mean
from steelyard.task.spec import FieldScoring, ScorerName
from steelyard.task.task import Task
from steelyard.task.text import same, same_folded


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """A score, or why there is none; exactly one of the two."""

    score: float | None
    """0..1, higher is better."""
    unscored_because: str | None = None
    fields: Mapping[str, FieldScore] = field(default_factory=dict)
    """How right each expected field is; empty where nothing was compared."""

    def __post_init__(self) -> None:
        if (self.score is None) == (self.unscored_because is None):
            raise ValueError("give either a score or the reason why there is none")


def score_output(
    output: Mapping[str, Any] | None, expected: Mapping[str, Any] | None, task: Task, *, means: Means | None = None
) -> Scored:
    """How right `output` is by the task's scorer.

    Args:
        output: What the approach made of the case, valid or not; `None` scores 0.
        expected: The labelled output. Fields beyond `task.expected_fields` are not looked at.
        task: Says which fields are compared, and how.
        means: What the kinds `similar`, `python` and `judge` need, where the task has such fields.

    Returns:
        The score with that of each field, or the reason for none: the case has no expected value for one of the
        expected fields, or one of them could not be scored.
    """
    missing = [name for name in task.expected_fields if expected is None or name not in expected]
    if expected is None or missing:
        return Scored(score=None, unscored_because=f"no expected output for {', '.join(map(repr, missing))}")
    scoring = field_scoring(task)
    # Without any output every field that was expected is missing, and a judge need not be asked.
    means = means or Means(functions=task.functions)
    scores = {
        name: score_field(name, output, expected[name], scoring[name], means=means)
        if output is not None
        else FieldScore(score=0.0, verdict="missing")
        for name in task.expected_fields
    }
    if output is None:
        return Scored(score=0.0, fields=scores)
    if task.scoring is None:
        return Scored(score=SCORERS[task.scorer](output, expected, task.expected_fields), fields=scores)
    unscored = [name for name, one in scores.items() if one.score is None]
    if unscored:
        return Scored(score=None, unscored_because=f"no verdict on {', '.join(map(repr, unscored))}", fields=scores)
    weighed = [(one.score, scoring[name].weight) for name, one in scores.items() if one.score is not None]
    return Scored(score=weighted_mean(weighed), fields=scores)


def field_scoring(task: Task) -> Mapping[str, FieldScoring]:
    """How each expected field is compared: as the task says for it, or as its one scorer does."""
    if task.scoring is not None:
        return task.scoring
    return dict.fromkeys(task.expected_fields, FieldScoring(kind="exact" if task.scorer == "exact" else "normalised"))


# ---- the scorers ----------------------------------------------------------------------------------------------------


def exact(output: Mapping[str, Any], expected: Mapping[str, Any], names: tuple[str, ...]) -> float:
    """1 when every expected field is equal in value and kind (`1` equals `1.0`, never `"1"` or `true`), else 0."""
    return float(all(name in output and same(output[name], expected[name]) for name in names))


def normalised(output: Mapping[str, Any], expected: Mapping[str, Any], names: tuple[str, ...]) -> float:
    """1 when every expected field is equal after folding (see `fold_text`), else 0."""
    return float(all(same_folded(output.get(name), expected[name]) for name in names))


def fields(output: Mapping[str, Any], expected: Mapping[str, Any], names: tuple[str, ...]) -> float:
    """The share of expected fields that are equal after folding."""
    return sum(same_folded(output.get(name), expected[name]) for name in names) / len(names)


Scorer = Callable[[Mapping[str, Any], Mapping[str, Any], tuple[str, ...]], float]
SCORERS: Mapping[ScorerName, Scorer] = {"exact": exact, "normalised": normalised, "fields": fields}
