"""Tools a model may ask for: what it is told, what runs, and what every way to go wrong becomes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steelyard.approaches.approach import Approach
from steelyard.approaches.conformance import check_approach
from steelyard.approaches.fakes import ScriptedAsk
from steelyard.approaches.prepare import prepare
from steelyard.approaches.prompt_spec import ToolDefinitionSpec
from steelyard.approaches.spec import ApproachSpec
from steelyard.approaches.tools import OwnTool, compile_tools, read_arguments
from steelyard.cases.case import Case, CaseInput
from steelyard.engine.budget import Budget
from steelyard.engine.journal import Journal
from steelyard.engine.run import Work, run
from steelyard.errors import InputError
from steelyard.models.calls import AttemptStatus, Message, ToolCall
from steelyard.models.stub_server import StubServer
from steelyard.task.functions import load_function
from tests.approaches.world import workbench
from tests.engine.fakes import CPU, score, stub_endpoint

BFCL = Path(__file__).parents[3] / "shared" / "data" / "bfcl" / "calls.jsonl"
CASE = CaseInput(id="new", fields={"text": "give me 3 EUR back in USD"})
FUNCTIONS = '''
from __future__ import annotations
import asyncio, threading
from datetime import date
from typing import Annotated, Literal
from pydantic import Field

RAN = []

def convert(amount: float, to: Literal["USD", "GBP"], day: date | None = None) -> dict:
    """Convert euros.

    Args:
        amount: In euros.
        to: Currency.
    """
    RAN.append((amount, to, day, threading.current_thread() is threading.main_thread()))
    return {"amount": amount * 1.5, "day": day}

async def look_up(name: Annotated[str, Field(description="Whose.", min_length=1)]) -> str:
    """Look an account up."""
    await asyncio.sleep(0)
    return f"account of {name}"

def broken() -> str:
    """Always fails."""
    raise ZeroDivisionError("no rate today")

def long() -> str:
    """Says a lot."""
    return "x" * 100_000

GO_ON = threading.Event()

def hang() -> None:
    """Waits for ever."""
    GO_ON.wait()

async def hang_async() -> None:
    """Waits for ever."""
    await asyncio.Event().wait()

def leave() -> None:
    """Ends the program."""
    raise SystemExit(1)

def any_arguments(**arguments: object) -> dict:
    """Takes anything."""
    return arguments

def silent(n: int) -> int:
    return n

def positional(n: int, /) -> int:
    """Cannot be called by name."""
    return n

def opaque(lock: threading.Lock) -> None:
    """Takes what no model can give."""
'''
TOOLS = ["tools.py:convert", {"function": "tools.py:look_up"}, {"function": "tools.py:broken"}]


def made(folder: Path, *, n_repairs: int | None = None, **prompt: Any) -> Approach:  # noqa: ANN401 - any setting
    (folder / "tools.py").write_text(FUNCTIONS)
    workflow = {} if n_repairs is None else {"workflow": {"repair": n_repairs}}
    spec = ApproachSpec.model_validate({"prompt": {"tools": TOOLS, **prompt}, **workflow})
    return prepare("tooled", spec, replace(workbench(folder), study=folder)).approach


def ran(folder: Path) -> list[Any]:
    function, _ = load_function("tools.py:convert", folder, where="test")
    found: list[Any] = function.__globals__["RAN"]
    return found


def compiled(folder: Path, *specs: dict[str, Any]) -> tuple[OwnTool, ...]:
    (folder / "tools.py").write_text(FUNCTIONS)
    return compile_tools(
        [ToolDefinitionSpec.model_validate({"function": "tools.py:any_arguments", **spec}) for spec in specs],
        function_of=lambda reference, where: load_function(reference, folder, where=where),
        where="study.yaml:approaches.a.prompt.tools",
    )


async def test_a_model_gets_the_results_it_asked_for_and_answers(tmp_path: Path) -> None:
    """Calls run in order, results come back as messages, and none of it counts as a retry."""
    calls = [
        ToolCall("a", "convert", '{"amount": 3, "to": "USD", "day": "2026-11-01"}'),
        ToolCall("b", "look_up", '{"name": "Ann"}'),
    ]
    ask = ScriptedAsk([calls, [ToolCall("c", "convert", '{"amount": "4", "to": "GBP"}')], "refund"])
    answer = await made(tmp_path).answer(CASE, ask)
    assert (answer.output, answer.valid, answer.schema_pass, answer.problem) == ({"label": "refund"}, True, True, None)
    first, second, third = (call.request for call in ask.asked)
    assert [tool.name for tool in first.tools] == ["convert", "look_up", "broken"]
    assert second.messages[: len(first.messages)] == first.messages
    assert second.messages[len(first.messages) :] == (
        Message("assistant", "", tool_calls=tuple(calls)),
        Message("tool", '{"amount":4.5,"day":"2026-11-01"}', tool_call_id="a"),
        Message("tool", "account of Ann", tool_call_id="b"),
    )
    # JSON Schema asks for a number: "4" is refused, the call after it is an extra one.
    assert third.messages[-1] == Message("tool", 'error: amount: "4" is not of type number', tool_call_id="c")
    assert [(call.step, call.extra) for call in ask.asked] == [("answer", False), ("answer", False), ("answer", True)]
    ((amount, to, day, is_main),) = ran(tmp_path)
    assert (amount, to, str(day), is_main) == (3.0, "USD", "2026-11-01", False)


async def test_a_tool_that_raises_tells_the_model(tmp_path: Path) -> None:
    """Its error is the result; no case crashes on it, and the model's next call is a planned one."""
    ask = ScriptedAsk([[ToolCall("a", "broken", "")], "refund"])
    assert (await made(tmp_path).answer(CASE, ask)).valid
    assert ask.asked[1].request.messages[-1].content == "error: ZeroDivisionError: no rate today"
    assert not ask.asked[1].extra


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (ToolCall("a", "convort", "{}"), "there is no tool 'convort'; there are convert, look_up, broken"),
        (ToolCall("a", "convert", "{"), "the arguments are not JSON"),
        (ToolCall("a", "convert", "[1]"), "the arguments are not a JSON object"),
        (ToolCall("a", "convert", '{"amount": 1}'), 'the field "to" is missing'),
        (ToolCall("a", "convert", '{"amount": 1, "to": "USD", "by": 2}'), 'unknown field "by"'),
        (ToolCall("a", "convert", '{"amount": 1, "to": "USD", "day": "soon"}'), "day"),
        (ToolCall("a", "look_up", '{"name": ""}'), "name"),
    ],
)
async def test_a_wrong_call_is_said_and_the_next_one_is_extra(tmp_path: Path, call: ToolCall, said: str) -> None:
    """A name that is none or arguments that do not fit never reach a function; they make a retry."""
    ask = ScriptedAsk([[call], "refund"])
    await made(tmp_path).answer(CASE, ask)
    assert said in ask.asked[1].request.messages[-1].content
    assert [one.extra for one in ask.asked] == [False, True]
    assert ran(tmp_path) == []


