"""The sheet of inputs: every number the ledgers rest on, once, highlighted where it may be changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steelyard.economics.ledger import Ledger
from steelyard.economics.spec import MoneySpec
from steelyard.economics.summary import OutlookSpec
from steelyard.figures import Figure
from steelyard.models.spec import Section
from steelyard.report.sheet import Cells, NumberStyle, Page

_SECTIONS: Mapping[str, type[Section]] = {"money": MoneySpec, "task": OutlookSpec}
_UNITS: tuple[tuple[str, str, NumberStyle], ...] = (
    ("per_hour_usd", "USD an hour", "input_usd"),
    ("usd_per_month", "USD a month", "input_usd"),
    ("usd_per_task", "USD a task", "input_usd"),
    ("usd_per_case", "USD a case", "input_usd"),
    ("_usd", "USD", "input_usd"),
    ("seconds_per_task", "seconds a task", "input_number"),
    ("seconds_per_case", "seconds a case", "input_number"),
    ("hours_per_month", "hours a month", "input_number"),
    ("hours_per_change", "hours a change", "input_number"),
    ("hours_per_retraining", "hours a retraining", "input_number"),
    ("success", "share", "input_share"),
    ("_share", "share", "input_share"),
    ("discount", "share", "input_share"),
    ("_rate", "share", "input_share"),
    ("hours", "hours", "input_number"),
    ("seconds", "seconds", "input_number"),
    ("_s", "seconds", "input_number"),
    ("months", "months", "input_number"),
    ("volume_per_month", "tasks a month", "input_number"),
    ("per_month", "a month", "input_number"),
    ("per_year", "a year", "input_number"),
    ("labels", "labelled cases", "input_number"),
    ("cases", "cases", "input_number"),
    ("per_change", "cases a change", "input_number"),
)
"""Unit and format by how a name, or a part of it, ends; the first that fits."""
_MEANINGS = {
    "success": "Share of tasks done right.",
    "variable_usd": "Calls and computing of one task, failed and repeated calls included.",
    "review_seconds": "Seconds a person looks at one answer of this approach.",
    "n_labels": "Labelled cases it needs.",
    "n_cases": "Cases it is evaluated on.",
    "seconds_per_task": "Seconds one task takes, one after the other.",
    "batch_discount": "Share off the price of calls that can wait.",
    "cached_saving_usd_per_task": "What prompt caching saved; the calls above cost so much less already.",
    "judge_usd_per_case": "What judging one case cost; never part of what a success costs.",
    "setup_cost_usd": "Machine cost of preparing it, once.",
    "search_cost_usd": "Calls spent looking for its prompt and settings, once.",
    "teacher_cost_usd": "What a teacher took for the labels it learned from, once.",
    "index_cost_usd": "Machine cost of building its index again.",
    "index_usd_per_hour": "Price of the machine that keeps its index up to date.",
    "index_seconds_per_month": "Seconds in which its index follows the documents, at their measured churn.",
    "authoring_hours": "Hours of a person's work to build it, once.",
    "maintenance_hours_per_month": "Hours of a person's work to keep it.",
}


def write_inputs(page: Page, ledgers: Sequence[Ledger], *, as_of: str) -> Mapping[str, Cells]:
    """Write every input once, and say where each stands.

    Returns:
        By approach, the cells of the names its lines use.
    """
    page.widths(34, 54, 16, 16, 13, 13, 12, 46, 12)
    page.text(0, 0, "Inputs", "title")
    page.text(1, 0, "Change a highlighted cell: Ledger, Break-even and Volume sweep follow.", "plain")
    page.text(
        2, 0, f"Verdict, Scorecards, Comparisons and Sensitivity stay as they were worked out on {as_of}.", "plain"
    )
    page.heads(4, ("Input", "What it is", "Value", "Unit", "Low", "High", "Provenance", "Source", "As of"))
    page.sheet.freeze_panes(5, 1)
    shared: dict[str, str] = {}
    own: dict[str, dict[str, Figure]] = {}
    row = 5
    page.text(row, 0, "For all approaches", "bold")
    for ledger in ledgers:
        own[ledger.approach] = {}
        for line in (*ledger.lines, *ledger.apart):
            for name, figure in line.inputs.items():
                if not is_shared(name):
                    own[ledger.approach].setdefault(name, figure)
                elif name not in shared:
                    row += 1
                    shared[name] = _input_row(page, row, name, figure)
    row += 1
    places = {}
    for approach, inputs in own.items():
        row += 1
        page.text(row, 0, approach, "bold")
        found = dict(shared)
        for name, figure in inputs.items():
            row += 1
            found[name] = _input_row(page, row, name, figure)
        row += 1
        places[approach] = Cells(places=found)
    return places


def is_shared(name: str) -> bool:
    """Whether an input is one and the same for all approaches: a field of `money` or of the plan's `task`."""
    return "__" in name


# --- private ---------------------------------------------------------------------------------------------------------


def _input_row(page: Page, row: int, name: str, figure: Figure) -> str:
    unit, style = _unit(name)
    page.text(row, 0, name.replace("__", "."))
    page.text(row, 1, _meaning(name), "wrap")
    page.value(row, 2, figure.value, style)
    page.text(row, 3, unit)
    plain: NumberStyle = {"input_usd": "usd", "input_share": "share"}.get(style, "number")  # type: ignore[assignment]
    page.number(row, 4, figure.low, plain)
    page.number(row, 5, figure.high, plain)
    page.text(row, 6, figure.provenance.kind)
    page.text(row, 7, figure.unknown_because or figure.provenance.source or "", "wrap")
    page.text(row, 8, figure.provenance.as_of or "")
    return page.at(row, 2)


def _unit(name: str) -> tuple[str, NumberStyle]:
    parts = name.split("__")
    # The hours of a lever are `money__authoring_hours__prompt`: the unit stands in the last part but one.
    candidates = (parts[-1], *parts[1:-1])
    for candidate in candidates:
        for ending, unit, style in _UNITS:
            if f"_{candidate}".endswith(ending):
                return unit, style
    return "", "input_number"


def _meaning(name: str) -> str:
    section, *path = name.split("__")
    model: Any = _SECTIONS.get(section) if path else None
    text = ""
    for part in path:
        field = model.model_fields.get(part) if isinstance(model, type) and issubclass(model, Section) else None
        if field is None:
            break
        text, model = field.description or text, field.annotation
    return text or _MEANINGS.get(name) or f"{name.replace('_', ' ').strip().capitalize()}."
