"""`steelyard run --race`: who is dropped, what is kept of it, and that being killed changes nothing."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import steelyard
from steelyard.cases.case import Case
from steelyard.engine.entries import DropRecord
from steelyard.engine.journal import Journal
from steelyard.models.stub_server import StubServer
from steelyard.study.racing import race_order
from steelyard.study.scoring import journal_path
from steelyard.study.study import Study
from tests.cli.tickets import serving, ticket_rows, write_study
from tests.cli.tickets import steelyard as command_line

N_TEST = 80
"""Test cases of the study here: nine of ten are `billing`."""
APPROACHES = ("good", "repair", "bad", "dear")
N_ALL = len(APPROACHES) * N_TEST


@dataclass(frozen=True)
class Models:
    """One that is right nine times in ten, and one that is wrong as often."""

    billing: StubServer
    delivery: StubServer

    @property
    def n_requests(self) -> int:
        return self.billing.n_requests + self.delivery.n_requests


@pytest.fixture
def models() -> Iterator[Models]:
    with serving(reply="billing") as billing, serving(reply="delivery") as delivery:
        yield Models(billing, delivery)


def write(folder: Path, models: Models, *, more: Sequence[str] = ()) -> Path:
    """Four approaches: two good ones, a bad one, and one as good at a price that decides."""
    rows = [(text, "billing" if i % 10 else "delivery") for i, (text, _) in enumerate(ticket_rows(400))]
    price = "price_per_million"
    return write_study(
        folder,
        models.billing.url,
        rows=rows,
        others=[
            f"wrong: {{base_url: '{models.delivery.url}', model: m2, {price}: {{input: 3, output: 9}}}}",
            f"dear: {{base_url: '{models.billing.url}', model: m3, {price}: {{input: 5000, output: 9000}}}}",
        ],
        approaches=(
            "good: {model: stub}",
            "repair: {model: stub, prompt: {enforce_schema: true}, workflow: {repair: 1}}",
            "bad: {model: wrong}",
            "dear: {model: dear}",
        ),
        more=more,
    )


def drops(folder: Path) -> tuple[DropRecord, ...]:
    with Journal.open(journal_path(folder), read_only=True) as journal:
        return journal.drops()


def n_cases(study: Study) -> dict[str, int]:
    return {card.name: card.n for card in study.score().scorecards}


def test_a_race_drops_says_saves_and_decides_as_all_cases_would(tmp_path: Path, models: Models) -> None:
    """The bad and the dear one go early; the verdict among the rest is on all cases these did, and is the same."""
    ran = command_line("run", write(tmp_path / "raced", models), "--race")
    assert ran.code == 0, ran.err
    assert "racing 4 approaches over 80 cases" in ran.err
    assert "bad: dropped by the race after " in ran.err
    assert "fails more often than it succeeds" in ran.err
    assert "dear: dropped by the race after " in ran.err
    assert "costs less per successful task" in ran.err
    assert "race over after " in ran.err
    study = steelyard.load(tmp_path / "raced")
    did = n_cases(study)
    n_outcomes = sum(did.values())
    assert models.n_requests == n_outcomes < 0.7 * N_ALL
    assert f"raced: {n_outcomes} of {N_ALL} outcomes, {1 - n_outcomes / N_ALL:.0%} fewer calls" in ran.out
    assert max(did["bad"], did["dear"]) < did["good"] == did["repair"] < N_TEST

    scores = study.score()
    pair = next(one for one in scores.comparisons if {one.a, one.b} == {"good", "repair"})
    assert pair.n == did["good"]
    assert [note for note in scores.notes if note.startswith("bad was dropped by the race")]
    verdict = study.decide().verdict
    assert verdict.choice == "good"
    standings = {one.name: one for one in verdict.standings}
    assert standings["bad"].excluded_because == drops(study.folder)[0].reason
    assert standings["bad"].p_best is None
    assert standings["good"].p_best is not None
    everything = steelyard.load(write(tmp_path / "all", models))
    everything.run(progress=False)
    assert everything.decide().verdict.choice == "good"


def test_json_says_how_the_race_went(tmp_path: Path, models: Models) -> None:
    folder = write(tmp_path / "s", models)
    shape = command_line("run", folder, "--race", "--quiet", "--json").json["race"]
    assert set(shape) == {
        *("cases", "cases_raced", "outcomes", "outcomes_without_race", "calls_saved", "dropped", "left", "winner"),
        "sentence",
    }
    assert {drop["name"] for drop in shape["dropped"]} == {"bad", "dear"}
    assert {drop["name"]: drop["by"] for drop in shape["dropped"]}["bad"] is None
    assert shape["winner"] == "good"
    assert shape["outcomes_without_race"] == N_ALL
    again = command_line("run", folder, "--race", "--json")
    assert again.json["race"] == shape
    assert again.json["outcomes"] == 0
    assert again.json["outcomes_there_before"] == shape["outcomes"]
    assert command_line("run", folder, "--json").json["race"] is None


def test_a_plain_run_completes_the_dropped_and_takes_them_back_in(tmp_path: Path, models: Models) -> None:
    study = steelyard.load(write(tmp_path / "s", models))
    study.run(progress=False, race=True)
    assert {drop.approach for drop in drops(study.folder)} == {"bad", "dear"}
    study.run(progress=False, limit=20)
    assert {drop.approach for drop in drops(study.folder)} == {"bad", "dear"}  # still fewer cases than the others
    study.run(progress=False)
    assert drops(study.folder) == ()
    assert set(n_cases(study).values()) == {N_TEST}
    assert models.n_requests == N_ALL
    standings = {one.name: one for one in study.decide().verdict.standings}
    assert standings["dear"].p_best is not None
    # With all outcomes there a race saves nothing and drops nobody for good.
    assert "raced: 320 of 320 outcomes, nothing saved" in str(study.run(progress=False, race=True))
    assert drops(study.folder) == ()


def test_other_money_or_goals_after_the_race_are_noticed(tmp_path: Path, models: Models) -> None:
    study = steelyard.load(write(tmp_path / "s", models))
    study.run(progress=False, race=True)
    assert not [note for note in study.decide().notes if "weighed another" in note]
    path = study.folder / "study.yaml"
    path.write_text(path.read_text("utf-8") + "money: {volume_per_month: 10}\n", "utf-8")
    assert [note for note in steelyard.load(study.folder).decide().notes if "weighed another" in note]


def test_a_killed_race_goes_on_to_the_same_end_and_pays_once(tmp_path: Path, models: Models) -> None:
    """Killed again and again, in rounds and between them: same drops, same outcomes, no acknowledged call sent twice."""
    calm = steelyard.load(write(tmp_path / "calm", models, more=["run: {in_flight: 4}"]))
    expected = calm.run(progress=False, race=True)
    n_calm = models.n_requests
    folder = write(tmp_path / "killed", models, more=["run: {in_flight: 4}"])
    models.billing.latency_s = models.delivery.latency_s = 0.02
    source = random.Random(5)
    n_killed = 0
    for _ in range(4):
        before = models.n_requests
        race = subprocess.Popen(
            [sys.executable, "-m", "steelyard", "run", str(folder), "--race", "--quiet"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(os.environ),
        )
        stop_at = before + source.randrange(10, 50)
        while race.poll() is None and models.n_requests < stop_at:
            time.sleep(0.005)
        race.kill()
        n_killed += race.wait() != 0
    assert n_killed
    study = steelyard.load(folder)
    ended = study.run(progress=False, race=True)
    assert ended.race is not None
    assert expected.race is not None
    assert ended.race.to_json() == expected.race.to_json()
    assert drops(folder) == drops(calm.folder)
    assert n_cases(study) == n_cases(calm)
    assert models.n_requests - n_calm <= n_calm + n_killed * 4


def test_one_approach_runs_on_all_cases_and_a_dry_run_is_an_upper_bound(tmp_path: Path, models: Models) -> None:
    folder = write(tmp_path / "s", models)
    estimate = command_line("run", folder, "--race", "--dry-run")
    assert "this is the most it takes" in estimate.err
    assert models.n_requests == 0
    ran = command_line("run", folder, "--race", "--approach", "good")
    assert "nothing to race" in ran.err
    assert "raced" not in ran.out
    assert models.n_requests == N_TEST


def test_the_budget_ends_a_race_like_any_run(tmp_path: Path, models: Models) -> None:
    """What was decided until then is kept, and the race goes on with more money."""
    folder = write(tmp_path / "s", models)
    ran = command_line("run", folder, "--race", "--budget", "3")
    assert ran.code == 1
    assert "budget" in ran.err
    n_before = models.n_requests
    assert 0 < n_before < N_ALL
    assert command_line("run", folder, "--race").code == 0
    assert {drop.approach for drop in drops(folder)} == {"bad", "dear"}


def test_what_the_steps_cost_is_in_the_ledger(tmp_path: Path, models: Models) -> None:
    """Per task, by step, with their tokens: 20 prompt tokens and 5 generated ones a call."""
    study = steelyard.load(write(tmp_path / "s", models))
    study.run(progress=False, limit=10)
    ledgers = {ledger.approach: ledger for ledger in study.decide().verdict.economics.ledgers}
    (answer, *_) = ledgers["good"].steps
    assert (answer.step, answer.calls, answer.prompt_tokens, answer.completion_tokens) == ("answer", 1.0, 20.0, 5.0)
    assert answer.usd == pytest.approx(30e-6)
    assert len(ledgers["repair"].steps) >= 2


def test_the_order_of_a_race_is_random_and_keeps_clusters_together() -> None:
    """It hangs on seed and cases, not on their order in the file; large clusters do not come first."""
    cases = [Case(id=f"c{i}", input={"text": str(i)}, cluster=f"k{i // 5}" if i < 50 else None) for i in range(150)]
    shuffled = random.Random(1).sample(cases, len(cases))
    order = race_order(cases, 7)
    assert sorted(case.id for case in order) == sorted(case.id for case in cases)
    assert race_order(shuffled, 7) == order != race_order(cases, 8)
    labels = [case.cluster for case in order if case.cluster is not None]
    assert sum(a != b for a, b in itertools.pairwise(labels)) == 9
    clusters = {case.cluster for case in order if case.cluster is not None}
    for cluster in clusters:
        places = [i for i, case in enumerate(order) if case.cluster == cluster]
        assert places == list(range(places[0], places[0] + 5))
    firsts = [sum(case.cluster is not None for case in race_order(cases, seed)[:30]) / 30 for seed in range(100)]
    assert sum(firsts) / len(firsts) == pytest.approx(50 / 150, abs=0.06)
