"""What is right field by field, arranged for tables: fields down, approaches across; the words all forms use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steelyard.measure.fields import FieldRow
from steelyard.measure.scorecard import Scorecard
from steelyard.report.content import WorstCase
from steelyard.report.format import count
from steelyard.report.text import as_text
from steelyard.task.abstaining import is_empty
from steelyard.task.field_scorers import FieldVerdict

FIELDS_LEAD = (
    "Share of cases in which a field is right; below it the cases in which it is wrong (another value), missing"
    " (nothing where something was expected) or invented (something where nothing was)."
)
REVIEW_LEAD = (
    "Of the cases with a fault, the share in which the field is at fault: what a person would have to correct. Below"
    " it the cases that are wholly right but for this field."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldGrid:
    """Rows of fields by place."""

    fields: tuple[str, ...]
    approaches: tuple[str, ...]
    cards: Mapping[str, Scorecard]
    """By approach, for the mean score."""
    _by_place: Mapping[tuple[str, str], FieldRow]

    def row(self, field: str, approach: str) -> FieldRow | None:
        """What is known of a field of an approach; `None` where the approach has no such field."""
        return self._by_place.get((field, approach))


def field_grid(rows: Sequence[FieldRow], scorecards: Sequence[Scorecard]) -> FieldGrid:
    """Arrange rows: fields and approaches in the order in which they first appear."""
    cards = {card.name: card for card in scorecards}
    return FieldGrid(
        fields=tuple(dict.fromkeys(row.field for row in rows)),
        approaches=tuple(name for name in dict.fromkeys(row.approach for row in rows) if name in cards),
        cards=cards,
        _by_place={(row.field, row.approach): row for row in rows},
    )


def fault_words(row: FieldRow) -> str:
    """How a field fails, in cases: `3 wrong, 2 missing`; empty where it never does."""
    counts = (
        (row.wrong, "wrong"),
        (row.missing, "missing"),
        (row.invented, "invented"),
        (row.unscored, "unscored"),
    )
    return ", ".join(f"{count(n)} {word}" for n, word in counts if n)


def value_text(value: Any) -> str:  # noqa: ANN401 - an output can hold anything JSON can
    r"""A value for a cell: a list of objects one a line, the rest as it is.

    >>> value_text([{"item": "rope", "amount": 3.5}, {"item": "hook", "amount": None}])
    'item: rope, amount: 3.5\nitem: hook, amount: none'
    """
    if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        return "\n".join(
            ", ".join(f"{name}: {'none' if inner is None else as_text(inner)}" for name, inner in one.items())
            for one in value
        )
    return as_text(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenValue:
    """What one approach gave for a field of a case."""

    approach: str
    is_given: bool
    """Whether there is a value; null, absent and empty are none."""
    value: Any
    verdict: FieldVerdict | None
    """`None` for a field that is not expected, and so not compared."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedField:
    """One field of a worst case: what was expected, and what each approach gave."""

    field: str
    is_expected: bool
    """Whether there is an expected value; null, absent and empty are none."""
    expected: Any
    given: tuple[GivenValue, ...]


def compared_fields(case: WorstCase) -> tuple[ComparedField, ...]:
    """The fields of a worst case side by side.

    Returns:
        Fields that are compared, in the order of the comparison, then what approaches gave besides; empty where one
        field alone is compared, which the answers say already.
    """
    marked = list(dict.fromkeys(name for answer in case.answers for name in answer.fields))
    if len(marked) < 2:
        return ()
    besides = [name for answer in case.answers for name in answer.output or {}]
    expected = case.expected or {}
    return tuple(
        ComparedField(
            field=name,
            is_expected=not is_empty(expected.get(name)),
            expected=expected.get(name),
            given=tuple(
                GivenValue(
                    approach=answer.approach,
                    is_given=not is_empty((answer.output or {}).get(name)),
                    value=(answer.output or {}).get(name),
                    verdict=answer.fields[name].verdict if name in answer.fields else None,
                )
                for answer in case.answers
            ),
        )
        for name in dict.fromkeys([*marked, *besides])
    )
