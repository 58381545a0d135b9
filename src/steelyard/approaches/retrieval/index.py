"""The train cases as vectors: embedded once, kept on disk by content, searched by one matrix product."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from steelyard.approaches.examples import input_text, usable_examples
from steelyard.cases.case import Case, CaseInput
from steelyard.errors import InputError, Problem, StorageFailed
from steelyard.models.embeddings import Embed
from steelyard.task.task import Task

_BATCH = 256


class Neighbour(NamedTuple):
    """A case that was found, and how similar it is."""

    case: Case
    similarity: float
    """Cosine of the two vectors, -1..1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExampleIndex:
    """The usable train cases and their vectors."""

    cases: tuple[Case, ...]
    vectors: NDArray[np.float32]
    """Unit rows, shape (n_cases, n_dimensions)."""
    digest: str
    """Content address: embedder, texts and expected outputs."""
    embed: Embed
    task: Task
    seconds: float
    """Machine seconds the embedding took when it was done."""
    reused: bool
    """Whether the vectors were found on disk."""
    places: Mapping[str, int] = field(repr=False)
    """Position of each case by id."""

    def search(self, text: str, k: int) -> list[Neighbour]:
        """The `k` cases most similar to a text, most similar first; equal ones in the order of the index."""
        return self._nearest(text, k, np.zeros(0, dtype=np.intp))

    def neighbours(self, case: CaseInput, k: int) -> list[Neighbour]:
        """The `k` cases most similar to a case, most similar first.

        Never the case itself, nor another one of its cluster where it has one: a train case that is asked about would
        otherwise find its own answer, and training on such prompts would teach copying.
        """
        at = self.places.get(case.id)
        hidden = np.zeros(0, dtype=np.intp)
        if at is not None:
            cluster = self.cases[at].cluster
            alike = [i for i, other in enumerate(self.cases) if cluster is not None and other.cluster == cluster]
            hidden = np.array(sorted({at, *alike}), dtype=np.intp)
        return self._nearest(input_text(case.fields, self.task), k, hidden)

    def _nearest(self, text: str, k: int, hidden: NDArray[np.intp]) -> list[Neighbour]:
        (query,) = _unit(self.embed.embed([text]))
        similarities = self.vectors @ query  # (n_cases,)
        similarities[hidden] = -np.inf
        n = min(k, len(self.cases) - len(hidden))
        # The whole order is sorted, stably: at the sizes of a train split this costs less than the embedding, and
        # equal similarities must come out the same way on every machine.
        order = np.argsort(-similarities, kind="stable")[:n]
        return [Neighbour(self.cases[i], float(similarities[i])) for i in order]


def build_index(
    cases: Sequence[Case], *, task: Task, embed: Embed, folder: Path, say: Callable[[str], None]
) -> ExampleIndex:
    """Embed the usable cases, or find their vectors on disk.

    Args:
        cases: The train split, and nothing else: the caller answers for that no held-out case is among them.
        task: Says what of a case is embedded.
        embed: The embedder.
        folder: Where vectors are kept, by content.
        say: Shows one line of progress.

    Returns:
        The index, over the labelled, schema-valid, non-empty cases only.

    Raises:
        InputError: No case is usable.
        StorageFailed: The vectors cannot be written.
    """
    usable = usable_examples(cases, task)
    if not usable:
        raise InputError(
            Problem(
                what=f"none of the {len(cases)} train cases can serve as an example for retrieval",
                hint="label some cases; those without a valid expected output or without text are left out",
            )
        )
    texts = [input_text(case.input, task) for case in usable]
    vectors_digest = _digest([embed.identity, texts])
    path = folder / f"vectors-{vectors_digest}.npz"
    kept = _load(path, n_cases=len(usable))
    if kept is None:
        say(f"embedding {len(usable):,} train cases")
        started = time.perf_counter()
        vectors = np.concatenate([_unit(embed.embed(texts[at : at + _BATCH])) for at in range(0, len(texts), _BATCH)])
        seconds = time.perf_counter() - started
        _store(path, vectors, seconds)
    else:
        vectors, seconds = kept
    return ExampleIndex(
        cases=usable,
        vectors=vectors,
        digest=_digest([vectors_digest, [(case.id, case.digest(), case.cluster) for case in usable]]),
        embed=embed,
        task=task,
        seconds=seconds,
        reused=kept is not None,
        places={case.id: place for place, case in enumerate(usable)},
    )


# ---- private --------------------------------------------------------------------------------------------------------


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; a row of zeros stays, and is similar to nothing."""
    found = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    unit: NDArray[np.float32] = found / np.maximum(lengths, np.float32(1e-12))
    return unit


def _digest(body: object) -> str:
    return hashlib.blake2b(orjson.dumps(body), digest_size=16).hexdigest()


def _load(path: Path, *, n_cases: int) -> tuple[NDArray[np.float32], float] | None:
    """What was stored, or `None` when there is nothing or it is damaged: then it is made again."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            vectors, seconds = stored["vectors"], float(stored["seconds"])
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error):
        return None
    sound = vectors.dtype == np.float32 and vectors.ndim == 2 and len(vectors) == n_cases
    return (vectors, seconds) if sound and bool(np.isfinite(vectors).all()) else None


def _store(path: Path, vectors: NDArray[np.float32], seconds: float) -> None:
    """Write aside and rename, so that a killed process leaves either all or nothing."""
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            np.savez(file, vectors=vectors, seconds=np.float64(seconds))
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise StorageFailed(
            Problem(
                what=f"the example index cannot be written ({error.strerror})",
                where=str(path.parent),
                hint="free some space or make the folder writable, then run again",
            )
        ) from error
