"""The settings of `retrieval.knowledge` that a search tries.

What a setting finds can be seen without asking a model, unless the model writes queries or an endpoint reranks. So a grid
of settings without calls is ranked by what they find, the best few are ranked again with a local reranker, a few that
find most are kept, and only these are crossed with what costs calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from steelyard.approaches.candidates import AS_WRITTEN
from steelyard.approaches.knowledge_spec import LATE_INTERACTION, KnowledgeSpec, KnowledgeUse
from steelyard.approaches.search_spec import OptimiseSpec
from steelyard.approaches.spec import ApproachSpec

KEPT = 6
"""Settings that go on to be judged by answers."""
RERANKED = 2
"""Settings that are tried with a local reranker too, which takes far longer than a search."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrievalSetting:
    """One way to look passages up that is tried."""

    name: str
    use: KnowledgeUse

    @property
    def place(self) -> None:
        """It has no words of its own in study.yaml."""

    @property
    def calls(self) -> int:
        """Calls of a look-up: to write queries, to rerank."""
        return (self.use.queries > 0) + (self.use.rerank not in (None, LATE_INTERACTION))

    def put_into(self, approach: ApproachSpec) -> ApproachSpec:
        """The approach with this way to look up."""
        assert approach.retrieval is not None, "only approaches that look documents up are searched"
        retrieval = approach.retrieval.model_copy(update={"knowledge": self.use})
        return approach.model_copy(update={"retrieval": retrieval})

    def changes(self) -> dict[str, Any]:
        """What makes the difference, as study.yaml has it."""
        return {"knowledge": self.use.model_dump(mode="json", exclude_defaults=True)}


class Found(NamedTuple):
    """What one setting finds on dev."""

    recall: float
    """Share of the gold of a case among what it is shown, mean over cases."""
    mrr: float
    """Mean of one over the place of the first gold."""
    prompt_tokens: float
    """Of a prompt with these passages, estimated, mean over cases."""

    @property
    def rank(self) -> tuple[float, float, float]:
        """Sorts the best first: what finds most, earliest, in the shortest prompt."""
        return (-self.recall, -self.mrr, self.prompt_tokens)


def as_written(use: KnowledgeUse) -> RetrievalSetting:
    """What study.yaml has; every search has it among its finalists."""
    return RetrievalSetting(name=AS_WRITTEN, use=use)


def grid(use: KnowledgeUse, knowledge: KnowledgeSpec, spec: OptimiseSpec) -> tuple[RetrievalSetting, ...]:
    """All settings that take no call and no reranker, different from one another.

    Args:
        use: As the approach has it; what is not searched stays as it is.
        knowledge: The documents of the study.
        spec: What may be tried.

    Returns:
        The one as written comes first where it takes neither call nor reranker. Overlaps of more than half a chunk
        are left out.
    """
    bare = as_written(use)
    settings = [bare] if not bare.calls and use.rerank is None else []
    for chunk, overlap, weight, k in product(
        spec.chunk_tokens, spec.overlap_tokens or (None,), spec.full_text_weight, spec.k
    ):
        if overlap is None or 2 * overlap <= chunk:
            cut = {"chunk_tokens": chunk, "overlap_tokens": overlap}
            settings.append(_changed(use, **cut, full_text_weight=weight, k=k, rerank=None, queries=0))
    return _different(settings, knowledge)


def with_local_reranker(best: Sequence[RetrievalSetting], spec: OptimiseSpec) -> tuple[RetrievalSetting, ...]:
    """The same settings with the reranker that asks nobody; none where it is not to be tried."""
    if LATE_INTERACTION not in spec.rerank:
        return ()
    return tuple(_changed(one.use, rerank=LATE_INTERACTION) for one in best)


def keep(found: Sequence[tuple[RetrievalSetting, Found]], n: int = KEPT) -> tuple[RetrievalSetting, ...]:
    """The settings whose answers are worth asking for, best first.

    A setting that another one beats both in what it finds and in the length of its prompt comes after all that none
    beats in both, so that what is kept differs: from short prompts to prompts that hold everything.

    Args:
        found: Settings with what they find.
        n: How many.
    """
    left = sorted(found, key=lambda one: one[1].rank)
    kept: list[tuple[RetrievalSetting, Found]] = []
    while left and len(kept) < n:
        front: list[tuple[RetrievalSetting, Found]] = []
        for one in left:
            if all(one[1].prompt_tokens < other[1].prompt_tokens for other in front):
                front.append(one)
        kept += front[: n - len(kept)]
        left = [one for one in left if one not in front]
    return tuple(setting for setting, _ in kept)


def to_be_judged(
    kept: Sequence[RetrievalSetting],
    written: KnowledgeUse,
    knowledge: KnowledgeSpec,
    spec: OptimiseSpec,
    *,
    is_ranked: bool,
) -> tuple[RetrievalSetting, ...]:
    """What is judged by answers beside what is written: the kept settings, crossed with numbers of queries and rerankers.

    The first few reach both many settings and many variants, since a small budget carries only these.

    Args:
        kept: Settings without queries, best first.
        written: As the approach has it.
        knowledge: The documents of the study.
        spec: What may be tried.
        is_ranked: Whether the local reranker has had its turn already.
    """
    rerankers = [name for name in spec.rerank if name != "none" and not (is_ranked and name == LATE_INTERACTION)]
    variants = [
        {"queries": n, **rerank} for n in spec.queries for rerank in ({}, *({"rerank": one} for one in rerankers))
    ]
    cells = sorted(product(range(len(kept)), range(len(variants))), key=lambda cell: (sum(cell), cell[0]))
    settings = [_changed(kept[row].use, **variants[column]) for row, column in cells]
    allowed = [one for one in settings if (one.use.rerank or "none") in spec.rerank]
    return _different([as_written(written), *allowed], knowledge)[1:]


# ---- private --------------------------------------------------------------------------------------------------------


def _changed(use: KnowledgeUse, **fields: Any) -> RetrievalSetting:  # noqa: ANN401 - of many kinds
    """Other values for some fields; one that is `None` is left out."""
    kept = {name: value for name, value in use.model_dump(exclude_unset=True).items() if name not in fields}
    changed = {name: value for name, value in fields.items() if value is not None}
    if (changed.get("rerank") or kept.get("rerank")) is None:
        kept.pop("candidates", None)  # of a reranker alone
    new = KnowledgeUse.model_validate({**kept, **changed})
    said = {name: getattr(new, name) for name in _SEARCHED}
    words = [
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in said.items()
        if value is not None and (value or name != "queries")
    ]
    return RetrievalSetting(name=" ".join(words), use=new)


_SEARCHED = ("k", "chunk_tokens", "overlap_tokens", "full_text_weight", "rerank", "queries")


def _different(settings: Sequence[RetrievalSetting], knowledge: KnowledgeSpec) -> tuple[RetrievalSetting, ...]:
    """The first of those that would do the same."""
    from steelyard.approaches.retrieval.context import cut_as

    found: dict[tuple[Any, ...], RetrievalSetting] = {}
    for one in settings:
        cut = cut_as(knowledge, one.use)
        use = one.use
        found.setdefault(
            (cut.chunk_tokens, cut.overlap_tokens, use.k, use.full_text_weight, use.rerank, use.queries), one
        )
    return tuple(found.values())
