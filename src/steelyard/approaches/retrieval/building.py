"""Build or open the index of a study's documents, wherever its study.yaml says that it lies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from steelyard.approaches.knowledge_spec import KnowledgeSpec
from steelyard.approaches.retrieval.document_index import DocumentIndex
from steelyard.approaches.retrieval.history import IndexBuild
from steelyard.approaches.retrieval.knowledge_index import build_knowledge_index, open_knowledge_index
from steelyard.approaches.retrieval.postgres_index import (
    build_postgres_index,
    open_postgres_chunks,
    open_postgres_index,
)
from steelyard.approaches.retrieval.store import ChunkStore, open_generation
from steelyard.errors import InputError
from steelyard.models.embeddings import Embed


def build_index(
    spec: KnowledgeSpec,
    study: Path,
    *,
    folder: Path,
    embed: Embed,
    say: Callable[[str], None],
    rebuild: bool = False,
) -> tuple[DocumentIndex, IndexBuild]:
    """Bring the index up to date with the documents, and open it.

    Args:
        spec: Which documents, how they are cut, and where the index lies.
        study: The study folder.
        folder: Where an embedded index is kept, and the history of any.
        embed: The embedder.
        say: Shows one line of progress.
        rebuild: Make an index anew that is damaged or was made with another embedder.

    Raises:
        InputError: Documents are not as they must be, the index there was made with another embedder, or the database
            cannot be used.
        MissingExtra: A document or the database needs an extra that is not installed.
        StorageFailed: The index cannot be written; the old one still serves.
        StudyLocked: Another process builds it.
    """
    if spec.store is not None:
        return build_postgres_index(spec, study, store=spec.store, folder=folder, embed=embed, say=say, rebuild=rebuild)
    return build_knowledge_index(spec, study, folder=folder, embed=embed, say=say, rebuild=rebuild)


def open_index(spec: KnowledgeSpec, study: Path, *, folder: Path, embed: Embed) -> DocumentIndex:
    """Open an index as it is.

    Args:
        spec: Where it lies.
        study: The study folder.
        folder: Where an embedded index is kept.
        embed: The embedder.

    Raises:
        InputError: There is none, it is damaged, it was made with another embedder or by another version, or the
            database cannot be used.
    """
    if spec.store is not None:
        return open_postgres_index(study, store=spec.store, folder=folder, embed=embed)
    return open_knowledge_index(study, folder=folder, embed=embed)


def stored_chunks(spec: KnowledgeSpec, study: Path, *, folder: Path) -> ChunkStore | None:
    """The chunks of an index as it is, to be read but not searched; `None` where there is none that can be read.

    Args:
        spec: Where it lies.
        study: The study folder.
        folder: Where an embedded index is kept.
    """
    try:
        if spec.store is not None:
            return open_postgres_chunks(study, store=spec.store, folder=folder)
        return open_generation(folder)
    except (InputError, ValueError):  # no database at hand; damaged, or made by another version
        return None
