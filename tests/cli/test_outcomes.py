"""`score --outcomes`, `decide --outcomes` and `import outcomes` at the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.tickets import steelyard


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two approaches on 60 cases, with a column nobody asked for."""
    lines = ["system,case_id,success,cost_usd,vendor"]
    lines += [f"a,c{i},{int(i < 55)},0.001,x" for i in range(60)]
    lines += [f"b,c{i},{int(i < 35)},0.002,x" for i in range(60)]
    path = tmp_path / "results.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_file_is_scored_and_decided_on(file: Path) -> None:
    scored = steelyard("score", "--outcomes", file, "--json")
    assert scored.code == 0, scored.err
    assert scored.json["schema"] == "steelyard.scorecards/1"
    assert [card["name"] for card in scored.json["approaches"]] == ["a", "b"]
    assert "note: columns of results.csv that were not used: vendor" in scored.err
    decided = steelyard("decide", "--outcomes", file, "--json")
    assert decided.json["schema"] == "steelyard.verdict/1"
    assert decided.json["choice"] == "a"
    assert "Take a over b" in steelyard("decide", "--outcomes", file).out
    assert [
        c["name"] for c in steelyard("score", "--outcomes", file, "--approach", "b", "--json").json["approaches"]
    ] == ["b"]


def test_an_imported_folder_is_scored_and_decided_on_and_not_run(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    made = steelyard("import", "outcomes", file, "-o", folder, "--json")
    assert made.code == 0, made.err
    assert made.json["schema"] == "steelyard.import/1"
    assert made.json["cases"] == {"a": 60, "b": 60}
    assert steelyard("score", folder).code == 0
    assert steelyard("decide", folder, "--json").json["choice"] == "a"
    for command in ("run", "check"):
        refused = steelyard(command, folder)
        assert refused.code == 2
        assert "can be scored and decided on, and nothing else" in refused.err
    said = steelyard("import", "outcomes", file, "-o", folder)
    assert said.code == 2
    assert "there is something here already" in said.err


def test_an_imported_folder_and_a_file_have_a_report(file: Path, tmp_path: Path) -> None:
    """The same report whether outcomes were imported or named; text forms can go to a pipe, a workbook cannot."""
    folder = tmp_path / "made"
    steelyard("import", "outcomes", file, "-o", folder)
    written = steelyard("report", folder)
    assert written.out.strip() == str(folder / "report.html")
    assert "SHA-256 of the file" in (folder / "report.html").read_text(encoding="utf-8")
    assert steelyard("report", folder, "--format", "xlsx").code == 0
    assert (folder / "report.xlsx").read_bytes().startswith(b"PK")
    printed = steelyard("report", "--outcomes", file, "--format", "csv", "-o", "-")
    assert printed.out.startswith("approach,term,name,label,usd_per_month")
    refused = steelyard("report", folder, "--format", "xlsx", "-o", "-")
    assert refused.code == 2
    assert "a workbook goes into a file" in refused.err
    assert steelyard("report").code == 2


def test_import_says_what_it_made(file: Path, tmp_path: Path) -> None:
    said = steelyard("import", "outcomes", file, "-o", tmp_path / "made")
    assert said.out.startswith("120 outcomes of 2 approaches on 60 cases")
    assert "not used: vendor" in said.err


def test_settings_and_threshold_reach_the_verdict(file: Path, tmp_path: Path) -> None:
    settings = tmp_path / "s.yaml"
    settings.write_text("goal: {min_success: 0.99}\n", encoding="utf-8")
    decided = steelyard("decide", "--outcomes", file, "--settings", settings, "--json")
    assert decided.json["choice"] is None
    graded = tmp_path / "graded.csv"
    graded.write_text("approach,case_id,score\n" + "".join(f"a,c{i},{i / 20}\n" for i in range(20)), encoding="utf-8")
    scored = steelyard("score", "--outcomes", graded, "--threshold", "0.5", "--json")
    assert scored.json["approaches"][0]["success"]["value"] == 0.5


@pytest.mark.parametrize("command", ["score", "decide"])
def test_what_does_not_go_together_is_refused(command: str, file: Path, tmp_path: Path) -> None:
    for arguments in ([], [tmp_path, "--outcomes", file], [tmp_path, "--threshold", "1"]):
        refused = steelyard(command, *arguments)
        assert refused.code == 2
        assert "--outcomes" in refused.err


def test_bad_rows_are_refused_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("approach,case_id,success\na,1,maybe\na,2,\x1b[31m\n", encoding="utf-8")
    refused = steelyard("score", "--outcomes", path)
    assert (refused.code, refused.out) == (2, "")
    assert "bad.csv:2:success: 'success' is 'maybe'" in refused.err
    assert "\x1b" not in refused.err
    absent = steelyard("decide", "--outcomes", tmp_path / "no.csv")
    assert absent.code == 2
    assert "the file of outcomes" in absent.err
