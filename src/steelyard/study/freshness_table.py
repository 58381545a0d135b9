"""How fast documents are followed, and which old answers became wrong: for a terminal."""

from __future__ import annotations

from collections import defaultdict

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from steelyard.report.text import one_line
from steelyard.study.freshness import ChangeSeconds, Freshness
from steelyard.study.stale_answers import StaleAnswer

_MOST_SHOWN = 10
"""Changes with old answers that are listed; `--json` has all."""
_MOST_CHARACTERS = 40
"""Of an answer."""


def freshness_parts(found: Freshness) -> list[RenderableType]:
    """Seconds by document and step; then the changes that made most old answers wrong."""
    parts: list[RenderableType] = [
        Text("After a document changes, how long until it is found?", style="bold"),
        _seconds(found),
    ]
    if found.stale:
        parts += [Text("\nWhich old answers became wrong?", style="bold"), _stale(found.stale)]
    parts += [Text(f"\n{found.summary}"), *(Text(f"note: {one_line(note)}", style="dim") for note in found.notes)]
    return parts


# ---- private --------------------------------------------------------------------------------------------------------


def _seconds(found: Freshness) -> Table:
    table = _table("document", ("change",), ("notice", "convert", "embed", "serve", "in all"))
    for one in found.changes:
        steps = (one.notice, one.convert, one.embed, one.serve)
        table.add_row(
            Text(one_line(one.source), style="bold"),
            one.change,
            *(f"{seconds:.3f} s" for seconds in steps),
            _in_all(one),
        )
    table.caption = Text(
        "notice: look at all files; convert: read, cut and write; serve: search for what is new. Measured from the change on"
        " where the index is updated at once; add how long yours waits",
        style="dim",
    )
    table.caption_justify = "left"
    return table


def _in_all(one: ChangeSeconds) -> str:
    return f"{one.total:.3f} s" if one.is_found else "not found"


def _stale(stale: tuple[StaleAnswer, ...]) -> Table:
    by_change: dict[tuple[str, str], list[StaleAnswer]] = defaultdict(list)
    for one in stale:
        by_change[one.older, one.newer].append(one)
    table = _table("old version", ("new version",), ("questions", "first of them: was", "is"))
    ranked = sorted(by_change.items(), key=lambda item: (-len(item[1]), item[0]))
    for (older, newer), answers in ranked[:_MOST_SHOWN]:
        first = answers[0]
        table.add_row(
            Text(one_line(older), style="bold"),
            Text(one_line(newer)),
            f"{len(answers):,}",
            _answer(first.before),
            _answer(first.now),
        )
    if len(ranked) > _MOST_SHOWN:
        table.caption = Text(f"and {len(ranked) - _MOST_SHOWN:,} more changes: --json has all", style="dim")
        table.caption_justify = "left"
    return table


def _answer(answer: object) -> Text:
    if answer is None:
        return Text("no answer", style="dim")
    text = one_line(str(answer))
    return Text(text[: _MOST_CHARACTERS - 1] + "…" if len(text) > _MOST_CHARACTERS else text)


def _table(first: str, texts: tuple[str, ...], numbers: tuple[str, ...]) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True, header_style="bold", show_edge=False
    )
    table.add_column(first, overflow="fold", min_width=8)
    for title in texts:
        table.add_column(title, overflow="fold")
    for title in numbers:
        table.add_column(title, justify="right")
    return table
