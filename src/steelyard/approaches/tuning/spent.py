"""What a training has really spent, parts of it that were killed included."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from steelyard.errors import Problem, StorageFailed


class Spent:
    """Seconds and processor seconds of one training, noted in a file about once a second.

    A training that is killed has spent what it has spent, also for steps that have to be done again; it is lost only
    from the last note on.

    Args:
        file: Where it is noted; made at the first note.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seconds, self._cpu_seconds = _read(file)
        self._started, self._started_cpu = time.monotonic(), time.process_time()
        self._noted = self._started

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of all parts."""
        return self._seconds + time.monotonic() - self._started

    @property
    def cpu_seconds(self) -> float:
        """Processor seconds of all parts, all threads."""
        return self._cpu_seconds + time.process_time() - self._started_cpu

    def note(self, *, now: bool = False) -> None:
        """Write it down, if a second has gone by since the last time or `now`.

        Raises:
            StorageFailed: It cannot be written.
        """
        if not now and time.monotonic() - self._noted < 1:
            return
        self._noted = time.monotonic()
        partial = self._file.with_name(f".{self._file.name}.partial")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps({"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}), encoding="utf-8")
            os.replace(partial, self._file)
        except OSError as error:
            what = f"what the training has spent cannot be noted ({error})"
            hint = "make room there; the same command then goes on from the last checkpoint"
            raise StorageFailed(Problem(what=what, where=str(self._file), hint=hint)) from error


def _read(file: Path) -> tuple[float, float]:
    try:
        found = json.loads(file.read_bytes())
        return float(found["seconds"]), float(found["cpu_seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0, 0.0
