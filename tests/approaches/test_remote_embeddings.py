"""Documents embedded by an endpoint: each text once, whatever is killed or cut anew, and never vectors of two models."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from steelyard.approaches.knowledge_spec import KnowledgeSpec
from steelyard.approaches.retrieval.history import IndexBuild
from steelyard.approaches.retrieval.knowledge_index import build_knowledge_index, open_knowledge_index
from steelyard.approaches.retrieval.remote_embeddings import (
    BATCH_BYTES,
    NotEmbedded,
    RemoteEmbedder,
)
from steelyard.engine.budget import Budget
from steelyard.engine.journal import Journal
from steelyard.engine.limits import managed
from steelyard.engine.paid_calls import PaidCalls
from steelyard.errors import EndpointUnusable, InputError, Problem, StorageFailed
from steelyard.models.calls import Attempt, AttemptStatus, ChatRequest
from steelyard.models.embeddings import HashingEmbedder
from steelyard.models.http import hosted
from steelyard.models.operations import text_of_vectors
from steelyard.models.spec import EndpointSpec, PriceSpec
from tests.cli.tickets import serving

BATCH_TEXTS = 64


class Host:
    """Answers every call, and counts."""

    def __init__(self, *, dimensions: int = 384) -> None:
        self.calls: list[list[str]] = []
        self.dimensions = dimensions
        self.fails_at: int | None = None

    def __call__(self, requests: Sequence[ChatRequest], keep: Callable[[int, Attempt], None]) -> None:
        for place, request in enumerate(requests):
            if len(self.calls) == self.fails_at:
                raise EndpointUnusable(Problem(what="gone"))
            texts = [message.content for message in request.messages]
            self.calls.append(texts)
            vectors = HashingEmbedder().embed(texts)[:, : self.dimensions] + np.float32(0.01)
            keep(place, attempt(text_of_vectors(vectors), tokens=10 * len(texts)))

    @property
    def texts(self) -> list[str]:
        return [text for call in self.calls for text in call]


def attempt(text: str, *, tokens: int) -> Attempt:
    return Attempt(
        digest="", endpoint="vectors", model="m", status=AttemptStatus.ANSWERED, text=text, prompt_tokens=tokens,
        latency_s=0.0, price_usd=tokens * 1e-6,
    )  # fmt: skip


def embedder(folder: Path, host: Host | None, *, model: str = "m") -> RemoteEmbedder:
    spec = EndpointSpec(base_url="http://127.0.0.1:9/v1", model=model, price_per_million=PriceSpec(input=1.0))
    return RemoteEmbedder(hosted("vectors", spec), cache=folder / "embeddings.sqlite3", make_calls=host)


def documents(folder: Path, n: int = 12) -> KnowledgeSpec:
    (folder / "docs").mkdir(parents=True)
    for i in range(n):
        rule = " ".join(f"Rule {j} of chapter {i} is about matter number {i * j}." for j in range(8))
        (folder / "docs" / f"{i}.md").write_text(f"# Chapter {i}\n\n{rule}\n", encoding="utf-8")
    return KnowledgeSpec(documents=["docs"], chunk_tokens=60, overlap_tokens=0)


def build(spec: KnowledgeSpec, folder: Path, embed: RemoteEmbedder, *, rebuild: bool = False) -> IndexBuild:
    where = folder / "index" / f"{spec.chunk_tokens}"
    _, done = build_knowledge_index(spec, folder, folder=where, embed=embed, say=lambda line: None, rebuild=rebuild)
    return done


# ---- batches and the cache -------------------------------------------------------------------------------------------


def test_texts_go_in_batches_and_come_back_in_order(tmp_path: Path) -> None:
    """As many as an endpoint takes in number and size, repeats once; rows in the order asked, of length 1."""
    host = Host()
    texts = [f"text {i % 150}" for i in range(200)] + ["long " * (BATCH_BYTES // 5), "after"]
    vectors = embedder(tmp_path, host).embed(texts)
    assert vectors.shape == (202, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(vectors[0], vectors[150])
    np.testing.assert_array_equal(vectors[-1], embedder(tmp_path, None).embed(["after"])[0])
    assert len(host.texts) == len(set(host.texts)) == 152
    assert all(len(call) <= BATCH_TEXTS for call in host.calls)
    assert all(len(call) == 1 or sum(map(len, call)) <= BATCH_BYTES for call in host.calls)


def test_what_was_embedded_is_never_asked_for_again(tmp_path: Path) -> None:
    """By another process, for other texts beside it: only what is new is paid for."""
    first = embedder(tmp_path, Host()).embed(["a", "b"])
    host = Host()
    again = embedder(tmp_path, host).embed(["b", "c", "a"])
    assert host.texts == ["c"]
    np.testing.assert_array_equal(again[[2, 0]], first)


def test_batches_before_a_failure_are_kept(tmp_path: Path) -> None:
    """The next command goes on after them."""
    failing, host = Host(), Host()
    failing.fails_at = 2
    texts = [f"text {i}" for i in range(4 * BATCH_TEXTS)]
    with pytest.raises(EndpointUnusable, match="gone"):
        embedder(tmp_path, failing).embed(texts)
    embedder(tmp_path, host).embed(texts)
    assert not set(failing.texts) & set(host.texts)
    assert len(host.calls) == 2


def test_without_anybody_who_pays_nothing_is_sent(tmp_path: Path) -> None:
    """Known vectors are to be had, others are refused with what to do."""
    known = embedder(tmp_path, Host()).embed(["known"])
    np.testing.assert_array_equal(embedder(tmp_path, None).embed(["known"]), known)
    with pytest.raises(
        NotEmbedded, match=r"1 texts have not been embedded by 'vectors'.*\n.*steelyard retrieval index"
    ):
        embedder(tmp_path, None).embed(["known", "new"])


def test_a_damaged_file_of_vectors_is_a_sentence(tmp_path: Path) -> None:
    """Nothing is paid again without the person knowing."""
    (tmp_path / "embeddings.sqlite3").write_bytes(b"not a database" * 100)
    with pytest.raises(StorageFailed, match="vectors that were paid for cannot be read"):
        embedder(tmp_path, Host()).embed(["text"])


# ---- the index of documents ------------------------------------------------------------------------------------------


def test_other_chunk_sizes_reuse_what_is_equal(tmp_path: Path) -> None:
    """Documents that fit in one chunk either way are embedded once; a second build asks for nothing."""
    spec = documents(tmp_path)
    (tmp_path / "docs" / "short.md").write_text("# Short\n\nOne sentence.\n", encoding="utf-8")
    host = Host()
    build(spec, tmp_path, embedder(tmp_path, host))
    n_first = len(host.texts)
    build(spec.model_copy(update={"chunk_tokens": 300}), tmp_path, embedder(tmp_path, host))
    assert len(host.texts) == len(set(host.texts)) > n_first
    build(spec, tmp_path, embedder(tmp_path, None))
    assert sum("One sentence." in text for text in host.texts) == 1


def test_another_model_under_the_index_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """Vectors of two models cannot be compared; made anew, the index serves the new one."""
    spec = documents(tmp_path)
    build(spec, tmp_path, embedder(tmp_path, Host()))
    other = embedder(tmp_path, Host(), model="another")
    with pytest.raises(
        InputError, match=r"made with the embedding model 'm at .*384 numbers'.*\n.*steelyard retrieval index"
    ):
        build(spec, tmp_path, other)
    with pytest.raises(InputError, match="vectors of two models cannot be compared"):
        open_knowledge_index(tmp_path, folder=tmp_path / "index" / "60", embed=other)
    build(spec, tmp_path, other, rebuild=True)
    assert open_knowledge_index(tmp_path, folder=tmp_path / "index" / "60", embed=other).n_chunks


def test_a_model_swapped_under_its_name_is_refused(tmp_path: Path) -> None:
    """Vectors of another length than before never enter the index."""
    embedder(tmp_path, Host()).embed(["a"])
    with pytest.raises(InputError, match=r"gives vectors of 100 numbers, and gave 384 before.*\n.*delete .*sqlite3"):
        embedder(tmp_path, Host(dimensions=100)).embed(["b"])


def test_what_an_index_cost_is_measured(tmp_path: Path) -> None:
    """Tokens and price as the endpoint counted them, in proportion; unknown where a price was."""
    remote = embedder(tmp_path, Host())
    remote.embed(["one two three", "four five six"])
    whole = remote.cost_of(2 * 3)
    assert whole.tokens == 20
    assert whole.usd == pytest.approx(20e-6)
    assert remote.cost_of(3).usd == pytest.approx(10e-6)
    assert whole.card()["price"]["kind"] == "assumed"


# ---- killed ----------------------------------------------------------------------------------------------------------

_BUILD = """
import sys
from pathlib import Path
from steelyard.approaches.knowledge_spec import KnowledgeSpec
from tests.approaches.test_remote_embeddings import build, paying
folder = Path(sys.argv[2])
spec = KnowledgeSpec(documents=["docs"], chunk_tokens=60, overlap_tokens=0)
with paying(sys.argv[1], folder) as embed:
    build(spec, folder, embed)
