"""The OpenAI chat format: what is sent, and what servers that speak it answer (completions, errors, pauses they ask for)."""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from steelyard.models.calls import AttemptStatus, ChatRequest, Message, ToolCall
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
    "too large to process",
)

_SCHEMA_WORDING = re.compile(r"response_format|json[_ ]?schema|\bschema\b|\bgrammar\b", re.IGNORECASE)


def request_fields(request: ChatRequest, *, native_schema: bool) -> dict[str, Any]:
    """The body of a request, but for the model's name.

    Args:
        request: What to ask.
        native_schema: Whether the endpoint takes `response_format: json_schema`.
    """
    fields: dict[str, Any] = {
        "messages": [_turn(message) for message in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
    }
    if request.seed is not None:
        fields["seed"] = request.seed
    if request.response_schema is not None and native_schema:
        fields["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "output", "strict": True, "schema": request.response_schema},
        }
    if request.logprobs:
        fields["logprobs"] = True
    if request.tools:
        # orjson writes the dataclass as the object the format wants: name, description, parameters.
        fields["tools"] = [{"type": "function", "function": tool} for tool in request.tools]
    return fields


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
        tool_calls = _tool_calls(message.get("tool_calls") or ())
        refusal = message.get("refusal")
        finish = choice.get("finish_reason")
        logprob = _logprob(choice.get("logprobs"))
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
    elif tool_calls:
        status = AttemptStatus.CALLED_TOOLS
    elif not text or text.isspace():
        status, error = AttemptStatus.EMPTY, clean(f"no text (finish reason {finish})")
    elif finish == "length":
        status = AttemptStatus.TRUNCATED
    else:
        status = AttemptStatus.ANSWERED
    return Response(
        status=status,
        text=text or "",
        tool_calls=tool_calls,
        error=error,
        prompt_tokens=prompt_tokens,
        cached_tokens=cached_tokens,
        completion_tokens=completion_tokens,
        logprob=logprob,
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


def says_schema_refused(content: bytes) -> bool:
    """Whether a rejection speaks of the schema the answer was to satisfy."""
    return _SCHEMA_WORDING.search(content[:20_000].decode("utf-8", "replace")) is not None


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


def _turn(message: Message) -> dict[str, Any]:
    content: Any = message.content
    if message.images:
        pictures = [{"type": "image_url", "image_url": {"url": image.url}} for image in message.images]
        content = [{"type": "text", "text": message.content}, *pictures]
    turn: dict[str, Any] = {"role": message.role, "content": content}
    if message.tool_calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    return turn


def _tool_calls(found: Sequence[Any]) -> tuple[ToolCall, ...]:
    """What the model asked for; some servers give no ids, or arguments that are an object already."""
    calls = []
    for number, one in enumerate(found):
        function = one["function"]
        arguments = function.get("arguments")
        if not isinstance(arguments, str):
            arguments = orjson.dumps({} if arguments is None else arguments).decode()
        calls.append(ToolCall(str(one.get("id") or f"call_{number}"), str(function["name"]), arguments))
    return tuple(calls)


def _logprob(found: object) -> float | None:
    """Log-probability of the whole answer; `None` where that of any token is missing."""
    tokens = found.get("content") if isinstance(found, dict) else None
    if not isinstance(tokens, list) or not tokens:
        return None
    total = 0.0
    for token in tokens:
        one = token.get("logprob") if isinstance(token, dict) else None
        if not isinstance(one, int | float) or not math.isfinite(one):
            return None
        total += one
    return min(0.0, total)  # servers that round give a sure token a little more than 0


def _count(value: object) -> int | None:
    """A token count, or `None` for anything that is not one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
