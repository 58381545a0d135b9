"""What a run would ask and cost, before it: nothing is sent, nothing is trained."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from steelyard.approaches.approach import Prepared
from steelyard.approaches.prepare import prepare
from steelyard.approaches.retrieval.remote_embeddings import NotEmbedded, RemoteEmbedder
from steelyard.approaches.workbench import Workbench
from steelyard.engine.estimate import dry_run
from steelyard.engine.journal import Journal
from steelyard.engine.run import Work
from steelyard.study.embedding import EmbeddingEstimate, embedding_estimate
from steelyard.study.endpoints import unsent_endpoints
from steelyard.study.guarding import guard_work
from steelyard.study.results import RunEstimate
from steelyard.study.running import Plan, workbench
from steelyard.study.scoring import journal_path
from steelyard.study.support_estimate import estimate_support
from steelyard.study.talk import Talk
from steelyard.study.trainable import refuse_untrainable
from steelyard.study.training_estimate import estimate_training
from steelyard.study.working import dev_work, work_of


def estimate_plan(plan: Plan) -> RunEstimate:
    """What a run would ask and cost; sends nothing, trains nothing.

    Args:
        plan: What would run.

    Raises:
        InputError: As for a run, before anything is paid for.
    """
    untrained = tuple(name for name, spec in plan.specs.items() if spec.tuning is not None)
    refuse_untrainable(
        plan.specs, file=plan.file, task=plan.task, train=plan.material.splits.train, distilled=plan.material.distilled
    )
    bench = workbench(plan, say=Talk(None))
    prepared: dict[str, Prepared] = {}
    unembedded: list[str] = []
    for name, spec in plan.specs.items():
        if spec.tuning is not None and spec.model == "none":
            continue
        plain = spec.model_copy(update={"tuning": None}) if spec.tuning else spec
        try:
            prepared[name] = prepare(name, plain, bench)
        except NotEmbedded:  # by an endpoint, which a run would pay: prompts are counted without passages
            prepared[name] = prepare(name, plain, replace(bench, looks_up=False))
            unembedded.append(name)
    endpoints = unsent_endpoints(plan.file, plan.folder)
    path = journal_path(plan.folder)
    journal = Journal.open(path, read_only=True) if path.exists() else None
    labels, work = _labelled_work(plan, prepared)
    guarded = _guard_work(plan, prepared, bench)
    labels, work = [*labels, *(f"{one.approach.name}, guard set" for one in guarded)], [*work, *guarded]
    try:
        dimensions = _dimensions(bench) if len(unembedded) < len(prepared) else {}
        estimate = asyncio.run(dry_run(work, endpoints=endpoints, journal=journal, dimensions=dimensions))
        rows = zip(labels, estimate.approaches, strict=True)
        named = tuple(replace(one, approach=label) for label, one in rows)
        estimate = replace(estimate, approaches=named)
        support = estimate_support(plan, estimate.approaches, endpoints=endpoints, journal=journal)
    finally:
        if journal is not None:
            journal.close()
    trainings = tuple(
        estimate_training(plan, name, measure=False, say=Talk(None)) for name in untrained if name not in unembedded
    )
    return RunEstimate(
        estimate=estimate,
        untrained=untrained,
        cascades=tuple(name for name in plan.cascades if name in plan.chosen),
        trainings=trainings,
        embedding=_embedding(plan, bench, unembedded),
        support=support,
    )


# ---- private --------------------------------------------------------------------------------------------------------


def _labelled_work(plan: Plan, prepared: Mapping[str, Prepared]) -> tuple[list[str], list[Work]]:
    """All that would be asked, and what each part is called.

    How many cases a cascade lets go on is known only once it is set on dev; so its members are counted with all cases,
    the most there can be, unless they are asked them anyway.
    """
    own = {name: one for name, one in prepared.items() if name not in plan.asked_by_cascades}
    found = [(one.approach.name, one) for one in work_of(plan, own)]
    dev: dict[str, Work] = {}
    for one in (one for name in plan.cascades for one in dev_work(plan, name, prepared)):
        known = dev.get(one.approach.name)
        if known is None or len(known.cases) < len(one.cases):  # a larger sample holds the smaller one
            dev[one.approach.name] = one
    found += [(f"{name} on dev", one) for name, one in dev.items()]
    lent = {name: one for name, one in prepared.items() if name not in own}
    found += [(f"{one.approach.name} at most", one) for one in work_of(plan, lent)]
    return [label for label, _ in found], [one for _, one in found]


def _guard_work(plan: Plan, prepared: Mapping[str, Prepared], bench: Workbench) -> list[Work]:
    """The guard set for every base and tuned model; nothing is trained here, so the adapters have no digests yet."""
    untrained = {name: replace(one, adapter_digest=f"adapter of {name}") for name, one in prepared.items()}
    models = {name: facts.model for name, facts in bench.endpoints.items()}
    return guard_work(plan.specs, untrained, file=plan.file, models=models)


def _dimensions(bench: Workbench) -> dict[str, int]:
    """Numbers in the vectors of the endpoint that embeds questions, where that is known."""
    embedder = bench.document_embedder() if bench.document_embedder is not None else None
    if not isinstance(embedder, RemoteEmbedder):
        return {}
    try:
        return {embedder.endpoint: embedder.dimensions}
    except NotEmbedded:
        return {}


def _embedding(plan: Plan, bench: Workbench, unembedded: list[str]) -> EmbeddingEstimate | None:
    embedder = bench.document_embedder() if bench.document_embedder is not None else None
    if not unembedded or not isinstance(embedder, RemoteEmbedder):
        return None
    uses = {name: use for name in unembedded if (use := plan.specs[name].knowledge) is not None}
    return embedding_estimate(plan.file, plan.folder, embedder, uses)
