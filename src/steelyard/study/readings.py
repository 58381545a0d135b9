"""What approaches read and answered, put together again from the journal and the index of the documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from steelyard.approaches.knowledge_spec import KnowledgeSpec
from steelyard.approaches.retrieval.building import stored_chunks
from steelyard.approaches.retrieval.store import ChunkStore
from steelyard.cases.case import Case
from steelyard.measure.answers import AnswerRules
from steelyard.measure.gold import GOLD_MARK, GoldPassage, passage_ranking
from steelyard.measure.retrieval_report import answer_row
from steelyard.measure.shares import Row
from steelyard.study.file import StudyFile
from steelyard.task.spec import FieldScoring

if TYPE_CHECKING:
    from steelyard.approaches.approach import Setup
    from steelyard.engine.journal import Journal
    from steelyard.study.record import ApproachRecord


Lost = Literal["changed", "unreadable"]
"""Why texts are not known: the documents have changed, or the index is gone, damaged or out of reach."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Readings:
    """The outcomes of a study with documents, with the texts they rest on."""

    rows: list[dict[str, Any]]
    """All outcomes of the test split, by approach (see `answer_row`)."""
    readers: tuple[str, ...]
    """Approaches that read documents."""
    kept: Mapping[str, Mapping[str, Any]]
    """What the journal keeps of each case."""
    gold: Mapping[str, tuple[GoldPassage, ...]]
    """By case id."""
    index: Mapping[str, Texts | Lost]
    """By reader: the texts it was shown, or why they are not known."""

    @property
    def read(self) -> list[dict[str, Any]]:
        """The outcomes of readers."""
        return [row for row in self.rows if row["approach"] in self.readers]

    @property
    def lost(self) -> dict[str, Lost]:
        """Readers whose texts are not known, and why."""
        return {name: texts for name, texts in self.index.items() if not isinstance(texts, Texts)}

    def texts_of(self, row: Row) -> list[str | None]:
        """The texts an outcome was shown: gold passages as the case has them, others as the index still has them."""
        gold, texts = self.gold[row["case_id"]], self.index[row["approach"]]
        found: list[str | None] = []
        for source in row["sources"]:
            place = source.partition(GOLD_MARK)[2]
            if place:
                found.append(gold[int(place)].text if int(place) < len(gold) else None)
            else:
                found.append(texts.of(source) if isinstance(texts, Texts) else None)
        return found

    def by_passage(self) -> list[dict[str, Any]] | None:
        """The outcomes with rankings of passages; `None` where a text that was found, or should be, is not known."""
        if self.lost or not all(self.gold[row["case_id"]] for row in self.read if row["gold"]):
            return None
        return [self._as_passages(row) for row in self.rows]

    def _as_passages(self, row: dict[str, Any]) -> dict[str, Any]:
        texts = self.index.get(row["approach"])
        if not isinstance(texts, Texts) or not row["gold"]:
            return row
        found = passage_ranking(row["sources"], self.gold[row["case_id"]], texts.of)
        return row | {"sources": found.sources, "gold": found.gold}


@dataclass(frozen=True, kw_only=True, slots=True)
class Texts:
    """The passages of an index by id."""

    chunks: ChunkStore
    read: dict[str, dict[str, str]] = field(default_factory=dict)
    """By document, those looked at so far."""

    def of(self, passage: str) -> str | None:
        """The text of a passage."""
        document = passage.partition("#")[0]
        if document not in self.read:
            rows = [
                row
                for one in self.chunks.documents
                if one.id == document
                for row in range(one.first, one.first + one.n_chunks)
            ]
            self.read[document] = {chunk["id"]: chunk["text"] for chunk in self.chunks.chunks(rows)}
        return self.read[document].get(passage)


def readings(
    file: StudyFile, approaches: Mapping[str, ApproachRecord], setups: Mapping[str, Setup | None], journal: Journal
) -> Readings | None:
    """What a study with documents read and answered; `None` for one without.

    Args:
        file: The settings in force.
        approaches: As the last runs left them.
        setups: What preparing them took.
        journal: With outcomes and cases.
    """
    readers = tuple(name for name, one in approaches.items() if one.knowledge is not None)
    if file.knowledge is None or not readers:
        return None
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
    state = journal.path.parent
    return Readings(
        rows=rows,
        readers=readers,
        kept=kept,
        gold={
            case_id: tuple(GoldPassage(source=one["source"], text=one["text"]) for one in body.get("passages", ()))
            for case_id, body in kept.items()
        },
        index={name: _texts(file.knowledge, state, setups.get(name)) for name in readers},
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


# ---- private --------------------------------------------------------------------------------------------------------


def _texts(spec: KnowledgeSpec, state: Path, setup: Setup | None) -> Texts | Lost:
    """What an approach read, where the index still holds it."""
    card = ((setup.card or {}).get("knowledge") if setup is not None else None) or {}
    chunks = stored_chunks(spec, state.parent, folder=state / "index" / card["folder"]) if "folder" in card else None
    if chunks is None:
        return "unreadable"
    return Texts(chunks=chunks) if chunks.manifest.digest == card["digest"] else "changed"
