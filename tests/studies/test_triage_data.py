"""The triage data is what its README says, and can be made again to the byte."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from studies.triage.generate import SHIPPED, Ticket, build, main
from studies.triage.material import LABELS, LANGUAGES, confusable, sections

ROOT = Path(__file__).parents[2]
EMPTY_OR_MARK = {"", " ", "\n", ".", "-"}


@pytest.fixture(scope="module")
def tickets() -> list[Ticket]:
    return build()


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SHIPPED / "cases.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def readme_counts() -> dict[str, int]:
    text = (SHIPPED / "README.md").read_text(encoding="utf-8")
    return {name: int(count) for name, count in re.findall(r"^\| ([^|]+?) \| (\d+) \|", text, re.MULTILINE)}


def claimed(counts: dict[str, int], start: str) -> int:
    return next(count for name, count in counts.items() if name.startswith(start))


def test_generating_again_gives_the_shipped_bytes(tmp_path: Path) -> None:
    """A fresh process with another hash seed writes exactly the files that are shipped."""
    environment = os.environ | {"PYTHONHASHSEED": "4711", "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-m", "studies.triage.generate", str(tmp_path)], check=True, env=environment, cwd=ROOT
    )
    for name in ("cases.jsonl", "labels.json", "mislabelled.json", "README.md"):
        assert (tmp_path / name).read_bytes() == (SHIPPED / name).read_bytes(), name


def test_another_folder_can_be_named(tmp_path: Path) -> None:
    """The folder is made when it is not there."""
    assert main([str(tmp_path / "new")]) == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "README.md",
        "cases.jsonl",
        "labels.json",
        "mislabelled.json",
    ]


def test_another_seed_gives_other_tickets(tickets: list[Ticket]) -> None:
    """The seed matters, and any seed works."""
    other = build(seed=7)
    assert len(other) == len(tickets)
    assert sum(a.text == b.text for a, b in zip(tickets, other, strict=True)) < 10


def test_there_are_3000_rows_of_one_shape(rows: list[dict[str, Any]]) -> None:
    """Every row has the same keys in the same order, ids count up, and the file stays small."""
    assert [row["id"] for row in rows] == [f"t-{number:04d}" for number in range(1, 3001)]
    for row in rows:
        assert list(row) == ["id", "input", "expected", "meta"]
        assert list(row["input"]) == ["text"]
        assert list(row["expected"]) == ["label"]
        assert list(row["meta"]) == ["time", "segment"]
        assert row["meta"]["segment"] in {"web", "app", "email", "phone-transcript"}
    assert (SHIPPED / "cases.jsonl").stat().st_size <= 2_000_000


def test_twelve_categories_of_uneven_size(rows: list[dict[str, Any]], readme_counts: dict[str, int]) -> None:
    """All 12 labels are defined, used, counted in the README, and the largest is four to six times the smallest."""
    sizes = Counter(row["expected"]["label"] for row in rows)
    definitions = json.loads((SHIPPED / "labels.json").read_text(encoding="utf-8"))
    assert set(sizes) == set(definitions) == set(LABELS)
    assert len(sizes) == 12
    assert {label: readme_counts[f"`{label}`"] for label in LABELS} == sizes
    assert 4 <= max(sizes.values()) / min(sizes.values()) <= 6
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)?", label) for label in sizes)
    assert all(definition.count(".") == 1 and definition.endswith(".") for definition in definitions.values())


def test_times_run_over_eighteen_months_in_order(rows: list[dict[str, Any]]) -> None:
    """Times are UTC, sorted, within March 2025 to August 2026, and every month has tickets."""
    times = [datetime.strptime(row["meta"]["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) for row in rows]
    assert times == sorted(times)
    assert datetime(2025, 3, 1, tzinfo=UTC) <= times[0]
    assert times[-1] < datetime(2026, 9, 1, tzinfo=UTC)
    per_month = Counter(f"{time:%Y-%m}" for time in times)
    assert len(per_month) == 18
    assert max(per_month, key=lambda month: per_month[month]) == "2025-12"


def test_lengths_are_those_of_real_tickets(tickets: list[Ticket]) -> None:
    """Apart from empty tickets and pasted logs, texts have 5 to 150 words, 38 to 50 on average."""
    lengths = [len(ticket.text.split()) for ticket in tickets if ticket.kind not in ("empty", "log")]
    assert min(lengths) >= 5
    assert max(lengths) <= 150
    assert 38 <= sum(lengths) / len(lengths) <= 50


def test_wrong_labels_are_listed_apart(rows: list[dict[str, Any]], readme_counts: dict[str, int]) -> None:
    """About 3% are wrong; each is listed with the label given and the true one, a category it can be confused with."""
    given = {row["id"]: row["expected"]["label"] for row in rows}
    wrong = json.loads((SHIPPED / "mislabelled.json").read_text(encoding="utf-8"))
    assert 0.025 <= len(wrong) / len(rows) <= 0.035
    assert len({entry["id"] for entry in wrong}) == len(wrong) == claimed(readme_counts, "wrong label")
    for entry in wrong:
        assert given[entry["id"]] == entry["given"] != entry["true"]
        assert entry["given"] in confusable(entry["true"])


def test_defects_are_as_many_as_the_readme_says(tickets: list[Ticket], readme_counts: dict[str, int]) -> None:
    """Copies, empty tickets, logs and languages: the README's figures are the true ones, near what was asked for."""
    kinds = Counter(ticket.kind for ticket in tickets)
    copies = Counter(ticket.copy for ticket in tickets)
    assert claimed(readme_counts, "resent with small edits") == copies["near"] == 120
    assert claimed(readme_counts, "resent to the letter") == copies["exact"] == 9
    assert claimed(readme_counts, "empty") == kinds["empty"] == 6
    assert claimed(readme_counts, "mostly a pasted log") == kinds["log"] == 25
    assert claimed(readme_counts, "two issues") == kinds["two_issues"]
    assert claimed(readme_counts, "a situation") == kinds["boundary"]
    foreign = sum(kinds[language] for language in LANGUAGES)
    assert claimed(readme_counts, "not in English") == foreign
    assert 0.04 <= foreign / len(tickets) <= 0.06
    assert all(kinds[language] >= 10 for language in LANGUAGES)


