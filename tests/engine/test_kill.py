"""Paid once: killed at any moment, a run never sends again what was acknowledged."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from steelyard.engine.journal import Journal

N_CASES = 300
IN_FLIGHT = 8
N_KILLS = 20

_RUN = """
import asyncio, sys
from pathlib import Path
from steelyard.engine.journal import Journal
from steelyard.engine.run import Work, run
from tests.engine.fakes import CPU, OnePrompt, cases, score, stub_endpoint

async def main(url, path):
    work = [Work(approach=OnePrompt(), cases=cases(int(sys.argv[3])), split="test")]
    with Journal.open(Path(path)) as journal:
        endpoint = stub_endpoint(url)
        print("begin", flush=True)
        await run(work, endpoints={"stub": endpoint}, journal=journal, score=score, compute_price=CPU,
                  in_flight=int(sys.argv[4]))
        await endpoint.endpoint.close()

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


def sent_texts(url: str) -> dict[str, int]:
    with urllib.request.urlopen(url.removesuffix("/v1") + "/stats", timeout=10) as answer:
        return dict(json.load(answer)["digests"])


def start(url: str, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _RUN, url, str(path), str(N_CASES), str(IN_FLIGHT)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_nothing_acknowledged_is_sent_again_after_20_kills(tmp_path: Path) -> None:
    """Killed 20 times at random moments, each case is answered, and only calls in flight at a kill are sent twice."""
    path = tmp_path / "j.sqlite3"
    source = random.Random(20261123)
    stub = subprocess.Popen(
        [sys.executable, "-m", "steelyard.models.stub_server", "--latency-ms", "30"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert stub.stdin is not None
    assert stub.stdout is not None
    acknowledged: set[str] = set()
    n_killed = 0
    try:
        url = stub.stdout.readline().strip()
        for _ in range(N_KILLS):
            victim = start(url, path)
            assert victim.stdout is not None
            victim.stdout.readline()
            time.sleep(source.uniform(0.0, 0.12))
            victim.kill()
            n_killed += victim.wait() != 0
            victim.stdout.close()
            with Journal.open(path) as journal:
                now = journal.call_digests()
            assert acknowledged <= now
            acknowledged = now
        times_before = sent_texts(url)
        last = start(url, path)
        assert last.wait(timeout=60) == 0
        assert last.stdout is not None
        last.stdout.close()
        times = sent_texts(url)
    finally:
        stub.stdin.close()
        stub.wait(timeout=10)
        stub.stdout.close()
    assert n_killed >= N_KILLS // 2
    assert len(times) == N_CASES
    assert sum(times.values()) <= N_CASES + n_killed * IN_FLIGHT
    # The last run sent exactly what no kill had left acknowledged.
    assert sum(times.values()) - sum(times_before.values()) == N_CASES - len(acknowledged)
    with Journal.open(path, read_only=True) as journal:
        rows = list(journal.measurements())
        assert journal.spent().calls == N_CASES
    assert len({row["case_id"] for row in rows}) == len(rows) == N_CASES
    assert all(row["success"] == 1 for row in rows)


async def test_a_call_is_acknowledged_only_when_another_process_could_read_it(tmp_path: Path) -> None:
    """The row is committed before `ask` returns, not some time after."""
    from tests.engine.test_journal import REQUEST, attempt

    path = tmp_path / "j.sqlite3"
    with Journal.open(path) as journal:
        for number in range(5):
            await journal.record_call(REQUEST, attempt(f"d{number}"))
            command = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('select count(*) from calls').fetchone()[0])"
            out = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-W", "ignore", "-c", command, str(path)],
                capture_output=True,
                text=True,
            )
            assert int(out.stdout) == number + 1
