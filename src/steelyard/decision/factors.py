"""The eight decision factors, filled for this task and each approach from what was measured and what its ledger rests on.

Speed to a first production version, labelled data needed, fresh or private knowledge, ease of change, latency and token
overhead, evaluation burden, switching risk, best use. A cell holds a sentence and every number in it as a figure with
provenance; what nobody knows says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from steelyard.decision import factor_wording as wording
from steelyard.decision.gates import Evidence
from steelyard.decision.verdict import FactorCell, FactorRow, Gate, Standing
from steelyard.economics.costs import hours_levers, hours_of, index_cost_usd, is_tuned, measure, relabelled_per_month
from steelyard.economics.ledger import ApproachFacts, Economics
from steelyard.economics.spec import MoneySpec, source_of
from steelyard.figures import MEASURED, Figure, Provenance, unknown, weakest
from steelyard.measure.intervals import percentile
from steelyard.measure.power import detectable_figure
from steelyard.measure.results import Floats, on_common_cases
from steelyard.measure.scoring import task_costs

EDIT_HOURS = 1.0
"""Hours to put one change of the task into prompt, schema and tests, where nobody said how long that takes."""

MORE_TOKENS = 1.05
"""Prompts up to so many times as long as the shortest are not called longer."""

FACTORS = {
    "speed": "Speed to a first production version",
    "labels": "Labelled data needed",
    "knowledge": "Fresh or private knowledge",
    "change": "Ease of change",
    "overhead": "Latency and token overhead",
    "evaluation": "Evaluation burden",
    "switching": "Switching risk",
    "best_use": "Best use",
}
"""Id and title of each factor, in the order in which they are shown."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the factors are filled from."""

    evidence: Evidence
    money: MoneySpec
    economics: Economics
    gates: Mapping[str, Gate]
    standings: Sequence[Standing]
    """Best first."""
    leader: str | None
    """The choice, or who would be it."""
    is_settled: bool
    """Whether the leader is the choice."""

    def facts(self, name: str) -> ApproachFacts:
        """What is known about one approach."""
        return self.evidence.facts[name]


def decision_factors(known: Known) -> tuple[FactorRow, ...]:
    """All eight factors, each with a cell for every approach, best approach first."""
    cell_of: dict[str, Callable[[Known, str], FactorCell]] = {
        "speed": _speed,
        "labels": _labels,
        "knowledge": _knowledge,
        "change": _change,
        "overhead": _overhead,
        "evaluation": _evaluation,
        "switching": _switching,
        "best_use": _best_use,
    }
    return tuple(
        FactorRow(
            factor=factor,
            title=title,
            cells={standing.name: cell_of[factor](known, standing.name) for standing in known.standings},
        )
        for factor, title in FACTORS.items()
    )


# --- private ---------------------------------------------------------------------------------------------------------


def _speed(known: Known, name: str) -> FactorCell:
    facts, money = known.facts(name), known.money
    building = _hours(facts, money)
    labelling = _labelling_hours(facts, money)
    if facts.is_imported:
        preparing = unknown("its preparation was not recorded")
    else:
        preparing = Figure(value=facts.setup_seconds, provenance=MEASURED)
    if building.value is None:
        total = building
    else:
        hours = building.value + (labelling.value or 0.0) + (preparing.value or 0.0) / 3600
        total = Figure(value=hours, provenance=_weakest(building, labelling, preparing))
    parts = {"building_hours": building, "labelling_hours": labelling, "preparation_s": preparing}
    return FactorCell(text=wording.speed(building, labelling, preparing), figure=total, parts=parts)


def _labels(known: Known, name: str) -> FactorCell:
    facts = known.facts(name)
    labels = _n_labels(facts)
    hours = _labelling_hours(facts, known.money)
    return FactorCell(
        text=wording.labels(labels, hours), figure=labels, parts={"labels": labels, "labelling_hours": hours}
    )


def _knowledge(known: Known, name: str) -> FactorCell:
    facts, gate = known.facts(name), known.gates["knowledge_failures"]
    index = None
    if "retrieval" in facts.levers:
        usd = index_cost_usd(facts)
        is_known = usd is not None and (not facts.is_imported or "setup_cost_usd" in facts.stated)
        index = (
            Figure(value=usd, provenance=facts.stated_by)
            if is_known
            else unknown("what building its index costs was not recorded")
        )
    text = wording.knowledge(facts, index, is_tuned=is_tuned(facts), failures=gate.answer)
    return FactorCell(text=text, figure=index, parts={} if index is None else {"index_usd": index})


