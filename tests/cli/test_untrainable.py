"""What cannot be trained on is refused by `run` and `tune` alike, before a call is sent or anything is prepared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from steelyard.models import embeddings
from steelyard.models.stub_server import StubServer
from steelyard.study import local_model
from tests.approaches.tiny_llama import write_tiny_gguf
from tests.cli.tickets import Ran, serving, steelyard, ticket_rows

STUDY = """
study: tickets
cases: {{file: cases.jsonl, split_column: split}}
task: {{input: text, expected: label{labels}}}
models:
  local: {{gguf: tiny.gguf}}
  endpoints: {{stub: {{base_url: "{url}", model: m1, max_retries: 0, price_per_million: {{input: 1, output: 2}}}}}}
approaches:
  asked: {{model: stub}}
  tuned: {{tuning: {{method: lora, layers: 2, rank: 4, max_tokens: {max_tokens}}}}}
"""


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model, "embedder", lambda say: embeddings.HashingEmbedder())


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with serving(reply="billing") as server:
        yield server


def rows(n: int = 60) -> list[list[str]]:
    """Text, label and split of distinct tickets; a quarter is for testing."""
    found = enumerate(ticket_rows(n))
    return [[text, label, ("train", "train", "dev", "test")[i // 2 % 4]] for i, (text, label) in found]


def write(folder: Path, url: str, some: Sequence[Sequence[str]], *, labels: bool = True, max_tokens: int = 512) -> Path:
    folder.mkdir()
    write_tiny_gguf(folder / "tiny.gguf")
    lines = [json.dumps(dict(zip(("text", "label", "split"), row, strict=True))) for row in some]
    (folder / "cases.jsonl").write_text("\n".join(lines), encoding="utf-8")
    named = ", labels: [billing, delivery]" if labels else ""
    (folder / "study.yaml").write_text(STUDY.format(url=url, labels=named, max_tokens=max_tokens), encoding="utf-8")
    return folder


def one_class() -> list[list[str]]:
    return [[text, "billing", split] for text, _, split in rows()]


def a_train_case_in_test() -> list[list[str]]:
    found = rows()
    found[6][0] = found[0][0].upper()
    return found


def an_empty_answer() -> list[list[str]]:
    found = rows()
    found[1][1] = " "
    return found


REFUSED = {
    "one class": (one_class, True, "have the same answer, 'billing': there is nothing to tell apart"),
    "leakage": (a_train_case_in_test, True, "cases.jsonl:7"),
    "an empty answer": (an_empty_answer, False, "examples have an empty answer"),
}


def refused(folder: Path, said: str) -> None:
    """All three commands say it, and nothing was made."""
    for command in (["run"], ["run", "--dry-run"], ["tune", "--approach", "tuned"]):
        ran: Ran = steelyard(command[0], folder, *command[1:], "--quiet")
        assert ran.code == 2, (command, ran.out)
        assert said in ran.err, command
        assert "hint: " in ran.err
    assert not (folder / ".steelyard" / "prepared").exists()


@pytest.mark.parametrize("what", list(REFUSED))
def test_nothing_is_paid_for_a_study_with_an_approach_that_cannot_be_trained(
    tmp_path: Path, stub: StubServer, what: str
) -> None:
    """Not even the calls of another approach, which comes first."""
    made, labels, said = REFUSED[what]
    refused(write(tmp_path / "study", stub.url, made(), labels=labels), said)
    assert stub.n_requests == 0


def test_examples_that_could_never_be_asked_are_refused(tmp_path: Path, stub: StubServer) -> None:
    """Longer than the context that the model is served with."""
    folder = write(tmp_path / "study", stub.url, rows(), max_tokens=4096)
    refused(folder, "max_tokens is 4,096, and the model is served with a context of 2,048 tokens")
    assert stub.n_requests == 0


def test_an_approach_that_is_not_run_refuses_nothing(tmp_path: Path, stub: StubServer) -> None:
    """What another approach could not be trained on is no reason not to ask this one."""
    folder = write(tmp_path / "study", stub.url, one_class())
    ran = steelyard("run", folder, "--approach", "asked", "--quiet")
    assert ran.code == 0, ran.err
    assert stub.n_requests > 0


# ---- what a dry run says ---------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_training_takes(tmp_path: Path, stub: StubServer) -> None:
    """Steps and tokens counted; time and money unknown, then timed, then from the training itself; then nothing."""
    folder = write(tmp_path / "study", stub.url, rows(120))

    def of_run() -> dict[str, object]:
        (found,) = steelyard("run", folder, "--dry-run", "--json").json["trainings"]
        return dict(found)

    first = of_run()
    assert (first["approach"], first["is_trained"], first["tokens_are_counted"]) == ("tuned", False, True)
    assert first["most_seconds"] == first["most_usd"] != 0
    assert "not measured yet" in str(first["most_usd"])
    timed = steelyard("tune", folder, "--approach", "tuned", "--dry-run", "--json", "--quiet").json
    assert timed["schema"] == "steelyard.tune-estimate/1"
    assert (timed["most_steps"], timed["most_tokens"]) == (first["most_steps"], first["most_tokens"])
    assert timed["most_seconds"]["value"] > 0
    assert timed["most_seconds"]["provenance"].startswith("measured (a few steps timed now")
    assert timed["most_usd"]["provenance"] == "assumed (default of models.local.cpu_hour_usd)"
    assert not list((folder / ".steelyard").rglob("lora-*"))
    card = steelyard("tune", folder, "--approach", "tuned", "--json", "--quiet").json["card"]
    assert (card["n_steps"], card["n_tokens"]) == (timed["most_steps"], timed["most_tokens"])
    assert (card["n_train"], card["n_validation"]) == (timed["examples"], timed["validation_examples"])
    assert of_run()["is_trained"] is True
    assert "trained already" in steelyard("tune", folder, "--approach", "tuned", "--dry-run").out
    study = folder / "study.yaml"
    study.write_text(study.read_text().replace("rank: 4", "rank: 2"))
    again = of_run()
    assert again["is_trained"] is False
    assert "the training of " in str(again["most_seconds"])
    shown = steelyard("run", folder, "--dry-run").out
    assert "tuned: at most 7 steps on 54 examples" in shown
    assert "time: at most " in shown
    assert stub.n_requests == 0


def test_a_dry_run_and_an_export_exclude_each_other(tmp_path: Path, stub: StubServer) -> None:
    folder = write(tmp_path / "study", stub.url, rows())
    for more in (["--export", "x"], ["--audit"]):
        assert steelyard("tune", folder, "--approach", "tuned", "--dry-run", *more).code == 2
