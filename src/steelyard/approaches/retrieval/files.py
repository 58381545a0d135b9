"""Which files the `knowledge:` section names, and their bytes: nothing outside the study folder, nothing without end."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from steelyard.approaches.knowledge_spec import KnowledgeSpec
from steelyard.approaches.retrieval.converters import CONVERTERS, suffix_of
from steelyard.errors import InputError, Problem

SUFFIXES = (*CONVERTERS, ".jsonl")
_SETTLED_S = 2.0
"""Coarsest steps in which file systems in use keep times."""
SIDECARS = ("documents.yaml", "documents.yml", "documents.csv")
"""Files in a named folder that describe its documents, and are none themselves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """A file that may hold documents."""

    path: Path
    name: str
    """Path inside the study folder, with forward slashes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A file as it was when it was last read."""

    stamp: str
    """Size, times and number of the file; empty where they would not show the next change."""
    content: str
    """Digest of its bytes."""
    key: str
    """Digest of all that its documents follow from."""


@dataclass(kw_only=True, slots=True)
class Found:
    """The files of a `knowledge:` section."""

    files: list[SourceFile] = field(default_factory=list)
    """In the order of their names."""
    sidecars: list[Path] = field(default_factory=list)
    skipped: list[Problem] = field(default_factory=list)
    """What was left out, and why."""


def find_files(spec: KnowledgeSpec, study: Path) -> Found:
    """List the files.

    Links are followed inside the study folder, each folder once, so that no loop of links is walked twice; hidden
    files are not looked at.

    Raises:
        InputError: A named folder or file is not there or lies outside the study folder.
    """
    root = study.resolve()
    found = Found()
    problems: list[Problem] = []
    seen: set[Path] = set()
    others: Counter[str] = Counter()
    for position, written in enumerate(spec.documents):
        where = f"study.yaml:knowledge.documents.{position}"
        start = study / written
        real = _real(start)
        if not real.is_relative_to(root):
            hint = "copy the documents into the folder; a link to them does not do"
            problems.append(Problem(what=f"{written!r} lies outside the study folder", where=where, hint=hint))
        elif real.is_dir():
            found.sidecars += [start / name for name in SIDECARS if (start / name).is_file()]
            for path in _walk(start, root, seen, found.skipped):
                if path.name in SIDECARS:
                    continue
                if suffix_of(path.name) in SUFFIXES:
                    found.files.append(SourceFile(path=path, name=_name(path, study)))
                else:
                    others[suffix_of(path.name) or "no suffix"] += 1
        elif real.is_file():
            if suffix_of(written) not in SUFFIXES:
                hint = f"convert it; documents are {', '.join(SUFFIXES)}"
                problems.append(Problem(what=f"{written!r} is no kind of document", where=where, hint=hint))
            elif real not in seen:
                seen.add(real)
                found.files.append(SourceFile(path=start, name=_name(start, study)))
        else:
            problems.append(Problem(what=f"there is no {written!r}", where=where, hint=f"it is looked for in {study}"))
    if problems:
        raise InputError(problems)
    if others:
        kinds = ", ".join(f"{n} {suffix}" for suffix, n in sorted(others.items()))
        found.skipped.append(Problem(what=f"files of other kinds were left out: {kinds}", where="knowledge"))
    found.files.sort(key=lambda file: file.name)
    return found


def stamp_of(file: SourceFile, *, now: float) -> str:
    """Size, times and number of a file, by which one that has not changed is told without reading it.

    Empty for a file that is gone, and for one that changed within the last seconds: it may change again and show the
    same times. The time of the last change of the entry (ctime) is part of it, since copying tools set the other.

    Args:
        file: The file.
        now: Seconds since the epoch.
    """
    try:
        found = file.path.stat()
    except OSError:
        return ""
    if now - max(found.st_mtime, found.st_ctime) < _SETTLED_S:
        return ""
    return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}:{found.st_ino}"


def read_bytes(file: SourceFile, *, limit_mb: float) -> bytes | Problem:
    """The content of a file, or why there is none; never more than the limit is held in memory."""
    limit = int(limit_mb * 1_000_000)
    try:
        with file.path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            content = stream.read(limit + 1) if size <= limit else None
    except FileNotFoundError:
        return Problem(what="the file went away while documents were read", where=file.name, hint="nothing to do")
    except OSError as error:
        return Problem(what=f"the file cannot be read: {error.strerror or error}", where=file.name)
    if content is None or len(content) > limit:
        return Problem(
            what=f"the file has {max(size, limit) / 1e6:,.0f} MB; at most {limit_mb:g} MB are read",
            where=file.name,
            hint="split it, or raise knowledge.max_file_mb",
        )
    return content


# ---- private --------------------------------------------------------------------------------------------------------


def _name(path: Path, study: Path) -> str:
    return os.path.normpath(path.relative_to(study)).replace(os.sep, "/")


def _real(path: Path) -> Path:
    """Where a path really lies; one that is a circle of links stays as it is, where `Path.resolve` would raise."""
    return Path(os.path.realpath(path))


def _walk(start: Path, root: Path, seen: set[Path], skipped: list[Problem]) -> Iterator[Path]:
    """Files below a folder: real ones first, so that a file and a link to it come out as the file."""
    links: list[Path] = []
    # Of each thing how it is reached and where it really lies; only links have to be resolved.
    queue = [(start, start.resolve())]
    while queue or links:
        if queue:
            path, real = queue.pop()
        else:
            path = links.pop(0)
            real = _real(path)
            if not real.is_relative_to(root):
                what = "the link leads out of the study folder and was not followed"
                skipped.append(Problem(what=what, where=str(path), hint="copy the document into the folder"))
                continue
            if not real.exists():
                what = "the link leads nowhere, or in a circle"
                skipped.append(Problem(what=what, where=str(path), hint="remove it"))
                continue
        if real in seen:
            continue
        seen.add(real)
        if real.is_file():
            yield path
        elif real.is_dir():  # and no broken link, pipe or device
            try:
                entries = sorted(os.scandir(path), key=lambda entry: entry.name)
            except OSError as error:
                skipped.append(Problem(what=f"the folder cannot be read: {error.strerror or error}", where=str(path)))
                continue
            shown = [entry for entry in entries if not entry.name.startswith((".", "~$"))]
            links += [Path(entry.path) for entry in shown if entry.is_symlink()]
            queue += [(path / entry.name, real / entry.name) for entry in shown if not entry.is_symlink()]
