"""The `optimise:` section of an approach: what a search for a better prompt, or better retrieval, may try and spend."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from steelyard.models.spec import NotNegative, Section

Size = Annotated[int, Field(ge=0, le=200)]
Text = Annotated[str, Field(min_length=1)]
Passages = Annotated[int, Field(ge=1, le=200)]
ChunkTokens = Annotated[int, Field(ge=40, le=2000)]
Overlap = Annotated[int, Field(ge=0, le=400)]
Weight = Annotated[float, Field(ge=0, le=1)]
Queries = Annotated[int, Field(ge=0, le=5)]

_OPTIONS = {
    "halving": ("instructions", "examples", "example_sets", "orders"),
    "gepa": ("reflection_model", "reflection_tokens"),
    "retrieval": ("k", "chunk_tokens", "overlap_tokens", "full_text_weight", "rerank", "queries"),
}
"""By method what it alone knows."""


class OptimiseSpec(Section):
    """Search for a better prompt or better retrieval on train and dev cases: `steelyard optimise DIR --approach NAME`."""

    method: Literal["halving", "gepa", "retrieval"] = "halving"
    """`halving`: ways to put the task and example sets, the better half of which goes on; needs no other model. `gepa`: a
    strong model rewrites the instruction from what went wrong (extra `gepa`). `retrieval`: settings of
    `retrieval.knowledge`, ranked by the gold passages they find, the best of them by the answers."""
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
    k: Annotated[tuple[Passages, ...], Field(min_length=1)] = (3, 5, 10)
    """`retrieval`: numbers of passages that are tried, as in `retrieval.knowledge`; one value, or a list. So are all below."""
    chunk_tokens: Annotated[tuple[ChunkTokens, ...], Field(min_length=1)] = (60, 120, 200)
    """`retrieval`: sizes of chunks; each takes an index of its own."""
    overlap_tokens: Annotated[tuple[Overlap, ...], Field(min_length=1)] | None = None
    """`retrieval`: overlaps of chunks; left out, what `retrieval.knowledge` makes of each size."""
    full_text_weight: Annotated[tuple[Weight, ...], Field(min_length=1)] = (0.0, 0.3, 0.5, 0.7, 1.0)
    """`retrieval`: weights of full text against dense vectors."""
    rerank: Annotated[tuple[Text, ...], Field(min_length=1)] = ("none", "late_interaction")
    """`retrieval`: rerankers; `none` is without one."""
    queries: Annotated[tuple[Queries, ...], Field(min_length=1)] = (0, 2)
    """`retrieval`: numbers of search queries that the model writes beside the question."""
    budget_calls: Annotated[int, Field(ge=0)] = 300
    """Most model calls of the search, repairs included. With `retrieval` 0 ranks by the gold passages found, and asks
    nothing."""
    budget_usd: NotNegative | None = None
    """Ceiling on the money of the search; left out, that of the study alone."""
    seed: int = 0
    """Seed of example sets, orders, and which candidates and dev cases come first."""

    @field_validator("examples", *_OPTIONS["retrieval"], mode="before")
    @classmethod
    def _one_alone(cls, value: Any) -> Any:  # noqa: ANN401 - anything can stand in a YAML file
        return [value] if isinstance(value, int | float | str) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _options_belong_to_the_method(self) -> Self:
        if self.method == "gepa" and self.reflection_model is None:
            raise ValueError("method: gepa needs reflection_model, a name under models.endpoints")
        for method, options in _OPTIONS.items():
            strays = sorted(self.model_fields_set.intersection(options))
            if strays and method != self.method:
                raise ValueError(f"{strays[0]} belongs to method: {method}")
        if self.budget_calls == 0 and self.method != "retrieval":
            raise ValueError("budget_calls must be at least 1: only method: retrieval can rank without calls")
        return self
