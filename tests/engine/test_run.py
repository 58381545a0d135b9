"""A run keeps every case in the denominator, pays once, stays under its budget and stops in a sentence."""

from __future__ import annotations

import asyncio
import io
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steelyard.approaches.approach import Answer, Approach, Ask
from steelyard.cases.case import Case, CaseInput
from steelyard.engine.budget import Budget
from steelyard.engine.estimate import dry_run
from steelyard.engine.journal import Journal
from steelyard.engine.limits import ManagedEndpoint
from steelyard.engine.outcome import OutcomeStatus
from steelyard.engine.progress import PlainLines, progress_for
from steelyard.engine.run import RunSummary, Work, run
from steelyard.errors import BudgetReached, EndpointUnusable, InputError, RunStopped
from steelyard.figures import Provenance
from steelyard.models.calls import AttemptStatus, ChatRequest
from steelyard.models.endpoint import EndpointFault, Price, Response
from steelyard.models.stub_server import StubServer
from steelyard.task.scorers import Scored
from tests.engine.fakes import CPU, TOKENS, UNKNOWN, FakeEndpoint, OnePrompt, cases, says, score, stub_endpoint


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "j.sqlite3") as opened:
        yield opened


async def go(
    journal: Journal,
    endpoint: FakeEndpoint | ManagedEndpoint,
    some: list[Case],
    *,
    approach: Approach | None = None,
    **more: Any,  # noqa: ANN401 - passed through to run
) -> RunSummary:
    """Run one approach on some cases."""
    if isinstance(endpoint, FakeEndpoint):
        endpoint = ManagedEndpoint(endpoint=endpoint, max_retries=1, timeout_s=5.0)
    repeats = more.pop("repeats", 1)
    work = Work(approach=approach or OnePrompt(), cases=some, split="test", repeats=repeats)
    settings: dict[str, Any] = {"score": score, "compute_price": CPU} | more
    return await run([work], endpoints={"stub": endpoint}, journal=journal, **settings)


# ---- denominators ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        ("ok", OutcomeStatus.ANSWERED),
        ("length", OutcomeStatus.INVALID),
        ("empty_text", OutcomeStatus.EMPTY),
        ("content_filter", OutcomeStatus.REFUSED),
        ("too_long", OutcomeStatus.TOO_LONG),
        ("hang", OutcomeStatus.TIMED_OUT),
        ("400", OutcomeStatus.FAILED),
        ("429", OutcomeStatus.FAILED),
        ("500", OutcomeStatus.FAILED),
        ("malformed", OutcomeStatus.FAILED),
        ("empty_choices", OutcomeStatus.FAILED),
        ("truncated", OutcomeStatus.FAILED),
    ],
)
async def test_every_case_has_an_outcome_whatever_came_back(
    journal: Journal, behaviour: str, status: OutcomeStatus
) -> None:
    """Faults of one case are its outcome; they do not leave the denominator and do not stop the run."""
    async with StubServer() as stub:
        endpoint = stub_endpoint(stub.url, timeout_s=0.2)
        summary = await go(journal, endpoint, cases(2, text=f"stub:{behaviour}") + cases(3, text="fine")[2:])
        await endpoint.endpoint.close()
    assert summary.statuses["one-prompt"] == Counter({status: 2}) + Counter({OutcomeStatus.ANSWERED: 1})
    for outcome in journal.outcomes():
        (attempt,) = outcome.attempts
        assert outcome.success == (outcome.status is OutcomeStatus.ANSWERED)
        assert attempt.status.has_text or attempt.error


async def test_a_crash_is_recorded_with_its_message(journal: Journal) -> None:
    """An approach that raises has failed this case; the calls it made before are kept with it."""

    class Crashing(OnePrompt):
        async def answer(self, case: CaseInput, ask: Ask) -> Answer:
            answer = await super().answer(case, ask)
            if case.id == "c1":
                raise KeyError("label")
            return answer

    await go(journal, FakeEndpoint(lambda _: says()), cases(3), approach=Crashing())
    crashed = next(o for o in journal.outcomes() if o.case_id == "c1")
    assert (crashed.status, crashed.problem, crashed.success) == (OutcomeStatus.CRASHED, "KeyError: 'label'", False)
    assert len(crashed.attempts) == 1
    assert len(list(journal.measurements())) == 3


async def test_a_scorer_that_raises_leaves_the_case_unscored(journal: Journal) -> None:
    """Nobody's fault but the scorer's: neither wrong nor right, and the reason is kept."""

    async def broken(answer: Answer, case: Case, ask: Ask) -> Scored:
        raise ZeroDivisionError("no weights")

    await go(journal, FakeEndpoint(lambda _: says()), cases(1), score=broken)
    (outcome,) = journal.outcomes()
    assert (outcome.score, outcome.success) == (None, None)
    assert outcome.unscored_because == "the scorer raised ZeroDivisionError: no weights"


