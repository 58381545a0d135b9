"""Make an approach ready: the one place where prompt, workflow, retrieval and tuning are put together.

The levers do not know each other. Retrieval reaches the prompt as a function that chooses examples, tuning reaches it
as the digest of an adapter, and tuning gets the deployed prompt as a function too, so that a model is trained on
exactly what it will be asked.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steelyard.approaches.approach import Prepared, Setup
from steelyard.approaches.asking import Asking
from steelyard.approaches.knowledge_spec import LATE_INTERACTION, KnowledgeUse
from steelyard.approaches.lora_spec import LoraTuningSpec
from steelyard.approaches.prompted import Prompted, fingerprint
from steelyard.approaches.prompting import ChooseExamples
from steelyard.approaches.question import Question
from steelyard.approaches.spec import ApproachSpec, RetrievalSpec
from steelyard.approaches.tuning.repeats import without_repeats
from steelyard.approaches.tuning.taught import taught, training_cases, with_teachers
from steelyard.approaches.workbench import EndpointFacts, Workbench
from steelyard.cases.case import Case, CaseInput
from steelyard.errors import InputError, Problem

if TYPE_CHECKING:
    from steelyard.approaches.retrieval.context import PreparedKnowledge
    from steelyard.approaches.retrieval.lookup import EndpointRerank
    from steelyard.approaches.retrieval.queries import QueryWriter
    from steelyard.approaches.retrieval.rerank import LateInteraction
    from steelyard.approaches.workflow.flow import Flow


def prepare(name: str, spec: ApproachSpec, bench: Workbench) -> Prepared:
    """Make one approach ready to answer; what was prepared before with the same data and settings is reused.

    Args:
        name: Its name in the study.
        spec: What it is made of.
        bench: Task, train and dev cases, and the tools of this machine.

    Returns:
        The approach with what preparing it took.

    Raises:
        InputError: The model is unknown, a template is wrong, or no train case can serve as an example.
    """
    if spec.tuning is not None and spec.tuning.method == "head":
        from steelyard.approaches.tuning.head import prepare_head

        learnt = replace(bench, train=without_repeats(taught(bench, spec.tuning).train))
        prepared = prepare_head(name, spec.tuning, learnt)
        labelled = [case for case in learnt.train if case.expected is not None]
        return replace(prepared, setup=with_teachers(prepared.setup, labelled, spec.tuning))
    if spec.model == "none":
        return _prepare_nearest(name, spec.retrieval or RetrievalSpec(), bench)
    return _prepare_prompted(name, spec, bench)


# ---- private --------------------------------------------------------------------------------------------------------


def _prepare_nearest(name: str, spec: RetrievalSpec, bench: Workbench) -> Prepared:
    from steelyard.approaches.retrieval.index import build_index
    from steelyard.approaches.retrieval.nearest import NearestVote

    index = build_index(bench.train, task=bench.task, embed=bench.embedder(), folder=bench.folder, say=bench.say)
    return Prepared(
        approach=NearestVote(name=name, index=index, k=spec.examples),
        setup=_setup(bench, seconds=index.seconds, n_examples=len(index.cases), reused=index.reused),
    )


def _prepare_prompted(name: str, spec: ApproachSpec, bench: Workbench) -> Prepared:
    facts = _endpoint(name, spec.model, bench.endpoints)
    started = time.perf_counter()
    choose_examples: ChooseExamples | None = None
    index_digest: str | None = None
    setups: list[Setup] = []
    if spec.retrieval is not None and spec.retrieval.examples:
        from steelyard.approaches.retrieval.index import build_index

        index = build_index(bench.train, task=bench.task, embed=bench.embedder(), folder=bench.folder, say=bench.say)
        index_digest, k = index.digest, spec.retrieval.examples

        def choose(case: CaseInput) -> list[Case]:
            return [neighbour.case for neighbour in index.neighbours(case, k)]

        choose_examples = choose
        setups.append(_setup(bench, seconds=index.seconds, n_examples=len(index.cases), reused=index.reused))
        started += index.seconds
    knowledge = _knowledge(name, spec, facts, bench)
    if knowledge is not None:
        index_digest = "/".join(one for one in (index_digest, knowledge.context.digest) if one)
        setups.append(_knowledge_setup(knowledge, bench))
        started = time.perf_counter() if choose_examples is None else started
    asking = Asking(
        bench=bench,
        endpoint=spec.model,
        facts=facts,
        choose_examples=choose_examples,
        find_passages=knowledge.context if knowledge is not None else None,
    )
    workflow = spec.workflow
    if workflow is not None and (workflow.steps is not None or workflow.split is not None):
        from steelyard.approaches.workflow.prepare import prepare_flow

        # What was tuned stands in the digest of the adapter; how often it was kept on the way changes no answer.
        untuned = spec.model_copy(update={"tuning": None})
        flow = prepare_flow(name, untuned, workflow, asking, index_digest=index_digest, short=spec.tuning is not None)
        _refuse_unused_knowledge(name, asking, flow.questions)
        n_examples = max((len(one.prompting.fixed) for one in flow.questions), default=0)
        own = _setup(bench, seconds=max(0.0, time.perf_counter() - started), n_examples=n_examples)
        prepared = Prepared(approach=flow.approach, setup=_together([own, *setups]))
        return _tuned_flow(name, spec, flow.approach, prepared, bench)
    question = asking.question(
        spec.prompt,
        bench.task,
        where=f"study.yaml:approaches.{name}",
        repairs=workflow.repair if workflow else 0,
        checks=workflow.checks if workflow else (),
        checks_where=f"study.yaml:approaches.{name}.workflow",
        short=spec.tuning is not None,
    )
    prompting = question.prompting
    _refuse_unused_knowledge(name, asking, (question,))
    own = _setup(bench, seconds=max(0.0, time.perf_counter() - started), n_examples=len(prompting.fixed))
    setups.insert(0, own)
    adapter: Path | None = None
    adapter_digest: str | None = None
    model, levers = facts.model, spec.levers
    if spec.tuning is not None and spec.tuning.method == "hosted":
        from steelyard.approaches.tuning.hosted import prepare_hosted

        cases = training_cases(bench, spec.tuning)
        hosted = prepare_hosted(name, spec.tuning, endpoint=spec.model, question=question, cases=cases, bench=bench)
        setups.append(with_teachers(hosted.setup, cases, spec.tuning))
        # How the job was waited for changes no answer; what it learned does.
        spec = spec.model_copy(update={"tuning": None})
        model = f"{facts.model}, tuned: {hosted.identity}"
        question = replace(question, tuned_model=hosted.model)
    elif isinstance(spec.tuning, LoraTuningSpec):
        from steelyard.approaches.tuning.lora import prepare_adapter

        cases = training_cases(bench, spec.tuning)
        tuned = prepare_adapter(
            spec.tuning,
            prompt=lambda case: prompting.converse(case).messages,
            target=prompting.target,
            bench=replace(bench, train=cases),
            where=f"study.yaml:approaches.{name}.tuning",
        )
        setups.append(with_teachers(tuned.setup, cases, spec.tuning))
        # The adapter's digest stands for its settings; how often it was kept on the way changes no answer.
        spec = spec.model_copy(update={"tuning": None})
        adapter, adapter_digest = tuned.path, tuned.digest
    asking.warn_of_length(name, prompting)
    approach = Prompted(
        name=name,
        levers=levers,
        fingerprint=fingerprint(spec, question=question, model=model, index=index_digest, adapter=adapter_digest),
        question=replace(question, adapter=adapter_digest),
    )
    return Prepared(approach=approach, setup=_together(setups), adapter=adapter, adapter_digest=adapter_digest)


def _tuned_flow(name: str, spec: ApproachSpec, flow: Flow, untuned: Prepared, bench: Workbench) -> Prepared:
    """A workflow with the adapter of its one question, where it is tuned."""
    if not isinstance(spec.tuning, LoraTuningSpec):
        return untuned
    from steelyard.approaches.tuning.lora import prepare_adapter
    from steelyard.approaches.workflow.learned import learned_question, with_adapter

    where = f"study.yaml:approaches.{name}"
    prompting = learned_question(flow, where=where).prompting
    cases = training_cases(bench, spec.tuning)
    tuned = prepare_adapter(
        spec.tuning,
        prompt=lambda case: prompting.converse(case).messages,
        target=prompting.target,
        bench=replace(bench, train=cases),
        where=f"{where}.tuning",
    )
    setup = _together([untuned.setup, with_teachers(tuned.setup, cases, spec.tuning)])
    approach = replace(with_adapter(flow, tuned.digest, where=where), levers=spec.levers)
    return Prepared(approach=approach, setup=setup, adapter=tuned.path, adapter_digest=tuned.digest)


def _knowledge(name: str, spec: ApproachSpec, facts: EndpointFacts, bench: Workbench) -> PreparedKnowledge | None:
    """The documents as the approach shows them, where it does."""
    if spec.knowledge is None:
        return None
    where = f"study.yaml:approaches.{name}.retrieval.knowledge"
    if bench.knowledge is None:
        hint = "name a folder of documents, for example: knowledge: docs"
        raise InputError(Problem(what="the study names no documents", where=where, hint=hint))
    problems = [
        Problem(what=f"there is no input field {field!r}", where=where, hint=f"there is: {', '.join(known)}")
        for known in (bench.task.input_fields,)
        for field in (*_fields_asked(spec), *_day_field(spec.knowledge))
        if field not in known
    ]
    if spec.is_ceiling and not bench.gold:
        hint = "name documents in a column `sources`, or passages in cases.passages"
        problems.append(Problem(what="no case names the passages that hold its answer", where=where, hint=hint))
    problems += _unknown_reranker(spec.knowledge, bench, where)
    if problems:
        raise InputError(problems)
    from steelyard.approaches.retrieval.context import NoPassages, PreparedKnowledge, prepare_knowledge

    if not bench.looks_up:
        return PreparedKnowledge(NoPassages(), 0.0, False, {})
    room: int | None = None
    if facts.context_tokens is not None:
        said = len(bench.task.instruction) + len(str(bench.task.output_schema)) + len(spec.prompt.system or "")
        room = facts.context_tokens - bench.task.max_output_tokens - said // 3
    return prepare_knowledge(
        spec.knowledge,
        bench.knowledge,
        study=bench.study,
        embed=bench.embed_documents(),
        fields=bench.task.input_fields,
        room=room,
        gold=bench.gold,
        say=bench.say,
        writer=_query_writer(spec, facts, bench, where),
        rerank=_reranker(spec.knowledge, bench),
    )


def _fields_asked(spec: ApproachSpec) -> tuple[str, ...]:
    """Names that must be input fields; with steps, `STEP.FIELD` is theirs, which the workflow checks."""
    has_steps = spec.workflow is not None and spec.workflow.steps is not None
    named = (spec.knowledge.question if spec.knowledge is not None else None) or ()
    return tuple(name for name in named if not (has_steps and "." in name))


def _query_writer(spec: ApproachSpec, facts: EndpointFacts, bench: Workbench, where: str) -> QueryWriter | None:
    """What asks the approach's own model for search queries, where it is to."""
    if spec.knowledge is None or not spec.knowledge.queries:
        return None
    from steelyard.approaches.retrieval.queries import query_writer

    asking = Asking(bench=bench, endpoint=spec.model, facts=facts)
    return query_writer(asking.question, bench.task, spec.knowledge.queries, where=f"{where}.queries")


