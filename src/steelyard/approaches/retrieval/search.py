"""Search an index of documents: full text and dense vectors, fused by rank; every passage says why it was found."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from steelyard.approaches.retrieval.metadata import Facts, Value
from steelyard.approaches.retrieval.store import Generation, IndexedDocument
from steelyard.approaches.retrieval.versions import Versions
from steelyard.models.embeddings import Embed

RANK_OFFSET = 10
"""Of reciprocal rank fusion: a leg gives its weight / (offset + rank). On real questions 10 finds more than the usual 60
(docs/decisions/0015-retrieval-index.md)."""
_KEPT_MASKS = 64

Filters = Mapping[str, Value | Sequence[Value]]
"""By metadata key the value a document must have, or values of which it must have one."""
Rerank = Callable[[str, Sequence[str]], Sequence[float]]
"""From a question and texts to one score a text, higher is better."""
Leg = Literal["full_text", "dense", "rerank"]


class Found(NamedTuple):
    """How one way of searching found a passage."""

    rank: int
    """1 is best."""
    score: float
    """BM25; cosine; or what the reranker says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """A chunk that was found."""

    id: str
    document: str
    """Id of its document."""
    title: str
    headings: tuple[str, ...]
    text: str
    n_tokens: int
    """Estimated."""
    score: float
    """Fused; only its order means something."""
    legs: Mapping[Leg, Found]
    """Why: the legs it was found by."""
    source: str
    """Path of its file."""
    facts: Facts

    def to_json(self) -> dict[str, Any]:
        """As a plain shape."""
        shape = asdict(self) | {"legs": {leg: found._asdict() for leg, found in self.legs.items()}}
        shape["facts"] |= {key: day.isoformat() for key in ("valid_from", "valid_to") if (day := shape["facts"][key])}
        return shape


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSettings:
    """How an index is searched."""

    k: int = 5
    """Passages at most."""
    tokens: int | None = None
    """Tokens of all passages together at most; one that no longer fits is left out for a smaller one."""
    full_text_weight: float = 0.5
    """Weight of full text against dense vectors, 0..1; 0 and 1 leave the other out."""
    candidates: int = 100
    """Passages each leg puts forward."""
    filters: Filters = field(default_factory=dict)
    """What documents must have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnowledgeIndex:
    """The chunks of all documents, ready to be searched."""

    generation: Generation
    versions: Versions
    study: Path
    """The study folder: a document whose file is gone is never shown."""
    embed: Embed
    document_of: NDArray[np.int32] = field(repr=False)
    """Document of each chunk, shape (n_chunks,)."""
    masks: dict[bytes, NDArray[np.bool_] | None] = field(default_factory=dict, repr=False)
    """Visible chunks by day, access and filters, of the latest such questions; `None` is all."""

    @property
    def documents(self) -> tuple[IndexedDocument, ...]:
        """All documents, in the order of their files."""
        return self.generation.documents

    @property
    def digest(self) -> str:
        """Content address: equal digests give equal answers."""
        return self.generation.manifest.digest

    @property
    def n_chunks(self) -> int:
        """Chunks of all documents together."""
        return self.generation.n_chunks

    def search(
        self,
        question: str,
        settings: SearchSettings | None = None,
        *,
        vector: NDArray[np.float32] | None = None,
        as_of: date | None = None,
        access: Sequence[str] = (),
        rerank: Rerank | None = None,
    ) -> list[Passage]:
        """The passages that answer a question best, best first.

        Args:
            question: Any text. A part without words is searched by its vector alone.
            settings: How many, of how many tokens, by which weights.
            vector: The question's embedding, shape (n_dimensions,), length 1; left out, it is embedded here.
            as_of: Day on which documents must hold; left out, the newest versions, whatever their dates.
            access: Tags of who asks: a document is shown only to who has all of its tags.
            rerank: Orders the best candidates anew; what it says decides.

        Returns:
            At most `k` passages; equally good ones in the order of the index.
        """
        settings = settings or SearchSettings()
        mask = self._mask(as_of, access, settings.filters)
        if not question.strip() or (mask is not None and not mask.any()):
            return []
        n_candidates = max(settings.candidates, settings.k)
        legs: dict[Leg, dict[int, Found]] = {}
        if settings.full_text_weight > 0:
            scores = self.generation.full_text.scores(question)
            legs["full_text"] = _best(scores, mask, n_candidates, above=0.0)
        if settings.full_text_weight < 1:
            scores = self.generation.vectors @ (self.embed.embed([question])[0] if vector is None else vector)
            legs["dense"] = _best(scores, mask, n_candidates, above=-np.inf)
        weights: dict[Leg, float] = {"full_text": settings.full_text_weight, "dense": 1 - settings.full_text_weight}
        fused: dict[int, float] = {}
        for leg, found in legs.items():
            for row, (rank, _) in found.items():
                fused[row] = fused.get(row, 0.0) + weights[leg] / (RANK_OFFSET + rank)
        order = sorted(fused, key=lambda row: (-fused[row], row))
        found_ones = (self._passage(row, fused[row], legs) for row in order)
        there = (passage for passage in found_ones if (self.study / passage.source).exists())
        return _within(there if rerank is None else _reranked(question, list(there), rerank), settings)

    def passages(self, document: str) -> list[Passage]:
        """All passages of a document in its order, for a gold context; none where there is no such document."""
        rows = (
            row for one in self.documents if one.id == document for row in range(one.first, one.first + one.n_chunks)
        )
        return [self._passage(row, 0.0, {}) for row in rows]

    def places(self, document: str) -> dict[str, int]:
        """Ids of all passages of a document, with their places in the index."""
        return {
            self.generation.chunk(row)["id"]: row
            for one in self.documents
            if one.id == document
            for row in range(one.first, one.first + one.n_chunks)
        }

    # Private

    def _mask(self, as_of: date | None, access: Sequence[str], filters: Filters) -> NDArray[np.bool_] | None:
        """Which chunks may be shown; `None` where all may."""
        key = orjson.dumps([as_of, sorted(set(access)), {name: filters[name] for name in sorted(filters)}])
        if key not in self.masks:
            held = set(access)
            shown = self.versions.holding(as_of) & np.array(
                [held.issuperset(one.facts.access) and _matches(one.facts, filters) for one in self.documents],
                dtype=bool,
            )
            while len(self.masks) >= _KEPT_MASKS:
                self.masks.pop(next(iter(self.masks)))
            self.masks[key] = None if shown.all() else shown[self.document_of]
        return self.masks[key]

    def _passage(self, row: int, score: float, legs: Mapping[Leg, Mapping[int, Found]]) -> Passage:
        document = self.documents[self.document_of[row]]
        chunk = self.generation.chunk(row)
        return Passage(
            id=chunk["id"],
            document=document.id,
            title=document.title,
            headings=tuple(chunk["headings"]),
            text=chunk["text"],
            n_tokens=chunk["n_tokens"],
            score=score,
            legs={leg: found[row] for leg, found in legs.items() if row in found},
            source=document.source,
            facts=document.facts,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Retriever:
    """An index with the settings of one approach: from the input of a case to passages."""

    index: KnowledgeIndex
    settings: SearchSettings = SearchSettings()
    fields: tuple[str, ...] = ()
    """Input fields that make up the question; left out, all."""
    rerank: Rerank | None = None
    reranker: str = ""
    """Which one it is, for the digest."""

    @property
    def digest(self) -> str:
        """Content address of documents, cutting, embedder and settings: what an approach's answers rest on."""
        body = [self.index.digest, self.settings, self.fields, self.reranker, RANK_OFFSET]
        return hashlib.blake2b(orjson.dumps(body), digest_size=16).hexdigest()

    def search(
        self, fields: Mapping[str, Any], *, as_of: date | None = None, access: Sequence[str] = ()
    ) -> list[Passage]:
        """The passages for a case, best first; see `KnowledgeIndex.search`."""
        question = question_text(fields, self.fields)
        return self.index.search(question, self.settings, as_of=as_of, access=access, rerank=self.rerank)


