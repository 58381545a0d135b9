"""What is uncertain about the two cheapest approaches, and how much of it comes from which input.

The difference of their costs per successful task is worked out from the formulas of their ledgers while all uncertain
inputs move at once and independently of each other: assumed ones by up to `money.assumed_range` either way (log-uniform),
measured ones by what the cases leave open. Sobol's shares then split the variance of the difference: the first-order
share of an input is what knowing it alone would remove on average, the total share what would be left if it alone were
unknown. The horizon is a choice, not a guess, and is held.

Source: Saltelli et al. (2010) for the first-order estimator, Jansen (1999) for the total one; Latin hypercube points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from steelyard.economics.formulas import evaluate
from steelyard.economics.labels import is_shared, label_of
from steelyard.economics.ledger import Ledger, VarianceShare
from steelyard.figures import Figure, Provenance
from steelyard.measure.layout import Floats

N_POINTS = 2048
"""Rows of either sample; the shares are then good to one or two points in a hundred."""

SMALLEST = 0.005
"""Inputs with a smaller total share are left out."""

TABLE = (np.arange(256) + 0.5) / 256
"""Probabilities at which the spread of a measured input is tabulated."""

_HELD = frozenset({"money__horizon_months", "n_cases", "batch_discount"})
_AT_MOST_ONE = frozenset({"money__review_share", "money__batch_share", "correction_rate"})

Spread = Floats | None
"""Quantiles of an input at `TABLE`; `None` holds it."""


class SobolShares(NamedTuple):
    """Shares of variance by input, with the standard errors of sampling; shapes (n_inputs,)."""

    first: Floats
    total: Floats
    first_error: Floats
    total_error: Floats


@dataclass(frozen=True, kw_only=True)
class _Input:
    """One column of the sample."""

    name: str
    """Of the formula."""
    approach: str | None
    """Whose it is; `None` for one that all share."""
    quantiles: Floats
    """At `TABLE`, or just both ends of a log-uniform range."""
    provenance: Provenance

    def at(self, uniform: Floats) -> Floats:
        """Values at uniform draws."""
        if len(self.quantiles) == 2:
            low, high = np.log(self.quantiles)
            return np.asarray(np.exp(low + (high - low) * uniform), dtype=np.float64)
        return np.interp(uniform, TABLE, self.quantiles)


def variance_shares(
    a: Ledger,
    b: Ledger,
    *,
    spreads: Mapping[str, Mapping[str, Spread]],
    assumed_range: float,
    seed: int = 0,
    n_points: int = N_POINTS,
) -> tuple[VarianceShare, ...]:
    """Shares of the variance of the cost difference between two approaches, the largest total first.

    Args:
        a: Ledger of the cheaper approach, with some success.
        b: That of the other.
        spreads: By approach and input name, what measurement leaves open (`spread_of_rate`, `spread_of_draws`), or
            `None` for an input that is held. Inputs not named move by `assumed_range` where they are assumed.
        assumed_range: Factor by which assumed inputs may be off either way, at least 1.
        seed: Of the sample.
        n_points: Rows of either sample.

    Returns:
        Nothing where nothing is uncertain.
    """
    inputs = _inputs((a, b), spreads, assumed_range)
    if not inputs:
        return ()

    def difference(uniform: Floats) -> Floats:
        values = {(one.approach, one.name): one.at(column) for one, column in zip(inputs, uniform, strict=True)}
        return _cost_per_success(a, values) - _cost_per_success(b, values)

    shares = sobol_shares(difference, len(inputs), n_points=n_points, seed=seed)
    if shares is None:
        return ()
    found = [
        _share(one, a.approach, b.approach, shares, at, assumed_range)
        for at, one in enumerate(inputs)
        if shares.total[at] >= SMALLEST
    ]
    return tuple(sorted(found, key=lambda one: -(one.total.value or 0.0)))


def sobol_shares(
    model: Callable[[Floats], Floats], n_inputs: int, *, n_points: int = N_POINTS, seed: int = 0
) -> SobolShares | None:
    """First-order and total shares of the variance of a model of independent inputs, uniform on 0..1.

    Args:
        model: Maps shape (n_inputs, n) to shape (n,).
        n_inputs: Inputs.
        n_points: Rows of either sample; the model is evaluated at n_points · (n_inputs + 2).
        seed: Of the sample.

    Returns:
        `None` where the model does not vary.
    """
    rng = np.random.default_rng([seed, 5])
    cells = rng.permuted(np.tile(np.arange(n_points, dtype=np.float64), (2 * n_inputs, 1)), axis=1)
    hypercube = (cells + rng.random((2 * n_inputs, n_points))) / n_points
    one, other = hypercube[:n_inputs], hypercube[n_inputs:]
    # (n_inputs, n_inputs, n_points): block i is `one` with row i from `other`
    mixed = np.broadcast_to(one, (n_inputs, n_inputs, n_points)).copy()
    mixed[np.arange(n_inputs), np.arange(n_inputs)] = other
    flat = mixed.transpose(1, 0, 2).reshape(n_inputs, n_inputs * n_points)
    return shares_from(model(one), model(other), model(flat).reshape(n_inputs, n_points))


def shares_from(one: Floats, other: Floats, mixed: Floats) -> SobolShares | None:
    """The estimators on the values of the model.

    Args:
        one: On the first sample, shape (n_points,).
        other: On the second, independent of it.
        mixed: On the first with input i from the second, shape (n_inputs, n_points).

    Returns:
        `None` where the model does not vary.
    """
    both = np.concatenate([one, other])
    variance = float(both.var())
    # Differences of costs agree to rounding where every input is held; that is no variance to split.
    if not math.isfinite(variance) or variance <= (1e-12 * float(np.abs(both).max())) ** 2:
        return None
    first = (other - both.mean()) * (mixed - one) / variance
    total = (one - mixed) ** 2 / (2 * variance)
    root = math.sqrt(len(one))
    return SobolShares(
        first=first.mean(axis=1),
        total=total.mean(axis=1),
        first_error=first.std(axis=1) / root,
        total_error=total.std(axis=1) / root,
    )


def two_cheapest(ledgers: Sequence[Ledger]) -> tuple[Ledger, Ledger] | None:
    """The two approaches with the lowest cost per successful task, the cheapest first; `None` with fewer."""
    costs = {one.approach: one.cost_per_success_usd.value for one in ledgers}
    known = [one for one in ledgers if costs[one.approach] is not None]
    if len(known) < 2:
        return None
    first, second = sorted(known, key=lambda one: (costs[one.approach] or 0.0, one.approach))[:2]
    return first, second


def spread_of_rate(rate: float, n: float) -> Floats:
    """Quantiles at `TABLE` of a rate seen in `n` independent cases: the Jeffreys posterior."""
    from scipy.special import betaincinv

    quantiles: Floats = betaincinv(rate * n + 0.5, (1 - rate) * n + 0.5, TABLE)
    return quantiles


def spread_of_draws(draws: Floats) -> Spread:
    """Quantiles at `TABLE` of bootstrap draws; `None` where they are all alike."""
    quantiles: Floats = np.quantile(draws, TABLE)
    return quantiles if quantiles[-1] > quantiles[0] else None


# --- private ---------------------------------------------------------------------------------------------------------


def _inputs(
    ledgers: tuple[Ledger, Ledger], spreads: Mapping[str, Mapping[str, Spread]], assumed_range: float
) -> list[_Input]:
    """The uncertain inputs of two ledgers, each once."""
    found: dict[tuple[str | None, str], _Input] = {}
    for ledger in ledgers:
        own = spreads.get(ledger.approach, {})
        for line in ledger.lines:
            for name, figure in line.inputs.items():
                approach = None if is_shared(name) else ledger.approach
                if (approach, name) in found or name in _HELD:
                    continue
                quantiles = own[name] if name in own else _assumed(name, figure, assumed_range)
                if quantiles is not None:
                    found[approach, name] = _Input(
                        name=name, approach=approach, quantiles=quantiles, provenance=figure.provenance
                    )
    return list(found.values())


def _assumed(name: str, figure: Figure, assumed_range: float) -> Spread:
    """Both ends of the range of an assumed input."""
    if figure.provenance.kind != "assumed" or not figure.value or assumed_range == 1:
        return None
    high = figure.value * assumed_range
    return np.array([figure.value / assumed_range, min(1.0, high) if name in _AT_MOST_ONE else high])


def _cost_per_success(ledger: Ledger, moved: Mapping[tuple[str | None, str], Floats]) -> Floats:
    """Cost of one successful task with some inputs moved; shape (n_points,)."""
    total: Floats = np.zeros(())
    at: dict[str, Floats] = {}
    for line in ledger.lines:
        for name, figure in line.inputs.items():
            if name not in at:
                key = (None if is_shared(name) else ledger.approach, name)
                at[name] = moved[key] if key in moved else np.asarray(figure.value, dtype=np.float64)
        if line.formula:
            total = total + evaluate(line.formula, at)
    return total / (at["money__volume_per_month"] * at["success"])


def _share(one: _Input, a: str, b: str, shares: SobolShares, at: int, assumed_range: float) -> VarianceShare:
    source = Provenance(
        kind="assumed",
        source=f"inputs moved at random: assumed ones by a factor of up to {assumed_range:g} either way, measured ones "
        "by what the cases leave open",
    )

    def figure(value: float, error: float) -> Figure:
        def clipped(share: float) -> float:
            return min(1.0, max(0.0, share))

        return Figure(
            value=clipped(value),
            low=clipped(value - 1.96 * error),
            high=clipped(value + 1.96 * error),
            provenance=source,
        )

    first = figure(float(shares.first[at]), float(shares.first_error[at]))
    total = figure(float(shares.total[at]), float(shares.total_error[at]))
    label = label_of(one.name, one.approach)
    is_measured = one.provenance.kind == "measured" or len(one.quantiles) > 2
    if one.approach is None:
        name = one.name.replace("__", ".")
    else:
        name = f"{one.approach}: {one.name}" if is_measured else f"approaches.{one.approach}.{one.name}"
    alone, together = first.value or 0.0, total.value or 0.0
    share = f"{alone:.0%}" if alone >= 0.01 else "Less than 1%"
    more = f" ({together:.0%} with what it does together with other inputs)" if together - alone >= 0.05 else ""
    return VarianceShare(
        name=name,
        label=label,
        first_order=first,
        total=total,
        sentence=f"{share} of what is uncertain about {a} against {b} comes from {label}{more}.",
        a=a,
        b=b,
    )
