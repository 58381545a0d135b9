"""A host tunes a model once for the same things, whatever breaks on the way, and within the budget."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from steelyard.approaches.approach import Prepared
from steelyard.approaches.fakes import ScriptedAsk
from steelyard.approaches.prepare import prepare
from steelyard.approaches.spec import ApproachSpec
from steelyard.approaches.workbench import Workbench
from steelyard.cases.case import Case
from steelyard.engine.budget import Budget
from steelyard.engine.journal import Journal
from steelyard.errors import BudgetReached, EndpointUnusable, InputError, RunStopped
from steelyard.models.spec import EndpointSpec
from steelyard.study.till import StudyTill
from tests.approaches.tuning_server import KEY, TuningServer, tuning
from tests.approaches.world import ticket, workbench
from tests.cli.tickets import steelyard, write_study

LABELS = ("refund", "login", "card lost")
TUNING: dict[str, Any] = {
    "method": "hosted",
    "base": "small-1",
    "poll_seconds": 0.01,
    "price_per_million_training_tokens": {"input": 3.0, "source": "https://host.example/prices", "as_of": "2026-11-01"},
}


@dataclass
class Counted:
    """A till that writes down what it is told."""

    counted: dict[str, float | None] = field(default_factory=dict)

    def reserve(self, job: str, most_usd: float | None) -> None:
        self.counted[job] = most_usd

    def settle(self, job: str, usd: float) -> None:
        self.counted[job] = usd


@dataclass
class Bench:
    """A workbench whose host is the local server."""

    host: TuningServer
    bench: Workbench
    till: Counted
    said: list[str]

    def tune(self, **changes: object) -> Prepared:
        spec = ApproachSpec.model_validate({"model": "cloud", "tuning": {**TUNING, **changes}})
        return prepare("tuned", spec, self.bench)

    def card(self, **changes: object) -> dict[str, Any]:
        card = self.tune(**changes).setup.card
        assert card is not None
        return dict(card)

    def retire(self, day: date) -> None:
        hosts = {"cloud": self.bench.hosts["cloud"].model_copy(update={"retired_on": day})}
        self.bench = replace(self.bench, hosts=hosts)

    def kept(self) -> str:
        """Everything that was written to disk or said."""
        files = [path.read_text() for path in self.bench.folder.rglob("*") if path.is_file()]
        return "\n".join([*files, *self.said])


def train_cases(n: int = 60) -> tuple[Case, ...]:
    return tuple(ticket(f"t{i}", f"message number {i} about {LABELS[i % 3]}", LABELS[i % 3]) for i in range(n))


@pytest.fixture
def host() -> Iterator[TuningServer]:
    with tuning() as server:
        yield server


@pytest.fixture
def world(host: TuningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("TUNING_API_KEY", KEY)
    till, said = Counted(), list[str]()
    spec = EndpointSpec(base_url=host.url, model="small-1", api_key_env="TUNING_API_KEY")
    bench = replace(
        workbench(tmp_path / "prepared", train=train_cases()), hosts={"cloud": spec}, till=till, say=said.append
    )
    return Bench(host, bench, till, said)


# ---- the happy path --------------------------------------------------------------------------------------------------


async def ask_once(prepared: Prepared) -> ScriptedAsk:
    ask = ScriptedAsk(["login"])
    await prepared.approach.answer(ticket("x", "I cannot log in", None).visible(), ask)
    return ask


def test_a_model_is_tuned_and_its_card_says_how(world: Bench) -> None:
    """Data, counts, base, settings, events, curve, seconds, cost, host and job."""
    card = world.card()
    assert card["tuned_model"] == "ft:small-1:steelyard:ftjob-1"
    assert (card["job"], card["base_model"]["name"], card["provider"]) == (
        "ftjob-1",
        "small-1",
        f"127.0.0.1:{world.host.port}",
    )
    assert card["n_train"] + card["n_validation"] == card["n_examples"] == 60
    assert card["n_validation"] == 6
    assert card["hyperparameters"]["epochs"] == 3
    assert card["hyperparameters_used"] == {"n_epochs": 3}
    assert [point["step"] for point in card["loss_curve"]] == [1, 2, 3, 4, 5]
    assert len(card["events"]) == 5
    assert card["seconds"] == 90
    assert card["loss_curve"][-1]["loss"] == pytest.approx(0.2)
    assert (card["n_tokens"], card["trained_tokens"]) == (1_000, "1,000 (as the host reports)")
    assert card["cost_usd"] == pytest.approx(0.003)
    assert card["price_per_million_training_tokens"]["as_of"] == "2026-11-01"
    assert len(card["data_digest"]) == 32


def test_training_lines_are_what_the_deployed_model_is_asked(world: Bench) -> None:
    """Token for token: the tuned model meets in use what it met in training."""
    import asyncio

    prepared = world.tune()
    (asked,) = asyncio.run(ask_once(prepared)).asked
    lines = [json.loads(line) for _, content in world.host.files.values() for line in content.splitlines()]
    assert len(lines) == 60
    for line in lines:
        *prompt, answer = line["messages"]
        assert answer["role"] == "assistant"
        assert answer["content"] in LABELS
        assert prompt[0] == {"role": asked.request.messages[0].role, "content": asked.request.messages[0].content}
        assert len(prompt) == len(asked.request.messages)
    assert asked.request.extra["model"] == "ft:small-1:steelyard:ftjob-1"


def test_train_and_validation_share_no_cluster(world: Bench) -> None:
    """What belongs together is never on both sides."""
    clustered = tuple(replace(case, cluster=f"c{int(case.id[1:]) // 3}") for case in train_cases())
    world.bench = replace(world.bench, train=clustered)
    world.tune()
    by_text = {case.input["text"]: case.cluster for case in clustered}
    sides = [
        {by_text[json.loads(line)["messages"][-2]["content"]] for line in content.splitlines()}
        for _, content in world.host.files.values()
    ]
    assert not sides[0] & sides[1]
    assert sides[1]


def test_the_same_things_are_tuned_once(world: Bench) -> None:
    """A second preparation asks the host nothing, and how a job is waited for changes nothing."""
    first = world.tune()
    n_requests = len(world.host.requests)
    again = world.tune(poll_seconds=0.02, timeout_seconds=7)
    assert again.setup.reused
    assert len(world.host.requests) == n_requests
    assert again.approach.fingerprint == first.approach.fingerprint
    assert world.tune(epochs=2).approach.fingerprint != first.approach.fingerprint
    assert len(world.host.jobs) == 2


@pytest.mark.parametrize("card", ["", "{", "[]", '{"tuned_model": "ft:x"}'])
def test_a_damaged_card_is_told_and_no_second_job_started(card: str, world: Bench) -> None:
    """The job was paid for: where its card cannot be read, the message says what deleting it would cost."""
    world.tune()
    n_requests = len(world.host.requests)
    (file,) = world.bench.folder.glob("hosted-*/card.json")
    file.write_text(card, encoding="utf-8")
    with pytest.raises(InputError, match=r"damaged: its card\.json cannot be read") as caught:
        world.tune()
    assert "paid, for another job" in str(caught.value.problems[0].hint)
    assert len(world.host.requests) == n_requests


def test_preferences_are_learned_from_answers_that_were_turned_down(world: Bench) -> None:
    """The reviewer's corrections: the wanted answer against the one it replaced; cases without one are left out."""
    cases = [
        replace(case, meta={"rejected": "login"} if case.expected == {"label": "refund"} else {})
        for case in train_cases()
    ]
    world.bench = replace(world.bench, train=tuple(cases))
    card = world.card(method_kind="dpo", beta=0.1)
    lines = [json.loads(line) for _, content in world.host.files.values() for line in content.splitlines()]
    assert len(lines) == 20
    assert card["n_left_out"] == 40
    for line in lines:
        assert line["preferred_output"] == [{"role": "assistant", "content": "refund"}]
        assert line["non_preferred_output"] == [{"role": "assistant", "content": "login"}]
    method = world.host.jobs["ftjob-1"]["method"]
    assert method == {"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 3, "beta": 0.1}}}


def test_hosts_with_the_older_form_get_it(world: Bench) -> None:
    """Hyperparameters in a field of their own, with those that only this host knows."""
    world.card(job_format="hyperparameters", hyperparameters={"lora": True})
    job = world.host.jobs["ftjob-1"]
    assert job["method"] is None
    assert job["hyperparameters"] == {"n_epochs": 3, "lora": True}


# ---- money -----------------------------------------------------------------------------------------------------------


def test_the_most_a_job_can_cost_is_counted_before_it_starts(world: Bench) -> None:
    """What is reserved bounds what is charged, and what was charged takes its place."""
    reserved: list[float | None] = []
    world.host.on_create = lambda: reserved.extend(world.till.counted.values())
    world.tune()
    n_bytes = sum(len(content) for _, content in world.host.files.values())
    assert reserved[0] is not None
    assert reserved[0] >= n_bytes * 3 * 3.0 / 1e6
    assert list(world.till.counted.values()) == [pytest.approx(0.003)]


def test_a_job_that_breaks_the_budget_is_not_started(world: Bench, tmp_path: Path) -> None:
    """Refused before anything is uploaded; with a larger budget it is started, and counted once."""
    with Journal.open(tmp_path / "journal.sqlite3") as journal:
        world.bench = replace(world.bench, till=StudyTill(journal=journal, budget=Budget(usd=0.01)))
        with pytest.raises(BudgetReached, match="does not allow hosted tuning"):
            world.tune()
        assert world.host.requests == []
        assert journal.spent().usd == 0
        world.bench = replace(world.bench, till=StudyTill(journal=journal, budget=Budget(usd=5.0)))
        world.tune()
        assert journal.spent().usd == pytest.approx(0.003)
        assert journal.spent().calls == 0


def test_a_budget_needs_a_price(world: Bench, tmp_path: Path) -> None:
    """An unknown price is not 0."""
    with Journal.open(tmp_path / "journal.sqlite3") as journal:
        world.bench = replace(world.bench, till=StudyTill(journal=journal, budget=Budget(usd=5.0)))
        with pytest.raises(InputError, match="price of hosted tuning, which is unknown"):
            world.tune(price_per_million_training_tokens=None)
    assert world.host.jobs == {}


def test_an_unknown_price_stays_unknown(world: Bench) -> None:
    """Without a budget the job runs, and its cost is not made up."""
    prepared = world.tune(price_per_million_training_tokens=None)
    assert prepared.setup.cost_usd is None


def test_tokens_the_host_does_not_tell_are_estimated_and_marked_so(world: Bench) -> None:
    """The most the job can have cost stays counted against the budget."""
    world.host.trained_tokens = None
    card = world.card()
    assert "(estimated)" in card["trained_tokens"]
    (counted,) = world.till.counted.values()
    assert counted is not None
    assert 0 < card["cost_usd"] < counted


def test_a_command_without_a_till_starts_nothing(world: Bench) -> None:
    """Only commands that count money may spend it."""
    world.bench = replace(world.bench, till=None)
    with pytest.raises(InputError, match="starts no job that costs money"):
        world.tune()
    assert world.host.requests == []


# ---- base models end -------------------------------------------------------------------------------------------------


def test_the_day_a_base_is_retired_is_shown(world: Bench) -> None:
    day = date.today() + timedelta(days=40)
    world.retire(day)
    card = world.card()
    assert card["retired_on"] == day.isoformat()
    assert f"retires it on {day}, in 40 days" in world.said[0]


def test_a_retired_base_is_refused(world: Bench) -> None:
    """Before anything is uploaded or paid."""
    world.retire(date(2026, 1, 1))
    with pytest.raises(InputError, match="is retired since 2026-01-01"):
        world.tune()
    assert world.host.requests == []


# ---- what breaks -----------------------------------------------------------------------------------------------------


def test_faults_that_pass_are_waited_out(world: Bench) -> None:
    """Too many requests, server errors and broken connections on every route; still one job."""
    faults: dict[str, list[int | str]] = {
        "POST /files": [429, 500, 503],
        "POST /fine_tuning/jobs": [429],
        "GET /fine_tuning/jobs": [500],
        "GET /fine_tuning/jobs/ID": [500, 500, "drop"],
        "GET /fine_tuning/jobs/ID/events": [500],
    }
    world.host.faults.update(faults)
    assert world.card()["tuned_model"]
    assert len(world.host.jobs) == 1


def test_a_host_that_is_away_for_longer_than_all_tries_is_waited_for(world: Bench) -> None:
    """The job goes on meanwhile, so the command does too."""
    world.host.faults["GET /fine_tuning/jobs/ID"] = [503] * 7
    assert world.card()["tuned_model"]
    assert any("the job goes on, asking again" in line for line in world.said)


def test_a_refused_upload_says_why_and_costs_nothing(world: Bench) -> None:
    world.host.faults["POST /files"] = [400]
    with pytest.raises(EndpointUnusable, match=r"no \(400\)"):
        world.tune()
    assert list(world.till.counted.values()) == [0.0]
    assert world.host.jobs == {}
    assert world.card()["tuned_model"]


def test_a_refused_key_is_named_but_not_shown(world: Bench) -> None:
    """The host quotes the key; nobody else does."""
    world.host.key = "another"
    with pytest.raises(EndpointUnusable) as stopped:
        world.tune()
    assert "the key in $TUNING_API_KEY was refused (401)" in str(stopped.value)
    assert KEY not in str(stopped.value) + world.kept()


def test_a_missing_key_is_named_before_anything_is_sent(world: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUNING_API_KEY")
    with pytest.raises(InputError, match="TUNING_API_KEY is not set"):
        world.tune()
    assert world.host.requests == []


def test_the_key_is_nowhere(world: Bench) -> None:
    """Not in the card, not in the state, not in what is said, even where the host quotes it."""
    world.host.faults["GET /fine_tuning/jobs/ID"] = [500] * 6
    world.tune()
    assert KEY not in world.kept()


@pytest.mark.parametrize("part", ["training", "validation"])
def test_a_file_the_host_rejects_is_named(world: Bench, part: str) -> None:
    """With the host's own reason; nothing is started or counted."""
    world.host.bad_files = (f"-{part}.jsonl",)
    with pytest.raises(EndpointUnusable, match=f"rejected the {part} file: Line 3 has no assistant message"):
        world.tune()
    assert world.host.jobs == {}
    assert list(world.till.counted.values()) == [0.0]


def test_a_refused_job_is_not_counted(world: Bench) -> None:
    world.host.faults["POST /fine_tuning/jobs"] = [400]
    with pytest.raises(EndpointUnusable, match=r"no \(400\)"):
        world.tune()
    assert list(world.till.counted.values()) == [0.0]
    assert world.card()["job"] == "ftjob-1"


ENDINGS = {
    "failed": ({"code": "invalid_training_file", "message": "too few examples", "param": "training_file"}, "failed"),
    "expired": (None, "has expired"),
    "cancelled": (None, "was cancelled"),
}


@pytest.mark.parametrize("status", ENDINGS)
def test_a_job_that_ends_badly_says_so_and_the_next_command_starts_another(world: Bench, status: str) -> None:
    """In plain words, with the host's own reason where it gives one."""
    world.host.error, wording = ENDINGS[status]
    world.host.statuses = ("running", status)
    with pytest.raises(RunStopped) as stopped:
        world.tune()
    assert f"the tuning job ftjob-1 of 'tuned' {wording}" in str(stopped.value)
    if world.host.error:
        assert "too few examples (about training_file)" in str(stopped.value)
    (counted,) = world.till.counted.values()
    assert counted == 0.0 if status == "failed" else (counted or 0) > 0
    world.host.statuses, world.host.error = ("succeeded",), None
    card = world.card()
    assert card["job"] == "ftjob-2"
    assert card["earlier_jobs"] == [f"ftjob-1: {status}"]
    assert len(set(world.host.idempotency_keys)) == 2


def test_a_job_that_never_ends_is_given_up_waiting_for_and_found_again(world: Bench) -> None:
    """The message says that it goes on, how to wait again and how to end it."""
    world.host.statuses = ("running",)
    with pytest.raises(RunStopped) as stopped:
        world.tune(timeout_seconds=0.1)
    message = str(stopped.value)
    assert "ftjob-1 of 'tuned' has not ended within 0.1 s (it is running)" in message
    assert "the same command waits for it again" in message
    assert f'-H "Authorization: Bearer $TUNING_API_KEY" {world.host.url}/fine_tuning/jobs/ftjob-1/cancel' in message
    world.host.statuses = ("succeeded",)
    assert world.card()["job"] == "ftjob-1"
    assert len(world.host.jobs) == 1


def test_a_job_the_host_forgot_is_said(world: Bench) -> None:
    world.host.statuses = ("running",)
    with pytest.raises(RunStopped):
        world.tune(timeout_seconds=0.05)
    world.host.jobs.clear()
    with pytest.raises(EndpointUnusable, match="no job ftjob-1"):
        world.tune()


# ---- never twice -----------------------------------------------------------------------------------------------------


def test_a_start_whose_answer_broke_off_is_found_and_not_repeated(world: Bench) -> None:
    """The host made the job, and we never heard of it."""
    world.host.faults["POST /fine_tuning/jobs"] = ["kept"]
    assert world.card()["job"] == "ftjob-1"
    assert len(world.host.jobs) == 1


def test_a_start_that_did_not_arrive_is_repeated(world: Bench) -> None:
    """With the same key, for hosts that know such a thing."""
    world.host.faults["POST /fine_tuning/jobs"] = ["drop", 500]
    assert world.card()["job"] == "ftjob-1"
    assert world.host.requests.count("POST /fine_tuning/jobs") == 3


def test_our_job_is_found_on_a_later_page_among_others(world: Bench) -> None:
    """Other people's jobs, newer than ours, on pages of two."""
    world.host.page = 2

    def others() -> None:
        for number in range(5):
            world.host.jobs[f"other-{number}"] = {"id": f"other-{number}", "training_file": "theirs", "metadata": None}

    world.host.on_create = others
    world.host.faults["POST /fine_tuning/jobs"] = ["kept"]
    assert world.card()["job"] == "ftjob-1"
    assert world.host.requests.count("POST /fine_tuning/jobs") == 1


def test_a_host_that_does_not_tell_its_jobs_gets_no_second_one(world: Bench) -> None:
    """Better to ask the person than to pay twice."""
    world.host.has_jobs_list = False
    world.host.faults["POST /fine_tuning/jobs"] = ["kept"]
    with pytest.raises(EndpointUnusable, match="a tuning job may have been started"):
        world.tune()
    with pytest.raises(EndpointUnusable, match="a tuning job may have been started"):
        world.tune()
    assert len(world.host.jobs) == 1


def study_with_host(folder: Path, host: TuningServer, *, tuning_more: str = "", more: tuple[str, ...] = ()) -> Path:
    price = "price_per_million_training_tokens: {input: 3.0}"
    return write_study(
        folder,
        host.url,
        model="small-1",
        endpoint="api_key_env: TUNING_API_KEY, max_retries: 0, timeout_s: 5",
        approaches=[
            "zero-shot: {model: stub}",
            f"tuned: {{tuning: {{method: hosted, endpoint: stub, poll_seconds: 0.05, guard: 0, {price}{tuning_more}}}}}",
        ],
        more=more,
    )


def test_a_tuned_model_is_measured_like_any_other(
    host: TuningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From study.yaml to a report, at the same address as the base; a second run tunes and asks nothing."""
    monkeypatch.setenv("TUNING_API_KEY", KEY)
    folder = study_with_host(tmp_path / "s", host)
    checked = steelyard("check", folder)
    assert checked.code == 0, checked.err
    assert steelyard("run", folder, "--dry-run").code == 0
    assert host.requests == []
    ran = steelyard("run", folder, "--budget", "5", "--quiet")
    assert ran.code == 0, ran.err
    assert host.models_asked == {"small-1": 12, "ft:small-1:steelyard:ftjob-1": 12}
    n_requests = len(host.requests)
    assert steelyard("run", folder, "--budget", "5", "--quiet").code == 0
    assert len(host.requests) == n_requests
    scores = steelyard("score", folder, "--json")
    assert scores.code == 0, scores.err
    assert '"tuned"' in scores.out
    report = steelyard("report", folder, "--format", "json")
    assert report.code == 0, report.err
    everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert KEY.encode() not in everything


def test_tune_and_run_share_the_job(host: TuningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`steelyard tune` starts it, shows its card and counts it; `run` finds it."""
    monkeypatch.setenv("TUNING_API_KEY", KEY)
    folder = study_with_host(tmp_path / "s", host, more=("run: {budget_usd: 5.0}",))
    tuned = steelyard("tune", folder, "--approach", "tuned", "--quiet", "--export", tmp_path / "out")
    assert tuned.code == 0, tuned.err
    for shown in (
        "ft:small-1:steelyard:ftjob-1",
        "1,000 (as the host reports)",
        "job: ftjob-1",
        "training loss: 1.000",
    ):
        assert shown in tuned.out
    assert any((tmp_path / "out").rglob("*.jsonl"))
    assert steelyard("run", folder, "--quiet").code == 0
    assert list(host.jobs) == ["ftjob-1"]
    with Journal.open(folder / ".steelyard" / "journal.sqlite3", read_only=True) as journal:
        assert journal.spent().usd == pytest.approx(0.003 + 24 * (20 * 1.0 + 2 * 2.0) / 1e6)


def test_a_budget_holds_for_jobs_and_calls_together(
    host: TuningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1 and nothing started."""
    monkeypatch.setenv("TUNING_API_KEY", KEY)
    ran = steelyard("run", study_with_host(tmp_path / "s", host), "--budget", "0.001", "--quiet")
    assert ran.code == 1
    assert "does not allow hosted tuning" in ran.err
    assert host.requests == []


def run_process(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "steelyard", "run", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TUNING_API_KEY": KEY},
    )


def signalled(host: TuningServer, folder: Path, *, event: str, number: int) -> tuple[int, str]:
    """Run the study in a process that gets a signal when the host sees an event; its exit code and standard error."""
    processes: list[subprocess.Popen[str]] = []

    def send() -> None:
        if processes and processes[0].poll() is None:
            processes[0].send_signal(number)
            if number == signal.SIGKILL:
                processes[0].wait(10)

    hook: Callable[[], None] = send
    setattr(host, event, hook)
    processes.append(run_process(folder))
    _, err = processes[0].communicate(timeout=60)
    setattr(host, event, lambda: None)
    return processes[0].returncode, err


@pytest.mark.slow
def test_a_process_killed_while_its_job_is_started_does_not_start_a_second(host: TuningServer, tmp_path: Path) -> None:
    """Killed after the host made the job and before anybody noted it; the next command finds it."""
    folder = study_with_host(tmp_path / "s", host)
    code, _ = signalled(host, folder, event="on_create", number=signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert len(host.jobs) == 1
    second = run_process(folder)
    _, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert list(host.jobs) == ["ftjob-1"]
    assert host.models_asked["ft:small-1:steelyard:ftjob-1"] == 12
    with Journal.open(folder / ".steelyard" / "journal.sqlite3", read_only=True) as journal:
        assert journal.spent().usd == pytest.approx(0.003 + 24 * (20 * 1.0 + 2 * 2.0) / 1e6)


@pytest.mark.slow
@pytest.mark.parametrize("when_stopped", ["continue", "cancel"])
def test_ctrl_c_says_what_becomes_of_the_job(host: TuningServer, tmp_path: Path, when_stopped: str) -> None:
    """It goes on unless study.yaml says otherwise, and the message has the line that ends it."""
    host.statuses = ("running",)
    folder = study_with_host(tmp_path / "s", host, tuning_more=f", when_stopped: {when_stopped}")
    code, err = signalled(host, folder, event="on_poll", number=signal.SIGINT)
    assert code == 130
    assert "Traceback" not in err
    if when_stopped == "cancel":
        assert "the tuning job ftjob-1 is cancelled" in err
        assert host.jobs["ftjob-1"]["status"] == "cancelled"
    else:
        assert "ftjob-1 goes on at the host" in err
        assert f"{host.url}/fine_tuning/jobs/ftjob-1/cancel" in err
        assert host.jobs["ftjob-1"]["status"] == "running"
    host.statuses = ("succeeded",)
    again = run_process(folder)
    _, said = again.communicate(timeout=60)
    assert again.returncode == 0, said
    assert len(host.jobs) == (2 if when_stopped == "cancel" else 1)
    assert KEY not in err


# ---- what study.yaml may say -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("approach", "message"),
    [
        ({"tuning": TUNING}, "needs a host"),
        ({"model": "other", "tuning": {**TUNING, "endpoint": "cloud"}}, "answers where it was tuned"),
        ({"model": "cloud", "tuning": {**TUNING, "beta": 0.1}}, "beta belongs to method_kind: dpo"),
        ({"model": "cloud", "tuning": {**TUNING, "hyperparameters": {"n_epochs": 9}}}, "must not set n_epochs"),
        ({"model": "cloud", "tuning": {**TUNING, "rank": 8}}, "Extra inputs are not permitted"),
        ({"model": "cloud", "tuning": {**TUNING, "suffix": "a b"}}, "should match pattern"),
    ],
)
def test_settings_that_do_not_fit_are_refused(approach: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ApproachSpec.model_validate(approach)


def test_the_endpoint_of_the_tuning_is_the_model_that_is_asked() -> None:
    assert ApproachSpec.model_validate({"tuning": {**TUNING, "endpoint": "cloud"}}).model == "cloud"


def test_nothing_to_tune_on_is_said(world: Bench) -> None:
    """Before anything is uploaded."""
    with pytest.raises(InputError, match="none has an answer that was turned down in 'rejected'"):
        world.tune(method_kind="dpo")
    assert world.host.requests == []


def test_mistakes_in_the_section_are_named_with_line_and_fix(tmp_path: Path) -> None:
    """Each kind of tuning knows its own fields."""
    wrong = [
        "a: {tuning: {method: hosted, endpoint: stub, epohcs: 3}}",
        "b: {tuning: {method: hostd}}",
        "c: {tuning: {epochs: 2}}",
        "d: {tuning: {method: lora, rnak: 2}}",
    ]
    checked = steelyard("check", write_study(tmp_path / "s", "http://127.0.0.1:9/v1", approaches=wrong))
    assert checked.code == 2
    assert "study.yaml:11:approaches.a.tuning.epohcs: unknown field 'epohcs'" in checked.err
    assert "poll_seconds" in checked.err
    assert (
        "study.yaml:12:approaches.b.tuning.method: input should be 'lora', 'head', 'hosted', got 'hostd'" in checked.err
    )
    assert "study.yaml:13:approaches.c.tuning: the field 'method' is missing" in checked.err
    assert "did you mean 'rank'? fields here: alpha" in checked.err
