"""Group commit: one thread that writes everything queued so far in one transaction.

`synchronous=FULL` makes each commit wait for the disk; batching makes many calls share one wait. Rows of one kind go
into SQLite in one statement, because every statement gives up and retakes Python's global lock, which the event loop
is holding most of the time.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Sequence
from typing import NamedTuple

from steelyard.engine.rows import CALL_COLUMNS, OUTCOME_COLUMNS, Row
from steelyard.errors import Problem, StorageFailed

_ROWS_PER_STATEMENT = (64, 8, 1)
"""Few sizes, so that SQLite's prepared statements are reused."""

_SPEND = (
    "INSERT INTO spent VALUES (?, ?, ?, ?) ON CONFLICT (endpoint) DO UPDATE SET calls = calls + excluded.calls,"
    " usd = usd + excluded.usd, unpriced_calls = unpriced_calls + excluded.unpriced_calls"
)
_INTO = {
    "calls": f"INSERT OR REPLACE INTO calls ({CALL_COLUMNS}) VALUES ",
    "outcomes": f"INSERT OR REPLACE INTO outcomes ({OUTCOME_COLUMNS}) VALUES ",
}


class Write(NamedTuple):
    """One thing to write, and who waits until it is safe."""

    call: Row | None = None
    spend: Row | None = None
    outcome: Row | None = None
    statement: tuple[str, Row] | None = None
    """Anything else: SQL and its values."""
    future: asyncio.Future[None] | None = None
    """Resolved on its own event loop after the commit."""
    event: threading.Event | None = None
    """Set after the commit, for callers without an event loop."""
    stop: bool = False


class Writer:
    """The writing thread of one journal."""

    def __init__(self, connection: sqlite3.Connection, *, name: str) -> None:
        self._connection = connection
        self._name = name
        self._queue: queue.SimpleQueue[Write] = queue.SimpleQueue()
        self.failure: StorageFailed | None = None
        """Why nothing can be written any more; once set it stays."""
        self._thread = threading.Thread(target=self._work, name=f"journal {name}", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """Things queued and not yet taken up."""
        return self._queue.qsize()

    def put(self, write: Write) -> None:
        """Queue something.

        Raises:
            StorageFailed: An earlier write failed; nothing more is taken.
        """
        if self.failure is not None:
            raise StorageFailed(self.failure.problem)
        self._queue.put(write)

    async def put_and_wait(self, write: Write) -> None:
        """Queue something and return once it is on disk.

        Raises:
            StorageFailed: It could not be written.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.put(write._replace(future=future))
        await future

    def put_and_block(self, write: Write) -> None:
        """Queue something and block until it is on disk.

        Raises:
            StorageFailed: It could not be written.
        """
        event = threading.Event()
        self.put(write._replace(event=event))
        event.wait()
        if self.failure is not None:
            raise StorageFailed(self.failure.problem)

    def stop(self) -> None:
        """Write what is queued, end the thread and close its connection."""
        self._queue.put(Write(stop=True))
        self._thread.join()

    # ---- in the thread ------------------------------------------------------------------------------------------

    def _work(self) -> None:
        stopping = False
        while not stopping:
            batch = [self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get())
            stopping = any(write.stop for write in batch)
            if self.failure is None:
                try:
                    self._commit(batch)
                except sqlite3.Error as error:
                    self.failure = storage_failed(error, self._name)
            self._tell(batch)
        self._connection.close()

    def _commit(self, batch: Sequence[Write]) -> None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            self._insert("calls", [write.call for write in batch if write.call is not None])
            self._insert("outcomes", [write.outcome for write in batch if write.outcome is not None])
            for row in _added_up(batch):
                execute(_SPEND, row)
            for write in batch:
                if write.statement is not None:
                    execute(*write.statement)
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise

    def _insert(self, table: str, rows: Sequence[Row]) -> None:
        start = 0
        for size in _ROWS_PER_STATEMENT:
            while len(rows) - start >= size:
                some = rows[start : start + size]
                marks = "(" + ",".join("?" * len(some[0])) + ")"
                sql = _INTO[table] + ",".join([marks] * size)
                self._connection.execute(sql, [value for row in some for value in row])
                start += size

    def _tell(self, batch: Sequence[Write]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        for write in batch:
            if write.future is not None:
                by_loop.setdefault(write.future.get_loop(), []).append(write.future)
            if write.event is not None:
                write.event.set()
        for loop, futures in by_loop.items():
            try:
                loop.call_soon_threadsafe(_resolve, futures, self.failure)
            except RuntimeError:  # the loop was closed meanwhile; nobody waits there any more
                continue


def _added_up(batch: Sequence[Write]) -> list[Row]:
    """One row of `spent` per endpoint, so that a batch costs one statement."""
    sums: dict[str, list[float]] = {}
    for write in batch:
        if write.spend is not None:
            endpoint, calls, usd, unpriced = write.spend
            total = sums.setdefault(endpoint, [0, 0.0, 0])
            total[0] += calls
            total[1] += usd
            total[2] += unpriced
    return [(endpoint, *total) for endpoint, total in sums.items()]


def _resolve(futures: Sequence[asyncio.Future[None]], failure: StorageFailed | None) -> None:
    for future in futures:
        if future.done():  # the waiting task was cancelled
            continue
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(StorageFailed(failure.problem))


def storage_failed(error: Exception, path: str) -> StorageFailed:
    """What SQLite or the system said, as a sentence with what to do about it."""
    said = str(error)
    lowered = said.lower()
    if "full" in lowered or "disk i/o" in lowered or "no space" in lowered or "too large" in lowered:
        what = "the journal could not be written, the disk is full or its limit is reached"
        hint = "make room and run the same command again; everything written so far is kept"
    elif "readonly" in lowered or "read-only" in lowered or "permission" in lowered or "unable to open" in lowered:
        what, hint = "the journal's folder cannot be written", "make the folder writable or copy the study elsewhere"
    elif "malformed" in lowered or "not a database" in lowered:
        what, hint = "the journal is damaged", "restore the file from a copy, or move it away to begin anew"
    elif "locked" in lowered:
        what, hint = "the journal is locked by another program", "close the program that has it open"
    else:
        what, hint = "the journal could not be used", "check the disk; everything written so far is kept"
    return StorageFailed(Problem(what=f"{what} ({said})", where=path, hint=hint))
