"""A search for a better prompt, from the command to the ledger."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import steelyard
from steelyard.approaches.search import UNCHANGED, plan_search
from steelyard.engine.journal import Journal
from steelyard.errors import InputError, MissingExtra, RunStopped
from steelyard.models.stub_server import StubServer
from steelyard.study.optimised_file import read_optimised
from steelyard.study.scoring import journal_path
from steelyard.study.search_figures import difference_of
from steelyard.study.study import Study
from tests.approaches.played import searched, worlds
from tests.cli.tickets import N_TEST, serving, ticket_rows, write_study
from tests.cli.tickets import steelyard as command_line

MUTE = "prompt: {system: 'stub:empty_text {{ task.answer_form }}'}"
"""A prompt on which the stub gives no answer; any instruction in its place is better."""
SEARCHED = f"a: {{model: stub, {MUTE}, optimise: {{instructions: [Sort it.], examples: 0, budget_calls: 60}}}}"
ALL_BILLING = [(text, "billing") for text, _ in ticket_rows(60)]


@pytest.fixture
def stub() -> Iterator[StubServer]:
    """A model that says `billing`."""
    with serving(reply="billing") as server:
        yield server


def written(folder: Path, stub: StubServer, *approaches: str, more: tuple[str, ...] = ()) -> Study:
    return steelyard.load(write_study(folder / "study", stub.url, rows=ALL_BILLING, approaches=approaches, more=more))


def splits_asked(study: Study) -> set[str]:
    with Journal.open(journal_path(study.folder), read_only=True) as journal:
        return {row["split"] for row in journal.measurements()}


# ---- from search to ledger -------------------------------------------------------------------------------------------


def test_what_is_found_is_used_by_runs_and_its_cost_is_in_the_setup(tmp_path: Path, stub: StubServer) -> None:
    """The search looks at dev alone; the run asks the better prompt; report and ledger say what was done."""
    study = written(tmp_path, stub, SEARCHED, "b: {model: stub}")
    found = study.optimise("a", progress=False)
    assert found.is_changed
    assert found.is_beyond_chance
    assert "beyond chance" in found.sentence
    assert splits_asked(study) == {"dev"}

    study.run(progress=False)
    score = {one["name"]: one for one in study.score().to_json()["approaches"]}
    assert score["a"]["success"]["value"] == 1.0

    assert found.cost_usd is not None
    assert found.cost_usd >= found.spent_usd > 0
    assert f"${found.cost_usd:.4f} of calls" in study.render_report("csv")
    report = study.render_report("md")
    assert "'instruction 1, no examples' is best" in report


def test_the_same_command_again_pays_nothing_and_finds_the_same(tmp_path: Path, stub: StubServer) -> None:
    study = written(tmp_path, stub, SEARCHED)
    first = study.optimise("a", progress=False).to_json()
    n = stub.n_requests
    again = command_line("optimise", study.folder, "--approach", "a", "--json", "--quiet")
    assert again.json == first
    assert stub.n_requests == n


def test_the_printed_table_names_winner_spending_and_the_next_command(tmp_path: Path, stub: StubServer) -> None:
    study = written(tmp_path, stub, SEARCHED)
    ran = command_line("optimise", study.folder, "--approach", "a", "--budget-calls", 20)
    assert ran.code == 0, ran.err
    assert "instruction 1, no examples" in ran.out
    assert "<- winner" in ran.out
    assert "the test cases were not touched" in ran.out
    assert "of at most 20 calls" in ran.out
    assert f"next: steelyard run {study.folder} --approach a" in ran.err


def test_a_dry_run_sends_nothing_and_promises_the_ceiling(tmp_path: Path, stub: StubServer) -> None:
    study = written(tmp_path, stub, SEARCHED)
    planned = command_line("optimise", study.folder, "--approach", "a", "--dry-run", "--json").json
    assert stub.n_requests == 0
    assert not (study.folder / ".steelyard" / "optimised").exists()
    assert planned["most_calls"] <= planned["budget_calls"] == 60
    found = study.optimise("a", progress=False)
    assert found.spent_calls <= planned["most_calls"]


def test_no_prompt_is_changed_for_nothing(tmp_path: Path, stub: StubServer) -> None:
    """A model that always says the same shows no difference between prompts: the one as written stays."""
    study = written(tmp_path, stub, "a: {model: stub}")
    found = study.optimise("a", budget_calls=120, progress=False)
    assert not found.is_changed
    assert not found.is_beyond_chance
    assert "which stays" in found.sentence
    assert len(found.trials) > 4
    study.run(progress=False)
    assert stub.n_requests == found.spent_calls + N_TEST


# ---- ceilings and interruptions --------------------------------------------------------------------------------------


def test_repairs_are_within_the_ceiling(tmp_path: Path) -> None:
    """Where every answer has to be repaired, and in vain, the search still keeps to its calls."""
    with serving(reply="nonsense") as stub:
        study = written(tmp_path, stub, "a: {model: stub, workflow: {repair: 2}}")
        found = study.optimise("a", budget_calls=130, progress=False)
        assert found.spent_calls == stub.n_requests <= 130
        assert found.trials[0].calls == 3 * found.trials[0].n_cases


def test_money_is_a_ceiling_and_more_money_goes_on_from_there(tmp_path: Path, stub: StubServer) -> None:
    """A budget that is reached after a round ends the search with what it has; nothing is asked twice."""
    more = "c: {model: stub, optimise: {instructions: 6, examples: 0, budget_calls: 80}}"
    study = written(tmp_path / "one", stub, more)
    whole = study.optimise("c", progress=False)
    n = stub.n_requests
    other = written(tmp_path / "two", stub, more)
    with pytest.raises(RunStopped, match="budget"):
        other.optimise("c", budget_usd=whole.spent_usd / 20, progress=False)
    assert stub.n_requests - n < n / 4
    end = other.optimise("c", budget_usd=whole.spent_usd * 2, progress=False)
    assert end.ended is None
    assert stub.n_requests == 2 * n
    assert end.spent_calls == whole.spent_calls
    assert end.spent_usd == pytest.approx(whole.spent_usd)


def test_a_search_that_an_outage_broke_off_is_taken_up_again(tmp_path: Path) -> None:
    with serving(reply="billing", default="401") as stub:
        study = written(tmp_path, stub, SEARCHED)
        with pytest.raises(RunStopped):
            study.optimise("a", progress=False)
        assert read_optimised("a", study.folder) is None
        stub.default = "ok"
        assert study.optimise("a", progress=False).is_changed


def test_a_killed_search_pays_only_for_what_is_left(tmp_path: Path) -> None:
    """kill -9 in the middle: of the calls made before, only those in flight are made again."""
    with serving(reply="billing", latency_s=0.1) as stub:
        study = written(tmp_path, stub, "a: {model: stub, optimise: {budget_calls: 80}}", more=("run: {in_flight: 4}",))
        command = [sys.executable, "-m", "steelyard", "optimise", str(study.folder), "--approach", "a", "--quiet"]
        process = subprocess.Popen(command)
        deadline = time.monotonic() + 30
        while stub.n_requests < 20 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
        process.wait()
        assert 20 <= stub.n_requests < 70
        stub.latency_s = 0.0
        found = study.optimise("a", progress=False)
        planned = study.estimate_search("a").plan.most_calls
        assert planned <= stub.n_requests <= planned + 4
        assert found.spent_calls <= planned


def test_too_small_a_budget_says_how_much_it_takes(tmp_path: Path, stub: StubServer) -> None:
    study = written(tmp_path, stub, "a: {model: stub, workflow: {repair: 1}}")
    with pytest.raises(InputError, match=r"too few to compare even two prompts.*\n.*give at least 32"):
        study.optimise("a", budget_calls=31, progress=False)
    assert study.optimise("a", budget_calls=32, progress=False).spent_calls <= 32


# ---- when it applies -------------------------------------------------------------------------------------------------


def test_a_prompt_found_for_something_else_is_not_used(tmp_path: Path, stub: StubServer) -> None:
    """Once the approach is changed in study.yaml, its own prompt counts again, and the run says so."""
    study = written(tmp_path, stub, SEARCHED)
    study.optimise("a", progress=False)
    path = study.folder / "study.yaml"
    path.write_text(path.read_text().replace("stub:empty_text {{", "Sort this. {{"))
    ran = command_line("run", study.folder)
    assert "changed after the search for its prompt; it uses the prompt as written" in ran.err
    assert "is best" not in steelyard.load(study.folder).render_report("md")


def test_what_may_be_tried_can_change_without_making_anything_outdated(tmp_path: Path, stub: StubServer) -> None:
    study = written(tmp_path, stub, SEARCHED)
    study.optimise("a", progress=False)
    study.run(progress=False)
    path = study.folder / "study.yaml"
    path.write_text(path.read_text().replace("budget_calls: 60", "budget_calls: 90"))
    assert steelyard.load(study.folder).score().notes == study.score().notes
    ran = command_line("run", study.folder)
    assert "uses the prompt a search found" in ran.err
    assert "0 outcomes" in ran.out


def test_a_damaged_file_is_named(tmp_path: Path, stub: StubServer) -> None:
    study = written(tmp_path, stub, SEARCHED)
    study.optimise("a", progress=False)
    path = study.folder / ".steelyard" / "optimised" / "a.json"
    path.write_text(path.read_text()[:-40])
    with pytest.raises(InputError, match=r"a\.json: .*cannot be read"):
        study.run(progress=False)


@pytest.mark.parametrize(
    ("approach", "sentence"),
    [
        ("a: {model: none, retrieval: {examples: 1}}", "no prompt to search"),
        ("a: {tuning: {method: lora}}", "have to be trained anew"),
        ("a: {model: stub, workflow: {steps: {one: {prompt: {}}}}}", "spread over several calls"),
        ("a: {model: stub, optimise: {instructions: 0, examples: 0}}", "no other prompt to try"),
        ("a: {model: stub, optimise: {instructions: ['{{ wrong }}']}}", r"optimise\.instructions\[0\].*uses 'wrong'"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_a_sentence(
    approach: str, sentence: str, tmp_path: Path, stub: StubServer
) -> None:
    study = written(tmp_path, stub, approach)
    with pytest.raises(InputError, match=sentence):
        study.optimise("a", progress=False)
    assert stub.n_requests == 0


# ---- by reflection ---------------------------------------------------------------------------------------------------


class Reader(BaseHTTPRequestHandler):
    """Two models: `writer` always writes the same better instruction, the other one needs its words to be of any use."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = json.dumps(body["messages"])
        if body["model"] == "writer":
            text = 'Here it is:\n```\nThink "twice" about {{ the }} ticket.\n```'
        else:
            text = "billing" if "about {{ the }} ticket" in said else "no idea"
        answer = {
            "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 50, "completion_tokens": 5, "total_tokens": 55},
        }
        self.server.asked.append(body["model"])  # type: ignore[attr-defined]
        sent = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def reader() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Reader)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join(10)
    server.server_close()


