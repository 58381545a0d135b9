"""What the commands print, where, and how they end."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from steelyard.cli import COMMANDS
from steelyard.models.stub_server import StubServer
from tests.cli.tickets import N_TEST, serving, steelyard, steelyard_process, write_study

APPROACHES = ["zero-shot", "few-shot", "workflow"]


# ---- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "schema"),
    [
        (["check"], "steelyard.check/1"),
        (["run"], "steelyard.run-summary/1"),
        (["run", "--dry-run"], "steelyard.estimate/1"),
        (["score"], "steelyard.scorecards/1"),
        (["decide"], "steelyard.verdict/1"),
    ],
)
def test_json_is_the_only_thing_on_stdout_and_names_its_schema(
    arguments: list[str], schema: str, finished: Path
) -> None:
    command, *options = arguments
    ran = steelyard(command, finished, *options, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["schema"] == schema
    again = steelyard(command, finished, *options, "--json")
    if command != "run" or options:
        assert again.out == ran.out


def test_the_json_report_names_its_schema(finished: Path) -> None:
    assert steelyard("report", finished, "--format", "json", "-o", "-").json["schema"] == "steelyard.report/1"


FIGURE = {"value", "low", "high", "provenance"}
CARD = {
    "name", "levers", "split", "n", "success", "schema_pass", "retry", "review_s", "latency_s", "cost_per_success_usd",
    "prompt_tokens_per_task",
}  # fmt: skip
CARD_MORE = {
    "rung", "n_unscored", "status_counts", "extra_calls_per_case", "transport_retries", "correction_rate",
    "cost_per_task_usd", "cached_tokens_per_task", "completion_tokens_per_task", "mean_score", "success_with_judge",
    "judge_agreement",
}  # fmt: skip
COMPARISON = {
    "a", "b", "n", "a_only", "b_only", "difference", "p_mcnemar", "evidence", "cases_to_settle",
}  # fmt: skip
COMPARISON_MORE = {
    "n_unscored", "p_adjusted", "e_value", "latency_difference_s", "cost_difference_usd", "sentence", "margin",
    "minimum_detectable", "difference_with_judge",
}  # fmt: skip


def test_score_json_has_the_published_fields(finished: Path) -> None:
    """The fields of the design, the further ones named here, and no others: programs read this."""
    shape = steelyard("score", finished, "--json").json
    assert set(shape) == {"schema", "approaches", "comparisons", "segments", "fields", "retrieval", "cascades"}
    assert [card["name"] for card in shape["approaches"]] == APPROACHES
    for card in shape["approaches"]:
        assert set(card) == CARD | CARD_MORE
        assert card["split"] == "test"
        assert card["n"] == N_TEST
        assert set(card["latency_s"]) == {"p50", "p95"}
        figures = [card[name] for name in ("success", "schema_pass", "retry", "review_s", "cost_per_success_usd")]
        for figure in [*figures, card["prompt_tokens_per_task"], *card["latency_s"].values()]:
            assert set(figure) - {"unknown_because"} == FIGURE
    assert len(shape["comparisons"]) == 3
    for pair in shape["comparisons"]:
        assert set(pair) == COMPARISON | COMPARISON_MORE
        assert set(pair["difference"]) - {"unknown_because"} == FIGURE
        assert pair["evidence"] in ("a", "b", "equivalent", "undecided")


def test_figures_add_up_with_what_the_models_said(finished: Path) -> None:
    """`billing` to everything is right on the billing half, `delivery` on the other; on the same cases they differ."""
    shape = steelyard("score", finished, "--json").json
    cards = {card["name"]: card for card in shape["approaches"]}
    assert cards["zero-shot"]["success"]["value"] == cards["few-shot"]["success"]["value"]
    assert cards["zero-shot"]["success"]["value"] + cards["workflow"]["success"]["value"] == 1
    pair = next(pair for pair in shape["comparisons"] if {pair["a"], pair["b"]} == {"zero-shot", "workflow"})
    assert pair["a_only"] + pair["b_only"] == N_TEST
    # 20 prompt tokens at 1 USD and 5 generated ones at 2 USD a million; the other model has no known price.
    assert cards["zero-shot"]["cost_per_task_usd"]["value"] == pytest.approx(30e-6, rel=1e-3)
    assert cards["workflow"]["cost_per_success_usd"]["value"] is None
    assert cards["workflow"]["cost_per_success_usd"]["unknown_because"]


def test_score_of_one_approach_shows_that_one(finished: Path) -> None:
    shape = steelyard("score", finished, "--approach", "few-shot", "--json").json
    assert [card["name"] for card in shape["approaches"]] == ["few-shot"]
    assert shape["comparisons"] == []


# ---- streams ---------------------------------------------------------------------------------------------------------


def test_progress_goes_to_stderr_and_quiet_silences_it(tmp_path: Path, stub: StubServer) -> None:
    folder = write_study(tmp_path / "a", stub.url)
    ran = steelyard("run", folder)
    assert f"zero-shot: {N_TEST} to do" in ran.err
    assert "to do" not in ran.out
    assert ran.out.startswith(f"{N_TEST} outcomes in ")
    quiet = steelyard("run", write_study(tmp_path / "b", stub.url), "--quiet", "--json")
    assert quiet.err == ""
    assert quiet.json["outcomes"] == N_TEST


def test_piped_output_has_no_control_characters(finished: Path) -> None:
    """No colour, no bars, no carriage returns: what a log or a pipe can hold."""
    environment = {"TERM": "xterm-256color", "NO_COLOR": ""}
    for command in ("score", "decide"):
        ran = steelyard_process(command, finished, environment=environment)
        assert ran.code == 0, ran.err
        assert not [character for character in ran.out + ran.err if character < " " and character != "\n"]


def test_no_color_is_respected_on_a_terminal(finished: Path) -> None:
    """With a real terminal behind it, `NO_COLOR` leaves no colour codes; without it there are some."""
    assert "\x1b[" in _on_terminal(finished, {"TERM": "xterm-256color"})
    plain = _on_terminal(finished, {"TERM": "xterm-256color", "NO_COLOR": "1"})
    assert "success" in plain
    # Bold and dim stay, which are no colours; 30 to 49 and 90 to 107 are.
    assert not [code for code in _codes(plain) if 30 <= code <= 49 or 90 <= code <= 107]


def _on_terminal(folder: Path, environment: dict[str, str]) -> str:
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    with subprocess.Popen(
        [sys.executable, "-m", "steelyard", "score", str(folder)], stdout=slave, stderr=slave, env=clean | environment
    ) as process:
        os.close(slave)
        pieces = []
        while True:
            try:
                piece = os.read(master, 65_536)
            except OSError:  # Linux says so when the other end is closed
                break
            if not piece:
                break
            pieces.append(piece)
        process.wait(timeout=60)
    os.close(master)
    return b"".join(pieces).decode()


def _codes(text: str) -> list[int]:
    return [int(code) for group in re.findall(r"\x1b\[([\d;]*)m", text) for code in group.split(";") if code]


def test_the_report_can_go_to_a_file_and_to_stdout(finished: Path, tmp_path: Path) -> None:
    """The path is printed; `-` prints the report itself, and both are the same."""
    named = steelyard("report", finished, "-o", tmp_path / "r.html")
    assert named.out == f"{tmp_path / 'r.html'}\n"
    printed = steelyard("report", finished, "-o", "-")
    assert printed.out == (tmp_path / "r.html").read_text(encoding="utf-8")
    assert printed.out.startswith("<!doctype html>")
    assert steelyard("report", finished, "--format", "md", "-o", "-").out.startswith("# ")


def test_the_ledger_of_a_run_is_a_workbook_and_a_table(finished: Path, tmp_path: Path) -> None:
    """The same journal gives the same workbook; its ledger is the one of decide."""
    for name in ("a", "b"):
        assert steelyard("report", finished, "--format", "xlsx", "-o", tmp_path / f"{name}.xlsx").code == 0
    assert (tmp_path / "a.xlsx").read_bytes() == (tmp_path / "b.xlsx").read_bytes()
    rows = list(csv.DictReader(io.StringIO(steelyard("report", finished, "--format", "csv", "-o", "-").out)))
    for ledger in steelyard("decide", finished, "--json").json["economics"]["ledgers"]:
        known = [
            float(row["usd_per_month"])
            for row in rows
            if row["approach"] == ledger["approach"] and row["in_total"] == "yes"
        ]
        assert (sum(known) if known else None) == pytest.approx(ledger["total_usd_per_month"]["value"])


def test_a_report_that_cannot_be_written_is_a_sentence(finished: Path, tmp_path: Path) -> None:
    ran = steelyard("report", finished, "-o", tmp_path / "nowhere" / "r.html")
    assert ran.code == 1
    assert "the report cannot be written here: No such file or directory" in ran.err


def test_a_closed_pipe_is_no_traceback(finished: Path) -> None:
    """`steelyard report -o - | head -1` ends quietly."""
    command = f"{sys.executable} -m steelyard report {finished} -o - | head -c 20"
    done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True, timeout=60)
    assert len(done.stdout) == 20
    assert "Traceback" not in done.stderr


# ---- runs ------------------------------------------------------------------------------------------------------------


def test_a_dry_run_says_calls_tokens_and_money_and_sends_nothing(tmp_path: Path, stub: StubServer) -> None:
    folder = write_study(
        tmp_path / "s", stub.url, approaches=["zero-shot: {model: stub}", "b: {model: stub, prompt: {examples: 4}}"]
    )
    said = steelyard("run", folder, "--dry-run")
    assert said.code == 0, said.err
    assert f"{2 * N_TEST} first calls" in said.out
    assert "prompt tokens" in said.out
    assert "$0.00" in said.out
    assert "Nothing was sent." in said.out
    shape = steelyard("run", folder, "--dry-run", "--json").json
    assert [one["first_calls"] for one in shape["approaches"]] == [N_TEST, N_TEST]
    assert shape["approaches"][1]["prompt_tokens"] > shape["approaches"][0]["prompt_tokens"] > 0
    assert 0 < shape["likely_usd"] < sum(one["most_usd"] for one in shape["approaches"])
    assert stub.n_requests == 0
    assert not (folder / ".steelyard" / "journal.sqlite3").exists()


def test_a_dry_run_needs_no_key_and_counts_what_is_left(tmp_path: Path, stub: StubServer) -> None:
    folder = write_study(tmp_path / "s", stub.url)
    assert steelyard("run", folder, "--limit", 5, "--quiet").code == 0
    text = (folder / "study.yaml").read_text()
    (folder / "study.yaml").write_text(text.replace("model: 'm1'", "model: 'm1', api_key_env: NO_SUCH_KEY"))
    shape = steelyard("run", folder, "--dry-run", "--json").json
    assert shape["first_calls"] == N_TEST - 5


def test_limit_only_adds_cases_and_a_finished_run_does_nothing(tmp_path: Path, stub: StubServer) -> None:
    folder = write_study(tmp_path / "s", stub.url)
    for limit, n_requests in ((4, 4), (9, 9), (100, N_TEST), (100, N_TEST)):
        assert steelyard("run", folder, "--limit", limit, "--quiet").code == 0
        assert stub.n_requests == n_requests


def test_approach_runs_only_that_one(tmp_path: Path, stub: StubServer) -> None:
    folder = write_study(tmp_path / "s", stub.url, approaches=["a: {model: stub}", "b: {model: stub}"])
    assert steelyard("run", folder, "--approach", "b", "--quiet", "--json").json["statuses"] == {
        "b": {"answered": N_TEST}
    }


def test_a_second_process_on_the_same_study_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with serving(reply="billing", latency_s=5.0) as slow:
        folder = write_study(tmp_path / "s", slow.url, endpoint="timeout_s: 30")
        first = _start(folder)
        try:
            _wait_until(lambda: slow.n_requests > 0)
            second = steelyard("run", folder)
        finally:
            first.kill()
            first.communicate()
    assert second.code == 2
    assert f"another process (process id {first.pid}) is working on this study" in second.err


def test_ctrl_c_ends_a_run_in_order(tmp_path: Path) -> None:
    """The calls in flight are journalled, exit code 1, one sentence; the same command does the rest."""
    with serving(reply="billing", latency_s=0.3) as slow:
        folder = write_study(tmp_path / "s", slow.url, endpoint="concurrency: 4")
        process = _start(folder)
        _wait_until(lambda: slow.n_requests >= 4)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 1, err
        assert "stopped by Ctrl-C" in err
        assert "the same command goes on from here" in err
        assert "Traceback" not in err
        assert slow.n_requests < N_TEST
        assert steelyard("run", folder, "--quiet").code == 0
        assert slow.n_requests == N_TEST


def _start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "steelyard", "run", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _wait_until(is_so: Callable[[], bool]) -> None:
    for _ in range(600):
        if is_so():
            return
        time.sleep(0.05)
    raise AssertionError("it never happened")


# ---- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    said = steelyard(command, "--help")
    assert said.code == 0
    assert said.out.startswith(f"Usage: steelyard {command}")
    assert steelyard(command, "-h").out == said.out


def test_version_and_help_work_as_a_process() -> None:
    assert steelyard_process("--version").out.startswith("steelyard, version ")
    said = steelyard_process("--help")
    assert "Exit codes: 0 done" in said.out
    for name, (_, line) in COMMANDS.items():
        assert name in said.out
        assert line.split()[0] in said.out


def test_an_unknown_shipped_study_is_named_with_those_there_are(tmp_path: Path) -> None:
    refused = steelyard("demo", "triag", "--dir", tmp_path / "d")
    assert refused.code == 2
    assert "did you mean 'triage'?" in refused.err
    assert not (tmp_path / "d").exists()


def test_json_numbers_are_finite(finished: Path) -> None:
    """NaN and Infinity are no JSON; a strict reader must be able to read everything."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in the output")

    for command in ("score", "decide"):
        json.loads(steelyard(command, finished, "--json").out, parse_constant=refuse)


