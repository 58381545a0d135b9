"""Vectors that were paid for, kept by model and text: no text is embedded twice by the same model, however it was cut.

One SQLite file. A batch is added in one transaction that is on disk when `add` returns, with what it cost.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from steelyard.approaches.retrieval.words import count_tokens
from steelyard.errors import Problem, StorageFailed
from steelyard.models.embeddings import Vectors

_SCHEMA = """
CREATE TABLE IF NOT EXISTS vectors (
    model TEXT NOT NULL, text BLOB NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (model, text)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (
    model TEXT NOT NULL, estimated_tokens INTEGER NOT NULL, prompt_tokens INTEGER, usd REAL);
"""
_FLOAT = np.dtype("<f4")
_LOOKED_UP = 500
"""Texts a query names at most."""


class Paid(NamedTuple):
    """What all vectors of a model took."""

    estimated_tokens: int
    """As the program counts them."""
    prompt_tokens: int | None
    """As the endpoint counted them; `None` where it once did not say."""
    usd: float | None
    """`None` where the price of a batch is not known."""


class VectorCache:
    """The vectors in one file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, model: str, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Vectors of those texts that are there, shape (n_dimensions,) each.

        Raises:
            StorageFailed: The file cannot be read; so do the others here.
        """
        if not self.path.exists():
            return {}
        by_digest = {_digest(text): text for text in texts}
        digests = list(by_digest)
        found: dict[str, NDArray[np.float32]] = {}
        with self._open() as db:
            for at in range(0, len(digests), _LOOKED_UP):
                some = digests[at : at + _LOOKED_UP]
                marks = ", ".join("?" * len(some))
                sql = f"SELECT text, vector FROM vectors WHERE model = ? AND text IN ({marks})"
                for digest, vector in db.execute(sql, (model, *some)):
                    found[by_digest[digest]] = np.frombuffer(vector, _FLOAT).astype(np.float32)
        return found

    def dimensions(self, model: str) -> int | None:
        """Numbers in a vector of this model; `None` before there is one."""
        if not self.path.exists():
            return None
        with self._open() as db:
            row = db.execute("SELECT length(vector) FROM vectors WHERE model = ? LIMIT 1", (model,)).fetchone()
        return None if row is None else int(row[0]) // _FLOAT.itemsize

    def add(self, model: str, vectors: Mapping[str, Vectors], *, prompt_tokens: int | None, usd: float | None) -> None:
        """Keep the vectors of one call; they are on disk when this returns.

        Args:
            model: Identity of the model.
            vectors: By text, shape (n_dimensions,) each.
            prompt_tokens: As the endpoint counted them.
            usd: What the call cost; `None` where that is not known.

        Raises:
            StorageFailed: They cannot be written.
        """
        rows = [(model, _digest(text), np.asarray(one, _FLOAT).tobytes()) for text, one in vectors.items()]
        tokens = sum(count_tokens(text) for text in vectors)
        with self._open() as db, db:
            db.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
            db.execute("INSERT INTO batches VALUES (?, ?, ?, ?)", (model, tokens, prompt_tokens, usd))

    def paid(self, model: str) -> Paid:
        """What the vectors of a model took, all calls together."""
        if not self.path.exists():
            return Paid(0, 0, 0.0)
        sql = """
            SELECT coalesce(sum(estimated_tokens), 0),
                CASE WHEN count(prompt_tokens) = count(*) THEN coalesce(sum(prompt_tokens), 0) END,
                CASE WHEN count(usd) = count(*) THEN coalesce(sum(usd), 0.0) END
            FROM batches WHERE model = ?"""
        with self._open() as db:
            return Paid(*db.execute(sql, (model,)).fetchone())

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path)) as db:
                db.execute("PRAGMA synchronous = FULL")
                db.executescript(_SCHEMA)
                yield db
        except (sqlite3.Error, OSError) as error:
            raise StorageFailed(
                Problem(
                    what=f"the vectors that were paid for cannot be read or kept ({error})",
                    where=str(self.path),
                    hint="make room, or make the file writable; a damaged file has to be moved away, and its vectors are"
                    " paid for again",
                )
            ) from error


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
