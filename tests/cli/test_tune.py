"""`steelyard tune`: from labelled cases to a card, a review list and files to take away."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from steelyard.approaches.prepare import prepare
from steelyard.approaches.prompted import Prompted
from steelyard.engine.journal import Journal
from steelyard.errors import InputError
from steelyard.models import embeddings
from steelyard.study import local_model
from steelyard.study.running import plan_run, workbench
from steelyard.study.study import load_study
from steelyard.study.talk import Talk
from steelyard.study.trainable import refuse_untrainable
from steelyard.study.tuning_ground import deployed_prompting
from tests.approaches.tiny_llama import write_tiny_gguf
from tests.cli.tickets import Ran, steelyard, ticket_rows, write_cases

STUDY = """
study: tickets
cases: cases.csv
task: {input: text, expected: label, labels: [billing, delivery]}
models: {local: {gguf: tiny.gguf}}
approaches:
  lora: {tuning: {method: lora, layers: 2, rank: 4, max_tokens: 512, guard: 0}}
  lora with neighbours: {retrieval: {examples: 2}, tuning: {method: lora, layers: 2, rank: 4, max_tokens: 1024, guard: 0}}
  head: {model: none, tuning: {method: head}}
  zero-shot: {}
"""


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model, "embedder", lambda say: embeddings.HashingEmbedder())


def write(folder: Path, rows: Sequence[Sequence[str]] | None = None, study: str = STUDY) -> Path:
    folder.mkdir(exist_ok=True)
    write_tiny_gguf(folder / "tiny.gguf")
    write_cases(folder / "cases.csv", rows or ticket_rows(120))
    (folder / "study.yaml").write_text(study, encoding="utf-8")
    return folder


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    return write(tmp_path / "study")


def tune(folder: Path, approach: str, *arguments: object) -> Ran:
    return steelyard("tune", folder, "--approach", approach, "--quiet", *arguments)


# ---- the card --------------------------------------------------------------------------------------------------------


def test_a_lora_is_trained_once_and_shows_its_card(tickets: Path) -> None:
    """Base, licence, digest, counts, settings, curves, time and money; the second time it is found."""
    ran = tune(tickets, "lora")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("lora: trained, in ")
    for said in (
        " CPU hours), for ",
        "base model: Tiny Llama (apache-2.0, SHA-256 ",
        "trained on: 65",
        "validated on: 7",
        "data digest: ",
        "rank 4, alpha 16.0",
        "training loss: ",
        "validation at step ",
        "parity: not measured yet",
    ):
        assert said in ran.out
    assert "next: steelyard run" in ran.err
    again = tune(tickets, "lora", "--json").json
    assert (again["schema"], again["reused"], again["parity"], again["test"]) == ("steelyard.tune/1", True, None, None)
    assert again["card"]["n_train"] == 65
    assert again["seconds"] >= again["card"]["seconds"] > 0
    assert again["cost_usd"] > 0


def test_a_card_says_how_labels_were_balanced_and_where_training_went_on(tmp_path: Path) -> None:
    """Both only where it was so."""
    folder = write(tmp_path / "study", study=STUDY.replace("rank: 4, max_tokens: 512", "balance: weight"))
    shown = tune(folder, "lora").out
    assert "labels balanced (weight): from " in shown
    assert "went on from step" not in shown
    (card,) = (folder / ".steelyard" / "prepared").glob("lora-*/card.json")
    card.write_text(card.read_text().replace('"resumed_at": []', '"resumed_at": [50, 1100]'))
    assert "was stopped, and went on from step 50, 1,100" in tune(folder, "lora").out


def test_a_head_shows_what_was_tried(tickets: Path) -> None:
    ran = tune(tickets, "head")
    assert ran.code == 0, ran.err
    assert ran.out.count("on dev, linear with C = ") == 5
    assert "None" not in ran.out


# ---- the audit -------------------------------------------------------------------------------------------------------


def test_the_audit_reports_and_writes_the_review_list(tmp_path: Path) -> None:
    """Lengths, repeats, labels, personal data; nothing is trained, and no cell of the list is a formula."""
    text = "=cmd|' /C calc'!A0 please write to me@example.org about the late parcel of last week and the refund"
    rows = [
        *ticket_rows(120),
        *([f"{text} {word}", label] for word, label in (("now", "billing"), ("soon", "delivery"))),
    ]
    declared = [[*row, "train" if i < 80 or i >= 120 else "test"] for i, row in enumerate([*rows, rows[0]])]
    folder = tmp_path / "study"
    write(folder, study=STUDY.replace("cases: cases.csv", "cases: {file: cases.csv, split_column: split}"))
    write_cases(folder / "cases.csv", declared, header=("text", "label", "split"))
    ran = tune(folder, "lora", "--audit")
    assert ran.code == 0, ran.err
    assert "1 repeat another" in ran.out
    assert "max_tokens 512, context 2,048" in ran.out
    assert "personal data: 2 × email in 2 cases" in ran.out
    assert not (folder / ".steelyard" / "prepared").exists()
    with (folder / ".steelyard" / "tuning" / "lora" / "review.csv").open(encoding="utf-8", newline="") as stream:
        found = list(csv.DictReader(stream))
    assert list(found[0]) == ["case_id", "where", "given", "suggested", "reason"]
    assert all(not cell.startswith(("=", "+", "-", "@")) for row in found for cell in row.values())
    assert all(row["where"].startswith("cases.csv:") for row in found)
    shape = tune(folder, "lora", "--audit", "--json").json
    assert shape["schema"] == "steelyard.tune-audit/1"
    assert len(shape["review"]) == len(found)
    assert shape["tokens"]["total"]["least"] <= shape["tokens"]["total"]["median"] <= shape["tokens"]["total"]["most"]
    assert (shape["n_repeats"], shape["refusals"]) == (1, [])


def test_an_odd_name_of_an_approach_stays_inside_the_study(tmp_path: Path) -> None:
    folder = write(tmp_path / "study", study=STUDY.replace("  head:", "  ../../..:"))
    assert tune(folder, "../../..", "--audit").code == 0
    assert tune(folder, "..", "--audit").code == 2
    assert [path.parent.name for path in tmp_path.rglob("review.csv")] == ["..%2F..%2F.."]
    assert (folder / ".steelyard" / "tuning").is_dir()


@pytest.mark.parametrize("approach", ["lora", "lora with neighbours"])
def test_the_audited_prompt_is_the_one_that_is_trained_and_deployed(tickets: Path, approach: str) -> None:
    """Message for message, nearest examples included."""
    study = load_study(tickets)
    plan = plan_run(study.folder, study.file, study.task, study.material, approaches=[approach], limit=None)
    bench = workbench(plan, say=Talk(None))
    audited = deployed_prompting(approach, plan.specs[approach], bench)
    deployed = prepare(approach, plan.specs[approach], bench).approach
    assert isinstance(deployed, Prompted)
    for case in (*bench.train[:5], *bench.dev[:5]):
        assert audited.converse(case.visible()) == deployed.question.prompting.converse(case.visible())
        assert audited.target(case) == deployed.question.prompting.target(case)


# ---- exports ---------------------------------------------------------------------------------------------------------


def test_a_lora_is_exported_in_every_form(tickets: Path, tmp_path: Path) -> None:
    """Each folder holds what its reader needs, and nothing is pickled."""
    ran = tune(tickets, "lora", "--export", tmp_path / "out")
    assert ran.code == 0, ran.err
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    data = {"train.jsonl", "validation.jsonl"}
    tools = ("openai", "together-fireworks", "vertex", "axolotl", "llama-factory", "unsloth")
    assert files == {
        "README.md",
        "peft/adapter_config.json",
        "peft/adapter_model.safetensors",
        "gguf/adapter.gguf",
        "gguf/merged.gguf",
        *(f"{tool}/{name}" for tool in tools for name in data),
        "axolotl/config.yml",
        "llama-factory/config.yaml",
        "llama-factory/dataset_info.json",
        "unsloth/train.py",
    }
    rows = (tmp_path / "out" / "openai" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 65
    assert json.loads(rows[0])["messages"][-1]["content"] in ("billing", "delivery")
    full = tune(tickets, "lora", "--export", tmp_path / "out")
    assert full.code == 2
    assert "there is something in the folder to export to" in full.err


def test_a_head_is_exported(tickets: Path, tmp_path: Path) -> None:
    shape = tune(tickets, "head", "--export", tmp_path / "out", "--json").json
    assert shape["exported"] == str(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").rglob("*")} == {
        "README.md", "head", "classify.py", "head.json", "head.safetensors",
    }  # fmt: skip


# ---- bad input -------------------------------------------------------------------------------------------------------


def test_what_is_not_tuned_is_refused_with_what_is(tickets: Path) -> None:
    ran = tune(tickets, "zero-shot")
    assert ran.code == 2
    assert "approach 'zero-shot' is not tuned" in ran.err
    assert "tuned approaches of this study: lora, lora with neighbours, head" in ran.err
    assert "loar" in tune(tickets, "loar").err
    assert tune(tickets, "lora", "--audit", "--export", "x").code == 2


@pytest.mark.parametrize("approach", ["lora", "head"])
def test_one_class_only_is_refused_before_training(tmp_path: Path, approach: str) -> None:
    folder = write(tmp_path / "study", [(text, "billing") for text, _ in ticket_rows(60)])
    for audit in ([], ["--audit"]):
        ran = tune(folder, approach, *audit)
        assert ran.code == 2
        assert "have the same answer, 'billing': there is nothing to tell apart" in ran.err
    assert not (folder / ".steelyard" / "prepared").exists()


@pytest.mark.parametrize(("weight", "is_refused"), [(1.0, False), (0.0, True)])
def test_labels_of_a_teacher_count_where_they_are_learned_from(tmp_path: Path, weight: float, is_refused: bool) -> None:
    """People gave one label and a teacher another: there is something to tell apart, unless distilled labels weigh nothing."""
    text = STUDY.replace("{method: head}", f"{{method: head, distilled: {weight}}}")
    study = load_study(write(tmp_path / "study", study=text))
    train = study.material.splits.train
    billing, delivery = (
        tuple(case for case in train if case.expected == {"label": label}) for label in ("billing", "delivery")
    )
    with pytest.raises(InputError, match="the same answer") if is_refused else nullcontext():
        refuse_untrainable(
            {"head": study.file.approaches["head"]},
            file=study.file,
            task=study.task,
            train=billing,
            distilled=tuple(replace(case, teacher="big") for case in delivery),
        )


def test_a_label_seen_once_is_named_by_the_audit(tmp_path: Path) -> None:
    rows = [[text, "billing", "test" if i % 4 == 0 else "train"] for i, (text, _) in enumerate(ticket_rows(60))]
    rows[1][1] = "delivery"
    folder = write(
        tmp_path / "study", study=STUDY.replace("cases: cases.csv", "cases: {file: cases.csv, split_column: split}")
    )
    write_cases(folder / "cases.csv", [*rows], header=("text", "label", "split"))
    ran = tune(folder, "head", "--audit")
    assert ran.code == 0, ran.err
    assert "labels seen in a single train case, from which little can be learned: 'delivery'" in ran.out
    assert tune(folder, "head").code == 0


def test_a_declared_split_that_leaks_is_refused(tmp_path: Path) -> None:
    rows = [[*row, "test" if i % 4 == 0 else "train"] for i, row in enumerate(ticket_rows(60))]
    rows[5][0] = rows[4][0].upper()
    folder = write(
        tmp_path / "study", study=STUDY.replace("cases: cases.csv", "cases: {file: cases.csv, split_column: split}")
    )
    write_cases(folder / "cases.csv", rows, header=("text", "label", "split"))
    ran = tune(folder, "lora", "--audit")
    assert ran.code == 2
    assert "cases.csv:6" in ran.err
    assert "cases.csv:7" in ran.err


def test_a_limit_beyond_the_context_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "study", study=STUDY.replace("max_tokens: 512", "max_tokens: 9000"))
    ran = tune(folder, "lora")
    assert ran.code == 2
    assert "max_tokens is 9,000, and the model is served with a context of 2,048 tokens" in ran.err


@pytest.mark.model
def test_an_export_measures_parity_once_and_under_the_budget(tmp_path: Path) -> None:
    """Without a budget the files stand, and it says what is not known; with one, each case is asked once as served."""
    text = STUDY.replace("models: {local: {gguf: tiny.gguf}}\n", "").replace("layers: 2", "layers: 1")
    folder = write(tmp_path / "study", study=text + "run: {budget_calls: 0}\n")
    poor = tune(folder, "lora", "--export", tmp_path / "poor")
    assert poor.code == 0, poor.err
    assert "note: whether it answers as served as it did where it was trained is not known yet" in poor.out
    assert (tmp_path / "poor" / "gguf" / "adapter.gguf").exists()
    (folder / "study.yaml").write_text(text, encoding="utf-8")
    shown = tune(folder, "lora", "--export", tmp_path / "out").out
    assert " where trained, " in shown
    for _ in range(2):
        found = tune(folder, "lora", "--json").json["parity"]
        with Journal.open(folder / ".steelyard" / "journal.sqlite3", read_only=True) as journal:
            assert journal.spent().calls == found["n"] > 0


def test_a_training_that_learned_nothing_is_told(tickets: Path) -> None:
    """A learning rate far too high need not end in a loss that is no number; the card warns all the same."""
    tune(tickets, "lora")
    (card,) = (tickets / ".steelyard" / "prepared").glob("lora-*/card.json")
    facts = json.loads(card.read_bytes())
    assert "did not fall" not in tune(tickets, "lora").out
    facts["loss_curve"][-1]["loss"] = facts["loss_curve"][0]["loss"] + 3
    card.write_text(json.dumps(facts), encoding="utf-8")
    assert "warning: the training loss did not fall" in tune(tickets, "lora").out


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_damaged_adapter_is_not_exported(name: str, tickets: Path, tmp_path: Path) -> None:
    """One sentence that names the folder, whichever of its files was cut short."""
    tune(tickets, "lora")
    (file,) = (tickets / ".steelyard" / "prepared").glob(f"lora-*/{name}")
    file.write_bytes(file.read_bytes()[:50])
    ran = tune(tickets, "lora", "--export", tmp_path / "out")
    assert ran.code == 2
    assert f"what was trained is damaged: its {name} cannot be read" in ran.err
    assert "delete this folder, and it is trained again" in ran.err
