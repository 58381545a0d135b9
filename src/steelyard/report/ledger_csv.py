"""The ledgers of all approaches as one flat table (CSV), for a spreadsheet or a program.

A spreadsheet takes a text that begins with `=`, `+`, `-` or `@` for a formula, and approach names and workings hold
words of a study file: such a text gets an apostrophe in front, which spreadsheets read as 'this is text'.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from steelyard.economics.ledger import Ledger
from steelyard.report.format import UNKNOWN
from steelyard.report.text import one_line

HEADER = (
    "approach", "term", "name", "label", "usd_per_month", "low", "high", "in_total", "provenance", "working",
)  # fmt: skip
_STARTS_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What begins a formula, and the full-width forms that some spreadsheets read alike."""


def render_ledger_csv(ledgers: Sequence[Ledger]) -> str:
    """Write one row a ledger line: USD a month unrounded, `unknown` where nobody knows; the same ledgers, same bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for ledger in ledgers:
        for is_counted, lines in ((True, ledger.lines), (False, ledger.apart)):
            for line in lines:
                usd = line.usd_per_month
                known = usd.value is not None
                writer.writerow(
                    (
                        harmless(ledger.approach),
                        line.term,
                        line.name,
                        harmless(line.label),
                        _number(usd.value) or UNKNOWN,
                        _number(usd.low) if known else "",
                        _number(usd.high) if known else "",
                        "yes" if is_counted and known else "no",
                        harmless(str(usd.provenance)),
                        harmless(usd.unknown_because or line.working),
                    )
                )
    return text.getvalue()


def harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula, on one line.

    >>> harmless("=cmd|' /C calc'!A0"), harmless(" @SUM(A1)"), harmless("prompt")
    ("'=cmd|' /C calc'!A0", "' @SUM(A1)", 'prompt')
    """
    text = one_line(text)
    return f"'{text}" if text.lstrip().startswith(_STARTS_FORMULA) else text


def _number(value: float | None) -> str:
    return "" if value is None else repr(float(value))
