"""The `knowledge:` section of study.yaml: which documents there are, and how they are cut into chunks."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from steelyard.models.spec import Section


class KnowledgeSpec(Section):
    """Documents that answers may rest on."""

    documents: Annotated[list[str], Field(min_length=1)]
    """Folders or files inside the study folder: Markdown, text, HTML, PDF, DOCX, CSV, TSV, JSONL."""
    metadata: str | None = None
    """YAML or CSV file with id, title, dates, access tags of documents by path; left out: `documents.yaml` or
    `documents.csv` in a folder named above."""
    access: tuple[str, ...] = ()
    """Tags that every question must carry to see any of these documents, besides a document's own."""
    chunk_tokens: Annotated[int, Field(ge=40, le=2000)] = 200
    """A chunk has at most so many tokens (estimated), its headings included; the built-in embedder reads 256."""
    overlap_tokens: Annotated[int, Field(ge=0, le=400)] = 30
    """Sentences up to this length are repeated where running text is cut in two."""
    max_file_mb: Annotated[float, Field(gt=0, le=2000)] = 50
    """A larger file is left out, and that is said."""

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