async def test_an_approach_without_calls_is_run_and_priced(journal: Journal) -> None:
    """No model call: own time is the latency, and the machine's time is the cost."""

    class Lookup(OnePrompt):
        async def answer(self, case: CaseInput, ask: Ask) -> Answer:
            return Answer(output={"label": "ok"}, valid=True, schema_pass=True)

    await go(journal, FakeEndpoint(lambda _: says()), cases(2), approach=Lookup(endpoint=None))
    for row in journal.measurements():
        assert row["latency_s"] == row["own_s"] > 0
        assert row["cost_usd"] == pytest.approx(row["own_s"] / 3600 * 0.05)
        assert (row["prompt_tokens"], row["success"]) == (0, 1)


# ---- retries, repeats, replays --------------------------------------------------------------------------------------


@pytest.mark.parametrize("behaviour", ["429", "500", "malformed", "truncated", "drop"])
async def test_transport_faults_are_retried_and_counted(journal: Journal, behaviour: str) -> None:
    """A fault that passes costs a transport retry, which is shown apart from the approach's own retries."""
    async with StubServer() as stub:
        endpoint = stub_endpoint(stub.url)
        await go(journal, endpoint, cases(1, text=f"stub:{behaviour}x1"))
        await endpoint.endpoint.close()
    (row,) = journal.measurements()
    assert (row["success"], row["transport_retries"], row["retried"], row["extra_calls"]) == (1, 1, 0, 0)


async def test_asking_again_is_a_new_call_and_counts_as_a_retry(journal: Journal) -> None:
    """The same question asked again within a task is not answered from the journal with the same empty text."""
    endpoint = FakeEndpoint(lambda _: says())
    endpoint.reply = lambda _: (
        says()
        if len(endpoint.sent) == 3
        else Response(status=AttemptStatus.EMPTY, prompt_tokens=5, completion_tokens=0)
    )
    await go(journal, endpoint, cases(1), approach=OnePrompt(n_repairs=4))
    (row,) = journal.measurements()
    assert (row["success"], row["retried"], row["extra_calls"], row["schema_pass"]) == (1, 1, 2, 1)
    assert len(endpoint.sent) == 3


async def test_the_same_run_again_sends_nothing(journal: Journal) -> None:
    """What is journalled is skipped, and repeats are separate samples."""
    endpoint = FakeEndpoint(lambda _: says())
    first = await go(journal, endpoint, cases(5), repeats=2)
    again = await go(journal, endpoint, cases(5), repeats=2)
    assert (first.n_outcomes, again.n_outcomes, again.n_skipped) == (10, 0, 10)
    assert len(endpoint.sent) == 10


async def test_each_repeat_asks_with_a_seed_of_its_own(journal: Journal) -> None:
    """At a temperature above 0 the same seed would give the same sample, and repeats would show no spread."""
    endpoint = FakeEndpoint(lambda _: says())
    await go(journal, endpoint, cases(2), approach=OnePrompt(seed=7), repeats=3)
    assert sorted(request.seed or 0 for request in endpoint.sent) == [7, 7, 1007, 1007, 2007, 2007]


async def test_a_replayed_call_keeps_its_latency_and_price_and_is_not_paid_again(journal: Journal) -> None:
    """A cached answer never looks faster or cheaper than it was, and does not use up the budget."""
    endpoint = FakeEndpoint(lambda _: says(), delay_s=0.05)
    await go(journal, endpoint, cases(3))
    spent = journal.spent()
    summary = await go(
        journal, endpoint, cases(3), approach=OnePrompt(name="twin", fingerprint="f2"), budget=Budget(calls=3)
    )
    assert len(endpoint.sent) == 3
    assert (journal.spent(), summary.spent_usd) == (spent, 0.0)
    first, second = ([r for r in journal.measurements() if r["approach"] == name] for name in ("one-prompt", "twin"))
    for a, b in zip(first, second, strict=True):
        assert b["latency_s"] - b["own_s"] == pytest.approx(a["latency_s"] - a["own_s"])
        assert b["latency_s"] >= 0.05
        assert b["cost_usd"] == pytest.approx(9e-6, rel=0.5)
        assert b["completion_tokens"] == 2
    assert all(o.attempts[0].replayed == (o.approach == "twin") for o in journal.outcomes())


