"""The report as one self-contained HTML file: no network, no script, nothing that came from outside left unescaped.

Two layers stand between a hostile text and the reader. The template escapes everything (autoescape), and every value
on its way into it passes `visible`, which shows control and bidirectional characters by name. A content security
policy in the page forbids whatever is not its own style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from steelyard.economics.ledger import TERMS, VarianceShare
from steelyard.measure.scorecard import Comparison, Scorecard
from steelyard.report import format as numbers
from steelyard.report import table
from steelyard.report.content import ReportContent
from steelyard.report.fields import FIELDS_LEAD, REVIEW_LEAD, compared_fields, fault_words, field_grid, value_text
from steelyard.report.learning_curves import LEAD, CurveShown, by_approach, curves_svg
from steelyard.report.pairs import pair_rows
from steelyard.report.plot import plot_svg, plottable
from steelyard.report.retrieval_sections import retrieval_sections
from steelyard.report.sweep_plot import sweep_rows, sweep_svg
from steelyard.report.text import as_text, excerpt, visible

_FIELD_LIMIT = 4_000
_CELL_LIMIT = 800
_TRANSCRIPT_LIMIT = 12_000


def render_html(content: ReportContent) -> str:
    """Write the report as one HTML page; the same content gives the same bytes."""
    points, left_out = plottable(content.scorecards)
    draw = partial(plot_svg, points, choice=content.verdict.choice, min_success=content.goals.min_success)
    involved, others = table.comparisons_with(content.focus, content.comparisons)
    economics = content.verdict.economics
    pairs, other_pairs = pair_rows(economics, content.focus)
    draw_sweep = partial(_sweep_svg, content)
    return _template().render(
        content=content,
        same_n=content.scorecards[0].n if len({card.n for card in content.scorecards}) == 1 else None,
        verdict=content.verdict,
        focus=content.focus,
        economics=economics,
        method=content.method,
        run=content.method.run,
        imported=content.method.imported,
        # Cached tokens are in the table below: one column more, and the cost of a success would be off the page.
        columns=[(column, table.best_in(column, content.scorecards)) for column in table.COLUMNS],
        unknown_notes=table.unknown_notes(content.scorecards),
        wide_plot=draw(width=820, height=440, id_prefix="plot"),
        narrow_plot=draw(width=358, height=400, id_prefix="plot-narrow"),
        left_out=left_out,
        grid=field_grid(content.fields, content.scorecards),
        fields_lead=FIELDS_LEAD,
        review_lead=REVIEW_LEAD,
        retrieval_sections=retrieval_sections(content.retrieval) if content.retrieval is not None else (),
        curves_lead=LEAD,
        learning_curves=[_drawn(place, *one) for place, one in enumerate(by_approach(content.curves).items())],
        judged=[card for card in content.scorecards if card.success_with_judge.value is not None],
        factor_names=list(dict.fromkeys(name for row in content.verdict.factors for name in row.cells)),
        priced=[ledger for ledger in economics.ledgers if ledger.lines],
        no_ledger=table.no_ledger_reasons(economics),
        stepped=[ledger for ledger in economics.ledgers if ledger.steps],
        wide_sweep=draw_sweep(width=820, height=420, id_prefix="sweep"),
        narrow_sweep=draw_sweep(width=358, height=380, id_prefix="sweep-narrow"),
        sweep_rows=sweep_rows(economics.sweep) if economics.sweep is not None else [],
        pairs=pairs,
        other_pairs=other_pairs,
        nothing_flips=table.NOTHING_FLIPS,
        steady=[hinge for hinge in economics.hinges if hinge.flips_at is None],
        comparisons=involved,
        other_comparisons=others,
        differences=_difference_scale(content.comparisons),
        choice_provenance=content.verdict.provenance,
        sources=table.provenance_sources(content),
        markers=numbers.MARKER_MEANINGS,
        term_titles=table.TERM_TITLES,
        terms=TERMS,
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("steelyard.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_harmless,
    )
    environment.globals.update(
        shown=numbers.shown,
        percent=numbers.percent,
        money=numbers.money,
        seconds=numbers.seconds,
        duration=numbers.duration,
        count=numbers.count,
        known_count=numbers.known_count,
        p_value=numbers.p_value,
        e_value=numbers.e_value,
        probability=numbers.probability,
        marker=numbers.marker,
        evidence_sentence=table.evidence_sentence,
        settle_text=table.settle_text,
        segment_sentence=table.segment_sentence,
        detectable_text=table.detectable_text,
        cell_provenance=table.cell_provenance,
        share_svg=_share_svg,
        goals_text=table.goals_text,
        beats_baseline_text=table.beats_baseline_text,
        difference_svg=_difference_svg,
        cost_marker=_cost_marker,
        fault_words=fault_words,
        compared_fields=compared_fields,
    )
    environment.filters.update(
        field=lambda value: excerpt(as_text(value), _FIELD_LIMIT),
        cell=lambda value: excerpt(value_text(value), _CELL_LIMIT),
        transcript=lambda text: excerpt(text, _TRANSCRIPT_LIMIT),
    )
    return environment.get_template("report.html.j2")


def _harmless(value: Any) -> Any:  # noqa: ANN401 - whatever an expression of the template gives
    # Not strings alone: a provenance, too, becomes text here and can hold words of a study file.
    return value if isinstance(value, Markup) else visible(str(value))


@dataclass(frozen=True, kw_only=True, slots=True)
class _DrawnCurves:
    """The learning curves of one approach, for the template."""

    approach: str
    curves: Sequence[CurveShown]
    wide: Markup
    narrow: Markup


def _drawn(place: int, approach: str, curves: Sequence[CurveShown]) -> _DrawnCurves:
    return _DrawnCurves(
        approach=approach,
        curves=curves,
        wide=curves_svg(curves, width=820, height=380, id_prefix=f"curves-{place}"),
        narrow=curves_svg(curves, width=358, height=340, id_prefix=f"curves-narrow-{place}"),
    )


def _sweep_svg(content: ReportContent, *, width: int, height: int, id_prefix: str) -> Markup:
    economics = content.verdict.economics
    if economics.sweep is None:
        return Markup("")
    return sweep_svg(
        economics.sweep,
        choice=content.focus,
        break_evens=economics.break_evens,
        width=width,
        height=height,
        id_prefix=id_prefix,
    )


def _share_svg(share: VarianceShare) -> Markup:
    """Two bars from 0 to 1, 120 pixels wide; decoration of the number beside them."""
    alone, together = (
        120 * max(0.0, min(1.0, 0.0 if figure.value is None else figure.value))
        for figure in (share.first_order, share.total)
    )
    return Markup(
        '<svg class="share-bar" viewBox="0 0 120 12" width="120" height="12" aria-hidden="true">'
        '<rect class="track" x="0" y="0" width="120" height="12" rx="2"/>'
        '<rect class="together" x="0" y="0" width="{:.1f}" height="12" rx="2"/>'
        '<rect class="alone" x="0" y="0" width="{:.1f}" height="12" rx="2"/></svg>'
    ).format(max(alone, together), alone)


def _cost_marker(card: Scorecard | None) -> str:
    """The letter for the price of a single call: where the price of the approach's tasks came from."""
    return numbers.marker(card.cost_per_task_usd.provenance) if card else ""


