"""Was the source used: answers that are right with it and without it, and answers that say there is none.

Every function takes one mapping per outcome with `approach`, `case_id`, `cluster`, `success` (1, 0 or `None`),
`sources` (retrieved ids, best first), `gold` (ids of the sources that hold the answer, or grade by id), `output` and
`expected`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from steelyard.figures import Figure, unknown
from steelyard.measure.intervals import Interval
from steelyard.measure.paired import combined
from steelyard.measure.retrieval import Level, at_level, gold_at_level
from steelyard.measure.shares import CaseRows, Row, by_case, cluster_codes, outcomes_of, row_json, share, share_of
from steelyard.task.abstaining import abstains, is_empty
from steelyard.task.accepted import accepted_answers
from steelyard.task.spec import FieldScoring
from steelyard.task.text import same_folded

Need = Literal["any", "all"]
"""Whether one gold source is enough or a question needs all of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerRules:
    """Where the answer stands in an output, and what counts as one."""

    field: str
    """Field of the output that holds the answer."""
    scoring: FieldScoring = FieldScoring()  # noqa: RUF009 - frozen
    """How it is compared; says which variants are accepted and which words abstain."""
    citations: str | None = None
    """Field of the output in which the answer names its sources."""

    @property
    def phrases(self) -> bool | tuple[str, ...]:
        """The words that abstain; the English ones where the task says none."""
        return self.scoring.abstentions or True

    def abstained(self, row: Row) -> bool:
        """Whether an outcome says that it has no answer; one that failed, or whose output lacks the field, says nothing.

        'None' is an answer where it is what was expected.
        """
        output = row.get("output")
        if output is None or (self.field not in output and row.get("status", "answered") != "answered"):
            return False
        return self._says_nothing(row, output)

    def answered(self, row: Row) -> bool:
        """Whether an outcome gives an answer, right or not."""
        output = row.get("output")
        return output is not None and not self._says_nothing(row, output)

    def answerable(self, row: Row) -> bool | None:
        """Whether there is an answer; `None` where nothing is known, or an answer and none are both accepted."""
        empty = {is_empty(one) for one in self._accepted(row)}
        return None if len(empty) != 1 else not empty.pop()

    def _says_nothing(self, row: Row, output: Mapping[str, Any]) -> bool:
        value = output.get(self.field)
        if not abstains(value, self.phrases):
            return False
        return is_empty(value) or not any(same_folded(value, one) for one in self._accepted(row))

    def _accepted(self, row: Row) -> tuple[object, ...]:
        """Accepted answers of the case; none where nothing is known."""
        expected = row.get("expected")
        if expected is None or self.field not in expected:
            return ()
        return accepted_answers(expected[self.field], self.scoring)


# ---- source found x answer right ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundAndRight:
    """One approach: was a gold source among the retrieved, and was the answer right."""

    approach: str
    n: int
    """Cases that name a gold source and were scored."""
    n_without_gold: int
    n_unscored: int
    """Cases with gold sources and without a score."""
    found_right: Figure
    """Shares of `n`; the four make 1."""
    found_wrong: Figure
    missed_right: Figure
    """Known without the source, guessed, or found in another one."""
    missed_wrong: Figure
    right_if_found: Figure
    right_if_missed: Figure
    difference: Figure
    """The one minus the other: what finding the source goes together with, which is not all its own effect, since
    questions whose source is hard to find may be hard to answer as well."""
    wrong_for_lack: Figure
    """Share of the wrong answers whose source was not found: what better retrieval could still mend."""

    def to_json(self) -> dict[str, Any]:
        """One row of `found_and_right`."""
        return row_json(self)


def found_and_right(
    rows: Iterable[Row], *, level: Level, retrieves: Collection[str], need: Need = "any", alpha: float = 0.05
) -> tuple[FoundAndRight, ...]:
    """The two halves crossed, for each approach that retrieves.

    Cases without a gold source and unscored outcomes are left out and counted. A failed outcome is wrong; whether its
    source was found is as its `sources` say.

    Args:
        rows: As in the module's text.
        level: Whether a source is a document or a passage.
        retrieves: Approaches in the table; those that retrieve nothing do not belong here.
        need: Whether any gold source found counts, or only all of them.
        alpha: One minus the confidence level.
    """
    return tuple(
        _crossed(approach, cases, level, need, alpha=alpha)
        for approach, cases in by_case(rows).items()
        if approach in retrieves
    )


# ---- abstention -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class AbstentionRow:
    """Whether one approach says so when there is no answer, and only then."""

    approach: str
    n_unanswerable: int
    n_answerable: int
    n_failed: int
    """Outcomes without any output: no answer, but no abstention either."""
    recall: Figure
    """Share of unanswerable cases on which it abstained; the others got an invented answer, or failed."""
    precision: Figure
    """Share of its abstentions that were on unanswerable cases."""
    wrongly: Figure
    """Share of answerable cases on which it abstained."""

    def to_json(self) -> dict[str, Any]:
        """One row of `abstention`."""
        return row_json(self)


