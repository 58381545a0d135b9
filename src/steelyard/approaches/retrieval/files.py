"""Which files the `knowledge:` section names, and their bytes: nothing outside the study folder, nothing without end."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from steelyard.approaches.retrieval.converters import CONVERTERS, suffix_of
from steelyard.approaches.retrieval.spec import KnowledgeSpec
from steelyard.errors import InputError, Problem

SUFFIXES = (*CONVERTERS, ".jsonl")
SIDECARS = ("documents.yaml", "documents.yml", "documents.csv")
"""Files in a named folder that describe its documents, and are none themselves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """A file that may hold documents."""

    path: Path
    name: str
    """Path inside the study folder, with forward slashes."""


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
        real = start.resolve()
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
    return Path(os.path.relpath(path, study)).as_posix()


def _walk(start: Path, root: Path, seen: set[Path], skipped: list[Problem]) -> Iterator[Path]:
    """Files below a folder: real ones first, so that a file and a link to it come out as the file."""
    queue: list[Path] = [start]
    links: list[Path] = []
    while queue or links:
        folder = queue.pop() if queue else links.pop(0)
        real = folder.resolve()
        if folder.is_symlink() and not real.is_relative_to(root):
            what = "the link leads out of the study folder and was not followed"
            skipped.append(Problem(what=what, where=_name(folder, root), hint="copy the document into the folder"))
            continue
        if real in seen:
            continue
        if real.is_file():
            seen.add(real)
            yield folder
            continue
        if not real.is_dir():  # a broken link, a pipe, a device
            continue
        seen.add(real)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            skipped.append(Problem(what=f"the folder cannot be read: {error.strerror or error}", where=str(folder)))
            continue
        for entry in entries:
            if entry.name.startswith((".", "~$")):
                continue
            if entry.is_symlink():
                links.append(Path(entry.path))
            elif entry.is_file() or entry.is_dir():
                queue.append(Path(entry.path))
