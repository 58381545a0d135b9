"""The five questions of the decision, in their order, answered from the outcomes of a study.

Each answer is yes, no or unknown, with the numbers it rests on; unknown names the cheapest evidence that would settle
it. Approaches are grouped by the levers they pull, and each group speaks through its most successful member.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from steelyard.decision import cheapest, wording
from steelyard.decision.call import BEATS
from steelyard.decision.standings import JointDraws
from steelyard.decision.verdict import Gate, GateAnswer
from steelyard.economics.costs import is_tuned
from steelyard.economics.ledger import ApproachFacts
from steelyard.economics.spec import MoneySpec
from steelyard.measure.comparing import comparisons
from steelyard.measure.intervals import normal_quantile
from steelyard.measure.paired import MAX_CASES, square_and_add
from steelyard.measure.results import ApproachResults, Floats
from steelyard.measure.scorecard import Comparison
from steelyard.measure.scoring import task_costs

MAX_UNFIT_SHARE = 0.02
"""A base model fits when no more than this share of its cases were too long for it or failed at the endpoint."""

FEW_LABELS = 100
"""Fewer labelled cases than this are too few to learn from."""

MIN_HALF = 20
"""Scored cases needed in the older and in the newer half before stability over time is judged."""

STABLE_WITHIN = 0.15
"""Halves differing surely by less than this count as stable."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the gates and the detection of mistakes look at."""

    results: Mapping[str, ApproachResults]
    facts: Mapping[str, ApproachFacts]
    draws: JointDraws | None
    """Of the candidates; `None` when there are none."""
    alpha: float
    margin: float
    seed: int
    money: MoneySpec = field(default_factory=MoneySpec)
    """For the price of further evidence."""
    n_waiting: int = 0
    """Labelled cases of the study that are not run yet: further evidence without labelling."""

    def best_where(self, holds: Callable[[ApproachFacts], bool]) -> str | None:
        """The most successful deployable approach of a kind, or `None` when there is none with a scored case."""
        names = [
            name
            for name, facts in self.facts.items()
            if name in self.results
            and not facts.is_ceiling
            and holds(facts)
            and not np.isnan(self.results[name].success).all()
        ]
        return max(names, key=lambda name: (float(np.nanmean(self.results[name].success)), name), default=None)

    @property
    def known(self) -> tuple[Mapping[str, ApproachResults], Mapping[str, ApproachFacts], MoneySpec]:
        """Outcomes, facts and money, as what prices further evidence takes them."""
        return self.results, self.facts, self.money

    def compare(self, one: str, other: str) -> Comparison:
        """`one` against `other` on their common cases."""
        return comparisons(self.results, alpha=self.alpha, margin=self.margin, pairs=[(one, other)], seed=self.seed)[0]


def pass_gates(evidence: Evidence) -> tuple[Gate, ...]:
    """All gates, in the order in which they are to be asked."""
    return (
        _base_fits(evidence),
        _workflow_pays(evidence),
        _knowledge_failures(evidence),
        _failures_recur(evidence),
        _tuning_ready(evidence),
    )


def uses_only(facts: ApproachFacts, lever: str) -> bool:
    """Whether an approach asks a model and pulls this lever and no other."""
    return facts.calls_model and facts.levers == (lever,)


def has_levers_without(facts: ApproachFacts, lever: str) -> bool:
    """Whether the levers of an approach are known and this one is not among them."""
    return bool(facts.levers) and lever not in facts.levers


# --- private ---------------------------------------------------------------------------------------------------------


