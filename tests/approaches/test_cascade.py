"""A cascade asks its first approach, and the second one where the first is not sure enough."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from steelyard.approaches.approach import Answer, Approach, Ask
from steelyard.approaches.cascade import Calibration, Cascade, calibrate, endpoints_of
from steelyard.approaches.cascade_spec import in_order
from steelyard.approaches.conformance import check_approach
from steelyard.approaches.fakes import ScriptedAsk
from steelyard.approaches.spec import ApproachSpec, Lever
from steelyard.cases.case import CaseInput
from steelyard.models.calls import AttemptStatus, ChatRequest, Message
from steelyard.study.file import StudyFile

CASE = CaseInput(id="c", fields={"text": "hello"})
AS_STATED = Calibration(scale=1.0, shift=0.0)


@dataclass(frozen=True, kw_only=True)
class Says:
    """Asks its endpoint once and answers with what comes back, as sure as it is told to be."""

    name: str
    confidence: float | None = None
    endpoint: str | None = None
    levers: frozenset[Lever] = frozenset({Lever.PROMPT})

    @property
    def fingerprint(self) -> str:
        return f"{self.name} {self.confidence}"

    async def answer(self, case: CaseInput, ask: Ask) -> Answer:
        if self.endpoint is None:
            return Answer(output={"label": self.name}, valid=True, schema_pass=True, confidence=self.confidence)
        request = ChatRequest(endpoint=self.endpoint, messages=(Message("user", "x"),), max_tokens=4)
        attempt = await ask(request)
        is_valid = attempt.status is AttemptStatus.ANSWERED and attempt.text.startswith("{")
        output = json.loads(attempt.text) if is_valid else None
        problem = None if is_valid else "no JSON"
        confidence = self.confidence if is_valid else None
        return Answer(output=output, valid=is_valid, schema_pass=is_valid, problem=problem, confidence=confidence)


def cascade(first: Approach, then: Approach, threshold: float, calibration: Calibration = AS_STATED) -> Cascade:
    return Cascade(name="both", first=first, then=then, calibration=calibration, threshold=threshold)


@pytest.mark.parametrize("confidence", [0.0, 1e-12, 0.2, 0.5, 0.999999, 1.0, None])
async def test_a_threshold_of_0_is_the_first_and_one_of_1_or_more_the_second(confidence: float | None) -> None:
    """Whatever it states, even a confidence of 1, and even none at all."""
    first, then = Says(name="first", confidence=confidence), Says(name="then")
    ask = ScriptedAsk([""])
    kept = await cascade(first, then, 0.0).answer(CASE, ask)
    assert kept.output == (await first.answer(CASE, ask)).output
    assert kept.asked == ("first",)
    for threshold in (1.0, 1.5):
        gone_on = await cascade(first, then, threshold).answer(CASE, ask)
        assert gone_on.output == (await then.answer(CASE, ask)).output
        assert gone_on.asked == ("first", "then")


async def test_a_case_goes_on_below_the_calibrated_confidence_and_says_so() -> None:
    first, then = Says(name="first", confidence=0.9), Says(name="then", confidence=0.4)
    bold = Calibration(scale=0.5, shift=-0.5)
    assert bold.of(0.9) == pytest.approx(1 / (1 + np.exp(0.5 - 0.5 * np.log(9))))
    answer = await cascade(first, then, 0.7, bold).answer(CASE, ScriptedAsk([""]))
    assert answer.output == {"label": "then"}
    assert answer.notes == ("first: 64.5% sure, below 70.0%; then was asked",)
    kept = await cascade(first, then, 0.6, bold).answer(CASE, ScriptedAsk([""]))
    assert kept.confidence == pytest.approx(bold.of(0.9))
    assert (kept.output, kept.notes) == ({"label": "first"}, ())


async def test_calls_of_the_second_are_extra_only_where_the_first_had_no_valid_answer() -> None:
    """Design section 4: a call that an invalid answer made necessary is a retry, one that was planned is not."""
    first, then = Says(name="first", confidence=0.3, endpoint="a"), Says(name="then", endpoint="b")
    for said, is_extra in (('{"label": "x"}', False), ("what?", True)):
        ask = ScriptedAsk([said, '{"label": "y"}'])
        answer = await cascade(first, then, 0.5).answer(CASE, ask)
        assert answer.output == {"label": "y"}
        assert answer.schema_pass != is_extra
        assert [(one.request.endpoint, one.step, one.extra) for one in ask.asked] == [
            ("a", "first: answer", False),
            ("b", "then: answer", is_extra),
        ]


async def test_a_valid_answer_is_never_given_up_for_an_invalid_one() -> None:
    first, then = Says(name="first", confidence=0.3, endpoint="a"), Says(name="then", endpoint="b")
    answer = await cascade(first, then, 0.5).answer(CASE, ScriptedAsk(['{"label": "x"}', "what?"]))
    assert (answer.output, answer.valid, answer.schema_pass) == ({"label": "x"}, True, False)
    assert answer.asked == ("first", "then", "first")
    neither = await cascade(first, then, 0.5).answer(CASE, ScriptedAsk(["what?", "what?"]))
    assert (neither.output, neither.valid, neither.problem) == (None, False, "no JSON")


async def test_latency_is_that_of_both() -> None:
    """One waits for the other; a member that says how long its own chain of calls was is believed."""
    first, then = Says(name="first", confidence=0.3, endpoint="a"), Says(name="then", endpoint="b")
    slow = ScriptedAsk(['{"label": "x"}'])
    attempt = replace(await slow(ChatRequest(endpoint="a", messages=(), max_tokens=1)), latency_s=0.75)
    answer = await cascade(first, then, 0.5).answer(CASE, ScriptedAsk([attempt]))
    assert answer.calls_s == 1.5


async def test_cascades_conform_and_name_all_endpoints() -> None:
    first = Says(name="first", confidence=0.9, endpoint="a")
    then = Says(name="then", endpoint="b", levers=frozenset({Lever.RETRIEVAL}))
    inner = cascade(first, then, 0.5)
    outer = replace(cascade(Says(name="third", confidence=0.1, endpoint="c"), inner, 0.5), name="outer")
    assert endpoints_of(outer) == ("c", "a", "b")
    assert outer.levers == {Lever.PROMPT, Lever.RETRIEVAL}
    by_itself = cascade(Says(name="head", confidence=0.1), then, 0.5)
    await check_approach(lambda: by_itself, CASE, good_answer='{"label": "x"}')
    found = await outer.answer(CASE, ScriptedAsk(['{"label": "x"}']))
    assert found.asked == ("third", "first")
    assert replace(inner, threshold=0.6).fingerprint != inner.fingerprint


def test_calibration_is_a_logistic_regression_on_log_odds() -> None:
    """With enough cases it is what scikit-learn fits; and what was surer stays surer."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    source = np.random.default_rng(3)
    stated = source.beta(5, 1.5, 20_000)
    z = np.log(stated) - np.log1p(-stated)
    right = source.random(20_000) < 1 / (1 + np.exp(-(0.6 * z - 0.4)))
    found = calibrate(stated, right)
    fitted = linear_model.LogisticRegression(C=1e9).fit(z[:, None], right)
    assert found.scale == pytest.approx(fitted.coef_[0, 0], abs=2e-3)
    assert found.shift == pytest.approx(fitted.intercept_[0], abs=2e-3)
    assert found.of_all(stated).mean() == pytest.approx(right.mean(), abs=1e-3)
    ordered = found.of_all(np.sort(stated))
    assert (np.diff(ordered) >= 0).all()


