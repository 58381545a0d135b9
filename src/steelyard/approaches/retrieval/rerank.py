"""Put passages that were found in a better order: each is read beside the question, which a search cannot afford.

Built in is late interaction: question and passage are compared word piece by word piece, each piece of the question
with the piece of the passage that is closest to it (MaxSim). It needs no model but the embedder.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from steelyard.approaches.knowledge_spec import LATE_INTERACTION
from steelyard.approaches.retrieval.search import Found, Passage, heading
from steelyard.models.embeddings import EmbedPieces, Vectors

Rerank = Callable[[str, Sequence[str]], Sequence[float]]
"""From a question and texts to one score a text, higher is better."""
KEPT_BYTES = 128 * 2**20
"""Of vectors of passages that are kept for the next question: about 900 passages of 200 word pieces."""


class LateInteraction:
    """Scores texts by MaxSim: the mean over the question's word pieces of the cosine with the closest piece of the text.

    Vectors of texts are kept, the latest used first, up to a bound: passages stay, questions change.

    Source:
        Khattab and Zaharia (2020), ColBERT. Theirs is a model trained for it and the sum over pieces; ours takes the
        vectors of an embedder that was not, and the mean, so that scores of long and short questions are of one size.
    """

    def __init__(self, embed: EmbedPieces, *, kept_bytes: int = KEPT_BYTES) -> None:
        self._embed = embed
        self._kept: OrderedDict[str, NDArray[np.float16]] = OrderedDict()
        self._left_bytes = kept_bytes

    @property
    def identity(self) -> str:
        """What decides the scores."""
        return f"{LATE_INTERACTION} {self._embed.identity}"

    def __call__(self, question: str, texts: Sequence[str]) -> list[float]:
        """One score a text, -1..1; all 0 where the question has no word piece."""
        if not texts:
            return []
        (asked,) = self._embed.embed_pieces([question])
        if not len(asked):
            return [0.0] * len(texts)
        pieces = self._pieces(texts)
        # One product for all texts: (n_question_pieces, n_pieces of all texts)
        said = asked @ np.concatenate(pieces).astype(np.float32).T
        ends = np.cumsum([len(one) for one in pieces])
        starts = ends - [len(one) for one in pieces]
        return [
            float(said[:, start:end].max(axis=1).mean()) if end > start else -1.0
            for start, end in zip(starts, ends, strict=True)
        ]

    def _pieces(self, texts: Sequence[str]) -> list[NDArray[np.float16]]:
        new = [text for text in dict.fromkeys(texts) if text not in self._kept]
        made = dict(zip(new, map(_halved, self._embed.embed_pieces(new)), strict=True))
        pieces = [made[text] if text in made else self._kept[text] for text in texts]
        for text, rows in zip(texts, pieces, strict=True):
            if text not in self._kept:
                self._left_bytes -= rows.nbytes
            self._kept[text] = rows
            self._kept.move_to_end(text)
        while self._left_bytes < 0:
            _, dropped = self._kept.popitem(last=False)
            self._left_bytes += dropped.nbytes
        return pieces


def read_text(passage: Passage) -> str:
    """A passage as rerankers read it: its title, headings and day, and its text."""
    return f"{heading(passage)}\n{passage.text}"


def reordered(passages: Sequence[Passage], scores: Sequence[float]) -> list[Passage]:
    """Passages by their scores, best first and equal ones as they were; each says what the reranker gave it.

    Raises:
        ValueError: There is not one score a passage.
    """
    if len(scores) != len(passages):
        raise ValueError(f"the reranker gave {len(scores)} scores for {len(passages)} texts")
    order = sorted(range(len(passages)), key=lambda place: (-scores[place], place))
    return [
        replace(passages[place], legs={**passages[place].legs, "rerank": Found(rank, float(scores[place]))})
        for rank, place in enumerate(order, 1)
    ]


# ---- private --------------------------------------------------------------------------------------------------------


def _halved(rows: Vectors) -> NDArray[np.float16]:
    return rows.astype(np.float16)
