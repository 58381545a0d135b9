"""The index in PostgreSQL beside the embedded one: the same documents are shown; builds are safe; errors are plain."""

from __future__ import annotations

import importlib.util
import itertools
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from steelyard.approaches.knowledge_spec import KnowledgeSpec
from steelyard.approaches.retrieval import postgres_chunks, postgres_writing
from steelyard.approaches.retrieval.building import build_index, open_index, stored_chunks
from steelyard.approaches.retrieval.document_index import DocumentIndex
from steelyard.approaches.retrieval.history import IndexBuild, read_upkeep
from steelyard.approaches.retrieval.search import SearchSettings
from steelyard.errors import InputError, MissingExtra, Problem, StudyLocked
from steelyard.models.embeddings import HashingEmbedder
from steelyard.study import local_model
from steelyard.study.yaml_source import read_checked
from tests.approaches.conftest import DATABASE
from tests.approaches.test_knowledge_index import POLICIES, Another, Counting, study
from tests.cli.tickets import serving, steelyard
from tests.study.test_retrieving import write

SECRET = "s3cr3t-w0rd"
EVERYTHING = SearchSettings(k=200)


def build(
    folder: Path,
    *,
    cutting: str = "index",
    store: dict[str, str] | None = None,
    embed: HashingEmbedder | None = None,
    rebuild: bool = False,
    **fields: object,
) -> tuple[DocumentIndex, IndexBuild]:
    spec = spec_of(folder, store, **fields)
    embed = embed or HashingEmbedder()
    return build_index(spec, folder, folder=folder / cutting, embed=embed, say=lambda line: None, rebuild=rebuild)


def spec_of(folder: Path, store: dict[str, str] | None = None, **fields: object) -> KnowledgeSpec:
    kept = {"postgres": DATABASE, "study": str(folder), **(store or {})}
    return KnowledgeSpec.model_validate({"documents": ["docs"], "store": kept, **fields})


def reopen(folder: Path, *, cutting: str = "index") -> DocumentIndex:
    return open_index(spec_of(folder), folder, folder=folder / cutting, embed=HashingEmbedder())


