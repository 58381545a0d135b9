"""The cheapest evidence that would settle an open question: how much of it, and what it costs.

Calls are priced at what the cases cost so far; a person's time at the wage and the labelling seconds of the money section.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from steelyard.decision import wording
from steelyard.economics.ledger import ApproachFacts
from steelyard.economics.spec import MoneySpec
from steelyard.measure.results import ApproachResults
from steelyard.measure.scoring import task_costs

Results = Mapping[str, ApproachResults]
Facts = Mapping[str, ApproachFacts]

PROBED = 30
"""Failed cases that show whether most failures are of one kind."""

MORE_DATED = 100
"""Further dated cases to score at a time, where stability over time is open."""

REPEATS = 3
"""Times each case is run to see whether its failures come and go."""


def score_more(
    names: Sequence[str],
    n: int,
    results: Results,
    facts: Facts,
    money: MoneySpec,
    *,
    kind: str = "",
    n_waiting: int = 0,
) -> str:
    """Label and run further cases with some approaches.

    Args:
        names: The approaches.
        n: How many cases.
        results: Outcomes by approach.
        facts: What else is known, by the same names.
        money: Wage and labelling seconds.
        kind: Which cases: `dated`.
        n_waiting: Labelled cases of the study that are not run yet; only the others have to be labelled.
    """
    label_hours = max(0, n - n_waiting) * money.labelling_seconds_per_case / 3600
    labels = label_hours * money.wage_per_hour_usd
    calls = _calls_usd(names, n, results, facts)
    told = f"score {n:,} more {f'{kind} ' if kind else ''}cases for {wording.listed(names)}: "
    if n <= n_waiting:
        return f"{told}they are labelled already, and the calls cost {'an unknown sum' if calls is None else wording.bill(calls)}"
    told += f"{_hours(label_hours)} of labelling"
    if calls is None:
        return f"{told} ({wording.usd(labels)}), and calls at an unknown price"
    return f"{told} and {wording.bill(calls)} of calls, {wording.bill(labels + calls)} in all"


def score_unscored(names: Sequence[str], results: Results, money: MoneySpec) -> str:
    """Label what was run and could not be scored."""
    n = max((results[name].n_unscored for name in names), default=0)
    hours = n * money.labelling_seconds_per_case / 3600
    return f"score the {n:,} unscored cases: {_hours(hours)}, {wording.usd(hours * money.wage_per_hour_usd)}"


def try_other_bases(prompt: str, results: Results, facts: Facts) -> str:
    """Run the best prompt on other models."""
    n = results[prompt].n
    calls = _calls_usd([prompt], 2 * n, results, facts)
    price = "" if calls is None else f", about {wording.bill(calls)} at its present price for the two"
    return f"run {prompt} on one stronger and one cheaper model, {n:,} {'case' if n == 1 else 'cases'} each{price}"


def run_new(what: str, like: str | None, hours: float, results: Results, facts: Facts, money: MoneySpec) -> str:
    """Build and run an approach of a kind that is missing.

    Args:
        what: The approach, in words.
        like: One that is there and whose calls cost about as much.
        hours: To build it.
        results: Outcomes by approach name.
        facts: What else is known, by the same names.
        money: For the wage.
    """
    built = f"{_hours(hours)} to build it ({wording.usd(hours * money.wage_per_hour_usd)})"
    if like is None:
        return f"run {what} on the same cases: {built}"
    n = results[like].n
    calls = _calls_usd([like], n, results, facts)
    price = "" if calls is None else f" and about {wording.bill(calls)} of calls"
    return f"run {what} on the same {n:,} cases: {built}{price}"


def probe_sources(name: str | None, results: Results, facts: Facts) -> str:
    """Give the source that holds the answer, and see what then passes."""
    if name is None:
        return f"run the gold-source probe on {PROBED} failed cases: give the source with the answer, count what passes"
    failed = int((np.nan_to_num(results[name].success, nan=1.0) < 1).sum())
    n = min(PROBED, failed)
    if n == 0:
        return f"find cases that {name} fails; it failed none so far"
    calls = _calls_usd([name], n, results, facts)
    price = "" if calls is None else f", about {wording.bill(calls)} of calls"
    return (
        f"run the gold-source probe on {n} failed cases of {name}: give the source with the answer, count what passes"
        f"{price}"
    )


def repeat_cases(name: str, results: Results, facts: Facts) -> str:
    """Run every case several times, or date them."""
    n = (REPEATS - 1) * results[name].n
    calls = _calls_usd([name], n, results, facts)
    price = "" if calls is None else f" ({n:,} more tasks, {wording.bill(calls)})"
    return f"give the cases dates, or run every case {REPEATS} times{price}"


def train_head(n_labels: int, money: MoneySpec, *, enough: int) -> str:
    """Train the cheapest tuned approach there is."""
    if n_labels >= enough:
        return f"train a head on the {n_labels:,} labels there are: seconds of machine time and no calls"
    missing = enough - n_labels
    hours = missing * money.labelling_seconds_per_case / 3600
    usd = wording.usd(hours * money.wage_per_hour_usd)
    return f"label {missing:,} more cases ({_hours(hours)}, {usd}) and train a head on them: seconds, no calls"


# --- private ---------------------------------------------------------------------------------------------------------


def _calls_usd(names: Sequence[str], n: int, results: Results, facts: Facts) -> float | None:
    """What `n` more tasks cost with each of some approaches, at their mean cost so far."""
    costs = [task_costs(results[name], facts[name].price).usd for name in names]
    known = [float(usd.mean()) for usd in costs if usd is not None]
    return n * math.fsum(known) if len(known) == len(costs) else None


def _hours(hours: float) -> str:
    return f"{hours:,.1f} h".replace(".0 h", " h") if hours >= 1 else f"{max(1, round(60 * hours))} min"
