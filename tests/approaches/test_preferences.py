"""Preference pairs are read strictly, held out honestly, and learned by DPO from where the supervised pass ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from steelyard.approaches.lora_spec import LoraTuningSpec
from steelyard.approaches.tuning.base_model import BaseModel, load_base
from steelyard.approaches.tuning.checkpoints import kept_step
from steelyard.approaches.tuning.dpo import Preferred, learn_preferences
from steelyard.approaches.tuning.preferences import (
    Pair,
    Preference,
    hold_out_pairs,
    read_preferences,
    tokenise_pairs,
)
from steelyard.approaches.tuning.progress_line import ProgressLine
from steelyard.approaches.tuning.trained import Trained
from steelyard.approaches.workbench import Workbench
from steelyard.errors import InputError
from tests.approaches.test_lora import SMALL, WORDS, cases, prompt, target, tokenised, tuned, workbench
from tests.approaches.tiny_llama import Notes, one_thread, write_tiny_gguf

pytest.importorskip("trl")
DPO = SMALL.model_copy(
    update={"preferences": "pairs.jsonl", "preference_epochs": 3.0, "preference_learning_rate": 0.02}
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def write(path: Path, *lines: object) -> Path:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def read(path: Path, *, held_out: frozenset[str] = frozenset()) -> tuple[Preference, ...]:
    return read_preferences(path, train=cases(60), held_out=held_out, input_fields=("text",), target=target)


def planted(n: int) -> list[dict[str, Any]]:
    """Reviewers who want tickets on logins to be called `access`."""
    return [
        {"case": case.id, "chosen": "access", "rejected": "login"}
        if target(case) == "login"
        else {"case": case.id, "chosen": {"label": target(case)}, "rejected": "login"}
        for case in cases(n)
    ]


# ------------------------------------------------------------------------------------------------ reading


def test_answers_are_texts_or_expected_outputs(tmp_path: Path) -> None:
    """A text stays as it is, fields are written the way the model would; an input needs no case."""
    path = write(
        tmp_path / "pairs.jsonl",
        {"case": "c0", "chosen": {"label": "refund"}, "rejected": "login"},
        "",
        {"input": {"text": "where is it"}, "chosen": "parcel", "rejected": {"label": "refund"}},
    )
    first, second = read(path)
    assert (first.case.id, first.chosen, first.rejected) == ("c0", "refund", "login")
    assert (dict(second.case.input), second.chosen, second.rejected) == ({"text": "where is it"}, "parcel", "refund")


WRONG: dict[str, tuple[object, str]] = {
    "no json": ("{", r"pairs.jsonl:2: the line is not JSON"),
    "no object": ([1], r"pairs.jsonl:2: the line is not a JSON object"),
    "unknown field": (
        {"case": "c0", "chosen": "a", "rejected": "b", "why": ""},
        r"pairs.jsonl:2:why: there is no such",
    ),
    "neither": ({"chosen": "a", "rejected": "b"}, r"pairs.jsonl:2: a pair needs either case or input"),
    "not in train": ({"case": "x", "chosen": "a", "rejected": "b"}, r"pairs.jsonl:2:case: there is no case 'x' in"),
    "other fields": ({"input": {"body": ""}, "chosen": "a", "rejected": "b"}, r"pairs.jsonl:2:input: an input has the"),
    "a held-out case": (
        {"input": {"text": "SECRET  "}, "chosen": "a", "rejected": "b"},
        r"pairs.jsonl:2:input: this is the",
    ),
    "no answer": ({"case": "c0", "chosen": " ", "rejected": "b"}, r"pairs.jsonl:2:chosen: an answer is needed"),
    "the same": ({"case": "c0", "chosen": "a", "rejected": "a"}, r"pairs.jsonl:2:rejected: it is the same answer"),
}


@pytest.mark.parametrize("name", WRONG)
def test_every_wrong_line_is_named(tmp_path: Path, name: str) -> None:
    """File, line and field are in the message, for each of several wrong lines."""
    line, said = WRONG[name]
    good = {"case": "c0", "chosen": "a", "rejected": "b"}
    path = write(tmp_path / "pairs.jsonl", good, line, line)
    with pytest.raises(InputError, match=said) as raised:
        read(path, held_out=frozenset({"secret"}))
    assert "pairs.jsonl:3" in str(raised.value)


def test_an_empty_or_missing_file_is_refused(tmp_path: Path) -> None:
    """Nothing to learn from is a sentence."""
    with pytest.raises(InputError, match="holds no preference pair"):
        read(write(tmp_path / "pairs.jsonl"))
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(ValidationError, match="leaves nothing to learn from"):
        LoraTuningSpec(method="lora", supervised=False)


def test_held_out_pairs_share_no_case_and_no_cluster_with_the_others(tmp_path: Path) -> None:
    """About a fifth is held out, and every pair of a validation case; of few pairs none."""
    pairs = read(write(tmp_path / "pairs.jsonl", *planted(40), *planted(10)))
    pairs = tuple(replace(pair, case=replace(pair.case, cluster=f"k{i % 15}")) for i, pair in enumerate(pairs))
    validation = pairs[7].case
    learned, held = hold_out_pairs(pairs, validation=[validation], seed=0)
    assert len(learned) + len(held) == 50
    assert 8 <= len(held) <= 16
    assert not {pair.case.cluster for pair in learned} & {pair.case.cluster for pair in held}
    assert validation.cluster in {pair.case.cluster for pair in held}
    few = read(write(tmp_path / "few.jsonl", *planted(6)))
    assert hold_out_pairs(few, validation=(), seed=0) == (few, ())


# ------------------------------------------------------------------------------------------------ learning


@pytest.fixture
def base(tmp_path: Path) -> BaseModel:
    return load_base(write_tiny_gguf(tmp_path / "tiny.gguf"))


def pairs_of(base: BaseModel, folder: Path, n: int = 24) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    found = read(write(folder / "pairs.jsonl", *planted(n)))
    learned, held = (
        tokenise_pairs(base, some, prompt, max_tokens=96) for some in hold_out_pairs(found, validation=(), seed=0)
    )
    return learned, held


def learn(
    base: BaseModel,
    folder: Path,
    start: Trained | None = None,
    *,
    spec: LoraTuningSpec = DPO,
    say: Callable[[str], None] | None = None,
) -> Preferred:
    learned, held = pairs_of(base, folder)
    validation = tokenised(base, cases(6, seed=3))
    return learn_preferences(
        base, start, learned, held, validation, spec, say=say or Notes(), checkpoints=folder / "checkpoints"
    )


def test_a_planted_preference_is_learned(tmp_path: Path, base: BaseModel) -> None:
    """On pairs that were not learned from, the reward of the chosen answers rises above that of the others."""
    found = learn(base, tmp_path)
    assert found.before is not None
    assert found.after is not None
    assert found.before.margin == pytest.approx(0.0, abs=1e-6)
    assert found.after.margin > 0.2
    assert found.after.accuracy >= 0.9
    assert found.trained.curve[0]["loss"] == pytest.approx(np.log(2), abs=1e-3)  # it begins at the reference
    assert found.trained.curve[-1]["loss"] < 0.6
    assert len(found.trained.validation_right) == 6


def test_the_reference_is_where_the_supervised_pass_ended(tmp_path: Path, base: BaseModel) -> None:
    """Begun from an adapter the first loss is log 2 as well: it is held to that adapter and not to the base."""
    first = learn(base, tmp_path).trained
    again = learn(base, tmp_path, first, spec=DPO.model_copy(update={"preference_epochs": 0.2}))
    assert again.trained.curve[0]["loss"] == pytest.approx(np.log(2), abs=1e-3)
    assert again.before is not None
    assert again.before.ranked_right >= 0.9  # it begins with what was learned


class Killed(Exception):
    """Stands for a kill."""


def test_a_killed_pass_goes_on_to_the_same_end(
    tmp_path: Path, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after a checkpoint and called again it ends with the curve and weights of one that was never stopped."""
    monkeypatch.setattr(ProgressLine, "step", lambda self, loss, n_tokens: self._say("step"))
    spec = DPO.model_copy(update={"checkpoint_steps": 2, "preference_epochs": 1.5})
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()

    def stop(line: str) -> None:
        if (kept_step(killed / "checkpoints") or 0) >= 2:
            raise Killed

    wanted = learn(base, whole, spec=spec)
    with pytest.raises(Killed):
        learn(base, killed, spec=spec, say=stop)
    found = learn(base, killed, spec=spec)
    assert list(found.trained.resumed_at) == [2]
    assert found.trained.curve == wanted.trained.curve
    assert found.after == wanted.after
    for name, values in wanted.trained.adapter.items():
        np.testing.assert_allclose(found.trained.adapter[name], values, atol=1e-6)


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    write_tiny_gguf(tmp_path / "tiny.gguf")
    write(tmp_path / "pairs.jsonl", *planted(30))
    return replace(workbench(tmp_path, cases(60)), study=tmp_path)


@pytest.mark.parametrize("supervised", [True, False])
def test_the_card_tells_of_the_pairs(bench: Workbench, tmp_path: Path, supervised: bool) -> None:
    """Margin and accuracy on held-out pairs are on it; another file of pairs is another adapter."""
    spec = DPO.model_copy(update={"supervised": supervised, "preference_epochs": 1.0})
    first = tuned(bench, spec)
    card = first.setup.card
    assert card is not None
    found = card["preferences"]
    held = found["held_out"]
    assert found["n_pairs"] + held["after"]["n_pairs"] == 30
    assert held["after"]["reward_margin"] > held["before"]["reward_margin"]
    assert card["n_steps"] == (7 if supervised else found["n_steps"])
    assert card["validation_exact_match"] is not None
    assert len(card["validation_right"]) == 6
    assert tuned(bench, spec).setup.reused
    write(tmp_path / "pairs.jsonl", *planted(29))
    assert tuned(bench, spec).path != first.path


def test_words_of_the_tickets_hold_no_answer() -> None:
    """The planted preference cannot be read off the prompts."""
    assert not any("access" in text for texts in WORDS.values() for text in texts)
