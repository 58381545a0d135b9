"""Embeddings and rankings in a run: through the same journal and budget as chats, and never a second sample."""

from __future__ import annotations

from pathlib import Path

import pytest

from steelyard.approaches.approach import Answer, Ask
from steelyard.cases.case import CaseInput
from steelyard.engine.budget import Budget
from steelyard.engine.journal import Journal
from steelyard.engine.run import Work, run
from steelyard.errors import EndpointUnusable
from steelyard.models.operations import embed_request, rerank_request, scores_of, vectors_of
from steelyard.models.stub_server import StubServer
from tests.engine.fakes import CPU, OnePrompt, cases, score, stub_endpoint


class LooksUp(OnePrompt):
    """Embeds the case's text twice, reranks two texts, and chats."""

    async def answer(self, case: CaseInput, ask: Ask) -> Answer:
        text = str(case.fields["text"])
        for _ in range(2):
            embedded = await ask(embed_request("stub", [text]), step="embed")
            assert vectors_of(embedded.text).shape == (1, 8)
        ranked = await ask(rerank_request("stub", text, ["no", text]), step="rerank")
        assert scores_of(ranked.text, 2) == [0.0, 2.0]
        return await super().answer(case, ask)


async def go(journal: Journal, stub: StubServer, *, repeats: int = 1, budget: Budget | None = None) -> None:
    endpoint = stub_endpoint(stub.url)
    work = [Work(approach=LooksUp(), cases=cases(3), split="test", repeats=repeats)]
    try:
        await run(work, endpoints={"stub": endpoint}, journal=journal, score=score, compute_price=CPU, budget=budget)
    finally:
        await endpoint.endpoint.close()


async def test_a_vector_and_a_ranking_are_asked_for_once_and_a_chat_in_every_repeat(tmp_path: Path) -> None:
    """Repeats are samples of answers; nothing is sampled where the same always comes back."""
    async with StubServer() as stub:
        with Journal.open(tmp_path / "j.sqlite3") as journal:
            await go(journal, stub, repeats=2, budget=Budget(usd=1.0))
            assert stub.n_requests == 3 + 3 + 2 * 3
            assert journal.spent().calls == stub.n_requests
            await go(journal, stub, repeats=2)
            assert stub.n_requests == 12
            # Vectors and chats are 20 prompt tokens each as the stub counts, rankings 7; chats 5 more at twice the price.
            assert journal.spent().usd == pytest.approx((3 * 20 + 3 * 7 + 6 * (20 + 2 * 5)) * 1e-6)


async def test_a_replayed_vector_is_the_vector(tmp_path: Path) -> None:
    """What the journal gives back can be searched with as what was sent could."""
    async with StubServer() as stub:
        with Journal.open(tmp_path / "j.sqlite3") as journal:
            await go(journal, stub)
            outcome = next(journal.outcomes())
            first, second = outcome.attempts[:2]
            assert (first.replayed, second.replayed) == (False, True)
            assert first.text == second.text
            transcript = journal.transcript(outcome.approach, outcome.fingerprint, outcome.case_id)
    assert transcript is not None
    assert [one.operation for one in transcript.requests] == ["embed", "embed", "rerank", "chat"]


async def test_an_endpoint_that_embeds_nothing_stops_the_run_with_a_sentence(tmp_path: Path) -> None:
    """No case is scored on passages it was not given."""
    async with StubServer(default="not_found_here") as stub:
        with Journal.open(tmp_path / "j.sqlite3") as journal:
            with pytest.raises(EndpointUnusable, match="does not give embeddings"):
                await go(journal, stub)
            assert not list(journal.outcomes())
