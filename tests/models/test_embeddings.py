"""Embeddings are unit vectors that do not depend on what else is embedded with them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from steelyard.models.embeddings import (
    DIMENSIONS,
    MAX_WORD_PIECES,
    Embed,
    EmbedPieces,
    HashingEmbedder,
    MiniLM,
    Remembering,
    load_embedder,
)

TEXTS = [
    "My card was declined at the supermarket",
    "The shop's terminal refused my bank card",
    "How do I bake sourdough bread?",
    "",
    "Écran cassé après la mise à jour 😀",
    "word " * 900,
    "refund",
]


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return load_embedder()


def assert_contract(embedder: Embed) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), DIMENSIONS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert embedder.embed([]).shape == (0, DIMENSIONS)
    assert embedder.identity


def test_the_fake_keeps_the_contract() -> None:
    """Shape, type and length are those of the real one, empty text and no texts included."""
    assert_contract(HashingEmbedder())


def test_the_fake_is_the_same_in_every_process() -> None:
    """Its hash does not depend on Python's hash seed."""
    code = (
        "from steelyard.models.embeddings import HashingEmbedder as H; print(H().embed(['a b c, été']).tobytes().hex())"
    )
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert runs == {HashingEmbedder().embed(["a b c, été"]).tobytes().hex() + "\n"}


@pytest.mark.model
def test_minilm_keeps_the_contract(minilm: MiniLM) -> None:
    """Shape, type and length, for empty, foreign and overlong texts too."""
    assert_contract(minilm)


@pytest.mark.model
def test_like_texts_are_close(minilm: MiniLM) -> None:
    """Two ways to say one thing are closer than two things."""
    declined, refused, bread, *_ = minilm.embed(TEXTS)
    assert declined @ refused > 0.6
    assert declined @ bread < 0.3


@pytest.mark.model
def test_a_vector_does_not_depend_on_its_company(minilm: MiniLM) -> None:
    """Alone, among others, in another order or with more threads: the same vector."""
    together = minilm.embed(TEXTS)
    alone = np.concatenate([minilm.embed([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, together, atol=1e-6)
    np.testing.assert_allclose(minilm.embed(TEXTS[::-1])[::-1], together, atol=1e-6)
    np.testing.assert_allclose(load_embedder(threads=2).embed(TEXTS), together, atol=1e-6)


def assert_pieces(embedder: EmbedPieces) -> None:
    together = embedder.embed_pieces(TEXTS)
    assert [len(rows) > 0 for rows in together] == [bool(text) for text in TEXTS]
    for text, rows in zip(TEXTS, together, strict=True):
        assert rows.shape[1] == DIMENSIONS
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(embedder.embed_pieces([text])[0], rows, atol=1e-5)
    assert embedder.embed_pieces([]) == []


def test_the_fake_has_a_vector_for_each_word() -> None:
    assert_pieces(HashingEmbedder())
    assert_pieces(Remembering(HashingEmbedder()))


@pytest.mark.model
def test_minilm_has_a_vector_for_each_word_piece(minilm: MiniLM) -> None:
    """Of length 1, the same in any company; none for an empty text, at most as many as the model reads."""
    assert_pieces(minilm)
    assert len(minilm.embed_pieces(["word " * 900])[0]) == MAX_WORD_PIECES - 2
    bank, river = minilm.embed_pieces(["the bank raised its rates", "the bank of the river"])
    assert 0.2 < bank[1] @ river[1] < 0.95  # the same word in another context is another vector
