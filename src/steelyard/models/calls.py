"""What is asked of a model and what came back: the data that crosses the seam between approaches and the engine.

An approach builds a `ChatRequest`; the engine sends it through an `Endpoint` and hands back an `Attempt`, which ends
in exactly one `AttemptStatus`. Requests are plain data and are identified by a digest of all that can change the
answer, so that a journalled attempt can stand in for a call that was already paid for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Self

import orjson


class Image(NamedTuple):
    """A picture in a message."""

    url: str
    """A `data:` URL with the whole picture, or an `https:` address that the endpoint fetches; empty once journalled."""
    digest: str
    """Content address of the picture, or of the address where only that is known."""


class ToolCall(NamedTuple):
    """A model's request to have a function run."""

    id: str
    """The endpoint's name for this request; the result has to name it."""
    name: str
    arguments: str
    """JSON text as the model wrote it; it may be anything."""

    def shown(self) -> str:
        """The call as text for people.

        >>> ToolCall("a", "convert", '{"amount": 3}').shown()
        'convert({"amount": 3})'
        """
        return f"{self.name}({self.arguments})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """A function a model may ask to have run."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """JSON Schema of the arguments, an object."""


class Message(NamedTuple):
    """One chat turn."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    images: tuple[Image, ...] = ()
    """Pictures that follow the text of a user's turn."""
    tool_calls: tuple[ToolCall, ...] = ()
    """Of an assistant's turn: functions it asked for."""
    tool_call_id: str | None = None
    """Of a tool's turn: the request its content is the result of."""

    def shown(self) -> str:
        """The turn as text for people, with pictures and calls named."""
        pictures = [f"[image {image.digest[:8]}]" for image in self.images]
        return "\n".join(
            [*([self.content] if self.content else []), *pictures, *(call.shown() for call in self.tool_calls)]
        )

    def parts(self) -> list[Any]:
        """The turn as plain data, pictures by digest: what identifies it, and what the journal keeps of it."""
        more: dict[str, Any] = {}
        if self.images:
            # A data URL would write megabytes into the journal for every call; an address is kept, it is short.
            more["images"] = [["" if one.url.startswith("data:") else one.url, one.digest] for one in self.images]
        if self.tool_calls:
            more["tool_calls"] = [list(call) for call in self.tool_calls]
        if self.tool_call_id is not None:
            more["tool_call_id"] = self.tool_call_id
        return [self.role, self.content, more] if more else [self.role, self.content]

    @classmethod
    def from_parts(cls, parts: Sequence[Any]) -> Self:
        """The turn that `parts` gave; pictures without their data."""
        role, content, *rest = parts
        more = rest[0] if rest else {}
        return cls(
            role,
            content,
            images=tuple(Image(*one) for one in more.get("images", ())),
            tool_calls=tuple(ToolCall(*one) for one in more.get("tool_calls", ())),
            tool_call_id=more.get("tool_call_id"),
        )


Operation = Literal["chat", "embed", "rerank"]
"""What a model is asked to do: answer, give vectors of texts, or score texts by a question."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatRequest:
    """One call to a model, complete but for the address and the key.

    Nearly always a chat; `models.operations` makes the requests of the other operations.
    """

    endpoint: str
    """Name of the endpoint in the study (`models:` in study.yaml)."""
    messages: tuple[Message, ...]
    max_tokens: int
    """Upper bound on generated tokens; always sent with a chat, so that the budget can be a ceiling, 0 with others."""
    temperature: float = 0.0
    seed: int | None = None
    response_schema: Mapping[str, Any] | None = None
    """JSON Schema the endpoint is asked to enforce; `None` asks for free text."""
    tools: tuple[Tool, ...] = ()
    """Functions the model may ask for."""
    adapter: str | None = None
    """Content digest of the LoRA adapter to use; the endpoint maps it to what its server calls it."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further request fields, passed through as they are (for example `grammar`)."""
    operation: Operation = "chat"
    """`embed`: one user message a text. `rerank`: the question, then one user message a text."""
    logprobs: bool = False
    """Whether the endpoint is asked how probable each token of its answer was."""

    def digest(self, *, model: str, repeat: int = 0) -> str:
        """Content address of this call: equal digests mean that the same answer may be used.

        Args:
            model: Identity of the model behind the endpoint (name and, where local, weight digest).
            repeat: Index of the repeat; repeats are separate samples and never share an answer.

        Returns:
            32 hexadecimal characters.
        """
        body: dict[str, Any] = {
            "endpoint": self.endpoint,
            "model": model,
            "repeat": repeat,
            "messages": [message.parts() for message in self.messages],
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "schema": self.response_schema,
            "adapter": self.adapter,
            "extra": self.extra,
        }
        if self.tools:  # without tools the digest is what it was before there were any: journals stay valid
            body["tools"] = self.tools
        if self.operation != "chat":
            body["operation"] = self.operation
        if self.logprobs:
            body["logprobs"] = True
        packed = orjson.dumps(body, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY)
        return hashlib.blake2b(packed, digest_size=16).hexdigest()


class AttemptStatus(StrEnum):
    """How one model call ended; exactly one of these."""

    ANSWERED = "answered"
    TRUNCATED = "truncated"
    """Text came, but the token limit cut it."""
    EMPTY = "empty"
    """The endpoint answered without any text."""
    REFUSED = "refused"
    """The model or a content filter declined."""
    TIMED_OUT = "timed_out"
    FAILED = "failed"
    """The endpoint failed after all transport retries, or its answer could not be read."""
    TOO_LONG = "too_long"
    """The prompt does not fit the model's context; nothing was generated."""
    CALLED_TOOLS = "called_tools"
    """The model asked for tools instead of answering; what it asked for is in `Attempt.tool_calls`."""
    SCHEMA_REFUSED = "schema_refused"
    """The endpoint cannot enforce this schema; nothing was generated."""

    @property
    def is_turned_away(self) -> bool:
        """Whether the endpoint did not even begin, so that no token was paid for."""
        return self in (AttemptStatus.TOO_LONG, AttemptStatus.SCHEMA_REFUSED)

    @property
    def has_text(self) -> bool:
        """Whether there is text to parse."""
        return self in (AttemptStatus.ANSWERED, AttemptStatus.TRUNCATED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One model call as it was journalled: what it cost, how long it took, how it ended."""

    digest: str
    endpoint: str
    model: str
    status: AttemptStatus
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    """What was asked for, where the status is `CALLED_TOOLS`."""
    error: str | None = None
    """Why there is no usable text, in the endpoint's words, without secrets."""
    prompt_tokens: int | None = None
    """All prompt tokens, cached ones included; `None` when the endpoint did not say."""
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    logprob: float | None = None
    """Natural logarithm of the probability of the answer's text, never above 0; `None` where it was not asked for, or the
    endpoint does not say."""
    latency_s: float
    """From sending to the full answer, transport retries and their waits included, our own queueing excluded."""
    price_usd: float | None
    """All tries of this call together; `None` when no price is known, never 0 for unknown."""
    transport_retries: int = 0
    """Tries repeated because of 429, 5xx, a dropped connection or a timeout."""
    step: str = "answer"
    """Which step of the approach asked."""
    extra: bool = False
    """Beyond the approach's planned calls, because an answer was invalid, refused, empty or timed out."""
    replayed: bool = False
    """Taken from the journal instead of being sent again; latency and price are the recorded ones."""
    started_utc: str = ""
    """ISO time at which the call was sent."""
