"""Steelyard weighs prompt, workflow, retrieval and fine-tuning for one AI task, on the same cases.

import steelyard

study = steelyard.load("my-study")
study.run(limit=100)
study.score()      # six metrics per approach, paired comparisons
study.decide()     # gates, ledger, verdict
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from steelyard.errors import InputError, RunStopped, SteelyardError

if TYPE_CHECKING:
    from pathlib import Path

    from steelyard.study.study import Study

__all__ = ["InputError", "RunStopped", "SteelyardError", "load"]


def load(folder: str | Path) -> Study:
    """Read a study folder.

    Args:
        folder: Folder with `study.yaml`.

    Raises:
        InputError: `study.yaml` or the cases are not as they must be; lists every problem found.
    """
    from steelyard.study.study import load_study

    return load_study(folder)