async def test_equal_questions_at_the_same_time_are_asked_once(journal: Journal) -> None:
    """Two cases with the same text share one call, even while it is in flight."""
    endpoint = FakeEndpoint(lambda _: says(), delay_s=0.02)
    same = [Case(id=str(i), input={"text": "same"}, expected={"label": "ok"}) for i in range(6)]
    summary = await go(journal, endpoint, same)
    assert (summary.n_outcomes, len(endpoint.sent)) == (6, 1)


async def test_queueing_is_not_latency(journal: Journal) -> None:
    """Waiting for a free connection is our doing: ten calls one after the other are each as quick as one."""
    endpoint = ManagedEndpoint(endpoint=FakeEndpoint(lambda _: says(), delay_s=0.02), concurrency=1)
    await go(journal, endpoint, cases(10))
    assert max(row["latency_s"] for row in journal.measurements()) < 0.2 < 10 * 0.02 + 0.01


# ---- stopping -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "says_what"), [("401", "key"), ("404", "does not know model"), ("redirect", "redirects")]
)
async def test_an_unusable_endpoint_stops_at_once_and_leaves_no_outcomes(
    journal: Journal, behaviour: str, says_what: str
) -> None:
    """A wrong key is not 100 wrong answers; nothing is recorded, nothing is paid."""
    async with StubServer(default=behaviour) as stub:
        endpoint = stub_endpoint(stub.url)
        with pytest.raises(EndpointUnusable, match=says_what):
            await go(journal, endpoint, cases(100), in_flight=4)
        await endpoint.endpoint.close()
        assert stub.n_requests <= 4
    assert list(journal.measurements()) == []
    assert journal.spent() == (0, 0.0, 0)


async def test_nobody_listening_stops_at_once(journal: Journal) -> None:
    """The message has the address."""
    endpoint = stub_endpoint("http://127.0.0.1:9/v1")
    with pytest.raises(EndpointUnusable, match=r"nobody answers at http://127\.0\.0\.1:9/v1"):
        await go(journal, endpoint, cases(3))
    await endpoint.endpoint.close()


@pytest.mark.parametrize("behaviour", ["429", "500", "hang", "malformed"])
async def test_a_storm_of_faults_stops_the_run_and_is_not_held_against_the_approach(
    journal: Journal, behaviour: str
) -> None:
    """Ten failed calls in a row are an outage: the run stops, says what it saw, and the cases are done later."""
    async with StubServer(default=behaviour, retry_after="0.01") as stub:
        endpoint = stub_endpoint(stub.url, timeout_s=0.1, max_retries=0)
        some = cases(100)
        with pytest.raises(EndpointUnusable, match=r"10 calls in a row failed(.|\n)*goes on from here"):
            await go(journal, endpoint, some, in_flight=4)
        assert stub.n_requests < 20
        assert list(journal.measurements()) == []
        stub.default = "ok"
        assert (await go(journal, endpoint, some)).n_outcomes == 100
        await endpoint.endpoint.close()
    assert all(row["status"] == "answered" for row in journal.measurements())


async def test_scattered_failures_do_not_stop_the_run(journal: Journal) -> None:
    """Only failures in a row are an outage."""
    endpoint = FakeEndpoint(
        lambda r: EndpointFault("rejected", "400") if int(r.messages[0].content.split()[-1]) % 2 else says()
    )
    summary = await go(journal, endpoint, cases(60), in_flight=1)
    assert summary.statuses["one-prompt"] == {OutcomeStatus.ANSWERED: 30, OutcomeStatus.FAILED: 30}


async def test_ctrl_c_lets_calls_in_flight_end_and_resumes(journal: Journal) -> None:
    """What was sent is paid for, so it is journalled before the run ends."""
    endpoint = FakeEndpoint(lambda _: says(), delay_s=0.1)
    asyncio.get_running_loop().call_later(0.15, os.kill, os.getpid(), signal.SIGINT)
    with pytest.raises(RunStopped, match=r"Ctrl-C(.|\n)*goes on from here"):
        await go(journal, endpoint, cases(40), in_flight=4)
    sent = len(endpoint.sent)
    assert 4 <= sent < 40
    assert len(journal.call_digests()) == sent
    await go(journal, endpoint, cases(40), in_flight=4)
    assert len(endpoint.sent) == 40


async def test_a_second_ctrl_c_does_not_wait(journal: Journal) -> None:
    """A call that hangs does not keep anybody from leaving."""
    endpoint = FakeEndpoint(lambda _: says(), delay_s=60)
    for delay_s in (0.05, 0.1):
        asyncio.get_running_loop().call_later(delay_s, os.kill, os.getpid(), signal.SIGINT)
    async with asyncio.timeout(20):
        with pytest.raises(RunStopped, match="Ctrl-C"):
            await go(journal, endpoint, cases(3))


