"""Reading what servers that speak the OpenAI chat format answer: completions, error messages, pauses they ask for."""

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import Callable

import orjson

from steelyard.models.calls import AttemptStatus
from steelyard.models.endpoint import EndpointFault, Response

_TOO_LONG_WORDINGS = (
    "context_length_exceeded",
    "maximum context length",
    "exceed_context_size_error",
    "exceeds the available context size",
    "exceeds the context",
    "context window",
    "prompt is too long",
    "input is too long",
    "too many tokens",
)


def read_completion(content: bytes, *, url: str, clean: Callable[[str], str]) -> Response:
    """What a body with status 200 says.

    Args:
        content: The whole body.
        url: Where it came from, for messages.
        clean: Takes secrets out of a text.

    Raises:
        EndpointFault: It is no chat completion, or one without choices (`unreadable`).
    """
    try:
        body = orjson.loads(content)
        choices = body["choices"]
        if not choices:
            raise EndpointFault("unreadable", f"the answer of {url} has no choices")
        choice = choices[0]
        message = choice["message"]
        text = message.get("content")
        if isinstance(text, list):  # some servers send content as parts
            text = "".join(part.get("text") or "" for part in text)
        refusal = message.get("refusal")
        finish = choice.get("finish_reason")
        usage = body.get("usage") or {}
        prompt_tokens = _count(usage.get("prompt_tokens"))
        completion_tokens = _count(usage.get("completion_tokens"))
        cached_tokens = _count((usage.get("prompt_tokens_details") or {}).get("cached_tokens"))
    except orjson.JSONDecodeError:
        shown = clean(error_message(content))[:300]
        raise EndpointFault("unreadable", f"the answer of {url} is not JSON: {shown or 'it is empty'}") from None
    except (KeyError, TypeError, AttributeError, IndexError) as missing:
        raise EndpointFault(
            "unreadable", f"the answer of {url} is not a chat completion ({type(missing).__name__}: {missing})"
        ) from None
    if text is not None and not isinstance(text, str):
        raise EndpointFault("unreadable", f"the answer of {url} has content that is not text")
    error = None
    if refusal:
        status, error = AttemptStatus.REFUSED, clean(str(refusal))
    elif finish == "content_filter":
        status, error = AttemptStatus.REFUSED, "stopped by the content filter"
    elif not text or text.isspace():
        status, error = AttemptStatus.EMPTY, clean(f"no text (finish reason {finish})")
    elif finish == "length":
        status = AttemptStatus.TRUNCATED
    else:
        status = AttemptStatus.ANSWERED
    return Response(
        status=status,
        text=text or "",
        error=error,
        prompt_tokens=prompt_tokens,
        cached_tokens=cached_tokens,
        completion_tokens=completion_tokens,
    )


def error_message(content: bytes) -> str:
    """The error message in a body, or else the body's beginning, on one line."""
    text = content[:2000].decode("utf-8", "replace")
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        return " ".join(text.split())
    error = body.get("error", body.get("message", body.get("detail"))) if isinstance(body, dict) else body
    said = error.get("message") if isinstance(error, dict) else error
    return " ".join((said if isinstance(said, str) else text).split())


def says_too_long(content: bytes) -> bool:
    """Whether a rejection means that the prompt does not fit, in the wordings of OpenAI, llama.cpp, vLLM and others."""
    lowered = content[:20_000].decode("utf-8", "replace").lower()
    return any(wording in lowered for wording in _TOO_LONG_WORDINGS)


def retry_after_s(header: str | None, *, now: float | None = None) -> float | None:
    """Seconds a `Retry-After` header asks to wait, from a number or an HTTP date; `None` when it says nothing readable.

    >>> retry_after_s("1.5")
    1.5
    >>> retry_after_s("Thu, 01 Jan 1970 00:01:40 GMT", now=40.0)
    60.0
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(header)
        except ValueError:
            return None
        seconds = moment.timestamp() - (time.time() if now is None else now)
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _count(value: object) -> int | None:
    """A token count, or `None` for anything that is not one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
