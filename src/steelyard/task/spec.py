"""The `task:` section of study.yaml."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from steelyard.models.spec import Section

ScorerName = Literal["exact", "normalised", "fields"]


class TaskSpec(Section):
    """What is asked of a model, and what counts as a success."""

    instruction: str = "Read the input and give the expected output."
    """What to do, in words a model and a new colleague would both understand."""
    input: Annotated[list[str], Field(min_length=1)]
    """Input fields of a case that the model sees, in this order."""
    expected: Annotated[list[str], Field(min_length=1)]
    """Fields of the expected output; one field with `labels` makes a classification task."""
    labels: list[str] | dict[str, str] | None = None
    """Allowed values of the one expected field, or value: definition. Definitions go into the prompt."""
    output_schema: str | dict[str, Any] | None = None
    """JSON Schema of the output, inline or a file in the study folder. Left out, it follows from `expected` and
    `labels`: one field holds text, several hold text, numbers, booleans or null."""
    scorer: ScorerName = "exact"
    """`exact`: every expected field equal; `normalised`: equal after case, spacing and punctuation are folded;
    `fields`: the share of expected fields that are right (normalised)."""
    success_threshold: Annotated[float, Field(gt=0, le=1)] = 1.0
    """A case succeeds when its score is at least this and its output is valid."""
    max_output_tokens: Annotated[int, Field(ge=1)] = 48
    """Upper bound on generated tokens per call."""

    @model_validator(mode="before")
    @classmethod
    def _one_field_without_a_list(cls, value: Any) -> Any:  # noqa: ANN401 - anything can stand in a YAML file
        if isinstance(value, dict):
            value = dict(value)
            for key in ("input", "expected"):
                if isinstance(value.get(key), str):
                    value[key] = [value[key]]
        return value

    @model_validator(mode="after")
    def _labels_belong_to_one_field(self) -> TaskSpec:
        if self.labels is not None:
            if len(self.expected) != 1:
                raise ValueError("labels belong to exactly one expected field")
            if len(set(self.labels)) != len(self.labels):
                raise ValueError("labels must differ from each other")
            if not all(label.strip() for label in self.labels):
                raise ValueError("a label must not be empty")
            if len(self.labels) < 2:
                raise ValueError("a classification needs at least two labels")
            if self.output_schema is not None:
                raise ValueError("give either labels or output_schema, not both")
        return self
