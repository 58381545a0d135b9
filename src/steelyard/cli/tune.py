"""`steelyard tune`: look through training examples, train, show the card, export."""

from __future__ import annotations

from pathlib import Path

import click

from steelyard.cli._output import folder_argument, json_option, print_json, print_plain, quiet_option, say


@click.command("tune")
@folder_argument
@click.option("--approach", required=True, metavar="NAME", help="The tuned approach.")
@click.option("--audit", is_flag=True, help="Only look through its training examples; trains nothing.")
@click.option(
    "--export", type=click.Path(path_type=Path), metavar="FOLDER", help="Write weights, data and configurations here."
)
@quiet_option
@json_option
def command(folder: Path, approach: str, audit: bool, export: Path | None, quiet: bool, as_json: bool) -> None:
    """Train an approach on the train split, or find it trained, and show its card.

    With --audit nothing is trained: lengths, repeats, labels worth a second look and personal data are reported.
    """
    import steelyard
    from steelyard.study.tuning import audit_approach, tune_approach

    if audit and export is not None:
        raise click.UsageError("--audit trains nothing, so there is nothing to --export: give one of the two")
    study = steelyard.load(folder)
    if not audit:
        tuned = tune_approach(study, approach, export=export, progress=not quiet)
        if as_json:
            print_json(tuned.to_json())
        else:
            print_plain(str(tuned))
            say(f"next: steelyard run {folder} --approach {approach}")
        return
    found = audit_approach(study, approach, progress=not quiet)
    if as_json:
        print_json(found.to_json())
    else:
        print_plain(str(found))
    if found.found.refusals:
        from steelyard.errors import InputError

        raise InputError(found.found.refusals)
