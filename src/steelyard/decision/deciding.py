"""The verdict: which approach to take, why, how sure that is, and what would change it.

The rule itself is in `steelyard.decision.call`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Literal

import numpy as np

from steelyard.decision import wording
from steelyard.decision.call import Call, Weighing, beats, call_it, draw_candidates, exclusions, weigh
from steelyard.decision.factors import Known, decision_factors
from steelyard.decision.gates import Evidence, pass_gates
from steelyard.decision.mistakes import find_mistakes
from steelyard.decision.spec import GoalSpec
from steelyard.decision.standings import JointDraws, p_meets_goal
from steelyard.decision.verdict import EvidenceWorth, Gate, Standing, Verdict
from steelyard.decision.worth import worth_of_evidence
from steelyard.economics.assessment import assess
from steelyard.economics.costs import is_tuned
from steelyard.economics.ledger import ApproachFacts, Economics, Hinge
from steelyard.economics.spec import MoneySpec
from steelyard.figures import weakest
from steelyard.measure.results import ApproachResults
from steelyard.measure.scoring import rung_of, success_rate


def decide(
    results: Mapping[str, ApproachResults],
    facts: Mapping[str, ApproachFacts],
    *,
    as_of: date,
    money: MoneySpec | None = None,
    goal: GoalSpec | None = None,
    baseline: str | None = None,
    dropped: Mapping[str, str] | None = None,
    n_waiting: int = 0,
    alpha: float = 0.05,
    margin: float = 0.02,
    seed: int = 0,
) -> Verdict:
    """Weigh the approaches and say what to do next.

    Args:
        results: Outcomes of one split by approach name.
        facts: What else is known about each, by the same names.
        as_of: Day of the verdict; prices are aged against it.
        money: The money section; left out, its defaults.
        goal: Constraints; left out, none.
        baseline: The approach every other one must beat, if it is among them.
        dropped: Approaches that a race took out, with the reason; they are not candidates.
        n_waiting: Labelled cases that are not run yet; further evidence needs no labelling as long as they last.
        alpha: One minus the confidence level of all intervals.
        margin: Success rates within this count as equivalent.
        seed: Of all resampling.
    """
    weighing = weigh(results, facts, money=money, goal=goal, baseline=baseline, dropped=dropped, alpha=alpha, seed=seed)
    money, baseline = weighing.money, weighing.baseline
    excluded = exclusions(weighing)
    draws = draw_candidates(weighing, [name for name in results if name not in excluded])
    economics = assess(
        results, facts, money, as_of=as_of, candidates=draws.names if draws else (), alpha=alpha, seed=seed
    )
    evidence = Evidence(
        results=results,
        facts=facts,
        draws=draws,
        alpha=alpha,
        margin=margin,
        seed=seed,
        money=money,
        n_waiting=n_waiting,
    )
    gates = pass_gates(evidence)
    call = call_it(weighing, draws, excluded)
    standings = _standings(weighing, draws, excluded, economics, first=call.leader)
    hinges = tuple(hinge for hinge in economics.hinges if hinge.flips_at is not None)
    worth = worth_of_evidence(
        draws,
        call.leader,
        results,
        facts,
        money,
        n_waiting=n_waiting,
        provenance=weakest(ledger.cost_per_success_usd.provenance for ledger in economics.ledgers),
    )
    return Verdict(
        choice=call.choice,
        sentence=_sentence(weighing, call, worth, hinges),
        reasons=_reasons(weighing, draws, economics, call, excluded),
        runner_up=call.runner_up,
        p_best=call.p_best,
        expected_monthly_loss_usd=call.loss_usd,
        hinges_on=hinges,
        cases_to_settle=call.cases_to_settle,
        what_would_change_it=_what_would_change_it(weighing, economics, call, draws, gates),
        unknowns=_unknowns(weighing, draws, excluded),
        gates=gates,
        mistakes=find_mistakes(evidence, {gate.name: gate for gate in gates}),
        stale_prices=_stale_prices(weighing, as_of),
        standings=standings,
        economics=economics,
        as_of=as_of.isoformat(),
        factors=decision_factors(
            Known(
                evidence=evidence,
                money=money,
                economics=economics,
                gates={gate.name: gate for gate in gates},
                standings=standings,
                leader=call.leader,
                is_settled=call.choice is not None,
            )
        ),
        worth=worth,
    )


# --- private ---------------------------------------------------------------------------------------------------------


def _sentence(weighing: Weighing, call: Call, worth: EvidenceWorth | None, hinges: Sequence[Hinge]) -> str:
    """The call; with how many cases might settle an open one, and with what a choice turns on that counts failures as free."""
    if call.is_open and call.leader is not None:
        return f"{call.sentence} {wording.to_settle(call.leader, call.cases_to_settle, worth)}"
    free = next((one for one in hinges if one.name == "money.failed_task_usd"), None)
    if call.choice is None or weighing.money.failed_task_usd > 0 or free is None:
        return call.sentence
    if free.flips_at is None or free.winner_then is None or free.winner != call.choice:
        return call.sentence
    return f"{call.sentence} {wording.failures_are_free(free.winner_then, free.flips_at)}"


def _standings(
    weighing: Weighing,
    draws: JointDraws | None,
    excluded: Mapping[str, str],
    economics: Economics,
    *,
    first: str | None,
) -> tuple[Standing, ...]:
    standings = []
    for name, results in weighing.results.items():
        at = draws.names.index(name) if draws is not None and name in draws.names else None
        standings.append(
            Standing(
                name=name,
                rung=rung_of(weighing.facts[name].levers),
                cost_per_success_usd=economics.ledger_of(name).cost_per_success_usd,
                p_meets_goal=p_meets_goal(results, weighing.goal),
                p_best=float(draws.p_best[at]) if draws is not None and at is not None else None,
                expected_monthly_loss_usd=(
                    float(draws.expected_monthly_loss[at]) if draws is not None and at is not None else None
                ),
                beats_baseline=_against_baseline(weighing, draws, excluded, name),
                excluded_because=excluded.get(name),
            )
        )

    def place(standing: Standing) -> tuple[bool, bool, float, str]:
        loss = standing.expected_monthly_loss_usd
        return (
            standing.excluded_because is not None,
            standing.name != first,
            math.inf if loss is None else loss,
            standing.name,
        )

    return tuple(sorted(standings, key=place))


def _against_baseline(
    weighing: Weighing, draws: JointDraws | None, excluded: Mapping[str, str], name: str
) -> Literal["yes", "no", "undecided", "is_baseline", "no_baseline"]:
    if weighing.baseline is None:
        return "no_baseline"
    if name == weighing.baseline:
        return "is_baseline"
    if name in excluded:
        return "undecided"
    if weighing.baseline in excluded:  # what misses the goal is beaten by what may reach it
        return "yes"
    return beats(draws, name, weighing.baseline) if draws is not None else "undecided"


def _reasons(
    weighing: Weighing, draws: JointDraws | None, economics: Economics, call: Call, excluded: Mapping[str, str]
) -> tuple[str, ...]:
    reasons = [
        wording.cost_reason(
            name,
            economics.ledger_of(name).cost_per_success_usd,
            success_rate(weighing.results[name], alpha=weighing.alpha),
        )
        for name in (call.leader, call.runner_up)
        if name is not None
    ]
    leader, baseline = call.leader, weighing.baseline
    if draws is not None and leader is not None and baseline in draws.names and leader != baseline:
        reasons.append(
            wording.baseline_reason(leader, baseline, beats(draws, leader, baseline), draws.p_cheaper(leader, baseline))
        )
    if leader is not None and leader == baseline:
        reasons.append(f"No other approach clearly beats {leader}, the baseline.")
    for because in dict.fromkeys(excluded.values()):
        reasons.append(wording.out([name for name in excluded if excluded[name] == because], because))
    return tuple(reasons)


def _what_would_change_it(
    weighing: Weighing, economics: Economics, call: Call, draws: JointDraws | None, gates: Sequence[Gate]
) -> tuple[str, ...]:
    """Besides the inputs it hinges on and the open gates, which the verdict lists by themselves."""
    changes = [
        found.sentence
        for found in economics.break_evens
        if {found.a, found.b} == {call.leader, call.runner_up} and found.volume is not None
    ]
    if call.cases_to_settle and draws is not None:
        changes.append(f"About {call.cases_to_settle:,} more scored cases, beyond the {draws.n_cases:,} so far.")
    base = next(gate for gate in gates if gate.name == "base_fits")
    if call.leader is not None and is_tuned(weighing.facts[call.leader]) and base.answer == "unknown":
        changes.append(f"A stronger or cheaper base model, which comes before any tuning: {base.cheapest_evidence}.")
    return tuple(changes)


def _unknowns(weighing: Weighing, draws: JointDraws | None, excluded: Mapping[str, str]) -> tuple[str, ...]:
    """Besides the open gates, which the verdict lists by themselves."""
    unknowns = []
    if weighing.money.failed_task_usd == 0:
        unknowns.append(wording.FAILURES_COUNT_NOTHING)
    if all(np.isnan(one.review_seconds).all() for one in weighing.results.values()):
        unknowns.append(wording.reviews_not_timed(weighing.money.review_seconds))
    unscored = {name: one.n_unscored for name, one in weighing.results.items() if one.n_unscored}
    if unscored:
        unknowns.append("Unscored cases: " + wording.listed([f"{n} of {name}" for name, n in unscored.items()]) + ".")
    imported = [name for name in weighing.results if weighing.facts[name].leaves_costs_out]
    if imported:
        unknowns.append(wording.not_counted(imported, levers_known=all(weighing.facts[n].levers for n in imported)))
    largest = max((one.n for name, one in weighing.results.items() if name not in excluded), default=0)
    if draws is not None and draws.n_cases < largest:
        unknowns.append(
            f"The approaches did different cases; they were compared on the {draws.n_cases:,} that all of them did."
        )
    return tuple(unknowns)


def _stale_prices(weighing: Weighing, as_of: date) -> tuple[str, ...]:
    stale = []
    for name in weighing.results:
        price = weighing.facts[name].price
        if price.kind == "quoted" and price.as_of:
            age = (as_of - date.fromisoformat(price.as_of)).days
            if age > weighing.money.stale_after_days:
                stale.append(wording.stale_price(weighing.facts[name], as_of))
    return tuple(stale)
