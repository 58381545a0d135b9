"""What is said of retrieval, question by question, as plain tables: terminal, HTML and Markdown show the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steelyard.figures import Figure
from steelyard.measure.answers import AbstentionRow, FoundAndRight
from steelyard.measure.freshness import FreshnessRow
from steelyard.measure.injection import InjectionRow
from steelyard.measure.retrieval import RankingDifference, RankingRow
from steelyard.measure.retrieval_report import RetrievalReport
from steelyard.measure.sourcing import CitationRow, SupportRow
from steelyard.report.format import Unit, count


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One approach, or two that are compared."""

    name: str
    counts: tuple[str, ...]
    """How many cases it rests on; where more is to be said of them, on a line below."""
    figures: tuple[Figure, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """A table: names, then counts, then figures."""

    titles: tuple[str, ...]
    """Of counts and figures; broken where a narrow column has to break."""
    lines: tuple[Line, ...]
    units: tuple[Unit, ...]
    """One for each figure."""
    legend: str
    """What the columns mean."""

    @property
    def headings(self) -> tuple[str, ...]:
        """The titles on one line each, as a page has them: there the figures name their unit themselves."""
        joined = [" ".join(title.split()).removesuffix(" (points)") for title in self.titles]
        return tuple(title if title.startswith("nDCG") else _opened(title) for title in joined)

    @property
    def sentence(self) -> str:
        """The legend, as a page has it."""
        return f"{_opened(self.legend)}."


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A question, and the tables that answer it."""

    question: str
    grids: tuple[Grid, ...]


def retrieval_sections(report: RetrievalReport) -> tuple[Section, ...]:
    """Every question that something was measured for."""
    which = "a gold source" if report.need == "any" else "every gold source"
    sections = (
        Section(
            question=f"Was the right {report.level} found?",
            grids=(*_rankings(report.rankings), *_differences(report.ranking_differences)),
        ),
        Section(
            question=f"Was {which} found, and was the answer right?", grids=_found_and_right(report.found_and_right)
        ),
        Section(question="Does it say so when there is no answer?", grids=_abstention(report.abstention)),
        Section(question="Is the answer supported by the retrieved text?", grids=_support(report.support)),
        Section(question="Is the right source cited?", grids=_citations(report.citations)),
        Section(question="Do answers keep up with documents that change?", grids=_freshness(report.freshness)),
        Section(question="Does it do what a document orders?", grids=_injection(report.injection)),
    )
    return tuple(one for one in sections if one.grids)


# ---- private --------------------------------------------------------------------------------------------------------


def _rankings(rows: Sequence[RankingRow]) -> tuple[Grid, ...]:
    """Recall by depth; then how early and how purely: MRR, and nDCG, hit and precision at the greatest depth."""
    if not rows:
        return ()
    ks = rows[0].ks
    recall = _grid(
        ("cases", "sources\na case", *(f"recall\n@{k}" for k in ks)),
        [_line(row.approach, (f"{row.n:,}", count(row.n_retrieved)), *row.recall) for row in rows],
        "share of a case's gold sources among the first k, mean; with 95% intervals, where there are cases enough for one",
    )
    order = _grid(
        ("cases", "MRR", *(f"{name}\n@{ks[-1]}" for name in ("nDCG", "hit", "precision"))),
        [_line(row.approach, (f"{row.n:,}",), row.mrr, row.ndcg[-1], row.hit[-1], row.precision[-1]) for row in rows],
        "MRR: one over the place of the first gold source, mean; hit: any of them found",
    )
    return (recall, order)


def _differences(rows: Sequence[RankingDifference]) -> tuple[Grid, ...]:
    """What finds most against each other approach, on the same cases."""
    if not rows:
        return ()
    k = rows[0].k
    return (
        _grid(
            ("cases", f"recall @{k}\n(points)", f"nDCG @{k}\n(points)"),
            [_line(f"{row.a} − {row.b}", (f"{row.n:,}",), row.recall, row.ndcg) for row in rows],
            "paired, case by case; where the interval holds 0 there is not enough evidence for a difference",
            units=("points", "points"),
        ),
    )


def _found_and_right(rows: Sequence[FoundAndRight]) -> tuple[Grid, ...]:
    """The four shares; then how often the answer is right with the source and without it."""
    if not rows:
        return ()
    shares = _grid(
        ("cases", "found,\nright", "found,\nwrong", "missed,\nright", "missed,\nwrong"),
        [
            _line(
                row.approach,
                (_and_also(row.n, row.n_unscored, "unscored"),),
                row.found_right,
                row.found_wrong,
                row.missed_right,
                row.missed_wrong,
            )
            for row in rows
        ],
        "shares of the cases that name a gold source; the four make 100%",
    )
    rates = _grid(
        ("cases", "right if\nfound", "right if\nmissed", "difference\n(points)", "missed, of\nthe wrong"),
        [
            _line(
                row.approach,
                (f"{row.n:,}",),
                row.right_if_found,
                row.right_if_missed,
                row.difference,
                row.wrong_for_lack,
            )
            for row in rows
        ],
        "last column: wrong answers whose source was not found; the others had it before them and failed",
        units=("percent", "percent", "points", "percent"),
    )
    return (shares, rates)


def _abstention(rows: Sequence[AbstentionRow]) -> tuple[Grid, ...]:
    """Abstention recall and precision, and abstentions where there was an answer."""
    titles = (
        "without\nanswer",
        "with\nanswer",
        "abstains where\nit should",
        "should where\nit abstains",
        "abstains\nwrongly",
    )
    lines = [
        _line(
            row.approach,
            (f"{row.n_unanswerable:,}", _and_also(row.n_answerable, row.n_failed, "failed")),
            row.recall,
            row.precision,
            row.wrongly,
        )
        for row in rows
    ]
    legend = "abstains where it should: recall, on cases without an answer; should where it abstains: precision"
    return (_grid(titles, lines, legend),) if lines else ()


def _support(rows: Sequence[SupportRow]) -> tuple[Grid, ...]:
    """Supported answers, those a quote check cannot decide, and how often each kind is right."""
    titles = ("answers", "supported", "cannot\ntell", "right if\nsupported", "right if\nunsupported")
    lines = [
        _line(
            row.approach,
            (_and_also(row.n, row.n_judged, "judged"),),
            row.supported,
            row.undecided,
            row.right_if_supported,
            row.right_if_unsupported,
        )
        for row in rows
    ]
    legend = "by words, numbers and units, and by a judge where one decides; the interval counts what nobody can tell once as no, once as yes"
    return (_grid(titles, lines, legend),) if lines else ()


def _citations(rows: Sequence[CitationRow]) -> tuple[Grid, ...]:
    """How often a source is cited, the right one, and one that was retrieved at all."""
    titles = ("answers", "cite", "cite a gold\nsource", "cite only what\nwas retrieved")
    lines = [_line(row.approach, (f"{row.n:,}",), row.cites, row.right, row.retrieved) for row in rows]
    return (_grid(titles, lines, "last two columns: of the answers that cite"),) if lines else ()


def _freshness(rows: Sequence[FreshnessRow]) -> tuple[Grid, ...]:
    """Answers by the version of the truth they match."""
    titles = ("cases", "current", "outdated", "not valid\nyet", "neither")
    lines = [_line(row.approach, (f"{row.n:,}",), row.current, row.outdated, row.too_new, row.neither) for row in rows]
    legend = "cases whose answer differs between versions; current: as of the case's day"
    return (_grid(titles, lines, legend),) if lines else ()


def _injection(rows: Sequence[InjectionRow]) -> tuple[Grid, ...]:
    """How often a document that gives orders is obeyed."""
    titles = ("shown\norders", "not\nshown", "obeys")
    lines = [_line(row.approach, (f"{row.n:,}", f"{row.n_not_shown:,}"), row.obeyed) for row in rows]
    legend = "cases by whether a passage with orders was shown; obeys: of the shown, the answer says what they order"
    return (_grid(titles, lines, legend),) if lines else ()


def _line(name: str, counts: tuple[str, ...], *figures: Figure) -> Line:
    return Line(name=name, counts=counts, figures=figures)


def _grid(titles: Sequence[str], lines: Sequence[Line], legend: str, *, units: Sequence[Unit] | None = None) -> Grid:
    percent: Unit = "percent"
    every = tuple(units) if units is not None else (percent,) * len(lines[0].figures)
    return Grid(titles=tuple(titles), lines=tuple(lines), units=every, legend=legend)


def _opened(text: str) -> str:
    return text[:1].upper() + text[1:]


def _and_also(n: int, others: int, what: str) -> str:
    return f"{n:,}" + (f"\n{others:,} {what}" if others else "")
