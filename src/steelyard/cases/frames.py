"""From a file on disk to columns, whatever the format: what `steelyard.cases.formats` does, for millions of rows.

Text stays text, numbers stay numbers; what a column means is for the caller to say. Cells that fit no column (a list,
an object, a truth value among numbers) are kept apart, so that they can be named in a message and never pass for
something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from steelyard.cases.formats import (
    Row,
    check_file,
    check_text,
    csv_header,
    csv_rows,
    format_of,
    json_rows,
    read_content,
    sniff_delimiter,
)
from steelyard.cases.parquet import read_parquet
from steelyard.errors import Problem

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

CHUNK = 50_000
"""Rows turned into columns at a time, so that never all of them are Python objects."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """The columns of a file, as they stand in it."""

    name: str
    """File name, as messages name it."""
    frame: pl.DataFrame
    """Columns of text, numbers or truth values, in order of first appearance; null where there is nothing."""
    lines: NDArray[np.int64]
    """For each row the physical line it starts on, from 1; in Parquet the row number."""
    problems: list[Problem]
    """Rows that could not be read; they are not in `frame`."""
    odd: Mapping[str, Mapping[int, object]] = field(default_factory=dict)
    """By column and row, the cells that are not in `frame` because they are of another kind than their column."""

    def where(self, index: int, column: str | None = None) -> str:
        """`file:line` or `file:line:column` of one row."""
        place = f"{self.name}:{self.lines[index]}"
        return f"{place}:{column}" if column else place

    def only(self, kept: pl.Series) -> Columns:
        """The rows where `kept` is true."""
        places = {int(old): new for new, old in enumerate(kept.arg_true())} if self.odd else {}
        odd = {
            column: {places[index]: cell for index, cell in cells.items() if index in places}
            for column, cells in self.odd.items()
        }
        return Columns(
            name=self.name,
            frame=self.frame.filter(kept),
            lines=self.lines[kept.to_numpy()],
            problems=self.problems,
            odd={column: cells for column, cells in odd.items() if cells},
        )


def load_columns(path: Path, *, of: str = "outcomes") -> Columns:
    """Read a CSV, JSONL, JSON or Parquet file; arguments and errors as for `formats.load_table`."""
    kind = format_of(check_file(path, of=of))
    if kind == "parquet":
        return _from_parquet(path)
    content = read_content(path, of=of)
    return _from_csv(path.name, content) if kind == "csv" else _from_json(path.name, content)


# --- private ---------------------------------------------------------------------------------------------------------


def _from_csv(name: str, content: bytes) -> Columns:
    import polars as pl

    plain = _plain_csv(name, content)
    if plain is not None:
        return plain
    problems: list[Problem] = []
    header, rows = csv_rows(name, content, problems)
    chunks, lines = [], []
    while chunk := list(islice(rows, CHUNK)):
        columns = zip(*(cells for cells, _ in chunk), strict=True)
        chunks.append(pl.DataFrame([pl.Series(column, cells) for column, cells in zip(header, columns, strict=True)]))
        lines.append(np.array([line for _, line in chunk], dtype=np.int64))
    frame = pl.concat(chunks) if chunks else pl.DataFrame(schema=dict.fromkeys(header, pl.String))
    return Columns(name=name, frame=frame, lines=_joined(lines), problems=problems)


def _plain_csv(name: str, content: bytes) -> Columns | None:
    """Cut the text at delimiters and line ends alone, in parallel; `None` where that would not be right.

    It is right when nothing is quoted, no line is empty, and every line has as many cells as the header.
    """
    import polars as pl

    check_text(name, content)
    content = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    if any(found in content for found in (b'"', b"\r", b"\n\n")) or content.startswith(b"\n"):
        return None
    delimiter = sniff_delimiter(content)
    n_lines = content.count(b"\n") + (not content.endswith(b"\n"))
    header = csv_header(name, 1, content.split(b"\n", 1)[0].decode().split(delimiter))
    if n_lines < 2 or len(header) < 2 or content.count(delimiter.encode()) != n_lines * (len(header) - 1):
        return None
    try:
        frame = pl.read_csv(
            content, separator=delimiter, quote_char=None, infer_schema=False, has_header=False, skip_rows=1,
            new_columns=header,
        )  # fmt: skip
    except pl.exceptions.PolarsError:
        return None  # some line has more cells, and another one fewer
    if frame.shape != (n_lines - 1, len(header)):
        return None
    return Columns(name=name, frame=frame, lines=np.arange(2, n_lines + 1, dtype=np.int64), problems=[])


def _from_json(name: str, content: bytes) -> Columns:
    problems: list[Problem] = []
    return _from_rows(name, json_rows(name, content, problems), problems)


def _from_rows(name: str, rows: Iterator[tuple[Row, int]], problems: list[Problem]) -> Columns:
    """Columns of rows that need not have the same keys."""
    import polars as pl

    parts: dict[str, list[pl.Series]] = {}
    odd: dict[str, dict[int, object]] = {}
    lines = []
    start = 0
    while chunk := list(islice(rows, CHUNK)):
        present = dict.fromkeys(key for row, _ in chunk for key in row)
        for key in present:
            if key not in parts:
                parts[key] = [pl.Series([None], dtype=pl.Null).new_from_index(0, start)] if start else []
        for key, made in parts.items():
            series, strange = _series([row.get(key) for row, _ in chunk])
            made.append(series)
            if strange:
                odd.setdefault(key, {}).update((start + index, cell) for index, cell in strange.items())
        lines.append(np.array([line for _, line in chunk], dtype=np.int64))
        start += len(chunk)
    frame = pl.DataFrame({key: _one_kind(key, made, odd) for key, made in parts.items()})
    return Columns(name=name, frame=frame, lines=_joined(lines), problems=problems, odd=odd)


def _series(cells: list[Any]) -> tuple[pl.Series, dict[int, object]]:
    """Cells of one column as they come from JSON, and those apart that are neither text nor a number."""
    import polars as pl

    kinds = set(map(type, cells)) - {type(None)}
    for fitting, dtype in (({bool}, pl.Boolean), ({int}, pl.Int64), ({int, float}, pl.Float64), ({str}, pl.String)):
        if kinds <= fitting:
            try:
                return pl.Series(cells, dtype=dtype), {}
            except (OverflowError, TypeError):  # a whole number beyond 64 bits
                break
    plain = [cell if isinstance(cell, str) else str(cell) if type(cell) in (int, float) else None for cell in cells]
    return pl.Series(plain, dtype=pl.String), {
        index: cell
        for index, (cell, text) in enumerate(zip(cells, plain, strict=True))
        if text is None and cell is not None
    }


def _one_kind(key: str, parts: list[pl.Series], odd: dict[str, dict[int, object]]) -> pl.Series:
    """Parts of one column, each of its own kind, as one."""
    import polars as pl

    kinds = {part.dtype for part in parts if part.null_count() < part.len()}
    if len(kinds) <= 1:
        kind = next(iter(kinds), pl.String())
    else:
        kind = pl.Float64() if kinds <= {pl.Int64, pl.Float64} else pl.String()
    joined, start = [], 0
    for part in parts:
        if part.dtype == pl.Boolean and kind != pl.Boolean:
            for index in part.is_not_null().arg_true():
                odd.setdefault(key, {})[start + index] = part[index]
            part = pl.Series([None], dtype=kind).new_from_index(0, part.len())
        joined.append(part.cast(kind))
        start += part.len()
    return pl.concat(joined)


def _from_parquet(path: Path) -> Columns:
    import polars as pl

    frame = read_parquet(path)
    odd: dict[str, dict[int, object]] = {}
    columns = []
    for series in frame:
        plain = _plain(series)
        if plain is None:
            odd[series.name] = {index: cell for index, cell in enumerate(series.to_list()) if cell is not None}
            plain = pl.Series(series.name, [None], dtype=pl.String).new_from_index(0, series.len())
        columns.append(plain)
    lines = np.arange(1, frame.height + 1, dtype=np.int64)
    return Columns(name=path.name, frame=pl.DataFrame(columns), lines=lines, problems=[], odd=odd)


def _plain(series: pl.Series) -> pl.Series | None:
    """A Parquet column as text, numbers or truth values; `None` where it holds neither."""
    import polars as pl

    kind = series.dtype
    if (kind.is_numeric() and not kind.is_decimal()) or kind in (pl.String, pl.Boolean):
        return series
    if isinstance(kind, pl.Duration):
        return series.dt.total_microseconds() / 1e6
    if kind.is_temporal():
        return series.dt.to_string("iso:strict") if isinstance(kind, pl.Datetime) else series.dt.to_string("iso")
    if kind.is_decimal() or kind == pl.Null:
        return series.cast(pl.Float64)
    if isinstance(kind, pl.Categorical | pl.Enum):
        return series.cast(pl.String)
    if kind == pl.Binary:
        return pl.Series(series.name, [None if cell is None else cell.decode("utf-8", "replace") for cell in series])
    return None


def _joined(lines: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, dtype=np.int64), *lines])