def _change(known: Known, name: str) -> FactorCell:
    facts, money = known.facts(name), known.money
    if not facts.levers:
        because = unknown("the outcomes do not say which levers it pulls")
        return FactorCell(text=wording.told(because, "usd"), figure=because)
    wage = Figure(value=money.wage_per_hour_usd, provenance=source_of(money, "wage_per_hour_usd"))
    stated = facts.changes.edit_hours if facts.changes else EDIT_HOURS
    place = "task.edit_hours_per_change" if facts.changes else "an hour to edit prompt, schema and tests"
    edit = Figure(value=stated, provenance=Provenance(kind="assumed", source=place))
    relabel = None
    if facts.changes and relabelled_per_month(facts):
        hours = facts.changes.relabelled * money.labelling_seconds_per_case / 3600
        relabel = Figure(
            value=hours,
            provenance=weakest(
                [
                    Provenance(kind="assumed", source="task.relabelled_per_change"),
                    source_of(money, "labelling_seconds_per_case"),
                ]
            ),
        )
    retrain = _retraining(known, name)
    amounts = [edit, wage, *filter(None, (relabel, retrain))]
    total = _sum_of_change(money, edit, relabel, retrain, provenance=_weakest(*amounts))
    parts = {"edit_hours": edit, "wage_per_hour_usd": wage}
    parts |= {"relabelling_hours": relabel} if relabel else {}
    parts |= {"retraining_usd": retrain} if retrain else {}
    parts |= {"retraining_s": Figure(value=facts.setup_seconds)} if retrain and not facts.is_imported else {}
    return FactorCell(text=wording.change(total, parts), figure=total, parts={**parts, "one_change_usd": total})


def _sum_of_change(
    money: MoneySpec, edit: Figure, relabel: Figure | None, retrain: Figure | None, *, provenance: Provenance
) -> Figure:
    if retrain is not None and retrain.value is None:
        return unknown(retrain.unknown_because or "what a training costs is not known")
    hours = (edit.value or 0.0) + ((relabel.value or 0.0) if relabel else 0.0)
    usd = hours * money.wage_per_hour_usd + ((retrain.value or 0.0) if retrain else 0.0)
    return Figure(value=usd, provenance=provenance)


def _overhead(known: Known, name: str) -> FactorCell:
    results = known.evidence.results
    p50, p95 = _latency(results[name].latency_s, 0.5), _latency(results[name].latency_s, 0.95)
    tokens = _mean(results[name].prompt_tokens, "prompt tokens")
    sent = {
        other: found.value
        for other in results
        if known.facts(other).calls_model and (found := _mean(results[other].prompt_tokens, "")).value
    }
    least = min(sent, key=lambda other: (sent[other] or 0.0, other), default=None)
    times = None
    if least is not None and tokens.value and tokens.value > MORE_TOKENS * (sent[least] or 0.0):
        times = Figure(value=tokens.value / (sent[least] or 1.0))
    calls_model = known.facts(name).calls_model
    parts = {"p50_s": p50, "p95_s": p95, "prompt_tokens": tokens} | ({"times_the_least": times} if times else {})
    return FactorCell(
        text=wording.overhead(p50, p95, tokens, times, least, calls_model=calls_model), figure=p95, parts=parts
    )


def _evaluation(known: Known, name: str) -> FactorCell:
    results, money = known.evidence.results[name], known.money
    n_scored = int((~np.isnan(results.success)).sum())
    once = _one_evaluation(known, name)
    hours = Figure(
        value=results.n * money.labelling_seconds_per_case / 3600,
        provenance=source_of(money, "labelling_seconds_per_case"),
    )
    rival = _rival(known, name)
    finds = None if rival is None else _detectable(known, name, rival)
    parts = {"scored_cases": Figure(value=n_scored), "calls_usd": once, "labelling_hours": hours}
    parts |= {"detectable_difference": finds} if finds else {}
    return FactorCell(text=wording.evaluation(n_scored, once, hours, finds, rival), figure=once, parts=parts)


def _switching(known: Known, name: str) -> FactorCell:
    facts = known.facts(name)
    again = _one_evaluation(known, name)
    retrain = _retraining(known, name)
    leaving = again if retrain is None else retrain  # a retraining includes its evaluation
    return FactorCell(
        text=wording.switching(facts, leaving, is_tuned=is_tuned(facts)),
        figure=leaving,
        parts={"leaving_usd": leaving},
    )


def _best_use(known: Known, name: str) -> FactorCell:
    standing = next(one for one in known.standings if one.name == name)
    cost = standing.cost_per_success_usd
    volume = Figure(value=known.money.volume_per_month, provenance=source_of(known.money, "volume_per_month"))
    parts = {"cost_per_success_usd": cost, "tasks_per_month": volume}
    if standing.excluded_because is not None:
        return FactorCell(text=wording.no_use(standing.excluded_because), figure=cost, parts=parts)
    if name == known.leader or known.leader is None:
        crossing = None
    else:
        pair = {name, known.leader}
        crossing = next((one for one in known.economics.break_evens if {one.a, one.b} == pair), None)
    if crossing is not None and crossing.volume is not None:
        parts["break_even_tasks_per_month"] = Figure(
            value=crossing.volume, low=crossing.low, high=crossing.high, provenance=cost.provenance
        )
    text = wording.best_use(
        name,
        cost,
        volume,
        leader=known.leader,
        is_settled=known.is_settled,
        crossing=crossing,
        strengths=_strengths(known, name),
    )
    return FactorCell(text=text, figure=cost, parts=parts)


