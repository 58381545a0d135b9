"""A study whose documents an endpoint embeds and reranks, through the command line: run, estimate, index, search, report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import steelyard as steelyard_api
from steelyard.engine.journal import Journal
from steelyard.models.stub_server import StubServer
from tests.cli.tickets import N_TEST, serving, steelyard, write_study

SEARCH = "search: {model: stub, retrieval: {knowledge: {k: 2}}}"
RERANKED = "reranked: {model: stub, retrieval: {knowledge: {k: 2, rerank: vectors}}}"
PRICE = ", price_per_million: {input: 1.0}"


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with serving(reply="billing") as server:
        yield server


@pytest.fixture
def vectors() -> Iterator[StubServer]:
    with serving(dimensions=16) as server:
        yield server


def write(
    folder: Path, stub: StubServer, vectors: StubServer, *approaches: str, price: str = PRICE, model: str = "e1"
) -> Path:
    knowledge = "knowledge: {documents: docs, embeddings: vectors}"
    endpoint = f"vectors: {{base_url: '{vectors.url}', model: '{model}', max_retries: 1{price}}}"
    write_study(folder, stub.url, approaches=approaches or (SEARCH,), others=[endpoint], more=[knowledge])
    (folder / "docs").mkdir()
    for name in ("billing", "delivery", "refund"):
        text = f"# About {name}\n\nA {name} is handled by the {name} desk, which asks for the number of the {name}.\n"
        (folder / "docs" / f"{name}.md").write_text(text, encoding="utf-8")
    return folder


def spent(folder: Path) -> tuple[int, float]:
    with Journal.open(folder / ".steelyard" / "journal.sqlite3", read_only=True) as journal:
        return journal.spent().calls, journal.spent().usd


def test_a_run_embeds_documents_once_and_asks_for_the_vector_of_each_question(
    tmp_path: Path, stub: StubServer, vectors: StubServer
) -> None:
    """All calls are journalled and counted; the same again sends nothing; the cost of the index is setup."""
    folder = write(tmp_path / "s", stub, vectors)
    ran = steelyard("run", folder, "--budget", 1, "--quiet", "--json")
    assert ran.code == 0, ran.err
    n_for_documents = vectors.n_requests - N_TEST  # one for the length of a vector, one for three chunks
    assert n_for_documents == 2
    assert stub.n_requests == N_TEST
    assert spent(folder)[0] == vectors.n_requests + stub.n_requests
    # 20 tokens in every call; the other model is paid for its answers of 5 tokens too.
    assert spent(folder)[1] == pytest.approx((vectors.n_requests * 20 + N_TEST * (20 + 2 * 5)) * 1e-6)
    assert steelyard("run", folder, "--budget", 1, "--quiet").code == 0
    assert (vectors.n_requests, stub.n_requests) == (n_for_documents + N_TEST, N_TEST)


def test_the_report_counts_vectors_instead_of_showing_them(
    tmp_path: Path, stub: StubServer, vectors: StubServer
) -> None:
    """A transcript has the question that was embedded and how many numbers came, and the ranking with its scores."""
    folder = write(tmp_path / "s", stub, vectors, RERANKED)
    assert steelyard("run", folder, "--quiet").code == 0
    for form in ("html", "json"):
        path = tmp_path / f"report.{form}"
        made = steelyard("report", folder, "--output", path)
        assert made.code == 0, made.err
        text = path.read_text(encoding="utf-8")
        assert "1 vector of 16 numbers" in text
        assert "AAAAAA" not in text
    with Journal.open(folder / ".steelyard" / "journal.sqlite3", read_only=True) as journal:
        outcome = next(iter(journal.outcomes()))
        transcript = journal.transcript(outcome.approach, outcome.fingerprint, outcome.case_id)
    assert transcript is not None
    assert [one.operation for one in transcript.requests] == ["embed", "rerank", "chat"]
    assert all(one.price_usd is not None for one in outcome.attempts)


def test_an_estimate_sends_nothing_and_says_what_embedding_would_cost(
    tmp_path: Path, stub: StubServer, vectors: StubServer
) -> None:
    """Before the first run the documents are counted and passages are not; afterwards passages and questions are."""
    folder = write(tmp_path / "s", stub, vectors, SEARCH, RERANKED)
    shown = steelyard("run", folder, "--dry-run")
    assert shown.code == 0, shown.err
    assert "embedded at the first run, not now: 3 texts of the documents by 'vectors' in 1 calls" in shown.out
    before = steelyard("run", folder, "--dry-run", "--json").json
    assert before["embedding"]["approaches"] == ["search", "reranked"]
    assert 0 < before["embedding"]["likely_usd"] < before["embedding"]["most_usd"]
    assert vectors.n_requests == stub.n_requests == 0
    assert steelyard("retrieval", "index", folder).code == 0
    sent = vectors.n_requests
    after = steelyard("run", folder, "--dry-run", "--json").json
    assert vectors.n_requests == sent
    assert after["embedding"] is None
    assert [one["first_calls"] for one in after["approaches"]] == [2 * N_TEST, 3 * N_TEST]
    assert after["approaches"][0]["prompt_tokens"] > before["approaches"][0]["prompt_tokens"]


def test_index_and_search_on_the_command_line_pay_through_the_budget(
    tmp_path: Path, stub: StubServer, vectors: StubServer
) -> None:
    """A question is embedded once, however often it is asked; its call is counted."""
    folder = write(tmp_path / "s", stub, vectors)
    made = steelyard("retrieval", "index", folder)
    assert made.code == 0, made.err
    assert spent(folder)[0] == vectors.n_requests == 2
    for _ in range(2):
        found = steelyard("retrieval", "search", folder, "who handles a refund?", "--json")
        assert found.code == 0, found.err
    assert found.json["passages"][0]["document"] == "docs/refund.md"
    assert spent(folder)[0] == vectors.n_requests == 3


def test_a_server_that_takes_few_texts_at_a_time_is_asked_for_few(
    tmp_path: Path, stub: StubServer, vectors: StubServer
) -> None:
    """As study.yaml says; each call is one, and each is counted."""
    folder = write(tmp_path / "s", stub, vectors, price=", embedding_batch: 1")
    assert steelyard("retrieval", "index", folder).code == 0
    assert spent(folder)[0] == vectors.n_requests == 1 + 3


def test_a_budget_in_money_needs_the_price_of_embedding_before_anything_is_sent(
    tmp_path: Path, stub: StubServer, vectors: StubServer
) -> None:
    """Unknown is never taken for nothing."""
    folder = write(tmp_path / "s", stub, vectors, price="")
    ran = steelyard("run", folder, "--budget", 1)
    assert ran.code == 2
    assert "a budget in money needs the price of endpoint 'vectors'" in ran.err
    assert "price_per_million (input)" in ran.err
    assert vectors.n_requests == stub.n_requests == 0


def test_another_embedding_model_is_refused_by_a_run_and_taken_by_index(
    tmp_path: Path, stub: StubServer, vectors: StubServer
) -> None:
    """With what to do; questions and documents never meet in vectors of two models."""
    folder = write(tmp_path / "s", stub, vectors)
    assert steelyard("run", folder, "--quiet").code == 0
    study = folder / "study.yaml"
    study.write_text(study.read_text(encoding="utf-8").replace("'e1'", "'e2'"), encoding="utf-8")
    ran = steelyard("run", folder, "--quiet")
    assert ran.code == 2
    assert "the index was made with the embedding model 'e1 at" in ran.err
    assert "embed all documents anew with: steelyard retrieval index DIR" in ran.err
    assert steelyard("retrieval", "index", folder).code == 0
    assert steelyard("run", folder, "--quiet").code == 0


def test_an_embedder_that_is_no_endpoint_is_named_with_the_closest(
    tmp_path: Path, stub: StubServer, vectors: StubServer
) -> None:
    """Before anything is read or sent."""
    folder = write(tmp_path / "s", stub, vectors)
    study = folder / "study.yaml"
    study.write_text(study.read_text(encoding="utf-8").replace("embeddings: vectors", "embeddings: vector"), "utf-8")
    ran = steelyard("check", folder)
    assert ran.code == 2
    assert "did you mean 'vectors'?" in ran.err


def test_the_cost_of_embedding_is_setup_with_tokens_and_where_its_price_is_from(
    tmp_path: Path, stub: StubServer, vectors: StubServer
) -> None:
    """Of the approach that reads the index, whoever embedded it first."""
    folder = write(tmp_path / "s", stub, vectors)
    assert steelyard("retrieval", "index", folder).code == 0
    assert steelyard("run", folder, "--quiet").code == 0
    with Journal.open(folder / ".steelyard" / "journal.sqlite3", read_only=True) as journal:
        outcome = next(iter(journal.outcomes()))
        setup = journal.preparation(outcome.approach, outcome.fingerprint)
    assert setup is not None
    assert setup.card is not None
    card = json.loads(json.dumps(setup.card["knowledge"]))
    assert card["embeddings"]["endpoint"] == "vectors"
    assert card["embeddings"]["tokens"] > 0
    assert card["embeddings"]["price"] == {"kind": "assumed", "source": "study.yaml", "as_of": None}
    assert setup.cost_usd is not None
    assert card["cost_usd"] > card["embeddings"]["usd"] > 0


def test_upkeep_holds_what_the_endpoint_is_paid_for_changed_documents(
    tmp_path: Path, stub: StubServer, vectors: StubServer
) -> None:
    """After two months with one new document: seconds of this machine, and its tokens at the price of the endpoint."""
    folder = write(tmp_path / "s", stub, vectors)
    assert steelyard("run", folder, "--quiet").code == 0
    (history,) = (folder / ".steelyard" / "index").glob("*/builds.jsonl")
    made = json.loads(history.read_text(encoding="utf-8"))
    made["at"] = (datetime.now(UTC) - timedelta(days=61)).isoformat()
    history.write_text(json.dumps(made) + "\n", encoding="utf-8")
    (folder / "docs" / "returns.md").write_text("# Returns\n\nA return is accepted within 30 days.\n", encoding="utf-8")
    assert steelyard("run", folder, "--quiet").code == 0
    study = steelyard_api.load(folder)
    (upkeep,) = (line for line in study.decide().verdict.economics.ledgers[0].lines if line.name == "reindexing")
    with study._evidence() as (evidence, _journal):
        setup = evidence.setups["search"]
    assert setup is not None
    assert setup.card is not None
    card: Any = setup.card["knowledge"]
    tokens = json.loads(history.read_text(encoding="utf-8").splitlines()[-1])["tokens_embedded"]
    assert card["tokens_per_month"] == pytest.approx(tokens / 2, rel=0.01)
    paid_per_token = card["embeddings"]["usd"] / card["tokens_embedded"]
    assert card["embeddings"]["usd_per_month"] == pytest.approx(card["tokens_per_month"] * paid_per_token)
    machine = card["cost_usd"] - card["embeddings"]["usd"]
    of_machine = machine / card["seconds"] * card["seconds_per_month"]
    assert upkeep.usd_per_month.value == pytest.approx(of_machine + card["embeddings"]["usd_per_month"])
