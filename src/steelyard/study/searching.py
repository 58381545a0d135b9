"""What all searches have in common: the prompts or settings that take part, their outcomes, and the result.

What is decided hangs on the seed and the outcomes in the journal alone, so a search that was killed goes on from there.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from steelyard.approaches.approach import Prepared
from steelyard.approaches.candidates import Tried, unchanged
from steelyard.approaches.examples import usable_examples
from steelyard.approaches.prepare import prepare
from steelyard.approaches.prompted import Prompted
from steelyard.approaches.prompting import LookedUp
from steelyard.approaches.search import UNCHANGED, SearchPlan, Standing, mean, standing, winner
from steelyard.approaches.search_spec import OptimiseSpec
from steelyard.approaches.spec import ApproachSpec
from steelyard.approaches.workbench import Workbench
from steelyard.cases.case import Case
from steelyard.engine.entries import Spent
from steelyard.engine.journal import Journal
from steelyard.engine.run import Work
from steelyard.errors import InputError, Problem
from steelyard.figures import unknown
from steelyard.study.optimised import Finding, Optimised, Trial
from steelyard.study.optimised_file import found_for
from steelyard.study.running import Plan
from steelyard.study.search_figures import cost_of, difference_of, share_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Entered:
    """A prompt, or a way to look passages up, that takes part."""

    candidate: Tried
    prepared: Prepared
    said: tuple[object, ...]
    """The conversation about the first dev case; prompts that say the same are the same."""
    n_chars: int


class Search:
    """What a search tries, what the journal holds of it, and what came of it; how it goes on is for its kinds."""

    plan: SearchPlan
    """What it asks; known once it has begun."""
    noun = "prompts"
    """What takes part, in words."""
    n_ranked = 0
    """Settings that are ranked beforehand by what they find."""
    n_reflections = 0
    """Calls to a model that rewrites the instruction."""
    reflection_usd: float | None = 0.0
    """What they cost; `None` where a price is unknown."""
    finding: Finding | None = None
    """What settings of retrieval find."""
    notes: tuple[str, ...] = ()
    """What to know of what was tried."""

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
        """Look at what is to be searched; asks nothing.

        Args:
            plan: The study with this approach as it is written.
            name: The approach.
            spec: What may be tried and spent.
            bench: What approaches are prepared with.
            journal: Where outcomes are; `None` for an estimate.
            note: Told how it goes.

        Raises:
            InputError: The approach has no prompt that can be searched.
        """
        self._name = name
        self._study = plan
        self._approach = plan.specs[name]
        self._spec = spec
        self._bench = bench
        self._journal = journal
        self._note = note
        self._where = f"study.yaml:approaches.{name}.optimise"
        self._dev = plan.material.splits.dev
        _refuse(name, self._approach, self._dev)
        self._found_for = found_for(name, plan.file, plan.task, plan.material)
        self.id = search_id(plan, name, spec)
        self._usable = usable_examples(bench.train, bench.task)
        self._per_case = calls_per_case(self._approach, plan)
        self._entered = [self._enter(self._as_written())]
        self._order: tuple[Case, ...] = ()

    @property
    def written(self) -> Prepared:
        """The approach as written."""
        return self._entered[UNCHANGED].prepared

    @property
    def has_finished_a_round(self) -> bool:
        """Whether there is anything to choose by."""
        return bool(self._order) and self._standing().n_cases > 0

    def result(self, *, spent: Spent, ended: str | None) -> Optimised:
        """How it went."""
        now = self._standing()
        scores = self._scores()
        lengths = self._lengths()
        chosen = winner(now, scores, lengths)
        others = [candidate for candidate in now.left if candidate != UNCHANGED]
        rival = chosen if chosen != UNCHANGED else min(
            others, key=lambda c: (-mean(scores[c][: now.n_cases]), lengths[c], c), default=None
        )  # fmt: skip
        n_compared = self.plan.n_candidates
        n_done = [now.dropped.get(i, now.n_cases) if i < n_compared else 0 for i in range(len(self._entered))]
        rows = [self._rows(i, n) for i, n in enumerate(n_done)]
        asked = [self._all_rows(one, split="train") for one in self._entered]
        # What it was asked as a teacher, of cases without a label, was no trial.
        labelled = {case.id for case in self._bench.train}
        trial_rows = [row for rows_of_one in asked for row in rows_of_one if row["case_id"] in labelled]
        trial_usd = cost_of(trial_rows)
        return Optimised(
            approach=self._name,
            found_for=self._found_for,
            winner=chosen,
            rival=rival,
            difference=(
                unknown("nothing was compared")
                if rival is None
                else difference_of(rows[rival], rows[UNCHANGED], n_tried=n_compared)
            ),
            trials=tuple(self._trial(one, rows[i], is_finalist=i in now.left) for i, one in enumerate(self._entered)),
            n_trial_calls=len(trial_rows) + self.n_reflections,
            trial_cost_usd=None
            if trial_usd is None or self.reflection_usd is None
            else trial_usd + self.reflection_usd,
            n_dev=len(self._dev),
            budget_calls=self._spec.budget_calls,
            budget_usd=self._spec.budget_usd,
            spent_calls=spent.calls,
            spent_usd=spent.usd,
            ended=ended,
            finding=self.finding,
            notes=self.notes,
        )

    # Candidates

    def _as_written(self) -> Tried:
        """What study.yaml has."""
        return unchanged(self._approach.prompt)

    def _lengths(self) -> list[float]:
        """How long the prompt of each is; of equals the shorter one goes on."""
        return [one.n_chars for one in self._entered]

    def _enter(self, candidate: Tried) -> Entered:
        spec = candidate.put_into(self._approach)
        try:
            prepared = prepare(self._name, spec, self._bench)
        except InputError as error:
            if candidate.place is None:
                raise
            raise InputError([replace(problem, where=candidate.place) for problem in error.problems]) from error
        assert isinstance(prepared.approach, Prompted)  # what else there is was refused
        # Passages that a model is asked for are not known here.
        found = LookedUp() if _lookup_calls(spec, self._study) else None
        said = prepared.approach.question.prompting.converse(self._dev[0].visible(), None, found).messages
        return Entered(
            candidate=candidate,
            prepared=prepared,
            said=said,
            n_chars=sum(len(message.content) for message in said),
        )

    def _work(self, which: Sequence[int], n_cases: int) -> list[Work]:
        return [
            Work(approach=self._entered[i].prepared.approach, cases=self._order[:n_cases], split="dev") for i in which
        ]

    # What the journal holds

    @property
    def _journalled(self) -> Journal:
        assert self._journal is not None, "an estimate asks nothing"
        return self._journal

    def _standing(self) -> Standing:
        return standing(self.plan, self._scores(), self._lengths())

    def _scores(self) -> dict[int, list[float]]:
        """By prompt: scores of the cases done, as far as there is no gap."""
        return {
            i: [math.nan if row["score"] is None else row["score"] for row in self._rows(i, len(self._order))]
            for i in range(len(self._entered))
        }

    def _rows(self, which: int, n_cases: int) -> list[dict[str, Any]]:
        return self._rows_of(self._entered[which].prepared, self._order[:n_cases], split="dev")

    def _rows_of(self, one: Prepared, cases: Sequence[Case], *, split: str) -> list[dict[str, Any]]:
        """Outcomes of these cases in their order, up to the first that is missing."""
        name, fingerprint = one.approach.name, one.approach.fingerprint
        done = self._journalled.done(name, fingerprint)
        by_case = {row["case_id"]: row for row in self._journalled.measurements({name: fingerprint}, split=split)}
        rows = []
        for case in cases:
            if (case.id, case.digest(), split, 0) not in done:
                break
            rows.append(by_case[case.id])
        return rows

    def _all_rows(self, one: Entered, *, split: str) -> list[dict[str, Any]]:
        approach = one.prepared.approach
        return list(self._journalled.measurements({approach.name: approach.fingerprint}, split=split))

    def _trial(self, one: Entered, rows: Sequence[Mapping[str, Any]], *, is_finalist: bool) -> Trial:
        approach = one.prepared.approach
        sums = self._journalled.step_sums({approach.name: approach.fingerprint}, split="dev")
        return Trial(
            name=one.candidate.name,
            changes=one.candidate.changes(),
            fingerprint=approach.fingerprint,
            prompt_chars=one.n_chars,
            prompt_tokens=share_of(rows, "prompt_tokens"),
            n_cases=len(rows),
            score=share_of(rows, "score"),
            success=share_of(rows, "success"),
            schema_pass=share_of(rows, "schema_pass"),
            calls=sum(step.calls for step in sums),
            cost_usd=cost_of(self._all_rows(one, split="dev")),
            is_finalist=is_finalist,
        )

    def _say(self, text: str) -> None:
        if self._note is not None:
            self._note(f"{self._name}: {text}")


def search_id(plan: Plan, name: str, spec: OptimiseSpec) -> str:
    """What a search is known by in the journal: the same one with a larger budget goes on from where it was."""
    body = [
        found_for(name, plan.file, plan.task, plan.material),
        spec.model_dump(mode="json", exclude={"budget_calls", "budget_usd"}),
    ]
    return hashlib.blake2b(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def calls_per_case(approach: ApproachSpec, plan: Plan) -> int:
    """Calls a case can take at most: looking up, repairs, rounds of tools, judges."""
    answers = 1 + (approach.workflow.repair if approach.workflow is not None else 0)
    rounds = 1 + (approach.prompt.tool_rounds if approach.prompt.tools else 0)
    n_judged = sum(one.kind == "judge" for one in (plan.task.scoring or {}).values())
    return _lookup_calls(approach, plan) + answers * rounds + n_judged


# ---- private --------------------------------------------------------------------------------------------------------


def _lookup_calls(approach: ApproachSpec, plan: Plan) -> int:
    """Calls of looking up at most: to write queries, to embed question and queries, to rerank."""
    use, knowledge = approach.knowledge, plan.file.knowledge
    if use is None or knowledge is None or use.context == "gold":
        return 0
    is_embedded_elsewhere = knowledge.embeddings is not None and use.full_text_weight < 1
    is_reranked_elsewhere = use.rerank in plan.file.models.endpoints
    return (use.queries > 0) + is_embedded_elsewhere + is_reranked_elsewhere


def _refuse(name: str, approach: ApproachSpec, dev: Sequence[Case]) -> None:
    """Say why there is nothing to search."""
    where = f"study.yaml:approaches.{name}"
    workflow = approach.workflow
    if approach.model == "none" or (approach.tuning is not None and approach.tuning.method == "head"):
        raise InputError(Problem(where=where, what="it asks no model, so there is no prompt to search"))
    if approach.tuning is not None:
        hint = "search the prompt of an approach without tuning, and write what is found into this one"
        what = "a tuned model is trained on its prompt, so each prompt tried would have to be trained anew"
        raise InputError(Problem(where=f"{where}.tuning", what=what, hint=hint))
    if workflow is not None and (workflow.steps is not None or workflow.split is not None):
        part = "steps" if workflow.steps is not None else "split"
        raise InputError(
            Problem(
                where=f"{where}.workflow.{part}",
                what="its prompt is spread over several calls, and a search tries one prompt at a time",
                hint="search an approach with one prompt, with or without workflow.repair, and use what is found",
            )
        )
    if not dev:
        raise InputError(
            Problem(
                where="study.yaml:cases.split",
                what="the dev split is empty, and a search may not look at test cases",
                hint="give dev a share of the cases",
            )
        )
