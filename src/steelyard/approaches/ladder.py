"""The ladder of levers: prompt, workflow, retrieval, tuning, and then their combinations.

A lower rung is simpler to build, to explain and to leave again. Where two approaches are equally good, the lower one
is preferred, so every set of levers has one place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

from steelyard.approaches.spec import Lever

_CLIMB = (Lever.WORKFLOW, Lever.RETRIEVAL, Lever.TUNING)
_SETS = (frozenset[Lever](), *(frozenset(levers) for n in (1, 2, 3) for levers in combinations(_CLIMB, n)))

RUNG_NAMES: Mapping[int, str] = {
    number: " + ".join(lever for lever in _CLIMB if lever in levers) or Lever.PROMPT
    for number, levers in enumerate(_SETS)
}
"""Name of every rung, lowest first: 0 `prompt` to 7 `workflow + retrieval + tuning`."""


def rung(levers: Iterable[Lever]) -> int:
    """The rung of a set of levers: 0 is prompt alone, 3 tuning alone, combinations come above.

    Every approach has some prompt, so `prompt` beside other levers does not count.

    >>> rung([Lever.RETRIEVAL]), RUNG_NAMES[rung([Lever.TUNING, Lever.WORKFLOW])]
    (2, 'workflow + tuning')
    """
    return _SETS.index(frozenset(levers) - {Lever.PROMPT})
