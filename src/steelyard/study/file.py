"""The user's file: study.yaml as a whole, composed of the sections each room owns."""

from __future__ import annotations

import difflib
from typing import Annotated, Any

from pydantic import Field, model_validator

from steelyard.approaches.cascade_spec import refuse_unsound
from steelyard.approaches.head_spec import HeadTuningSpec
from steelyard.approaches.knowledge_spec import KnowledgeSpec
from steelyard.approaches.lora_spec import LoraTuningSpec
from steelyard.approaches.prompt_spec import PromptSpec
from steelyard.approaches.spec import ApproachSpec, RetrievalSpec
from steelyard.approaches.workflow.spec import WorkflowSpec
from steelyard.cases.spec import CasesSpec
from steelyard.decision.spec import GoalSpec
from steelyard.economics.spec import MoneySpec
from steelyard.models.spec import ModelsSpec, NotNegative, Section
from steelyard.task.spec import TaskSpec


class RunSpec(Section):
    """How a run behaves."""

    repeats: Annotated[int, Field(ge=1, le=20)] = 1
    """How often each case is asked; repeats are averaged within a case."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Score at most this many test cases (a seeded sample); left out, all of them."""
    budget_usd: NotNegative | None = None
    """Ceiling on money for this study over all runs."""
    budget_calls: Annotated[int, Field(ge=0)] | None = None
    """Ceiling on model calls for this study over all runs."""
    in_flight: Annotated[int, Field(ge=1, le=1000)] = 64
    """Cases worked on at the same time; endpoints have limits of their own besides."""


class StudyFile(Section):
    """One task, its cases and the approaches compared."""

    study: Annotated[str, Field(min_length=1, max_length=80)]
    """Name of the study, as it is shown in reports."""
    cases: CasesSpec
    """Where the labelled cases are."""
    task: TaskSpec
    """What is asked, and what counts as a success."""
    knowledge: KnowledgeSpec | None = None
    """Documents that answers may rest on."""
    models: ModelsSpec = ModelsSpec()
    """Which models there are besides the embedded one, where they answer and what they cost."""
    approaches: Annotated[dict[str, ApproachSpec], Field(min_length=1)]
    """The ways to do the task that are compared; left out, the standard ladder."""
    money: MoneySpec = MoneySpec()
    """Volume, wages and hours; what is left out is assumed and marked so."""
    goal: GoalSpec = GoalSpec()
    """What an approach must reach to be considered at all."""
    run: RunSpec = RunSpec()
    """Repeats, limits and the budget of a run."""

    @model_validator(mode="before")
    @classmethod
    def _standard_ladder(cls, value: Any) -> Any:  # noqa: ANN401 - anything can stand in a YAML file
        if isinstance(value, dict) and "approaches" not in value:
            task = value.get("task")
            is_classification = isinstance(task, dict) and bool(task.get("labels"))
            return {**value, "approaches": standard_ladder(classification=is_classification)}
        if isinstance(value, dict) and isinstance(value.get("approaches"), dict):
            filled = {name: ({} if spec is None else spec) for name, spec in value["approaches"].items()}
            return {**value, "approaches": filled}
        return value

    @model_validator(mode="before")
    @classmethod
    def _database_knows_the_study(cls, value: Any) -> Any:  # noqa: ANN401 - anything can stand in a YAML file
        if not isinstance(value, dict) or not isinstance(knowledge := value.get("knowledge"), dict):
            return value
        store, name = knowledge.get("store"), value.get("study")
        if not isinstance(store, dict) or store.get("study") is not None or not isinstance(name, str):
            return value
        return {**value, "knowledge": {**knowledge, "store": {**store, "study": name}}}

    @model_validator(mode="after")
    def _embedder_is_an_endpoint(self) -> StudyFile:
        name = self.knowledge.embeddings if self.knowledge is not None else None
        if name is not None and name not in self.models.endpoints:
            close = difflib.get_close_matches(name, list(self.models.endpoints), n=1)
            there = ", ".join(map(repr, self.models.endpoints)) or "none"
            raise ValueError(
                f"knowledge.embeddings names the endpoint {name!r}, which is not under models.endpoints; "
                + (f"did you mean {close[0]!r}?" if close else f"there: {there}; left out, this machine embeds")
            )
        return self

    @model_validator(mode="after")
    def _cascades_are_sound(self) -> StudyFile:
        refuse_unsound(self.approaches)
        return self

    @model_validator(mode="after")
    def _models_exist(self) -> StudyFile:
        known = {"local", "none", *self.models.endpoints}
        for name, approach in self.approaches.items():
            if approach.model not in known:
                raise ValueError(
                    f"approach {name!r} uses the model {approach.model!r}, which is not one of: "
                    + ", ".join(sorted(known))
                )
        return self


def standard_ladder(*, classification: bool) -> dict[str, ApproachSpec]:
    """The approaches compared when the user names none: every rung that fits the task.

    Args:
        classification: Whether the task has labels; a tuned head can only choose among labels.
    """
    ladder = {
        "zero-shot": ApproachSpec(),
        "few-shot": ApproachSpec(prompt=PromptSpec(examples=12)),
        "workflow": ApproachSpec(prompt=PromptSpec(enforce_schema=True), workflow=WorkflowSpec(repair=2)),
        "retrieval": ApproachSpec(prompt=PromptSpec(enforce_schema=True), retrieval=RetrievalSpec(examples=5)),
        "tuned-lora": ApproachSpec(tuning=LoraTuningSpec(method="lora")),
        "tuned-head": ApproachSpec(model="none", tuning=HeadTuningSpec(method="head")),
        "nearest": ApproachSpec(model="none", retrieval=RetrievalSpec(examples=1)),
    }
    if not classification:
        del ladder["tuned-head"]
    return ladder
