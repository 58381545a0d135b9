"""Everything a report shows, as plain data.

The study room assembles a `ReportContent` from the journal; HTML, Markdown and JSON are pure functions of it. Texts
from cases and models are held as they came: making them harmless is the renderers' work.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from steelyard.decision.verdict import Verdict
from steelyard.engine.outcome import Outcome
from steelyard.figures import Figure, Provenance
from steelyard.measure.fields import FieldRow
from steelyard.measure.forgetting import Forgetting
from steelyard.measure.retrieval_report import RetrievalReport
from steelyard.measure.scorecard import Comparison, Scorecard
from steelyard.measure.segments import SegmentTables
from steelyard.models.calls import Message
from steelyard.report.learning_curves import CurveShown
from steelyard.task.field_scorers import FieldScore


@dataclass(frozen=True, kw_only=True, slots=True)
class TranscriptCall:
    """One model call as it is shown to a person."""

    step: str
    messages: tuple[Message, ...]
    """What was asked."""
    text: str
    """What came back."""
    status: str
    error: str | None = None
    prompt_tokens: int | None
    completion_tokens: int | None
    latency_s: float
    price_usd: float | None
    extra: bool = False
    """Beyond the approach's planned calls."""
    replayed: bool = False
    """Taken from the journal instead of being sent again."""
    transport_retries: int = 0
    cached_tokens: int | None = None
    """Of the prompt tokens, those the endpoint had read before; `None` where it did not say."""
    price_from: Provenance | None = None
    """Where the price is from; `None` for the source of its approach's prices."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseAnswer:
    """What one approach made of a worst case."""

    approach: str
    output: Mapping[str, Any] | None
    status: str
    score: float | None
    unscored_because: str | None = None
    success: bool | None
    problem: str | None = None
    latency_s: float
    cost_usd: float | None
    sources: tuple[str, ...] = ()
    calls: tuple[TranscriptCall, ...] = ()
    judge_calls: tuple[TranscriptCall, ...] = ()
    """What a judge was asked about the answer; no part of what the approach did, took or cost."""
    notes: tuple[str, ...] = ()
    """What happened on the way: branches taken, what guards saw."""
    fields: Mapping[str, FieldScore] = field(default_factory=dict)
    """How right each expected field is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorstCase:
    """A case that most approaches fail, with all their answers."""

    case_id: str
    where: str
    """`file:line` it was read from."""
    fields: Mapping[str, Any]
    expected: Mapping[str, Any] | None
    answers: tuple[CaseAnswer, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Parity:
    """A tuned model measured twice on the same cases: where it was trained, and as it is served."""

    n: int
    """Validation cases."""
    in_training_library: Figure
    """Exact match in PyTorch, as a rate."""
    as_served: Figure
    """Exact match of the same cases through the server that production would use, as a rate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SetupRow:
    """What preparing one approach took."""

    approach: str
    seconds: Figure
    """Machine seconds of the preparation when it was really done."""
    cost_usd: Figure
    n_examples: int
    """Labelled cases used."""
    reused: bool
    """Whether it was found on disk instead of being done again."""
    card: tuple[tuple[str, str], ...] = ()
    """Tuning card in brief: label and text."""
    parity: Parity | None = None
    forgetting: Forgetting | None = None
    """What a tuned model forgot; the card says it in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFact:
    """One model that answered in this study."""

    endpoint: str
    identity: str
    """Name and, where local, weight digest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Goals:
    """What an approach must reach to be considered; `None` where nothing is asked."""

    min_success: float | None = None
    min_schema_pass: float | None = None
    max_p95_latency_s: float | None = None

    @property
    def is_any(self) -> bool:
        """Whether anything is asked."""
        return any(goal is not None for goal in (self.min_success, self.min_schema_pass, self.max_p95_latency_s))


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """What the journal says of the run."""

    models: tuple[ModelFact, ...]
    repeats: int
    started_utc: str
    """As recorded when the run began."""
    finished_utc: str
    study_digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportFacts:
    """Where outcomes made elsewhere were read."""

    file: str
    """Name of the file."""
    digest: str
    """SHA-256 of its bytes."""
    n_outcomes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """How the figures were made, enough to make them again."""

    seeds: Mapping[str, int]
    """Seeds by what they decide: `split`, `bootstrap`."""
    package_version: str
    command: str
    """The command that made this report."""
    source: RunFacts | ImportFacts

    @property
    def run(self) -> RunFacts | None:
        """What the journal says of the run, where there was one."""
        return self.source if isinstance(self.source, RunFacts) else None

    @property
    def imported(self) -> ImportFacts | None:
        """Where the outcomes were read, if they were made elsewhere."""
        return self.source if isinstance(self.source, ImportFacts) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportContent:
    """Everything the report shows."""

    study: str
    instruction: str
    """What is asked; empty for outcomes made elsewhere."""
    scorecards: tuple[Scorecard, ...]
    comparisons: tuple[Comparison, ...]
    verdict: Verdict
    goals: Goals
    worst_cases: tuple[WorstCase, ...]
    """Empty for outcomes made elsewhere: their answers are not known."""
    data_notes: tuple[str, ...]
    """Findings about the cases: duplicates, empty inputs, label noise."""
    split_counts: Mapping[str, int]
    """Cases by split."""
    test_looks: int | None
    """How often the test split was scored; `None` where nobody counted."""
    setup: tuple[SetupRow, ...]
    method: Method
    segments: SegmentTables | None = None
    """Success by segment, where the cases have segments."""
    fields: tuple[FieldRow, ...] = ()
    """What is right field by field, where an output has several."""
    retrieval: RetrievalReport | None = None
    """Were sources found and used; `None` for a study without documents."""
    curves: tuple[CurveShown, ...] = ()
    """Learning curves that were measured of these approaches."""

    @property
    def focus(self) -> str | None:
        """The approach a reader looks at first: the choice or, without one, the leader."""
        standings = self.verdict.standings
        leads = bool(standings) and standings[0].excluded_because is None
        return self.verdict.choice or (standings[0].name if leads else None)

    def scorecard_of(self, approach: str) -> Scorecard | None:
        """The scorecard of one approach, if there is one."""
        return next((card for card in self.scorecards if card.name == approach), None)


def choose_worst_cases(
    outcomes_by_case: Mapping[str, Sequence[Outcome]],
    *,
    k: int,
    best: str | None = None,
    label_of: Mapping[str, str] | None = None,
) -> list[str]:
    """Choose the cases that say most about what still goes wrong.

    1. Worst first: failed by `best`, then by the largest share of approaches (repeats averaged within an approach),
       then by the lowest mean score, then by case id. 2. Cases nobody failed and cases nobody could score are left
       out. 3. No expected label takes more than its even share of places while others with failures by at least
       half of the approaches are waiting.

    Args:
        outcomes_by_case: All outcomes of the test split, by case id, in any order.
        k: How many cases at most, at least 0.
        best: The approach that matters most, usually the verdict's choice.
        label_of: Expected label by case id; left out, no diversity is sought.

    Returns:
        Case ids, worst first; the same for the same outcomes, whatever their order.
    """
    ranked: list[tuple[tuple[float, float, float, str], str]] = []
    mostly_failed: set[str] = set()
    for case_id, outcomes in outcomes_by_case.items():
        failed = _failure_by_approach(outcomes)
        if not any(failed.values()):
            continue
        share = math.fsum(failed.values()) / len(failed)
        scores = [outcome.score for outcome in outcomes if outcome.score is not None]
        mean_score = math.fsum(scores) / len(scores) if scores else 0.0
        best_failed = failed.get(best, 0.0) if best is not None else 0.0
        ranked.append(((-best_failed, -share, mean_score, case_id), case_id))
        if share >= 0.5:
            mostly_failed.add(case_id)
    in_order = [case_id for _, case_id in sorted(ranked)]

    labels = label_of or {}
    eligible = [case_id for case_id in in_order if case_id in mostly_failed]
    n_labels = len({labels.get(case_id, "") for case_id in eligible})
    even_share = math.ceil(k / n_labels) if n_labels else 0
    taken: dict[str, int] = {}
    chosen: list[str] = []
    for case_id in eligible:
        label = labels.get(case_id, "")
        if len(chosen) < k and taken.get(label, 0) < even_share:
            taken[label] = taken.get(label, 0) + 1
            chosen.append(case_id)
    chosen.extend([case_id for case_id in in_order if case_id not in chosen][: max(0, k - len(chosen))])
    return sorted(chosen, key=in_order.index)


def _failure_by_approach(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Share of failed repeats by approach, unscored outcomes left out."""
    tried: dict[str, int] = {}
    failed: dict[str, int] = {}
    for outcome in outcomes:
        if outcome.success is None:
            continue
        tried[outcome.approach] = tried.get(outcome.approach, 0) + 1
        failed[outcome.approach] = failed.get(outcome.approach, 0) + (not outcome.success)
    return {approach: failed[approach] / tried[approach] for approach in sorted(tried)}
