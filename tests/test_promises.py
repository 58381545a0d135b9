"""The eight promises of the design, one section each, through the real command line.

What is tested elsewhere in more depth is named: kills at 20 random moments in `engine/test_kill.py`, every kind of bad
input in `cli/test_bad_input.py`, hostile text piece by piece in `report/`. Of documents that an endpoint embeds: a killed
build in `approaches/test_remote_embeddings.py`, the ceiling and Ctrl-C in `engine/test_paid_calls.py`. Further paid work, each
with its kill or second run (paid once) and its ceiling: jobs of a host in `approaches/test_hosted_tuning.py`, the guard set in
`study/test_guarding.py`, parity at an export in `cli/test_tune.py`, dev calls of cascades in `study/test_cascades.py`, labels
from a teacher in `study/test_distilling.py`, the judge of support in `study/test_support_judging.py`.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steelyard.engine.journal import Journal
from steelyard.models.stub_server import StubServer
from tests.cli.tickets import N_TEST, serving, steelyard, steelyard_process, ticket_rows, write_study

SOURCE = Path(__file__).parents[1] / "src" / "steelyard"


@pytest.fixture
def stub() -> Iterator[StubServer]:
    """A model that says `billing` to everything."""
    with serving(reply="billing", retry_after="0.01") as server:
        yield server


def journal_of(folder: Path) -> Path:
    return folder / ".steelyard" / "journal.sqlite3"


def n_calls(folder: Path) -> int:
    with Journal.open(journal_of(folder), read_only=True) as journal:
        return journal.spent().calls


# ---- 1. Paid once: a call whose result was acknowledged is never paid for again --------------------------------------


def test_1_a_killed_run_sends_nothing_acknowledged_again(tmp_path: Path) -> None:
    """SIGKILL in the middle of `steelyard run`; the same command then sends exactly what was not acknowledged."""
    with serving(reply="billing", latency_s=0.05) as stub:
        folder = write_study(tmp_path / "s", stub.url, rows=ticket_rows(300), endpoint="concurrency: 4")
        command = [sys.executable, "-m", "steelyard", "run", str(folder), "--quiet"]
        with subprocess.Popen(command) as process:
            while stub.n_requests < 20:
                time.sleep(0.005)
            process.kill()
        time.sleep(0.1)  # what was in the socket when it died still arrives
        acknowledged, sent = n_calls(folder), stub.n_requests
        assert 0 < sent - 4 <= acknowledged <= sent < 60  # only what was in flight may be lost
        assert steelyard("run", folder, "--quiet").code == 0
        assert stub.n_requests - sent == 60 - acknowledged
        assert steelyard("run", folder, "--quiet").code == 0
        assert stub.n_requests - sent == 60 - acknowledged


def test_1_a_new_approach_that_asks_the_same_is_not_paid_for(tmp_path: Path, stub: StubServer) -> None:
    """The answer is the journal's, whichever approach asked first; prompts are what is paid for, not names."""
    folder = write_study(tmp_path / "s", stub.url, approaches=["a: {model: stub}", "b: {model: stub}"])
    assert steelyard("run", folder, "--quiet").code == 0
    assert stub.n_requests == N_TEST


def embedding_study(folder: Path, vectors: StubServer, chat: StubServer) -> Path:
    """Two hundred documents, embedded by an endpoint whose price is known."""
    endpoint = f"vectors: {{base_url: '{vectors.url}', model: e, max_retries: 0, price_per_million: {{input: 100.0}}}}"
    approach = "search: {model: stub, retrieval: {knowledge: {k: 1}}}"
    knowledge = "knowledge: {documents: docs, embeddings: vectors}"
    write_study(folder, chat.url, approaches=[approach], others=[endpoint], more=[knowledge])
    (folder / "docs").mkdir()
    for i in range(200):
        (folder / "docs" / f"{i}.md").write_text(f"# Rule {i}\n\nParcel {i} costs {i * 7} dollars.\n", encoding="utf-8")
    return folder


