"""The search for better retrieval: settings ranked by the gold they find, the best few judged by the answers.

1. All settings that look up without a call are tried on the dev cases that name their gold. That takes seconds and no
   call. A few are kept: those that find most, and shorter prompts that find nearly as much.
2. These, crossed with what costs calls (queries, rerankers at an endpoint), go through successive halving on dev as
   prompts do: journalled, within the budget, paid once. The settings as written take part to the end and stay unless
   others score more on the same cases; of equals the shorter prompt goes on.

Without gold the first part falls away, and the budget decides how many settings are tried. With a budget of 0 the
second part does.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence

from steelyard.approaches.candidates import AS_WRITTEN, Tried
from steelyard.approaches.knowledge_spec import LATE_INTERACTION, KnowledgeSpec, KnowledgeUse
from steelyard.approaches.retrieval_settings import (
    KEPT,
    RERANKED,
    RetrievalSetting,
    as_written,
    grid,
    keep,
    to_be_judged,
    with_local_reranker,
)
from steelyard.approaches.search import UNCHANGED, SearchPlan
from steelyard.approaches.search_spec import OptimiseSpec
from steelyard.approaches.workbench import Workbench
from steelyard.cases.sample import take
from steelyard.engine.entries import Spent
from steelyard.engine.journal import Journal
from steelyard.engine.run import Work
from steelyard.errors import InputError, Problem
from steelyard.figures import unknown
from steelyard.report.format import percent
from steelyard.study.finding import Finder, Level, PerCase, with_gold
from steelyard.study.halving import Halving
from steelyard.study.optimised import Finding, Optimised, Ranked
from steelyard.study.running import Plan
from steelyard.study.search_figures import mean_difference, share_of
from steelyard.study.searching import Entered, calls_per_case

_MOST_RANKED_ON = 200
"""Dev cases that settings are ranked on; with more the ranking hardly changes, and takes longer."""


class RetrievalSearch(Halving):
    """A search whose candidates differ in how passages are looked up."""

    noun = "settings"

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
            InputError: There is nothing to look up, no such reranker, or the budget is too small.
        """
        self._use, self._knowledge = _searched(name, plan)
        _refuse_unknown_rerankers(name, spec, plan)
        super().__init__(plan, name, spec, bench, journal, note=note)
        self._gold = take(with_gold(self._dev), _MOST_RANKED_ON, spec.seed) if with_gold(self._dev) else ()
        if not self._gold:
            what = "no dev case names the documents or passages that hold its answer, so settings are judged by answers alone"
            self.notes = (what,)
        if spec.budget_calls == 0 and not self._gold:
            hint = "name documents in a column `sources`, or passages in cases.passages, or give budget_calls"
            raise InputError(Problem(where=f"{self._where}.budget_calls", what=self.notes[0], hint=hint))
        self._per_case = max(
            calls_per_case(one.put_into(self._approach), plan)
            for one in [as_written(self._use), *self._judged(grid(self._use, self._knowledge, spec)[:1])]
        )
        self.n_ranked = len(grid(self._use, self._knowledge, spec)) if self._gold else 0
        some = self._some_of_the_grid()
        self.plan = self._planned(1 + len(self._judged(some[:KEPT] if self._gold else some)))

    def first_round(self) -> list[Work]:
        """The settings as written alone: what others would say is known once they were ranked."""
        if not self.plan.rounds:
            return []
        cases = take(self._dev, self.plan.rounds[0].n_cases, self._spec.seed)
        return [Work(approach=self.written.approach, cases=cases, split="dev")]

    def more(self) -> list[Work]:
        """Round by round, once settings were ranked."""
        if not self._order and self.finding is None:
            kept = self._ranked() if self._gold else self._some_of_the_grid()
            if not self._spec.budget_calls:
                return []
            judged = self._judged(kept)
            self.plan = self._planned(1 + len(judged))
            self._take_part(judged)
        return self._next_round() if self._spec.budget_calls else []

    def result(self, *, spent: Spent, ended: str | None) -> Optimised:
        """How it went."""
        if self._spec.budget_calls:
            return super().result(spent=spent, ended=ended)
        return self._result_without_answers(spent)

    # Settings

    def _as_written(self) -> Tried:
        return as_written(self._use)

    def _some_of_the_grid(self) -> tuple[RetrievalSetting, ...]:
        """Settings in a random order, where nothing says which find more."""
        others = [one for one in grid(self._use, self._knowledge, self._spec) if one.name != AS_WRITTEN]
        return tuple(random.Random(self._spec.seed).sample(others, len(others)))

    def _judged(self, kept: Sequence[RetrievalSetting]) -> tuple[RetrievalSetting, ...]:
        """What takes part beside the settings as written."""
        return to_be_judged(kept, self._use, self._knowledge, self._spec, is_ranked=bool(self._gold))

    # First part

    def _ranked(self) -> tuple[RetrievalSetting, ...]:
        """Try all settings on the dev cases with gold; the few to go on with, best first."""
        started = time.perf_counter()
        everything = grid(self._use, self._knowledge, self._spec)
        self._say(f"{len(everything)} settings on {len(self._gold)} dev cases with gold, without a call")
        finder = Finder(self._name, self._approach, self._bench, self._gold)
        found = [(one, finder.find(one)) for one in everything]
        best = keep([(one, per_case.mean) for one, per_case in found], RERANKED)
        found += [(one, finder.find(one)) for one in with_local_reranker(best, self._spec)]
        means = [(one, per_case.mean) for one, per_case in found]
        kept = keep(means)
        by_rank = sorted(found, key=lambda one: one[1].mean.rank)
        top, own = by_rank[0], next((one for one in found if one[0].name == AS_WRITTEN), None)
        self.finding = Finding(
            n_cases=len(self._gold),
            level=finder.level,
            seconds=time.perf_counter() - started,
            ranked=tuple(
                Ranked(
                    name=one.name,
                    knowledge=one.changes()["knowledge"],
                    recall=per_case.mean.recall,
                    mrr=per_case.mean.mrr,
                    prompt_tokens=per_case.mean.prompt_tokens,
                    is_kept=one in kept,
                )
                for one, per_case in by_rank
            ),
            chosen=shortest_as_good(by_rank, finder.level),
            difference=unknown("what the settings as written find is not known without calls")
            if own is None
            else mean_difference(top[1].recall, own[1].recall, self._gold, n_tried=len(found)),
        )
        self._say(f"{top[0].name!r} finds most: {percent(top[1].mean.recall)}")
        return kept

    # Second part

    def _planned(self, n_candidates: int, n_trials: int = 0) -> SearchPlan:
        if not self._spec.budget_calls:
            return SearchPlan(rounds=(), n_trials=0, calls_per_case=self._per_case)
        return super()._planned(n_candidates, n_trials)

    def _is_new(self, entered: Entered) -> bool:
        return True  # settings may say the same of one case, and not of the next

    def _lengths(self) -> list[float]:
        """Tokens of the prompts of the first round, whose cases all have done."""
        n = self.plan.rounds[0].n_cases
        return [share_of(self._rows(i, n), "prompt_tokens") or one.n_chars for i, one in enumerate(self._entered)]

    def _nothing_else(self) -> InputError:
        hint = "allow other values of k, chunk_tokens or full_text_weight"
        return InputError(Problem(where=self._where, what="there are no other settings to try", hint=hint))

    # Without answers

    def _result_without_answers(self, spent: Spent) -> Optimised:
        assert self.finding is not None, "without calls there is gold, or it was refused"
        winner = UNCHANGED
        if self.finding.chosen != AS_WRITTEN and (chosen := self.finding.named(self.finding.chosen)) is not None:
            setting = RetrievalSetting(name=chosen.name, use=KnowledgeUse.model_validate(chosen.knowledge))
            self._entered.append(self._enter(setting))
            winner = len(self._entered) - 1
        return Optimised(
            approach=self._name,
            found_for=self._found_for,
            winner=winner,
            rival=None,
            difference=unknown("answers were not looked at"),
            trials=tuple(self._trial(one, [], is_finalist=True) for one in self._entered),
            n_trial_calls=0,
            trial_cost_usd=0.0,
            n_dev=len(self._dev),
            budget_calls=0,
            budget_usd=self._spec.budget_usd,
            spent_calls=spent.calls,
            spent_usd=spent.usd,
            finding=self.finding,
            notes=self.notes,
        )


