"""What is asked of a model, what is made of its answers, and when it is asked again."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from steelyard.approaches.approach import Prepared, Setup
from steelyard.approaches.conformance import check_approach
from steelyard.approaches.fakes import ScriptedAsk
from steelyard.approaches.prepare import prepare
from steelyard.approaches.question import RESAMPLE_TEMPERATURE
from steelyard.approaches.spec import ApproachSpec, Lever
from steelyard.approaches.tuning.examples import PromptOf, TargetOf
from steelyard.approaches.workbench import Workbench
from steelyard.cases.case import Case, CaseInput
from steelyard.engine.journal import Journal
from steelyard.engine.run import Work, run
from steelyard.errors import InputError
from steelyard.models.calls import AttemptStatus, ChatRequest, Message
from steelyard.models.stub_server import StubServer
from steelyard.task.resolve import resolve_task
from steelyard.task.spec import TaskSpec
from tests.approaches.world import tickets, triage_task, workbench
from tests.engine.fakes import CPU, score, stub_endpoint

CASE = CaseInput(id="new", fields={"text": "give my money back"})
APPROACHES: dict[str, dict[str, object]] = {
    "zero-shot": {},
    "few-shot": {"prompt": {"examples": 3}},
    "workflow": {"prompt": {"enforce_schema": True}, "workflow": {"repair": 2}},
    "retrieval": {"retrieval": {"examples": 2}, "prompt": {"enforce_schema": True}},
    "all of it": {
        "model": "cloud",
        "prompt": {"examples": 3, "enforce_schema": True, "temperature": 0.3},
        "retrieval": {"examples": 2},
        "workflow": {"repair": 5},
    },
}


def prepared(bench: Workbench, name: str = "zero-shot", **changes: object) -> Prepared:
    return prepare(name, ApproachSpec.model_validate({**APPROACHES.get(name, {}), **changes}), bench)


@pytest.mark.parametrize("name", APPROACHES)
async def test_every_setting_conforms(tmp_path: Path, name: str) -> None:
    """Whatever levers it pulls, an approach keeps the promises of the seam."""
    bench = workbench(tmp_path)
    good = '{"label": "refund"}' if "enforce_schema" in str(APPROACHES[name]) else "refund"
    await check_approach(lambda: prepared(bench, name).approach, CASE, good_answer=good)


async def test_zero_shot_is_one_call(tmp_path: Path) -> None:
    """System message and case, nothing else; an answer that cannot be used is not asked again."""
    ask = ScriptedAsk(["banana"])
    answer = await prepared(workbench(tmp_path)).approach.answer(CASE, ask)
    (call,) = ask.asked
    assert [message.role for message in call.request.messages] == ["system", "user"]
    assert call.request.messages[1].content == "give my money back"
    assert (call.request.endpoint, call.request.max_tokens) == ("local", 48)
    assert (call.request.temperature, call.request.response_schema) == (0.0, None)
    assert (call.step, call.extra) == ("answer", False)
    assert not answer.valid
    assert '"banana" is not one of' in str(answer.problem)


SAY = {"say": {"prompt": {"confidence": True}}}


@pytest.mark.parametrize(
    "workflow",
    [
        None,
        {"repair": 1},
        {"repair": 1, "steps": SAY},
        {"repair": 1, "steps": {**SAY, "right": {"check": "say", "checks": [{"field": "label", "matches": "refund"}]}}},
    ],
)
async def test_confidence_is_the_probability_of_the_answer_that_is_taken(
    tmp_path: Path, workflow: dict[str, object] | None
) -> None:
    """As it was written, also by a repair or in a step; unknown where the endpoint does not say."""
    bench = workbench(tmp_path)
    approach = prepared(bench, prompt={"confidence": True}, workflow=workflow).approach
    said = [await ScriptedAsk([text])(asking()) for text in ("banana", "refund")]
    unsure, sure = (replace(one, logprob=logprob) for one, logprob in zip(said, (-3.0, -0.25), strict=True))
    ask = ScriptedAsk([sure])
    assert (await approach.answer(CASE, ask)).confidence == pytest.approx(math.exp(-0.25))
    assert ask.asked[0].request.logprobs
    assert (await approach.answer(CASE, ScriptedAsk(["refund"]))).confidence is None
    if workflow is not None:
        assert (await approach.answer(CASE, ScriptedAsk([unsure, sure]))).confidence == pytest.approx(math.exp(-0.25))
    plain = ScriptedAsk([sure])
    await prepared(bench).approach.answer(CASE, plain)
    assert not plain.asked[0].request.logprobs
    assert prepared(bench).approach.fingerprint != approach.fingerprint


def asking() -> ChatRequest:
    return ChatRequest(endpoint="local", messages=(Message("user", "x"),), max_tokens=1)


async def test_few_shot_shows_the_same_examples_for_every_case(tmp_path: Path) -> None:
    """The examples are turns before the case, and the same for all, so that a prefix cache can hold them."""
    approach = prepared(workbench(tmp_path), "few-shot").approach
    ask = ScriptedAsk(["refund"])
    for text in ("one", "two"):
        await approach.answer(CaseInput(id=text, fields={"text": text}), ask)
    one, two = (call.request.messages for call in ask.asked)
    assert one[:-1] == two[:-1]
    assert [message.role for message in one] == ["system", *["user", "assistant"] * 3, "user"]
    assert sorted(message.content for message in one if message.role == "assistant") == ["card lost", "login", "refund"]


async def test_retrieval_shows_the_most_similar_example_last(tmp_path: Path) -> None:
    """The nearest example stands next to the case; the answer says what was retrieved, best first."""
    ask = ScriptedAsk(['{"label": "refund"}'])
    approach = prepared(workbench(tmp_path), "retrieval").approach
    answer = await approach.answer(CaseInput(id="new", fields={"text": "I cannot log in today please"}), ask)
    messages = ask.asked[0].request.messages
    assert messages[-3:-1] == (Message("user", "I cannot log in today"), Message("assistant", '{"label":"login"}'))
    assert answer.sources[0] == "login-0"
    assert len(answer.sources) == 2


async def test_a_case_is_never_its_own_example(tmp_path: Path) -> None:
    """Training on the deployed prompt must not show the answer."""
    train = tickets()
    approach = prepared(workbench(tmp_path), "all of it", prompt={"examples": 9}, retrieval={"examples": 9}).approach
    for case in train:
        ask = ScriptedAsk(["refund"])
        answer = await approach.answer(case.visible(), ask)
        assert case.id not in answer.sources
        said = [message.content for message in ask.asked[0].request.messages]
        assert said.count(str(case.input["text"])) == 1


async def test_a_lenient_reading_saves_the_case_but_not_the_schema_pass(tmp_path: Path) -> None:
    """`Refund!` is usable without another call; it just was not right as it came."""
    approach = prepared(workbench(tmp_path), "workflow", prompt={}).approach
    ask = ScriptedAsk(["Refund!"])
    answer = await approach.answer(CASE, ask)
    assert (answer.output, answer.valid, answer.schema_pass) == ({"label": "refund"}, True, False)
    assert len(ask.asked) == 1
    exact = await approach.answer(CASE, ScriptedAsk(["refund"]))
    assert (exact.output, exact.schema_pass) == ({"label": "refund"}, True)


async def test_a_repair_tells_the_model_what_was_wrong(tmp_path: Path) -> None:
    """The answer and the message of the failed check are further turns; the first answer decides schema pass."""
    ask = ScriptedAsk(['{"label": "banana"}', '{"label": "refund"}'])
    answer = await prepared(workbench(tmp_path), "workflow").approach.answer(CASE, ask)
    first, second = ask.asked
    assert first.request.response_schema == triage_task().output_schema
    assert second.request.messages[: len(first.request.messages)] == first.request.messages
    assert second.request.messages[-2:] == (
        Message("assistant", '{"label": "banana"}'),
        Message(
            "user",
            'That answer cannot be used: label: "banana" is not one of "refund", "login", "card lost". '
            'Answer with one JSON object with the fields "label", and nothing else.',
        ),
    )
    assert [(call.step, call.extra) for call in ask.asked] == [("answer", False), ("repair", True)]
    assert (answer.output, answer.valid, answer.schema_pass) == ({"label": "refund"}, True, False)
    assert answer.problem is None


async def test_repairs_are_bounded_and_the_last_output_is_kept(tmp_path: Path) -> None:
    """After the last repair the case is given up, with what is wrong with it."""
    ask = ScriptedAsk(['{"label": "a"}', '{"label": "b"}', "nonsense {"])
    answer = await prepared(workbench(tmp_path), "workflow").approach.answer(CASE, ask)
    assert len(ask.asked) == 3
    assert not answer.valid
    assert answer.output is not None
    assert answer.problem


@pytest.mark.parametrize("status", [AttemptStatus.EMPTY, AttemptStatus.REFUSED, AttemptStatus.TIMED_OUT])
async def test_no_text_is_asked_again_as_another_sample(tmp_path: Path, status: AttemptStatus) -> None:
    """At temperature 0 the same question would bring the same silence, so seed and temperature change."""
    ask = ScriptedAsk([status, '{"label": "refund"}'])
    answer = await prepared(workbench(tmp_path), "workflow").approach.answer(CASE, ask)
    first, second = (call.request for call in ask.asked)
    assert first.messages == second.messages
    assert (first.temperature, first.seed) == (0.0, 0)
    assert (second.temperature, second.seed) == (RESAMPLE_TEMPERATURE, 1)
    assert (answer.valid, answer.schema_pass) == (True, False)


async def test_the_same_wrong_answer_twice_is_answered_with_another_sample(tmp_path: Path) -> None:
    """A repair that changed nothing is not simply sent again."""
    ask = ScriptedAsk(["banana"])
    await prepared(workbench(tmp_path), "workflow").approach.answer(CASE, ask)
    assert [call.request.temperature for call in ask.asked] == [0.0, 0.0, RESAMPLE_TEMPERATURE]
    assert [call.request.seed for call in ask.asked] == [0, 1, 2]


@pytest.mark.parametrize("status", [AttemptStatus.FAILED, AttemptStatus.TOO_LONG])
async def test_what_repeating_cannot_mend_is_not_repeated(tmp_path: Path, status: AttemptStatus) -> None:
    """A dead endpoint and a prompt that is too long are not asked again."""
    ask = ScriptedAsk([status])
    answer = await prepared(workbench(tmp_path), "workflow").approach.answer(CASE, ask)
    assert len(ask.asked) == 1
    assert answer.output is None
    assert f"scripted: {status.value}" in str(answer.problem)


async def test_a_cut_answer_never_passes_as_it_came(tmp_path: Path) -> None:
    """Text that hit the token limit may be usable, but no program would trust it."""
    approach = prepared(workbench(tmp_path)).approach
    whole = ScriptedAsk(["refund"])
    await approach.answer(CASE, whole)
    attempt = await whole(whole.asked[0].request)
    answer = await approach.answer(CASE, ScriptedAsk([replace(attempt, status=AttemptStatus.TRUNCATED)]))
    assert (answer.output, answer.valid, answer.schema_pass) == ({"label": "refund"}, True, False)
    cut = await approach.answer(CASE, ScriptedAsk([AttemptStatus.TRUNCATED]))
    assert "cut at 48 tokens" in str(cut.problem)


async def test_a_schema_the_endpoint_cannot_enforce_is_said_instead(tmp_path: Path) -> None:
    """Nothing is sent that the endpoint would refuse."""
    ask = ScriptedAsk(["refund"])
    await prepared(workbench(tmp_path, native_schema=False), "workflow").approach.answer(CASE, ask)
    assert ask.asked[0].request.response_schema is None
    assert '"enum"' in ask.asked[0].request.messages[0].content


async def test_a_schema_the_endpoint_refuses_goes_into_the_prompt(tmp_path: Path) -> None:
    """The question is asked once without it, as a planned call; repairs do not try it again, and the answer says so."""
    approach = prepared(workbench(tmp_path), "workflow").approach
    ask = ScriptedAsk([AttemptStatus.SCHEMA_REFUSED, "{}", '{"label": "refund"}'])
    answer = await approach.answer(CASE, ask)
    assert (answer.output, answer.valid, answer.schema_pass) == ({"label": "refund"}, True, False)
    refused, first, repair = (call.request for call in ask.asked)
    assert [call.extra for call in ask.asked] == [False, False, True]
    assert refused.response_schema is not None
    assert (first.response_schema, repair.response_schema) == (None, None)
    assert first.messages[0].content.startswith(refused.messages[0].content)
    assert '"enum"' in first.messages[0].content
    assert repair.messages[: len(first.messages)] == first.messages
    assert len(answer.notes) == 1
    assert "the endpoint refused the schema, which is in the prompt instead: scripted" in answer.notes[0]
    twice = ScriptedAsk([AttemptStatus.SCHEMA_REFUSED])
    gone = await approach.answer(CASE, twice)
    assert (len(twice.asked), gone.valid) == (2, False)
    assert "the endpoint refused the schema" in str(gone.problem)


async def test_a_refused_schema_costs_one_free_call_a_case_and_stops_no_run(tmp_path: Path) -> None:
    """Through engine and server: many refusals in a row are no outage, each case is answered, and the refusals are free."""
    approach = replace(prepared(workbench(tmp_path), "workflow").approach, fingerprint="f")  # type: ignore[type-var]
    cases = [
        Case(id=f"c{n}", input={"text": f"stub:schema_refused {n}"}, expected={"label": "refund"}) for n in range(12)
    ]
    async with StubServer(reply='{"label": "refund"}') as stub:
        with Journal.open(tmp_path / "journal") as journal:
            endpoint = stub_endpoint(stub.url)
            await run(
                [Work(approach=approach, cases=cases, split="test")], endpoints={"local": endpoint},
                journal=journal, score=score, compute_price=CPU,
            )  # fmt: skip
            await endpoint.endpoint.close()
            outcomes = list(journal.outcomes())
    assert len(outcomes) == 12
    for outcome in outcomes:
        refused, answered = outcome.attempts
        assert (refused.status, refused.price_usd) == (AttemptStatus.SCHEMA_REFUSED, 0.0)
        assert (answered.status, outcome.schema_pass, outcome.extra_calls) == (AttemptStatus.ANSWERED, True, 0)
        assert "recursion is not supported" in outcome.notes[0]


async def test_a_schema_no_endpoint_should_enforce_is_said_instead(tmp_path: Path) -> None:
    """A recursive schema is written into the prompt from the start, and the person is told why."""
    node = {
        "type": "object",
        "properties": {"label": {"type": "string"}, "kids": {"type": "array", "items": {"$ref": "#"}}},
    }
    task = resolve_task(
        TaskSpec.model_validate({"input": "text", "expected": "label", "output_schema": node}), tmp_path
    )
    said: list[str] = []
    bench = replace(workbench(tmp_path, task=task, train=[]), say=said.append)
    approach = prepared(bench, "workflow").approach
    ask = ScriptedAsk(['{"label": "refund", "kids": [{"label": "x"}]}'])
    answer = await approach.answer(CASE, ask)
    assert (answer.valid, answer.schema_pass) == (True, True)
    assert ask.asked[0].request.response_schema is None
    assert '"$ref":"#"' in ask.asked[0].request.messages[0].content
    assert "is not given to local to enforce, since it refers to itself (#); it is written into the prompt" in said[0]


def test_levers_and_setup_say_what_was_done(tmp_path: Path) -> None:
    """Index building is part of the setup the first time, and found on disk the second."""
    bench = workbench(tmp_path)
    first, second = prepared(bench, "all of it"), prepared(bench, "all of it")
    assert first.approach.levers == {Lever.WORKFLOW, Lever.RETRIEVAL}
    assert (first.setup.reused, second.setup.reused) == (False, True)
    assert first.setup.n_examples == len(bench.train)
    assert first.setup.cost_usd == pytest.approx(first.setup.seconds / 3600 * 0.05)


def test_the_fingerprint_changes_with_whatever_can_change_an_answer(tmp_path: Path) -> None:
    """Settings, task, examples, train data and model all count; the name does not."""
    bench = workbench(tmp_path)
    other_task = replace(bench, task=triage_task(instruction="Sort it."))
    other_model = replace(
        bench, endpoints={name: replace(facts, model="tiny@2") for name, facts in bench.endpoints.items()}
    )
    fewer = replace(bench, train=bench.train[1:])
    found = [
        prepared(bench).approach.fingerprint,
        prepared(bench, prompt={"seed": 1}).approach.fingerprint,
        prepared(bench, prompt={"examples": 2}).approach.fingerprint,
        prepared(bench, "retrieval").approach.fingerprint,
        prepared(fewer, "retrieval").approach.fingerprint,
        prepared(other_task).approach.fingerprint,
        prepared(other_model).approach.fingerprint,
    ]
    assert len(set(found)) == len(found)
    assert prepared(bench, "another name").approach.fingerprint == found[0]


def test_the_fingerprint_is_the_same_in_another_process(tmp_path: Path) -> None:
    """Otherwise no study could ever be resumed."""
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.approaches.test_prompted import prepared, workbench\n"
        "sys.stdout.write(prepared(workbench(Path(sys.argv[1])), 'all of it').approach.fingerprint)"
    )
    root = Path(__file__).resolve().parents[2]
    other = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "other")], cwd=root, capture_output=True, text=True, check=True
    )
    assert other.stdout == prepared(workbench(tmp_path), "all of it").approach.fingerprint


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"model": "locla"}, "did you mean 'local'"),
        ({"prompt": {"system": "{{ x }}"}}, "approaches.a.prompt.system"),
        ({"prompt": {"user": "{{ text.foo }}"}}, "approaches.a.prompt.user"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, changes: dict[str, object], what: str) -> None:
    """The message says which field of which approach, before anything is paid for."""
    with pytest.raises(InputError, match=what):
        prepared(workbench(tmp_path), "a", **changes)


@pytest.mark.parametrize("changes", [{"prompt": {"examples": 2}}, {"retrieval": {"examples": 2}}])
def test_examples_need_labelled_cases(tmp_path: Path, changes: dict[str, object]) -> None:
    """Without a single usable train case there is nothing to show."""
    unlabelled = [Case(id=case.id, input=case.input) for case in tickets()]
    with pytest.raises(InputError, match="none of the 9 train cases can serve as an example"):
        prepared(workbench(tmp_path, train=unlabelled), "a", **changes)


def test_a_prompt_that_fills_the_context_is_announced(tmp_path: Path) -> None:
    """Many long examples on a small model: said once, before the first call."""
    said: list[str] = []
    bench = replace(workbench(tmp_path, task=triage_task(instruction="x " * 5000)), say=said.append)
    prepared(bench, "few-shot")
    assert any("may not fit" in line for line in said)


@pytest.mark.parametrize("levers", [{}, {"retrieval": {"examples": 2}}, {"prompt": {"enforce_schema": True}}])
async def test_a_tuned_model_is_trained_on_the_prompt_it_will_get(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, levers: dict[str, object]
) -> None:
    """The tuner gets the deployed conversation and target of usable cases alone; calls name its adapter."""
    from steelyard.approaches.tuning import lora

    seen: dict[str, tuple[tuple[Message, ...], str]] = {}

    def train(spec: object, *, prompt: PromptOf, target: TargetOf, bench: Workbench, where: str) -> lora.TunedAdapter:
        seen.update({str(case.input["text"]): (prompt(case.visible()), target(case)) for case in bench.train})
        setup = Setup(seconds=3600.0, cost_usd=0.05, n_examples=9, reused=False, card={"base": "tiny"})
        return lora.TunedAdapter(path=tmp_path / "adapter.gguf", digest="ada", setup=setup)

    monkeypatch.setattr(lora, "prepare_adapter", train)
    train_cases = [*tickets(), Case(id="no", input={"text": "?"}), Case(id="odd", input={"text": "?"}, expected={})]
    ready = prepared(workbench(tmp_path, train=train_cases), "tuned", tuning={"method": "lora"}, **levers)
    ask = ScriptedAsk(['{"label": "refund"}'])
    text = "please refund the payment"
    await ready.approach.answer(CaseInput(id="refund-1", fields={"text": text}), ask)
    (call,) = ask.asked
    assert call.request.adapter == ready.adapter_digest == "ada"
    assert call.request.messages[0].content.startswith("Answer with")
    assert "card lost" not in call.request.messages[0].content
    assert seen.keys() == {str(case.input["text"]) for case in tickets()}
    assert seen[text] == (call.request.messages, '{"label":"refund"}' if "prompt" in levers else "refund")
    assert (ready.setup.card, ready.setup.reused) == ({"base": "tiny"}, False)
    assert ready.setup.seconds >= 3600


async def test_turns_of_ones_own_come_before_the_examples(tmp_path: Path) -> None:
    """They are the same for every case, see what the system message sees, and are part of what the approach is."""
    turns = [
        {"role": "user", "text": "Which labels are there?"},
        {"role": "assistant", "text": "{{ labels|join(', ') }}."},
    ]
    ready = prepared(workbench(tmp_path), "few-shot", prompt={"examples": 1, "turns": turns})
    ask = ScriptedAsk(["refund"])
    await ready.approach.answer(CASE, ask)
    messages = ask.asked[0].request.messages
    assert [message.role for message in messages] == ["system", *["user", "assistant"] * 2, "user"]
    assert [message.content for message in messages[1:3]] == ["Which labels are there?", "refund, login, card lost."]
    other = prepared(workbench(tmp_path), "few-shot", prompt={"examples": 1})
    assert ready.approach.fingerprint != other.approach.fingerprint
    with pytest.raises(InputError, match=r"approaches\.few-shot\.prompt\.turns\[1\]"):
        prepared(
            workbench(tmp_path), "few-shot", prompt={"turns": [turns[0], {"role": "assistant", "text": "{{ text }}"}]}
        )


@pytest.mark.parametrize("roles", [["user"], ["assistant", "user"], ["user", "user"], ["user", "assistant", "user"]])
def test_turns_alternate_and_leave_the_last_word_to_the_case(roles: list[str]) -> None:
    """Chat endpoints refuse two turns of one speaker in a row."""
    with pytest.raises(ValidationError, match="end with the assistant"):
        ApproachSpec.model_validate({"prompt": {"turns": [{"role": role, "text": "x"} for role in roles]}})
