"""How fast a changed document is found, on a private copy; and which old answers it made wrong."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

import steelyard
from steelyard.errors import InputError
from steelyard.models.embeddings import HashingEmbedder
from steelyard.study import freshness, local_model
from steelyard.study.freshness import measure_freshness
from steelyard.study.study import Study
from tests.cli.tickets import steelyard as command

STUDY = """
study: rules
cases: {file: cases.jsonl, question: asks}
knowledge: docs
task:
  input: question
  expected: answer
  output_schema:
    type: object
    properties: {answer: {type: [string, "null"]}}
    required: [answer]
    additionalProperties: false
  scoring: {answer: {kind: normalised, any_of: true, abstentions: true}}
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model, "embedder", lambda say: HashingEmbedder())
    monkeypatch.setattr(freshness, "_SETTLED_S", 0.0)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Leave in two versions with front matter, one page without versions, and questions asked before and after."""
    docs = tmp_path / "docs"
    docs.mkdir()
    for year, days in ((2025, 25), (2026, 28)):
        head = f"---\nid: leave-{year}\nversion_of: leave\nvalid_from: {year}-01-01\naccess: [staff]\n---\n"
        text = f"{head}# Leave\n\nEverybody has {days} days of leave in a year.\n\nAsk the people team.\n"
        (docs / f"leave-{year}.md").write_text(text, encoding="utf-8")
    (docs / "parking.txt").write_text("Parking is on the left of the gate.\n", encoding="utf-8")
    (docs / "table.csv").write_text("place,price\ngate,3\n", encoding="utf-8")
    asked = [
        ("days", "2025-06-01", ["25"], ["leave-2025"]),
        ("days", "2026-06-01", ["28"], ["leave-2026"]),
        ("whom", "2025-06-01", ["people team"], ["leave-2025"]),
        ("whom", "2026-06-01", ["People team."], ["leave-2026"]),
        ("gone", "2025-06-01", ["25 days"], ["leave-2025"]),
        ("gone", "2026-06-01", [], []),
        ("once", "2026-06-01", ["28"], ["leave-2026"]),
        ("where", "2025-06-01", ["left"], ["docs/parking.txt"]),
    ]
    rows = [
        {
            "id": f"{number}", "input": {"question": f"{asks} {number}"}, "expected": {"answer": answer},
            "meta": {"asks": asks, "time": f"{day}T08:00:00Z", "sources": sources},
        }
        for number, (asks, day, answer, sources) in enumerate(asked * 3)
    ]  # fmt: skip
    (tmp_path / "cases.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "study.yaml").write_text(STUDY, encoding="utf-8")
    return steelyard.load(tmp_path)


def digests(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def test_a_new_version_is_found_and_nothing_of_the_user_is_touched(study: Study) -> None:
    """Whether an index is there or not: it is measured on a copy."""
    command("retrieval", "index", study.folder, "--quiet")
    before = digests(study.folder)
    found = measure_freshness(study, progress=False)
    assert digests(study.folder) == before
    (change,) = found.changes
    assert (change.document, change.change) == ("leave-2026", "new version")
    assert change.is_found
    assert change.n_embedded >= 1
    parts = change.notice + change.convert + change.embed + change.serve
    assert 0 < parts <= change.total
    assert min(change.notice, change.convert, change.embed, change.serve) >= 0
    assert found.median_seconds == found.worst_seconds == change.total
    assert (found.n_documents, found.notes) == (4, ())


def test_old_answers_that_a_change_made_wrong(study: Study) -> None:
    """A number that changed and an answer that is gone; not what only sounds otherwise, nor what was asked once."""
    found = measure_freshness(study, progress=False)
    assert [(one.question, one.before, one.now) for one in found.stale] == [
        ("days", "25", "28"),
        ("gone", "25 days", None),
    ]
    assert {(one.older, one.newer) for one in found.stale} == {("leave-2025", "leave-2026")}
    assert found.n_versions == 1
    assert "1 of 1 dated changes made the old answers to 2 questions wrong" in found.summary


def test_a_page_without_versions_is_given_a_sentence(study: Study) -> None:
    found = measure_freshness(study, documents=["docs/parking.txt", "leave-2026"], progress=False)
    assert [change.change for change in found.changes] == ["sentence added", "new version"]
    assert all(change.is_found for change in found.changes)


@pytest.mark.parametrize("name", ["docs/table.csv", "docs/leave-2025.md", "nothing"])
def test_what_cannot_be_changed_is_refused(study: Study, name: str) -> None:
    """A table without an older version, a version that is no longer the newest, a file that is not there."""
    with pytest.raises(InputError, match="--document"):
        measure_freshness(study, documents=[name], progress=False)


def test_the_command_prints_and_writes_json(study: Study) -> None:
    ran = command("retrieval", "freshness", study.folder, "--quiet")
    assert ran.code == 0, ran.err
    assert "how long until it is found?" in ran.out
    assert "Which old answers became wrong?" in ran.out
    ran = command("retrieval", "freshness", study.folder, "--document", "docs/parking.txt", "--json", "--quiet")
    shape = json.loads(ran.out)
    assert shape["schema"] == "steelyard.retrieval-freshness/1"
    assert shape["changes"][0]["source"] == "docs/parking.txt"
    assert len(shape["stale"]) == 2
    assert shape["median_seconds"] == shape["worst_seconds"] > 0
