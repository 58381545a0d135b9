"""Tuning a classifier on sentence embeddings: `tuning: {method: head}` of an approach."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from steelyard.models.spec import Section


class HeadTuningSpec(Section):
    """A classifier on sentence embeddings, learned from the train split; for tasks whose answer is a label."""

    method: Literal["head"]
    """`head`: a classifier on sentence embeddings."""
    max_examples: Annotated[int, Field(ge=1)] = 1500
    """Train on at most this many cases (a seeded, stratified sample)."""
    seed: int = 0
    """Seed of the sample."""
