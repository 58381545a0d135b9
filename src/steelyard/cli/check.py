"""`steelyard check`: validate everything, find leakage; costs nothing."""

from __future__ import annotations

from pathlib import Path

import click

from steelyard.cli._output import folder_argument, json_option, print_json, print_plain


@click.command("check")
@folder_argument
@json_option
def command(folder: Path, as_json: bool) -> None:
    """Validate study.yaml and all cases, find duplicates and leakage. Calls no model and costs nothing."""
    import steelyard

    found = steelyard.load(folder).check()
    if as_json:
        print_json(found.to_json())
    else:
        print_plain(str(found))
