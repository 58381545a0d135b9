"""Workflows: steps run in their order and side by side, what fails is data, and every call is counted as what it is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from steelyard.approaches.approach import Answer, Approach
from steelyard.approaches.conformance import check_approach
from steelyard.approaches.fakes import ScriptedAsk
from steelyard.approaches.prepare import prepare
from steelyard.approaches.spec import ApproachSpec, Lever
from steelyard.approaches.workbench import Workbench
from steelyard.cases.case import Case, CaseInput
from steelyard.errors import BudgetReached, InputError, Problem
from steelyard.models.calls import Attempt, AttemptStatus, ChatRequest
from steelyard.task.resolve import resolve_task
from steelyard.task.spec import TaskSpec
from tests.approaches.world import workbench

SCHEMA = {
    "type": "object",
    "properties": {
        "vendor": {"type": "string"},
        "net": {"type": ["number", "null"]},
        "tax": {"type": ["number", "null"]},
        "total": {"type": "number"},
        "items": {"type": "array", "items": {"type": "object", "properties": {"amount": {"type": "number"}}}},
    },
    "required": ["vendor", "total", "items"],
    "additionalProperties": False,
}
RIGHT = {"vendor": "Acme", "net": 10, "tax": 2, "total": 12, "items": [{"amount": 4}, {"amount": 6}]}
CASE = CaseInput(id="new", fields={"text": "Acme: 4 + 6, tax 2, total 12"})
SPLIT = {"head": ["vendor"], "sums": ["net", "tax", "total"], "lines": ["items"]}


def bench(folder: Path) -> Workbench:
    task = resolve_task(
        TaskSpec.model_validate({"input": "text", "expected": list(RIGHT), "output_schema": SCHEMA}), Path()
    )
    case = Case(id="old", input={"text": "Bolt Ltd: 1, total 1"}, expected={**RIGHT, "vendor": "Bolt"})
    return replace(workbench(folder, task=task, train=[case]), study=folder)


def made(folder: Path, workflow: Mapping[str, Any], **more: object) -> Approach:
    spec = ApproachSpec.model_validate({"workflow": workflow, **more})
    return prepare("flow", spec, bench(folder)).approach


@dataclass
class ByStep:
    """Answers by the name of the step; the last entry of a list answers all further calls; each call takes a second."""

    answers: Mapping[str, Sequence[object]]
    asked: list[tuple[str, bool, ChatRequest]] = field(default_factory=list)
    open: int = 0
    most_open: int = 0

    async def __call__(self, request: ChatRequest, *, step: str = "answer", extra: bool = False) -> Attempt:
        n_before = sum(1 for name, _, _ in self.asked if name == step)
        self.asked.append((step, extra, request))
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        await asyncio.sleep(0)
        self.open -= 1
        script = self.answers[step]
        entry = script[min(n_before, len(script) - 1)]
        if isinstance(entry, BaseException):
            raise entry
        status = entry if isinstance(entry, AttemptStatus) else AttemptStatus.ANSWERED
        return Attempt(
            digest=str(len(self.asked)), endpoint=request.endpoint, model="m", status=status, latency_s=1.0,
            text="" if isinstance(entry, AttemptStatus) else entry if isinstance(entry, str) else json.dumps(entry),
            price_usd=0.0, step=step, extra=extra,
        )  # fmt: skip

    @property
    def calls(self) -> list[tuple[str, bool]]:
        """Step and whether extra, in order."""
        return [(step, extra) for step, extra, _ in self.asked]


def part(*names: str) -> dict[str, Any]:
    return {name: RIGHT[name] for name in names}


HEAD, SUMS, LINES = part("vendor"), part("net", "tax", "total"), part("items")


async def answered(approach: Approach, **answers: Sequence[object]) -> tuple[Answer, ByStep]:
    ask = ByStep({name.replace("__", ": "): script for name, script in answers.items()})
    return await approach.answer(CASE, ask), ask


async def test_a_split_asks_for_parts_side_by_side_and_merges_them(tmp_path: Path) -> None:
    """Three planned calls at once, each with the schema of its part alone; the latency is that of one of them."""
    approach = made(tmp_path, {"split": SPLIT}, prompt={"enforce_schema": True})
    answer, ask = await answered(approach, head=[HEAD], sums=[SUMS], lines=[LINES])
    assert answer.output == RIGHT
    assert (answer.valid, answer.schema_pass, answer.problem, answer.calls_s) == (True, True, None, 1.0)
    assert sorted(ask.calls) == [("head", False), ("lines", False), ("sums", False)]
    assert ask.most_open == 3
    schemas = {step: request.response_schema for step, _, request in ask.asked}
    assert schemas["sums"] is not None
    assert list(schemas["sums"]["properties"]) == ["net", "tax", "total"]
    assert schemas["sums"]["required"] == ["total"]
    assert approach.levers == {Lever.WORKFLOW}


async def test_a_part_is_repaired_by_itself(tmp_path: Path) -> None:
    """Only the part that was wrong is asked again, with what was wrong; that call is extra and the schema did not pass."""
    approach = made(tmp_path, {"split": SPLIT, "repair": 1})
    answer, ask = await answered(
        approach, head=[HEAD], sums=[{"net": 10, "tax": 2, "total": "12"}], sums__repair=[SUMS], lines=[LINES]
    )
    assert (answer.output, answer.valid, answer.schema_pass) == (RIGHT, True, False)
    assert [call for call in ask.calls if call[1]] == [("sums: repair", True)]
    (repair,) = [request for step, _, request in ask.asked if step == "sums: repair"]
    assert '"12" is not of type number' in repair.messages[-1].content
    assert answer.calls_s == 2.0


async def test_checks_send_an_output_back_with_what_does_not_add_up(tmp_path: Path) -> None:
    """Valid by the schema but wrong by a rule: fed back as a repair, and the better answer is taken."""
    rules = ["sum(items.amount) = net", {"rule": "net + tax = total", "tolerance": 0.01}]
    approach = made(tmp_path, {"repair": 2, "checks": rules})
    wrong = {**RIGHT, "total": 13}
    answer, ask = await answered(approach, answer=[wrong], repair=[RIGHT])
    assert (answer.output, answer.valid, answer.schema_pass, answer.problem) == (RIGHT, True, True, None)
    assert ask.calls == [("answer", False), ("repair", True)]
    assert "net + tax = total does not hold: 12 against 13" in ask.asked[1][2].messages[-1].content


async def test_an_output_that_never_adds_up_is_still_an_output(tmp_path: Path) -> None:
    """The document itself may be what is wrong: the best of the tries is taken, and the answer says what fails."""
    approach = made(tmp_path, {"repair": 2, "checks": ["sum(items.amount) = net", "net + tax = total"]})
    worse, bad = {**RIGHT, "total": 14, "net": 11}, {**RIGHT, "total": 13}
    answer, ask = await answered(approach, answer=[worse], repair=[bad, worse])
    assert (answer.output, answer.valid) == (bad, True)
    assert answer.problem == "net + tax = total does not hold: 12 against 13"
    assert len(ask.calls) == 3


async def test_extract_validate_repair_as_steps(tmp_path: Path) -> None:
    """The check of a merged output asks for a better whole; all its calls are extra."""
    workflow = {"split": SPLIT, "checks": ["net + tax = total"], "repair": 1}
    approach = made(tmp_path, workflow)
    bad = {**SUMS, "total": 13}
    answer, ask = await answered(approach, head=[HEAD], sums=[bad], lines=[LINES], checked=[RIGHT])
    assert (answer.output, answer.valid, answer.schema_pass) == (RIGHT, True, True)
    assert ask.calls[-1] == ("checked", True)
    assert ask.asked[-1][2].messages[-2].content == json.dumps({**RIGHT, "total": 13}, separators=(",", ":"))
    good, ask = await answered(approach, head=[HEAD], sums=[SUMS], lines=[LINES], checked=[AssertionError("not asked")])
    assert (good.output, len(ask.calls)) == (RIGHT, 3)


async def test_a_later_step_sees_what_earlier_ones_gave(tmp_path: Path) -> None:
    """Its template reads their outputs, and it waits for them."""
    steps = {
        "head": {"prompt": {}, "fields": ["vendor"]},
        "rest": {
            "prompt": {"user": "{{ text }} (from {{ steps.head.vendor }})"},
            "fields": ["net", "tax", "total", "items"],
        },
        "all": {"merge": ["head", "rest"]},
    }
    answer, ask = await answered(made(tmp_path, {"steps": steps}), head=["Acme"], rest=[{**SUMS, **LINES}])
    assert (answer.output, answer.valid, answer.calls_s) == (RIGHT, True, 2.0)
    assert ask.most_open == 1
    assert ask.asked[1][2].messages[-1].content == "Acme: 4 + 6, tax 2, total 12 (from Acme)"


ROUTES: dict[str, Any] = {
    "kind": {
        "route": {"rules": [{"field": "text", "matches": "(?i)credit", "branch": "credit"}],
                  "branches": ["credit", "invoice"], "otherwise": "invoice"}
    },
    "credit": {"prompt": {"system": "A credit note."}, "on": {"kind": "credit"}},
    "invoice": {"prompt": {"system": "An invoice."}, "on": {"kind": "invoice"}},
}  # fmt: skip


async def test_a_route_takes_one_branch(tmp_path: Path) -> None:
    """The branch that was not taken costs nothing, and the answer says which one was."""
    answer, ask = await answered(made(tmp_path, {"steps": ROUTES}), invoice=[RIGHT])
    assert (answer.output, answer.notes) == (RIGHT, ("kind: invoice",))
    assert ask.calls == [("invoice", False)]


async def test_a_model_may_pick_the_branch(tmp_path: Path) -> None:
    """A first call, planned like any other; what it says leniently counts, nonsense takes `otherwise`."""
    route = {"prompt": {}, "branches": ["credit", "invoice"], "otherwise": "invoice"}
    approach = made(tmp_path, {"steps": {**ROUTES, "kind": {"route": route}}, "repair": 0})
    for said, branch in (("credit", "credit"), ("I think: credit.", "credit"), ("banana", "invoice")):
        answer, ask = await answered(approach, kind=[said], credit=[RIGHT], invoice=[RIGHT])
        assert answer.notes == (f"kind: {branch}",)
        assert [step for step, extra in ask.calls if not extra] == ["kind", branch]


async def test_a_route_without_a_branch_is_an_answer_not_a_crash(tmp_path: Path) -> None:
    """Nothing decides and there is no other way: no output, and the reason."""
    route = {"rules": [{"field": "text", "longer_than": 1000, "branch": "credit"}], "branches": ["credit", "invoice"]}
    answer, ask = await answered(made(tmp_path, {"steps": {**ROUTES, "kind": {"route": route}}}))
    assert (answer.output, answer.valid, answer.schema_pass) == (None, False, False)
    assert answer.problem == "kind: no rule holds and there is no `otherwise`"
    assert ask.calls == []


async def test_a_vote_takes_the_majority_of_each_field(tmp_path: Path) -> None:
    """Samples are planned calls with seeds of their own, warm enough to differ; confidence is the share that agrees."""
    steps = {"all": {"prompt": {}, "vote": 3, "repair": 0}}
    odd = {**RIGHT, "vendor": "Acne"}
    answer, ask = await answered(made(tmp_path, {"steps": steps}), all=[odd, RIGHT, {**RIGHT, "total": 13}])
    assert answer.output == RIGHT
    assert ask.calls == [("all", False)] * 3
    assert len({request.seed for _, _, request in ask.asked}) == 3
    assert min(request.temperature for _, _, request in ask.asked) == 0.7
    assert answer.confidence == pytest.approx((2 / 3 + 1 + 1 + 2 / 3 + 1) / 5)
    assert answer.calls_s == 1.0


async def test_an_input_guard_mends_what_every_step_sees(tmp_path: Path) -> None:
    """Personal data never reaches the model, and the note says what was found."""
    steps = {
        "private": {"guard": {"pii": ["email"], "action": "redact"}},
        "all": {"prompt": {}},
    }
    approach = made(tmp_path, {"steps": steps})
    ask = ByStep({"all": [RIGHT]})
    answer = await approach.answer(CaseInput(id="x", fields={"text": "write to a.b@example.org"}), ask)
    assert ask.asked[0][2].messages[-1].content == "write to [email]"
    assert answer.notes == ("private: text: 1 × email",)


@pytest.mark.parametrize(("on", "n_calls"), [("input", 0), ("all", 1)])
async def test_a_blocking_guard_ends_the_case(tmp_path: Path, on: str, n_calls: int) -> None:
    """On the input before any call; on an output after it. No output, and the reason."""
    steps = {"all": {"prompt": {}}, "guard": {"guard": {"on": on, "forbidden": ["Acme"], "action": "block"}}}
    answer, ask = await answered(made(tmp_path, {"steps": steps}), all=[RIGHT])
    assert (answer.output, answer.valid, len(ask.calls)) == (None, False, n_calls)
    assert "holds 'Acme'" in str(answer.problem)


async def test_functions_and_tools_of_the_study(tmp_path: Path) -> None:
    """A tool gets the arguments its templates make, a function the case and the outputs; both see earlier steps."""
    (tmp_path / "tools.py").write_text(
        "async def look_up(vendor, city='?'):\n    return {'vendor': vendor.upper() + city}\n"
        "def add(fields, steps):\n    return {**steps['found'], 'total': 12, 'items': [], 'net': None, 'tax': None}\n"
    )
    steps = {
        "head": {"prompt": {}, "fields": ["vendor"]},
        "found": {
            "tool": {"function": "tools.py:look_up", "arguments": {"vendor": "{{ steps.head.vendor }}", "city": "{{ text[:1] }}"}}
        },
        "all": {"function": "tools.py:add", "after": ["found"]},
    }  # fmt: skip
    answer, _ = await answered(made(tmp_path, {"steps": steps}), head=["Acme"])
    assert answer.output == {"vendor": "ACMEA", "total": 12, "items": [], "net": None, "tax": None}
    assert answer.valid


async def test_what_fails_is_data(tmp_path: Path) -> None:
    """A tool that raises, one that returns no object: the case goes on without them and the answer names the step."""
    (tmp_path / "tools.py").write_text(
        "def fail(fields, steps):\n    raise KeyError('x')\ndef text(fields, steps):\n    return 'x'\n"
    )
    for name, said in (("fail", "KeyError: 'x'"), ("text", "TypeError: it returned str, not an object")):
        steps = {"broken": {"function": f"tools.py:{name}"}, "all": {"prompt": {}, "after": ["broken"]}}
        answer, _ = await answered(made(tmp_path, {"steps": steps}), all=[RIGHT])
        assert (answer.output, answer.valid) == (RIGHT, True)
        alone = {"broken": {"function": f"tools.py:{name}"}}
        answer, _ = await answered(made(tmp_path, {"steps": alone}))
        assert (answer.output, answer.problem) == (None, f"broken: {said}")


async def test_a_template_that_meets_a_case_it_cannot_be_filled_in_with(tmp_path: Path) -> None:
    """At the three-hundredth case or the first: that case has no output, and the run goes on."""
    prompt = {"user": "{{ text.split(':')[0] if ':' in text else text / 2 }}"}
    for approach in (
        made(tmp_path, {"repair": 1}, prompt=prompt),
        made(tmp_path, {"steps": {"all": {"prompt": prompt}}}),
    ):
        ask = ByStep({"all": [RIGHT], "answer": [RIGHT]})
        answer = await approach.answer(CaseInput(id="x", fields={"text": "no colon"}), ask)
        assert (answer.output, answer.valid, ask.calls) == (None, False, [])
        assert "cannot be filled in" in str(answer.problem)


async def test_the_end_of_a_run_passes_through(tmp_path: Path) -> None:
    """A budget that is reached in one of three steps side by side stops the case, and leaves no call behind."""
    reached = BudgetReached(Problem(what="the budget is reached"))
    approach = made(tmp_path, {"split": SPLIT})
    ask = ByStep({"head": [HEAD], "sums": [reached], "lines": [LINES]})
    with pytest.raises(BudgetReached):
        await approach.answer(CASE, ask)
    assert ask.open == 0


@pytest.mark.parametrize("status", [AttemptStatus.FAILED, AttemptStatus.TOO_LONG, AttemptStatus.REFUSED])
async def test_a_step_without_an_answer(tmp_path: Path, status: AttemptStatus) -> None:
    """The parts that came are there, the output is invalid, and the problem names the step."""
    answer, _ = await answered(made(tmp_path, {"split": SPLIT, "repair": 0}), head=[HEAD], sums=[status], lines=[LINES])
    assert answer.output == {**HEAD, **LINES}
    assert (answer.valid, answer.schema_pass) == (False, False)
    assert str(answer.problem).startswith("sums: ")
    assert "'total'" in str(answer.problem) or '"total"' in str(answer.problem)


async def test_steps_side_by_side_do_not_change_each_other(tmp_path: Path) -> None:
    """Whichever of two independent steps ends first, a third that names one of them sees only that one."""
    (tmp_path / "tools.py").write_text("def seen(fields, steps):\n    return {'vendor': ','.join(sorted(steps))}\n")
    steps = {
        "head": {"prompt": {}, "fields": ["vendor"]},
        "sums": {"prompt": {}, "fields": ["total"]},
        "seen": {"function": "tools.py:seen", "after": ["sums"]},
    }
    answer, _ = await answered(made(tmp_path, {"steps": steps}), head=["Acme"], sums=[{"total": 1}])
    assert answer.output == {"vendor": "sums"}


@pytest.mark.parametrize(
    ("workflow", "said"),
    [
        ({"steps": {"a": {"prompt": {}}, "b": {"merge": ["aa"]}}}, "did you mean 'a'"),
        ({"steps": {"a": {"prompt": {}, "after": ["b"]}, "b": {"merge": ["a"]}}}, "a -> b -> a"),
        ({"steps": {"a": {"prompt": {}, "fields": ["vendr"]}}}, "did you mean 'vendor'"),
        ({"steps": {"a": {"prompt": {}, "fields": ["vendor"]}}}, "no step answers 'total', 'items'"),
        ({"steps": {"a": {"prompt": {"user": "{{ steps.b.vendor }}"}}}}, "there is no step 'b'"),
        (
            {"steps": {"a": {"prompt": {}, "fields": ["vendor"]}, "b": {"prompt": {"user": "{{ steps.a.vendr }}"}}}},
            "cannot be filled in",
        ),
        ({"steps": {"a": {"prompt": {}, "on": {"b": "x"}}, "b": {"merge": ["a"]}}}, "'b' has no branch 'x'"),
        ({"steps": {"a": {"function": "tools.py:f"}}}, "cannot be read"),
        ({"steps": {"a": {"prompt": {}, "checks": ["nett = total"]}}}, "no output field 'nett'"),
        ({"checks": ["net + = total"]}, "cannot be read"),
        ({"checks": ["open('x') = 1"]}, "may not stand in a rule"),
        ({"checks": [{"field": "vendor", "matches": "("}]}, "no regular expression"),
        ({"steps": {"g": {"guard": {"min_chars": 1}}}}, "no step answers anything"),
    ],
)
def test_a_workflow_that_cannot_work_is_refused_before_it_costs(
    tmp_path: Path, workflow: dict[str, Any], said: str
) -> None:
    """With the place in study.yaml and what to do."""
    with pytest.raises(InputError) as raised:
        made(tmp_path, workflow)
    assert said in str(raised.value)
    assert "study.yaml:approaches.flow" in str(raised.value)


@pytest.mark.parametrize(
    "workflow",
    [
        {"steps": {}},
        {"steps": {"a": {}}},
        {"steps": {"a": {"prompt": {}, "merge": ["a"]}}},
        {"steps": {"a": {"merge": ["b"], "vote": 3}}},
        {"split": {"a": ["x"]}},
        {"split": {"a": ["x"], "b": ["x"]}},
        {"checks": [{"rule": "a = b", "matches": "x", "field": "a"}]},
        {"checks": [{"matches": "x"}]},
        {"steps": {"a": {"guard": {"action": "block"}}}},
        {"steps": {"a": {"guard": {"injection": True, "action": "redact"}}}},
        {"steps": {"a": {"route": {"branches": ["x"]}}}},
        {"steps": {"a": {"route": {"branches": ["x"], "rules": [{"field": "f", "matches": "y", "branch": "z"}]}}}},
    ],
)  # fmt: skip
def test_contradictions_are_refused_as_the_file_is_read(workflow: dict[str, Any]) -> None:
    """An option that would do nothing, two kinds in one step, a branch that is not there."""
    with pytest.raises(ValidationError):
        ApproachSpec.model_validate({"workflow": workflow})


@pytest.mark.parametrize(
    "workflow",
    [
        {"repair": 2, "checks": ["net + tax = total"]},
        {"steps": {"all": {"prompt": {}}, "checked": {"check": "all", "checks": ["net + tax = total"]}}},
        {"steps": {"g": {"guard": {"injection": True}}, "all": {"prompt": {}, "repair": 1}}},
    ],
)
async def test_workflows_conform(tmp_path: Path, workflow: dict[str, Any]) -> None:
    """They keep the promises of the seam however a call ends."""
    await check_approach(lambda: made(tmp_path, workflow), CASE, good_answer=json.dumps(RIGHT))


def test_the_fingerprint_knows_steps_checks_and_functions(tmp_path: Path) -> None:
    """Whatever can change an answer changes it, the text of the study's functions included."""
    (tmp_path / "checks.py").write_text("def f(output, fields):\n    return None\n")
    workflow = {"checks": [{"function": "checks.py:f"}]}
    found = [
        made(tmp_path, {"repair": 2}).fingerprint,
        made(tmp_path, workflow).fingerprint,
        made(tmp_path, {"split": SPLIT}).fingerprint,
        made(tmp_path, {"split": SPLIT, "checks": ["net > 0"]}).fingerprint,
        made(tmp_path, {"split": SPLIT, "repair": 1}).fingerprint,
    ]
    (tmp_path / "checks.py").write_text("def f(output, fields):\n    return 'no'\n")
    found.append(made(tmp_path, workflow).fingerprint)
    assert len(set(found)) == len(found)


async def test_a_check_of_the_study_that_raises_is_a_failed_check(tmp_path: Path) -> None:
    """Its crash is fed back like any other message and costs no more than the repairs."""
    (tmp_path / "checks.py").write_text("def f(output, fields):\n    return output['nothing']\n")
    approach = made(tmp_path, {"repair": 1, "checks": [{"function": "checks.py:f"}]})
    ask = ScriptedAsk([json.dumps(RIGHT)])
    answer = await approach.answer(CASE, ask)
    assert (answer.output, answer.valid, len(ask.asked)) == (RIGHT, True, 2)
    assert "a check raised KeyError" in str(answer.problem)
