"""Guess what the columns of an unknown file are, so that `steelyard init` can write a study for it.

A guess is only ever written into a study.yaml that a person reads; reading cases itself guesses nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import orjson

from steelyard.cases import columns as cols
from steelyard.cases.columns import MISSING, lookup
from steelyard.cases.formats import Table, load_table
from steelyard.cases.read import SPLIT_NAMES, TIME_NAMES
from steelyard.cases.timestamps import to_utc
from steelyard.errors import InputError, Problem

Role = Literal["id", "time", "split", "segment", "cluster", "input", "expected", "other"]

MAX_LABELS: Final = 200
"""A column with more distinct values is not taken for a label."""

MAX_LABEL_CHARS: Final = 80
"""A column with a longer value is not taken for a label."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of a file and what it seems to be for."""

    name: str
    """The shortest name a study can use for it."""
    full_name: str
    """With its section in the nested layout: `input.text`."""
    role: Role
    n_filled: int
    """Rows with a value that is not blank."""
    n_distinct: int
    """Distinct values among them."""
    mean_chars: float
    """Mean length of a filled value as text."""
    label_counts: Mapping[str, int] | None
    """Rows by value, sorted by value, where the column can be a label: short text, values that recur; else None."""

    @property
    def labels(self) -> tuple[str, ...]:
        """All distinct values, sorted; empty where the column is no label."""
        return tuple(self.label_counts or ())


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """The columns of a file of cases."""

    file: str
    n_rows: int
    is_nested: bool
    """Whether rows have the form `{"id", "input": {...}, "expected": {...}, "meta": {...}}`."""
    columns: tuple[Column, ...]

    def with_role(self, role: Role) -> tuple[Column, ...]:
        """Columns of one role, likeliest first."""
        return tuple(column for column in self.columns if column.role == role)

    def column(self, name: str, *, role: Literal["input", "expected"]) -> Column:
        """The column a person named as an input or as the expected output.

        Raises:
            InputError: There is none; names the nearest.
        """
        by_full_name = {column.full_name: column for column in self.columns}
        for full_name in (name, f"{role}.{name}", f"meta.{name}"):
            if full_name in by_full_name:
                return by_full_name[full_name]
        raise InputError(cols.unknown_column(name, option=f"--{role}", file=self.file, columns=by_full_name))


def detect_layout(path: Path) -> Layout:
    """Read a file and guess the role of each column.

    Roles `id`, `time`, `split`, `segment` and `cluster` go to at most one column each. `input` and `expected` go to the
    candidates: in the nested layout all columns of these sections, else text-like columns (longest first) and
    label-like ones (by customary name, then fewest values).

    Raises:
        InputError: The file cannot be read, or some of its rows cannot; see `load_table`.
    """
    table = load_table(path)
    if table.problems:
        raise InputError(table.problems)
    if not table.rows:
        raise InputError(Problem(what="the file holds no cases", where=table.name, hint="put at least one case in it"))
    paths = cols.find_columns(table)
    measured = [_measure(full_name, table, paths) for full_name in paths]
    roles = _assign_roles(measured)
    columns = [
        Column(
            name=column.name,
            full_name=column.full_name,
            role=roles.get(column.full_name, "other"),
            n_filled=len(column.texts),
            n_distinct=len(column.counts),
            mean_chars=sum(map(len, column.texts)) / max(1, len(column.texts)),
            label_counts=dict(sorted(column.counts.items())) if column.is_label else None,
        )
        for column in measured
    ]
    return Layout(
        file=table.name,
        n_rows=len(table.rows),
        is_nested=any(len(path) > 1 and path[0] in ("input", "expected") for path in paths.values()),
        columns=tuple(sorted(columns, key=_likeliest_first)),
    )


# ---------------------------------------------------------------------------------------------------------------------
# Private
# ---------------------------------------------------------------------------------------------------------------------