# ---- what was run and what study.yaml says now -----------------------------------------------------------------------


def test_figures_of_an_approach_that_was_changed_since_say_so(tmp_path: Path, stub: StubServer) -> None:
    """Editing study.yaml must not silently put new names on old figures; running again settles it."""
    folder = write_study(tmp_path / "s", stub.url)
    assert steelyard("run", folder, "--quiet").code == 0
    assert "note:" not in steelyard("score", folder).out
    text = (folder / "study.yaml").read_text()
    changed = "zero-shot: {model: stub, prompt: {examples: 2}}\n  another: {model: stub}"
    (folder / "study.yaml").write_text(text.replace("zero-shot: {model: stub}", changed))
    for command in ("score", "decide"):
        ran = steelyard(command, folder)
        assert "note: study.yaml was changed after zero-shot ran: these figures are from before" in ran.out
        assert "note: not run yet: another" in ran.out
        assert "note: study.yaml was changed" in steelyard(command, folder, "--json").err
    assert "study.yaml was changed after zero-shot ran" in steelyard("report", folder, "-o", "-").out
    assert steelyard("run", folder, "--quiet").code == 0
    assert "note:" not in steelyard("score", folder).out


def test_new_money_is_no_changed_approach(tmp_path: Path, stub: StubServer) -> None:
    """Wages and volumes may change at any time: the ledger is computed anew, nothing has to run again."""
    folder = write_study(tmp_path / "s", stub.url)
    assert steelyard("run", folder, "--quiet").code == 0
    with (folder / "study.yaml").open("a") as stream:
        stream.write("money: {wage_per_hour_usd: 80}\n")
    assert "note:" not in steelyard("score", folder).out


