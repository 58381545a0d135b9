"""Score table, comparisons and verdict for a terminal, as rich renderables.

Readable at 100 columns, without colour, and in a pipe. Every text goes in as `Text`, never as markup, and with its
control characters shown by name, so that no case, model or study file can move the cursor or recolour the screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from steelyard.decision.verdict import Gate, Verdict
from steelyard.figures import Figure
from steelyard.measure.scorecard import Comparison, Scorecard
from steelyard.report.format import Shown, Unit, e_value, marker, money, p_value, probability, shown
from steelyard.report.table import any_cached, evidence_sentence, settle_text, unknown_notes
from steelyard.report.text import one_line

MOST_LINES = 6
"""Sentences of one kind shown in a terminal."""

SMALLEST_SHARE = 0.02
"""Inputs with a smaller share of what is uncertain are left to --json and the report."""

_LEGEND = """\
m measured · a assumed, or computed from such · q quoted price
below success and cost: 95% interval · schema: first answer valid as it came
retry: a further call was needed · review: a person's time per reviewed task
cost per success: calls, review, failures, upkeep and setup together"""

_CACHED_LEGEND = "cached: of the prompt tokens, those the endpoint had read before"


def score_table(scorecards: Sequence[Scorecard]) -> Table:
    """The six metrics, one approach a row; interval below its figure, provenance letter behind it, legend below all."""
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True, header_style="bold", show_edge=False
    )
    table.add_column("approach", overflow="fold", min_width=10)
    cached = any_cached(scorecards)
    tokens = "prompt\ntokens,\ncached" if cached else "prompt\ntokens"
    for title in ("n", "success", "schema,\nretry", "latency\np50, p95", tokens):
        table.add_column(title, justify="right", overflow="fold")
    table.add_column("cost per\nsuccess", justify="right", overflow="fold")
    table.add_column("review", justify="right", overflow="fold")
    for card in scorecards:
        n = Text(f"{card.n:,}")
        if card.n_unscored:
            n.append(f"\n{card.n_unscored:,} unscored", style="dim")
        table.add_row(
            _text(card.name, "bold"),
            n,
            _figure(card.success, "percent"),
            _stacked(shown(card.schema_pass, "percent"), shown(card.retry, "percent")),
            _stacked(_seconds(card.latency_p50_s), _seconds(card.latency_p95_s)),
            _tokens(card, with_cached=cached),
            _figure(card.cost_per_success_usd, "usd"),
            _value(_seconds(card.review_s)),
        )
    legend = [_LEGEND, _CACHED_LEGEND] if cached else [_LEGEND]
    table.caption = Text("\n".join([*legend, *(one_line(note) for note in unknown_notes(scorecards))]), style="dim")
    table.caption_justify = "left"
    return table


def comparison_lines(comparisons: Sequence[Comparison], *, choice: str | None = None) -> list[Text]:
    """One line for each pair: the difference with its interval, the tests, and what may be said.

    Args:
        comparisons: In the order they should be read.
        choice: Only pairs with this approach; left out, all.
    """
    return [_comparison(pair) for pair in comparisons if choice is None or choice in (pair.a, pair.b)]


def verdict_panel(verdict: Verdict) -> Panel:
    """The verdict as `decide` and the end of `demo` show it: sentence, chances, reasons, gates, unknowns."""
    mark = marker(verdict.provenance)
    loss = verdict.expected_monthly_loss_usd
    facts = Text("\n")
    if verdict.runner_up is not None:
        facts.append_text(_fact("runner-up", verdict.runner_up))
    facts.append_text(_fact("probability of being best", f"{probability(verdict.p_best)} {mark}"))
    facts.append_text(
        _fact("expected loss of being wrong", "unknown" if loss is None else f"{money(loss)} a month {mark}")
    )
    facts.append_text(_fact("further cases wanted", settle_text(verdict)))
    facts.rstrip()
    parts: list[RenderableType] = [_text(verdict.sentence, "bold"), facts]
    for title, sentences in (
        ("Why", verdict.reasons),
        ("It hinges on", first_few(tuple(hinge.sentence for hinge in verdict.hinges_on))),
        ("What else would change it", (*verdict.what_would_change_it, *_paybacks(verdict))),
        ("What is uncertain", _shares(verdict)),
        ("More evidence", _worth(verdict)),
        ("Gates", tuple(_gate(gate) for gate in verdict.gates)),
        (
            "Mistakes",
            tuple(
                f"{item.title}: {item.evidence}. {item.remedy[:1].upper()}{item.remedy[1:]}."
                for item in verdict.mistakes
            ),
        ),
        ("Still unknown", verdict.unknowns),
        ("Old prices", verdict.stale_prices),
    ):
        if sentences:
            parts += [Text(f"\n{title}", style="bold"), bullets(sentences)]
    return Panel(Group(*parts), title="Verdict", title_align="left", box=box.ROUNDED, padding=(1, 2))


def factors_table(verdict: Verdict) -> Table:
    """The eight decision factors: one block a factor, one line an approach."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), header_style="bold", show_edge=False)
    table.add_column("factor", overflow="fold", min_width=12, max_width=20)
    table.add_column("approach", overflow="fold", min_width=10, max_width=20)
    table.add_column("here", overflow="fold")
    for row in verdict.factors:
        for at, (approach, cell) in enumerate(row.cells.items()):
            is_last = at == len(row.cells) - 1
            table.add_row(_text(row.title if at == 0 else ""), _text(approach), _text(cell.text), end_section=is_last)
    return table


