"""The history of verdicts: one line for every verdict that differs from the one before, in a file that only grows.

A line says when, what was chosen and how surely, and what that rested on: money, goal, prices, outcomes and the versions
of the approaches. Reports do not read it: they stay a pure function of the journal.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import orjson

from steelyard.decision.verdict import Verdict
from steelyard.errors import Problem, StorageFailed

HISTORY_FILE = "verdicts.jsonl"
RECORD_SCHEMA = "steelyard.verdict-record/1"

FigureJson = Mapping[str, Any]
"""A figure as `Figure.to_json` writes it."""

Kind = Literal["decide", "recheck", "accepted"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Basis:
    """What a verdict rests on."""

    settings: Mapping[str, Any]
    """`money`, `goal` and, as far as there are any, `prices`, `retired` and `approaches`, as plain JSON."""
    outcomes: Mapping[str, Mapping[str, Any]]
    """By approach: `cases`, `fingerprint` of its version, `digest` of what came out."""

    @property
    def digest(self) -> str:
        """The same for the same basis; 32 hexadecimal characters."""
        body = {"settings": self.settings, "outcomes": self.outcomes}
        return hashlib.blake2b(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class VerdictRecord:
    """One verdict of the history."""

    kind: Kind
    """`decide`; `recheck`, which was only looked at; or `accepted`, a recheck that was taken over."""
    date: str
    """ISO date on which it was reached."""
    as_of: str
    """ISO date of its figures."""
    choice: str | None
    leader: str | None
    """The choice, or who would be it."""
    sentence: str
    p_best: FigureJson
    expected_monthly_loss_usd: FigureJson
    cost_per_success_usd: Mapping[str, FigureJson]
    """By approach."""
    basis: Basis

    def to_json(self) -> dict[str, Any]:
        """One line of the history."""
        return {
            "schema": RECORD_SCHEMA,
            "kind": self.kind,
            "date": self.date,
            "as_of": self.as_of,
            "choice": self.choice,
            "leader": self.leader,
            "sentence": self.sentence,
            "p_best": dict(self.p_best),
            "expected_monthly_loss_usd": dict(self.expected_monthly_loss_usd),
            "cost_per_success_usd": dict(self.cost_per_success_usd),
            "digest": self.basis.digest,
            "settings": self.basis.settings,
            "outcomes": {name: dict(one) for name, one in self.basis.outcomes.items()},
        }


def record_of(verdict: Verdict, basis: Basis, *, kind: Kind, date: str) -> VerdictRecord:
    """A verdict as the history keeps it."""
    shape = verdict.to_json()
    in_the_running = [standing for standing in verdict.standings if standing.excluded_because is None]
    return VerdictRecord(
        kind=kind,
        date=date,
        as_of=verdict.as_of,
        choice=verdict.choice,
        leader=verdict.choice or (in_the_running[0].name if in_the_running and verdict.p_best is not None else None),
        sentence=verdict.sentence,
        p_best=shape["p_best"],
        expected_monthly_loss_usd=shape["expected_monthly_loss_usd"],
        cost_per_success_usd={one["name"]: one["cost_per_success_usd"] for one in shape["standings"]},
        basis=basis,
    )


def read_history(path: Path) -> tuple[VerdictRecord, ...]:
    """All verdicts, oldest first; a line that a killed process left unfinished is passed over."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise _unusable(path, error) from error
    return tuple(record for line in data.splitlines() if (record := _record_from(line)) is not None)


def keep(path: Path, record: VerdictRecord) -> bool:
    """Append a verdict, unless the last one of its kind says the same but for the day on which it was reached.

    Several processes may do so at the same time; a line is there whole or not at all.

    Returns:
        Whether it was appended.

    Raises:
        StorageFailed: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file, _alone(file):
            file.seek(0)
            data = file.read()
            last = next((one for line in reversed(data.splitlines()) if (one := _same_kind(line, record))), None)
            if last is not None and _undated(last) == _undated(record):
                return False
            line = orjson.dumps(record.to_json(), option=orjson.OPT_APPEND_NEWLINE)
            # A line that was cut off is closed first, so that it costs only itself.
            file.write(line if not data or data.endswith(b"\n") else b"\n" + line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _unusable(path, error) from error
    return True


# --- private ---------------------------------------------------------------------------------------------------------


def _record_from(line: bytes) -> VerdictRecord | None:
    try:
        shape = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(shape, dict) or shape.pop("schema", None) != RECORD_SCHEMA:
        return None
    shape.pop("digest", None)
    try:
        basis = Basis(settings=shape.pop("settings"), outcomes=shape.pop("outcomes"))
        return VerdictRecord(basis=basis, **shape)
    except (KeyError, TypeError):  # written by a version that kept something else
        return None


def _same_kind(line: bytes, record: VerdictRecord) -> VerdictRecord | None:
    found = _record_from(line)
    return found if found is not None and found.kind == record.kind else None


def _undated(record: VerdictRecord) -> dict[str, Any]:
    shape = record.to_json()
    del shape["date"]
    # A recheck is always of today, so its day says nothing either.
    if record.kind != "decide":
        del shape["as_of"]
    plain: dict[str, Any] = orjson.loads(orjson.dumps(shape))
    return plain


@contextmanager
def _alone(file: BinaryIO) -> Iterator[None]:
    """Hold the file against other processes; the operating system lets go of it when the process dies."""
    if sys.platform == "win32":
        yield  # one write of a whole line is all there is
        return
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _unusable(path: Path, error: OSError) -> StorageFailed:
    problem = Problem(
        where=str(path), what=f"the history of verdicts cannot be used: {error.strerror}", hint="check the folder"
    )
    return StorageFailed(problem)
