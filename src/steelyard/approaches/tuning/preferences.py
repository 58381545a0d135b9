"""Preference pairs: for one input an answer that was preferred and one that was turned down, as reviewers correct them.

One JSON object a line:

    {"case": "t17", "chosen": {"label": "refund"}, "rejected": {"label": "login"}}
    {"input": {"text": "Where is my parcel?"}, "chosen": "It left on Monday.", "rejected": "I do not know."}

`case` names a case of the train split; `input` gives the fields of an input that is no case. An answer is a text, taken
as the model would write it, or the fields of an expected output.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from steelyard.approaches.tuning.base_model import BaseModel
from steelyard.approaches.tuning.examples import PromptOf, TargetOf
from steelyard.cases.case import Case
from steelyard.cases.duplicates import fold, input_text
from steelyard.errors import InputError, Problem

HELD_OUT_SHARE: Final = 0.2
FEWEST_TO_HOLD_OUT: Final = 10
_FIELDS: Final = frozenset({"case", "input", "chosen", "rejected"})
_MOST_PROBLEMS: Final = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Preference:
    """One pair as the file gives it."""

    case: Case
    """What was asked; made up where the file gives an input."""
    chosen: str
    rejected: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One pair as token ids."""

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    """The preferred answer and the token that ends it."""
    rejected: tuple[int, ...]

    @property
    def n_tokens(self) -> int:
        """Both conversations."""
        return 2 * len(self.prompt) + len(self.chosen) + len(self.rejected)


