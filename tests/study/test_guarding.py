"""The guard set in a study: planted forgetting is found and warned of, paid once, and in no figure of the task."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from steelyard.approaches.tuning.guard import guard_set
from steelyard.engine.journal import Journal
from tests.approaches.tuning_server import KEY, TuningServer, tuning
from tests.cli.tickets import steelyard, write_study

TUNED = "ft:small-1:steelyard:ftjob-1"
N = 60
ANSWERS = {one.ask: one for one in guard_set()}


def right_answer(said: str) -> str:
    """Something that passes the check of an instruction."""
    check = ANSWERS[said].check
    if check.json is not None:
        return json.dumps(check.json)
    if check.equals:
        return check.equals[0]
    words = [*check.says[: check.least], *check.says_all]
    for candidate in (
        " ".join(words),
        f"{' '.join(words)} is said in this sentence.",
        "Is it cold outside?",
        "HELLO",
        "1, 2, 3, 4, 5",
    ):
        if check.passes(candidate):
            return candidate
    raise AssertionError(said)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[TuningServer]:
    """A base that does every instruction, and a tuned model that answers `billing` to every second one."""
    monkeypatch.setenv("TUNING_API_KEY", KEY)
    lost = {one.ask for one in guard_set()[:N:2]}

    def chat(model: str, said: str) -> str | None:
        if said not in ANSWERS or (model == TUNED and said in lost):
            return None
        return right_answer(said)

    with tuning(on_chat=chat) as server:
        yield server


def study(folder: Path, host: TuningServer, *, guard: int = N, more: tuple[str, ...] = (), others: int = 0) -> Path:
    settings = f"method: hosted, endpoint: stub, poll_seconds: 0.02, guard: {guard}"
    price = "price_per_million_training_tokens: {input: 3.0}"
    return write_study(
        folder,
        host.url,
        model="small-1",
        endpoint="api_key_env: TUNING_API_KEY, max_retries: 0, timeout_s: 5",
        approaches=[
            "zero-shot: {model: stub}",
            f"tuned: {{tuning: {{{settings}, {price}}}}}",
            *(f"tuned-{i}: {{tuning: {{{settings}, {price}, epochs: {4 + i}}}}}" for i in range(others)),
        ],
        more=more,
    )


def test_planted_forgetting_is_found_and_warned_of(host: TuningServer, tmp_path: Path) -> None:
    """On the card of `tune` and in its JSON: 60 of 60 by the base, half of them kept, a warning by name."""
    folder = study(tmp_path / "s", host)
    shown = steelyard("tune", folder, "--approach", "tuned", "--quiet")
    assert shown.code == 0, shown.err
    assert "general instructions done, of 60: 60 by the base, 30 by the tuned model, both as served" in shown.out
    assert "kept of what the base did: 30 of 60, 50.0%" in shown.out
    assert "warning: tuned has forgotten general instructions" in shown.out
    found = steelyard("tune", folder, "--approach", "tuned", "--quiet", "--json").json["forgetting"]
    assert (found["n"], found["base"], found["tuned"], found["kept"], found["gained"]) == (60, 60, 30, 30, 0)
    assert found["kept_share"]["low"] < 0.5 < found["kept_share"]["high"] < 0.8
    assert found["is_clear_loss"]
    assert found["p_mcnemar"] < 0.001


def test_a_run_asks_once_and_what_it_found_is_in_every_report(host: TuningServer, tmp_path: Path) -> None:
    """Base and tuned model 60 times each; a second run and `tune` after it send nothing; HTML, Markdown, JSON, score."""
    folder = study(tmp_path / "s", host)
    assert steelyard("run", folder, "--quiet").code == 0
    assert host.models_asked == {"small-1": 12 + N, TUNED: 12 + N}
    n_requests = len(host.requests)
    assert steelyard("run", folder, "--quiet").code == 0
    assert "30 of 60" in steelyard("tune", folder, "--approach", "tuned", "--quiet").out
    assert len(host.requests) == n_requests
    assert "note: tuned has forgotten general instructions" in " ".join(steelyard("score", folder).out.split())
    for form in ("html", "md", "json"):
        text = steelyard("report", folder, "--format", form, "-o", tmp_path / f"r.{form}")
        assert text.code == 0, text.err
        assert "30 of 60, 50.0%" in (tmp_path / f"r.{form}").read_text(encoding="utf-8")
    rows = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["setup"]
    assert [row["forgetting"] and row["forgetting"]["kept"] for row in rows] == [None, 30]


def test_nothing_of_it_is_in_a_figure_of_the_task(host: TuningServer, tmp_path: Path) -> None:
    """Scorecards, comparisons and verdict are the same with the guard set and without."""
    with_it, without = study(tmp_path / "a", host), study(tmp_path / "b", host, guard=0)
    found = []
    for folder in (with_it, without):
        assert steelyard("run", folder, "--quiet").code == 0
        scores = steelyard("score", folder, "--json").json
        for one in scores["approaches"]:
            del one["latency_s"], one["cost_per_task_usd"], one["cost_per_success_usd"]  # seconds differ by run
        found.append(
            json.dumps([scores["approaches"], [pair["difference"] for pair in scores["comparisons"]]], sort_keys=True)
        )
    assert found[0] == found[1]
    with Journal.open(with_it / ".steelyard" / "journal.sqlite3", read_only=True) as journal:
        by_split = [row["split"] for row in journal.measurements()]
    assert (by_split.count("test"), by_split.count("guard")) == (24, 2 * N)


def test_the_answers_of_a_base_are_shared(host: TuningServer, tmp_path: Path) -> None:
    """Three models tuned from one base: the base is asked once."""
    folder = study(tmp_path / "s", host, others=2)
    assert steelyard("run", folder, "--quiet").code == 0
    assert host.models_asked["small-1"] == 12 + N


def test_it_is_switched_off_and_limited(host: TuningServer, tmp_path: Path) -> None:
    """`guard: 0` asks nothing, and the card has no line of it; `guard: 5` asks five; more than there are asks all."""
    folder = study(tmp_path / "s", host, guard=0)
    tuned = steelyard("tune", folder, "--approach", "tuned", "--quiet")
    assert host.models_asked == {}
    assert "general instructions" not in tuned.out
    path = folder / "study.yaml"
    path.write_text(path.read_text().replace("guard: 0", "guard: 5"))
    shown = steelyard("tune", folder, "--approach", "tuned", "--quiet").out
    assert "general instructions done, of 5" in shown
    assert host.models_asked == {"small-1": 5, TUNED: 5}
    assert len(host.jobs) == 1


def test_a_budget_that_ends_stops_the_guard_set_and_not_the_work(host: TuningServer, tmp_path: Path) -> None:
    """24 calls of the task, 40 of 120 of the guard set; with more budget the rest is asked, nothing twice."""
    folder = study(tmp_path / "s", host, more=("run: {budget_calls: 65}",))
    ran = steelyard("run", folder)
    assert ran.code == 0, ran.err
    assert "the guard set was not asked to its end" in " ".join(ran.err.split())
    assert sum(host.models_asked.values()) == 65
    assert steelyard("score", folder).code == 0
    path = folder / "study.yaml"
    path.write_text(path.read_text().replace("budget_calls: 65", "budget_calls: 1000"))
    assert steelyard("run", folder, "--quiet").code == 0
    assert sum(host.models_asked.values()) == 24 + 2 * N


def test_a_base_that_is_served_no_more_leaves_it_unknown(host: TuningServer, tmp_path: Path) -> None:
    """A host that answers nothing: the card is shown, with a note in the place of figures, and exit code 0."""
    folder = study(tmp_path / "s", host)
    host.faults["POST /chat/completions"] = [500] * 500
    shown = steelyard("tune", folder, "--approach", "tuned", "--quiet")
    assert shown.code == 0, shown.err
    assert "note: the guard set was not asked to its end" in shown.out
    assert "general instructions done" not in shown.out


def test_a_dry_run_counts_it(host: TuningServer, tmp_path: Path) -> None:
    """Base and tuned model, as parts of their own."""
    shape = steelyard("run", study(tmp_path / "s", host), "--dry-run", "--json").json
    calls = {one["name"]: one["first_calls"] for one in shape["approaches"]}
    assert calls["base model of stub, guard set"] == calls["tuned, guard set"] == N
    assert host.requests == []
