"""`steelyard tune`: look through what an approach would learn from, train it, show its card, export it."""

from __future__ import annotations

import asyncio
import csv
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from steelyard.approaches.approach import Prepared
from steelyard.approaches.prepare import prepare
from steelyard.approaches.tuning.audit import Review, audit_training
from steelyard.engine.budget import Budget
from steelyard.engine.journal import Journal
from steelyard.engine.lock import study_lock
from steelyard.engine.progress import Progress, progress_for
from steelyard.engine.run import Work
from steelyard.engine.writer import storage_failed
from steelyard.errors import BudgetReached, EndpointUnusable, InputError, Problem
from steelyard.figures import Figure
from steelyard.measure.intervals import wilson
from steelyard.report.ledger_csv import harmless
from steelyard.study.endpoints import hosted_endpoints
from steelyard.study.forgetting import forgetting_of
from steelyard.study.guarding import ask_guard, guard_work
from steelyard.study.reporting import parity_of
from steelyard.study.running import Plan, local_endpoint, plan_run, run_work
from steelyard.study.scoring import journal_path
from steelyard.study.talk import Talk
from steelyard.study.till import StudyTill, counting_money
from steelyard.study.trainable import refuse_untrainable
from steelyard.study.training_estimate import estimate_training
from steelyard.study.tuning_ground import Ground, ground_of
from steelyard.study.tuning_results import Audited, Measured, Tuned
from steelyard.study.working import parity_work

if TYPE_CHECKING:
    from steelyard.approaches.tuning.estimate import TrainingEstimate
    from steelyard.study.study import Study

REVIEW_HEADER = ("case_id", "where", "given", "suggested", "reason")


def audit_approach(study: Study, approach: str, *, progress: bool = True) -> Audited:
    """Look through the training examples of a tuned approach and write the list of labels to review; trains nothing.

    Raises:
        InputError: The approach is not tuned, or a train case is also in dev or test.
        StorageFailed: The review list cannot be written.
    """
    say = Talk(sys.stderr if progress else None)
    ground = _ground(study, approach, say)
    base = None
    if ground.method == "lora":
        from steelyard.approaches.tuning.base_model import load_base

        say("audit: counting tokens")
        base = load_base(ground.bench.base_gguf())
    say("audit: looking for wrong labels")
    found = audit_training(
        ground.learnt,
        max_examples=ground.max_examples,
        max_tokens=ground.max_tokens,
        seed=ground.seed,
        target=ground.target,
        where=ground.where,
        near_duplicates=study.file.cases.near_duplicates,
        groups=study.material.audit.groups,
        test=study.material.splits.test,
        prompt=ground.prompt,
        base=base,
        context_tokens=ground.context_tokens,
        embed=ground.bench.embedder() if ground.bench.task.labels else None,
    )
    say.end()
    review_file = Path(".steelyard") / "tuning" / _folder_name(approach) / "review.csv"
    _write_review(study.folder / review_file, found.review)
    return Audited(approach=approach, found=found, review_file=review_file)


def tune_approach(study: Study, approach: str, *, export: str | Path | None = None, progress: bool = True) -> Tuned:
    """Train an approach, or find it trained from the same things before, and export it where that is asked for.

    Args:
        study: The study.
        approach: Name of a tuned approach.
        export: Folder to export to; must not be there yet, or be empty.
        progress: Show progress on standard error.

    Raises:
        InputError: The approach is not tuned, its examples forbid training, or the folder holds something.
        RunStopped: A folder cannot be written, or a hosted job ended badly.
    """
    say = Talk(sys.stderr if progress else None)
    if export is not None:
        _refuse_full(Path(export))
    with study_lock(study.folder), counting_money(study) as till:
        ground = _ground(study, approach, say, till)
        cases = ground.cases
        refuse_untrainable(
            {approach: ground.spec},
            file=study.file,
            task=study.task,
            train=study.material.splits.train,
            distilled=study.material.distilled,
        )
        prepared = prepare(approach, ground.spec, ground.bench)
        say.end()
        if export is not None:
            from steelyard.study.tuning_export import export_approach

            export_approach(Path(export), approach, prepared, ground.spec, ground.bench, cases, ground.target)
    with study_lock(study.folder):
        models = {name: facts.model for name, facts in ground.bench.endpoints.items()}
        notes = _ask_as_served(
            study, approach, prepared, models=models, with_parity=export is not None, progress=progress, say=say
        )
    exported = None if export is None else Path(export)
    return _tuned(study, approach, prepared, models=models, exported=exported, notes=notes)


