"""Calls before a run: kept before they count as done, never over the ceiling, and what is under way is not lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from steelyard.engine.budget import Budget
from steelyard.engine.journal import Journal
from steelyard.engine.limits import ManagedEndpoint, managed
from steelyard.engine.paid_calls import PaidCalls
from steelyard.errors import BudgetReached, EndpointUnusable, InputError, RunStopped
from steelyard.models.calls import Attempt, ChatRequest
from steelyard.models.http import hosted
from steelyard.models.operations import embed_request, vectors_of
from steelyard.models.spec import EndpointSpec, PriceSpec
from steelyard.models.stub_server import StubServer
from tests.cli.tickets import serving

PRICE = PriceSpec(input=100.0)
"""20 tokens, as the stub counts a call, are 0.002 USD."""


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "journal.sqlite3") as opened:
        yield opened


def endpoint(stub: StubServer, model: str = "m", price: PriceSpec | None = PRICE, retries: int = 0) -> ManagedEndpoint:
    spec = EndpointSpec(
        base_url=stub.url, model=model, price_per_million=price, max_retries=retries, concurrency=4, timeout_s=5
    )
    return managed(hosted("vectors", spec), spec)


def asking(*texts: str) -> list[ChatRequest]:
    return [embed_request("vectors", [text]) for text in texts]


def numbered(n: int) -> list[ChatRequest]:
    return asking(*(f"text {i}" for i in range(n)))


class Kept:
    """What was kept, by place, with what the journal had counted by then."""

    def __init__(self, journal: Journal | None = None) -> None:
        self.answers: dict[int, Attempt] = {}
        self.counted: list[float] = []
        self._journal = journal

    def __call__(self, place: int, attempt: Attempt) -> None:
        self.answers[place] = attempt
        if self._journal is not None:
            self.counted.append(self._journal.spent().usd)


def test_every_answer_is_kept_and_counted_with_calls_and_money(journal: Journal) -> None:
    """One answer a request, the price of each; and while one is not yet kept, the most it can cost is counted."""
    with serving() as stub:
        kept = Kept(journal)
        PaidCalls(endpoint(stub), journal=journal, budget=Budget(usd=1.0))(numbered(6), kept)
    assert sorted(kept.answers) == list(range(6))
    assert all(vectors_of(one.text).shape == (1, 8) for one in kept.answers.values())
    spent = journal.spent()
    assert (spent.calls, spent.unpriced_calls) == (6, 0)
    assert spent.usd == pytest.approx(6 * 0.002)
    assert all(one >= 0.002 for one in kept.counted)


@pytest.mark.parametrize("budget", [0.0, 0.005, 0.011])
def test_the_ceiling_holds_side_by_side_and_over_commands(budget: float, journal: Journal) -> None:
    """What would not fit is not sent, what did was kept, and what an earlier command spent counts."""
    with serving(latency_s=0.02) as stub:
        kept = Kept()
        for _ in range(2):
            calls = PaidCalls(endpoint(stub), journal=journal, budget=Budget(usd=budget))
            with pytest.raises(BudgetReached, match="raise the budget and run the same command again"):
                calls(numbered(20), kept)
        assert stub.n_requests * 0.002 <= budget
        assert (stub.n_requests > 0) is (budget > 0)
        assert journal.spent().usd <= budget


def test_a_ceiling_on_calls_holds(journal: Journal) -> None:
    """Calls before a run are calls."""
    with serving() as stub:
        calls = PaidCalls(endpoint(stub), journal=journal, budget=Budget(calls=3))
        with pytest.raises(BudgetReached, match="budget of 3 calls is used up"):
            calls(numbered(9), Kept())
        assert stub.n_requests == 3


def test_an_unknown_price_is_unknown_and_refused_under_a_budget_in_money(journal: Journal) -> None:
    """Never counted as nothing; and nothing is sent where a ceiling could not be kept."""
    with serving() as stub:
        with pytest.raises(InputError, match=r"needs the price of endpoint 'vectors'.*\n.*price_per_million \(input\)"):
            PaidCalls(endpoint(stub, price=None), journal=journal, budget=Budget(usd=1.0))(asking("text"), Kept())
        assert stub.n_requests == 0
        kept = Kept()
        PaidCalls(endpoint(stub, price=None), journal=journal, budget=Budget())(asking("text"), kept)
    assert kept.answers[0].price_usd is None
    assert journal.spent().unpriced_calls == 1


def test_what_may_pass_is_tried_again_as_in_a_run(journal: Journal) -> None:
    """Two server errors, then an answer: one call, its tries counted."""
    with serving() as stub:
        kept = Kept()
        PaidCalls(endpoint(stub, retries=2), journal=journal, budget=Budget())(asking("stub:500x2"), kept)
    assert kept.answers[0].transport_retries == 2
    assert stub.n_requests == 3


@pytest.mark.parametrize(
    ("behaviour", "error", "says"),
    [
        ("nan", EndpointUnusable, "no finite number"),
        ("500", EndpointUnusable, "internal error"),
        ("400", EndpointUnusable, "not acceptable"),
        ("not_found_here", EndpointUnusable, "does not give embeddings"),
        ("too_long", InputError, "lower knowledge.chunk_tokens"),
    ],
)
def test_a_call_without_an_answer_ends_all_and_keeps_the_others(
    behaviour: str, error: type[Exception], says: str, journal: Journal
) -> None:
    """An index needs every vector; those that came are paid for and kept."""
    with serving() as stub:
        kept = Kept()
        with pytest.raises(error, match=says):
            PaidCalls(endpoint(stub), journal=journal, budget=Budget())(asking("good", f"stub:{behaviour}"), kept)
    assert 1 not in kept.answers


async def test_within_an_event_loop_it_takes_one_of_its_own(journal: Journal) -> None:
    """A look-up that is tried out is asynchronous itself."""
    with serving() as stub:
        kept = Kept()
        PaidCalls(endpoint(stub), journal=journal, budget=Budget())(asking("text"), kept)
    assert list(kept.answers) == [0]


def test_ctrl_c_keeps_what_is_in_flight(journal: Journal) -> None:
    """What was sent is paid for: it ends and is kept, and nothing more is sent."""
    with serving(latency_s=0.3) as stub:
        kept = Kept()

        def interrupt() -> None:
            while stub.n_requests < 4:
                time.sleep(0.005)
            os.kill(os.getpid(), signal.SIGINT)

        person = threading.Thread(target=interrupt)
        person.start()
        with pytest.raises(RunStopped, match="Ctrl-C"):
            PaidCalls(endpoint(stub), journal=journal, budget=Budget())(numbered(12), kept)
        person.join()
        assert len(kept.answers) == stub.n_requests == 4
    assert journal.spent().usd == pytest.approx(4 * 0.002)