def abstention(rows: Iterable[Row], rules: AnswerRules, *, alpha: float = 0.05) -> tuple[AbstentionRow, ...]:
    """Abstention of every approach, one that retrieves nothing included.

    Cases of which it is not known whether they have an answer are left out; empty where no case is unanswerable.
    """
    known = [row for row in rows if rules.answerable(row) is not None]
    if all(rules.answerable(row) for row in known):
        return ()
    return tuple(_abstention(approach, cases, rules, alpha=alpha) for approach, cases in by_case(known).items())


# ---- private --------------------------------------------------------------------------------------------------------


def _is_found(row: Row, level: Level, need: Need) -> bool:
    gold = gold_at_level(row["gold"], level).keys()
    there = gold & set(at_level(row.get("sources") or (), level))
    return bool(there) if need == "any" else there == gold


def _is_right(row: Row) -> bool:
    return bool(row["success"])


def _crossed(approach: str, cases: Sequence[CaseRows], level: Level, need: Need, *, alpha: float) -> FoundAndRight:
    with_gold = [case for case in cases if gold_at_level(case.rows[0].get("gold") or (), level)]
    scored = [(c, row) for c, row in outcomes_of(with_gold) if row.get("success") is not None]
    ids = {row["case_id"] for _, row in scored}
    kept = [case for case in with_gold if case.case_id in ids]
    found = [one for one in scored if _is_found(one[1], level, need)]
    missed = [one for one in scored if not _is_found(one[1], level, need)]

    def cell(is_found: bool, is_right: bool) -> Figure:
        def holds(row: Row) -> bool:
            return _is_found(row, level, need) == is_found and _is_right(row) == is_right

        values = np.array([_mean(holds(row) for row in case.rows if row.get("success") is not None) for case in kept])
        nothing = "no case with a gold source was scored"
        return share(values, cluster_codes(case.cluster for case in kept), nothing=nothing, alpha=alpha)

    right_if_found = share_of(found, _is_right, "no source was found", alpha=alpha)
    right_if_missed = share_of(missed, _is_right, "every source was found", alpha=alpha)
    wrong = [one for one in scored if not _is_right(one[1])]
    return FoundAndRight(
        approach=approach,
        n=len(kept),
        n_without_gold=len(cases) - len(with_gold),
        n_unscored=len(with_gold) - len(kept),
        found_right=cell(True, True),
        found_wrong=cell(True, False),
        missed_right=cell(False, True),
        missed_wrong=cell(False, False),
        right_if_found=right_if_found,
        right_if_missed=right_if_missed,
        difference=_difference(right_if_found, right_if_missed),
        wrong_for_lack=share_of(wrong, lambda row: not _is_found(row, level, need), "nothing was wrong", alpha=alpha),
    )


def _difference(one: Figure, other: Figure) -> Figure:
    """Of two rates on different cases; nothing where one of them rests on too few for an interval.

    Source: Newcombe (1998), Statistics in Medicine 17, 873-890, method 10.
    """
    if one.value is None or other.value is None:
        return unknown(one.unknown_because or other.unknown_because or "there is nothing to compare")
    ends = [one.low, one.high, other.low, other.high]
    known = [end for end in ends if end is not None]
    if len(known) < len(ends):
        return unknown("too few cases were found or missed to compare them")
    low, high = combined(one.value, Interval(*known[:2]), other.value, Interval(*known[2:]), correlation=0.0)
    return Figure(value=one.value - other.value, low=low, high=high)


def _abstention(approach: str, cases: Sequence[CaseRows], rules: AnswerRules, *, alpha: float) -> AbstentionRow:
    answerable = [case for case in cases if rules.answerable(case.rows[0])]
    unanswerable = [case for case in cases if not rules.answerable(case.rows[0])]
    outcomes = outcomes_of(cases)

    def rate(group: Sequence[CaseRows], nothing: str) -> Figure:
        values = np.array([_mean(map(rules.abstained, case.rows)) for case in group])
        return share(values, cluster_codes(case.cluster for case in group), nothing=nothing, alpha=alpha)

    return AbstentionRow(
        approach=approach,
        n_unanswerable=len(unanswerable),
        n_answerable=len(answerable),
        n_failed=sum(row.get("output") is None for _, row in outcomes),
        recall=rate(unanswerable, "no case is unanswerable"),
        precision=share_of(
            [one for one in outcomes if rules.abstained(one[1])],
            lambda row: not rules.answerable(row),
            "it never abstained",
            alpha=alpha,
        ),
        wrongly=rate(answerable, "no case is answerable"),
    )


def _mean(values: Iterable[bool]) -> float:
    found = list(values)
    return sum(found) / len(found)