def ask(postgres: str, query: str, *given: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(postgres, autocommit=True) as connection:
        return connection.execute(query, given).fetchall()


def rows_of(postgres: str, folder: Path, table: str) -> int:
    found = ask(
        postgres,
        f"SELECT count(*) FROM steelyard.{table} JOIN steelyard.indexes ON id = index_id WHERE study = %s",
        str(folder),
    )
    return int(found[0][0])


# ---- the same documents ----------------------------------------------------------------------------------------------

DAYS = st.integers(0, 6).map(lambda n: date(2024, 1, 1) + timedelta(days=n))
TAGS = st.lists(st.sampled_from(["hr", "it", "law"]), unique=True, max_size=2)
PAGE = st.fixed_dictionaries(
    {
        "series": st.sampled_from(["a", "b", ""]),
        "begins": DAYS,
        "lasts": st.none() | st.integers(0, 3),
        "access": TAGS,
        "country": st.sampled_from(["de", "fr"]),
    }
)


@settings(max_examples=15, deadline=None)
@given(
    pages=st.lists(PAGE, min_size=1, max_size=6, unique_by=lambda page: (page["series"], page["begins"])),
    questions=st.lists(st.tuples(st.none() | DAYS, TAGS, st.none() | st.sampled_from(["de", "fr"])), max_size=8),
)
def test_both_stores_show_the_same_documents(
    pages: list[dict[str, Any]],
    questions: list[tuple[date | None, list[str], str | None]],
    tmp_path_factory: pytest.TempPathFactory,
    postgres: str,
) -> None:
    """Whatever their dates, versions, access tags and metadata, whoever asks as of whatever day."""
    folder = study(tmp_path_factory.mktemp("study"))
    for number, page in enumerate(pages):
        facts = [f"valid_from: {page['begins']}", f"access: {page['access']}", f"country: {page['country']}"]
        if page["series"]:
            facts.append(f"version_of: {page['series']}")
        if page["lasts"] is not None:
            facts.append(f"valid_to: {page['begins'] + timedelta(days=page['lasts'])}")
        text = f"---\n{chr(10).join(facts)}\n---\n# Page\n\nleave number {number}\n"
        (folder / "docs" / f"page{number}.md").write_text(text, encoding="utf-8")
    there, _ = build(folder)
    spec = KnowledgeSpec(documents=["docs"])
    here, _ = build_index(spec, folder, folder=folder / "files", embed=HashingEmbedder(), say=lambda line: None)
    for day, tags, country in questions:
        wanted = SearchSettings(k=200, filters={} if country is None else {"country": country})
        found = [
            [
                (passage.id, {leg: one.rank for leg, one in passage.legs.items() if leg == "full_text"})
                for passage in sorted(
                    index.search("leave number 3", wanted, as_of=day, access=tags), key=lambda p: p.id
                )
            ]
            for index in (here, there)
        ]
        assert found[0] == found[1]
    assert [one.id for one in here.documents] == [one.id for one in there.documents]
    for one in here.documents:
        assert here.passages(one.id) == there.passages(one.id)
        assert here.places(one.id) == there.places(one.id)


def test_scores_are_those_of_the_embedded_index(tmp_path: Path, postgres: str) -> None:
    study(tmp_path, odd="# Odd\n\n" + "x" * 5000 + " long words, and a zero \x00 byte.\n")
    there, _ = build(tmp_path)
    spec = KnowledgeSpec(documents=["docs"])
    here, _ = build_index(spec, tmp_path, folder=tmp_path / "files", embed=HashingEmbedder(), say=lambda line: None)
    for question in ("how many weeks of leave in France", "x" * 5000, "zero \x00", "'; DROP TABLE chunks; --"):
        ours, theirs = (index.search(question, EVERYTHING) for index in (here, there))
        assert [one.id for one in ours] == [one.id for one in theirs]
        for mine, other in zip(ours, theirs, strict=True):
            assert mine.text == other.text
            assert mine.legs.keys() == other.legs.keys()
            for leg in mine.legs:
                assert mine.legs[leg].score == pytest.approx(other.legs[leg].score, abs=1e-5)


def test_beyond_the_exact_limit_an_hnsw_index_finds_the_nearest_that_may_be_shown(
    tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that may not be shown take no place of those that may; a later update is found too."""
    monkeypatch.setattr(postgres_chunks, "EXACT_UP_TO", 40)
    numbers = range(150)
    pages = {
        f"p{number}": f"---\naccess: [{'hr' if number % 2 else 'all'}]\n---\n# P{number}\n\nword{number * 7919}\n"
        for number in numbers
    }
    exact, _ = build(study(tmp_path, **pages), cutting="exact")
    vectors_alone = SearchSettings(k=10, full_text_weight=0)
    questions = [f"P{number} word{number * 7919}" for number in range(0, 150, 10)]
    index, _ = build(tmp_path)
    monkeypatch.setattr(postgres_chunks, "EXACT_UP_TO", 100_000)
    wanted = {one: {p.id for p in exact.search(one, vectors_alone, access=["all"])} for one in questions}
    monkeypatch.setattr(postgres_chunks, "EXACT_UP_TO", 40)
    found = {one: {p.id for p in index.search(one, vectors_alone, access=["all"])} for one in questions}
    hits = sum(len(found[one] & wanted[one]) for one in questions)
    assert hits >= 0.95 * sum(map(len, wanted.values()))
    assert not any(passage.startswith("docs/p1.md") for one in found.values() for passage in one)
    assert ask(postgres, "SELECT count(*) FROM pg_indexes WHERE indexname LIKE 'vectors_hnsw_%%'")[0][0] >= 1
    updated, _ = build(study(tmp_path, new="# New\n\nsomething altogether different\n"))
    assert updated.search("something altogether different", vectors_alone)[0].document == "docs/new.md"


# ---- building --------------------------------------------------------------------------------------------------------

SLOW_BUILD = """
import sys, time
from pathlib import Path
import numpy as np
from steelyard.approaches.retrieval.building import build_index
from steelyard.approaches.knowledge_spec import KnowledgeSpec
from steelyard.models.embeddings import HashingEmbedder

class Stuck:
    "A vector that takes its time to be written."
    def __len__(self):
        return 64
    def __array__(self, dtype=None, copy=None):
        print(sys.argv[2], flush=True)
        time.sleep(60)

class Slow(HashingEmbedder):
    def embed(self, texts):
        if sys.argv[2] == "embedding":
            print("embedding", flush=True)
            time.sleep(60)
        return [Stuck() for text in texts]

folder = Path(sys.argv[1])
store = {"postgres": "%s", "study": str(folder)}
spec = KnowledgeSpec.model_validate({"documents": ["docs"], "store": store})
build_index(spec, folder, folder=folder / "index", embed=Slow(), say=lambda line: None)
"""


@pytest.fixture
def stuck() -> Iterator[Callable[[Path, str], subprocess.Popen[str]]]:
    """Builds in processes of their own that stand still at some point; what is left of them is killed."""
    children: list[subprocess.Popen[str]] = []

    def start(folder: Path, where: str) -> subprocess.Popen[str]:
        script = textwrap.dedent(SLOW_BUILD % DATABASE)
        child = subprocess.Popen([sys.executable, "-c", script, str(folder), where], stdout=subprocess.PIPE, text=True)
        children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == f"{where}\n"
        return child

    yield start
    for child in children:
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=30)
        assert child.stdout is not None
        child.stdout.close()


@pytest.mark.parametrize("where", ["embedding", "writing"])
def test_a_killed_build_leaves_the_old_index_serving(
    where: str, tmp_path: Path, postgres: str, stuck: Callable[[Path, str], subprocess.Popen[str]]
) -> None:
    """kill -9 while it embeds, and in the middle of its transaction; meanwhile others search, and a build is refused."""
    index, _ = build(study(tmp_path))
    before = index.search("weeks in France")
    study(tmp_path, other="# Other\n\nweeks and weeks\n")
    child = stuck(tmp_path, where)
    with pytest.raises(StudyLocked, match="another process is building this index"):
        build(tmp_path)
    assert reopen(tmp_path).search("weeks in France") == before
    child.send_signal(signal.SIGKILL)
    child.wait(timeout=30)
    assert reopen(tmp_path).search("weeks in France") == before
    updated, done = _once_free(lambda: build(tmp_path))
    assert done.n_added == 1
    assert "docs/other.md" in [passage.document for passage in updated.search("weeks and weeks")]
    assert rows_of(postgres, tmp_path, "chunks") == 6


def _once_free(attempt: Callable[[], tuple[DocumentIndex, IndexBuild]]) -> tuple[DocumentIndex, IndexBuild]:
    """The server notices the death of a client a moment later."""
    import time

    for _ in itertools.repeat(None, 100):
        try:
            return attempt()
        except StudyLocked:
            time.sleep(0.05)
    return attempt()


def test_what_nobody_reads_is_cleared_away(tmp_path: Path, postgres: str) -> None:
    """A reader keeps its own state of the documents and no other; when it is gone, so is that."""
    first, _ = build(study(tmp_path))
    travel = tmp_path / "docs" / "travel.md"
    for price in (130, 140, 150):
        travel.write_text(POLICIES["travel.md"].replace("120", str(price)), encoding="utf-8")
        latest, _ = build(tmp_path)
    assert "120 EUR" in first.search("hotels a night")[0].text
    assert "150 EUR" in latest.search("hotels a night")[0].text
    assert rows_of(postgres, tmp_path, "generations") == 3  # of the first, of `latest` before its last turn, and now
    del first, latest
    travel.write_text(POLICIES["travel.md"], encoding="utf-8")
    index, _ = build(tmp_path)
    assert rows_of(postgres, tmp_path, "generations") == 1
    assert rows_of(postgres, tmp_path, "chunks") == rows_of(postgres, tmp_path, "vectors") == index.n_chunks == 5


def test_many_updates_leave_what_a_fresh_build_finds(
    tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers of postings are merged on the way, under the eyes of a reader of the first."""
    monkeypatch.setattr(postgres_writing, "_MOST_LAYERS", 3)
    first, _ = build(study(tmp_path))
    before = first.search("hotels and weeks")
    for number in range(9):
        study(tmp_path, **{f"page{number % 4}": f"# Page\n\nhotels and weeks, {number} of them\n"})
        updated, _ = build(tmp_path)
    assert first.search("hotels and weeks") == before
    anew, _ = build(tmp_path, cutting="anew")
    assert updated.search("hotels and weeks", EVERYTHING) == anew.search("hotels and weeks", EVERYTHING)
    layers = "SELECT count(DISTINCT layer) FROM steelyard.postings JOIN steelyard.indexes ON id = index_id"
    assert ask(postgres, f"{layers} WHERE study = %s AND cutting = 'index'", str(tmp_path))[0][0] <= 3


def test_studies_and_cuttings_share_a_database_and_nothing_else(tmp_path: Path, postgres: str) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        folder.mkdir()
        study(folder)
    (theirs / "docs" / "travel.md").unlink()
    fine, _ = build(ours, cutting="40-0", chunk_tokens=40, overlap_tokens=0)
    coarse, _ = build(ours, cutting="200-30")
    others, _ = build(theirs, cutting="200-30")
    assert "docs/travel.md" in [one.document for one in coarse.search("hotels", EVERYTHING)]
    assert "docs/travel.md" not in [one.document for one in others.search("hotels", EVERYTHING)]
    assert build(ours, cutting="40-0", chunk_tokens=40, overlap_tokens=0)[1].reused
    assert fine.digest != coarse.digest


def test_whoever_shares_the_index_finds_it_up_to_date(tmp_path: Path, postgres: str) -> None:
    """Another copy of the study embeds nothing, and knows what making the index took."""
    mine, yours = tmp_path / "mine", tmp_path / "yours"
    for folder in (mine, yours):
        folder.mkdir()
        study(folder)
    shared = {"study": f"shared {tmp_path}"}
    _, made = build(mine, store=shared)
    embed = Counting()
    index, found = build(yours, store=shared, embed=embed)
    assert found.n_embedded == len(embed.texts) == 0
    upkeep = read_upkeep(yours / "index")
    assert upkeep is not None
    assert upkeep.setup_chunks == made.n_embedded
    assert index.search("hotels a night")[0].document == "docs/travel.md"


def test_a_rebuild_with_another_embedder_takes_the_place_of_the_old_index(tmp_path: Path, postgres: str) -> None:
    """Who still reads the old one is told, and is shown nothing of the new."""
    old, _ = build(study(tmp_path))
    build(tmp_path, embed=Another(), rebuild=True)
    for weight in (0.0, 1.0):
        with pytest.raises(InputError, match="made anew while it was read"):
            old.search("hotels", SearchSettings(full_text_weight=weight))
    with pytest.raises(InputError, match="this is 'hashing-3-grams'"):
        reopen(tmp_path)


# ---- connections -----------------------------------------------------------------------------------------------------


def test_a_lost_connection_is_made_anew(tmp_path: Path, postgres: str) -> None:
    index, _ = build(study(tmp_path))
    before = index.search("hotels")
    ask(
        postgres,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'steelyard' AND pid <> pg_backend_pid()",
    )
    assert index.search("hotels") == before


def test_threads_may_ask_at_once(tmp_path: Path, postgres: str) -> None:
    index, _ = build(study(tmp_path))
    wanted = {one: index.search(one) for one in ("hotels", "weeks in France", "badge")}
    wrong: list[str] = []

    def asking(question: str) -> None:
        wrong.extend(question for _ in range(10) if index.search(question) != wanted[question])

    threads = [threading.Thread(target=asking, args=(one,)) for one in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not wrong


def test_evaluation_reads_passages_where_the_database_is_at_hand(
    tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, _ = build(study(tmp_path))
    chunks = stored_chunks(spec_of(tmp_path), tmp_path, folder=tmp_path / "index")
    assert chunks is not None
    assert chunks.manifest.digest == index.digest
    assert chunks.chunks([0])[0]["text"]
    monkeypatch.delenv(DATABASE)
    assert stored_chunks(spec_of(tmp_path), tmp_path, folder=tmp_path / "index") is None


# ---- what can be wrong with a database -------------------------------------------------------------------------------


@pytest.fixture
def walled(postgres: str) -> Iterator[Callable[..., str]]:
    """Makes a connection string of a user who must give a password and may do next to nothing, in a fresh database."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS walled")
        connection.execute("DROP ROLE IF EXISTS walled")
        connection.execute(sql.SQL("CREATE ROLE walled LOGIN PASSWORD {}").format(SECRET))
        connection.execute("CREATE DATABASE walled")
        row = connection.execute("SHOW hba_file").fetchone()
        assert row is not None
        rules = Path(row[0])
        before = rules.read_text()
        rules.write_text(f"local all walled scram-sha-256\n{before}")
        connection.execute("SELECT pg_reload_conf()")
        info = psycopg.conninfo.conninfo_to_dict(postgres)

        def uri(**changed: str) -> str:
            return psycopg.conninfo.make_conninfo(
                **{"host": info["host"], "user": "walled", "password": SECRET, "dbname": "walled"} | changed  # type: ignore[arg-type]
            )

        yield uri
        rules.write_text(before)
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("DROP DATABASE walled WITH (FORCE)")
        connection.execute("DROP ROLE walled")


def refused(folder: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> str:
    """What a person is told; it holds no part of the password, and nothing else is behind it."""
    monkeypatch.setenv(DATABASE, uri)
    with pytest.raises(InputError) as caught:
        build(study(folder))
    assert caught.value.exit_code == 2
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    said = str(caught.value)
    assert SECRET not in said
    assert "hint: " in said
    return said


def test_a_database_that_cannot_be_used_is_said_in_one_sentence(
    tmp_path: Path, walled: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to do, and without the connection string."""
    for uri, wanted in (
        (walled(password=SECRET + "x"), "refuses the password"),
        (walled(dbname="nowhere", user="postgres"), "has no such database"),
        (walled(user="nobody"), "refuses this user"),
        (walled(host=str(tmp_path)), "cannot be reached"),
        (f"postgresql://walled:{SECRET}@127.0.0.1:1/walled", "cannot be reached"),
        (f"host=x {SECRET}", "holds no connection string"),
        (f"postgresql://walled:{SECRET}@[", "holds no connection string"),
        ("", "is not set"),
    ):
        said = refused(tmp_path, monkeypatch, uri)
        assert wanted in said
        assert DATABASE in said


def test_rights_and_the_extension_are_asked_for_by_name(
    tmp_path: Path, postgres: str, walled: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the server has no pgvector, then the user may make no schema; once given one, all works and no file tells."""
    admin = walled(user="postgres")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("ALTER DATABASE walled SET extension_control_path = '/nowhere'")
        assert "does not have the extension pgvector" in refused(tmp_path, monkeypatch, walled())
        connection.execute("ALTER DATABASE walled RESET extension_control_path")
        connection.execute("CREATE EXTENSION vector")
        connection.execute("UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'")
        assert "has pgvector 0.7.4" in refused(tmp_path, monkeypatch, walled())
        connection.execute("UPDATE pg_extension SET extversion = '0.8.5' WHERE extname = 'vector'")
        said = refused(tmp_path, monkeypatch, walled())
        assert "CREATE SCHEMA steelyard" in said
        connection.execute("CREATE SCHEMA steelyard AUTHORIZATION walled")
    monkeypatch.setenv(DATABASE, walled())
    index, _ = build(tmp_path)
    assert index.search("hotels a night")[0].document == "docs/travel.md"
    assert SECRET not in repr(index)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    with psycopg.connect(admin) as connection:
        connection.execute("ALTER TABLE steelyard.indexes RENAME COLUMN next_chunk TO other")
    assert "another version of Steelyard" in refused(tmp_path, monkeypatch, walled())


def test_the_connection_string_itself_in_place_of_a_name_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "store.yaml"
    path.write_text(f"documents: docs\nstore: {{postgres: 'postgresql://walled:{SECRET}@host/db'}}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"store.yaml:2:store.postgres: name the environment variable") as caught:
        read_checked(path, KnowledgeSpec, absent=Problem(what="not there"))
    assert SECRET not in str(caught.value)


def test_no_index_yet_says_what_to_do(tmp_path: Path, postgres: str) -> None:
    with pytest.raises(InputError, match=r"no index yet[\s\S]*steelyard retrieval index"):
        reopen(study(tmp_path))
    spec = spec_of(tmp_path, {"schema": "never_made"})
    with pytest.raises(InputError, match="no index yet"):
        open_index(spec, tmp_path, folder=tmp_path / "index", embed=HashingEmbedder())


def test_without_the_extra_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "psycopg" else find(name, *more)
    )
    with pytest.raises(MissingExtra, match=r"knowledge.store.postgres needs the extra 'postgres'"):
        build(study(tmp_path))


# ---- a whole study ---------------------------------------------------------------------------------------------------


def test_a_study_runs_and_is_measured_as_with_the_embedded_index(
    tmp_path: Path, walled: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both halves come out the same; nothing it writes or prints holds the password; a wrong one ends with code 2."""
    monkeypatch.setattr(local_model, "embedder", lambda say: HashingEmbedder())
    with psycopg.connect(walled(user="postgres"), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE SCHEMA steelyard AUTHORIZATION walled")
    monkeypatch.setenv(DATABASE, walled())
    approaches = "\n  search: {model: stub, retrieval: {knowledge: {as_of: day, k: 2}}}\n"
    tables = []
    with serving(reply='{"answer": "31 EUR", "source": "1"}') as stub:
        for name, store in (("files", ""), ("database", f", store: {{postgres: {DATABASE}}}")):
            folder = tmp_path / name
            write(folder, stub.url, approaches)
            path = folder / "study.yaml"
            path.write_text(path.read_text().replace("overlap_tokens: 0}", f"overlap_tokens: 0{store}}}"))
            assert steelyard("run", folder).code == 0
            tables.append(steelyard("score", folder, "--json").json["retrieval"])
    assert tables[0] == tables[1]
    assert tables[0]["level"] == "passage"
    folder = tmp_path / "database"
    printed = [
        steelyard("retrieval", "index", folder),
        steelyard("retrieval", "search", folder, "price of parking", "--access", "staff"),
        steelyard("report", folder),
    ]
    assert [one.code for one in printed] == [0, 0, 0]
    assert "full text rank 1" in printed[1].out
    monkeypatch.setenv(DATABASE, walled(password=SECRET + "x"))
    wrong = [steelyard("retrieval", "search", folder, "price"), steelyard("retrieval", "index", folder)]
    assert [one.code for one in wrong] == [2, 2]
    assert "Traceback" not in wrong[0].err
    assert not [one for one in (*printed, *wrong) if SECRET in one.out + one.err]
    assert not [path for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
