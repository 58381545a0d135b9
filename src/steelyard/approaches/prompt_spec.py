"""The `prompt:` section of an approach, or of a step of its workflow."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from steelyard.models.spec import NotNegative, Section


class PromptSpec(Section):
    """Instructions, fixed examples, schema and sampling."""

    system: str | None = None
    """Jinja template of the system message; sees `task` (`instruction`, `input_fields`, `expected_fields`,
    `output_schema`, `answer_form`), `labels` and `definitions`. Left out, one is written from the task."""
    user: str | None = None
    """Jinja template of the user message; sees the case's input fields by name, all of them as `fields`, and what
    the system message sees. Left out, the one input field alone, or several one a line with their names."""
    examples: Annotated[int, Field(ge=0, le=200)] = 0
    """Fixed examples from the train split, spread evenly over the labels, of typical length."""
    example_chars: Annotated[int, Field(ge=20)] = 400
    """Longer inputs are cut to this when they are shown as examples."""
    enforce_schema: bool = False
    """Ask the endpoint to enforce the output schema; where it cannot, the schema is written into the prompt."""
    temperature: NotNegative = 0.0
    """Sampling temperature; 0 takes the likeliest token."""
    seed: int = 0
    """Seed of the choice of examples and of sampling."""
