"""What one successful task costs over a range of monthly volumes, everything else held."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from steelyard.economics.crossing import CostDraws
from steelyard.economics.ledger import VolumeSweep

REACH = 100.0
"""From a hundredth to a hundred times the present volume."""

PER_DECADE = 10
"""Volumes per factor of ten."""


def sweep_volumes(points: Mapping[str, CostDraws], present: float) -> VolumeSweep | None:
    """Cost of one successful task by approach, from a hundredth to a hundred times the present volume.

    Args:
        points: Point estimates by approach (`point_of`), each with some success.
        present: Tasks a month now; one of the volumes.

    Returns:
        `None` without any approach.
    """
    if not points:
        return None
    steps = round(PER_DECADE * np.log10(REACH))
    volumes = tuple(present * 10 ** (step / PER_DECADE) for step in range(-steps, steps + 1))
    return VolumeSweep(
        volumes=volumes,
        cost_per_success={
            name: tuple(float(point.cost_per_success(volume)[0]) for volume in volumes)
            for name, point in points.items()
        },
        present=present,
    )
