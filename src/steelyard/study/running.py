"""Run a study: prepare the approaches, start the local model if one is needed, hand the work to the engine.

The one place where real files, servers and the clock are chosen; below it everything is passed as an argument.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata
from pathlib import Path

from steelyard.approaches.approach import Prepared
from steelyard.approaches.cascade import endpoints_of
from steelyard.approaches.cascade_spec import CascadeSpec, members_of
from steelyard.approaches.prepare import prepare
from steelyard.approaches.spec import ApproachSpec
from steelyard.approaches.workbench import EndpointFacts, Workbench
from steelyard.cases.case import Case, GoldText
from steelyard.cases.duplicates import fold, input_text
from steelyard.cases.sample import take
from steelyard.engine.budget import Budget
from steelyard.engine.journal import Journal
from steelyard.engine.limits import ManagedEndpoint
from steelyard.engine.lock import study_lock
from steelyard.engine.progress import Progress, progress_for
from steelyard.engine.run import RunSummary, Score, Work, run
from steelyard.errors import InputError, Problem, RunStopped
from steelyard.models.endpoint import Price
from steelyard.study import local_model
from steelyard.study.cascading import set_cascades
from steelyard.study.embedding import remote_embedder
from steelyard.study.endpoints import hosted_endpoints, unsent
from steelyard.study.file import StudyFile
from steelyard.study.marking import judges_of, scorer
from steelyard.study.material import Material
from steelyard.study.optimised import Optimised
from steelyard.study.optimised_file import in_force
from steelyard.study.racing import Rounds, complete_after_all
from steelyard.study.record import read_record, run_record
from steelyard.study.results import RunResult
from steelyard.study.retrieving import answers_by_day
from steelyard.study.scoring import journal_path, no_such_approach
from steelyard.study.support_judging import judge_name, judge_support
from steelyard.study.talk import Talk
from steelyard.study.till import StudyTill
from steelyard.study.trainable import refuse_untrainable
from steelyard.study.working import first_round, parity_work, work_of
from steelyard.task.task import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What one run shall do."""

    folder: Path
    file: StudyFile
    task: Task
    material: Material
    specs: Mapping[str, ApproachSpec]
    """The approaches chosen for this run that are no cascades, and those that only the cascades ask."""
    test: tuple[Case, ...]
    searched: Mapping[str, Optimised] = field(default_factory=dict)
    """By approach: the search that found the prompt in `specs`."""
    notes: tuple[str, ...] = ()
    """What to know about these prompts."""
    cascades: Mapping[str, CascadeSpec] = field(default_factory=dict)
    """The cascades chosen for this run, and those that they go on to."""
    asked_by_cascades: frozenset[str] = frozenset()
    """Approaches that were not chosen and are prepared for the cascades alone: they get no test cases of their own."""

    @property
    def chosen(self) -> tuple[str, ...]:
        """The approaches of this run, in the order of the study."""
        there = {*self.specs, *self.cascades} - self.asked_by_cascades
        return tuple(name for name in self.file.approaches if name in there)

    @property
    def state(self) -> Path:
        """Where the program keeps what it makes."""
        return self.folder / ".steelyard"


def plan_run(
    folder: Path, file: StudyFile, task: Task, material: Material, *, approaches: Sequence[str], limit: int | None
) -> Plan:
    """Choose approaches and test cases.

    Raises:
        InputError: An approach is not in the study.
    """
    unknown = [name for name in approaches if name not in file.approaches]
    if unknown:
        raise no_such_approach(unknown, file.approaches)
    models = ("local", *file.models.endpoints)
    nobody = [name for name in judges_of(task) if name not in models]
    if nobody:
        hint = f"models of this study: {', '.join(models)}"
        raise InputError(Problem(where="study.yaml:task.scoring", what=f"no model {nobody[0]!r} to judge", hint=hint))
    chosen = {name for name in file.approaches if not approaches or name in approaches}
    needed = chosen.union(*(members_of(name, file.approaches) for name in chosen))
    used = {name: spec for name, spec in file.approaches.items() if name in needed}
    test = material.splits.test
    limit = limit or file.run.limit
    if limit is not None:
        test = take(test, limit, file.cases.split.seed)
    plain = {name: spec for name, spec in used.items() if spec.cascade is None}
    found = in_force(plain, folder=folder, file=file, task=task, material=material)
    return Plan(
        folder=folder,
        file=file,
        task=task,
        material=material,
        specs=found.specs,
        test=test,
        searched=found.searched,
        notes=found.notes,
        cascades={name: spec.cascade for name, spec in used.items() if spec.cascade is not None},
        asked_by_cascades=frozenset(needed - chosen),
    )


