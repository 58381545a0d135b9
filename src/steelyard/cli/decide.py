"""`steelyard decide`: gates, ledger, verdict."""

from __future__ import annotations

from pathlib import Path

import click

from steelyard.cli._output import json_option, print_json, print_text, say
from steelyard.cli._source import open_source, source_options


@click.command("decide")
@source_options
@json_option
def command(
    folder: Path | None, outcomes: Path | None, settings: Path | None, threshold: float | None, as_json: bool
) -> None:
    """Say which approach to take, why, how sure that is, and what it hinges on."""
    decision = open_source(folder, outcomes, settings, threshold).decide()
    if as_json:
        print_json(decision.to_json())
        for note in decision.notes:
            say(f"note: {note}")
    else:
        print_text(*decision.renderables())
