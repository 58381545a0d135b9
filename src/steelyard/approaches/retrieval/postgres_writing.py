"""Write the next state of a team's documents into PostgreSQL, inside the transaction of whoever builds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from steelyard.approaches.knowledge_spec import StoreSpec
from steelyard.approaches.retrieval.chunks import Chunk
from steelyard.approaches.retrieval.fulltext import FullText, merge_full_text
from steelyard.approaches.retrieval.planning import Effort, Embedding, Plan
from steelyard.approaches.retrieval.postgres_chunks import (
    PostgresChunks,
    generation_key,
    is_approximate,
    term_key,
)
from steelyard.approaches.retrieval.store import chunk_line
from steelyard.models.embeddings import Embed

if TYPE_CHECKING:
    from steelyard.approaches.retrieval.postgres_connection import Connection

_MOST_LAYERS = 16
"""Of postings: then they are merged, and what belongs to no generation any more is left out."""

Vectors = Mapping[str, NDArray[np.float32]]
"""By digest of the text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """An index as the database lists it."""

    id: int
    generation: int
    """The one in force; 0 before the first."""
    next_chunk: int
    n_layers: int
    builds: list[dict[str, Any]]


def new_vectors(
    connection: Connection, old: PostgresChunks | None, plan: Plan, embed: Embed, say: Callable[[str], None]
) -> tuple[Vectors, Effort]:
    """The vectors of all new chunks: those of texts that were embedded before, the others embedded now."""
    texts = {chunk.digest: chunk.searched for chunks in plan.layout.chunks for chunk in chunks}
    found: dict[str, NDArray[np.float32]] = {}
    if old is not None and texts:
        query = """
            SELECT digest, vector FROM chunks JOIN vectors USING (index_id, number)
            WHERE index_id = %s AND digest = ANY(%s)"""
        digests = [bytes.fromhex(digest) for digest in texts]
        for digest, vector in connection.execute(query, [old.index_id, digests], binary=True):
            found[digest.hex()] = vector.to_numpy()
    waiting = {text: digest for digest, text in texts.items() if digest not in found}
    embedding = Embedding(list(waiting), embed, say)
    for text, vector in embedding:
        found[waiting[text]] = vector
    return found, embedding.effort


def write_generation(
    connection: Connection, store: StoreSpec, listed: Listed, plan: Plan, old: PostgresChunks | None, vectors: Vectors
) -> int:
    """Write the next generation, put it in force, and clear those away that nobody reads; returns its number."""
    layout = plan.layout
    number, next_chunk = listed.generation + 1, listed.next_chunk
    numbers = np.zeros(plan.n_chunks, dtype=np.int32)
    lengths = np.zeros(plan.n_chunks, dtype=np.int32)
    new: list[tuple[int, Chunk]] = []
    for document, chunks, old_first in zip(layout.documents, layout.chunks, layout.old_first, strict=True):
        rows = slice(document.first, document.first + document.n_chunks)
        if old_first is not None and old is not None:
            before = slice(old_first, old_first + document.n_chunks)
            numbers[rows], lengths[rows] = old.numbers[before], old.lengths[before]
        else:
            numbers[rows] = np.arange(next_chunk, next_chunk + len(chunks))
            new += enumerate(chunks, next_chunk)
            next_chunk += len(chunks)
    full_text = merge_full_text(
        None,
        np.zeros(0, dtype=np.int32),
        np.arange(len(new), dtype=np.int32),
        [chunk.searched for _, chunk in new],
    )
    lengths[numbers >= listed.next_chunk] = full_text.lengths
    _copy_chunks(connection, listed.id, new, vectors)
    n_layers = listed.n_layers + _copy_postings(connection, listed, number, full_text)
    dimensions = len(next(iter(vectors.values()))) if vectors else old.manifest.dimensions if old is not None else 0
    connection.execute(
        "INSERT INTO generations VALUES (%s, %s, %s, %s, %s, %s, %s)",
        [
            *(listed.id, number, plain_json(replace(plan.manifest, dimensions=dimensions))),
            *(plain_json(dict(plan.files)), plain_json(layout.documents)),
            *(numbers.astype("<i4").tobytes(), lengths.astype("<i4").tobytes()),
        ],
    )
    living = _clear_away(connection, store, listed.id, number)
    if n_layers > _MOST_LAYERS:
        _merge_layers(connection, listed.id, number, living)
        n_layers = 1
    connection.execute(
        "UPDATE indexes SET generation = %s, next_chunk = %s, n_layers = %s WHERE id = %s",
        [number, next_chunk, n_layers, listed.id],
    )
    if is_approximate(len(numbers), dimensions):
        _index_vectors(connection, listed.id, dimensions)
    return number


