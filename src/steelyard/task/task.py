"""The task as the rest of the program sees it: resolved, immutable, with its schema."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from steelyard.task.spec import FieldScoring, ScorerName

ScoreFunction = Callable[[Any, Any, Mapping[str, Any]], float | bool | None]
"""A study's own scorer: field of the output, expected field, whole output -> 0..1, or `None` where it cannot say."""


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
    image_fields: tuple[str, ...] = ()
    """Input fields that hold pictures; a subset of `input_fields`."""
    scorer: ScorerName = "exact"
    scoring: Mapping[str, FieldScoring] | None = None
    """By expected field, all of them; `None` where `scorer` says it for all."""
    functions: Mapping[str, ScoreFunction] = field(default_factory=dict)
    """The study's own functions by `FILE.py:NAME`."""
    function_digests: Mapping[str, str] = field(default_factory=dict)
    """Digest of the file behind each of them."""
    success_threshold: float = 1.0
    max_output_tokens: int = 48

    @property
    def single_field(self) -> str | None:
        """The one output field, where there is just one and it is text: then a bare answer is its value."""
        properties = self.output_schema.get("properties", {})
        if len(properties) != 1:
            return None
        (name,) = properties
        rule = properties[name]
        # What a reference or a choice leads to may be anything, so JSON is asked for.
        is_plain = not any(key in rule for key in ("$ref", "anyOf", "oneOf", "allOf"))
        return name if is_plain and rule.get("type", "string") == "string" else None

    def digest(self) -> str:
        """Content address of everything that can change an answer or its score."""
        body: list[Any] = [
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
        if self.scoring is not None:
            scoring = {name: one.model_dump(mode="json", exclude_unset=True) for name, one in self.scoring.items()}
            body += [scoring, dict(self.function_digests)]
        if self.image_fields:
            body.append(self.image_fields)
        return hashlib.blake2b(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()