def estimate_tuning(study: Study, approach: str, *, progress: bool = True) -> TrainingEstimate:
    """What training an approach takes at most; a few steps are timed where no training on this machine tells.

    Raises:
        InputError: The approach is not tuned, or its examples forbid training.
    """
    say = Talk(sys.stderr if progress else None)
    plan = _plan(study, approach)
    refuse_untrainable(
        plan.specs,
        file=study.file,
        task=study.task,
        train=study.material.splits.train,
        distilled=study.material.distilled,
    )
    found = estimate_training(plan, approach, measure=True, say=say)
    say.end()
    return found


# ---- private --------------------------------------------------------------------------------------------------------


def _ground(study: Study, approach: str, say: Talk, till: StudyTill | None = None) -> Ground:
    return ground_of(_plan(study, approach), approach, say, till)


def _plan(study: Study, approach: str) -> Plan:
    return plan_run(study.folder, study.file, study.task, study.material, approaches=[approach], limit=None)


def _ask_as_served(
    study: Study,
    approach: str,
    prepared: Prepared,
    *,
    models: Mapping[str, str],
    with_parity: bool,
    progress: bool,
    say: Talk,
) -> tuple[str, ...]:
    """Ask what was tuned as it is served: parity cases where it is exported, and the guard set; says what could not be."""
    plan, made = _plan(study, approach), {approach: prepared}
    parity = parity_work(plan, made) if with_parity else []
    if not parity and not guard_work(plan.specs, made, file=study.file, models=models):
        return ()
    budget = Budget(usd=study.file.run.budget_usd, calls=study.file.run.budget_calls)
    listener = progress_for(quiet=not progress)
    with Journal.open(journal_path(study.folder)) as journal:
        notes = (
            _ask_parity(plan, made, parity, journal, budget=budget, progress=listener, say=say) if parity else None,
            ask_guard(plan, made, journal, models=models, budget=budget, progress=listener, say=say),
        )
    say.end()
    return tuple(note for note in notes if note is not None)


def _ask_parity(
    plan: Plan,
    made: Mapping[str, Prepared],
    work: Sequence[Work],
    journal: Journal,
    *,
    budget: Budget,
    progress: Progress | None,
    say: Talk,
) -> str | None:
    try:
        with local_endpoint(plan, made, work, journal, say) as local:
            hosted = hosted_endpoints(plan.file, plan.task, plan.specs, budget)  # of judges
            endpoints = {**hosted, **local}
            asyncio.run(
                run_work(
                    work,
                    endpoints=endpoints,
                    journal=journal,
                    plan=plan,
                    budget=budget,
                    progress=progress,
                    followed_by=None,
                )
            )
    except (BudgetReached, EndpointUnusable, InputError) as error:
        because = str(error).partition("\n")[0]
        return f"whether it answers as served as it did where it was trained is not known yet: {because}"
    return None


def _tuned(
    study: Study,
    approach: str,
    prepared: Prepared,
    *,
    models: Mapping[str, str],
    exported: Path | None,
    notes: tuple[str, ...],
) -> Tuned:
    card = prepared.setup.card or {}
    fingerprint = prepared.approach.fingerprint
    parity, test, forgotten = None, None, None
    path = journal_path(study.folder)
    if path.exists():
        with Journal.open(path, read_only=True) as journal:
            parity = parity_of(approach, fingerprint, card, journal)
            forgotten = forgetting_of(
                approach,
                fingerprint,
                card,
                journal,
                endpoint=prepared.approach.endpoint,
                file=study.file,
                models=models,
            )
            right = [
                bool(outcome.success)
                for outcome in journal.outcomes({approach: fingerprint}, split="test")
                if outcome.repeat == 0 and outcome.success is not None
            ]
        if right:
            share = sum(right) / len(right)
            low, high = wilson(share, len(right))
            test = Measured(len(right), Figure(value=share, low=low, high=high))
    return Tuned(
        approach=approach,
        fingerprint=fingerprint,
        card=card,
        seconds=prepared.setup.seconds,
        cost_usd=prepared.setup.cost_usd,
        reused=prepared.setup.reused,
        parity=parity,
        test=test,
        forgetting=forgotten,
        notes=notes,
        exported=exported,
    )


def _folder_name(approach: str) -> str:
    """A folder of its own for any name; dots alone would lead elsewhere."""
    return "%2E" * len(approach) if set(approach) <= {"."} else quote(approach, safe="")


def _write_review(path: Path, reviews: tuple[Review, ...]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(REVIEW_HEADER)
    writer.writerows([harmless(getattr(review, name)) for name in REVIEW_HEADER] for review in reviews)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        raise storage_failed(error, str(path)) from error


def _refuse_full(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        hint = "name a folder that is not there yet, or empty this one"
        raise InputError(Problem(what="there is something in the folder to export to", where=str(folder), hint=hint))
