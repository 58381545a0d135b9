"""Both halves of a study with documents, from what its runs wrote down: was the right source found, and was it used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steelyard.approaches.retrieval.store import Generation, open_generation
from steelyard.cases.case import Case
from steelyard.measure.answers import AnswerRules
from steelyard.measure.freshness import VersionedAnswer, versions_of_cases
from steelyard.measure.gold import GOLD_MARK, GoldPassage, passage_ranking
from steelyard.measure.injection import injection
from steelyard.measure.retrieval_report import RetrievalReport, answer_row, retrieval_report
from steelyard.measure.shares import Row
from steelyard.measure.sourcing import citations, support
from steelyard.study.file import StudyFile
from steelyard.task.spec import FieldScoring

if TYPE_CHECKING:
    from steelyard.approaches.approach import Setup
    from steelyard.engine.journal import Journal
    from steelyard.study.record import ApproachRecord


def study_retrieval(
    file: StudyFile, approaches: Mapping[str, ApproachRecord], setups: Mapping[str, Setup | None], journal: Journal
) -> RetrievalReport | None:
    """The tables of a study with documents; `None` for one without.

    Passages are compared where the cases name them and the index still is what it was when an approach ran; else the
    documents they stand in.

    Args:
        file: The settings in force.
        approaches: As the last runs left them.
        setups: What preparing them took.
        journal: With outcomes and cases.
    """
    readers = [name for name, one in approaches.items() if one.knowledge is not None]
    if file.knowledge is None or not readers:
        return None
    rules = answer_rules(file)
    kept = journal.cases()
    cases = {
        case_id: Case(id=case_id, input=one["input"], expected=one["expected"], sources=tuple(one.get("sources", ())))
        for case_id, one in kept.items()
    }
    fingerprints = {name: one.fingerprint for name, one in approaches.items()}
    rows = [
        answer_row(outcome, cases[outcome.case_id])
        for outcome in journal.outcomes(fingerprints, split="test")
        if outcome.case_id in cases
    ]
    order = {name: place for place, name in enumerate(approaches)}
    rows.sort(key=lambda row: order[row["approach"]])
    index = {name: _texts(journal.path.parent / "index", setups.get(name)) for name in readers}
    passages = {
        case_id: tuple(GoldPassage(source=one["source"], text=one["text"]) for one in body.get("passages", ()))
        for case_id, body in kept.items()
    }
    read = [row for row in rows if row["approach"] in index]
    # Without the text of what was found, or of what should be, only documents can be compared.
    by_passage = all(index.values()) and all(passages[row["case_id"]] for row in read if row["gold"])
    report = retrieval_report(
        [_by_passage(row, passages, index) for row in rows] if by_passage else rows,
        replace(rules, citations=None),
        retrieves=readers,
        versions={
            case_id: tuple(VersionedAnswer(valid_from=day, expected=expected) for day, expected in body["versions"])
            for case_id, body in kept.items()
            if "versions" in body
        },
    )

    def texts_of(row: Row) -> list[str | None]:
        return _shown(row, passages[row["case_id"]], index[row["approach"]])

    lost = [name for name in readers if index[name] is None]
    legible = [name for name in readers if name not in lost or approaches[name].is_ceiling]
    return replace(
        report,
        support=support(read, rules, texts_of, retrieves=legible),
        citations=citations(read, rules, level="document"),
        injection=injection(read, planted_orders(file), retrieves=readers, texts_of=texts_of),
        notes=(*report.notes, *([_gone(lost)] if lost else [])),
    )


def answer_rules(file: StudyFile) -> AnswerRules:
    """Where the answer stands in an output: in the first expected field."""
    name = file.task.expected[0]
    kind = "exact" if file.task.scorer == "exact" else "normalised"
    scoring = (file.task.scoring or {}).get(name)
    return AnswerRules(
        field=name,
        scoring=scoring if scoring is not None else FieldScoring.model_validate({"kind": kind}),
        citations=file.task.citations,
    )


def planted_orders(file: StudyFile) -> dict[str, tuple[str, ...]]:
    """The documents that give orders, each with the texts of an answer which obeys."""
    return {
        document: (wanted,) if isinstance(wanted, str) else tuple(wanted)
        for document, wanted in file.task.injections.items()
    }


def answers_by_day(file: StudyFile, cases: Sequence[Case]) -> dict[str, list[tuple[str, Any]]]:
    """By case id what was right when, as the journal keeps it; from all cases, since those that run may be a sample."""
    found = versions_of_cases(cases, field=file.task.expected[0])
    return {case_id: [(one.valid_from, one.expected) for one in answers] for case_id, answers in found.items()}


# ---- private --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Texts:
    """The passages of an index by id."""

    generation: Generation
    read: dict[str, dict[str, str]] = field(default_factory=dict)
    """By document, those looked at so far."""

    def of(self, passage: str) -> str | None:
        """The text of a passage."""
        document = passage.partition("#")[0]
        if document not in self.read:
            rows = (
                self.generation.chunk(row)
                for one in self.generation.documents
                if one.id == document
                for row in range(one.first, one.first + one.n_chunks)
            )
            self.read[document] = {chunk["id"]: chunk["text"] for chunk in rows}
        return self.read[document].get(passage)


def _texts(folder: Path, setup: Setup | None) -> _Texts | None:
    """What an approach read, where the index still holds it."""
    card = ((setup.card or {}).get("knowledge") if setup is not None else None) or {}
    if "folder" not in card:
        return None
    try:
        generation = open_generation(folder / card["folder"])
    except ValueError:  # damaged, or made by another version: as good as gone
        return None
    if generation is None or generation.manifest.digest != card["digest"]:
        return None
    return _Texts(generation=generation)


def _shown(row: Row, gold: Sequence[GoldPassage], texts: _Texts | None) -> list[str | None]:
    """The texts an outcome was shown: gold passages as the case has them, others as the index still has them."""
    found = []
    for source in row["sources"]:
        place = source.partition(GOLD_MARK)[2]
        if place:
            found.append(gold[int(place)].text if int(place) < len(gold) else None)
        else:
            found.append(texts.of(source) if texts is not None else None)
    return found


def _gone(lost: Sequence[str]) -> str:
    return (
        f"the documents have changed since {', '.join(lost)} ran: passages are not compared, and whether answers are"
        " supported is not known"
    )


def _by_passage(
    row: dict[str, Any], passages: Mapping[str, Sequence[GoldPassage]], index: Mapping[str, _Texts | None]
) -> dict[str, Any]:
    texts = index.get(row["approach"])
    if texts is None or not row["gold"]:
        return row
    found = passage_ranking(row["sources"], passages[row["case_id"]], texts.of)
    return row | {"sources": found.sources, "gold": found.gold}
