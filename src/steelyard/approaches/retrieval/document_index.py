"""The seam between documents and what is done with them: an index that can be searched and read.

`search.KnowledgeIndex` is the built-in one, on files beside the study. Anything else that keeps the promises below can
stand in its place; what looks passages up, shows them and measures them uses no more than this.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from steelyard.models.embeddings import Embed

if TYPE_CHECKING:
    from steelyard.approaches.retrieval.search import Passage, SearchSettings
    from steelyard.approaches.retrieval.store import IndexedDocument


class DocumentIndex(Protocol):
    """The chunks of all documents, ready to be searched."""

    @property
    def documents(self) -> Sequence[IndexedDocument]:
        """All documents, in the order of their files."""
        ...

    @property
    def n_chunks(self) -> int:
        """Chunks of all documents together."""
        ...

    @property
    def digest(self) -> str:
        """Content address of documents, cutting and embedder: equal digests give equal answers."""
        ...

    @property
    def embed(self) -> Embed:
        """The embedder the chunks were embedded with."""
        ...

    @property
    def waits(self) -> bool:
        """Whether a search waits for something beside this process, such as a database."""
        ...

    def search(
        self,
        question: str,
        settings: SearchSettings | None = None,
        *,
        vector: NDArray[np.float32] | None = None,
        as_of: date | None = None,
        access: Sequence[str] = (),
    ) -> list[Passage]:
        """The passages that answer a question best, best first.

        Args:
            question: Any text; hostile text is text. One without words is searched by its vector alone, a blank one
                finds nothing.
            settings: How many, of how many tokens, by which weights.
            vector: The question's embedding, shape (n_dimensions,), length 1; left out, the index embeds it.
            as_of: Day on which documents must hold; left out, the newest versions, whatever their dates.
            access: Tags of who asks: a document is shown only to who has all of its tags.

        Returns:
            At most `k` passages, each with the legs it was found by; equally good ones in the order of the index.
        """
        ...

    def passages(self, document: str) -> list[Passage]:
        """All passages of a document in its order; none where there is no such document."""
        ...

    def places(self, document: str) -> dict[str, int]:
        """Ids of all passages of a document, with their places in the index."""
        ...
