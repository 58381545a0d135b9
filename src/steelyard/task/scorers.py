"""How right an output is: one number between 0 and 1, or the reason why there is none.

A missing or unreadable output is wrong (0); a missing *expected* output is nobody's fault (unscored). Nothing in
between is made up.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from steelyard.task.spec import ScorerName
from steelyard.task.task import Task

_PLAIN_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """A score, or why there is none; exactly one of the two."""

    score: float | None
    """0..1, higher is better."""
    unscored_because: str | None = None

    def __post_init__(self) -> None:
        if (self.score is None) == (self.unscored_because is None):
            raise ValueError("give either a score or the reason why there is none")


def score_output(output: Mapping[str, Any] | None, expected: Mapping[str, Any] | None, task: Task) -> Scored:
    """How right `output` is by the task's scorer.

    Args:
        output: What the approach made of the case, valid or not; `None` scores 0.
        expected: The labelled output. Fields beyond `task.expected_fields` are not looked at.
        task: Says which fields are compared, and how.

    Returns:
        The score, or the reason for none: the case has no expected value for one of the expected fields.
    """
    missing = [name for name in task.expected_fields if expected is None or name not in expected]
    if expected is None or missing:
        return Scored(score=None, unscored_because=f"no expected output for {', '.join(map(repr, missing))}")
    if output is None:
        return Scored(score=0.0)
    return Scored(score=SCORERS[task.scorer](output, expected, task.expected_fields))


# ---- the scorers ----------------------------------------------------------------------------------------------------


def exact(output: Mapping[str, Any], expected: Mapping[str, Any], names: tuple[str, ...]) -> float:
    """1 when every expected field is equal in value and kind (`1` equals `1.0`, never `"1"` or `true`), else 0."""
    return float(all(name in output and _same(output[name], expected[name]) for name in names))


def normalised(output: Mapping[str, Any], expected: Mapping[str, Any], names: tuple[str, ...]) -> float:
    """1 when every expected field is equal after folding (see `fold_text`), else 0."""
    return float(all(_same_folded(output.get(name), expected[name]) for name in names))


def fields(output: Mapping[str, Any], expected: Mapping[str, Any], names: tuple[str, ...]) -> float:
    """The share of expected fields that are equal after folding."""
    return sum(_same_folded(output.get(name), expected[name]) for name in names) / len(names)


Scorer = Callable[[Mapping[str, Any], Mapping[str, Any], tuple[str, ...]], float]
SCORERS: Mapping[ScorerName, Scorer] = {"exact": exact, "normalised": normalised, "fields": fields}


@lru_cache(maxsize=4096)
def fold_text(text: str) -> str:
    """Text without what people write differently: NFKC, case folded, punctuation as a space, runs of space as one.

    Symbols stay, because `$5` is not `€5`. Text of nothing but punctuation stays as it is.

    >>> fold_text("  Card_Lost, abroad! ")
    'card lost abroad'
    """
    # NFKC both before and after casefold: each can undo the other's work (Unicode 3.13, D146).
    unified = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    # Unicode counts the backtick as a symbol; in answers of models it is a quote.
    spaced = "".join(" " if c == "`" or unicodedata.category(c)[0] == "P" else c for c in unified)
    return " ".join(spaced.split()) or " ".join(unified.split())


# ---- private --------------------------------------------------------------------------------------------------------


def _same(left: Any, right: Any) -> bool:  # noqa: ANN401 - any JSON value
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return left == right
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    return type(left) is type(right) and bool(left == right)


def _same_folded(left: Any, right: Any) -> bool:  # noqa: ANN401 - any JSON value
    """Equality of folded values; numbers, written as number or as text, by value, so that -5 never equals 5."""
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(_same_folded, left, right))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(_same_folded(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple | Mapping) or isinstance(right, list | tuple | Mapping):
        return False
    left_number, right_number = _number(left), _number(right)
    if left_number is not None and right_number is not None:
        return left_number == right_number
    return _folded(left) == _folded(right)


def _number(value: Any) -> float | None:  # noqa: ANN401 - any JSON value
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str) and not _PLAIN_NUMBER.fullmatch(value.strip()):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _folded(value: Any) -> str:  # noqa: ANN401 - any JSON scalar
    return "" if value is None else fold_text(str(value))
