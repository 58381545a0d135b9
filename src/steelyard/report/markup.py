"""Markdown, with whatever came from outside made harmless: escaped, or in a code span it cannot close."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from steelyard.figures import Figure
from steelyard.report.format import MARKER_MEANINGS, Unit, shown
from steelyard.report.text import one_line

_MARKUP = re.compile(r"[\\`*_{}\[\]|~]|^[-+#](?=\s|#)|\$(?!\d)|:(?=//)|(?<=\bwww)\.|(?<=\bmailto):", re.IGNORECASE)
_REFERENCE = re.compile(r"@(?=\w)|#(?=\d)")
_WORD_JOINER = "\u2060"


def escape(text: str) -> str:
    r"""Text that Markdown shows as it is: no markup, HTML, link or mention comes to life.

    >>> escape("<b> [x](javascript:y) a|b http://example.org www.example.org")
    '&lt;b&gt; \\[x\\](javascript:y) a\\|b http\\://example.org www\\.example.org'
    """
    text = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _MARKUP.sub(r"\\\g<0>", text)
    # Mentions and issue numbers are looked for after rendering, where a backslash is gone; a word joiner is not.
    return _REFERENCE.sub(rf"\g<0>{_WORD_JOINER}", text)


def code(text: str) -> str:
    """Text in a code span that it cannot close, for a table cell as well."""
    text = one_line(text).replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}" if text else "(empty)"


def cell(figure: Figure, unit: Unit, *, best: bool = False) -> str:
    """A figure with its letter, and its interval on a line below."""
    text = shown(figure, unit)
    value = f"**{escape(text.text)}**" if best else escape(text.text)
    return f"{value} {text.marker}" + (f"<br>{escape(text.interval)}" if text.interval else "")


def legend() -> list[str]:
    """What the letters beside figures mean."""
    return [f"Letters: {'; '.join(f'**{letter}** {meaning}' for letter, meaning in MARKER_MEANINGS.items())}.", ""]


def bullets(sentences: Iterable[str]) -> list[str]:
    """A list of sentences, each escaped."""
    lines = [f"- {escape(sentence)}" for sentence in sentences]
    return [*lines, ""] if lines else []


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table of cells that are Markdown already; nothing without rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}", *lines, ""] if lines else []


def folded(title: str, lines: Sequence[str]) -> list[str]:
    """Lines a reader has to unfold; the title is Markdown already."""
    return ["<details>", f"<summary>{title}</summary>", "", *lines, "</details>", ""]
