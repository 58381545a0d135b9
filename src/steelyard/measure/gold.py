"""Gold passages given as text: found in whatever pieces documents are cut into.

Ids of chunks change with every chunk size, so they cannot be gold for long; the text of a passage stays. Here each
retrieved chunk that holds a gold passage takes the passage's own id, and rankings of different chunk sizes can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from steelyard.measure.retrieval import PASSAGE_MARK
from steelyard.task.tokens import answer_tokens

GOLD_MARK = f"{PASSAGE_MARK}gold-"
"""What stands between the id of a document and the place of a gold passage among those of its case."""
HOLDS_FROM = 0.8
"""Share of the different words of a passage that a chunk of its document must have to hold it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GoldPassage:
    """Text of a document that holds (a part of) the answer."""

    source: str
    """Id of the document."""
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PassageRanking:
    """`sources` and `gold` of a row, in ids of passages."""

    sources: tuple[str, ...]
    gold: tuple[str, ...]


def passage_ranking(
    retrieved: Iterable[str], passages: Sequence[GoldPassage], text_of: Callable[[str], str | None]
) -> PassageRanking:
    """A ranking of chunks as one of gold passages among other chunks.

    A chunk that holds a gold passage stands for it; one that holds two stands for both, in their order. A further
    chunk that holds a passage already found, as overlapping chunks do, is taken out, since it is neither new nor wrong.

    Args:
        retrieved: Ids of chunks, `DOCUMENT#PLACE`, best first.
        passages: Of the case.
        text_of: Text of a chunk; one whose text is not known holds nothing.

    Returns:
        Every id names a passage, so that rows made of it are compared passage by passage.
    """
    names = [f"{one.source}{GOLD_MARK}{place}" for place, one in enumerate(passages)]
    found: list[str] = []
    for chunk in retrieved:
        document = chunk.partition(PASSAGE_MARK)[0]
        candidates = [i for i, one in enumerate(passages) if one.source == document]
        text = text_of(chunk) if candidates else None
        held = [names[i] for i in candidates if text is not None and _holds(text, passages[i].text)]
        found += held or [chunk if PASSAGE_MARK in chunk else f"{chunk}{PASSAGE_MARK}"]
    return PassageRanking(sources=tuple(dict.fromkeys(found)), gold=tuple(names))


# ---- private --------------------------------------------------------------------------------------------------------


def _holds(chunk: str, passage: str) -> bool:
    wanted = _words(passage)
    return bool(wanted) and len(wanted & _words(chunk)) >= HOLDS_FROM * len(wanted)


@lru_cache(maxsize=4096)
def _words(text: str) -> frozenset[str]:
    return frozenset(answer_tokens(text))
