"""What more evidence is worth, against its price: whether to label and run further cases, or to stop.

What more cases are worth is what deciding after them is expected to save over deciding now (the expected value of sample
information). It is found by preposterior analysis: before the further cases are seen, the mean that will be known after
them is itself a random number. With `n` cases the monthly advantage of an approach over the leader is known as N(m, s²),
where s² shrinks as 1 / n; after `k` more it will be known with variance s² · n / (n + k), so the mean known then is, seen
from now, N(m, s² · k / (n + k)). Here every approach's joint bootstrap draws are pulled towards their mean by the root of
k / (n + k), which keeps their covariance. For one rival this is the unit normal loss integral; as k grows, it reaches the
expected loss of the choice, which is the worth of perfect knowledge.

Source: H. Raiffa and R. Schlaifer, Applied Statistical Decision Theory (1961), chapter 5; the rescaling of joint draws
follows H. Jalal and F. Alarid-Escudero, Medical Decision Making 38 (2018) 174-188.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from steelyard.decision import wording
from steelyard.decision.standings import JointDraws
from steelyard.decision.verdict import EvidenceOffer, EvidenceWorth
from steelyard.economics.costs import measure
from steelyard.economics.ledger import ApproachFacts
from steelyard.economics.spec import MoneySpec, source_of
from steelyard.figures import Figure, Provenance, weakest
from steelyard.measure.results import ApproachResults, Floats
from steelyard.measure.scoring import task_costs

OFFERS = (25, 50, 100, 200, 300, 500, 1000, 2000, 5000, 10_000)
"""Numbers of further cases that are weighed."""


def worth_of_evidence(
    draws: JointDraws | None,
    leader: str | None,
    results: Mapping[str, ApproachResults],
    facts: Mapping[str, ApproachFacts],
    money: MoneySpec,
    *,
    n_waiting: int = 0,
    provenance: Provenance,
) -> EvidenceWorth | None:
    """Weigh several numbers of further cases, and name the one that gains most.

    Args:
        draws: Joint draws of the candidates.
        leader: The choice, or who would be it.
        results: Outcomes by approach name.
        facts: What else is known, by the same names.
        money: Wage, labelling seconds and horizon.
        n_waiting: Labelled cases that are not run yet, and need no labelling.
        provenance: Of what is computed over all ledgers.

    Returns:
        `None` where there are fewer than two candidates.
    """
    if draws is None or leader is None or len(draws.names) < 2:
        return None
    one_case = price_of_a_case(draws.names, results, facts, money)
    labelling = money.labelling_seconds_per_case / 3600 * money.wage_per_hour_usd
    horizon = money.horizon_months

    def worth(n_more: int | None) -> Figure:
        return Figure(value=horizon * worth_per_month(draws, leader, n_more), provenance=provenance)

    def price(n: int) -> Figure:
        usd = n * (one_case.value or 0.0) - min(n, n_waiting) * labelling
        return Figure(value=max(0.0, usd), provenance=one_case.provenance)

    numbers = sorted({*OFFERS, n_waiting} - {0})
    offers = tuple(EvidenceOffer(n_cases=n, worth_usd=worth(n), price_usd=price(n)) for n in numbers)
    best = max(offers, key=_net)
    is_worth_it = _net(best) > 0
    if not is_worth_it:  # the best of the bad offers is the one that returns most for a dollar
        best = max(offers, key=lambda offer: (_return(offer), -abs(offer.n_cases - draws.n_cases)))
    perfect = worth(None)
    return EvidenceWorth(
        n_cases=best.n_cases,
        worth_usd=best.worth_usd,
        price_usd=best.price_usd,
        is_worth_it=is_worth_it,
        sentence=wording.more_evidence(
            best.n_cases,
            n_labelled=min(best.n_cases, n_waiting),
            worth=best.worth_usd.value or 0.0,
            price=best.price_usd.value or 0.0,
            perfect=perfect.value or 0.0,
            months=horizon,
            is_worth_it=is_worth_it,
        ),
        perfect_usd=perfect,
        offers=offers,
    )


def worth_per_month(draws: JointDraws, leader: str, n_more: int | None) -> float:
    """What `n_more` cases done by all candidates are expected to save in USD a month; `None` is no end of cases."""
    gains = gains_over(draws, leader, 1.0 if n_more is None else n_more / (draws.n_cases + n_more))
    if not gains.size:
        return 0.0
    best_then = np.maximum(gains.max(axis=1), 0.0).mean()
    best_now = max(float(gains.mean(axis=0).max()), 0.0)
    return max(0.0, float(best_then) - best_now)


def gains_over(draws: JointDraws, leader: str, share: float) -> Floats:
    """What each rival saves per month against the leader, as it will be known after further cases.

    The loss of a choice is that of `standings`: the difference in cost per success times the leader's successes where
    both meet the goal; all that the one costs that misses it where the other meets it.

    Args:
        draws: Joint draws of the candidates.
        leader: Who is measured against.
        share: k / (n + k), the part of what is unknown that the further cases will tell; 1 is all of it.

    Returns:
        USD per month, shape (n_draws, n_rivals); draws in which an approach never succeeds are left out.
    """
    usable = np.isfinite(draws.cost_per_success).all(axis=1)
    if not usable.any():
        return np.empty((0, 0))
    at = draws.names.index(leader)
    rivals = [i for i in range(len(draws.names)) if i != at]
    cost = _pulled(draws.cost_per_success[usable], share)
    tasks = _pulled(draws.successes_per_month[usable], share)
    meets = _meets_goal_then(draws, share)[usable]
    own, own_meets = cost[:, at] * tasks[:, at], meets[:, at]
    columns = [
        own_meets * meets[:, i] * (cost[:, at] - cost[:, i]) * tasks[:, at]
        + (1 - own_meets) * meets[:, i] * own
        - own_meets * (1 - meets[:, i]) * cost[:, i] * tasks[:, i]
        for i in rivals
    ]
    return np.column_stack(columns)


def price_of_a_case(
    names: Sequence[str],
    results: Mapping[str, ApproachResults],
    facts: Mapping[str, ApproachFacts],
    money: MoneySpec,
) -> Figure:
    """What labelling one case and doing it with every candidate costs, in USD."""
    usd = money.labelling_seconds_per_case / 3600 * money.wage_per_hour_usd
    sources = [source_of(money, "labelling_seconds_per_case"), source_of(money, "wage_per_hour_usd")]
    for name in names:
        measured = measure(results[name], facts[name])
        assert not isinstance(measured, str)  # candidates have known costs
        usd += measured.variable_usd
        sources.append(task_costs(results[name], facts[name].price).provenance)
    return Figure(value=usd, provenance=weakest(sources))


# --- private ---------------------------------------------------------------------------------------------------------


def _pulled(draws: Floats, share: float) -> Floats:
    """Draws of what is unknown now, as draws of what its mean will be known to be."""
    mean = draws.mean(axis=0)
    pulled: Floats = mean + np.sqrt(share) * (draws - mean)
    return pulled


def _meets_goal_then(draws: JointDraws, share: float) -> Floats:
    """Probability of satisfying the goal as it will be known, per draw; shape (n_draws, n_approaches).

    An approach satisfies the goal where a normal variable that moves with its success is above a bound. Of its variance
    the further cases tell the share, the rest stays unknown.
    """
    from scipy.special import ndtr, ndtri

    if share >= 1:
        return draws.meets_goal.astype(np.float64)
    n = len(draws.meets_goal)
    rank = np.argsort(np.argsort(draws.successes_per_month, axis=0, kind="stable"), axis=0, kind="stable")
    moving = ndtri((rank + 0.5) / n)
    now = ndtri(draws.meets_goal.mean(axis=0))
    then: Floats = ndtr((now + np.sqrt(share) * moving) / np.sqrt(1 - share))
    return then


def _net(offer: EvidenceOffer) -> float:
    return (offer.worth_usd.value or 0.0) - (offer.price_usd.value or 0.0)


def _return(offer: EvidenceOffer) -> float:
    price = offer.price_usd.value or 0.0
    return (offer.worth_usd.value or 0.0) / price if price else 0.0
