"""Embeddings in the OpenAI format, and the rerank format that Jina, Cohere, vLLM and llama.cpp share: sent and read.

Vectors are asked for as base64, which is a quarter of the size of decimal numbers; servers that send lists of numbers
all the same are read too. What comes back is checked in full here, since a vector that is missing, of another length or
not a number would spoil an index without anybody noticing.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, assert_never

import numpy as np
import orjson

from steelyard.models.calls import AttemptStatus, ChatRequest, Operation
from steelyard.models.chat_format import error_message, read_completion, request_fields
from steelyard.models.endpoint import EndpointFault, Response
from steelyard.models.operations import text_of_vectors, unit_rows

PATHS: Mapping[Operation, str] = {"chat": "/chat/completions", "embed": "/embeddings", "rerank": "/rerank"}
"""Where each operation is asked for, below the `base_url`."""
_FLOAT = np.dtype("<f4")
_T = TypeVar("_T")


def fields_of(request: ChatRequest, *, native_schema: bool, base64_vectors: bool) -> dict[str, Any]:
    """The body of a request, but for the model's name.

    Args:
        request: What to ask.
        native_schema: Whether the endpoint takes `response_format: json_schema`.
        base64_vectors: Whether it takes `encoding_format: base64`.
    """
    texts = [message.content for message in request.messages]
    match request.operation:
        case "chat":
            return request_fields(request, native_schema=native_schema)
        case "embed":
            return {"input": texts, **({"encoding_format": "base64"} if base64_vectors else {})}
        case "rerank":
            return {"query": texts[0], "documents": texts[1:]}
        case _:
            assert_never(request.operation)


def read_answer(request: ChatRequest, content: bytes, *, url: str, clean: Callable[[str], str]) -> Response:
    """What a body with status 200 says.

    Args:
        request: What was asked.
        content: The whole body.
        url: Where it came from, for messages.
        clean: Takes secrets out of a text.

    Raises:
        EndpointFault: It is not what was asked for (`unreadable`).
    """
    if request.operation == "chat":
        return read_completion(content, url=url, clean=clean)
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        shown = clean(error_message(content))[:300]
        raise EndpointFault("unreadable", f"the answer of {url} is not JSON: {shown or 'it is empty'}") from None
    n_texts = len(request.messages) - (request.operation == "rerank")
    try:
        text = _vectors(body, n_texts) if request.operation == "embed" else _scores(body, n_texts)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = "embeddings" if request.operation == "embed" else "a ranking"
        said = f"{type(error).__name__}: {error}" if type(error) is not ValueError else str(error)
        raise EndpointFault("unreadable", f"the answer of {url} is not {what} of {n_texts} texts ({said})") from None
    # Nothing is generated and nothing cached, which is known: the tokens of a case stay known.
    return Response(
        status=AttemptStatus.ANSWERED,
        text=text,
        prompt_tokens=_prompt_tokens(body),
        cached_tokens=0,
        completion_tokens=0,
    )


# ---- private --------------------------------------------------------------------------------------------------------


def _vectors(body: dict[str, Any], n_texts: int) -> str:
    found: list[np.ndarray | None] = [None] * n_texts
    for place, one in enumerate(body["data"]):
        found[_place(one.get("index", place), found)] = _vector(one["embedding"])
    return text_of_vectors(unit_rows(_all_of(found)))


def _vector(given: object) -> np.ndarray:
    if isinstance(given, str):
        try:
            return np.frombuffer(base64.b64decode(given, validate=True), _FLOAT)
        except binascii.Error as error:
            raise ValueError(f"a vector is not base64: {error}") from None
    if not isinstance(given, list) or not all(type(one) in (int, float) for one in given):
        raise ValueError("a vector is not a list of numbers")
    return np.array(given, dtype=np.float64)


def _scores(body: dict[str, Any], n_texts: int) -> str:
    found: list[float | None] = [None] * n_texts
    for one in body["results"] if "results" in body else body["data"]:
        score = one["relevance_score"] if "relevance_score" in one else one["score"]
        if type(score) not in (int, float) or not math.isfinite(score):
            raise ValueError(f"{score!r} is no score")
        found[_place(one["index"], found)] = float(score)
    return orjson.dumps(_all_of(found)).decode()


def _place(index: object, found: list[Any]) -> int:
    if type(index) is not int or not 0 <= index < len(found):
        raise ValueError(f"there is no text {index!r}")
    if found[index] is not None:
        raise ValueError(f"text {index} comes twice")
    return index


def _all_of(found: list[_T | None]) -> list[_T]:
    there = [one for one in found if one is not None]
    if len(there) < len(found):
        raise ValueError(f"{len(found) - len(there)} are missing")
    return there


def _prompt_tokens(body: dict[str, Any]) -> int | None:
    """Tokens charged; rerankers tell them as a total only."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return None
    for name in ("prompt_tokens", "total_tokens"):
        if type(count := usage.get(name)) is int and count >= 0:
            return count
    return None
