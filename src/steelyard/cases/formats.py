"""From a file on disk to plain rows, whatever the format, with the place each row came from.

CSV (comma, semicolon or tab), JSON Lines, a JSON list and Parquet all end as the same `Table`: one dictionary a row,
the line it starts on, and every problem met on the way. Nothing here knows what a case is.

A file that cannot be read at all (missing, wrong encoding, not text) raises at once; a file with bad rows gives the
good rows and a `Problem` for each bad one, so that a person mends the whole file in one go.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson

from steelyard.cases.parquet import plain, read_parquet
from steelyard.errors import InputError, Problem

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """The rows of a file, as they stand in it."""

    name: str
    """File name, as messages name it."""
    rows: list[Row]
    lines: list[int]
    """For each row the physical line it starts on, from 1; in Parquet the row number."""
    problems: list[Problem]
    """Rows that could not be read; they are not in `rows`."""
    is_text_only: bool
    """True for CSV, where every value is text and a blank cell means that there is none."""

    def where(self, index: int, field: str | None = None) -> str:
        """`file:line` or `file:line:field` of one row."""
        place = f"{self.name}:{self.lines[index]}"
        return f"{place}:{field}" if field else place


def load_table(path: Path, *, of: str = "cases") -> Table:
    """Read a CSV, JSONL, JSON or Parquet file.

    Args:
        path: The file; its suffix says the format.
        of: What its rows are, for messages.

    Raises:
        InputError: The file is missing, a folder, empty, of an unknown format, not UTF-8, or damaged as a whole.
    """
    kind = format_of(check_file(path, of=of))
    problems: list[Problem] = []
    if kind == "parquet":
        named = read_parquet(path).iter_rows(named=True)
        found = [({key: plain(cell) for key, cell in row.items()}, number) for number, row in enumerate(named, 1)]
    elif kind == "csv":
        header, cells = csv_rows(path.name, read_content(path, of=of), problems)
        found = [(dict(zip(header, row, strict=True)), line) for row, line in cells]
    else:
        found = list(json_rows(path.name, read_content(path, of=of), problems))
    return Table(
        name=path.name,
        rows=[row for row, _ in found],
        lines=[line for _, line in found],
        problems=problems,
        is_text_only=kind == "csv",
    )


def format_of(path: Path) -> Literal["csv", "json", "parquet"]:
    """What the suffix says.

    Raises:
        InputError: It says nothing known.
    """
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise InputError(Problem(what=f"{path.name!r} has no known format", where=path.name, hint=_FORMATS_HINT))
    return kind


def check_file(path: Path, *, of: str = "cases") -> Path:
    """The same path, of a file that is there, not empty and of a known format; errors as for `load_table`."""
    if path.is_dir():
        raise InputError(Problem(what=f"{str(path)!r} is a folder, not a file of {of}", hint=_FORMATS_HINT))
    if not path.exists():
        raise InputError(Problem(what=f"the file of {of} {str(path)!r} does not exist", hint=_missing_hint(path, of)))
    format_of(path)
    if path.stat().st_size == 0:
        raise InputError(Problem(what="the file is empty", where=path.name, hint=f"put {of} in it"))
    return path


def read_content(path: Path, *, of: str = "cases") -> bytes:
    """The bytes of a file; errors as for `load_table`."""
    try:
        content = check_file(path, of=of).read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(Problem(what=f"the file of {of} {str(path)!r} cannot be read: {reason}")) from error
    if content.isspace():
        raise InputError(Problem(what="the file is empty", where=path.name, hint=f"put {of} in it"))
    return content


# --- Text: encoding, and what is not text at all ---------------------------------------------------------------------

_FORMATS: dict[str, Literal["csv", "json", "parquet"]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_FORMATS_HINT = "give a .csv, .tsv, .jsonl, .json or .parquet file"

_SIGNATURES = (
    (b"PK\x03\x04", "an Excel workbook or a zip archive", "export the sheet as CSV (UTF-8)"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file", "export the sheet as CSV (UTF-8)"),
    (b"%PDF", "a PDF document", _FORMATS_HINT),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"PAR1", "a Parquet file", "rename it to end in .parquet"),
    (b"SQLite format 3\x00", "an SQLite database", "export the table as CSV (UTF-8)"),
)

# What no text file holds, in any encoding this program reads: control characters other than tab, line ends, form feed.
_BLOCK = 1 << 20
_CONTROL_BYTES = bytes(set(range(32)) - {0x09, 0x0A, 0x0C, 0x0D, 0x1B})


def _missing_hint(path: Path, of: str) -> str:
    if not path.parent.is_dir():
        return f"the folder {str(path.parent)!r} does not exist either"
    similar = sorted(other.name for other in path.parent.iterdir() if other.suffix.lower() in _FORMATS)
    return f"files of {of} beside it: {', '.join(similar[:8])}" if similar else _FORMATS_HINT


def check_text(name: str, content: bytes) -> None:
    """Raises, with a guess at what the file is, where it is not text in UTF-8."""
    for signature, kind, hint in _SIGNATURES:
        if content.startswith(signature):
            raise InputError(Problem(what=f"the file is {kind}, not text", where=name, hint=hint))
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(Problem(what="the file looks like UTF-16", where=name, hint="re-save it as UTF-8"))
    # Binary is told by its control characters, because stray bytes above 0x7f are far more often Latin text.
    head = content[:65_536]
    n_control = len(head) - len(head.translate(None, _CONTROL_BYTES))
    if n_control > len(head) * 0.02:
        raise InputError(
            Problem(what="the file is binary, not text", where=name, hint="export it again, as text in UTF-8")
        )
    decoder = codecs.getincrementaldecoder("utf-8")()
    done = 0
    try:
        for start in range(0, len(content), _BLOCK):  # never the whole text at once beside its bytes
            pending = len(decoder.getstate()[0])
            done = start - pending
            decoder.decode(content[start : start + _BLOCK], final=start + _BLOCK >= len(content))
    except UnicodeDecodeError as error:
        offset = done + error.start
        line = content.count(b"\n", 0, offset) + 1
        raise InputError(
            Problem(
                what=f"byte {offset} (0x{content[offset]:02x}) is not UTF-8; {_guess_encoding(content)}",
                where=f"{name}:{line}",
                hint="re-save the file as UTF-8",
            )
        ) from error


def _guess_encoding(content: bytes) -> str:
    try:
        content.decode("cp1252")
    except UnicodeDecodeError:
        return "its encoding is not one this program can name"
    return "the file looks like cp1252 (Windows, Western European)"


# --- CSV -------------------------------------------------------------------------------------------------------------

_DELIMITERS = (",", ";", "\t")


def csv_rows(name: str, content: bytes, problems: list[Problem]) -> tuple[list[str], Iterator[tuple[list[str], int]]]:
    """Header, and the cells of each row with the line it starts on; a row that cannot be read goes to `problems`.

    Raises:
        InputError: This is not text in UTF-8, or the header names a column twice.
    """
    check_text(name, content)
    delimiter = sniff_delimiter(content)
    records = _records(content, delimiter)
    first = next(record for record in records if record.cells or record.damage is not None)
    if first.damage is not None:
        problems.append(_broken(name, first))
        return [], iter(())
    header = csv_header(name, first.line, first.cells)
    return header, _full_rows(name, records, header, delimiter, problems)


def _full_rows(
    name: str, records: Iterator[_Record], header: list[str], delimiter: str, problems: list[Problem]
) -> Iterator[tuple[list[str], int]]:
    for record in records:
        cells, line, damage = record
        if damage is not None:
            problems.append(_broken(name, record))
        elif len(cells) == len(header):
            yield cells, line
        elif cells:
            is_longer = len(cells) > len(header)
            n_cells = f"{len(cells)} cell{'' if len(cells) == 1 else 's'}"
            what = f"the row has {n_cells}, {'more' if is_longer else 'fewer'} than the {len(header)} columns of the header"
            hint = f"put double quotes around a text that holds {_delimiter_name(delimiter)} or a line break"
            problems.append(Problem(what=what, where=f"{name}:{line}", hint=hint))


def _broken(name: str, record: _Record) -> Problem:
    hint = 'close every quoted cell with a double quote, and write a quote inside one as ""'
    return Problem(what=f"the CSV breaks here: {record.damage}", where=f"{name}:{record.line}", hint=hint)


class _Record(NamedTuple):
    cells: list[str]
    line: int
    damage: str | None


def _records(content: bytes, delimiter: str) -> Iterator[_Record]:
    """Every CSV record with the line it starts on; the first damaged one ends the file."""
    with _unlimited_field_size():
        # newline="" keeps line breaks inside quoted cells as they are.
        text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        while True:
            start = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield _Record([], start, str(error))
                return
            yield _Record(cells, start, None)


@contextmanager
def _unlimited_field_size() -> Iterator[None]:
    """Let long cells through: a cell over `max_chars` is reported with its field, which the csv module cannot do."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def sniff_delimiter(content: bytes) -> str:
    """The delimiter that cuts the header into most cells; a tie, as in a one-column file, goes to the comma."""

    def n_header_cells(delimiter: str) -> int:
        return next((len(record.cells) for record in _records(content, delimiter) if record.cells), 0)

    return max(_DELIMITERS, key=n_header_cells)


