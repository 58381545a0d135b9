"""What `steelyard distill` shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steelyard.cases.distilled import UNKNOWN_LICENCE, UNKNOWN_TERMS
from steelyard.figures import Figure
from steelyard.report.format import money, shown


@dataclass(frozen=True, kw_only=True, repr=False)
class DistilledLabels:
    """What came of a teacher's answers."""

    teacher: str
    licence: str
    accept: str
    n_asked: int
    """Inputs that have an answer, of now or of earlier commands."""
    n_accepted: int
    n_to_review: int
    n_rejected: int
    """Without a valid answer, or turned down by a reviewer."""
    n_corrected: int
    left_out: Mapping[str, int]
    """Inputs that were not asked about, by reason."""
    file: Path
    """Where the labels are."""
    n_in_file: int
    """Labels there are now, of all teachers and commands."""
    is_in_study: bool
    """Whether study.yaml names the file."""
    review_file: Path | None
    cost_usd: float | None
    """What all answers of this teacher to unlabelled inputs have cost so far."""
    spent_usd: float
    """What this command has paid for calls."""
    dev_success: Figure
    """Success of the teacher on labelled dev cases, of those that would be accepted: what to expect of the labels."""
    n_dev: int
    """Those dev cases."""
    ended: str | None
    """Why it ended before all inputs were asked about."""

    def to_json(self) -> dict[str, Any]:
        """The shape `steelyard.distilled/1`."""
        quality = self.dev_success
        return {
            "schema": "steelyard.distilled/1",
            "teacher": self.teacher,
            "licence": self.licence,
            "accept": self.accept,
            "n_asked": self.n_asked,
            "n_accepted": self.n_accepted,
            "n_to_review": self.n_to_review,
            "n_rejected": self.n_rejected,
            "n_corrected": self.n_corrected,
            "left_out": dict(self.left_out),
            "file": str(self.file),
            "n_in_file": self.n_in_file,
            "review_file": None if self.review_file is None else str(self.review_file),
            "cost_usd": self.cost_usd,
            "spent_usd": self.spent_usd,
            "dev_success": {
                "n": self.n_dev,
                "value": quality.value,
                "low": quality.low,
                "high": quality.high,
                "unknown_because": quality.unknown_because,
            },
            "ended": self.ended,
        }

    def __str__(self) -> str:
        rest = f"{self.n_to_review:,} to review, {self.n_rejected:,} without a valid answer or turned down"
        lines = [
            f"{self.teacher}: {self.n_asked:,} inputs answered, {self.n_accepted:,} accepted ({self.accept}), {rest}"
        ]
        if self.n_corrected:
            lines.append(f"{self.n_corrected:,} of them were corrected by the reviewer")
        lines += [f"not asked: {n:,} inputs, {why}" for why, n in self.left_out.items()]
        quality = self.dev_success
        if quality.value is None:
            lines.append(f"how many of the labels are right is not known: {quality.unknown_because}")
        else:
            rate = shown(quality, "percent").plain
            lines.append(f"expect about as many right labels as on {self.n_dev:,} dev cases accepted alike: {rate}")
        unknown = f": {UNKNOWN_TERMS}; note it in models.endpoints.NAME.licence"
        lines.append(f"licence of the answers: {self.licence}" + (unknown if self.licence == UNKNOWN_LICENCE else ""))
        cost = "not known" if self.cost_usd is None else money(self.cost_usd)
        lines.append(f"cost of all its answers so far: {cost}; this command paid {money(self.spent_usd)} for calls")
        if self.ended is not None:
            lines.append(f"ended early: {self.ended}")
        lines.append(f"{self.n_in_file:,} distilled labels are in {self.file}")
        if self.review_file is not None:
            lines.append(
                f"to review: {self.review_file}; fill in accept or correct, then give it to the same command as --accepted"
            )
        return "\n".join(lines)

    __repr__ = __str__