def question_text(fields: Mapping[str, Any], names: Sequence[str] = ()) -> str:
    """The input fields of a case as one question.

    Args:
        fields: The input fields.
        names: Only these; left out, all.
    """
    chosen = [fields[name] for name in names if name in fields] if names else list(fields.values())
    texts = (
        one if isinstance(one, str) else orjson.dumps(one, default=str).decode() for one in chosen if one is not None
    )
    return "\n".join(text for text in texts if text.strip())


# ---- private --------------------------------------------------------------------------------------------------------


def _best(scores: NDArray[np.float32], mask: NDArray[np.bool_] | None, n: int, *, above: float) -> dict[int, Found]:
    """The best rows, best first; equal ones in the order of the rows."""
    if mask is not None:
        scores = np.where(mask, scores, np.float32(-np.inf))
    if len(scores) > n:
        # All that reach the n-th best score, so that which of equals is taken does not depend on the partition.
        limit = np.partition(scores, len(scores) - n)[len(scores) - n]
        rows = np.flatnonzero((scores >= limit) & (scores > above))
    else:
        rows = np.flatnonzero(scores > above)
    rows = rows[np.argsort(-scores[rows], kind="stable")][:n]
    return {int(row): Found(rank, float(scores[row])) for rank, row in enumerate(rows, 1)}


def _matches(facts: Facts, filters: Filters) -> bool:
    for key, wanted in filters.items():
        held = facts.metadata.get(key)
        allowed = wanted if isinstance(wanted, list | tuple) else (wanted,)
        if held is None or not any(one in allowed for one in (held if isinstance(held, tuple) else (held,))):
            return False
    return True


def _reranked(question: str, passages: Sequence[Passage], rerank: Rerank) -> list[Passage]:
    if not passages:
        return []
    said = rerank(question, [f"{_heading(passage)}\n{passage.text}" for passage in passages])
    if len(said) != len(passages):
        raise ValueError(f"the reranker gave {len(said)} scores for {len(passages)} texts")
    order = sorted(range(len(passages)), key=lambda place: (-said[place], place))
    return [
        replace(passages[place], legs={**passages[place].legs, "rerank": Found(rank, float(said[place]))})
        for rank, place in enumerate(order, 1)
    ]


def _within(passages: Iterable[Passage], settings: SearchSettings) -> list[Passage]:
    found: list[Passage] = []
    left = settings.tokens
    for passage in passages:
        if len(found) >= settings.k:
            break
        if left is not None:
            if passage.n_tokens > left:
                continue
            left -= passage.n_tokens
        found.append(passage)
    return found


def _heading(passage: Passage) -> str:
    since = f" (since {passage.facts.valid_from})" if passage.facts.valid_from else ""
    return " > ".join((passage.title, *passage.headings)) + since
