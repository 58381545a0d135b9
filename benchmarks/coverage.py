"""How often each interval holds the truth: `python -m benchmarks.coverage`, nominal level 95%.

Every interval that Steelyard prints is put through studies with known truth, over n from 10 to 1,000 cases and p from
0.02 to 0.98. For rates and percentiles coverage is worked out exactly; elsewhere studies are drawn, with a fixed seed.
Where no interval is stated (too few cases, or an end that the sample cannot bound) nothing wrong is said: such a study
counts as held, and the share of them is printed beside.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.check import Check
from benchmarks.table import aligned
from steelyard.measure.comparing import pair_up, success_difference
from steelyard.measure.intervals import (
    MIN_CASES,
    bca_interval,
    effective_n,
    mean_interval,
    percentile_interval,
    ratio,
    wilson,
)
from steelyard.measure.judged import PredictedRate, predicted_rate
from steelyard.measure.paired import newcombe
from steelyard.measure.results import from_rows

Floats = NDArray[np.float64]

SIZES = (10, 20, 50, 100, 300, 1000)
RATES = (0.02, 0.1, 0.3, 0.5, 0.8, 0.95, 0.98)
N_STUDIES = 800
"""Drawn for each cell; its standard error is 0.8 points, that of a mean over rates 0.3 points."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One kind of interval at one n and p."""

    held: float
    """Share of studies whose interval holds the truth, or that state none."""
    silent: float = 0.0
    """Share of studies that state none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """One kind of interval."""

    name: str
    meaning: str
    """What p and n are."""
    cell: Callable[[int, float], Cell]
    floor_of_mean: float | None
    """Least mean coverage over p at any n; `None` where it is shown for comparison only."""


def wilson_cell(n: int, p: float) -> Cell:
    """Exact coverage of Wilson's interval."""
    return _binomial(n, p, lambda k: wilson(k / n, n))


def wald_cell(n: int, p: float) -> Cell:
    """Exact coverage of rate ± 1.96 standard errors, the interval found in most reports."""

    def wald(k: int) -> tuple[float, float]:
        half = 1.959964 * (k / n * (1 - k / n) / n) ** 0.5
        return k / n - half, k / n + half

    return _binomial(n, p, wald)


def newcombe_cell(n: int, p: float, n_studies: int = N_STUDIES) -> Cell:
    """Difference of two paired rates, p and one 5 points nearer to a half; half of the cases come out alike."""
    other = p + 0.05 if p < 0.5 else p - 0.05
    shared = 0.5 * min(p, other)
    both = shared + (p - shared) * (other - shared) / (1 - shared)
    cells = [both, p - both, other - both, 1 - p - other + both]
    tables, counts = np.unique(
        _rng(n, p).multinomial(n, np.clip(cells, 0.0, 1.0), size=n_studies), axis=0, return_counts=True
    )
    held = [_holds(newcombe(*table), p - other) for table in tables.tolist()]
    return Cell(held=float(counts @ np.array(held)) / n_studies)


def percentile_cell(n: int, p: float) -> Cell:
    """The p-quantile of anything continuous: exact, since only ranks matter."""
    low, high = percentile_interval(np.arange(1.0, n + 1), p)
    # The truth lies above the k-th smallest value where at least k values lie below it.
    is_below = 0.0 if low is None else float(stats.binom.cdf(low - 1, n, p))
    is_above = 0.0 if high is None else float(stats.binom.sf(high - 1, n, p))
    return Cell(held=1 - is_below - is_above, silent=float(low is None and high is None))


def mean_cell(n: int, p: float, n_studies: int = N_STUDIES) -> Cell:
    """Mean of skewed costs of which a share p is four times as high (a retry with a stronger model)."""
    rng = _rng(n, p)
    costs = rng.lognormal(0, 0.5, (n_studies, n)) * (1 + 3 * (rng.random((n_studies, n)) < p))
    truth = float(np.exp(0.125) * (1 + 3 * p))
    cluster = np.arange(n)
    return _drawn(truth, (mean_interval(one, cluster) for one in costs))


