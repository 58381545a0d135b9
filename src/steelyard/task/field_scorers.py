"""How one field of an output is compared with what was expected: one function for each kind.

A comparison gives 0..1, or `None` where it cannot say (a judge without a verdict, a function of the study that
declines). Absent and null are the same: what was expected to be empty and is empty is right.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from steelyard.task.abstaining import abstains, is_empty
from steelyard.task.spec import FieldKind, FieldScoring
from steelyard.task.task import ScoreFunction
from steelyard.task.text import fold_text, same, same_folded
from steelyard.task.tokens import token_f1
from steelyard.task.values import amount, day, plain_number

FieldVerdict = Literal["right", "wrong", "missing", "invented", "unscored"]

RIGHT_FROM = 0.999
"""A field counts as right from this score on; below it something in it is wrong."""

MAX_ITEMS = 500
"""Items of a list beyond these are not aligned and count as wrong: a hostile answer must not cost cubic time."""

_MAX_PATTERN_TEXT = 10_000

Likeness = Callable[[str, str], float]
"""How alike two texts are, -1..1: the cosine of their embeddings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldScore:
    """How right one field is."""

    score: float | None
    """0..1; `None` when unscored."""
    verdict: FieldVerdict
    """`missing`: nothing where something was expected; `invented`: something where nothing was expected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Means:
    """What some kinds need besides the two values."""

    likeness: Likeness | None = None
    """For `similar`."""
    functions: Mapping[str, ScoreFunction] | None = None
    """For `python`, by `FILE.py:NAME`."""
    marks: Mapping[str, float | None] | None = None
    """For `judge`: its mark by field, `None` where it gave none."""


def score_field(
    name: str, output: Mapping[str, Any], expected: object, scoring: FieldScoring, *, means: Means
) -> FieldScore:  # fmt: skip
    """How right one field of an output is.

    Args:
        name: The field.
        output: The whole output.
        expected: The expected value of the field.
        scoring: How they are compared.
        means: What `similar`, `python` and `judge` need.
    """
    value = output.get(name)
    if scoring.kind == "python":
        assert scoring.function is not None  # checked by the section
        function = (means.functions or {})[scoring.function]
        return _field_score(_share(function(value, expected, output)), value, expected)
    if scoring.any_of and isinstance(expected, list):
        alone = scoring.model_copy(update={"any_of": False})
        # Of equals the first: what is accepted first is what is shown first.
        return max((score_field(name, output, one, alone, means=means) for one in expected or [None]), key=_by_score)
    # 'None' and 'unknown' may be the very answer that was expected.
    if abstains(value, scoring.abstentions) and not same_folded(value, expected):
        value = None
    if is_empty(value) and is_empty(expected):
        return FieldScore(score=1.0, verdict="right")
    if is_empty(value) or (is_empty(expected) and not (scoring.kind == "regex" and scoring.pattern)):
        return _field_score(0.0, value, expected)
    if scoring.kind == "judge":
        mark = (means.marks or {}).get(name)
        return _field_score(None if mark is None else float(mark >= scoring.threshold), value, expected)
    if scoring.kind == "similar":
        assert means.likeness is not None  # the study hands one over
        alike = means.likeness(str(value), str(expected))
        return _field_score(float(alike >= scoring.threshold), value, expected)
    return _field_score(COMPARE[scoring.kind](value, expected, scoring), value, expected)


# ---- the kinds ------------------------------------------------------------------------------------------------------


def _exact(value: object, expected: object, scoring: FieldScoring) -> float:
    return float(same(value, expected))


def _normalised(value: object, expected: object, scoring: FieldScoring) -> float:
    return float(same_folded(value, expected))


def _number(value: object, expected: object, scoring: FieldScoring) -> float:
    return _near(plain_number(value), plain_number(expected), scoring)


def _money(value: object, expected: object, scoring: FieldScoring) -> float:
    return _near(amount(value), amount(expected), scoring)


def _date(value: object, expected: object, scoring: FieldScoring) -> float:
    found, wanted = (day(one, day_first=scoring.day_first) for one in (value, expected))
    # A label that names no day cannot be compared as one; the same words are right all the same.
    return float(same_folded(value, expected) if wanted is None else found == wanted)


def _set(value: object, expected: object, scoring: FieldScoring) -> float:
    """F1 of two collections, folded, repeats counted; one value counts as a collection of one."""
    found, wanted = _folded_bag(value), _folded_bag(expected)
    return _f1((found & wanted).total(), found.total(), wanted.total())


def _list(value: object, expected: object, scoring: FieldScoring) -> float:
    """F1 of two lists of items, each matched with at most one of the other so that the matches are as good as can be.

    A match is worth the weighted share of its fields that are right. Order does not count.
    Source: Kuhn (1955) for the matching.
    """
    if not isinstance(value, list) or not isinstance(expected, list):
        return 0.0
    n_found, n_wanted = len(value), len(expected)
    if not n_found or not n_wanted:
        return _f1(0.0, n_found, n_wanted)
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    wanted = expected[:MAX_ITEMS]
    likeness = np.array([[_item(one, other, scoring) for other in wanted] for one in value[:MAX_ITEMS]])
    rows, columns = linear_sum_assignment(likeness, maximize=True)
    return _f1(float(likeness[rows, columns].sum()), n_found, n_wanted)


def _regex(value: object, expected: object, scoring: FieldScoring) -> float:
    pattern = scoring.pattern if scoring.pattern is not None else str(expected)
    try:
        return float(re.fullmatch(pattern, str(value)[:_MAX_PATTERN_TEXT].strip()) is not None)
    except re.error:
        return 0.0  # an expected value that is no pattern matches nothing; the study's own pattern was checked


def _contains(value: object, expected: object, scoring: FieldScoring) -> float:
    return float(f" {fold_text(str(expected))} " in f" {fold_text(str(value))} ")


def _token_f1(value: object, expected: object, scoring: FieldScoring) -> float:
    alike = token_f1(value, expected)
    return float(alike >= scoring.threshold) if "threshold" in scoring.model_fields_set else alike


Compare = Callable[[object, object, FieldScoring], float]
COMPARE: Mapping[FieldKind, Compare] = {
    "exact": _exact,
    "normalised": _normalised,
    "number": _number,
    "money": _money,
    "date": _date,
    "set": _set,
    "list": _list,
    "regex": _regex,
    "contains": _contains,
    "token_f1": _token_f1,
}

# ---- private --------------------------------------------------------------------------------------------------------


def _field_score(score: float | None, value: object, expected: object) -> FieldScore:
    if score is None:
        return FieldScore(score=None, verdict="unscored")
    if score >= RIGHT_FROM:
        return FieldScore(score=score, verdict="right")
    verdict: FieldVerdict = "wrong"
    if is_empty(value):
        verdict = "missing"
    elif is_empty(expected):
        verdict = "invented"
    return FieldScore(score=score, verdict=verdict)


def _by_score(field: FieldScore) -> float:
    """A field nobody could judge may be right: it comes after one that is, and before all that are not."""
    return RIGHT_FROM if field.score is None else field.score


def _share(said: float | bool | None) -> float | None:
    """What a study's own scorer returned, as 0..1.

    Raises:
        ValueError: It is no such number; the case is then unscored, with this reason.
    """
    if said is None:
        return None
    share = float(said)
    if not 0 <= share <= 1:
        raise ValueError(f"a scorer returns 0 to 1, true, false or None, not {said!r}")
    return share


def _near(found: float | None, wanted: float | None, scoring: FieldScoring) -> float:
    if found is None or wanted is None:
        return 0.0
    # A cent of tolerance forgives 0.1 + 0.2 as well.
    room = max(scoring.tolerance, scoring.relative_tolerance * abs(wanted)) + 1e-9 * max(1.0, abs(wanted))
    return float(abs(found - wanted) <= room)


def _folded_bag(value: object) -> Counter[str]:
    values = value if isinstance(value, list) else [value]
    return Counter(fold_text(str(one)) for one in values if not is_empty(one))


def _item(one: object, other: object, scoring: FieldScoring) -> float:
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return float(same_folded(one, other))
    fields = scoring.fields if scoring.fields is not None else dict.fromkeys(other, FieldScoring())
    right = [
        inner.weight * (score_field(name, one, other.get(name), inner, means=_NO_MEANS).score or 0.0)
        for name, inner in fields.items()
    ]
    total = sum(inner.weight for inner in fields.values())
    return sum(right) / total if total else 0.0


def _f1(common: float, n_found: int, n_wanted: int) -> float:
    return 2 * common / (n_found + n_wanted) if n_found + n_wanted else 1.0


_NO_MEANS = Means()


def weighted_mean(scores: Sequence[tuple[float, float]]) -> float:
    """Mean of (score, weight) pairs."""
    return sum(score * weight for score, weight in scores) / sum(weight for _, weight in scores)
