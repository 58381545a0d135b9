"""Tuning together with retrieval or a workflow: the model learns the very prompt it is asked, token for token."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from steelyard.approaches.approach import Prepared
from steelyard.approaches.fakes import ScriptedAsk
from steelyard.approaches.knowledge_spec import KnowledgeSpec
from steelyard.approaches.prepare import prepare
from steelyard.approaches.spec import ApproachSpec
from steelyard.approaches.tuning import lora
from steelyard.approaches.tuning.base_model import load_base
from steelyard.approaches.tuning.examples import PromptOf, TargetOf, tokenise
from steelyard.approaches.workbench import Workbench
from steelyard.cases.case import Case
from steelyard.errors import InputError
from tests.approaches.test_lora import cases
from tests.approaches.tiny_llama import Notes, write_tiny_gguf
from tests.approaches.world import triage_task, workbench

TUNING = {"method": "lora", "max_examples": 30, "layers": 1, "rank": 2, "batch_size": 4, "max_tokens": 400, "guard": 0}
STEPS = {"look": {"guard": {"min_chars": 3, "action": "flag"}}, "say": {"prompt": {"enforce_schema": True}}}
CHECKS = [{"field": "label", "matches": "refund|login|card lost"}]
COMBINATIONS: dict[str, dict[str, Any]] = {
    "retrieval": {"retrieval": {"examples": 3}},
    "retrieval and repair": {"retrieval": {"examples": 3}, "workflow": {"repair": 1, "checks": CHECKS}},
    "knowledge": {"retrieval": {"knowledge": {"k": 2}}},
    "knowledge and examples": {"retrieval": {"knowledge": {"k": 1}, "examples": 2}},
    "one step": {"workflow": {"steps": STEPS}},
    "one step, checked": {"workflow": {"steps": {**STEPS, "right": {"check": "say", "checks": CHECKS}}}},
    "one step and retrieval": {"retrieval": {"examples": 2}, "workflow": {"steps": STEPS}},
}


@dataclass
class Learned:
    """What training was given."""

    prompts: list[PromptOf] = field(default_factory=list)
    targets: list[TargetOf] = field(default_factory=list)
    trained_on: tuple[Case, ...] = ()


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    documents = tmp_path / "docs"
    documents.mkdir()
    for name, text in (("money", "A refund takes five days."), ("keys", "Passwords are reset on the login page.")):
        (documents / f"{name}.md").write_text(f"# {name}\n\n{text}\n")
    gguf = write_tiny_gguf(tmp_path / "tiny.gguf")
    return replace(
        workbench(tmp_path, train=cases(30)),
        base_gguf=lambda: gguf,
        study=tmp_path,
        knowledge=KnowledgeSpec(documents="docs"),
        say=Notes(),
    )


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> Learned:
    """Notes what is trained on, and trains it all the same."""
    found, train = Learned(), lora.prepare_adapter

    def noting(spec: Any, *, prompt: PromptOf, target: TargetOf, bench: Workbench, where: str) -> lora.TunedAdapter:  # noqa: ANN401
        found.prompts.append(prompt)
        found.targets.append(target)
        found.trained_on = tuple(bench.train)
        return train(spec, prompt=prompt, target=target, bench=bench, where=where)

    monkeypatch.setattr(lora, "prepare_adapter", noting)
    return found


def tuned(bench: Workbench, more: dict[str, Any]) -> Prepared:
    spec = ApproachSpec.model_validate({"tuning": TUNING, **copy.deepcopy(more)})
    return prepare("both", spec, bench)


async def asked(prepared: Prepared, case: Case) -> ScriptedAsk:
    door = ScriptedAsk(['{"label": "refund"}'])
    answer = await prepared.approach.answer(case.visible(), door)
    assert answer.valid
    return door


@pytest.mark.model
@pytest.mark.parametrize("name", list(COMBINATIONS))
async def test_training_prompts_are_the_deployed_prompts_to_the_token(
    name: str, bench: Workbench, learned: Learned
) -> None:
    """For train cases, whose own example is left out, and for new ones; and the adapter is asked for."""
    prepared = tuned(bench, COMBINATIONS[name])
    base = load_base(bench.base_gguf())
    (prompt,), (target,) = learned.prompts, learned.targets
    assert prepared.adapter_digest is not None
    assert prepared.adapter is not None
    assert prepared.adapter.is_file()
    new = [replace(case, id=f"new {case.id}") for case in cases(3, seed=9)]
    for case in (*learned.trained_on[:6], *new):
        (call,) = (await asked(prepared, case)).asked
        assert call.request.adapter == prepared.adapter_digest
        assert base.chat_ids(call.request.messages) == base.chat_ids(prompt(case.visible()))
        (example,) = tokenise(base, [case], prompt, target, max_tokens=4000).examples
        assert case.expected is not None
        assert str(case.expected["label"]) in base.decode(example.completion)


@pytest.mark.model
async def test_a_repair_of_a_tuned_answer_goes_to_the_tuned_model(bench: Workbench) -> None:
    """In a loop and in a step of its own."""
    for more in (COMBINATIONS["retrieval and repair"], COMBINATIONS["one step, checked"]):
        prepared = tuned(bench, more)
        door = ScriptedAsk(["what?", '{"label": "refund"}'])
        answer = await prepared.approach.answer(cases(1)[0].visible(), door)
        assert answer.valid
        assert [call.request.adapter for call in door.asked] == [prepared.adapter_digest] * 2
        assert [call.extra for call in door.asked] == [False, True]


def test_a_workflow_that_has_no_one_question_is_refused_with_what_to_do(bench: Workbench) -> None:
    two = {"first": {"prompt": {}}, "second": {"prompt": {"user": "{{ text }} {{ steps.first.label }}"}}}
    redacts = {"hide": {"guard": {"pii": ["email"], "action": "redact"}}, "say": {"prompt": {}}}
    for workflow, said in (
        ({"steps": two}, "here 2 steps ask about the case"),
        ({"steps": redacts}, "hangs on hide, which training cannot run"),
    ):
        with pytest.raises(InputError, match=said):
            tuned(bench, {"workflow": workflow})
    schema = {
        "type": "object",
        "properties": {"label": {"type": "string"}, "why": {"type": "string"}},
        "required": ["label", "why"],
        "additionalProperties": False,
    }
    task = triage_task(labels=None, expected=["label", "why"], output_schema=schema)
    split = {"split": {"one": ["label"], "two": ["why"]}}
    with pytest.raises(InputError, match="2 steps ask about the case"):
        tuned(replace(bench, task=task), {"workflow": split})
