"""Full text: BM25 over postings that lie in memory-mapped arrays.

Why not SQLite FTS5 or bm25s: docs/decisions/0015-retrieval-index.md.
"""

from __future__ import annotations

import itertools
import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from steelyard.approaches.retrieval.words import terms

K1 = 1.2
B = 0.75
"""Saturation of repeated words and weight of length; the usual values (Robertson and Zaragoza, 2009)."""

Rows = NDArray[np.int32]
Counts = NDArray[np.uint16]
_ARRAYS = ("starts", "rows", "counts", "lengths")


@dataclass(frozen=True, kw_only=True, slots=True)
class FullText:
    """For each term the chunks that hold it."""

    numbers: Mapping[str, int] = field(repr=False)
    """Number of each term."""
    starts: NDArray[np.int64]
    """Where the postings of a term begin, shape (n_terms + 1,)."""
    rows: Rows
    """Chunks, ascending within a term, shape (n_postings,)."""
    counts: Counts
    """How often the term stands in the chunk."""
    lengths: Rows
    """Terms of each chunk, shape (n_chunks,)."""
    norms: NDArray[np.float32] = field(repr=False)
    """K1 · (1 − B + B · length / mean length) of each chunk."""

    def scores(self, text: str) -> NDArray[np.float32]:
        """BM25 of every chunk for a question, shape (n_chunks,); 0 where no word is shared."""
        scores = np.zeros(len(self.lengths), dtype=np.float32)
        for term in dict.fromkeys(terms(text)):
            number = self.numbers.get(term)
            if number is None:
                continue
            start, end = int(self.starts[number]), int(self.starts[number + 1])
            rows = self.rows[start:end]
            counts = self.counts[start:end].astype(np.float32)
            rarity = math.log(1 + (len(scores) - len(rows) + 0.5) / (len(rows) + 0.5))
            scores[rows] += np.float32(rarity * (K1 + 1)) * counts / (counts + self.norms[rows])
        return scores


def merge_full_text(old: FullText | None, kept: Rows, new_rows: Rows, texts: Iterable[str]) -> FullText:
    """Postings of chunks that stay and of chunks that are new.

    Args:
        old: The postings so far.
        kept: New row of every old chunk, or -1 where it goes, shape (n_old_chunks,).
        new_rows: Rows of the new chunks, ascending.
        texts: Their texts, in this order.
    """
    numbers: dict[str, int] = dict(old.numbers) if old is not None else {}
    new = _counted(new_rows, texts, numbers)
    lengths = np.zeros(int((kept >= 0).sum()) + len(new_rows), dtype=np.int32)
    lengths[new_rows] = new.lengths
    rows, counts = new.rows, new.counts
    n_postings = np.bincount(new.terms, minlength=len(numbers))
    if old is not None:
        lengths[kept[kept >= 0]] = old.lengths[kept >= 0]
        stay = _moved(old, kept)
        places = _places(stay, new)
        rows = np.insert(stay.rows, places, new.rows)
        counts = np.insert(stay.counts, places, new.counts)
        n_postings[: len(stay.n_postings)] += stay.n_postings
    return FullText(
        numbers={term: place for place, term in enumerate(term for term, at in numbers.items() if n_postings[at])},
        starts=_starts(n_postings[n_postings > 0]),
        rows=rows,
        counts=counts,
        lengths=lengths,
        norms=length_norms(lengths),
    )


def save_full_text(full_text: FullText, folder: Path) -> None:
    """Write into a folder."""
    for name in _ARRAYS:
        np.save(folder / f"terms.{name}.npy", getattr(full_text, name), allow_pickle=False)
    (folder / "terms.txt").write_text("\n".join(full_text.numbers), encoding="utf-8")


