"""`recheck`: whether the last verdict stands, and the history of verdicts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

import steelyard
from steelyard.errors import InputError
from steelyard.study.history import HISTORY_FILE, read_history
from tests.cli.tickets import serving, ticket_rows, write_cases, write_study
from tests.cli.tickets import steelyard as command_line

PRICE = "{input: 1000, output: 1000, source: 'https://prices.example.com', as_of: 2026-11-01}"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Two equally good models, one dearer; `dear` costs more a call, so `cheap` is chosen."""
    with serving(reply="billing") as one, serving(reply="billing") as other:
        made = write_study(
            tmp_path / "study",
            one.url,
            price=PRICE,
            others=[f"other: {{base_url: '{other.url}', model: m2, price_per_million: {{input: 3000, output: 3000}}}}"],
            approaches=["cheap: {model: stub}", "dear: {model: other}"],
            more=["money: {volume_per_month: 10000, review_share: 0}", "goal: {min_success: 0.3}"],
        )
        steelyard.load(made).run(progress=False)
        yield made


def edit(folder: Path, old: str, new: str) -> None:
    file = folder / "study.yaml"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def kept(folder: Path) -> list[dict[str, object]]:
    path = folder / ".steelyard" / HISTORY_FILE
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_verdict_is_kept_once_and_stands_while_nothing_changes(folder: Path) -> None:
    study = steelyard.load(folder)
    assert study.decide().verdict.choice == "cheap"
    study.decide()
    assert [one["kind"] for one in kept(folder)] == ["decide"]
    done = command_line("recheck", folder)
    assert done.code == 0
    assert "stands: take cheap" in done.out.replace("\n", " ")
    assert command_line("recheck", folder, "--json").json["changes"] == []


def test_without_a_verdict_there_is_nothing_to_recheck(folder: Path) -> None:
    done = command_line("recheck", folder)
    assert done.code == 2
    assert "steelyard decide" in done.err


def test_todays_price_is_put_on_the_journalled_tokens_and_may_turn_the_verdict(folder: Path) -> None:
    """A price that rises tenfold makes the other model the choice; the message names the field and both prices."""
    steelyard.load(folder).decide()
    edit(folder, "input: 1000, output: 1000", "input: 10000, output: 10000")
    found = steelyard.load(folder).recheck()
    assert not found.stands
    assert found.verdict.choice == "dear"
    assert "models.endpoints.stub.price_per_million went from 1,000 in, 1,000 out to 10,000 in" in found.sentence
    (change,) = found.changes
    assert change.turns
    with steelyard.load(folder)._evidence(()) as (evidence, _):
        cheap = evidence.results["cheap"]
    per_task = cheap.own_s / 3600 * 0.05 + (cheap.prompt_tokens + cheap.completion_tokens) * 10_000 / 1e6
    lines = {one.approach: one.lines for one in found.verdict.economics.ledgers}["cheap"]
    calls = next(line.usd_per_month.value for line in lines if line.name == "model_calls")
    assert calls == pytest.approx(float(per_task.mean()) * 10_000, rel=1e-9)
    assert command_line("recheck", folder).code == 1


def test_each_change_is_tried_alone(folder: Path) -> None:
    """Volume and price changed; only the price turns the choice, and the sentence says so."""
    steelyard.load(folder).decide()
    edit(folder, "volume_per_month: 10000", "volume_per_month: 9000")
    edit(folder, "input: 1000, output: 1000", "input: 10000, output: 10000")
    found = steelyard.load(folder).recheck()
    alone = {change.name: (change.choice, change.turns) for change in found.changes}
    assert alone["money.volume_per_month"] == ("cheap", False)
    assert alone["models.endpoints.stub.price_per_million"] == ("dear", True)
    assert "volume_per_month" not in found.sentence


def test_a_retired_model_is_out_and_one_to_be_retired_is_announced(folder: Path) -> None:
    steelyard.load(folder).decide()
    edit(folder, "max_retries: 0", "max_retries: 0, retired_on: 2026-12-31")
    study = steelyard.load(folder)
    soon = study.recheck(as_of=date(2026, 12, 1))
    assert soon.stands
    assert any("retired on 2026-12-31, in 30 days" in warning for warning in soon.warnings)
    gone = study.recheck(as_of=date(2026, 12, 31))
    assert gone.verdict.choice == "dear"
    assert "the model of stub is retired since 2026-12-31" in gone.sentence


def test_an_old_price_names_the_page_to_check(folder: Path) -> None:
    study = steelyard.load(folder)
    study.decide()
    found = study.recheck(as_of=date(2027, 6, 1))
    assert found.stands
    assert any("https://prices.example.com" in warning for warning in found.warnings)


