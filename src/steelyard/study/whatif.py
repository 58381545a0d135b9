"""`steelyard whatif`: a verdict from summary figures alone, before any data or from a paper's table."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from importlib.resources import as_file
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steelyard.decision.plan import PlanFile, PlanVerdict
from steelyard.decision.planning import decide_plan
from steelyard.economics.summary import SummarySpec
from steelyard.errors import InputError, Problem
from steelyard.studies import scenario, scenarios
from steelyard.study.results import as_text
from steelyard.study.summary_table import SUFFIXES, TableSettings, read_summary_table
from steelyard.study.where import conditions
from steelyard.study.yaml_source import read_checked

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, kw_only=True, repr=False)
class WhatIf:
    """The verdict on a plan, readable in a terminal and as JSON."""

    verdict: PlanVerdict
    left_out: Mapping[str, tuple[SummarySpec, str]] = field(default_factory=dict)
    """Approaches of a table that were not weighed, with the reason."""
    notes: tuple[str, ...] = ()
    """How a table was read."""

    def to_json(self) -> dict[str, Any]:
        """What `whatif --json` prints (`steelyard.whatif/1`)."""
        left_out = [
            {"name": name, "success": one.success, "schema_pass": one.schema_pass, "n": one.n, "because": because}
            for name, (one, because) in self.left_out.items()
        ]
        return self.verdict.to_json() | {"left_out": left_out, "notes": list(self.notes)}

    def renderables(self) -> Sequence[RenderableType]:
        """Ledgers and verdict for the terminal."""
        from rich.text import Text

        from steelyard.report.format import percent
        from steelyard.report.plan import ledger_tables, plan_panel
        from steelyard.report.terminal import bullets
        from steelyard.report.text import one_line

        parts: list[RenderableType] = [*ledger_tables(self.verdict.economics.ledgers), plan_panel(self.verdict)]
        if self.left_out:
            parts.append(Text("\nNot weighed", style="bold"))
            best_first = sorted(self.left_out.items(), key=lambda item: -(item[1][0].success or 0.0))
            parts.append(
                bullets(
                    [
                        f"{name}: success {percent(one.success or one.schema_pass or 0.0)}; {because}"
                        for name, (one, because) in best_first
                    ]
                )
            )
        return [*parts, *(Text(f"note: {one_line(note)}") for note in self.notes)]

    def __repr__(self) -> str:
        return as_text(self.renderables())


def what_if(
    source: str | Path, *, as_of: date, settings: str | Path | None = None, where: Sequence[str] = ()
) -> WhatIf:
    """Weigh the approaches of a plan or of a table of summary figures.

    Args:
        source: A plan file, a table (CSV, TSV, JSONL or Parquet), or the name of a scenario that ships; a file of that
            name comes first.
        as_of: Day of the verdict.
        settings: YAML file with the money, goal and columns of a table (`TableSettings`).
        where: Conditions `COLUMN=VALUE` on the rows of a table.

    Raises:
        InputError: There is neither, or the file does not fit; all problems at once, each with `file:line:field`.
    """
    path, name = Path(source), str(source)
    if path.suffix.lower() in SUFFIXES:
        return _of_table(path, as_of=as_of, settings=settings, where=where)
    if settings is not None or where:
        hint = "a plan holds its own money and goal"
        raise InputError(Problem(where=name, what="settings and where go with a table such as a CSV file", hint=hint))
    with ExitStack() as open_files:
        if not path.exists() and name in scenarios():
            path = open_files.enter_context(as_file(scenario(name)))
        elif path.is_dir():
            raise InputError(
                Problem(where=name, what="this is a folder, not a plan file", hint="for a study: steelyard decide DIR")
            )
        plan = read_checked(path, PlanFile, absent=_no_such_plan(name), page="whatif.md")
    return WhatIf(verdict=decide_plan(plan, as_of=as_of, file=path.name))


def _of_table(path: Path, *, as_of: date, settings: str | Path | None, where: Sequence[str]) -> WhatIf:
    weighed, settings_name = TableSettings(), "settings"
    if settings is not None:
        hint = "it holds money:, goal: and columns:"
        absent = Problem(where=str(settings), what="there is no such file of settings", hint=hint)
        weighed = read_checked(Path(settings), TableSettings, absent=absent, page="whatif.md")
        settings_name = Path(settings).name
        weighed = weighed.model_copy(update={"money": weighed.money.written_in(settings_name)})
    table = read_summary_table(path, weighed, settings_name=settings_name, where=conditions(where))
    verdict = decide_plan(table.plan, as_of=as_of, file=path.name)
    return WhatIf(verdict=verdict, left_out=table.left_out, notes=table.notes)


def _no_such_plan(name: str) -> Problem:
    nearest = difflib.get_close_matches(name, scenarios(), n=1)
    guess = f"did you mean {nearest[0]!r}? " if nearest else ""
    return Problem(
        where=name,
        what="there is no such plan file",
        hint=f"{guess}name a YAML file (docs/whatif.md), or a scenario that ships: {', '.join(scenarios())}",
    )
