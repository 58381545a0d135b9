"""After a document changes, how long until answers can change: measured on a private copy, by really changing it.

A document that has an older version is set back to it and then to the newer one again; one without is given a further
sentence. The clock runs from the moment the file has changed until a search finds what is new in it.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from steelyard.approaches.knowledge_spec import KnowledgeSpec
from steelyard.approaches.retrieval.building import build_index
from steelyard.approaches.retrieval.context import index_folder
from steelyard.approaches.retrieval.converters import suffix_of
from steelyard.approaches.retrieval.document_index import DocumentIndex
from steelyard.approaches.retrieval.documents import Document, read_knowledge
from steelyard.approaches.retrieval.files import find_files
from steelyard.approaches.retrieval.history import IndexBuild
from steelyard.approaches.retrieval.metadata import split_front_matter
from steelyard.approaches.retrieval.search import SearchSettings
from steelyard.approaches.retrieval.versions import Dated, number_versions
from steelyard.errors import InputError, Problem
from steelyard.study.embedding import embedding_documents
from steelyard.study.knowledge import knowledge_of
from steelyard.study.readings import answer_rules
from steelyard.study.stale_answers import StaleAnswer, changes_of, stale_answers
from steelyard.study.talk import Talk
from steelyard.task.tokens import answer_tokens

if TYPE_CHECKING:
    from steelyard.models.embeddings import Embed, Vectors
    from steelyard.study.study import Study

SCHEMA = "steelyard.retrieval-freshness/1"
DOCUMENTS = 5
"""Documents that are changed where none is named."""
_PLAIN = (".md", ".markdown", ".txt")
"""Files to which a sentence can be added as it is."""
_SETTLED_S = 2.1
"""Files that have just been written are read again by every update; copies get over it in this time."""
_WORDS = (4, 40)
"""A sentence that is looked for has so many words."""
_K = 10
"""Passages that are searched for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangeSeconds:
    """How long one changed document took to be found."""

    document: str
    source: str
    change: Literal["new version", "sentence added"]
    notice: float
    """Seconds of an update that finds nothing changed: looking at all files."""
    convert: float
    """Seconds of converting, cutting and writing: all of the update but noticing and embedding."""
    embed: float
    serve: float
    """Seconds of the search that finds what is new, the question's embedding included."""
    total: float
    """Seconds from the change of the file until then."""
    n_embedded: int
    """Chunks that had to be embedded."""
    is_found: bool
    """Whether what is new was among the first passages of the search; if not, `total` ends with the search."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Freshness:
    """What `steelyard retrieval freshness` measured."""

    n_documents: int
    n_chunks: int
    changes: tuple[ChangeSeconds, ...]
    n_versions: int
    """Changes between dated versions of the documents, as they are."""
    stale: tuple[StaleAnswer, ...]
    """Over all of these."""
    notes: tuple[str, ...] = ()

    @property
    def median_seconds(self) -> float:
        """Of `total`."""
        return median(change.total for change in self.changes)

    @property
    def worst_seconds(self) -> float:
        """Of `total`."""
        return max(change.total for change in self.changes)

    def to_json(self) -> dict[str, Any]:
        """The shape `steelyard.retrieval-freshness/1`."""
        return {
            "schema": SCHEMA,
            "n_documents": self.n_documents,
            "n_chunks": self.n_chunks,
            "median_seconds": self.median_seconds,
            "worst_seconds": self.worst_seconds,
            "changes": [asdict(change) for change in self.changes],
            "n_versions": self.n_versions,
            "stale": [one.to_json() for one in self.stale],
            "notes": list(self.notes),
        }

    @property
    def summary(self) -> str:
        """One sentence on seconds, one on old answers."""
        seconds = (
            f"a changed document is found after {self.median_seconds:.2f} s (median of {len(self.changes)}, worst"
            f" {self.worst_seconds:.2f} s), once the index is updated; {self.n_documents:,} documents"
        )
        return f"{seconds}\n{self._on_stale()}"

    def _on_stale(self) -> str:
        if not self.n_versions:
            return "no document has dated versions, so which old answers changes made wrong cannot be said"
        if not self.stale:
            return f"{self.n_versions:,} dated changes made no answer of the cases wrong"
        changed = len({one.newer for one in self.stale})
        recorded = sum(one.recorded_right for one in self.stale)
        said = f"; {recorded:,} recorded answers that were right are wrong since" if recorded else ""
        return (
            f"{changed:,} of {self.n_versions:,} dated changes made the old answers to {len(self.stale):,} questions"
            f" wrong{said}"
        )


def measure_freshness(
    study: Study,
    *,
    documents: Sequence[str] = (),
    progress: bool = True,
    embed: Embed | None = None,
) -> Freshness:
    """Change documents for real and see how long it takes until they are found.

    Works on a copy of the documents and of the index, which is removed afterwards; documents that a database serves are
    measured with an embedded index.

    Args:
        study: A study with `knowledge:`.
        documents: Files to change, by path inside the study folder, or ids of documents; left out, the `DOCUMENTS`
            whose last change made most old answers wrong.
        progress: Show progress on standard error.
        embed: The embedder; left out, that of the study. An endpoint's vectors are remembered, so that the seconds of
            embedding are then those of looking them up.

    Raises:
        InputError: There is no `knowledge:`, documents are not as they must be, or one that is named cannot be changed.
    """
    spec = knowledge_of(study).model_copy(update={"store": None})
    say = Talk(sys.stderr if progress else None)
    with (
        nullcontext(embed) if embed is not None else embedding_documents(study, say) as embedder,
        tempfile.TemporaryDirectory(prefix="steelyard-freshness-") as scratch,
    ):
        copy = _copied(study.folder, spec, Path(scratch) / "study")
        bench = _Bench(copy, spec, embedder, say)
        read = list(read_knowledge(spec, copy).documents)
        versions = changes_of(read, number_versions([Dated(one.id, one.source, one.facts) for one in read]))
        stale = stale_answers(versions, study.material.cases, answer_rules(study.file), right=_recorded_right(study))
        chosen = _chosen(documents, read, versions, stale)
        if not chosen:
            raise InputError(
                Problem(
                    what="no document can be changed to measure by",
                    where=str(study.folder),
                    hint="documents with an older version in a file of the same kind can be, and Markdown and text files",
                )
            )
        bench.update(rebuild=True)
        bench = replace(bench, embed=_Anew(embedder))
        time.sleep(_SETTLED_S)
        changes = []
        for edit in chosen:
            say(f"changing {edit.document.source}")
            changes.append(bench.measure(edit))
        n_documents, n_chunks = bench.size()
        say.end()
    lost = [one.document for one in changes if not one.is_found]
    return Freshness(
        n_documents=n_documents,
        n_chunks=n_chunks,
        changes=tuple(changes),
        n_versions=len(versions),
        stale=stale,
        notes=(f"found among no {_K} passages after the change: {', '.join(lost)}",) if lost else (),
    )


# ---- private --------------------------------------------------------------------------------------------------------


class _Edit(NamedTuple):
    """A change that can be made to a document."""

    document: Document
    older: Document | None
    """The version before it; `None`: a sentence is added."""
    sentence: str
    """What is new after the change."""


def _copied(study: Path, spec: KnowledgeSpec, copy: Path) -> Path:
    """The documents, what describes them, and the index, in a folder of their own."""
    found = find_files(spec, study)
    paths = [file.path for file in found.files] + found.sidecars
    paths += [study / spec.metadata] if spec.metadata is not None else []
    for path in paths:
        target = copy / path.relative_to(study)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    index = index_folder(study, spec)
    if index.is_dir():
        shutil.copytree(index, index_folder(copy, spec), ignore=shutil.ignore_patterns("lock"))
    return copy


def _recorded_right(study: Study) -> dict[str, int]:
    """By case id, how many recorded answers were right; nothing where nothing was run."""
    from steelyard.engine.journal import Journal
    from steelyard.study.record import read_record
    from steelyard.study.scoring import journal_path

    path = journal_path(study.folder)
    if not path.exists():
        return {}
    right: dict[str, int] = {}
    with Journal.open(path, read_only=True) as journal:
        if not journal.runs():
            return {}
        fingerprints = {
            name: one.fingerprint for name, one in read_record(journal, where=str(study.folder)).approaches.items()
        }
        for outcome in journal.outcomes(fingerprints, split="test"):
            right[outcome.case_id] = right.get(outcome.case_id, 0) + bool(outcome.success)
    return right


def _chosen(
    named: Sequence[str],
    documents: Sequence[Document],
    versions: Sequence[tuple[Document, Document]],
    stale: Sequence[StaleAnswer],
) -> list[_Edit]:
    """The changes to make: of the documents named, or those that matter most to the cases."""
    older = {newer.id: before for before, newer in versions}
    superseded = {before.id for before, _ in versions}
    newest = [one for one in documents if one.id not in superseded]
    alone = {one.source for one in documents if sum(other.source == one.source for other in documents) == 1}
    if named:
        return [_named(name, newest, older, alone) for name in named]
    weight = {one.id: sum(found.newer == one.id for found in stale) for one in newest}
    ranked = sorted(newest, key=lambda one: (-weight[one.id], one.id not in older, one.source))
    edits = (_edit(one, older.get(one.id)) for one in ranked if one.source in alone)
    found = [edit for edit in edits if edit is not None]
    versioned = [edit for edit in found if edit.older is not None]
    return (versioned or found)[:DOCUMENTS]


def _named(name: str, newest: Sequence[Document], older: dict[str, Document], alone: set[str]) -> _Edit:
    document = next((one for one in newest if name in (one.id, one.source)), None)
    edit = _edit(document, older.get(document.id)) if document is not None and document.source in alone else None
    if edit is None:
        what = f"{name!r} is no document that can be changed" if document else f"no newest document is called {name!r}"
        hint = "name a file by its path inside the study folder: its newest version, alone in its file"
        raise InputError(Problem(what=what, where="--document", hint=hint))
    return edit


def _edit(document: Document, older: Document | None) -> _Edit | None:
    """How a document can be changed; `None` where it cannot."""
    suffix = suffix_of(document.source)
    if older is not None and suffix_of(older.source) == suffix:
        new = [one for one in _sentences(document.text) if _words(one) not in _words(older.text)]
        if new:
            return _Edit(document, older, max(new, key=len))
    if suffix not in _PLAIN:
        return None
    return _Edit(document, None, f"The office for measurements of {document.title} is on floor 47 of building Zeta.")


def _sentences(text: str) -> list[str]:
    lines = (part.strip() for line in text.splitlines() for part in line.split(". "))
    return [one for one in lines if _WORDS[0] <= len(answer_tokens(one)) <= _WORDS[1] and not one.startswith("#")]


def _words(text: str) -> str:
    return f" {' '.join(answer_tokens(text))} "


def _with_text_of(older: bytes, newer: bytes, suffix: str) -> bytes:
    """The older file as a text of the newer document: what its front matter says of it stays."""
    if suffix not in _PLAIN:
        return older
    # Every byte is a letter of Latin-1, so that whatever the encoding is nothing is changed on the way.
    old, new = (content.decode("latin-1").replace("\r\n", "\n") for content in (older, newer))
    bodies = [split_front_matter(text, where=suffix)[1] for text in (old, new)]
    return (new[: len(new) - len(bodies[1])] + bodies[0]).encode("latin-1")


@dataclass(frozen=True, slots=True)
class _Anew:
    """Embeds a text anew that was embedded before, as one that nobody has seen yet would be."""

    inner: Embed

    @property
    def identity(self) -> str:
        """That of the embedder inside."""
        return self.inner.identity

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One by one: single texts are never remembered."""
        return np.concatenate([self.inner.embed([text]) for text in texts])


