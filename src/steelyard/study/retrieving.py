"""Both halves of a study with documents, from what its runs wrote down: was the right source found, and was it used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from steelyard.cases.case import Case
from steelyard.measure.freshness import VersionedAnswer, versions_of_cases
from steelyard.measure.injection import injection
from steelyard.measure.retrieval_report import RetrievalReport, retrieval_report
from steelyard.measure.sourcing import citations, support
from steelyard.study.file import StudyFile
from steelyard.study.readings import Lost, answer_rules, readings
from steelyard.study.support_judging import recorded_marks

if TYPE_CHECKING:
    from steelyard.approaches.approach import Setup
    from steelyard.engine.journal import Journal
    from steelyard.study.record import ApproachRecord


def study_retrieval(
    file: StudyFile,
    approaches: Mapping[str, ApproachRecord],
    setups: Mapping[str, Setup | None],
    journal: Journal,
    *,
    models: Mapping[str, str],
) -> RetrievalReport | None:
    """The tables of a study with documents; `None` for one without.

    Passages are compared where the cases name them and the index still is what it was when an approach ran; else the
    documents they stand in.

    Args:
        file: The settings in force.
        approaches: As the last runs left them.
        setups: What preparing them took.
        journal: With outcomes and cases.
        models: Identity of the model behind each endpoint.
    """
    found = readings(file, approaches, setups, journal)
    if found is None:
        return None
    rules = answer_rules(file)
    by_passage = found.by_passage()
    report = retrieval_report(
        by_passage if by_passage is not None else found.rows,
        replace(rules, citations=None),
        retrieves=found.readers,
        versions={
            case_id: tuple(VersionedAnswer(valid_from=day, expected=expected) for day, expected in body["versions"])
            for case_id, body in found.kept.items()
            if "versions" in body
        },
    )
    legible = [name for name in found.readers if name not in found.lost or approaches[name].is_ceiling]
    marks = recorded_marks(file, found, journal, models=models)
    return replace(
        report,
        support=support(found.read, rules, found.texts_of, retrieves=legible, judged=marks.verdict),
        citations=citations(found.read, rules, level="document"),
        injection=injection(found.read, planted_orders(file), retrieves=found.readers, texts_of=found.texts_of),
        notes=(*report.notes, *_gone(found.lost), *marks.notes),
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


def _gone(lost: Mapping[str, Lost]) -> list[str]:
    unknown = "passages are not compared, and whether answers are supported is not known"
    changed = [name for name, why in lost.items() if why == "changed"]
    unreadable = [name for name, why in lost.items() if why == "unreadable"]
    notes = [f"the documents have changed since {', '.join(changed)} ran: {unknown}"] if changed else []
    if unreadable:
        notes.append(f"the index that {', '.join(unreadable)} searched is gone or cannot be read here: {unknown}")
    return notes
