"""The score table, described once for terminal, HTML and Markdown; and the sentences they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from steelyard.decision.verdict import FactorCell, Standing, Verdict
from steelyard.economics.ledger import Economics, TermName
from steelyard.figures import Figure, Provenance, weakest
from steelyard.measure.scorecard import Comparison, Scorecard
from steelyard.measure.segments import SegmentDifference
from steelyard.report.content import Goals, ReportContent
from steelyard.report.format import UNKNOWN, Unit, count, percent, points, seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One metric of the score table."""

    title: str
    note: str
    """What it means, in a few words."""
    unit: Unit
    figure_of: Callable[[Scorecard], Figure]
    better: Literal["higher", "lower"] | None
    """`None` where neither end is the better one."""


COLUMNS: tuple[Column, ...] = (
    Column(
        title="Success",
        note="share of cases done right",
        unit="percent",
        figure_of=lambda card: card.success,
        better="higher",
    ),
    Column(
        title="Schema pass",
        note="first answer valid as it came",
        unit="percent",
        figure_of=lambda card: card.schema_pass,
        better="higher",
    ),
    Column(
        title="Retry",
        note="cases that needed an extra call",
        unit="percent",
        figure_of=lambda card: card.retry,
        better="lower",
    ),
    Column(
        title="Review",
        note="a person's time per reviewed task",
        unit="seconds",
        figure_of=lambda card: card.review_s,
        better="lower",
    ),
    Column(
        title="Latency p50",
        note="half of the tasks take less",
        unit="seconds",
        figure_of=lambda card: card.latency_p50_s,
        better="lower",
    ),
    Column(
        title="Latency p95",
        note="one task in twenty takes more",
        unit="seconds",
        figure_of=lambda card: card.latency_p95_s,
        better="lower",
    ),
    Column(
        title="Prompt tokens",
        note="per task",
        unit="count",
        figure_of=lambda card: card.prompt_tokens_per_task,
        better="lower",
    ),
    Column(
        title="Cost per task",
        note="calls and own compute only",
        unit="usd",
        figure_of=lambda card: card.cost_per_task_usd,
        better="lower",
    ),
    Column(
        title="Cost per successful task",
        note="full ledger",
        unit="usd",
        figure_of=lambda card: card.cost_per_success_usd,
        better="lower",
    ),
)

_CACHED = Column(
    title="Of them cached",
    note="prompt tokens per task that the endpoint had read before",
    unit="count",
    figure_of=lambda card: card.cached_tokens_per_task,
    better=None,
)

TERM_TITLES: dict[TermName, str] = {
    "variable": "Calls and compute",
    "review": "Review",
    "failure": "Failures",
    "upkeep": "Upkeep",
    "setup": "Setup, spread",
}
"""What a finance lead would call the terms of the ledger."""


NOTHING_FLIPS = "No single input, from a quarter to four times its value, changes the cheapest approach."


def columns_of(scorecards: Sequence[Scorecard]) -> tuple[Column, ...]:
    """The columns of a score table; cached tokens stand beside prompt tokens where an endpoint cached any."""
    if not any_cached(scorecards):
        return COLUMNS
    at = next(number for number, column in enumerate(COLUMNS) if column.title == "Prompt tokens") + 1
    return (*COLUMNS[:at], _CACHED, *COLUMNS[at:])


def any_cached(scorecards: Sequence[Scorecard]) -> bool:
    """Whether some endpoint said that it had read a part of some prompt before."""
    return any(card.cached_tokens_per_task.value for card in scorecards)


def best_in(column: Column, scorecards: Sequence[Scorecard]) -> frozenset[str]:
    """Names of the approaches with the best point estimate; none where all are equal or fewer than two are known."""
    known = {card.name: value for card in scorecards if (value := column.figure_of(card).value) is not None}
    if column.better is None or len(known) < 2 or len(set(known.values())) == 1:
        return frozenset()
    best = max(known.values()) if column.better == "higher" else min(known.values())
    return frozenset(name for name, value in known.items() if value == best)


def unknown_notes(scorecards: Sequence[Scorecard]) -> list[str]:
    """Why figures of the score table are unknown, one sentence for each reason."""
    found: dict[str, dict[str, list[str]]] = {}
    for column in columns_of(scorecards):
        for card in scorecards:
            because = column.figure_of(card).unknown_because
            if because and column.figure_of(card).value is None:
                found.setdefault(because, {}).setdefault(column.title, []).append(card.name)
    notes = []
    for because, columns in found.items():
        by_names: dict[tuple[str, ...], list[str]] = {}
        for title, names in columns.items():
            by_names.setdefault(tuple(names), []).append(title)
        figures = "; ".join(
            f"{', '.join(titles)} of {'all approaches' if 1 < len(names) == len(scorecards) else ', '.join(names)}"
            for names, titles in by_names.items()
        )
        notes.append(f"{figures}: unknown, {because}")
    return notes


