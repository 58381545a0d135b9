"""`steelyard init`: write a study for one's own cases."""

from __future__ import annotations

from pathlib import Path

import click

from steelyard.cli._output import folder_argument, json_option, print_json, print_plain, say


@click.command("init")
@folder_argument
@click.option("--cases", required=True, type=click.Path(path_type=Path), help="CSV, JSONL or Parquet file with cases.")
@click.option(
    "--input", "inputs", multiple=True, metavar="COL", help="Column the model sees; may be given several times."
)
@click.option(
    "--expected", multiple=True, metavar="COL", help="Column with the right answer; may be given several times."
)
@click.option("--name", help="Name of the study; the folder's name if left out.")
@json_option
def command(
    folder: Path, cases: Path, inputs: tuple[str, ...], expected: tuple[str, ...], name: str | None, as_json: bool
) -> None:
    """Write study.yaml into DIR for the labelled cases in FILE, with the labels found.

    Columns that are not named are guessed from the data, and what was guessed is said. The case file is copied into
    DIR. Nothing that exists is overwritten.
    """
    from steelyard.study.init import init_study

    made = init_study(folder, cases=cases, inputs=inputs, expected=expected, name=name)
    if as_json:
        print_json(made.to_json())
        return
    for line in made.lines():
        print_plain(line)
    say(f"next: steelyard check {folder}, then: steelyard run {folder} --limit 50")
