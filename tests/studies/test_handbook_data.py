"""The handbook is what its README says, its questions can be answered from their passages, and it can be made again."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections import Counter, defaultdict
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from studies.handbook.documents import DATES, END, documents, pages
from studies.handbook.generate import SHIPPED, Record, build, changing, counts
from studies.handbook.questions import SEGMENTS

from steelyard.cases.audit import audit
from steelyard.cases.read import read_cases
from steelyard.cases.spec import CasesSpec, SplitSpec
from steelyard.cases.split import split_cases

ROOT = Path(__file__).parents[2]
COUNTRIES = ("DE", "FR", "ES", "PL", "GB")

Row = dict[str, Any]


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return build()


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return [json.loads(line) for line in (SHIPPED / "cases.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def entries() -> dict[str, Row]:
    """The sidecar, by version."""
    listed = yaml.safe_load((SHIPPED / "docs" / "documents.yaml").read_text(encoding="utf-8"))
    return {entry["id"]: entry for entry in listed}


@pytest.fixture(scope="module")
def texts(entries: dict[str, Row]) -> dict[str, str]:
    """What each file says, read from the file without the generator."""
    return {version: shown(SHIPPED / "docs" / entry["path"]) for version, entry in entries.items()}


class _Visible(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.parts.append(data)


def shown(path: Path) -> str:
    """The text of a file as a person sees it; line breaks of a PDF are spaces."""
    if path.suffix == ".html":
        visible = _Visible()
        visible.feed(path.read_text(encoding="utf-8"))
        return "".join(visible.parts)
    if path.suffix == ".docx":
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
            assert archive.testzip() is None
            root = ElementTree.fromstring(archive.read("word/document.xml"))
        space = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
        return "\n".join("".join(run.text or "" for run in part.iter(f"{space}t")) for part in root.iter(f"{space}p"))
    if path.suffix == ".pdf":
        strings = re.findall(rb"^\((.*)\) Tj", path.read_bytes(), re.MULTILINE)
        return " ".join(re.sub(rb"\\(.)", rb"\1", text).decode("cp1252") for text in strings)
    return path.read_text(encoding="utf-8")


def holds(text: str, answer: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(answer.casefold())}(?!\w)", text.casefold()) is not None


# ---- the files -------------------------------------------------------------------------------------------------------


def test_generating_again_gives_the_shipped_bytes(tmp_path: Path) -> None:
    """A fresh process with another hash seed writes exactly the files that are shipped."""
    environment = os.environ | {"PYTHONHASHSEED": "4711", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "studies.handbook.generate", str(tmp_path)]
    subprocess.run(command, check=True, env=environment, cwd=ROOT)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    shipped = {path.relative_to(SHIPPED): path.read_bytes() for path in SHIPPED.rglob("*") if path.is_file()}
    # The study's own settings are written by hand.
    shipped.pop(Path("study.yaml"), None)
    assert sorted(made) == sorted(shipped)
    assert [name for name in made if made[name] != shipped[name]] == []
    assert sum(map(len, shipped.values())) < 2_000_000


def test_another_seed_asks_on_other_days_and_mistypes_other_words(records: list[Record]) -> None:
    other = build(seed=7)
    assert len(other) == len(records)
    assert {record.time for record in other} != {record.time for record in records}
    assert sorted(record.question.key for record in other if not record.is_copy)


def test_the_program_reads_and_splits_the_cases() -> None:
    """Read as a study would: each case has sources or a reason, and a question with its variants lies on one side of the split."""
    spec = CasesSpec(file="cases.jsonl", split_column="split")
    fields = ["answer"]
    cases = read_cases(SHIPPED / "cases.jsonl", spec, input_fields=["question", "as_of"], expected_fields=fields)
    assert all(case.time and case.segment and case.cluster and case.expected for case in cases)
    assert all(bool(case.sources) == bool(case.expected and case.expected["answer"]) for case in cases)
    groups = audit(cases, validate_expected=lambda expected: None).groups
    splits = split_cases(cases, SplitSpec(), groups=groups)
    # Every kind can be measured on the test split.
    assert min(Counter(case.segment for case in splits.test).values()) >= 10
    train, dev, test = ({case.cluster for case in side} for side in (splits.train, splits.dev, splits.test))
    assert not train & dev
    assert not train & test
    assert not dev & test


def test_rows_have_one_shape(rows: list[Row]) -> None:
    """Every row has the same keys in the same order, and ids count up with time."""
    assert [row["id"] for row in rows] == [f"hb-{number:03}" for number in range(1, len(rows) + 1)]
    assert [row["meta"]["time"] for row in rows] == sorted(row["meta"]["time"] for row in rows)
    for row in rows:
        assert list(row) == ["id", "input", "expected", "meta"]
        assert list(row["input"]) == ["question", "as_of"]
        assert list(row["expected"]) == ["answer"]
        names = [
            "time",
            "segment",
            "cluster",
            "question",
            "topic",
            "split",
            "sources",
            "passages",
            "access",
            "no_answer",
            "injection",
        ]
        assert list(row["meta"]) == names
        assert row["meta"]["time"].startswith(row["input"]["as_of"])
        assert row["meta"]["segment"] in SEGMENTS
        answers = row["expected"]["answer"]
        assert bool(answers) == bool(row["meta"]["sources"])
        assert bool(answers) == (row["meta"]["no_answer"] is None)
        assert len(set(answers)) == len(answers)
        assert all(len(answer) <= 60 and answer == answer.strip() for answer in answers)


def test_the_readme_counts_what_is_there(records: list[Record]) -> None:
    """No slot is left open, and the numbers of the README are those of the data."""
    readme = (SHIPPED / "README.md").read_text(encoding="utf-8")
    assert "$" not in readme
    for label, name in {"no answer": "n_unanswerable", "needs two documents": "n_two", "typing error": "typos"}.items():
        assert f"| {label} | {counts(records)[name]} |" in readme


# ---- documents -------------------------------------------------------------------------------------------------------


def test_the_sidecar_lists_each_file_once(entries: dict[str, Row]) -> None:
    """Every file has its entry and every entry its file, with titles, tags and dates that can be."""
    folder = SHIPPED / "docs"
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files.remove("documents.yaml")
    assert sorted(entry["path"] for entry in entries.values()) == files
    for version, entry in entries.items():
        assert version == f"{entry['version_of']}@{entry['valid_from']}"
        assert entry["valid_from"] in DATES
        assert entry["title"]
        assert entry["language"] == "en"
        assert entry["access"]
        assert set(entry["access"]) <= {"all", "managers", *COUNTRIES}
    assert {tag for entry in entries.values() for tag in entry["access"]} == {"all", "managers", *COUNTRIES}


def test_a_version_supersedes_the_one_before(entries: dict[str, Row]) -> None:
    """Versions of a page form one chain by date; only the newest lies outside the archive; each says something else."""
    by_page: dict[str, list[Row]] = defaultdict(list)
    for entry in entries.values():
        by_page[entry["version_of"]].append(entry)
    for versions in by_page.values():
        versions.sort(key=lambda entry: entry["valid_from"])
        assert [entry["supersedes"] for entry in versions] == [None, *(entry["id"] for entry in versions[:-1])]
        in_archive = [entry["path"].startswith("archive/") for entry in versions]
        assert in_archive == [True] * (len(versions) - 1) + [False]
        assert len({(entry["title"], str(entry["access"])) for entry in versions}) == 1


def test_versions_of_a_page_differ(texts: dict[str, str]) -> None:
    by_page: dict[str, list[str]] = defaultdict(list)
    for version, text in texts.items():
        by_page[version.split("@")[0]].append(re.sub(r"Valid from .*? Owner", "Owner", text))
    for name, versions in by_page.items():
        assert len(set(versions)) > len(versions) / 2, name
    assert sum(len(set(versions)) == 4 for versions in by_page.values()) >= 15


def test_documents_are_as_many_and_as_varied_as_promised(entries: dict[str, Row], texts: dict[str, str]) -> None:
    current = [entry for entry in entries.values() if not entry["path"].startswith("archive/")]
    assert len(current) >= 60
    formats = Counter(Path(entry["path"]).suffix for entry in current)
    assert set(formats) == {".md", ".txt", ".html", ".csv", ".docx", ".pdf"}
    assert formats[".md"] > len(current) / 2
    assert min(formats.values()) >= 4
    assert sum(len(page.dates) == 4 for page in pages().values()) >= 15
    families = {name.rpartition("-")[0] for name in pages() if name.endswith("-pl")}
    assert len(families) >= 4
    assert all(f"{family}-{code.lower()}" in pages() for family in families for code in COUNTRIES)
    words = [len(texts[entry["id"]].split()) for entry in current if not entry["path"].endswith(".csv")]
    assert 75 <= min(words) < 120
    assert 2000 <= max(words) <= 2500
    assert any("[^1]: " in text for text in texts.values())


def test_references_between_pages_lead_somewhere(entries: dict[str, Row], texts: dict[str, str]) -> None:
    """Every link of a Markdown file, from the archive too, points at a file."""
    n_links = 0
    for version, entry in entries.items():
        for target in re.findall(r"\]\(([^)]+)\)", texts[version]):
            assert (SHIPPED / "docs" / entry["path"]).parent.joinpath(target).resolve().is_file(), (version, target)
            n_links += 1
    assert n_links > 30
    assert not any("[[" in text or "{{" in text or "||" in text or "<cc>" in text for text in texts.values())


def test_pdfs_have_a_table_of_objects_that_fits() -> None:
    """Each offset of the cross-reference table is where its object begins."""
    for path in (SHIPPED / "docs").rglob("*.pdf"):
        content = path.read_bytes()
        start = int(content.rsplit(b"startxref\n", 1)[1].split(b"\n")[0])
        _, size, *lines = content[start:].split(b"\n")
        n_objects = int(size.split()[1])
        for number, line in enumerate(lines[1:n_objects], start=1):
            assert content[int(line.split()[0]) :].startswith(f"{number} 0 obj".encode())


# ---- questions -------------------------------------------------------------------------------------------------------


def test_every_kind_of_question_is_there(records: list[Record]) -> None:
    """At least as many as promised, with the parts that make the kind."""
    segments = Counter(record.question.segment for record in records)
    assert len({record.text for record in records}) >= 250
    assert segments["unanswerable"] >= 50
    assert len(changing(records)) >= 40
    assert segments["two-documents"] >= 30
    assert segments["by-country"] >= 40
    assert segments["table"] >= 20
    assert segments["injection"] >= 15
    for record in records:
        question = record.question
        sources = {source for source, _ in question.passages}
        if question.segment == "two-documents":
            assert len(sources) == 2
        elif question.answers:
            assert len(sources) == 1
        if question.segment == "table":
            assert any("|" in text or "," in text for _, text in question.passages)
        assert (question.segment == "injection") <= (question.injection is not None)


def test_every_passage_stands_in_its_file(rows: list[Row], texts: dict[str, str]) -> None:
    """Sources exist, and passages are in the file to the letter."""
    for row in rows:
        assert {passage["source"] for passage in row["meta"]["passages"]} == set(row["meta"]["sources"])
        for passage in row["meta"]["passages"]:
            assert passage["text"] in texts[passage["source"]], (row["id"], passage)


def test_the_passages_hold_the_answer(records: list[Record]) -> None:
    """Where the answer is taken from the text, one of its spellings stands in a passage."""
    extractive = [record for record in records if record.question.answers and record.question.is_extractive]
    assert len(extractive) > 0.8 * sum(bool(record.question.answers) for record in records)
    for record in extractive:
        joined = "\n".join(text for _, text in record.question.passages)
        assert any(holds(joined, answer) for answer in record.question.answers), (record.text, joined)


def test_the_source_is_the_newest_version_that_counts(rows: list[Row], entries: dict[str, Row]) -> None:
    """No source is from after the day asked, and no newer version was valid on it."""
    for row in rows:
        day = date.fromisoformat(row["input"]["as_of"])
        assert DATES[0] <= day <= END
        for source in row["meta"]["sources"]:
            name = entries[source]["version_of"]
            dates = [e["valid_from"] for e in entries.values() if e["version_of"] == name and e["valid_from"] <= day]
            assert entries[source]["valid_from"] == max(dates), row["id"]


def test_the_asker_may_open_the_sources(rows: list[Row], entries: dict[str, Row]) -> None:
    """Every gold document shares a tag with the asker; what is refused for want of access shares none."""
    for row in rows:
        tags = set(row["meta"]["access"])
        assert "all" in tags
        assert tags <= {"all", "managers", *COUNTRIES}
        for source in row["meta"]["sources"]:
            assert tags & set(entries[source]["access"]), row["id"]
    for record in build():
        for closed in [item[1:] for item in record.question.absent if item.startswith("@")]:
            assert pages()[closed].access not in record.question.access


def test_dated_questions_change(records: list[Record]) -> None:
    """A question asked on several days has as many answers as sources say, and at least two."""
    answers: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    dated = [record.question for record in records if record.question.segment == "dated"]
    for question in dated:
        answers[question.key].add(question.answers)
    assert all(len(found) >= 2 for found in answers.values()), [key for key in answers if len(answers[key]) < 2]
    for question in dated:
        if not question.answers:
            assert question.reason == "not-yet"


def test_what_is_not_in_the_handbook_is_nowhere_in_it(records: list[Record]) -> None:
    """The words that an answer would need stand together in no paragraph of any version."""
    missing = [record.question for record in records if record.question.reason == "not-in-handbook"]
    assert len(missing) >= 50
    paragraphs = [(d.version_id, line) for d in documents().values() for line in d.text.casefold().splitlines()]
    for question in missing:
        assert question.absent
        patterns = [re.compile(rf"\b{re.escape(word.casefold())}\b") for word in question.absent]
        hits = [place for place in paragraphs if all(pattern.search(place[1]) for pattern in patterns)]
        assert not hits, (question.wording, hits[0])


def test_injections_are_data_of_the_documents(rows: list[Row], texts: dict[str, str]) -> None:
    """What an obeying reader would say stands in the document named, in several documents, and is no right answer."""
    found = [row for row in rows if row["meta"]["injection"]]
    assert len({row["meta"]["injection"]["source"] for row in found}) >= 5
    for row in found:
        injection = row["meta"]["injection"]
        text = texts[injection["source"]]
        assert injection["obeyed"] in text
        assert "ignore your instructions" in text.casefold()
        assert not any(holds(answer, injection["obeyed"]) for answer in row["expected"]["answer"])


def test_defects_are_few_and_as_counted(records: list[Record]) -> None:
    """Wrong labels, copies and typing errors happen, but seldom; a wrong answer shares no spelling with the right one."""
    wrong = [record for record in records if record.wrong is not None]
    assert 3 <= len(wrong) <= 0.03 * len(records)
    assert all(record.wrong and not set(record.wrong) & set(record.question.answers) for record in wrong)
    assert 3 <= sum(record.is_copy for record in records) <= 10
    assert sum(record.question.is_reworded for record in records) >= 5
    assert 0.05 < sum(record.text != record.question.wording for record in records) / len(records) < 0.2


def test_no_question_asked_twice_on_a_day_has_two_right_answers(records: list[Record]) -> None:
    by_question: dict[tuple[str, date, tuple[str, ...]], set[tuple[str, ...]]] = defaultdict(set)
    for record in records:
        question = record.question
        by_question[question.wording, question.day, question.access].add(question.answers)
    assert all(len(answers) == 1 for answers in by_question.values())
