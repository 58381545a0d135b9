"""What a paired comparison can find: the smallest difference in success that so many cases would show."""

from __future__ import annotations

import math

from steelyard.figures import Figure, unknown
from steelyard.measure.intervals import normal_quantile

POWER = 0.8
"""Wanted probability of finding a difference that is there."""


def minimum_detectable(
    n: float, discordance: float, *, unscored_share: float = 0.0, alpha: float = 0.05, power: float = POWER
) -> float | None:
    """The smallest true difference that McNemar's test on `n` cases finds with probability `power`.

    The inverse of `cases_needed` for the test: with d the difference and s the share of cases where the two disagree,
    d solves (d - 1/n) · √n = z · √s + z_power · √(s - d²). A difference beyond the present discordance needs more
    disagreement than there is; then s grows with d: every disagreement is in favour of the same one.

    Args:
        n: Cases (effective number, where cases share clusters), above 0.
        discordance: Share of cases where the two disagree, 0..1.
        unscored_share: Share of cases that stay unscored; a difference has to be found on top of it.
        alpha: Level of the test, already divided by the number of comparisons.
        power: Wanted probability of finding it.

    Returns:
        In 0..1, or `None` where `n` cases would not find even one always right against one always wrong.

    Source: Connor (1987), with the continuity correction of Edwards (1948), which makes it that of the exact test.
    """
    z, z_power = normal_quantile(1 - alpha / 2), normal_quantile(power)

    def surplus(difference: float) -> float:
        spread = max(discordance, difference)
        noise = z * math.sqrt(spread) + z_power * math.sqrt(max(spread - difference * difference, 0.0))
        return (difference - unscored_share - 1 / n) * math.sqrt(n) - noise

    if surplus(1.0) < 0:
        return None
    too_small, enough = 0.0, 1.0
    for _ in range(60):  # surplus(d) / √d rises throughout, so its one root can be bisected
        middle = (too_small + enough) / 2
        if surplus(middle) < 0:
            too_small = middle
        else:
            enough = middle
    return enough


def detectable_figure(
    n_effective: float,
    discordance: float | None,
    *,
    unscored_share: float = 0.0,
    alpha: float = 0.05,
    power: float = POWER,
) -> Figure:
    """The same as a figure, from an observed discordance.

    The observed share is moved by one disagreement each way, as in `cases_needed`, so that none so far is not taken
    for none ever.

    Args:
        n_effective: Independent cases, or the number of them the cases are worth.
        discordance: Observed; `None` where no case was scored for both.
        unscored_share: Share of cases that stay unscored.
        alpha: Level of the test, already divided by the number of comparisons.
        power: Wanted probability of finding it.
    """
    if discordance is None or n_effective <= 0:
        return unknown("too few cases were done and scored by both")
    moved = (discordance * n_effective + 2) / (n_effective + 2)
    found = minimum_detectable(n_effective, moved, unscored_share=unscored_share, alpha=alpha, power=power)
    if found is None:
        return unknown(f"no difference, however large, would be found with {power:.0%} power on so few cases")
    return Figure(value=found)
