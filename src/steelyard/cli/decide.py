"""`steelyard decide`: gates, ledger, verdict."""

from __future__ import annotations

from pathlib import Path

import click

from steelyard.cli._output import folder_argument, json_option, print_json, print_text, say


@click.command("decide")
@folder_argument
@json_option
def command(folder: Path, as_json: bool) -> None:
    """Say which approach to take, why, how sure that is, and what it hinges on."""
    import steelyard

    decision = steelyard.load(folder).decide()
    if as_json:
        print_json(decision.to_json())
        for note in decision.notes:
            say(f"note: {note}")
    else:
        print_text(*decision.renderables())