def shortest_as_good(by_rank: Sequence[tuple[RetrievalSetting, PerCase]], level: Level) -> str:
    """Which settings to use where only what is found is known: the shortest prompt that finds as much as the best.

    As much is no less than by one standard error of the best (Breiman, Friedman, Olshen and Stone 1984, section 3.4.3): more
    passages always find a little more, every one is paid for in each prompt, and small models lose their way in them.
    Where gold is known by document alone, a short chunk of the right document counts as found whether or not it holds the
    answer; there the one that finds most is taken, and of equals the one as written.

    Args:
        by_rank: Settings with what they find, case by case; the best first.
        level: What gold is known as.

    Returns:
        The name of the settings.
    """
    top, found = by_rank[0]
    own = next((per_case for one, per_case in by_rank if one.name == AS_WRITTEN), None)
    if level == "document":
        return AS_WRITTEN if own is not None and own.mean.recall >= found.mean.recall else top.name
    n = len(found.recall)
    error = float(found.recall.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    as_good = [(one, per_case) for one, per_case in by_rank if per_case.mean.recall >= found.mean.recall - error]
    shortest = min(per_case.mean.prompt_tokens for _, per_case in as_good)
    if any(one.name == AS_WRITTEN and per_case.mean.prompt_tokens <= shortest for one, per_case in as_good):
        return AS_WRITTEN
    return next(one.name for one, per_case in as_good if per_case.mean.prompt_tokens <= shortest)


# ---- private --------------------------------------------------------------------------------------------------------


def _searched(name: str, plan: Plan) -> tuple[KnowledgeUse, KnowledgeSpec]:
    """What the approach looks up, of which documents."""
    use, knowledge = plan.specs[name].knowledge, plan.file.knowledge
    where = f"study.yaml:approaches.{name}.retrieval.knowledge"
    if use is None:
        what = "it looks no documents up, so there is no retrieval to search"
        raise InputError(Problem(where=where, what=what, hint="give it knowledge: true, or search another approach"))
    if use.context != "search":
        what = f"context: {use.context} has no settings of a search"
        raise InputError(Problem(where=f"{where}.context", what=what, hint="search an approach with knowledge: true"))
    if knowledge is None:
        hint = "name a folder of documents, for example: knowledge: docs"
        raise InputError(Problem(where=where, what="the study names no documents", hint=hint))
    return use, knowledge


def _refuse_unknown_rerankers(name: str, spec: OptimiseSpec, plan: Plan) -> None:
    known = ("none", LATE_INTERACTION, *plan.file.models.endpoints)
    unknown_ones = [one for one in spec.rerank if one not in known]
    if unknown_ones:
        where = f"study.yaml:approaches.{name}.optimise.rerank"
        what = f"there is no reranker {unknown_ones[0]!r}"
        raise InputError(Problem(where=where, what=what, hint=f"there are: {', '.join(known)}"))