async def test_a_model_that_asks_without_end_is_stopped(tmp_path: Path) -> None:
    """After the rounds it may have there is no answer, and no repair starts it over again."""
    ask = ScriptedAsk([[ToolCall("a", "look_up", '{"name": "Ann"}')]])
    answer = await made(tmp_path, tool_rounds=3, n_repairs=2).answer(CASE, ask)
    assert len(ask.asked) == 4
    assert (answer.output, answer.problem) == (None, "the model asked for tools 4 times without an answer")


async def test_a_repair_keeps_what_tools_have_said(tmp_path: Path) -> None:
    """The model is not sent for the same results again."""
    ask = ScriptedAsk([[ToolCall("a", "look_up", '{"name": "Ann"}')], "banana", "refund"])
    assert (await made(tmp_path, n_repairs=1).answer(CASE, ask)).valid
    said = [message.role for message in ask.asked[2].request.messages]
    assert said == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert [call.extra for call in ask.asked] == [False, False, True]


async def test_a_tool_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is told, the case goes on, and nothing waits for the function when the run is over."""
    monkeypatch.setattr("steelyard.approaches.tools.FUNCTION_LIMIT_S", 0.05)
    ask = ScriptedAsk(
        [[ToolCall("a", "hang", ""), ToolCall("b", "hang_async", ""), ToolCall("c", "leave", "")], "refund"]
    )
    tools = ["tools.py:hang", "tools.py:hang_async", "tools.py:leave"]
    assert (await made(tmp_path, tools=tools).answer(CASE, ask)).valid
    said = [message.content for message in ask.asked[1].request.messages if message.role == "tool"]
    late = "error: TimeoutError: it gave no result within 0.05 s"
    assert said == [late, late, "error: RuntimeError: it called sys.exit"]
    load_function("tools.py:convert", tmp_path, where="test")[0].__globals__["GO_ON"].set()


async def test_long_results_are_cut(tmp_path: Path) -> None:
    """A function that says too much does not fill the context."""
    ask = ScriptedAsk([[ToolCall("a", "long", "{}")], "refund"])
    await made(tmp_path, tools=[{"function": "tools.py:long"}]).answer(CASE, ask)
    assert len(ask.asked[1].request.messages[-1].content) <= 20_000


async def test_an_approach_with_tools_conforms(tmp_path: Path) -> None:
    """Tools change none of what the metrics rely on."""
    await check_approach(lambda: made(tmp_path, n_repairs=1), CASE, good_answer="refund")


async def test_a_call_nobody_offered_is_no_answer(tmp_path: Path) -> None:
    """A server that answers with calls all the same has given nothing usable."""
    ask = ScriptedAsk([[ToolCall("a", "convert", "{}")]])
    answer = await made(tmp_path, tools=[]).answer(CASE, ask)
    assert answer.problem == "the model asked for a tool, and was offered none"


def test_what_is_left_out_follows_from_the_function(tmp_path: Path) -> None:
    """Name, docstring and annotations become the definition; what is given replaces it."""
    derived, given = compiled(
        tmp_path,
        {"function": "tools.py:convert"},
        {"name": "f", "description": "Does it.", "parameters": {"type": "object", "properties": {"n": {}}}},
    )
    assert derived.definition.name == "convert"
    assert derived.definition.description.startswith("Convert euros.")
    assert "amount: In euros." in derived.definition.description
    parameters = derived.definition.parameters
    assert (parameters["required"], parameters["additionalProperties"]) == (["amount", "to"], False)
    assert parameters["properties"]["to"]["enum"] == ["USD", "GBP"]
    assert (given.definition.name, given.definition.description) == ("f", "Does it.")
    assert given.definition.parameters == {"type": "object", "properties": {"n": {}}}


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ({"function": "tools.py:silent"}, "does not say what it is for"),
        ({"function": "tools.py:positional"}, "cannot be given by name"),
        ({"function": "tools.py:opaque"}, "have no JSON Schema"),
        ({"function": "tools.py:nothing"}, "has no function 'nothing'"),
        ({"parameters": {"type": "array"}}, "not 'object'"),
        ({"parameters": {"type": "object", "properties": 3}}, "not a valid JSON Schema"),
        ({"parameters": {"type": "object", "required": ["a"], "additionalProperties": False}}, "no output can satisfy"),
    ],
)
def test_a_tool_that_cannot_work_is_refused_before_it_costs(tmp_path: Path, spec: dict[str, Any], what: str) -> None:
    """What is wrong is named with its place."""
    with pytest.raises(InputError) as caught:
        compiled(tmp_path, {"description": None, **spec})
    assert what in caught.value.problems[0].what
    assert str(caught.value.problems[0].where).startswith("study.yaml:approaches.a.prompt.tools[0]")


def test_two_tools_of_one_name_are_refused(tmp_path: Path) -> None:
    """The model could not tell them apart."""
    with pytest.raises(InputError, match="two tools are called 'any_arguments'"):
        compiled(tmp_path, {}, {})


def test_an_endpoint_without_tools_is_named_before_it_costs(tmp_path: Path) -> None:
    """A model that never sees its tools would be measured on another task."""
    (tmp_path / "tools.py").write_text(FUNCTIONS)
    bench = replace(workbench(tmp_path), study=tmp_path)
    bare = replace(bench, endpoints={name: replace(facts, tools=False) for name, facts in bench.endpoints.items()})
    for model, hint in (("local", "models.endpoints"), ("cloud", "models.endpoints.cloud.tools: true")):
        spec = ApproachSpec.model_validate({"model": model, "prompt": {"tools": TOOLS}})
        with pytest.raises(InputError) as caught:
            prepare("a", spec, bare)
        (problem,) = caught.value.problems
        assert problem.what == f"{model!r} takes no tool definitions"
        assert hint in str(problem.hint)


def test_the_fingerprint_knows_tools_and_their_code(tmp_path: Path) -> None:
    """An edited function may give other answers."""
    before = made(tmp_path).fingerprint
    assert made(tmp_path).fingerprint == before
    assert made(tmp_path, tools=TOOLS[:1]).fingerprint != before
    assert made(tmp_path, tool_rounds=2).fingerprint != before
    (tmp_path / "tools.py").write_text(FUNCTIONS + "\n# edited\n")
    spec = ApproachSpec.model_validate({"prompt": {"tools": TOOLS}})
    assert prepare("tooled", spec, replace(workbench(tmp_path), study=tmp_path)).approach.fingerprint != before


async def test_a_resumed_run_goes_on_from_the_calls_it_has_paid_for(tmp_path: Path) -> None:
    """Through engine, server and journal: what was asked of tools is replayed, not asked again."""
    approach = made(tmp_path, tools=[{"function": "tools.py:any_arguments"}])
    cases = [Case(id="c", input={"text": "stub:tool_call"}, expected={"label": "refund"})]
    async with StubServer(reply="refund") as stub:
        for number, name in enumerate(("j1", "j1", "j2")):
            with Journal.open(tmp_path / name) as journal:
                endpoint = stub_endpoint(stub.url)
                again = replace(approach, fingerprint=f"f{number}")  # type: ignore[type-var]
                await run(
                    [Work(approach=again, cases=cases, split="test")], endpoints={"local": endpoint},
                    journal=journal, score=score, compute_price=CPU, budget=Budget(calls=10),
                )  # fmt: skip
                await endpoint.endpoint.close()
                outcome = next(one for one in journal.outcomes() if one.fingerprint == f"f{number}")
                transcript = journal.transcript(outcome.approach, outcome.fingerprint, "c")
            statuses = [attempt.status for attempt in outcome.attempts]
            assert statuses == [AttemptStatus.CALLED_TOOLS, AttemptStatus.ANSWERED]
            assert (outcome.output, outcome.extra_calls) == ({"label": "refund"}, 0)
            assert transcript is not None
            assert transcript.requests[1].messages[-1].role == "tool"
            assert stub.n_requests == (2, 2, 4)[number]


# ---- real definitions -----------------------------------------------------------------------------------------------

JSON_TYPES = {"dict": "object", "float": "number", "tuple": "array"}


def as_json_schema(schema: Any) -> Any:  # noqa: ANN401 - any JSON value
    """BFCL names types as Python does."""
    if not isinstance(schema, dict):
        return schema
    found = {key: value for key, value in schema.items() if not (key == "type" and value == "any")}
    if isinstance(found.get("type"), str):
        found["type"] = JSON_TYPES.get(found["type"], found["type"])
    if isinstance(found.get("properties"), dict):
        found["properties"] = {name: as_json_schema(one) for name, one in found["properties"].items()}
    if "items" in found:
        found["items"] = as_json_schema(found["items"])
    return found


def accepted(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """One of the accepted values; within objects each field again is a list of accepted ones."""
    if isinstance(value, dict):
        return {name: accepted(options[0]) for name, options in value.items() if options[0] != ""}
    if isinstance(value, list):
        return [accepted(one) if isinstance(one, dict) else one for one in value]
    return value


@pytest.mark.realdata
@pytest.mark.skipif(not BFCL.is_file(), reason="needs ../shared/data")
def test_real_definitions_compile_and_tell_right_arguments_from_wrong(tmp_path: Path) -> None:
    """All of a public function-calling benchmark: accepted calls are valid, and a wrong type never is."""
    n_tools = n_calls = n_wrong = 0
    refused = []
    for line in BFCL.read_text().splitlines():
        row = json.loads(line)
        tools = {
            tool["name"]: {
                "name": tool["name"].replace(".", "_"),
                "description": tool["description"],
                "parameters": as_json_schema(tool["parameters"]),
            }
            for tool in row["input"]["tools"]
        }
        made = dict(zip(tools, compiled(tmp_path, *tools.values()), strict=True))
        n_tools += len(made)
        for call in row["expected"]["calls"]:
            ((name, arguments),) = call.items()
            tool = made[name].definition
            values = {key: [one for one in options if one != ""] for key, options in arguments.items()}
            right = {key: accepted(some[0]) for key, some in values.items() if some}
            required = tool.parameters.get("required", ())
            least = {key: value for key, value in right.items() if "" not in arguments[key] or key in required}
            n_calls += 1
            for given in (right, least):
                _, problem = read_arguments(json.dumps(given), tool)
                if problem is not None:
                    refused.append((row["id"], problem))
            for key in right:
                kind = tool.parameters["properties"].get(key, {}).get("type")
                if kind is None:
                    continue
                n_wrong += 1
                wrong = {**right, key: 3.5 if kind in ("string", "array", "object", "integer") else "wrong"}
                assert read_arguments(json.dumps(wrong), tool)[1] is not None, (row["id"], key)
    assert n_tools == 580
    # The benchmark accepts `true` for a field that its own definition calls a string.
    assert refused == [("bfcl-simple_python_307", "venue: true is not of type string")]
    assert n_calls > 400
    assert n_wrong > 1_000
