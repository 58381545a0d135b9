"""How commands print: results to stdout as text or JSON, talk to stderr."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

folder_argument = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
approach_option = click.option(
    "--approach", "approaches", multiple=True, metavar="NAME", help="Only this approach; may be given several times."
)


def print_json(shape: Any) -> None:  # noqa: ANN401 - any JSON
    """One JSON document on stdout, the same bytes for the same result.

    ASCII only, as in reports: no bidirectional or control character of a case or a model reaches a terminal.
    """
    import orjson

    plain = orjson.loads(orjson.dumps(shape, option=orjson.OPT_SERIALIZE_NUMPY))
    click.echo(json.dumps(plain, indent=2, allow_nan=False))


def print_text(*parts: Any) -> None:  # noqa: ANN401 - any rich renderable
    """Text or rich tables on stdout; as wide as the terminal, 120 columns when piped."""
    from rich.console import Console

    width = shutil.get_terminal_size((120, 40)).columns if sys.stdout.isatty() else 120
    console = Console(width=width, highlight=False)
    for part in parts:
        console.print(part)


def print_plain(text: str) -> None:
    """Plain text on stdout; labels and file names are other people's text, so control characters are shown by name."""
    from steelyard.report.text import visible

    click.echo(visible(text))


def say(message: str) -> None:
    """A line of talk on stderr."""
    from steelyard.report.text import visible

    click.echo(visible(message), err=True)


def quiet_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--quiet`."""
    return click.option("--quiet", is_flag=True, help="No progress; only the result.")(function)
