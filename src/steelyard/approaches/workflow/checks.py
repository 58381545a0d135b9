"""Checks of an output besides its schema: rules between fields, patterns, functions of the study."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steelyard.approaches.workflow.rules import RuleSyntaxError, parse_rule
from steelyard.approaches.workflow.spec import CheckSpec
from steelyard.errors import InputError, Problem
from steelyard.task.functions import LoadFunction

Fields = Mapping[str, Any]

MAX_TEXT = 10_000
"""Characters of a value that a pattern is tried on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One compiled check."""

    what_is_wrong: Callable[[Fields, Fields], str | None]
    """From output and input fields to what is wrong, or `None`."""
    digest: str
    """Of everything that can change what it says."""


def compile_checks(
    specs: Sequence[CheckSpec], *, known: Sequence[str], function_of: LoadFunction, where: str
) -> tuple[Check, ...]:
    """Compile checks.

    Args:
        specs: As declared.
        known: Fields of the output they may speak of.
        function_of: Loads functions of the study.
        where: Place of the list in study.yaml, for messages.

    Raises:
        InputError: A rule or pattern cannot be read, a field is not known, or a function cannot be loaded; lists every
            problem found.
    """
    found: list[Check] = []
    problems: list[Problem] = []
    for number, spec in enumerate(specs):
        try:
            found.append(_compiled(spec, known=known, function_of=function_of, where=f"{where}[{number}]"))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return tuple(found)


def failed_checks(checks: Sequence[Check], output: Fields, fields: Fields) -> list[str]:
    """What is wrong with an output, in the order of the checks; a check that raises says so and counts as failed."""
    found = []
    for check in checks:
        try:
            said = check.what_is_wrong(output, fields)
        except Exception as error:  # noqa: BLE001 - a check may be anybody's code; its crash is data
            said = f"a check raised {type(error).__name__}: {error}"
        if said is not None:
            found.append(said)
    return found


# ---- private --------------------------------------------------------------------------------------------------------


def _compiled(spec: CheckSpec, *, known: Sequence[str], function_of: LoadFunction, where: str) -> Check:
    body = spec.model_dump_json()
    if spec.rule is not None:
        try:
            rule = parse_rule(spec.rule, tolerance=spec.tolerance)
        except RuleSyntaxError as error:
            raise InputError(Problem(what=f"the rule {spec.rule!r}: {error}", where=where)) from error
        _refuse_unknown(rule.fields, known, where)
        return Check(what_is_wrong=lambda output, _: _said(spec, rule.broken_by(output)), digest=body)
    if spec.function is not None:
        function, digest = function_of(spec.function, f"{where}.function")

        def call(output: Fields, fields: Fields) -> str | None:
            said = function(output, fields)
            if said is not None and not isinstance(said, str):
                raise TypeError(f"a check returns None or text, not {said!r}")
            return _said(spec, said)

        return Check(what_is_wrong=call, digest=body + digest)
    assert spec.field is not None
    assert spec.matches is not None  # the section has checked
    name = spec.field
    _refuse_unknown({name}, known, where)
    try:
        pattern = re.compile(spec.matches)
    except re.error as error:
        raise InputError(Problem(what=f"the pattern is no regular expression: {error}", where=where)) from error

    def match(output: Fields, fields: Fields) -> str | None:
        value = output.get(name)
        if value is None or pattern.fullmatch(str(value)[:MAX_TEXT]):
            return None
        return _said(spec, f"{name}: {str(value)[:80]!r} does not match {pattern.pattern}")

    return Check(what_is_wrong=match, digest=body)


def _said(spec: CheckSpec, said: str | None) -> str | None:
    return spec.message if said is not None and spec.message is not None else said


def _refuse_unknown(names: frozenset[str] | set[str], known: Sequence[str], where: str) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise InputError(
            Problem(
                what=f"there is no output field {unknown[0]!r}", where=where, hint=f"output fields: {', '.join(known)}"
            )
        )
