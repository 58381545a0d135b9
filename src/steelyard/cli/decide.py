"""`steelyard decide`: gates, ledger, verdict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from steelyard.cli._output import json_option, print_json, print_text, say
from steelyard.cli._source import open_source, source_options

if TYPE_CHECKING:
    from steelyard.study.outcomes import Outcomes
    from steelyard.study.results import Decision
    from steelyard.study.study import Study


@click.command("decide")
@source_options
@click.option("--factors", is_flag=True, help="Add the eight decision factors, approach by approach.")
@click.option("--schema", "as_schema", is_flag=True, help="Print the JSON Schema of --json, and decide nothing.")
@json_option
def command(
    folder: Path | None,
    outcomes: Path | None,
    settings: Path | None,
    threshold: float | None,
    where: tuple[str, ...],
    factors: bool,
    as_schema: bool,
    as_json: bool,
) -> None:
    """Say which approach to take, why, how sure that is, and what it hinges on.

    A verdict on a folder that differs from the last one is kept there; see steelyard recheck.
    """
    if as_schema:
        from steelyard.decision.schema import verdict_schema_text

        click.echo(verdict_schema_text(), nl=False)
        return
    source = open_source(folder, outcomes, settings, threshold, where)
    decision = source.decide()
    notes = (*decision.notes, *_kept(folder, source, decision))
    if as_json:
        print_json(decision.to_json())
        for note in notes:
            say(f"note: {note}")
        return
    print_text(*decision.renderables(factors=factors))
    for note in notes[len(decision.notes) :]:
        say(f"note: {note}")


def _kept(folder: Path | None, source: Study | Outcomes, decision: Decision) -> tuple[str, ...]:
    """Add a verdict on an imported folder to the history there; a study does so by itself."""
    from steelyard.study.outcomes import Outcomes
    from steelyard.study.recheck import keep_outcomes_decision

    if folder is None or not isinstance(source, Outcomes):
        return ()
    return keep_outcomes_decision(folder, decision.verdict, source)
