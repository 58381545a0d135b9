"""The words of an answer, and how far two answers use the same ones."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import lru_cache

from steelyard.task.text import fold_text
from steelyard.task.values import plain_number

ARTICLES = frozenset({"a", "an", "the"})

_THOUSANDS = re.compile(r"(?<=\d)[,'\u2019\u00a0\u202f](?=\d{3}(?!\d))")
_INSIDE_A_NUMBER = re.compile(r"(?<=\d)[.,](?=\d)|(?<=\b\d{4})-(?=\d\d-\d\d\b)|(?<=\b\d{4}-\d\d)-(?=\d\d\b)")
"""A decimal mark, or a dash of an ISO date."""
_KEPT = {".": "\ue000", ",": "\ue001", "-": "\ue002"}
"""Folding makes a space of punctuation; inside a number these private characters stand for it meanwhile."""
_RESTORED = str.maketrans({private: mark for mark, private in _KEPT.items()})
_CURRENCY = str.maketrans({"€": " eur ", "£": " gbp ", "¥": " jpy ", "$": " $ "})
"""Signs stand apart from their numbers and, where they mean one currency only, for its code. `$` is many dollars."""
_NO_SPACES = re.compile(r"([\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])")
"""Chinese and Japanese are written without spaces: every character is a word."""


def answer_tokens(value: object) -> list[str]:
    """The words of an answer, folded, without English articles, in order.

    A number is one word with its decimals and without thousands separators, so that 3.5 is neither 35 nor 5.3, and so
    is an ISO date. Signs of currencies are words. An answer of nothing but articles keeps them.

    >>> answer_tokens("The limit is $1,250.50 a day!")
    ['limit', 'is', '$', '1250.50', 'day']
    """
    words = list(_words(_as_text(value)))
    return [word for word in words if word not in ARTICLES] or words


def token_f1(value: object, expected: object) -> float:
    """How far two answers use the same words, repeats counted, order not: the harmonic mean of precision and recall.

    Replaces equality, which a whole sentence around the right word fails. Blind to order and to negation: 'may' and
    'may not' are two thirds alike. Two plain numbers are equal or not, whatever their signs and digits share.

    Returns:
        0..1, higher is better; the same with the two exchanged; 1 where both have no word at all.

    >>> token_f1("It is the Eiffel Tower.", "Eiffel Tower"), token_f1("-5", 5)
    (0.6666666666666666, 0.0)

    Source: Rajpurkar et al. (2016) for the idea; the normalisation is our own.
    """
    numbers = plain_number(value), plain_number(expected)
    if numbers[0] is not None and numbers[1] is not None:
        return float(numbers[0] == numbers[1])
    found, wanted = Counter(answer_tokens(value)), Counter(answer_tokens(expected))
    n = found.total() + wanted.total()
    return 2 * (found & wanted).total() / n if n else 1.0


# ---- private --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _words(text: str) -> tuple[str, ...]:
    unified = _THOUSANDS.sub("", unicodedata.normalize("NFKC", text)).translate(_CURRENCY)
    kept = _INSIDE_A_NUMBER.sub(lambda mark: _KEPT[mark[0]], _NO_SPACES.sub(r" \1 ", unified))
    return tuple(word.translate(_RESTORED) for word in fold_text(kept).split())


def _as_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list | tuple):
        return " ".join(map(_as_text, value))
    return str(value)
