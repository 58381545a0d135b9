"""The journalled calls at other prices: tokens stay as they were, only what they cost is worked out again.

Exact where the tokens of a call are known. What tries that broke off are counted as moves with the price of prompt tokens,
machine time with the price of a CPU hour, which is how they were counted.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from steelyard.economics.ledger import ApproachFacts
from steelyard.engine.journal import Journal
from steelyard.engine.outcome import Outcome
from steelyard.figures import weakest
from steelyard.measure.results import ApproachResults
from steelyard.models.calls import Attempt, AttemptStatus
from steelyard.models.endpoint import Price
from steelyard.models.http import price_of
from steelyard.models.spec import EndpointSpec, PriceSpec

LOCAL = "local"
"""The embedded model, and the machine's own computing."""


class PriceChange(NamedTuple):
    """What the calls of one hosted endpoint cost when they were made, and what they would cost."""

    then: PriceSpec | None
    now: PriceSpec | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """All prices to work with."""

    endpoints: Mapping[str, PriceChange]
    """Hosted endpoints whose calls are priced again; the others keep what was journalled."""
    cpu_hour_then: float
    cpu_hour_now: float

    @property
    def machine(self) -> float:
        """What a machine second costs, over what it cost."""
        return self.cpu_hour_now / self.cpu_hour_then if self.cpu_hour_then else 1.0


def reprice(results: ApproachResults, journal: Journal, prices: Prices) -> ApproachResults:
    """One approach with what its cases would have cost at these prices."""
    fingerprints = {results.name: results.fingerprint}
    costs: dict[str, list[float]] = defaultdict(list)
    for outcome in journal.outcomes(fingerprints, split=results.split):
        costs[outcome.case_id].append(_cost_usd(outcome, prices))
    per_case = np.array([float(np.mean(costs[case_id])) for case_id in results.case_ids], dtype=np.float64)
    per_case.setflags(write=False)
    return replace(results, cost_usd=per_case)


def reprice_facts(facts: ApproachFacts, prices: Prices) -> ApproachFacts:
    """What is known of an approach, at these prices; what prices make unknown is left out."""
    setup = facts.setup_cost_usd
    found = replace(facts, setup_cost_usd=None if setup is None else setup * prices.machine)
    asked = [name for name in (facts.endpoint, *facts.other_endpoints) if name is not None]
    changed = [prices.endpoints[name].now for name in asked if name in prices.endpoints]
    if not changed:
        return found
    kept = [facts.price] if len(changed) < len(asked) else []
    return replace(
        found,
        price=weakest([*(as_price(one).provenance for one in changed), *kept]),
        batch_discount=changed[0].batch_discount if len(asked) == 1 and changed[0] is not None else None,
        cached_saving_usd_per_task=None,
        step_costs=(),
    )


@lru_cache(maxsize=64)
def as_price(spec: PriceSpec | None) -> Price:
    """A price as it stands in study.yaml, as what works out calls."""
    return price_of(EndpointSpec(base_url="http://localhost/v1", model="any", price_per_million=spec))


# --- private ---------------------------------------------------------------------------------------------------------


def _cost_usd(outcome: Outcome, prices: Prices) -> float:
    total = outcome.own_s / 3600 * prices.cpu_hour_now
    for attempt in outcome.attempts:
        cost = _attempt_usd(attempt, prices)
        if cost is None:
            return math.nan
        total += cost
    return total


def _attempt_usd(attempt: Attempt, prices: Prices) -> float | None:
    if attempt.endpoint == LOCAL:
        return None if attempt.price_usd is None else attempt.price_usd * prices.machine
    change = prices.endpoints.get(attempt.endpoint)
    if change is None:
        return attempt.price_usd
    lost = _lost_usd(attempt, change)
    called = _call_usd(attempt, change.now)
    return None if lost is None or called is None else lost + called


def _call_usd(attempt: Attempt, spec: PriceSpec | None) -> float | None:
    """Price of the try that got through, without those that broke off before it."""
    if attempt.status.is_turned_away:
        return 0.0  # turned away before any token was read
    if attempt.status in (AttemptStatus.TIMED_OUT, AttemptStatus.FAILED) and attempt.prompt_tokens is None:
        return 0.0  # no try got through
    return as_price(spec).of_call(
        prompt_tokens=attempt.prompt_tokens,
        cached_tokens=attempt.cached_tokens,
        completion_tokens=attempt.completion_tokens,
        seconds=0.0,
    )


def _lost_usd(attempt: Attempt, change: PriceChange) -> float | None:
    """Tries that broke off are counted with their prompt tokens, so they cost in proportion to these."""
    is_whole = attempt.transport_retries == 0 and attempt.status not in (AttemptStatus.TIMED_OUT, AttemptStatus.FAILED)
    if is_whole:
        return 0.0
    then = _call_usd(attempt, change.then)
    if attempt.price_usd is None or then is None or change.then is None or change.now is None:
        return None
    if change.then.input == 0:
        return 0.0
    return max(0.0, attempt.price_usd - then) * change.now.input / change.then.input
