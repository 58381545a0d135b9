"""A real OpenAI-compatible server on 127.0.0.1 that plays a model, its faults included, for tests and benchmarks.

    python -m steelyard.models.stub_server --latency-ms 100 --reply '{"label": "yes"}'

prints its address. What it does with a request is chosen by a marker anywhere in the request, so by the model's name
or by a message: `stub:500` fails, `stub:500x2` fails twice for this body and then answers. Behaviours: see
`BEHAVIOURS`. `GET /stats` counts requests, in all and by digest of their body.

`POST /v1/embeddings` gives each text a vector of the letters in it, and `POST /v1/rerank` scores texts by the words they
share with the question, so that what is found by either makes sense.

A bare asyncio protocol without an HTTP library, so that benchmarks measure the client and not this.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import math
import re
import struct
import sys
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import orjson

BEHAVIOURS = (
    "ok",
    "slow",
    "hang",
    "drop",
    "truncated",
    "malformed",
    "not_chat",
    "empty_choices",
    "empty_text",
    "length",
    "content_filter",
    "refusal",
    "too_long",
    "schema_refused",
    "tool_call",
    "no_base64",
    "one_missing",
    "other_length",
    "nan",
    "zeros",
    "not_found_here",
    "echo_key",
    "huge",
    "redirect",
    "400",
    "401",
    "403",
    "404",
    "422",
    "429",
    "500",
    "503",
)
"""What a marker may ask for; three digits answer with that status, `429` with a Retry-After. `schema_refused` turns away
requests with a schema alone; `tool_call` asks for the first tool with no arguments until a result is there. Of embeddings
and rankings: `no_base64` turns that form away, `one_missing`, `other_length`, `nan` and `zeros` spoil the first result,
`not_found_here` answers as a server that does neither."""

_OF_TEXTS = ("ok", "no_base64", "one_missing", "other_length", "nan", "zeros", "not_found_here")
_NAMES = "|".join(sorted(BEHAVIOURS, key=len, reverse=True)).encode()
_MARKER = re.compile(rb"stub:(" + _NAMES + rb")(?:x(\d+))?")
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_KEY = re.compile(rb"(?i)\r\nauthorization: *bearer +([^\r]+)")
_SAID = {
    "400": "this request is not acceptable",
    "401": "invalid key",
    "403": "not allowed",
    "404": "the model does not exist",
    "422": "unprocessable",
    "429": "slow down",
    "500": "internal error",
    "503": "overloaded",
}


@dataclass(kw_only=True)
class StubServer:
    """The server inside a running event loop: `async with StubServer(reply="yes") as stub: stub.url`."""

    reply: str = "ok"
    """Text of every good answer."""
    latency_s: float = 0.0
    """Seconds before a good answer."""
    slow_s: float = 1.0
    """Seconds before the answer of behaviour `slow`."""
    retry_after: str = "0.05"
    """Retry-After header sent with 429."""
    default: str = "ok"
    """Behaviour where a request has no marker."""
    prompt_tokens: int = 20
    cached_tokens: int = 0
    completion_tokens: int = 5
    logprob: float = -0.1
    """Log-probability of every good answer, said where a request asks for it, in equal parts a token."""
    dimensions: int = 8
    """Numbers of a vector."""
    port: int = 0
    n_requests: int = 0
    """Requests received, but for those of `/stats`."""
    n_texts: int = 0
    """Texts embedded in good answers."""
    digests: Counter[str] = field(default_factory=Counter)
    """How often each body came, by its blake2b digest (16 bytes, hexadecimal)."""
    bodies: list[bytes] | None = None
    """Set to a list to keep the bodies."""
    _server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The `base_url` to give to a client."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        """Listen on 127.0.0.1, on a free port where `port` is 0."""
        self._ok = http_answer(200, completion(self.reply, usage=self._usage()))
        logprobs = [self.logprob / self.completion_tokens] * self.completion_tokens
        self._ok_with_logprobs = http_answer(200, completion(self.reply, usage=self._usage(), logprobs=logprobs))
        loop = asyncio.get_running_loop()
        self._connections: set[_Connection] = set()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._server is not None:
            self._server.close()
            for connection in list(self._connections):
                connection.transport.abort()
            await self._server.wait_closed()
            self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def stats(self) -> dict[str, Any]:
        """What `GET /stats` answers."""
        return {"n_requests": self.n_requests, "n_texts": self.n_texts, "digests": self.digests}

    def _usage(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }

    def _answer(self, head: bytes, body: bytes) -> tuple[float, bytes | None, bool]:
        """Seconds to wait, what to send (`None`: nothing, ever) and whether to close after it."""
        self.n_requests += 1
        digest = hashlib.blake2b(body, digest_size=16).hexdigest()
        self.digests[digest] += 1
        if self.bodies is not None:
            self.bodies.append(body)
        behaviour = self.default
        marker = _MARKER.search(body)
        if marker:
            times = marker.group(2)
            behaviour = "ok" if times and self.digests[digest] > int(times) else marker.group(1).decode()
        path = head.split(b" ", 2)[1]
        if path.endswith((b"/embeddings", b"/rerank")) and behaviour in _OF_TEXTS:
            return self.latency_s, self._answer_about_texts(path, behaviour, orjson.loads(body)), False
        if behaviour == "ok":
            return self.latency_s, self._ok_with_logprobs if b'"logprobs":true' in body else self._ok, False
        if behaviour in ("schema_refused", "tool_call"):
            return self.latency_s, self._answer_to(behaviour, orjson.loads(body)), False
        return self._misbehave(behaviour, head)

    def _answer_to(self, behaviour: str, request: dict[str, Any]) -> bytes:
        """Where it depends on what was asked."""
        if behaviour == "schema_refused" and "response_format" in request:
            said = "Invalid schema for response_format 'output': recursion is not supported"
            return http_answer(400, orjson.dumps({"error": {"message": said}}))
        if behaviour == "tool_call" and request["messages"][-1]["role"] != "tool":
            function = {"name": request["tools"][0]["function"]["name"], "arguments": "{}"}
            calls = [{"id": f"call-{self.n_requests}", "type": "function", "function": function}]
            return http_answer(200, completion(None, usage=self._usage(), finish="tool_calls", tool_calls=calls))
        return self._ok

    def _answer_about_texts(self, path: bytes, behaviour: str, request: dict[str, Any]) -> bytes:
        """Vectors or scores, the last text first, since the order of a list is nothing to rely on."""
        if behaviour == "not_found_here":
            return http_answer(404, orjson.dumps({"detail": "Not Found"}))
        usage = {"prompt_tokens": self.prompt_tokens, "total_tokens": self.prompt_tokens}
        if path.endswith(b"/rerank"):
            scores = [_words_shared(request["query"], text) for text in request["documents"]]
            results: list[dict[str, Any]] = [{"index": i, "relevance_score": one} for i, one in enumerate(scores)]
            if behaviour == "one_missing":
                results = results[1:]
            return http_answer(200, orjson.dumps({"results": results[::-1], "usage": {"total_tokens": 7}}))
        is_base64 = request.get("encoding_format") == "base64"
        if behaviour == "no_base64" and is_base64:
            said = "unsupported encoding_format: base64"
            return http_answer(400, orjson.dumps({"error": {"message": said}}))
        vectors = [_letters(text, self.dimensions) for text in request["input"]]
        match behaviour:
            case "one_missing":
                del vectors[0]
            case "other_length":
                vectors[0] = vectors[0][1:]
            case "nan":
                vectors[0] = [math.nan] * self.dimensions
            case "zeros":
                vectors[0] = [0.0] * self.dimensions
            case _:
                self.n_texts += len(vectors)
        data = [
            {"index": i, "object": "embedding", "embedding": _packed(one) if is_base64 else one}
            for i, one in enumerate(vectors)
        ]
        return http_answer(200, orjson.dumps({"object": "list", "data": data[::-1], "usage": usage}))

    def _misbehave(self, behaviour: str, head: bytes) -> tuple[float, bytes | None, bool]:
        usage = self._usage()
        chat: bytes | None = None
        match behaviour:
            case "slow":
                return self.slow_s, self._ok, False
            case "hang":
                return 0.0, None, False
            case "drop":
                return 0.0, b"", True
            case "truncated":
                return self.latency_s, self._ok[:-10], True
            case "malformed":
                chat = b'{"choices": [{"mess'
            case "not_chat":
                chat = b'{"object": "list", "data": []}'
            case "empty_choices":
                chat = orjson.dumps({"choices": [], "usage": usage})
            case "empty_text":
                chat = completion("", usage=usage)
            case "length":
                chat = completion(self.reply, usage=usage, finish="length")
            case "content_filter":
                chat = completion("", usage=usage, finish="content_filter")
            case "refusal":
                chat = completion(None, usage=usage, refusal="I will not do that")
            case "huge":
                chat = b" " * (33 * 2**20)
            case "too_long":
                said = "This model's maximum context length is 8 tokens"
                error = {"message": said, "code": "context_length_exceeded"}
                return self.latency_s, http_answer(400, orjson.dumps({"error": error})), False
            case "echo_key":
                key = _KEY.search(head)
                said = f"Incorrect API key provided: {key.group(1).decode() if key else ''}"
                return self.latency_s, http_answer(401, orjson.dumps({"error": {"message": said}})), False
            case "redirect":
                return self.latency_s, http_answer(307, b"", extra=b"Location: http://127.0.0.1:9/\r\n"), False
            case _:
                error_body = orjson.dumps({"error": {"message": _SAID.get(behaviour, "error")}})
                extra = f"Retry-After: {self.retry_after}\r\n".encode() if behaviour == "429" else b""
                return self.latency_s, http_answer(int(behaviour), error_body, extra=extra), False
        return self.latency_s, http_answer(200, chat), False


class _Connection(asyncio.Protocol):
    """One keep-alive connection; one request at a time, as chat clients send them."""

    def __init__(self, stub: StubServer) -> None:
        self._stub = stub
        self._received = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._stub._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stub._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        end = received.find(b"\r\n\r\n")
        if end < 0:
            self._received = received
            return
        length = _LENGTH.search(received, 0, end)
        total = end + 4 + (int(length.group(1)) if length else 0)
        if len(received) < total:
            self._received = received
            return
        self._received = received[total:]
        if received.startswith(b"GET /stats"):
            self.transport.write(http_answer(200, orjson.dumps(self._stub.stats())))
            return
        wait_s, answer, close = self._stub._answer(received[:end], received[end + 4 : total])
        if answer is None:
            return
        if wait_s:
            asyncio.get_running_loop().call_later(wait_s, self._write, answer, close)
        else:
            self._write(answer, close)

    def _write(self, answer: bytes, close: bool) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(answer)
        if close:
            self.transport.close()


def _letters(text: str, dimensions: int) -> list[float]:
    """How often which letter stands in a text, folded into so many places; never all zeros."""
    found = [0.0] * dimensions
    for letter in text.casefold():
        found[ord(letter) % dimensions] += 1.0
    return found if any(found) else [1.0] * dimensions


def _words_shared(question: str, text: str) -> float:
    return float(len(set(question.casefold().split()) & set(text.casefold().split())))


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def completion(
    text: str | None,
    *,
    usage: dict[str, Any],
    finish: str = "stop",
    refusal: str | None = None,
    tool_calls: list[dict[str, Any]] | None = None,
    logprobs: list[float] | None = None,
) -> bytes:
    """A chat completion as JSON."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if refusal is not None:
        message["refusal"] = refusal
    if tool_calls is not None:
        message["tool_calls"] = tool_calls
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": finish}
    if logprobs is not None:
        choice["logprobs"] = {"content": [{"token": "t", "logprob": one} for one in logprobs]}
    about = {"id": "stub", "object": "chat.completion", "created": 0, "model": "stub"}
    return orjson.dumps({**about, "choices": [choice], "usage": usage})