async def test_ctrl_c_does_not_wait_for_a_rate_limit(journal: Journal) -> None:
    """A pause between calls ends as soon as the run shall end."""
    endpoint = ManagedEndpoint(endpoint=FakeEndpoint(lambda _: says()), requests_per_minute=1)
    asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGINT)
    async with asyncio.timeout(20):
        with pytest.raises(RunStopped, match="Ctrl-C"):
            await go(journal, endpoint, cases(3))
    assert len(list(journal.measurements())) == 1


async def test_a_missing_endpoint_is_named_before_anything_runs(journal: Journal) -> None:
    """All approaches are checked, with what there is."""
    with pytest.raises(InputError, match=r"'gone'(.|\n)*endpoints of this study: stub"):
        await go(journal, FakeEndpoint(lambda _: says()), cases(1), approach=OnePrompt(endpoint="gone"))


# ---- budget ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
async def test_spending_never_exceeds_the_budget(journal: Journal, seed: int) -> None:
    """Whatever prices, answers, faults and concurrency: the ceiling holds over several runs."""
    source = random.Random(seed)
    price = Price(
        input_per_million_usd=source.uniform(0, 50),
        output_per_million_usd=source.uniform(1, 50),
        provenance=Provenance(kind="assumed", source="test"),
    )

    def reply(request: ChatRequest) -> Response | EndpointFault:
        if source.random() < 0.2:
            kind = source.choice(["timed_out", "dropped", "server_error", "unreadable"])
            return EndpointFault(kind, "fault", retry_after_s=0.0)  # type: ignore[arg-type]
        if source.random() < 0.05:  # an endpoint that does not say what it used
            return Response(status=AttemptStatus.ANSWERED, text="ok")
        return says(prompt_tokens=source.randint(1, 9), completion_tokens=source.randint(0, 16))

    endpoint = FakeEndpoint(reply, price=price)
    budget = Budget(usd=source.uniform(0.0, 0.02))
    spent = 0.0
    for _ in range(2):
        try:
            summary = await go(journal, endpoint, cases(60), in_flight=source.randint(1, 20), budget=budget, seed=seed)
            assert summary.n_outcomes + summary.n_skipped == 60
        except BudgetReached:
            pass
        assert budget.usd is not None
        assert spent <= journal.spent().usd <= budget.usd + 1e-9
        spent = journal.spent().usd


async def test_a_budget_in_calls_is_used_up_exactly(journal: Journal) -> None:
    """Calls in flight count; the call that would be one too many is not made, and a raised budget goes on."""
    endpoint = FakeEndpoint(lambda _: says(), delay_s=0.01)
    with pytest.raises(BudgetReached, match=r"budget of 7 calls(.|\n)*nothing is paid twice"):
        await go(journal, endpoint, cases(20), budget=Budget(calls=7))
    assert len(endpoint.sent) == len(list(journal.measurements())) == 7
    await go(journal, endpoint, cases(20), budget=Budget(calls=20))
    assert len(endpoint.sent) == 20


async def test_a_tight_budget_waits_for_calls_in_flight_instead_of_refusing(journal: Journal) -> None:
    """Bounds are far above prices: what looks too much at once fits one after the other."""
    endpoint = FakeEndpoint(lambda _: says(), delay_s=0.001)
    # One call is bounded by 2 tries of 8 + 16 prompt bytes and 16 answer tokens, about 1.2e-4, and costs 9e-6.
    summary = await go(journal, endpoint, cases(10), budget=Budget(usd=2.2e-4))
    assert summary.n_outcomes == 10
    assert summary.spent.usd == pytest.approx(9e-5)


async def test_money_needs_prices(journal: Journal) -> None:
    """An unknown price is not 0: a ceiling on money is refused before the first call."""
    endpoint = FakeEndpoint(lambda _: says(), price=UNKNOWN)
    with pytest.raises(InputError, match="price of endpoint 'stub', which is unknown"):
        await go(journal, endpoint, cases(1), budget=Budget(usd=1.0))
    assert endpoint.sent == []
    await go(journal, endpoint, cases(1))
    (row,) = journal.measurements()
    assert row["cost_usd"] is None
    assert journal.spent() == (1, 0.0, 1)


