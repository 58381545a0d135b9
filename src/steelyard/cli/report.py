"""`steelyard report`: one file to forward."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from steelyard.cli._output import folder_argument, print_plain


@click.command("report")
@folder_argument
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, allow_dash=True), help="Where to write it; - is stdout."
)
@click.option("--format", "form", type=click.Choice(["html", "md", "json"]), default="html", show_default=True)
def command(folder: Path, output: Path | None, form: Literal["html", "md", "json"]) -> None:
    """Write verdict, figures, worst cases and method into one self-contained file.

    It is computed from the journal alone: the same journal gives the same report, byte for byte.
    """
    import steelyard

    study = steelyard.load(folder)
    if output is not None and str(output) == "-":
        click.echo(study.render_report(form), nl=False)
        return
    print_plain(str(study.report(output, form=form)))
