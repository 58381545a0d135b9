"""Rules between fields of an output, as a person writes them: `sum(line_items.amount) = subtotal`.

A rule compares two sides with `=`, `!=`, `<`, `<=`, `>` or `>=`. A side is made of numbers, texts in quotes, fields (`total`, `vendor.name`), `sum`,
`count`, `min`, `max` of a field of list items, `abs`, and `+ - * /`. Amounts may be written in any country's way.
Where a field is null or missing the rule says nothing: whether it must be there is the schema's business.

Rules are parsed once, into a tree that can do nothing else; nothing of an answer is ever evaluated.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from steelyard.task.values import amount

_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_COMBINE: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_OVER_ITEMS: Mapping[str, Callable[[list[float]], float]] = {"sum": sum, "min": min, "max": max}
_SINGLE_EQUALS = re.compile(r"(?<![<>=!])=(?!=)")
_MAX_CHARS = 500

Value = float | str | None
"""`None`: not known, so that the rule says nothing."""


class RuleSyntaxError(ValueError):
    """A rule that cannot be read; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """A parsed rule."""

    text: str
    tolerance: float
    """Numbers this close count as equal."""
    tree: ast.Compare

    @property
    def fields(self) -> frozenset[str]:
        """The top-level fields it speaks of."""
        return frozenset(path[0] for path in _paths(self.tree))

    def broken_by(self, output: Mapping[str, Any]) -> str | None:
        """What is wrong with an output by this rule, or `None`."""
        try:
            left, right = _value(self.tree.left, output), _value(self.tree.comparators[0], output)
        except ZeroDivisionError:
            return None
        if left is None or right is None:
            return None
        if type(left) is not type(right):
            left, right = _plain(left), _plain(right)
        compare = _COMPARE[type(self.tree.ops[0])]
        if isinstance(left, float) and isinstance(right, float) and abs(left - right) <= self.tolerance + 1e-9:
            holds = not isinstance(self.tree.ops[0], ast.NotEq | ast.Lt | ast.Gt)
        else:
            holds = compare(left, right)
        return None if holds else f"{self.text} does not hold: {_shown(left)} against {_shown(right)}"


def parse_rule(text: str, *, tolerance: float = 0.0) -> Rule:
    """Read a rule.

    Raises:
        RuleSyntaxError: It is not one comparison made of the parts a rule may have.

    >>> rule = parse_rule("sum(items.amount) + tax = total", tolerance=0.01)
    >>> rule.broken_by({"items": [{"amount": "1,50"}, {"amount": 2}], "tax": 0.5, "total": 5})
    'sum(items.amount) + tax = total does not hold: 4 against 5'
    """
    if len(text) > _MAX_CHARS:
        raise RuleSyntaxError(f"longer than {_MAX_CHARS} characters")
    try:
        tree = ast.parse(_SINGLE_EQUALS.sub("==", text.strip()), mode="eval").body
    except SyntaxError as error:
        raise RuleSyntaxError(f"it cannot be read ({error.msg})") from error
    if not isinstance(tree, ast.Compare) or len(tree.ops) != 1 or type(tree.ops[0]) not in _COMPARE:
        raise RuleSyntaxError("it must compare two sides with one of = != < <= > >=")
    for side in (tree.left, tree.comparators[0]):
        _check(side)
    return Rule(text=text.strip(), tolerance=tolerance, tree=tree)


# ---- private --------------------------------------------------------------------------------------------------------


def _check(node: ast.expr) -> None:
    match node:
        case ast.Constant(value=bool()):
            raise RuleSyntaxError("write a field, a number or a text in quotes")
        case ast.Constant(value=int() | float() | str()) | ast.Name():
            return
        case ast.Attribute(value=inner):
            if _path(node) is None:
                raise RuleSyntaxError(f"{ast.unparse(inner)} has no fields")
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _COMBINE:
            _check(left)
            _check(right)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            _check(operand)
        case ast.Call(func=ast.Name(id="abs"), args=[inner], keywords=[]):
            _check(inner)
        case ast.Call(func=ast.Name(id=name), args=[inner], keywords=[]) if name in {*_OVER_ITEMS, "count"}:
            if _path(inner) is None:
                raise RuleSyntaxError(f"{name}() takes a field, as {name}(line_items.amount)")
        case _:
            raise RuleSyntaxError(f"{ast.unparse(node)} may not stand in a rule")


def _value(node: ast.expr, output: Mapping[str, Any]) -> Value:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name() | ast.Attribute():
            found = _looked_up(output, _path(node) or ())
            return _read(found[0]) if len(found) == 1 else None
        case ast.BinOp(left=left, op=op, right=right):
            both = _value(left, output), _value(right, output)
            if not isinstance(both[0], float) or not isinstance(both[1], float):
                return None
            return _COMBINE[type(op)](both[0], both[1])
        case ast.UnaryOp(operand=operand):
            inner = _value(operand, output)
            return -inner if isinstance(inner, float) else None
        case ast.Call(func=ast.Name(id="abs"), args=[argument]):
            inner = _value(argument, output)
            return abs(inner) if isinstance(inner, float) else None
        case ast.Call(func=ast.Name(id=name), args=[argument]):
            items = _looked_up(output, _path(argument) or ())
            if name == "count":
                return float(len(items))
            numbers = [amount(item) for item in items]
            known = [number for number in numbers if number is not None]
            return _OVER_ITEMS[name](known) if known and len(known) == len(numbers) else None
    raise AssertionError(f"{ast.dump(node)} was let through")


def _looked_up(output: Mapping[str, Any], path: tuple[str, ...]) -> list[object]:
    """What stands under a path; a list on the way, or at its end, stands for all its items."""
    found: list[object] = [output]
    for name in path:
        found = [one.get(name) for one in found if isinstance(one, Mapping)]
        found = [item for one in found for item in (one if isinstance(one, list) else [one])]
    return found


def _read(value: object) -> Value:
    number = amount(value)
    if number is not None:
        return number
    return value if isinstance(value, str) and value.strip() else None


def _path(node: ast.expr) -> tuple[str, ...] | None:
    match node:
        case ast.Name(id=name):
            return (name,)
        case ast.Attribute(value=inner, attr=name):
            outer = _path(inner)
            return None if outer is None else (*outer, name)
    return None


def _paths(tree: ast.AST) -> Iterator[tuple[str, ...]]:
    functions = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and id(node) not in functions | inner:
            yield _path(node) or ()


def _plain(value: float | str) -> str:
    return f"{value:.10g}" if isinstance(value, float) else value


def _shown(value: float | str) -> str:
    return _plain(value) if isinstance(value, float) else repr(value)
