"""Rows as the journal hands them over, for the tests of measure, economics and decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steelyard.measure.results import ApproachResults, from_rows


def row(approach: str = "a", case: int | str = 0, success: int | None = 1, **more: object) -> dict[str, Any]:
    """One outcome; everything can be overridden."""
    return {
        "approach": approach,
        "fingerprint": "f1",
        "split": "test",
        "case_id": f"c{case:05d}" if isinstance(case, int) else case,
        "repeat": 0,
        "status": "answered",
        "success": success,
        "score": None if success is None else float(success),
        "schema_pass": True,
        "retried": False,
        "extra_calls": 0,
        "transport_retries": 0,
        "latency_s": 1.0,
        "own_s": 0.01,
        "cost_usd": 0.001,
        "prompt_tokens": 100,
        "cached_tokens": 0,
        "completion_tokens": 5,
        "review_seconds": None,
        "corrected": None,
        "segment": None,
        "cluster": None,
        "time": None,
    } | more


def rows_of(successes: Mapping[str, Sequence[int | None]], **more: object) -> list[dict[str, Any]]:
    """Rows of several approaches on the same cases, from their successes in order."""
    return [row(name, i, one, **more) for name, ones in successes.items() for i, one in enumerate(ones)]


def results_of(successes: Mapping[str, Sequence[int | None]], **more: object) -> dict[str, ApproachResults]:
    """The same as results."""
    return from_rows(rows_of(successes, **more))
