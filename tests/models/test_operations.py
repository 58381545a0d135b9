"""Embeddings and rankings over HTTP against a real local server: whole and checked, or a fault that says what is wrong."""

from __future__ import annotations

import asyncio

import numpy as np
import orjson
import pytest

from steelyard.figures import Provenance
from steelyard.models.calls import AttemptStatus, ChatRequest, Message
from steelyard.models.endpoint import EndpointFault, Price, Response
from steelyard.models.http import hosted
from steelyard.models.operations import embed_request, rerank_request, scores_of, text_of_vectors, vectors_of
from steelyard.models.spec import EndpointSpec
from steelyard.models.stub_server import StubServer, http_answer

INPUT_ONLY = Price(input_per_million_usd=2.0, provenance=Provenance(kind="assumed", source="test"))


class OneAnswer:
    """A server that says the same to everything."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self._answer)
        await writer.drain()
        writer.close()


async def send(stub: StubServer, request: ChatRequest, model: str = "m") -> Response:
    endpoint = hosted("stub", EndpointSpec(base_url=stub.url, model=model))
    try:
        return await endpoint.send(request, timeout_s=5)
    finally:
        await endpoint.close()


async def test_vectors_come_in_the_order_of_the_texts_and_have_length_one() -> None:
    """The server's order is not relied on; what it counted as tokens is the price's basis, and nothing is generated."""
    async with StubServer(dimensions=8) as stub:
        response = await send(stub, embed_request("stub", ["aaa", "b"]))
    vectors = vectors_of(response.text)
    assert vectors.dtype == np.float32
    expected = np.zeros((2, 8), dtype=np.float32)
    expected[0, ord("a") % 8] = expected[1, ord("b") % 8] = 1.0
    np.testing.assert_array_equal(vectors, expected)
    assert response.status is AttemptStatus.ANSWERED
    assert (response.prompt_tokens, response.cached_tokens, response.completion_tokens) == (20, 0, 0)


async def test_a_server_without_base64_is_asked_for_numbers_once_and_remembered() -> None:
    """Both forms give the same vectors; the refused form is not tried again."""
    async with StubServer(default="no_base64", bodies=[]) as stub:
        endpoint = hosted("stub", EndpointSpec(base_url=stub.url, model="m"))
        plain = await endpoint.send(embed_request("stub", ["text"]), timeout_s=5)
        await endpoint.send(embed_request("stub", ["more"]), timeout_s=5)
        await endpoint.close()
        sent = [orjson.loads(body) for body in stub.bodies or ()]
    async with StubServer() as stub:
        packed = await send(stub, embed_request("stub", ["text"]))
    assert plain.text == packed.text
    assert [one.get("encoding_format") for one in sent] == ["base64", None, None]
    assert sent[0] == {"model": "m", "input": ["text"], "encoding_format": "base64"}


async def test_scores_come_in_the_order_of_the_texts() -> None:
    """A ranking is sent in the common format, and read back by index."""
    async with StubServer(bodies=[]) as stub:
        response = await send(stub, rerank_request("stub", "red house", ["a tree", "the red house", "red"]))
        body = orjson.loads((stub.bodies or [])[0])
    assert scores_of(response.text, 3) == [0.0, 2.0, 1.0]
    assert body == {"model": "m", "query": "red house", "documents": ["a tree", "the red house", "red"]}
    assert (response.prompt_tokens, response.completion_tokens) == (7, 0)


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        ("one_missing", "1 are missing"),
        ("other_length", "different lengths: 7, 8"),
        ("nan", "no finite number"),
        ("zeros", "all zeros"),
    ],
)
async def test_vectors_that_would_spoil_an_index_are_unreadable(behaviour: str, says: str) -> None:
    """Missing, unequal, not finite or all zero: another try may mend it, and none of it gets into an index."""
    async with StubServer() as stub:
        with pytest.raises(EndpointFault, match=says) as caught:
            await send(stub, embed_request("stub", ["one", "two"]), model=f"stub:{behaviour}")
    assert caught.value.kind == "unreadable"
    assert caught.value.retry


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (embed_request("stub", ["text"]), "does not give embeddings, or does not know model"),
        (rerank_request("stub", "question", ["text"]), "does not rerank, or does not know model"),
    ],
)
async def test_an_endpoint_that_does_not_do_this_says_so_and_is_not_tried_again(
    request_: ChatRequest, says: str
) -> None:
    """404 on these addresses is nothing that waiting mends."""
    async with StubServer(default="not_found_here") as stub:
        with pytest.raises(EndpointFault, match=says) as caught:
            await send(stub, request_)
    assert caught.value.fatal
    assert caught.value.hint is not None


@pytest.mark.parametrize("text", ["", "{}", "[]", '["AAAA"]', '["AACAPwAAAAA=", "AACAPw=="]', "[1, 2]", '["?"]'])
def test_a_text_that_is_no_vectors_is_refused(text: str) -> None:
    """Whatever stands in a damaged journal, no wrong vectors come of it."""
    with pytest.raises(ValueError, match=r"."):
        vectors_of(text)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '["1", 2]', "[true, 1]", "[null, 1]"])
def test_a_text_that_is_no_scores_is_refused(text: str) -> None:
    """As for vectors."""
    with pytest.raises(ValueError, match=r"."):
        scores_of(text, 2)


def test_vectors_survive_their_journalled_form() -> None:
    """Exactly, since an answer from the journal must be the answer."""
    vectors = vectors_of(text_of_vectors(np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)))
    np.testing.assert_allclose(vectors_of(text_of_vectors(vectors)), vectors, rtol=1e-6)


def test_the_operation_is_part_of_what_identifies_a_call() -> None:
    """An embedding of a text never passes for a chat about it."""
    texts = (Message("user", "question"), Message("user", "text"))
    digests = {
        ChatRequest(endpoint="e", messages=texts, max_tokens=0).digest(model="m"),
        embed_request("e", ["question", "text"]).digest(model="m"),
        rerank_request("e", "question", ["text"]).digest(model="m"),
    }
    assert len(digests) == 3


def test_embeddings_need_no_price_of_answers_and_chats_do() -> None:
    """A price of input alone prices what generates nothing, and stays unknown for what does."""
    counted = {"prompt_tokens": 1_000_000, "cached_tokens": 0, "seconds": 1.0}
    assert INPUT_ONLY.of_call(**counted, completion_tokens=0) == 2.0  # type: ignore[arg-type]
    assert INPUT_ONLY.of_call(**counted, completion_tokens=1) is None  # type: ignore[arg-type]
    chat = ChatRequest(endpoint="e", messages=(Message("user", "text"),), max_tokens=1)
    assert INPUT_ONLY.upper_bound(chat, timeout_s=1, tries=1) is None


def test_a_reranker_is_bounded_by_the_question_with_every_text() -> None:
    """It reads the question again for each text, and is paid for it."""
    question, texts = "q" * 1_000, ["a", "b", "c"]
    bound = INPUT_ONLY.upper_bound(rerank_request("e", question, texts), timeout_s=1, tries=1)
    assert bound is not None
    assert bound >= 3 * 1_000 * 2.0 / 1e6


@pytest.mark.parametrize("status", [400, 413, 500])
async def test_a_text_longer_than_the_model_reads_is_known_as_such(status: int) -> None:
    """In the words of OpenAI and of llama.cpp, which answers 500: trying again would not help."""
    said = b'{"error": {"message": "input (3001 tokens) is too large to process. increase the physical batch size"}}'
    async with OneAnswer(http_answer(status, said)) as url:
        endpoint = hosted("stub", EndpointSpec(base_url=url, model="m"))
        response = await endpoint.send(embed_request("stub", ["text"]), timeout_s=5)
        await endpoint.close()
    assert response.status is AttemptStatus.TOO_LONG
    assert "3001 tokens" in (response.error or "")
