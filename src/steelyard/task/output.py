"""From a model's text to an output, and what is wrong with it.

The reading is normative, because the schema-pass metric counts what this module calls `as_it_came`:

1. **As it came**: the whole text (white space around it aside) is a JSON object that satisfies the schema; or, for a
   task with one text field, the whole text is exactly that field's value and satisfies the schema. A program could
   use it without any mending.
2. **Leniently**: otherwise a second reading, free of model calls, may still find a usable output. It looks for a JSON
   object inside code fences or prose; forgives case, spacing and punctuation in field names and in values that the
   schema lists; and, for a single field with listed values, takes the one value the answer begins or ends with,
   provided that no other value is named anywhere in it. Such an output counts for success, never for schema pass.

Where the text holds a JSON object that can be read, that object wins over reading the whole text as a bare value.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jsonschema_rs
import orjson

from steelyard.task.task import Task
from steelyard.task.text import fold_text

_MAX_ERRORS = 3
_MAX_LISTED = 20
_MAX_SHOWN = 120
_MAX_OBJECTS = 20
"""How many opening braces are tried: a hostile answer must not cost quadratic time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedOutput:
    """What could be read from one answer."""

    output: Mapping[str, Any] | None
    """The output, valid or not; `None` when none could be read."""
    valid: bool
    """Whether `output` satisfies the schema."""
    as_it_came: bool
    """Whether it did so without any mending: the first reading above."""
    problem: str | None = None
    """What is wrong, fit to be shown to a person or fed back to the model; `None` when valid."""


def parse_output(text: str, task: Task) -> ParsedOutput:
    """Read an answer as the task's output, strictly first, then leniently.

    Args:
        text: The answer as the model gave it.
        task: Its schema decides what is valid.

    Returns:
        The output with how it was read, or what is wrong. Never raises on any text.
    """
    stripped = text.strip()
    if not stripped:
        return _unreadable("the answer is empty")
    whole = _json_object(stripped)
    if whole is not None:
        problem = validate(whole, task)
        return _as_it_came(whole) if problem is None else _mended_or(whole, task, problem)

    first_problem: ParsedOutput | None = None
    for found in _embedded_objects(stripped):
        read = _mended_or(found, task, validate(found, task))
        if read.valid:
            return read
        first_problem = first_problem or read

    name = task.single_field
    if name is not None:
        bare = {name: stripped}
        problem = validate(bare, task)
        if problem is None:
            return _as_it_came(bare)
        value = _named_value(stripped, _listed(task, name))
        if value is not None:
            return _mended_or({name: value}, task, validate({name: value}, task))
        return first_problem or ParsedOutput(output=bare, valid=False, as_it_came=False, problem=problem)
    return first_problem or _unreadable(f"the answer holds no JSON object: {_shown(stripped)}")


def validate(output: Mapping[str, Any], task: Task) -> str | None:
    """What is wrong with an output, in one line, or `None` when it satisfies the task's schema.

    At most three faults are named, and long values are cut, so that the message can be fed back to a model.
    """
    return validate_schema(output, task.output_schema)


def validate_schema(value: Any, schema: Mapping[str, Any]) -> str | None:  # noqa: ANN401 - any JSON value
    """As `validate`, of any value against any schema; the draft is the one `$schema` names, else 2020-12."""
    validator = _compiled(orjson.dumps(schema))
    instance = dict(value) if isinstance(value, Mapping) else value
    try:
        if validator.is_valid(instance):
            return None
        faults = [_fault(error) for _, error in zip(range(_MAX_ERRORS + 1), validator.iter_errors(instance))]  # noqa: B905 - the shorter one is meant
    except ValueError as error:  # a value that JSON does not know, such as a date
        return str(error)[:_MAX_SHOWN]
    more = "; and more" if len(faults) > _MAX_ERRORS else ""
    return "; ".join(faults[:_MAX_ERRORS]) + more


# ---- messages -------------------------------------------------------------------------------------------------------


def _fault(error: jsonschema_rs.ValidationError) -> str:
    path = ".".join(str(part) for part in error.instance_path)
    place = f"{path}: " if path else ""
    kind = error.kind
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Enum):
        return f"{place}{_shown(error.instance)} is not one of {_choices(kind.options)}"
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
        return f"{place}the field {_shown(kind.property)} is missing"
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Type):
        return f"{place}{_shown(error.instance)} is not of type {' or '.join(kind.types)}"
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
        return f"{place}unknown field {', '.join(_shown(name) for name in kind.unexpected[:_MAX_ERRORS])}"
    return f"{place}{error.message if len(error.message) <= 2 * _MAX_SHOWN else error.message[: 2 * _MAX_SHOWN] + ' …'}"