def test_1_documents_are_embedded_once_by_whatever_command(tmp_path: Path, stub: StubServer) -> None:
    """The command for the index and the run share the vectors; an index that was lost costs nothing again."""
    with serving(dimensions=16) as vectors:
        folder = embedding_study(tmp_path / "s", vectors, stub)
        assert steelyard("retrieval", "index", folder).code == 0
        n_texts = vectors.n_texts
        assert n_texts == 200 + 1  # and one to learn how long a vector is
        for lost in (folder / ".steelyard" / "index").glob("*-*"):
            shutil.rmtree(lost)
        assert steelyard("run", folder, "--quiet").code == 0
        assert vectors.n_texts == n_texts + N_TEST  # the questions
        assert steelyard("run", folder, "--quiet").code == 0
        assert vectors.n_texts == n_texts + N_TEST


# ---- 2. The budget is a ceiling: no call starts that could take the study over it ------------------------------------


@pytest.mark.parametrize("budget", [0.0, 0.0004, 0.0011])
def test_2_the_budget_holds_for_concurrent_calls_at_their_most_expensive(budget: float, tmp_path: Path) -> None:
    """All calls want to start at once and each costs as much as it can; what was sent never exceeds the ceiling."""
    with serving(reply="billing", latency_s=0.02, prompt_tokens=120, completion_tokens=48) as dear:
        folder = write_study(tmp_path / "s", dear.url, endpoint="concurrency: 64, max_retries: 0, timeout_s: 5")
        ran = steelyard("run", folder, "--budget", budget, "--quiet")
        assert ran.code == 1
        assert "budget" in ran.err
        assert "raise the budget and run the same command again" in ran.err
        price = (120 * 1.0 + 48 * 2.0) / 1e6
        assert dear.n_requests * price <= budget
        assert (dear.n_requests > 0) is (budget > 0)
        again = steelyard("run", folder, "--budget", 1.0, "--json", "--quiet")
        assert again.code == 0
        assert dear.n_requests == N_TEST


def test_2_the_budget_counts_earlier_runs_and_stands_in_study_yaml(tmp_path: Path, stub: StubServer) -> None:
    """A ceiling on calls, kept over three runs of the same command."""
    folder = write_study(tmp_path / "s", stub.url, more=["run: {budget_calls: 5}"])
    for _ in range(3):
        ran = steelyard("run", folder, "--quiet")
        assert ran.code == 1
        assert "the budget of 5 calls is used up (5 made)" in ran.err
        assert stub.n_requests == 5


@pytest.mark.parametrize("budget", [0.0, 0.2])
def test_2_the_budget_holds_for_embedding_documents(budget: float, tmp_path: Path, stub: StubServer) -> None:
    """Each call costs what it can cost at most; what was sent stays below, and a raised budget goes on from there."""
    with serving(dimensions=16, prompt_tokens=17, latency_s=0.02) as vectors:
        folder = embedding_study(tmp_path / "s", vectors, stub)
        ran = steelyard("run", folder, "--budget", budget, "--quiet")
        assert ran.code == 1
        assert "raise the budget and run the same command again" in ran.err
        assert vectors.n_requests * 17 * 100e-6 <= budget
        assert stub.n_requests == 0
        n_texts = vectors.n_texts
        assert steelyard("run", folder, "--budget", 10, "--quiet").code == 0
        assert vectors.n_texts == 200 + 1 + N_TEST
        assert (n_texts > 0) is (budget > 0)


# ---- 3. Bad input gets a message that names file, line, field and fix, before any money is spent ---------------------


def test_3_all_problems_of_a_file_come_at_once_and_before_any_call(tmp_path: Path, stub: StubServer) -> None:
    rows = [*ticket_rows(40), ("where is my parcel", "delivry"), ("charged twice", "biling")]
    folder = write_study(tmp_path / "s", stub.url, rows=rows)
    ran = steelyard("run", folder)
    assert ran.code == 2
    assert "cases.csv:42:expected: " in ran.err
    assert "cases.csv:43:expected: " in ran.err
    assert ran.err.count("hint: correct the expected output") == 2
    assert stub.n_requests == 0


