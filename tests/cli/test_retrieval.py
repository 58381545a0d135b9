"""`steelyard retrieval`: from a folder of documents to what a question finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from steelyard.engine.journal import Journal
from steelyard.models import embeddings
from steelyard.study import local_model
from steelyard.study.scoring import journal_path
from tests.cli.tickets import serving, steelyard

STUDY = """
study: handbook
cases: cases.csv
task: {input: question, expected: answer}
"""


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model, "embedder", lambda say: embeddings.HashingEmbedder())


@pytest.fixture
def handbook(tmp_path: Path) -> Path:
    (tmp_path / "study.yaml").write_text(f"{STUDY}knowledge: docs\n", encoding="utf-8")
    docs = tmp_path / "docs"
    docs.mkdir()
    for year, days in ((2023, 25), (2024, 28)):
        head = f"---\nid: leave-{year}\nversion_of: leave\nvalid_from: {year}-01-01\n---\n"
        (docs / f"leave-{year}.md").write_text(
            f"{head}# Leave\n\nEverybody has {days} days of leave.\n", encoding="utf-8"
        )
    (docs / "pay.md").write_text("---\naccess: [hr]\n---\n# Pay\n\nPay bands.\n", encoding="utf-8")
    return tmp_path


def found(folder: Path, *arguments: str) -> list[str]:
    ran = steelyard("retrieval", "search", folder, *arguments, "--json")
    assert ran.code == 0, ran.err
    shape = json.loads(ran.out)
    assert shape["schema"] == "steelyard.retrieval-search/1"
    return [passage["document"] for passage in shape["passages"]]


def test_index_then_search(handbook: Path) -> None:
    ran = steelyard("retrieval", "index", handbook, "--quiet")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("3 documents in 3 chunks\n3 added, 0 changed, 0 removed\n")
    assert found(handbook, "days of leave")[0] == "leave-2024"
    assert found(handbook, "days of leave", "--as-of", "2023-06-01") == ["leave-2023"]
    assert "docs/pay.md" in found(handbook, "pay bands", "--access", "hr", "--k", "2")
    assert "docs/pay.md" not in found(handbook, "pay bands")
    ran = steelyard("retrieval", "search", handbook, "days of leave")
    assert "access tags which were not given: 'hr' (1)" in ran.err
    assert "access tags" not in steelyard("retrieval", "search", handbook, "days", "--access", "hr").err
    text = ran.out
    assert "1. Leave (from 2024-01-01)\n   leave-2024#1\n   score " in text
    assert "full text rank 1" in text
    assert "dense rank 1" in text


def test_a_search_is_reranked_and_says_so(handbook: Path) -> None:
    """By words on this machine, or by an endpoint, whose call counts against the budget; a name nobody has is refused."""
    steelyard("retrieval", "index", handbook, "--quiet")
    shape = json.loads(
        steelyard("retrieval", "search", handbook, "days of leave", "--rerank", "late_interaction", "--json").out
    )
    assert [passage["legs"]["rerank"]["rank"] for passage in shape["passages"]] == [1]
    text = steelyard("retrieval", "search", handbook, "days of leave", "--rerank", "late_interaction").out
    assert "reranker rank 1" in text
    wrong = steelyard("retrieval", "search", handbook, "days of leave", "--rerank", "late_interacton")
    assert wrong.code != 0
    assert "did you mean 'late_interaction'?" in wrong.err
    with serving() as stub:
        endpoint = f'{{base_url: "{stub.url}", model: m, price_per_million: {{input: 1}}}}'
        text = f"{STUDY}knowledge: docs\nmodels: {{endpoints: {{ranker: {endpoint}}}}}\n"
        (handbook / "study.yaml").write_text(text, encoding="utf-8")
        assert found(handbook, "days of leave", "--rerank", "ranker", "--k", "1") == ["leave-2024"]
    with Journal.open(journal_path(handbook), read_only=True) as journal:
        assert journal.spent().usd > 0


def test_index_as_json_says_what_was_done_and_left_out(handbook: Path) -> None:
    (handbook / "docs" / "junk.md").write_bytes(b"\x00\x01" * 500)
    ran = steelyard("retrieval", "index", handbook, "--quiet", "--json")
    shape = json.loads(ran.out)
    assert shape["schema"] == "steelyard.retrieval-index/1"
    assert (shape["n_documents"], shape["n_embedded"], shape["is_whole"]) == (3, 3, True)
    assert shape["skipped"][0]["where"] == "docs/junk.md"
    assert shape["upkeep"]["setup_chunks"] == 3
    assert "note: docs/junk.md" in ran.err


def test_what_is_missing_is_said_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY, encoding="utf-8")
    ran = steelyard("retrieval", "index", tmp_path)
    assert ran.code == 2
    assert "the study names no documents" in ran.err
    assert "knowledge: docs" in ran.err
    (tmp_path / "study.yaml").write_text(f"{STUDY}knowledge: docs\n", encoding="utf-8")
    assert "there is no 'docs'" in steelyard("retrieval", "index", tmp_path).err
    assert "there is no index yet" in steelyard("retrieval", "search", tmp_path, "x").err
    assert steelyard("retrieval", "search", tmp_path, "x", "--as-of", "soon").code == 2


def test_what_documents_say_does_not_reach_the_terminal_raw(handbook: Path) -> None:
    (handbook / "docs" / "evil.md").write_text("# Evil\n\nclear \x1b[2J your screen\n", encoding="utf-8")
    steelyard("retrieval", "index", handbook, "--quiet")
    ran = steelyard("retrieval", "search", handbook, "clear your screen")
    assert "\x1b" not in ran.out
    assert "⟨U+001B⟩" in ran.out