def cost_per_success_cell(n: int, p: float, n_studies: int = N_STUDIES) -> Cell:
    """Mean of skewed costs over a success rate of p."""
    rng = _rng(n, p)
    costs = rng.lognormal(0, 0.5, (n_studies, n))
    right = (rng.random((n_studies, n)) < p).astype(np.float64)
    sums = np.stack([costs, right], axis=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # studies without any success
        return _drawn(float(np.exp(0.125)) / p, (bca_interval(one, ratio) for one in sums))


def clustered_cell(n: int, p: float, n_studies: int = N_STUDIES) -> Cell:
    """Rate p where cases come in fives with a correlation of 0.3 within."""
    rng = _rng(n, p)
    cluster = np.arange(n) // 5
    studies = _in_fives(rng, p, rng.random((n_studies, n)))

    def interval(values: Floats) -> tuple[float, float] | None:
        worth = effective_n(values, cluster)
        return wilson(float(values.mean()), worth) if worth >= MIN_CASES else None

    return _drawn(p, map(interval, studies))


def clustered_pair_cell(n: int, p: float, n_studies: int = N_STUDIES) -> Cell:
    """Paired difference of two rates, p and one 5 points nearer to a half, where cases come in fives.

    Cases of a cluster share how hard they are for each of the two, with a correlation of 0.3, and both the same luck
    in half of the cases.
    """
    rng = _rng(n, p)
    other = p + 0.05 if p < 0.5 else p - 0.05
    empty = from_rows({"approach": "a", "case_id": f"{i:04d}", "success": 0, "cluster": f"{i // 5}"} for i in range(n))[
        "a"
    ]
    luck = rng.random((n_studies, n))
    own_luck = np.where(rng.random((n_studies, n)) < 0.5, luck, rng.random((n_studies, n)))
    studies = zip(_in_fives(rng, p, luck), _in_fives(rng, other, own_luck), strict=True)

    def interval(a: Floats, b: Floats) -> tuple[float, float] | None:
        both = [replace(empty, success=one, success_low=one, success_high=one) for one in (a, b)]
        found = success_difference(pair_up(*both)).figure
        return None if found.low is None or found.high is None else (found.low, found.high)

    return _drawn(p - other, (interval(a, b) for a, b in studies))


def judged_cell(n: int, p: float, n_studies: int = N_STUDIES) -> Cell:
    """Rate p where people scored n of 10 n cases, and a judge who is right in nine of ten scored all."""
    rng = _rng(n, p)
    truth = rng.random((n_studies, 10 * n)) < p
    judged = (truth ^ (rng.random(truth.shape) < 0.1)).astype(np.float64)
    label = truth.astype(np.float64)
    label[:, n:] = np.nan
    cluster = np.arange(10 * n)

    def interval(rate: PredictedRate | None) -> tuple[float, float] | None:
        return None if rate is None else rate.interval()

    return _drawn(p, (interval(predicted_rate(y, f, cluster)) for y, f in zip(label, judged, strict=True)))


KINDS = (
    Kind(name="Wilson", meaning="a rate; exact", cell=wilson_cell, floor_of_mean=0.94),
    Kind(name="Wald", meaning="the same, for comparison: we do not use it", cell=wald_cell, floor_of_mean=None),
    Kind(name="Wilson, clustered", meaning="cases in fives", cell=clustered_cell, floor_of_mean=0.93),
    Kind(name="Newcombe", meaning="paired difference of two rates", cell=newcombe_cell, floor_of_mean=0.94),
    Kind(
        name="Newcombe, clustered",
        meaning="the same, cases in fives",
        cell=clustered_pair_cell,
        floor_of_mean=0.93,
    ),
    Kind(name="percentile", meaning="the p-quantile; exact", cell=percentile_cell, floor_of_mean=0.95),
    Kind(name="BCa, mean cost", meaning="a share p costs four times as much", cell=mean_cell, floor_of_mean=0.90),
    Kind(
        name="BCa, cost per success",
        meaning="skewed cost over a success rate of p",
        cell=cost_per_success_cell,
        floor_of_mean=0.92,
    ),
    Kind(name="with a judge (PPI)", meaning="people scored n, a judge 10 n", cell=judged_cell, floor_of_mean=0.94),
)


def coverage(kind: Kind) -> list[list[Cell]]:
    """Cells by n and p, shape (len(SIZES), len(RATES))."""
    return [[kind.cell(n, p) for p in RATES] for n in SIZES]


def section() -> list[Check]:
    """Print a table for each kind and give back the limits on the means over p."""
    checks = []
    for kind in KINDS:
        started = time.perf_counter()
        print(f"{kind.name} ({kind.meaning})", file=sys.stderr, flush=True)
        cells = coverage(kind)
        means = [float(np.mean([cell.held for cell in row])) for row in cells]
        print(f"{kind.name}: {kind.meaning}; {time.perf_counter() - started:.1f} s")
        head = ("n", *(f"p {p:g}" for p in RATES), "mean")
        rows = [
            (str(n), *map(_written, row), f"{100 * mean:.1f}") for n, row, mean in zip(SIZES, cells, means, strict=True)
        ]
        print(aligned(head, rows), end="\n\n", flush=True)
        if kind.floor_of_mean is not None:
            checks.append(
                Check(
                    what=f"coverage of {kind.name}, mean over p, worst n",
                    measured=min(means),
                    limit=kind.floor_of_mean,
                    unit="",
                    at_least=True,
                )
            )
    print("Percent of studies held; in brackets, where any, percent that stated no interval.\n")
    return checks


def main() -> None:
    """Print all tables and limits."""
    checks = section()
    print(aligned(("what", "measured", "limit", "ok?"), [check.row() for check in checks]))


# Private


def _rng(n: int, p: float) -> np.random.Generator:
    return np.random.default_rng([n, round(1000 * p)])


def _in_fives(rng: np.random.Generator, p: float, luck: Floats) -> Floats:
    """Successes at a rate of p where five cases in a row share theirs, correlation 0.3; shape as `luck`."""
    n_studies, n = luck.shape
    own = rng.beta(p * (1 / 0.3 - 1), (1 - p) * (1 / 0.3 - 1), (n_studies, n // 5))
    return (luck < np.repeat(own, 5, axis=1)).astype(np.float64)


def _binomial(n: int, p: float, interval: Callable[[int], tuple[float, float]]) -> Cell:
    k = np.arange(n + 1)
    held = np.array([_holds(interval(int(one)), p) for one in k])
    return Cell(held=float(stats.binom.pmf(k, n, p) @ held))


def _drawn(truth: float, intervals: Iterator[tuple[float, float] | None]) -> Cell:
    found = list(intervals)
    stated = [one for one in found if one is not None]
    missed = sum(not _holds(one, truth) for one in stated)
    return Cell(held=1 - missed / len(found), silent=1 - len(stated) / len(found))


def _holds(interval: tuple[float, float], truth: float) -> bool:
    return interval[0] <= truth <= interval[1]


def _written(cell: Cell) -> str:
    silent = f" ({100 * cell.silent:.0f})" if cell.silent >= 0.005 else ""
    return f"{100 * cell.held:.1f}{silent}"


if __name__ == "__main__":
    main()
