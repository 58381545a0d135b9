"""Retrieval from documents: recall beside its own two halves and bm25s, and speed at 100,000 chunks.

Recall is measured on real questions, with the built-in embedder. Speed is measured on made-up text whose words are as
unevenly frequent as real ones (Zipf), with made-up vectors: an embedder that gives a random unit vector for each text,
so that what is timed is the index and not the embedding, which costs about 3 ms a chunk on top.
"""

from __future__ import annotations

import hashlib
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.check import Check
from benchmarks.postgres import postgres_checks
from benchmarks.table import aligned
from steelyard.approaches.knowledge_spec import KnowledgeSpec
from steelyard.approaches.retrieval.knowledge_index import build_knowledge_index
from steelyard.approaches.retrieval.search import KnowledgeIndex, SearchSettings
from steelyard.models.embeddings import Embed, load_embedder

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
N_DOCUMENTS = 10_000
CHUNKS_A_DOCUMENT = 10
N_QUESTIONS = 200
WORDS_A_CHUNK = 100
WORDS_A_QUESTION = 9
VOCABULARY = 60_000
K = 10
MB = 1_000_000


class RandomVectors:
    """An embedder that costs next to nothing: a random unit vector for each text."""

    @property
    def identity(self) -> str:
        """Its name."""
        return "random vectors"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, shape (n_texts, 384)."""
        rows = []
        for text in texts:
            seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
            rows.append(np.random.default_rng(seed).standard_normal(384, dtype=np.float32))
        found = np.stack(rows)
        unit: NDArray[np.float32] = found / np.linalg.norm(found, axis=1, keepdims=True)
        return unit


@dataclass(frozen=True, kw_only=True, slots=True)
class Recalls:
    """Share of questions whose gold document is among the first ten."""

    data: str
    n_questions: int
    bm25s: float
    dense: float
    full_text: float
    ours: float


def section() -> list[Check]:
    """The figures with limits; the table of recalls is printed."""
    checks = []
    for name in ("squad_mix", "medquad"):
        if not (SHARED_DATA / name).is_dir():
            _say(f"left out: {name} is not in {SHARED_DATA}")
            continue
        _say(f"recall on {name} ...")
        one = recalls(name)
        head = ("data", "questions", "bm25s", "dense alone", "our full text alone", "ours")
        cells = [f"{value:.3f}" for value in (one.bm25s, one.dense, one.full_text, one.ours)]
        print(aligned(head, [(name, f"{one.n_questions:,}", *cells)]), end="\n\n", flush=True)
        best = max(one.bm25s, one.dense)
        what = f"recall@10 on {name}, against the better of bm25s and dense"
        checks.append(Check(what=what, measured=one.ours, limit=best, unit="", at_least=True))
    return [*checks, *_small(), *_large(), *postgres_checks()]


def recalls(name: str) -> Recalls:
    """Ours and both peers on the same chunks; a document counts as found when one of its chunks is."""
    import bm25s  # type: ignore[import-untyped]

    embed = load_embedder(threads=2)
    gold, questions = _questions(SHARED_DATA / name / "qa.jsonl")
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder)
        (study / "docs.jsonl").write_bytes((SHARED_DATA / name / "docs.jsonl").read_bytes())
        index = _built(KnowledgeSpec(documents=["docs.jsonl"]), study, embed)
        chunks = index.generation.chunks(range(index.n_chunks))
        owner = [index.documents[document].id for document in index.document_of]
        heads = {one.id: one.title for one in index.documents}
        texts = [f"{heads[owner[row]]}\n{chunk['text']}" for row, chunk in enumerate(chunks)]
        peer = bm25s.BM25()
        peer.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
        rows, _ = peer.retrieve(bm25s.tokenize(questions, show_progress=False), k=K, show_progress=False)
        by_bm25s = [{owner[row] for row in found} for found in rows]

        def found_by(weight: float) -> list[set[str]]:
            settings = SearchSettings(k=K, full_text_weight=weight)
            return [{passage.document for passage in index.search(one, settings)} for one in questions]

        return Recalls(
            data=name,
            n_questions=len(questions),
            bm25s=_share(gold, by_bm25s),
            dense=_share(gold, found_by(0.0)),
            full_text=_share(gold, found_by(1.0)),
            ours=_share(gold, found_by(SearchSettings().full_text_weight)),
        )


def _small() -> list[Check]:
    """200 chunks: what the index costs besides the embedding."""
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder)
        questions = write_documents(study, n_documents=20, seed=1)
        index = _built(KnowledgeSpec(documents=["docs"]), study, RandomVectors())
        seconds = query_seconds(index, questions)
    what = f"query at {index.n_chunks} chunks besides the embedding, p50"
    return [Check(what=what, measured=statistics.median(seconds) * 1000, limit=2, unit="ms")]


def _large() -> list[Check]:
    """100,000 chunks of 10,000 documents: build, memory, query, one changed document."""
    spec = KnowledgeSpec(documents=["docs"])
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder)
        _say(f"writing {N_DOCUMENTS:,} documents ...")
        questions = write_documents(study, n_documents=N_DOCUMENTS, seed=2)
        _say("building their index, with made-up vectors ...")
        started = time.perf_counter()
        index = _built(spec, study, RandomVectors())
        build_s = time.perf_counter() - started
        n_chunks = index.n_chunks
        size = sum(path.stat().st_size for path in (study / "index").rglob("*") if path.is_file()) / MB
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB
        seconds = query_seconds(index, questions)
        filtered = query_seconds(index, questions, tokens=1500)
        (study / "docs" / "0" / "00077.md").write_text("# Changed\n\nThis document says something else now.\n")
        _say("updating it after one change ...")
        started = time.perf_counter()
        updated, build = build_knowledge_index(
            spec, study, folder=study / "index", embed=RandomVectors(), say=lambda line: None
        )
        update_s = time.perf_counter() - started
        assert build.n_changed == 1
        assert updated.n_chunks < n_chunks
    p50 = statistics.median(seconds) * 1000
    rows = [
        ("chunks", f"{n_chunks:,}"),
        ("build without embedding", f"{n_chunks / build_s:,.0f} chunks/s"),
        ("on disk", f"{size:,.0f} MB"),
        ("peak memory of this process, building", f"{peak:,.0f} MB"),
        ("hybrid query p50, p95", f"{p50:.1f}, {statistics.quantiles(seconds, n=20)[-1] * 1000:.1f} ms"),
        ("the same with a token budget, p50", f"{statistics.median(filtered) * 1000:.1f} ms"),
    ]
    print(aligned(("at full size", "measured"), rows), end="\n\n", flush=True)
    return [
        Check(what=f"hybrid query at {n_chunks:,} chunks, p50", measured=p50, limit=25, unit="ms"),
        Check(what=f"one changed document among {N_DOCUMENTS:,}", measured=update_s, limit=2, unit="s"),
    ]


def query_seconds(index: KnowledgeIndex, questions: Sequence[str], *, tokens: int | None = None) -> list[float]:
    """Seconds of each question after warm-up, the embedding left out: its vector is there beforehand."""
    vectors = dict(zip(questions, RandomVectors().embed(questions), strict=True))

    class Known:
        identity = "random vectors"

        def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
            return np.stack([vectors[text] for text in texts])

    ready = replace(index, embed=Known())
    settings = SearchSettings(k=K, tokens=tokens)
    for question in questions[:20]:
        ready.search(question, settings)
    seconds = []
    for question in questions:
        started = time.perf_counter()
        ready.search(question, settings)
        seconds.append(time.perf_counter() - started)
    return seconds


def write_documents(study: Path, *, n_documents: int, seed: int) -> list[str]:
    """Markdown documents of ten sections each; returns questions, each of words of one section."""
    random = np.random.default_rng(seed)
    words = np.array([_word(number) for number in range(VOCABULARY)])
    shares = 1 / np.arange(2, VOCABULARY + 2)
    size = (n_documents, CHUNKS_A_DOCUMENT, WORDS_A_CHUNK)
    picked = random.choice(VOCABULARY, size=size, p=shares / shares.sum())
    for number in range(n_documents):
        folder = study / "docs" / str(number // 1000)
        folder.mkdir(parents=True, exist_ok=True)
        sections = [f"## Part {part}\n\n{' '.join(words[picked[number, part]])}." for part in range(CHUNKS_A_DOCUMENT)]
        (folder / f"{number:05}.md").write_text(f"# Document {number}\n\n" + "\n\n".join(sections), encoding="utf-8")
    places = random.integers(n_documents, size=N_QUESTIONS)
    parts = random.integers(CHUNKS_A_DOCUMENT, size=N_QUESTIONS)
    return [
        " ".join(words[random.choice(picked[place, part], WORDS_A_QUESTION, replace=False)])
        for place, part in zip(places, parts, strict=True)
    ]


# Private


def _built(spec: KnowledgeSpec, study: Path, embed: Embed) -> KnowledgeIndex:
    index, _ = build_knowledge_index(spec, study, folder=study / "index", embed=embed, say=lambda line: None)
    return index


def _word(number: int) -> str:
    letters = ""
    number += 26
    while number:
        letters += "abcdefghijklmnopqrstuvwxyz"[number % 26]
        number //= 26
    return f"w{letters}"


def _questions(path: Path) -> tuple[list[str], list[str]]:
    """Gold documents and questions, those with one alone."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with_gold = [row for row in rows if row["meta"].get("doc_id")]
    return [row["meta"]["doc_id"] for row in with_gold], [row["input"]["question"] for row in with_gold]


def _share(gold: Sequence[str], found: Sequence[set[str]]) -> float:
    return sum(one in documents for one, documents in zip(gold, found, strict=True)) / len(gold)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    print(aligned(("what", "measured", "limit", "ok?"), [check.row() for check in section()]))