def test_scores_of_an_approach_nobody_knows_list_the_known_ones(finished: Path) -> None:
    refused = steelyard("score", finished, "--approach", "nope")
    assert refused.code == 2
    assert "no approach called 'nope' in this study" in refused.err
    assert "there is: zero-shot, few-shot, workflow" in refused.err


def test_the_demo_does_not_run_somebody_elses_study(tmp_path: Path, stub: StubServer) -> None:
    """A folder that holds another study is refused: running it could cost money nobody meant to spend."""
    folder = write_study(tmp_path / "s", stub.url)
    refused = steelyard("demo", "--dir", folder)
    assert refused.code == 2
    assert "there is another study here already" in refused.err
    assert stub.n_requests == 0


@pytest.mark.parametrize(("content", "code"), [(b"garbage" * 500, 1), (b"", 2)])
@pytest.mark.parametrize("command", ["score", "decide", "report"])
def test_a_damaged_journal_is_a_sentence(command: str, content: bytes, code: int, tmp_path: Path) -> None:
    """Damaged: restore or move it away. Empty, because a first run was killed at once: run."""
    folder = write_study(tmp_path / "s", "http://127.0.0.1:9/v1")
    (folder / ".steelyard").mkdir()
    (folder / ".steelyard" / "journal.sqlite3").write_bytes(content)
    ran = steelyard(command, folder)
    assert ran.code == code
    assert ("the journal is damaged" if content else "nothing was run yet") in ran.err
    assert "\n  hint: " in ran.err


def test_check_compiles_every_approach(tmp_path: Path, stub: StubServer) -> None:
    """A wrong template, rule or model is named with its place before a run, all of them at once; nothing is sent."""
    approaches = [
        "a: {model: stub, prompt: {user: '{{ txt }}'}}",
        "b: {model: stub, workflow: {checks: ['labl = 1']}}",
    ]
    folder = write_study(tmp_path / "s", stub.url, approaches=approaches)
    ran = steelyard("check", folder)
    assert ran.code == 2
    for said in (
        "study.yaml:approaches.a.prompt.user: the template uses 'txt'",
        "study.yaml:approaches.b.workflow.checks[0]: there is no output field 'labl'",
    ):
        assert said in ran.err
    assert stub.n_requests == 0


def test_check_accepts_a_split_without_examples(tmp_path: Path, stub: StubServer) -> None:
    """Checking compiles a prompt as it stands: what it leaves out is not filled in."""
    approaches = ["a: {model: stub, workflow: {repair: 1}}", "b: {model: stub, prompt: {examples: 2, choose: diverse}}"]
    assert steelyard("check", write_study(tmp_path / "s", stub.url, approaches=approaches)).code == 0
