"""The columns that a file of outcomes may have, and what counts as a value in each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steelyard.cases.timestamps import to_utc
from steelyard.engine.outcome import OutcomeStatus
from steelyard.measure.scoring import LADDER, in_ladder_order

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column, and how its cells are read."""

    name: str
    expected: str
    """What a cell must be, for messages."""
    read: Callable[[pl.Series], pl.Series]
    """The values of cells that are not blank (text is stripped); null where a cell is not as expected."""
    is_required: bool = False
    alias: str | None = None
    """Another name for it."""
    plain: Callable[[object], str | None] = lambda cell: None
    """A truth value, a list or an object among other cells as text that can be read, or `None`."""

    def found_in(self, present: list[str]) -> str | None:
        """How the file spells this column."""
        return next((name for name in (self.name, self.alias) if name in present), None)


def read_column(
    column: Column, cells: pl.Series, odd: Mapping[int, object]
) -> tuple[pl.Series, NDArray[np.uint32], NDArray[np.uint32]]:
    """Values of a column.

    Args:
        column: What is expected.
        cells: As they stand in the file.
        odd: By row, cells of another kind, null in `cells`.

    Returns:
        Values (null where blank or wrong), the rows that are blank, and those that are wrong.
    """
    import polars as pl

    if cells.dtype == pl.String:
        cells = cells.str.strip_chars()
        cells = cells.set(cells == "", None)
    elif cells.dtype.is_float():
        cells = cells.fill_nan(None)
    is_blank = cells.is_null()
    if odd:
        places = list(odd)
        is_blank = is_blank.scatter(places, values=False)
        cells = cells.cast(pl.String).scatter(places, [column.plain(cell) for cell in odd.values()])
    values = column.read(cells)
    wrong = ~is_blank & values.is_null()
    return values, is_blank.arg_true().to_numpy(), wrong.arg_true().to_numpy()


# --- private ---------------------------------------------------------------------------------------------------------


def _number(
    *, low: float | None = None, high: float | None = None, is_whole: bool = False, takes_words: bool = False
) -> Callable[[pl.Series], pl.Series]:
    """A reader of finite numbers within bounds; with `takes_words` also true and false."""

    def read(cells: pl.Series) -> pl.Series:
        import polars as pl

        if cells.dtype == pl.Boolean and not takes_words:
            return _nothing(cells, pl.Float64())
        if cells.dtype == pl.String and takes_words:
            cells = cells.str.to_lowercase().replace(["true", "false"], ["1", "0"])
        numbers = cells.cast(pl.Float64, strict=False)
        fits = numbers.is_finite()
        if low is not None:
            fits &= numbers >= low
        if high is not None:
            fits &= numbers <= high
        if is_whole:
            fits &= numbers == numbers.floor()
        if not fits.all():
            numbers = numbers.set(~fits, None)
        # Small types where they hold everything: a million cases should fit into memory many times over.
        return numbers.cast(pl.Int8) if is_whole and high == 1 else numbers

    return read


def _text(cells: pl.Series) -> pl.Series:
    import polars as pl

    return _nothing(cells, pl.String()) if cells.dtype == pl.Boolean else cells.cast(pl.String)


def _category(cells: pl.Series) -> pl.Series:
    """Text of which there are few, held as codes."""
    import polars as pl

    texts = _text(cells)
    distinct = texts.drop_nulls().unique(maintain_order=True)
    return texts.cast(pl.Enum(distinct)) if distinct.len() <= 10_000 else texts


def _each_distinct(read: Callable[[object], str]) -> Callable[[pl.Series], pl.Series]:
    """A reader that looks at every distinct cell once; `read` raises `ValueError` where one is not as expected."""

    def read_all(cells: pl.Series) -> pl.Series:
        import polars as pl

        if cells.dtype == pl.Boolean:
            return _nothing(cells, pl.String())
        distinct = cells.drop_nulls().unique()
        return cells.replace_strict(distinct, [_or_none(read, cell) for cell in distinct], return_dtype=pl.String)

    return read_all


def _or_none(read: Callable[[object], str], cell: object) -> str | None:
    try:
        return read(cell)
    except (ValueError, OverflowError):
        return None


def _nothing(cells: pl.Series, kind: pl.DataType) -> pl.Series:
    import polars as pl

    return pl.Series(cells.name, [None], dtype=kind).new_from_index(0, cells.len())


def _status(cell: object) -> str:
    return str(OutcomeStatus(str(cell).lower()))


def _pulled(cell: object) -> str:
    return "+".join(in_ladder_order(part.strip().lower() for part in str(cell).replace(",", "+").split("+")))


def _joined(cell: object) -> str | None:
    return "+".join(map(str, cell)) if isinstance(cell, list) else None


def _word(cell: object) -> str | None:
    return str(cell).lower() if isinstance(cell, bool) else None


_FLAG, _SHARE, _AMOUNT = "1 or 0 (true or false)", "a number from 0 to 1 (or true or false)", "a number from 0 to 1e12"
_COUNT, _NAME = "a whole number from 0 to 1e12", "a name"
_flag = _number(low=0, high=1, is_whole=True, takes_words=True)
_share = _number(low=0, high=1, takes_words=True)
# The bound keeps sums of sums finite; nothing a task takes comes near it.
_amount = _number(low=0, high=1e12)
_count = _number(low=0, high=1e12, is_whole=True)

COLUMNS = (
    Column(name="approach", alias="system", read=_category, expected=_NAME, is_required=True),
    Column(name="case_id", read=_text, expected=_NAME, is_required=True),
    Column(name="success", read=_flag, plain=_word, expected=_FLAG),
    Column(name="score", read=_number(low=-1e12, high=1e12), expected="a number from -1e12 to 1e12"),
    Column(name="status", read=_each_distinct(_status), expected=f"one of: {', '.join(OutcomeStatus)}"),
    Column(name="repeat", alias="trial", read=_count, expected=_COUNT),
    Column(name="schema_pass", read=_flag, plain=_word, expected=_FLAG),
    Column(name="retried", read=_flag, plain=_word, expected=_FLAG),
    Column(name="extra_calls", read=_count, expected=_COUNT),
    Column(name="cost_usd", read=_amount, expected=_AMOUNT),
    Column(name="latency_s", read=_amount, expected=_AMOUNT),
    Column(name="prompt_tokens", read=_amount, expected=_AMOUNT),
    Column(name="completion_tokens", read=_amount, expected=_AMOUNT),
    Column(name="cached_tokens", read=_amount, expected=_AMOUNT),
    Column(name="review_seconds", read=_amount, expected=_AMOUNT),
    Column(name="corrected", read=_flag, plain=_word, expected=_FLAG),
    Column(name="judge", read=_share, plain=_word, expected=_SHARE),
    Column(name="judge_cost_usd", read=_amount, expected=_AMOUNT),
    Column(name="cluster", read=_text, expected=_NAME),
    Column(name="segment", read=_category, expected=_NAME),
    Column(name="time", read=_each_distinct(to_utc), expected="a date or time such as 2026-03-31"),
    Column(
        name="levers",
        read=_each_distinct(_pulled),
        plain=_joined,
        expected=f"levers joined by +, of: {', '.join(LADDER)}",
    ),
)
"""What a file of outcomes may say; any other column is not used."""
