"""Summary figures of an approach and its task, as a plan or a paper's table gives them: the input of `whatif`."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from steelyard.economics.spec import Share
from steelyard.models.spec import ChatPriceSpec, NotNegative, Positive, Section

Count = Annotated[int, Field(ge=0)]
LeverName = Literal["prompt", "workflow", "retrieval", "tuning"]


class SummarySpec(Section):
    """What is assumed, or was read somewhere, about one approach."""

    levers: Annotated[list[LeverName], Field(min_length=1)]
    """What it pulls; decides its hours, and whether it is retrained."""
    calls_model: bool = True
    """Whether it asks a generative model at all; a lookup or a classification head does not, and has no prompt to keep."""
    success: Share | None = None
    """Share of tasks done right; left out, the schema pass rate, which is the most it can be before repair."""
    n: Annotated[int, Field(ge=1)] | None = None
    """Cases the rates are from: gives success a range, and evaluating on so many cases is counted."""
    schema_pass: Share | None = None
    """Share of first answers that are valid as they come."""
    retry: Share | None = None
    """Share of tasks that need a further call; left out, none is counted and that is said."""
    review_seconds: NotNegative | None = None
    """Seconds a person spends on one reviewed answer, correcting included; left out, `money.review_seconds` and, for the correction rate, `task.correction_seconds`."""
    correction_rate: Share | None = None
    """Share of reviewed answers a person changes; costs time where `review_seconds` is left out."""
    prompt_tokens: NotNegative | None = None
    """Prompt tokens per task, all planned calls together."""
    completion_tokens: NotNegative | None = None
    """Generated tokens per task, all planned calls together."""
    price_per_million: ChatPriceSpec | None = None
    """What the tokens cost; quoted where it says when it was read, else assumed."""
    cost_per_task_usd: NotNegative | None = None
    """What the calls and computing of one task cost, retries included; in place of tokens and price."""
    p95_latency_s: Positive | None = None
    """Seconds within which 95% of the tasks are done; needed only where the goal asks for it."""
    authoring_hours: NotNegative | None = None
    """Hours to build it, once; left out, those of its levers under `money`."""
    maintenance_hours_per_month: NotNegative | None = None
    """Hours a month to keep it; left out, those of its levers under `money`."""
    labels: Count = 0
    """Labelled cases it needs; each costs `money.labelling_seconds_per_case`, also where the labels are there already."""
    training_usd: NotNegative = 0.0
    """What one training or indexing costs in computing."""
    source: Annotated[str, Field(min_length=1)] | None = None
    """Where these figures were read, such as a paper's table; with `as_of` they count as quoted."""
    as_of: date | None = None
    """The day they were read."""

    @model_validator(mode="after")
    def _has_what_a_cost_needs(self) -> Self:
        if self.success is None and self.schema_pass is None:
            raise ValueError("give success (or at least schema_pass): nothing can be said without it")
        tokens = (self.prompt_tokens, self.completion_tokens, self.price_per_million)
        if self.cost_per_task_usd is None and self.calls_model and None in tokens:
            raise ValueError("give prompt_tokens, completion_tokens and price_per_million, or cost_per_task_usd")
        if self.cost_per_task_usd is not None and self.price_per_million is not None:
            raise ValueError("give price_per_million or cost_per_task_usd, not both")
        if (self.source is None) != (self.as_of is None):
            raise ValueError("a quoted figure needs both: source (where it was read) and as_of (when)")
        return self


class OutlookSpec(Section):
    """How stable the task is, and what corrections and changes take."""

    stable: bool | None = None
    """Whether what counts as right stays the same over the horizon; left out, unknown."""
    label_changes_per_month: NotNegative = 0.0
    """How often categories, fields or rules change; after each change a tuned approach is retrained."""
    relabelled_per_change: NotNegative = 0.0
    """Labelled cases that one change makes wrong or calls for; counted for approaches that need labels."""
    edit_hours_per_change: NotNegative = 1.0
    """Hours to put one change into prompt, schema and tests; every approach needs them."""
    correction_seconds: NotNegative = 60.0
    """Seconds a person takes to correct one answer; counted for the correction rate where an approach states no review seconds."""

    @model_validator(mode="after")
    def _stability_fits_changes(self) -> Self:
        if self.stable is True and self.label_changes_per_month > 0:
            raise ValueError("stable: true and label_changes_per_month above 0 contradict each other")
        if self.stable is False and self.label_changes_per_month == 0:
            raise ValueError("with stable: false say how often: label_changes_per_month")
        return self
