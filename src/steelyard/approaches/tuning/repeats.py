"""Train cases that say the same as another one, with the same answer: they teach nothing new, and are left out."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from steelyard.cases.case import Case
from steelyard.cases.duplicates import exact_groups


def without_repeats(cases: Sequence[Case]) -> tuple[Case, ...]:
    """The cases without later ones that repeat an earlier one.

    A repeat has the same input, once case, spacing and punctuation are folded, and the same expected output. Cases with
    the same input and another output stay, since nobody knows which of them is right; the audit lists them.
    """
    repeats: set[int] = set()
    for group in exact_groups(cases):
        seen: set[bytes] = set()
        for position in group:
            answer = orjson.dumps(cases[position].expected, option=orjson.OPT_SORT_KEYS)
            if answer in seen:
                repeats.add(position)
            seen.add(answer)
    return tuple(case for position, case in enumerate(cases) if position not in repeats)
