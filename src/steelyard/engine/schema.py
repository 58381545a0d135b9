"""The journal's tables, as numbered migrations that are recorded in the file itself.

`PRAGMA user_version` holds the number of the last migration. A file from a newer version of the package is refused,
an older one is brought forward step by step, and nothing that was released is ever edited here.
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from steelyard.errors import InputError, Problem

APPLICATION_ID = 0x5354_4C59
"""Marks the file as a Steelyard journal ("STLY"), so that another program's database is never written to."""

_FIRST = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, command TEXT NOT NULL, package_version TEXT NOT NULL, started_utc TEXT NOT NULL,
    study TEXT NOT NULL, finished_utc TEXT, ended TEXT);
CREATE TABLE calls (
    id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, endpoint TEXT NOT NULL, model TEXT NOT NULL,
    request TEXT NOT NULL, status TEXT NOT NULL, text TEXT NOT NULL, error TEXT, prompt_tokens INTEGER,
    cached_tokens INTEGER, completion_tokens INTEGER, latency_s REAL NOT NULL, price_usd REAL,
    transport_retries INTEGER NOT NULL, started_utc TEXT NOT NULL);
CREATE TABLE outcomes (
    id INTEGER PRIMARY KEY, approach TEXT NOT NULL, fingerprint TEXT NOT NULL, case_id TEXT NOT NULL,
    repeat INTEGER NOT NULL, case_digest TEXT NOT NULL, split TEXT NOT NULL, status TEXT NOT NULL, success INTEGER,
    score REAL, schema_pass INTEGER NOT NULL, retried INTEGER NOT NULL, extra_calls INTEGER NOT NULL,
    transport_retries INTEGER NOT NULL, latency_s REAL NOT NULL, own_s REAL NOT NULL, cost_usd REAL,
    prompt_tokens INTEGER, cached_tokens INTEGER, completion_tokens INTEGER, segment TEXT, cluster TEXT, time TEXT,
    payload TEXT NOT NULL, UNIQUE (approach, fingerprint, case_id, repeat));
CREATE TABLE preparations (
    approach TEXT NOT NULL, fingerprint TEXT NOT NULL, setup TEXT NOT NULL, prepared_utc TEXT NOT NULL,
    PRIMARY KEY (approach, fingerprint)) WITHOUT ROWID;
CREATE TABLE looks (
    id INTEGER PRIMARY KEY, approach TEXT NOT NULL, fingerprint TEXT NOT NULL, looked_utc TEXT NOT NULL);
CREATE TABLE cases (digest TEXT PRIMARY KEY, id TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE spent (
    endpoint TEXT PRIMARY KEY, calls INTEGER NOT NULL, usd REAL NOT NULL, unpriced_calls INTEGER NOT NULL) WITHOUT ROWID;
"""

_SECOND = """
CREATE TABLE drops (
    approach TEXT NOT NULL, fingerprint TEXT NOT NULL, n_cases INTEGER NOT NULL, reason TEXT NOT NULL,
    terms TEXT NOT NULL, dropped_utc TEXT NOT NULL, PRIMARY KEY (approach, fingerprint)) WITHOUT ROWID;
"""

_THIRD = "ALTER TABLE calls ADD COLUMN logprob REAL;"

MIGRATIONS: tuple[str, ...] = (_FIRST, _SECOND, _THIRD)
"""SQL of each step; the file's version is the number of steps it has seen."""


def bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    """Create the tables, or add what newer versions added; in one transaction a step.

    Raises:
        InputError: The file is not a journal, or was written by a newer version.
    """
    version = check_version(connection, path)
    for number, sql in enumerate(MIGRATIONS[version:], start=version + 1):
        now = datetime.now(UTC).isoformat(timespec="seconds")
        connection.executescript(
            f"BEGIN IMMEDIATE; {sql} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number};"
            f"INSERT INTO meta VALUES ('migration_{number}_utc', '{now}'); COMMIT;"
        )


def check_version(connection: sqlite3.Connection, path: Path) -> int:
    """The file's version, 0 for an empty file.

    Raises:
        InputError: The file is not a journal, or was written by a newer version.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (n_tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (n_tables or version):
        raise InputError(Problem(what="this SQLite file is not a Steelyard journal", where=str(path)))
    if version > len(MIGRATIONS):
        raise InputError(
            Problem(
                what=f"the journal has format {version}, but this version of steelyard reads up to {len(MIGRATIONS)}",
                where=str(path),
                hint="pip install --upgrade steelyard",
            )
        )
    return int(version)


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open an existing journal without writing, also in a folder that cannot be written.

    Raises:
        InputError: There is no journal, nothing in it yet, or it is from a newer version.
        sqlite3.Error: It cannot be read.
    """
    if not path.is_file():
        raise InputError(
            Problem(what="there is no journal yet", where=str(path), hint="run the study first: steelyard run")
        )
    address = path.resolve().as_uri()
    # In a folder that cannot be written SQLite cannot make the shared-memory file that WAL mode needs; a journal that
    # was closed in order has no WAL left and may be read as an unchanging file.
    has_wal = path.with_name(path.name + "-wal").exists()
    for mode in ("mode=ro",) if has_wal else ("mode=ro", "mode=ro&immutable=1"):
        connection = sqlite3.connect(f"{address}?{mode}", uri=True, isolation_level=None, timeout=10)
        try:
            version = check_version(connection, path)
            if version == 0:  # a first run was killed before it wrote anything
                raise InputError(Problem(what="nothing was run yet", where=str(path), hint="run the study first"))
            if version < 3:  # what the file lacks, and cannot be added to it, is put in front of it for this connection
                connection.execute("CREATE TEMP VIEW calls AS SELECT *, NULL AS logprob FROM main.calls")
        except sqlite3.OperationalError:
            connection.close()
            if mode.endswith("immutable=1") or has_wal:
                raise
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise AssertionError("unreachable: the last mode either opens or raises")
