"""The published JSON Schema of a verdict."""

from __future__ import annotations

from importlib.resources import files


def verdict_schema_text() -> str:
    """The schema of `decide --json`, as it lies in the package and in the documentation."""
    return (files("steelyard.decision") / "verdict.schema.json").read_text(encoding="utf-8")