def open_full_text(folder: Path) -> FullText:
    """Open what was saved, memory-mapped.

    Raises:
        OSError: A file is missing.
        ValueError: A file is damaged.
    """
    starts, rows, counts, lengths = (
        np.load(folder / f"terms.{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS
    )
    text = (folder / "terms.txt").read_text(encoding="utf-8")
    numbers = {term: number for number, term in enumerate(text.split("\n") if text else [])}
    if len(starts) != len(numbers) + 1 or len(rows) != len(counts) or int(starts[-1]) != len(rows):
        raise ValueError("the postings do not belong together")
    return FullText(
        numbers=numbers,
        starts=np.asarray(starts),
        rows=rows,
        counts=counts,
        lengths=lengths,
        norms=length_norms(lengths),
    )


def length_norms(lengths: Rows) -> NDArray[np.float32]:
    """See `FullText.norms`.

    Args:
        lengths: Terms of each chunk, shape (n_chunks,).
    """
    mean = float(lengths.mean()) if len(lengths) else 1.0
    norms: NDArray[np.float32] = (K1 * (1 - B + B * np.asarray(lengths, np.float32) / max(mean, 1.0))).astype(
        np.float32
    )
    return norms


# ---- private --------------------------------------------------------------------------------------------------------


class _New(NamedTuple):
    """Postings of new chunks, by term and then by row."""

    terms: NDArray[np.int64]
    rows: Rows
    counts: Counts
    lengths: list[int]


class _Stay(NamedTuple):
    """Postings of old chunks that stay, by term and then by row, under their new rows."""

    rows: Rows
    counts: Counts
    n_postings: NDArray[np.int64]
    """Of each old term."""


def _counted(new_rows: Rows, texts: Iterable[str], numbers: dict[str, int]) -> _New:
    """Count the terms of texts; terms that are met for the first time get the next numbers."""
    # Arrays, not lists: a hundred thousand chunks have ten million postings.
    found, at, counts = array("q"), array("i"), array("H")
    lengths: list[int] = []
    for row, text in zip(new_rows.tolist(), texts, strict=True):
        counted = Counter(terms(text))
        lengths.append(counted.total())
        found.extend(numbers.setdefault(term, len(numbers)) for term in counted)
        at.extend([row] * len(counted))
        counts.extend(min(count, 65_535) for count in counted.values())
    term_column, row_column = np.array(found, dtype=np.int64), np.array(at, dtype=np.int32)
    order = np.lexsort((row_column, term_column))
    return _New(term_column[order], row_column[order], np.array(counts, dtype=np.uint16)[order], lengths)


def _moved(old: FullText, kept: Rows) -> _Stay:
    """What stays of the old postings."""
    rows = kept[old.rows]
    counts = np.asarray(old.counts)
    n_postings = np.diff(old.starts)
    gone = np.flatnonzero(rows < 0)
    if len(gone):
        n_terms = len(n_postings)
        n_postings = n_postings - np.bincount(np.searchsorted(old.starts, gone, side="right") - 1, minlength=n_terms)
        rows, counts = rows[rows >= 0], counts[rows >= 0]
    if not bool((np.diff(kept[kept >= 0]) > 0).all()):  # documents have changed places
        order = np.lexsort((rows, np.repeat(np.arange(len(n_postings)), n_postings)))
        rows, counts = rows[order], counts[order]
    return _Stay(rows, counts, n_postings)


def _places(stay: _Stay, new: _New) -> NDArray[np.intp]:
    """Where each new posting goes among the old ones: nothing but the postings of its term is looked at."""
    starts = _starts(stay.n_postings)
    places = np.full(len(new.terms), len(stay.rows), dtype=np.intp)  # new terms come after all old ones
    used, firsts = np.unique(new.terms, return_index=True)
    bounds = [*firsts.tolist(), len(new.terms)]
    for term, (first, end) in zip(used.tolist(), itertools.pairwise(bounds), strict=True):
        if term < len(stay.n_postings):
            of_term = stay.rows[starts[term] : starts[term + 1]]
            places[first:end] = starts[term] + np.searchsorted(of_term, new.rows[first:end])
    return places


def _starts(n_postings: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(n_postings)]).astype(np.int64)
