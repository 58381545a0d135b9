"""Plan the next state of an index: which documents there are, which chunks stay, which are cut anew.

Every store of chunks is updated from the same plan, so all of them hold the same.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from steelyard.approaches.knowledge_spec import KnowledgeSpec
from steelyard.approaches.retrieval.chunks import CHUNKING, Chunk, chunk_document
from steelyard.approaches.retrieval.converters import CONVERTING
from steelyard.approaches.retrieval.documents import Document, FileRead, read_knowledge
from steelyard.approaches.retrieval.files import Seen
from steelyard.approaches.retrieval.history import IndexBuild
from steelyard.approaches.retrieval.store import ChunkStore, IndexedDocument, Manifest
from steelyard.approaches.retrieval.versions import Dated, Versions, number_versions
from steelyard.approaches.retrieval.words import WORDS, count_tokens
from steelyard.errors import InputError, Problem
from steelyard.models.embeddings import Embed

REBUILD = "steelyard retrieval index DIR"
"""The command that makes an index anew."""
_BATCH = 1024
"""Chunks embedded at a time: many, since only texts of one length share a call of the model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Where every document comes from in the next state of the index."""

    documents: list[IndexedDocument]
    """With their new rows."""
    kept: NDArray[np.int32]
    """New row of every old chunk, or -1, shape (n_old_chunks,)."""
    old_first: list[int | None]
    """Of each document its first row before, or `None` for a new one."""
    chunks: list[list[Chunk]]
    """Of each document its new chunks; empty for one that is kept."""


class Effort(NamedTuple):
    """What embedding took."""

    n_embedded: int = 0
    tokens: int = 0
    """Estimated."""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The next state of an index."""

    before: ChunkStore | None
    """What chunks are kept from; `None` where all are cut anew."""
    layout: Layout
    files: Mapping[str, Seen]
    """Each file as it was read, by its path."""
    versions: Versions
    manifest: Manifest
    """Its dimensions are not known yet."""
    is_same: bool
    """Whether the index is up to date as it is."""
    skipped: tuple[Problem, ...]
    """Files that could not be used, and other things to know."""

    @property
    def n_chunks(self) -> int:
        """Chunks of all documents together."""
        return sum(one.n_chunks for one in self.layout.documents)

    def build(self, old: ChunkStore | None, effort: Effort, seconds: float) -> IndexBuild:
        """What carrying it out did.

        Args:
            old: The index before, if there was one that could be used.
            effort: Of embedding.
            seconds: Of everything.
        """
        before = {one.id: one.digest for one in old.documents} if old is not None else {}
        after = {one.id: one.digest for one in self.layout.documents}
        return IndexBuild(
            is_whole=old is None,
            n_documents=len(self.layout.documents),
            n_chunks=self.n_chunks,
            n_added=len(after.keys() - before.keys()),
            n_changed=sum(before[name] != digest for name, digest in after.items() if name in before),
            n_removed=len(before.keys() - after.keys()),
            n_embedded=effort.n_embedded,
            tokens_embedded=effort.tokens,
            seconds=seconds,
            embed_seconds=effort.seconds,
            reused=self.is_same,
            skipped=self.skipped,
        )


def made_by(layout: int) -> tuple[int, ...]:
    """The versions of everything chunks depend on, `layout` that of the store; see `Manifest.versions`."""
    return (layout, WORDS, CONVERTING, CHUNKING)


def plan_update(
    spec: KnowledgeSpec, study: Path, embed: Embed, *, old: ChunkStore | None, made_with: tuple[int, ...]
) -> Plan:
    """Read the documents and compare them with an index.

    Args:
        spec: Which documents, and how they are cut.
        study: The study folder.
        embed: The embedder.
        old: The index so far.
        made_with: See `made_by`.

    Raises:
        InputError: Documents are not as they must be, or hold no text.
        MissingExtra: A document needs a converter that is not installed.
    """
    cutting = (made_with, spec.chunk_tokens, spec.overlap_tokens)
    before = old
    if old is not None and cutting != (old.manifest.versions, old.manifest.chunk_tokens, old.manifest.overlap_tokens):
        before = None
    seen = before.files if before is not None else {}
    knowledge = read_knowledge(spec, study, known=lambda source: seen.get(source))
    files = {file.source: file.seen for file in knowledge.files}
    layout = _lay_out(knowledge.files, before, spec)
    versions = number_versions([Dated(one.id, one.source, one.facts) for one in layout.documents])
    if not any(one.n_chunks for one in layout.documents):
        raise InputError(
            Problem(what="no document holds any text", where="study.yaml:knowledge.documents", hint="add some")
        )
    manifest = Manifest(
        versions=made_with,
        embedder=embed.identity,
        dimensions=0,
        chunk_tokens=spec.chunk_tokens,
        overlap_tokens=spec.overlap_tokens,
        digest=_digest([cutting, embed.identity, [one.digest for one in layout.documents]]),
    )
    return Plan(
        before=before,
        layout=layout,
        files=files,
        versions=versions,
        manifest=manifest,
        is_same=before is not None and before.manifest.digest == manifest.digest and _keys(seen) == _keys(files),
        skipped=(*knowledge.skipped, *versions.notes),
    )


