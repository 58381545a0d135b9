"""The `prompt:` section of an approach, or of a step of its workflow."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from steelyard.models.spec import NotNegative, Section

ChooseBy = Literal["spread", "random", "diverse"]


class ToolDefinitionSpec(Section):
    """A function of the study that the model may ask for; it runs here, and its result goes back to the model."""

    function: str
    """`FILE.py:NAME` in the study folder; called with the arguments by name. May be asynchronous."""
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")] | None = None
    """What the model calls it; left out, the function's own name."""
    description: str | None = None
    """What the model is told it is for; left out, the function's docstring."""
    parameters: dict[str, Any] | None = None
    """JSON Schema (object) of the arguments; left out, it follows from the function's signature and annotations."""

    @model_validator(mode="before")
    @classmethod
    def _a_function_alone(cls, value: Any) -> Any:  # noqa: ANN401 - anything can stand in a YAML file
        return {"function": value} if isinstance(value, str) else value


Penalty = Annotated[float, Field(ge=-2, le=2)]


class TurnSpec(Section):
    """One turn of a conversation that every case begins with."""

    role: Literal["user", "assistant"]
    """Who says it."""
    text: Annotated[str, Field(min_length=1)]
    """Jinja template that sees what the system message sees."""


class PromptSpec(Section):
    """Instructions, fixed examples, schema and sampling."""

    system: str | None = None
    """Jinja template of the system message; sees `task` (`instruction`, `input_fields`, `expected_fields`,
    `output_schema`, `answer_form`), `labels` and `definitions`. Left out, one is written from the task."""
    user: str | None = None
    """Jinja template of the user message; sees the case's input fields by name, all of them as `fields`, and what
    the system message sees. Left out, the one input field alone, or several one a line with their names."""
    turns: tuple[TurnSpec, ...] = ()
    """Turns between the system message and the examples, the same for every case: user and assistant by turns, the user
    first and the assistant last."""
    examples: Annotated[int, Field(ge=0, le=200)] = 0
    """How many fixed examples from the train split are shown."""
    choose: ChooseBy = "spread"
    """Which: `spread` evenly over the labels and of typical length; `random` by seed alone; `diverse`, so that as
    many train cases as can be are like one of them by sentence embeddings."""
    example_ids: tuple[str, ...] = ()
    """Ids of the train cases to show, in this order; in place of `examples`."""
    example_chars: Annotated[int, Field(ge=20)] = 400
    """Longer inputs are cut to this when they are shown as examples."""
    enforce_schema: bool = False
    """Ask the endpoint to enforce the output schema. Where it cannot, refuses it, or the schema is recursive or very large,
    it is written into the prompt instead, and the run says so; answers are checked here in any case."""
    temperature: NotNegative = 0.0
    """Sampling temperature; 0 takes the likeliest token."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Sample among the likeliest tokens that together have this probability; left out, the endpoint's default."""
    frequency_penalty: Penalty | None = None
    """Makes tokens less likely the oftener they were generated, which ends loops of small models; left out, the endpoint's default."""
    presence_penalty: Penalty | None = None
    """Makes tokens less likely once they were generated; left out, the endpoint's default."""
    seed: int = 0
    """Seed of the choice of examples and of sampling."""
    # Left out of what is written down where it is not asked for, so that fingerprints from before there was one hold.
    confidence: Annotated[bool, Field(exclude_if=lambda value: not value)] = False
    """Ask how probable the tokens of the answer were (log-probabilities); the probability of the whole answer is the
    confidence a cascade goes by. Not every endpoint gives them."""
    tools: tuple[ToolDefinitionSpec, ...] = ()
    """Functions the model may ask for before it answers; `FILE.py:NAME` alone, or with options."""
    tool_rounds: Annotated[int, Field(ge=1, le=20)] = 4
    """How often the model may ask for tools before it has to answer."""

    @property
    def sampling(self) -> dict[str, float]:
        """Sampling settings besides temperature and seed that were written down, as request fields."""
        stated = {name: getattr(self, name) for name in ("top_p", "frequency_penalty", "presence_penalty")}
        return {name: value for name, value in stated.items() if value is not None}

    @model_validator(mode="after")
    def _turns_alternate(self) -> Self:
        expected = ("user", "assistant") * (len(self.turns) // 2)
        if tuple(turn.role for turn in self.turns) != expected:
            raise ValueError(
                "turns go user, assistant, user, assistant, and end with the assistant: the case comes next"
            )
        return self

    @model_validator(mode="after")
    def _options_have_what_they_are_of(self) -> Self:
        if "tool_rounds" in self.model_fields_set and not self.tools:
            raise ValueError("tool_rounds belongs to tools")
        if "choose" in self.model_fields_set and not self.examples:
            raise ValueError("choose belongs to examples: say how many")
        if self.example_ids and self.examples:
            raise ValueError("give either examples (how many) or example_ids (which), not both")
        return self