def run_plan(plan: Plan, *, budget_usd: float | None, progress: bool, command: str, race: bool = False) -> RunResult:
    """Prepare, run and journal.

    Args:
        plan: What to run.
        budget_usd: Ceiling on money; left out, that of the study.
        progress: Show progress on standard error.
        command: What was typed, for the journal.
        race: Drop approaches that are surely not the best while it runs; with a single one there is nothing to drop.

    Raises:
        InputError: Something the user can mend, before anything is paid for.
        RunStopped: The run ended early; the same call goes on from there.
    """
    from steelyard.study.guarding import ask_guard  # which asks through what is below

    file = plan.file
    ceilings = [name for name, spec in plan.specs.items() if spec.is_ceiling and race]
    if ceilings and len(ceilings) < len(plan.specs):
        said = (
            f"{', '.join(ceilings)}: shown the gold passages, so not in the race; a run without --race does its cases"
        )
        plan = replace(
            plan,
            specs={name: spec for name, spec in plan.specs.items() if name not in ceilings},
            notes=(*plan.notes, said),
        )
    say = Talk(sys.stderr if progress else None)
    budget = Budget(
        usd=budget_usd if budget_usd is not None else file.run.budget_usd,
        calls=file.run.budget_calls,
    )
    with study_lock(plan.folder), Journal.open(journal_path(plan.folder)) as journal:
        hosted_ones = hosted_endpoints(file, plan.task, plan.specs, budget, also=judge_name(file))
        bench = workbench(plan, say=say, till=StudyTill(journal=journal, budget=budget))
        refuse_untrainable(
            plan.specs, file=file, task=plan.task, train=plan.material.splits.train, distilled=plan.material.distilled
        )
        made = {name: prepare(name, spec, bench) for name, spec in plan.specs.items()}
        say.end()
        listener = progress_for(quiet=not progress)
        spent_before = journal.spent()

        def ask(work: Sequence[Work], followed_by: Callable[[], Sequence[Work]] | None = None) -> RunSummary:
            maybe = work if rounds is None else [*work, *rounds.all_left()]
            with local_endpoint(plan, made, maybe, journal, say) as local_endpoints:
                say.end()
                return asyncio.run(
                    run_work(
                        work,
                        endpoints={**hosted_ones, **local_endpoints},
                        journal=journal,
                        plan=plan,
                        budget=budget,
                        progress=listener,
                        followed_by=followed_by,
                    )
                )

        rounds: Rounds | None = None
        cascaded = set_cascades(plan, made, ask=ask, journal=journal)
        made |= {name: one.prepared for name, one in cascaded.items()}
        prepared = {name: made[name] for name in plan.chosen}
        compute = compute_price(file).provenance
        prices = {name: one.endpoint.price.provenance for name, one in hosted_ones.items()} | {"local": compute}
        record = run_record(
            file,
            prepared=prepared,
            prices=prices,
            compute_price=compute,
            models={name: facts.model for name, facts in bench.endpoints.items()},
            split_counts={
                "train": len(plan.material.splits.train),
                "dev": len(plan.material.splits.dev),
                "test": len(plan.material.splits.test),
                **({"distilled": len(plan.material.distilled)} if plan.material.distilled else {}),
            },
            notes=plan.material.notes,
            searches={name: one.record() for name, one in plan.searched.items()}
            | {name: one.record() for name, one in cascaded.items()},
            spent=spent_before,
        )
        journal.record_cases(
            [*plan.test, *(case for one in parity_work(plan, prepared) for case in one.cases)],
            answers_by_day(file, plan.material.cases) if file.knowledge is not None else None,
        )
        number = journal.start_run(command=command, package_version=package_version(), study=record)
        for name, one in prepared.items():
            journal.record_preparation(name, one.approach.fingerprint, one.setup)
        if listener is not None:
            for note in (*plan.notes, *(f"{name}: {one.sentence}" for name, one in cascaded.items())):
                listener.on_note(note)
        if race and len(prepared) > 1:
            tell = listener.on_note if listener is not None else _say_nothing
            rounds = Rounds(file, plan.test, prepared, journal, where=str(plan.folder), note=tell)
        elif race and listener is not None:
            listener.on_note("nothing to race: there is one approach, which runs on all cases")
        work = work_of(plan, prepared) if rounds is None else first_round(plan, prepared, rounds)
        try:
            summary = ask(work, None if rounds is None else rounds.more)
            # What setting the cascades cost belongs to this run.
            summary = replace(summary, spent_usd=summary.spent.usd - spent_before.usd)
            judge_support(plan, journal, budget=budget, say=say)
            still_in = {
                name: one for name, one in prepared.items() if name not in {d.approach for d in journal.drops()}
            }
            unasked = ask_guard(
                plan, still_in, journal, models=record["models"], budget=budget, progress=listener, say=say
            )
            say.end()
            if unasked is not None and listener is not None:
                listener.on_note(unasked)
        except RunStopped as stopped:
            journal.finish_run(number, ended=str(stopped))
            raise
        journal.finish_run(number)
        for name in summary.statuses:
            journal.record_look(name, prepared[name].approach.fingerprint)
        if rounds is None:
            others = read_record(journal, where=str(plan.folder)).approaches
            complete_after_all(
                journal,
                {name: one.approach.fingerprint for name, one in prepared.items()},
                {name: one.fingerprint for name, one in others.items()},
            )
        raced = None
        if rounds is not None:
            raced = rounds.result()
            summary = replace(summary, n_skipped=rounds.n_outcomes_before)
    return RunResult(summary=summary, n_test_cases=len(plan.test), race=raced)


