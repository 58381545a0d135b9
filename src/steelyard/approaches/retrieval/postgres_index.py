"""Build the index of a team's documents in PostgreSQL with pgvector, and keep it up to date.

An update is one transaction: a build that is killed leaves the last one serving. What was decided, and the measurements
behind it, is in docs/decisions/0018-postgresql-store.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from steelyard.approaches.knowledge_spec import KnowledgeSpec, StoreSpec
from steelyard.approaches.retrieval.history import IndexBuild, with_build, write_history
from steelyard.approaches.retrieval.knowledge_index import index_of
from steelyard.approaches.retrieval.planning import (
    REBUILD,
    Effort,
    check_embedder,
    made_by,
    plan_update,
)
from steelyard.approaches.retrieval.postgres_chunks import (
    PostgresChunks,
    open_chunks,
)
from steelyard.approaches.retrieval.postgres_connection import (
    FORMAT,
    WHERE,
    connect,
    has_tables,
    lock_key,
    make_tables,
    plainly,
    with_vectors,
)
from steelyard.approaches.retrieval.postgres_writing import Listed, new_vectors, plain_json, write_generation
from steelyard.approaches.retrieval.search import KnowledgeIndex
from steelyard.approaches.retrieval.versions import Dated, number_versions
from steelyard.errors import InputError, Problem, StudyLocked
from steelyard.models.embeddings import Embed

if TYPE_CHECKING:
    from steelyard.approaches.retrieval.postgres_connection import Connection

_MADE_BY = made_by(FORMAT)


def build_postgres_index(
    spec: KnowledgeSpec,
    study: Path,
    *,
    store: StoreSpec,
    folder: Path,
    embed: Embed,
    say: Callable[[str], None],
    rebuild: bool = False,
) -> tuple[KnowledgeIndex, IndexBuild]:
    """Bring the index in the database up to date with the documents, and open it.

    Args:
        spec: Which documents, and how they are cut.
        study: The study folder.
        store: Which database.
        folder: Its name tells the cuttings of a study apart; a copy of the history of builds is written there.
        embed: The embedder.
        say: Shows one line of progress.
        rebuild: Make an index anew that was made with another embedder.

    Raises:
        InputError: Documents are not as they must be, the index was made with another embedder, or the database cannot be
            used.
        MissingExtra: A document or the database needs an extra that is not installed.
        StorageFailed: The database cannot be written; the old index still serves.
        StudyLocked: Another process builds it.
    """
    started = time.perf_counter()
    name = store.study or study.resolve().name
    with closing(connect(store)) as connection:
        make_tables(connection, store)
        with plainly(store), _build_lock(connection, store, name, folder.name):
            with_vectors(connection)
            listed = _listed(connection, name, folder.name)
            old = open_chunks(store, listed.id, listed.generation) if listed is not None else None
            if old is not None and old.manifest.embedder != embed.identity:
                if not rebuild:
                    check_embedder(old.manifest.embedder, embed, _where(store))
                old = None
            plan = plan_update(spec, study, embed, old=old, made_with=_MADE_BY)
            effort = Effort()
            if old is None or not plan.is_same:
                vectors, effort = new_vectors(connection, old, plan, embed, say)
                if old is not None:
                    old.session.close()  # what only we still read may be cleared away
                with connection.transaction():
                    if listed is None or old is None:
                        listed = _made_anew(connection, name, folder.name, listed)
                    number = write_generation(connection, store, listed, plan, old, vectors)
                index = open_chunks(store, listed.id, number)
            else:
                index = old
            assert index is not None
            assert listed is not None
            build = plan.build(old, effort, time.perf_counter() - started)
            history = with_build(listed.builds, build, at=datetime.now(UTC))
            connection.execute("UPDATE indexes SET builds = %s WHERE id = %s", [plain_json(history), listed.id])
    write_history(folder, history)
    return index_of(index, plan.versions, study, embed), build


def open_postgres_index(study: Path, *, store: StoreSpec, folder: Path, embed: Embed) -> KnowledgeIndex:
    """Open the index in the database as it is.

    Args:
        study: The study folder.
        store: Which database.
        folder: Its name tells the cuttings of a study apart.
        embed: The embedder.

    Raises:
        InputError: There is none, it was made with another embedder or by another version, or the database cannot be used.
        MissingExtra: psycopg or pgvector is not installed.
    """
    chunks = open_postgres_chunks(study, store=store, folder=folder)
    if chunks is None or chunks.manifest.versions != _MADE_BY:
        what = "there is no index yet" if chunks is None else "the index was made by another version of Steelyard"
        raise InputError(Problem(what=what, where=_where(store), hint=f"make it with: {REBUILD}"))
    check_embedder(chunks.manifest.embedder, embed, _where(store))
    versions = number_versions([Dated(one.id, one.source, one.facts) for one in chunks.documents])
    return index_of(chunks, versions, study, embed)


def open_postgres_chunks(study: Path, *, store: StoreSpec, folder: Path) -> PostgresChunks | None:
    """The chunks in force, whatever embedder they were made with; `None` where there are none.

    Raises:
        InputError: The database cannot be used.
        MissingExtra: psycopg or pgvector is not installed.
    """
    with closing(connect(store)) as connection, plainly(store):
        if not has_tables(connection, store):
            return None
        while True:  # a build may clear the generation away before it is held; the next one then is there
            listed = _listed(connection, store.study or study.resolve().name, folder.name)
            if listed is None or not listed.generation:
                return None
            chunks = open_chunks(store, listed.id, listed.generation)
            if chunks is not None:
                return chunks


# ---- private --------------------------------------------------------------------------------------------------------


def _where(store: StoreSpec) -> str:
    return f"{WHERE} (schema {store.schema_name})"


@contextmanager
def _build_lock(connection: Connection, store: StoreSpec, name: str, cutting: str) -> Iterator[None]:
    """One process at a time builds an index; the lock goes with the connection, however the process ends."""
    key = lock_key("build", store.schema_name, name, cutting)
    if connection.execute("SELECT pg_try_advisory_lock(%s)", [key]).fetchone() != (True,):
        what, hint = "another process is building this index", "wait until it has finished"
        raise StudyLocked(Problem(what=what, where=_where(store), hint=hint))
    yield


def _listed(connection: Connection, name: str, cutting: str) -> Listed | None:
    query = """
        SELECT id, generation, next_chunk, n_layers, builds FROM indexes WHERE study = %s AND cutting = %s"""
    row = connection.execute(query, [name, cutting]).fetchone()
    if row is None:
        return None
    index_id, generation, next_chunk, n_layers, builds = row
    return Listed(id=index_id, generation=generation, next_chunk=next_chunk, n_layers=n_layers, builds=builds)


def _made_anew(connection: Connection, name: str, cutting: str, before: Listed | None) -> Listed:
    """A new index without any documents, in place of one that cannot be used; the history goes on."""
    if before is not None:
        connection.execute("DELETE FROM indexes WHERE id = %s", [before.id])
    builds = before.builds if before is not None else []
    query = "INSERT INTO indexes (study, cutting, builds) VALUES (%s, %s, %s) RETURNING id"
    row = connection.execute(query, [name, cutting, plain_json(builds)]).fetchone()
    assert row is not None
    return Listed(id=row[0], generation=0, next_chunk=0, n_layers=0, builds=builds)