def _base_fits(evidence: Evidence) -> Gate:
    gate = _asked("base_fits", "Is the base model fit: context, access, price?")
    asking = [name for name, facts in evidence.facts.items() if facts.calls_model and name in evidence.results]
    if not asking:
        hours = evidence.money.authoring_hours.prompt
        prompt = cheapest.run_new("one prompt on one model", None, hours, *evidence.known)
        return gate("unknown", "no approach that asks a model was run", prompt)
    unfit = {name: _unfit_share(evidence.results[name]) for name in asking}
    best = min(unfit, key=lambda name: (unfit[name], name))
    if unfit[best] > MAX_UNFIT_SHARE:
        return gate(
            "no",
            f"even {best} could not take or did not get through {wording.percent(unfit[best])} of its cases",
            "run the same prompt on a model with a longer context or a more reliable endpoint",
        )
    unpriced = [name for name in asking if task_costs(evidence.results[name], evidence.facts[name].price).usd is None]
    if unpriced:
        is_imported = any(evidence.facts[name].is_imported for name in unpriced)
        return gate(
            "unknown",
            f"no price is known for {wording.few(unpriced)}",
            f"say what a task costs with {_approaches(len(unpriced))}, in a column cost_usd or under approaches in the settings"
            if is_imported
            else "read one page, the vendor's price list, and write it under models.endpoints in study.yaml",
        )
    bases = sorted({evidence.facts[name].endpoint or "local" for name in asking})
    share = f"{wording.percent(unfit[best])} of the cases of {best}" if unfit[best] else "no case"
    fine = f"{share} too long or failed, prices known"
    prompt = evidence.best_where(lambda facts: facts.calls_model and not is_tuned(facts)) or best
    if any(evidence.facts[name].is_imported for name in asking):
        return gate(
            "unknown",
            f"{fine}, but the outcomes do not say which base models were asked",
            f"say which model each approach asked; if it is one, {cheapest.try_other_bases(prompt, *evidence.known[:2])}",
        )
    if len(bases) == 1:
        return gate(
            "unknown",
            f"{fine}, but only one base model was tried ({bases[0]}); a stronger or cheaper one comes before any tuning",
            cheapest.try_other_bases(prompt, *evidence.known[:2]),
        )
    return gate("yes", f"{fine}; {len(bases)} base models tried: {wording.listed(bases)}")


def _unfit_share(results: ApproachResults) -> float:
    unfit = sum(results.status_counts.get(status, 0) for status in ("too_long", "failed"))
    return unfit / max(1, results.n_outcomes)


def _workflow_pays(evidence: Evidence) -> Gate:
    gate = _asked("workflow_pays", "Does workflow work (schema, examples, validation, splitting) still pay?")
    workflow = evidence.best_where(lambda facts: "workflow" in facts.levers and not is_tuned(facts))
    prompt = evidence.best_where(lambda facts: uses_only(facts, "prompt"))
    if workflow is None or prompt is None:
        missing = "with" if workflow is None else "without"
        told = f"no approach {missing} workflow was run"
        hours = evidence.money.authoring_hours.workflow if workflow is None else 0.0
        hours += evidence.money.authoring_hours.prompt
        new = cheapest.run_new(f"one approach {missing} schema and repair", prompt or workflow, hours, *evidence.known)
        return _not_compared(gate, evidence, told, new)
    draws = evidence.draws
    if draws is not None and {workflow, prompt} <= set(draws.names):
        # Both are useful: then it pays where it costs less, whether or not it succeeds more often.
        p_cheaper = draws.p_cheaper(workflow, prompt)
        told = (
            f"{workflow} costs less per successful task than {prompt} with probability {wording.likelihood(p_cheaper)};"
            f" {_comparison_evidence(evidence.compare(workflow, prompt))}"
        )
        if p_cheaper >= BEATS or p_cheaper <= 1 - BEATS:
            return gate("yes" if p_cheaper >= BEATS else "no", told)
    return _answered_by(gate, evidence, workflow, prompt)


def _knowledge_failures(evidence: Evidence) -> Gate:
    gate = _asked("knowledge_failures", "Are failures knowledge failures?")
    retrieval = evidence.best_where(
        lambda facts: facts.calls_model and "retrieval" in facts.levers and not is_tuned(facts)
    )
    without = evidence.best_where(
        lambda facts: facts.calls_model and has_levers_without(facts, "retrieval") and not is_tuned(facts)
    )
    ceiling = next((name for name, facts in evidence.facts.items() if facts.is_ceiling), None)
    if ceiling is not None and ceiling in evidence.results and without is not None:
        # The probe itself was run: the gold sources were given. What then passes was knowledge.
        return _answered_by(gate, evidence, ceiling, without)
    probed = without or evidence.best_where(lambda facts: facts.calls_model)
    probe = cheapest.probe_sources(probed, evidence.results, evidence.facts)
    if retrieval is None or without is None:
        return _not_compared(gate, evidence, "retrieval was not compared with the same model without it", probe)
    comparison = evidence.compare(retrieval, without)
    told = _comparison_evidence(comparison)
    if comparison.evidence == "a":
        return gate("yes", f"retrieving makes failures pass: {told}")
    # Retrieval that does not help may have found the wrong sources, so 'no' needs the probe.
    return gate("unknown", f"retrieval does not clearly help: {told}", probe)


