"""Labels from a teacher, from the command to the ledger."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import steelyard
from steelyard.engine.journal import Journal
from steelyard.errors import InputError
from steelyard.models import embeddings
from steelyard.models.stub_server import StubServer
from steelyard.study import local_model
from steelyard.study.distilling import distill
from steelyard.study.scoring import journal_path
from steelyard.study.study import Study
from tests.cli.tickets import Ran, serving, ticket_rows, write_cases, write_study
from tests.cli.tickets import steelyard as command_line

N_UNLABELLED = 12
TEACHER = "big: {model: stub}"
STUDENT = "student: {model: none, tuning: {method: head}}"
GROWN = "distilled.jsonl"


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model, "embedder", lambda say: embeddings.HashingEmbedder())


@pytest.fixture
def stub() -> Iterator[StubServer]:
    """A model that says `billing`."""
    with serving(reply="billing") as server:
        yield server


def rows(n_unlabelled: int = N_UNLABELLED) -> list[tuple[str, str]]:
    labelled = ticket_rows(80 + n_unlabelled)
    return [(text, label if i < 80 else "") for i, (text, label) in enumerate(labelled)]


def write(
    folder: Path,
    stub: StubServer,
    *approaches: str,
    cases: Sequence[Sequence[str]] | None = None,
    **more: Any,  # noqa: ANN401 - as for `write_study`
) -> Path:
    written = write_study(folder / "study", stub.url, rows=cases or rows(), approaches=approaches, **more)
    study = written / "study.yaml"
    text = study.read_text(encoding="utf-8")
    study.write_text(text.replace("cases: cases.csv", f"cases: {{file: cases.csv, distilled: {GROWN}}}"), "utf-8")
    return written


def grow(folder: Path, *arguments: object, teacher: str = "big") -> Ran:
    return command_line("distill", folder, "--teacher", teacher, "--quiet", *arguments)


def grown(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / GROWN).read_text(encoding="utf-8").splitlines()]


def splits_asked(study: Study) -> set[str]:
    with Journal.open(journal_path(study.folder), read_only=True) as journal:
        return {row["split"] for row in journal.measurements()}


# ---- from the teacher to the ledger ----------------------------------------------------------------------------------


def test_answers_become_labels_that_a_student_learns_and_pays_for(tmp_path: Path, stub: StubServer) -> None:
    """Counted apart in check, audit, card and report; the teacher's calls are a line of the ledger's setup."""
    folder = write(tmp_path, stub, TEACHER, STUDENT)
    before = command_line("tune", folder, "--approach", "student", "--json", "--quiet").json
    ran = grow(folder, "--json").json
    assert (ran["schema"], ran["n_asked"], ran["n_accepted"]) == ("steelyard.distilled/1", 12, 12)
    assert stub.n_requests == 12
    first = grown(folder)[0]
    assert (first["origin"], first["teacher"], first["licence"]) == ("distilled", "big", "unknown")
    assert first["expected"] == {"label": "billing"}
    assert sum(line["cost_usd"] for line in grown(folder)) == pytest.approx(ran["cost_usd"])

    checked = command_line("check", folder, "--json").json
    assert checked["n_distilled"] == {"big": 12}
    assert sum(checked["n_by_split"].values()) == 80
    assert "12 distilled from 'big', for training alone" in command_line("check", folder).out
    audited = command_line("tune", folder, "--approach", "student", "--audit", "--quiet").out
    assert "48 labelled train cases, 12 distilled from 'big'" in audited

    after = command_line("tune", folder, "--approach", "student", "--json", "--quiet").json
    assert after["fingerprint"] != before["fingerprint"]
    facts = after["card"]["distilled"]
    assert (facts["n"], facts["n_by_people"], facts["licences"]) == (12, 48, {"big": ["unknown"]})
    shown = command_line("tune", folder, "--approach", "student", "--quiet").out
    assert "labels: 48 by people, 12 distilled from 'big'" in shown
    assert "a vendor's terms may forbid training on its answers" in shown

    study = steelyard.load(folder)
    study.run(approaches=["student"], progress=False)
    report = study.render_report("md")
    assert "12 distilled" in report
    assert "Labels from a teacher" in study.render_report("csv")
    with Journal.open(journal_path(folder), read_only=True) as journal:
        setup = journal.preparation("student", after["fingerprint"])
    assert setup is not None
    assert setup.n_examples == 48  # nobody labelled the others
    assert setup.card is not None
    assert setup.card["distilled"]["cost_usd"] == pytest.approx(ran["cost_usd"])


def test_the_teacher_is_never_asked_about_dev_or_test(tmp_path: Path, stub: StubServer) -> None:
    """An endpoint costs money, so only what is to be labelled is asked; near-duplicates of held-out cases are not."""
    cases = rows(2)
    held_out = steelyard.load(write(tmp_path / "a", stub, TEACHER, cases=cases)).material.splits
    copies = [(case.input["text"].upper(), "") for case in (*held_out.dev, *held_out.test)]
    folder = write(tmp_path / "b", stub, TEACHER, cases=[*cases, *copies])
    ran = grow(folder, "--json").json
    study = steelyard.load(folder)
    assert ran["n_asked"] == 2 == stub.n_requests
    assert ran["left_out"] == {"like a dev or test case": len(copies)}
    assert splits_asked(study) == {"train"}
    assert ran["dev_success"]["value"] is None
    assert "never asked about labelled dev cases" in ran["dev_success"]["unknown_because"]


def test_what_resembles_a_test_case_is_left_out_of_a_file_made_elsewhere(tmp_path: Path, stub: StubServer) -> None:
    folder = write(tmp_path, stub, TEACHER, STUDENT)
    grow(folder)
    line = grown(folder)[0]
    test_text = steelyard.load(folder).material.splits.test[0].input["text"]
    more = json.dumps({**line, "id": "sneaky", "input": {"text": test_text + "!"}})
    (folder / GROWN).write_text((folder / GROWN).read_text() + more + "\n", encoding="utf-8")
    found = command_line("check", folder, "--json").json
    assert found["n_distilled"] == {"big": 12}
    assert f"1 lines of {GROWN} are left out: like a dev or test case" in found["notes"]


def test_weight_0_leaves_them_out_and_other_approaches_do_not_see_them(tmp_path: Path, stub: StubServer) -> None:
    """Only tuning learns from them; the same labels give the same head, whether or not there are others beside."""
    without = "without: {model: none, tuning: {method: head, distilled: 0}}"
    half = "half: {model: none, tuning: {method: head, distilled: 0.5}}"
    nearest = "nearest: {model: none, retrieval: {examples: 1}}"
    folder = write(tmp_path, stub, TEACHER, STUDENT, without, half, nearest)
    study = steelyard.load(folder)
    study.run(approaches=["student", "without", "half", "nearest"], progress=False)
    before = fingerprints(study)
    grow(folder)
    again = steelyard.load(folder)
    again.run(approaches=["student", "without", "half", "nearest"], progress=False)
    after = fingerprints(again)
    assert before["student"] == before["half"] == before["without"]
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"student", "half"}
    assert after["student"] != after["half"]


def fingerprints(study: Study) -> dict[str, str]:
    with Journal.open(journal_path(study.folder), read_only=True) as journal:
        return {name: one["fingerprint"] for name, one in journal.runs()[-1].study["approaches"].items()}


def test_licence_of_an_endpoint_lands_on_the_card(tmp_path: Path, stub: StubServer) -> None:
    noted = "max_retries: 0, timeout_s: 5, licence: 'terms of 2025-03: training allowed'"
    folder = write(tmp_path, stub, TEACHER, STUDENT, endpoint=noted)
    out = grow(folder).out
    assert "licence of the answers: terms of 2025-03: training allowed" in out
    assert "may forbid" not in out
    shown = command_line("tune", folder, "--approach", "student", "--quiet").out
    assert "licence of distilled labels: terms of 2025-03: training allowed ('big')" in shown


def test_a_teacher_without_calls_shows_how_often_it_is_right_on_dev(tmp_path: Path, stub: StubServer) -> None:
    """It costs nothing, so dev is looked at; test never is."""
    folder = write(tmp_path, stub, "nearest: {model: none, retrieval: {examples: 3}}")
    ran = grow(folder, "--json", teacher="nearest").json
    assert ran["dev_success"]["n"] == 16
    assert ran["dev_success"]["low"] < ran["dev_success"]["value"] < ran["dev_success"]["high"]
    assert ran["licence"].startswith("none but that of the study's own labels")
    assert splits_asked(steelyard.load(folder)) == {"train", "dev"}
    assert stub.n_requests == 0


# ---- terms of acceptance ---------------------------------------------------------------------------------------------


def test_answers_that_break_the_schema_are_no_labels(tmp_path: Path) -> None:
    with serving(reply="nonsense") as stub:
        ran = grow(write(tmp_path, stub, TEACHER), "--json").json
    assert (ran["n_accepted"], ran["n_rejected"], ran["n_to_review"]) == (0, 12, 0)


def test_confidence_decides_and_the_rest_waits_for_a_person(tmp_path: Path, stub: StubServer) -> None:
    """With three votes a confidence is 2/3 or 1; a stricter term takes labels back, without asking again."""
    folder = write(tmp_path, stub, "nearest: {model: none, retrieval: {examples: 3}}")
    loose = grow(folder, "--accept", "confident:0.5", "--json", teacher="nearest").json
    strict = grow(folder, "--accept", "confident:0.9", "--json", teacher="nearest").json
    assert loose["n_accepted"] == 12 == loose["n_in_file"]
    assert 0 < strict["n_accepted"] == strict["n_in_file"] < 12
    assert strict["n_to_review"] == 12 - strict["n_accepted"]
    assert all(line["confidence"] >= 0.9 for line in grown(folder))


def test_a_teacher_without_confidence_is_refused_after_one_call(tmp_path: Path, stub: StubServer) -> None:
    ran = grow(write(tmp_path, stub, TEACHER), "--accept", "confident:0.9")
    assert ran.code == 2
    assert "'big' does not say how sure it is" in ran.err
    assert stub.n_requests == 1


def test_repeats_must_agree(tmp_path: Path, stub: StubServer) -> None:
    folder = write(tmp_path, stub, "big: {model: stub, prompt: {temperature: 0.7}}")
    ran = grow(folder, "--accept", "agree:3", "--limit", 4, "--json").json
    assert (ran["n_accepted"], stub.n_requests) == (4, 12)
    assert grown(folder)[0]["accepted_by"] == "agree:3"


# ---- budget and interruptions ----------------------------------------------------------------------------------------


def test_a_budget_is_a_ceiling_and_keeps_what_was_paid_for(tmp_path: Path, stub: StubServer) -> None:
    """The labels there are by then are kept; with more money the same command asks only the others."""
    folder = write(tmp_path, stub, TEACHER, more=("run: {in_flight: 1}",))
    price = grow(folder, "--limit", 2, "--json").json["cost_usd"] / 2
    # The most a call can cost is several times what it does cost: room for a few more, and not for all.
    ceiling = steelyard_ceiling(folder, price)
    ran = grow(folder, "--budget", ceiling, "--json")
    assert ran.code == 0, ran.err
    found = ran.json
    assert "budget" in found["ended"]
    assert 2 <= found["n_accepted"] < 12
    assert found["cost_usd"] <= ceiling
    n = stub.n_requests
    assert grow(folder, "--json").json["n_accepted"] == 12
    assert stub.n_requests == 12 >= n


def steelyard_ceiling(folder: Path, price: float) -> float:
    """Money for the dearest call after a few usual ones."""
    with pytest.raises(Exception, match="could cost up to") as caught:
        steelyard_distill(folder, 2.2 * price)
    dearest = float(str(caught.value).rsplit("up to ", 1)[1].split(" USD")[0])
    return dearest + 4 * price


def steelyard_distill(folder: Path, budget_usd: float) -> None:
    found = distill(steelyard.load(folder), "big", budget_usd=budget_usd, progress=False)
    raise AssertionError(found.ended)


def test_without_money_for_a_single_answer_nothing_is_written(tmp_path: Path, stub: StubServer) -> None:
    folder = write(tmp_path, stub, TEACHER)
    ran = grow(folder, "--budget", "0")
    assert ran.code == 1
    assert "budget" in ran.err
    assert stub.n_requests == 0
    assert not (folder / GROWN).exists()


def test_killed_and_resumed_it_pays_for_each_answer_once(tmp_path: Path) -> None:
    with serving(reply="billing", latency_s=0.1) as stub:
        folder = write(tmp_path, stub, TEACHER, more=("run: {in_flight: 1}",))
        arguments = [sys.executable, "-m", "steelyard", "distill", str(folder), "--teacher", "big", "--quiet"]
        process = subprocess.Popen(arguments, env=dict(os.environ), stdout=subprocess.DEVNULL)
        while stub.n_requests < 4:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        assert grow(folder, "--json").json["n_accepted"] == 12
        # The one in flight when it was killed may have been answered to nobody.
        assert 12 <= stub.n_requests <= 13
        n = stub.n_requests
        assert grow(folder, "--json").json["spent_usd"] == 0
        assert stub.n_requests == n


# ---- review ----------------------------------------------------------------------------------------------------------

HOSTILE = '=HYPERLINK("http://x","y"), \u202e@SUM(1)\nplease'


def test_a_review_list_goes_there_and_back_with_hostile_text(tmp_path: Path, stub: StubServer) -> None:
    """No cell is a formula; yes, no, corrections and blanks are taken as said; nothing is asked again."""
    folder = write(tmp_path, stub, TEACHER, cases=[(HOSTILE, ""), *rows(4)])
    ran = grow(folder, "--accept", "review", "--json").json
    assert (ran["n_accepted"], ran["n_to_review"]) == (0, 5)
    path = Path(ran["review_file"])
    table = read_table(path)
    assert table[0]["input"] == "'" + '=HYPERLINK("http://x","y"), ⟨U+202E⟩@SUM(1) ⏎ please'
    assert all(not cell.lstrip().startswith(("=", "+", "-", "@")) for row in table for cell in row.values())

    for row, accept, correct in zip(
        table, ("yes", "NO", "", "", ""), ("", "", "delivery", "'delivery", ""), strict=True
    ):
        row |= {"accept": accept, "correct": correct}
    write_table(path, table)
    grow(folder, "--accept", "review")  # writing the list again keeps what was filled in
    n = stub.n_requests
    taken = grow(folder, "--accepted", path, "--json").json
    assert stub.n_requests == n
    assert (taken["n_asked"], taken["n_accepted"], taken["n_rejected"], taken["n_corrected"]) == (4, 3, 1, 2)
    assert [line["expected"]["label"] for line in grown(folder)] == ["billing", "delivery", "delivery"]
    assert grown(folder)[0]["input"]["text"] == HOSTILE
    assert [line["accepted_by"] for line in grown(folder)] == ["reviewer", *["reviewer, corrected"] * 2]
    assert sum(line["cost_usd"] for line in grown(folder)) == pytest.approx(ran["cost_usd"])


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def write_table(path: Path, table: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"accept": "perhaps"}, "accept", "is no decision"),
        ({"accept": "yes", "case_id": "nobody"}, "case_id", "no answer to a case 'nobody'"),
        ({"accept": "yes", "given": "delivery"}, "given", "is not the one that was reviewed"),
        ({"accept": "yes", "correct": "=cmd()"}, "correct", "is no right answer"),
        ({"accept": "no", "correct": "delivery"}, "correct", "turned down and corrected"),
    ],
)
def test_a_wrong_mark_is_named_with_line_and_column(
    tmp_path: Path, stub: StubServer, change: dict[str, str], field: str, said: str
) -> None:
    folder = write(tmp_path, stub, TEACHER, cases=rows(3))
    path = Path(grow(folder, "--accept", "review", "--json").json["review_file"])
    table = read_table(path)
    table[1] |= change
    write_table(path, table)
    ran = grow(folder, "--accepted", path)
    assert ran.code == 2
    assert f"big.review.csv:3:{field}: " in ran.err
    assert said in ran.err
    assert not (folder / GROWN).exists()


def test_a_list_without_marks_or_columns_is_refused(tmp_path: Path, stub: StubServer) -> None:
    folder = write(tmp_path, stub, TEACHER, cases=rows(3))
    path = Path(grow(folder, "--accept", "review", "--json").json["review_file"])
    assert "no row of the review list is marked" in grow(folder, "--accepted", path).err
    other = tmp_path / "other.csv"
    other.write_text("case_id,given\na,b\n", encoding="utf-8")
    assert "other.csv:1: there is no column 'accept'" in grow(folder, "--accepted", other).err


# ---- inputs from elsewhere, and what is refused ----------------------------------------------------------------------


def test_inputs_of_another_file_are_labelled(tmp_path: Path, stub: StubServer) -> None:
    """They need the input columns alone, and add to what was distilled before."""
    folder = write(tmp_path, stub, TEACHER)
    grow(folder)
    inputs = tmp_path / "more.csv"
    write_cases(inputs, [(f"a parcel number {i} of week {i * 7}",) for i in range(3)], header=("text",))
    ran = grow(folder, "--inputs", inputs, "--json").json
    assert (ran["n_accepted"], ran["n_in_file"]) == (3, 15)
    assert [line["id"] for line in grown(folder)][-3:] == ["more.csv:row-1", "more.csv:row-2", "more.csv:row-3"]
    write_cases(inputs, [("x",)], header=("message",))
    wrong = grow(folder, "--inputs", inputs)
    assert wrong.code == 2
    assert "more.csv" in wrong.err
    assert "'text'" in wrong.err


@pytest.mark.parametrize(
    ("approach", "arguments", "said"),
    [
        ("big: {model: stub}", ("--accept", "often"), "there is no way to accept called 'often'"),
        ("big: {model: stub}", ("--accept", "agree:1"), "there is no way to accept"),
        ("big: {model: stub}", ("--accept", "confident:nan"), "there is no way to accept"),
        ("big: {model: stub}", ("--accept", "agree:3"), "study.yaml:approaches.big.prompt.temperature: "),
        ("big: {model: none, retrieval: {examples: 1}}", ("--accept", "agree:3"), "it calls no model"),
        ("big: {model: none, tuning: {method: head}}", (), "it would be trained on its own answers"),
    ],
)
def test_teachers_and_terms_that_make_no_sense_are_refused(
    tmp_path: Path, stub: StubServer, approach: str, arguments: tuple[str, ...], said: str
) -> None:
    ran = grow(write(tmp_path, stub, approach), *arguments)
    assert ran.code == 2
    assert said in ran.err
    assert "hint: " in ran.err
    assert stub.n_requests == 0


def test_a_cascade_does_not_teach(tmp_path: Path, stub: StubServer) -> None:
    """Its two members may have two licences."""
    nearest = "nearest: {model: none, retrieval: {examples: 3}}"
    both = "both: {cascade: {first: nearest, then: big}}"
    ran = grow(write(tmp_path, stub, TEACHER, nearest, both), teacher="both")
    assert ran.code == 2
    assert "study.yaml:approaches.both: " in ran.err
    assert "let 'nearest' or 'big' teach" in ran.err


def test_a_ceiling_does_not_teach(tmp_path: Path, stub: StubServer) -> None:
    """It is shown the gold passages of a case, and an unlabelled input has none."""
    ceiling = "gold: {model: stub, retrieval: {knowledge: gold}}"
    folder = write(tmp_path, stub, ceiling, more=("knowledge: docs",))
    (folder / "docs").mkdir()
    (folder / "docs" / "a.md").write_text("# Bills\n\nBills are paid.", encoding="utf-8")
    ran = grow(folder, teacher="gold")
    assert ran.code == 2
    assert "study.yaml:approaches.gold: a ceiling is shown the gold passages" in ran.err
    assert stub.n_requests == 0


def test_without_unlabelled_cases_there_is_nothing_to_ask(tmp_path: Path, stub: StubServer) -> None:
    ran = grow(write(tmp_path, stub, TEACHER, cases=rows(0)))
    assert ran.code == 2
    assert "cases.csv: all 80 cases have an expected output" in ran.err
    assert "--inputs FILE" in ran.err


def test_an_unknown_teacher_is_refused_with_those_there_are(tmp_path: Path, stub: StubServer) -> None:
    ran = grow(write(tmp_path, stub, TEACHER), teacher="bigg")
    assert ran.code == 2
    assert "'bigg'" in ran.err


def test_a_label_that_breaks_the_schema_is_named(tmp_path: Path, stub: StubServer) -> None:
    folder = write(tmp_path, stub, TEACHER, STUDENT)
    grow(folder)
    text = (folder / GROWN).read_text(encoding="utf-8").replace('"label":"billing"', '"label":"gone"', 1)
    (folder / GROWN).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="breaks the output schema") as caught:
        _ = steelyard.load(folder).material
    assert caught.value.problems[0].where == f"{GROWN}:1:expected"
