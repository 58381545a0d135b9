"""Times of cases, brought to one form that sorts as text."""

from __future__ import annotations

from datetime import UTC, datetime


def to_utc(value: object) -> str:
    """A time as `YYYY-MM-DDTHH:MM:SSZ`.

    Reads ISO dates and date-times (no zone means UTC) and seconds, milliseconds or microseconds since 1970, told apart
    by their size. Fractions of a second are dropped. Day/month orders such as 03/04/2025 are ambiguous and refused.

    Raises:
        ValueError: The value is none of these.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _format(_from_epoch(float(value)))
    text = str(value).strip()
    # Eight digits are a compact date; longer runs of digits count from 1970.
    if len(text) > 8 and text.replace(".", "", 1).isdecimal():
        return _format(_from_epoch(float(text)))
    return _format(datetime.fromisoformat(text))


def _from_epoch(number: float) -> datetime:
    size = abs(number)
    # Seconds reach 1e11 in the year 5138; milliseconds passed 1e11 in 1973 and microseconds 1e14 in the same year.
    unit = 1.0 if size < 1e11 else 1e3 if size < 1e14 else 1e6
    if size < 1e8:
        raise ValueError(f"{number!r} is too small to be a time")
    try:
        return datetime.fromtimestamp(number / unit, tz=UTC)
    except (OverflowError, OSError) as error:
        raise ValueError(f"{number!r} is no time") from error


def _format(moment: datetime) -> str:
    try:
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{moment} leaves the calendar when brought to UTC") from error
    return moment.isoformat(timespec="seconds")[:19] + "Z"
