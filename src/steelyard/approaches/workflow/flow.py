"""The approach made of steps: each runs as soon as those it waits for are done, side by side where it can.

What counts where (design section 4):

- Planned calls are those that the steps on the branch taken make on their first pass, samples of a vote included;
  whatever is asked again is extra.
- Schema pass: every step that answered was valid as it came.
- Latency: the longest chain of calls that waited for each other, not the sum of calls made side by side.

The answer is the output of the last step that ran and has one. A step that fails leaves the case without what it
should have given; the case goes on, and its answer says which step failed and why. It never stops a run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from steelyard.approaches.approach import Answer, Ask
from steelyard.approaches.spec import Lever
from steelyard.approaches.workflow.calls import Lookups
from steelyard.approaches.workflow.steps import GuardStep, QueryStep, RouteStep, State, Step, StepResult
from steelyard.cases.case import CaseInput
from steelyard.errors import InputError, SteelyardError
from steelyard.task.output import validate
from steelyard.task.task import Task

BEHAVIOUR = 1
"""Raised by one whenever a workflow of the same steps would answer differently."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacedStep:
    """A step in its workflow."""

    step: Step
    needs: tuple[str, ...]
    """Steps it waits for, and those they wait for, in declared order."""
    on: Mapping[str, str]
    """By route: the branch on which it runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """A prepared workflow."""

    name: str
    levers: frozenset[Lever]
    fingerprint: str
    endpoint: str
    task: Task
    steps: Mapping[str, PlacedStep]
    """As declared; every step stands after those it needs in some order without circles."""
    searched_steps: frozenset[str] = frozenset()
    """Steps whose outputs are searched for in documents."""

    async def answer(self, case: CaseInput, ask: Ask) -> Answer:
        """Run the steps."""
        results: dict[str, StepResult] = {}
        finished_s: dict[str, float] = {}
        tasks: dict[str, asyncio.Task[None]] = {}
        lookups = Lookups(ask, self.searched_steps)

        async def run(name: str) -> None:
            placed = self.steps[name]
            for needed in placed.needs:
                await tasks[needed]
            result = await self._result(name, placed, case, results, lookups)
            began_s = max((finished_s[needed] for needed in placed.needs), default=0.0)
            results[name], finished_s[name] = result, began_s + result.calls_s

        # Created together before any runs, so that each finds those it waits for.
        tasks.update({name: asyncio.ensure_future(run(name)) for name in self.steps})
        try:
            await asyncio.gather(*tasks.values())
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
        return self._answer({name: results[name] for name in self.steps}, max(finished_s.values()))

    async def _result(
        self, name: str, placed: PlacedStep, case: CaseInput, results: Mapping[str, StepResult], lookups: Lookups
    ) -> StepResult:
        # Only what it waits for: what else happens to be done must not change what it does.
        needed = {one: results[one] for one in placed.needs}
        if any(result.is_blocked for result in needed.values()):
            return StepResult(is_skipped=True)
        if any(needed[route].branch != branch for route, branch in placed.on.items()):
            return StepResult(is_skipped=True)
        state = State(case=_mended(case, needed), results=needed, lookups=lookups)
        try:
            return await placed.step.run(name, state, lookups.ask)
        except InputError as error:  # a template that cannot be filled in with this case
            return StepResult(problem=error.problems[0].what)
        except SteelyardError:
            raise
        except Exception as error:  # noqa: BLE001 - functions of the study may raise anything; that is data
            return StepResult(problem=f"{type(error).__name__}: {error}")

    def _answer(self, results: Mapping[str, StepResult], calls_s: float) -> Answer:
        ran = {name: result for name, result in results.items() if not result.is_skipped}
        blocked = next((name for name, result in ran.items() if result.is_blocked), None)
        answering = [
            name
            for name in ran
            if not isinstance(self.steps[name].step, RouteStep | QueryStep) and not self._is_input_guard(name)
        ]
        last = answering[-1] if answering and blocked is None else None
        output = ran[last].output if last is not None else None
        invalid = validate(output, self.task) if output is not None else None
        passes = [result.as_it_came for result in ran.values() if result.as_it_came is not None]
        said = [f"{name}: {result.problem}" for name, result in ran.items() if result.problem]
        if blocked is not None:
            said = [f"{blocked}: {ran[blocked].problem}"]
        elif invalid is not None:
            said = [*said, invalid]
        elif last is not None and output is not None and ran[last].problem is None:
            said = []  # what went wrong on the way was put right
        return Answer(
            output=output,
            valid=output is not None and invalid is None,
            schema_pass=bool(passes) and all(passes),
            problem="; ".join(said) or (None if output is not None else "no step gave an output"),
            sources=tuple(dict.fromkeys(source for result in ran.values() for source in result.sources)),
            confidence=ran[last].confidence if last is not None else None,
            notes=tuple(note for result in ran.values() for note in result.notes),
            calls_s=calls_s,
        )

    def _is_input_guard(self, name: str) -> bool:
        step = self.steps[name].step
        return isinstance(step, GuardStep) and step.spec.on == "input"


# ---- private --------------------------------------------------------------------------------------------------------


def _mended(case: CaseInput, results: Mapping[str, StepResult]) -> CaseInput:
    """The case as guards on the input have left it."""
    for result in results.values():
        if result.fields is not None:
            case = replace(case, fields=result.fields)
    return case