def reflected(folder: Path, server: ThreadingHTTPServer, budget: int) -> Study:
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    price = "price_per_million: {input: 1, output: 2}"
    approach = f"a: {{model: stub, optimise: {{method: gepa, reflection_model: writer, budget_calls: {budget}}}}}"
    return steelyard.load(
        write_study(
            folder / "study",
            url,
            rows=ALL_BILLING,
            approaches=[approach],
            others=[f"writer: {{base_url: '{url}', model: writer, {price}}}"],
        )
    )


def test_a_model_rewrites_the_instruction_through_the_engine(tmp_path: Path, reader: ThreadingHTTPServer) -> None:
    """Rewritings are journalled, priced and within the calls; what they say is text, not a template; paid once."""
    pytest.importorskip("gepa")
    asked: list[str] = reader.asked  # type: ignore[attr-defined]
    study = reflected(tmp_path, reader, 70)
    planned = study.estimate_search("a").to_json()
    assert not asked
    found = study.optimise("a", progress=False)
    assert found.is_changed
    assert found.trials[found.winner].name == "instruction 1 by writer, no examples"
    assert "writer" in asked
    assert len(asked) == found.spent_calls <= planned["most_calls"] <= 70
    assert found.cost_usd is not None
    assert found.cost_usd >= found.spent_usd > 0
    assert splits_asked(study) == {"dev", "train"}

    n = len(asked)
    assert study.optimise("a", progress=False).to_json() == found.to_json()
    assert len(asked) == n
    study.run(progress=False)
    assert study.score().to_json()["approaches"][0]["success"]["value"] == 1.0


