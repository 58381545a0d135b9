"""Task worlds made from published outcomes: a table's cases are the population, and cases are drawn from it."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from benchmarks.worlds import N_CASES, Lot, Results, World, money_of, outcomes_of
from steelyard.decision.spec import GoalSpec
from steelyard.economics.ledger import ApproachFacts, Changes
from steelyard.measure.results import Floats

DATA = Path(__file__).parents[2] / "shared" / "data"
"""Where the published tables lie, beside the checkout; there are no such worlds without it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """Published outcomes of several systems on the same cases; arrays are (n_cases, n_systems)."""

    name: str
    systems: tuple[str, ...]
    success: Floats
    cost_usd: Floats | None
    """`None` where none was published; a world then draws a mean per system from its seed."""
    latency_s: Floats | None
    n_labels: tuple[int, ...]
    """Labelled cases each system was tuned on; 0 for prompts."""


@lru_cache(maxsize=1)
def published_tables() -> tuple[Table, ...]:
    """The tables under `DATA`; empty where that folder is absent."""
    tables = []
    if (folder := DATA / "results_cfpb_14llm").is_dir():
        costs = {row["system"]: float(row["cost_per_case_usd"]) for row in _rows(folder / "systems.csv")}
        tables.append(_table("complaints", _rows(folder / "results.csv"), cost_of=lambda row: costs[row["system"]]))
    if (folder := DATA / "results_airline_prompt_vs_ft").is_dir():
        tables.append(_table("airline", _rows(folder / "results.csv")))
    if (folder := DATA / "results_llmdrift").is_dir():
        rows = _rows(folder / "results.csv")
        for task in ("prime", "happy_numbers"):
            kept = [row for row in rows if row["task"] == task]
            tables.append(_table(task, kept, cost_of=lambda row: float(row["cost_usd"] or "nan")))
    return tuple(tables)


def table_world(seed: int, table: Table) -> World:
    """Some systems of a table in a situation drawn from a seed; the table's cases are the population."""
    rng = np.random.default_rng([seed, 18])
    money = money_of(rng, "mixed")
    at = np.sort(rng.permutation(len(table.systems))[: rng.integers(3, 9)])
    names = [table.systems[i] for i in at]
    if table.cost_usd is None:
        means = np.exp(rng.uniform(math.log(1e-4), math.log(1e-2), len(at)))
        cost = np.broadcast_to(means, (len(table.success), len(at)))
    else:
        cost = table.cost_usd[:, at]
    latency = np.full(cost.shape, np.nan) if table.latency_s is None else table.latency_s[:, at]
    success = table.success[:, at]
    # Some of these tasks are hard: what counts as useful is for the goal to say, and here it says nothing.
    least = 0.0 if rng.random() < 0.7 else float(np.quantile(success.mean(axis=0), rng.uniform(0.2, 0.8)))
    lots = {
        name: Lot(
            success=float(success[:, k].mean()),
            variable_usd=float(cost[:, k].mean()),
            review_s=None,
            meets_goal=float(success[:, k].mean()) >= least,
        )
        for k, name in enumerate(names)
    }

    def sample(n: int, cases: np.random.Generator) -> Results:
        drawn = cases.integers(0, len(success), n)
        return {
            name: outcomes_of(name, success=success[drawn, k], cost_usd=cost[drawn, k], latency_s=latency[drawn, k])
            for k, name in enumerate(names)
        }

    return World(
        kind=table.name,
        facts={
            name: ApproachFacts(
                name=name,
                levers=("tuning",) if table.n_labels[i] else ("prompt",),
                n_labels=table.n_labels[i],
                changes=Changes(per_month=rng.choice([0.0, 0.2]), edit_hours=1, relabelled=100)
                if table.n_labels[i]
                else None,
            )
            for name, i in zip(names, at, strict=True)
        },
        money=money,
        goal=GoalSpec(min_success=least),
        lots=lots,
        n_cases=int(rng.choice(N_CASES)),
        sample=sample,
    )


# --- private ---------------------------------------------------------------------------------------------------------


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def _table(
    name: str, rows: Sequence[Mapping[str, str]], *, cost_of: Callable[[Mapping[str, str]], float] | None = None
) -> Table:
    """Rows of (system, case_id, success, ...) as a matrix over the cases that all systems did."""
    by_system: dict[str, dict[str, Mapping[str, str]]] = {}
    for row in rows:
        by_system.setdefault(row["system"], {})[row["case_id"]] = row
    cases = sorted(set.intersection(*(set(done) for done in by_system.values())))

    def matrix(value: Callable[[Mapping[str, str]], float]) -> Floats:
        return np.array([[value(done[case]) for done in by_system.values()] for case in cases])

    has_latency = "latency_s" in rows[0]
    labels = [next(iter(done.values())).get("train_rows") for done in by_system.values()]
    return Table(
        name=name,
        systems=tuple(by_system),
        success=matrix(lambda row: float(row["success"])),
        cost_usd=matrix(cost_of) if cost_of else None,
        latency_s=matrix(lambda row: float(row["latency_s"] or "nan")) if has_latency else None,
        n_labels=tuple(int(n or 0) for n in labels),
    )
