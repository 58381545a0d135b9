"""Cascades in a study: set on dev alone, paid once, and told wherever an approach is."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import steelyard
from steelyard.approaches.approach import Setup
from steelyard.engine.journal import Journal
from steelyard.engine.outcome import Outcome, OutcomeStatus
from steelyard.errors import BudgetReached, InputError
from steelyard.study.scoring import journal_path
from steelyard.study.study import Study
from tests.cli.tickets import steelyard as command_line
from tests.cli.tickets import write_cases
from tests.study.planted import LABELS, ROWS, Models, planted, write

N_TEST = N_DEV = 80


@pytest.fixture
def models() -> Iterator[Models]:
    with planted() as found:
        yield found


def card_of(study: Study, name: str = "both") -> dict[str, object]:
    """What the run wrote down about a cascade."""
    setup = setup_of(study, name)
    assert setup.card is not None
    found: dict[str, object] = setup.card["cascade"]
    return found


def setup_of(study: Study, name: str) -> Setup:
    with Journal.open(journal_path(study.folder), read_only=True) as journal:
        fingerprint = journal.runs()[-1].study["approaches"][name]["fingerprint"]
        setup = journal.preparation(name, fingerprint)
    assert setup is not None
    return setup


def outcomes(study: Study, split: str) -> dict[str, dict[str, Outcome]]:
    """By approach and case."""
    found: dict[str, dict[str, Outcome]] = {}
    with Journal.open(journal_path(study.folder), read_only=True) as journal:
        for one in journal.outcomes(split=split):
            found.setdefault(one.approach, {})[one.case_id] = one
    return found


def test_a_cascade_alone_asks_both_endpoints_and_nothing_is_paid_twice(tmp_path: Path, models: Models) -> None:
    """Its calls are those of its members: run afterwards, they find what it asked and pay for the rest."""
    study = steelyard.load(write(tmp_path / "s", models))
    study.run(progress=False, approaches=["both"])
    (use,) = study.score().cascades
    n_escalated = round((use.escalated.value or 0.0) * N_TEST)
    assert 0 < n_escalated < N_TEST
    assert (models.unsure.n_requests, models.strong.n_requests) == (N_DEV + N_TEST, N_DEV + n_escalated)
    study.run(progress=False)
    assert (models.unsure.n_requests, models.strong.n_requests) == (N_DEV + N_TEST, N_DEV + N_TEST)
    assert study.run(progress=False).summary.n_outcomes == 0
    found = outcomes(study, "test")
    for case_id, one in found["both"].items():
        first, then = found["small"][case_id], found["big"][case_id]
        member = then if one.asked[-1] == "big" else first
        assert (one.output, one.success) == (member.output, member.success)
        used = [first, then] if len(one.asked) > 1 else [first]
        assert sum(a.price_usd or 0.0 for a in one.attempts) == pytest.approx(
            sum(a.price_usd or 0.0 for u in used for a in u.attempts)
        )
        assert one.latency_s - one.own_s == pytest.approx(sum(u.latency_s - u.own_s for u in used))
        assert (one.prompt_tokens, one.extra_calls) == (20 * len(used), 0)


def test_the_threshold_is_the_cheapest_on_dev_that_is_as_good_as_the_second_alone(
    tmp_path: Path, models: Models
) -> None:
    """By brute force over the dev outcomes in the journal, whose order by stated confidence is all that counts."""
    study = steelyard.load(write(tmp_path / "s", models))
    study.run(progress=False, approaches=["both"])
    dev = outcomes(study, "dev")
    cases = sorted(dev["small"], key=lambda case_id: dev["small"][case_id].confidence or 0.0)
    card = card_of(study)
    chosen, curve = card["chosen"], card["curve"]
    assert isinstance(chosen, dict)
    assert isinstance(curve, list)
    n = round(chosen["escalated"] * N_DEV)
    success = np.mean([bool(dev["big" if i < n else "small"][case_id].success) for i, case_id in enumerate(cases)])
    usd = np.mean([dev["small"][c].cost_usd or 0.0 for c in cases]) + sum(
        dev["big"][c].cost_usd or 0.0 for c in cases[:n]
    ) / len(cases)
    assert chosen["success"] == pytest.approx(success)
    assert chosen["cost_usd"] == pytest.approx(usd)
    assert chosen["difference"] >= 0
    cheaper = [point for point in curve if point["threshold"] < chosen["threshold"]]
    assert cheaper
    assert all(point["difference"] < 0 or point["difference_low"] < -0.02 for point in cheaper)
    assert card["n_dev"] == N_DEV


def test_calibration_mends_a_confidence_that_is_too_bold(tmp_path: Path, models: Models) -> None:
    """Measured by cross-fitting, on cases that had no part in the fit."""
    study = steelyard.load(write(tmp_path / "s", models))
    study.run(progress=False, approaches=["both"], limit=1)
    found = card_of(study)["calibration"]
    assert isinstance(found, dict)
    assert found["stated"]["confidence"] - found["stated"]["right"] > 0.1
    assert abs(found["calibrated"]["confidence"] - found["calibrated"]["right"]) < 0.05
    assert found["calibrated"]["brier"] < found["stated"]["brier"]


def test_the_test_split_has_no_part_in_setting_a_cascade(tmp_path: Path, models: Models) -> None:
    """Before the first test case is asked, dev cases are all that was; and other test labels change no threshold."""
    found = {}
    for name, is_right in (("right", True), ("wrong", False)):
        study = with_test_labels(write(tmp_path / name, models), is_right=is_right)
        models.unsure.texts.clear()
        study.run(progress=False, approaches=["both"], limit=1)
        dev = {str(case.input["text"]) for case in study.material.splits.dev}
        assert dev < models.unsure.texts
        assert len(models.unsure.texts - dev) == 1
        card = card_of(study)
        found[name] = (card["threshold"], card["calibration"])
    assert found["right"] == found["wrong"]


def with_test_labels(folder: Path, *, is_right: bool) -> Study:
    """The study with splits that the file names, and all labels of the test split right or all of them wrong."""
    rows = []
    for i, (text, label) in enumerate(ROWS):
        split = ("train", "dev", "test")[i % 3]
        other = LABELS[1 - LABELS.index(label)]
        rows.append((text, label if is_right or split != "test" else other, split))
    write_cases(folder / "cases.csv", rows, header=("text", "label", "split"))
    text = (folder / "study.yaml").read_text()
    (folder / "study.yaml").write_text(
        text.replace("cases: cases.csv", "cases: {file: cases.csv, split_column: split}")
    )
    return steelyard.load(folder)


def test_a_fixed_threshold_and_a_wanted_success_are_taken_as_they_are(tmp_path: Path, models: Models) -> None:
    fixed = steelyard.load(write(tmp_path / "fixed", models, cascade="first: small, then: big, below: 0.5"))
    fixed.run(progress=False, approaches=["both"], limit=1)
    assert card_of(fixed)["threshold"] == 0.5
    never = steelyard.load(write(tmp_path / "never", models, cascade="first: small, then: big, success: 1"))
    never.run(progress=False, approaches=["both"], limit=1)
    card = card_of(never)
    assert card["is_reached"] is False
    assert "no threshold reaches 100% on dev, this is the most successful one" in str(card["sentence"])
    chosen, curve = card["chosen"], card["curve"]
    assert isinstance(chosen, dict)
    assert isinstance(curve, list)
    assert chosen["success"] == max(point["success"] for point in curve)


def test_what_setting_it_cost_is_in_the_ledger_once(tmp_path: Path, models: Models) -> None:
    """As looking for a setting, like a search for a prompt, and in the budget like any call."""
    study = steelyard.load(write(tmp_path / "s", models))
    study.run(progress=False, approaches=["both"])
    dev = outcomes(study, "dev")
    usd = sum(one.cost_usd or 0.0 for some in dev.values() for one in some.values())
    with study._evidence(()) as (evidence, _):
        facts = evidence.facts["both"]
    assert facts.search_cost_usd == pytest.approx(usd)
    assert (facts.endpoint, facts.other_endpoints) == ("dear", ("stub",))
    assert facts.setup_cost_usd is not None
    poor = write(tmp_path / "poor", models)
    with pytest.raises(BudgetReached):
        steelyard.load(poor).run(progress=False, approaches=["both"], budget_usd=0.1)
    n = models.n_requests
    steelyard.load(poor).run(progress=False, approaches=["both"], limit=1)
    assert models.n_requests - n < 2 * N_DEV + 2


@pytest.mark.slow
def test_a_killed_run_goes_on_and_pays_once(tmp_path: Path, models: Models) -> None:
    """Killed while dev cases are asked or test cases: the same threshold, and no acknowledged call sent twice."""
    calm = steelyard.load(write(tmp_path / "calm", models, more=["run: {in_flight: 4}"]))
    calm.run(progress=False)
    n_calm = models.n_requests
    folder = write(tmp_path / "killed", models, more=["run: {in_flight: 4}"])
    source = random.Random(2)
    n_killed = 0
    for _ in range(3):
        before = models.n_requests
        run = subprocess.Popen(
            [sys.executable, "-m", "steelyard", "run", str(folder), "--quiet"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(os.environ),
        )
        stop_at = before + source.randrange(20, 80)
        while run.poll() is None and models.n_requests < stop_at:
            time.sleep(0.002)
        run.kill()
        n_killed += run.wait() != 0
    assert n_killed
    study = steelyard.load(folder)
    study.run(progress=False)
    assert models.n_requests - n_calm <= n_calm + n_killed * 8
    assert card_of(study)["threshold"] == card_of(calm)["threshold"]
    assert study.score().cascades[0].escalated == calm.score().cascades[0].escalated


def test_an_invalid_answer_goes_on_whatever_the_threshold_is(tmp_path: Path) -> None:
    with planted(invalid=0.3) as models:
        study = steelyard.load(write(tmp_path / "s", models, cascade="first: small, then: big, below: 0"))
        study.run(progress=False)
        found = outcomes(study, "test")
    for case_id, one in found["both"].items():
        was_invalid = found["small"][case_id].status is not OutcomeStatus.ANSWERED
        assert one.asked == (("small", "big") if was_invalid else ("small",))
        assert one.extra_calls == was_invalid
    assert any(one.retried for one in found["both"].values())


def test_commands_know_what_to_do_with_a_cascade(tmp_path: Path, models: Models) -> None:
    """check, an estimate, a race, score, decide, recheck and report; what needs a prompt of its own says what to do."""
    folder = write(tmp_path / "s", models)
    assert command_line("check", folder).code == 0
    estimate = command_line("run", folder, "--dry-run", "--approach", "both", "--json")
    rows = {one["name"]: one["first_calls"] for one in estimate.json["approaches"]}
    assert rows == {"small on dev": N_DEV, "big on dev": N_DEV, "small at most": N_TEST, "big at most": N_TEST}
    assert models.n_requests == 0
    assert command_line("run", folder, "--race").code == 0
    scored = command_line("score", folder, "--json")
    (use,) = scored.json["cascades"]
    assert (use["name"], use["first"], use["then"]) == ("both", "small", "big")
    assert sum(use["answered_by"].values()) == use["n"]
    assert "went on from small to big" in command_line("score", folder).out
    assert command_line("decide", folder).code == 0
    assert command_line("recheck", folder).code == 0
    assert command_line("report", folder, "--format", "md").code == 0
    said = (folder / ".steelyard" / "report.md").read_text()
    assert "went on from small to big" in said
    for command in ("optimise", "tune"):
        refused = command_line(command, folder, "--approach", "both")
        assert refused.code == 2
        assert "small, big" in refused.err


def test_a_price_that_changed_is_counted_at_both_endpoints(tmp_path: Path, models: Models) -> None:
    """`recheck` prices the calls of both members again."""
    folder = write(tmp_path / "s", models)
    study = steelyard.load(folder)
    study.run(progress=False)
    before = {one.approach: one for one in study.decide().verdict.economics.ledgers}["both"].cost_per_success_usd.value
    text = (folder / "study.yaml").read_text()
    for price in ("input: 1.0, output: 2.0", "input: 100, output: 200"):
        assert price in text
        text = text.replace(price, "input: 10000, output: 20000")
    (folder / "study.yaml").write_text(text)
    after = steelyard.load(folder).recheck().verdict.economics.ledgers
    found = {one.approach: one for one in after}["both"].cost_per_success_usd.value
    assert before is not None
    assert found is not None
    assert found > 3 * before


def test_a_change_of_a_member_makes_the_cascade_outdated(tmp_path: Path, models: Models) -> None:
    folder = write(tmp_path / "s", models)
    steelyard.load(folder).run(progress=False, approaches=["both"], limit=2)
    text = (folder / "study.yaml").read_text()
    (folder / "study.yaml").write_text(text.replace("big: {model: dear}", "big: {model: dear, prompt: {examples: 1}}"))
    assert any("changed after both ran" in note for note in steelyard.load(folder).score().notes)


def test_too_few_dev_cases_and_a_model_without_probabilities_are_said(tmp_path: Path, models: Models) -> None:
    few = steelyard.load(write(tmp_path / "few", models, n=60))
    with pytest.raises(InputError, match="at least 20, and there are 12"):
        few.run(progress=False, approaches=["both"])
    silent = write(tmp_path / "silent", models, cascade="first: mute, then: big")
    text = (silent / "study.yaml").read_text()
    (silent / "study.yaml").write_text(
        text.replace("approaches:\n", "approaches:\n  mute: {model: dear, prompt: {confidence: true}}\n")
    )
    with pytest.raises(InputError, match="said of none of 80 dev cases how sure it is"):
        steelyard.load(silent).run(progress=False, approaches=["both"])
    assert json.loads(command_line("run", silent, "--dry-run", "--json").out)["first_calls"] > 0


def test_a_chain_of_three_is_set_from_its_end(tmp_path: Path, models: Models) -> None:
    """A cascade may go on to a cascade, which is ready first."""
    folder = write(tmp_path / "s", models)
    text = (folder / "study.yaml").read_text()
    more = "  again: {model: stub, prompt: {confidence: true, examples: 1}}\n"
    chain = "  chain: {cascade: {first: again, then: both}}\n"
    (folder / "study.yaml").write_text(text.replace("approaches:\n", f"approaches:\n{chain}{more}"))
    study = steelyard.load(folder)
    study.run(progress=False, approaches=["chain"], limit=20)
    (use,) = study.score().cascades
    assert use.approach == "chain"
    assert set(use.answered_by) <= {"again", "small", "big"}
