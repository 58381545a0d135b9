"""Cases: the labelled real inputs everything is measured on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import orjson


class GoldText(NamedTuple):
    """Text of a document that holds (a part of) the answer."""

    source: str
    """Id of the document."""
    text: str


SplitName = Literal["train", "dev", "test"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseInput:
    """What an approach may see of a case."""

    id: str
    fields: Mapping[str, Any]
    """Input fields by name, as they came."""
    time: str | None = None
    """ISO time of the case in UTC, where known."""
    access: tuple[str, ...] = ()
    """Access tags of who asks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One real production input with its expected output and what else is known of it."""

    id: str
    input: Mapping[str, Any]
    expected: Mapping[str, Any] | None = None
    time: str | None = None
    """ISO time in UTC; sorts as text."""
    segment: str | None = None
    cluster: str | None = None
    """Cases that belong together (one customer, one thread, near-duplicates); never split apart."""
    sources: tuple[str, ...] = ()
    """Ids of the documents that hold the answer, where known."""
    passages: tuple[GoldText, ...] = ()
    """What of them holds it, where known."""
    access: tuple[str, ...] = ()
    """Access tags of who asks."""
    question: str | None = None
    """Name of what is asked, the same where it is asked as of other days."""
    declared_split: SplitName | None = None
    """The split the file itself asks for."""
    teacher: str | None = None
    """The approach that gave the expected output, where no person did: see `steelyard.cases.distilled`."""
    where: str = ""
    """`file:line` it was read from."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Everything else the file said."""

    def visible(self) -> CaseInput:
        """The case without its expected output."""
        return CaseInput(id=self.id, fields=self.input, time=self.time, access=self.access)

    def digest(self) -> str:
        """Content address of input, access and expected output, 32 hexadecimal characters."""
        parts = [self.input, self.expected, *([self.access] if self.access else [])]
        body = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
        return hashlib.blake2b(body, digest_size=16).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Splits:
    """Cases by use: learn from train, choose on dev, measure on test."""

    train: tuple[Case, ...]
    dev: tuple[Case, ...]
    test: tuple[Case, ...]

    def named(self, name: SplitName) -> tuple[Case, ...]:
        """The cases of one split."""
        return {"train": self.train, "dev": self.dev, "test": self.test}[name]
