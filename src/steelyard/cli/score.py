"""`steelyard score`: six metrics per approach, paired comparisons."""

from __future__ import annotations

from pathlib import Path

import click

from steelyard.cli._output import approach_option, json_option, print_json, print_text, say
from steelyard.cli._source import open_source, source_options


@click.command("score")
@source_options
@approach_option
@click.option("--by-segment", is_flag=True, help="Success by segment of the cases, too; --json always has it.")
@json_option
def command(
    folder: Path | None,
    outcomes: Path | None,
    settings: Path | None,
    threshold: float | None,
    where: tuple[str, ...],
    approaches: tuple[str, ...],
    by_segment: bool,
    as_json: bool,
) -> None:
    """Print the six metrics of every approach, each with its interval, and how they compare on the same cases."""
    scores = open_source(folder, outcomes, settings, threshold, where).score(approaches=approaches)
    if as_json:
        print_json(scores.to_json())
        for note in scores.notes:
            say(f"note: {note}")
    else:
        print_text(*scores.renderables(by_segment=by_segment))
