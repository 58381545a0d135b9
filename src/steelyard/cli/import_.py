"""`steelyard import`: start from results a team already has."""

from __future__ import annotations

from pathlib import Path

import click

from steelyard.cli._output import json_option, print_json, print_plain, say
from steelyard.cli._source import settings_option, threshold_option, where_option


@click.command("import")
@click.argument("kind", metavar="outcomes", type=click.Choice(["outcomes"]))
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to make.")
@settings_option
@threshold_option
@where_option
@json_option
def command(
    kind: str,
    file: Path,
    output: Path,
    settings: Path | None,
    threshold: float | None,
    where: tuple[str, ...],
    as_json: bool,
) -> None:
    """Check results made elsewhere and write them into a folder that `score` and `decide` take.

    FILE is CSV, JSONL, JSON or Parquet with one outcome a row: approach, case_id, and success or score.
    """
    from steelyard.study.outcomes import import_outcomes

    del kind  # only outcomes can be imported so far
    made = import_outcomes(file, output, settings=settings, threshold=threshold, where=where)
    if as_json:
        print_json(made.to_json())
        return
    print_plain(str(made))
    for note in made.outcomes.notes:
        say(f"note: {note}")
    say(f"next: steelyard score {output}, steelyard decide {output}")