@dataclass(frozen=True, slots=True)
class _Bench:
    """The copy on which changes are made."""

    study: Path
    spec: KnowledgeSpec
    embed: Embed
    say: Callable[[str], None]

    def update(self, *, rebuild: bool = False) -> tuple[DocumentIndex, IndexBuild]:
        """Bring the index up to date."""
        folder = index_folder(self.study, self.spec)
        return build_index(self.spec, self.study, folder=folder, embed=self.embed, say=self.say, rebuild=rebuild)

    def size(self) -> tuple[int, int]:
        """Documents and chunks."""
        index, _ = self.update()
        return len(index.documents), index.n_chunks

    def measure(self, edit: _Edit) -> ChangeSeconds:
        """Make a change, update the index and search for what is new; then everything is as it was."""
        path = self.study / edit.document.source
        as_it_was = path.read_bytes()
        if edit.older is not None:
            older = (self.study / edit.older.source).read_bytes()
            path.write_bytes(_with_text_of(older, as_it_was, suffix_of(path.name)))
            self.update()
            changed = as_it_was
        else:
            changed = as_it_was.rstrip() + f"\n\n{edit.sentence}\n".encode()
        time.sleep(_SETTLED_S)
        notice = min(self.update()[1].seconds for _ in range(2))
        try:
            return self._timed(edit, path, changed, notice=notice)
        finally:
            path.write_bytes(as_it_was)
            self.update()

    def _timed(self, edit: _Edit, path: Path, changed: bytes, *, notice: float) -> ChangeSeconds:
        path.write_bytes(changed)
        started = time.perf_counter()
        index, build = self.update()
        updated = time.perf_counter()
        access = (*self.spec.access, *edit.document.facts.access)
        passages = index.search(edit.sentence, SearchSettings(k=_K), access=access)
        ended = time.perf_counter()
        wanted = _words(edit.sentence)
        noticing = min(notice, build.seconds - build.embed_seconds)
        return ChangeSeconds(
            document=edit.document.id,
            source=edit.document.source,
            change="new version" if edit.older is not None else "sentence added",
            notice=noticing,
            convert=build.seconds - build.embed_seconds - noticing,
            embed=build.embed_seconds,
            serve=ended - updated,
            total=ended - started,
            n_embedded=build.n_embedded,
            is_found=any(one.document == edit.document.id and wanted in _words(one.text) for one in passages),
        )
