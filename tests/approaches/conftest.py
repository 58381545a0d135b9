"""A real PostgreSQL with pgvector, started by the first test that asks for it and stopped with the last."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from benchmarks.postgres import running_postgres

DATABASE = "STEELYARD_TEST_DATABASE"
"""The environment variable that holds its connection string."""


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The connection string of its superuser. Where it cannot be started the tests fail and say why: none is skipped."""
    with running_postgres() as uri, pytest.MonkeyPatch.context() as patch:
        patch.setenv(DATABASE, uri)
        yield uri


@pytest.fixture(scope="session", params=["embedded", "postgres"])
def store(request: pytest.FixtureRequest) -> str:
    """Where an index lies: what one promises the other keeps."""
    if request.param == "postgres":
        request.getfixturevalue("postgres")
    return str(request.param)
