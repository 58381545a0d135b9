"""One state of a team's documents in PostgreSQL, ready to be searched: words by our BM25, vectors by pgvector.

A state ("generation") lists the numbers of its chunks, and chunks never change. What is read here is therefore the same for
as long as the index is open, whatever other processes build meanwhile; a lock that every reader shares keeps its generation
from being cleared away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from steelyard.approaches.knowledge_spec import StoreSpec
from steelyard.approaches.retrieval.files import Seen
from steelyard.approaches.retrieval.fulltext import FullText, length_norms
from steelyard.approaches.retrieval.postgres_connection import WHERE, Session, lock_key, with_vectors
from steelyard.approaches.retrieval.store import IndexedDocument, Manifest, Mask, best_rows, read_document
from steelyard.approaches.retrieval.words import terms
from steelyard.errors import InputError, Problem

if TYPE_CHECKING:
    from steelyard.approaches.retrieval.postgres_connection import Connection

EXACT_UP_TO = 50_000
"""Vectors that are all compared; of more, an HNSW index picks those that are."""
HNSW_DIMENSIONS = 2_000
"""Longer vectors pgvector cannot put into an HNSW index; they are always all compared."""
_EF_SEARCH = 200
"""Candidates HNSW keeps while it searches; at least as many as a leg puts forward."""
_LONGEST_TERM = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class PostgresChunks:
    """The chunks of one generation; a `store.ChunkStore`."""

    session: Session = field(repr=False)
    index_id: int
    number: int
    """Of the generation."""
    manifest: Manifest
    files: Mapping[str, Seen]
    documents: tuple[IndexedDocument, ...]
    numbers: NDArray[np.int32] = field(repr=False)
    """Number of each row's chunk, shape (n_chunks,)."""
    lengths: NDArray[np.int32] = field(repr=False)
    """Terms of each chunk, shape (n_chunks,)."""
    row_of: NDArray[np.int32] = field(repr=False)
    """Row of each chunk number, or -1, shape (largest number + 1,)."""
    norms: NDArray[np.float32] = field(repr=False)
    """See `FullText`."""

    @property
    def n_chunks(self) -> int:
        """How many chunks there are."""
        return len(self.numbers)

    @property
    def waits(self) -> bool:
        """Every search waits for the database."""
        return True

    def chunks(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """See `ChunkStore.chunks`."""
        numbers = [int(self.numbers[row]) for row in rows]
        found = dict(
            self.session.rows(
                "SELECT number, body::text FROM chunks WHERE index_id = %s AND number = ANY(%s)",
                [self.index_id, numbers],
            )
        )
        if len(found) < len(set(numbers)):
            raise _gone()
        return [orjson.loads(found[number]) for number in numbers]

    def by_words(self, text: str, mask: Mask, n: int) -> list[tuple[int, float]]:
        """See `ChunkStore.by_words`: the postings of the question's words are fetched, and weighed as those on disk are."""
        asked = {term_key(term): term for term in terms(text)}
        if not asked:
            return []
        found: dict[str, list[tuple[NDArray[np.int32], NDArray[np.uint16]]]] = {}
        # Joined, so that a generation which is gone is told from words that stand nowhere.
        query = """
            SELECT term, numbers, counts
            FROM generations AS one LEFT JOIN postings ON postings.index_id = one.index_id AND term = ANY(%s)
            WHERE one.index_id = %s AND one.number = %s"""
        read = self.session.rows(query, [list(asked), self.index_id, self.number])
        if not read:
            raise _gone()
        for key, numbers, counts in read:
            if key is None:
                return []
            here = self._rows(np.frombuffer(numbers, dtype="<i4"))
            there = here >= 0
            if there.any():
                postings = (here[there], np.frombuffer(counts, dtype="<u2")[there])
                found.setdefault(asked[key], []).append(postings)
        if not found:
            return []
        rows = [np.concatenate([one for one, _ in layers]) for layers in found.values()]
        counts = [np.concatenate([one for _, one in layers]) for layers in found.values()]
        full_text = FullText(
            numbers={term: place for place, term in enumerate(found)},
            starts=np.cumsum([0, *map(len, rows)], dtype=np.int64),
            rows=np.concatenate(rows),
            counts=np.concatenate(counts),
            lengths=self.lengths,
            norms=self.norms,
        )
        return best_rows(full_text.scores(text), mask, n, above=0.0)

    def by_vector(self, vector: NDArray[np.float32], mask: Mask, n: int) -> list[tuple[int, float]]:
        """See `ChunkStore.by_vector`."""
        shown = self.numbers if mask is None else self.numbers[mask]
        bits = np.zeros(len(self.row_of), dtype=np.bool_)
        bits[shown] = True
        given = {
            "index_id": self.index_id,
            "vector": np.asarray(vector, dtype=np.float32),
            "end": len(bits),
            "shown": np.packbits(bits, bitorder="little").tobytes(),
            "n": n,
        }
        if is_approximate(len(shown), self.manifest.dimensions):
            rows = self._nearest_by_hnsw(given)
        else:
            rows = self.session.rows(_EXACTLY, given)
        if len(shown) and not rows:
            raise _gone()
        best = [(int(self.row_of[number]), -float(distance)) for number, distance in rows]  # pgvector gives -cosine
        return sorted(best, key=lambda one: (-one[1], one[0]))

    # Private

    def _rows(self, numbers: NDArray[np.int32]) -> NDArray[np.int32]:
        """Rows of chunks, -1 for those of other generations."""
        rows = np.full(len(numbers), -1, dtype=np.int32)
        known = numbers < len(self.row_of)
        rows[known] = self.row_of[numbers[known]]
        return rows

    def _nearest_by_hnsw(self, given: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        from psycopg import sql

        # The index is partial and of one length: a query must name both as constants to be answered from it.
        query = sql.SQL(_BY_HNSW).format(
            index_id=sql.Literal(self.index_id), dimensions=sql.Literal(self.manifest.dimensions)
        )
        return self.session.rows(query, given)


_SHOWN = "CASE WHEN number < %(end)s THEN get_bit(%(shown)s::bytea, number) = 1 ELSE false END"
"""Of this generation, and to be shown: one bit a chunk. Numbers beyond the last belong to later generations."""
_EXACTLY = f"""
    SELECT number, vector <#> %(vector)s FROM vectors
    WHERE index_id = %(index_id)s AND {_SHOWN}
    ORDER BY vector <#> %(vector)s, number LIMIT %(n)s"""
_BY_HNSW = f"""
    SELECT number, vector::vector({{dimensions}}) <#> %(vector)s FROM vectors
    WHERE index_id = {{index_id}} AND {_SHOWN}
    ORDER BY vector::vector({{dimensions}}) <#> %(vector)s LIMIT %(n)s"""


class _Gone(InputError):
    """A generation that was to be read has been cleared away."""


def open_chunks(store: StoreSpec, index_id: int, number: int) -> PostgresChunks | None:
    """A generation, kept from being cleared away for as long as it is referred to; `None` where it is gone.

    Raises:
        InputError: The database cannot be used.
    """

    def hold(connection: Connection) -> None:
        with_vectors(connection)
        connection.execute("SET hnsw.iterative_scan = strict_order")
        connection.execute("SELECT set_config('hnsw.ef_search', %s, false)", [str(_EF_SEARCH)])
        key = generation_key(store, index_id, number)
        connection.execute("SELECT pg_advisory_lock_shared(%s)", [key])
        query = "SELECT count(*) FROM generations WHERE index_id = %s AND number = %s"
        if connection.execute(query, [index_id, number]).fetchone() != (1,):
            raise _gone()

    session = Session(store, hold)
    query = """
        SELECT manifest::text, files::text, documents::text, chunks, lengths FROM generations
        WHERE index_id = %s AND number = %s"""
    try:
        ((manifest, files, documents, numbers, lengths),) = session.rows(query, [index_id, number])
    except _Gone:
        return None
    made_with = orjson.loads(manifest)
    made_with["versions"] = tuple(made_with["versions"])
    chunk_numbers = np.frombuffer(numbers, dtype="<i4").astype(np.int32)
    chunk_lengths = np.frombuffer(lengths, dtype="<i4").astype(np.int32)
    row_of = np.full(int(chunk_numbers.max(initial=-1)) + 1, -1, dtype=np.int32)
    row_of[chunk_numbers] = np.arange(len(chunk_numbers), dtype=np.int32)
    return PostgresChunks(
        session=session,
        index_id=index_id,
        number=number,
        manifest=Manifest(**made_with),
        files={source: Seen(**seen) for source, seen in orjson.loads(files).items()},
        documents=tuple(read_document(one) for one in orjson.loads(documents)),
        numbers=chunk_numbers,
        lengths=chunk_lengths,
        row_of=row_of,
        norms=length_norms(chunk_lengths),
    )


def generation_key(store: StoreSpec, index_id: int, number: int) -> int:
    """The lock that readers of a generation share."""
    return lock_key("generation", store.schema_name, index_id, number)


def is_approximate(n_shown: int, dimensions: int) -> bool:
    """Whether so many vectors are searched by HNSW."""
    return n_shown > EXACT_UP_TO and dimensions <= HNSW_DIMENSIONS


def term_key(term: str) -> str:
    """A term as it is kept: a very long one by its digest, since an index of PostgreSQL takes no long keys."""
    if len(term) <= _LONGEST_TERM:
        return term
    return "#" + hashlib.blake2b(term.encode(), digest_size=16).hexdigest()


# ---- private --------------------------------------------------------------------------------------------------------


def _gone() -> _Gone:
    what = "the index in the database was made anew while it was read"
    return _Gone(Problem(what=what, where=WHERE, hint="run the same command again"))
