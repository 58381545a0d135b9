"""What preparing an approach may use: the task, the train and dev splits, and the tools of this machine. Never test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from steelyard.approaches.knowledge_spec import KnowledgeSpec
from steelyard.approaches.till import Till
from steelyard.cases.case import Case, GoldText
from steelyard.models.embeddings import Embed
from steelyard.models.spec import EndpointSpec
from steelyard.task.task import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointFacts:
    """What an approach has to know of an endpoint to prepare for it."""

    model: str
    """Identity of the model behind it."""
    native_schema: bool
    """Whether it enforces a JSON Schema itself."""
    context_tokens: int | None
    tools: bool = True
    """Whether it takes tool definitions."""
    images: bool = False
    """Whether it takes pictures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workbench:
    """Handed to every `prepare`; heavy tools come as functions, so that nothing loads what it does not need."""

    task: Task
    train: tuple[Case, ...]
    dev: tuple[Case, ...]
    distilled: tuple[Case, ...] = ()
    """Cases labelled by a teacher; tuning alone learns from them."""
    folder: Path
    """Where prepared things are kept, addressed by content (`.steelyard/prepared`)."""
    endpoints: Mapping[str, EndpointFacts]
    embedder: Callable[[], Embed]
    """The built-in one."""
    document_embedder: Callable[[], Embed] | None = None
    """What embeds documents, where an endpoint does."""
    base_gguf: Callable[[], Path]
    """The local model's weights, fetched if they are not there."""
    cpu_hour_usd: float
    """Price of one busy core for an hour."""
    knowledge: KnowledgeSpec | None = None
    """The documents of the study, where it names any."""
    held_out: Callable[[], frozenset[str]] = frozenset
    """Folded input texts of the dev and test cases, by which what must not be learned from is known; no answers."""
    gold: Mapping[str, tuple[GoldText, ...]] = field(default_factory=dict)
    """Gold passages of all cases by id, test cases too: for the ceiling alone, which is never chosen."""
    hosts: Mapping[str, EndpointSpec] = field(default_factory=dict)
    """The endpoints as study.yaml declares them, for jobs that their hosts do."""
    till: Till | None = None
    """Counts such jobs against the budget; without one none is started."""
    looks_up: bool = True
    """Whether documents are indexed; without, prompts that show passages are compiled and nothing more."""
    study: Path = Path()
    """The study folder, where functions of the study stand."""
    say: Callable[[str], None]
    """Shows one line of progress to the person (stderr); may be called often."""

    def embed_documents(self) -> Embed:
        """What embeds documents, and questions to them."""
        return (self.document_embedder or self.embedder)()