def _reranker(use: KnowledgeUse, bench: Workbench) -> LateInteraction | EndpointRerank | None:
    if use.rerank is None:
        return None
    from steelyard.approaches.retrieval.lookup import EndpointRerank
    from steelyard.approaches.retrieval.rerank import LateInteraction
    from steelyard.models.embeddings import EmbedPieces

    if use.rerank != LATE_INTERACTION:
        return EndpointRerank(endpoint=use.rerank, model=bench.endpoints[use.rerank].model)
    embed = bench.embedder()
    assert isinstance(embed, EmbedPieces), "the built-in embedder gives vectors of word pieces"
    return LateInteraction(embed)


def _unknown_reranker(use: KnowledgeUse, bench: Workbench, where: str) -> list[Problem]:
    known = [LATE_INTERACTION, *(name for name in bench.endpoints if name != "local")]
    if use.rerank is None or use.rerank in known:
        return []
    close = difflib.get_close_matches(use.rerank, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
    return [Problem(what=f"there is no reranker {use.rerank!r}", where=f"{where}.rerank", hint=hint)]


def _knowledge_setup(knowledge: PreparedKnowledge, bench: Workbench) -> Setup:
    """What the index took: seconds of this machine, and what an endpoint was paid for embedding."""
    from steelyard.approaches.retrieval.remote_embeddings import RemoteEmbedder

    setup = _setup(bench, seconds=knowledge.seconds, reused=knowledge.reused)
    card = dict(knowledge.card)
    embed = bench.embed_documents() if card and bench.document_embedder is not None else None
    if isinstance(embed, RemoteEmbedder):
        paid, monthly = embed.cost_of(card["tokens_embedded"]), embed.cost_of(card["tokens_per_month"] or 0)
        usd = None if setup.cost_usd is None or paid.usd is None else setup.cost_usd + paid.usd
        setup = replace(setup, cost_usd=usd)
        card["embeddings"] = {**paid.card(), "usd_per_month": monthly.usd if card["tokens_per_month"] else None}
    return replace(setup, card={"knowledge": {**card, "cost_usd": setup.cost_usd}})


def _day_field(use: KnowledgeUse) -> tuple[str, ...]:
    return () if use.as_of in (None, "time") else (str(use.as_of),)


def _refuse_unused_knowledge(name: str, asking: Asking, questions: Sequence[Question]) -> None:
    """An approach that looks documents up and shows them to nobody would be measured as retrieval, and be none."""
    if asking.find_passages is None or any(one.prompting.find_passages is not None for one in questions):
        return
    raise InputError(
        Problem(
            what="passages are looked up, and no prompt shows them",
            where=f"study.yaml:approaches.{name}",
            hint="write {% for passage in passages %}{{ passage.text }}{% endfor %} into prompt.user, or leave it out",
        )
    )


def _endpoint(name: str, model: str, endpoints: Mapping[str, EndpointFacts]) -> EndpointFacts:
    try:
        return endpoints[model]
    except KeyError:
        close = difflib.get_close_matches(model, list(endpoints), n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(map(repr, endpoints))} and 'none'"
        raise InputError(
            Problem(what=f"unknown model {model!r}", where=f"study.yaml:approaches.{name}.model", hint=hint)
        ) from None


def _setup(bench: Workbench, *, seconds: float, n_examples: int = 0, reused: bool = False) -> Setup:
    return Setup(seconds=seconds, cost_usd=seconds / 3600 * bench.cpu_hour_usd, n_examples=n_examples, reused=reused)


def _together(setups: list[Setup]) -> Setup:
    """One setup for all that was prepared; reused only if everything that takes real work was."""
    costs = [setup.cost_usd for setup in setups]
    heavy = setups[1:]
    cards = [setup.card for setup in setups if setup.card is not None]
    card: Mapping[str, Any] | None = {key: value for one in cards for key, value in one.items()} if cards else None
    return Setup(
        seconds=sum(setup.seconds for setup in setups),
        cost_usd=sum(cost for cost in costs if cost is not None) if None not in costs else None,
        n_examples=max(setup.n_examples for setup in setups),
        reused=bool(heavy) and all(setup.reused for setup in heavy),
        card=card,
    )
