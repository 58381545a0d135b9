"""What `check` finds out about the approaches: their templates, workflows, functions and models are sound."""

from __future__ import annotations

from dataclasses import replace

from steelyard.approaches.prepare import prepare
from steelyard.approaches.spec import ApproachSpec, RetrievalSpec
from steelyard.approaches.workflow.learned import learned_question
from steelyard.errors import InputError, Problem
from steelyard.study.document_check import document_notes
from steelyard.study.running import Plan, workbench


def check_approaches(plan: Plan) -> tuple[str, ...]:
    """Compile every approach without what takes time: nothing is embedded, trained or sent.

    Returns:
        Sentences a person should know before a run, such as a schema that an endpoint cannot enforce.

    Raises:
        InputError: A template, check, tool, step, function, picture or model is not as it must be; lists every problem
            found in any approach.
    """
    notes: list[str] = []
    problems: list[Problem] = []
    bench = replace(workbench(plan, say=notes.append), looks_up=False)
    for name, spec in plan.specs.items():
        if spec.model == "none":
            continue
        try:
            prepared = prepare(name, _without_preparation(spec), bench)
            if spec.tuning is not None:
                learned_question(prepared.approach, where=f"study.yaml:approaches.{name}")
        except InputError as error:
            problems += error.problems
    try:
        notes += document_notes(plan.folder, plan.file, plan.task, plan.material)
    except InputError as error:
        problems += error.problems
    if problems:
        raise InputError(problems)
    return tuple(dict.fromkeys(notes))


# ---- private --------------------------------------------------------------------------------------------------------


def _without_preparation(spec: ApproachSpec) -> ApproachSpec:
    """The same prompt and workflow, without looking anything up or learning anything."""
    # Choosing diverse examples embeds the train split; which ones are shown makes no difference here.
    prompt = spec.prompt.model_copy(update={"choose": "spread"}) if spec.prompt.examples else spec.prompt
    retrieval = RetrievalSpec(knowledge=spec.knowledge) if spec.knowledge is not None else None
    return spec.model_copy(update={"retrieval": retrieval, "tuning": None, "prompt": prompt})