def _failures_recur(evidence: Evidence) -> Gate:
    gate = _asked("failures_recur", "Are the remaining failures recurring and stable?")
    leader = evidence.best_where(lambda _: True)
    if leader is None:
        to_score = cheapest.score_unscored(list(evidence.results), evidence.results, evidence.money)
        return gate("unknown", "no case was scored", to_score)
    results = evidence.results[leader]
    notes = []
    repeated = (results.n_repeats > 1) & (results.success_low < 1)
    if repeated.any():
        always = float((results.success_high[repeated] == 0).mean())
        notes.append(f"{wording.percent(always)} of the failing cases of {leader} fail in every repeat")
        if always < 0.5:
            return gate("no", f"{notes[0]}: most failures come and go")
    halves = _halves(results)
    if halves is None:
        because = notes or [f"{leader} was run once per case, and too few cases are dated"]
        return gate("unknown", "; ".join(because), cheapest.repeat_cases(leader, evidence.results, evidence.facts))
    older, newer, low, high = halves
    notes.append(
        f"success of {leader} is {wording.percent(older)} on the older half of the cases and {wording.percent(newer)}"
        f" on the newer half (difference {wording.points(low)} to {wording.points(high)})"
    )
    told = "; ".join(notes)
    if low > 0 or high < 0:
        return gate("no", told)
    if low >= -STABLE_WITHIN and high <= STABLE_WITHIN:
        return gate("yes", told)
    return gate(
        "unknown",
        told,
        cheapest.score_more([leader], cheapest.MORE_DATED, *evidence.known, kind="dated", n_waiting=evidence.n_waiting),
    )