def _strengths(known: Known, name: str) -> tuple[str, ...]:
    """Where this approach is the best of those in the running, apart from cost."""
    running = [one.name for one in known.standings if one.excluded_because is None]
    if len(running) < 2:
        return ()
    results = known.evidence.results

    def success(one: str) -> float | None:
        rate = _mean(results[one].success, "").value
        return None if rate is None else -rate

    least: dict[str, Callable[[str], float | None]] = {
        "success": success,
        "p95 latency": lambda one: _latency(results[one].latency_s, 0.95).value,
        "hours to build": lambda one: _hours(known.facts(one), known.money).value,
        "labels needed": lambda one: _n_labels(known.facts(one)).value,
    }
    found = []
    for what, value in least.items():
        values = {one: value(one) for one in running}
        own = values.pop(name)
        others = [other for other in values.values() if other is not None]
        if own is None or len(others) < len(values):
            continue
        if own < min(others):
            found.append(what)
    return tuple(found)


def _rival(known: Known, name: str) -> str | None:
    """Who an approach is compared with: the leader, or the leader's nearest rival."""
    if known.leader is not None and name != known.leader:
        return known.leader
    return next((one.name for one in known.standings if one.name != name), None)


def _detectable(known: Known, name: str, rival: str) -> Figure:
    results = known.evidence.results
    one, other = on_common_cases({name: results[name], rival: results[rival]}).values()
    scored = ~np.isnan(one.success) & ~np.isnan(other.success)
    if not scored.any():
        return unknown("too few cases were done and scored by both")
    discordance = float(np.abs(one.success[scored] - other.success[scored]).mean())
    return detectable_figure(min(int(scored.sum()), one.n_clusters), discordance, alpha=known.evidence.alpha)


def _one_evaluation(known: Known, name: str) -> Figure:
    """What doing its cases once more costs in calls and computing."""
    results = known.evidence.results[name]
    costs = task_costs(results, known.facts(name).price)
    if costs.usd is None:
        return unknown(costs.unknown_because or "no price is known")
    return Figure(value=float(costs.usd.sum()), provenance=costs.provenance)


def _retraining(known: Known, name: str) -> Figure | None:
    """What training once more costs, evaluation included; `None` where there are no weights of its own."""
    facts, money = known.facts(name), known.money
    if not is_tuned(facts):
        return None
    measured = measure(known.evidence.results[name], facts)
    if isinstance(measured, str):
        return unknown(measured)
    if facts.is_imported and "setup_cost_usd" not in facts.stated:
        return unknown("what its training costs was not recorded")
    usd = money.curation_hours_per_retraining * money.wage_per_hour_usd
    usd += (facts.setup_cost_usd or 0.0) + measured.n * measured.variable_usd
    sources = [source_of(money, "curation_hours_per_retraining"), source_of(money, "wage_per_hour_usd")]
    return Figure(value=usd, provenance=weakest([*sources, facts.price, facts.stated_by]))


def _hours(facts: ApproachFacts, money: MoneySpec) -> Figure:
    if facts.authoring_hours is not None:
        stated_by = Provenance(kind="assumed", source=f"hours stated for {facts.name}")
        return Figure(value=facts.authoring_hours, provenance=weakest([facts.stated_by, stated_by]))
    if not hours_levers(facts) and facts.is_imported:
        return unknown("the outcomes do not say which levers it pulls")
    sources = [source_of(money, f"authoring_hours.{lever}") for lever in hours_levers(facts)]
    return Figure(value=hours_of(facts, money, "authoring_hours"), provenance=weakest(sources))


def _n_labels(facts: ApproachFacts) -> Figure:
    if facts.is_imported and "n_labels" not in facts.stated:
        return unknown("the outcomes do not say how many it used")
    return Figure(value=facts.n_labels, provenance=facts.stated_by)


def _labelling_hours(facts: ApproachFacts, money: MoneySpec) -> Figure:
    labels = _n_labels(facts)
    if labels.value is None:
        return labels
    hours = labels.value * money.labelling_seconds_per_case / 3600
    return Figure(
        value=hours, provenance=source_of(money, "labelling_seconds_per_case") if hours else labels.provenance
    )


def _latency(seconds: Floats, q: float) -> Figure:
    known = seconds[~np.isnan(seconds)]
    return Figure(value=percentile(known, q)) if len(known) else unknown("no latency was recorded")


def _mean(values: Floats, what: str) -> Figure:
    known = values[~np.isnan(values)]
    return Figure(value=float(known.mean())) if len(known) else unknown(f"no {what} were recorded")


def _weakest(*figures: Figure) -> Provenance:
    return weakest(figure.provenance for figure in figures if figure.value is not None)