def _delimiter_name(delimiter: str) -> str:
    return {",": "a comma", ";": "a semicolon", "\t": "a tab"}[delimiter]


def csv_header(name: str, line: int, cells: list[str]) -> list[str]:
    """Column names, blank ones numbered; raises where one stands there twice."""
    header = [cell.strip() or f"column {position}" for position, cell in enumerate(cells, 1)]
    repeated = sorted({cell for cell in header if header.count(cell) > 1})
    if repeated:
        hint = "give every column its own name"
        raise InputError(
            Problem(what=f"the header names {it!r} {header.count(it)} times", where=f"{name}:{line}:{it}", hint=hint)
            for it in repeated
        )
    return header


# --- JSON Lines and JSON lists ---------------------------------------------------------------------------------------

_SPACE = re.compile(r"[ \t\r\n]*")


def json_rows(name: str, content: bytes, problems: list[Problem]) -> Iterator[tuple[Row, int]]:
    """Objects with the line each starts on; a row that is none goes to `problems`.

    Either kind under either suffix: a list starts with a bracket, and no line of JSON Lines with an object does.

    Raises:
        InputError: This is not text in UTF-8.
    """
    check_text(name, content)
    body = content.removeprefix(b"\xef\xbb\xbf")
    is_list = body[:65_536].lstrip().startswith(b"[")
    items = _list_items(body.decode()) if is_list else _line_items(body)
    for value, line, damage in items:
        if damage is not None:
            hint = "write one JSON object a line" if name.lower().endswith("l") else None
            problems.append(Problem(what=f"not valid JSON: {damage}", where=f"{name}:{line}", hint=hint))
        elif not isinstance(value, dict):
            what = f"the row is a JSON {_json_kind(value)}, not an object"
            problems.append(Problem(what=what, where=f"{name}:{line}", hint='write each case as {"field": value, ...}'))
        else:
            yield value, line