# Preparing


def workbench(plan: Plan, *, say: Callable[[str], None], till: StudyTill | None = None) -> Workbench:
    """What approaches are prepared with."""
    models, splits = plan.file.models, plan.material.splits
    endpoints = {
        name: EndpointFacts(
            model=unsent(name, spec).model,
            native_schema=spec.native_schema,
            context_tokens=spec.context_tokens,
            tools=spec.tools,
            images=spec.images,
        )
        for name, spec in models.endpoints.items()
    }
    endpoints["local"] = EndpointFacts(
        model=local_model.identity(models.local, plan.folder),
        native_schema=True,
        context_tokens=models.local.context_tokens,
        tools=models.local.tools,
    )
    knowledge = plan.file.knowledge
    is_remote = knowledge is not None and knowledge.embeddings is not None
    return Workbench(
        task=plan.task,
        train=plan.material.splits.train,
        dev=plan.material.splits.dev,
        distilled=plan.material.distilled,
        folder=plan.state / "prepared",
        endpoints=endpoints,
        embedder=cache(lambda: local_model.embedder(say)),
        document_embedder=cache(lambda: remote_embedder(plan.file, plan.folder, till=till, say=say))
        if is_remote
        else None,
        hosts=models.endpoints,
        till=till,
        base_gguf=cache(lambda: local_model.gguf(models.local, plan.folder, say)),
        study=plan.folder,
        knowledge=knowledge,
        gold=_gold(plan.material.cases),
        held_out=cache(lambda: frozenset(fold(input_text(case)) for case in (*splits.dev, *splits.test))),
        cpu_hour_usd=models.local.cpu_hour_usd,
        say=say,
    )


def _gold(cases: Sequence[Case]) -> dict[str, tuple[GoldText, ...]]:
    """What cases name as holding their answer: passages, or else whole documents."""
    named = {case.id: case.passages or tuple(GoldText(source, "") for source in case.sources) for case in cases}
    return {case_id: texts for case_id, texts in named.items() if texts}


def _say_nothing(text: str) -> None:
    """Where no progress is asked for."""


# Running


async def run_work(
    work: Sequence[Work],
    *,
    endpoints: Mapping[str, ManagedEndpoint],
    journal: Journal,
    plan: Plan,
    budget: Budget,
    progress: Progress | None,
    followed_by: Callable[[], Sequence[Work]] | None,
) -> RunSummary:
    """Do the work of a plan; closes the endpoints."""
    try:
        return await run(
            work,
            endpoints=endpoints,
            journal=journal,
            score=study_scorer(plan),
            success_threshold=plan.task.success_threshold,
            budget=budget,
            compute_price=compute_price(plan.file),
            in_flight=plan.file.run.in_flight,
            progress=progress,
            seed=plan.file.cases.split.seed,
            followed_by=followed_by,
        )
    finally:
        for one in endpoints.values():
            await one.endpoint.close()


def study_scorer(plan: Plan) -> Score:
    """How answers are scored, with the judges and embeddings of the study."""
    return scorer(
        plan.task,
        embedder=lambda: local_model.embedder(Talk(None)),
        enforces_schema={
            "local": True,
            **{name: spec.native_schema for name, spec in plan.file.models.endpoints.items()},
        },
    )


@contextmanager
def local_endpoint(
    plan: Plan, prepared: Mapping[str, Prepared], work: Sequence[Work], journal: Journal, say: Callable[[str], None]
) -> Iterator[dict[str, ManagedEndpoint]]:
    """The local model's endpoint, with its server started only if a call is left to make."""
    asks_local = {one.approach.name for one in work if "local" in endpoints_of(one.approach)}
    if "local" in judges_of(plan.task):
        asks_local = {one.approach.name for one in work}
    waiting = [one for one in work if one.approach.name in asks_local and any(True for _ in one.left(journal))]
    adapters = {
        one.adapter_digest: one.adapter
        for one in prepared.values()
        if one.adapter is not None and one.adapter_digest is not None
    }
    if not waiting:
        yield {"local": local_model.unstarted(plan.file.models.local, plan.folder)}
        return
    with local_model.serving(
        plan.file.models.local, plan.folder, adapters=adapters, log_file=plan.state / "logs" / "llama.log", say=say
    ) as endpoint:
        yield {"local": endpoint}


def compute_price(file: StudyFile) -> Price:
    """Price of an approach's own work on this machine (one core), as the study assumes it."""
    return local_model.price(file.models.local, cores=1)


def package_version() -> str:
    """Version of the installed package."""
    return metadata.version("steelyard")
