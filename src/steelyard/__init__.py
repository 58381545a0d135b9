"""Steelyard weighs prompt, workflow, retrieval and fine-tuning for one AI task, on the same cases.

Example:
    A study from a notebook::

        study = steelyard.load("my-study")
        study.run(limit=100)
        study.score()  # six metrics per approach, paired comparisons
        study.decide()  # gates, ledger, verdict
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from steelyard.errors import InputError, RunStopped, SteelyardError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date
    from pathlib import Path

    from steelyard.study.outcomes import Outcomes
    from steelyard.study.study import Study
    from steelyard.study.whatif import WhatIf

__all__ = ["InputError", "RunStopped", "SteelyardError", "load", "load_outcomes", "what_if"]


def load(folder: str | Path) -> Study:
    """Read a study folder.

    Args:
        folder: Folder with `study.yaml`.

    Raises:
        InputError: `study.yaml` or the cases are not as they must be; lists every problem found.
    """
    from steelyard.study.study import load_study

    return load_study(folder)


def load_outcomes(
    path: str | Path,
    *,
    threshold: float | None = None,
    settings: str | Path | None = None,
    as_of: date | None = None,
    where: Sequence[str] = (),
) -> Outcomes:
    """Read results made elsewhere; they are scored and decided on like those of a study.

    Args:
        path: CSV, JSONL, JSON or Parquet file with a row an outcome, or a folder made by `steelyard import outcomes`.
        threshold: Score from which on an outcome is a success, 1 if left out; used where there is no column `success`.
        settings: YAML file with `money:` and `goal:` as in study.yaml, and `approaches:` for what the file leaves out.
        as_of: Day of the verdict; left out, the settings' own, the newest time among the outcomes, or else today.
        where: Conditions such as `"task=prime"`; only the rows that meet all of them are read.

    Raises:
        InputError: A file is not as it must be; lists every problem found.
    """
    from steelyard.study import outcomes

    return outcomes.load_outcomes(path, threshold=threshold, settings=settings, as_of=as_of, where=where)


def what_if(
    source: str | Path,
    *,
    as_of: date | None = None,
    settings: str | Path | None = None,
    where: Sequence[str] = (),
) -> WhatIf:
    """Weigh the approaches of a plan, or of a paper's table, from summary figures alone.

    Args:
        source: A plan file (docs/whatif.md), a table with a row an approach, or the name of a scenario that ships.
        as_of: Day of the verdict; left out, today.
        settings: YAML file with `money:`, `goal:` and `columns:` for a table.
        where: Conditions such as `"board=polyglot"` on the rows of a table.

    Raises:
        InputError: The file is not as it must be; lists every problem found.
    """
    from datetime import UTC, datetime

    from steelyard.study import whatif

    return whatif.what_if(source, as_of=as_of or datetime.now(UTC).date(), settings=settings, where=where)