def test_too_few_calls_for_a_rewriting_are_refused(tmp_path: Path, reader: ThreadingHTTPServer) -> None:
    pytest.importorskip("gepa")
    with pytest.raises(InputError, match=r"too few for a single rewriting\n.*give at least 23"):
        reflected(tmp_path, reader, 10).optimise("a", progress=False)
    assert reflected(tmp_path / "more", reader, 23).optimise("a", progress=False).spent_calls <= 23


def test_without_gepa_the_extra_is_named(
    tmp_path: Path, reader: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gepa", None)
    with pytest.raises(MissingExtra, match=r"steelyard\[gepa\]"):
        reflected(tmp_path, reader, 70).optimise("a", progress=False)


# ---- chance ----------------------------------------------------------------------------------------------------------


def row(case: int, score: float) -> dict[str, object]:
    """One outcome, as the journal gives it."""
    return {
        "fingerprint": "f", "split": "dev", "case_id": f"case-{case}", "repeat": 0, "status": "answered",
        "success": score == 1.0, "score": score, "schema_pass": True, "retried": False, "extra_calls": 0,
        "transport_retries": 0, "latency_s": 1.0, "own_s": 0.0, "cost_usd": 0.1, "prompt_tokens": 1,
        "cached_tokens": 0, "completion_tokens": 1, "review_seconds": None, "corrected": None, "segment": None,
        "cluster": None, "time": None, "judge_cost_usd": None,
    }  # fmt: skip


def test_equal_prompts_are_rarely_told_apart() -> None:
    """Of twelve equally good prompts one always looks best; it is called a gain beyond chance in few searches only."""
    draw = random.Random(11)
    plan = plan_search(12, 150, budget_calls=300)
    assert plan is not None
    n_certain = n_changed = 0
    for _ in range(150):
        answers = worlds([0.6] * 12, 150, draw)
        best, now, _ = searched(plan, answers, [100] * 12)
        if best == UNCHANGED:
            continue
        n_changed += 1
        rows = [[row(i, score) for i, score in enumerate(answers[c][: now.n_cases])] for c in (best, UNCHANGED)]
        low = difference_of(rows[0], rows[1], n_tried=12).low
        n_certain += low is not None and low > 0
    assert n_changed > 50  # the winner's luck is real
    assert n_certain <= 0.05 * 150


def test_partial_scores_are_compared_as_scores() -> None:
    """Where answers can be half right, the difference is one of mean scores and not of successes."""
    better = [row(i, 0.9 if i % 3 else 0.6) for i in range(60)]
    worse = [row(i, 0.5 if i % 2 else 0.4) for i in range(60)]
    figure = difference_of(better, worse, n_tried=2)
    assert figure.value is not None
    assert math.isclose(figure.value, 0.35)
    assert figure.low is not None
    assert 0.3 < figure.low < figure.value
