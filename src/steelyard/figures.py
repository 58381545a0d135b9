"""A figure is a number that says where it came from and how sure it is.

Every number shown to a person is a `Figure`: value, interval, provenance. An unknown figure has no value and a
reason; it is never 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

ProvenanceKind = Literal["measured", "assumed", "quoted"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """Where a figure came from."""

    kind: ProvenanceKind
    source: str | None = None
    """`measured`: of what; `assumed`: where it was written down (`study.yaml: money.wage`); `quoted`: the page."""
    as_of: str | None = None
    """ISO date; required for `quoted`."""

    def __post_init__(self) -> None:
        if self.kind == "quoted" and not (self.source and self.as_of):
            raise ValueError("a quoted figure needs its source and date")

    def __str__(self) -> str:
        if self.kind == "quoted":
            return f"quoted ({self.source}, {self.as_of})"
        return f"{self.kind} ({self.source})" if self.source else self.kind


MEASURED = Provenance(kind="measured")


def weakest(provenances: Iterable[Provenance]) -> Provenance:
    """The provenance of a figure computed from others: assumed if any part is, else quoted, else measured.

    >>> weakest([MEASURED, Provenance(kind="assumed", source="study.yaml: money.wage")]).kind
    'assumed'
    """
    found = list(provenances)
    for kind in ("assumed", "quoted"):
        parts = [p for p in found if p.kind == kind]
        if parts:
            sources = sorted({p.source for p in parts if p.source})
            dates = sorted(p.as_of for p in parts if p.as_of)
            return Provenance(kind=kind, source=", ".join(sources) or None, as_of=dates[0] if dates else None)
    return MEASURED


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A number with interval and provenance, or the reason why there is none."""

    value: float | None
    provenance: Provenance = MEASURED
    low: float | None = None
    """Lower end of the interval; `None` where no interval means anything."""
    high: float | None = None
    unknown_because: str | None = None
    """Why `value` is `None`; always set when it is."""

    def __post_init__(self) -> None:
        if self.value is None and not self.unknown_because:
            raise ValueError("an unknown figure must say why it is unknown")

    def to_json(self) -> dict[str, Any]:
        """The shape published in `score --json`."""
        shape: dict[str, Any] = {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "provenance": str(self.provenance),
        }
        if self.value is None:
            shape["unknown_because"] = self.unknown_because
        return shape


def unknown(because: str, *, provenance: Provenance = MEASURED) -> Figure:
    """A figure nobody knows, with the reason."""
    return Figure(value=None, provenance=provenance, unknown_because=because)
