"""Which cases come first: orders that depend on a seed and the cases, not on the file's order or on Python's hashing."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence

import orjson

from steelyard.cases.case import Case
from steelyard.errors import InputError, Problem


def take(cases: Sequence[Case], limit: int, seed: int) -> tuple[Case, ...]:
    """A sample with about the label shares of the whole, or its segments' where there are no labels.

    A larger limit only adds cases.

    Args:
        cases: All cases.
        limit: How many to take, at least 1; more than there are takes all.
        seed: Same seed, same sample.

    Returns:
        The sample, in the order of `cases`.

    Raises:
        InputError: The limit is below 1.
    """
    if limit < 1:
        raise InputError(Problem(what=f"a limit of {limit} leaves no cases", hint="give a limit of at least 1"))
    field = find_label_field(cases)
    strata: dict[str, list[int]] = defaultdict(list)
    for position, case in enumerate(cases):
        strata[label_of(case, field) if field is not None else case.segment or ""].append(position)
    order: list[tuple[float, str, int]] = []
    for label, members in strata.items():
        members.sort(key=lambda position: draw(seed, cases[position]))
        # Each label's cases are laid out evenly over 0 to 1 from a start of its own, so any prefix holds all in proportion.
        start = int(_digest(f"{seed}\n{label}"), 16) / 16**32
        order.extend(((rank + start) / len(members), label, position) for rank, position in enumerate(members))
    chosen = sorted(position for _, _, position in sorted(order)[:limit])
    return tuple(cases[position] for position in chosen)


def find_label_field(cases: Sequence[Case]) -> str | None:
    """The expected field that holds a label: the only one there is, where its values recur; else None."""
    expected = [case.expected for case in cases if case.expected]
    names = {name for values in expected for name in values}
    if len(names) != 1:
        return None
    (field,) = names
    n_distinct = len({label_of(case, field) for case in cases if case.expected})
    return field if n_distinct <= len(expected) / 2 else None


def label_of(case: Case, field: str | None) -> str:
    """The label of a case as text; empty where it has none."""
    value = (case.expected or {}).get(field) if field is not None else None
    return value if isinstance(value, str) else "" if value is None else orjson.dumps(value).decode()


def draw(seed: int, case: Case) -> tuple[str, str]:
    """Sort key of a case in a seeded random order.

    It hangs on the id, so that new cases, new labels and new input fields leave the order of the others alone. An id
    made from the row number means nothing once rows move, so such a case is known by its input instead.
    """
    name = case.id
    if _ROW_ID.fullmatch(case.id):
        name = orjson.dumps(case.input, option=orjson.OPT_SORT_KEYS).decode()
    return _digest(f"{seed}\n{name}"), case.id


_ROW_ID = re.compile(r"row-\d+")


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
