"""Tuning a classifier on sentence embeddings: `tuning: {method: head}` of an approach."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from steelyard.models.spec import Section


class HeadTuningSpec(Section):
    """A classifier on sentence embeddings, learned from the train split, for tasks whose answer is a label or several.

    Several labels are a list of listed texts: an array whose items have an `enum` in `task.output_schema`.
    """

    method: Literal["head"]
    """`head`: a classifier on sentence embeddings."""
    classifier: Literal["linear", "mlp", "auto"] = "linear"
    """`linear`: logistic regression. `mlp`: a network with one hidden layer. `auto`: whichever has
    the lower log loss on dev."""
    balance: Literal["none", "weight"] = "none"
    """`weight`: rare labels weigh more in training, so that each label counts alike; raises the share of rare labels that
    is found, at the price of frequent ones."""
    out_of_scope: str | None = None
    """The label for inputs that none of the others fits, one of the task's: an answer whose confidence is below a
    threshold becomes this label. The threshold is the one with the most successes on dev."""
    abstain_below: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The threshold itself, in place of one chosen on dev. Without `out_of_scope` no answer is given below it."""
    max_examples: Annotated[int, Field(ge=1)] = 1500
    """Train on at most this many cases (a seeded, stratified sample)."""
    distilled: Annotated[float, Field(ge=0, le=10)] = 1.0
    """How much a label that a teacher gave (`cases.distilled`) counts beside one that a person gave; 0 leaves them out."""
    seed: int = 0
    """Seed of the sample, of the first weights and the order of examples of an `mlp`, and of the division of dev into
    folds."""
