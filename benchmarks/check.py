"""One figure of a benchmark that has a limit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One figure that has a limit."""

    what: str
    measured: float
    limit: float
    unit: str
    at_least: bool = False
    """The limit is a floor, not a ceiling."""

    @property
    def is_met(self) -> bool:
        """Whether the limit is kept."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def row(self) -> tuple[str, str, str, str]:
        """Cells: what, measured, limit, ok?"""
        sign = ">=" if self.at_least else "<="
        return (
            self.what,
            f"{_number(self.measured)} {self.unit}",
            f"{sign} {_number(self.limit)} {self.unit}",
            "ok" if self.is_met else "MISSED",
        )


# Private


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.2f}"