def _difference_scale(comparisons: tuple[Comparison, ...]) -> float:
    """Half the width of the axis that all difference bars share, as a rate."""
    ends = [
        abs(end)
        for comparison in comparisons
        for end in (comparison.difference.low, comparison.difference.high, comparison.difference.value)
        if end is not None and math.isfinite(end)
    ]
    return max([*ends, 0.01])


def _difference_svg(comparison: Comparison, scale: float) -> Markup:
    """A difference with its interval around zero, 140 pixels wide; decoration of the numbers beside it."""
    difference = comparison.difference
    if difference.value is None or difference.low is None or difference.high is None:
        return Markup("")

    def at(value: float) -> float:
        return 70 + 66 * max(-1.0, min(1.0, value / scale))

    low, high = at(difference.low), at(difference.high)
    return Markup(
        '<svg class="difference {}" viewBox="0 0 140 18" width="140" height="18" aria-hidden="true">'
        '<line class="zero" x1="70" y1="0" x2="70" y2="18"/>'
        '<rect class="range" x="{:.1f}" y="6" width="{:.1f}" height="6" rx="2"/>'
        '<line class="value" x1="{value:.1f}" y1="3" x2="{value:.1f}" y2="15"/></svg>'
    ).format(comparison.evidence, low, max(2.0, high - low), value=at(difference.value))
