"""How fast the engine is: cases through prompt rendering, HTTP, scoring and journal, against a stub server.

    python benchmarks/engine.py

The client is pinned to one core, the stub runs in another process on another core. Prints a table with the limits
the engine is held to.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from steelyard.approaches.approach import Answer, Ask
from steelyard.approaches.spec import Lever
from steelyard.cases.case import Case, CaseInput
from steelyard.engine.journal import Journal
from steelyard.engine.limits import ManagedEndpoint
from steelyard.engine.run import Work, run
from steelyard.figures import Provenance
from steelyard.models.calls import ChatRequest, Message
from steelyard.models.endpoint import Price
from steelyard.models.http import hosted
from steelyard.models.spec import EndpointSpec, PriceSpec
from steelyard.task.scorers import Scored


@dataclass(frozen=True)
class Workload:
    """One line of the table."""

    name: str
    n_cases: int
    latency_ms: float
    in_flight: int
    limit: str


WORKLOADS = (
    Workload("2,000 cases, 100 ms, 100 in flight", 2_000, 100, 100, "<= 2.6 s"),
    Workload("2,000 cases, 0 ms, 64 in flight", 2_000, 0, 64, ">= 1,500 cases/s"),
    Workload("20,000 cases, 20 ms, 200 in flight", 20_000, 20, 200, "<= 8 s, < 200 MB"),
)
CPU_PRICE = Price(cpu_hour_usd=0.05, provenance=Provenance(kind="assumed", source="benchmark"))


class OnePrompt:
    """The smallest approach that still renders a prompt and reads an answer."""

    name = "one-prompt"
    levers: frozenset[Lever] = frozenset((Lever.PROMPT,))
    fingerprint = "one-prompt-1"
    endpoint = "stub"

    async def answer(self, case: CaseInput, ask: Ask) -> Answer:
        """Ask once; the text is the label."""
        text = f"Sort this ticket into one of the known categories.\n\nTicket: {case.fields['text']}\nCategory:"
        messages = (Message("system", "You are careful and brief."), Message("user", text))
        attempt = await ask(ChatRequest(endpoint=self.endpoint, messages=messages, max_tokens=16))
        valid = attempt.status.has_text
        return Answer(output={"label": attempt.text.strip()} if valid else None, valid=valid, schema_pass=valid)


def score(answer: Answer, case: Case) -> Scored:
    return Scored(score=float(answer.output == case.expected))


async def one_run(workload: Workload, url: str, folder: Path) -> float:
    price = PriceSpec(input=0.1, output=0.4)
    spec = EndpointSpec(base_url=url, model="stub", price_per_million=price, concurrency=workload.in_flight)
    endpoint = hosted("stub", spec)
    words = "the parcel with order number has not come and nobody picks up the phone " * 3
    cases = [Case(id=str(i), input={"text": f"{words}{i}"}, expected={"label": "ok"}) for i in range(workload.n_cases)]
    began = time.perf_counter()
    with Journal.open(folder / "journal.sqlite3") as journal:
        managed = ManagedEndpoint(endpoint=endpoint, concurrency=workload.in_flight)
        summary = await run(
            [Work(approach=OnePrompt(), cases=cases, split="test")],
            endpoints={"stub": managed},
            journal=journal,
            score=score,
            compute_price=CPU_PRICE,
            in_flight=workload.in_flight,
        )
    seconds = time.perf_counter() - began
    await endpoint.close()
    assert summary.n_outcomes == workload.n_cases, summary
    return seconds


@contextlib.contextmanager
def stub_server(latency_ms: float) -> Iterator[str]:
    """The stub in a process of its own, on the last core."""
    command = [sys.executable, "-m", "steelyard.models.stub_server", "--latency-ms", str(latency_ms)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(timeout=10)
        process.stdout.close()


def child(number: int) -> None:
    """Run one workload on one core and print seconds, CPU seconds and resident megabytes."""
    workload = WORKLOADS[number]
    with stub_server(workload.latency_ms) as url, tempfile.TemporaryDirectory() as folder:
        with contextlib.suppress(AttributeError, OSError):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        cpu = time.process_time()
        seconds = asyncio.run(one_run(workload, url, Path(folder)))
        cpu = time.process_time() - cpu
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(seconds, cpu, peak_mb)


def main() -> None:
    """Each workload in a fresh process, so that its memory is its own."""
    print(f"{'workload':<38}{'seconds':>9}{'cases/s':>10}{'CPU ms/case':>13}{'RSS MB':>8}  limit")
    for number, workload in enumerate(WORKLOADS):
        out = subprocess.run([sys.executable, __file__, str(number)], check=True, capture_output=True, text=True).stdout
        seconds, cpu, peak_mb = map(float, out.split())
        rate, cpu_ms = workload.n_cases / seconds, 1000 * cpu / workload.n_cases
        print(f"{workload.name:<38}{seconds:>9.2f}{rate:>10,.0f}{cpu_ms:>13.2f}{peak_mb:>8.0f}  {workload.limit}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        child(int(sys.argv[1]))
    else:
        main()
