"""The `approaches:` section of study.yaml: which levers each approach pulls, and how far."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, model_validator

from steelyard.approaches.cascade_spec import CascadeSpec
from steelyard.approaches.head_spec import HeadTuningSpec
from steelyard.approaches.hosted_spec import HostedTuningSpec
from steelyard.approaches.knowledge_spec import KnowledgeUse
from steelyard.approaches.lora_spec import LoraTuningSpec
from steelyard.approaches.prompt_spec import PromptSpec
from steelyard.approaches.search_spec import OptimiseSpec
from steelyard.approaches.workflow.spec import WorkflowSpec
from steelyard.models.spec import Section


class Lever(StrEnum):
    """What can be pulled to make a model do a task better, in the order of the ladder."""

    PROMPT = "prompt"
    WORKFLOW = "workflow"
    RETRIEVAL = "retrieval"
    TUNING = "tuning"


class RetrievalSpec(Section):
    """What is looked up for each case: passages of documents, nearest labelled train examples, or both."""

    examples: Annotated[int, Field(ge=0, le=50)] = 5
    """How many nearest examples to show; with `model: none` they vote. Left out beside `knowledge`, none."""
    knowledge: KnowledgeUse | None = None
    """Passages of the study's documents: `true`, `all`, `gold`, or settings."""

    @model_validator(mode="before")
    @classmethod
    def _no_examples_beside_knowledge(cls, value: Any) -> Any:  # noqa: ANN401 - anything can stand in a YAML file
        if isinstance(value, dict) and value.get("knowledge") is False:
            value = {**value, "knowledge": None}
        if isinstance(value, dict) and value.get("knowledge") is not None:
            return {"examples": 0, **value}
        return value

    @model_validator(mode="after")
    def _looks_something_up(self) -> RetrievalSpec:
        if self.examples == 0 and self.knowledge is None:
            raise ValueError("give examples: 1 or more, or knowledge: true")
        return self


class ApproachSpec(Section):
    """One runnable way to do the task. Its kind follows from the levers it pulls."""

    model: str = "local"
    """Name of the model (`local` or a name under `models.endpoints`), or `none` for no generative model."""
    prompt: PromptSpec = PromptSpec()
    """What is said to the model."""
    workflow: WorkflowSpec | None = None
    """Checks and repairs around the call."""
    retrieval: RetrievalSpec | None = None
    """What is looked up for each case."""
    tuning: Annotated[LoraTuningSpec | HeadTuningSpec | HostedTuningSpec, Field(discriminator="method")] | None = None
    """What is learned beforehand."""
    optimise: OptimiseSpec | None = None
    """What a search for a better prompt, or for better retrieval, may try and spend."""
    # Left out of what is written down where it is not used, so that fingerprints from before there were cascades hold.
    cascade: Annotated[CascadeSpec | None, Field(exclude_if=lambda value: value is None)] = None
    """Two other approaches of the study, the second one asked where the first is not sure enough; in place of all else."""

    @model_validator(mode="after")
    def _a_cascade_is_nothing_else(self) -> ApproachSpec:
        others = sorted(self.model_fields_set - {"cascade"})
        if self.cascade is not None and others:
            raise ValueError(f"a cascade is made of two other approaches: leave out {', '.join(others)}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _asks_where_it_is_tuned(cls, value: Any) -> Any:  # noqa: ANN401 - anything can stand in a YAML file
        tuning = value.get("tuning") if isinstance(value, dict) else None
        if isinstance(tuning, dict) and tuning.get("method") == "hosted" and tuning.get("endpoint"):
            return {"model": tuning["endpoint"], **value}
        return value

    @model_validator(mode="after")
    def _hosted_tuning_has_a_host(self) -> ApproachSpec:
        if self.tuning is None or self.tuning.method != "hosted":
            return self
        if self.model in ("local", "none"):
            raise ValueError("hosted tuning needs a host: give tuning.endpoint, one of models.endpoints")
        if self.tuning.endpoint not in (None, self.model):
            raise ValueError(
                f"a tuned model answers where it was tuned: leave out model, or set it to {self.tuning.endpoint}"
            )
        if self.workflow is not None and (self.workflow.steps is not None or self.workflow.split is not None):
            raise ValueError("hosted tuning learns one question: leave out workflow.steps and workflow.split")
        return self

    @model_validator(mode="after")
    def _levers_fit_the_model(self) -> ApproachSpec:
        is_head = self.tuning is not None and self.tuning.method == "head"
        if is_head and (self.retrieval or self.workflow):
            raise ValueError("a tuned head answers by itself: leave out workflow and retrieval")
        if self.model == "none" and not (self.retrieval or is_head):
            raise ValueError("model: none needs retrieval or a tuned head to answer from")
        if self.model == "none" and self.retrieval and self.retrieval.knowledge:
            raise ValueError("model: none cannot read documents: leave out retrieval.knowledge")
        if self.model == "none" and self.workflow:
            raise ValueError("model: none has nothing to repair: leave out workflow")
        if self.tuning is not None and self.tuning.method == "lora" and self.model != "local":
            raise ValueError("a local LoRA needs model: local")
        return self

    @property
    def knowledge(self) -> KnowledgeUse | None:
        """What it shows of the documents, where it does."""
        return self.retrieval.knowledge if self.retrieval is not None else None

    @property
    def is_ceiling(self) -> bool:
        """Whether it is shown what cases name as their gold passages: a measure, nothing to deploy."""
        return self.knowledge is not None and self.knowledge.context == "gold"

    @property
    def levers(self) -> frozenset[Lever]:
        """The levers this approach pulls beyond saying the task at all."""
        pulled = {
            Lever.WORKFLOW: self.workflow,
            Lever.RETRIEVAL: self.retrieval,
            Lever.TUNING: self.tuning,
        }
        found = frozenset(lever for lever, spec in pulled.items() if spec is not None)
        return found or frozenset({Lever.PROMPT})
