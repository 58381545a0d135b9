"""What a model is shown of the documents for one case: passages found, everything that fits, or the gold passages."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from steelyard.approaches.approach import Ask
from steelyard.approaches.knowledge_spec import KnowledgeSpec, KnowledgeUse
from steelyard.approaches.prompting import LookedUp
from steelyard.approaches.retrieval.building import build_index
from steelyard.approaches.retrieval.document_index import DocumentIndex
from steelyard.approaches.retrieval.history import read_upkeep
from steelyard.approaches.retrieval.lookup import EndpointRerank, Lookup, StepField
from steelyard.approaches.retrieval.metadata import Facts
from steelyard.approaches.retrieval.queries import QueryWriter
from steelyard.approaches.retrieval.rerank import LateInteraction
from steelyard.approaches.retrieval.search import Passage, SearchSettings
from steelyard.approaches.retrieval.words import count_tokens
from steelyard.cases.case import CaseInput, GoldText
from steelyard.errors import InputError, Problem
from steelyard.models.embeddings import Embed

BEHAVIOUR = 1
"""Raised by one whenever this module would show other passages."""
UNKNOWN_CONTEXT_TOKENS = 32_000
"""Tokens of passages where nobody said how much context a model has."""
_SHARE_OF_CONTEXT = 0.7
"""Of what answer and instructions leave, since tokens are estimated; some tokenizers make one of every digit."""
_FRAME_TOKENS = 25
"""Of what stands around a passage: its number and heading."""
_TAG = re.compile(r"<(?=/?passage\b)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class KnowledgeContext:
    """A look-up with what decides how much of it is shown: from a case to the passages its prompt shows."""

    lookup: Lookup
    use: KnowledgeUse
    gold: Mapping[str, tuple[GoldText, ...]]
    """By case id, for the ceiling alone: else empty."""
    room: int
    """Tokens of all passages at most, with what stands around them."""

    @property
    def digest(self) -> str:
        """Content address of everything that decides which passages are shown."""
        gold = [[name, list(map(list, texts))] for name, texts in sorted(self.gold.items())]
        body = [BEHAVIOUR, self.lookup.digest, self.use.context, self.use.as_of, self.room, gold]
        return hashlib.blake2b(orjson.dumps(body), digest_size=16).hexdigest()

    async def passages(self, case: CaseInput, ask: Ask, steps: Mapping[str, Any] | None = None) -> LookedUp:
        """The passages for a case, best first; only what holds on its day and its asker may see.

        Gold passages are what the case names, whoever asks.
        """
        if self.use.context == "gold":
            return self._shown(self._gold(case.id))
        try:
            day = self._day(case)
        except InputError as error:
            return LookedUp(problem=error.problems[0].what)
        found = await self.lookup.find(case, ask, as_of=day, steps=steps)
        return self._shown(found.passages, found.notes)

    def passages_without_asking(self, case: CaseInput) -> LookedUp:
        """The same where there is no engine; see `Lookup.find_without_asking`.

        Raises:
            InputError: A model would have to be asked, or the day of the case cannot be read.
        """
        if self.use.context == "gold":
            return self._shown(self._gold(case.id))
        return self._shown(self.lookup.find_without_asking(case, as_of=self._day(case)))

    # Private

    def _shown(self, passages: Sequence[Passage], notes: tuple[str, ...] = ()) -> LookedUp:
        """What fits, numbered best first; everything that fits stands in the order of the documents."""
        left = self.room
        fitting = []
        for passage in passages:
            if passage.n_tokens + _FRAME_TOKENS <= left:
                fitting.append(passage)
                left -= passage.n_tokens + _FRAME_TOKENS
        shown = [_as_shown(number, one) for number, one in enumerate(fitting, 1)]
        if self.use.context == "all":
            order: dict[str, int] = {}
            for document in dict.fromkeys(one.document for one in fitting):
                order |= self.lookup.index.places(document)
            shown.sort(key=lambda one: order[one["id"]])
        return LookedUp(sources=tuple(one.id for one in fitting), shown=tuple(shown), notes=notes)

    def _day(self, case: CaseInput) -> date | None:
        if self.use.as_of is None:
            return None
        said = case.time if self.use.as_of == "time" else case.fields.get(self.use.as_of)
        if said is None or not str(said).strip():
            return None
        try:
            return date.fromisoformat(str(said).strip()[:10])
        except ValueError:
            what = f"{str(said)[:40]!r} is no day as of which documents could be asked"
            raise InputError(
                Problem(what=what, where=f"{case.id}:{self.use.as_of}", hint="write days as YYYY-MM-DD")
            ) from None

    def _gold(self, case_id: str) -> list[Passage]:
        index = self.lookup.index
        found: list[Passage | None] = []
        for place, one in enumerate(self.gold.get(case_id, ())):
            found += [_gold_passage(index, place, one)] if one.text else index.passages(one.source)
        return [one for one in found if one is not None]


@dataclass(frozen=True, slots=True)
class NoPassages:
    """Stands for documents where prompts are only compiled: nothing is looked up."""

    digest: str = "no passages"

    async def passages(self, case: CaseInput, ask: Ask, steps: Mapping[str, Any] | None = None) -> LookedUp:
        """None."""
        return LookedUp()

    def passages_without_asking(self, case: CaseInput) -> LookedUp:
        """None."""
        return LookedUp()


class PreparedKnowledge(NamedTuple):
    """A context, and what its index took."""

    context: KnowledgeContext | NoPassages
    seconds: float
    """Machine seconds of making the index and keeping it up to date, whenever that was done."""
    reused: bool
    card: dict[str, Any]
    """What is written down about it."""


def index_folder(study: Path, spec: KnowledgeSpec) -> Path:
    """Where the index of a study lies; documents cut otherwise have an index of their own."""
    return study / ".steelyard" / "index" / f"{spec.chunk_tokens}-{spec.overlap_tokens}"


def cut_as(spec: KnowledgeSpec, use: KnowledgeUse) -> KnowledgeSpec:
    """The documents as one approach wants them cut."""
    wanted = {"chunk_tokens": use.chunk_tokens, "overlap_tokens": use.overlap_tokens}
    given = {name: value for name, value in wanted.items() if value is not None}
    if use.chunk_tokens is not None and use.overlap_tokens is None:
        given["overlap_tokens"] = min(spec.overlap_tokens, use.chunk_tokens // 4)
    return spec.model_copy(update=given)


def prepare_knowledge(
    use: KnowledgeUse,
    spec: KnowledgeSpec,
    *,
    study: Path,
    embed: Embed,
    fields: Sequence[str],
    room: int | None,
    gold: Mapping[str, tuple[GoldText, ...]],
    say: Callable[[str], None],
    writer: QueryWriter | None = None,
    rerank: LateInteraction | EndpointRerank | None = None,
) -> PreparedKnowledge:
    """Bring the index of the documents up to date, and say how it is searched.

    Args:
        use: Of the approach.
        spec: Of the study.
        study: Its folder.
        embed: The embedder.
        fields: Input fields of the task.
        room: Tokens that instructions and answer leave of the model's context; `None` where not known.
        gold: Gold passages by case id; one without text stands for its whole document.
        say: Shows one line of progress.
        writer: Asks the model for search queries.
        rerank: Orders what is found anew.

    Raises:
        InputError: Documents are not as they must be, or the index was made with another embedder.
    """
    cut = cut_as(spec, use)
    folder = index_folder(study, cut)
    index, build = build_index(cut, study, folder=folder, embed=embed, say=say)
    for problem in () if build.reused else build.skipped:
        say(f"{problem.where}: {problem.what}")
    upkeep = read_upkeep(folder)
    seconds = upkeep.setup_seconds if upkeep is not None else build.seconds
    fits = max(50, int(room * _SHARE_OF_CONTEXT)) if room is not None else UNKNOWN_CONTEXT_TOKENS
    everything = use.context == "all"
    settings = SearchSettings(
        k=max(1, index.n_chunks) if everything else use.k,
        tokens=min(use.tokens or fits, fits) if everything else use.tokens,
        full_text_weight=use.full_text_weight,
        filters={name: tuple(one) if isinstance(one, list) else one for name, one in use.filters.items()},
    )
    named = use.question or [name for name in fields if name != use.as_of]
    own = tuple(name for name in named if name in fields)
    card = {
        "folder": folder.name,
        "digest": index.digest,
        "n_documents": build.n_documents,
        "n_chunks": build.n_chunks,
        "tokens_embedded": upkeep.setup_tokens if upkeep is not None else build.tokens_embedded,
        "seconds": seconds,
        "churn_per_month": upkeep.churn_per_month if upkeep is not None else None,
        "seconds_per_month": upkeep.seconds_per_month if upkeep is not None else None,
        "tokens_per_month": upkeep.tokens_per_month if upkeep is not None else None,
        "tokens_shown_at_most": fits,
    }
    context = KnowledgeContext(
        lookup=Lookup(
            index=index,
            settings=settings,
            fields=own or tuple(name for name in fields if name != use.as_of),
            steps=steps_named(named, fields),
            is_question_searched=bool(own),
            writer=writer,
            rerank=rerank,
            candidates=use.candidates,
        ),
        use=use,
        gold=gold if use.context == "gold" else {},
        room=fits,
    )
    return PreparedKnowledge(context, seconds, build.reused, card)


def steps_named(names: Sequence[str], fields: Sequence[str]) -> tuple[StepField, ...]:
    """What is no input field among the names of what is searched for: fields of steps, as `STEP.FIELD`."""
    parts = (name.partition(".") for name in names if name not in fields)
    return tuple((step, field) for step, _, field in parts)


def something_like_passages() -> list[dict[str, Any]]:
    """A passage as templates see it, to try them with."""
    passage = Passage(
        id="document#1", document="document", title="Title", headings=(), text="Text.", n_tokens=2, score=0.0,
        legs={}, source="docs/document.md", facts=Facts(),
    )  # fmt: skip
    return [_as_shown(1, passage)]


# ---- private --------------------------------------------------------------------------------------------------------


def _as_shown(number: int, passage: Passage) -> dict[str, Any]:
    return {
        "number": number,
        "id": passage.id,
        "document": passage.document,
        "title": passage.title,
        "heading": _harmless(" > ".join((passage.title, *passage.headings))),
        # A document that writes our own marks must not be able to end its passage.
        "text": _harmless(passage.text),
        "valid_from": str(passage.facts.valid_from or ""),
        "valid_to": str(passage.facts.valid_to or ""),
    }


def _harmless(text: str) -> str:
    return _TAG.sub("‹", text)


def _gold_passage(index: DocumentIndex, place: int, gold: GoldText) -> Passage | None:
    """A gold passage in its own words, under the id that the evaluation gives it."""
    document = next((one for one in index.documents if one.id == gold.source), None)
    if document is None:
        return None
    return Passage(
        id=f"{gold.source}#gold-{place}", document=document.id, title=document.title, headings=(), text=gold.text,
        n_tokens=count_tokens(gold.text), score=0.0, legs={}, source=document.source, facts=document.facts,
    )  # fmt: skip
