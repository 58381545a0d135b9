"""Numbers, amounts and days as people and models write them."""

from __future__ import annotations

import math
import re
from datetime import date, datetime

_PLAIN_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_DIGITS = re.compile(r"\d[\d.,'’\u00a0\u202f ]*")
_WORDS = re.compile(r"[^\W\d_]+")
_SIGNS = re.compile(r"[$€£¥]")
_MAX_WORD = 6
_MAX_CHARS = 200
"""A longer text is no amount and no date."""


def plain_number(value: object) -> float | None:
    """A number, or text that is written as a program writes one; `None` for anything else, infinities included.

    >>> plain_number("12.50"), plain_number("1,5"), plain_number(True)
    (12.5, None, None)
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        if not _PLAIN_NUMBER.fullmatch(value.strip()):
            return None
    elif not isinstance(value, int | float):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def amount(value: object) -> float | None:
    """An amount of money or another number, with currency signs and the separators of any country.

    Of two kinds of separator the last one is the decimal one. A single separator is a thousands one when exactly three
    digits follow it and it is a comma, an apostrophe or a space, or occurs more than once; so `1.234` is a little over
    one, as a program would read it. A minus on either side or brackets make it negative.

    >>> amount("1.234,56 €"), amount("$1,234.56"), amount("1 234,5"), amount("(12.00)"), amount("12,50-")
    (1234.56, 1234.56, 1234.5, -12.0, -12.5)
    >>> amount("R$ 5,00"), amount("RM 9.00"), amount("A-7")
    (5.0, 9.0, None)
    >>> amount("1,234"), amount("1.234.567"), amount("CHF 1'250.-"), amount("12 or 13")
    (1234.0, 1234567.0, 1250.0, None)
    """
    number = plain_number(value)
    if number is not None or not isinstance(value, str):
        return number
    text = value.strip().replace("\u2212", "-").replace("\u2013", "-")
    found = _DIGITS.findall(text) if len(text) <= _MAX_CHARS else []
    if len(found) != 1:
        return None
    digits = re.sub(r"[\s'’\u00a0\u202f]", "", found[0].rstrip(" .,'’\u00a0\u202f"))
    before, after = text.split(found[0], 1)
    # Besides the digits a currency or a unit may stand there, but A-7 is a number of another kind.
    words = _WORDS.findall(before + after)
    if len(words) > 1 or (words and not 2 <= len(words[0]) <= _MAX_WORD and not _SIGNS.search(text)):
        return None
    # 1'250.- is a Swiss way to write no cents, not a minus.
    is_negative = "-" in before or ("-" in after and not found[0].endswith(".")) or ("(" in before and ")" in after)
    written = _with_point(digits)
    if not _PLAIN_NUMBER.fullmatch(written):  # both kinds of separator more than once
        return None
    return -float(written) if is_negative else float(written)


def day(value: object, *, day_first: bool = True) -> date | None:
    """The day a text names, in the ways dates are commonly written; `None` when it names none or more than one could be meant.

    Args:
        value: Text.
        day_first: Whether 03/04/2026 is the third of April; ISO dates do not depend on it.

    >>> day("2026-04-03"), day("3 April 2026"), day("03/04/26", day_first=False)
    (datetime.date(2026, 4, 3), datetime.date(2026, 4, 3), datetime.date(2026, 3, 4))
    """
    if not isinstance(value, str) or not 6 <= len(value.strip()) <= _MAX_CHARS or not re.search(r"\d", value):
        return None
    text = value.strip()
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        pass
    from dateutil import parser

    try:
        # Two defaults: what the text leaves out differs between them, and half a date is none.
        found = {parser.parse(text, dayfirst=day_first, default=default).date() for default in _DEFAULTS}
    except (ValueError, OverflowError, TypeError):
        return None
    return found.pop() if len(found) == 1 else None


# ---- private --------------------------------------------------------------------------------------------------------


_DEFAULTS = (datetime(1999, 1, 1), datetime(2004, 12, 31))


def _with_point(digits: str) -> str:
    """Digits with separators as a program writes them."""
    last = max(digits.rfind("."), digits.rfind(","))
    if last < 0:
        return digits
    separator, other = digits[last], "," if digits[last] == "." else "."
    is_thousands = digits.count(separator) > 1 or (
        separator == "," and other not in digits and len(digits) - last - 1 == 3
    )
    if is_thousands:
        return digits.replace(separator, "").replace(other, ".")
    return digits.replace(other, "").replace(separator, ".")
