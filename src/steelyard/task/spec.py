"""The `task:` section of study.yaml."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from steelyard.models.spec import NotNegative, Positive, Section

ScorerName = Literal["exact", "normalised", "fields"]
FieldKind = Literal[
    "exact",
    "normalised",
    "number",
    "money",
    "date",
    "set",
    "list",
    "regex",
    "contains",
    "token_f1",
    "similar",
    "judge",
    "python",
]

_BELONGS_TO: dict[str, tuple[FieldKind, ...]] = {
    "tolerance": ("number", "money"),
    "relative_tolerance": ("number", "money"),
    "day_first": ("date",),
    "fields": ("list",),
    "pattern": ("regex",),
    "threshold": ("token_f1", "similar", "judge"),
    "rubric": ("judge",),
    "model": ("judge",),
    "function": ("python",),
}
_NOT_FOR_FUNCTIONS = ("any_of", "abstentions")
"""A function of the study sees what was expected as it is and does with it what it likes."""
_NEEDS: dict[FieldKind, str] = {"judge": "rubric", "python": "function"}


class FieldScoring(Section):
    """How one field of the output is compared with what was expected."""

    kind: FieldKind = "normalised"
    """`exact`: equal in value and kind. `normalised`: equal after case, spacing and punctuation are folded. `number`: a
    number, also where it is written as text. `money`: the same with currency signs and thousands separators of any
    country. `date`: the same day, however it is written. `set`: a list whose order does not matter (F1). `list`: a list
    of objects, each matched with the one most like it (F1 over `fields`). `regex`: the whole answer matches `pattern`, or else
    the expected value read as a pattern. `contains`: the expected value occurs in the answer. `token_f1`: the share
    of words both have in common (F1, articles left out), or with a `threshold` whether it is at least that. `similar`:
    the embeddings of both are at least `threshold` alike. `judge`: a model compares both by `rubric`. `python`: a
    function of the study folder."""
    weight: Positive = 1.0
    """Part of the field in the score of the case."""
    tolerance: NotNegative = 0.0
    """`number`, `money`: differences up to this count as equal."""
    relative_tolerance: NotNegative = 0.0
    """`number`, `money`: differences up to this share of the expected value count as equal."""
    day_first: bool = True
    """`date`: whether 03/04/2026 is the third of April."""
    fields: dict[str, FieldScoring] | None = None
    """`list`: how the fields of an item are compared; left out, all that are expected, normalised."""
    pattern: str | None = None
    """`regex`: what the whole answer has to match."""
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.8
    """`similar`: the least likeness that counts as right. `judge`: the least mark. `token_f1`: the least F1; left out,
    the F1 itself is the score."""
    any_of: bool = False
    """Whether the expected value is a list of accepted answers, of which the best match counts; an empty list means that
    there is no answer."""
    abstentions: bool | tuple[str, ...] = False
    """Whether words like "I don't know" or "not stated" count as no answer: `true` for the English ones, or a list of
    texts that an answer consists of or opens with. No answer is right where none was expected, and else missing."""
    rubric: str | None = None
    """`judge`: what makes an answer right, in words."""
    model: str = "local"
    """`judge`: the model that judges: `local` or a name under `models.endpoints`."""
    function: str | None = None
    """`python`: `FILE.py:NAME` in the study folder; called with the field of the output, the expected one and the whole
    output; returns a number from 0 to 1, true, false, or `None` where it cannot say."""

    @model_validator(mode="before")
    @classmethod
    def _a_name_alone(cls, value: Any) -> Any:  # noqa: ANN401 - anything can stand in a YAML file
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _options_fit_the_kind(self) -> Self:
        for option, kinds in _BELONGS_TO.items():
            if option in self.model_fields_set and self.kind not in kinds:
                raise ValueError(f"{option} belongs to {' and '.join(kinds)}, not to {self.kind}")
        for option in _NOT_FOR_FUNCTIONS:
            if self.kind == "python" and getattr(self, option):
                raise ValueError(f"{option} is not for python: the function sees the expected value as it is")
        needed = _NEEDS.get(self.kind)
        if needed is not None and getattr(self, needed) is None:
            raise ValueError(f"{self.kind} needs {needed}")
        if self.fields and any(inner.kind in ("judge", "python", "list") for inner in self.fields.values()):
            raise ValueError("fields of an item cannot be a judge, a function or a list")
        return self


class SupportSpec(Section):
    """Who says whether an answer follows from the documents, where its words alone do not show it."""

    judge: str
    """The model that judges: `local` or a name under `models.endpoints`. It is asked by `steelyard run` once answers are
    in; its calls are paid for and in no figure of an approach."""
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The least mark of an answer that counts as supported."""


