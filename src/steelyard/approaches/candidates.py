"""The prompts a search tries: ways to put the task, crossed with sets of examples in several orders.

The built-in ways only rearrange what the study says itself (instruction, labels, definitions, fields, form of the
answer); none adds a fact about the task. Candidates come in a seeded order in which all ways to put the task and all
example sets appear early, so that a small budget that reaches only the first few still sees each of them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from steelyard.approaches.examples import choose_fixed
from steelyard.approaches.prompt_spec import PromptSpec
from steelyard.approaches.search_spec import OptimiseSpec
from steelyard.approaches.spec import ApproachSpec
from steelyard.approaches.templates import MANY_FIELDS_USER, ONE_FIELD_USER
from steelyard.cases.case import Case
from steelyard.task.task import Task

AS_WRITTEN = "as written"


class Tried(Protocol):
    """Anything a search can try in place of what an approach has: a prompt, or a way to look passages up."""

    @property
    def name(self) -> str:
        """What it is called in tables; different for all of a search."""
        ...

    @property
    def place(self) -> str | None:
        """Where its own words stand in study.yaml, for messages; `None` where it has none."""
        ...

    def put_into(self, approach: ApproachSpec) -> ApproachSpec:
        """The approach with it."""
        ...

    def changes(self) -> dict[str, Any]:
        """What makes the difference: name of a section of study.yaml, and what stands in it."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One prompt to be tried."""

    wording: str
    """How the task is put, by name."""
    examples: str
    """Which examples are shown, in words."""
    prompt: PromptSpec
    place: str | None = None
    """Where its own words stand in study.yaml, for messages; `None` for a built-in way."""

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return f"{self.wording}, {self.examples}"

    def put_into(self, approach: ApproachSpec) -> ApproachSpec:
        """The approach with this prompt."""
        return approach.model_copy(update={"prompt": self.prompt})

    def changes(self) -> dict[str, Any]:
        """What makes the difference, as study.yaml has it."""
        return {"prompt": self.prompt.model_dump(mode="json", exclude_defaults=True)}


class ExampleSet(NamedTuple):
    """Examples to be shown."""

    name: str
    ids: tuple[str, ...] | None
    """Which; `None` for those of the prompt as written."""


def unchanged(prompt: PromptSpec) -> Candidate:
    """The prompt as study.yaml has it; every search has it among its finalists."""
    return Candidate(wording=AS_WRITTEN, examples=_own_examples(prompt).name, prompt=prompt)


def candidates(
    prompt: PromptSpec,
    spec: OptimiseSpec,
    task: Task,
    usable: Sequence[Case],
    *,
    right: Collection[str],
    where: str,
) -> tuple[Candidate, ...]:
    """All candidates in the order in which they are tried; the unchanged prompt is the first.

    Args:
        prompt: As the approach has it.
        spec: What may be tried.
        task: What is asked.
        usable: Train cases that can serve as examples.
        right: Ids of those that trial calls answered right; none where there were no trial calls.
        where: Place of the section in study.yaml, for messages.

    Returns:
        Distinct prompts, the same for the same seed.
    """
    wordings = _wordings(prompt, spec, task, where=where)
    sets = _example_sets(prompt, spec, task, usable, right=right)
    draw = random.Random(spec.seed)
    # What is written stays the first of its kind, so that the first cell is the unchanged prompt.
    wordings = [wordings[0], *draw.sample(wordings[1:], len(wordings) - 1)]
    sets = [sets[0], *draw.sample(sets[1:], len(sets) - 1)]
    found: list[Candidate] = []
    for i, j in _diagonals(len(wordings), len(sets)):
        wording, examples = wordings[i], sets[j]
        changed = _changed(prompt, wording, examples)
        if all(changed != one.prompt for one in found):
            found.append(Candidate(wording=wording.name, examples=examples.name, prompt=changed, place=wording.place))
    return tuple(found)


