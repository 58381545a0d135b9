"""Which version of each document holds on a day."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from steelyard.approaches.retrieval.metadata import Facts
from steelyard.errors import InputError, Problem


class Dated(NamedTuple):
    """What versions are told by."""

    id: str
    source: str
    facts: Facts


@dataclass(frozen=True, kw_only=True, slots=True)
class Versions:
    """The versions of all documents, in arrays over the documents."""

    starts: NDArray[np.int64]
    """First day each holds, as a day number."""
    ends: NDArray[np.int64]
    """Last day."""
    series: NDArray[np.intp]
    """Number of the document it is a version of."""
    order: NDArray[np.intp]
    """Place among the versions, oldest first."""
    notes: tuple[Problem, ...] = ()

    def holding(self, as_of: date | None) -> NDArray[np.bool_]:
        """Which documents hold on a day: of each series the newest version that does, shape (n_documents,).

        Args:
            as_of: The day; left out, the newest version of each series, whatever its dates.
        """
        holds = np.ones(len(self.starts), dtype=np.bool_)
        if as_of is not None:
            day = as_of.toordinal()
            holds = (self.starts <= day) & (day <= self.ends)
        newest = np.full(int(self.series.max(initial=-1)) + 1, -1, dtype=np.intp)
        np.maximum.at(newest, self.series[holds], self.order[holds])
        found: NDArray[np.bool_] = holds & (self.order == newest[self.series])
        return found


def number_versions(documents: Sequence[Dated]) -> Versions:
    """Put the versions of each document in order.

    Documents are versions of one another that share `version_of`, or of which one supersedes the other. The order is
    that of `valid_from`; without dates, that of superseding.

    Raises:
        InputError: Two documents have one id, superseding goes in a circle, or two versions begin on the same day.
    """
    problems = list(_duplicates(documents))
    by_id = {one.id: one for one in documents}
    roots: dict[str, tuple[str, int]] = {}
    notes: list[Problem] = []
    for one in documents:
        chain = [one]
        while (before := chain[-1].facts.supersedes) is not None and before in by_id:
            if any(before == other.id for other in chain):
                what = f"{one.id!r} supersedes itself, by way of {' and '.join(repr(other.id) for other in chain)}"
                problems.append(Problem(what=what, where=one.source, hint="an older version names no newer one"))
                break
            chain.append(by_id[before])
        oldest = chain[-1]
        if before is not None and before not in by_id and oldest is one:
            what = f"it supersedes {before!r}, and no document has this id"
            notes.append(Problem(what=what, where=one.source, hint="fine if that one was deleted; else mend the id"))
        named = next((other.facts.version_of for other in chain if other.facts.version_of), None)
        roots[one.id] = (
            f"of {named}" if named else f"id {before if before not in by_id and before else oldest.id}",
            len(chain),
        )
    groups: dict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(documents):
        groups[roots[one.id][0]].append(place)
    series = np.zeros(len(documents), dtype=np.intp)
    order = np.zeros(len(documents), dtype=np.intp)
    for number, places in enumerate(groups.values()):
        keys = {place: (_start(documents[place]), roots[documents[place].id][1]) for place in places}
        for rank, place in enumerate(sorted(places, key=keys.__getitem__)):
            series[place], order[place] = number, rank
        problems += _ties(documents, keys)
    if problems:
        raise InputError(problems)
    return Versions(
        starts=np.array([_start(one) for one in documents], dtype=np.int64),
        ends=np.array([(one.facts.valid_to or date.max).toordinal() for one in documents], dtype=np.int64),
        series=series,
        order=order,
        notes=tuple(notes),
    )


# ---- private --------------------------------------------------------------------------------------------------------


def _start(one: Dated) -> int:
    return (one.facts.valid_from or date.min).toordinal()


def _duplicates(documents: Sequence[Dated]) -> list[Problem]:
    seen: dict[str, str] = {}
    problems = []
    for one in documents:
        if one.id in seen:
            where = f"{one.source} and {seen[one.id]}" if one.source != seen[one.id] else one.source
            hint = "give each document its own id; versions share version_of, not the id"
            problems.append(Problem(what=f"the id {one.id!r} stands for two documents", where=where, hint=hint))
        seen[one.id] = one.source
    return problems


def _ties(documents: Sequence[Dated], keys: dict[int, tuple[int, int]]) -> list[Problem]:
    n_alike = Counter(keys.values())
    alike = [documents[place] for place, key in keys.items() if n_alike[key] > 1]
    if not alike or len({one.id for one in alike}) < 2:  # the same id twice is a problem of its own
        return []
    what = f"versions of one document begin on the same day: {', '.join(repr(one.id) for one in alike)}"
    return [Problem(what=what, where=alike[-1].source, hint="give each its valid_from, or say which one supersedes")]
