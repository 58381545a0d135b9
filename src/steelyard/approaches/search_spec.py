"""The `optimise:` section of an approach: what a search for a better prompt may try and spend."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

from steelyard.models.spec import NotNegative, Section

Size = Annotated[int, Field(ge=0, le=200)]
Text = Annotated[str, Field(min_length=1)]


class OptimiseSpec(Section):
    """Search for a better prompt on train and dev cases: `steelyard optimise DIR --approach NAME`."""

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