def evidence_sentence(comparison: Comparison) -> str:
    """What a comparison allows one to say, and what it would take to say more."""
    if comparison.evidence == "equivalent":
        return f"{comparison.a} and {comparison.b} are within the margin of each other"
    if comparison.evidence in ("a", "b"):
        better, worse = comparison.a, comparison.b
        if comparison.evidence == "b":
            better, worse = worse, better
        return f"{better} succeeds more often than {worse}"
    more = comparison.cases_to_settle
    if more is None:
        return "not enough evidence, and no realistic number of cases would settle it"
    if more == 0:
        return "not enough evidence"
    return f"not enough evidence; about {count(more)} more {'case' if more == 1 else 'cases'} should settle it"


def segment_sentence(one: SegmentDifference) -> str:
    """What the difference within a segment allows one to say, after all segments were looked at."""
    if one.evidence == "undecided":
        return "not enough evidence"
    better, worse = (one.a, one.b) if one.evidence == "a" else (one.b, one.a)
    return f"{better} succeeds more often than {worse} here"


def detectable_text(comparison: Comparison) -> str:
    """The smallest true difference that as many cases show with 80% power."""
    value = comparison.minimum_detectable.value
    return UNKNOWN if value is None else points(value).removeprefix("+")


def cell_provenance(cell: FactorCell) -> Provenance | None:
    """Where the numbers of a decision factor come from: the weakest of them; `None` where it has none."""
    figures = [*cell.parts.values(), *([] if cell.figure is None else [cell.figure])]
    known = [figure.provenance for figure in figures if figure.value is not None]
    return weakest(known) if known else None


def no_ledger_reasons(economics: Economics) -> list[str]:
    """Why approaches have no ledger, each reason once."""
    reasons = [one.total_usd_per_month.unknown_because for one in economics.ledgers if not one.lines]
    return list(dict.fromkeys(reason for reason in reasons if reason))


def settle_text(verdict: Verdict) -> str:
    """How many more cases the choice wants."""
    if any(one.excluded_because is None and one.p_best is None for one in verdict.standings):
        return "more, before anything can be said"
    if verdict.choice is None and verdict.p_best is None:
        return "none: not before something succeeds more often"
    if verdict.cases_to_settle is None:
        return "cases alone would not settle it"
    if verdict.cases_to_settle == 0:
        return "none: they would hardly change what is paid"
    return f"about {count(verdict.cases_to_settle)}"


def beats_baseline_text(standing: Standing) -> str:
    """Whether an approach is worth more than the baseline."""
    return {
        "yes": "yes",
        "no": "no",
        "undecided": "not enough evidence",
        "is_baseline": "is the baseline",
        "no_baseline": "no baseline in this study",
    }[standing.beats_baseline]


def goals_text(goals: Goals) -> str:
    """The user's constraints in one line."""
    asked = []
    if goals.min_success is not None:
        asked.append(f"success at least {percent(goals.min_success)}")
    if goals.min_schema_pass is not None:
        asked.append(f"schema pass at least {percent(goals.min_schema_pass)}")
    if goals.max_p95_latency_s is not None:
        asked.append(f"p95 latency at most {seconds(goals.max_p95_latency_s)}")
    return ", ".join(asked) if asked else "none set"


def comparisons_with(
    choice: str | None, comparisons: Sequence[Comparison]
) -> tuple[list[Comparison], list[Comparison]]:
    """Comparisons that involve the choice, and the others."""
    involved = [pair for pair in comparisons if choice in (pair.a, pair.b)]
    return involved, [pair for pair in comparisons if pair not in involved]


def provenance_sources(content: ReportContent) -> list[Provenance]:
    """Every assumption and every quoted source behind the figures shown, once, assumptions first."""
    found = {str(provenance): provenance for provenance in _provenances(content) if provenance.kind != "measured"}
    return sorted(found.values(), key=lambda provenance: (provenance.kind, str(provenance)))


def _provenances(content: ReportContent) -> Iterator[Provenance]:
    for ledger in content.verdict.economics.ledgers:
        for line in ledger.lines:
            yield line.usd_per_month.provenance
    for card in content.scorecards:
        yield from (
            column.figure_of(card).provenance for column in columns_of(content.scorecards) if column.unit != "usd"
        )
        yield card.cost_per_task_usd.provenance
    for row in content.setup:
        yield row.cost_usd.provenance
