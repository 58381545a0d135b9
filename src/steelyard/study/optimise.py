"""`steelyard optimise`: search for a better prompt, or better retrieval, of one approach on train and dev cases.

Trials go through the engine like everything else: journalled under the approach's name with the fingerprint of the
prompt or settings tried and the split `dev` (trial calls on train cases: `train`), so each is paid once, a search that was killed
goes on from where it was, and a ceiling on calls or money holds. The test split is never asked.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from steelyard.approaches.search import SearchPlan
from steelyard.approaches.search_spec import OptimiseSpec
from steelyard.engine.budget import Budget
from steelyard.engine.entries import Spent
from steelyard.engine.estimate import dry_run
from steelyard.engine.journal import Journal
from steelyard.engine.lock import study_lock
from steelyard.engine.progress import progress_for
from steelyard.errors import BudgetReached, RunStopped
from steelyard.report.format import money
from steelyard.study.endpoints import hosted_endpoints, unsent_endpoints
from steelyard.study.halving import Halving, PromptHalving
from steelyard.study.optimised import Optimised
from steelyard.study.optimised_file import keep_optimised
from steelyard.study.record import spent_before
from steelyard.study.reflecting import Reflection
from steelyard.study.retrieval_search import RetrievalSearch
from steelyard.study.running import (
    Plan,
    local_endpoint,
    package_version,
    run_work,
    workbench,
)
from steelyard.study.scoring import journal_path
from steelyard.study.searching import search_id
from steelyard.study.talk import Talk
from steelyard.study.till import StudyTill

SEARCH_SCHEMA = "steelyard.search/1"
"""Of what the journal notes when a search begins."""


@dataclass(frozen=True, kw_only=True, repr=False)
class SearchEstimate:
    """What a search would ask and cost; first calls are priced, the ceiling on calls counts repairs too."""

    approach: str
    plan: SearchPlan
    budget_calls: int
    noun: str
    """What takes part: prompts or settings."""
    n_ranked: int = 0
    """Settings that are ranked beforehand by what they find, without a call."""
    likely_usd: float | None
    """With answers of full length and no repairs; `None` where no price is known."""

    def to_json(self) -> dict[str, Any]:
        """What `optimise --dry-run --json` prints."""
        plan = self.plan
        return {
            "schema": "steelyard.search-plan/1",
            "approach": self.approach,
            "settings_ranked": self.n_ranked,
            "rounds": [{self.noun: one.n_candidates, "dev_cases": one.n_cases} for one in plan.rounds],
            "trial_calls": plan.n_trials,
            "first_calls": plan.n_trials + plan.n_dev_outcomes + plan.n_reflections,
            "most_calls": plan.most_calls,
            "budget_calls": self.budget_calls,
            "likely_usd": self.likely_usd,
        }

    def __str__(self) -> str:
        plan = self.plan
        parts = [f"{one.n_candidates} {self.noun} on {one.n_cases} dev cases" for one in plan.rounds]
        if self.n_ranked:
            parts.insert(0, f"{self.n_ranked} settings ranked by the gold they find, without a call")
        rounds = ", then ".join(parts)
        trials = f", after {plan.n_trials} trial calls on train cases" if plan.n_trials else ""
        likely = "at a price that is not known" if self.likely_usd is None else f"about {money(self.likely_usd)}"
        if plan.n_reflections:
            trials = f", learning from train cases; {plan.n_reflections} rewritings, whose price is not counted here"
        n_first = plan.n_trials + plan.n_dev_outcomes + plan.n_reflections
        return (
            f"{self.approach}: {rounds}{trials}\n"
            f"{n_first:,} first calls, {likely}; with everything that may follow at most {plan.most_calls:,} of the"
            f" {self.budget_calls:,} calls allowed\nwhat is in the journal already is not asked again; nothing was sent"
        )

    __repr__ = __str__


def optimise_plan(plan: Plan, approach: str, spec: OptimiseSpec, *, progress: bool, command: str) -> Optimised:
    """Search, and keep what was found in the study folder.

    Args:
        plan: The study with this approach as it is written.
        approach: Its name.
        spec: What may be tried and spent.
        progress: Show progress on standard error.
        command: What was typed, for the journal.

    Raises:
        InputError: The approach has no prompt that can be searched, or the budget is too small for any search.
        RunStopped: It ended early; the same command goes on from there. A budget that is reached after the first round
            ends the search with the best prompt so far instead.
    """
    say = Talk(sys.stderr if progress else None)
    listener = progress_for(quiet=not progress)
    with study_lock(plan.folder), Journal.open(journal_path(plan.folder)) as journal:
        spent_on_it = _spent_on(journal, search_id(plan, approach, spec))
        before = journal.spent()
        budget = _ceiling(plan, spec, spent=before, already=spent_on_it)
        note = listener.on_note if listener else None
        bench = workbench(plan, say=_once(say), till=StudyTill(journal=journal, budget=budget))
        search = _KINDS[spec.method](plan, approach, spec, bench, journal, note=note)
        hosted = hosted_endpoints(plan.file, plan.task, plan.specs, budget, also=_also_asked(plan, spec))
        ended: str | None = None
        work = search.more() if isinstance(search, Halving) else search.first_round()
        say.end()
        if work or journal.spent() != before:  # embedding documents and questions may have been paid for
            journal.record_cases([*plan.material.splits.train, *plan.material.splits.dev])
            study = {
                "schema": SEARCH_SCHEMA,
                "approach": approach,
                "search": search.id,
                "spent_before": spent_before(before),
            }
            number = journal.start_run(command=command, package_version=package_version(), study=study)
            try:
                with local_endpoint(plan, {approach: search.written}, work, journal, say) as local_ones:
                    say.end()
                    endpoints = {**hosted, **local_ones}
                    if isinstance(search, Reflection):
                        asyncio.run(search.go(endpoints=endpoints, budget=budget))
                    else:
                        asyncio.run(
                            run_work(
                                work,
                                endpoints=endpoints,
                                journal=journal,
                                plan=plan,
                                budget=budget,
                                progress=listener,
                                followed_by=search.more,
                            )
                        )
            except RunStopped as stopped:
                journal.finish_run(number, ended=str(stopped))
                if not isinstance(stopped, BudgetReached) or not search.has_finished_a_round:
                    raise
                ended = stopped.problem.what
            else:
                journal.finish_run(number)
        found = search.result(spent=_spent_on(journal, search.id), ended=ended)
    keep_optimised(found, plan.folder)
    return found


def estimate_search(plan: Plan, approach: str, spec: OptimiseSpec) -> SearchEstimate:
    """What a search would ask; sends nothing and writes nothing.

    Raises:
        InputError: As for `optimise_plan`.
    """
    bench = workbench(plan, say=Talk(None))
    if bench.document_embedder is not None:  # an endpoint, which would be paid: prompts are counted without passages
        bench = replace(bench, looks_up=False)
    search = _KINDS[spec.method](plan, approach, spec, bench, None, note=None)
    first = search.first_round()
    estimate = asyncio.run(dry_run(first, endpoints=unsent_endpoints(plan.file, plan.folder), journal=None))
    likely = estimate.likely_usd
    n_all = search.plan.n_trials + search.plan.n_dev_outcomes
    return SearchEstimate(
        approach=approach,
        plan=search.plan,
        budget_calls=spec.budget_calls,
        noun=search.noun,
        n_ranked=search.n_ranked,
        likely_usd=None if likely is None else likely / max(1, estimate.n_first_calls) * n_all,
    )


# ---- private --------------------------------------------------------------------------------------------------------

_KINDS: dict[str, type[PromptHalving | RetrievalSearch | Reflection]] = {
    "halving": PromptHalving,
    "gepa": Reflection,
    "retrieval": RetrievalSearch,
}


def _also_asked(plan: Plan, spec: OptimiseSpec) -> tuple[str, ...]:
    """Endpoints that no approach as written asks, but the search may."""
    rerankers = spec.rerank if spec.method == "retrieval" else ()
    named = (spec.reflection_model, *rerankers)
    return tuple(name for name in named if name is not None and name in plan.file.models.endpoints)


def _ceiling(plan: Plan, spec: OptimiseSpec, *, spent: Spent, already: Spent) -> Budget:
    """What the whole study may have spent when the search ends: its own ceiling, or what is left of the search's."""
    own = plan.file.run
    calls = spent.calls + max(0, spec.budget_calls - already.calls)
    usd = None if spec.budget_usd is None else spent.usd + max(0.0, spec.budget_usd - already.usd)
    return Budget(
        usd=min((one for one in (own.budget_usd, usd) if one is not None), default=None),
        calls=calls if own.budget_calls is None else min(own.budget_calls, calls),
    )


def _spent_on(journal: Journal, search: str) -> Spent:
    """What all commands of a search have paid, one that was killed included.

    A command has paid what there was between its beginning and that of the next one, since one process at a time works
    on a study.
    """
    now = journal.spent()
    after = spent_before(now)
    calls, usd = 0, 0.0
    for run in reversed(journal.runs()):
        before = run.study.get("spent_before")
        if before is None:
            continue
        if run.study.get("search") == search and run.study.get("schema") == SEARCH_SCHEMA:
            calls += after["calls"] - before["calls"]
            usd += after["usd"] - before["usd"]
        after = before
    return Spent(calls, usd, now.unpriced_calls)


def _once(say: Callable[[str], None]) -> Callable[[str], None]:
    """Says each line once, although many prompts are prepared alike."""
    said: set[str] = set()

    def tell(line: str) -> None:
        if line not in said:
            said.add(line)
            say(line)

    return tell