def _choices(options: Sequence[Any]) -> str:
    listed = ", ".join(_shown(option) for option in options[:_MAX_LISTED])
    left = len(options) - _MAX_LISTED
    return f"{listed} and {left} more" if left > 0 else listed


def _shown(value: Any) -> str:  # noqa: ANN401 - any JSON value
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 2]} …"


# ---- reading --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _compiled(schema: bytes) -> jsonschema_rs.Validator:
    # Whether `format` is asserted differs by draft, and is an annotation since 2019-09: here it is one in all of them.
    return jsonschema_rs.validator_for(orjson.loads(schema), retriever=_refuse, validate_formats=False)


def _refuse(uri: str) -> Any:  # noqa: ANN401 - the library's signature
    raise ValueError(f"{uri} lies outside the schema")


def _as_it_came(output: Mapping[str, Any]) -> ParsedOutput:
    return ParsedOutput(output=output, valid=True, as_it_came=True)


def _unreadable(problem: str) -> ParsedOutput:
    return ParsedOutput(output=None, valid=False, as_it_came=False, problem=problem)


def _mended_or(found: dict[str, Any], task: Task, problem: str | None) -> ParsedOutput:
    """A lenient reading of an object: as found, or mended where that makes it valid, else its problem."""
    if problem is None:
        return ParsedOutput(output=found, valid=True, as_it_came=False)
    mended = _mended(found, task)
    if mended != found and validate(mended, task) is None:
        return ParsedOutput(output=mended, valid=True, as_it_came=False)
    return ParsedOutput(output=found, valid=False, as_it_came=False, problem=problem)


def _mended(found: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """The object with field names and listed values as the schema writes them, wherever just one is meant."""
    names = list(task.output_schema.get("properties", {}))
    mended: dict[str, Any] = {}
    for key, value in found.items():
        name = key if key in names else _only_match(key, names) or key
        listed = _listed(task, name)
        known = _only_match(value, listed) if isinstance(value, str) and value not in listed else None
        mended.setdefault(name, value if known is None else known)
    return mended


def _listed(task: Task, name: str) -> list[str]:
    """The text values the schema lists for a field; empty when it does not list any."""
    rule = task.output_schema.get("properties", {}).get(name, {})
    return [value for value in rule.get("enum", ()) if isinstance(value, str)] if isinstance(rule, Mapping) else []


def _only_match(text: str, candidates: Sequence[str]) -> str | None:
    folded = fold_text(text)
    matches = [candidate for candidate in candidates if fold_text(candidate) == folded]
    return matches[0] if len(matches) == 1 else None


def _named_value(text: str, listed: Sequence[str]) -> str | None:
    """The one listed value that the answer begins or ends with, if no other one is named in it."""
    if not listed:
        return None
    known = _only_match(text, listed)
    if known is not None:
        return known
    folded = f" {fold_text(text)} "
    named: dict[str, list[tuple[int, int]]] = {}
    for value in listed:
        needle = f" {fold_text(value)} "
        start = folded.find(needle)
        while start >= 0:
            named.setdefault(value, []).append((start, start + len(needle)))
            start = folded.find(needle, start + 1)
    # "card" inside "card lost" is not a second value: only places that no longer value covers count.
    spans = [span for places in named.values() for span in places]
    meant = {
        value: [place for place in places if not any(_covers(span, place) for span in spans)]
        for value, places in named.items()
    }
    left = [value for value, places in meant.items() if places]
    if len(left) != 1:
        return None
    (value,) = left
    at_an_end = any(start == 0 or end == len(folded) for start, end in meant[value])
    return value if at_an_end else None


def _covers(outer: tuple[int, int], inner: tuple[int, int]) -> bool:
    return outer != inner and outer[0] <= inner[0] and inner[1] <= outer[1]


def _json_object(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _embedded_objects(text: str) -> Iterator[dict[str, Any]]:
    """JSON objects that stand inside prose or code fences, in order, nested ones left out."""
    at = 0
    for _ in range(_MAX_OBJECTS):
        at = text.find("{", at)
        if at < 0:
            return
        try:
            _, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        # The standard decoder finds the end; the strict one reads, so that nothing comes in that cannot be written
        # to the journal (NaN, lone surrogates, integers beyond 64 bits).
        found = _json_object(text[at:end])
        at = end
        if found is not None:
            yield found


_DECODER = json.JSONDecoder()
