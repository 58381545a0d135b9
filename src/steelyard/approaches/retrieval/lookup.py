"""From a case to the passages that are found for it: what is searched for, the search, fusion, and reranking.

A look-up may ask models: to write search queries, for the vectors of what is searched for, and to rerank. All of it goes
through the engine's door, each as a planned call. Where such a call fails the look-up goes on without it and says so:
the question alone is searched, by full text alone, in the order of the search.

Reranking on this machine and searching a database are done one at a time in a thread (`own_work`): other cases go on, and
none is measured as slow for having waited. An index in files is searched where the case is: that takes milliseconds.

What a model wrote is searched for and nothing else: like the question itself it may be hostile text, and it never becomes
a filter, an access tag or a date.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from typing import Any, NamedTuple

import orjson

from steelyard.approaches.approach import Ask
from steelyard.approaches.own_work import in_turn
from steelyard.approaches.retrieval.document_index import DocumentIndex
from steelyard.approaches.retrieval.queries import MAX_SEARCHES, QueryWriter, as_queries
from steelyard.approaches.retrieval.remote_embeddings import RemoteEmbedder
from steelyard.approaches.retrieval.rerank import LateInteraction, read_text, reordered
from steelyard.approaches.retrieval.search import (
    RANK_OFFSET,
    Found,
    Leg,
    Passage,
    SearchSettings,
    question_text,
    within,
)
from steelyard.cases.case import CaseInput
from steelyard.errors import InputError, Problem
from steelyard.models.calls import AttemptStatus
from steelyard.models.embeddings import Vectors
from steelyard.models.operations import embed_request, rerank_request, scores_of, vectors_of

StepField = tuple[str, str]
"""A step of the workflow and a field of what it gives."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointRerank:
    """A reranker behind an endpoint of the study."""

    endpoint: str
    model: str
    """Which model it is, for the digest."""

    @property
    def identity(self) -> str:
        """What decides the scores."""
        return f"{self.endpoint} {self.model}"


