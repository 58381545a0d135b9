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
    "--dry-run", is_flag=True, help="Say how many steps, seconds and dollars it takes at most; train nothing."
)
@click.option(
    "--export", type=click.Path(path_type=Path), metavar="FOLDER", help="Write weights, data and configurations here."
)
@quiet_option
@json_option
def command(
    folder: Path, approach: str, audit: bool, dry_run: bool, export: Path | None, quiet: bool, as_json: bool
) -> None:
    """Train an approach on the train split, or find it trained, and show its card.

    Stop it whenever you like: the same command goes on from the last checkpoint. With --audit nothing is trained:
    lengths, repeats, labels worth a second look and personal data are reported.
    """
    import steelyard
    from steelyard.study.tuning import audit_approach, estimate_tuning, tune_approach

    given = [name for name, is_given in (("--audit", audit), ("--dry-run", dry_run)) if is_given]
    if given and export is not None:
        raise click.UsageError(f"{given[0]} trains nothing, so there is nothing to --export: give one of the two")
    if len(given) > 1:
        raise click.UsageError("--audit looks at the examples, --dry-run at the time they take: give one of the two")
    study = steelyard.load(folder)
    if dry_run:
        estimate = estimate_tuning(study, approach, progress=not quiet)
        if as_json:
            print_json({"schema": "steelyard.tune-estimate/1", **estimate.to_json()})
        else:
            print_plain(str(estimate))
        return
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