def reworded(prompt: PromptSpec, task: Task, text: str, *, name: str) -> Candidate:
    """The prompt with an instruction that a model has written: taken literally, never read as a template.

    As with own instructions the labels and the form of the answer follow, unless the prompt has a system message of its
    own, which it replaces whole.
    """
    literal = f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}"
    system = literal if prompt.system is not None else _system(prompt, task, literal, _DEFINED, _FORM)
    changed = PromptSpec.model_validate({**prompt.model_dump(exclude_defaults=True), "system": system})
    return Candidate(wording=name, examples=_own_examples(prompt).name, prompt=changed)


def n_trials_wanted(spec: OptimiseSpec) -> int:
    """Train cases that would have to be tried so that bootstrapped sets have something to choose from."""
    return 2 * max(spec.examples, default=0) if spec.example_sets > 1 else 0


# ---- ways to put the task -------------------------------------------------------------------------------------------


class _Wording(NamedTuple):
    name: str
    change: dict[str, Any]
    """Fields of the prompt that put it so."""
    place: str | None = None


_DEFINED = (
    "The allowed answers:{% for label in labels %}{{ '\n' }}- {{ label }}"
    "{% if definitions[label] %}: {{ definitions[label] }}{% endif %}{% endfor %}"
)
_LISTED = "The allowed answers:{% for label in labels %}{{ '\n' }}- {{ label }}{% endfor %}"
_ON_ONE_LINE = "The allowed answers: {{ labels | join(' | ') }}"
_INSTRUCTION = "{{ task.instruction }}"
_FORM = "{{ task.answer_form }}"
_SCHEMA = "The JSON Schema of the answer:\n{{ task.output_schema }}"
_CHECKER = (
    "You are the one who checks the work of others on the task below. Work out for yourself what the right answer is,"
    " then give that answer alone."
)


def _wordings(prompt: PromptSpec, spec: OptimiseSpec, task: Task, *, where: str) -> list[_Wording]:
    own = _Wording(AS_WRITTEN, {})
    if isinstance(spec.instructions, int):
        built_in = [_Wording(name, change) for name, make in _BUILT_IN if (change := make(prompt, task)) is not None]
        return [own, *built_in[: spec.instructions]]
    return [
        own,
        *(
            _Wording(
                f"instruction {number}",
                {"system": text if prompt.system is not None else _system(prompt, task, text, _DEFINED, _FORM)},
                f"{where}.instructions[{number - 1}]",
            )
            for number, text in enumerate(spec.instructions, start=1)
        ),
    ]


def _system(prompt: PromptSpec, task: Task, *parts: str) -> str:
    """A system message of these parts; without the labels where there are none, with the schema where it helps."""
    needs_schema = task.single_field is None and not prompt.enforce_schema
    blocks = [part for part in parts if part not in (_DEFINED, _LISTED) or task.labels]
    return "\n\n".join([*blocks, *([_SCHEMA] if needs_schema else [])])


def _user(prompt: PromptSpec, task: Task) -> str:
    if prompt.user is not None:
        return prompt.user
    return ONE_FIELD_USER if len(task.input_fields) == 1 else MANY_FIELDS_USER


def _labels_alone(prompt: PromptSpec, task: Task) -> dict[str, Any] | None:
    if prompt.system is not None or not task.label_definitions:
        return None
    return {"system": _system(prompt, task, _INSTRUCTION, _LISTED, _FORM)}


def _said_again(prompt: PromptSpec, task: Task) -> dict[str, Any]:
    again = f"{_INSTRUCTION} {_FORM}" if prompt.system is None else prompt.system
    return {"user": f"{_user(prompt, task)}\n\n{again}"}


def _form_first(prompt: PromptSpec, task: Task) -> dict[str, Any]:
    if prompt.system is not None:
        return {"system": f"{_FORM}\n\n{prompt.system}"}
    return {"system": _system(prompt, task, _FORM, _INSTRUCTION, _DEFINED)}


def _headings(prompt: PromptSpec, task: Task) -> dict[str, Any] | None:
    if prompt.user is not None:
        return None
    is_bare = task.single_field is not None and not prompt.enforce_schema
    asked_for = task.expected_fields[0] if is_bare else "JSON"
    fields = "{% for name in task.input_fields %}{{ name }}:{{ '\n' }}{{ fields[name] }}{{ '\n\n' }}{% endfor %}"
    return {"user": f"{fields}{asked_for}:"}


