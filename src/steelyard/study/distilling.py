"""`steelyard distill`: labels from a teacher, an approach of the study that answers inputs nobody has labelled.

The teacher is asked through the engine, so its calls are journalled under the split `train`, count against the budget and
are paid once: a command that was stopped goes on from there, and one with other terms of acceptance asks nothing again.
Inputs that resemble dev or test cases are never asked. What is accepted goes into a file beside the cases, with the
teacher's name, its licence note and what a label cost.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from steelyard.approaches.approach import Answer, Ask, Prepared
from steelyard.approaches.images import refuse_bad_images
from steelyard.approaches.prepare import prepare
from steelyard.cases.case import Case
from steelyard.cases.distilled import for_training
from steelyard.cases.duplicates import exact_groups, input_text
from steelyard.cases.read import read_cases
from steelyard.cases.sample import take
from steelyard.engine.budget import Budget
from steelyard.engine.journal import Journal
from steelyard.engine.lock import study_lock
from steelyard.engine.progress import progress_for
from steelyard.engine.run import Work, run
from steelyard.errors import BudgetReached, InputError, Problem, RunStopped
from steelyard.study.distilled_labels import (
    UNLABELLED,
    cost_of_answers,
    keep_labels,
    labels_from_answers,
    labels_from_review,
    success_on_dev,
)
from steelyard.study.distilled_results import DistilledLabels
from steelyard.study.endpoints import hosted_endpoints
from steelyard.study.record import spent_before
from steelyard.study.running import (
    Plan,
    compute_price,
    local_endpoint,
    package_version,
    plan_run,
    study_scorer,
    workbench,
)
from steelyard.study.scoring import journal_path
from steelyard.study.talk import Talk
from steelyard.study.teaching import Acceptance, Taught, licence_of, parse_acceptance
from steelyard.study.till import StudyTill
from steelyard.task.scorers import Scored

if TYPE_CHECKING:
    from steelyard.study.study import Study

DISTILLING_SCHEMA = "steelyard.distilling/1"
"""Of what the journal notes when a teacher begins."""
DEFAULT_FILE = "distilled.jsonl"


def distill(
    study: Study,
    teacher: str,
    *,
    limit: int | None = None,
    budget_usd: float | None = None,
    accept: str = "valid",
    inputs: Path | None = None,
    accepted: Path | None = None,
    progress: bool = True,
) -> DistilledLabels:
    """Let an approach label inputs that nobody has labelled, and keep what is accepted beside the cases.

    Args:
        study: The study.
        teacher: Name of the approach.
        limit: Ask about at most so many inputs, a seeded sample; a larger limit only adds some.
        budget_usd: Ceiling on money for the whole study, earlier commands included.
        accept: `valid`, `confident:P`, `agree:K` or `review`.
        inputs: A file with the columns of the cases, asked about instead of the cases without expected output.
        accepted: A review list that a person has filled in: its decisions are taken over, and nothing is asked.
        progress: Show progress on standard error.

    Raises:
        InputError: The teacher cannot teach, there is nothing to label, or a file is not as it must be.
        RunStopped: The run ended early; the same command goes on from there. A budget that is reached ends it with the
            labels there are.
    """
    terms = parse_acceptance(accept)
    plan = plan_run(study.folder, study.file, study.task, study.material, approaches=[teacher], limit=None)
    refuse_teacher(plan, teacher, terms)
    say = Talk(sys.stderr if progress else None)
    budget = Budget(
        usd=budget_usd if budget_usd is not None else study.file.run.budget_usd, calls=study.file.run.budget_calls
    )
    with study_lock(study.folder), Journal.open(journal_path(study.folder)) as journal:
        # What it taught is kept from it: the teacher stays the same however often it is asked.
        bench = replace(workbench(plan, say=say, till=StudyTill(journal=journal, budget=budget)), distilled=())
        before = journal.spent()
        prepared = prepare(teacher, plan.specs[teacher], bench)
        say.end()
        taught = Taught(
            name=teacher,
            version=prepared.approach.fingerprint,
            licence=licence_of(prepared.approach.endpoint, study.file, bench),
        )
        left_out: Mapping[str, int] = {}
        stopped: BudgetReached | None = None
        if accepted is not None:
            labels = labels_from_review(study, taught, journal, accepted)
        else:
            cases, left_out = unlabelled(study, inputs, limit)
            stopped = _ask(plan, prepared, cases, terms, journal, budget=budget, progress=progress)
            labels = labels_from_answers(study, taught, journal, cases, terms)
            if stopped is not None and not labels.asked:
                raise stopped
        file = Path(study.file.cases.distilled or DEFAULT_FILE)
        cost_usd = cost_of_answers(journal, taught)
        n_in_file = keep_labels(study.folder / file, study, taught, labels, cost_usd)
        is_free = prepared.approach.endpoint is None
        n_dev, dev_success = success_on_dev(study, taught, journal, terms, is_free=is_free)
        spent_usd = journal.spent().usd - before.usd
    return DistilledLabels(
        teacher=teacher,
        licence=taught.licence,
        accept="review" if accepted is not None else str(terms),
        n_asked=len(labels.asked),
        n_accepted=len(labels.cases),
        n_to_review=labels.n_to_review,
        n_rejected=len(labels.asked) - len(labels.cases) - labels.n_to_review,
        n_corrected=labels.n_corrected,
        left_out=left_out,
        file=file,
        n_in_file=n_in_file,
        is_in_study=study.file.cases.distilled is not None,
        review_file=labels.review_file,
        cost_usd=cost_usd,
        spent_usd=spent_usd,
        dev_success=dev_success,
        n_dev=n_dev,
        ended=None if stopped is None else stopped.problem.what,
    )


def refuse_teacher(plan: Plan, teacher: str, terms: Acceptance) -> None:
    """Refuse an approach whose answers are no labels of its own making, or that would learn from itself.

    Raises:
        InputError: Says why, and what to do.
    """
    where = f"study.yaml:approaches.{teacher}"
    if teacher in plan.cascades:
        members = " or ".join(map(repr, (plan.cascades[teacher].first, plan.cascades[teacher].then)))
        what = "a cascade sends each input to one of two approaches, whose licences may differ"
        raise InputError(Problem(what=what, where=where, hint=f"let {members} teach"))
    spec = plan.specs[teacher]
    if spec.is_ceiling:
        what = "a ceiling is shown the gold passages of each case, and an unlabelled input has none"
        raise InputError(Problem(what=what, where=where, hint="let an approach teach that could be deployed"))
    if spec.tuning is not None and spec.tuning.distilled > 0:
        hint = "give it tuning: {distilled: 0}, or let another approach teach"
        what = f"{teacher!r} learns from distilled labels, so it would be trained on its own answers"
        raise InputError(Problem(what=what, where=f"{where}.tuning.distilled", hint=hint))
    if terms.kind == "agree" and (spec.model == "none" or spec.prompt.temperature == 0):
        what = f"repeats of {teacher!r} agree whatever it knows: " + (
            "it calls no model" if spec.model == "none" else "its temperature is 0"
        )
        hint = "give it prompt: {temperature: 0.7}, or accept by valid, confident:0.9 or review"
        raise InputError(Problem(what=what, where=f"{where}.prompt.temperature", hint=hint))


def unlabelled(study: Study, inputs: Path | None, limit: int | None) -> tuple[tuple[Case, ...], dict[str, int]]:
    """What a teacher may be asked about, and what it may not.

    Raises:
        InputError: The file of inputs is not as it must be, or nothing is left to label.
    """
    material, spec, task = study.material, study.file.cases, study.task
    where = spec.file if inputs is None else inputs.name
    if inputs is None:
        found = [case for case in material.cases if case.expected is None]
    else:
        columns = spec.model_copy(
            update={"split_column": None, "segment": None, "passages": None, "access": None, "question": None}
        )
        rows = read_cases(inputs, columns, input_fields=task.input_fields, expected_fields=())
        found = [replace(case, id=f"{inputs.name}:{case.id}") for case in rows]
        refuse_bad_images(found, task.image_fields, study.folder)
    if not found:
        raise InputError(
            Problem(
                what=f"all {len(material.cases):,} cases have an expected output, so there is nothing to label",
                where=where,
                hint="add cases without an expected output, or give a file of them with --inputs FILE",
            )
        )
    filled = [case for case in found if input_text(case).strip() and case.declared_split in (None, "train")]
    repeats = {position for group in exact_groups(filled) for position in group[1:]}
    distinct = [case for position, case in enumerate(filled) if position not in repeats]
    fitting = for_training(
        distinct,
        material.splits,
        spec.split,
        groups=material.audit.groups,
        near_duplicates=spec.near_duplicates,
    )
    counts = {
        "empty, or declared dev or test": len(found) - len(filled),
        "repeats of another": len(repeats),
        **(fitting.left_out or {}),
    }
    left_out = {why: n for why, n in counts.items() if n}
    if not fitting.cases:
        raise InputError(
            Problem(
                what=f"none of the {len(found):,} inputs without a label may be learned from: "
                + ", ".join(f"{n:,} {why}" for why, n in left_out.items()),
                where=where,
                hint="bring inputs that are not like dev or test cases",
            )
        )
    chosen = fitting.cases if limit is None else take(fitting.cases, limit, spec.split.seed)
    return chosen, left_out


# ---- asking ----------------------------------------------------------------------------------------------------------


def _ask(
    plan: Plan,
    prepared: Prepared,
    cases: Sequence[Case],
    terms: Acceptance,
    journal: Journal,
    *,
    budget: Budget,
    progress: bool,
) -> BudgetReached | None:
    """Ask the teacher; returns what ended it early where the budget was reached."""
    approach = prepared.approach
    score_labelled = study_scorer(plan)

    async def score(answer: Answer, case: Case, ask: Ask) -> Scored:
        if case.expected is None:
            return Scored(score=None, unscored_because=UNLABELLED)
        return await score_labelled(answer, case, ask)

    work = [Work(approach=approach, cases=cases, split="train", repeats=terms.repeats)]
    if terms.kind == "confident":  # the first answer tells whether there is any confidence, before all are paid for
        work = [Work(approach=approach, cases=cases[:1], split="train"), *work]
    if approach.endpoint is None:  # what costs nothing is looked at: how good are its answers to labelled cases?
        work = [Work(approach=approach, cases=plan.material.splits.dev, split="dev"), *work]
    pending = [[one] for one in work]

    def next_work() -> Sequence[Work]:
        if terms.kind == "confident":
            _refuse_without_confidence(journal, prepared, cases[:1])
        return pending.pop(0) if pending else ()

    say = Talk(sys.stderr if progress else None)
    hosted = hosted_endpoints(plan.file, plan.task, plan.specs, budget)
    journal.record_cases(cases)
    note = {"schema": DISTILLING_SCHEMA, "teacher": approach.name, "fingerprint": approach.fingerprint}
    number = journal.start_run(
        command=f"steelyard distill {plan.folder} --teacher {approach.name}",
        package_version=package_version(),
        study={**note, "spent_before": spent_before(journal.spent())},
    )
    try:
        with local_endpoint(plan, {approach.name: prepared}, work, journal, say) as local_ones:
            say.end()
            endpoints = {**hosted, **local_ones}

            async def ask_all() -> None:
                try:
                    await run(
                        pending.pop(0),
                        endpoints=endpoints,
                        journal=journal,
                        score=score,
                        success_threshold=plan.task.success_threshold,
                        budget=budget,
                        compute_price=compute_price(plan.file),
                        in_flight=plan.file.run.in_flight,
                        progress=progress_for(quiet=not progress),
                        seed=plan.file.cases.split.seed,
                        followed_by=next_work,
                    )
                finally:
                    for one in endpoints.values():
                        await one.endpoint.close()

            asyncio.run(ask_all())
    except RunStopped as stopped:
        journal.finish_run(number, ended=str(stopped))
        if not isinstance(stopped, BudgetReached):
            raise
        return stopped
    journal.finish_run(number)
    return None


def _refuse_without_confidence(journal: Journal, prepared: Prepared, first: Sequence[Case]) -> None:
    """Raises where the teacher has answered, and has not said how sure it is."""
    approach = prepared.approach
    ids = {case.id for case in first}
    for outcome in journal.outcomes({approach.name: approach.fingerprint}, split="train"):
        if outcome.case_id in ids and outcome.output is not None and outcome.confidence is None:
            raise InputError(
                Problem(
                    what=f"{approach.name!r} does not say how sure it is of an answer",
                    where=f"study.yaml:approaches.{approach.name}",
                    hint="accept by agree:3 (with a temperature) or by review, or give it prompt: {confidence: true}",
                )
            )
