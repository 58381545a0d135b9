"""`steelyard init`: from a person's own file to a study that checks, without touching anything that is there."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from steelyard.study.yaml_source import read_study_file
from tests.cli.tickets import steelyard, ticket_rows, write_cases

ROWS = ticket_rows(40)


def csv_file(folder: Path) -> Path:
    rows = [(f"T{i}", f"2025-{1 + i % 12:02}-03", text, label) for i, (text, label) in enumerate(ROWS)]
    write_cases(folder / "mine.csv", rows, header=("ticket_id", "created_at", "body", "category"))
    return folder / "mine.csv"


def jsonl_file(folder: Path) -> Path:
    shapes = [
        {"id": f"c{i}", "input": {"text": text}, "expected": {"label": label}, "meta": {"channel": "web"}}
        for i, (text, label) in enumerate(ROWS)
    ]
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(shape) + "\n" for shape in shapes), encoding="utf-8")
    return path


def parquet_file(folder: Path) -> Path:
    pl.DataFrame({"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}).write_parquet(
        folder / "mine.parquet"
    )
    return folder / "mine.parquet"


@pytest.mark.parametrize(
    ("make", "columns"),
    [(csv_file, ("body", "category")), (jsonl_file, ("text", "label")), (parquet_file, ("text", "label"))],
)
def test_a_new_study_guesses_its_columns_says_so_and_checks(
    make: object, columns: tuple[str, str], tmp_path: Path
) -> None:
    """CSV, nested JSONL and Parquet: the file that comes out is a valid study with the labels found."""
    cases = make(tmp_path)  # type: ignore[operator]  # one of the three functions above
    folder = tmp_path / "new"
    made = steelyard("init", folder, "--cases", cases)
    assert made.code == 0, made.err
    assert f"guessed: input is {columns[0]} (change it with --input)" in made.out
    assert f"guessed: expected is {columns[1]} (change it with --expected)" in made.out
    assert "next: steelyard check" in made.err
    file = read_study_file(folder / "study.yaml")
    assert (file.task.input, file.task.expected) == ([columns[0]], [columns[1]])
    assert file.task.labels == ["billing", "delivery"]
    assert (folder / cases.name).read_bytes() == cases.read_bytes()
    assert len((folder / "study.yaml").read_text().splitlines()) <= 30
    checked = steelyard("check", folder)
    assert checked.code == 0, checked.err
    assert "40 cases read" in checked.out


def test_id_and_time_columns_of_other_names_are_written_down(tmp_path: Path) -> None:
    """Reading cases guesses nothing, so what `init` found must stand in study.yaml, and be said."""
    made = steelyard("init", tmp_path / "new", "--cases", csv_file(tmp_path))
    cases = read_study_file(tmp_path / "new" / "study.yaml").cases
    assert (cases.id, cases.time) == ("ticket_id", "created_at")
    assert "guessed: id is ticket_id (change it in study.yaml)" in made.out
    assert "guessed: time is created_at (change it in study.yaml)" in made.out


def test_named_columns_are_taken_and_not_guessed(tmp_path: Path) -> None:
    cases = csv_file(tmp_path)
    made = steelyard("init", tmp_path / "new", "--cases", cases, "--input", "body", "--expected", "category", "--json")
    assert made.json["schema"] == "steelyard.init/1"
    assert made.json["input"] == ["body"]
    assert made.json["expected"] == ["category"]
    assert made.json["n_rows"] == 40
    assert not [guess for guess in made.json["guessed"] if guess.startswith(("input", "expected"))]
    assert made.err == ""


def test_an_existing_study_is_not_overwritten(tmp_path: Path) -> None:
    cases = csv_file(tmp_path)
    assert steelyard("init", tmp_path / "new", "--cases", cases).code == 0
    (tmp_path / "new" / "study.yaml").write_text("mine")
    again = steelyard("init", tmp_path / "new", "--cases", cases)
    assert again.code == 2
    assert "there is a study here already" in again.err
    assert (tmp_path / "new" / "study.yaml").read_text() == "mine"


def test_another_case_file_of_the_same_name_is_not_overwritten(tmp_path: Path) -> None:
    cases = csv_file(tmp_path)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mine.csv").write_text("years of work")
    refused = steelyard("init", tmp_path / "new", "--cases", cases)
    assert refused.code == 2
    assert "which is not overwritten" in refused.err
    assert (tmp_path / "new" / "mine.csv").read_text() == "years of work"
    assert not (tmp_path / "new" / "study.yaml").exists()


def test_cases_that_are_in_the_folder_already_are_used_in_place(tmp_path: Path) -> None:
    cases = csv_file(tmp_path)
    before = cases.stat().st_mtime_ns
    assert steelyard("init", tmp_path, "--cases", cases).code == 0
    assert cases.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cases", "nix.csv"], ["does not exist"]),
        (["--cases", "mine.csv", "--input", "bdy"], ["no column 'bdy' (--input)", "did you mean 'body'?"]),
        (["--cases", "mine.csv", "--expected", "categry"], ["(--expected)", "did you mean 'category'?"]),
        (["--cases", "numbers.csv"], ["no column looks like the input", "name one with --input"]),
        (["--cases", "empty.csv"], ["empty.csv: the file is empty"]),
        ([], ["Missing option '--cases'"]),
    ],
)
def test_what_cannot_become_a_study_is_refused_and_leaves_nothing_behind(
    arguments: list[str], words: list[str], in_folder: Path
) -> None:
    csv_file(in_folder)
    (in_folder / "numbers.csv").write_text("a,b\n1,2\n3,4\n")
    (in_folder / "empty.csv").write_text("")
    refused = steelyard("init", "new", *arguments)
    assert refused.code == 2
    assert refused.out == ""
    for word in words:
        assert word in refused.err
    assert not (in_folder / "new").exists()


@pytest.mark.parametrize("name", ["yes", "a: b", "#1", "née", "null", "1e3"])
def test_names_that_yaml_would_misread_are_quoted(name: str, tmp_path: Path) -> None:
    """Study, labels and columns survive the way through YAML whatever they look like."""
    write_cases(
        tmp_path / "c.csv", [(text, {"billing": name}.get(label, "other")) for text, label in ROWS], ("text", "label")
    )
    made = steelyard("init", tmp_path / "new", "--cases", tmp_path / "c.csv", "--name", name)
    assert made.code == 0, made.err
    file = read_study_file(tmp_path / "new" / "study.yaml")
    assert file.study == name
    assert set(file.task.labels or ()) == {name, "other"}
    assert steelyard("check", tmp_path / "new").code == 0


def test_a_file_without_labels_becomes_a_study_that_compares_text(tmp_path: Path) -> None:
    rows = [(f"order {i} of {i * 17} pieces, please", f"{i * 17} pcs") for i in range(30)]
    write_cases(tmp_path / "c.csv", rows, ("text", "answer"))
    made = steelyard("init", tmp_path / "new", "--cases", tmp_path / "c.csv")
    assert made.code == 0, made.err
    file = read_study_file(tmp_path / "new" / "study.yaml")
    assert file.task.labels is None
    assert file.task.scorer == "normalised"
    assert "tuned-head" not in file.approaches
