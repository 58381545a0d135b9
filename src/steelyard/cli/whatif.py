"""`steelyard whatif`: a verdict from summary figures, before any data."""

from __future__ import annotations

import click

from steelyard.cli._output import json_option, print_json, print_text


@click.command("whatif")
@click.argument("file", metavar="FILE")
@json_option
def command(file: str, as_json: bool) -> None:
    """Ledger, break-even and verdict from summary figures alone: a plan before any data, or a paper's table.

    FILE is a plan in YAML, or the name of a scenario that ships: invoices, triage, triage-changing.
    """
    import steelyard

    found = steelyard.what_if(file)
    if as_json:
        print_json(found.to_json())
    else:
        print_text(*found.renderables())