def test_copies_stay_with_their_original(tickets: list[Ticket]) -> None:
    """An exact copy has the same text, a near one another text; both have the original's true label and come later."""
    originals = {ticket.group: ticket for ticket in tickets if not ticket.copy}
    for ticket in tickets:
        if ticket.copy:
            original = originals[ticket.group]
            assert (ticket.text == original.text) == (ticket.copy == "exact")
            assert ticket.true_label == original.true_label
            assert ticket.time > original.time


def test_texts_repeat_only_on_purpose(rows: list[dict[str, Any]], tickets: list[Ticket]) -> None:
    """No two tickets share a text by accident, apart from the empty ones."""
    texts = Counter(ticket.text for ticket in tickets if ticket.copy != "exact")
    assert {text for text, count in texts.items() if count > 1} <= EMPTY_OR_MARK
    assert {row["input"]["text"] for row in rows} == set(texts)


def test_nothing_points_at_a_real_person(rows: list[dict[str, Any]]) -> None:
    """Addresses use the reserved example domains, telephone numbers 555-01xx, and there is no other web address."""
    for row in rows:
        text = row["input"]["text"].lower()
        for domain in re.findall(r"@([\w.-]+\w)", text):
            assert re.fullmatch(r"(mail\.)?example\.(com|org|net)", domain), text
        assert all(re.fullmatch(r"555-01\d\d", number) for number in re.findall(r"\b\d{3}-\d{4}\b", text)), text
        assert not re.search(r"https?:|www\.|\+\d{6}", text), text


def test_no_slot_or_choice_is_left_open(rows: list[dict[str, Any]]) -> None:
    """The generator's own marks never reach a text."""
    assert not [row["id"] for row in rows if re.search(r"[{}|]|<[a-z0-9]+>|@20\d\d", row["input"]["text"].lower())]


def test_news_appears_only_when_it_is_news(rows: list[dict[str, Any]]) -> None:
    """Nobody writes about passkeys before February 2026 or owns the Mini before spring 2026."""
    for row in rows:
        if row["meta"]["time"] < "2026-02":
            assert "passkey" not in row["input"]["text"].lower()
        if row["meta"]["time"] < "2026-03":
            assert "planter mini" not in row["input"]["text"].lower()


@pytest.mark.parametrize("label", sorted(LABELS))
def test_every_category_has_plenty_of_material(label: str) -> None:
    """Each category is written from many distinct statements, so that tickets are not a handful of templates."""
    material = sections(label)
    assert len({line.text for line in material["problem"]}) >= 40
    assert len({line.text for line in material["detail"]}) >= 23
    assert len({line.text for line in material["ask"]}) >= 12
    assert all(len(sections(language)[label]) >= 2 for language in LANGUAGES)