# ---- 4. Nothing secret leaves ----------------------------------------------------------------------------------------

KEY = "sk-planted-5b1d7c0e9f"


@pytest.mark.parametrize("behaviour", ["ok", "echo_key", "500", "malformed"])
def test_4_the_key_is_in_no_file_and_no_output(
    behaviour: str, tmp_path: Path, stub: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where the server quotes it back. Every file of the folder and all output are searched, byte for byte."""
    monkeypatch.setenv("PLANTED_API_KEY", KEY)
    stub.bodies = []
    folder = write_study(
        tmp_path / "s", stub.url, endpoint="api_key_env: PLANTED_API_KEY, max_retries: 1, timeout_s: 5"
    )
    stub.default = behaviour
    said = [
        steelyard("run", folder, "--dry-run"),
        steelyard("run", folder),
        steelyard("check", folder),
        steelyard("score", folder, "--json"),
        steelyard("decide", folder),
        steelyard("report", folder),
        steelyard("report", folder, "--format", "json"),
    ]
    assert said[1].code == (0 if behaviour == "ok" else 1)
    if behaviour == "echo_key":
        assert "Incorrect API key provided: [$PLANTED_API_KEY]" in said[1].err
    assert KEY not in "".join(ran.out + ran.err for ran in said)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert journal_of(folder) in files
    for path in files:
        assert KEY.encode() not in path.read_bytes(), path
    assert not any(KEY.encode() in body for body in stub.bodies)


# ---- 5. Model output and cases are hostile text ----------------------------------------------------------------------

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31mred\x1b]0;owned\x07\u202egnp.exe [bold]b[/bold] ![x](http://evil.example/x)"


@pytest.fixture
def hostile_study(tmp_path: Path) -> Path:
    """Hostile text in cases, labels, the model's answers and the server's error messages."""
    rows = [(f"{text} {HOSTILE}", label if i % 4 else HOSTILE) for i, (text, label) in enumerate(ticket_rows(60))]
    with serving(reply=json.dumps({"label": HOSTILE, "</script>": HOSTILE})) as evil:
        folder = write_study(
            tmp_path / "s",
            evil.url,
            rows=rows,
            approaches=["a: {model: stub}", "b: {model: stub, prompt: {examples: 2}}"],
        )
        text = (folder / "study.yaml").read_text().replace("  labels: [billing, delivery]\n", "  scorer: normalised\n")
        (folder / "study.yaml").write_text(text, encoding="utf-8")
        ran = steelyard("run", folder)
    assert ran.code == 0, ran.err
    assert_harmless_in_a_terminal(ran.out + ran.err)
    return folder


def assert_harmless_in_a_terminal(text: str) -> None:
    """Nothing that moves a cursor, recolours, retitles or reverses."""
    for character in "\x1b\x07\r\u202e":
        assert character not in text


def test_5_hostile_text_does_nothing_in_terminal_and_report(hostile_study: Path) -> None:
    for command in ("check", "score", "decide"):
        for options in ([], ["--json"]):
            ran = steelyard(command, hostile_study, *options)
            assert ran.code == 0, ran.err
            assert_harmless_in_a_terminal(ran.out + ran.err)
    html = steelyard("report", hostile_study, "-o", "-").out
    assert "alert(1)" in html  # it is shown, as text
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert_harmless_in_a_terminal(html)
    for form in ("md", "json"):
        text = steelyard("report", hostile_study, "--format", form, "-o", "-").out
        assert_harmless_in_a_terminal(text)
        if form == "md":
            # Inside a code span Markdown leaves everything alone; outside of them nothing hostile may stand.
            prose = re.sub(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", "", text, flags=re.DOTALL)
            assert "alert(1)" in text
            assert "<script>alert" not in prose
            assert "![x](http://evil.example/x)" not in prose


def test_5_hostile_labels_in_error_messages_do_nothing(tmp_path: Path, stub: StubServer) -> None:
    """Bad input is quoted in messages, so messages are a way to the terminal too."""
    folder = write_study(tmp_path / "s", stub.url, rows=[*ticket_rows(20), ("a text", HOSTILE)])
    (folder / "\x1b[31m.csv").write_text("")
    for command in ("check", "run"):
        ran = steelyard(command, folder)
        assert ran.code == 2
        assert_harmless_in_a_terminal(ran.err)
    (folder / "cases.csv").unlink()
    assert_harmless_in_a_terminal(steelyard("check", folder).err)


def test_5_a_hostile_error_message_of_a_server_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vars(sys.modules["steelyard.models.stub_server"])["_SAID"], "404", HOSTILE)
    with serving(default="404") as evil:
        ran = steelyard("run", write_study(tmp_path / "s", evil.url))
    assert ran.code == 1
    assert "owned" in ran.err
    assert_harmless_in_a_terminal(ran.err)


# ---- 6. No weights or data through pickle; local servers bind to loopback --------------------------------------------


def modules() -> list[tuple[Path, ast.Module]]:
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in sorted(SOURCE.rglob("*.py"))]


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call with its dotted name: `np.load`, `eval`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def unsafe_uses(tree: ast.AST) -> list[str]:
    """What could run code out of a file."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name.split(".")[0] for alias in node.names}
            names |= {(node.module or "").split(".")[0]} if isinstance(node, ast.ImportFrom) else set()
            found += sorted(names & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"})
    for name, call in calls(tree):
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name in ("eval", "exec", "compile", "__import__") or name.endswith(("read_pickle", "os.system")):
            found.append(name)
        if name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load") and "SafeLoader" not in ast.unparse(call):
            found.append(name)
        if name == "load" or name.endswith(("torch.load", "jit.load")):
            found.append(name)
        if name in ("np.load", "numpy.load") and keywords.get("allow_pickle") != "False":
            found.append(f"{name} without allow_pickle=False")
        if keywords.get("allow_pickle") == "True" or keywords.get("trust_remote_code") == "True":
            found.append(f"{name} with allow_pickle or trust_remote_code")
        if keywords.get("shell") == "True":
            found.append(f"{name} with shell=True")
    return found


def test_6_no_module_loads_anything_through_pickle_or_runs_code_from_data() -> None:
    found = {str(path.relative_to(SOURCE)): uses for path, tree in modules() if (uses := unsafe_uses(tree))}
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from joblib import load as l", "np.load(p)", "np.load(p, allow_pickle=True)", "eval(x)",
        "torch.load(p)", "yaml.load(s)", "subprocess.run(c, shell=True)", "M.from_pretrained(p, trust_remote_code=True)",
    ],
)  # fmt: skip
def test_6_the_search_finds_what_it_looks_for(line: str) -> None:
    assert unsafe_uses(ast.parse(line))


