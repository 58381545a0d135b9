"""The study's own functions (`checks.py:total_adds_up`), and scoring that may use them.

The file is the user's own code, as trusted as the command that names it; it is loaded once, from inside the study
folder only, under a name that no other module has.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from steelyard.errors import InputError, Problem
from steelyard.task.spec import FieldScoring, TaskSpec
from steelyard.task.task import ScoreFunction

LoadFunction = Callable[[str, str], tuple[Callable[..., Any], str]]
"""From `FILE.py:NAME` and the place it is named at to the function and the digest of its file."""


def load_function(reference: str, folder: Path, *, where: str) -> tuple[Callable[..., Any], str]:
    """A function of the study folder, and the digest of the file it stands in.

    Args:
        reference: `FILE.py:NAME`.
        folder: The study folder; the file must lie inside it.
        where: Field of study.yaml, for messages.

    Raises:
        InputError: It is not written so, the file is not there or lies outside, it cannot be loaded, or it has no such
            function.
    """
    file, _, name = reference.partition(":")
    if not file.endswith(".py") or not name.isidentifier():
        raise InputError(
            Problem(
                what=f"{reference!r} names no function", where=where, hint="write it FILE.py:NAME, as checks.py:adds_up"
            )
        )
    root = folder.resolve()
    path = (root / file).resolve()
    if not path.is_relative_to(root):
        raise InputError(
            Problem(what=f"{file!r} lies outside the study folder", where=where, hint="copy it into the folder")
        )
    try:
        source = path.read_bytes()
    except OSError as error:
        raise InputError(Problem(what=f"{file!r} cannot be read ({error.strerror})", where=where)) from error
    digest = hashlib.blake2b(source, digest_size=16).hexdigest()
    module = _loaded(path, digest, where=where)
    found = getattr(module, name, None)
    if not callable(found):
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(names) or 'none'}"
        raise InputError(Problem(what=f"{file} has no function {name!r}", where=where, hint=hint))
    return found, digest


def resolve_scoring(
    spec: TaskSpec, folder: Path
) -> tuple[Mapping[str, FieldScoring], Mapping[str, ScoreFunction], Mapping[str, str]]:
    """Scoring of every expected field, with the study's own functions loaded and the patterns tried.

    Raises:
        InputError: A function cannot be loaded, or a pattern is none; lists every problem found.
    """
    stated = spec.scoring or {}
    scoring = {name: stated.get(name, FieldScoring()) for name in spec.expected}
    functions: dict[str, ScoreFunction] = {}
    digests: dict[str, str] = {}
    problems: list[Problem] = []
    for name, one in scoring.items():
        where = f"study.yaml:task.scoring.{name}"
        problems += _bad_patterns(one, where)
        if one.function is not None:
            try:
                functions[one.function], digests[one.function] = load_function(
                    one.function, folder, where=f"{where}.function"
                )
            except InputError as error:
                problems += error.problems
    if problems:
        raise InputError(problems)
    return scoring, functions, digests


# ---- private --------------------------------------------------------------------------------------------------------


def _loaded(path: Path, digest: str, *, where: str) -> object:
    # Path and digest in the name: an edited file is another module, and two studies may both have a checks.py.
    key = hashlib.blake2b(f"{path}:{digest}".encode(), digest_size=16).hexdigest()
    specification = importlib.util.spec_from_file_location(f"steelyard_study_{path.stem}_{key}", path)
    assert specification is not None
    assert specification.loader is not None
    known = sys.modules.get(specification.name)
    if known is not None:
        return known
    module = importlib.util.module_from_spec(specification)
    # Annotations that are text, as with `from __future__ import annotations`, are looked up in the module by its name.
    sys.modules[specification.name] = module
    try:
        specification.loader.exec_module(module)
    except Exception as error:  # the study's own code may raise anything
        del sys.modules[specification.name]
        raise InputError(
            Problem(what=f"{path.name} cannot be loaded: {type(error).__name__}: {error}", where=where)
        ) from error
    return module


def _bad_patterns(scoring: FieldScoring, where: str) -> Iterator[Problem]:
    if scoring.pattern is not None:
        try:
            re.compile(scoring.pattern)
        except re.error as error:
            yield Problem(what=f"the pattern is no regular expression: {error}", where=f"{where}.pattern")
    for name, inner in (scoring.fields or {}).items():
        yield from _bad_patterns(inner, f"{where}.fields.{name}")
