"""`steelyard run`: prepare the approaches and run them on the test cases."""

from __future__ import annotations

from pathlib import Path

import click

from steelyard.cli._output import (
    approach_option,
    folder_argument,
    json_option,
    print_json,
    print_plain,
    quiet_option,
    say,
)


@click.command("run")
@folder_argument
@approach_option
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="At most this many test cases (a seeded sample)."
)
@click.option(
    "--budget", type=click.FloatRange(min=0), metavar="USD", help="Ceiling on money for this study, all runs."
)
@click.option(
    "--race", is_flag=True, help="Drop approaches as soon as they are surely not the best; stop when it is settled."
)
@click.option("--dry-run", is_flag=True, help="Say how many calls, tokens and dollars it would take; send nothing.")
@quiet_option
@json_option
def command(
    folder: Path,
    approaches: tuple[str, ...],
    limit: int | None,
    budget: float | None,
    race: bool,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run every approach of the study on the same test cases.

    What is done is in the journal at once: stop it whenever you like, the same command goes on from there and pays
    for nothing twice.
    """
    import steelyard

    study = steelyard.load(folder)
    if dry_run:
        estimate = study.estimate(approaches=approaches, limit=limit)
        if as_json:
            print_json(estimate.to_json())
        else:
            print_plain(str(estimate))
        if race:
            say("with --race this is the most it takes: what is surely not the best is dropped on the way")
        return
    summary = study.run(approaches=approaches, limit=limit, budget_usd=budget, progress=not quiet, race=race)
    if as_json:
        print_json(summary.to_json())
        return
    print_plain(str(summary))
    say(f"next: steelyard score {folder}, steelyard decide {folder}, steelyard report {folder}")