def test_6_no_server_binds_to_anything_but_loopback(stub: StubServer) -> None:
    """No wildcard address stands anywhere in the code, and the server that runs listens on 127.0.0.1."""
    for path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in ("0.0.0.0", "::", "*:*"), path
    assert stub._server is not None
    assert {socket.getsockname()[0] for socket in stub._server.sockets} == {"127.0.0.1"}


# ---- 7. Same journal, same report. Same seed, same split -------------------------------------------------------------


@pytest.fixture
def small_run(tmp_path: Path, stub: StubServer) -> Path:
    """A study in which two approaches were run; not in alphabetical order, because order must survive too."""
    approaches = ["zero: {model: stub}", "few: {model: stub, prompt: {examples: 4}}"]
    folder = write_study(tmp_path / "s", stub.url, approaches=approaches)
    assert steelyard("run", folder, "--quiet").code == 0
    return folder


@pytest.mark.parametrize("form", ["html", "json", "md"])
def test_7_the_same_journal_gives_the_same_report(form: str, small_run: Path) -> None:
    """In fresh processes with other hash seeds and time zones, and from the journal alone."""
    reports = []
    for number, zone in enumerate(("UTC", "Asia/Tokyo")):
        path = small_run.parent / f"{number}.{form}"
        environment = {"PYTHONHASHSEED": str(number + 1), "TZ": zone, "LC_ALL": "C"}
        ran = steelyard_process("report", small_run, "--format", form, "-o", path, environment=environment)
        assert ran.code == 0, ran.err
        reports.append(path.read_bytes())
        (small_run / "study.yaml").unlink(missing_ok=True)
        (small_run / "cases.csv").unlink(missing_ok=True)
    assert reports[0] == reports[1]


