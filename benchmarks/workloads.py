"""The work every contender does, and how a contender's process says what it took.

Standard library only: peers import this in environments without Steelyard.

A job is one contender on one workload. It is a JSON file whose path is the only argument of the contender's process.
The process reads the job, does it inside `measured()`, and so prints one line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

INSTRUCTION = "Sort the support ticket into one category, by the issue the customer asks to have solved first."
LABELS = ("delivery", "device fault", "billing error", "refund", "login", "cancellation", "returns", "other")
MAX_TOKENS = 16
_WORDS = "the parcel with order number has not come and nobody picks up the phone " * 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """So many cases, asked so many at a time, of a model that takes so long."""

    name: str
    n_cases: int
    latency_ms: float
    in_flight: int

    def __str__(self) -> str:
        return f"{self.name}: {self.n_cases:,} cases, {self.latency_ms:g} ms, {self.in_flight} in flight"


A = Workload(name="A", n_cases=2_000, latency_ms=0, in_flight=64)
B = Workload(name="B", n_cases=2_000, latency_ms=100, in_flight=100)
C = Workload(name="C", n_cases=20_000, latency_ms=20, in_flight=200)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One contender's order."""

    url: str
    """Address of the stub, up to and including `/v1`."""
    folder: str
    """Folder of this run alone, for logs, caches and journals."""
    n_cases: int
    in_flight: int

    def tickets(self) -> Iterator[tuple[str, str, str]]:
        """Id, text and right label of each case; every text is another, so that no cache answers."""
        for number in range(self.n_cases):
            yield f"ticket-{number}", f"{_WORDS}{number}", LABELS[0]


def write_job(job: Job, path: Path) -> None:
    """Write what `read_job` reads."""
    path.write_text(json.dumps(asdict(job)), encoding="utf-8")


def read_job() -> Job:
    """The job this process was started for; from here on the process keeps to one core."""
    with contextlib.suppress(AttributeError, OSError):  # macOS and Windows cannot pin
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))


@dataclass(slots=True)
class Tally:
    """What the contender found out, to be checked by the caller."""

    n_right: int = 0


@contextlib.contextmanager
def measured() -> Iterator[Tally]:
    """Time what happens inside and print seconds, CPU seconds and peak resident MB of this process.

    Imports are outside, the contender's own set-up of cases, prompt, client and log is inside.
    """
    tally = Tally()
    cpu, began = time.process_time(), time.perf_counter()
    yield tally
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    print(json.dumps({"seconds": seconds, "cpu_s": cpu, "peak_mb": peak_kb / 1024, "n_right": tally.n_right}))
