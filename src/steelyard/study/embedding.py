"""Who embeds the documents of a study: this machine, or an endpoint that is paid within the study's budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from steelyard.approaches.knowledge_spec import KnowledgeUse
from steelyard.approaches.retrieval.chunks import chunk_document
from steelyard.approaches.retrieval.context import cut_as
from steelyard.approaches.retrieval.documents import read_knowledge
from steelyard.approaches.retrieval.remote_embeddings import RemoteEmbedder
from steelyard.engine.budget import Budget, most_usd
from steelyard.engine.journal import Journal
from steelyard.engine.limits import likely_prompt_tokens, managed
from steelyard.engine.lock import study_lock
from steelyard.engine.paid_calls import PaidCalls
from steelyard.models.http import hosted
from steelyard.study import local_model
from steelyard.study.endpoints import unsent
from steelyard.study.file import StudyFile
from steelyard.study.scoring import journal_path
from steelyard.study.till import StudyTill

if TYPE_CHECKING:
    from steelyard.models.embeddings import Embed
    from steelyard.study.study import Study


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingEstimate:
    """What embedding documents would ask and cost, which has not been done yet."""

    endpoint: str
    n_texts: int
    n_calls: int
    tokens: int
    """About, at four characters a token."""
    likely_usd: float | None
    """`None` when no price is known."""
    most_usd: float | None
    """Upper bound with every transport retry and a token per byte."""
    approaches: tuple[str, ...]
    """Whose passages are not known before."""


def remote_embedder(
    file: StudyFile, folder: Path, *, till: StudyTill | None, say: Callable[[str], None]
) -> RemoteEmbedder:
    """The endpoint under `knowledge.embeddings` as an embedder.

    Args:
        file: Names it.
        folder: The study folder.
        till: Pays; without it nothing is sent.
        say: Shows a line to the person.

    Raises:
        InputError: Its key is missing.
    """
    assert file.knowledge is not None
    assert file.knowledge.embeddings is not None
    name = file.knowledge.embeddings
    spec = file.models.endpoints[name]
    cache = folder / ".steelyard" / "index" / "embeddings.sqlite3"
    calls: PaidCalls | None = None
    if till is not None:
        asked = managed(hosted(name, spec, where=f"study.yaml:models.endpoints.{name}"), spec)
        calls = PaidCalls(asked, journal=till.journal, budget=till.budget, note=say)
    return RemoteEmbedder(unsent(name, spec), cache=cache, make_calls=calls, batch_texts=spec.embedding_batch)


@contextmanager
def embedding_documents(study: Study, say: Callable[[str], None]) -> Iterator[Embed]:
    """What embeds the documents of a study outside of a run, with the journal at hand where that is paid for.

    Args:
        study: A study with `knowledge:`.
        say: Shows one line of progress.

    Raises:
        InputError: The key of the endpoint is missing.
        StudyLocked: Another process works on the study, which pays from the same budget.
    """
    file = study.file
    if file.knowledge is None or file.knowledge.embeddings is None:
        yield local_model.embedder(say)
        return
    budget = Budget(usd=file.run.budget_usd, calls=file.run.budget_calls)
    with study_lock(study.folder), Journal.open(journal_path(study.folder)) as journal:
        yield remote_embedder(file, study.folder, till=StudyTill(journal=journal, budget=budget), say=say)


def embedding_estimate(
    file: StudyFile, folder: Path, embedder: RemoteEmbedder, uses: Mapping[str, KnowledgeUse]
) -> EmbeddingEstimate:
    """What embedding the documents for some approaches would cost; reads and cuts them, and sends nothing.

    Args:
        file: Names documents and endpoint.
        folder: The study folder.
        embedder: Knows what was embedded before.
        uses: How approaches look documents up, by name.

    Raises:
        InputError: Documents are not as they must be.
    """
    assert file.knowledge is not None
    read = read_knowledge(file.knowledge, folder)
    documents = [document for one in read.files for document in one.documents or ()]
    cuts = {(spec.chunk_tokens, spec.overlap_tokens) for spec in (cut_as(file.knowledge, use) for use in uses.values())}
    texts = [
        chunk.searched
        for tokens, overlap in sorted(cuts)
        for document in documents
        for chunk in chunk_document(document, tokens=tokens, overlap=overlap)
    ]
    missing = embedder.missing(texts)
    requests = embedder.requests(missing)
    spec = file.models.endpoints[embedder.endpoint]
    asked = managed(unsent(embedder.endpoint, spec), spec)
    tokens = [likely_prompt_tokens(request) for request in requests]
    prices = [
        asked.endpoint.price.of_call(prompt_tokens=n, cached_tokens=0, completion_tokens=0, seconds=0.0) for n in tokens
    ]
    return EmbeddingEstimate(
        endpoint=embedder.endpoint,
        n_texts=len(missing),
        n_calls=len(requests),
        tokens=sum(tokens),
        likely_usd=_sum(prices),
        most_usd=_sum([most_usd(request, asked) for request in requests]),
        approaches=tuple(uses),
    )


def _sum(amounts: list[float | None]) -> float | None:
    known = [one for one in amounts if one is not None]
    return sum(known) if len(known) == len(amounts) else None