def read_preferences(
    path: Path, *, train: Sequence[Case], held_out: frozenset[str], input_fields: Sequence[str], target: TargetOf
) -> tuple[Preference, ...]:
    """Read the pairs of a file.

    Args:
        path: A JSONL file.
        train: The only cases that pairs may name.
        held_out: Folded input texts of the dev and test cases, which no pair may hold.
        input_fields: What an input consists of.
        target: How an expected output is written by the model.

    Raises:
        InputError: The file cannot be read, or lines of it are wrong; all of them are named, at most 20.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        hint = "give a JSONL file, relative to the study folder, in UTF-8"
        raise InputError(Problem(what=f"the file cannot be read ({error})", where=str(path), hint=hint)) from error
    reader = _Reader(
        cases={case.id: case for case in train},
        held_out=held_out,
        input_fields=tuple(input_fields),
        target=target,
    )
    found, problems = [], []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                found.append(reader.read(line, number))
            except _Wrong as wrong:
                place = f"{path.name}:{number}" + (f":{wrong.field}" if wrong.field else "")
                problems.append(Problem(what=wrong.what, where=place, hint=wrong.hint))
    if not found and not problems:
        hint = 'write one {"case": ..., "chosen": ..., "rejected": ...} a line'
        problems = [Problem(what="the file holds no preference pair", where=path.name, hint=hint)]
    if problems:
        raise InputError(problems[:_MOST_PROBLEMS])
    return tuple(found)


def hold_out_pairs(
    pairs: Sequence[Preference], *, validation: Sequence[Case], seed: int
) -> tuple[tuple[Preference, ...], tuple[Preference, ...]]:
    """Pairs to learn from and pairs to judge by; pairs of one case or cluster stay together.

    Args:
        pairs: All of them.
        validation: Cases that the supervised pass is validated on; nothing is learned from their pairs.
        seed: Of the choice among the others.

    Returns:
        Of fewer than ten pairs none are held out by chance, as learning needs all of them.
    """
    judged = {case.id for case in validation}
    groups: dict[str, list[Preference]] = {}
    for pair in pairs:
        kind = "cluster" if pair.case.cluster is not None else "case"
        groups.setdefault(f"{kind} {pair.case.cluster or pair.case.id}", []).append(pair)
    held = {name for name, some in groups.items() if any(pair.case.id in judged for pair in some)}
    wanted = round(HELD_OUT_SHARE * len(pairs)) if len(pairs) >= FEWEST_TO_HOLD_OUT else 0
    names = list(groups)
    for i in np.random.default_rng([seed, 6]).permutation(len(names)):
        if sum(len(groups[name]) for name in held) >= wanted:
            break
        held.add(names[i])
    if len(held) == len(groups):  # one cluster: learning comes first
        held = set()
    learned = tuple(pair for name, some in groups.items() if name not in held for pair in some)
    return learned, tuple(pair for name, some in groups.items() if name in held for pair in some)


def tokenise_pairs(
    base: BaseModel, pairs: Sequence[Preference], prompt: PromptOf, *, max_tokens: int
) -> tuple[Pair, ...]:
    """Pairs as token ids; those that are longer than `max_tokens` are left out.

    Raises:
        InputError: There are pairs, and none of them fits.
    """
    made = []
    for pair in pairs:
        ids = tuple(base.chat_ids(prompt(pair.case.visible())))
        chosen = (*base.encode(pair.chosen), base.end_token)
        rejected = (*base.encode(pair.rejected), base.end_token)
        if len(ids) + max(len(chosen), len(rejected)) <= max_tokens:
            made.append(Pair(prompt=ids, chosen=chosen, rejected=rejected))
    if pairs and not made:
        raise InputError(
            Problem(
                what=f"no preference pair fits {max_tokens} tokens",
                where="study.yaml:approaches:tuning.max_tokens",
                hint="raise max_tokens, or shorten the prompt",
            )
        )
    return tuple(made)


# ---------------------------------------------------------------------------------------------------- private


class _Wrong(Exception):
    """What is wrong with a line."""

    def __init__(self, what: str, *, field: str = "", hint: str) -> None:
        super().__init__(what)
        self.what, self.field, self.hint = what, field, hint


@dataclass(frozen=True, kw_only=True, slots=True)
class _Reader:
    cases: Mapping[str, Case]
    held_out: frozenset[str]
    input_fields: tuple[str, ...]
    target: TargetOf

    def read(self, line: str, number: int) -> Preference:
        try:
            body = json.loads(line)
        except ValueError as error:
            raise _Wrong(f"the line is not JSON ({error})", hint="write one JSON object a line") from error
        if not isinstance(body, dict):
            raise _Wrong("the line is not a JSON object", hint="write one JSON object a line")
        if unknown := sorted(body.keys() - _FIELDS):
            raise _Wrong(
                "there is no such field", field=unknown[0], hint=f"the fields are {', '.join(sorted(_FIELDS))}"
            )
        case = self._case(body, number)
        chosen, rejected = (self._answer(body, field, case) for field in ("chosen", "rejected"))
        if chosen == rejected:
            raise _Wrong("it is the same answer as chosen", field="rejected", hint="leave out the pair")
        return Preference(case=case, chosen=chosen, rejected=rejected)

    def _case(self, body: Mapping[str, Any], number: int) -> Case:
        if ("case" in body) == ("input" in body):
            raise _Wrong("a pair needs either case or input", hint="name a train case, or give the fields of an input")
        if "case" in body:
            if body["case"] not in self.cases:
                raise _Wrong(
                    f"there is no case {body['case']!r} in the train split",
                    field="case",
                    hint="pairs may name train cases only: what is learned from cannot be measured on",
                )
            return self.cases[body["case"]]
        given = body["input"]
        if not isinstance(given, dict) or set(given) != set(self.input_fields):
            what = f"an input has the fields {', '.join(self.input_fields)}"
            raise _Wrong(what, field="input", hint="give exactly these")
        case = Case(id=f"preference {number}", input=given)
        if fold(input_text(case)) in self.held_out:
            raise _Wrong("this is the input of a case that is measured on", field="input", hint="leave out the pair")
        return case

    def _answer(self, body: Mapping[str, Any], field: str, case: Case) -> str:
        given = body.get(field)
        if isinstance(given, str) and given.strip():
            return given
        if isinstance(given, dict) and given:
            return self.target(replace(case, expected=given))
        raise _Wrong("an answer is needed", field=field, hint="give a text, or the fields of an expected output")
