"""The `workflow:` section of an approach: checks, a bounded repair loop, and steps over prompts."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from steelyard.approaches.prompt_spec import PromptSpec
from steelyard.models.spec import NotNegative, Section

Repairs = Annotated[int, Field(ge=0, le=5)]
Names = Annotated[list[str], Field(min_length=1)]
GuardAction = Literal["block", "redact", "flag"]
PiiKind = Literal["email", "phone", "iban", "card", "ip"]


class CheckSpec(Section):
    """Something an output must satisfy besides its schema; a failed check is fed back to the model by `repair`."""

    rule: str | None = None
    """A comparison of fields: `sum(line_items.amount) = subtotal`, `due_date >= invoice_date`. Says nothing where a field is null."""
    tolerance: NotNegative = 0.0
    """`rule`: numbers this close count as equal."""
    field: str | None = None
    """The field that `matches` speaks of."""
    matches: str | None = None
    """Regular expression that the whole value of `field` has to match, where it is not null."""
    function: str | None = None
    """`FILE.py:NAME` in the study folder; called with the output and the input fields; returns `None`, or what is wrong in
    words a model can act on."""
    message: str | None = None
    """What the model is told instead of the built-in message."""

    @model_validator(mode="before")
    @classmethod
    def _a_rule_alone(cls, value: Any) -> Any:  # noqa: ANN401 - anything can stand in a YAML file
        return {"rule": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _is_one_check(self) -> Self:
        given = [name for name in ("rule", "matches", "function") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give one of: rule, matches (with field), function")
        if (self.field is None) != (self.matches is None):
            raise ValueError("field and matches go together")
        if "tolerance" in self.model_fields_set and self.rule is None:
            raise ValueError("tolerance belongs to rule")
        return self


class GuardSpec(Section):
    """A check of what goes in or comes out that needs no model."""

    on: str = "input"
    """`input`, or the name of a step whose output is looked at."""
    fields: Names | None = None
    """Only these fields; left out, all text fields."""
    min_chars: Annotated[int, Field(ge=0)] | None = None
    """Shorter texts are caught."""
    max_chars: Annotated[int, Field(ge=1)] | None = None
    """Longer texts are caught; `redact` cuts them."""
    languages: Names | None = None
    """Texts that are clearly in another language than these are caught; codes such as `en`, `de`."""
    pii: tuple[PiiKind, ...] = ()
    """Personal data that is caught: mail addresses, phone numbers, IBANs and card numbers with a right checksum, IP
    addresses; `redact` replaces them."""
    injection: bool = False
    """Whether phrases that try to give the model other instructions are caught; a heuristic, not a proof."""
    forbidden: tuple[str, ...] = ()
    """Words or phrases that are caught, folded as in scoring; `redact` replaces them."""
    required: tuple[str, ...] = ()
    """The text must hold at least one of these; for staying on a topic."""
    action: GuardAction = "flag"
    """`block` ends the case without an output, `redact` goes on with the text mended, `flag` goes on and says so."""

    @model_validator(mode="after")
    def _guards_something(self) -> Self:
        if self.model_fields_set <= {"on", "fields", "action"}:
            raise ValueError(
                "say what is guarded against: min_chars, max_chars, languages, pii, injection, forbidden, required"
            )
        mendable = self.max_chars is not None or self.pii or self.forbidden
        if self.action == "redact" and not mendable:
            raise ValueError("only max_chars, pii and forbidden can be redacted")
        return self


class RouteRule(Section):
    """One way to pick a branch."""

    field: str
    """Input field, or `STEP.FIELD` of an earlier step's output."""
    matches: str | None = None
    """Regular expression that occurs in the value."""
    longer_than: Annotated[int, Field(ge=0)] | None = None
    """Characters the value has more than."""
    branch: str
    """The branch that is taken then."""

    @model_validator(mode="after")
    def _is_one_rule(self) -> Self:
        if (self.matches is None) == (self.longer_than is None):
            raise ValueError("give one of: matches, longer_than")
        return self


class RouteSpec(Section):
    """Pick a branch: by the first rule that holds, by a call to the model, or by a function."""

    rules: tuple[RouteRule, ...] = ()
    """In this order; the first that holds decides."""
    prompt: PromptSpec | None = None
    """A call that answers with the name of a branch; in place of rules."""
    function: str | None = None
    """`FILE.py:NAME`, called with the input fields and the outputs of earlier steps; returns the name of a branch."""
    branches: Names
    """The names there are; other steps run `on: {ROUTE: BRANCH}`."""
    otherwise: str | None = None
    """The branch where nothing else decides; left out, such a case ends without an output."""

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        ways = [bool(self.rules), self.prompt is not None, self.function is not None]
        if sum(ways) != 1:
            raise ValueError("give one of: rules, prompt, function")
        named = [rule.branch for rule in self.rules] + ([self.otherwise] if self.otherwise is not None else [])
        unknown = [name for name in named if name not in self.branches]
        if unknown:
            raise ValueError(f"there is no branch {unknown[0]!r}; branches: {', '.join(self.branches)}")
        return self


