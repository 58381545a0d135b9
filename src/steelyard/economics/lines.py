"""The lines of a ledger: which amounts there are, and the formula of each (design section 5).

A formula is written once, over named inputs; amount, provenance, interval and the working with the numbers put in all
follow from it. `steelyard.economics.costs` is the same arithmetic in closed form, for resampling; tests hold the two
together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from steelyard.economics.basis import Basis, figures_of, hours_formula, shown_of
from steelyard.economics.costs import SECONDS_PER_MONTH, is_tuned, reindexing_usd, retrainings_per_year
from steelyard.economics.formulas import evaluate, names_in
from steelyard.economics.ledger import ApproachFacts, LedgerLine, TermName
from steelyard.economics.spec import MoneySpec
from steelyard.figures import Figure, unknown, weakest


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rule:
    """How one line is worked out."""

    name: str
    term: TermName
    label: str
    formula: str
    working: str
    """Template over the inputs and `shown`."""
    moved_by: str | None = None
    """The measured input whose interval the amount has."""
    unknown_because: str | None = None
    """Why the amount is not known, where it is not; it is then in no sum."""


def lines_of(basis: Basis, facts: ApproachFacts, money: MoneySpec) -> tuple[LedgerLine, ...]:
    """Every amount of the ledger, in the order of the terms."""
    figures, shown = figures_of(basis, facts, money), shown_of(basis, facts, money)
    rules = [_stated_elsewhere(rule, facts) for rule in _rules(basis, facts, money)]
    return tuple(_line(rule, figures, shown) for rule in rules)


def lines_apart(basis: Basis, facts: ApproachFacts, money: MoneySpec) -> tuple[LedgerLine, ...]:
    """Amounts worth knowing that are in no sum, because they are a part of another line or no cost of the task."""
    figures, shown = figures_of(basis, facts, money), shown_of(basis, facts, money)
    return tuple(_line(rule, figures, shown) for rule in _rules_apart(basis, facts, money))


# --- private ---------------------------------------------------------------------------------------------------------

_OVER_HORIZON = " over {money__horizon_months:g} months"
_WAGE = "${money__wage_per_hour_usd:.2f}/h"


def _rules(basis: Basis, facts: ApproachFacts, money: MoneySpec) -> Iterator[_Rule]:
    yield _Rule(
        name="model_calls",
        term="variable",
        label="Model calls and computing",
        formula="money__volume_per_month * variable_usd",
        working="{money__volume_per_month:,.0f} tasks × ${variable_usd:.6f}",
        moved_by="variable_usd",
    )
    if facts.batch_discount and money.batch_share:
        yield _Rule(
            name="batch_discount",
            term="variable",
            label="Batch discount",
            formula="-money__volume_per_month * variable_usd * money__batch_share * batch_discount",
            working="{money__batch_share:.0%} of the calls can wait, {batch_discount:.0%} off",
        )
    yield _Rule(
        name="review",
        term="review",
        label="People looking at answers",
        formula=(
            f"money__volume_per_month * money__review_share * ({basis.review_formula}) / 3600 * money__wage_per_hour_usd"
        ),
        working="{money__volume_per_month:,.0f} tasks × {money__review_share:.0%} × {review_seconds:.0f} s × " + _WAGE,
    )
    yield _Rule(
        name="failed_tasks",
        term="failure",
        label="Failed tasks",
        formula="money__volume_per_month * (1 - success) * money__failed_task_usd",
        working="{money__volume_per_month:,.0f} tasks × {failure:.1%} × ${money__failed_task_usd:.2f}",
        moved_by="success",
    )
    yield _Rule(
        name="maintenance",
        term="upkeep",
        label="Maintenance",
        formula=f"{hours_formula(facts, 'maintenance_hours_per_month')} * money__wage_per_hour_usd",
        working="{maintenance_hours:g} h × " + _WAGE,
    )
    if is_tuned(facts):
        yield _Rule(
            name="hosting",
            term="upkeep",
            label="Hosting the tuned model",
            formula="money__hosting_usd_per_month",
            working="${money__hosting_usd_per_month:,.2f} a month",
        )
        by_plan = retrainings_per_year(facts, money) == money.retraining_per_year
        per_month = "money__retraining_per_year / 12" if by_plan else "task__label_changes_per_month"
        training = "training not counted" if _is_unknown("setup_cost_usd", facts) else "${setup_cost_usd:.4f} training"
        yield _Rule(
            name="retraining",
            term="upkeep",
            label="Retraining",
            formula=(
                f"{per_month} * (money__curation_hours_per_retraining * money__wage_per_hour_usd + setup_cost_usd"
                " + n_cases * variable_usd)"
            ),
            working="{retrainings:g} a year × ({money__curation_hours_per_retraining:g} h × "
            + f"{_WAGE} + {training} + ${{evaluation_usd:.4f}} evaluation)",
        )
    if "retrieval" in facts.levers:
        yield from _reindexing(facts, money)
    if facts.changes is not None:
        yield _Rule(
            name="changes",
            term="upkeep",
            label="Following changes of the task",
            formula="task__label_changes_per_month * task__edit_hours_per_change * money__wage_per_hour_usd",
            working="{task__label_changes_per_month:g} changes a month × {task__edit_hours_per_change:g} h × " + _WAGE,
        )
        cases = "task__label_changes_per_month * task__relabelled_per_change" if facts.n_labels else "0"
        yield _Rule(
            name="relabelling",
            term="upkeep",
            label="Relabelling",
            formula=f"{cases} * money__labelling_seconds_per_case / 3600 * money__wage_per_hour_usd",
            working="{relabelled:g} cases × {money__labelling_seconds_per_case:g} s × " + _WAGE,
        )
    yield _Rule(
        name="building",
        term="setup",
        label="Building it",
        formula=f"{hours_formula(facts, 'authoring_hours')} * money__wage_per_hour_usd / money__horizon_months",
        working="{building_hours:g} h × " + _WAGE + _OVER_HORIZON,
    )
    yield _Rule(
        name="labelling",
        term="setup",
        label="Labelling",
        formula=(
            "n_labels * money__labelling_seconds_per_case / 3600 * money__wage_per_hour_usd / money__horizon_months"
        ),
        working="{n_labels:,.0f} cases × {money__labelling_seconds_per_case:g} s × " + _WAGE + _OVER_HORIZON,
    )
    yield _Rule(
        name="training",
        term="setup",
        label="Training and indexing",
        formula="setup_cost_usd / money__horizon_months",
        working="{setup_seconds:.0f} s of computing, ${setup_cost_usd:.4f}," + _OVER_HORIZON,
    )
    if facts.search_cost_usd != 0:
        yield _Rule(
            name="search",
            term="setup",
            label="Looking for prompt and settings",
            formula="search_cost_usd / money__horizon_months",
            working="${search_cost_usd:.4f} of calls" + _OVER_HORIZON,
            unknown_because="what looking for it cost is not known" if facts.search_cost_usd is None else None,
        )
    if facts.teacher_cost_usd != 0:
        yield _Rule(
            name="distillation",
            term="setup",
            label="Labels from a teacher",
            formula="teacher_cost_usd / money__horizon_months",
            working="${teacher_cost_usd:.4f} for a teacher's answers," + _OVER_HORIZON,
            unknown_because="what the teacher was paid is not known" if facts.teacher_cost_usd is None else None,
        )
    yield _Rule(
        name="evaluation",
        term="setup",
        label="Evaluation",
        formula="n_cases * variable_usd / money__horizon_months",
        working="{n_cases:,.0f} cases × ${variable_usd:.6f}" + _OVER_HORIZON,
    )


def _rules_apart(basis: Basis, facts: ApproachFacts, money: MoneySpec) -> Iterator[_Rule]:
    if facts.cached_saving_usd_per_task:
        yield _Rule(
            name="cached_saving",
            term="variable",
            label="Saved by prompt caching (the calls above cost so much less)",
            formula="money__volume_per_month * cached_saving_usd_per_task",
            working="{money__volume_per_month:,.0f} tasks × ${cached_saving_usd_per_task:.6f}",
        )
    if is_tuned(facts) and money.hosting_usd_per_month and basis.seconds_per_task is not None:
        busy = (basis.seconds_per_task.value or 0.0) * money.volume_per_month / SECONDS_PER_MONTH
        share = f"money__volume_per_month * seconds_per_task / {SECONDS_PER_MONTH}"
        yield _Rule(
            name="idle_hosting",
            term="upkeep",
            label="Hosting that stands idle (part of the hosting above)",
            formula=f"money__hosting_usd_per_month * (1 - {share})" if busy < 1 else "0",
            working=(
                "in use {busy:.2%} of the month: {money__volume_per_month:,.0f} tasks × {seconds_per_task:.3g} s, one "
                "after the other"
                if busy < 1
                else "none: {money__volume_per_month:,.0f} tasks × {seconds_per_task:.3g} s, one after the other, are "
                "{busy:.1f} months of work; they need batching or more than the rent of one"
            ),
        )
    if basis.judge_usd_per_case is not None:
        yield _Rule(
            name="judging",
            term="setup",
            label="Judging the evaluation (not a cost of the task)",
            formula="n_cases * judge_usd_per_case / money__horizon_months",
            working="{n_cases:,.0f} cases × ${judge_usd_per_case:.6f}" + _OVER_HORIZON,
        )


def _reindexing(facts: ApproachFacts, money: MoneySpec) -> Iterator[_Rule]:
    """Keeping an index up to date: as often as planned, else as the documents were seen to change."""
    is_unknown = reindexing_usd(facts, money) is None
    if money.reindex_per_month:
        yield _Rule(
            name="reindexing",
            term="upkeep",
            label="Re-indexing",
            formula="money__reindex_per_month * index_cost_usd",
            working="{money__reindex_per_month:g} a month × ${index_cost_usd:.4f}",
            unknown_because="what indexing costs apart from training is not known" if is_unknown else None,
        )
    elif facts.index_usd_per_hour is not None:
        yield _Rule(
            name="reindexing",
            term="upkeep",
            label="Re-indexing as documents change",
            formula="index_seconds_per_month / 3600 * index_usd_per_hour",
            working="{index_seconds_per_month:.1f} s of updates a month × ${index_usd_per_hour:.4f}/h",
            unknown_because="how often documents change was not watched for a day yet" if is_unknown else None,
        )


def _line(rule: _Rule, figures: Mapping[str, Figure], shown: Mapping[str, float]) -> LedgerLine:
    if rule.unknown_because is not None:
        return LedgerLine(
            name=rule.name,
            term=rule.term,
            label=rule.label,
            usd_per_month=unknown(rule.unknown_because),
            formula="",
            inputs={},
            working=f"not counted: {rule.unknown_because}",
        )
    inputs = {name: figures[name] for name in names_in(rule.formula)}
    values = {name: figure.value for name, figure in inputs.items() if figure.value is not None}
    ends: list[float | None] = [None, None]
    if rule.moved_by is not None:
        moved = inputs[rule.moved_by]
        ends = [
            None if end is None else evaluate(rule.formula, {**values, rule.moved_by: end})
            for end in (moved.low, moved.high)
        ]
        if rule.moved_by == "success":  # more successes cost less
            ends.reverse()
    known = {name: figure.value for name, figure in figures.items() if figure.value is not None}
    return LedgerLine(
        name=rule.name,
        term=rule.term,
        label=rule.label,
        usd_per_month=Figure(
            value=evaluate(rule.formula, values),
            low=ends[0],
            high=ends[1],
            provenance=weakest(figure.provenance for figure in inputs.values()),
        ),
        formula=rule.formula,
        inputs=inputs,
        working=rule.working.format(**known, **shown),
    )


def _is_unknown(fact: Literal["n_labels", "setup_cost_usd"], facts: ApproachFacts) -> bool:
    """Whether nobody knows a fact of an imported approach: its settings do not state it."""
    return facts.is_imported and fact not in facts.stated and not getattr(facts, fact)


def _stated_elsewhere(rule: _Rule, facts: ApproachFacts) -> _Rule:
    """The rule of an imported approach, marked unknown where nobody knows the amount."""
    if not facts.is_imported:
        return rule
    because = None
    match rule.name:
        case "labelling" if _is_unknown("n_labels", facts):
            because = "its results were made elsewhere"
        case "training" if _is_unknown("setup_cost_usd", facts):
            because = "its results were made elsewhere"
        case "building" if not facts.levers and facts.authoring_hours is None:
            because = "which levers it pulls is not known"
        case "maintenance" if not facts.levers and facts.maintenance_hours_per_month is None:
            because = "which levers it pulls is not known"
    if because is None:
        return rule
    return replace(rule, unknown_because=because)
