"""Hinges: the value of one input, all others held, at which another approach becomes the cheapest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from steelyard.economics.labels import label_of
from steelyard.economics.ledger import Hinge

FACTOR = 4.0
"""Inputs are varied from a quarter to four times their value."""

STEPS = 24
"""Points tried on either side before the flip is pinned down by bisection."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variation:
    """An assumed input that sensitivity varies."""

    field: str
    label: str
    highest: float = math.inf
    """Where the scale ends."""
    from_zero_to: float = 0.0
    """How far to go where the present value is 0 and four times of it would be nothing."""
    is_factor: bool = False
    """Whether the value is a factor on several inputs that move together, and 1 now."""


def varying(field: str, *, highest: float = math.inf, from_zero_to: float = 0.0, is_factor: bool = False) -> Variation:
    """The variation of a field of the money section, labelled as its input is in formulas."""
    label = label_of(f"money__{field}")
    if is_factor:
        label = f"{label}, all levers alike"
    return Variation(field=field, label=label, highest=highest, from_zero_to=from_zero_to, is_factor=is_factor)


def hinge(variation: Variation, present: float, winner_at: Callable[[float], str], *, name: str) -> Hinge | None:
    """Vary one input from a quarter to four times its value and see where the winner changes.

    Args:
        variation: The input.
        present: Its value now.
        winner_at: The cheapest approach at a value of the input, all others held.
        name: Field of the user's file.

    Returns:
        The nearest flip, or that there is none within the range; `None` for an input that is 0 and has no range.
    """
    if present == 0 and not variation.from_zero_to:
        return None
    winner = winner_at(present)
    found: list[tuple[float, float, str]] = []  # distance in steps, value, winner there
    for towards in (1 / FACTOR, FACTOR):
        flip = _first_flip(variation, present, towards, winner, winner_at)
        if flip is not None:
            found.append(flip)
    _, flips_at, winner_then = min(found, default=(math.inf, None, None))
    return Hinge(
        name=name,
        label=variation.label,
        value=present,
        flips_at=flips_at,
        winner=winner,
        winner_then=winner_then,
        sentence=_sentence(variation, present, flips_at, winner, winner_then),
    )


def nearest_first(hinges: Iterable[Hinge]) -> tuple[Hinge, ...]:
    """Hinges by how far the input has to move, as a factor; inputs that change nothing last."""

    def distance(one: Hinge) -> float:
        if one.flips_at is None:
            return math.inf
        # A value of 0 has no factor; it counts as far as the scale goes.
        return abs(math.log(one.flips_at / one.value)) if one.value and one.flips_at else math.log(FACTOR)

    return tuple(sorted(hinges, key=distance))


def plain(value: float) -> str:
    """A value of an input with as many digits as tell it from its neighbours.

    >>> plain(14811.4), plain(0.07394), plain(90.0)
    ('14,811', '0.07394', '90')
    """
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


# --- private ---------------------------------------------------------------------------------------------------------


def _first_flip(
    variation: Variation, present: float, towards: float, winner: str, winner_at: Callable[[float], str]
) -> tuple[float, float, str] | None:
    def value_at(step: float) -> float:
        if present == 0:
            return variation.from_zero_to * step / STEPS
        return float(min(variation.highest, present * towards ** (step / STEPS)))

    if present == 0 and towards < 1:
        return None
    for step in range(1, STEPS + 1):
        if winner_at(value_at(step)) == winner:
            continue
        inside, outside = float(step - 1), float(step)
        for _ in range(20):
            middle = (inside + outside) / 2
            if winner_at(value_at(middle)) == winner:
                inside = middle
            else:
                outside = middle
        return outside, value_at(outside), winner_at(value_at(outside))
    return None


def _sentence(
    variation: Variation, present: float, flips_at: float | None, winner: str, winner_then: str | None
) -> str:
    if flips_at is None:
        return f"{winner} stays the cheapest whatever the {variation.label}, within the range tried."
    side = "above" if flips_at > present else "below"
    if variation.is_factor:
        return f"{winner_then} becomes the cheapest {side} {flips_at:.2f} times the present {variation.label}."
    return f"{winner_then} becomes the cheapest when {variation.label} goes {side} {plain(flips_at)} (now {plain(present)})."
