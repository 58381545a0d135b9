"""A study whose look-ups ask models: every call is journalled, priced, under the budget, and never paid twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import steelyard
from steelyard.engine.journal import Journal
from steelyard.errors import BudgetReached
from steelyard.models.embeddings import HashingEmbedder
from steelyard.study import local_model
from steelyard.study.knowledge import index_documents
from steelyard.study.scoring import journal_path
from steelyard.study.study import Study
from tests.cli.tickets import serving
from tests.study.test_retrieving import write

LOOK_UP = """
  rag: {model: stub, retrieval: {knowledge: {as_of: day, k: 2, queries: 2, rerank: ranker}}}
"""
REPLY = '{"queries": ["the price of parking"], "answer": "31 EUR"}'
N_CASES = 3


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model, "embedder", lambda say: HashingEmbedder())


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    """Documents embedded by an endpoint, passages reranked by another, queries and answers by a third."""
    with serving(reply=REPLY) as stub:
        folder = tmp_path / "study"
        write(folder, stub.url, LOOK_UP)
        text = (folder / "study.yaml").read_text(encoding="utf-8")
        text = text.replace("chunk_tokens: 60,", "chunk_tokens: 60, embeddings: vectors,")
        text = text.replace(
            "approaches:\n",
            f'    vectors: {{base_url: "{stub.url}", model: v, price_per_million: {{input: 1}}}}\n'
            f'    ranker: {{base_url: "{stub.url}", model: r, price_per_million: {{input: 1}}}}\napproaches:\n',
        )
        (folder / "study.yaml").write_text(text, encoding="utf-8")
        yield steelyard.load(folder)


def steps(study: Study) -> Counter[str]:
    """How many calls each step of the outcomes made."""
    with Journal.open(journal_path(study.folder), read_only=True) as journal:
        fingerprint = journal.runs()[-1].study["approaches"]["rag"]["fingerprint"]
        outcomes = [journal.transcript("rag", fingerprint, f"test-{number}") for number in range(24)]
    return Counter(attempt.step for one in outcomes if one is not None for attempt in one.outcome.attempts)


def spent(study: Study) -> float:
    with Journal.open(journal_path(study.folder), read_only=True) as journal:
        return journal.spent().usd


def test_every_call_of_a_look_up_is_counted_and_paid_once(study: Study) -> None:
    """One call of each kind a case, each with its price; the same command again pays for nothing."""
    study.run(limit=N_CASES, progress=False)
    assert steps(study) == dict.fromkeys(("query", "embed", "rerank", "answer"), N_CASES)
    paid = spent(study)
    assert paid > 0
    study.run(limit=N_CASES, progress=False)
    assert spent(study) == paid
    assert study.score().retrieval is not None


def test_a_dry_run_counts_look_ups_and_the_answer_they_are_for(study: Study) -> None:
    """Four calls a case, before anything was sent; passages are part of the prompt."""
    index_documents(study, progress=False)
    (one,) = study.estimate(limit=N_CASES).estimate.approaches
    assert one.n_first_calls == 4 * N_CASES
    assert one.most_usd is not None


def test_the_budget_holds_for_look_ups(study: Study) -> None:
    """It ends the run before the ceiling is passed; with a higher one the run goes on."""
    study.run(limit=1, progress=False)
    ceiling = spent(study) + 1e-6
    with pytest.raises(BudgetReached):
        study.run(limit=N_CASES, budget_usd=ceiling, progress=False)
    assert spent(study) <= ceiling
    study.run(limit=N_CASES, budget_usd=1.0, progress=False)
    assert steps(study)["rerank"] == N_CASES