class TaskSpec(Section):
    """What is asked of a model, and what counts as a success."""

    instruction: str = "Read the input and give the expected output."
    """What to do, in words a model and a new colleague would both understand."""
    input: Annotated[list[str], Field(min_length=1)]
    """Input fields of a case that the model sees, in this order."""
    images: tuple[str, ...] = ()
    """Input fields that hold a picture each, or a list of them: a path inside the study folder, a `data:` URL or an
    `https:` address, which the endpoint fetches. PNG, JPEG, GIF and WebP up to 20 MB. Templates see `[image]`."""
    expected: Annotated[list[str], Field(min_length=1)]
    """Fields of the expected output; one field with `labels` makes a classification task."""
    labels: list[str] | dict[str, str] | None = None
    """Allowed values of the one expected field, or value: definition. Definitions go into the prompt."""
    output_schema: str | dict[str, Any] | None = None
    """JSON Schema of the output, inline, a file in the study folder, or `FILE.py:NAME` of a Pydantic model. Left out, it follows from `expected` and
    `labels`: one field holds text, several hold text, numbers, booleans or null."""
    scorer: ScorerName = "exact"
    """`exact`: every expected field equal; `normalised`: equal after case, spacing and punctuation are folded;
    `fields`: the share of expected fields that are right (normalised)."""
    scoring: dict[str, FieldScoring] | None = None
    """How each expected field is compared, in place of `scorer`: a kind alone, or a kind with its options. Fields left
    out are `normalised`. The score is the mean over the fields by weight."""
    citations: str | None = None
    """Field of the output in which an answer names the passages it rests on, by number or id; it is looked at apart and
    scores nothing."""
    support: SupportSpec | None = None
    """A judge for answers of which a check of words and numbers cannot tell whether documents support them; left out,
    they stay undecided."""
    injections: dict[str, str | list[str]] = Field(default_factory=dict)
    """Documents that give orders to whoever reads them, by id, each with a text (or several) of the orders that only an
    answer which obeys would hold. The share of such answers is reported; it scores nothing."""
    success_threshold: Annotated[float, Field(gt=0, le=1)] = 1.0
    """A case succeeds when its score is at least this and its output is valid."""
    max_output_tokens: Annotated[int, Field(ge=1)] = 48
    """Upper bound on generated tokens per call."""

    @model_validator(mode="before")
    @classmethod
    def _one_field_without_a_list(cls, value: Any) -> Any:  # noqa: ANN401 - anything can stand in a YAML file
        if isinstance(value, dict):
            value = dict(value)
            for key in ("input", "images", "expected"):
                if isinstance(value.get(key), str):
                    value[key] = [value[key]]
        return value

    @model_validator(mode="after")
    def _images_are_input(self) -> TaskSpec:
        unknown = [name for name in self.images if name not in self.input]
        if unknown:
            raise ValueError(f"images names {unknown[0]!r}, which is not among the input fields")
        return self

    @model_validator(mode="after")
    def _scoring_is_of_expected_fields(self) -> TaskSpec:
        if self.scoring is not None:
            if "scorer" in self.model_fields_set:
                raise ValueError("give either scorer or scoring, not both")
            unknown = [name for name in self.scoring if name not in self.expected]
            if unknown:
                raise ValueError(
                    f"scoring names {', '.join(map(repr, unknown))}, which {'is' if len(unknown) == 1 else 'are'} not expected"
                )
        return self

    @model_validator(mode="after")
    def _labels_belong_to_one_field(self) -> TaskSpec:
        if self.labels is not None:
            if len(self.expected) != 1:
                raise ValueError("labels belong to exactly one expected field")
            if len(set(self.labels)) != len(self.labels):
                raise ValueError("labels must differ from each other")
            if not all(label.strip() for label in self.labels):
                raise ValueError("a label must not be empty")
            if len(self.labels) < 2:
                raise ValueError("a classification needs at least two labels")
            if self.output_schema is not None:
                raise ValueError("give either labels or output_schema, not both")
        return self
