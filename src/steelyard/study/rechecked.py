"""What `recheck` gives back: readable at a prompt and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from steelyard.decision.verdict import Verdict
from steelyard.study.history import VerdictRecord
from steelyard.study.results import as_text

if TYPE_CHECKING:
    from rich.console import RenderableType

RECHECK_SCHEMA = "steelyard.recheck/1"
HISTORY_SCHEMA = "steelyard.verdict-history/1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One thing that is not as it was, and what it alone does to the choice."""

    name: str
    """Field: `money.volume_per_month`, `models.endpoints.large.price_per_million`, `outcomes`."""
    sentence: str
    """What it was and what it is."""
    choice: str | None
    """What would be chosen if only this had changed."""
    turns: bool
    """Whether it alone changes the choice."""

    def to_json(self) -> dict[str, Any]:
        """One change of `recheck --json`."""
        return {"name": self.name, "sentence": self.sentence, "choice_alone": self.choice, "turns_choice": self.turns}


@dataclass(frozen=True, kw_only=True, repr=False)
class Recheck:
    """The last verdict, held against today."""

    then: VerdictRecord
    verdict: Verdict
    """What is decided today."""
    stands: bool
    sentence: str
    changes: tuple[Change, ...]
    warnings: tuple[str, ...]
    """Old prices with the page to check, models that will be retired, cases not done yet."""
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """What `recheck --json` prints (`steelyard.recheck/1`)."""
        now = self.verdict.to_json()
        return {
            "schema": RECHECK_SCHEMA,
            "as_of": now["as_of"],
            "stands": self.stands,
            "sentence": self.sentence,
            "then": {
                "date": self.then.date,
                "choice": self.then.choice,
                "sentence": self.then.sentence,
                "p_best": self.then.p_best,
                "cost_per_success_usd": dict(self.then.cost_per_success_usd),
            },
            "now": {
                "choice": now["choice"],
                "sentence": now["sentence"],
                "p_best": now["p_best"],
                "cost_per_success_usd": {one["name"]: one["cost_per_success_usd"] for one in now["standings"]},
            },
            "changes": [change.to_json() for change in self.changes],
            "warnings": list(self.warnings),
            "verdict": now,
        }

    def renderables(self) -> Sequence[RenderableType]:
        """Verdict on the verdict, for the terminal."""
        from rich.text import Text

        from steelyard.report.terminal import bullets
        from steelyard.report.text import one_line

        parts: list[RenderableType] = [Text(one_line(self.sentence), style="bold")]
        changes = [f"{change.sentence} {_effect(change, self.then)}" for change in self.changes]
        for title, sentences in (
            ("Changed since", changes),
            ("Today", [] if self.stands else [self.verdict.sentence]),
            ("Warnings", self.warnings),
            ("Notes", self.notes),
        ):
            if sentences:
                parts += [Text(f"\n{title}", style="bold"), bullets(list(sentences))]
        return parts

    def __repr__(self) -> str:
        return as_text(self.renderables())


@dataclass(frozen=True, kw_only=True, repr=False)
class History:
    """All verdicts that were kept for one folder, oldest first."""

    records: tuple[VerdictRecord, ...]

    def to_json(self) -> dict[str, Any]:
        """What `recheck --history --json` prints."""
        return {"schema": HISTORY_SCHEMA, "verdicts": [record.to_json() for record in self.records]}

    def renderables(self) -> Sequence[RenderableType]:
        """One line a verdict."""
        from rich.text import Text

        from steelyard.report.text import one_line

        if not self.records:
            return [Text("no verdict was kept yet")]
        return [Text(one_line(f"{one.date}  {one.kind:<8}  {one.sentence}")) for one in self.records]

    def __repr__(self) -> str:
        return as_text(self.renderables())


# --- private ---------------------------------------------------------------------------------------------------------


def _effect(change: Change, then: VerdictRecord) -> str:
    if change.choice == then.choice:
        return "Alone it leaves the choice as it was."
    if change.choice is None:
        return "Alone it leaves no choice that the evidence carries."
    return f"Alone it makes {change.choice} the choice."
