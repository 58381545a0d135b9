"""Search an index of documents: full text and dense vectors, fused by rank; every passage says why it was found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from steelyard.approaches.retrieval.metadata import Facts, Value
from steelyard.approaches.retrieval.store import ChunkStore, IndexedDocument
from steelyard.approaches.retrieval.versions import Versions
from steelyard.models.embeddings import Embed

RANK_OFFSET = 10
"""Of reciprocal rank fusion: a leg gives its weight / (offset + rank). On real questions 10 finds more than the usual 60
(docs/decisions/0015-retrieval-index.md)."""
_KEPT_MASKS = 64
_READ_AT_ONCE = 32

Filters = Mapping[str, Value | Sequence[Value]]
"""By metadata key the value a document must have, or values of which it must have one."""
Leg = Literal["full_text", "dense", "rerank"]


class Found(NamedTuple):
    """How one way of searching found a passage."""

    rank: int
    """1 is best."""
    score: float
    """BM25; cosine; or what a reranker says."""


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

    generation: ChunkStore
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

    @property
    def waits(self) -> bool:
        """Whether a search waits for a database."""
        return self.generation.waits

    def search(
        self,
        question: str,
        settings: SearchSettings | None = None,
        *,
        vector: NDArray[np.float32] | None = None,
        as_of: date | None = None,
        access: Sequence[str] = (),
    ) -> list[Passage]:
        """The passages that answer a question best, best first.

        Args:
            question: Any text. A part without words is searched by its vector alone.
            settings: How many, of how many tokens, by which weights.
            vector: The question's embedding, shape (n_dimensions,), length 1; left out, it is embedded here.
            as_of: Day on which documents must hold; left out, the newest versions, whatever their dates.
            access: Tags of who asks: a document is shown only to who has all of its tags.

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
            legs["full_text"] = _ranked(self.generation.by_words(question, mask, n_candidates))
        if settings.full_text_weight < 1:
            asked = self.embed.embed([question])[0] if vector is None else vector
            legs["dense"] = _ranked(self.generation.by_vector(asked, mask, n_candidates))
        weights: dict[Leg, float] = {"full_text": settings.full_text_weight, "dense": 1 - settings.full_text_weight}
        fused: dict[int, float] = {}
        for leg, found in legs.items():
            for row, (rank, _) in found.items():
                fused[row] = fused.get(row, 0.0) + weights[leg] / (RANK_OFFSET + rank)
        order = sorted(fused, key=lambda row: (-fused[row], row))
        found_ones = (self._passage(row, chunk, fused[row], legs) for row, chunk in self._chunks(order))
        there = (passage for passage in found_ones if (self.study / passage.source).exists())
        return within(there, k=settings.k, tokens=settings.tokens)

    def passages(self, document: str) -> list[Passage]:
        """All passages of a document in its order, for a gold context; none where there is no such document."""
        rows = (
            row for one in self.documents if one.id == document for row in range(one.first, one.first + one.n_chunks)
        )
        return [self._passage(row, chunk, 0.0, {}) for row, chunk in self._chunks(list(rows))]

    def places(self, document: str) -> dict[str, int]:
        """Ids of all passages of a document, with their places in the index."""
        rows = [
            row for one in self.documents if one.id == document for row in range(one.first, one.first + one.n_chunks)
        ]
        return {chunk["id"]: row for row, chunk in self._chunks(rows)}

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

    def _chunks(self, rows: Sequence[int]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Rows with their chunks, read some at a time, since mostly only the first are wanted."""
        for at in range(0, len(rows), _READ_AT_ONCE):
            some = rows[at : at + _READ_AT_ONCE]
            yield from zip(some, self.generation.chunks(some), strict=True)

    def _passage(
        self, row: int, chunk: Mapping[str, Any], score: float, legs: Mapping[Leg, Mapping[int, Found]]
    ) -> Passage:
        document = self.documents[self.document_of[row]]
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


def within(passages: Iterable[Passage], *, k: int, tokens: int | None) -> list[Passage]:
    """The first `k` of passages; one of more tokens than are left is passed over for a smaller one."""
    found: list[Passage] = []
    left = tokens
    for passage in passages:
        if len(found) >= k:
            break
        if left is not None:
            if passage.n_tokens > left:
                continue
            left -= passage.n_tokens
        found.append(passage)
    return found


def heading(passage: Passage) -> str:
    """Title, headings and the day since when it holds."""
    since = f" (since {passage.facts.valid_from})" if passage.facts.valid_from else ""
    return " > ".join((passage.title, *passage.headings)) + since


# ---- private --------------------------------------------------------------------------------------------------------


def _ranked(best: Sequence[tuple[int, float]]) -> dict[int, Found]:
    return {row: Found(rank, score) for rank, (row, score) in enumerate(best, 1)}


def _matches(facts: Facts, filters: Filters) -> bool:
    for key, wanted in filters.items():
        held = facts.metadata.get(key)
        allowed = wanted if isinstance(wanted, list | tuple) else (wanted,)
        if held is None or not any(one in allowed for one in (held if isinstance(held, tuple) else (held,))):
            return False
    return True
