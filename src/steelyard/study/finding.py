"""What an approach would show of the documents, and how much of the gold that is: seen without asking a model.

An approach is made to answer dev cases through a door behind which nobody is. What it looked up and what it would
have said are exactly what a run would show: same index, same day, same rights, same room in the context of the model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np

from steelyard.approaches.approach import Approach
from steelyard.approaches.knowledge_spec import KnowledgeUse
from steelyard.approaches.prepare import prepare
from steelyard.approaches.prompted import Prompted
from steelyard.approaches.retrieval.building import open_index
from steelyard.approaches.retrieval.context import KnowledgeContext, cut_as, index_folder
from steelyard.approaches.retrieval_settings import Found, RetrievalSetting
from steelyard.approaches.spec import ApproachSpec
from steelyard.approaches.workbench import Workbench
from steelyard.cases.case import Case
from steelyard.engine.limits import likely_prompt_tokens
from steelyard.measure.gold import GoldPassage, passage_ranking
from steelyard.measure.ranking import gains, grades, recall_at, reciprocal_rank
from steelyard.measure.results import Floats
from steelyard.measure.retrieval import at_level
from steelyard.models.calls import Attempt, AttemptStatus, ChatRequest
from steelyard.models.embeddings import Embed, EmbedPieces, Vectors
from steelyard.models.operations import text_of_vectors

Level = Literal["passage", "document"]


class PerCase(NamedTuple):
    """What a setting finds, case by case; each of shape (n_cases,)."""

    recall: Floats
    """Share of the gold of the case among all it is shown."""
    reciprocal_rank: Floats
    prompt_tokens: Floats
    """Estimated."""

    @property
    def mean(self) -> Found:
        """Means over the cases."""
        return Found(*(float(one.mean()) for one in self))


def with_gold(cases: Sequence[Case]) -> list[Case]:
    """The cases that name where their answer stands."""
    return [case for case in cases if case.passages or case.sources]


def gold_level(cases: Sequence[Case]) -> Level:
    """Passages where all cases name them, else documents."""
    return "passage" if all(case.passages for case in cases) else "document"


class Finder:
    """Says what settings of an approach show of the gold of some cases; an index that several read is opened once."""

    def __init__(self, name: str, spec: ApproachSpec, bench: Workbench, cases: Sequence[Case]) -> None:
        """Nothing is read yet.

        Args:
            name: The approach.
            spec: As written, with `retrieval.knowledge`.
            bench: What it is prepared with.
            cases: Those of `with_gold`; at least one.
        """
        self._name = name
        self._spec = spec
        self._bench = embedding_once(bench)
        self._cases = cases
        self.level = gold_level(cases)
        self._prepared: dict[tuple[object, ...], tuple[Prompted, _Texts]] = {}

    def find(self, setting: RetrievalSetting) -> PerCase:
        """What a setting finds, one that looks up without calls.

        Raises:
            InputError: The approach cannot be prepared with it.
        """
        approach, texts = self._read_by(setting)
        looked = asyncio.run(_look_up(approach, self._cases, self._bench))
        rankings, gold = [], []
        for case, one in zip(self._cases, looked, strict=True):
            if self.level == "passage":
                passages = [GoldPassage(source=passage.source, text=passage.text) for passage in case.passages]
                ranking = passage_ranking(one.sources, passages, texts.of)
                rankings.append(ranking.sources)
                gold.append(grades(ranking.gold))
            else:
                rankings.append(tuple(at_level(one.sources, "document")))
                gold.append(grades(case.sources or [passage.source for passage in case.passages]))
        found = gains(rankings, gold)
        return PerCase(
            recall=recall_at(found, np.array([len(one) for one in gold]), found.shape[1]),
            reciprocal_rank=reciprocal_rank(found),
            prompt_tokens=np.array([one.prompt_tokens for one in looked], dtype=np.float64),
        )

    # Private

    def _read_by(self, setting: RetrievalSetting) -> tuple[Prompted, _Texts]:
        """The approach with a setting, and the passages of its index."""
        use = setting.use
        cut = (use.chunk_tokens, use.overlap_tokens, use.rerank)
        if cut not in self._prepared:
            approach = prepare(self._name, setting.put_into(self._spec), self._bench).approach
            assert isinstance(approach, Prompted)  # what else there is was refused
            self._prepared[cut] = (approach, _Texts(use, self._bench))
        approach, texts = self._prepared[cut]
        prompting = approach.question.prompting
        context = prompting.find_passages
        assert isinstance(context, KnowledgeContext)  # a prompt that shows no passages was refused
        settings = replace(context.lookup.settings, k=use.k, full_text_weight=use.full_text_weight)
        searching = replace(context, lookup=replace(context.lookup, settings=settings))
        question = replace(approach.question, prompting=replace(prompting, find_passages=searching))
        return replace(approach, question=question), texts


class EmbedOnce:
    """An embedder that embeds a single text once: the question of a case, for all settings that are tried."""

    def __init__(self, embed: Embed) -> None:
        self._embed = embed
        self._one = cache(lambda text: embed.embed([text]))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever else the embedder can do
        return getattr(self._embed, name)

    @property
    def identity(self) -> str:
        """That of the embedder."""
        return self._embed.identity

    def embed(self, texts: Sequence[str]) -> Vectors:
        """The same vectors as the embedder gives."""
        return self._one(texts[0]) if len(texts) == 1 else self._embed.embed(texts)

    def embed_pieces(self, texts: Sequence[str]) -> list[Vectors]:
        """As the embedder does it.

        Raises:
            TypeError: It gives no vectors of word pieces.
        """
        if not isinstance(self._embed, EmbedPieces):
            raise TypeError(f"{self.identity} gives no vectors of word pieces")
        return self._embed.embed_pieces(texts)


def embedding_once(bench: Workbench) -> Workbench:
    """The workbench with embedders that remember: the question of a case is the same for all settings."""
    remote = bench.document_embedder
    return replace(
        bench,
        embedder=cache(lambda: EmbedOnce(bench.embedder())),
        document_embedder=cache(lambda: EmbedOnce(remote())) if remote is not None else None,
    )


# ---- private --------------------------------------------------------------------------------------------------------


class _Looked(NamedTuple):
    sources: tuple[str, ...]
    prompt_tokens: int


async def _look_up(approach: Approach, cases: Sequence[Case], bench: Workbench) -> list[_Looked]:
    found = []
    for case in cases:
        door = _ClosedDoor(bench.embed_documents())
        answer = await approach.answer(case.visible(), door)
        found.append(_Looked(answer.sources, door.prompt_tokens))
    return found


class _ClosedDoor:
    """Takes a request for the engine's door, notes how long it is, and answers nothing."""

    def __init__(self, embed: Embed) -> None:
        self._embed = embed
        self.prompt_tokens = 0

    async def __call__(self, request: ChatRequest, *, step: str = "answer", extra: bool = False) -> Attempt:
        status, text = AttemptStatus.EMPTY, ""
        if request.operation == "embed":
            status = AttemptStatus.ANSWERED
            text = text_of_vectors(self._embed.embed([message.content for message in request.messages]))
        else:
            self.prompt_tokens = max(self.prompt_tokens, likely_prompt_tokens(request))
        return Attempt(
            digest="", endpoint=request.endpoint, model="", status=status, text=text, latency_s=0.0, price_usd=0.0,
            step=step, extra=extra,
        )  # fmt: skip


class _Texts:
    """The passages of the index a setting reads, by id."""

    def __init__(self, use: KnowledgeUse, bench: Workbench) -> None:
        assert bench.knowledge is not None, "the approach could not have been prepared"
        cut = cut_as(bench.knowledge, use)
        folder = index_folder(bench.study, cut)
        self._index = open_index(cut, bench.study, folder=folder, embed=bench.embed_documents())
        self._read: dict[str, Mapping[str, str]] = {}

    def of(self, passage: str) -> str | None:
        document = passage.partition("#")[0]
        if document not in self._read:
            self._read[document] = {one.id: one.text for one in self._index.passages(document)}
        return self._read[document].get(passage)
