"""The `goal:` section of study.yaml: what an approach has to reach before its cost matters."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from steelyard.models.spec import Positive, Section

Rate = Annotated[float, Field(ge=0, le=1)]


class GoalSpec(Section):
    """Constraints; among the approaches that satisfy them the cheapest per successful task wins."""

    min_success: Rate | None = None
    """Least share of tasks done successfully, 0..1. Left out, an approach that surely fails more often than it succeeds is still out."""
    max_p95_latency_s: Positive | None = None
    """Seconds within which 95% of the tasks have to be done."""
    min_schema_pass: Rate | None = None
    """Least share of first answers that are valid without repair, 0..1."""
