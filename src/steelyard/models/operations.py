"""Embeddings and reranking as calls like any other: what is asked, what comes back, and its form in the journal.

Both go to an endpoint of the study through the same door as chats, so that limits, budget, retries, price and journal
are the same. A request carries its texts as messages; an answer is text too, which the journal keeps as it is: of an
embedding a JSON list with one base64 string a vector (little-endian float32), of a reranking a JSON list of numbers.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import numpy as np
import orjson

from steelyard.models.calls import ChatRequest, Message, Operation
from steelyard.models.embeddings import Vectors

_FLOAT = np.dtype("<f4")


def embed_request(endpoint: str, texts: Sequence[str]) -> ChatRequest:
    """Ask for the vectors of some texts.

    Args:
        endpoint: Name in the study.
        texts: At least one; endpoints turn away empty ones.
    """
    messages = tuple(Message("user", text) for text in texts)
    return ChatRequest(endpoint=endpoint, operation="embed", messages=messages, max_tokens=0)


def vectors_of(text: str) -> Vectors:
    """The vectors in the answer to an `embed_request`: rows of length 1, shape (n_texts, n_dimensions).

    Raises:
        ValueError: The text is no such answer.

    >>> vectors_of(text_of_vectors(np.array([[3.0, 4.0]]))).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    try:
        return unit_rows([np.frombuffer(base64.b64decode(row, validate=True), _FLOAT) for row in orjson.loads(text)])
    except (TypeError, binascii.Error, orjson.JSONDecodeError) as error:
        raise ValueError(f"no vectors ({error})") from None


def text_of_vectors(vectors: Vectors) -> str:
    """The form in which vectors are journalled; `vectors_of` reads it."""
    rows = np.asarray(vectors, dtype=_FLOAT)
    return orjson.dumps([base64.b64encode(row.tobytes()).decode() for row in rows]).decode()


def shown_answer(operation: Operation, text: str) -> str:
    """The text of an answer for people: of vectors how many they are, since nobody reads their numbers.

    >>> shown_answer("embed", text_of_vectors(np.eye(3)))
    '3 vectors of 3 numbers'
    """
    if operation != "embed" or not text:
        return text
    n, dimensions = vectors_of(text).shape
    return f"{n} vector{'s' if n > 1 else ''} of {dimensions} numbers"


def unit_rows(rows: Sequence[np.ndarray]) -> Vectors:
    """Rows made length 1, shape (n_rows, n_dimensions).

    Raises:
        ValueError: They are not equally long, or one is empty, all zeros or holds what is no finite number.
    """
    if not rows:
        raise ValueError("there are no vectors")
    if len(lengths := {len(row) for row in rows}) > 1:
        raise ValueError(f"the vectors have different lengths: {', '.join(map(str, sorted(lengths)))}")
    # In double precision, so that the length of very small and very large rows is a number too.
    found = np.asarray(rows, dtype=np.float64)  # (n_rows, n_dimensions)
    if not found.shape[1]:
        raise ValueError("the vectors are empty")
    if not np.isfinite(found).all():
        raise ValueError("a vector holds what is no finite number")
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    if not norms.all():
        raise ValueError("a vector is all zeros")
    unit: Vectors = (found / norms).astype(np.float32)
    return unit


def rerank_request(endpoint: str, question: str, texts: Sequence[str]) -> ChatRequest:
    """Ask how well each of some texts fits a question.

    Args:
        endpoint: Name in the study.
        question: What is searched for.
        texts: At least one.
    """
    messages = (Message("user", question), *(Message("user", text) for text in texts))
    return ChatRequest(endpoint=endpoint, operation="rerank", messages=messages, max_tokens=0)


def scores_of(text: str, n: int) -> list[float]:
    """The scores in the answer to a `rerank_request` over `n` texts, in the order of the texts; higher fits better.

    Raises:
        ValueError: The text is no such answer.

    >>> scores_of("[0.5, -2]", 2)
    [0.5, -2.0]
    """
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"no scores ({error})") from None
    if not isinstance(found, list) or len(found) != n or not all(type(one) in (int, float) for one in found):
        raise ValueError(f"these are not {n} scores")
    return [float(one) for one in found]