def first_few(
    sentences: Sequence[str], *, most: int = MOST_LINES, rest: str = "all are in --json and in the report"
) -> tuple[str, ...]:
    """As many as a terminal can take, and how many more there are."""
    if len(sentences) <= most:
        return tuple(sentences)
    return (*sentences[:most], f"{len(sentences) - most} more: {rest}")


def _paybacks(verdict: Verdict) -> tuple[str, ...]:
    """After how long the leader and its nearest rival earn back what the one costs more at first."""
    pair = {*(standing.name for standing in verdict.standings[:1]), verdict.runner_up}
    return tuple(payback.sentence for payback in verdict.economics.paybacks if {payback.a, payback.b} == pair)


def _shares(verdict: Verdict) -> tuple[str, ...]:
    """Which inputs the uncertainty between the two cheapest comes from, in one line."""
    known = [(share, share.first_order.value or 0.0) for share in verdict.economics.shares]
    told = [f"{share.label} {value:.0%}" for share, value in known if value >= SMALLEST_SHARE][:4]
    if not told:
        return ()
    first = known[0][0]
    return (f"{first.a} against {first.b}, by share of the variance: {', '.join(told)}.",)


def _worth(verdict: Verdict) -> tuple[str, ...]:
    return () if verdict.worth is None else (verdict.worth.sentence,)


def _text(text: str, style: str = "") -> Text:
    return Text(one_line(text), style=style)


def _fact(label: str, value: str) -> Text:
    return Text(f"{label:<29}", style="dim").append(f"{one_line(value)}\n", style="not dim")


def _gate(gate: Gate) -> str:
    cheapest = f" Cheapest evidence: {gate.cheapest_evidence}." if gate.cheapest_evidence else ""
    return f"{gate.question} {gate.answer.upper()}: {gate.evidence}.{cheapest}"


def bullets(sentences: Sequence[str]) -> Table:
    """Sentences as a list with a hanging indent."""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for sentence in sentences:
        table.add_row("-", _text(sentence))
    return table


def _figure(figure: Figure, unit: Unit) -> Text:
    text = shown(figure, unit)
    cell = _value(text)
    if text.interval:
        cell.append(f"\n{text.interval}", style="dim")
    return cell


def _value(text: Shown) -> Text:
    return Text(text.text, style="italic" if text.because else "").append(f" {text.marker}", style="dim")


def _seconds(figure: Figure) -> Shown:
    """Seconds written tight, `0.31s`: alone, the letter of a measured figure would read as minutes."""
    text = shown(figure, "seconds")
    return replace(text, text=text.text.replace(" s", "s"))


def _stacked(upper: Shown, lower: Shown) -> Text:
    return _value(upper).append("\n").append_text(_value(lower))


def _tokens(card: Scorecard, *, with_cached: bool) -> Text:
    prompt = shown(card.prompt_tokens_per_task, "count")
    return _stacked(prompt, shown(card.cached_tokens_per_task, "count")) if with_cached else _value(prompt)


def _comparison(pair: Comparison) -> Text:
    difference = shown(pair.difference, "points")
    interval = f" ({difference.interval})" if difference.interval else ""
    line = Text()
    line.append(f"{one_line(pair.a)} against {one_line(pair.b)}", style="bold")
    line.append(f": {difference.text} {difference.marker}{interval}")
    if difference.because:
        line.append(f", {one_line(difference.because)}")
    line.append(f", p after Holm {p_value(pair.p_adjusted)}, e {e_value(pair.e_value)}", style="dim")
    line.append(f"; {one_line(evidence_sentence(pair))}")
    return line
