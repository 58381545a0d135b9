"""When two JSON values count as the same, strictly and after folding what people write differently."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from functools import lru_cache

from steelyard.task.values import plain_number


@lru_cache(maxsize=4096)
def fold_text(text: str) -> str:
    """Text without what people write differently: NFKC, case folded, punctuation as a space, runs of space as one.

    Symbols stay, because `$5` is not `€5`. Text of nothing but punctuation stays as it is.

    >>> fold_text("  Card_Lost, abroad! ")
    'card lost abroad'
    """
    # NFKC both before and after casefold: each can undo the other's work (Unicode 3.13, D146).
    unified = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    # Unicode counts the backtick as a symbol; in answers of models it is a quote.
    spaced = "".join(" " if c == "`" or unicodedata.category(c)[0] == "P" else c for c in unified)
    return " ".join(spaced.split()) or " ".join(unified.split())


def same(left: object, right: object) -> bool:
    """Equality in value and kind: `1` equals `1.0`, never `"1"` or `true`."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return left == right
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return type(left) is type(right) and bool(left == right)


def same_folded(left: object, right: object) -> bool:
    """Equality of folded values; numbers, written as number or as text, by value, so that -5 never equals 5."""
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(same_folded, left, right))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same_folded(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple | Mapping) or isinstance(right, list | tuple | Mapping):
        return False
    left_number, right_number = plain_number(left), plain_number(right)
    if left_number is not None and right_number is not None:
        return left_number == right_number
    return _folded(left) == _folded(right)


def _folded(value: object) -> str:
    return "" if value is None else fold_text(str(value))
