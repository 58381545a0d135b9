"""`steelyard score`: six metrics per approach, paired comparisons."""

from __future__ import annotations

from pathlib import Path

import click

from steelyard.cli._output import approach_option, folder_argument, json_option, print_json, print_text, say


@click.command("score")
@folder_argument
@approach_option
@json_option
def command(folder: Path, approaches: tuple[str, ...], as_json: bool) -> None:
    """Print the six metrics of every approach, each with its interval, and how they compare on the same cases."""
    import steelyard

    scores = steelyard.load(folder).score(approaches=approaches)
    if as_json:
        print_json(scores.to_json())
        for note in scores.notes:
            say(f"note: {note}")
    else:
        print_text(*scores.renderables())