class _Item(NamedTuple):
    value: Any
    line: int
    damage: str | None


def _line_items(content: bytes) -> Iterator[_Item]:
    # Only \n ends a line: str.splitlines would also cut at separators that JSON allows inside strings.
    for number, line in enumerate(io.BytesIO(content), 1):
        if line.isspace():
            continue
        try:
            yield _Item(orjson.loads(line), number, None)
        except orjson.JSONDecodeError as error:
            yield _Item(None, number, f"{error.msg} at character {error.colno}")


def _list_items(text: str) -> Iterator[_Item]:
    """The items of a JSON list one by one, because only so the line of each is known."""
    decoder = json.JSONDecoder()
    line, counted = 1, 0
    position = _skip_space(text, text.index("[") + 1)
    if text.startswith("]", position):
        return
    while True:
        line, counted = line + text.count("\n", counted, position), position
        try:
            _, end = decoder.raw_decode(text, position)
            yield _Item(orjson.loads(text[position:end]), line, None)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            at = line + text.count("\n", position, getattr(error, "pos", position))
            yield _Item(None, at, reason)
            return
        position = _skip_space(text, end)
        if text.startswith("]", position):
            return
        if not text.startswith(",", position):
            yield _Item(None, line + text.count("\n", counted, position), "a comma or the closing bracket is missing")
            return
        position = _skip_space(text, position + 1)


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _json_kind(value: object) -> str:
    return {str: "string", bool: "boolean", int: "number", float: "number", list: "list"}.get(type(value), "null")
