"""What is wrong or worth knowing about cases that can be read: duplicates, gaps, labels, lengths.

None of it stops a study by itself; real production data has all of it. `findings` puts it into sentences.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, Literal, NamedTuple

import numpy as np
import orjson

from steelyard.cases.case import Case
from steelyard.cases.duplicates import exact_groups, input_text, near_groups
from steelyard.cases.sample import find_label_field, label_of
from steelyard.errors import Problem

LARGE_GROUP_SHARE: Final = 0.2
"""A unit of more than this share of all cases makes the asked split sizes hard to reach."""


class Quantiles(NamedTuple):
    """Spread of a length over cases."""

    least: int
    median: int
    p95: int
    most: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DuplicateGroup:
    """Cases that say the same."""

    kind: Literal["exact", "near"]
    cases: tuple[Case, ...]
    is_conflicting: bool
    """Whether their expected outputs differ, where they have one: at least one is wrong, or the task is ambiguous. The same
    question on another day, or by somebody who may read other documents, may well have another answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """Findings over the cases of one study."""

    n_cases: int
    exact_duplicates: tuple[DuplicateGroup, ...]
    near_duplicates: tuple[DuplicateGroup, ...]
    """Groups in which at least two texts differ; exact duplicates of a member are members too."""
    groups: Mapping[str, str]
    """Group id by case id, for every case with an exact or near duplicate: what `split_cases` keeps together."""
    empty: tuple[Case, ...]
    """Cases without any text in their input."""
    without_expected: tuple[Case, ...]
    invalid_expected: tuple[Problem, ...]
    """Expected outputs that break the output schema."""
    label_counts: Mapping[str, int]
    """Cases by label, most frequent first; empty where the task has no single label."""
    rare_below: int
    """A label with fewer cases than this counts as rare."""
    n_chars: Quantiles
    """Characters of the input."""
    n_words: Quantiles
    """Words of the input, as space divides it."""

    @property
    def conflicts(self) -> tuple[DuplicateGroup, ...]:
        """Duplicates whose expected outputs differ, exact groups first."""
        return tuple(group for group in (*self.exact_duplicates, *self.near_duplicates) if group.is_conflicting)

    @property
    def rare_labels(self) -> tuple[str, ...]:
        """Labels with fewer than `rare_below` cases."""
        return tuple(label for label, count in self.label_counts.items() if count < self.rare_below)


def audit(
    cases: Sequence[Case],
    *,
    validate_expected: Callable[[Mapping[str, object]], str | None],
    near_duplicates: float = 0.8,
    label_field: str | None = None,
    rare_below: int = 5,
) -> Audit:
    """Look through all cases.

    Args:
        cases: Any number, with distinct ids.
        validate_expected: Says in one clause what is wrong with an expected output, or None.
        near_duplicates: Least Jaccard similarity of near-duplicates, above 0 up to 1.
        label_field: Expected field that holds the label; left out, the only expected field, if its values recur.
        rare_below: Labels with fewer cases are named.
    """
    exact = [_group("exact", cases, positions) for positions in exact_groups(cases)]
    near = [_group("near", cases, positions) for positions in near_groups(cases, threshold=near_duplicates)]
    label_field = label_field or find_label_field(cases)
    texts = [input_text(case) for case in cases]
    labels = Counter(label for case in cases if (label := label_of(case, label_field)))
    return Audit(
        n_cases=len(cases),
        exact_duplicates=tuple(exact),
        near_duplicates=tuple(near),
        # A near group holds the exact groups of its members, so it comes later and has the last word.
        groups={case.id: name for group in (*exact, *near) for name in [_name(group)] for case in group.cases},
        empty=tuple(case for case, text in zip(cases, texts, strict=True) if not text.strip()),
        without_expected=tuple(case for case in cases if case.expected is None),
        invalid_expected=tuple(_invalid_expected(cases, validate_expected)),
        label_counts=dict(sorted(labels.items(), key=lambda item: (-item[1], item[0]))),
        rare_below=rare_below,
        n_chars=_quantiles([len(text) for text in texts]),
        n_words=_quantiles([len(text.split()) for text in texts]),
    )


