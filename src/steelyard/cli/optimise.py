"""`steelyard optimise`: search for a better prompt, or better retrieval, on train and dev cases."""

from __future__ import annotations

from pathlib import Path

import click

from steelyard.cli._output import folder_argument, json_option, print_json, print_plain, quiet_option, say


@click.command("optimise")
@folder_argument
@click.option("--approach", required=True, metavar="NAME", help="The approach that is searched.")
@click.option("--budget-calls", type=click.IntRange(min=0), metavar="N", help="Most model calls of the search.")
@click.option("--budget", type=click.FloatRange(min=0), metavar="USD", help="Ceiling on the money of the search.")
@click.option("--dry-run", is_flag=True, help="Say what would be tried and what that would cost; send nothing.")
@quiet_option
@json_option
def command(
    folder: Path,
    approach: str,
    budget_calls: int | None,
    budget: float | None,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Try other wordings and examples, or other ways to look documents up, and keep what does best on dev.

    The test cases are not touched. What is found is used by `steelyard run` from then on, as long as task, cases and
    the approach stay as they are.
    """
    import steelyard

    study = steelyard.load(folder)
    if dry_run:
        estimate = study.estimate_search(approach, budget_calls=budget_calls)
        if as_json:
            print_json(estimate.to_json())
        else:
            print_plain(str(estimate))
        return
    found = study.optimise(approach, budget_calls=budget_calls, budget_usd=budget, progress=not quiet)
    if as_json:
        print_json(found.to_json())
        return
    print_plain(str(found))
    if found.is_changed:
        say(f"kept in {folder / found.file}; delete that file to go back to {found.words.as_written}")
    say(f"next: steelyard run {folder} --approach {approach}")