_LABEL_NAMES = ("label", "category", "intent", "class", "target", "expected", "issue", "topic", "answer", "output")
_TEXT_NAMES = ("text", "message", "body", "question", "prompt", "content", "description", "narrative", "input", "query")
_SEGMENT_NAMES = ("segment", "channel", "product", "region", "country", "language", "lang", "tier", "plan", "source")
_CLUSTER_NAMES = ("cluster", "thread", "thread_id", "customer", "customer_id", "user_id", "account_id", "company")
_MOMENT_NAMES = (
    *TIME_NAMES,
    "timestamp",
    "datetime",
    "created",
    "created_at",
    "received",
    "received_at",
    "created_date",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Measured:
    name: str
    full_name: str
    section: str
    texts: list[str]
    counts: Counter[str]
    is_scalar: bool
    is_label: bool
    is_time: bool


def _measure(full_name: str, table: Table, paths: Mapping[str, cols.Path]) -> _Measured:
    path = paths[full_name]
    values = [value for row in table.rows if (value := lookup(row, path)) is not MISSING and value is not None]
    texts = [text for value in values if (text := _as_text(value))]
    counts = Counter(texts)
    is_scalar = not any(isinstance(value, (dict, list)) for value in values)
    return _Measured(
        # The bare name does where no column at the top level has it.
        name=path[-1] if len(path) > 1 and path[-1] not in paths else full_name,
        full_name=full_name,
        section=path[0] if len(path) > 1 else "",
        texts=texts,
        counts=counts,
        is_scalar=is_scalar,
        is_label=is_scalar
        and 2 <= len(counts) <= min(MAX_LABELS, len(texts) / 2)
        and max(map(len, counts)) <= MAX_LABEL_CHARS,
        is_time=is_scalar and bool(texts) and all(_is_time(text) for text in list(counts)[:200]),
    )


def _assign_roles(columns: list[_Measured]) -> dict[str, Role]:
    roles: dict[str, Role] = {}

    def give(role: Role, names: tuple[str, ...], *, fits: Any) -> None:  # noqa: ANN401 - a predicate
        for name in names:
            for column in columns:
                bare = column.full_name.rpartition(".")[2].casefold()
                is_free = column.full_name not in roles and column.section not in ("input", "expected")
                if bare == name and is_free and fits(column):
                    roles[column.full_name] = role
                    return

    give("id", ("id", "case_id", "ticket_id", "uuid", "key"), fits=lambda c: len(c.counts) == len(c.texts))
    give("time", _MOMENT_NAMES, fits=lambda c: c.is_time)
    give("split", ("split", "fold", "subset"), fits=lambda c: {t.casefold() for t in c.counts} <= set(SPLIT_NAMES))
    for column in columns:
        if column.section in ("input", "expected"):
            roles[column.full_name] = "input" if column.section == "input" else "expected"
    is_nested = "expected" in roles.values()
    give("segment", _SEGMENT_NAMES, fits=lambda c: c.is_label)
    give("cluster", _CLUSTER_NAMES, fits=lambda c: c.is_scalar and len(c.counts) > 1)
    for column in columns:
        if column.full_name in roles or is_nested or column.section == "meta":
            continue
        name = column.full_name.casefold()
        if (column.is_label and name not in _TEXT_NAMES) or name in _LABEL_NAMES:
            roles[column.full_name] = "expected"
        elif column.is_scalar and (name in _TEXT_NAMES or _mean_words(column) >= 3):
            roles[column.full_name] = "input"
    return roles


def _likeliest_first(column: Column) -> tuple[int, float]:
    name = column.name.casefold()
    if column.role == "expected":
        customary = _LABEL_NAMES.index(name) if name in _LABEL_NAMES else len(_LABEL_NAMES)
        return (customary if column.label_counts else customary + 100, column.n_distinct)
    if column.role == "input":
        return (0 if name in _TEXT_NAMES else 1, -column.mean_chars)
    return (0, 0)


def _mean_words(column: _Measured) -> float:
    return sum(len(text.split()) for text in column.texts) / max(1, len(column.texts))


def _as_text(value: object) -> str:
    return value.strip() if isinstance(value, str) else orjson.dumps(value).decode()


def _is_time(text: str) -> bool:
    try:
        to_utc(text)
    except ValueError:
        return False
    return True
