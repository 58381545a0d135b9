"""The calls of one case in a workflow: how long they took one after the other, and what they have looked up already."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from steelyard.approaches.approach import Ask
from steelyard.approaches.prompting import FindPassages, LookedUp
from steelyard.approaches.question import LookUp, Question
from steelyard.cases.case import CaseInput
from steelyard.models.calls import Attempt, ChatRequest


@dataclass(slots=True)
class TimedAsk:
    """The engine's door, with the seconds of the calls that went through it one after the other."""

    ask: Ask
    seconds: float = field(default=0.0)

    async def __call__(self, request: ChatRequest, *, step: str = "answer", extra: bool = False) -> Attempt:
        """Pass the call on."""
        attempt = await self.ask(request, step=step, extra=extra)
        self.seconds += attempt.latency_s
        return attempt


@dataclass(slots=True)
class Lookups:
    """What was looked up for one case: steps and votes that show the same passages look them up once.

    Without this each of them would ask anew for queries, vectors and rerankings, and pay for each.
    """

    ask: Ask
    steps: frozenset[str] = frozenset()
    """Steps whose outputs are searched for."""
    _known: dict[bytes, tuple[LookedUp, float]] = field(default_factory=dict)
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    def of(self, question: Question, timed: TimedAsk) -> LookUp:
        """Looks up for a question, once; whoever comes later is charged the seconds of the calls too, not the calls."""

        async def look_up(case: CaseInput, ask: Ask, steps: Mapping[str, Any] | None) -> LookedUp | None:
            finder = question.prompting.find_passages
            if finder is None:
                return None
            found, seconds = await self._found(finder, case, steps)
            timed.seconds += seconds
            return found

        return look_up

    async def _found(
        self, finder: FindPassages, case: CaseInput, steps: Mapping[str, Any] | None
    ) -> tuple[LookedUp, float]:
        searched = {name: output for name, output in (steps or {}).items() if name in self.steps}
        key = orjson.dumps([dict(case.fields), searched], default=str, option=orjson.OPT_SORT_KEYS)
        async with self._one_at_a_time:
            if key not in self._known:
                timed = TimedAsk(self.ask)
                self._known[key] = (await finder.passages(case, timed, steps), timed.seconds)
            return self._known[key]
