"""The search by reflection: a strong model rewrites the instruction from what went wrong, by the library `gepa`.

gepa chooses which instruction to rewrite and which to keep; everything it asks, the rewriting model included, goes through
the engine's door, so it is journalled, priced, within the budget, and replayed for nothing when the search is given
again. Its own clients, logs and files are not used. It learns from train cases and compares on dev cases.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import orjson

from steelyard.approaches.candidates import reworded
from steelyard.approaches.prompted import Prompted
from steelyard.approaches.search import MINIBATCH, Round, SearchPlan, plan_reflection
from steelyard.approaches.search_spec import OptimiseSpec
from steelyard.approaches.workbench import Workbench
from steelyard.cases.case import Case, SplitName
from steelyard.cases.sample import take
from steelyard.engine.ask import Calls, CaseAsk
from steelyard.engine.budget import Budget
from steelyard.engine.journal import Journal
from steelyard.engine.limits import ManagedEndpoint
from steelyard.engine.outcome import Outcome
from steelyard.engine.run import Work, run
from steelyard.errors import InputError, Problem, RunStopped, require
from steelyard.models.calls import ChatRequest, Message
from steelyard.report.format import percent
from steelyard.study.running import Plan, compute_price, study_scorer
from steelyard.study.searching import Search

_MOST_LEARNED_FROM = 200
"""Train cases gepa draws its minibatches from."""
_SHOWN_CHARS = 2000
"""Of an input, that the rewriting model sees."""

Result = TypeVar("Result")


class Reflection(Search):
    """A search whose instructions a model writes."""

    def __init__(
        self,
        plan: Plan,
        name: str,
        spec: OptimiseSpec,
        bench: Workbench,
        journal: Journal | None,
        *,
        note: Callable[[str], None] | None,
    ) -> None:
        """Plan the search; arguments as for `Search`.

        Raises:
            InputError: There is no prompt to search, no such model, or the budget is too small.
            MissingExtra: gepa is not installed.
        """
        require("gepa", feature="method: gepa", extra="gepa")
        super().__init__(plan, name, spec, bench, journal, note=note)
        if spec.reflection_model not in plan.file.models.endpoints:
            known = ", ".join(plan.file.models.endpoints) or "none yet"
            raise InputError(
                Problem(
                    where=f"{self._where}.reflection_model",
                    what=f"there is no endpoint {spec.reflection_model!r}",
                    hint=f"give a name under models.endpoints; there are: {known}",
                )
            )
        self.plan = self._planned()
        self._order = take(self._dev, self.plan.n_cases, spec.seed)
        self._learned_from = take(self._usable, _MOST_LEARNED_FROM, spec.seed) if self._usable else ()
        if not self._learned_from:
            raise InputError(Problem(where="study.yaml:cases.split", what="there are no train cases to learn from"))
        self._dev_ids = {case.id for case in self._order}
        self._by_text: dict[str, int] = {}
        self._n_planned_calls = 0

    def first_round(self) -> list[Work]:
        """The prompt as written on the dev cases, for an estimate and to see which model is asked."""
        return self._work([0], self.plan.n_cases)

    async def go(self, *, endpoints: Mapping[str, ManagedEndpoint], budget: Budget) -> None:
        """Search until the plan or a ceiling ends it; closes the endpoints.

        Raises:
            RunStopped: It ended early.
        """
        from gepa.api import optimize

        loop = asyncio.get_running_loop()

        def wait_for(work: Coroutine[Any, Any, Result]) -> Result:
            return asyncio.run_coroutine_threadsafe(work, loop).result()

        async def outcomes_of(cases: Sequence[Case], text: str) -> list[Outcome]:
            return await self._asked(cases, text, endpoints=endpoints, budget=budget)

        async def rewritten(prompt: str) -> str:
            return await self._rewritten(prompt, endpoints=endpoints, budget=budget)

        # Of no declared type: gepa's own are generic over what no two adapters share.
        adapter: Any = _Adapter(lambda cases, text: wait_for(outcomes_of(cases, text)))

        def search() -> None:
            optimize(
                seed_candidate={_COMPONENT: self._seed_text()},
                trainset=list(self._learned_from),
                valset=list(self._order),
                adapter=adapter,
                reflection_lm=lambda prompt: wait_for(rewritten(_as_text(prompt))),
                reflection_minibatch_size=min(MINIBATCH, len(self._learned_from)),
                stop_callbacks=lambda gepa_state: not self._another_turn_fits(),
                logger=_Silent(),
                track_best_outputs=False,
                seed=self._spec.seed,
            )

        try:
            await asyncio.to_thread(search)
        finally:
            self._settle()
            for one in endpoints.values():
                await one.endpoint.close()

    # Private

    def _planned(self) -> SearchPlan:
        plan = plan_reflection(len(self._dev), budget_calls=self._spec.budget_calls, calls_per_case=self._per_case)
        if plan is None:
            least = next(
                n
                for n in range(self._spec.budget_calls, 100 * self._per_case + 2)
                if plan_reflection(len(self._dev), budget_calls=n, calls_per_case=self._per_case)
            )
            raise InputError(
                Problem(
                    where=f"{self._where}.budget_calls",
                    what=f"{self._spec.budget_calls} calls are too few for a single rewriting",
                    hint=f"give at least {least}",
                )
            )
        return plan

    def _seed_text(self) -> str:
        """The instruction that is rewritten; where the prompt has a system message of its own, that as it is sent."""
        approach = self.written.approach
        assert isinstance(approach, Prompted)
        if self._approach.prompt.system is not None:
            text = approach.question.prompting.text.system
        else:
            text = self._bench.task.instruction
        self._by_text[text] = 0
        return text

    def _another_turn_fits(self) -> bool:
        turn = (2 * MINIBATCH + self.plan.n_cases) * self._per_case + 1
        return self._n_planned_calls + turn <= self._spec.budget_calls

    def _entered_as(self, text: str) -> int:
        if text not in self._by_text:
            name = f"instruction {len(self._entered)} by {self._spec.reflection_model}"
            entered = self._enter(reworded(self._approach.prompt, self._bench.task, text, name=name))
            self._by_text[text] = len(self._entered)
            self._entered.append(entered)
        return self._by_text[text]

    async def _asked(
        self, cases: Sequence[Case], text: str, *, endpoints: Mapping[str, ManagedEndpoint], budget: Budget
    ) -> list[Outcome]:
        """Outcomes of these cases, all of dev or all of train, with this instruction."""
        which = self._entered_as(text)
        approach = self._entered[which].prepared.approach
        split: SplitName = "dev" if cases[0].id in self._dev_ids else "train"
        self._n_planned_calls += len(cases) * self._per_case
        await run(
            [Work(approach=approach, cases=cases, split=split)],
            endpoints=endpoints,
            journal=self._journalled,
            score=study_scorer(self._study),
            success_threshold=self._bench.task.success_threshold,
            budget=budget,
            compute_price=compute_price(self._study.file),
            in_flight=self._study.file.run.in_flight,
            seed=self._study.file.cases.split.seed,
        )
        wanted = {case.id for case in cases}
        found = {
            outcome.case_id: outcome
            for outcome in self._journalled.outcomes({approach.name: approach.fingerprint}, split=split)
            if outcome.case_id in wanted and outcome.repeat == 0
        }
        outcomes = [found[case.id] for case in cases]
        if split == "dev":
            share = sum(outcome.score or 0.0 for outcome in outcomes) / len(outcomes)
            self._say(f"{self._entered[which].candidate.name!r} on {len(cases)} dev cases: {percent(share)}")
        return outcomes

    async def _rewritten(self, prompt: str, *, endpoints: Mapping[str, ManagedEndpoint], budget: Budget) -> str:
        assert self._spec.reflection_model is not None  # the section has checked it
        self._n_planned_calls += 1
        calls = Calls(
            endpoints=endpoints, journal=self._journalled, budget=budget, seed=self._study.file.cases.split.seed
        )
        # The n-th rewriting is a sample of its own, even of the same words.
        request = ChatRequest(
            endpoint=self._spec.reflection_model,
            messages=(Message("user", prompt),),
            max_tokens=self._spec.reflection_tokens,
            temperature=1.0,
            seed=self._spec.seed + self.n_reflections,
        )
        attempt = await CaseAsk(calls, repeat=0)(request, step="reflect")
        self.n_reflections += 1
        known = self.reflection_usd is not None and attempt.price_usd is not None
        self.reflection_usd = (self.reflection_usd or 0.0) + (attempt.price_usd or 0.0) if known else None
        if not attempt.status.has_text:
            raise RunStopped(
                Problem(
                    what=f"{self._spec.reflection_model} rewrote nothing: {attempt.error or attempt.status.value}",
                    hint="the same command goes on from here",
                )
            )
        return attempt.text

    def _settle(self) -> None:
        """Compare the instructions that did all dev cases; the others were given up on train cases."""
        n = self.plan.n_cases
        finished = [one for i, one in enumerate(self._entered) if len(self._rows(i, n)) == n]
        given_up = [one for i, one in enumerate(self._entered) if len(self._rows(i, n)) < n]
        if finished and finished[0] is self._entered[0]:
            self._entered = [*finished, *given_up]
            self.plan = replace(self.plan, rounds=(Round(n_candidates=len(finished), n_cases=n),))


# ---- private --------------------------------------------------------------------------------------------------------

_COMPONENT = "instruction"


class _Adapter:
    """What gepa asks of a program: outcomes of an instruction, and what can be learned from them."""

    propose_new_texts = None

    def __init__(self, outcomes_of: Callable[[Sequence[Case], str], list[Outcome]]) -> None:
        self._outcomes_of = outcomes_of

    def evaluate(self, batch: list[Case], candidate: dict[str, str], capture_traces: bool = False) -> Any:  # noqa: ANN401 - a type of gepa
        from gepa.core.adapter import EvaluationBatch

        outcomes = self._outcomes_of(batch, candidate[_COMPONENT])
        return EvaluationBatch(
            outputs=outcomes,
            scores=[outcome.score or 0.0 for outcome in outcomes],
            trajectories=list(zip(batch, outcomes, strict=True)) if capture_traces else None,
        )

    def make_reflective_dataset(
        self,
        candidate: dict[str, str],
        eval_batch: Any,  # noqa: ANN401 - a type of gepa
        components_to_update: list[str],
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        records = [_record(case, outcome) for case, outcome in eval_batch.trajectories or ()]
        return dict.fromkeys(components_to_update, records)


class _Silent:
    """gepa's own log goes nowhere: what matters is said as it happens and kept in the journal."""

    def log(self, message: str) -> None:
        """Say nothing."""


def _record(case: Case, outcome: Outcome) -> dict[str, Any]:
    expected = orjson.dumps(case.expected).decode()
    if outcome.success:
        feedback = "This answer is right."
    elif outcome.output is None or outcome.problem:
        feedback = f"This answer cannot be used: {outcome.problem}. Expected: {expected}"
    else:
        feedback = f"This answer is wrong (score {outcome.score}). Expected: {expected}"
    shown = {name: str(value)[:_SHOWN_CHARS] for name, value in case.visible().fields.items()}
    return {"Inputs": shown, "Generated Outputs": orjson.dumps(outcome.output).decode(), "Feedback": feedback}


def _as_text(prompt: str | list[dict[str, Any]]) -> str:
    return prompt if isinstance(prompt, str) else orjson.dumps(prompt).decode()
