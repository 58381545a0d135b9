"""The guard set: short general instructions that show whether tuning cost a model what it could do before.

`guard.jsonl` holds them, one a line, easiest to read in an editor; kinds take turns, so that the first N are of all
kinds. Each has a check that a program can decide without doubt. They have nothing to do with any task: a model that
fails some was never good at them, so what counts is which of those the base does are lost (`measure.forgetting`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import orjson

from steelyard.cases.case import Case

MAX_TOKENS = 40
"""Tokens an answer may have; whoever needs more has not followed the instruction."""
FILE = "guard.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """What an answer must be; everything that is given must hold.

    Words are compared without case, accents and punctuation, and only as whole words.
    """

    equals: tuple[str, ...] = ()
    """The answer is one of these and nothing else."""
    says: tuple[str, ...] = ()
    """The answer has at least `least` of these words or phrases in it."""
    least: int = 1
    says_all: tuple[str, ...] = ()
    """All of these are in it."""
    says_not: tuple[str, ...] = ()
    """None of these is in it."""
    matches: str | None = None
    """A regular expression the whole answer matches, as it came."""
    json: Any = None
    """The answer is this value in JSON, with or without a code fence around it."""

    def passes(self, text: str) -> bool:
        """Whether an answer is what was asked for."""
        said = f" {_folded(text)} "
        held = [f" {_folded(phrase)} " in said for phrase in self.says]
        return (
            (not self.equals or said.strip() in [_folded(one) for one in self.equals])
            and (not self.says or sum(held) >= self.least)
            and all(f" {_folded(phrase)} " in said for phrase in self.says_all)
            and not any(f" {_folded(phrase)} " in said for phrase in self.says_not)
            and (self.matches is None or re.fullmatch(self.matches, text.strip()) is not None)
            and (self.json is None or _read_json(text) == self.json)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Instruction:
    """One instruction of the guard set."""

    id: str
    """Kind and number: `copy-03`."""
    ask: str
    check: Check

    @property
    def kind(self) -> str:
        """What it is about, for example `copy` or `json`."""
        return self.id.rpartition("-")[0]


@cache
def guard_set() -> tuple[Instruction, ...]:
    """All instructions that ship, kinds taking turns."""
    lines = files(__package__).joinpath(FILE).read_bytes().splitlines()
    return tuple(_instruction(orjson.loads(line)) for line in lines)


def guard_cases(n: int) -> tuple[Case, ...]:
    """The first so many instructions as cases the engine can work on; all of them where there are fewer."""
    return tuple(
        Case(id=f"guard/{one.id}", input={"instruction": one.ask}, where=f"{FILE}:{number}")
        for number, one in enumerate(guard_set()[:n], start=1)
    )


def is_done(case: Case, text: str) -> bool:
    """Whether an answer to a case of `guard_cases` is what was asked for."""
    return _by_id()[case.id.removeprefix("guard/")].check.passes(text)


# ---- private --------------------------------------------------------------------------------------------------------


@cache
def _by_id() -> dict[str, Instruction]:
    return {one.id: one for one in guard_set()}


def _instruction(line: dict[str, Any]) -> Instruction:
    check: dict[str, Any] = {
        name: tuple(value) if _is_words(name, value) else value for name, value in line["check"].items()
    }
    return Instruction(id=line["id"], ask=line["ask"], check=Check(**check))


def _is_words(name: str, value: object) -> bool:
    return name != "json" and isinstance(value, Sequence) and not isinstance(value, str)


def _folded(text: str) -> str:
    """Words in small letters with one space between them; accents and punctuation are gone."""
    plain = "".join(one for one in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(one))
    return " ".join(re.findall(r"\w+", plain))


_FENCED = re.compile(r"\s*```(?:json)?\s*(.*?)\s*```\s*", re.DOTALL)


def _read_json(text: str) -> Any:  # noqa: ANN401 - any JSON value
    fenced = _FENCED.fullmatch(text)
    try:
        return orjson.loads(fenced[1] if fenced else text)
    except orjson.JSONDecodeError:
        return _NO_JSON


_NO_JSON = object()
