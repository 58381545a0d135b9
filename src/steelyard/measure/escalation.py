"""What a cascade would have given on dev at each threshold, and which threshold to take.

A case goes on to the second approach where the first one's calibrated confidence is below the threshold. So a higher
threshold never costs less, and the cheapest one that reaches a wanted success is the lowest that does.

What reaches a wanted success is judged by the lower end of an interval, not by the share itself: of many thresholds the
best one on some hundred dev cases is partly the luckiest, and whoever asks for 90% wants it on the cases to come. Against
the second approach alone, which is asked the same cases, the difference has to be none on dev and at its lower end no
more than `MARGIN`. Few dev cases make both demands harder, so that more cases go on: the safe side.
`docs/decisions/0023-cascade.md` has the simulation this was chosen by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from steelyard.measure.intervals import effective_n, wilson
from steelyard.measure.paired import newcombe
from steelyard.measure.results import Floats, Ints

MOST_POINTS = 60
"""Thresholds that are looked at; more of them would tell the same cases apart, and give luck more chances."""
ALPHA = 0.2
"""Of a two-sided interval: its lower end is passed by one in ten by chance. Dev chooses, and test has the last word."""
MARGIN = 0.02
"""So much worse than the second approach alone, as a share of the cases, the cascade may be at the lower end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DevCases:
    """What both members did with the dev cases; all shapes (n,)."""

    confidence: Floats
    """Calibrated, of the first one's answer; -1 where it has no valid answer, so that the case always goes on."""
    kept: NDArray[np.bool_]
    """Whether the case is a success if the first one's answer is kept."""
    escalated: NDArray[np.bool_]
    """Whether it is a success if it goes on."""
    then: NDArray[np.bool_]
    """Whether the second approach alone is a success."""
    first_usd: Floats
    """What the first one cost; `nan` where that is not known."""
    then_usd: Floats
    """What the second one cost; `nan` where that is not known."""
    cluster: Ints
    """Cluster code of each case, 0-based without gaps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One threshold on dev."""

    threshold: float
    """Calibrated confidence below which a case goes on."""
    escalated: float
    """Share of the cases that goes on, 0..1."""
    success: float
    """Share of successes, 0..1."""
    success_low: float
    """Lower end of its interval, see `ALPHA`."""
    difference: float
    """Success less that of the second approach alone on the same cases."""
    difference_low: float
    """Lower end of its interval."""
    cost_usd: float | None
    """Mean cost of a case in USD; `None` where a price is not known."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for a card."""
        return asdict(self)


class Choice(NamedTuple):
    """The threshold to take."""

    point: Point
    is_reached: bool
    """Whether it reaches the wanted success; if not, it is the most successful one."""


def point_at(dev: DevCases, threshold: float) -> Point:
    """What the cascade would have given at one threshold."""
    goes_on = dev.confidence < threshold
    right = np.where(goes_on, dev.escalated, dev.kept).astype(np.float64)
    success = float(right.mean())
    n = effective_n(right, dev.cluster, alpha=ALPHA)
    difference = success - float(dev.then.mean())
    # Where every case goes on, nothing but the second approach's own answers can be lost: there is no luck in it.
    low = difference if goes_on.all() else _lower_end(right > 0, dev.then, n / len(right))
    usd = float(np.where(goes_on, dev.first_usd + dev.then_usd, dev.first_usd).mean())
    return Point(
        threshold=threshold,
        escalated=float(goes_on.mean()),
        success=success,
        success_low=wilson(success, n, alpha=ALPHA).low if n > 0 else 0.0,
        difference=difference,
        difference_low=low,
        cost_usd=None if np.isnan(usd) else usd,
    )


def curve(dev: DevCases) -> tuple[Point, ...]:
    """All thresholds worth a look, lowest first: 0, between neighbouring confidences, and 1."""
    distinct = np.unique(dev.confidence[dev.confidence >= 0])
    between = (distinct[1:] + distinct[:-1]) / 2
    if len(between) > MOST_POINTS - 2:
        # Evenly over the cases, not over confidence: where many are about as sure, a little more or less counts.
        sorted_ = np.sort(dev.confidence[dev.confidence >= 0])
        places = np.linspace(0, len(sorted_) - 1, MOST_POINTS).round().astype(int)[1:-1]
        wanted = np.unique(np.searchsorted(distinct, sorted_[places]).clip(1) - 1)
        between = between[wanted]
    return tuple(point_at(dev, round(float(one), 9)) for one in (0.0, *between, 1.0))


def choose(points: Sequence[Point], *, wanted: float | None) -> Choice:
    """The cheapest threshold that reaches the wanted success on dev, or else the most successful one.

    Args:
        points: Lowest threshold first.
        wanted: Success that the lower end of the interval has to reach; `None` asks for that of the second approach
            alone on the same cases.
    """
    for point in points:
        if _is_as_good(point) if wanted is None else point.success_low >= wanted:
            return Choice(point, is_reached=True)
    return Choice(max(points, key=lambda point: (point.success, -point.threshold)), is_reached=False)


# --- private ---------------------------------------------------------------------------------------------------------


def _is_as_good(point: Point) -> bool:
    return point.difference >= 0 and point.difference_low >= -MARGIN


def _lower_end(right: NDArray[np.bool_], then: NDArray[np.bool_], worth: float) -> float:
    """Lower end of the paired difference; `worth` is what a case counts where they are clustered."""
    if worth <= 0:
        return -1.0
    cells = (right & then, right & ~then, ~right & then, ~right & ~then)
    return newcombe(*(worth * float(cell.sum()) for cell in cells), alpha=ALPHA).low
