"""The verdict on a plan: which approach summary figures speak for, and what to find out before believing them.

The rule, in this order:

1. Out are approaches that miss the goal as stated, or state nothing about what it asks for, and those below
   `USEFUL_SUCCESS` where the goal does not say what success is needed.
2. The cheapest per successful task leads; a simpler one that costs up to `MATERIAL` more is preferred.
3. Tuning is costly to turn back from, so figures alone never say more for it than 'test tuning'.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date

from steelyard.decision import plan_wording, wording
from steelyard.decision.call import MATERIAL, USEFUL_SUCCESS, ladder_height
from steelyard.decision.plan import PlanFile, PlannedApproach, PlanVerdict
from steelyard.economics.assessment import VARIATIONS, value_of, varied
from steelyard.economics.costs import Estimates, cost_model, is_tuned
from steelyard.economics.flips import Variation, hinge, nearest_first
from steelyard.economics.ledger import ApproachFacts, BreakEven, Economics, Hinge, Ledger
from steelyard.economics.planning import (
    estimates_of,
    facts_of,
    plan_break_even,
    plan_break_evens,
    plan_ledger,
    plan_p_cheaper,
    plan_paybacks,
    plan_shares,
    plan_sweep,
    stated,
    stated_by,
)
from steelyard.economics.summary import SummarySpec
from steelyard.measure.scoring import rung_of


def decide_plan(
    plan: PlanFile, *, as_of: date, file: str = "plan.yaml", alpha: float = 0.05, seed: int = 0
) -> PlanVerdict:
    """Weigh the approaches of a plan by the figures stated in it.

    Args:
        plan: The plan.
        as_of: Day of the verdict; prices are aged against it.
        file: Name of the plan file, for the provenance of its figures.
        alpha: One minus the confidence level of intervals and ranges.
        seed: Of the draws over the stated ranges.
    """
    weighed = _weigh(plan, file)
    excluded = {name: because for name in weighed if (because := _missing(plan, weighed[name])) is not None}
    left = {name: one for name, one in weighed.items() if name not in excluded}
    ledgers = tuple(
        plan_ledger(one.facts, one.summary, plan.task, plan.money.written_in(file), file=file, alpha=alpha, seed=seed)
        for one in weighed.values()
    )
    known = {name: (one.facts, one.summary, one.estimates) for name, one in left.items()}
    economics = Economics(
        ledgers=ledgers,
        break_evens=plan_break_evens(known, plan.money, as_of=as_of, alpha=alpha, seed=seed),
        hinges=nearest_first(_hinges(plan, file)),
        paybacks=plan_paybacks(known, plan.money, as_of=as_of, alpha=alpha, seed=seed),
        shares=plan_shares(known, ledgers, plan.money, seed=seed),
        sweep=plan_sweep(known, plan.money),
    )
    choice, runner_up, is_simpler = _choose(left)
    hinges = tuple(one for one in economics.hinges if one.flips_at is not None)
    crossing, p_cheaper = None, None
    if choice is not None and runner_up is not None:
        p_cheaper = plan_p_cheaper(choice, runner_up, known, plan.money, seed=seed)
        crossing = plan_break_even(choice, runner_up, known, plan.money, as_of=as_of, alpha=alpha, seed=seed)
    verdict = PlanVerdict(
        plan=plan.plan,
        step="none" if choice is None else "test" if is_tuned(weighed[choice].facts) else "take",
        choice=choice,
        sentence="",
        reasons=(),
        runner_up=runner_up,
        hinges_on=hinges,
        what_would_change_it=(),
        gather_first=plan_wording.gather_first(plan, [choice, runner_up], hinges),
        unknowns=plan_wording.unknowns(plan),
        stale_prices=tuple(
            wording.stale_price(one.facts, as_of)
            for one in weighed.values()
            if one.facts.price.as_of is not None
            and (as_of - date.fromisoformat(one.facts.price.as_of)).days > plan.money.stale_after_days
        ),
        approaches=tuple(_approach(plan, name, one, economics, excluded, file) for name, one in weighed.items()),
        economics=economics,
        as_of=as_of.isoformat(),
    )
    return _worded(verdict, plan, weighed, crossing, p_cheaper, is_simpler=is_simpler, file=file)


# --- private ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Weighed:
    """One approach with what it costs, all at the stated figures."""

    facts: ApproachFacts
    summary: SummarySpec
    estimates: Estimates
    cost_per_success: float
    """USD; infinite where nothing succeeds."""


def _weigh(plan: PlanFile, file: str) -> dict[str, _Weighed]:
    found = {}
    for name, summary in plan.approaches.items():
        facts = facts_of(name, summary, plan.task, file=file)
        estimates = estimates_of(summary, plan.task, plan.money)
        per_task = cost_model(facts, estimates, plan.money).cost_per_task(estimates.success, estimates.variable_usd)
        found[name] = _Weighed(
            facts=facts,
            summary=summary,
            estimates=estimates,
            cost_per_success=per_task / estimates.success if estimates.success else math.inf,
        )
    return found


def _missing(plan: PlanFile, one: _Weighed) -> str | None:
    """What an approach misses of the goal, if anything."""
    goal, summary = plan.goal, one.summary
    if one.estimates.success == 0:
        return "no task succeeds with it"
    if goal.min_success is None and one.estimates.success < USEFUL_SUCCESS:
        return f"it fails more often than it succeeds: success {wording.percent(one.estimates.success)}"
    asked = (
        ("success", one.estimates.success, goal.min_success, True),
        ("schema pass", summary.schema_pass, goal.min_schema_pass, True),
        ("p95 latency", summary.p95_latency_s, goal.max_p95_latency_s, False),
    )
    for what, value, bound, is_least in asked:
        if bound is None:
            continue
        if value is None:
            return f"the goal asks for {what}, and none was given"
        if (value < bound) if is_least else (value > bound):
            return plan_wording.missed(what, value, bound, is_least=is_least)
    return None


def _choose(left: Mapping[str, _Weighed]) -> tuple[str | None, str | None, bool]:
    """The choice, the best of the others, and whether the choice is the simpler one and not the cheapest."""
    if not left:
        return None, None, False
    by_cost = sorted(left, key=lambda name: (left[name].cost_per_success, name))
    least = left[by_cost[0]].cost_per_success
    close = [name for name in by_cost if left[name].cost_per_success <= least * (1 + MATERIAL)]
    choice = min(close, key=lambda name: (ladder_height(left[name].facts), left[name].cost_per_success))
    others = [name for name in by_cost if name != choice]
    return choice, others[0] if others else None, choice != by_cost[0]


def _cheapest(plan: PlanFile, file: str) -> str:
    weighed = _weigh(plan, file)
    left = [name for name in weighed if _missing(plan, weighed[name]) is None]
    return min(left, key=lambda name: (weighed[name].cost_per_success, name), default=plan_wording.NOBODY)


def _hinges(plan: PlanFile, file: str) -> Iterator[Hinge]:
    """Every number of the plan, varied alone."""
    if len(plan.approaches) < 2 or _cheapest(plan, file) == plan_wording.NOBODY:
        return

    def winner(at: Callable[[float], PlanFile]) -> Callable[[float], str]:
        return lambda value: _cheapest(at(value), file)

    for name, variation, present, at in _inputs(plan):
        found = hinge(variation, present, winner(at), name=name)
        if found is not None:
            yield replace(found, sentence=plan_wording.hinge(found))


def _inputs(plan: PlanFile) -> Iterator[tuple[str, Variation, float, Callable[[float], PlanFile]]]:
    """Field, variation, present value, and the plan at another value, of every number that could matter."""

    def with_money(variation: Variation, present: float) -> Callable[[float], PlanFile]:
        return lambda value: plan.model_copy(update={"money": varied(plan.money, variation.field, present, value)})

    def with_task(field: str) -> Callable[[float], PlanFile]:
        return lambda value: plan.model_copy(update={"task": plan.task.model_copy(update={field: value})})

    def with_approach(name: str, update: Callable[[SummarySpec, float], SummarySpec]) -> Callable[[float], PlanFile]:
        return lambda value: plan.model_copy(
            update={"approaches": {**plan.approaches, name: update(plan.approaches[name], value)}}
        )

    for variation in VARIATIONS:
        present = value_of(plan.money, variation.field)
        yield f"money.{variation.field}", variation, present, with_money(variation, present)
    for variation in _TASK_INPUTS:
        yield f"task.{variation.field}", variation, getattr(plan.task, variation.field), with_task(variation.field)
    for name, summary in plan.approaches.items():
        for variation in _APPROACH_INPUTS:
            value = getattr(summary, variation.field)
            if value is not None:
                own = replace(variation, label=f"{variation.label} of {name}")
                at = with_approach(name, _updating(variation.field))
                yield f"approaches.{name}.{variation.field}", own, float(value), at
        if summary.price_per_million is not None:
            own = Variation(field="price_per_million", label=f"token prices of {name}", is_factor=True)
            yield f"approaches.{name}.price_per_million", own, 1.0, with_approach(name, _repriced)


_TASK_INPUTS = (
    Variation(field="label_changes_per_month", label="label changes per month", from_zero_to=4.0),
    Variation(field="relabelled_per_change", label="cases relabelled per change"),
    Variation(field="edit_hours_per_change", label="hours of editing per change"),
    Variation(field="correction_seconds", label="seconds to correct an answer"),
)
_APPROACH_INPUTS = (
    Variation(field="success", label="success", highest=1.0),
    Variation(field="schema_pass", label="schema pass", highest=1.0),
    Variation(field="retry", label="retry rate", highest=1.0),
    Variation(field="review_seconds", label="review seconds"),
    Variation(field="correction_rate", label="correction rate", highest=1.0),
    Variation(field="prompt_tokens", label="prompt tokens"),
    Variation(field="completion_tokens", label="generated tokens"),
    Variation(field="cost_per_task_usd", label="calls per task in USD"),
    Variation(field="p95_latency_s", label="p95 latency in seconds"),
    Variation(field="authoring_hours", label="hours of building"),
    Variation(field="maintenance_hours_per_month", label="hours of maintenance per month"),
    Variation(field="labels", label="labels needed"),
    Variation(field="training_usd", label="training in USD"),
)


def _updating(field: str) -> Callable[[SummarySpec, float], SummarySpec]:
    return lambda summary, value: summary.model_copy(update={field: value})


def _repriced(summary: SummarySpec, factor: float) -> SummarySpec:
    price = summary.price_per_million
    assert price is not None  # varied only where one is given
    scaled = price.model_copy(update={"input": price.input * factor, "output": price.output * factor})
    return summary.model_copy(update={"price_per_million": scaled})


def _approach(
    plan: PlanFile, name: str, one: _Weighed, economics: Economics, excluded: Mapping[str, str], file: str
) -> PlannedApproach:
    summary = one.summary
    source = stated_by(name, summary, file=file)
    return PlannedApproach(
        name=name,
        rung=rung_of(one.facts.levers),
        figures={
            "success": stated(one.estimates.success, "success", source, summary.n),
            "schema_pass": stated(summary.schema_pass, "schema pass", source, summary.n),
            "retry": stated(summary.retry, "retry rate", source, summary.n),
            "review_seconds": stated(summary.review_seconds, "review time of its own", source),
            "correction_rate": stated(summary.correction_rate, "correction rate", source, summary.n),
            "prompt_tokens": stated(summary.prompt_tokens, "prompt tokens", source),
            "completion_tokens": stated(summary.completion_tokens, "generated tokens", source),
            "p95_latency_s": stated(summary.p95_latency_s, "latency", source),
        },
        cost_per_success_usd=economics.ledger_of(name).cost_per_success_usd,
        excluded_because=excluded.get(name),
    )


def _worded(
    verdict: PlanVerdict,
    plan: PlanFile,
    weighed: Mapping[str, _Weighed],
    crossing: BreakEven | None,
    p_cheaper: float | None,
    *,
    is_simpler: bool,
    file: str,
) -> PlanVerdict:
    """The verdict with its sentences."""
    choice = verdict.choice
    if choice is None:
        return replace(
            verdict,
            sentence=plan_wording.none_reaches_the_goal(plan.goal),
            reasons=tuple(f"{one.name} is out: {one.excluded_because}." for one in verdict.approaches),
        )
    taken = weighed[choice]
    reasons = [
        plan_wording.cost_reason(one.name, one.figures["success"], one.cost_per_success_usd)
        if one.excluded_because is None
        else f"{one.name} is out: {one.excluded_because}."
        for one in verdict.approaches
    ]
    if verdict.runner_up is not None:
        told = plan_wording.at_stake(
            verdict.economics.ledger_of(choice),
            verdict.economics.ledger_of(verdict.runner_up),
            *(plan.money.volume_per_month * weighed[name].estimates.success for name in (choice, verdict.runner_up)),
        )
        reasons += [told] if told else []
    turned = _turned_by_changes(plan, choice, weighed, file)
    ceiling = _best_tuning_could_cost(plan, taken, file)
    no_tuning = not is_tuned(taken.facts) and (ceiling is None or ceiling > taken.cost_per_success)
    if ceiling is not None and not is_tuned(taken.facts):
        reasons.append(plan_wording.tuning_ceiling(ceiling, taken.cost_per_success, plan.money.volume_per_month))
    changes = []
    if crossing is not None:
        changes.append(crossing.sentence)
        if crossing.volume is not None:
            changes.append(plan_wording.assumptions(plan))
    changes += [one.sentence for one in verdict.economics.paybacks if {one.a, one.b} == {choice, verdict.runner_up}]
    if turned is not None:
        changes.append(plan_wording.stable_task(turned, choice))
    rival = verdict.runner_up
    return replace(
        verdict,
        sentence=plan_wording.verdict(
            choice,
            rival,
            step=verdict.step,
            no_tuning=no_tuning,
            is_simpler=is_simpler,
            cost=taken.cost_per_success,
            rival_cost=weighed[rival].cost_per_success if rival is not None else None,
            labels=taken.facts.n_labels,
            volume=plan.money.volume_per_month,
            crossing=crossing,
            p_cheaper=p_cheaper,
            turned=None
            if turned is None
            else plan_wording.turned(
                turned,
                plan.task.label_changes_per_month,
                _following_changes(verdict.economics.ledger_of(turned)),
            ),
            as_of=verdict.as_of,
        ),
        reasons=tuple(reasons),
        what_would_change_it=tuple(changes),
    )


def _turned_by_changes(plan: PlanFile, choice: str, weighed: Mapping[str, _Weighed], file: str) -> str | None:
    """The tuned approach that would be chosen if the task did not change, where it is not chosen now."""
    if plan.task.label_changes_per_month == 0:
        return None
    still = plan.model_copy(
        update={"task": plan.task.model_copy(update={"stable": True, "label_changes_per_month": 0.0})}
    )
    found = _weigh(still, file)
    best, _, _ = _choose({name: one for name, one in found.items() if _missing(still, one) is None})
    if best is None or best == choice or not is_tuned(weighed[best].facts):
        return None
    return best


def _following_changes(ledger: Ledger) -> float:
    """What a month of retraining and relabelling costs, in USD."""
    paid = (line.usd_per_month.value for line in ledger.lines if line.label in ("Retraining", "Relabelling"))
    return math.fsum(usd for usd in paid if usd is not None)


def _best_tuning_could_cost(plan: PlanFile, taken: _Weighed, file: str) -> float | None:
    """Cost per success of a tuned model that never fails, with free calls and labels; `None` where one is planned."""
    if any("tuning" in summary.levers for summary in plan.approaches.values()):
        return None
    facts = ApproachFacts(name="tuned", levers=("tuning",))
    review_s = taken.estimates.review_s
    flawless = Estimates(success=1.0, variable_usd=0.0, review_s=review_s, n=0)
    return cost_model(facts, flawless, plan.money).cost_per_task(1.0, 0.0)
