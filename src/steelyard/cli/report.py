"""`steelyard report`: one file to forward."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from steelyard.cli._output import print_plain
from steelyard.cli._source import open_source, source_options


@click.command("report")
@source_options
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, allow_dash=True), help="Where to write it; - is stdout."
)
@click.option(
    "--format", "form", type=click.Choice(["html", "md", "json", "xlsx", "csv"]), default="html", show_default=True
)
def command(
    folder: Path | None,
    outcomes: Path | None,
    settings: Path | None,
    threshold: float | None,
    where: tuple[str, ...],
    output: Path | None,
    form: Literal["html", "md", "json", "xlsx", "csv"],
) -> None:
    """Write verdict, figures, worst cases and method into one self-contained file.

    It is computed from the journal alone: the same journal gives the same report, byte for byte. xlsx is a workbook
    whose ledger follows its inputs by live formulas; csv is the ledger as one flat table.
    """
    from steelyard.study.imported_report import place_of_report, render_outcomes_report
    from steelyard.study.reporting import write_report
    from steelyard.study.study import Study

    to_stdout = output is not None and str(output) == "-"
    if to_stdout and form == "xlsx":
        raise click.UsageError("a workbook goes into a file: name one with -o, or leave -o out")
    source = open_source(folder, outcomes, settings, threshold, where)
    if isinstance(source, Study):
        if to_stdout and form != "xlsx":
            click.echo(source.render_report(form), nl=False)
        else:
            print_plain(str(source.report(output, form=form)))
        return
    path = outcomes or folder
    assert path is not None  # one of the two was named, or there is no source
    rendered = render_outcomes_report(source, path, form=form, options=_options(settings, threshold, where))
    if to_stdout:
        click.echo(rendered.decode(), nl=False)
    else:
        print_plain(str(write_report(output or place_of_report(path, form), rendered)))


def _options(settings: Path | None, threshold: float | None, where: tuple[str, ...]) -> list[str]:
    """The options with which outcomes were read, as they were typed."""
    typed = [] if settings is None else ["--settings", str(settings)]
    typed += [] if threshold is None else ["--threshold", f"{threshold:g}"]
    return typed + [part for condition in where for part in ("--where", condition)]
