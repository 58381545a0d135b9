"""Talk to the PostgreSQL database of a team: connect, make the tables, and say in one sentence what went wrong.

No message of the server or of libpq is passed on, since it may hold parts of the connection string: what a person is told
follows from the error's code alone.
"""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, LiteralString

from steelyard.approaches.knowledge_spec import StoreSpec
from steelyard.errors import InputError, Problem, StorageFailed, require

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

    Query = LiteralString | sql.SQL | sql.Composed
    Connection = psycopg.Connection[tuple[Any, ...]]

FORMAT = 1001
"""Raised by one whenever the tables are laid out otherwise; other numbers than those of the embedded index."""
WHERE = "study.yaml:knowledge.store"
_DEFAULTS = {"connect_timeout": "10", "application_name": "steelyard"}

_TABLES: tuple[LiteralString, ...] = (
    """CREATE TABLE indexes (
        id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        study text NOT NULL,
        cutting text NOT NULL,
        generation int NOT NULL DEFAULT 0,
        next_chunk int NOT NULL DEFAULT 0,
        n_layers int NOT NULL DEFAULT 0,
        builds json NOT NULL DEFAULT '[]',
        UNIQUE (study, cutting))""",
    # One state of the documents: what it was made with, and the number and length of each chunk in the order of the
    # documents, as arrays of int32.
    """CREATE TABLE generations (
        index_id int NOT NULL REFERENCES indexes ON DELETE CASCADE,
        number int NOT NULL,
        manifest json NOT NULL,
        files json NOT NULL,
        documents json NOT NULL,
        chunks bytea NOT NULL,
        lengths bytea NOT NULL,
        PRIMARY KEY (index_id, number))""",
    # A chunk never changes; its number is never given again.
    """CREATE TABLE chunks (
        index_id int NOT NULL REFERENCES indexes ON DELETE CASCADE,
        number int NOT NULL,
        digest bytea NOT NULL,
        body json NOT NULL,
        PRIMARY KEY (index_id, number))""",
    # Apart from the texts, so that a scan reads vectors and nothing else.
    """CREATE TABLE vectors (
        index_id int NOT NULL REFERENCES indexes ON DELETE CASCADE,
        number int NOT NULL,
        vector vector NOT NULL,
        PRIMARY KEY (index_id, number))""",
    "ALTER TABLE vectors ALTER COLUMN vector SET STORAGE MAIN",
    # For each term the chunks that hold it (int32) and how often (uint16); each update adds a layer.
    """CREATE TABLE postings (
        index_id int NOT NULL REFERENCES indexes ON DELETE CASCADE,
        term text NOT NULL,
        layer int NOT NULL,
        numbers bytea NOT NULL,
        counts bytea NOT NULL,
        PRIMARY KEY (index_id, term, layer))""",
)

_SAID = {
    "28P01": ("refuses the password", "mend the connection string in {env}"),
    "28000": ("refuses this user", "mend the connection string in {env}, or have the user let in (pg_hba.conf)"),
    "3D000": ("has no such database", "create it, or mend the connection string in {env}"),
    "53300": ("has no connection left", "wait, or raise max_connections"),
    "57P03": ("is starting or stopping", "try again in a moment"),
    "42501": (
        "does not let this user do what is needed",
        "have an administrator run: CREATE EXTENSION IF NOT EXISTS vector; CREATE SCHEMA {schema} AUTHORIZATION (the user)",
    ),
    "42P01": ("has tables of another version of Steelyard", "name another schema under knowledge.store, or drop {schema}"),
    "42703": ("has tables of another version of Steelyard", "name another schema under knowledge.store, or drop {schema}"),
}  # fmt: skip
_NO_PGVECTOR = (
    "does not have the extension pgvector",
    (
        "install pgvector (0.8 or later) on the server, and have an administrator run: CREATE EXTENSION vector, or"
        " ALTER EXTENSION vector UPDATE"
    ),
)
_PGVECTOR = (0, 8)
"""The first version whose HNSW index goes on searching until enough of what it finds may be shown."""
_REFUSALS = (  # libpq gives no code where it fails to connect; in another language all of it is "cannot be reached"
    ("password authentication failed", "28P01"),
    ("no password supplied", "28P01"),
    ("no pg_hba.conf entry", "28000"),
    ("role ", "28000"),
    ("database ", "3D000"),
    ("too many clients", "53300"),
    ("is starting up", "57P03"),
    ("is shutting down", "57P03"),
)