def plain_json(body: object) -> str:
    """A plain shape as a column of JSON takes it."""
    return orjson.dumps(body).decode()


# ---- private --------------------------------------------------------------------------------------------------------


def _copy_chunks(connection: Connection, index_id: int, chunks: Sequence[tuple[int, Chunk]], vectors: Vectors) -> None:
    with connection.cursor() as cursor:
        with cursor.copy("COPY chunks FROM STDIN") as copy:
            for number, chunk in chunks:
                copy.write_row((index_id, number, bytes.fromhex(chunk.digest), chunk_line(chunk).decode()))
        with cursor.copy("COPY vectors FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "int4", "vector"])
            for number, chunk in chunks:
                copy.write_row((index_id, number, np.asarray(vectors[chunk.digest], dtype=np.float32)))


def _copy_postings(connection: Connection, listed: Listed, layer: int, full_text: FullText) -> int:
    """A layer of the postings of new chunks, whose rows are counted from the first new number; returns how many layers."""
    if not full_text.numbers:
        return 0
    numbers = (full_text.rows + listed.next_chunk).astype("<i4")
    counts = full_text.counts.astype("<u2")
    with connection.cursor() as cursor, cursor.copy("COPY postings FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(["int4", "text", "int4", "bytea", "bytea"])
        for term, place in full_text.numbers.items():
            held = slice(int(full_text.starts[place]), int(full_text.starts[place + 1]))
            copy.write_row((listed.id, term_key(term), layer, numbers[held].tobytes(), counts[held].tobytes()))
    return 1


def _clear_away(connection: Connection, store: StoreSpec, index_id: int, number: int) -> NDArray[np.int32]:
    """Delete generations that nobody reads, and their chunks; returns the numbers of all chunks that stay."""
    living: list[NDArray[np.int32]] = []
    dead: list[NDArray[np.int32]] = []
    query = "SELECT number, chunks FROM generations WHERE index_id = %s"
    for one, chunks in connection.execute(query, [index_id], binary=True).fetchall():
        is_free = one != number and connection.execute(
            "SELECT pg_try_advisory_xact_lock(%s)", [generation_key(store, index_id, one)]
        ).fetchone() == (True,)
        (dead if is_free else living).append(np.frombuffer(chunks, dtype="<i4"))
        if is_free:
            connection.execute("DELETE FROM generations WHERE index_id = %s AND number = %s", [index_id, one])
    stay = np.unique(np.concatenate(living))
    gone = np.setdiff1d(np.concatenate(dead), stay).tolist() if dead else []
    if gone:
        connection.execute("DELETE FROM chunks WHERE index_id = %s AND number = ANY(%s)", [index_id, gone])
        connection.execute("DELETE FROM vectors WHERE index_id = %s AND number = ANY(%s)", [index_id, gone])
    return stay


def _merge_layers(connection: Connection, index_id: int, layer: int, living: NDArray[np.int32]) -> None:
    """Make one layer of all, without the postings of chunks that are gone."""
    merged: dict[str, list[tuple[NDArray[np.int32], NDArray[np.uint16]]]] = {}
    query = "SELECT term, numbers, counts FROM postings WHERE index_id = %s ORDER BY layer"
    for term, numbers, counts in connection.execute(query, [index_id], binary=True):
        at = np.frombuffer(numbers, dtype="<i4")
        stays = np.isin(at, living)
        if stays.any():
            merged.setdefault(term, []).append((at[stays], np.frombuffer(counts, dtype="<u2")[stays]))
    connection.execute("DELETE FROM postings WHERE index_id = %s", [index_id])
    with connection.cursor() as cursor, cursor.copy("COPY postings FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(["int4", "text", "int4", "bytea", "bytea"])
        for term, layers in merged.items():
            numbers, counts = (b"".join(one[part].tobytes() for one in layers) for part in (0, 1))
            copy.write_row((index_id, term, layer, numbers, counts))


def _index_vectors(connection: Connection, index_id: int, dimensions: int) -> None:
    """An HNSW index of this index's vectors alone; it follows later changes by itself."""
    from psycopg import sql

    connection.execute("SET LOCAL maintenance_work_mem = '1GB'")
    query = sql.SQL(
        "CREATE INDEX IF NOT EXISTS {name} ON vectors USING hnsw ((vector::vector({dimensions})) vector_ip_ops)"
        " WHERE index_id = {index_id}"
    )
    connection.execute(
        query.format(
            name=sql.Identifier(f"vectors_hnsw_{index_id}"),
            dimensions=sql.Literal(dimensions),
            index_id=sql.Literal(index_id),
        )
    )
