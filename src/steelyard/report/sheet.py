"""Writing into a worksheet, so that nothing from outside can become a formula or a link.

Every text goes through `Page.text`, which writes a string cell marked as text (it stays text when someone edits the
cell), and every formula through `Page.formula`, whose text comes from `Cells.formula`: numbers, `+ - * / ( )` and
cells of this workbook.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from steelyard.figures import Figure
from steelyard.report.format import UNKNOWN
from steelyard.report.text import excerpt, visible

if TYPE_CHECKING:
    from xlsxwriter.format import Format
    from xlsxwriter.workbook import Workbook
    from xlsxwriter.worksheet import Worksheet

Style = Literal["plain", "bold", "title", "head", "soft", "wrap", "sentence"]
NumberStyle = Literal["number", "usd", "share", "seconds", "total", "input_number", "input_usd", "input_share"]

_USD = "[=0]$0;[>=1]$#,##0.00;$0.00######"
"""Whole cents for amounts, all digits for the price of a single call."""
_NUMBER = "#,##0.######"
_INPUT = {"bg_color": "#FFF6D6", "border": 1, "border_color": "#D9C27A", "locked": False}
_STYLES: dict[Style | NumberStyle, dict[str, object]] = {
    "plain": {"valign": "top", "quote_prefix": True},
    "bold": {"bold": True, "valign": "top", "quote_prefix": True},
    "title": {"bold": True, "font_size": 15, "quote_prefix": True},
    "head": {
        "bold": True,
        "bg_color": "#E9F1F2",
        "bottom": 1,
        "text_wrap": True,
        "valign": "top",
        "quote_prefix": True,
    },
    "soft": {"font_color": "#5D646F", "text_wrap": True, "valign": "top", "quote_prefix": True},
    "wrap": {"text_wrap": True, "valign": "top", "quote_prefix": True},
    "sentence": {"font_size": 13, "text_wrap": True, "valign": "top", "quote_prefix": True},
    "number": {"num_format": _NUMBER, "valign": "top"},
    "usd": {"num_format": _USD, "valign": "top"},
    "share": {"num_format": "0.0%", "valign": "top"},
    "seconds": {"num_format": "#,##0.0###", "valign": "top"},
    "total": {"num_format": _USD, "bold": True, "top": 1, "valign": "top"},
    "input_number": {"num_format": _NUMBER, "valign": "top", **_INPUT},
    "input_usd": {"num_format": _USD, "valign": "top", **_INPUT},
    "input_share": {"num_format": "0.0###%", "valign": "top", **_INPUT},
}
_LONGEST_TEXT = 32_000
"""A cell of a workbook holds 32,767 characters."""


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Where the values of names stand, as references that can be used in any sheet of the workbook."""

    places: Mapping[str, str]

    def formula(self, arithmetic: str) -> str:
        """Arithmetic on names as a formula on the cells that hold them.

        >>> Cells(places={"a": "Inputs!$C$4", "b": "Inputs!$C$5"}).formula("a * (1 - b) / 3600")
        'Inputs!$C$4*(1-Inputs!$C$5)/3600'

        Raises:
            ValueError: It is more than arithmetic, or a name has no cell.
        """
        return _written(ast.parse(arithmetic, mode="eval").body, self.places)


@dataclass(frozen=True, kw_only=True)
class Page:
    """One worksheet and the formats of its workbook; rows and columns count from 0."""

    name: str
    sheet: Worksheet
    formats: Mapping[str, Format]

    def text(self, row: int, column: int, text: str, style: Style = "plain") -> None:
        """Write a text; whatever it begins with, it stays a text."""
        self.sheet.write_string(row, column, excerpt(visible(text), _LONGEST_TEXT), self.formats[style])

    def heads(self, row: int, titles: tuple[str, ...]) -> None:
        """Write the head of a table."""
        for column, title in enumerate(titles):
            self.text(row, column, title, "head")

    def number(self, row: int, column: int, value: float | None, style: NumberStyle = "number") -> None:
        """Write a number, or the word `unknown`; an end that is not there leaves its cell empty."""
        if value is not None and math.isfinite(value):
            self.sheet.write_number(row, column, value, self.formats[style])

    def figure(self, row: int, column: int, figure: Figure, style: NumberStyle) -> None:
        """Write value, low and high in three cells side by side; an unknown value is the word."""
        self.value(row, column, figure.value, style)
        if figure.value is not None:
            plain: NumberStyle = "usd" if style == "total" else style
            self.number(row, column + 1, figure.low, plain)
            self.number(row, column + 2, figure.high, plain)

    def value(self, row: int, column: int, value: float | None, style: NumberStyle) -> None:
        """Write a number or, where there is none, the word `unknown`."""
        if value is None or not math.isfinite(value):
            self.sheet.write_string(row, column, UNKNOWN, self.formats[style])
        else:
            self.number(row, column, value, style)

    def formula(self, row: int, column: int, formula: str, value: float | str | None, style: NumberStyle) -> None:
        """Write a formula with the value it has now."""
        known = UNKNOWN if value is None or (isinstance(value, float) and not math.isfinite(value)) else value
        self.sheet.write_formula(row, column, f"={formula}", self.formats[style], known)

    def widths(self, *widths: float) -> None:
        """Widths of the columns from the first on, in characters."""
        for column, width in enumerate(widths):
            self.sheet.set_column(column, column, width)

    def at(self, row: int, column: int) -> str:
        """Reference to a cell, for formulas on any sheet."""
        return f"{self._quoted}!{absolute(row, column)}"

    def between(self, first: tuple[int, int], last: tuple[int, int]) -> str:
        """Reference to a range."""
        return f"{self._quoted}!{absolute(*first)}:{absolute(*last)}"

    @property
    def _quoted(self) -> str:
        return self.name if self.name.isalnum() else f"'{self.name}'"


def absolute(row: int, column: int) -> str:
    """The absolute address of a cell.

    >>> absolute(3, 2)
    '$C$4'
    """
    from xlsxwriter.utility import xl_rowcol_to_cell

    return str(xl_rowcol_to_cell(row, column, row_abs=True, col_abs=True))


def formats_of(workbook: Workbook) -> dict[str, Format]:
    """The formats of a workbook by name."""
    return {name: workbook.add_format(dict(properties)) for name, properties in _STYLES.items()}


# --- private ---------------------------------------------------------------------------------------------------------

_OPERATORS: dict[type[ast.operator], tuple[str, int]] = {
    ast.Add: ("+", 1), ast.Sub: ("-", 1), ast.Mult: ("*", 2), ast.Div: ("/", 2),
}  # fmt: skip


def _written(node: ast.expr, places: Mapping[str, str], strength: int = 0) -> str:
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        sign, binds = _OPERATORS[type(node.op)]
        text = f"{_written(node.left, places, binds)}{sign}{_written(node.right, places, binds + 1)}"
        return f"({text})" if binds < strength else text
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return f"(-{_written(node.operand, places, 3)})"
    if isinstance(node, ast.Name) and node.id in places:
        return places[node.id]
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return repr(node.value)
    raise ValueError(f"this is not arithmetic on known names: {ast.unparse(node)!r}")
