"""What `score`, `decide` and `run` give back: readable at a prompt, as JSON and as data frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from steelyard.decision.verdict import Verdict
from steelyard.engine.estimate import Estimate
from steelyard.engine.run import RunSummary
from steelyard.measure.fields import FieldRow
from steelyard.measure.retrieval_report import RetrievalReport
from steelyard.measure.scorecard import Comparison, Scorecard, scorecards_json
from steelyard.measure.segments import SegmentTables

if TYPE_CHECKING:
    import polars
    from rich.console import RenderableType

    from steelyard.approaches.tuning.estimate import TrainingEstimate
    from steelyard.study.cascade_use import CascadeUse
    from steelyard.study.embedding import EmbeddingEstimate
    from steelyard.study.racing import RaceResult
    from steelyard.study.support_estimate import SupportEstimate


@dataclass(frozen=True, kw_only=True, repr=False)
class Scores:
    """Scorecards and paired comparisons of one study."""

    scorecards: tuple[Scorecard, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()
    """What to know before trusting the figures: approaches that changed since they ran, or did not run."""
    segments: SegmentTables | None = None
    """Success by segment; `None` where cases have no segments."""
    fields: tuple[FieldRow, ...] = ()
    """What is right field by field; empty where outputs have one field, or only their scores are known."""

    retrieval: RetrievalReport | None = None
    """Were sources found and used; `None` for a study without documents."""
    cascades: tuple[CascadeUse, ...] = ()
    """How many cases went on in each cascade; the notes say the same."""

    def to_json(self) -> dict[str, Any]:
        """What `score --json` prints (`steelyard.scorecards/1`)."""
        segments = None if self.segments is None else self.segments.to_json()
        fields = [row.to_json() for row in self.fields]
        retrieval = None if self.retrieval is None else self.retrieval.to_json()
        shape = scorecards_json(self.scorecards, self.comparisons)
        cascades = [one.to_json() for one in self.cascades]
        return shape | {"segments": segments, "fields": fields, "retrieval": retrieval, "cascades": cascades}

    def to_polars(self) -> polars.DataFrame:
        """One row an approach: each metric with `_low`, `_high` and `_provenance` beside it."""
        return _frame([card.to_json() for card in self.scorecards])

    def renderables(self, *, by_segment: bool = False) -> Sequence[RenderableType]:
        """Table and comparisons for the terminal; on request success by segment, too."""
        from rich.text import Text

        from steelyard.report.segment_table import judge_lines, segment_parts
        from steelyard.report.terminal import comparison_lines, score_table

        parts: list[RenderableType] = [score_table(self.scorecards)]
        if self.comparisons:
            best = max(self.scorecards, key=lambda card: card.success.value or 0.0).name
            rest = "; all pairs are in --json and in the report" if len(self.scorecards) > 2 else ""
            title = Text(f"\nOn the same cases, against the most successful approach{rest}:")
            parts += [title, *comparison_lines(self.comparisons, choice=best)]
        if self.fields:
            from steelyard.report.field_table import field_table

            parts += [Text("\nField by field:"), field_table(self.fields, self.scorecards)]
        if self.retrieval is not None:
            from steelyard.report.retrieval_table import retrieval_parts

            parts += retrieval_parts(self.retrieval)
        parts += judge_lines(self.scorecards)
        if by_segment:
            parts += segment_parts(self.segments)
        return [*parts, *_note_lines(self.notes)]

    def __repr__(self) -> str:
        return as_text(self.renderables())


@dataclass(frozen=True, kw_only=True, repr=False)
class Decision:
    """A verdict."""

    verdict: Verdict
    notes: tuple[str, ...] = ()
    """As in `Scores`."""

    def to_json(self) -> dict[str, Any]:
        """What `decide --json` prints (`steelyard.verdict/1`)."""
        return self.verdict.to_json()

    def to_polars(self) -> polars.DataFrame:
        """One row an approach: where it stands in the choice."""
        return _frame([standing.to_json(self.verdict.provenance) for standing in self.verdict.standings])

    def renderables(self, *, factors: bool = False) -> Sequence[RenderableType]:
        """The verdict for the terminal.

        Args:
            factors: With the eight decision factors, approach by approach.
        """
        from steelyard.report.terminal import factors_table, verdict_panel

        table = [factors_table(self.verdict)] if factors else []
        return [verdict_panel(self.verdict), *table, *_note_lines(self.notes)]

    def __repr__(self) -> str:
        return as_text(self.renderables())


@dataclass(frozen=True, kw_only=True, repr=False)
class RunResult:
    """What a run did."""

    summary: RunSummary
    n_test_cases: int
    race: RaceResult | None = None
    """How the race went, where it was one."""

    def to_json(self) -> dict[str, Any]:
        """What `run --json` prints."""
        summary = self.summary
        return {
            "schema": "steelyard.run-summary/1",
            "test_cases": self.n_test_cases,
            "outcomes": summary.n_outcomes,
            "outcomes_there_before": summary.n_skipped,
            "statuses": {
                name: {str(status): n for status, n in counts.items()} for name, counts in summary.statuses.items()
            },
            "spent_usd": summary.spent_usd,
            "spent_usd_all_runs": summary.spent.usd,
            "calls_all_runs": summary.spent.calls,
            "unpriced_calls": summary.spent.unpriced_calls,
            "seconds": summary.seconds,
            "race": None if self.race is None else self.race.to_json(),
        }

    def __str__(self) -> str:
        summary = self.summary
        before = f", {summary.n_skipped:,} were there before" if summary.n_skipped else ""
        unpriced = (
            f"; {summary.spent.unpriced_calls:,} calls have no known price" if summary.spent.unpriced_calls else ""
        )
        spent = f"spent ${summary.spent_usd:.4f} in this run, ${summary.spent.usd:.4f} in all{unpriced}"
        lines = [f"{summary.n_outcomes:,} outcomes in {summary.seconds:,.0f} s{before}; {spent}"]
        for name, counts in summary.statuses.items():
            trouble = {status: n for status, n in counts.items() if status != "answered"}
            if trouble:
                listed = ", ".join(f"{n:,} {status}" for status, n in sorted(trouble.items()))
                lines.append(f"  {name}: {listed} (they count as not successful)")
        if self.race is not None:
            lines.append(str(self.race))
        return "\n".join(lines)

    __repr__ = __str__


@dataclass(frozen=True, kw_only=True, repr=False)
class RunEstimate:
    """What a run would ask and cost."""

    estimate: Estimate
    untrained: tuple[str, ...]
    """Approaches estimated without the training their first real run would do."""
    trainings: tuple[TrainingEstimate, ...] = ()
    """What these trainings take at most."""
    embedding: EmbeddingEstimate | None = None
    """Documents an endpoint has yet to embed; passages of them are not in the estimate."""
    support: SupportEstimate | None = None
    """What the judge of support is asked at most."""
    cascades: tuple[str, ...] = ()
    """Cascades, which are set on dev at the first run; how many cases go on in them is known only then."""

    def to_json(self) -> dict[str, Any]:
        """What `run --dry-run --json` prints."""
        return {
            "schema": "steelyard.estimate/1",
            "first_calls": self.estimate.n_first_calls,
            "likely_usd": self.estimate.likely_usd,
            "needs_training": list(self.untrained),
            "trainings": [one.to_json() for one in self.trainings],
            "embedding": asdict(self.embedding) if self.embedding is not None else None,
            "cascades": list(self.cascades),
            "support": asdict(self.support) if self.support is not None else None,
            "approaches": [
                {
                    "name": one.approach,
                    "endpoint": one.endpoint,
                    "cases": one.n_cases,
                    "first_calls": one.n_first_calls,
                    "replayed": one.n_replayed,
                    "prompt_tokens": one.prompt_tokens,
                    "most_completion_tokens": one.most_completion_tokens,
                    "likely_usd": one.likely_usd,
                    "most_usd": one.most_usd,
                }
                for one in self.estimate.approaches
            ],
        }

    def __str__(self) -> str:
        lines = [
            f"{'approach':<16} {'cases':>7} {'calls':>7} {'prompt tokens':>14} {'answer tokens':>14} {'likely cost':>12}"
        ]
        for one in self.estimate.approaches:
            lines.append(
                f"{one.approach:<16} {one.n_cases:>7,} {one.n_first_calls:>7,} {one.prompt_tokens:>14,} "
                f"{one.most_completion_tokens:>14,} {_usd(one.likely_usd):>12}"
            )
        lines.append(
            f"{self.estimate.n_first_calls:,} first calls, {_usd(self.estimate.likely_usd)} in all (estimated: four "
            "characters a token, answers at their full length, a second for a local call); repairs and retries come on "
            "top, --budget is a ceiling on everything. Nothing was sent."
        )
        if self.untrained:
            lines.append(f"trained at the first run, not now: {', '.join(self.untrained)}")
        lines += [str(one) for one in self.trainings]
        if (embedding := self.embedding) is not None:
            lines.append(
                f"embedded at the first run, not now: {embedding.n_texts:,} texts of the documents by"
                f" {embedding.endpoint!r} in {embedding.n_calls:,} calls, about {embedding.tokens:,} tokens,"
                f" {_usd(embedding.likely_usd)}; prompts of {', '.join(embedding.approaches)} are counted without passages"
            )
        if self.cascades:
            lines.append(
                f"set on dev at the first run: {', '.join(self.cascades)}; how many cases go on is known only then, so what"
                " stands in the table is the most"
            )
        if (support := self.support) is not None:
            lines.append(
                f"support is judged by {support.judge!r} once answers are in: at most {support.n_calls:,} calls, about"
                f" {support.prompt_tokens:,} prompt tokens, {_usd(support.likely_usd)}, fewer where words decide it"
            )
        return "\n".join(lines)

    __repr__ = __str__


# Rendering


def _note_lines(notes: Sequence[str]) -> list[RenderableType]:
    from rich.text import Text

    from steelyard.report.text import one_line

    return [Text(f"note: {one_line(note)}") for note in notes]


def _usd(amount: float | None) -> str:
    return "unknown" if amount is None else f"${amount:,.4f}"


def as_text(parts: Sequence[RenderableType]) -> str:
    """Renderables as a prompt shows them: 120 columns, no colour."""
    from rich.console import Console

    console = Console(width=120, highlight=False, no_color=True, force_terminal=False)
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    return captured.get()


def _frame(rows: Sequence[dict[str, Any]]) -> polars.DataFrame:
    import polars

    return polars.DataFrame([_flat(row) for row in rows], infer_schema_length=None)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Figures become a column each for value, interval and provenance; lists become text."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict) and "provenance" in value:
            flat[name] = value["value"]
            flat[f"{name}_low"], flat[f"{name}_high"] = value["low"], value["high"]
            flat[f"{name}_provenance"] = value["provenance"]
        elif isinstance(value, dict):
            flat |= {f"{name}_{key}": inner for key, inner in _flat(value).items()}
        elif isinstance(value, list):
            flat[name] = ", ".join(map(str, value))
        else:
            flat[name] = value
    return flat
