"""The report of outcomes made elsewhere: the same figures and verdict, without answers, preparation and journal."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from steelyard.measure.segments import segment_tables
from steelyard.report.content import Goals, ImportFacts, Method, ReportContent
from steelyard.study.outcomes import OUTCOMES_FILE, Outcomes, is_imported
from steelyard.study.reporting import ReportFormat, render


def render_outcomes_report(
    outcomes: Outcomes, path: str | Path, *, form: ReportFormat = "html", options: Sequence[str] = ()
) -> bytes:
    """The report as the bytes of a file; the same outcomes and settings give the same bytes.

    Args:
        outcomes: Read from `path` by `load_outcomes`.
        path: The file, or a folder made by `import_outcomes`.
        form: `html`, `md`, `json`, `xlsx` or `csv`.
        options: Of the command line with which the outcomes were read, for the report to name.
    """
    path = Path(path)
    named = [str(path)] if is_imported(path) else ["--outcomes", str(path)]
    suffix = [] if form == "html" else ["--format", form]
    command = " ".join(["steelyard report", *named, *options, *suffix])
    return render(build_content(outcomes, path, command=command), form)


def place_of_report(path: Path, form: ReportFormat) -> Path:
    """Where a report goes that was given no place: into an imported folder, or beside a file."""
    return path / f"report.{form}" if is_imported(path) else path.with_name(f"{path.stem}.report.{form}")


def build_content(outcomes: Outcomes, path: Path, *, command: str) -> ReportContent:
    """Everything the report shows.

    Args:
        outcomes: Read from `path`.
        path: File or imported folder.
        command: What a person types to make this report again.
    """
    scores = outcomes.score()
    file = path / OUTCOMES_FILE if is_imported(path) else path
    n_cases = outcomes.read.frame["case_id"].n_unique()
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return ReportContent(
        study=path.resolve().name,
        instruction="",
        scorecards=scores.scorecards,
        comparisons=scores.comparisons,
        verdict=outcomes.decide().verdict,
        goals=Goals(**outcomes.settings.goal.model_dump()),
        worst_cases=(),
        data_notes=scores.notes,
        split_counts={"imported": n_cases},
        test_looks=None,
        setup=(),
        method=Method(
            seeds={"bootstrap": 0},
            package_version=version("steelyard"),
            command=command,
            source=ImportFacts(file=file.name, digest=digest, n_outcomes=outcomes.read.frame.height),
        ),
        segments=scores.segments or segment_tables(outcomes.results),
        fields=scores.fields,
    )
