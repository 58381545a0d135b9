"""Tuning a LoRA on this machine: `tuning: {method: lora}` of an approach."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from steelyard.models.spec import Positive, Section


class LoraTuningSpec(Section):
    """An adapter on the local generative model, learned from the train split."""

    method: Literal["lora"]
    """`lora`: an adapter on the local generative model."""
    trainer: Literal["lean", "peft"] = "lean"
    """`lean`: written for a few CPU cores, needs no further libraries; `peft`: Transformers and PEFT, for a GPU."""
    quantise: Literal["none", "4bit"] = "none"
    """`4bit`: keep the frozen weights in 4 bits while training, for large bases; needs `trainer: peft` and a GPU."""
    max_examples: Annotated[int, Field(ge=1)] = 1500
    """Train on at most this many cases (a seeded, stratified sample)."""
    rank: Annotated[int, Field(ge=1, le=256)] = 8
    """LoRA rank."""
    alpha: Positive = 16.0
    """LoRA scale numerator: the adapter is added with weight alpha / rank."""
    learning_rate: Positive = 2e-3
    """Peak learning rate of the LoRA."""
    epochs: Annotated[float, Field(gt=0, le=20)] = 1.0
    """Passes over the training examples."""
    batch_size: Annotated[int, Field(ge=1, le=256)] = 8
    """Examples per optimiser step."""
    layers: Annotated[int, Field(ge=1)] = 15
    """Train adapters in the top so many layers; the lower ones stay frozen and cheap."""
    max_tokens: Annotated[int, Field(ge=32)] = 256
    """Longer training examples have their input cut to fit; the count is on the card."""
    balance: Literal["none", "oversample", "weight"] = "none"
    """Labels of uneven size: `oversample` shows examples of rare labels several times in an epoch, `weight` lets each
    count more in the loss; both at most tenfold. `none` trains on the shares as they are."""
    validate_steps: Annotated[int, Field(ge=1)] | None = None
    """Validate after every so many optimiser steps; left out, after every epoch. The best weights are kept."""
    patience: Annotated[int, Field(ge=1)] = 1
    """Stop after so many validations in a row without a new best."""
    checkpoint_steps: Annotated[int, Field(ge=1)] | None = None
    """Keep a checkpoint after every so many optimiser steps, from which a killed training goes on; left out, every 50
    steps or every minute, whichever comes first. Changes nothing of what is learned."""
    preferences: str | None = None
    """File of preference pairs (JSONL: `case` or `input`, `chosen`, `rejected`), for example a reviewer's corrections;
    learned by DPO after the labelled cases. Needs the extra `peft`."""
    supervised: bool = True
    """`false`: learn from the preference pairs alone."""
    preference_epochs: Annotated[float, Field(gt=0, le=20)] = 1.0
    """Passes over the preference pairs."""
    preference_learning_rate: Positive = 5e-4
    """Peak learning rate for preference pairs."""
    preference_beta: Positive = 0.1
    """How strongly DPO holds the model to what it was before; a smaller one lets it move further."""
    distilled: Annotated[float, Field(ge=0, le=10)] = 1.0
    """How much a label that a teacher gave (`cases.distilled`) counts beside one that a person gave; 0 leaves them out."""
    guard: Annotated[int, Field(ge=0)] = 120
    """So many general instructions that have nothing to do with the task are asked of the base and of the tuned model, to
    see what was forgotten; 0 asks none, 120 are all there are. Changes nothing of what is learned."""
    seed: int = 0
    """Seed of sample, order and initial weights."""

    @model_validator(mode="after")
    def _fields_fit_together(self) -> LoraTuningSpec:
        if self.quantise != "none" and self.trainer != "peft":
            raise ValueError("quantise needs trainer: peft")
        if not self.supervised and self.preferences is None:
            raise ValueError("supervised: false leaves nothing to learn from; give a file of preferences")
        return self