def _halves(results: ApproachResults) -> tuple[float, float, float, float] | None:
    """Success in the older and newer half by date, and the interval of newer minus older."""
    dated = [
        (time, success)
        for time, success in zip(results.time, results.success.tolist(), strict=True)
        if time is not None and not np.isnan(success)
    ]
    if len(dated) < 2 * MIN_HALF:
        return None
    middle = sorted(time for time, _ in dated)[len(dated) // 2]
    # Cases of one day stay together, so the halves need not be equal; the smaller one sets the width.
    older = [success for time, success in dated if time < middle]
    newer = [success for time, success in dated if time >= middle]
    n = min(len(older), len(newer))
    if n < MIN_HALF:
        return None
    rate_older, rate_newer = float(np.mean(older)), float(np.mean(newer))
    interval = square_and_add(rate_newer, rate_older, n, 0.0)
    return rate_older, rate_newer, interval.low, interval.high


def _tuning_ready(evidence: Evidence) -> Gate:
    gate = _asked(
        "tuning_ready", "Are labels enough, and is the lower bound of tuning's gain above its full cost in the horizon?"
    )
    tuned = evidence.best_where(is_tuned)
    untuned = evidence.best_where(lambda facts: has_levers_without(facts, "tuning"))
    n_there = max((facts.n_labels for facts in evidence.facts.values()), default=0)
    head = cheapest.train_head(n_there, evidence.money, enough=FEW_LABELS)
    if tuned is None or untuned is None:
        told = "tuned and untuned approaches were not both run"
        return _not_compared(gate, evidence, told, head)
    if evidence.facts[tuned].is_imported and not {"n_labels", "setup_cost_usd"} <= evidence.facts[tuned].stated:
        return gate(
            "unknown",
            f"how many labelled cases {tuned} learned from, and what its training cost, is not known",
            head,
        )
    n_labels = evidence.facts[tuned].n_labels
    if n_labels < FEW_LABELS:
        return gate("no", f"{tuned} had {n_labels} labelled cases; fewer than {FEW_LABELS} are too few to learn from")
    draws = evidence.draws
    rivals = [] if draws is None else [name for name in draws.names if not is_tuned(evidence.facts[name])]
    if draws is None or tuned not in draws.names or not rivals:
        comparison = evidence.compare(tuned, untuned)
        return gate(
            "unknown",
            f"costs cannot be compared; {_comparison_evidence(comparison)}",
            "price both, and set a goal that a tuned and an untuned approach may reach: two fields of study.yaml",
        )
    rival = min(rivals, key=lambda name: draws.loss_of(name))
    saving = -draws.cost_difference(tuned, rival) * draws.successes_per_month.mean(axis=0)[draws.names.index(tuned)]
    if len(saving) == 0:
        return gate("unknown", f"{tuned} or {rival} hardly ever succeeds", f"read {cheapest.PROBED} failed cases")
    low, high = (float(end) for end in np.quantile(saving, [evidence.alpha / 2, 1 - evidence.alpha / 2]))
    if low > 0:
        money = f"saves ${low:,.0f} to ${high:,.0f} a month against {rival}"
    elif high < 0:
        money = f"costs ${-high:,.0f} to ${-low:,.0f} a month more than {rival}"
    else:
        money = f"saves up to ${high:,.0f} a month against {rival}, or costs up to ${-low:,.0f} more"
    told = f"with {n_labels:,} labelled cases, building and retraining included, {tuned} {money}"
    if low > 0:
        return gate("yes", told)
    if high < 0:
        return gate("no", told)
    return gate(
        "unknown",
        told,
        cheapest.score_more(
            [tuned, rival], _cases_for(saving, draws.n_cases), *evidence.known, n_waiting=evidence.n_waiting
        ),
    )


def _cases_for(saving: Floats, n: int) -> int:
    """More cases after which the interval of a saving should leave out zero, if its present mean is the truth."""
    mean, spread = float(saving.mean()), float(saving.std())
    if mean == 0:
        return n
    return min(MAX_CASES, max(1, math.ceil(n * (normal_quantile(0.975) * spread / mean) ** 2) - n))


def _not_compared(gate: Callable[..., Gate], evidence: Evidence, told: str, cheapest: str) -> Gate:
    """Unknown for want of an approach; or nobody said which levers the approaches pull."""
    if all(facts.levers for facts in evidence.facts.values()):
        return gate("unknown", told, cheapest)
    return gate(
        "unknown",
        "the outcomes do not say which levers each approach pulls",
        f"say it for {_approaches(len(evidence.facts))}, in a column levers or under approaches in the settings: minutes",
    )


def _approaches(n: int) -> str:
    return "one approach" if n == 1 else f"{n} approaches"


def _answered_by(gate: Callable[..., Gate], evidence: Evidence, one: str, other: str) -> Gate:
    comparison = evidence.compare(one, other)
    told = _comparison_evidence(comparison)
    if comparison.evidence == "a":
        return gate("yes", told)
    if comparison.evidence in ("b", "equivalent"):
        return gate("no", told)
    more = comparison.cases_to_settle
    if more:
        return gate(
            "unknown", told, cheapest.score_more([one, other], more, *evidence.known, n_waiting=evidence.n_waiting)
        )
    return gate("unknown", told, cheapest.score_unscored([one, other], evidence.results, evidence.money))


def _comparison_evidence(comparison: Comparison) -> str:
    difference = comparison.difference
    if difference.value is None or difference.low is None or difference.high is None:
        return f"{comparison.a} and {comparison.b} have too few scored cases in common"
    return (
        f"{comparison.a} against {comparison.b} on {comparison.n:,} cases: success {wording.points(difference.value)}"
        f" ({wording.points(difference.low)} to {wording.points(difference.high)})"
    )


def _asked(name: str, question: str) -> Callable[..., Gate]:
    def gate(answer: GateAnswer, evidence: str, cheapest_evidence: str | None = None) -> Gate:
        return Gate(name=name, question=question, answer=answer, evidence=evidence, cheapest_evidence=cheapest_evidence)

    return gate
