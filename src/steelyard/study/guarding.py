"""The guard set of a study: asked of every tuned model and of its base as they are served.

What is asked is journalled under the split `guard`, with versions of its own, so it enters no figure of the task. The
answers of a base are shared by all that was tuned from it. It comes last and is no part of the task: where it cannot be
asked (no budget left, a host that no longer serves the base), the work before it stands, and a note says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence

from steelyard.approaches.approach import Answer, Ask, Prepared
from steelyard.approaches.hosted_spec import HostedTuningSpec
from steelyard.approaches.lora_spec import LoraTuningSpec
from steelyard.approaches.spec import ApproachSpec
from steelyard.approaches.tuning.guard import guard_cases, is_done
from steelyard.approaches.tuning.guarded import GuardedModel, guard_fingerprint
from steelyard.cases.case import Case
from steelyard.engine.budget import Budget
from steelyard.engine.journal import Journal
from steelyard.engine.limits import ManagedEndpoint
from steelyard.engine.progress import Progress
from steelyard.engine.run import Work, run
from steelyard.errors import BudgetReached, EndpointUnusable, InputError
from steelyard.study.endpoints import hosted_endpoints
from steelyard.study.file import StudyFile
from steelyard.study.forgetting import base_fingerprint, base_model, base_name
from steelyard.study.running import Plan, compute_price, local_endpoint
from steelyard.task.scorers import Scored


def guard_work(
    specs: Mapping[str, ApproachSpec],
    prepared: Mapping[str, Prepared],
    *,
    file: StudyFile,
    models: Mapping[str, str],
) -> list[Work]:
    """Each base once, then each tuned model; nothing where nothing generative is tuned, or with `guard: 0`.

    Args:
        specs: Approaches by name.
        prepared: The same, ready to answer; those that are not there are passed over.
        file: Names the models of hosts.
        models: Identity of the model behind each endpoint.
    """
    bases: dict[str, Work] = {}
    tuned = []
    for name, n in _guarded(specs):
        if (one := prepared.get(name)) is None:
            continue
        endpoint, card, cases = specs[name].model, one.setup.card or {}, guard_cases(n)
        base = base_model(endpoint, card, file)
        known = bases.get(base_name(endpoint, base))
        if known is None or len(known.cases) < len(cases):
            asked = GuardedModel(
                name=base_name(endpoint, base),
                fingerprint=base_fingerprint(endpoint, base, models),
                endpoint=endpoint,
                model=base,
            )
            bases[asked.name] = Work(approach=asked, cases=cases, split="guard")
        model = GuardedModel(
            name=name,
            fingerprint=guard_fingerprint(one.approach.fingerprint),
            endpoint=endpoint,
            adapter=one.adapter_digest,
            model=card.get("tuned_model"),
        )
        tuned.append(Work(approach=model, cases=cases, split="guard"))
    return [*bases.values(), *tuned]


def ask_guard(
    plan: Plan,
    prepared: Mapping[str, Prepared],
    journal: Journal,
    *,
    models: Mapping[str, str],
    budget: Budget,
    progress: Progress | None,
    say: Callable[[str], None],
) -> str | None:
    """Ask the guard set of everything generative that was tuned, and of its bases.

    Args:
        plan: The study.
        prepared: Approaches that are ready.
        journal: Where the answers go, and where those given before are found.
        models: Identity of the model behind each endpoint.
        budget: The ceiling of the study.
        progress: Told what happens.
        say: Shows a line of progress.

    Returns:
        Why it was not finished, in a sentence; `None` where it was. The same command goes on from there.

    Raises:
        RunStopped: Ctrl-C, or the journal cannot be written.
    """
    work = guard_work(plan.specs, prepared, file=plan.file, models=models)
    if not any(True for one in work for _ in one.left(journal)):
        return None
    specs = {name: plan.specs[name] for name, _ in _guarded(plan.specs) if name in prepared}
    try:
        with local_endpoint(plan, prepared, work, journal, say) as local:
            hosted = hosted_endpoints(plan.file, plan.task, specs, budget)
            asyncio.run(_ask(work, {**hosted, **local}, journal, plan.file, budget=budget, progress=progress))
    except (BudgetReached, EndpointUnusable, InputError) as error:
        because = str(error).partition("\n")[0]
        return f"the guard set was not asked to its end, so what was forgotten is not known yet: {because}"
    return None


# ---- private --------------------------------------------------------------------------------------------------------


def _guarded(specs: Mapping[str, ApproachSpec]) -> Iterator[tuple[str, int]]:
    """Approaches that are asked, with how many instructions; a head generates nothing that could be lost."""
    for name, spec in specs.items():
        if isinstance(spec.tuning, LoraTuningSpec | HostedTuningSpec) and spec.tuning.guard:
            yield name, spec.tuning.guard


async def _score(answer: Answer, case: Case, ask: Ask) -> Scored:
    return Scored(score=float(is_done(case, (answer.output or {}).get("text", ""))))


async def _ask(
    work: Sequence[Work],
    endpoints: Mapping[str, ManagedEndpoint],
    journal: Journal,
    file: StudyFile,
    *,
    budget: Budget,
    progress: Progress | None,
) -> None:
    try:
        await run(
            work,
            endpoints=endpoints,
            journal=journal,
            score=_score,
            budget=budget,
            compute_price=compute_price(file),
            in_flight=file.run.in_flight,
            progress=progress,
            seed=file.cases.split.seed,
        )
    finally:
        for one in endpoints.values():
            await one.endpoint.close()
