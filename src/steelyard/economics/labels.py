"""What the inputs of ledger formulas are called in sentences and tables."""

from __future__ import annotations

_LABELS = {
    "money__volume_per_month": "tasks per month",
    "money__wage_per_hour_usd": "wage per hour in USD",
    "money__failed_task_usd": "cost of a failed task in USD",
    "money__review_share": "share of answers a person looks at",
    "money__review_seconds": "seconds per look at an answer",
    "money__horizon_months": "months over which one-off work is written off",
    "money__authoring_hours": "hours of building",
    "money__maintenance_hours_per_month": "hours of maintenance per month",
    "money__labelling_seconds_per_case": "seconds to label a case",
    "money__retraining_per_year": "retrainings per year",
    "money__curation_hours_per_retraining": "hours of curation per retraining",
    "money__hosting_usd_per_month": "hosting of a tuned model in USD per month",
    "money__reindex_per_month": "times a month the index is built again",
    "money__batch_share": "share of tasks that can wait a day",
    "task__label_changes_per_month": "label changes per month",
    "task__edit_hours_per_change": "hours of editing per change",
    "task__relabelled_per_change": "cases relabelled per change",
    "task__correction_seconds": "seconds to correct an answer",
    "success": "success",
    "variable_usd": "cost of calls and computing per task in USD",
    "n_cases": "cases of the evaluation",
    "n_labels": "labels needed",
    "authoring_hours": "hours of building",
    "maintenance_hours_per_month": "hours of maintenance per month",
    "setup_cost_usd": "training and indexing in USD",
    "search_cost_usd": "looking for prompt and settings in USD",
    "teacher_cost_usd": "labels from a teacher in USD",
    "index_cost_usd": "building the index again in USD",
    "index_usd_per_hour": "the machine that keeps the index up to date in USD per hour",
    "index_seconds_per_month": "seconds of updates of the index per month",
    "batch_discount": "batch discount",
    "cached_saving_usd_per_task": "saved by prompt caching per task in USD",
    "review_seconds": "review seconds",
    "correction_rate": "correction rate",
    "seconds_per_task": "seconds per task",
    "judge_usd_per_case": "judging a case in USD",
}


def label_of(name: str, approach: str | None = None) -> str:
    """The label of an input by its name in formulas.

    >>> label_of("money__authoring_hours__tuning"), label_of("success", "tuned")
    ('hours of building, lever tuning', 'success of tuned')
    """
    label = _LABELS.get(name)
    if label is None:  # hours by lever
        section, _, lever = name.rpartition("__")
        return f"{_LABELS.get(section, section)}, lever {lever}"
    return label if is_shared(name) or approach is None else f"{label} of {approach}"


def is_shared(name: str) -> bool:
    """Whether an input is one and the same for all approaches."""
    return name.startswith(("money__", "task__"))
