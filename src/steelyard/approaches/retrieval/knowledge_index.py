"""Build the index of a study's documents, and keep it up to date: only what changed is converted, cut and embedded."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from steelyard.approaches.knowledge_spec import KnowledgeSpec
from steelyard.approaches.retrieval.chunks import CHUNKING, Chunk, chunk_document
from steelyard.approaches.retrieval.converters import CONVERTING
from steelyard.approaches.retrieval.documents import Document, FileRead, read_knowledge
from steelyard.approaches.retrieval.files import Seen
from steelyard.approaches.retrieval.fulltext import merge_full_text, save_full_text
from steelyard.approaches.retrieval.history import IndexBuild, record_build
from steelyard.approaches.retrieval.search import KnowledgeIndex
from steelyard.approaches.retrieval.store import (
    FORMAT,
    Generation,
    IndexedDocument,
    Manifest,
    chunk_line,
    index_lock,
    open_generation,
    write_chunks,
    write_facts,
    writing,
)
from steelyard.approaches.retrieval.versions import Dated, Versions, number_versions
from steelyard.approaches.retrieval.words import WORDS, count_tokens
from steelyard.errors import InputError, Problem
from steelyard.models.embeddings import Embed

_VERSIONS = (FORMAT, WORDS, CONVERTING, CHUNKING)
_BATCH = 1024
"""Chunks embedded at a time: many, since only texts of one length share a call of the model."""
_REBUILD = "steelyard retrieval index DIR"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layout:
    """Where every document comes from in the next generation."""

    documents: list[IndexedDocument]
    """With their new rows."""
    kept: NDArray[np.int32]
    """New row of every old chunk, or -1."""
    old_first: list[int | None]
    """Of each document its first row in the old generation, or `None` for a new one."""
    chunks: list[list[Chunk]]
    """Of each document its new chunks; empty for one that is kept."""


def build_knowledge_index(
    spec: KnowledgeSpec,
    study: Path,
    *,
    folder: Path,
    embed: Embed,
    say: Callable[[str], None],
    rebuild: bool = False,
) -> tuple[KnowledgeIndex, IndexBuild]:
    """Bring the index up to date with the documents, and open it.

    Args:
        spec: Which documents, and how they are cut.
        study: The study folder.
        folder: Where the index is kept.
        embed: The embedder.
        say: Shows one line of progress.
        rebuild: Make an index anew that is damaged or was made with another embedder.

    Returns:
        The index, and what was done to it.

    Raises:
        InputError: Documents are not as they must be, or the index there was made with another embedder.
        MissingExtra: A document needs a converter that is not installed.
        StorageFailed: The index cannot be written; the old one still serves.
        StudyLocked: Another process builds it.
    """
    started = time.perf_counter()
    with index_lock(folder):
        old = _old(folder, embed, rebuild=rebuild)
        cutting = (_VERSIONS, spec.chunk_tokens, spec.overlap_tokens)
        is_cut_so = old is not None and cutting == (
            old.manifest.versions,
            old.manifest.chunk_tokens,
            old.manifest.overlap_tokens,
        )
        before = old if is_cut_so else None
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
            versions=_VERSIONS,
            embedder=embed.identity,
            dimensions=0,
            chunk_tokens=spec.chunk_tokens,
            overlap_tokens=spec.overlap_tokens,
            digest=_digest([cutting, embed.identity, [one.digest for one in layout.documents]]),
        )
        is_same = (
            before is not None and before.manifest.digest == manifest.digest and _keys(before.files) == _keys(files)
        )
        n_embedded = tokens = 0
        embed_seconds = 0.0
        if not is_same:
            with writing(folder) as part:
                vectors = _Vectors(part, layout, old, embed, say)
                n_embedded, tokens, embed_seconds = vectors.write()
                _write(part, layout, before, replace(manifest, dimensions=vectors.dimensions), files)
        generation = before if is_same else open_generation(folder)
        assert generation is not None
        build = IndexBuild(
            is_whole=old is None,
            n_documents=len(generation.documents),
            n_chunks=generation.n_chunks,
            **_changes(old.documents if old is not None else (), layout.documents),
            n_embedded=n_embedded,
            tokens_embedded=tokens,
            seconds=time.perf_counter() - started,
            embed_seconds=embed_seconds,
            reused=is_same,
            skipped=(*knowledge.skipped, *versions.notes),
        )
        record_build(folder, build, at=datetime.now(UTC))
    return _index(generation, versions, study, embed), build


def open_knowledge_index(study: Path, *, folder: Path, embed: Embed) -> KnowledgeIndex:
    """Open an index as it is.

    Args:
        study: The study folder.
        folder: Where the index is kept.
        embed: The embedder.

    Raises:
        InputError: There is none, it is damaged, or it was made with another embedder or by another version.
    """
    generation = _old(folder, embed, rebuild=False)
    if generation is None or generation.manifest.versions != _VERSIONS:
        what = "there is no index yet" if generation is None else "the index was made by another version of Steelyard"
        raise InputError(Problem(what=what, where=str(folder), hint=f"make it with: {_REBUILD}"))
    versions = number_versions([Dated(one.id, one.source, one.facts) for one in generation.documents])
    return _index(generation, versions, study, embed)


# ---- private --------------------------------------------------------------------------------------------------------


def _old(folder: Path, embed: Embed, *, rebuild: bool) -> Generation | None:
    """What lies there; with `rebuild` nothing that cannot be used."""
    try:
        old = open_generation(folder)
    except ValueError as error:
        if rebuild:
            return None
        hint = f"make it anew with: {_REBUILD}"
        raise InputError(Problem(what=f"the index cannot be read ({error})", where=str(folder), hint=hint)) from error
    if old is None or old.manifest.embedder == embed.identity:
        return old
    if rebuild:
        return None
    raise InputError(
        Problem(
            what=f"the index was made with the embedding model {old.manifest.embedder!r}, and this is {embed.identity!r}",
            where=str(folder),
            hint=f"vectors of two models cannot be compared; embed all documents anew with: {_REBUILD}",
        )
    )


def _index(generation: Generation, versions: Versions, study: Path, embed: Embed) -> KnowledgeIndex:
    counts = [one.n_chunks for one in generation.documents]
    return KnowledgeIndex(
        generation=generation,
        versions=versions,
        study=study,
        embed=embed,
        document_of=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
    )


def _lay_out(files: Sequence[FileRead], before: Generation | None, spec: KnowledgeSpec) -> _Layout:
    """Give each document its rows: those that have not changed keep their chunks, all others are cut."""
    of_file: dict[str, list[IndexedDocument]] = {}
    by_id: dict[str, IndexedDocument] = {}
    for indexed in before.documents if before is not None else ():
        of_file.setdefault(indexed.source, []).append(indexed)
        by_id[indexed.id] = indexed
    layout = _Layout(
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


def _write(part: Path, layout: _Layout, before: Generation | None, manifest: Manifest, files: dict[str, Seen]) -> None:
    """Chunks and postings: what stays is copied."""
    digests = np.zeros(sum(one.n_chunks for one in layout.documents), dtype="V16")
    new_rows: list[int] = []
    texts: list[str] = []
    for document, chunks, old_first in zip(layout.documents, layout.chunks, layout.old_first, strict=True):
        end = document.first + document.n_chunks
        if old_first is None:
            digests[document.first : end] = [bytes.fromhex(chunk.digest) for chunk in chunks]
            new_rows += range(document.first, end)
            texts += [chunk.searched for chunk in chunks]
        elif before is not None:
            digests[document.first : end] = before.digests[old_first : old_first + document.n_chunks]

    def lines() -> Iterator[bytes]:
        for document, chunks, old_first in zip(layout.documents, layout.chunks, layout.old_first, strict=True):
            if old_first is not None and before is not None:
                yield before.written(old_first, old_first + document.n_chunks)
            yield from map(chunk_line, chunks)

    write_chunks(part, lines(), digests)
    old_text = before.full_text if before is not None else None
    save_full_text(merge_full_text(old_text, layout.kept, np.array(new_rows, dtype=np.int32), texts), part)
    write_facts(part, manifest, files, layout.documents)


class _Vectors:
    """The vectors of the next generation: copied where the same text was embedded before, else embedded."""

    def __init__(
        self, part: Path, layout: _Layout, old: Generation | None, embed: Embed, say: Callable[[str], None]
    ) -> None:
        self._path = part / "vectors.npy"
        self._layout = layout
        self._old = old
        self._embed = embed
        self._say = say
        self.dimensions = old.vectors.shape[1] if old is not None else embed.embed(["a"]).shape[1]

    def write(self) -> tuple[int, int, float]:
        """Write them; returns chunks and tokens that were embedded, and the seconds this took."""
        n_chunks = sum(one.n_chunks for one in self._layout.documents)
        if n_chunks == 0:
            return 0, 0, 0.0
        out = open_memmap(self._path, mode="w+", dtype=np.float32, shape=(n_chunks, self.dimensions))
        with self._path.open("r+b") as file:  # writing is several times as fast as touching mapped pages
            for old_first, first, n in _runs(self._layout):
                assert self._old is not None
                file.seek(out.offset + first * out.strides[0])
                file.write(self._old.vectors[old_first : old_first + n].data)
        waiting = self._copy_known(out)
        texts = list(waiting)
        started = time.perf_counter()
        for at in range(0, len(texts), _BATCH):
            self._say(f"embedding documents: {at:,} of {len(texts):,} chunks")
            batch = texts[at : at + _BATCH]
            for text, vector in zip(batch, self._embed.embed(batch), strict=True):
                out[waiting[text]] = vector
        out.flush()
        seconds = time.perf_counter() - started if texts else 0.0
        return len(texts), sum(count_tokens(text) for text in texts), seconds

    def _copy_known(self, out: np.ndarray) -> dict[str, list[int]]:
        """Copy vectors of texts the old index knows; returns the other texts, each with the rows it stands in."""
        old_row = _rows_of(self._old, [chunk.digest for chunks in self._layout.chunks for chunk in chunks])
        waiting: dict[str, list[int]] = {}
        for document, chunks in zip(self._layout.documents, self._layout.chunks, strict=True):
            for row, chunk in enumerate(chunks, document.first):
                known = old_row.get(bytes.fromhex(chunk.digest))
                if known is not None and self._old is not None:
                    out[row] = self._old.vectors[known]
                else:
                    waiting.setdefault(chunk.searched, []).append(row)
        return waiting


def _keys(files: Mapping[str, Seen]) -> dict[str, str]:
    return {source: seen.key for source, seen in files.items()}


def _runs(layout: _Layout) -> Iterator[tuple[int, int, int]]:
    """Rows that stay together: first row before, first row now, how many. Copying these beats copying row by row."""
    run: tuple[int, int, int] | None = None
    for document, old_first in zip(layout.documents, layout.old_first, strict=True):
        if old_first is None:
            continue
        if run is not None and (run[0] + run[2], run[1] + run[2]) == (old_first, document.first):
            run = (run[0], run[1], run[2] + document.n_chunks)
            continue
        if run is not None:
            yield run
        run = (old_first, document.first, document.n_chunks)
    if run is not None:
        yield run


def _rows_of(old: Generation | None, digests: Sequence[str]) -> dict[bytes, int]:
    """Rows of the old index whose text has one of these digests."""
    if old is None or not digests or not old.n_chunks:
        return {}
    wanted = np.frombuffer(bytes.fromhex("".join(digests)), dtype=np.uint64)[::2]
    halves = old.digests.view(np.uint64)[::2]  # the first half picks candidates, the whole digest decides
    return {old.digests[row].tobytes(): int(row) for row in np.flatnonzero(np.isin(halves, wanted))}


def _changes(old: Sequence[IndexedDocument], new: Sequence[IndexedDocument]) -> dict[str, int]:
    before = {one.id: one.digest for one in old}
    after = {one.id: one.digest for one in new}
    return {
        "n_added": len(after.keys() - before.keys()),
        "n_changed": sum(before[name] != digest for name, digest in after.items() if name in before),
        "n_removed": len(before.keys() - after.keys()),
    }


def _digest(body: object) -> str:
    return hashlib.blake2b(orjson.dumps(body), digest_size=16).hexdigest()
