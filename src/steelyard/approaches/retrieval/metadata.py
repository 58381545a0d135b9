"""What is said about documents: YAML front matter, and a file beside them that describes them by path."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import yaml

from steelyard.errors import InputError, Problem

Value = str | int | float | bool
_OWN = ("id", "title", "valid_from", "valid_to", "supersedes", "version_of", "access")
_MAX_FRONT_MATTER = 65_536


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is known of a document besides its text."""

    id: str | None = None
    title: str | None = None
    valid_from: date | None = None
    """First day it holds; `None` is ever since."""
    valid_to: date | None = None
    """Last day it holds; `None` is for ever."""
    supersedes: str | None = None
    """Id of the version it takes the place of."""
    version_of: str | None = None
    """Name that all versions of one document share."""
    access: tuple[str, ...] = ()
    """Tags a question must carry, all of them, to see it."""
    metadata: Mapping[str, Value | tuple[Value, ...]] = field(default_factory=dict)
    """Everything else, for filters."""


def read_facts(said: Mapping[str, Any], *, where: str) -> Facts:
    """Check what is said about one document. What is nested deeper than a list is not kept.

    Raises:
        InputError: A date, id or tag is not one; lists every problem found.
    """
    problems: list[Problem] = []
    texts = {key: _text(said.get(key), key, where, problems) for key in ("id", "title", "supersedes", "version_of")}
    dates = {key: _date(said.get(key), key, where, problems) for key in ("valid_from", "valid_to")}
    start, end = dates["valid_from"], dates["valid_to"]
    if start is not None and end is not None and end < start:
        what = f"valid_to {end} lies before valid_from {start}"
        problems.append(Problem(what=what, where=f"{where}:valid_to", hint="valid_to is the last day it holds"))
    access = said.get("access")
    tags = [tag.strip() for tag in access.split(";")] if isinstance(access, str) else access or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) and tag for tag in tags):
        hint = "write access: [hr, managers]; in a CSV file hr;managers"
        problems.append(
            Problem(what=f"access is not a list of tags: {_said(access)}", where=f"{where}:access", hint=hint)
        )
        tags = []
    others = {**_mapping(said.get("meta")), **_mapping(said.get("metadata"))}
    others |= {key: value for key, value in said.items() if key not in (*_OWN, "meta", "metadata", "text", "path")}
    if problems:
        raise InputError(problems)
    kept = {str(key): _plain(value) for key, value in others.items()}
    return Facts(
        id=texts["id"],
        title=texts["title"],
        valid_from=start,
        valid_to=end,
        supersedes=texts["supersedes"],
        version_of=texts["version_of"],
        access=tuple(sorted(set(tags))),
        metadata={key: value for key, value in sorted(kept.items()) if value is not None},
    )


def split_front_matter(text: str, *, where: str) -> tuple[Mapping[str, Any], str]:
    """The YAML between `---` lines that a text begins with, and the text after it.

    Raises:
        InputError: It is not YAML.
    """
    if not text.startswith("---\n"):
        return {}, text
    end = text.find("\n---", 3, _MAX_FRONT_MATTER)
    if end < 0 or text[end + 4 : end + 5] not in ("", "\n"):
        return {}, text  # a rule at the top of the page, and no front matter
    said = _yaml(text[4 : end + 1], where=where)
    if not isinstance(said, dict):
        return {}, text
    return said, text[end + 5 :]


def read_sidecar(path: Path, *, name: str) -> dict[str, Mapping[str, Any]]:
    """Metadata by path of the document, relative to the folder of the file.

    YAML: a mapping from path to fields, or a list of mappings with a `path`. CSV: a column `path`.

    Raises:
        InputError: It is neither, or names a path twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            Problem(what=f"the file cannot be read: {error}", where=name, hint="save it as UTF-8")
        ) from error
    rows: list[Any]
    if path.suffix == ".csv":
        cells = csv.DictReader(io.StringIO(text))
        rows = [{key: value for key, value in row.items() if key and value not in (None, "")} for row in cells]
    else:
        said = _yaml(text, where=name)
        rows = said if isinstance(said, list) else []
        if isinstance(said, dict):
            rows = [{"path": key, **_mapping(value)} for key, value in said.items()]
    found: dict[str, Mapping[str, Any]] = {}
    for number, row in enumerate(rows, 1):
        where = f"{name}:{number}"
        if not isinstance(row, dict) or not isinstance(row.get("path"), str):
            raise InputError(Problem(what="the entry has no path", where=where, hint="give each document its path"))
        key = Path(row["path"]).as_posix()
        if key in found:
            raise InputError(Problem(what=f"{key!r} stands here a second time", where=where, hint="keep one of them"))
        found[key] = row
    return found


# ---- private --------------------------------------------------------------------------------------------------------


def _yaml(text: str, *, where: str) -> Any:  # noqa: ANN401 - anything can stand in a YAML file
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2024-02-31
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        place = f"{where}:{mark.line + 2}" if mark else where
        hint = "quote values that hold ': '; dates are YYYY-MM-DD"
        raise InputError(
            Problem(what=f"what describes the document is not valid YAML: {what}", where=place, hint=hint)
        ) from None


def _mapping(value: object) -> Mapping[str, Any]:
    return {str(key): one for key, one in value.items()} if isinstance(value, dict) else {}


def _text(value: object, key: str, where: str, problems: list[Problem]) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool | dict | list) or not str(value).strip():
        problems.append(Problem(what=f"{key} is not a name: {_said(value)}", where=f"{where}:{key}"))
        return None
    return " ".join(str(value).split())


def _date(value: object, key: str, where: str, problems: list[Problem]) -> date | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        return datetime.fromisoformat(value.strip() if isinstance(value, str) else "").date()
    except ValueError:
        what = f"{key} is not a date: {_said(value)}"
        problems.append(Problem(what=what, where=f"{where}:{key}", hint="write it as YYYY-MM-DD"))
        return None


def _said(value: object) -> str:
    """A value for a message; only of plain ones the value itself, since YAML can write endless ones in a few lines."""
    return repr(value)[:80] if isinstance(value, str | bool | int | float) else f"a {type(value).__name__}"


def _plain(value: object) -> Value | tuple[Value, ...] | None:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list) and all(isinstance(one, str | bool | int | float) for one in value):
        return tuple(value)
    return None