def test_an_accepted_verdict_is_the_one_to_stand(folder: Path) -> None:
    """After --accept today's prices are those of the verdict; nothing has changed since."""
    steelyard.load(folder).decide()
    edit(folder, "input: 1000, output: 1000", "input: 10000, output: 10000")
    assert command_line("recheck", folder, "--accept").code == 0
    found = steelyard.load(folder).recheck()
    assert found.stands
    assert found.changes == ()
    edit(folder, "input: 10000, output: 10000", "input: 1000, output: 1000")
    assert steelyard.load(folder).recheck().verdict.choice == "cheap"
    listed = command_line("recheck", folder, "--history").out
    assert [line.split()[1] for line in listed.splitlines() if line[:2] == "20"][:2] == ["decide", "accepted"]


def test_new_cases_are_announced_and_their_outcomes_told(folder: Path) -> None:
    """Forty more tickets: first some are not done; once they are, the outcomes are named as what changed."""
    steelyard.load(folder).decide()
    write_cases(folder / "cases.csv", ticket_rows(100))
    study = steelyard.load(folder)
    before = study.recheck()
    assert before.stands
    assert before.changes == ()
    assert any("test cases were not done yet" in warning for warning in before.warnings)
    study.run(progress=False)
    after = study.recheck()
    assert [change.name for change in after.changes] == ["outcomes"]
    assert "cheap did 12 cases and now" in after.changes[0].sentence
    assert not any("not done" in warning for warning in after.warnings)


def test_the_history_changes_no_report(folder: Path) -> None:
    study = steelyard.load(folder)
    before = study.render_report()
    study.decide()
    study.recheck()
    assert steelyard.load(folder).render_report() == before


def test_a_torn_line_costs_only_itself_and_many_processes_may_append(folder: Path) -> None:
    """A process killed in the middle of a line, then eight at once: every whole line is read."""
    study = steelyard.load(folder)
    study.decide()
    path = folder / ".steelyard" / HISTORY_FILE
    with path.open("ab") as file:
        file.write(b'{"schema": "steelyard.verdict-record/1", "kind": "dec')
    code = (
        "import sys; from dataclasses import replace; from pathlib import Path;"
        "from steelyard.study.history import keep, read_history; path = Path(sys.argv[1]);"
        "[keep(path, replace(read_history(path)[0], sentence=f'{sys.argv[2]} {i}')) for i in range(20)]"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(path), str(n)]) for n in range(3)]
    assert [one.wait(timeout=60) for one in running] == [0, 0, 0]
    sentences = {one.sentence for one in read_history(path)}
    assert {f"{n} {i}" for n in range(3) for i in range(20)} < sentences
    assert len(read_history(path)) == 61


def test_a_folder_that_cannot_be_written_still_gives_its_verdict(folder: Path) -> None:
    """The history is a folder of that name here, so nothing can be appended; the verdict says so and is there."""
    (folder / ".steelyard" / HISTORY_FILE).mkdir()
    decision = steelyard.load(folder).decide()
    assert decision.verdict.choice == "cheap"
    assert any("not kept" in note for note in decision.notes)


# ---- imported outcomes ----------------------------------------------------------------------------------------------


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    """`b` succeeds more often and is dear to run; what a failed task costs decides."""
    file = tmp_path / "results.csv"
    lines = ["approach,case_id,success,cost_usd,levers"]
    lines += [f"a,c{i},{int(i % 10 > 1)},0.001,prompt" for i in range(400)]
    lines += [f"b,c{i},{int(i % 50 > 0)},0.05,workflow" for i in range(400)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    folder = tmp_path / "imported"
    assert command_line("import", "outcomes", file, "-o", folder).code == 0
    return folder


def test_an_imported_folder_keeps_its_verdicts_too(imported: Path) -> None:
    """What a failed task costs is written into settings.yaml, and the choice turns."""
    assert command_line("decide", imported, "--json").json["choice"] == "a"
    assert len(read_history(imported / HISTORY_FILE)) == 1
    settings = imported / "settings.yaml"
    text = settings.read_text(encoding="utf-8").replace("money: {}", "money: {failed_task_usd: 2.0}")
    settings.write_text(text, encoding="utf-8")
    done = command_line("recheck", imported, "--json")
    assert done.code == 1
    assert done.json["schema"] == "steelyard.recheck/1"
    assert done.json["now"]["choice"] == "b"
    assert "money.failed_task_usd went from 0 to 2" in done.json["sentence"]


def test_nothing_is_kept_for_a_bare_file(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    lines = ["approach,case_id,success,cost_usd"] + [f"{name},c{i},1,0.1" for name in "ab" for i in range(30)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert command_line("decide", "--outcomes", file).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


def test_an_unrun_study_has_no_verdict(tmp_path: Path) -> None:
    study = steelyard.load(write_study(tmp_path / "study", "http://127.0.0.1:9/v1"))
    with pytest.raises(InputError, match="no verdict"):
        study.recheck()
