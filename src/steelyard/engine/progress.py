"""What a run tells while it goes on; always to stderr, because stdout is for results."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol, TextIO

from steelyard.engine.entries import Spent
from steelyard.engine.outcome import Outcome

if TYPE_CHECKING:
    from rich.progress import Progress as RichBars
    from rich.progress import TaskID

_PLAIN_EVERY_S = 5.0
_BARS_EVERY_S = 0.1


class Progress(Protocol):
    """Listener of a run."""

    def on_start(self, approach: str, n_left: int, n_skipped: int) -> None:
        """An approach (named, with the split unless it is test) begins, or in a race goes on with its next round.

        `n_skipped` of the cases were done before.
        """
        ...

    def on_outcome(self, outcome: Outcome, spent: Spent) -> None:
        """A case was done; `spent` is what the study has paid so far."""
        ...

    def on_note(self, text: str) -> None:
        """Something a person should know now."""
        ...

    def on_end(self, spent: Spent) -> None:
        """The run is over, for whatever reason."""
        ...


def progress_for(stream: TextIO | None = None, *, quiet: bool = False) -> Progress | None:
    """Bars on a terminal, a line every few seconds otherwise, nothing where quiet is asked for.

    Args:
        stream: Where to write; standard error when left out.
        quiet: Say nothing.
    """
    stream = sys.stderr if stream is None else stream
    if quiet:
        return None
    return Bars(stream) if stream.isatty() else PlainLines(stream)


class _Count:
    """How far one approach is."""

    def __init__(self, approach: str, n_left: int, n_skipped: int) -> None:
        self.approach = approach
        self.n_left = n_left
        self.n_skipped = n_skipped
        self.n_done = 0
        self.n_failed = 0
        self.n_before_round = 0
        self.is_first_round = True
        self.began = time.monotonic()
        self.shown_at = self.began

    def go_on(self, n_left: int, n_skipped: int) -> None:
        """Another round; the time others worked meanwhile does not count."""
        self.n_left += n_left
        self.n_skipped += n_skipped
        self.n_before_round = self.n_done
        self.is_first_round = False
        self.began = time.monotonic()

    def add(self, outcome: Outcome) -> None:
        self.n_done += 1
        self.n_failed += outcome.status.value != "answered"

    def is_due(self, every_s: float) -> bool:
        """Whether it is time to show it again; never skips the last one, save in the further rounds of a race."""
        now = time.monotonic()
        is_last = self.is_first_round and self.n_done >= self.n_left
        if now - self.shown_at < every_s and not is_last:
            return False
        self.shown_at = now
        return True

    @property
    def rate(self) -> float:
        """Cases a second."""
        return (self.n_done - self.n_before_round) / max(1e-9, time.monotonic() - self.began)

    @property
    def time_left(self) -> str:
        if self.n_done == self.n_before_round:
            return "?"
        seconds = round((self.n_left - self.n_done) / self.rate)
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


class PlainLines:
    """One line at the start, every few seconds, and at the end of an approach; for logs and pipes."""

    def __init__(self, stream: TextIO, *, every_s: float = _PLAIN_EVERY_S) -> None:
        self._stream = stream
        self._every_s = every_s
        self._count: _Count | None = None
        self._counts: dict[str, _Count] = {}

    def on_start(self, approach: str, n_left: int, n_skipped: int) -> None:
        """Say what begins; further rounds of a race are not announced."""
        if approach in self._counts:
            self._count = self._counts[approach]
            self._count.go_on(n_left, n_skipped)
            return
        self._count = self._counts[approach] = _Count(approach, n_left, n_skipped)
        self._write(f"{approach}: {n_left} to do" + (f", {n_skipped} done before" if n_skipped else ""))

    def on_outcome(self, outcome: Outcome, spent: Spent) -> None:
        """Say how far it is, now and then."""
        count = self._count
        if count is None:
            return
        count.add(outcome)
        if count.is_due(self._every_s):
            without = f", {count.n_failed} without a valid answer" if count.n_failed else ""
            self._write(
                f"{count.approach}: {count.n_done}/{count.n_left}, {count.rate:.1f}/s, {money(spent)} spent,"
                f" {count.time_left} left{without}"
            )

    def on_note(self, text: str) -> None:
        """Say it."""
        self._write(text)

    def on_end(self, spent: Spent) -> None:
        """Nothing more to say: the summary is the command's."""

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


class Bars:
    """A bar per approach with rate, money spent and time left."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bars: RichBars | None = None
        self._count: _Count | None = None
        self._bar_id: TaskID | None = None
        self._started: dict[str, tuple[_Count, TaskID]] = {}

    def on_start(self, approach: str, n_left: int, n_skipped: int) -> None:
        """Add a bar, or lengthen it for the next round of a race."""
        if self._bars is None:
            self._bars = self._make()
            self._bars.start()
        if approach in self._started:
            self._count, self._bar_id = self._started[approach]
            self._count.go_on(n_left, n_skipped)
            count = self._count
            n_all, n_done = count.n_left + count.n_skipped, count.n_done + count.n_skipped
            self._bars.update(self._bar_id, total=n_all, completed=n_done)
            return
        self._count = _Count(approach, n_left, n_skipped)
        self._bar_id = self._bars.add_task(approach, total=n_left + n_skipped, completed=n_skipped, said="")
        self._started[approach] = (self._count, self._bar_id)

    def on_outcome(self, outcome: Outcome, spent: Spent) -> None:
        """Move the bar, at most ten times a second."""
        count = self._count
        if count is None or self._bars is None or self._bar_id is None:
            return
        count.add(outcome)
        if count.is_due(_BARS_EVERY_S) or count.n_done >= count.n_left:
            without = f"  {count.n_failed} without a valid answer" if count.n_failed else ""
            said = f"{count.rate:.1f}/s  {money(spent)}  {count.time_left} left{without}"
            self._bars.update(self._bar_id, completed=count.n_skipped + count.n_done, said=said)

    def on_note(self, text: str) -> None:
        """Print it above the bars."""
        if self._bars is None:
            self._stream.write(text + "\n")
        else:
            self._bars.console.print(text, markup=False, highlight=False)

    def on_end(self, spent: Spent) -> None:
        """Leave the bars as they are."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _make(self) -> RichBars:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as RichBars

        return RichBars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}", markup=False),
            console=Console(file=self._stream),
            refresh_per_second=4,
        )


def money(spent: Spent) -> str:
    """Money spent in few characters, with a mark where calls without a price are not in it."""
    return f"{spent.usd:.4f} USD" + (
        f" + {spent.unpriced_calls} calls of unknown price" if spent.unpriced_calls else ""
    )
