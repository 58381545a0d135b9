"""`steelyard whatif`: a verdict from summary figures alone, before any data or from a paper's table."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from importlib.resources import as_file
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steelyard.decision.plan import PlanFile, PlanVerdict
from steelyard.decision.planning import decide_plan
from steelyard.errors import InputError, Problem
from steelyard.studies import scenario, scenarios
from steelyard.study.results import as_text
from steelyard.study.yaml_source import read_checked

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, kw_only=True, repr=False)
class WhatIf:
    """The verdict on a plan, readable in a terminal and as JSON."""

    verdict: PlanVerdict

    def to_json(self) -> dict[str, Any]:
        """What `whatif --json` prints (`steelyard.whatif/1`)."""
        return self.verdict.to_json()

    def renderables(self) -> Sequence[RenderableType]:
        """Ledgers and verdict for the terminal."""
        from steelyard.report.plan import ledger_table, plan_panel

        return [ledger_table(self.verdict.economics.ledgers), plan_panel(self.verdict)]

    def __repr__(self) -> str:
        return as_text(self.renderables())


def what_if(source: str | Path, *, as_of: date) -> WhatIf:
    """Weigh the approaches of a plan.

    Args:
        source: A plan file, or the name of a scenario that ships; a file of that name comes first.
        as_of: Day of the verdict.

    Raises:
        InputError: There is neither, or the file does not fit; all problems at once, each with `file:line:field`.
    """
    path, name = Path(source), str(source)
    with ExitStack() as open_files:
        if not path.exists() and name in scenarios():
            path = open_files.enter_context(as_file(scenario(name)))
        elif path.is_dir():
            raise InputError(
                Problem(where=name, what="this is a folder, not a plan file", hint="for a study: steelyard decide DIR")
            )
        plan = read_checked(path, PlanFile, absent=_no_such_plan(name), page="whatif.md")
    return WhatIf(verdict=decide_plan(plan, as_of=as_of, file=path.name))


def _no_such_plan(name: str) -> Problem:
    nearest = difflib.get_close_matches(name, scenarios(), n=1)
    guess = f"did you mean {nearest[0]!r}? " if nearest else ""
    return Problem(
        where=name,
        what="there is no such plan file",
        hint=f"{guess}name a YAML file (docs/whatif.md), or a scenario that ships: {', '.join(scenarios())}",
    )
