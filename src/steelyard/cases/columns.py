"""Find the column a person means: flat columns, dotted names, and the nested input / expected / meta layout."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from steelyard.cases.formats import Row, Table
from steelyard.errors import Problem

Path = tuple[str, ...]
"""Keys from a row down to a value."""

SECTIONS = ("input", "expected", "meta")
"""Objects of the nested layout whose keys count as columns."""


class _Missing:
    """Type of `MISSING`."""


MISSING: Final = _Missing()
"""What `lookup` gives where a row has no such key; `None` is a value that the file states."""


def lookup(row: Row, path: Path) -> Any:  # noqa: ANN401 - a cell is anything
    """The value under a path, or `MISSING`."""
    value: Any = row
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return MISSING
        value = value[key]
    return value


def find_columns(table: Table) -> dict[str, Path]:
    """Every column of a table by its full name (`text`, `input.text`), in order of first appearance."""
    columns: dict[str, Path] = {}
    for row in table.rows:
        for key, value in row.items():
            if key in SECTIONS and isinstance(value, dict):
                for inner in value:
                    columns.setdefault(f"{key}.{inner}", (key, inner))
            else:
                columns.setdefault(key, (key,))
    return columns


def resolve(name: str, table: Table, columns: Mapping[str, Path], *, sections: Sequence[str]) -> Path | None:
    """The path of a column that a person named.

    Args:
        name: As given: `text`, `input.text`, or a path into any nested object (`customer.tier`).
        table: Searched for paths deeper than `columns` goes.
        columns: From `find_columns`.
        sections: Sections to search for a bare name, first match wins, after the top level.
    """
    if name in columns:
        return columns[name]
    for section in sections:
        if (path := columns.get(f"{section}.{name}")) is not None:
            return path
    path = tuple(name.split("."))
    if any(lookup(row, path) is not MISSING for row in table.rows):
        return path
    return None


def resolve_first(names: Iterable[str], columns: Mapping[str, Path]) -> str | None:
    """Full name of the first of some customary columns that exists, at the top level or in `meta`."""
    for name in names:
        for full_name in (name, f"meta.{name}"):
            if full_name in columns:
                return full_name
    return None


def unknown_column(name: str, *, option: str, file: str, columns: Iterable[str]) -> Problem:
    """The sentence for a column that is not there, with the nearest that is."""
    known = list(columns)
    by_any_name = {spelling.casefold(): full for full in reversed(known) for spelling in _spellings(full)}
    nearest = difflib.get_close_matches(name.casefold(), by_any_name, n=1, cutoff=0.6)
    meant = f"did you mean {by_any_name[nearest[0]]!r}? " if nearest else ""
    listed = ", ".join(known[:30]) + (f" and {len(known) - 30} more" if len(known) > 30 else "")
    return Problem(
        what=f"there is no column {name!r} ({option})",
        where=file,
        hint=f"{meant}columns of the file: {listed}",
    )


def _spellings(full_name: str) -> Iterator[str]:
    yield full_name
    section, dot, bare = full_name.partition(".")
    if dot and section in SECTIONS:
        yield bare
