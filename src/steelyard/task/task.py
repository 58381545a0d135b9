"""The task as the rest of the program sees it: resolved, immutable, with its schema."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from steelyard.task.spec import ScorerName


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What is asked: input fields, output schema, scoring rules."""

    instruction: str
    input_fields: tuple[str, ...]
    expected_fields: tuple[str, ...]
    output_schema: Mapping[str, Any]
    """JSON Schema (object) every output must satisfy; always present."""
    labels: tuple[str, ...] = ()
    """Allowed values of the one expected field in a classification task; else empty."""
    label_definitions: Mapping[str, str] | None = None
    scorer: ScorerName = "exact"
    success_threshold: float = 1.0
    max_output_tokens: int = 48

    @property
    def single_field(self) -> str | None:
        """The one output field, where there is just one and it is text: then a bare answer is its value."""
        properties = self.output_schema.get("properties", {})
        if len(properties) != 1:
            return None
        (name,) = properties
        return name if properties[name].get("type", "string") == "string" else None

    def digest(self) -> str:
        """Content address of everything that can change an answer or its score."""
        body = [
            self.instruction,
            self.input_fields,
            self.expected_fields,
            self.output_schema,
            self.labels,
            self.label_definitions,
            self.scorer,
            self.success_threshold,
            self.max_output_tokens,
        ]
        return hashlib.blake2b(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()