def test_confidence_that_runs_the_wrong_way_is_believed_in_nothing() -> None:
    source = np.random.default_rng(4)
    stated = source.random(2_000)
    found = calibrate(stated, source.random(2_000) < 1 - stated)
    assert found.scale == 0.0


def test_the_probability_of_a_long_answer_still_orders_cases() -> None:
    """The product of hundreds of token probabilities is tiny, far below any rounding of probabilities."""
    stated = np.exp(-np.linspace(150, 20, 200))
    right = np.arange(200) > 100
    found = calibrate(stated, right).of_all(stated)
    assert found[0] < 0.05
    assert found[-1] > 0.95


# ---- study.yaml -----------------------------------------------------------------------------------------------------


def study(**approaches: Any) -> StudyFile:  # noqa: ANN401 - any YAML
    return StudyFile.model_validate(
        {
            "study": "s",
            "cases": "cases.csv",
            "task": {"input": "text", "expected": "label", "labels": ["a", "b"]},
            "approaches": {
                "sure": {"prompt": {"confidence": True}},
                "plain": {},
                "head": {"model": "none", "tuning": {"method": "head"}},
                "gold": {"retrieval": {"knowledge": "gold"}},
                "parts": {"prompt": {"confidence": True}, "workflow": {"split": {"x": ["a"], "y": ["b"]}}},
                "one-nearest": {"model": "none", "retrieval": {"examples": 1}},
                **approaches,
            },
        }
    )


@pytest.mark.parametrize(
    ("cascade", "said"),
    [
        ({"first": "sure", "then": "plein"}, "did you mean 'plain'"),
        ({"first": "sure", "then": "sure"}, "name two approaches"),
        ({"first": "sure", "then": "gold"}, "gold passages"),
        ({"first": "plain", "then": "sure"}, "approaches.plain.prompt confidence: true"),
        ({"first": "one-nearest", "then": "sure"}, "retrieval.examples: 5"),
        ({"first": "parts", "then": "sure"}, "from several calls"),
        ({"first": "sure", "then": "both"}, "in a circle: both -> both"),
        ({"first": "sure", "then": "other"}, "in a circle: both -> other -> both"),
        ({"first": "inner", "then": "plain"}, "is a cascade itself"),
        ({"first": "sure", "then": "plain", "below": 0.5, "success": 0.9}, "success belongs to below: auto"),
        ({"first": "sure", "then": "plain", "below": 1.5}, "less than or equal to 1"),
    ],
)
def test_a_cascade_that_cannot_work_is_refused_with_what_to_do(cascade: dict[str, Any], said: str) -> None:
    more = {}
    if cascade["then"] == "other":
        more["other"] = {"cascade": {"first": "sure", "then": "both"}}
    if cascade["first"] == "inner":
        more["inner"] = {"cascade": {"first": "sure", "then": "plain"}}
    with pytest.raises(ValidationError, match=said):
        study(both={"cascade": cascade}, **more)


def test_a_cascade_stands_alone_and_changes_no_other_fingerprint() -> None:
    with pytest.raises(ValidationError, match="leave out model"):
        ApproachSpec.model_validate({"model": "local", "cascade": {"first": "a", "then": "b"}})
    dumped = ApproachSpec().model_dump(mode="json")
    assert "cascade" not in dumped
    assert "confidence" not in dumped["prompt"]


@pytest.mark.parametrize("first", ["sure", "head"])
def test_what_can_say_how_sure_it_is_may_answer_first(first: str) -> None:
    file = study(
        both={"cascade": {"first": first, "then": "plain"}},
        three={"cascade": {"first": "head", "then": "both", "success": 0.9}},
    )
    cascades = {name: one.cascade for name, one in file.approaches.items() if one.cascade is not None}
    assert in_order({"three": cascades["three"], "both": cascades["both"]}) == ["both", "three"]
