"""Documents embedded by an endpoint of the study: in batches, paid once, and refused where nobody can pay.

Questions of cases are not embedded here: an approach asks for their vectors at the engine's door, like anything else it
asks. Both ask the same endpoint in the same way, so that their vectors can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from steelyard.approaches.retrieval.vector_cache import VectorCache
from steelyard.errors import InputError, Problem
from steelyard.figures import Provenance
from steelyard.models.calls import Attempt, ChatRequest
from steelyard.models.embeddings import Vectors
from steelyard.models.endpoint import Endpoint
from steelyard.models.operations import embed_request, vectors_of

BATCH_BYTES = 64_000
"""Bytes of their text, unless one alone is longer: within what hosts take for one call, at the worst a token a byte."""
_PROBE = "a"
"""Embedded to learn how many numbers a vector has; a new index of documents asks for the same."""


class MakeCalls(Protocol):
    """Makes paid calls within the budget of the study; see `engine.paid_calls.PaidCalls`."""

    def __call__(self, requests: Sequence[ChatRequest], keep: Callable[[int, Attempt], None]) -> None:
        """Return once `keep` was given the place and the answer of each request.

        Raises:
            InputError: The price is unknown, or a text too long.
            RunStopped: The budget is reached, or the endpoint gives no answer.
        """
        ...


class NotEmbedded(InputError):
    """Texts would have to be paid for, where nothing may be sent."""


class EmbeddingCost(NamedTuple):
    """What embedding took, measured."""

    endpoint: str
    model: str
    """Identity of the model behind it."""
    tokens: int | None
    """As the endpoint counted them; `None` where it did not say."""
    usd: float | None
    """`None` where the price is not known."""
    price: Provenance
    """Where the price comes from."""

    def card(self) -> dict[str, Any]:
        """As it is written down with the index."""
        return {**self._asdict(), "price": asdict(self.price)}


class RemoteEmbedder:
    """An `Embed` for building the index of documents."""

    def __init__(self, endpoint: Endpoint, *, cache: Path, make_calls: MakeCalls | None, batch_texts: int = 64) -> None:
        """Say who embeds, and who pays.

        Args:
            endpoint: Of the study; asked for its name, model and price, never sent anything here.
            cache: File in which vectors are kept.
            make_calls: Sends and pays; without it only what was embedded before can be had.
            batch_texts: Texts in a call at most.
        """
        self._batch_texts = batch_texts
        self.endpoint = endpoint.name
        self._model = endpoint.model
        self._price = endpoint.price.provenance
        self._cache = VectorCache(cache)
        self._make_calls = make_calls
        self._dimensions: int | None = None

    @property
    def identity(self) -> str:
        """Model, address and numbers in a vector; asks the endpoint for one vector where that is not known yet.

        Raises:
            NotEmbedded: It is not known, and nothing may be sent.
        """
        return f"{self._model}, {self.dimensions} numbers"

    @property
    def dimensions(self) -> int:
        """Numbers in a vector; as for `identity`."""
        if self._dimensions is None:
            self._dimensions = self._cache.dimensions(self._model) or self.embed([_PROBE]).shape[1]
        return self._dimensions

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of length 1, shape (n_texts, n_dimensions), in the order of the texts; each text is paid for once.

        Raises:
            NotEmbedded: A text was never embedded, and nothing may be sent.
            InputError: A text is too long, the price is unknown under a budget in money, or the endpoint gives vectors of
                another length than before.
            RunStopped: The budget is reached, the endpoint does not answer, or Ctrl-C; what was paid for is kept.
            StorageFailed: Vectors cannot be kept.
        """
        if not texts:
            return np.zeros((0, self.dimensions), dtype=np.float32)
        found = self._cache.find(self._model, texts)
        missing = self.missing(texts) if len(found) < len(set(texts)) else []
        if missing:
            self._pay_for(missing)
            found |= self._cache.find(self._model, missing)
        return np.stack([found[text] for text in texts])

    def missing(self, texts: Sequence[str]) -> list[str]:
        """The texts that would have to be paid for, each once."""
        found = self._cache.find(self._model, texts)
        return [text for text in dict.fromkeys(texts) if text not in found]

    def requests(self, texts: Sequence[str]) -> list[ChatRequest]:
        """The calls that embed some texts."""
        return [embed_request(self.endpoint, batch) for batch in _batches(texts, self._batch_texts)]

    def cost_of(self, tokens: float) -> EmbeddingCost:
        """What embedding so many tokens took, by all that was paid to this model so far.

        Args:
            tokens: As the program counts them, which is not how the endpoint does; `IndexBuild.tokens_embedded`.
        """
        paid = self._cache.paid(self._model)
        share = tokens / paid.estimated_tokens if paid.estimated_tokens else 0.0
        return EmbeddingCost(
            endpoint=self.endpoint,
            model=self._model,
            tokens=None if paid.prompt_tokens is None else round(paid.prompt_tokens * share),
            usd=None if paid.usd is None else paid.usd * share,
            price=self._price,
        )

    # ---- private ------------------------------------------------------------------------------------------------

    def _pay_for(self, texts: Sequence[str]) -> None:
        if self._make_calls is None:
            raise NotEmbedded(
                Problem(
                    what=f"{len(texts):,} texts have not been embedded by {self.endpoint!r} yet, and nothing is sent here",
                    where="study.yaml:knowledge.embeddings",
                    hint="`steelyard retrieval index DIR` embeds the documents, and so does a run",
                )
            )
        requests = self.requests(texts)

        def keep(place: int, attempt: Attempt) -> None:
            batch = [message.content for message in requests[place].messages]
            vectors = vectors_of(attempt.text)
            self._refuse_other_length(vectors.shape[1])
            by_text = dict(zip(batch, vectors, strict=True))
            self._cache.add(self._model, by_text, prompt_tokens=attempt.prompt_tokens, usd=attempt.price_usd)

        self._make_calls(requests, keep)

    def _refuse_other_length(self, dimensions: int) -> None:
        if self._dimensions is None:
            self._dimensions = self._cache.dimensions(self._model) or dimensions
        if dimensions != self._dimensions:
            raise InputError(
                Problem(
                    what=f"endpoint {self.endpoint!r} gives vectors of {dimensions} numbers, and gave {self._dimensions}"
                    " before: another model answers under the same name",
                    where="study.yaml:knowledge.embeddings",
                    hint=f"delete {self._cache.path} and embed all documents anew: steelyard retrieval index DIR",
                )
            )


def _batches(texts: Sequence[str], most: int) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        n_bytes = len(text.encode("utf-8", "replace"))
        if batch and (len(batch) == most or size + n_bytes > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += n_bytes
    if batch:
        yield batch
