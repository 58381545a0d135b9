"""Successive halving on dev cases: of prompts here, of ways to look passages up in `steelyard.study.retrieval_search`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from steelyard.approaches.candidates import Tried, candidates, n_trials_wanted
from steelyard.approaches.search import SearchPlan, mean, plan_search, smallest_budget
from steelyard.approaches.search_spec import OptimiseSpec
from steelyard.approaches.workbench import Workbench
from steelyard.cases.case import Case
from steelyard.cases.sample import take
from steelyard.engine.journal import Journal
from steelyard.engine.run import Work
from steelyard.errors import InputError, Problem
from steelyard.report.format import percent
from steelyard.study.running import Plan
from steelyard.study.searching import Entered, Search


class Halving(Search, ABC):
    """A search in rounds: what is asked next, given what the journal holds; see `steelyard.approaches.search`."""

    _announced = -1

    @abstractmethod
    def first_round(self) -> list[Work]:
        """The first round as far as it is known beforehand, for an estimate."""

    @abstractmethod
    def more(self) -> list[Work]:
        """What to ask next; empty once the search is over."""

    # Private

    def _planned(self, n_candidates: int, n_trials: int = 0) -> SearchPlan:
        if n_candidates < 2:
            raise self._nothing_else()
        budget = self._spec.budget_calls
        plan = plan_search(
            n_candidates, len(self._dev), budget_calls=budget, calls_per_case=self._per_case, n_trials=n_trials
        )
        if plan is None:
            least = smallest_budget(len(self._dev), calls_per_case=self._per_case)
            each = f" ({self._per_case} calls a case at most)" if self._per_case > 1 else ""
            raise InputError(
                Problem(
                    where=f"{self._where}.budget_calls",
                    what=f"{budget} calls are too few to compare even two {self.noun}{each}",
                    hint=f"give at least {least}",
                )
            )
        return plan

    def _nothing_else(self) -> InputError:
        hint = "allow instructions or examples"
        return InputError(Problem(where=self._where, what="there is no other prompt to try", hint=hint))

    def _take_part(self, found: Sequence[Tried]) -> None:
        """Prepare as many different ones as the plan has places, and plan again where there are fewer."""
        for candidate in found:
            if len(self._entered) == self.plan.n_candidates:
                break
            entered = self._enter(candidate)
            if self._is_new(entered):
                self._entered.append(entered)
        if len(self._entered) < self.plan.n_candidates:
            self.plan = self._planned(len(self._entered), self.plan.n_trials)
            del self._entered[self.plan.n_candidates :]
        order: dict[str, Case] = {}
        for one in self.plan.rounds:  # a larger sample only adds cases, so each round is a prefix
            order |= {case.id: case for case in take(self._dev, one.n_cases, self._spec.seed) if case.id not in order}
        self._order = tuple(order.values())

    def _is_new(self, entered: Entered) -> bool:
        return all(entered.said != other.said for other in self._entered)

    def _next_round(self) -> list[Work]:
        """The cases of the round that is going on; empty after the last."""
        now = self._standing()
        if now.round == len(self.plan.rounds):
            return []
        assert now.round > self._announced, "a round ended without all its outcomes"
        self._announced = now.round
        one = self.plan.rounds[now.round]
        best = ""
        if now.n_cases:
            score = mean(self._scores()[now.left[0]][: now.n_cases])
            best = f"; best so far {self._entered[now.left[0]].candidate.name!r} with {percent(score)}"
        self._say(
            f"round {now.round + 1} of {len(self.plan.rounds)}: {one.n_candidates} {self.noun} on {one.n_cases} dev"
            f" cases{best}"
        )
        return self._work(now.left, one.n_cases)


class PromptHalving(Halving):
    """The search that needs no other model: ways to put the task and example sets."""

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
            InputError: There is nothing to search or to try, an own instruction is wrong, or the budget is too small.
        """
        super().__init__(plan, name, spec, bench, journal, note=note)
        everything = candidates(self._approach.prompt, spec, bench.task, self._usable, right=(), where=self._where)
        for place in dict.fromkeys(one.place for one in everything if one.place is not None):
            self._enter(next(one for one in everything if one.place == place))  # a mistake is found before it costs
        wanted = min(n_trials_wanted(spec), len(self._usable))
        self.plan = self._planned(len(everything), wanted)
        self._trials = take(self._usable, self.plan.n_trials, spec.seed) if self.plan.n_trials else ()

    def first_round(self) -> list[Work]:
        """The first round with random examples alone."""
        self._enter_all(right=())
        return self._work(range(self.plan.n_candidates), self.plan.rounds[0].n_cases)

    def more(self) -> list[Work]:
        """Trial calls, then round by round."""
        if not self._order:
            trials = Work(approach=self.written.approach, cases=self._trials, split="train")
            if any(True for _ in trials.left(self._journalled)):
                self._say(f"{len(self._trials)} trial calls on train cases, to choose examples by")
                return [trials]
            self._enter_all(right=self._answered_right())
        return self._next_round()

    # Private

    def _enter_all(self, *, right: Sequence[str]) -> None:
        found = candidates(
            self._approach.prompt, self._spec, self._bench.task, self._usable, right=right, where=self._where
        )
        self._take_part(found[1:])

    def _answered_right(self) -> list[str]:
        """Ids of the trial cases that the prompt as written got right."""
        rows = self._rows_of(self.written, self._trials, split="train")
        return [row["case_id"] for row in rows if row["success"]]
