"""Where `score` and `decide` take their outcomes from: a study folder, an imported folder, or a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from steelyard.study.outcomes import Outcomes
    from steelyard.study.study import Study

settings_option = click.option(
    "--settings",
    type=click.Path(path_type=Path),
    help="YAML file with money:, goal: and approaches: for outcomes from a file.",
)
threshold_option = click.option(
    "--threshold", type=float, metavar="SCORE", help="Score that is a success where a file says no success; else 1."
)

where_option = click.option(
    "--where", multiple=True, metavar="COLUMN=VALUE", help="Only such rows of the file; may be given several times."
)


def source_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds DIR and `--outcomes` with its companions."""
    function = where_option(function)
    function = threshold_option(function)
    function = settings_option(function)
    function = click.option(
        "--outcomes", type=click.Path(path_type=Path), help="Results made elsewhere: CSV, JSONL or Parquet file."
    )(function)
    return click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))(function)


def open_source(
    folder: Path | None,
    outcomes: Path | None,
    settings: Path | None,
    threshold: float | None,
    where: tuple[str, ...] = (),
) -> Study | Outcomes:
    """The study or the outcomes that were named.

    Raises:
        click.UsageError: Neither or both were named, or an option does not go with what was.
        InputError: What was named is not as it must be.
    """
    import steelyard
    from steelyard.study.outcomes import is_imported

    if (folder is None) == (outcomes is None):
        raise click.UsageError("name either a study folder DIR or a file with --outcomes")
    if outcomes is not None:
        return steelyard.load_outcomes(outcomes, settings=settings, threshold=threshold, where=where)
    if settings is not None or threshold is not None or where:
        raise click.UsageError(
            "--settings, --threshold and --where go with --outcomes; a folder has settings of its own"
        )
    assert folder is not None  # one of the two was named
    return steelyard.load_outcomes(folder) if is_imported(folder) else steelyard.load(folder)
