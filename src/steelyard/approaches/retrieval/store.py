"""Where an index lies: one folder a generation, and a file that names the one in force.

    000007/manifest.json       what it was made with
    000007/documents.json      files and documents, each with its rows
    000007/chunks.jsonl        the chunks, one a line: row 0 is the first
    000007/*.npy, terms.txt    where each chunk starts, digests, vectors, postings
    current                    000007

A generation is written under another name, renamed, and only then named in `current`, each of them in one step: a build
that is killed at any moment leaves the last one serving. Nothing is pickled.
"""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import orjson
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from steelyard.approaches.retrieval.chunks import Chunk
from steelyard.approaches.retrieval.files import Seen
from steelyard.approaches.retrieval.fulltext import FullText, open_full_text
from steelyard.approaches.retrieval.metadata import Facts
from steelyard.errors import Problem, StorageFailed, StudyLocked

FORMAT = 1
"""Raised by one whenever the files are laid out otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a generation was made with."""

    versions: tuple[int, ...]
    """Of layout, words, conversion and chunking."""
    embedder: str
    dimensions: int
    chunk_tokens: int
    overlap_tokens: int
    digest: str
    """Content address of all documents, cutting and embedder: equal digests give equal answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexedDocument:
    """A document of an index."""

    id: str
    title: str
    source: str
    facts: Facts
    digest: str
    first: int
    """Row of its first chunk."""
    n_chunks: int


Mask = NDArray[np.bool_] | None
"""Rows that may be shown, shape (n_chunks,); `None` is all."""


class ChunkStore(Protocol):
    """The chunks of one state of the documents, which stays as it is while an update makes the next."""

    @property
    def manifest(self) -> Manifest:
        """What it was made with."""
        ...

    @property
    def files(self) -> Mapping[str, Seen]:
        """Each file as it was read, by its path."""
        ...

    @property
    def documents(self) -> tuple[IndexedDocument, ...]:
        """In the order of their files, each with its rows."""
        ...

    @property
    def n_chunks(self) -> int:
        """How many chunks there are: rows are numbered from 0."""
        ...

    @property
    def waits(self) -> bool:
        """Whether reading waits for something beside this process, such as a database."""
        ...

    def chunks(self, rows: Sequence[int]) -> Sequence[Mapping[str, Any]]:
        """Chunks as they were written (id, headings, text, n_tokens), in the order of the rows."""
        ...

    def by_words(self, text: str, mask: Mask, n: int) -> list[tuple[int, float]]:
        """At most `n` rows that share a word with a text, each with its BM25, best first; equal ones by row."""
        ...

    def by_vector(self, vector: NDArray[np.float32], mask: Mask, n: int) -> list[tuple[int, float]]:
        """At most `n` rows nearest to a vector of length 1, each with its cosine, best first; equal ones by row."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """An index as it lies on disk, opened; arrays are memory-mapped."""

    path: Path
    manifest: Manifest
    files: Mapping[str, Seen]
    """Each file as it was read, by its path."""
    documents: tuple[IndexedDocument, ...]
    starts: NDArray[np.int64]
    """Where each chunk's line begins, shape (n_chunks + 1,)."""
    digests: NDArray[np.void]
    """Digest of what was embedded, 16 bytes each, shape (n_chunks,)."""
    vectors: NDArray[np.float32]
    """Unit rows, shape (n_chunks, n_dimensions)."""
    full_text: FullText
    lines: bytes | mmap.mmap = field(repr=False)

    @property
    def n_chunks(self) -> int:
        """How many chunks there are."""
        return len(self.starts) - 1

    @property
    def waits(self) -> bool:
        """Nothing is waited for: the files are mapped."""
        return False

    def chunk(self, row: int) -> dict[str, Any]:
        """One chunk as it was written: id, headings, text, n_tokens."""
        found: dict[str, Any] = orjson.loads(self.lines[int(self.starts[row]) : int(self.starts[row + 1])])
        return found

    def chunks(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Several chunks, in the order of the rows."""
        return [self.chunk(row) for row in rows]

    def by_words(self, text: str, mask: Mask, n: int) -> list[tuple[int, float]]:
        """The best rows by BM25; see `ChunkStore`."""
        return best_rows(self.full_text.scores(text), mask, n, above=0.0)

    def by_vector(self, vector: NDArray[np.float32], mask: Mask, n: int) -> list[tuple[int, float]]:
        """The best rows by cosine; see `ChunkStore`."""
        return best_rows(self.vectors @ vector, mask, n, above=-np.inf)

    def written(self, first: int, end: int) -> bytes:
        """The lines of the rows from `first` up to `end`."""
        return self.lines[int(self.starts[first]) : int(self.starts[end])]


def chunk_line(chunk: Chunk) -> bytes:
    """One chunk as it is written."""
    body = {"id": chunk.id, "headings": chunk.headings, "text": chunk.text, "n_tokens": chunk.n_tokens}
    return orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE)


def best_rows(scores: NDArray[np.float32], mask: Mask, n: int, *, above: float) -> list[tuple[int, float]]:
    """The `n` best rows with their scores, best first; equal ones in the order of the rows.

    Args:
        scores: Of every row, shape (n_chunks,).
        mask: Rows that may be among them.
        n: At most so many.
        above: Only scores above this.
    """
    if mask is not None:
        scores = np.where(mask, scores, np.float32(-np.inf))
    if len(scores) > n:
        # All that reach the n-th best score, so that which of equals is taken does not depend on the partition.
        limit = np.partition(scores, len(scores) - n)[len(scores) - n]
        rows = np.flatnonzero((scores >= limit) & (scores > above))
    else:
        rows = np.flatnonzero(scores > above)
    rows = rows[np.argsort(-scores[rows], kind="stable")][:n]
    return [(int(row), float(scores[row])) for row in rows]


def open_generation(folder: Path) -> Generation | None:
    """The generation in force, or `None` where there is none.

    Raises:
        ValueError: It is damaged, or was made by another version of this program.
    """
    for _ in range(3):  # a build may replace the generation between the two reads
        try:
            name = (folder / "current").read_text(encoding="ascii").strip()
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return _open(folder / name)
        except FileNotFoundError:
            continue
        except (OSError, KeyError, TypeError, AttributeError, EOFError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
    raise ValueError("files are missing")


@contextmanager
def index_lock(folder: Path) -> Iterator[None]:
    """One process at a time builds an index; whoever only searches needs no lock.

    Raises:
        StudyLocked: Another process builds it.
        StorageFailed: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise StudyLocked(
            Problem(what="another process is building this index", where=str(folder), hint="wait until it has finished")
        ) from None
    except OSError as error:
        raise _failed(error, folder) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """A new folder to write a generation into, put in force when the block ends without an error.

    Raises:
        StorageFailed: It cannot be written.
    """
    for leftover in folder.glob("*.part"):
        shutil.rmtree(leftover, ignore_errors=True)
    numbers = [int(path.name) for path in folder.iterdir() if path.name.isdigit()]
    name = f"{max(numbers, default=0) + 1:06d}"
    part = folder / f"{name}.part"
    try:
        part.mkdir()
        yield part
        for path in part.iterdir():
            _flush(path)
        part.rename(folder / name)
        pointer = folder / "current.part.txt"
        pointer.write_text(name, encoding="ascii")
        _flush(pointer)
        pointer.replace(folder / "current")
        _flush(folder)
    except OSError as error:
        raise _failed(error, folder) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    for path in folder.iterdir():
        if path.name.isdigit() and path.name != name:
            shutil.rmtree(path, ignore_errors=True)  # one that is still being read stays where the system needs it


def write_facts(
    part: Path, manifest: Manifest, files: Mapping[str, Seen], documents: Sequence[IndexedDocument]
) -> None:
    """Write manifest and documents."""
    (part / "documents.json").write_bytes(orjson.dumps({"files": dict(files), "documents": list(documents)}))
    (part / "manifest.json").write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2))


