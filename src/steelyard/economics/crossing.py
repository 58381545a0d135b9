"""Break-even volumes: at which number of tasks a month two approaches cost the same per successful task.

With fixed cost F per month, other cost A per task and success rate p, the cost of a success is A/p + (F/p) / V, so the
lines of two approaches cross at V = (F_b/p_b - F_a/p_a) / (A_a/p_a - A_b/p_b), once or never.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np

from steelyard.economics.costs import CostModel
from steelyard.economics.ledger import BreakEven, BreakEvenKind
from steelyard.measure.layout import Floats

MOST_VOLUME = 1e8
"""A break-even beyond so many tasks a month is a rounding error between equal slopes, not a plan."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CostDraws:
    """What one approach costs, once per draw; shapes (n_draws,). A single draw is a point."""

    success: Floats
    """Success rate."""
    per_task_usd: Floats
    """Cost of one task without the fixed part."""
    upkeep_usd_per_month: Floats
    setup_usd: Floats
    """One-off cost before it is spread over the horizon."""
    horizon_months: float

    @property
    def fixed_usd_per_month(self) -> Floats:
        """What has to be paid whatever the volume: upkeep and the month's part of the setup."""
        return self.upkeep_usd_per_month + self.setup_usd / self.horizon_months

    def cost_per_task(self, volume: float) -> Floats:
        """Full cost of one task."""
        return self.per_task_usd + self.fixed_usd_per_month / volume

    def cost_per_success(self, volume: float) -> Floats:
        """Full cost of one successful task; infinite where nothing succeeds."""
        with np.errstate(divide="ignore"):
            cost: Floats = self.cost_per_task(volume) / self.success
        return cost


def point_of(model: CostModel, success: float, variable_usd: float) -> CostDraws:
    """The point estimates as a single draw."""
    return CostDraws(
        success=np.array([success]),
        per_task_usd=np.array([model.per_task_usd(success, variable_usd)]),
        upkeep_usd_per_month=np.array([model.upkeep_usd_per_month]),
        setup_usd=np.array([model.setup_usd]),
        horizon_months=model.horizon_months,
    )


def draws_of_model(model: CostModel, success: Floats, per_task_usd: Floats, factor: Floats) -> CostDraws:
    """Draws of one approach whose fixed cost, upkeep and setup alike, is off by `factor`; shapes (n_draws,)."""
    return CostDraws(
        success=success,
        per_task_usd=per_task_usd,
        upkeep_usd_per_month=model.upkeep_usd_per_month * factor,
        setup_usd=model.setup_usd * factor,
        horizon_months=model.horizon_months,
    )


def find_break_even(
    a: str,
    b: str,
    *,
    at: tuple[CostDraws, CostDraws],
    over: Callable[[], tuple[CostDraws, CostDraws]],
    as_of: date,
    alpha: float = 0.05,
) -> BreakEven:
    """From or up to which volume `a` costs less per successful task than `b`.

    Args:
        a: One approach.
        b: The other.
        at: Point estimates of both, each with some success.
        over: Draws of both, paired, for the range; asked for only where the lines cross.
        as_of: Day of the assessment.
        alpha: One minus the confidence level of the range.
    """
    slope, fixed = _difference(*at)
    kind, volume = _kind_of(float(slope[0]), float(fixed[0]))
    low, high = (None, None) if volume is None else _range(kind, *_difference(*over()), alpha)
    return BreakEven(
        a=a, b=b, kind=kind, volume=volume, low=low, high=high, as_of=as_of.isoformat(),
        sentence=_sentence(a, b, kind, volume, low, high, as_of),
    )  # fmt: skip


# --- private ---------------------------------------------------------------------------------------------------------


def _difference(a: CostDraws, b: CostDraws) -> tuple[Floats, Floats]:
    """Slope and fixed part: `a` minus `b` per successful task is slope + fixed / V; shapes (n_draws,)."""
    some = (a.success > 0) & (b.success > 0)
    p_a, p_b = a.success[some], b.success[some]
    slope = a.per_task_usd[some] / p_a - b.per_task_usd[some] / p_b
    fixed = a.fixed_usd_per_month[some] / p_a - b.fixed_usd_per_month[some] / p_b
    return slope, fixed


def _kind_of(slope: float, fixed: float) -> tuple[BreakEvenKind, float | None]:
    if slope <= 0 and fixed <= 0:
        # Equal in every respect is not cheaper.
        return ("never" if slope == 0 and fixed == 0 else "always"), None
    if slope >= 0 and fixed >= 0:
        return "never", None
    volume = -fixed / slope
    if volume > MOST_VOLUME:
        return ("never" if slope < 0 else "always"), None
    return ("from" if slope < 0 else "up_to"), volume


def _range(kind: BreakEvenKind, slope: Floats, fixed: Floats, alpha: float) -> tuple[float | None, float | None]:
    """Quantiles of the crossing volume, with 'always' and 'never' at the ends of the scale."""
    if len(slope) == 0:
        return None, None
    if kind == "up_to":  # the same picture seen from b
        slope, fixed = -slope, -fixed
    volumes = np.where(slope < 0, np.maximum(0.0, -fixed / np.where(slope < 0, slope, -1.0)), np.inf)
    volumes[volumes > MOST_VOLUME] = np.inf
    # The other direction (cheaper only below some volume) never becomes cheaper by growing.
    low, high = np.quantile(volumes, [alpha / 2, 1 - alpha / 2], method="inverted_cdf")
    return (float(low) if math.isfinite(low) else None), (float(high) if math.isfinite(high) else None)


def _sentence(
    a: str, b: str, kind: BreakEvenKind, volume: float | None, low: float | None, high: float | None, as_of: date
) -> str:
    day = as_of.isoformat()
    if volume is None:
        when = "at every volume" if kind == "always" else "at no volume"
        return f"{a} costs less per successful task than {b} {when} (as of {day})."
    # Beyond the scale, growing volume never makes `a` cheaper ("from"), or never makes it dearer ("up to").
    beyond = "never" if kind == "from" else "every volume"
    start = "the first task" if kind == "from" else "no volume"
    ends = [beyond if end is None else start if end == 0 else f"{end:,.0f}" for end in (low, high)]
    return (
        f"{a} costs less per successful task than {b} {'from' if kind == 'from' else 'up to'} about {volume:,.0f} tasks"
        f" a month (range: {ends[0]} to {ends[1]}; as of {day})."
    )
