"""The documents of a study: build their index, question it, and say what both did."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steelyard.approaches.knowledge_spec import KnowledgeSpec, KnowledgeUse
from steelyard.approaches.retrieval.building import build_index, open_index
from steelyard.approaches.retrieval.context import index_folder
from steelyard.approaches.retrieval.history import IndexBuild, Upkeep, read_upkeep
from steelyard.approaches.retrieval.search import Leg, Passage, SearchSettings
from steelyard.errors import InputError, Problem
from steelyard.study.embedding import embedding_documents
from steelyard.study.reranking import rerank_passages
from steelyard.study.talk import Talk

if TYPE_CHECKING:
    from steelyard.models.embeddings import Embed
    from steelyard.study.study import Study

_SHOWN = 400
"""Characters of a passage on the terminal."""
_LEGS: dict[Leg, str] = {"full_text": "full text", "dense": "dense", "rerank": "reranker"}
_CANDIDATES = KnowledgeUse().candidates
"""Passages that are reranked, as approaches do unless they say otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Indexed:
    """What `steelyard retrieval index` did."""

    build: IndexBuild
    upkeep: Upkeep | None
    folder: Path

    def to_json(self) -> dict[str, Any]:
        """The shape `steelyard.retrieval-index/1`."""
        upkeep = None
        if self.upkeep is not None:
            upkeep = asdict(self.upkeep) | {"churn_per_month": self.upkeep.churn_per_month}
        build = asdict(self.build) | {"skipped": [asdict(problem) for problem in self.build.skipped]}
        return {"schema": "steelyard.retrieval-index/1", **build, "upkeep": upkeep}

    def __str__(self) -> str:
        build = self.build
        lines = [f"{build.n_documents:,} documents in {build.n_chunks:,} chunks"]
        if build.reused:
            lines.append("nothing has changed since the index was made")
        else:
            changes = f"{build.n_added:,} added, {build.n_changed:,} changed, {build.n_removed:,} removed"
            effort = f"{build.n_embedded:,} chunks (about {build.tokens_embedded:,} tokens) embedded"
            lines += [changes, f"{effort} in {build.embed_seconds:.1f} s of {build.seconds:.1f} s"]
        if self.upkeep is not None and (churn := self.upkeep.churn_per_month) is not None:
            lines.append(f"measured over {self.upkeep.days:.0f} days: {churn:.1%} of the documents change in a month")
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True, slots=True)
class Searched:
    """What a question found."""

    question: str
    as_of: date | None
    passages: tuple[Passage, ...]
    unseen: Mapping[str, int] = field(default_factory=dict)
    """By access tag that was not given: documents that ask for it, and so were not searched."""

    def to_json(self) -> dict[str, Any]:
        """The shape `steelyard.retrieval-search/1`."""
        return {
            "schema": "steelyard.retrieval-search/1",
            "question": self.question,
            "as_of": self.as_of.isoformat() if self.as_of is not None else None,
            "passages": [passage.to_json() for passage in self.passages],
            "unseen": dict(self.unseen),
        }

    @property
    def access_note(self) -> str | None:
        """Which documents were not searched because of who asks; `None` where all were."""
        if not self.unseen:
            return None
        tags = ", ".join(f"{tag!r} ({n:,})" for tag, n in self.unseen.items())
        return f"documents were not searched that ask for access tags which were not given: {tags}"

    def __str__(self) -> str:
        if not self.passages:
            return "nothing was found"
        return "\n\n".join(_shown(number, one) for number, one in enumerate(self.passages, 1))


def index_documents(study: Study, *, progress: bool = True, embed: Embed | None = None) -> Indexed:
    """Build the index, or bring it up to date; one that cannot be used any more is made anew.

    Args:
        study: A study with `knowledge:`.
        progress: Show progress on standard error.
        embed: The embedder; left out, that of the study.

    Raises:
        InputError: There is no `knowledge:`, or documents are not as they must be.
        StorageFailed: The index cannot be written.
    """
    spec = knowledge_of(study)
    say = Talk(sys.stderr if progress else None)
    folder = index_folder(study.folder, spec)
    with nullcontext(embed) if embed is not None else embedding_documents(study, say) as embedder:
        _, build = build_index(spec, study.folder, folder=folder, embed=embedder, say=say, rebuild=True)
    say.end()
    return Indexed(build=build, upkeep=read_upkeep(folder), folder=folder)


def search_documents(
    study: Study,
    question: str,
    *,
    as_of: date | None = None,
    k: int | None = None,
    access: Sequence[str] = (),
    rerank: str | None = None,
    embed: Embed | None = None,
) -> Searched:
    """What a question finds in the index as it is, and why.

    Args:
        study: A study whose documents were indexed.
        question: Any text.
        as_of: Day on which documents must hold; left out, their newest versions.
        k: Passages at most.
        access: Tags of who asks.
        rerank: Orders the best candidates anew; `late_interaction`, or an endpoint of the study that is paid for it.
        embed: The embedder; left out, that of the study.

    Raises:
        InputError: There is no index, it was made with another embedder, or there is no such reranker.
        RunStopped: The reranker cannot be paid for, or does not answer.
    """
    spec = knowledge_of(study)
    settings = SearchSettings() if k is None else replace(SearchSettings(), k=k)
    if rerank is not None:
        settings = replace(settings, k=max(settings.k, _CANDIDATES))
    with nullcontext(embed) if embed is not None else embedding_documents(study, Talk(None)) as embedder:
        index = open_index(spec, study.folder, folder=index_folder(study.folder, spec), embed=embedder)
        found = index.search(question, settings, as_of=as_of, access=access)
    if rerank is not None:
        found = rerank_passages(study, rerank, question, found)[: k or SearchSettings().k]
    missing = Counter(tag for one in index.documents for tag in one.facts.access if tag not in access)
    return Searched(question=question, as_of=as_of, passages=tuple(found), unseen=dict(sorted(missing.items())))


def knowledge_of(study: Study) -> KnowledgeSpec:
    """Which documents a study names.

    Raises:
        InputError: It names none.
    """
    if study.file.knowledge is None:
        raise InputError(
            Problem(
                what="the study names no documents",
                where=f"{study.folder / 'study.yaml'}:knowledge",
                hint="name a folder inside the study folder, for example: knowledge: docs",
            )
        )
    return study.file.knowledge


# Private


def _shown(number: int, passage: Passage) -> str:
    heading = " > ".join((passage.title, *passage.headings))
    dates = [
        f"{word} {day}" for word, day in (("from", passage.facts.valid_from), ("to", passage.facts.valid_to)) if day
    ]
    legs = [f"{_LEGS[leg]} rank {found.rank} ({found.score:.3f})" for leg, found in passage.legs.items()]
    text = " ".join(passage.text.split())
    return "\n".join(
        [
            f"{number}. {heading}" + (f" ({', '.join(dates)})" if dates else ""),
            f"   {passage.id}",
            f"   score {passage.score:.4f}: {', '.join(legs)}",
            f"   {text[:_SHOWN]}" + (" …" if len(text) > _SHOWN else ""),
        ]
    )
