"""The documents of a study: each file read, converted and described; what cannot be read is told, never dropped unsaid."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from steelyard.approaches.knowledge_spec import KnowledgeSpec
from steelyard.approaches.retrieval.blocks import Block, as_text, parse_markdown
from steelyard.approaches.retrieval.converters import CONVERTING, convert, suffix_of, text_of
from steelyard.approaches.retrieval.files import SUFFIXES, Seen, SourceFile, find_files, read_bytes, stamp_of
from steelyard.approaches.retrieval.metadata import Facts, read_facts, read_sidecar, split_front_matter
from steelyard.cases.formats import csv_rows, json_rows
from steelyard.errors import InputError, MissingExtra, Problem

_FRONT_MATTER = (".md", ".markdown", ".txt")


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A document, in one version."""

    id: str
    """As stated, else the path inside the study folder (with the line, where a file holds several documents)."""
    title: str
    source: str
    """Path of its file inside the study folder."""
    facts: Facts
    blocks: tuple[Block, ...]

    @property
    def text(self) -> str:
        """The whole document as Markdown."""
        return as_text(self.blocks)

    @property
    def digest(self) -> str:
        """Content address of text and facts, 32 hexadecimal characters."""
        return _digest([self.id, self.title, self.source, self.facts, self.text])


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRead:
    """One file that was read."""

    source: str
    seen: Seen
    documents: tuple[Document, ...] | None
    """`None`: nothing has changed since it was last seen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Knowledge:
    """All documents of a study."""

    files: tuple[FileRead, ...]
    skipped: tuple[Problem, ...]
    """Files and links that could not be used, and why."""

    @property
    def documents(self) -> tuple[Document, ...]:
        """The documents that were read anew; without `known`, all of them."""
        return tuple(document for file in self.files for document in file.documents or ())


def read_knowledge(
    spec: KnowledgeSpec, study: Path, *, known: Callable[[str], Seen | None] = lambda source: None
) -> Knowledge:
    """Read the documents a study names.

    Args:
        spec: Which they are.
        study: The study folder.
        known: From the path of a file to how it was last seen. One that has not changed is not read again by its
            times, or not converted again by its content.

    Raises:
        InputError: There is no document, what describes them is wrong, or two have the same id among those read.
        MissingExtra: A file needs a converter that is not installed.
    """
    found = find_files(spec, study)
    described = _described(spec, study, found.sidecars, {file.name for file in found.files})
    skipped = list(found.skipped)
    problems: list[Problem] = []
    files: list[FileRead] = []
    now = time.time()
    for file in found.files:
        said = described.get(file.name, {})
        before = known(file.name)
        stamp = stamp_of(file, now=now)
        is_as_seen = before is not None and bool(stamp) and stamp == before.stamp
        if before is not None and is_as_seen and before.key == _key(file, said, spec, before.content):
            files.append(FileRead(source=file.name, seen=before, documents=None))
            continue
        content = read_bytes(file, limit_mb=spec.max_file_mb)
        if isinstance(content, Problem):
            skipped.append(content)
            continue
        digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        seen = Seen(stamp=stamp, content=digest, key=_key(file, said, spec, digest))
        if before is not None and before.key == seen.key:
            files.append(FileRead(source=file.name, seen=seen, documents=None))
            continue
        documents: list[Document] = []
        try:
            parts = list(_parts(file, content))
        except MissingExtra:
            raise
        except InputError as error:
            skipped += error.problems
            continue
        for own, blocks, place in parts:
            try:
                document = _document(file, {**own, **said}, blocks, place, spec)
            except InputError as error:
                problems += error.problems
                continue
            if document.blocks:
                documents.append(document)
            else:
                hint = "scanned pages need text recognition first" if suffix_of(file.name) == ".pdf" else None
                skipped.append(Problem(what="the document holds no text", where=place, hint=hint))
        if documents:  # a file without any is read and told of again next time
            files.append(FileRead(source=file.name, seen=seen, documents=tuple(documents)))
    if problems:
        raise InputError(problems)
    if not files:
        hint = f"put files there that end in {', '.join(SUFFIXES)}"
        none = Problem(what="there is no document", where="study.yaml:knowledge.documents", hint=hint)
        raise InputError([none, *skipped])
    return Knowledge(files=tuple(files), skipped=tuple(skipped))


# ---- private --------------------------------------------------------------------------------------------------------


def _described(
    spec: KnowledgeSpec, study: Path, sidecars: Sequence[Path], names: set[str]
) -> dict[str, Mapping[str, Any]]:
    """What sidecar files say, by path inside the study folder."""
    if spec.metadata is not None:
        path = study / spec.metadata
        where = "study.yaml:knowledge.metadata"
        if not path.resolve().is_relative_to(study.resolve()):
            raise InputError(Problem(what=f"{spec.metadata!r} lies outside the study folder", where=where))
        if not path.is_file():
            raise InputError(
                Problem(what=f"there is no {spec.metadata!r}", where=where, hint="name a YAML or CSV file")
            )
        sidecars = [path]
    found: dict[str, Mapping[str, Any]] = {}
    problems: list[Problem] = []
    for sidecar in sidecars:
        folder = sidecar.parent.relative_to(study)
        shown = (folder / sidecar.name).as_posix()
        for written, said in read_sidecar(sidecar, name=shown).items():
            name = (folder / written).as_posix()
            if name not in names:
                hint = "paths start from the folder of this file"
                problems.append(Problem(what=f"there is no document {written!r}", where=shown, hint=hint))
            found[name] = {key: value for key, value in said.items() if key != "path"}
    if problems:
        raise InputError(problems)
    return found


def _parts(file: SourceFile, content: bytes) -> Iterator[tuple[Mapping[str, Any], list[Block], str]]:
    """What a file holds: for each document what it says of itself, its blocks, and its place for messages."""
    suffix = suffix_of(file.name)
    if suffix in _FRONT_MATTER:
        own, text = split_front_matter(text_of(file.name, content), where=file.name)
        yield own, convert(file.name, text.encode()), file.name
        return
    if suffix == ".jsonl" or (suffix in (".csv", ".tsv") and _has_text_column(file.name, content)):
        yield from _records(file.name, content, suffix)
        return
    yield {}, convert(file.name, content), file.name


def _has_text_column(name: str, content: bytes) -> bool:
    if not content.strip():
        return False
    header, _ = csv_rows(name, content, [])
    return "text" in header


def _records(name: str, content: bytes, suffix: str) -> Iterator[tuple[Mapping[str, Any], list[Block], str]]:
    """One document a row: a column or field `text`, and what is said about it in the others."""
    problems: list[Problem] = []
    rows: Iterator[tuple[Mapping[str, Any], int]]
    if suffix == ".jsonl":
        rows = json_rows(name, content, problems)
    else:
        header, cells = csv_rows(name, content, problems)
        rows = ((dict(zip(header, (cell or None for cell in row), strict=True)), line) for row, line in cells)
    for row, line in rows:
        place = f"{name}:{line}"
        text = row.get("text")
        if not isinstance(text, str):
            problems.append(
                Problem(what="the row has no text", where=f"{place}:text", hint="give each document a text")
            )
            continue
        yield (
            {"id": place, **{key: value for key, value in row.items() if value is not None}},
            parse_markdown(text),
            place,
        )
    if problems:
        raise InputError(problems)


def _document(
    file: SourceFile, said: Mapping[str, Any], blocks: Sequence[Block], place: str, spec: KnowledgeSpec
) -> Document:
    facts = read_facts(said, where=place)
    facts = replace(facts, access=tuple(sorted({*facts.access, *spec.access})))
    first = next((block.text for block in blocks if block.level == 1), None)
    stem = Path(file.name).stem.replace("-", " ").replace("_", " ")
    return Document(
        id=facts.id or file.name,
        title=facts.title or first or stem,
        source=file.name,
        facts=facts,
        blocks=tuple(blocks),
    )


def _key(file: SourceFile, said: Mapping[str, Any], spec: KnowledgeSpec, content: str) -> str:
    return _digest([CONVERTING, file.name, said, spec.access, content])


def _digest(body: object) -> str:
    # Dates in YAML, and in facts, are written as text.
    return hashlib.blake2b(orjson.dumps(body, default=str), digest_size=16).hexdigest()
