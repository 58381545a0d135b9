"""`steelyard demo`: a study that ships, from cases to verdict and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from steelyard.cli._output import json_option, print_json, print_plain, print_text, quiet_option, say
from steelyard.errors import Problem

if TYPE_CHECKING:
    from steelyard.study.freshness import Freshness
    from steelyard.study.study import Study

DEMO_CASES = 120
"""Test cases of the full demo, where the study sets no limit: enough for intervals of about ±8 points, few enough for
ten minutes on two cores."""
QUICK_SHARE = 3
"""`--quick` runs one case in so many."""


@click.command("demo")
@click.argument("name", default="triage")
@click.option("--quick", is_flag=True, help="A third of the cases, and no LoRA: a few minutes.")
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path), help="Where to put the study; ./demo-NAME if left out."
)
@quiet_option
@json_option
def command(name: str, quick: bool, folder: Path | None, quiet: bool, as_json: bool) -> None:
    """Run a study that ships with Steelyard on the embedded model: no key, no network after the first time.

    Ends in the verdict and a report. The folder it makes is an ordinary study; run it again and nothing is done twice.
    """
    import steelyard
    from steelyard.studies import copy_study
    from steelyard.study.freshness_table import freshness_parts

    folder = folder or Path(f"demo-{name}")
    if (folder / "study.yaml").exists() and steelyard.load(folder).file.study != name:
        # Running it could cost money that nobody meant to spend.
        raise steelyard.InputError(
            Problem(
                where=str(folder), what="there is another study here already", hint="name another folder with --dir"
            )
        )
    copy_study(name, folder)
    study = steelyard.load(folder)
    say(f"study {study.file.study!r} in {folder}")
    say(str(study.check()))
    approaches = tuple(
        n for n, spec in study.file.approaches.items() if not (spec.tuning and spec.tuning.method == "lora")
    )
    limit = study.file.run.limit or DEMO_CASES
    for approach in study.file.approaches:
        _optimise(study, approach, quick=quick, progress=not quiet)
    study.run(
        approaches=approaches if quick else (), limit=limit // QUICK_SHARE if quick else limit, progress=not quiet
    )
    scores = study.score()
    freshness = _freshness(study, progress=not quiet) if study.file.knowledge is not None and not quick else None
    decision = study.decide()
    report = study.report()
    if as_json:
        print_json(
            {
                "schema": "steelyard.demo/1",
                "scorecards": scores.to_json(),
                "freshness": freshness.to_json() if freshness is not None else None,
                "verdict": decision.to_json(),
                "report": str(report),
            }
        )
        return
    measured = freshness_parts(freshness) if freshness is not None else []
    print_text(*scores.renderables(), *measured, *decision.renderables())
    print_plain(f"report: {report}")


def _freshness(study: Study, *, progress: bool) -> Freshness:
    """How long a changed document takes to be found, and which old answers changes made wrong."""
    from steelyard.study.freshness import measure_freshness

    return measure_freshness(study, progress=progress)


def _optimise(study: Study, name: str, *, quick: bool, progress: bool) -> None:
    """Search what an approach asks to be searched, where that was not done yet; quickly means without a call."""
    from steelyard.study.optimised_file import read_optimised

    spec = study.file.approaches[name].optimise
    if spec is None or (quick and spec.method != "retrieval"):
        return
    budget = 0 if quick else spec.budget_calls
    found = read_optimised(name, study.folder)
    if found is None or found.budget_calls < budget:
        found = study.optimise(name, budget_calls=budget, progress=progress)
    say(f"{name}: {found.sentence}")
