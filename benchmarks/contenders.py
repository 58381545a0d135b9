"""Start contenders: each job in a process of its own on one core, the stub in another process on another core."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.workloads import LABELS, Job, Workload, write_job

_ROOT = Path(__file__).resolve().parent.parent
_PEERS = Path(__file__).resolve().parent / "peers"
_LONGEST_START_S = 60.0


class BenchmarkFailed(Exception):
    """A contender did not do its work."""


class TookTooLong(Exception):
    """A contender was stopped because it went over its time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """Something that can do a job."""

    name: str
    module: str
    reply: str = LABELS[0]
    """What the stub answers: the right label, in the layout the contender asks for."""
    python: str = sys.executable

    @property
    def title(self) -> str:
        """Name, and version where it matters."""
        return self.name


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer(Contender):
    """Another library, installed apart."""

    package: str
    """Its name on the package index, and the name of its requirements file."""

    @property
    def requirements(self) -> Path:
        """Pinned versions."""
        return _PEERS / f"requirements-{self.package}.txt"

    @property
    def title(self) -> str:
        """Name and pinned version."""
        version = self.requirements.read_text(encoding="utf-8").split("==")[1].split()[0]
        return f"{self.name} {version}"


STEELYARD = Contender(name="steelyard", module="benchmarks.steelyard_run")
PEERS = (
    Peer(
        name="dspy",
        package="dspy",
        module="benchmarks.peers.dspy_evaluate",
        reply=f"[[ ## category ## ]]\n{LABELS[0]}\n\n[[ ## completed ## ]]",
    ),
    Peer(name="inspect-ai", package="inspect-ai", module="benchmarks.peers.inspect_eval"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """What a workload took: medians over the runs."""

    n_cases: int
    n_runs: int
    seconds: float
    cpu_s: float
    peak_mb: float

    @property
    def cases_per_s(self) -> float:
        """Throughput."""
        return self.n_cases / self.seconds

    @property
    def cpu_ms_per_case(self) -> float:
        """CPU time of the contender's process, all its threads together."""
        return 1000 * self.cpu_s / self.n_cases


def measure(
    contender: Contender, workload: Workload, *, n_runs: int = 3, bound_s: float = 120.0, enough_s: float = 30.0
) -> Taken:
    """Run a workload several times.

    Args:
        contender: Who does it.
        workload: What is to be done.
        n_runs: How often at most.
        bound_s: One run that is not done after this many seconds is stopped.
        enough_s: No further run begins once all together have taken so long.

    Raises:
        TookTooLong: A run was stopped.
        BenchmarkFailed: The process failed, or did not do every case.
    """
    rows: list[dict[str, float]] = []
    began = time.perf_counter()
    while len(rows) < n_runs and (not rows or time.perf_counter() - began < enough_s):
        with stub(workload.latency_ms, contender.reply) as url:
            rows.append(_run_once(contender, workload, url, bound_s=bound_s))
    return Taken(
        n_cases=workload.n_cases,
        n_runs=len(rows),
        **{key: statistics.median(row[key] for row in rows) for key in ("seconds", "cpu_s", "peak_mb")},
    )


def first_request_s(contender: Contender, *, n_runs: int = 3) -> float:
    """Seconds from starting the process to the first byte of its first request, median.

    Raises:
        BenchmarkFailed: No request came.
    """
    return statistics.median(_first_request_s(contender) for _ in range(n_runs))


def installed(peer: Peer) -> Peer:
    """The peer with the Python that has it, installed on first use into the user's cache.

    Raises:
        BenchmarkFailed: It cannot be installed, which is what happens offline.
    """
    stamp = f"{platform.python_version()} {peer.requirements.read_text(encoding='utf-8')}"
    folder = _cache_folder() / f"{peer.package}-{hashlib.sha256(stamp.encode()).hexdigest()[:12]}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = folder / "installed"
    if not done.exists():
        print(f"installing {peer.title} into {folder} ...", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-q", "-r", str(peer.requirements)]
        for command in ([sys.executable, "-m", "venv", str(folder)], pip):
            process = subprocess.run(command, capture_output=True, text=True, check=False)
            if process.returncode:
                raise BenchmarkFailed(f"{peer.name} cannot be installed: {_last_line(process.stderr)}")
        done.touch()
    return replace(peer, python=str(python))


@contextlib.contextmanager
def stub(latency_ms: float, reply: str) -> Iterator[str]:
    """The stub in a process of its own, on the last core."""
    command = [sys.executable, "-m", "steelyard.models.stub_server", "--latency-ms", str(latency_ms), "--reply", reply]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    with contextlib.suppress(AttributeError, OSError):  # macOS and Windows cannot pin
        os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(timeout=10)
        process.stdout.close()


# Private


def _run_once(contender: Contender, workload: Workload, url: str, *, bound_s: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        job = Job(url=url, folder=folder, n_cases=workload.n_cases, in_flight=workload.in_flight)
        process = _start(contender, job)
        try:
            out, err = process.communicate(timeout=bound_s)
        except subprocess.TimeoutExpired:
            raise TookTooLong from None
        finally:
            _end(process)
    if process.returncode:
        raise BenchmarkFailed(f"{contender.name} failed: {_last_line(err)}")
    row: dict[str, float] = json.loads(_last_line(out))
    if row["n_right"] != workload.n_cases:
        raise BenchmarkFailed(f"{contender.name} got {row['n_right']} of {workload.n_cases} cases right, not all")
    return row


def _start(contender: Contender, job: Job) -> subprocess.Popen[str]:
    order = Path(job.folder) / "job.json"
    write_job(job, order)
    return subprocess.Popen(
        [contender.python, "-m", contender.module, str(order)],
        cwd=_ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _end(process: subprocess.Popen[str]) -> None:
    """End a contender and whatever it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _first_request_s(contender: Contender) -> float:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
    ):
        server.settimeout(_LONGEST_START_S)
        job = Job(url=f"http://127.0.0.1:{server.getsockname()[1]}/v1", folder=folder, n_cases=1, in_flight=1)
        began = time.perf_counter()
        process = _start(contender, job)
        try:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(_LONGEST_START_S)
                connection.recv(1)
                return time.perf_counter() - began
        except TimeoutError:
            raise BenchmarkFailed(f"{contender.name} sent nothing within {_LONGEST_START_S:g} s") from None
        finally:
            _end(process)


def _cache_folder() -> Path:
    from steelyard.models.weights import cache_folder

    return cache_folder() / "bench"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no output"
