"""Which old answers became wrong when a document changed, from cases that ask one question on several days."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from steelyard.approaches.retrieval.documents import Document
from steelyard.approaches.retrieval.versions import Versions
from steelyard.cases.case import Case
from steelyard.measure.answers import AnswerRules
from steelyard.measure.freshness import matching
from steelyard.task.accepted import accepted_answers

_DAY = len("2026-01-31")


@dataclass(frozen=True, kw_only=True, slots=True)
class StaleAnswer:
    """A question whose answer was right until a document changed."""

    question: str
    """As the cases name what they share."""
    older: str
    """Id of the version that held the old answer."""
    newer: str
    """Id of the version after it."""
    asked: str
    """The case that asked before."""
    asked_again: str
    """The case that asks after."""
    before: object
    """What was right; null where there was no answer."""
    now: object
    recorded_right: int
    """Recorded answers of approaches to the case before that were right then, and are wrong now."""

    def to_json(self) -> dict[str, Any]:
        """One row of `stale`."""
        return asdict(self)


def changes_of(documents: Sequence[Document], versions: Versions) -> list[tuple[Document, Document]]:
    """Each version with the one after it, in the order of the documents."""
    series: dict[int, list[int]] = defaultdict(list)
    for place in range(len(documents)):
        series[int(versions.series[place])].append(place)
    found = []
    for places in series.values():
        ordered = sorted(places, key=lambda place: int(versions.order[place]))
        found += [(documents[a], documents[b]) for a, b in pairwise(ordered)]
    return found


def stale_answers(
    changes: Sequence[tuple[Document, Document]],
    cases: Sequence[Case],
    rules: AnswerRules,
    *,
    right: Mapping[str, int],
) -> tuple[StaleAnswer, ...]:
    """The questions whose old answer a change made wrong.

    Of each question the last case before the change that rests on the older version is compared with the first one
    after it that rests on the newer version, or on nothing because there is no answer any more.

    Args:
        changes: Older and newer version.
        cases: Those without a question, a day or an expected answer are left out.
        rules: Where the answer stands, and how answers are compared.
        right: By case id, how many recorded answers were right.
    """
    asked: dict[str, list[Case]] = defaultdict(list)
    resting: dict[str, set[str]] = defaultdict(set)
    for case in sorted(cases, key=lambda one: (str(one.time), one.id)):
        if case.question is not None and case.time is not None and case.expected is not None:
            asked[case.question].append(case)
            for source in case.sources:
                resting[source].add(case.question)
    found = []
    for older, newer in changes:
        day = str(newer.facts.valid_from or "")
        for question in sorted(resting[older.id]):
            before = [one for one in asked[question] if older.id in one.sources and str(one.time)[:_DAY] < day]
            after = [
                one
                for one in asked[question]
                if str(one.time)[:_DAY] >= day and (newer.id in one.sources or not one.sources)
            ]
            if before and after and _is_wrong_now(before[-1], after[0], rules):
                found.append(
                    StaleAnswer(
                        question=question,
                        older=older.id,
                        newer=newer.id,
                        asked=before[-1].id,
                        asked_again=after[0].id,
                        before=_answer(before[-1], rules),
                        now=_answer(after[0], rules),
                        recorded_right=sum(right.get(one.id, 0) for one in before),
                    )
                )
    return tuple(found)


# ---- private --------------------------------------------------------------------------------------------------------


def _answer(case: Case, rules: AnswerRules) -> object:
    """The usual spelling of the expected answer."""
    accepted = accepted_answers((case.expected or {}).get(rules.field), rules.scoring)
    return accepted[0] if accepted else None


def _is_wrong_now(before: Case, after: Case, rules: AnswerRules) -> bool:
    return not matching(rules)({rules.field: _answer(before, rules)}, (after.expected or {}).get(rules.field))
