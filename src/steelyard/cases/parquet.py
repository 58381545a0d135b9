"""Parquet files, and their cells as JSON could hold them."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steelyard.errors import InputError, Problem

if TYPE_CHECKING:
    import polars


def read_parquet(path: Path) -> polars.DataFrame:
    """The columns of a Parquet file.

    Raises:
        InputError: It is none, or damaged.
    """
    import polars as pl

    try:
        return pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(
            Problem(
                what="the file is not a readable Parquet file", where=path.name, hint="write it again, or export as CSV"
            )
        ) from error


def plain(value: Any) -> Any:  # noqa: ANN401 - a Parquet cell is anything
    """The value as JSON could hold it, so that cases from every format are alike."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return value
