"""Rerank what one question found, outside of a run: on this machine, or by an endpoint within the study's budget."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from steelyard.approaches.knowledge_spec import LATE_INTERACTION
from steelyard.approaches.retrieval.rerank import LateInteraction, read_text, reordered
from steelyard.approaches.retrieval.search import Passage
from steelyard.engine.budget import Budget
from steelyard.engine.journal import Journal
from steelyard.engine.limits import managed
from steelyard.engine.lock import study_lock
from steelyard.engine.paid_calls import PaidCalls
from steelyard.errors import InputError, Problem
from steelyard.models.calls import Attempt
from steelyard.models.embeddings import EmbedPieces
from steelyard.models.http import hosted
from steelyard.models.operations import rerank_request, scores_of
from steelyard.study import local_model
from steelyard.study.scoring import journal_path
from steelyard.study.talk import Talk

if TYPE_CHECKING:
    from steelyard.study.study import Study


def rerank_passages(study: Study, reranker: str, question: str, passages: Sequence[Passage]) -> list[Passage]:
    """Passages in the order of a reranker, each with its score.

    Args:
        study: Names endpoints and budget.
        reranker: `late_interaction`, or the name of an endpoint that speaks `/rerank`.
        question: What was searched for.
        passages: What was found, best first.

    Raises:
        InputError: There is no such reranker, its key is missing, or a budget in money meets an unknown price.
        RunStopped: The budget is reached, or the endpoint gives no answer.
        StudyLocked: Another process works on the study, which pays from the same budget.
    """
    endpoints = study.file.models.endpoints
    if reranker != LATE_INTERACTION and reranker not in endpoints:
        known = [LATE_INTERACTION, *endpoints]
        near = difflib.get_close_matches(reranker, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
        raise InputError(Problem(what=f"there is no reranker {reranker!r}", where="--rerank", hint=hint))
    if not passages:
        return []
    texts = [read_text(one) for one in passages]
    if reranker == LATE_INTERACTION:
        embed = local_model.embedder(Talk(None))
        assert isinstance(embed, EmbedPieces), "the built-in embedder gives vectors of word pieces"
        return reordered(passages, LateInteraction(embed)(question, texts))
    return reordered(passages, _asked(study, reranker, question, texts))


# ---- private --------------------------------------------------------------------------------------------------------


def _asked(study: Study, endpoint: str, question: str, texts: Sequence[str]) -> list[float]:
    spec = study.file.models.endpoints[endpoint]
    budget = Budget(usd=study.file.run.budget_usd, calls=study.file.run.budget_calls)
    scores: list[float] = []

    def keep(place: int, attempt: Attempt) -> None:
        scores.extend(scores_of(attempt.text, len(texts)))

    with study_lock(study.folder), Journal.open(journal_path(study.folder)) as journal:
        asked = managed(hosted(endpoint, spec, where=f"study.yaml:models.endpoints.{endpoint}"), spec)
        PaidCalls(asked, journal=journal, budget=budget)([rerank_request(endpoint, question, texts)], keep)
    return scores
