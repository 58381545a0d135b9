"""The report as JSON, for programs: unrounded figures, each with interval and provenance."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from steelyard.figures import Figure
from steelyard.report.content import ReportContent

REPORT_SCHEMA = "steelyard.report/1"


def report_json(content: ReportContent) -> dict[str, Any]:
    """Everything the report shows, as values that JSON knows."""
    return {
        "schema": REPORT_SCHEMA,
        "study": content.study,
        "instruction": content.instruction,
        "verdict": _plain(content.verdict.to_json()),
        "goals": _plain(content.goals),
        "approaches": _plain([card.to_json() for card in content.scorecards]),
        "comparisons": _plain([comparison.to_json() for comparison in content.comparisons]),
        "segments": None if content.segments is None else _plain(content.segments.to_json()),
        "fields": _plain([row.to_json() for row in content.fields]),
        "retrieval": None if content.retrieval is None else _plain(content.retrieval.to_json()),
        "learning_curves": _plain(content.curves),
        "worst_cases": _plain(content.worst_cases),
        "data": {
            "split_counts": _plain(content.split_counts),
            "test_looks": content.test_looks,
            "notes": list(content.data_notes),
        },
        "setup": _plain(content.setup),
        "method": {
            "seeds": _plain(content.method.seeds),
            "package_version": content.method.package_version,
            "command": content.method.command,
            "outcomes_from": "file" if content.method.run is None else "run",
            **_plain(content.method.source),
        },
    }


def render_json(content: ReportContent) -> str:
    """The same as text: ASCII only, so that no control or bidirectional character reaches a terminal."""
    return json.dumps(report_json(content), indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:  # noqa: ANN401 - case fields can hold anything a file can
    if isinstance(value, Figure):
        return _plain(value.to_json())
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, float):
        # JSON has no infinity; a string cannot be mistaken for a number.
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_plain(part) for part in value]
    return str(value)
