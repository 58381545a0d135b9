"""`steelyard distill`: labels from a teacher for inputs that nobody has labelled."""

from __future__ import annotations

from pathlib import Path

import click

from steelyard.cli._output import folder_argument, json_option, print_json, print_plain, quiet_option, say


@click.command("distill")
@folder_argument
@click.option("--teacher", required=True, metavar="APPROACH", help="The approach whose answers become labels.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many inputs.")
@click.option("--budget", type=click.FloatRange(min=0), metavar="USD", help="Ceiling on money for this study.")
@click.option(
    "--accept",
    default="valid",
    metavar="HOW",
    help="valid, confident:0.9, agree:3 or review; what is not accepted waits for a reviewer.",
)
@click.option(
    "--inputs",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Label these inputs instead of the cases without expected output.",
)
@click.option(
    "--accepted", type=click.Path(path_type=Path), metavar="FILE", help="Take over a review list that was filled in."
)
@quiet_option
@json_option
def command(
    folder: Path,
    teacher: str,
    limit: int | None,
    budget: float | None,
    accept: str,
    inputs: Path | None,
    accepted: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Grow labels: a strong approach answers unlabelled inputs, and its accepted answers are learned from.

    Only tuning learns from them, and none is ever in dev or test. Stop it whenever you like: the same command goes on
    from there and pays for nothing twice.
    """
    import steelyard
    from steelyard.study.distilling import distill

    if accepted is not None and inputs is not None:
        raise click.UsageError("--accepted asks nothing, so there are no --inputs to ask about: give one of the two")
    found = distill(
        steelyard.load(folder),
        teacher,
        limit=limit,
        budget_usd=budget,
        accept=accept,
        inputs=inputs,
        accepted=accepted,
        progress=not quiet,
    )
    if as_json:
        print_json(found.to_json())
        return
    print_plain(str(found))
    if not found.is_in_study:
        say(f"to learn from them, write into study.yaml: cases: {{..., distilled: {found.file}}}")
    say(f"next: steelyard tune {folder} --approach NAME")
