"""The conformance suite notices what it is there to notice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import pytest

from steelyard.approaches.approach import Answer, Ask
from steelyard.approaches.conformance import check_approach
from steelyard.approaches.spec import Lever
from steelyard.cases.case import CaseInput
from steelyard.errors import CheckFailed
from steelyard.models.calls import ChatRequest, Message

CASE = CaseInput(id="1", fields={"text": "hello"})


@dataclass
class Echo:
    """Asks once and believes everything; each test breaks one thing in it."""

    name: str = "echo"
    levers: frozenset[Lever] = frozenset({Lever.PROMPT})
    fingerprint: str = "f"
    endpoint: str | None = "local"
    calls: str = "local"
    extra: bool = False
    times: int = 1
    touch: Callable[[CaseInput], Any] = lambda case: None
    change: Callable[[Answer], Answer] = lambda answer: answer

    async def answer(self, case: CaseInput, ask: Ask) -> Answer:
        self.touch(case)
        request = ChatRequest(endpoint=self.calls, messages=(Message("user", str(case.fields["text"])),), max_tokens=8)
        for number in range(self.times):
            attempt = await ask(replace(request, seed=number), extra=self.extra)
        text = attempt.text
        if not text:
            return self.change(Answer(output=None, valid=False, schema_pass=False, problem="no text"))
        return self.change(Answer(output={"text": text}, valid=True, schema_pass=True))


async def test_a_sound_approach_conforms() -> None:
    """Nothing is asked of an approach that a simple one does not do."""
    await check_approach(Echo, CASE, good_answer="fine")


_numbers = count()


def _scribble(case: CaseInput) -> None:
    assert isinstance(case.fields, dict)
    case.fields["text"] = "x"


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: Echo(name=""), "has a name"),
        (lambda: Echo(levers=frozenset()), "levers"),
        (lambda: Echo(fingerprint=str(next(_numbers))), "equal fingerprints"),
        (lambda: Echo(touch=_scribble), "does not change the case"),
        (lambda: Echo(endpoint=None), "calls no model"),
        (lambda: Echo(calls="other"), "endpoint it names"),
        (lambda: Echo(extra=True), "beyond the planned"),
        (lambda: Echo(times=2), "beyond the planned"),
        (lambda: Echo(change=lambda answer: replace(answer, problem=None)), "says why"),
        (lambda: Echo(change=lambda answer: replace(answer, valid=True)), "has an output"),
        (lambda: Echo(change=lambda answer: replace(answer, schema_pass=True)), "valid in the end"),
        (lambda: Echo(change=lambda answer: replace(answer, confidence=1.5)), "confidence"),
        (lambda: Echo(change=lambda answer: replace(answer, sources=(str(next(_numbers)),))), "same answer twice"),
    ],
)
async def test_each_broken_promise_is_named(make: Callable[[], Echo], rule: str) -> None:
    """Whatever is broken, the message says which rule it was."""
    case = CaseInput(id="1", fields={"text": "hello"})
    with pytest.raises(CheckFailed, match=rule):
        await check_approach(make, case, good_answer="fine")
