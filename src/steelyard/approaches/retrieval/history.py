"""What an index has cost: how it was made, and how often the documents have changed since, as measured.

The ledger takes its setup from the last whole build, and its upkeep from the updates after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from steelyard.errors import Problem, StorageFailed

_FILE = "builds.jsonl"
_DAYS_A_MONTH = 365.25 / 12


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexBuild:
    """What building or updating an index did."""

    is_whole: bool
    """Whether there was nothing to start from."""
    n_documents: int
    n_chunks: int
    n_added: int
    """Documents that were not there before."""
    n_changed: int
    n_removed: int
    n_embedded: int
    """Chunks that were embedded; the others had been before."""
    tokens_embedded: int
    """Estimated."""
    seconds: float
    """Machine seconds of all of it."""
    embed_seconds: float
    reused: bool
    """Whether the index was found up to date."""
    skipped: tuple[Problem, ...] = ()
    """Files that could not be used, and other things to know."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Upkeep:
    """What an index took to make, and what keeping it up to date has taken since."""

    setup_seconds: float
    setup_tokens: int
    setup_chunks: int
    days: float
    """From the last whole build to the last look at the documents."""
    n_documents: int
    """At the last look."""
    n_changes: int
    """Documents that were added, changed or removed."""
    seconds: float
    """Machine seconds of all updates, looks that found nothing new included."""
    tokens: int
    chunks: int

    @property
    def months(self) -> float:
        """The time observed."""
        return self.days / _DAYS_A_MONTH

    @property
    def churn_per_month(self) -> float | None:
        """Share of the documents that changes in a month, measured; `None` before a day has passed."""
        return self.n_changes / self.n_documents / self.months if self.days >= 1 and self.n_documents else None

    @property
    def seconds_per_month(self) -> float | None:
        """Machine seconds of updates in a month, measured; `None` before a day has passed."""
        return self.seconds / self.months if self.days >= 1 else None

    @property
    def tokens_per_month(self) -> float | None:
        """Tokens embedded by updates in a month, measured; `None` before a day has passed."""
        return self.tokens / self.months if self.days >= 1 else None


def record_build(folder: Path, build: IndexBuild, *, at: datetime) -> None:
    """Add a build to the history that lies beside an index.

    Raises:
        StorageFailed: It cannot be written.
    """
    write_history(folder, with_build(list(_lines(folder)), build, at=at))


def with_build(lines: Sequence[dict[str, Any]], build: IndexBuild, *, at: datetime) -> list[dict[str, Any]]:
    """A history and one more build. Of looks in a row that found nothing new only the last is kept, with all seconds."""
    kept = list(lines)
    shape = {
        "at": at.isoformat(timespec="seconds"),
        **{key: value for key, value in asdict(build).items() if key != "skipped"},
    }
    if kept and kept[-1]["reused"] and build.reused:
        shape["seconds"] += kept.pop()["seconds"]
    return [*kept, shape]


def write_history(folder: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Write a whole history into the folder of an index.

    Raises:
        StorageFailed: It cannot be written.
    """
    part = folder / f"{_FILE}.part.txt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.write_bytes(b"".join(orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE) for one in lines))
        part.replace(folder / _FILE)
    except OSError as error:
        problem = Problem(what=f"the history of the index cannot be written ({error.strerror})", where=str(folder))
        raise StorageFailed(problem) from error


def read_upkeep(folder: Path) -> Upkeep | None:
    """What the history says since the last whole build; `None` where there is none."""
    lines = list(_lines(folder))
    whole = max((place for place, line in enumerate(lines) if line["is_whole"]), default=None)
    if whole is None:
        return None
    made, later = lines[whole], lines[whole + 1 :]
    last = lines[-1]
    return Upkeep(
        setup_seconds=made["seconds"],
        setup_tokens=made["tokens_embedded"],
        setup_chunks=made["n_embedded"],
        days=(datetime.fromisoformat(last["at"]) - datetime.fromisoformat(made["at"])).total_seconds() / 86_400,
        n_documents=last["n_documents"],
        n_changes=sum(line["n_added"] + line["n_changed"] + line["n_removed"] for line in later),
        seconds=sum(line["seconds"] for line in later),
        tokens=sum(line["tokens_embedded"] for line in later),
        chunks=sum(line["n_embedded"] for line in later),
    )


# ---- private --------------------------------------------------------------------------------------------------------

_NEEDED = {"at", *(one.name for one in fields(IndexBuild))} - {"skipped"}


def _lines(folder: Path) -> Iterator[dict[str, Any]]:
    """The builds so far; a damaged line is passed over, since it is no reason not to build."""
    with suppress(FileNotFoundError):
        for line in (folder / _FILE).read_bytes().splitlines():
            with suppress(orjson.JSONDecodeError):
                found = orjson.loads(line)
                if isinstance(found, dict) and found.keys() >= _NEEDED:
                    yield found
