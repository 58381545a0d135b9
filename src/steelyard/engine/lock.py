"""One process at a time works on a study; the second is told so in a sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from steelyard.engine.writer import storage_failed
from steelyard.errors import Problem, StudyLocked


@contextmanager
def study_lock(study_folder: Path) -> Iterator[None]:
    """Hold the study; the operating system lets go of it when the process dies, however it dies.

    Args:
        study_folder: Folder of study.yaml; the lock lies in its `.steelyard/`.

    Raises:
        StudyLocked: Another process holds it.
        StorageFailed: The folder cannot be written.
    """
    folder = study_folder / ".steelyard"
    # Kept apart from the lock, since opening a lock file may empty it.
    holder = folder / "lock.pid"
    lock = FileLock(folder / "lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        holder.write_text(f"{os.getpid()}\n", encoding="ascii")
    except Timeout:
        raise StudyLocked(
            Problem(
                what=f"another process{_who(holder)} is working on this study",
                where=str(study_folder),
                hint="wait until it has finished, or stop it",
            )
        ) from None
    except OSError as error:
        lock.release()
        raise storage_failed(error, str(folder)) from None
    try:
        yield
    finally:
        with suppress(OSError):
            holder.unlink()
        lock.release()


def _who(holder: Path) -> str:
    try:
        return f" (process id {int(holder.read_text(encoding='ascii'))})"
    except (OSError, ValueError):
        return ""