class Session:
    """A connection that is made anew when it was lost; threads take turns.

    Args:
        store: Which database.
        prepare: Runs on each new connection.
    """

    def __init__(self, store: StoreSpec, prepare: Callable[[Connection], None] | None = None) -> None:
        self.store = store
        self._prepare = prepare
        self._lock = threading.Lock()
        self._connection: Connection | None = None

    def rows(self, query: Query, given: Sequence[Any] | Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """What a query gives; results come in binary.

        Raises:
            InputError: The database cannot be used.
        """
        import psycopg

        with self._lock, plainly(self.store):
            for attempt in (1, 2):
                connection = self._connected()
                try:
                    return connection.execute(query, given, binary=True).fetchall()
                except psycopg.OperationalError:
                    if attempt == 2 or not connection.closed:
                        raise
        raise AssertionError("either attempt returns or raises")

    def close(self) -> None:
        """Give the connection up, and with it every lock; the next query makes a new one."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self.store)
            weakref.finalize(self, self._connection.close)
            if self._prepare is not None:
                self._prepare(self._connection)
        return self._connection


def connect(store: StoreSpec) -> Connection:
    """A connection on which each statement is its own transaction, and the tables of the store go by their bare names.

    Raises:
        InputError: The environment variable is not set, or the database cannot be used.
        MissingExtra: psycopg or pgvector is not installed.
    """
    require("psycopg", "pgvector", feature="knowledge.store.postgres", extra="postgres")
    import psycopg
    from psycopg import sql
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    said = os.environ.get(store.postgres, "").strip()
    if not said:
        what = f"the environment variable {store.postgres!r} is not set"
        hint = "put the connection string there, for example postgresql://USER:PASSWORD@HOST/DATABASE"
        raise InputError(Problem(what=what, where=f"{WHERE}.postgres", hint=hint))
    try:
        given = conninfo_to_dict(said)
        defaults = {name: value for name, value in _DEFAULTS.items() if name not in given}
    except psycopg.ProgrammingError:
        what = f"the environment variable {store.postgres!r} holds no connection string that PostgreSQL understands"
        hint = "write postgresql://USER:PASSWORD@HOST/DATABASE; special characters in the password as %XX"
        raise InputError(Problem(what=what, where=f"{WHERE}.postgres", hint=hint)) from None
    with plainly(store):
        connection = psycopg.connect(make_conninfo(said, client_encoding="utf8", **defaults), autocommit=True)
    try:
        with plainly(store):
            found = connection.execute(
                "SELECT nspname, extversion FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace"
                " WHERE extname = 'vector'"
            ).fetchone()
            schema, version = found or ("public", None)
            if version is not None and _numbers(version) < _PGVECTOR:
                raise _problem(store, f"has pgvector {version}", _NO_PGVECTOR[1])
            schemas = [store.schema_name, schema]
            path = sql.SQL(", ").join(map(sql.Identifier, dict.fromkeys(schemas)))
            connection.execute(sql.SQL("SET search_path TO {}").format(path))
    except BaseException:
        connection.close()
        raise
    return connection


def make_tables(connection: Connection, store: StoreSpec) -> None:
    """Make extension, schema and tables where they are missing.

    Raises:
        InputError: They may not be made, or the server has no pgvector.
    """
    from psycopg import sql

    with plainly(store), connection.transaction():
        if has_tables(connection, store):
            return
        # Two processes may want to make them; the second finds them made.
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key("tables", store.schema_name)])
        if has_tables(connection, store):
            return
        if not _one(connection, "SELECT count(*) FROM pg_extension WHERE extname = 'vector'"):
            if not _one(connection, "SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'"):
                raise _problem(store, *_NO_PGVECTOR)
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
        # Asked first: CREATE SCHEMA IF NOT EXISTS wants a right even where there is nothing to create.
        if not _one(connection, "SELECT count(*) FROM pg_namespace WHERE nspname = %s", store.schema_name):
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(store.schema_name)))
        for statement in _TABLES:
            connection.execute(statement)


def has_tables(connection: Connection, store: StoreSpec) -> bool:
    """Whether the store was ever used."""
    query = "SELECT count(*) FROM pg_tables WHERE schemaname = %s AND tablename = 'postings'"
    return bool(_one(connection, query, store.schema_name))


def with_vectors(connection: Connection) -> None:
    """Have the connection send and read vectors."""
    from pgvector.psycopg import register_vector

    register_vector(connection)


def lock_key(*parts: object) -> int:
    """Number of an advisory lock; these are shared by everything in a database, so it says whose it is."""
    name = "\n".join(("steelyard", *map(str, parts)))
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


@contextmanager
def plainly(store: StoreSpec) -> Iterator[None]:
    """Turn errors of the database into one sentence, without a traceback and without anything it may have quoted.

    Raises:
        InputError: The database cannot be used.
        StorageFailed: Its disk is full, or it only reads.
    """
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        code = error.sqlstate or next((code for words, code in _REFUSALS if words in str(error)), None)
        if code in ("53100", "25006"):
            what = "the disk of the database is full" if code == "53100" else "the database only lets itself be read"
            hint = "mend that, then run again; the old index still serves"
            raise StorageFailed(Problem(what=what, where=WHERE, hint=hint)) from None
        if code in _SAID:
            raise _problem(store, *_SAID[code]) from None
        if code is None or code.startswith(("08", "57P")):
            hint = f"is it running, and does {store.postgres} name the right host and port?"
            raise _problem(store, "cannot be reached", hint) from None
        hint = f"the log of the server says more about it (SQLSTATE {code})"
        raise _problem(store, f"failed ({type(error).__name__})", hint) from None


# ---- private --------------------------------------------------------------------------------------------------------


def _problem(store: StoreSpec, what: str, hint: str) -> InputError:
    hint = hint.format(env=store.postgres, schema=store.schema_name)
    return InputError(Problem(what=f"the PostgreSQL server named in {store.postgres} {what}", where=WHERE, hint=hint))


def _one(connection: Connection, query: LiteralString, *given: object) -> Any:  # noqa: ANN401 - of any type
    row = connection.execute(query, given).fetchone()
    return row[0] if row is not None else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