def findings(audit: Audit) -> tuple[Problem, ...]:
    """The audit in sentences, most serious first; empty where nothing is wrong."""
    found = list(audit.invalid_expected)
    found += [_conflict(group) for group in audit.exact_duplicates if group.is_conflicting]
    found += _gaps(audit)
    copies = sum(len(group.cases) - 1 for group in audit.exact_duplicates)
    if copies:
        what = f"{copies} of {audit.n_cases} cases repeat another one, in {len(audit.exact_duplicates)} groups"
        found.append(_about(what, audit.exact_duplicates[0].cases[1], "each group is kept in one split"))
    if audit.near_duplicates:
        n_near = sum(len(group.cases) for group in audit.near_duplicates)
        what = f"{n_near} of {audit.n_cases} cases are near-duplicates, in {len(audit.near_duplicates)} groups"
        found.append(_about(what, audit.near_duplicates[0].cases[1], "each group is kept in one split"))
    # One sentence for all: near-duplicates may differ in just the word that changes the answer.
    if near_conflicts := [group for group in audit.near_duplicates if group.is_conflicting]:
        what = f"{len(near_conflicts)} groups of near-duplicates have different expected outputs"
        found.append(_about(what, near_conflicts[0].cases[1], "look for wrong labels among them"))
    largest = max((*audit.exact_duplicates, *audit.near_duplicates), key=lambda group: len(group.cases), default=None)
    if largest is not None and len(largest.cases) > LARGE_GROUP_SHARE * audit.n_cases:
        what = f"one group of duplicates holds {len(largest.cases)} of {audit.n_cases} cases, all in one split"
        found.append(
            _about(what, largest.cases[0], "raise cases.near_duplicates, or remove cases made from a template")
        )
    return tuple(found)


# ---------------------------------------------------------------------------------------------------------------------
# Private
# ---------------------------------------------------------------------------------------------------------------------


def _group(kind: Literal["exact", "near"], cases: Sequence[Case], positions: Sequence[int]) -> DuplicateGroup:
    members = tuple(cases[position] for position in positions)
    outputs: defaultdict[object, set[bytes]] = defaultdict(set)
    for case in members:
        if case.expected is not None:
            outputs[_asked_by(case)].add(orjson.dumps(case.expected, option=orjson.OPT_SORT_KEYS))
    return DuplicateGroup(kind=kind, cases=members, is_conflicting=any(len(found) > 1 for found in outputs.values()))


def _asked_by(case: Case) -> tuple[str | None, frozenset[str]]:
    """When and by whom a case is asked, as far as answers depend on it."""
    return (case.time if case.question is not None else None), frozenset(case.access)


def _name(group: DuplicateGroup) -> str:
    return min(case.id for case in group.cases)


def _invalid_expected(
    cases: Sequence[Case], validate_expected: Callable[[Mapping[str, object]], str | None]
) -> list[Problem]:
    problems = []
    for case in cases:
        if case.expected is not None and (fault := validate_expected(case.expected)) is not None:
            what = f"the expected output of case {case.id!r} breaks the output schema: {fault}"
            hint = "correct the expected output, or widen task.labels or task.output_schema"
            problems.append(Problem(what=what, where=f"{case.where}:expected" if case.where else None, hint=hint))
    return problems


def _conflict(group: DuplicateGroup) -> Problem:
    first, other = next(
        (one, other)
        for one, other in combinations(group.cases, 2)
        if None not in (one.expected, other.expected)
        and one.expected != other.expected
        and _asked_by(one) == _asked_by(other)
    )
    what = f"case {other.id!r} has the same input as case {first.id!r} ({first.where}) but another expected output"
    return _about(what, other, "decide which of the two is right")


def _gaps(audit: Audit) -> list[Problem]:
    gaps = []
    if audit.empty:
        what = f"{len(audit.empty)} of {audit.n_cases} cases have an empty input"
        gaps.append(_about(what, audit.empty[0], "keep them if production has them too"))
    if audit.without_expected:
        what = f"{len(audit.without_expected)} of {audit.n_cases} cases have no expected output"
        gaps.append(_about(what, audit.without_expected[0], "they are left out of every score until labelled"))
    if audit.rare_labels:
        named = ", ".join(f"{label!r} ({audit.label_counts[label]})" for label in audit.rare_labels[:10])
        more = f" and {len(audit.rare_labels) - 10} more" if len(audit.rare_labels) > 10 else ""
        what = f"labels with fewer than {audit.rare_below} cases: {named}{more}"
        gaps.append(Problem(what=what, hint="add cases of them, or fold them into another label"))
    return gaps


def _about(what: str, example: Case, hint: str) -> Problem:
    return Problem(what=what, where=example.where or None, hint=hint)


def _quantiles(lengths: Sequence[int]) -> Quantiles:
    if not lengths:
        return Quantiles(0, 0, 0, 0)
    return Quantiles(*(int(value) for value in np.quantile(lengths, (0, 0.5, 0.95, 1), method="lower")))
