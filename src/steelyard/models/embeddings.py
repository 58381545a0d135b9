"""Sentence embeddings on the CPU: all-MiniLM-L6-v2 through ONNX, and a fake that needs no weights.

The seam is `Embed`: texts in, unit vectors out. An embedder says who it is, because vectors of two embedders must never
meet in one index.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import require

Vectors = NDArray[np.float32]

DIMENSIONS = 384
MAX_WORD_PIECES = 256
"""Longer texts are cut: the model was trained on no more."""
BATCH_TOKENS = 2048
"""Padded tokens per call of the model; few enough to stay in cache, many enough to fill the cores."""


class Embed(Protocol):
    """Turns texts into vectors."""

    @property
    def identity(self) -> str:
        """Which model and weights; equal identities give interchangeable vectors."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of length 1, shape (n_texts, n_dimensions), in the order of the texts."""
        ...


@runtime_checkable
class EmbedPieces(Protocol):
    """Turns texts into a vector for each of their word pieces, as late interaction compares them."""

    @property
    def identity(self) -> str:
        """Which model and weights; equal identities give interchangeable vectors."""
        ...

    def embed_pieces(self, texts: Sequence[str]) -> list[Vectors]:
        """Of each text the vectors of its word pieces: length 1, shape (n_pieces, n_dimensions)."""
        ...


class MiniLM:
    """all-MiniLM-L6-v2 (int8 weights): mean over word pieces, length 1."""

    def __init__(self, *, model: Path, tokenizer: Path, identity: str, threads: int = 1) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._inputs = {one.name for one in self._session.get_inputs()}
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_WORD_PIECES)
        self._identity = identity

    @property
    def identity(self) -> str:
        """Name and weight digest."""
        return self._identity

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of length 1, shape (n_texts, 384). Empty texts get a vector too; no texts give shape (0, 384).

        Only texts of the same number of word pieces share a call, so that a text's vector does not depend on padding.
        """
        vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        for positions, hidden in self._forward(texts):
            vectors[positions] = _unit(hidden.mean(axis=1))
        return vectors

    def embed_pieces(self, texts: Sequence[str]) -> list[Vectors]:
        """Of each text the vectors of its word pieces in their context: length 1, shape (n_pieces, 384).

        The marks of beginning and end are no pieces of the text: an empty text has none, shape (0, 384).
        """
        pieces: list[Vectors] = [np.zeros((0, DIMENSIONS), dtype=np.float32)] * len(texts)
        for positions, hidden in self._forward(texts):
            for position, rows in zip(positions, _unit(hidden[:, 1:-1]), strict=True):
                pieces[position] = rows
        return pieces

    def _forward(self, texts: Sequence[str]) -> Iterator[tuple[list[int], Vectors]]:
        """Run the model: positions of texts of one length, and their hidden states, shape (n_texts, n_pieces, 384)."""
        encoded = self._tokenizer.encode_batch(list(texts))
        by_length: dict[int, list[int]] = {}
        for position, one in enumerate(encoded):
            by_length.setdefault(len(one.ids), []).append(position)
        for length, positions in by_length.items():
            size = max(1, BATCH_TOKENS // length)
            for start in range(0, len(positions), size):
                batch = positions[start : start + size]
                ids = np.array([encoded[i].ids for i in batch], dtype=np.int64)
                feed: dict[str, Any] = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
                if "token_type_ids" in self._inputs:
                    feed["token_type_ids"] = np.zeros_like(ids)
                yield batch, self._session.run(None, feed)[0]


def load_embedder(*, threads: int = 1, progress: Callable[[int, int], None] | None = None) -> MiniLM:
    """The built-in embedder; its weights are fetched once.

    Args:
        threads: Threads of one call of the model.
        progress: Told bytes done and in total while weights are fetched.

    Raises:
        MissingExtra: onnxruntime or tokenizers is not installed.
        InputError: The weights cannot be fetched.
    """
    require("onnxruntime", "tokenizers", feature="embedding texts", extra="local")
    from steelyard.models.weights import MINILM_L6_V2, MINILM_L6_V2_TOKENIZER, fetch

    return MiniLM(
        model=fetch(MINILM_L6_V2, progress=progress),
        tokenizer=fetch(MINILM_L6_V2_TOKENIZER, progress=progress),
        identity=f"{MINILM_L6_V2.name} {MINILM_L6_V2.sha256[:12]}",
        threads=threads,
    )


class Remembering:
    """An embedder that embeds batches of texts once.

    Single texts are always embedded anew: that is how a case is embedded while it is timed, and a remembered vector
    would make the second approach that sees the case look faster than it is.
    """

    def __init__(self, inner: Embed) -> None:
        self._inner = inner
        self._known: dict[str, Vectors] = {}

    @property
    def identity(self) -> str:
        """That of the embedder inside."""
        return self._inner.identity

    def embed(self, texts: Sequence[str]) -> Vectors:
        """As the embedder inside does it."""
        if len(texts) < 2:
            return self._inner.embed(texts)
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known.update(zip(new, self._inner.embed(new), strict=True))
        return np.stack([self._known[text] for text in texts])

    def embed_pieces(self, texts: Sequence[str]) -> list[Vectors]:
        """As the embedder inside does it, always anew.

        Raises:
            TypeError: It gives no vectors of word pieces.
        """
        if not isinstance(self._inner, EmbedPieces):
            raise TypeError(f"{self._inner.identity} gives no vectors of word pieces")
        return self._inner.embed_pieces(texts)


class HashingEmbedder:
    """A fake for tests: counts of character 3-grams, hashed into 384 places. No weights, the same on every machine."""

    @property
    def identity(self) -> str:
        """Its name."""
        return "hashing-3-grams"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of length 1, shape (n_texts, 384); texts that share spellings are close."""
        vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        for row, text in enumerate(texts):
            padded = f"  {text.casefold()}  "
            for at in range(len(padded) - 2):
                digest = hashlib.blake2b(padded[at : at + 3].encode(), digest_size=4).digest()
                vectors[row, int.from_bytes(digest, "little") % DIMENSIONS] += 1.0
        return _unit(vectors)

    def embed_pieces(self, texts: Sequence[str]) -> list[Vectors]:
        """A vector for each word, the same in any context."""
        return [self.embed(text.split()) for text in texts]


# ---- private --------------------------------------------------------------------------------------------------------


def _unit(rows: Vectors) -> Vectors:
    unit: Vectors = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return unit
