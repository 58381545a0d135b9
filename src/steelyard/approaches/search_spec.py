"""The `optimise:` section of an approach: what a search for a better prompt may try and spend."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from steelyard.models.spec import NotNegative, Section

Size = Annotated[int, Field(ge=0, le=200)]
Text = Annotated[str, Field(min_length=1)]


class OptimiseSpec(Section):
    """Search for a better prompt on train and dev cases: `steelyard optimise DIR --approach NAME`."""

    method: Literal["halving", "gepa"] = "halving"
    """`halving`: ways to put the task and example sets, the better half of which goes on; needs no other model. `gepa`: a
    strong model rewrites the instruction from what went wrong (extra `gepa`)."""
    reflection_model: str | None = None
    """`gepa`: name under `models.endpoints` of the model that rewrites the instruction."""
    reflection_tokens: Annotated[int, Field(ge=256, le=32768)] = 4096
    """`gepa`: longest answer of that model, in tokens."""
    instructions: Annotated[int, Field(ge=0, le=6)] | tuple[Text, ...] = 6
    """How many of the built-in ways to put the task are tried beside the prompt as written, or instruction texts of your
    own (Jinja, as `prompt.system`), each in place of the task's instruction."""
    examples: tuple[Size, ...] = (0, 4, 8)
    """Sizes of the example sets that are tried; one number, or a list."""
    example_sets: Annotated[int, Field(ge=0, le=20)] = 4
    """Example sets drawn from train for each size: every other one at random, the rest from cases that the prompt as
    written answered right in trial calls, where the budget allows them."""
    orders: Annotated[int, Field(ge=1, le=10)] = 2
    """Orders in which each example set is tried."""
    budget_calls: Annotated[int, Field(ge=1)] = 300
    """Most model calls of the search, repairs included."""
    budget_usd: NotNegative | None = None
    """Ceiling on the money of the search; left out, that of the study alone."""
    seed: int = 0
    """Seed of example sets, orders, and which candidates and dev cases come first."""

    @field_validator("examples", mode="before")
    @classmethod
    def _one_size_alone(cls, value: Any) -> Any:  # noqa: ANN401 - anything can stand in a YAML file
        return [value] if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _options_belong_to_the_method(self) -> Self:
        of_gepa = {"reflection_model", "reflection_tokens"} & self.model_fields_set
        of_halving = {"instructions", "examples", "example_sets", "orders"} & self.model_fields_set
        if self.method == "gepa" and self.reflection_model is None:
            raise ValueError("method: gepa needs reflection_model, a name under models.endpoints")
        if self.method == "gepa" and of_halving:
            raise ValueError(f"{min(of_halving)} belongs to method: halving")
        if self.method == "halving" and of_gepa:
            raise ValueError(f"{min(of_gepa)} belongs to method: gepa")
        return self
