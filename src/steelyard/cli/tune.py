"""`steelyard tune`: look through training examples, train, show the card, export."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

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
@click.option("--curve", is_flag=True, help="Train on parts of the labels: is it worth labelling more?")
@click.option("--target", type=click.FloatRange(0, 1), metavar="RATE", help="With --curve: labels for this success.")
@click.option("--seeds", type=click.IntRange(1, 20), metavar="N", help="With --curve: draws of labels at each size.")
@click.option(
    "--tuner",
    type=click.Choice(["both", "head", "own"]),
    help="With --curve: a head for the shape, the approach's own tuner, or both.",
)
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    help="With --curve: leave out what takes longer.",
)
@quiet_option
@json_option
def command(
    folder: Path,
    approach: str,
    audit: bool,
    dry_run: bool,
    export: Path | None,
    curve: bool,
    target: float | None,
    seeds: int | None,
    tuner: Literal["both", "head", "own"] | None,
    max_seconds: float | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train an approach on the train split, or find it trained, and show its card.

    Stop it whenever you like: the same command goes on from the last checkpoint. With --audit nothing is trained:
    lengths, repeats, labels worth a second look and personal data are reported. With --curve it is trained on an eighth,
    a quarter, half and all of the labels, and judged on dev.
    """
    import steelyard
    from steelyard.study.tuning import audit_approach, estimate_tuning, tune_approach

    given = [name for name, is_given in (("--audit", audit), ("--dry-run", dry_run)) if is_given]
    if given and export is not None:
        raise click.UsageError(f"{given[0]} trains nothing, so there is nothing to --export: give one of the two")
    if len(given) > 1:
        raise click.UsageError("--audit looks at the examples, --dry-run at the time they take: give one of the two")
    if curve and (given or export is not None):
        raise click.UsageError("--curve measures a learning curve and nothing else: give it alone")
    if not curve and (target, seeds, tuner, max_seconds) != (None, None, None, None):
        raise click.UsageError("--target, --seeds, --tuner and --max-seconds are of --curve: give that as well")
    study = steelyard.load(folder)
    if curve:
        from steelyard.study.learning_curve import curve_of

        curves = curve_of(
            study,
            approach,
            target=target,
            draws=seeds,
            tuner=tuner or "both",
            max_seconds=max_seconds,
            progress=not quiet,
        )
        if as_json:
            print_json(curves.to_json())
        else:
            print_plain(str(curves))
        return
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
