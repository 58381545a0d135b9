"""Bad input of every kind: noticed before anything is sent, said in a sentence with place and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from steelyard.engine.journal import Journal
from steelyard.models.stub_server import StubServer
from tests.cli.tickets import (
    N_TEST,
    ZERO_SHOT,
    Ran,
    nobody_listens,
    steelyard,
    steelyard_process,
    ticket_rows,
    write_cases,
    write_study,
)

ROWS = ticket_rows(30)
GOOD = "text,label\n" + "".join(f'"{text}",{label}\n' for text, label in ROWS)
"""A good file of 31 lines."""


def assert_refused(ran: Ran, stub: StubServer, *words: str) -> None:
    """Exit code 2, a message with a hint, nothing on stdout, nothing sent."""
    assert ran.code == 2, ran
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert "\n  hint: " in ran.err
    assert "Traceback" not in ran.err
    for word in words:
        assert word in ran.err
    assert stub.n_requests == 0


# ---- files of cases -------------------------------------------------------------------------------------------------

FILES = {
    "empty": (b"", ["cases.csv: the file is empty"]),
    "only a header": (b"text,label\n", ["cases.csv: the file holds no cases"]),
    "latin-1": (
        (GOOD + "caf\u00e9,billing\n").encode("latin-1"),
        ["cases.csv:32", "is not UTF-8", "cp1252", "re-save"],
    ),
    "utf-16": (GOOD.encode("utf-16"), ["UTF-16", "re-save it as UTF-8"]),
    "a spreadsheet": (b"PK\x03\x04" + bytes(100), ["an Excel workbook", "export the sheet as CSV"]),
    "ragged": (
        (GOOD + "a,b,c\nlonely\n").encode(),
        ["cases.csv:32: the row has 3 cells, more than the 2", "cases.csv:33: the row has 1 cell, fewer than the 2"],
    ),
    "an open quote": ((GOOD + '"never closed,billing\n').encode(), ["cases.csv:32", "close every quoted cell"]),
    "a label not in the schema": (
        (GOOD + "where is it,delivry\n").encode(),
        ["cases.csv:32:expected", '"delivry"', "correct the expected output"],
    ),
    "another column": (GOOD.replace("text,", "txt,", 1).encode(), ["no column 'text'", "did you mean 'txt'?"]),
    "1 MB in one cell": (
        (GOOD + "x" * 1_000_000 + ",billing\n").encode(),
        ["cases.csv:32:text", "1,000,000 characters", "raise cases.max_chars"],
    ),
    "no label at all": (
        "".join(line.rsplit(",", 1)[0] + ",\n" for line in GOOD.splitlines()).replace(",\n", ",label\n", 1).encode(),
        ["none of the 30 cases has an expected output"],
    ),
    "too few": (b"text,label\nfirst one,billing\nsecond one,delivery\n", ["split is empty", "only 2 labelled cases"]),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("command", ["check", "run"])
def test_a_bad_file_of_cases_is_refused_before_anything_is_sent(
    name: str, command: str, tmp_path: Path, stub: StubServer
) -> None:
    """`check` and `run` say the same: line, field, and what to do."""
    content, words = FILES[name]
    folder = write_study(tmp_path / "s", stub.url)
    (folder / "cases.csv").write_bytes(content)
    assert_refused(steelyard(command, folder), stub, *words)
    assert not (folder / ".steelyard" / "journal.sqlite3").exists()


def test_a_missing_file_of_cases_names_those_beside_it(tmp_path: Path, stub: StubServer) -> None:
    folder = write_study(tmp_path / "s", stub.url)
    (folder / "cases.csv").rename(folder / "tickets.csv")
    assert_refused(steelyard("run", folder), stub, "cases.csv' does not exist", "files of cases beside it: tickets.csv")


def test_an_expected_output_that_breaks_its_own_schema_names_line_and_rule(tmp_path: Path, stub: StubServer) -> None:
    folder = write_study(tmp_path / "s", stub.url, rows=[*ROWS, ("too short", "no")])
    text = (folder / "study.yaml").read_text()
    schema = "output_schema: {type: object, properties: {label: {type: string, minLength: 4}}, required: [label]}"
    (folder / "study.yaml").write_text(text.replace("labels: [billing, delivery]", schema))
    assert_refused(steelyard("run", folder), stub, "cases.csv:32:expected", "shorter than 4 characters")


def test_no_test_case_after_filtering_is_refused(tmp_path: Path, stub: StubServer) -> None:
    """A split column that leaves nothing to test on must not become a run over nothing."""
    folder = write_study(tmp_path / "s", stub.url)
    write_cases(folder / "cases.csv", [(*row, "train") for row in ROWS], header=("text", "label", "part"))
    text = (folder / "study.yaml").read_text()
    (folder / "study.yaml").write_text(
        text.replace("cases: cases.csv", "cases: {file: cases.csv, split_column: part}", 1)
    )
    assert_refused(steelyard("run", folder), stub, "no case is in the declared split 'test'")


def test_cases_without_an_answer_are_noted_and_not_paid_for(tmp_path: Path, stub: StubServer) -> None:
    """They cannot be scored, so they are neither sent nor counted."""
    folder = write_study(
        tmp_path / "s", stub.url, rows=[*ticket_rows(60), *[(f"who knows {i}?", "") for i in range(5)]]
    )
    checked = steelyard("check", folder)
    assert checked.code == 0
    assert "5 of 65 cases have no expected output (first: cases.csv:62)" in checked.out
    assert steelyard("run", folder, "--quiet").code == 0
    assert stub.n_requests == N_TEST


def test_an_empty_text_is_a_case_like_any_other(tmp_path: Path, stub: StubServer) -> None:
    """Production has empty tickets, so they are asked and scored; `check` says that they are there."""
    rows = [(text if i % 2 else "", label) for i, (text, label) in enumerate(ticket_rows(40))]
    folder = write_study(tmp_path / "s", stub.url, rows=rows)
    assert "20 of 40 cases have an empty input" in steelyard("check", folder).out
    ran = steelyard("run", folder, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["outcomes"] == ran.json["test_cases"] > 0


def test_a_text_of_1_mb_runs_where_it_is_allowed_and_does_not_swell_the_report(
    tmp_path: Path, stub: StubServer
) -> None:
    stub.bodies = []
    long = [
        (f"{word} and {word} again, " * (1_000_000 // len(word) // 3), "delivery") for word in ("lost", "late", "wet")
    ]
    folder = write_study(tmp_path / "s", stub.url, rows=[*ticket_rows(20), *long])
    text = (folder / "study.yaml").read_text()
    generous = "cases: {file: cases.csv, max_chars: 3000000, split: {train: 0.1, dev: 0.1}}"
    (folder / "study.yaml").write_text(text.replace("cases: cases.csv", generous, 1))
    ran = steelyard("run", folder, "--quiet")
    assert ran.code == 0, ran.err
    assert "crashed" not in ran.out
    assert max(map(len, stub.bodies)) > 1_000_000
    assert steelyard("report", folder).code == 0
    assert (folder / ".steelyard" / "report.html").stat().st_size < 1_000_000


# ---- study.yaml and options ------------------------------------------------------------------------------------------

EDITS = {
    "an unknown field": (
        "expected: label",
        "expcted: label",
        ["study.yaml:5:task.expcted", "did you mean 'expected'?"],
    ),
    "a wrong type": ("study: tickets", "study: [a]", ["study.yaml:1:study"]),
    "an unknown model": (ZERO_SHOT, "zero-shot: {model: sutb}", ["'sutb'", "local, none, stub"]),
    "an address without scheme": ("base_url: 'http://", "base_url: '", ["study.yaml:9", "http:// or https://"]),
    "a template with an unknown name": (
        ZERO_SHOT,
        "zero-shot: {model: stub, prompt: {user: '{{ txt }}'}}",
        ["approaches.zero-shot.prompt.user", "did you mean 'text'?"],
    ),
    "a missing key": ("model: 'm1'", "model: 'm1', api_key_env: NO_SUCH_KEY", ["NO_SUCH_KEY is not set", "export"]),
    "a password in the address": ("'http://", "'http://me:hunter2@", ["endpoint 'stub'", "holds a password"]),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_wrong_study_yaml_is_refused_with_its_line(name: str, tmp_path: Path, stub: StubServer) -> None:
    before, after, words = EDITS[name]
    folder = write_study(tmp_path / "s", stub.url)
    text = (folder / "study.yaml").read_text()
    assert before in text
    (folder / "study.yaml").write_text(text.replace(before, after, 1))
    ran = steelyard("run", folder)
    assert ran.code == 2, ran
    assert ran.out == ""
    for word in words:
        assert word in ran.err
    assert "hunter2" not in ran.err
    assert stub.n_requests == 0


def test_a_folder_without_a_study_says_how_to_write_one(tmp_path: Path, stub: StubServer) -> None:
    assert_refused(steelyard("check", tmp_path), stub, "there is no study.yaml here", "steelyard init")


def test_naming_study_yaml_instead_of_its_folder_says_so(tmp_path: Path, stub: StubServer) -> None:
    folder = write_study(tmp_path / "s", stub.url)
    ran = steelyard("check", folder / "study.yaml")
    assert_refused(ran, stub, "this is a file, not a study folder", f"lies in: {folder}")


def test_an_unknown_approach_lists_the_known_ones(tmp_path: Path, stub: StubServer) -> None:
    folder = write_study(tmp_path / "s", stub.url)
    assert_refused(steelyard("run", folder, "--approach", "zeroshot"), stub, "'zeroshot'", "there is: zero-shot")


@pytest.mark.parametrize("arguments", [["run", "--limit", "0"], ["run", "--budget", "-1"], ["nope"], ["run", "--nope"]])
def test_wrong_options_are_exit_code_2(arguments: list[str], tmp_path: Path) -> None:
    ran = steelyard(*arguments, tmp_path)
    assert ran.code == 2
    assert "Error: " in ran.err
    assert ran.out == ""


@pytest.mark.parametrize("command", ["score", "decide", "report"])
def test_results_before_any_run_say_which_command_is_missing(command: str, tmp_path: Path, stub: StubServer) -> None:
    folder = write_study(tmp_path / "s", stub.url)
    assert_refused(steelyard(command, folder), stub, "nothing was run in this study yet", f"steelyard run {folder}")


def test_a_budget_in_money_needs_prices(tmp_path: Path, stub: StubServer) -> None:
    folder = write_study(tmp_path / "s", stub.url, price="")
    assert_refused(steelyard("run", folder, "--budget", "1"), stub, "the price of endpoint 'stub'", "price_per_million")


def test_the_real_command_shows_no_traceback(tmp_path: Path, stub: StubServer) -> None:
    """As a process, exactly as a person would see it."""
    folder = write_study(tmp_path / "s", stub.url)
    (folder / "cases.csv").write_bytes(FILES["ragged"][0])
    ran = steelyard_process("run", folder)
    assert_refused(ran, stub, *FILES["ragged"][1])


# ---- endpoints -------------------------------------------------------------------------------------------------------

STOPS = {
    "401": ["a key is needed (401)", "api_key_env"],
    "403": ["(403)", "api_key_env"],
    "404": ["does not know model 'm1' (404)", "check model and base_url"],
    "redirect": ["redirects (307)", "check base_url"],
    "429": ["out of order", "too many requests (429)"],
    "500": ["out of order", "server error (500): internal error"],
    "400": ["request rejected (400): this request is not acceptable"],
    "malformed": ["is not JSON"],
    "not_chat": ["is not a chat completion"],
    "empty_choices": ["has no choices"],
    "truncated": ["broke off before its end"],
    "drop": ["broke off"],
    "hang": ["no full answer", "within 0.3 s"],
}
FREE = {"401", "403", "404", "redirect", "429", "500", "400"}
"""Turned away by the server: never billed."""


@pytest.mark.parametrize("behaviour", STOPS)
@pytest.mark.parametrize("n_rows", [60, 20])
def test_an_endpoint_out_of_order_stops_the_run_and_the_same_command_goes_on(
    behaviour: str, n_rows: int, tmp_path: Path, stub: StubServer
) -> None:
    """Nothing is counted against the approach: an outage says nothing about it. Few cases are no exception."""
    folder = write_study(
        tmp_path / "s", stub.url, rows=ticket_rows(n_rows), endpoint="max_retries: 0, timeout_s: 0.3, concurrency: 4"
    )
    stub.default = behaviour
    stopped = steelyard("run", folder, "--quiet")
    assert stopped.code == 1, stopped
    assert stopped.out == ""
    assert stopped.err.startswith("error: endpoint 'stub'")
    assert "\n  hint: " in stopped.err
    assert "Traceback" not in stopped.err
    for word in STOPS[behaviour]:
        assert word in stopped.err
    with Journal.open(folder / ".steelyard" / "journal.sqlite3", read_only=True) as journal:
        assert list(journal.measurements()) == []
        assert (journal.spent().usd == 0) is (behaviour in FREE)
    stub.default = "ok"
    ran = steelyard("run", folder, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["statuses"] == {"zero-shot": {"answered": n_rows // 5}}


def test_a_wrong_key_is_noticed_after_the_calls_that_may_be_in_flight(tmp_path: Path, stub: StubServer) -> None:
    folder = write_study(tmp_path / "s", stub.url, endpoint="concurrency: 3")
    stub.default = "401"
    assert steelyard("run", folder, "--quiet").code == 1
    assert stub.n_requests <= 3


def test_nobody_listening_is_said_at_once(tmp_path: Path) -> None:
    url = nobody_listens()
    folder = write_study(tmp_path / "s", url)
    ran = steelyard("run", folder, "--quiet")
    assert ran.code == 1
    assert f"nobody answers at {url}/chat/completions" in ran.err
    assert "check base_url and that the server runs" in ran.err
    assert "Traceback" not in ran.err


def test_a_storm_of_429_that_passes_is_waited_out(tmp_path: Path, stub: StubServer) -> None:
    """Each call is turned away twice and then answered; the retries are counted apart."""
    folder = write_study(tmp_path / "s", stub.url, model="stub:429x2", endpoint="max_retries: 3, timeout_s: 5")
    ran = steelyard("run", folder, "--json")
    assert ran.code == 0, ran.err
    assert stub.n_requests == 3 * N_TEST
    (card,) = steelyard("score", folder, "--json").json["approaches"]
    assert card["transport_retries"] == 2 * N_TEST
    assert card["retry"]["value"] == 0


@pytest.mark.parametrize("behaviour", ["empty_text", "refusal", "content_filter", "too_long"])
def test_an_answer_without_an_output_counts_against_the_approach(
    behaviour: str, tmp_path: Path, stub: StubServer
) -> None:
    """The endpoint works; that the model says nothing useful is the model's result."""
    folder = write_study(tmp_path / "s", stub.url)
    stub.default = behaviour
    ran = steelyard("run", folder)
    assert ran.code == 0
    assert f"{N_TEST} " in ran.out
    assert "they count as not successful" in ran.out
    (card,) = steelyard("score", folder, "--json").json["approaches"]
    assert card["success"]["value"] == 0


def test_a_read_only_study_folder_is_a_sentence(tmp_path: Path, stub: StubServer) -> None:
    """Where `.steelyard` cannot be made, the run says so before it sends anything."""
    folder = write_study(tmp_path / "s", stub.url)
    (folder / ".steelyard").write_text("in the way")
    ran = steelyard("run", folder)
    assert ran.code == 1
    assert ran.err.startswith("error: ")
    assert "Traceback" not in ran.err
    assert stub.n_requests == 0
