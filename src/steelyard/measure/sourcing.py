"""Where answers come from: whether the retrieved text supports them, and whether they cite the right source.

Rows are as in `measure.answers`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steelyard.figures import Figure
from steelyard.measure.answers import AnswerRules
from steelyard.measure.retrieval import PASSAGE_MARK, Level, at_level, gold_at_level
from steelyard.measure.shares import (
    CaseRows,
    Row,
    by_case,
    cluster_codes,
    measured_on,
    outcomes_of,
    row_json,
    share,
    share_of,
)
from steelyard.task.support import SupportVerdict, answer_support


@dataclass(frozen=True, kw_only=True, slots=True)
class SupportRow:
    """Whether the answers of one approach are supported by what it retrieved."""

    approach: str
    n: int
    """Cases with an answer; abstentions and failures claim nothing."""
    supported: Figure
    """Share of what could be decided; its interval reaches from all of the rest unsupported to all supported."""
    undecided: Figure
    """Share of `n` that neither a quote check nor a judge decides."""
    right_if_supported: Figure
    right_if_unsupported: Figure
    n_judged: int = 0
    """Outcomes that a judge decided because words could not."""

    def to_json(self) -> dict[str, Any]:
        """One row of `support`."""
        return row_json(self)


TextsOf = Callable[[Row], Sequence[str | None]]
"""The texts of the sources of an outcome, in their order; `None` for one that is not known any more."""

Judged = Callable[[Row], SupportVerdict | None]
"""What a judge said of an outcome whose support words leave undecided; `None` where it said nothing."""


def support(
    rows: Iterable[Row],
    rules: AnswerRules,
    texts_of: TextsOf,
    *,
    retrieves: Collection[str],
    judged: Judged | None = None,
    alpha: float = 0.05,
) -> tuple[SupportRow, ...]:
    """Whether answers are supported by the retrieved text (see `answer_support` for what that can tell).

    An answer is undecided where the text of a source is not known, unless the known ones support it.

    Args:
        rows: As in `measure.answers`.
        rules: Where the answer stands, and what counts as one.
        texts_of: What an outcome was shown.
        retrieves: Approaches in the table.
        judged: Decides where words do not.
        alpha: One minus the confidence level.
    """
    return tuple(
        _support(approach, cases, rules, texts_of, judged or _nobody, alpha=alpha)
        for approach, cases in by_case(rows).items()
        if approach in retrieves
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class CitationRow:
    """Whether the answers of one approach name the source they come from."""

    approach: str
    n: int
    """Cases with an answer."""
    cites: Figure
    """Share of answers that cite anything."""
    right: Figure
    """Share of citing answers, among cases with a gold source, that cite one."""
    retrieved: Figure
    """Share of citing answers all of whose citations were retrieved; the others cite what they have not seen."""

    def to_json(self) -> dict[str, Any]:
        """One row of `citations`."""
        return row_json(self)


def citations(rows: Iterable[Row], rules: AnswerRules, *, level: Level, alpha: float = 0.05) -> tuple[CitationRow, ...]:
    """Whether the right source is cited; empty where outputs have no field for it."""
    if rules.citations is None:
        return ()
    return tuple(
        _citations(approach, cases, rules, rules.citations, level, alpha=alpha)
        for approach, cases in by_case(rows).items()
    )


_MARKED = re.compile(r"\[([^\[\]]+)\]")


def cited_sources(value: object, retrieved: Sequence[str]) -> tuple[str, ...]:
    """The ids an answer cites.

    Args:
        value: A list of ids, one id, several with commas or semicolons between, or text with ids in square brackets.
        retrieved: What was retrieved, best first; a bare number that is no id of it stands for the place in it.

    >>> cited_sources("see [leave#2] and [1]", ["travel#1", "leave#2"])
    ('leave#2', 'travel#1')
    """
    parts = [str(one) for one in value] if isinstance(value, list | tuple) else _parts(value, retrieved)
    found = []
    for part in parts:
        name = part.strip(" \t\n\"'`()[].") if part not in retrieved else part
        if name not in retrieved and name.isascii() and name.isdigit() and 1 <= int(name) <= len(retrieved):
            name = retrieved[int(name) - 1]
        if name:
            found.append(name)
    return tuple(dict.fromkeys(found))


# ---- private --------------------------------------------------------------------------------------------------------


def _nobody(row: Row) -> None:
    """Where there is no judge."""


def _support(
    approach: str, cases: Sequence[CaseRows], rules: AnswerRules, texts_of: TextsOf, judged: Judged, *, alpha: float
) -> SupportRow:
    answered = [(c, row) for c, row in outcomes_of(cases) if rules.answered(row)]
    by_words = [_verdict(row, rules, texts_of) for _, row in answered]
    by_judge = [judged(row) if said == "undecided" else None for said, (_, row) in zip(by_words, answered, strict=True)]
    verdicts = [judge or said for said, judge in zip(by_words, by_judge, strict=True)]
    yes = np.array([float(one == "supported") for one in verdicts])
    unclear = np.array([float(one == "undecided") for one in verdicts])
    cluster = cluster_codes(cluster for cluster, _ in answered)
    n = len({row["case_id"] for _, row in answered})
    nothing = "nothing was answered"

    def right_if(verdict: str) -> Figure:
        picked = [
            one
            for one, said in zip(answered, verdicts, strict=True)
            if said == verdict and one[1].get("success") is not None
        ]
        return share_of(picked, lambda row: bool(row["success"]), f"no scored answer is {verdict}", alpha=alpha)

    return SupportRow(
        approach=approach,
        n=n,
        supported=share(
            yes, cluster, nothing=nothing, undecided=unclear, provenance=measured_on(n, len(cases)), alpha=alpha
        ),
        undecided=share(unclear, cluster, nothing=nothing, alpha=alpha),
        right_if_supported=right_if("supported"),
        right_if_unsupported=right_if("unsupported"),
        n_judged=sum(one is not None for one in by_judge),
    )


def _verdict(row: Row, rules: AnswerRules, texts_of: TextsOf) -> str:
    texts = texts_of(row)
    found = answer_support(row["output"][rules.field], [text for text in texts if text is not None])
    return "undecided" if None in texts and found.verdict == "unsupported" else found.verdict


def _citations(
    approach: str, cases: Sequence[CaseRows], rules: AnswerRules, field: str, level: Level, *, alpha: float
) -> CitationRow:
    answered = [(c, row) for c, row in outcomes_of(cases) if rules.answered(row)]

    def cited(row: Row) -> tuple[str, ...]:
        return cited_sources(row["output"].get(field), list(row.get("sources") or ()))

    def names_gold(row: Row) -> bool:
        at = _level_of(cited(row), level)
        return not gold_at_level(row["gold"], at).keys().isdisjoint(at_level(cited(row), at))

    def names_retrieved(row: Row) -> bool:
        at = _level_of(cited(row), level)
        return set(at_level(cited(row), at)) <= set(at_level(row.get("sources") or (), at))

    citing = [one for one in answered if cited(one[1])]
    return CitationRow(
        approach=approach,
        n=len({row["case_id"] for _, row in answered}),
        cites=share_of(answered, lambda row: bool(cited(row)), "nothing was answered", alpha=alpha),
        right=share_of(
            [one for one in citing if one[1].get("gold")],
            names_gold,
            "no answer to a case with a gold source cites anything",
            alpha=alpha,
        ),
        retrieved=share_of(
            citing,
            names_retrieved,
            "no answer cites anything",
            alpha=alpha,
        ),
    )


def _level_of(cited: Sequence[str], level: Level) -> Level:
    """Whoever cites a document without saying where in it is taken at that."""
    return level if all(PASSAGE_MARK in source for source in cited) else "document"


def _parts(value: object, retrieved: Sequence[str]) -> list[str]:
    if value is None:
        return []
    text = str(value)
    if text.strip() in retrieved:
        return [text.strip()]
    return _MARKED.findall(text) or re.split(r"[,;\n]", text)
