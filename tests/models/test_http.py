"""The HTTP endpoint against a real local server: every way a call can end becomes data, and no key gets out."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import orjson
import pytest

from steelyard.errors import InputError
from steelyard.figures import Provenance
from steelyard.models.calls import AttemptStatus, ChatRequest, Image, Message, Tool, ToolCall
from steelyard.models.chat_format import read_completion, retry_after_s, says_too_long
from steelyard.models.endpoint import EndpointFault, Price
from steelyard.models.http import HttpEndpoint, hosted, local
from steelyard.models.local_server import NEGLIGIBLE_SCALE
from steelyard.models.spec import EndpointSpec, PriceSpec
from steelyard.models.stub_server import StubServer, completion

KEY = "sk-very-secret-0123456789"


def asking(text: str, **more: Any) -> ChatRequest:  # noqa: ANN401 - fields of any type
    return ChatRequest(endpoint="stub", messages=(Message("user", text),), max_tokens=8, **more)


def endpoint(stub: StubServer, monkeypatch: pytest.MonkeyPatch, **more: Any) -> HttpEndpoint:  # noqa: ANN401
    monkeypatch.setenv("STUB_KEY", KEY)
    return hosted("stub", EndpointSpec(base_url=stub.url, model="m", api_key_env="STUB_KEY", **more))


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        ("ok", AttemptStatus.ANSWERED),
        ("length", AttemptStatus.TRUNCATED),
        ("content_filter", AttemptStatus.REFUSED),
        ("refusal", AttemptStatus.REFUSED),
        ("empty_text", AttemptStatus.EMPTY),
        ("too_long", AttemptStatus.TOO_LONG),
    ],
)
async def test_each_way_to_end_has_its_status(
    behaviour: str, status: AttemptStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A readable answer ends in exactly one status, and its tokens are counted."""
    async with StubServer(reply="yes", cached_tokens=7) as stub:
        model = endpoint(stub, monkeypatch)
        response = await model.send(asking(f"stub:{behaviour}"), timeout_s=5)
        await model.close()
    assert response.status is status
    if status is not AttemptStatus.TOO_LONG:
        assert (response.prompt_tokens, response.cached_tokens, response.completion_tokens) == (20, 7, 5)


