"""How often intervals hold the truth, in a light version; `python -m benchmarks.coverage` prints all of it.

Floors are reasoned, not tuned. A rate can only be k / n, so the exact coverage of Wilson's interval swings around 95%
as p moves between such values; its mean over p does not fall below 94%, and at n >= 10 and p from 0.02 to 0.98 its
deepest points lie at 0.90 (n = 10, p near 0.055). It is nearer to 83% only for p below 0.02, which is left to larger n.
Where studies are drawn, a floor stands three standard errors below what is asked for.
"""

import numpy as np
import pytest
from benchmarks.coverage import (
    RATES,
    SIZES,
    Cell,
    clustered_cell,
    cost_per_success_cell,
    judged_cell,
    mean_cell,
    newcombe_cell,
    percentile_cell,
    wald_cell,
    wilson_cell,
)


def mean_held(cells: list[Cell]) -> float:
    return float(np.mean([cell.held for cell in cells]))


@pytest.mark.parametrize("n", SIZES)
def test_wilson(n: int) -> None:
    """On average over rates 94% or more at every n, at the worst rate 89% or more; Wald falls far below."""
    rates = np.arange(0.02, 0.981, 0.02).tolist()
    cells = [wilson_cell(n, p) for p in rates]
    assert mean_held(cells) >= 0.94
    assert min(cell.held for cell in cells) >= 0.89
    if n <= 100:
        assert mean_held([wald_cell(n, p) for p in RATES]) < 0.92


def test_wilson_at_awkward_rates() -> None:
    """Below 2% the coverage dips, nowhere under 83%, where Wald covers next to nothing."""
    for n in (10, 20, 50, 100):
        awkward = [p / n for p in np.arange(0.01, 0.5, 0.01).tolist()]
        assert min(wilson_cell(n, p).held for p in awkward) >= 0.83
    assert wald_cell(20, 0.01).held < 0.2


@pytest.mark.parametrize("n", [5, 10, 20, 72, 100, 300, 1000])
def test_percentiles(n: int) -> None:
    """Exactly 95% or more at every n and every percentile, whatever is measured."""
    assert min(percentile_cell(n, p).held for p in RATES) >= 0.95


@pytest.mark.parametrize("n", SIZES)
def test_newcombe(n: int) -> None:
    """The paired difference: 94% on average at every n, 92% at any rate."""
    cells = [newcombe_cell(n, p, 800) for p in RATES]
    assert mean_held(cells) >= 0.94
    assert min(cell.held for cell in cells) >= 0.92


@pytest.mark.parametrize("n", [50, 100, 300])
def test_clustered_wilson(n: int) -> None:
    """Cases in fives with a correlation of 0.3: 93% on average, and no interval where there are too few clusters."""
    assert mean_held([clustered_cell(n, p, 300) for p in RATES]) >= 0.93
    assert clustered_cell(10, 0.5, 50).silent == 1


@pytest.mark.parametrize(("n", "floor"), [(10, 0.89), (20, 0.90), (100, 0.92)])
def test_mean_cost(n: int, floor: float) -> None:
    """A skewed mean of very few cases is the hardest: 90% at 10, 95% from hundreds on."""
    assert mean_held([mean_cell(n, p, 120) for p in RATES]) >= floor


@pytest.mark.parametrize("n", [10, 20, 100])
def test_cost_per_success(n: int) -> None:
    """A ratio: a wrong interval is stated in at most 8% of studies, none at all where successes are too few."""
    assert mean_held([cost_per_success_cell(n, p, 120) for p in RATES]) >= 0.92
    assert cost_per_success_cell(10, 0.02, 50).silent > 0.9


@pytest.mark.parametrize("n", [10, 50, 100])
def test_with_a_judge(n: int) -> None:
    """Where a judge scored all and people some: 94% on average at every number of people's scores."""
    assert mean_held([judged_cell(n, p, 250) for p in RATES]) >= 0.94
