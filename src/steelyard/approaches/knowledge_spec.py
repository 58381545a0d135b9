"""Documents: the `knowledge:` section of study.yaml, and `retrieval.knowledge:` of an approach."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from steelyard.models.spec import Section

Context = Literal["search", "all", "gold"]
LATE_INTERACTION = "late_interaction"
"""The reranker that needs no endpoint."""
FilterValue = str | int | float | bool


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):  # not repeated: it may be the connection string itself
        raise ValueError("name the environment variable that holds the connection string, for example DATABASE_URL")
    return name


class StoreSpec(Section):
    """A PostgreSQL database with pgvector, where a team keeps the index of its documents."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    postgres: Annotated[str, AfterValidator(_variable)]
    """Name of the environment variable that holds the connection string; the string itself is never written down."""
    schema_name: Annotated[str, Field(alias="schema", pattern=r"^[a-z_][a-z0-9_]{0,62}$")] = "steelyard"
    """Schema of the database in which the tables lie; made where it is missing."""
    study: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Name under which the database knows this study, for all who share its index; left out, `study`. Two
    different studies of one name need a name, or a schema, each."""


class KnowledgeSpec(Section):
    """Documents that answers may rest on."""

    documents: Annotated[list[str], Field(min_length=1)]
    """Folders or files inside the study folder: Markdown, text, HTML, PDF, DOCX, CSV, TSV, JSONL."""
    metadata: str | None = None
    """YAML or CSV file with id, title, dates, access tags of documents by path; left out: `documents.yaml` or
    `documents.csv` in a folder named above."""
    embeddings: str | None = None
    """One of `models.endpoints` that speaks `/embeddings`, which embeds documents and questions; left out, the built-in
    embedder on this machine."""
    access: tuple[str, ...] = ()
    """Tags that every question must carry to see any of these documents, besides a document's own."""
    chunk_tokens: Annotated[int, Field(ge=40, le=2000)] = 200
    """A chunk has at most so many tokens (estimated), its headings included; the built-in embedder reads 256."""
    overlap_tokens: Annotated[int, Field(ge=0, le=400)] = 30
    """Sentences up to this length are repeated where running text is cut in two."""
    max_file_mb: Annotated[float, Field(gt=0, le=2000)] = 50
    """A larger file is left out, and that is said."""
    store: StoreSpec | None = None
    """Where the index lies; left out, in files beside the study."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:  # noqa: ANN401 - anything can stand in a YAML file
        if isinstance(value, str):
            return {"documents": [value]}
        if isinstance(value, list):
            return {"documents": value}
        if isinstance(value, dict) and isinstance(value.get("documents"), str):
            return {**value, "documents": [value["documents"]]}
        return value

    @model_validator(mode="after")
    def _overlap_fits(self) -> KnowledgeSpec:
        if self.overlap_tokens * 2 > self.chunk_tokens:
            raise ValueError("overlap_tokens must be at most half of chunk_tokens, or chunks hold little that is new")
        return self


class KnowledgeUse(Section):
    """Passages of the documents under `knowledge:`, shown with each case."""

    context: Context = "search"
    """`search`: the passages that a search finds. `all`: everything that holds on the day, the likeliest first where it does
    not fit (long context). `gold`: the passages the cases name as holding the answer, or their documents; the ceiling of
    any retrieval, which cannot be deployed and is never chosen."""
    k: Annotated[int, Field(ge=1, le=200)] = 5
    """`search`: passages at most."""
    tokens: Annotated[int, Field(ge=50)] | None = None
    """Tokens of all passages together at most (estimated); left out, what the context of the model leaves, and 32,000
    where that is not known."""
    full_text_weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Weight of full text against dense vectors; 0 and 1 leave the other out."""
    question: Annotated[list[str], Field(min_length=1)] | None = None
    """Input fields that are searched with; left out, all but the one `as_of` names. `STEP.FIELD` is what an earlier step of
    the workflow gave (`plan.queries` of a step `query:`), each text of a list a search of its own."""
    # What is not used is left out of what is written down, so that fingerprints from before there was such an option hold.
    queries: Annotated[int, Field(ge=0, le=5, exclude_if=lambda value: value == 0)] = 0
    """So many search queries the model writes first, in one call; they are searched beside the question, and what all of
    them find is fused."""
    rerank: Annotated[str | None, Field(exclude_if=lambda value: value is None)] = None
    """Orders the best candidates anew: `late_interaction` compares them with the question word piece by word piece with the
    built-in embedder, any other name is one of `models.endpoints` that speaks `/rerank`."""
    candidates: Annotated[int, Field(ge=2, le=200, exclude_if=lambda value: value == 30)] = 30
    """`rerank`: passages that are ordered anew."""
    as_of: str | None = "time"
    """Day on which documents must hold: `time` for the time of the case, else the input field that says it; null, or a case
    without a day, takes the newest versions."""
    filters: dict[str, FilterValue | list[FilterValue]] = Field(default_factory=dict)
    """What documents must have: metadata key and value, or values of which one is enough."""
    chunk_tokens: Annotated[int, Field(ge=40, le=2000)] | None = None
    """In place of `knowledge.chunk_tokens`, with an index of its own."""
    overlap_tokens: Annotated[int, Field(ge=0, le=400)] | None = None
    """In place of `knowledge.overlap_tokens`."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:  # noqa: ANN401 - anything can stand in a YAML file
        if value is True:
            return {}
        if isinstance(value, str):
            return {"context": value}
        if isinstance(value, dict) and isinstance(value.get("question"), str):
            return {**value, "question": [value["question"]]}
        return value

    @model_validator(mode="after")
    def _options_belong_to_a_search(self) -> Self:
        of_a_search = {"k", "rerank", "candidates", "queries"}
        if self.context == "gold":
            of_a_search |= {"filters", "full_text_weight"}
        stray = sorted(self.model_fields_set & of_a_search) if self.context != "search" else []
        if stray:
            raise ValueError(f"{stray[0]} says how to search, which context: {self.context} does not")
        if "candidates" in self.model_fields_set and self.rerank is None:
            raise ValueError("candidates belongs to rerank")
        return self
