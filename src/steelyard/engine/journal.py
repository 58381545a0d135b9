"""The journal: the durable log of calls and outcomes of a study, one SQLite file in WAL mode.

A model call counts as paid for once `record_call` has returned, and it returns only after the commit reached the
disk. So whatever is killed, at any moment, the next run finds every acknowledged call and does not send it again.
Every figure of every report is computed from here, and no key is ever written here: a request carries none.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from steelyard.approaches.approach import Setup
from steelyard.cases.case import Case
from steelyard.engine.entries import DropRecord, RunRecord, Spent, StepSums, Transcript
from steelyard.engine.outcome import Outcome
from steelyard.engine.rows import (
    CALL_COLUMNS,
    FIELD_VERDICTS,
    MEASUREMENT_COLUMNS,
    OUTCOME_COLUMNS,
    STEP_SUMS,
    Row,
    attempt_from,
    call_row,
    case_body,
    of_versions,
    outcome_from,
    outcome_row,
    request_from,
)
from steelyard.engine.schema import bring_up_to_date, open_to_read
from steelyard.engine.writer import Write, Writer, storage_failed
from steelyard.errors import Problem, StorageFailed
from steelyard.models.calls import Attempt, ChatRequest

JOURNAL_FILE = Path(".steelyard") / "journal.sqlite3"
"""Where a study's journal lies, from the study folder."""

_LONGEST_BACKLOG = 1000
"""Outcomes that may wait to be written; beyond it recording waits, so that memory stays flat."""


