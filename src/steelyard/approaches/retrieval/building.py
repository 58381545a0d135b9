"""Build or open the index of a study's documents, wherever its study.yaml says that it lies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from steelyard.approaches.knowledge_spec import KnowledgeSpec
from steelyard.approaches.retrieval.document_index import DocumentIndex
from steelyard.approaches.retrieval.history import IndexBuild
from steelyard.approaches.retrieval.knowledge_index import build_knowledge_index, open_knowledge_index
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
    return open_knowledge_index(study, folder=folder, embed=embed)
