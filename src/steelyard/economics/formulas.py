"""Formulas of ledger lines: arithmetic on named inputs, the same text in Python and in a spreadsheet.

Allowed are `+ - * / ( )`, numbers and names. Names are bound to numbers or to arrays of draws, so that one and the same
formula gives the amount of a line, its ends, and its spread.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar, cast

from steelyard.measure.layout import Floats

T = TypeVar("T", float, Floats)
"""One number, or one per draw."""

_OPERATIONS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def evaluate(formula: str, inputs: Mapping[str, T]) -> T:
    """The value of a formula.

    >>> evaluate("-n * (price_usd + 0.5) / 4", {"n": 8.0, "price_usd": 1.5})
    -4.0

    Raises:
        ValueError: The formula holds anything but arithmetic.
        KeyError: An input is missing.
    """

    def value(node: ast.expr) -> float | Floats:
        match node:
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
                result: float | Floats = _OPERATIONS[type(op)](value(left), value(right))
                return result
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -value(operand)
            case ast.Name(id=name):
                return inputs[name]
            case ast.Constant(value=int() | float() as number):
                return float(number)
        raise ValueError(f"not arithmetic on named inputs: {formula!r}")

    return cast("T", value(_parsed(formula)))


@lru_cache(maxsize=512)
def names_in(formula: str) -> tuple[str, ...]:
    """Names of the inputs, in order of first use.

    >>> names_in("n * price_usd + n")
    ('n', 'price_usd')
    """
    found = [node for node in ast.walk(_parsed(formula)) if isinstance(node, ast.Name)]
    return tuple(dict.fromkeys(node.id for node in sorted(found, key=lambda node: node.col_offset)))


# --- private ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def _parsed(formula: str) -> ast.expr:
    return ast.parse(formula, mode="eval").body