def test_7_a_report_changes_nothing(small_run: Path) -> None:
    """Reading the journal leaves it as it is, so that the next report is the same again."""
    first = steelyard("report", small_run, "-o", "-").out
    for command in ("score", "decide", "report"):
        assert steelyard(command, small_run).code == 0
    assert steelyard("report", small_run, "-o", "-").out == first


def test_7_the_same_seed_gives_the_same_split_in_every_process(tmp_path: Path) -> None:
    write_study(tmp_path / "s", "http://127.0.0.1:9/v1")
    script = (
        "import sys, steelyard; s = steelyard.load(sys.argv[1]).material.splits;"
        "print([c.id for c in s.train], [c.id for c in s.dev], [c.id for c in s.test])"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "s")],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "POLARS_MAX_THREADS": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


# ---- 8. A figure without provenance is a bug -------------------------------------------------------------------------

PLAIN_NUMBERS = {
    # Test statistics.
    "p_mcnemar", "p_adjusted", "e_value",
    # Settings from study.yaml, and at which value of one the choice would flip.
    "volume_per_month", "horizon_months", "min_success", "max_p95_latency_s", "min_schema_pass", "hinges.value",
    "comparisons.margin",
    # What happened with a single case, in a transcript.
    "score", "latency_s", "price_usd", "cost_usd",
}  # fmt: skip
"""Numbers that are no figures, by their last name or last two."""


def bare_numbers(node: Any, path: tuple[str, ...] = ()) -> Iterator[str]:  # noqa: ANN401 - any JSON
    """Fractions that stand outside a figure, and figures without a known provenance."""
    if isinstance(node, dict):
        if "provenance" in node:
            if not str(node["provenance"]).startswith(("measured", "assumed", "quoted")):
                yield ".".join(path)
            if "value" in node and node["value"] is None and not node.get("unknown_because"):
                yield ".".join(path) + " (unknown without a reason)"
            return  # it speaks for all numbers beside it
        for key, value in node.items():
            yield from bare_numbers(value, (*path, key))
    elif isinstance(node, list):
        for item in node:
            yield from bare_numbers(item, path)
    elif isinstance(node, float) and path[-1] not in PLAIN_NUMBERS and ".".join(path[-2:]) not in PLAIN_NUMBERS:
        yield ".".join(path)


@pytest.mark.parametrize(
    "command", [["score", "--json"], ["decide", "--json"], ["report", "--format", "json", "-o", "-"]]
)
def test_8_every_figure_says_where_it_comes_from(command: list[str], small_run: Path) -> None:
    ran = steelyard(command[0], small_run, *command[1:])
    assert ran.code == 0, ran.err
    assert list(bare_numbers(ran.json)) == []


def test_8_every_number_of_the_score_table_carries_its_mark(small_run: Path) -> None:
    """In the terminal: each metric's number is followed by m, a or q, and the legend says what they mean."""
    table = steelyard("score", small_run).out
    assert "m measured" in table
    assert "a assumed" in table
    rows = [line for line in table.splitlines() if line.startswith(("zero  ", "few  "))]
    assert len(rows) == 2
    for row in rows:
        cells = row.split()[2:]  # name and n come first; n is a count
        assert set(cells[1::2]) <= {"m", "a", "q"}, row
        assert len(cells) == 12, row