class Journal:
    """One study's journal. Writing goes through one thread; reading uses the thread that opened it."""

    def __init__(self, path: Path, reader: sqlite3.Connection, writer: Writer | None) -> None:
        self.path = path
        self._reader = reader
        self._writer = writer

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Journal:
        """Open the journal, creating or upgrading it where needed.

        Args:
            path: The SQLite file; its folder is created.
            read_only: Neither create nor write; also works in a read-only folder.

        Raises:
            InputError: It does not exist (`read_only`), is no journal, or was written by a newer version.
            StorageFailed: It is damaged, or cannot be written.
        """
        try:
            if read_only:
                return cls(path, open_to_read(path), None)
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                bring_up_to_date(connection, path)
                reader = sqlite3.connect(path, isolation_level=None, timeout=10)
                reader.execute("PRAGMA query_only = ON")
            except BaseException:
                connection.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise storage_failed(error, str(path)) from None
        return cls(path, reader, Writer(connection, name=str(path)))

    def close(self) -> None:
        """Write what is queued and close the file."""
        self._reader.close()
        if self._writer is not None:
            self._writer.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- calls --------------------------------------------------------------------------------------------------

    def lookup(self, digest: str) -> Attempt | None:
        """The journalled attempt with this digest, marked as replayed."""
        row = self._call(digest)
        return None if row is None else attempt_from(row)

    async def record_call(self, request: ChatRequest, attempt: Attempt, *, counted_usd: float | None = None) -> None:
        """Journal a call and count what it cost; return once both are on disk.

        A call that failed earlier and was made again replaces the failed one; the money of both stays counted.

        Args:
            request: What was asked.
            attempt: What came of it.
            counted_usd: What to count against the budget where the attempt's price is unknown.

        Raises:
            StorageFailed: It could not be written.
        """
        price = attempt.price_usd
        spend = (attempt.endpoint, 1, price if price is not None else counted_usd or 0.0, int(price is None))
        await self._writing.put_and_wait(Write(call=call_row(request, attempt), spend=spend))

    async def record_lost(self, endpoint: str, usd: float) -> None:
        """Count money that may have been billed for a call that was given up before it had a result.

        Raises:
            StorageFailed: It could not be written.
        """
        await self._writing.put_and_wait(Write(spend=(endpoint, 1, usd, 0)))

    def call_digests(self) -> set[str]:
        """Digests of all journalled calls."""
        return {digest for (digest,) in self._rows("SELECT digest FROM calls")}

    def record_job(self, job: str, usd: float | None, *, calls: int = 0) -> None:
        """Count a job besides calls, in the place of what it was counted at before; `None` where its price is unknown."""
        self._do("REPLACE INTO spent VALUES (?, ?, ?, ?)", (f"job {job}", calls, usd or 0.0, int(usd is None)))

    def spent(self, *, besides_job: str = "") -> Spent:
        """What the study has paid so far, for calls and for jobs at hosts but one."""
        columns = "coalesce(sum(calls), 0), coalesce(sum(usd), 0.0), coalesce(sum(unpriced_calls), 0)"
        return Spent(*self._rows(f"SELECT {columns} FROM spent WHERE endpoint != ?", (f"job {besides_job}",))[0])

    # ---- outcomes -----------------------------------------------------------------------------------------------

    async def record_outcome(self, outcome: Outcome) -> None:
        """Queue an outcome for the next commit, after its calls; replaces an older one of the same case and repeat.

        It is not waited for: lost in a crash, it is rebuilt from the journalled calls for nothing.

        Raises:
            StorageFailed: An earlier write failed.
        """
        write = Write(outcome=outcome_row(outcome))
        if self._writing.backlog > _LONGEST_BACKLOG:
            await self._writing.put_and_wait(write)
        else:
            self._writing.put(write)

    async def flush(self) -> None:
        """Return once everything recorded so far is on disk.

        Raises:
            StorageFailed: It could not be written.
        """
        await self._writing.put_and_wait(Write())

    def done(self, approach: str, fingerprint: str) -> set[tuple[str, str, str, int]]:
        """Case id, case digest, split and repeat of everything this version of the approach has an outcome for."""
        return set(
            self._rows(
                "SELECT case_id, case_digest, split, repeat FROM outcomes WHERE approach = ? AND fingerprint = ?",
                (approach, fingerprint),
            )
        )

    def forget_outcomes(self, approach: str, fingerprint: str, keys: Collection[tuple[str, int]]) -> None:
        """Take outcomes back, so that the next run does their cases again; the calls stay.

        Args:
            approach: Name.
            fingerprint: Version.
            keys: Case id and repeat of each.

        Raises:
            StorageFailed: It could not be written.
        """
        sql = "DELETE FROM outcomes WHERE approach = ? AND fingerprint = ? AND case_id = ? AND repeat = ?"
        for case_id, repeat in keys:
            self._writing.put(Write(statement=(sql, (approach, fingerprint, case_id, repeat))))
        self._writing.put_and_block(Write())

    def measurements(
        self, fingerprints: Mapping[str, str] | None = None, *, split: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """The figures of each outcome, one mapping a row, without texts.

        Args:
            fingerprints: Version to read of each approach, by name; `None` reads all versions of all.
            split: Only this split.

        Yields:
            Mappings with the keys of `MEASUREMENT_COLUMNS`, ordered by approach, case and repeat.
        """
        condition, values = of_versions(fingerprints, split)
        sql = f"SELECT {MEASUREMENT_COLUMNS} FROM outcomes {condition} ORDER BY approach, fingerprint, case_id, repeat"
        yield from self._mappings(sql, values)

    def outcomes(self, fingerprints: Mapping[str, str] | None = None, *, split: str | None = None) -> Iterator[Outcome]:
        """Whole outcomes with their attempts, one after the other; arguments as for `measurements`."""
        condition, values = of_versions(fingerprints, split)
        sql = f"SELECT {OUTCOME_COLUMNS} FROM outcomes {condition} ORDER BY approach, fingerprint, case_id, repeat"
        for row in self._mappings(sql, values):
            yield outcome_from(row, self._call)

    def transcript(self, approach: str, fingerprint: str, case_id: str, *, repeat: int = 0) -> Transcript | None:
        """One outcome with its attempts and what was asked in each; `None` when there is no such outcome."""
        where = "approach = ? AND fingerprint = ? AND case_id = ? AND repeat = ?"
        sql = f"SELECT {OUTCOME_COLUMNS} FROM outcomes WHERE {where}"
        rows = list(self._mappings(sql, (approach, fingerprint, case_id, repeat)))
        if not rows:
            return None
        outcome = outcome_from(rows[0], self._call)
        asked, judged = (
            tuple(request_from(row[3]) for one in attempts if (row := self._call(one.digest)) is not None)
            for attempts in (outcome.attempts, outcome.judge_attempts)
        )
        return Transcript(outcome=outcome, requests=asked, judge_requests=judged)

    def step_sums(self, fingerprints: Mapping[str, str], *, split: str) -> tuple[StepSums, ...]:
        """What the steps of approaches took, in the order in which they are first asked.

        Args:
            fingerprints: Version of each approach, by name.
            split: Only outcomes of this split.
        """
        condition, values = of_versions(fingerprints, split)
        return tuple(StepSums(*row) for row in self._rows(STEP_SUMS.format(condition=condition), values))

    def field_verdicts(self, fingerprints: Mapping[str, str], *, split: str) -> Iterator[dict[str, Any]]:
        """How right each field of each outcome is: `approach`, `case_id`, `repeat`, `cluster`, `field`, `score`, `verdict`.

        Args:
            fingerprints: Version of each approach, by name.
            split: Only outcomes of this split.
        """
        condition, values = of_versions(fingerprints, split)
        yield from self._mappings(FIELD_VERDICTS.format(condition=condition), values)

    def n_cases_done(self, fingerprints: Mapping[str, str], *, split: str) -> dict[str, int]:
        """Cases with an outcome, by approach; arguments as above."""
        condition, values = of_versions(fingerprints, split)
        return dict(
            self._rows(f"SELECT approach, count(DISTINCT case_id) FROM outcomes {condition} GROUP BY approach", values)
        )

    # ---- runs, preparations, looks ------------------------------------------------------------------------------

    def start_run(self, *, command: str, package_version: str, study: Mapping[str, Any]) -> int:
        """Note that a command begins, with the resolved study; returns the run's number.

        Raises:
            StorageFailed: It could not be written.
        """
        number = 1 + (self._rows("SELECT coalesce(max(id), 0) FROM runs")[0][0])
        # Keys are not sorted: approaches are shown in the order study.yaml gives them.
        text = orjson.dumps(study, default=str).decode()
        self._do(
            "INSERT INTO runs (id, command, package_version, started_utc, study) VALUES (?, ?, ?, ?, ?)",
            (number, command, package_version, _now(), text),
        )
        return int(number)

    def finish_run(self, number: int, *, ended: str = "finished") -> None:
        """Note how a run ended.

        Raises:
            StorageFailed: It could not be written.
        """
        self._do("UPDATE runs SET finished_utc = ?, ended = ? WHERE id = ?", (_now(), ended, number))

    def runs(self) -> tuple[RunRecord, ...]:
        """All runs, oldest first."""
        sql = "SELECT id, command, package_version, started_utc, study, finished_utc, ended FROM runs ORDER BY id"
        return tuple(RunRecord(*row)._replace(study=orjson.loads(row[4])) for row in self._rows(sql))

    def record_preparation(self, approach: str, fingerprint: str, setup: Setup) -> None:
        """Keep what preparing an approach took. What was only reused does not replace what was really done.

        Raises:
            StorageFailed: It could not be written.
        """
        text = orjson.dumps(setup, option=orjson.OPT_SERIALIZE_NUMPY, default=str).decode()
        verb = "INSERT OR IGNORE" if setup.reused else "INSERT OR REPLACE"
        self._do(f"{verb} INTO preparations VALUES (?, ?, ?, ?)", (approach, fingerprint, text, _now()))

    def preparation(self, approach: str, fingerprint: str) -> Setup | None:
        """What preparing this version of the approach took, where it was recorded."""
        sql = "SELECT setup FROM preparations WHERE approach = ? AND fingerprint = ?"
        rows = self._rows(sql, (approach, fingerprint))
        return Setup(**orjson.loads(rows[0][0])) if rows else None

    def record_look(self, approach: str, fingerprint: str) -> int:
        """Count one more scoring of the test split for this version; returns how many there were, this one included.

        Raises:
            StorageFailed: It could not be written.
        """
        sql = "INSERT INTO looks (approach, fingerprint, looked_utc) VALUES (?, ?, ?)"
        self._do(sql, (approach, fingerprint, _now()))
        return self.looks(approach, fingerprint)

    def looks(self, approach: str, fingerprint: str | None = None) -> int:
        """How often the test split was scored for this version, or for all versions of the approach together."""
        sql = "SELECT count(*) FROM looks WHERE approach = ? AND fingerprint = coalesce(?, fingerprint)"
        return int(self._rows(sql, (approach, fingerprint))[0][0])

    def record_cases(self, cases: Iterable[Case], versions: Mapping[str, Any] | None = None) -> None:
        """Keep the cases a run works on, and what was right when by case id, for reports without the case file.

        Raises:
            StorageFailed: It could not be written.
        """
        sql = "INSERT OR REPLACE INTO cases VALUES (?, ?, ?)"  # what is known beside input and output may change
        for case in cases:
            body = case_body(case, (versions or {}).get(case.id))
            self._writing.put(Write(statement=(sql, (case.digest(), case.id, body))))
        self._writing.put_and_block(Write())

    def cases(self) -> dict[str, dict[str, Any]]:
        """What was kept of each case (see `case_body`), by case id; of a changed case the version kept last."""
        return {name: orjson.loads(body) for name, body in self._rows("SELECT id, body FROM cases ORDER BY rowid")}

    # ---- races --------------------------------------------------------------------------------------------------

    def record_drop(self, drop: DropRecord) -> None:
        """Note that a race dropped an approach.

        Raises:
            StorageFailed: It could not be written.
        """
        terms = orjson.dumps(drop.terms, option=orjson.OPT_SORT_KEYS).decode()
        sql = "INSERT OR REPLACE INTO drops VALUES (?, ?, ?, ?, ?, ?)"
        self._do(sql, (drop.approach, drop.fingerprint, drop.n_cases, drop.reason, terms, _now()))

    def clear_drop(self, approach: str) -> None:
        """Forget that an approach was dropped, in whatever version.

        Raises:
            StorageFailed: It could not be written.
        """
        self._do("DELETE FROM drops WHERE approach = ?", (approach,))

    def drops(self) -> tuple[DropRecord, ...]:
        """What races dropped, the latest last."""
        if not self._rows("SELECT 1 FROM sqlite_master WHERE name = 'drops'"):
            return ()  # opened for reading only and written before there were races
        sql = "SELECT approach, fingerprint, n_cases, reason, terms FROM drops ORDER BY dropped_utc, n_cases, approach"
        return tuple(DropRecord(*row)._replace(terms=orjson.loads(row[4])) for row in self._rows(sql))

    # ---- below --------------------------------------------------------------------------------------------------

    @property
    def _writing(self) -> Writer:
        if self._writer is None:
            raise StorageFailed(Problem(what="the journal was opened for reading only", where=str(self.path)))
        return self._writer

    def _do(self, sql: str, values: Row) -> None:
        self._writing.put_and_block(Write(statement=(sql, values)))

    def _call(self, digest: str) -> Row | None:
        return next(iter(self._rows(f"SELECT {CALL_COLUMNS} FROM calls WHERE digest = ?", (digest,))), None)

    def _mappings(self, sql: str, values: Sequence[Any]) -> Iterator[dict[str, Any]]:
        """Rows by column name, one after the other."""
        with self._reading():
            cursor = self._reader.execute(sql, values)
            names = [column[0] for column in cursor.description]
            for row in cursor:
                yield dict(zip(names, row, strict=True))

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        with self._reading():
            return self._reader.execute(sql, values).fetchall()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise storage_failed(error, str(self.path)) from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
