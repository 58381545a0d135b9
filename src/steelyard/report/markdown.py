"""The report as Markdown, to paste into a pull request or a wiki page.

Names and sentences are escaped; what customers and models wrote stands in code spans, where neither markup nor links
nor mentions work. Transcripts are left to the HTML and JSON forms: they would not fit a comment.
"""

from __future__ import annotations

from collections.abc import Sequence

from steelyard.decision.verdict import FactorCell
from steelyard.measure.scorecard import Comparison
from steelyard.report.content import Method, ReportContent
from steelyard.report.format import (
    count,
    duration,
    e_value,
    marker,
    money,
    p_value,
    probability,
    shown,
)
from steelyard.report.markdown_cases import field_section, worst_case_section
from steelyard.report.markdown_curves import learning_curve_section
from steelyard.report.markdown_money import money_sections
from steelyard.report.markdown_retrieval import retrieval_section
from steelyard.report.markup import bullets, cell, code, escape, folded, legend, table
from steelyard.report.table import (
    beats_baseline_text,
    best_in,
    cell_provenance,
    columns_of,
    comparisons_with,
    detectable_text,
    evidence_sentence,
    goals_text,
    provenance_sources,
    segment_sentence,
    settle_text,
    unknown_notes,
)


def render_markdown(content: ReportContent) -> str:
    """Write the report as Markdown; the same content gives the same text."""
    parts = [
        *_verdict(content),
        *_scores(content),
        *field_section(content),
        *retrieval_section(content),
        *learning_curve_section(content),
        *_factors(content),
        *_gates(content),
        *money_sections(content),
        *_standings(content),
        *_comparisons(content),
        *_segments(content),
        *(worst_case_section(content) if content.method.run else []),
        *_method(content),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _verdict(content: ReportContent) -> list[str]:
    verdict = content.verdict
    mark = marker(verdict.provenance)
    loss = verdict.expected_monthly_loss_usd
    lines = [
        f"# {escape(content.study)}",
        "",
        *([escape(content.instruction), ""] if content.instruction else []),
        f"> **{escape(verdict.sentence)}**",
        "",
        *bullets(verdict.reasons),
        *table(
            ("Take", "Runner-up", "Probability of being best", "Expected loss of being wrong", "Further cases wanted"),
            [
                (
                    escape(verdict.choice) if verdict.choice is not None else "nothing yet",
                    escape(verdict.runner_up) if verdict.runner_up is not None else "none",
                    f"{escape(probability(verdict.p_best))} {mark}",
                    "unknown" if loss is None else f"{escape(money(loss))} a month {mark}",
                    settle_text(verdict),
                )
            ],
        ),
    ]
    for title, sentences in (
        ("It hinges on", [hinge.sentence for hinge in verdict.hinges_on]),
        ("What would change it", verdict.what_would_change_it),
        ("Is more evidence worth its price?", [verdict.worth.sentence] if verdict.worth else []),
        ("Still unknown", verdict.unknowns),
        ("Old prices", verdict.stale_prices),
    ):
        if sentences:
            lines += [f"**{title}**", "", *bullets(sentences)]
    return lines


def _scores(content: ReportContent) -> list[str]:
    columns = columns_of(content.scorecards)
    best = [best_in(column, content.scorecards) for column in columns]
    rows = []
    for card in content.scorecards:
        cells = [f"{escape(card.name)}<br>{escape(card.rung)}", count(card.n)]
        if card.n_unscored:
            cells[1] += f"<br>{count(card.n_unscored)} unscored"
        for column, best_names in zip(columns, best, strict=True):
            cells.append(cell(column.figure_of(card), column.unit, best=card.name in best_names))
        rows.append(cells)
    return [
        "## Six metrics",
        "",
        f"95% intervals below the figures; bold: best point estimate of its column. Goal: {goals_text(content.goals)}.",
        "",
        *table(["Approach", "Cases", *(column.title for column in columns)], rows),
        *legend(),
        *bullets(unknown_notes(content.scorecards)),
        *_judged(content),
    ]


def _judged(content: ReportContent) -> list[str]:
    judged = [card for card in content.scorecards if card.success_with_judge.value is not None]
    return table(
        ("Approach", "Success by people", "With the judge", "Judge agrees with people"),
        [
            (
                escape(card.name),
                cell(card.success, "percent"),
                cell(card.success_with_judge, "percent"),
                cell(card.judge_agreement, "percent"),
            )
            for card in judged
        ],
    )


def _standings(content: ReportContent) -> list[str]:
    mark = marker(content.verdict.provenance)
    return [
        "## Standings",
        "",
        *table(
            (
                "Approach",
                "Cost per successful task",
                "Reaches the goal",
                "Is best",
                "Expected loss a month",
                "Beats the baseline",
                "Out, because",
            ),
            [
                (
                    escape(standing.name),
                    cell(standing.cost_per_success_usd, "usd"),
                    f"{escape(probability(standing.p_meets_goal))} {marker(standing.cost_per_success_usd.provenance)}"
                    if content.goals.is_any
                    else "none set",
                    f"{escape(probability(standing.p_best))} {mark}",
                    "unknown"
                    if (loss := standing.expected_monthly_loss_usd) is None
                    else f"{escape(money(loss))} {mark}",
                    beats_baseline_text(standing),
                    escape(standing.excluded_because or "–"),
                )
                for standing in content.verdict.standings
            ],
        ),
    ]


def _factors(content: ReportContent) -> list[str]:
    names = list(dict.fromkeys(name for row in content.verdict.factors for name in row.cells))
    if not names:
        return []
    lines = ["## What speaks for which", ""]
    for several in (names[:3], names[3:]):
        rows = [
            (
                escape(row.title),
                *(_factor(row.cells[name]) if name in row.cells else "–" for name in several),
            )
            for row in content.verdict.factors
        ]
        found = table(("Factor", *(escape(name) for name in several)), rows if several else [])
        lines += found if several == names[:3] or not found else folded(f"The other approaches ({len(several)})", found)
    return lines


def _factor(found: FactorCell) -> str:
    provenance = cell_provenance(found)
    return escape(found.text) + (f" {marker(provenance)}" if provenance else "")


def _segments(content: ReportContent) -> list[str]:
    segments = content.segments
    if segments is None:
        return []
    every = table(
        ("Approach", "Segment", "Cases", "Success, as counted", "Better guess"),
        [
            (
                escape(row.approach),
                escape(row.segment),
                count(row.n),
                cell(row.success, "percent"),
                cell(row.shrunken, "percent"),
            )
            for row in segments.rows
        ],
    )
    return [
        "## By segment",
        "",
        escape(segments.warning),
        "",
        *table(
            ("Segment", "Cases", "Compared", "Difference", "p, Holm over segments", "What it shows"),
            [
                (
                    escape(one.segment),
                    count(one.n),
                    f"{escape(one.a)} against {escape(one.b)}",
                    cell(one.difference, "points"),
                    escape(p_value(one.p_adjusted)),
                    escape(segment_sentence(one)),
                )
                for one in segments.differences
            ],
        ),
        *folded("Success of every approach in every segment", every),
    ]


def _comparisons(content: ReportContent) -> list[str]:
    involved, others = comparisons_with(content.focus, content.comparisons)
    lines = ["## Paired comparisons", "", *_comparison_table(involved)]
    return [*lines, *folded(f"All other pairs ({len(others)})", _comparison_table(others))] if others else lines


def _comparison_table(comparisons: Sequence[Comparison]) -> list[str]:
    return table(
        (
            "Compared",
            "Cases",
            "Only first right",
            "Only second right",
            "Difference",
            "p, Holm",
            "e-value",
            "Detectable",
            "What it shows",
        ),
        [
            (
                f"{escape(pair.a)} against {escape(pair.b)}",
                count(pair.n),
                count(pair.a_only),
                count(pair.b_only),
                cell(pair.difference, "points"),
                escape(p_value(pair.p_adjusted)),
                escape(e_value(pair.e_value)),
                escape(detectable_text(pair)),
                escape(evidence_sentence(pair)),
            )
            for pair in comparisons
        ],
    )


def _gates(content: ReportContent) -> list[str]:
    verdict = content.verdict
    lines = [
        "## Gates",
        "",
        *table(
            ("Question", "Answer", "Evidence", "Cheapest evidence"),
            [
                (escape(gate.question), gate.answer, escape(gate.evidence), escape(gate.cheapest_evidence or "–"))
                for gate in verdict.gates
            ],
        ),
    ]
    if not verdict.mistakes:
        return [*lines, "None of the five classic mistakes was found in this study.", ""]
    return lines + [
        line
        for mistake in verdict.mistakes
        for line in (
            f"**{escape(mistake.title)}.** {escape(mistake.evidence)} *Remedy:* {escape(mistake.remedy)}",
            "",
        )
    ]


def _method(content: ReportContent) -> list[str]:
    method = content.method
    splits = ", ".join(f"{count(number)} {escape(split)}" for split, number in content.split_counts.items())
    looks = "once" if content.test_looks == 1 else f"{count(content.test_looks or 0)} times"
    looked = "" if content.test_looks is None else f"; the test split was scored {looks}"
    setup = []
    for row in content.setup:
        facts = [f"{label} {text}" for label, text in row.card]
        if row.parity:
            trained, served = shown(row.parity.in_training_library, "percent"), shown(row.parity.as_served, "percent")
            facts.append(f"exact match in PyTorch on validation, {count(row.parity.n)} cases: {trained.plain}")
            facts.append(f"the same cases as served: {served.plain}")
        time = "unknown" if row.seconds.value is None else duration(row.seconds.value)
        setup.append(
            (
                escape(row.approach),
                f"{escape(time)} {marker(row.seconds.provenance)}",
                cell(row.cost_usd, "usd"),
                count(row.n_examples),
                "found on disk" if row.reused else "in this run",
                escape("; ".join(facts) or "–"),
            )
        )
    return [
        "## Data and method",
        "",
        f"{splits} cases{looked}.",
        "",
        *bullets(content.data_notes),
        *table(("Approach", "Preparation", "Cost", "Labelled cases", "Made", "Card"), setup),
        *_source(method),
        f"- Seeds: {', '.join(f'{escape(name)} {seed}' for name, seed in method.seeds.items())}",
        f"- Steelyard {escape(method.package_version)}, made by {code(method.command)}",
        "",
        *legend(),
        *bullets([str(source) for source in provenance_sources(content)]),
    ]


def _source(method: Method) -> list[str]:
    if method.run is not None:
        run = method.run
        return [
            *(f"- Model {escape(model.endpoint)}: {code(model.identity)}" for model in run.models),
            f"- Repeats per case: {count(run.repeats)}",
            f"- Run: {code(run.started_utc)} to {code(run.finished_utc)}",
            f"- Study digest: {code(run.study_digest)}",
        ]
    found = method.imported
    if found is None:
        return []
    return [
        f"- Outcomes from {code(found.file)}: {count(found.n_outcomes)}, made elsewhere",
        f"- SHA-256 of the file: {code(found.digest)}",
    ]
