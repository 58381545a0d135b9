"""What is asked of a model and what came back: the data that crosses the seam between approaches and the engine.

An approach builds a `ChatRequest`; the engine sends it through an `Endpoint` and hands back an `Attempt`, which ends
in exactly one `AttemptStatus`. Requests are plain data and are identified by a digest of all that can change the
answer, so that a journalled attempt can stand in for a call that was already paid for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple

import orjson


class Message(NamedTuple):
    """One chat turn."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatRequest:
    """One call to a chat model, complete but for the address and the key."""

    endpoint: str
    """Name of the endpoint in the study (`models:` in study.yaml)."""
    messages: tuple[Message, ...]
    max_tokens: int
    """Upper bound on generated tokens; always sent, so that the budget can be a ceiling."""
    temperature: float = 0.0
    seed: int | None = None
    response_schema: Mapping[str, Any] | None = None
    """JSON Schema the endpoint is asked to enforce; `None` asks for free text."""
    adapter: str | None = None
    """Content digest of the LoRA adapter to use; the endpoint maps it to what its server calls it."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further request fields, passed through as they are (for example `grammar`)."""

    def digest(self, *, model: str, repeat: int = 0) -> str:
        """Content address of this call: equal digests mean that the same answer may be used.

        Args:
            model: Identity of the model behind the endpoint (name and, where local, weight digest).
            repeat: Index of the repeat; repeats are separate samples and never share an answer.

        Returns:
            32 hexadecimal characters.
        """
        body = {
            "endpoint": self.endpoint,
            "model": model,
            "repeat": repeat,
            "messages": [list(message) for message in self.messages],  # orjson takes no named tuples
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "schema": self.response_schema,
            "adapter": self.adapter,
            "extra": self.extra,
        }
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
    error: str | None = None
    """Why there is no usable text, in the endpoint's words, without secrets."""
    prompt_tokens: int | None = None
    """All prompt tokens, cached ones included; `None` when the endpoint did not say."""
    cached_tokens: int | None = None
    completion_tokens: int | None = None
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
