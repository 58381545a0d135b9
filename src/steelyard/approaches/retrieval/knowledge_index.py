"""Build the index of a study's documents, and keep it up to date: only what changed is converted, cut and embedded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from steelyard.approaches.knowledge_spec import KnowledgeSpec
from steelyard.approaches.retrieval.files import Seen
from steelyard.approaches.retrieval.fulltext import merge_full_text, save_full_text
from steelyard.approaches.retrieval.history import IndexBuild, record_build
from steelyard.approaches.retrieval.planning import (
    REBUILD,
    Effort,
    Embedding,
    Layout,
    check_embedder,
    made_by,
    plan_update,
)
from steelyard.approaches.retrieval.search import KnowledgeIndex
from steelyard.approaches.retrieval.store import (
    FORMAT,
    ChunkStore,
    Generation,
    Manifest,
    chunk_line,
    index_lock,
    open_generation,
    write_chunks,
    write_facts,
    writing,
)
from steelyard.approaches.retrieval.versions import Dated, Versions, number_versions
from steelyard.errors import InputError, Problem
from steelyard.models.embeddings import Embed

_MADE_BY = made_by(FORMAT)


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
        plan = plan_update(spec, study, embed, old=old, made_with=_MADE_BY)
        before = old if plan.before is not None else None
        effort = Effort()
        if not plan.is_same:
            with writing(folder) as part:
                vectors = _Vectors(part, plan.layout, old, embed, say)
                effort = vectors.write()
                manifest = replace(plan.manifest, dimensions=vectors.dimensions)
                _write(part, plan.layout, before, manifest, plan.files)
        generation = before if plan.is_same else open_generation(folder)
        assert generation is not None
        build = plan.build(old, effort, time.perf_counter() - started)
        record_build(folder, build, at=datetime.now(UTC))
    return index_of(generation, plan.versions, study, embed), build


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
    if generation is None or generation.manifest.versions != _MADE_BY:
        what = "there is no index yet" if generation is None else "the index was made by another version of Steelyard"
        raise InputError(Problem(what=what, where=str(folder), hint=f"make it with: {REBUILD}"))
    versions = number_versions([Dated(one.id, one.source, one.facts) for one in generation.documents])
    return index_of(generation, versions, study, embed)


def index_of(chunks: ChunkStore, versions: Versions, study: Path, embed: Embed) -> KnowledgeIndex:
    """A store of chunks, ready to be searched."""
    counts = [one.n_chunks for one in chunks.documents]
    return KnowledgeIndex(
        generation=chunks,
        versions=versions,
        study=study,
        embed=embed,
        document_of=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
    )


# ---- private --------------------------------------------------------------------------------------------------------


def _old(folder: Path, embed: Embed, *, rebuild: bool) -> Generation | None:
    """What lies there; with `rebuild` nothing that cannot be used."""
    try:
        old = open_generation(folder)
    except ValueError as error:
        if rebuild:
            return None
        hint = f"make it anew with: {REBUILD}"
        raise InputError(Problem(what=f"the index cannot be read ({error})", where=str(folder), hint=hint)) from error
    if old is not None and old.manifest.embedder != embed.identity:
        if rebuild:
            return None
        check_embedder(old.manifest.embedder, embed, str(folder))
    return old


def _write(
    part: Path, layout: Layout, before: Generation | None, manifest: Manifest, files: Mapping[str, Seen]
) -> None:
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
        self, part: Path, layout: Layout, old: Generation | None, embed: Embed, say: Callable[[str], None]
    ) -> None:
        self._path = part / "vectors.npy"
        self._layout = layout
        self._old = old
        self._embed = embed
        self._say = say
        self.dimensions = old.vectors.shape[1] if old is not None else embed.embed(["a"]).shape[1]

    def write(self) -> Effort:
        """Write them."""
        n_chunks = sum(one.n_chunks for one in self._layout.documents)
        if n_chunks == 0:
            return Effort()
        out = open_memmap(self._path, mode="w+", dtype=np.float32, shape=(n_chunks, self.dimensions))
        with self._path.open("r+b") as file:  # writing is several times as fast as touching mapped pages
            for old_first, first, n in _runs(self._layout):
                assert self._old is not None
                file.seek(out.offset + first * out.strides[0])
                file.write(self._old.vectors[old_first : old_first + n].data)
        waiting = self._copy_known(out)
        embedding = Embedding(list(waiting), self._embed, self._say)
        for text, vector in embedding:
            out[waiting[text]] = vector
        out.flush()
        return embedding.effort

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


def _runs(layout: Layout) -> Iterator[tuple[int, int, int]]:
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