def _checker(prompt: PromptSpec, task: Task) -> dict[str, Any]:
    if prompt.system is not None:
        return {"system": f"{_CHECKER}\n\n{prompt.system}"}
    return {"system": _system(prompt, task, _CHECKER, _INSTRUCTION, _DEFINED, _FORM)}


def _short(prompt: PromptSpec, task: Task) -> dict[str, Any] | None:
    if prompt.system is not None:
        return None
    blocks = [_INSTRUCTION, *([_ON_ONE_LINE] if task.labels else []), _FORM]
    return {"system": "\n".join(blocks)}


_BUILT_IN: tuple[tuple[str, Callable[[PromptSpec, Task], dict[str, Any] | None]], ...] = (
    ("labels without definitions", _labels_alone),
    ("instruction again after the input", _said_again),
    ("form of the answer first", _form_first),
    ("headings over the fields", _headings),
    ("as a checker", _checker),
    ("short", _short),
)


# ---- example sets ---------------------------------------------------------------------------------------------------


def _own_examples(prompt: PromptSpec) -> ExampleSet:
    n = len(prompt.example_ids) or prompt.examples
    return ExampleSet(f"own {n} examples" if n else "no examples", None)


def _example_sets(
    prompt: PromptSpec, spec: OptimiseSpec, task: Task, usable: Sequence[Case], *, right: Collection[str]
) -> list[ExampleSet]:
    sets = [_own_examples(prompt)]
    for size in spec.examples:
        if size == 0:
            sets.append(ExampleSet("no examples", ()))
            continue
        for number in range(1, (spec.example_sets if usable else 0) + 1):
            seed = spec.seed * 1009 + size * 31 + number
            first = right if right and number % 2 == 0 else ()
            ids = [case.id for case in _drawn(usable, size, task, seed=seed, first=first)]
            n_right = sum(name in first for name in ids)
            kind = f"set {number}" + (f", {n_right} answered right" if first else "")
            orders = _orders(ids, spec.orders, random.Random(seed))
            for turn, order in enumerate(orders, start=1):
                name = f"{len(ids)} examples ({kind}" + (f", order {turn})" if len(orders) > 1 else ")")
                sets.append(ExampleSet(name, order))
    return sets


def _drawn(usable: Sequence[Case], n: int, task: Task, *, seed: int, first: Collection[str]) -> list[Case]:
    """Examples spread over the labels; those named `first` come first, the rest fills up."""
    preferred = choose_fixed([case for case in usable if case.id in first], n, task=task, seed=seed)
    others = [case for case in usable if case.id not in first]
    return [*preferred, *choose_fixed(others, n - len(preferred), task=task, seed=seed)]


def _changed(prompt: PromptSpec, wording: _Wording, examples: ExampleSet) -> PromptSpec:
    fields = {**prompt.model_dump(exclude_defaults=True), **wording.change}
    if examples.ids is not None:
        for name in ("examples", "choose"):
            fields.pop(name, None)
        fields["example_ids"] = examples.ids
    return PromptSpec.model_validate(fields)


def _orders(ids: Sequence[str], n: int, draw: random.Random) -> list[tuple[str, ...]]:
    orders = [tuple(ids)]
    for _ in range(4 * n):
        if len(orders) == n:
            break
        order = tuple(draw.sample(list(ids), len(ids)))
        if order not in orders:
            orders.append(order)
    return orders


def _diagonals(n_rows: int, n_columns: int) -> list[tuple[int, int]]:
    """All cells of a grid, diagonal after diagonal, so that the first few cells reach many rows and columns."""
    shifts = [
        shift for start in range(min(n_rows, n_columns)) for shift in range(start, n_columns, n_rows)
    ] if n_rows < n_columns else list(range(n_columns))  # fmt: skip
    return [(row, (row + shift) % n_columns) for shift in shifts for row in range(n_rows)]