class QuerySpec(Section):
    """A call to the model that writes search queries; `retrieval.knowledge.question` names them as `STEP.queries`."""

    n: Annotated[int, Field(ge=1, le=5)] = 3
    """Queries at most; how many more are cut off."""
    prompt: PromptSpec | None = None
    """How they are asked for, without examples or tools; left out, in words of ours. The answer is an object with a list
    `queries`."""

    @model_validator(mode="before")
    @classmethod
    def _a_number_alone(cls, value: Any) -> Any:  # noqa: ANN401 - anything can stand in a YAML file
        return {"n": value} if type(value) is int else value

    @model_validator(mode="after")
    def _asks_plainly(self) -> Self:
        prompt = self.prompt
        if prompt is not None and (prompt.examples or prompt.example_ids or prompt.tools):
            raise ValueError("a prompt that writes queries has no examples and no tools: train cases hold no queries")
        return self


class ToolSpec(Section):
    """A call of a function of the study with arguments made from the case and from earlier steps."""

    function: str
    """`FILE.py:NAME` in the study folder; its result, an object, is the output of the step."""
    arguments: dict[str, str] = Field(default_factory=dict)
    """By parameter: a Jinja template that sees the input fields and `steps`."""


class StepSpec(Section):
    """One step; exactly one of prompt, query, merge, check, route, guard, tool, function."""

    prompt: PromptSpec | None = None
    """Asks the model; its template also sees `steps.NAME` (outputs of earlier steps)."""
    fields: Names | None = None
    """`prompt`: the fields of the output schema this step answers; left out, all."""
    repair: Repairs | None = None
    """`prompt`, `check`: how often an unusable answer is asked again; left out, as the workflow says."""
    vote: Annotated[int, Field(ge=1, le=25)] = 1
    """`prompt`: ask so many times with different seeds and take the majority of each field (self-consistency)."""
    # Left out of what is written down where it is not used, so that fingerprints from before there were such steps hold.
    query: Annotated[QuerySpec | None, Field(exclude_if=lambda value: value is None)] = None
    """Has the model write search queries before documents are searched; how many, or with options."""
    merge: Names | None = None
    """Puts the outputs of these steps together; a later one wins over an earlier one, but never with null."""
    check: str | None = None
    """Checks the output of this step against schema and checks, and asks for a better one as `repair` says."""
    checks: tuple[CheckSpec, ...] = ()
    """`prompt`, `check`: what the output of the step must satisfy besides the schema."""
    route: RouteSpec | None = None
    """Picks a branch."""
    guard: GuardSpec | None = None
    """Looks at the input or at an output without a model."""
    tool: ToolSpec | None = None
    """Calls a function of the study with named arguments."""
    function: str | None = None
    """`FILE.py:NAME` in the study folder, called with the input fields and the outputs of earlier steps; returns an object."""
    after: tuple[str, ...] = ()
    """Steps this one waits for, beyond those it names anyway."""
    on: dict[str, str] = Field(default_factory=dict)
    """By route: the branch on which this step runs."""

    @model_validator(mode="after")
    def _is_one_step(self) -> Self:
        kinds = [kind for kind in STEP_KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError(f"a step is one of: {', '.join(STEP_KINDS)}; this one is {' and '.join(kinds) or 'none'}")
        (kind,) = kinds
        for option, belongs_to in _OPTIONS.items():
            if option in self.model_fields_set and kind not in belongs_to:
                raise ValueError(f"{option} belongs to {' and '.join(belongs_to)}, not to {kind}")
        return self


STEP_KINDS = ("prompt", "query", "merge", "check", "route", "guard", "tool", "function")
_OPTIONS = {
    "fields": ("prompt",),
    "vote": ("prompt",),
    "repair": ("prompt", "check"),
    "checks": ("prompt", "check"),
}


class WorkflowSpec(Section):
    """Validation of the answer, a bounded repair loop, and steps."""

    repair: Repairs = 2
    """How often an invalid, empty, refused or timed-out answer is asked again, with what was wrong about it."""
    checks: tuple[CheckSpec, ...] = ()
    """What an output must satisfy besides the schema; a rule alone, or one with options."""
    split: dict[str, Names] | None = None
    """Fields over several calls that are made side by side and merged: name of the part -> its fields. Short for a prompt
    step for each part and a merge."""
    steps: dict[str, StepSpec] | None = None
    """Steps by name; the last one's output is the answer. Steps that do not need each other run side by side."""

    @model_validator(mode="after")
    def _split_or_steps(self) -> Self:
        if self.split is not None and self.steps is not None:
            raise ValueError("give either split or steps, not both")
        if self.steps is not None and (self.checks or not self.steps):
            raise ValueError("checks stand in the steps they belong to" if self.steps else "steps must not be empty")
        if self.split is not None:
            fields = [field for part in self.split.values() for field in part]
            twice = sorted({field for field in fields if fields.count(field) > 1})
            if twice or len(self.split) < 2:
                raise ValueError(f"{twice[0]!r} stands in two parts" if twice else "a split has at least two parts")
        return self
