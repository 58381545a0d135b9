"""`steelyard whatif`: a verdict from summary figures, before any data."""

from __future__ import annotations

from pathlib import Path

import click

from steelyard.cli._output import json_option, print_json, print_text, say
from steelyard.cli._source import where_option


@click.command("whatif")
@click.argument("file", metavar="FILE")
@click.option(
    "--settings", type=click.Path(path_type=Path), help="YAML file with money:, goal: and columns: for a table."
)
@where_option
@json_option
def command(file: str, settings: Path | None, where: tuple[str, ...], as_json: bool) -> None:
    """Ledger, break-even and verdict from summary figures alone: a plan before any data, or a paper's table.

    FILE is a plan in YAML, a table with one row an approach (CSV, TSV, JSONL or Parquet), or a scenario that ships:
    invoices, triage, triage-changing.
    """
    import steelyard

    found = steelyard.what_if(file, settings=settings, where=where)
    if as_json:
        print_json(found.to_json())
        for note in found.notes:
            say(f"note: {note}")
    else:
        print_text(*found.renderables())