def write_chunks(part: Path, lines: Iterable[bytes], digests: NDArray[np.void]) -> None:
    """Write the chunks; `lines` may hold several lines each."""
    starts = [0]
    with (part / "chunks.jsonl").open("wb") as file:
        for line in lines:
            at = starts[-1]
            file.write(line)
            place = line.find(b"\n")
            while place >= 0:
                starts.append(at + place + 1)
                place = line.find(b"\n", place + 1)
    np.save(part / "chunks.starts.npy", np.array(starts, dtype=np.int64), allow_pickle=False)
    np.save(part / "chunks.digests.npy", digests, allow_pickle=False)


def read_document(said: dict[str, Any]) -> IndexedDocument:
    """A document from its plain shape."""
    facts = said.pop("facts")
    for key in ("valid_from", "valid_to"):
        facts[key] = date.fromisoformat(facts[key]) if facts[key] else None
    facts["access"] = tuple(facts["access"])
    facts["metadata"] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in facts["metadata"].items()
    }
    return IndexedDocument(**said, facts=Facts(**facts))


# ---- private --------------------------------------------------------------------------------------------------------


def _open(path: Path) -> Generation:
    manifest = orjson.loads((path / "manifest.json").read_bytes())
    manifest["versions"] = tuple(manifest["versions"])
    said = orjson.loads((path / "documents.json").read_bytes())
    starts = np.load(path / "chunks.starts.npy", allow_pickle=False)
    digests = np.load(path / "chunks.digests.npy", allow_pickle=False)
    vectors = np.load(path / "vectors.npy", mmap_mode="r", allow_pickle=False)
    with (path / "chunks.jsonl").open("rb") as file:
        # Not closed: it lives as long as the index that reads from it.
        lines: bytes | mmap.mmap = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if starts[-1] else b""
    documents = tuple(read_document(one) for one in said["documents"])
    n_chunks = len(starts) - 1
    full_text = open_full_text(path)
    sizes = {len(digests), len(vectors), len(full_text.lengths), sum(one.n_chunks for one in documents)}
    if sizes != {n_chunks} or len(lines) != starts[-1] or vectors.dtype != np.float32:
        raise ValueError("its files do not belong together")
    return Generation(
        path=path,
        manifest=Manifest(**manifest),
        files={source: Seen(**seen) for source, seen in said["files"].items()},
        documents=documents,
        starts=starts,
        digests=digests,
        vectors=vectors,
        full_text=full_text,
        lines=lines,
    )


def _flush(path: Path) -> None:
    """Have the disk hold it; a system that cannot do this for a folder has nothing to wait for."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _failed(error: OSError, folder: Path) -> StorageFailed:
    return StorageFailed(
        Problem(
            what=f"the index cannot be written ({error.strerror or error})",
            where=str(folder),
            hint="free some space or make the folder writable, then run again; the old index still serves",
        )
    )
