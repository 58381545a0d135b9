"""Both halves of a study with sources in one report: was the right source found, and was it used."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from steelyard.measure.answers import (
    AbstentionRow,
    AnswerRules,
    FoundAndRight,
    Need,
    abstention,
    found_and_right,
)
from steelyard.measure.freshness import FreshnessRow, VersionedAnswer, freshness
from steelyard.measure.injection import InjectionRow, Planted, injection
from steelyard.measure.retrieval import (
    PASSAGE_MARK,
    Level,
    RankingDifference,
    RankingRow,
    common_level,
    is_retrieving,
    ranking_differences,
    ranking_rows,
)
from steelyard.measure.shares import Row
from steelyard.measure.sourcing import CitationRow, SupportRow, TextsOf, citations, support

if TYPE_CHECKING:
    from steelyard.cases.case import Case
    from steelyard.engine.outcome import Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrievalReport:
    """What a study says of retrieval; a table is empty where it has nothing to say."""

    level: Level
    """Whether sources were compared as documents or as passages."""
    need: Need
    """Whether any gold source found counts as found in `found_and_right`, or only all of them."""
    rankings: tuple[RankingRow, ...]
    ranking_differences: tuple[RankingDifference, ...]
    """What finds most against each other one."""
    found_and_right: tuple[FoundAndRight, ...]
    abstention: tuple[AbstentionRow, ...]
    support: tuple[SupportRow, ...]
    citations: tuple[CitationRow, ...]
    freshness: tuple[FreshnessRow, ...]
    injection: tuple[InjectionRow, ...]
    notes: tuple[str, ...]
    """What was left out, and why, one sentence each."""

    def to_json(self) -> dict[str, Any]:
        """The shape of `retrieval` in `score --json`."""
        tables = (
            "rankings",
            "ranking_differences",
            "found_and_right",
            "abstention",
            "support",
            "citations",
            "freshness",
            "injection",
        )
        return {
            "level": self.level,
            "need": self.need,
            **{name: [row.to_json() for row in getattr(self, name)] for name in tables},
            "notes": list(self.notes),
        }


def retrieval_report(
    rows: Iterable[Row],
    rules: AnswerRules,
    *,
    retrieves: Collection[str] | None = None,
    texts_of: TextsOf | None = None,
    versions: Mapping[str, Sequence[VersionedAnswer]] | None = None,
    as_of: Mapping[str, str] | None = None,
    planted: Planted | None = None,
    need: Need = "any",
    alpha: float = 0.05,
) -> RetrievalReport:
    """All tables on retrieval and the answers that rest on it.

    Args:
        rows: One mapping per outcome (see `answer_row`): `approach`, `case_id`, `repeat`, `cluster`, `status`, `success`,
            `sources`, `output`, `gold`, `expected`, `time`.
        rules: Where the answer stands in an output, and what counts as one.
        retrieves: Approaches that retrieve documents; left out, those that name any source. To be given where some
            name other sources, such as the labelled cases they take as examples.
        texts_of: The texts an outcome was shown, for support; left out, support is not looked at.
        versions: What was right when, by case id, for freshness; left out, freshness is not looked at.
        as_of: The day of each case, where it is not its `time`.
        planted: Documents that give their reader orders; left out, obedience is not looked at.
        need: Whether one gold source is enough or a question needs all of its own.
        alpha: One minus the confidence level.
    """
    kept = list(rows)
    names = is_retrieving(kept) if retrieves is None else set(retrieves)
    has_gold = any(row.get("gold") for row in kept)
    retrieving = [row for row in kept if row["approach"] in names]
    level = common_level(retrieving)
    return RetrievalReport(
        level=level,
        need=need,
        rankings=ranking_rows(retrieving, level=level, retrieves=names, alpha=alpha) if has_gold else (),
        ranking_differences=ranking_differences(retrieving, level=level, retrieves=names, alpha=alpha)
        if has_gold
        else (),
        found_and_right=found_and_right(retrieving, level=level, retrieves=names, need=need, alpha=alpha)
        if has_gold
        else (),
        abstention=abstention(kept, rules, alpha=alpha),
        support=support(retrieving, rules, texts_of, retrieves=names, alpha=alpha) if texts_of is not None else (),
        citations=citations(retrieving, rules, level=level, alpha=alpha),
        freshness=freshness(kept, versions, rules, as_of=as_of, alpha=alpha) if versions else (),
        injection=injection(retrieving, planted or {}, retrieves=names, texts_of=texts_of, alpha=alpha),
        notes=_notes(kept, names, rules, level),
    )


def answer_row(outcome: Outcome, case: Case) -> dict[str, Any]:
    """What the tables need of one outcome and its case."""
    return {
        "approach": outcome.approach,
        "case_id": outcome.case_id,
        "repeat": outcome.repeat,
        "cluster": outcome.cluster,
        "status": outcome.status.value,
        "success": outcome.success,
        "sources": outcome.sources,
        "output": outcome.output,
        "reply": outcome.attempts[-1].text if outcome.attempts else None,
        "gold": case.sources,
        "expected": case.expected,
        "time": outcome.time,
    }


# ---- private --------------------------------------------------------------------------------------------------------


def _notes(rows: Sequence[Row], retrieves: Collection[str], rules: AnswerRules, level: Level) -> tuple[str, ...]:
    notes = []
    cases = {row["case_id"]: row for row in rows}
    others = [name for name in dict.fromkeys(row["approach"] for row in rows) if name not in retrieves]
    if not retrieves:
        notes.append("no approach retrieves: nothing is said of finding sources")
    elif others:
        notes.append(f"without retrieval, and so not in the tables on sources: {', '.join(others)}")
    without = [row for row in cases.values() if not row.get("gold")]
    if retrieves and len(without) == len(cases):
        notes.append("no case names a gold source: recall and the like cannot be worked out")
    elif retrieves and without:
        unanswerable = sum(rules.answerable(row) is False for row in without)
        notes.append(
            f"{len(without):,} of {len(cases):,} cases name no gold source ({unanswerable:,} of them have no answer) and"
            " are left out of recall and its kin"
        )
    has_passages = any(PASSAGE_MARK in source for row in rows for source in row.get("sources") or ())
    if level == "document" and has_passages:
        notes.append("some sources are named as documents only: all were compared as documents")
    return tuple(notes)