"""


@contextmanager
def paying(url: str, folder: Path) -> Iterator[RemoteEmbedder]:
    """An embedder that asks a server, with a journal and a budget."""
    spec = EndpointSpec(base_url=url, model="m", price_per_million=PriceSpec(input=1.0), concurrency=2)
    endpoint = hosted("vectors", spec)
    with Journal.open(folder / "journal.sqlite3") as journal:
        calls = PaidCalls(managed(endpoint, spec), journal=journal, budget=Budget(usd=1.0))
        yield RemoteEmbedder(endpoint, cache=folder / "embeddings.sqlite3", make_calls=calls)


def test_a_killed_build_pays_nothing_twice(tmp_path: Path) -> None:
    """kill -9 in the middle; the next build asks for what was not kept, and the money of both is counted."""
    documents(tmp_path, n=200)
    with serving(latency_s=0.1) as stub:
        command = [sys.executable, "-c", _BUILD, stub.url, str(tmp_path)]
        with subprocess.Popen(command) as victim:
            while stub.n_requests < 6:
                time.sleep(0.005)
            victim.kill()
        time.sleep(0.2)
        before = stub.n_texts
        kept = n_kept(tmp_path)
        assert 0 < kept < before <= kept + 2 * BATCH_TEXTS
        spec = KnowledgeSpec(documents=["docs"], chunk_tokens=60, overlap_tokens=0)
        with paying(stub.url, tmp_path) as embed:
            done = build(spec, tmp_path, embed)
            assert stub.n_texts - before == n_kept(tmp_path) - kept
            n_paid = sum(stub.digests.values())
            build(spec, tmp_path, embed)
        assert sum(stub.digests.values()) == n_paid
        assert done.n_chunks == done.n_embedded
        with Journal.open(tmp_path / "journal.sqlite3", read_only=True) as journal:
            # 20 tokens a call at a dollar per million; what was in flight is counted at the most it can have cost.
            assert journal.spent().usd >= n_paid * 20e-6
            assert journal.spent().calls == n_paid


def n_kept(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "embeddings.sqlite3")) as db:
        return int(db.execute("SELECT count(*) FROM vectors").fetchone()[0])