@pytest.mark.parametrize(
    ("behaviour", "kind", "says"),
    [
        ("401", "unusable", "the key in $STUB_KEY was refused"),
        ("403", "unusable", "the key in $STUB_KEY was refused"),
        ("echo_key", "unusable", "[$STUB_KEY]"),
        ("404", "unusable", "does not know model 'm'"),
        ("redirect", "unusable", "redirects"),
        ("400", "rejected", "not acceptable"),
        ("422", "rejected", "422"),
        ("429", "rate_limited", "429"),
        ("500", "server_error", "internal error"),
        ("503", "server_error", "overloaded"),
        ("malformed", "unreadable", "not JSON"),
        ("not_chat", "unreadable", "not a chat completion"),
        ("empty_choices", "unreadable", "no choices"),
        ("huge", "unreadable", "larger than 32 MB"),
        ("truncated", "dropped", "broke off"),
        ("drop", "dropped", "broke off"),
        ("hang", "timed_out", "within 0.2 s"),
    ],
)
async def test_each_fault_has_its_kind_and_a_sentence(
    behaviour: str, kind: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault says what happened, whether it is worth another try, and never what the key is."""
    async with StubServer(retry_after="3") as stub:
        model = endpoint(stub, monkeypatch)
        with pytest.raises(EndpointFault) as caught:
            await model.send(asking(f"stub:{behaviour}"), timeout_s=0.2 if behaviour == "hang" else 5)
        await model.close()
    fault = caught.value
    assert fault.kind == kind
    assert says in fault.message
    assert KEY not in fault.message + str(fault.hint)
    assert fault.retry_after_s == (3.0 if behaviour == "429" else None)


async def test_nobody_listening_is_fatal_at_first_and_an_outage_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong address stops at once; a server that answered before may come back."""
    stub = StubServer()
    await stub.start()
    model = endpoint(stub, monkeypatch)
    await model.send(asking("hello"), timeout_s=5)
    fresh = endpoint(stub, monkeypatch)
    await stub.stop()
    with contextlib.suppress(EndpointFault):  # may still meet the dying connection
        await model.send(asking("hello"), timeout_s=5)
    for one, kind in ((model, "dropped"), (fresh, "unusable")):
        with pytest.raises(EndpointFault) as caught:
            await one.send(asking("hello"), timeout_s=5)
        assert caught.value.kind == kind
        await one.close()


async def test_the_request_carries_schema_extras_and_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the approach asks for reaches the server as it is."""
    schema = {"type": "object", "properties": {"label": {"type": "string"}}}
    async with StubServer(bodies=[]) as stub:
        model = endpoint(stub, monkeypatch, extra_body={"top_k": 1})
        await model.send(asking("hello", response_schema=schema, seed=3, extra={"grammar": "g"}), timeout_s=5)
        await model.close()
        assert stub.bodies is not None
        body = orjson.loads(stub.bodies[0])
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "output", "strict": True, "schema": schema},
    }
    assert (body["top_k"], body["grammar"], body["seed"], body["max_tokens"]) == (1, "g", 3, 8)
    assert "lora" not in body


async def test_the_probability_of_an_answer_is_asked_for_only_where_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The log-probabilities of all tokens add up; without being asked the endpoint is sent what it always was."""
    async with StubServer(bodies=[], logprob=-0.25) as stub:
        model = endpoint(stub, monkeypatch)
        asked = await model.send(asking("one", logprobs=True), timeout_s=2)
        plain = await model.send(asking("one"), timeout_s=2)
        await model.close()
    assert asked.logprob == pytest.approx(-0.25)
    assert plain.logprob is None
    assert stub.bodies is not None
    assert b"logprobs" not in stub.bodies[1]
    assert asking("one").digest(model="m") != asking("one", logprobs=True).digest(model="m")
    assert asking("one").digest(model="m") == asking("one", logprobs=False).digest(model="m")


@pytest.mark.parametrize(
    ("logprobs", "read"),
    [
        (None, None),
        ({"content": []}, None),
        ({"content": [{"logprob": -1.0}, {"logprob": -0.5}]}, -1.5),
        ({"content": [{"logprob": 1e-6}]}, 0.0),
        ({"content": [{"logprob": -1.0}, {"token": "a"}]}, None),
        ({"content": [{"logprob": "x"}]}, None),
        ({"tokens": ["a"], "token_logprobs": [-1.0]}, None),
        ("none", None),
    ],
)
def test_a_probability_that_is_not_there_in_full_is_unknown(logprobs: Any, read: float | None) -> None:  # noqa: ANN401
    body = {"choices": [{"message": {"content": "a"}, "finish_reason": "stop", "logprobs": logprobs}]}
    assert read_completion(orjson.dumps(body), url="u", clean=str).logprob == read


async def test_tools_and_pictures_are_sent_as_the_format_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Definitions, calls, results and pictures stand where OpenAI-compatible servers look for them."""
    parameters = {"type": "object", "properties": {"n": {"type": "integer"}}}
    messages = (
        Message("user", "what is it?", images=(Image("data:image/png;base64,AAAA", "d"),)),
        Message("assistant", "", tool_calls=(ToolCall("c1", "look", '{"n": 1}'),)),
        Message("tool", "a cat", tool_call_id="c1"),
    )
    request = replace(
        asking(""), messages=messages, tools=(Tool(name="look", description="Look.", parameters=parameters),)
    )
    async with StubServer(bodies=[]) as stub:
        model = endpoint(stub, monkeypatch)
        await model.send(request, timeout_s=5)
        await model.close()
        assert stub.bodies is not None
        body = orjson.loads(stub.bodies[0])
    assert body["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "what is it?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            ],
        },
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"n": 1}'}}],
        },
        {"role": "tool", "content": "a cat", "tool_call_id": "c1"},
    ]
    function = {"name": "look", "description": "Look.", "parameters": parameters}
    assert body["tools"] == [{"type": "function", "function": function}]


@pytest.mark.parametrize(
    ("calls", "read"),
    [
        ([{"id": "a", "function": {"name": "f", "arguments": "{}"}}], [ToolCall("a", "f", "{}")]),
        ([{"function": {"name": "f", "arguments": {"n": 1}}}], [ToolCall("call_0", "f", '{"n":1}')]),
        ([{"id": None, "function": {"name": "f", "arguments": None}}], [ToolCall("call_0", "f", "{}")]),
    ],
)
def test_calls_of_tools_are_read_in_the_forms_servers_send(calls: list[dict[str, Any]], read: list[ToolCall]) -> None:
    """Some servers leave ids out or send arguments as an object."""
    body = completion(None, usage={}, finish="tool_calls", tool_calls=calls)
    response = read_completion(body, url="u", clean=str)
    assert (response.status, list(response.tool_calls)) == (AttemptStatus.CALLED_TOOLS, read)


def test_a_call_without_a_function_is_unreadable() -> None:
    """Nonsense in place of a call is a fault of the endpoint, not a crash."""
    with pytest.raises(EndpointFault, match="not a chat completion"):
        read_completion(completion(None, usage={}, tool_calls=[{"id": "a"}]), url="u", clean=str)


async def test_a_refused_schema_is_no_fault_of_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the call under its own name, so that the question can be asked without; no other rejection does."""
    async with StubServer() as stub:
        model = endpoint(stub, monkeypatch)
        refused = await model.send(asking("stub:schema_refused", response_schema={"type": "object"}), timeout_s=5)
        assert (refused.status, "recursion" in str(refused.error)) == (AttemptStatus.SCHEMA_REFUSED, True)
        assert (refused.prompt_tokens, refused.completion_tokens) == (0, 0)
        taken = await model.send(asking("stub:schema_refused"), timeout_s=5)
        assert taken.status is AttemptStatus.ANSWERED
        with pytest.raises(EndpointFault):
            await model.send(asking("stub:400", response_schema={"type": "object"}), timeout_s=5)
        await model.close()


async def test_every_local_request_names_all_adapters() -> None:
    """llama.cpp keeps the last choice and ignores unknown ids, so both are settled before anything is sent."""
    price = Price(cpu_hour_usd=0.1, provenance=Provenance(kind="assumed", source="test"))
    async with StubServer(bodies=[]) as stub:
        model = local("local", base_url=stub.url, identity="w", price=price, adapter_ids={"aa": 0, "bb": 1})
        await model.send(asking("x"), timeout_s=5)
        await model.send(asking("x", adapter="bb"), timeout_s=5)
        with pytest.raises(EndpointFault, match="cc is not loaded") as caught:
            await model.send(asking("x", adapter="cc"), timeout_s=5)
        await model.close()
        assert stub.bodies is not None
        sent = [orjson.loads(body)["lora"] for body in stub.bodies]
    assert sent == [
        # The bare base model: negligible, but enough for llama.cpp to drop what an adapter left in its cache.
        [{"id": 0, "scale": NEGLIGIBLE_SCALE}, {"id": 1, "scale": 0.0}],
        [{"id": 0, "scale": 0.0}, {"id": 1, "scale": 1.0}],
    ]
    assert caught.value.fatal


def test_an_unset_key_is_named_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable to set."""
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    spec = EndpointSpec(base_url="http://127.0.0.1:1/v1", model="m", api_key_env="NO_SUCH_KEY")
    with pytest.raises(InputError, match="NO_SUCH_KEY is not set"):
        hosted("stub", spec)


def test_another_address_or_setting_is_another_model() -> None:
    """Answers of a stand-in server never pass for answers of the real service."""
    specs = [
        EndpointSpec(base_url="http://127.0.0.1:1/v1", model="m"),
        EndpointSpec(base_url="http://127.0.0.1:2/v1", model="m"),
        EndpointSpec(base_url="http://127.0.0.1:2/v1", model="m", extra_body={"top_k": 1}),
    ]
    assert len({hosted("stub", spec).model for spec in specs}) == 3


def test_a_price_without_a_date_is_assumed() -> None:
    """Only a dated price counts as quoted."""
    spec = EndpointSpec(base_url="http://x/v1", model="m", price_per_million=PriceSpec(input=1, output=2))
    assert hosted("stub", spec).price.provenance.kind == "assumed"


@pytest.mark.parametrize(("header", "seconds"), [("2", 2.0), ("-1", 0.0), ("soon", None), ("nan", None), (None, None)])
def test_retry_after_is_read_or_ignored(header: str | None, seconds: float | None) -> None:
    """Nonsense in a header is no reason to wait, or to crash."""
    assert retry_after_s(header) == seconds


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"This model\'s maximum context length is 8192 tokens.","code":"context_length_exceeded"}}',
        b'{"error":{"code":400,"message":"the request exceeds the available context size","n_ctx":2048}}',
        b'{"error":{"code":400,"message":"no","type":"exceed_context_size_error","n_prompt_tokens":3000}}',
    ],
)
def test_a_prompt_that_does_not_fit_is_recognised(body: bytes) -> None:
    """In the words of hosted services and of llama.cpp; another rejection is not mistaken for it."""
    assert says_too_long(body)
    assert not says_too_long(b'{"error":{"message":"unknown field grammar"}}')
