"""`steelyard recheck`: whether the last verdict stands."""

from __future__ import annotations

from pathlib import Path

import click

from steelyard.cli._output import folder_argument, json_option, print_json, print_text, say


@click.command("recheck")
@folder_argument
@click.option("--accept", is_flag=True, help="Take today's verdict over: later rechecks compare with it.")
@click.option("--history", "as_history", is_flag=True, help="Print all verdicts that were kept instead.")
@json_option
def command(folder: Path, accept: bool, as_history: bool, as_json: bool) -> int:
    """Say whether the last verdict stands with today's prices, volumes, models and outcomes.

    Ends with exit code 1 when it no longer does.
    """
    import steelyard
    from steelyard.study.outcomes import is_imported
    from steelyard.study.recheck import history, recheck

    if accept and as_history:
        raise click.UsageError("--accept and --history exclude each other")
    source = folder if is_imported(folder) else steelyard.load(folder)
    if as_history:
        kept = history(source)
        if as_json:
            print_json(kept.to_json())
        else:
            print_text(*kept.renderables())
        return 0
    found = recheck(source, accept=accept)
    if as_json:
        print_json(found.to_json())
        for note in found.notes:
            say(f"note: {note}")
    else:
        print_text(*found.renderables())
    return 0 if found.stands or accept else 1
