"""The `tuning:` section with `method: hosted`: a model tuned by a host that offers the OpenAI fine-tuning jobs."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from steelyard.models.spec import NotNegative, Positive, Section

OWN_HYPERPARAMETERS = frozenset({"n_epochs", "batch_size", "learning_rate_multiplier", "beta"})
"""What has a field of its own; above all the epochs, which the ceiling on money rests on."""


class TrainingPriceSpec(Section):
    """What a host asks for training, as the user found it on its page."""

    input: NotNegative
    """USD per million tokens trained on; a token counts once an epoch."""
    source: str = "study.yaml"
    """The page the price was read from."""
    as_of: date | None = None
    """The day the price was read; left out, the price counts as assumed instead of quoted."""


class HostedTuningSpec(Section):
    """Weights learned from the train split by a hosted job; the tuned model is asked at the same address."""

    method: Literal["hosted"]
    """A job at a host that offers `/files` and `/fine_tuning/jobs` as OpenAI defines them."""
    endpoint: str | None = None
    """Name under `models.endpoints` whose address and key are used; left out, the approach's `model`. Calls of the tuned
    model cost what is said there: where hosts ask more for them than for the base, give it an endpoint of its own."""
    base: str | None = None
    """The model to tune, as the host names it; left out, the `model` of the endpoint."""
    method_kind: Literal["supervised", "dpo"] = "supervised"
    """`supervised` learns the expected outputs; `dpo` learns to prefer them to answers that were turned down."""
    rejected: str = "rejected"
    """Of `dpo`: the further column of the case file with the answer that was turned down; cases without one are left out."""
    max_examples: Annotated[int, Field(ge=1)] = 1500
    """Train on at most this many cases (a seeded, stratified sample)."""
    epochs: Annotated[int, Field(ge=1, le=50)] = 3
    """Passes over the training examples; always sent, so that the most a job can cost is known beforehand."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Examples per optimiser step; left out, the host chooses."""
    learning_rate_multiplier: Positive | None = None
    """Scale of the host's learning rate; left out, the host chooses."""
    beta: Annotated[float, Field(gt=0, le=2)] | None = None
    """Of `dpo`: how strongly the tuned model is held to the base; left out, the host chooses."""
    hyperparameters: dict[str, int | float | bool | str] = Field(default_factory=dict)
    """Further hyperparameters as this host names them."""
    job_format: Literal["method", "hyperparameters"] = "method"
    """Where the job says its hyperparameters: inside `method`, as OpenAI has it now, or in a field of their own, as hosts
    with the older form want it."""
    price_per_million_training_tokens: TrainingPriceSpec | None = None
    """What training costs; without it the cost is unknown, and a budget in money is refused."""
    suffix: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,18}$")] = "steelyard"
    """Part of the tuned model's name at the host."""
    distilled: Literal[0, 1] = 1
    """Whether labels that a teacher gave (`cases.distilled`) are learned too: 1 or 0, since hosts weigh no examples."""
    guard: Annotated[int, Field(ge=0)] = 120
    """So many general instructions that have nothing to do with the task are asked of the base and of the tuned model, to
    see what was forgotten; 0 asks none, 120 are all there are. Changes nothing of what is learned."""
    seed: int = 0
    """Seed of sample and order, and of the host's training."""
    poll_seconds: Positive = 30.0
    """How often the host is asked how the job is."""
    timeout_seconds: Positive = 6 * 3600.0
    """How long one command waits for the job; it goes on at the host, and the next command waits again."""
    when_stopped: Literal["continue", "cancel"] = "continue"
    """What becomes of the job when the command is stopped with Ctrl-C."""

    @model_validator(mode="after")
    def _options_fit_the_kind(self) -> Self:
        if self.method_kind == "supervised":
            for name in ("beta", "rejected"):
                if name in self.model_fields_set:
                    raise ValueError(f"{name} belongs to method_kind: dpo")
        elif self.job_format == "hyperparameters":
            raise ValueError("method_kind: dpo needs job_format: method")
        taken = sorted(OWN_HYPERPARAMETERS & set(self.hyperparameters))
        if taken:
            raise ValueError(f"hyperparameters must not set {', '.join(taken)}: use the fields of that kind here")
        return self
