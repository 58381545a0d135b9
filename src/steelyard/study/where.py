"""`--where COLUMN=VALUE`: only some rows of a file that holds several tasks or tables."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steelyard.cases.frames import Columns
from steelyard.errors import InputError, Problem

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """A column must hold a value."""

    column: str
    value: str
    """As it is written in a text file; numbers are compared as numbers."""

    def __str__(self) -> str:
        return f"{self.column} = {self.value}"


def conditions(written: Sequence[str]) -> tuple[Condition, ...]:
    """Conditions from `COLUMN=VALUE`.

    Raises:
        InputError: One of them is written otherwise.
    """
    found = []
    for one in written:
        column, sign, value = one.partition("=")
        if not sign or not column.strip():
            hint = "write a column, =, and the value its rows must have: --where task=prime"
            raise InputError(Problem(what=f"--where {one!r} is not COLUMN=VALUE", hint=hint))
        found.append(Condition(column=column.strip(), value=value.strip()))
    return tuple(found)


def matching(table: Columns, where: Sequence[Condition]) -> Columns:
    """The rows that meet all conditions.

    Raises:
        InputError: There is no such column, or no row has that value; lists what there is.
    """
    for condition in where:
        if condition.column not in table.frame.columns:
            there = table.frame.columns
            nearest = difflib.get_close_matches(condition.column, there, n=1)
            guess = f"did you mean {nearest[0]!r}? " if nearest else ""
            what = f"there is no column {condition.column!r} to pick rows by"
            raise InputError(Problem(where=table.name, what=what, hint=f"{guess}columns are: {', '.join(there)}"))
        cells = table.frame[condition.column]
        kept = _equal(cells, condition.value)
        if not kept.any():
            what = f"no row has {condition}" + (" and what else was asked for" if len(where) > 1 else "")
            raise InputError(
                Problem(where=f"{table.name}:{condition.column}", what=what, hint=f"values there are: {_values(cells)}")
            )
        table = table.only(kept)
    return table


# --- private ---------------------------------------------------------------------------------------------------------

_SHOWN = 20


def _equal(cells: pl.Series, value: str) -> pl.Series:
    import polars as pl

    if cells.dtype.is_numeric():
        try:
            found = cells == float(value)
        except ValueError:
            found = pl.Series([False]).new_from_index(0, cells.len())
    elif cells.dtype == pl.Boolean:
        found = (
            cells == (value.lower() in ("true", "1"))
            if value.lower() in ("true", "false", "1", "0")
            else cells & ~cells
        )
    else:
        texts = cells.cast(pl.String).str.strip_chars().fill_null("")
        found = texts == value
    return found.fill_null(value=False)


def _values(cells: pl.Series) -> str:
    distinct = cells.drop_nulls().unique(maintain_order=True)
    more = f" and {distinct.len() - _SHOWN:,} more" if distinct.len() > _SHOWN else ""
    return ", ".join(str(value) for value in distinct.head(_SHOWN)) + more