async def test_money_needs_the_price_of_every_endpoint_that_is_really_asked(journal: Journal) -> None:
    """An approach that turns to a second, unpriced endpoint does not slip under the ceiling."""

    class Cascade(OnePrompt):
        async def answer(self, case: CaseInput, ask: Ask) -> Answer:
            await super().answer(case, ask)
            return await OnePrompt(endpoint="other").answer(case, ask)

    other = FakeEndpoint(lambda _: says(), price=UNKNOWN, name="other")
    endpoints = {
        "stub": ManagedEndpoint(endpoint=FakeEndpoint(lambda _: says())),
        "other": ManagedEndpoint(endpoint=other),
    }
    work = [Work(approach=Cascade(), cases=cases(2), split="test")]
    with pytest.raises(InputError, match="price of endpoint 'other'"):
        await run(work, endpoints=endpoints, journal=journal, score=score, compute_price=CPU, budget=Budget(usd=1.0))
    assert other.sent == []


async def test_a_try_that_timed_out_is_counted(journal: Journal) -> None:
    """It may have been billed, so it is in the price of the attempt."""
    endpoint = FakeEndpoint(lambda _: says())
    endpoint.reply = lambda _: (
        says() if len(endpoint.sent) > 1 else EndpointFault("timed_out", "slow", retry_after_s=0.0)
    )
    await go(journal, endpoint, cases(1))
    (outcome,) = journal.outcomes()
    once = TOKENS.of_call(prompt_tokens=5, cached_tokens=0, completion_tokens=2, seconds=0)
    assert once is not None
    assert outcome.attempts[0].price_usd == pytest.approx(once + 5e-6)


# ---- secrets, dry run, progress -------------------------------------------------------------------------------------


async def test_no_key_reaches_the_disk_or_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even when the server quotes it."""
    key = "sk-very-secret-0123456789"
    monkeypatch.setenv("STUB_KEY", key)
    said = io.StringIO()
    async with StubServer() as stub:
        endpoint = stub_endpoint(stub.url, key_env="STUB_KEY")
        with Journal.open(tmp_path / "j.sqlite3") as journal:
            await go(journal, endpoint, cases(5) + cases(2, text="stub:500")[:1], progress=PlainLines(said))
            with pytest.raises(EndpointUnusable) as stopped:
                await go(journal, endpoint, cases(1, text="stub:echo_key"))
            files = [path for path in tmp_path.iterdir() if path.is_file()]
            assert any(path.name.endswith("-wal") for path in files)
            stored = b"".join(path.read_bytes() for path in files)
        stored += b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
        await endpoint.endpoint.close()
    assert b"ticket 4" in stored
    assert key.encode() not in stored
    assert key not in str(stopped.value) + said.getvalue()


async def test_a_dry_run_sends_nothing_and_knows_the_first_calls(journal: Journal) -> None:
    """Calls, tokens and money of what is left; what is journalled is free, what is done is not counted."""
    endpoint = FakeEndpoint(lambda _: says())
    managed = ManagedEndpoint(endpoint=endpoint, max_retries=1)
    await go(journal, endpoint, cases(10))
    work = [
        Work(approach=OnePrompt(), cases=cases(30), split="test"),
        Work(approach=OnePrompt(name="twin", n_repairs=2), cases=cases(30), split="test"),
    ]
    before = len(endpoint.sent)
    estimate = await dry_run(work, endpoints={"stub": managed}, journal=journal)
    assert len(endpoint.sent) == before
    own, twin = estimate.approaches
    assert (own.n_cases, own.n_first_calls, own.n_replayed) == (20, 20, 0)
    assert (twin.n_cases, twin.n_first_calls, twin.n_replayed) == (30, 20, 10)
    assert own.most_completion_tokens == 20 * 16
    assert own.likely_usd is not None
    assert own.most_usd is not None
    assert 0 < own.likely_usd < own.most_usd
    assert (await dry_run(work, endpoints={"stub": managed}, journal=None)).n_first_calls == 60


async def test_bars_on_a_terminal_show_markup_as_text(journal: Journal) -> None:
    """Names and notes come from files; they are never taken for formatting."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    said = Terminal()
    bars = progress_for(said)
    assert bars is not None
    await go(journal, FakeEndpoint(lambda _: says()), cases(4), approach=OnePrompt(name="[red]a"), progress=bars)
    assert "[red]a" in said.getvalue()
    assert "4/4" in said.getvalue()
    assert progress_for(said, quiet=True) is None


async def test_plain_progress_says_what_begins_and_how_it_ended(journal: Journal) -> None:
    """A log has a first and a last line per approach, with money."""
    said = io.StringIO()
    await go(journal, FakeEndpoint(lambda _: says()), cases(4), progress=PlainLines(said))
    first, last = said.getvalue().splitlines()
    assert first == "one-prompt: 4 to do"
    assert last.startswith("one-prompt: 4/4, ")
    assert "0.0000 USD spent, 0:00:00 left" in last
