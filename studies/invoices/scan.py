"""What a scanner and a text recogniser do to a page, and no more than a careful reader can undo.

Digits become letters that look like them, `m` becomes `rn`, spaces come and go, separators of thousands get lost. A
digit never becomes another digit and nothing is left out, so that the truth stays in the text.
"""

from __future__ import annotations

import re
import unicodedata
from random import Random

_DIGITS = {"0": "O", "1": "l", "5": "S", "8": "B"}
_LETTERS = {"m": "rn", "l": "1", "o": "0", "I": "l"}


def scanned(text: str, vendor: str, thousands: str, rng: Random) -> str:
    """The text as a recogniser gives it back.

    Args:
        text: A laid-out invoice.
        vendor: Its vendor's name; in most scans the first place that has it stays clean.
        thousands: The vendor's separator, which can get lost.
        rng: Where the noise comes from.
    """
    level = rng.choice((0.5, 1.0, 1.0, 1.6))
    keeps_columns = rng.random() < 0.5
    is_named = rng.random() < 0.4
    lines = []
    for line in text.split("\n"):
        if not is_named and vendor in line:
            is_named = True
            lines.append(line)
            continue
        spoilt = re.sub(r"\S+", lambda match: _spoil(match[0], thousands, level, rng), line)
        if not keeps_columns:
            spoilt = re.sub(r" {3,}", lambda _: " " * rng.choice((2, 2, 3, 4)), spoilt)
        if rng.random() < 0.05 * level:
            # Two words run into each other.
            spoilt = re.sub(r"(?<=[a-z]) (?=[a-zA-Z]{3})", "", spoilt, count=1)
        if rng.random() < 0.02 * level:
            spoilt += rng.choice((" .", " '", " ,", " ~"))
        lines.append(spoilt)
    return "\n".join(lines)


def readable(text: str) -> str:
    """The text with all that `scanned` may have changed made alike: what a careful reader compares by."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    letters = "".join(c for c in decomposed if c.isalnum())
    return letters.replace("m", "rn").translate(str.maketrans("01i58", "ollsb"))


# --- private ----------------------------------------------------------------------------------------------------


def _spoil(token: str, thousands: str, level: float, rng: Random) -> str:
    if any(c.isdigit() for c in token):
        return _spoil_number(token, thousands, rng) if rng.random() < 0.09 * level else token
    return _spoil_word(token, rng) if len(token) > 2 and rng.random() < 0.06 * level else token


def _spoil_number(token: str, thousands: str, rng: Random) -> str:
    if thousands.strip() and re.fullmatch(rf"\D?\d{{1,3}}{re.escape(thousands)}\d{{3}}\D\d\d", token):
        return token.replace(thousands, "", 1)
    if re.fullmatch(r"\d+[.,]\d\d", token) and rng.random() < 0.3:
        return f"{token[:-3]} {token[-3:]}"
    places = [k for k, c in enumerate(token) if c in "01" or (c in "58" and rng.random() < 0.3)]
    # A letter beside a letter could be one of the number's own.
    places = [k for k in places if not any(c.isalpha() for c in token[max(0, k - 1) : k + 2])]
    if not places:
        return token
    at = rng.choice(places)
    return token[:at] + _DIGITS[token[at]] + token[at + 1 :]


def _spoil_word(token: str, rng: Random) -> str:
    kind = rng.random()
    if kind < 0.2 and len(token) > 6 and token.isalpha():
        at = rng.randrange(3, len(token) - 2)
        return f"{token[:at]} {token[at:]}"
    places = [k for k, c in enumerate(token) if c in _LETTERS]
    if not places:
        return token
    at = rng.choice(places)
    return token[:at] + _LETTERS[token[at]] + token[at + 1 :]
