"""Text from cases and models, made safe to look at.

What a customer or a model wrote can hold characters that move the cursor, recolour a terminal or reverse the reading
direction of the line around it. They are neither passed on nor dropped: they are shown by name, so that the reader
sees what was really there. Escaping for HTML and Markdown is a separate, later step.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Any

_KEPT = frozenset("\n\t\u200c\u200d")
"""Line breaks, and the joiners that Persian, Indic scripts and emoji cannot do without."""
_SHOWN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Cn"})
_SMALLEST_UNASSIGNED = 0xFFFE
"""Unassigned characters are left alone but for the noncharacters: a newer Unicode may know them."""


def visible(text: str) -> str:
    r"""The text with control, bidirectional, invisible and unpaired surrogate characters shown by name.

    Line breaks are normalised to `\n`.

    >>> visible("a\x1b[31mb"), visible("a\u202eb")
    ('a⟨U+001B⟩[31mb', 'a⟨U+202E⟩b')
    """
    if text.isascii() and text.isprintable():
        return text
    text = text.replace("\r\n", "\n")
    return "".join(_shown(character) for character in text)


def one_line(text: str) -> str:
    """`visible`, and with line breaks shown as marks, for places where a line is a record."""
    return visible(text).replace("\n", " ⏎ ").replace("\t", " ")


def excerpt(text: str, limit: int) -> str:
    """At most about `limit` characters: the first two thirds and the last, with the number left out between them.

    The end is kept because that is where a prompt holds the case itself.
    """
    if len(text) <= limit:
        return text
    head = limit * 2 // 3
    tail = limit - head
    return f"{text[:head]}\n[… {len(text) - limit:,} characters left out here …]\n{text[-tail:]}"


def as_text(value: Any) -> str:  # noqa: ANN401 - a case field can hold anything a file can
    """A field of a case or an output as text: strings as they are, the rest as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _shown(character: str) -> str:
    if character in _KEPT:
        return character
    category = unicodedata.category(character)
    code = ord(character)
    if category not in _SHOWN_CATEGORIES or (category == "Cn" and code & 0xFFFF < _SMALLEST_UNASSIGNED):
        return character
    return f"⟨U+{code:04X}⟩"
