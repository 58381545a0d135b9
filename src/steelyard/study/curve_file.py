"""The file in which a study keeps the learning curve of an approach, and what a report shows of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from steelyard.errors import InputError, Problem
from steelyard.figures import Figure, Provenance
from steelyard.report.learning_curves import CurveRow, CurveShown, Law

FOLDER: Final = Path(".steelyard") / "curves"
_FITTED = Provenance(kind="assumed", source="a power law through the sizes tried")


def curve_file(approach: str) -> Path:
    """Where the last curve of an approach is kept, relative to the study folder."""
    name = "%2E" * len(approach) if set(approach) <= {"."} else quote(approach, safe="")
    return FOLDER / f"{name}.json"


def read_curves(folder: Path, fingerprints: Mapping[str, str]) -> tuple[CurveShown, ...]:
    """The curves of approaches as they are now; those of approaches that were changed since are left out.

    Args:
        folder: The study folder.
        fingerprints: By approach, of what was run.

    Raises:
        InputError: A file cannot be read.
    """
    shown: list[CurveShown] = []
    for approach, fingerprint in fingerprints.items():
        path = folder / curve_file(approach)
        if not path.exists():
            continue
        try:
            found = json.loads(path.read_bytes())
            if found["fingerprint"] == fingerprint:
                shown += [_shown(approach, curve) for curve in found["curves"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            hint = "delete it; steelyard tune --curve makes it again from what was trained"
            raise InputError(
                Problem(what=f"a learning curve cannot be read ({error!r})", where=str(path), hint=hint)
            ) from error
    return tuple(shown)


# ---- private --------------------------------------------------------------------------------------------------------


def _shown(approach: str, curve: Mapping[str, Any]) -> CurveShown:
    measured = [
        CurveRow(n_labels=one["n_labels"], success=_figure(one["success"]), is_forecast=False)
        for one in curve["points"]
    ]
    forecasts = [
        CurveRow(n_labels=one["n_labels"], success=_figure(one["success"], _FITTED), is_forecast=True)
        for one in curve["forecasts"]
        if one["success"]["value"] is not None
    ]
    return CurveShown(
        approach=approach,
        tuner=curve["tuner"],
        is_own=curve["is_own"],
        n_dev=curve["n_dev"],
        rows=(*measured, *forecasts),
        law=None if curve["law"] is None else Law(**curve["law"]),
        sentences=tuple(curve["sentences"]),
    )


def _figure(shape: Mapping[str, Any], provenance: Provenance | None = None) -> Figure:
    source = provenance or Provenance(kind="measured")
    return Figure(value=float(shape["value"]), low=shape["low"], high=shape["high"], provenance=source)