class FoundPassages(NamedTuple):
    """What a look-up found."""

    passages: list[Passage]
    """Best first."""
    notes: tuple[str, ...] = ()
    """What it had to do without."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lookup:
    """An index with the settings of one approach."""

    index: DocumentIndex
    settings: SearchSettings = field(default_factory=SearchSettings)
    """How many passages of how many tokens are found in the end, and how each search is done."""
    fields: tuple[str, ...] = ()
    """Input fields that make up the question; left out, all."""
    steps: tuple[StepField, ...] = ()
    """Outputs of earlier steps that are searched for beside it."""
    is_question_searched: bool = True
    """Whether the question is searched itself where steps give something to search for."""
    writer: QueryWriter | None = None
    """Asks the model for search queries."""
    rerank: LateInteraction | EndpointRerank | None = None
    candidates: int = 30
    """Passages that are reranked."""

    @property
    def digest(self) -> str:
        """Content address of documents, cutting, embedder and settings: what an approach's answers rest on."""
        named = (*self.fields, *(".".join(one) for one in self.steps))
        body = [self.index.digest, self.settings, named, "", RANK_OFFSET]
        more = [
            ["steps", self.is_question_searched] if self.steps else None,
            ["queries", self.writer.n, self.writer.question.digest_parts()] if self.writer is not None else None,
            ["rerank", self.rerank.identity, self.candidates] if self.rerank is not None else None,
        ]
        body += [one for one in more if one is not None]
        return hashlib.blake2b(orjson.dumps(body), digest_size=16).hexdigest()

    async def find(
        self, case: CaseInput, ask: Ask, *, as_of: date | None = None, steps: Mapping[str, Any] | None = None
    ) -> FoundPassages:
        """Look up a case.

        Args:
            case: What is asked, and by whom.
            ask: The engine's door to models.
            as_of: Day on which documents must hold.
            steps: Outputs of earlier steps by name.
        """
        question = question_text(case.fields, self.fields)
        if not question.strip():
            return FoundPassages([])
        notes: list[str] = []
        texts = await self._texts(question, case, ask, steps, notes)
        vectors = await self._vectors(texts, ask, notes)
        search = partial(self._searched, texts, vectors, as_of, case.access)
        found = await in_turn(search) if self.index.waits else search()
        match self.rerank:
            case EndpointRerank():
                found = await self._reranked_by_endpoint(question, found, self.rerank, ask, notes)
            case LateInteraction():
                found = await in_turn(partial(self._reranked_here, question, found, self.rerank))
        return FoundPassages(self._wanted(found), tuple(notes))

    def find_without_asking(self, case: CaseInput, *, as_of: date | None = None) -> list[Passage]:
        """Look up a case where no engine is, as for training.

        Vectors of a remote embedder are paid for by itself; nothing else may have to be asked.

        Raises:
            InputError: Queries or a reranking would have to be asked for.
        """
        asked = {"queries": self.writer is not None, "rerank": isinstance(self.rerank, EndpointRerank)}
        if needed := [f"retrieval.knowledge.{option}" for option, is_asked in asked.items() if is_asked]:
            raise InputError(
                Problem(
                    what="passages for training are looked up before a run, when no model can be asked for them",
                    where=" and ".join(needed),
                    hint="leave it out of an approach that is tuned, or rerank by late_interaction",
                )
            )
        question = question_text(case.fields, self.fields)
        if not question.strip():
            return []
        vectors: list[Vectors | None] = [None]
        found = self._searched([question], vectors, as_of, case.access)
        if isinstance(self.rerank, LateInteraction):
            found = self._reranked_here(question, found, self.rerank)
        return self._wanted(found)

    # Private

    async def _texts(
        self, question: str, case: CaseInput, ask: Ask, steps: Mapping[str, Any] | None, notes: list[str]
    ) -> list[str]:
        """What is searched for: the question, what steps gave, what the model wrote."""
        queries: list[str] = []
        for step, name in self.steps:
            given = as_queries(((steps or {}).get(step) or {}).get(name))
            queries += given
            if not given:
                notes.append(f"{step}.{name} gave nothing to search for")
        if self.writer is not None:
            written = await self.writer.write(case, ask)
            queries += written.queries
            notes += written.notes
        texts = [question] if self.is_question_searched or not queries else []
        return _distinct([*texts, *queries])[:MAX_SEARCHES]

    async def _vectors(self, texts: Sequence[str], ask: Ask, notes: list[str]) -> list[Vectors | None] | None:
        """A vector a text; `None` for each that the index embeds itself, and for all where there can be none."""
        embed = self.index.embed
        if not isinstance(embed, RemoteEmbedder) or self.settings.full_text_weight >= 1:
            return [None] * len(texts)
        attempt = await ask(embed_request(embed.endpoint, texts), step="embed")
        try:
            if attempt.status is not AttemptStatus.ANSWERED:
                raise ValueError(attempt.error or attempt.status.value)
            vectors = vectors_of(attempt.text)
            if vectors.shape != (wanted := (len(texts), embed.dimensions)):
                raise ValueError("{} vectors of {} numbers".format(*vectors.shape) + ", not {} of {}".format(*wanted))
        except ValueError as error:
            notes.append(f"the question was not embedded ({error}); passages were searched by full text alone")
            return None
        return list(vectors)

    def _searched(
        self, texts: Sequence[str], vectors: Sequence[Vectors | None] | None, as_of: date | None, access: Sequence[str]
    ) -> list[Passage]:
        """What all searches find together, best first."""
        settings = self.settings
        if self.rerank is not None or len(texts) > 1:
            settings = replace(settings, k=max(settings.k, self.candidates), tokens=None)
        if vectors is None:
            settings = replace(settings, full_text_weight=1.0)
            vectors = [None] * len(texts)
        return fused(
            [
                self.index.search(text, settings, vector=vector, as_of=as_of, access=access)
                for text, vector in zip(texts, vectors, strict=True)
            ]
        )

    async def _reranked_by_endpoint(
        self, question: str, found: list[Passage], rerank: EndpointRerank, ask: Ask, notes: list[str]
    ) -> list[Passage]:
        candidates = found[: self.candidates]
        if not candidates:
            return []
        request = rerank_request(rerank.endpoint, question, [read_text(one) for one in candidates])
        attempt = await ask(request, step="rerank")
        try:
            if attempt.status is not AttemptStatus.ANSWERED:
                raise ValueError(attempt.error or attempt.status.value)
            return reordered(candidates, scores_of(attempt.text, len(candidates)))
        except ValueError as error:
            notes.append(f"passages were not reranked ({error}); they stand as the search found them")
            return candidates

    def _reranked_here(self, question: str, found: list[Passage], rerank: LateInteraction) -> list[Passage]:
        candidates = found[: self.candidates]
        return reordered(candidates, rerank(question, [read_text(one) for one in candidates]))

    def _wanted(self, found: list[Passage]) -> list[Passage]:
        return within(found, k=self.settings.k, tokens=self.settings.tokens)


def fused(searches: Sequence[Sequence[Passage]]) -> list[Passage]:
    """One list of what several searches found, by reciprocal rank; a passage keeps the best rank each leg gave it."""
    if len(searches) == 1:
        return list(searches[0])
    scores: dict[str, float] = {}
    passages: dict[str, Passage] = {}
    for found in searches:
        for rank, passage in enumerate(found, 1):
            scores[passage.id] = scores.get(passage.id, 0.0) + 1 / (RANK_OFFSET + rank)
            known = passages.get(passage.id)
            passages[passage.id] = passage if known is None else replace(known, legs=_better(known.legs, passage.legs))
    # Stable, so that of equals the one an earlier search found comes first.
    order = sorted(passages, key=lambda name: -scores[name])
    return [replace(passages[name], score=scores[name]) for name in order]


# ---- private --------------------------------------------------------------------------------------------------------


def _better(one: Mapping[Leg, Found], other: Mapping[Leg, Found]) -> dict[Leg, Found]:
    legs = dict(one)
    for leg, found in other.items():
        if leg not in legs or found.rank < legs[leg].rank:
            legs[leg] = found
    return legs


def _distinct(texts: Iterable[str]) -> list[str]:
    return list({text.casefold(): text for text in reversed(list(texts)) if text.strip()}.values())[::-1]
