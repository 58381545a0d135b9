"""Where the outcomes of each case stand among rows in any order, and what approaches on the same cases share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars as pl

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Where the outcomes of each case stand among the rows of an approach."""

    ids: pl.Series
    """Case of each row."""
    repeat: Ints
    """Repeat of each row."""
    order: Ints | None
    """Positions of the rows by case and repeat; `None` where they stand so already."""
    starts: Ints
    """First row of each case, once ordered."""
    cases: pl.Series
    """Sorted."""
    case_ids: tuple[str, ...]
    """The same as strings."""
    n_repeats: Ints
    """Outcomes behind each case."""
    twice: tuple[tuple[str, int], ...]
    """Case and repeat of outcomes that stand there more than once."""

    def ordered(self, values: NDArray[Any]) -> NDArray[Any]:
        """One value a row, by case and repeat."""
        return values if self.order is None else values[self.order]

    def mean(self, values: Floats) -> Floats:
        """Within-case mean; unknown as soon as one repeat is, so that a missing price never looks cheap.

        Args:
            values: One a row, ordered.
        """
        if len(self.starts) == len(values):
            return frozen(values)
        return frozen(np.add.reduceat(values, self.starts) / self.n_repeats)

    def first(self, labels: pl.Series) -> pl.Series:
        """The label of each case: that of its first row."""
        return labels.gather(self.starts if self.order is None else self.order[self.starts])


class Shared:
    """What approaches on the same cases have in common is held once, be it a million ids."""

    def __init__(self) -> None:
        self._layout: Layout | None = None
        self._texts: dict[str, tuple[pl.Series, tuple[str | None, ...]]] = {}
        self._clusters: tuple[pl.Series, Ints] | None = None
        self._unknown: Floats = np.empty(0)

    def layout(self, rows: pl.DataFrame) -> Layout:
        """The layout of an approach's rows."""
        ids, repeat = rows["case_id"], _repeats(rows)
        last = self._layout
        if last is None or not (last.ids.equals(ids) and np.array_equal(last.repeat, repeat)):
            self._layout = _layout(ids, repeat, last)
        assert self._layout is not None
        return self._layout

    def texts(self, name: str, labels: pl.Series) -> tuple[str | None, ...]:
        """Labels as a tuple."""
        if name not in self._texts or not self._texts[name][0].equals(labels):
            self._texts[name] = (labels, _as_tuple(labels))
        return self._texts[name][1]

    def clusters(self, labels: pl.Series) -> Ints:
        """Cluster codes by first appearance; a case without a label is a cluster of its own."""
        if self._clusters is None or not self._clusters[0].equals(labels):
            self._clusters = (labels, frozen(_codes(labels)))
        return self._clusters[1]

    def unknown(self, n: int) -> Floats:
        """A column nobody filled in."""
        if len(self._unknown) != n:
            self._unknown = frozen(np.full(n, math.nan))
        return self._unknown


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """The same array, read-only from now on."""
    array.setflags(write=False)
    return array


# --- private ---------------------------------------------------------------------------------------------------------


def _layout(ids: pl.Series, repeat: Ints, last: Layout | None) -> Layout:
    import polars as pl

    order: Ints | None = None
    if not (ids.is_sorted() and not (ids == ids.shift(1)).any()):
        keys = pl.DataFrame({"case_id": ids, "repeat": repeat})
        order = keys.select(pl.arg_sort_by("case_id", "repeat")).to_series().to_numpy().astype(np.int64)
    placed = ids if order is None else ids.gather(order)
    is_first = (placed != placed.shift(1)).fill_null(value=True).to_numpy()
    starts = np.flatnonzero(is_first)
    n_repeats = np.diff(np.append(starts, len(placed)))
    cases = placed if len(starts) == len(placed) else placed.gather(starts)
    is_twice = np.zeros(len(placed), dtype=np.bool_)
    if len(starts) < len(placed):
        placed_repeat = repeat if order is None else repeat[order]
        is_twice[1:] = ~is_first[1:] & (np.diff(placed_repeat) == 0)
    twice = dict.fromkeys(
        (placed[int(i)], int(repeat[i if order is None else order[i]])) for i in np.flatnonzero(is_twice)
    )
    same = last is not None and len(last.case_ids) == len(cases) and last.cases.equals(cases)
    return Layout(
        ids=ids,
        repeat=repeat,
        order=order,
        starts=starts,
        cases=cases,
        case_ids=last.case_ids if same and last is not None else tuple(cases.to_list()),
        n_repeats=frozen(n_repeats.astype(np.int64)),
        twice=tuple(twice),
    )


def _repeats(rows: pl.DataFrame) -> Ints:
    if "repeat" not in rows.columns:
        return np.zeros(len(rows), dtype=np.int64)
    return rows["repeat"].fill_null(0).to_numpy().astype(np.int64, copy=False)


def _as_tuple(labels: pl.Series) -> tuple[str | None, ...]:
    """Equal labels become one string."""
    if labels.null_count() == labels.len():
        return (None,) * labels.len()
    distinct = labels.unique()
    if distinct.len() * 2 > labels.len():
        return tuple(labels.to_list())
    texts = distinct.to_list()
    codes = labels.replace_strict(distinct, range(len(texts)))
    return tuple(texts[code] for code in codes.to_list())


def _codes(labels: pl.Series) -> Ints:
    import polars as pl

    own = np.arange(labels.len(), dtype=np.int64)
    if labels.null_count() == labels.len():
        return own
    # The first case of a label stands for all of its cases.
    first = labels.to_frame("label").with_row_index("i").select(pl.col("i").first().over("label"))["i"]
    stands_for = np.where(labels.is_null().to_numpy(), own, first.to_numpy())
    codes: Ints = (np.cumsum(stands_for == own) - 1)[stands_for]
    return codes
