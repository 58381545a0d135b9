"""Do answers keep up with documents that change: which version of the truth an answer matches, as of the case's day."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from steelyard.cases.case import Case
from steelyard.figures import Figure
from steelyard.measure.answers import AnswerRules
from steelyard.measure.shares import CaseRows, Row, by_case, cluster_codes, measured_on, row_json, share
from steelyard.task.field_scorers import Means, score_field

_DAY = len("2026-01-31")

Age = Literal["current", "outdated", "too_new", "neither"]


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionedAnswer:
    """What was right from a day on."""

    valid_from: str
    """ISO date; of a time only the day counts."""
    expected: object
    """The answer, or several accepted ones; null where there was none then."""
    version: str | None = None
    """Of the document it comes from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FreshnessRow:
    """Which version of the truth the answers of one approach match."""

    approach: str
    n: int
    """Cases whose right answer was, or will be, another on another day."""
    n_unchanging: int
    """Cases left out because their answer is the same in all versions, or because no version is known."""
    current: Figure
    """Share that match the newest version valid on the case's day."""
    outdated: Figure
    """Share that match an older version, and not the current one."""
    too_new: Figure
    """Share that match only a version that was not valid yet."""
    neither: Figure
    """The rest, failures and wrong abstentions among them."""

    def to_json(self) -> dict[str, Any]:
        """One row of `freshness`."""
        return row_json(self)


Matches = Callable[[Mapping[str, Any], object], bool]
"""Whether an output matches an expected answer."""


def matching(rules: AnswerRules) -> Matches:
    """Whether an output would be right if a given answer were expected, by the task's own scoring of that field.

    A field scored by a judge or by likeness is compared normalised here, because nothing may be asked again.
    """
    scoring = rules.scoring.model_copy(update={"abstentions": rules.phrases})
    if scoring.kind in ("judge", "similar", "python"):
        scoring = scoring.model_copy(update={"kind": "normalised"})
    means = Means()

    def matches(output: Mapping[str, Any], expected: object) -> bool:
        return score_field(rules.field, output, expected, scoring, means=means).verdict == "right"

    return matches


def age_of(
    output: Mapping[str, Any] | None, versions: Sequence[VersionedAnswer], *, as_of: str, matches: Matches
) -> Age:
    """Which version an answer matches; the current one goes first where several are the same.

    Args:
        output: The whole output; `None` matches nothing.
        versions: In any order.
        as_of: The day of the question, ISO; a version counts from its own day on.
        matches: Decides.
    """
    if output is None:
        return "neither"
    ordered = sorted(versions, key=lambda version: version.valid_from)
    valid = [version for version in ordered if version.valid_from[:_DAY] <= as_of[:_DAY]]
    later = ordered[len(valid) :]
    if valid and matches(output, valid[-1].expected):
        return "current"
    if any(matches(output, version.expected) for version in valid[:-1]):
        return "outdated"
    return "too_new" if any(matches(output, version.expected) for version in later) else "neither"


def freshness(
    rows: Iterable[Row],
    versions: Mapping[str, Sequence[VersionedAnswer]],
    rules: AnswerRules,
    *,
    as_of: Mapping[str, str] | None = None,
    matches: Matches | None = None,
    alpha: float = 0.05,
) -> tuple[FreshnessRow, ...]:
    """Shares of current and outdated answers, for every approach.

    Replaces the success rate on cases whose answer changed, which does not tell an old answer from a wrong one.

    Args:
        rows: Mappings with `approach`, `case_id`, `output`, and `time` where `as_of` does not give the day.
        versions: What was right when, by case id.
        rules: Where the answer stands and how it is compared.
        as_of: ISO day of each case, where it is not its `time`.
        matches: Decides instead of the rules.
        alpha: One minus the confidence level.

    Returns:
        One row per approach; empty where no case has an answer that changes.
    """
    decide = matches or matching(rules)
    changing = {case_id for case_id, answers in versions.items() if len({repr(one.expected) for one in answers}) > 1}
    days = as_of or {}
    table = []
    for approach, cases in by_case(rows).items():
        kept = [
            case
            for case in cases
            if case.case_id in changing and (case.case_id in days or case.rows[0].get("time") is not None)
        ]
        if kept:
            table.append(_row(approach, kept, len(cases), versions, days, decide, alpha=alpha))
    return tuple(table)


def versions_of_cases(
    cases: Iterable[Case], *, question: str | None = None, field: str, day: str | None = None
) -> dict[str, tuple[VersionedAnswer, ...]]:
    """What was right when, from cases that ask one question as of several days.

    Args:
        cases: All cases; those without a question, a day or an expected answer are left out.
        question: Name in `meta` of what the same questions share; left out, the `question` of the case.
        field: Field of the expected output.
        day: Input field with the day asked about; left out, the time of the case.
    """
    groups: dict[str, dict[str, VersionedAnswer]] = {}
    members: dict[str, list[str]] = {}
    for case in cases:
        name = case.question if question is None else case.meta.get(question)
        when = case.input.get(day) if day is not None else case.time
        if name is None or when is None or case.expected is None or field not in case.expected:
            continue
        found = VersionedAnswer(valid_from=str(when), expected=case.expected[field])
        groups.setdefault(str(name), {}).setdefault(found.valid_from, found)
        members.setdefault(str(name), []).append(case.id)
    return {case_id: tuple(groups[name].values()) for name, ids in members.items() for case_id in ids}


# ---- private --------------------------------------------------------------------------------------------------------


def _row(
    approach: str,
    cases: Sequence[CaseRows],
    n_all: int,
    versions: Mapping[str, Sequence[VersionedAnswer]],
    days: Mapping[str, str],
    matches: Matches,
    *,
    alpha: float,
) -> FreshnessRow:
    ages = [
        [
            age_of(
                row.get("output"),
                versions[case.case_id],
                as_of=str(days.get(case.case_id, row.get("time"))),
                matches=matches,
            )
            for row in case.rows
        ]
        for case in cases
    ]
    cluster = cluster_codes(case.cluster for case in cases)

    def figure(age: Age) -> Figure:
        values = np.array([mine.count(age) / len(mine) for mine in ages])
        return share(
            values, cluster, nothing="no answer changes", provenance=measured_on(len(cases), n_all), alpha=alpha
        )

    return FreshnessRow(
        approach=approach,
        n=len(cases),
        n_unchanging=n_all - len(cases),
        current=figure("current"),
        outdated=figure("outdated"),
        too_new=figure("too_new"),
        neither=figure("neither"),
    )
