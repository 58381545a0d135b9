"""Was the source found, was it used, and what becomes of answers when there is none or it changes: for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from steelyard.figures import Figure
from steelyard.measure.answers import AbstentionRow, FoundAndRight
from steelyard.measure.freshness import FreshnessRow
from steelyard.measure.retrieval import RankingDifference, RankingRow
from steelyard.measure.retrieval_report import RetrievalReport
from steelyard.measure.sourcing import CitationRow, SupportRow
from steelyard.report.format import Unit, count, shown
from steelyard.report.text import one_line


def retrieval_parts(report: RetrievalReport) -> list[RenderableType]:
    """All tables that have something to say, each under its question, and what was left out."""
    parts: list[RenderableType] = []
    questions: list[tuple[str, list[Table]]] = [
        (
            f"Was the right {report.level} found?",
            [*ranking_tables(report.rankings), *difference_tables(report.ranking_differences)],
        ),
        (_crossed_title(report), found_and_right_tables(report.found_and_right)),
        ("Does it say so when there is no answer?", abstention_tables(report.abstention)),
        ("Is the answer supported by the retrieved text?", support_tables(report.support)),
        ("Is the right source cited?", citation_tables(report.citations)),
        ("Do answers keep up with documents that change?", freshness_tables(report.freshness)),
    ]
    for question, tables in questions:
        if tables:
            parts += [Text(f"\n{question}", style="bold"), *tables]
    return [*parts, *(Text(f"note: {one_line(note)}", style="dim") for note in report.notes)]


def ranking_tables(rows: Sequence[RankingRow]) -> list[Table]:
    """Recall by depth; then how early and how purely: MRR, and hit, nDCG and precision at the greatest depth."""
    if not rows:
        return []
    ks = rows[0].ks
    last = ks[-1]
    recall = _table(
        ("cases", "sources\na case", *(f"recall\n@{k}" for k in ks)),
        ((row.approach, [f"{row.n:,}", count(row.n_retrieved)], row.recall) for row in rows),
        "share of a case's gold sources among the first k, mean; with 95% intervals",
    )
    order = _table(
        ("MRR", f"nDCG\n@{last}", f"hit\n@{last}", f"precision\n@{last}"),
        ((row.approach, [], [row.mrr, row.ndcg[-1], row.hit[-1], row.precision[-1]]) for row in rows),
        "MRR: one over the place of the first gold source, mean; hit: any of them found",
    )
    return [recall, order]


def difference_tables(rows: Sequence[RankingDifference]) -> list[Table]:
    """What finds most against each other approach, on the same cases."""
    if not rows:
        return []
    table = _table(
        ("cases", f"recall @{rows[0].k}\n(points)", f"nDCG @{rows[0].k}\n(points)"),
        ((f"{row.a} − {row.b}", [f"{row.n:,}"], [(row.recall, "points"), (row.ndcg, "points")]) for row in rows),
        "paired, case by case; where the interval holds 0 there is not enough evidence for a difference",
    )
    return [table]


def found_and_right_tables(rows: Sequence[FoundAndRight]) -> list[Table]:
    """The four shares; then how often the answer is right with the source and without it."""
    shares = _table(
        ("cases", "found,\nright", "found,\nwrong", "missed,\nright", "missed,\nwrong"),
        (
            (
                row.approach,
                [f"{row.n:,}" + (f"\n{row.n_unscored:,} unscored" if row.n_unscored else "")],
                [row.found_right, row.found_wrong, row.missed_right, row.missed_wrong],
            )
            for row in rows
        ),
    )
    rates = _table(
        ("right if\nfound", "right if\nmissed", "difference\n(points)", "missed, of\nthe wrong"),
        (
            (
                row.approach,
                [],
                [row.right_if_found, row.right_if_missed, (row.difference, "points"), row.wrong_for_lack],
            )
            for row in rows
        ),
        "last column: wrong answers whose source was not found; the others had it before them and failed",
    )
    return [shares, rates] if rows else []


def abstention_tables(rows: Sequence[AbstentionRow]) -> list[Table]:
    """Abstention recall and precision, and abstentions where there was an answer."""
    table = _table(
        (
            "without\nanswer",
            "with\nanswer",
            "abstains where\nit should",
            "should where\nit abstains",
            "abstains\nwrongly",
        ),
        (
            (
                row.approach,
                [
                    f"{row.n_unanswerable:,}",
                    f"{row.n_answerable:,}" + (f"\n{row.n_failed:,} failed" if row.n_failed else ""),
                ],
                [row.recall, row.precision, row.wrongly],
            )
            for row in rows
        ),
        "abstains where it should: recall, on cases without an answer; should where it abstains: precision",
    )
    return [table] if rows else []


def support_tables(rows: Sequence[SupportRow]) -> list[Table]:
    """Supported answers, those a quote check cannot decide, and how often each kind is right."""
    table = _table(
        ("answers", "supported", "cannot\ntell", "right if\nsupported", "right if\nunsupported"),
        (
            (
                row.approach,
                [f"{row.n:,}"],
                [row.supported, row.undecided, row.right_if_supported, row.right_if_unsupported],
            )
            for row in rows
        ),
        "by words, numbers and units, not by meaning; the interval counts all it cannot tell once as no, once as yes",
    )
    return [table] if rows else []


def citation_tables(rows: Sequence[CitationRow]) -> list[Table]:
    """How often a source is cited, the right one, and one that was retrieved at all."""
    table = _table(
        ("answers", "cite", "cite a gold\nsource", "cite only what\nwas retrieved"),
        ((row.approach, [f"{row.n:,}"], [row.cites, row.right, row.retrieved]) for row in rows),
        "last two columns: of the answers that cite",
    )
    return [table] if rows else []


def freshness_tables(rows: Sequence[FreshnessRow]) -> list[Table]:
    """Answers by the version of the truth they match."""
    table = _table(
        ("cases", "current", "outdated", "not valid\nyet", "neither"),
        ((row.approach, [f"{row.n:,}"], [row.current, row.outdated, row.too_new, row.neither]) for row in rows),
        "cases whose answer differs between versions; current: as of the case's day",
    )
    return [table] if rows else []


# ---- private --------------------------------------------------------------------------------------------------------

Cell = Figure | tuple[Figure, Unit]


def _crossed_title(report: RetrievalReport) -> str:
    which = "a gold source" if report.need == "any" else "every gold source"
    return f"Was {which} found, and was the answer right?"


def _table(titles: Iterable[str], rows: Iterable[tuple[str, list[str], Sequence[Cell]]], legend: str = "") -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True, header_style="bold", show_edge=False
    )
    table.add_column("approach", overflow="fold", min_width=8)
    for title in titles:
        table.add_column(title, justify="right")
    for name, counts, figures in rows:
        table.add_row(Text(one_line(name), style="bold"), *map(Text, counts), *map(_cell, figures))
    if legend:
        table.caption = Text(legend, style="dim")
        table.caption_justify = "left"
    return table


def _cell(cell: Cell) -> Text:
    figure, unit = cell if isinstance(cell, tuple) else (cell, "percent")
    if figure.value is None:
        return Text("-", style="dim")
    text = shown(figure, unit)
    interval = text.interval.removesuffix(" points")
    return Text(text.text.removesuffix(" points")).append(f"\n{interval}" if interval else "", style="dim")