class Embedding:
    """Texts of an update, embedded batch by batch, and what that took."""

    def __init__(self, texts: Sequence[str], embed: Embed, say: Callable[[str], None]) -> None:
        self._texts = texts
        self._embed = embed
        self._say = say
        self.seconds = 0.0

    def __iter__(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Each text with its vector."""
        for at in range(0, len(self._texts), _BATCH):
            self._say(f"embedding documents: {at:,} of {len(self._texts):,} chunks")
            batch = self._texts[at : at + _BATCH]
            started = time.perf_counter()
            vectors = self._embed.embed(batch)
            self.seconds += time.perf_counter() - started
            yield from zip(batch, vectors, strict=True)

    @property
    def effort(self) -> Effort:
        """What it took."""
        return Effort(len(self._texts), sum(map(count_tokens, self._texts)), self.seconds)


def check_embedder(made_with: str, embed: Embed, where: str) -> None:
    """Refuse an index of another embedder.

    Args:
        made_with: Identity of the embedder an index was made with.
        embed: The embedder.
        where: Where the index lies.

    Raises:
        InputError: They are not the same.
    """
    if made_with != embed.identity:
        raise InputError(
            Problem(
                what=f"the index was made with the embedding model {made_with!r}, and this is {embed.identity!r}",
                where=where,
                hint=f"vectors of two models cannot be compared; embed all documents anew with: {REBUILD}",
            )
        )


# ---- private --------------------------------------------------------------------------------------------------------


def _lay_out(files: Sequence[FileRead], before: ChunkStore | None, spec: KnowledgeSpec) -> Layout:
    """Give each document its rows: those that have not changed keep their chunks, all others are cut."""
    of_file: dict[str, list[IndexedDocument]] = {}
    by_id: dict[str, IndexedDocument] = {}
    for indexed in before.documents if before is not None else ():
        of_file.setdefault(indexed.source, []).append(indexed)
        by_id[indexed.id] = indexed
    layout = Layout(
        documents=[],
        kept=np.full(before.n_chunks if before is not None else 0, -1, dtype=np.int32),
        old_first=[],
        chunks=[],
    )
    first = 0
    for file in files:
        found: Sequence[IndexedDocument | Document] = (
            of_file.get(file.source, []) if file.documents is None else file.documents
        )
        for one in found:
            same = one if isinstance(one, IndexedDocument) else by_id.get(one.id)
            digest = one.digest
            chunks: list[Chunk] = []
            if same is not None and same.digest == digest:
                layout.kept[same.first : same.first + same.n_chunks] = np.arange(first, first + same.n_chunks)
                layout.old_first.append(same.first)
                layout.documents.append(replace(same, first=first))
            else:
                assert isinstance(one, Document)
                chunks = chunk_document(one, tokens=spec.chunk_tokens, overlap=spec.overlap_tokens)
                layout.old_first.append(None)
                layout.documents.append(
                    IndexedDocument(
                        id=one.id, title=one.title, source=one.source, facts=one.facts, digest=digest,
                        first=first, n_chunks=len(chunks),
                    )
                )  # fmt: skip
            layout.chunks.append(chunks)
            first += layout.documents[-1].n_chunks
    return layout


def _keys(files: Mapping[str, Seen]) -> dict[str, str]:
    return {source: seen.key for source, seen in files.items()}


def _digest(body: object) -> str:
    return hashlib.blake2b(orjson.dumps(body), digest_size=16).hexdigest()
