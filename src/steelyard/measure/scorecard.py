"""Result types of the measure room: what one approach scored, and how two compare on the same cases.

Only shapes live here; `steelyard.measure.scoring` and `steelyard.measure.comparing` fill them in. Rates are fractions
in 0..1, never percentages; nothing is rounded before it is rendered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from steelyard.figures import Figure, unknown

Announcement = Literal["a", "b", "undecided"]
"""Which of two is better, or that it is too early to say."""

Evidence = Literal[Announcement, "equivalent"]

SCORECARDS_SCHEMA = "steelyard.scorecards/1"

NO_JUDGE = unknown("no judge scored the cases")
_NOT_WORKED_OUT = unknown("not worked out")


@dataclass(frozen=True, kw_only=True, slots=True)
class Scorecard:
    """The six metrics of one approach on one split, each with an interval where one means anything."""

    name: str
    levers: tuple[str, ...]
    """Levers pulled, in ladder order."""
    rung: str
    """The levers as one word: `prompt`, `retrieval`, `workflow + retrieval`."""
    split: str
    n: int
    """Cases, failures included; the denominator of every rate."""
    n_unscored: int
    """Cases nobody could score in at least one repeat; they widen `success` instead of moving it."""
    status_counts: Mapping[str, int]
    """Outcomes (case and repeat) by how they ended."""
    success: Figure
    mean_score: Figure
    """Mean score of the answers, 0..1; above the success rate where an answer may be partly right."""
    schema_pass: Figure
    retry: Figure
    extra_calls_per_case: Figure
    transport_retries: int | None
    """Tries repeated because of transport faults, all outcomes together; `None` where nobody counted them."""
    review_s: Figure
    """Seconds of a person's time per reviewed task."""
    correction_rate: Figure
    """Share of reviewed tasks that the person changed."""
    latency_p50_s: Figure
    latency_p95_s: Figure
    cost_per_task_usd: Figure
    """Variable cost per task in USD: every attempt, failed and retried ones too, plus own compute."""
    cost_per_success_usd: Figure
    """Full cost of one successful task in USD; unknown until a ledger fills it in."""
    prompt_tokens_per_task: Figure
    cached_tokens_per_task: Figure
    completion_tokens_per_task: Figure
    success_with_judge: Figure = NO_JUDGE
    """Success rate from people's scores on some cases and a judge's on all; stands beside `success`, never in it."""
    judge_agreement: Figure = NO_JUDGE
    """Share of cases scored by both where the judge agrees with people."""

    def with_cost_per_success(self, figure: Figure) -> Scorecard:
        """The same scorecard with the ledger's full cost of one successful task, in USD."""
        return replace(self, cost_per_success_usd=figure)

    def to_json(self) -> dict[str, Any]:
        """The shape published in `score --json`."""
        return {
            "name": self.name,
            "levers": list(self.levers),
            "rung": self.rung,
            "split": self.split,
            "n": self.n,
            "n_unscored": self.n_unscored,
            "status_counts": dict(self.status_counts),
            "success": self.success.to_json(),
            "mean_score": self.mean_score.to_json(),
            "schema_pass": self.schema_pass.to_json(),
            "retry": self.retry.to_json(),
            "extra_calls_per_case": self.extra_calls_per_case.to_json(),
            "transport_retries": self.transport_retries,
            "review_s": self.review_s.to_json(),
            "correction_rate": self.correction_rate.to_json(),
            "latency_s": {"p50": self.latency_p50_s.to_json(), "p95": self.latency_p95_s.to_json()},
            "cost_per_task_usd": self.cost_per_task_usd.to_json(),
            "cost_per_success_usd": self.cost_per_success_usd.to_json(),
            "prompt_tokens_per_task": self.prompt_tokens_per_task.to_json(),
            "cached_tokens_per_task": self.cached_tokens_per_task.to_json(),
            "completion_tokens_per_task": self.completion_tokens_per_task.to_json(),
            "success_with_judge": self.success_with_judge.to_json(),
            "judge_agreement": self.judge_agreement.to_json(),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two approaches on the SAME cases."""

    a: str
    b: str
    n: int
    """Cases both did."""
    n_unscored: int
    """Cases unscored for either; they widen `difference`."""
    a_only: int
    """Cases where only `a` succeeded (with repeats: succeeded more often)."""
    b_only: int
    difference: Figure
    """Success rate of `a` minus that of `b`, paired interval."""
    p_mcnemar: float | None
    """Exact two-sided McNemar p-value (cluster-wise where cases share clusters); `None` with too few cases."""
    p_adjusted: float | None
    """`p_mcnemar` after Holm over all comparisons made together."""
    e_value: float | None
    """Anytime-valid evidence against 'no difference': 20 or more may be acted on at 5% whenever one looks."""
    evidence: Evidence
    """Which is better, that they are within the margin of each other, or that it is too early to say."""
    cases_to_settle: int | None
    """How many more cases should settle it; 0 when settled, `None` when no realistic number would."""
    latency_difference_s: Figure
    """Mean latency of `a` minus that of `b`, in seconds per task."""
    cost_difference_usd: Figure
    """Mean variable cost of `a` minus that of `b`, in USD per task."""
    minimum_detectable: Figure = _NOT_WORKED_OUT
    """Smallest true difference in success that as many cases with as much disagreement show with 80% power."""
    difference_with_judge: Figure = NO_JUDGE
    """Success rate of `a` minus that of `b` with the help of a judge; no evidence is taken from it."""
    margin: float = 0.02
    """Success rates within this of each other count as equally good."""

    @property
    def sentence(self) -> str:
        """What may be said of the two, without a full stop."""
        if self.evidence == "equivalent":
            return f"{self.a} is as good as {self.b}, within {100 * self.margin:g} points"
        if self.evidence in ("a", "b"):
            better, worse = (self.a, self.b) if self.evidence == "a" else (self.b, self.a)
            return f"{better} succeeds more often than {worse}"
        more = self.cases_to_settle
        if more is None:
            return "not enough evidence, and no realistic number of cases would settle it"
        if more == 0:
            return "not enough evidence"
        return f"not enough evidence; about {more:,} more {'case' if more == 1 else 'cases'} should settle it"

    def to_json(self) -> dict[str, Any]:
        """The shape published in `score --json`."""
        return {
            "a": self.a,
            "b": self.b,
            "n": self.n,
            "n_unscored": self.n_unscored,
            "a_only": self.a_only,
            "b_only": self.b_only,
            "difference": self.difference.to_json(),
            "p_mcnemar": self.p_mcnemar,
            "p_adjusted": self.p_adjusted,
            "e_value": self.e_value,
            "evidence": self.evidence,
            "margin": self.margin,
            "sentence": self.sentence,
            "cases_to_settle": self.cases_to_settle,
            "minimum_detectable": self.minimum_detectable.to_json(),
            "difference_with_judge": self.difference_with_judge.to_json(),
            "latency_difference_s": self.latency_difference_s.to_json(),
            "cost_difference_usd": self.cost_difference_usd.to_json(),
        }


def scorecards_json(scorecards: Sequence[Scorecard], comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """What `score --json` prints."""
    return {
        "schema": SCORECARDS_SCHEMA,
        "approaches": [scorecard.to_json() for scorecard in scorecards],
        "comparisons": [comparison.to_json() for comparison in comparisons],
    }