def http_answer(status: int, body: bytes, *, extra: bytes = b"") -> bytes:
    """A whole HTTP/1.1 answer with a JSON body."""
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n".encode()
    return head + extra + b"\r\n" + body


async def _serve(stub: StubServer) -> None:
    await stub.start()
    sys.stdout.write(stub.url + "\n")
    sys.stdout.flush()
    # Lives until its parent closes the pipe or kills it, so that no test leaves one behind.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await stub.stop()


def main() -> None:
    """Run the server until standard input is closed."""
    parser = argparse.ArgumentParser(prog="python -m steelyard.models.stub_server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="before every good answer")
    parser.add_argument("--reply", default="ok", help="text of every good answer")
    parser.add_argument("--default", choices=BEHAVIOURS, default="ok", help="behaviour without a marker")
    parser.add_argument("--retry-after", default="0.05", help="header sent with 429")
    parser.add_argument("--dimensions", type=int, default=8, help="numbers of a vector")
    options = parser.parse_args()
    stub = StubServer(
        port=options.port,
        latency_s=options.latency_ms / 1000,
        reply=options.reply,
        default=options.default,
        retry_after=options.retry_after,
        dimensions=options.dimensions,
    )
    asyncio.run(_serve(stub))


if __name__ == "__main__":
    main()
