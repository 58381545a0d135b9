"""Paybacks: after how many months the higher one-off cost of an approach is earned back by running more cheaply.

With setup S once, upkeep U per month, other cost A per task and success rate p, an approach asked for N successful
tasks a month runs N/p tasks and costs N·A/p + U a month. Against `b`, `a` has earned its extra setup back after

    months = (S_a - S_b) / ((N·A_b/p_b + U_b) - (N·A_a/p_a + U_a)),        N = volume · p_b

so both deliver what `b` delivers now. The months over which one-off work is written off are not part of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date

import numpy as np

from steelyard.economics.crossing import CostDraws
from steelyard.economics.ledger import Payback, PaybackKind
from steelyard.measure.layout import Floats

MOST_MONTHS = 1200.0
"""What is earned back after a hundred years only is never earned back."""


def find_payback(
    a: str,
    b: str,
    *,
    at: tuple[CostDraws, CostDraws],
    over: Callable[[], tuple[CostDraws, CostDraws]],
    volume: float,
    as_of: date,
    alpha: float = 0.05,
) -> Payback:
    """Months until one of two approaches, the one that costs more at first, has earned that back against the other.

    Args:
        a: One approach.
        b: The other; the two are swapped where `b` costs more at first.
        at: Point estimates of both, each with some success.
        over: Draws of both, paired, for the range: those of the break-even volume. Asked for only where there is one.
        volume: Tasks a month now.
        as_of: Day of the assessment.
        alpha: One minus the confidence level of the range.
    """
    extra, saving = (float(one[0]) for one in _extra_and_saving(*at, volume))
    is_swapped = extra < 0 or (extra == 0 and saving < 0)
    if is_swapped:
        a, b, at = b, a, (at[1], at[0])
        extra, saving = (float(one[0]) for one in _extra_and_saving(*at, volume))
    months = float(_months(np.array([extra]), np.array([saving]))[0])
    kind: PaybackKind = "never" if math.isinf(months) else "at_once" if months == 0 else "months"
    low, high = None, None
    if kind == "months":
        one, other = over()
        drawn = _months(*_extra_and_saving(*((other, one) if is_swapped else (one, other)), volume))
        low, high = (
            float(end) if math.isfinite(end) else None
            for end in np.quantile(drawn, [alpha / 2, 1 - alpha / 2], method="inverted_cdf")
        )
    successes = volume * float(at[1].success[0])
    return Payback(
        a=a,
        b=b,
        kind=kind,
        months=None if kind == "never" else months,
        low=low,
        high=high,
        as_of=as_of.isoformat(),
        sentence=_sentence(a, b, kind, extra, months, low, high, successes, as_of),
    )


def unknown_payback(a: str, b: str, *, as_of: date) -> Payback:
    """The payback of a pair of which a cost or a success is missing."""
    return Payback(
        a=a,
        b=b,
        kind="unknown",
        months=None,
        low=None,
        high=None,
        as_of=as_of.isoformat(),
        sentence=f"Whether {a} or {b} earns its setup back is unknown: a cost or a success is missing.",
    )


# --- private ---------------------------------------------------------------------------------------------------------


def _extra_and_saving(a: CostDraws, b: CostDraws, volume: float) -> tuple[Floats, Floats]:
    """One-off cost of `a` above `b`, and monthly running cost of `b` above `a`; shapes (n_draws,)."""
    some = (a.success > 0) & (b.success > 0)
    successes = volume * b.success[some]

    def running(one: CostDraws) -> Floats:
        cost: Floats = successes * one.per_task_usd[some] / one.success[some] + one.upkeep_usd_per_month[some]
        return cost

    return a.setup_usd[some] - b.setup_usd[some], running(b) - running(a)


def _months(extra: Floats, saving: Floats) -> Floats:
    """Months until it is earned back: 0 where nothing is to be earned back, infinite where nothing is saved."""
    months = np.where(saving > 0, np.maximum(0.0, extra) / np.where(saving > 0, saving, 1.0), np.inf)
    months[(saving == 0) & (extra < 0)] = 0.0
    months[months > MOST_MONTHS] = np.inf
    return months


def _sentence(
    a: str,
    b: str,
    kind: PaybackKind,
    extra: float,
    months: float,
    low: float | None,
    high: float | None,
    successes: float,
    as_of: date,
) -> str:
    condition = f"at {successes:,.0f} successful tasks a month; as of {as_of.isoformat()}"
    if kind == "at_once":
        return f"{a} costs as much to set up as {b} and less to run ({condition})."
    if kind == "never":
        if extra == 0:
            return f"{a} and {b} cost the same to set up and to run ({condition})."
        return f"{a} costs {_usd(extra)} more to set up than {b} and never earns that back ({condition})."
    ends = ["never" if end is None else "at once" if end == 0 else _plain(end) for end in (low, high)]
    return (
        f"{a} costs {_usd(extra)} more to set up than {b} and earns that back after about {_plain(months)} months"
        f" (range: {ends[0]} to {ends[1]}; {condition})."
    )


def _usd(amount: float) -> str:
    return f"${amount:,.0f}" if amount >= 10 else f"${amount:,.2f}"


def _plain(months: float) -> str:
    return f"{months:,.0f}" if months >= 20 else f"{months:.1f}"
