"""`python -m benchmarks.scale`: a million cases of six approaches, from a Parquet file to scorecards and verdict."""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from benchmarks.check import Check
from benchmarks.table import aligned

N_CASES = 1_000_000
SECONDS = 15.0
PEAK_MB = 2_000.0
APPROACHES = {  # mean log-odds of success, USD a task, seconds a task, prompt tokens
    "small prompt": (0.6, 0.0004, 0.9, 620),
    "large prompt": (1.6, 0.0060, 2.4, 640),
    "steps": (1.9, 0.0092, 4.1, 1_510),
    "nearest examples": (1.7, 0.0011, 1.1, 1_730),
    "fine-tuned": (2.1, 0.0003, 0.6, 70),
    "fine-tuned on nearest": (2.2, 0.0007, 0.9, 940),
}
LEVERS = {
    "small prompt": "prompt",
    "large prompt": "prompt",
    "steps": "prompt+workflow",
    "nearest examples": "prompt+retrieval",
    "fine-tuned": "tuning",
    "fine-tuned on nearest": "retrieval+tuning",
}


class Taken(NamedTuple):
    """What one process took."""

    seconds: float
    cpu_s: float
    """User and system time of all threads: what remains comparable on a busy machine."""
    peak_mb: float


def outcomes(n_cases: int, *, n_clusters: int | None = None, is_shuffled: bool = False, seed: int = 0) -> pl.DataFrame:
    """Outcomes of all approaches on the same cases, hard cases being hard for all of them.

    Args:
        n_cases: Cases, each done once by every approach.
        n_clusters: Customers the cases come from, correlated within; left out, no column of clusters.
        is_shuffled: In no order, as a log written by many workers has them.
        seed: Of the generator.
    """
    rng = np.random.default_rng(seed)
    case_ids = pl.Series([f"case-{number:07d}" for number in range(n_cases)])
    hardness = rng.normal(0, 1.2, n_cases)
    cluster = rng.integers(0, n_clusters, n_cases) if n_clusters else None
    if cluster is not None:
        hardness += rng.normal(0, 0.6, int(cluster.max()) + 1)[cluster]
    length = rng.lognormal(0, 0.4, n_cases)
    parts = []
    for name, (strength, usd, seconds, tokens) in APPROACHES.items():
        success = rng.random(n_cases) < 1 / (1 + np.exp(hardness - strength))
        retried = rng.random(n_cases) < 0.04
        columns = {
            "approach": pl.Series([name]).new_from_index(0, n_cases),
            "levers": pl.Series([LEVERS[name]]).new_from_index(0, n_cases),
            "case_id": case_ids,
            "success": success,
            "schema_pass": rng.random(n_cases) < 0.97,
            "retried": retried,
            "cost_usd": usd * length * (1 + retried),
            "latency_s": seconds * rng.lognormal(0, 0.5, n_cases) * (1 + retried),
            "prompt_tokens": (tokens * length).astype(np.int64),
            "completion_tokens": rng.integers(4, 60, n_cases),
        }
        if cluster is not None:
            columns["cluster"] = pl.Series(cluster).cast(pl.String)
        parts.append(pl.DataFrame(columns))
    frame = pl.concat(parts)
    return frame.sample(fraction=1, shuffle=True, seed=seed) if is_shuffled else frame


def taken_by(*arguments: str) -> Taken:
    """Seconds and peak memory of `steelyard ...` in a process of its own."""
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", "steelyard", *arguments], stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"steelyard {' '.join(arguments)} ended with {process.returncode}")
    return Taken(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, _peak_mb(usage))


def section(n_cases: int = N_CASES, *, suffix: str = ".parquet", n_clusters: int | None = None) -> list[Check]:
    """`score` and `decide` on a file of `n_cases` cases of six approaches."""
    checks, total = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"outcomes{suffix}"
        _write(file, n_cases, n_clusters)
        for command in ("score", "decide"):
            one = taken_by(command, "--outcomes", str(file), "--json")
            total += one.seconds
            what = f"peak memory of steelyard {command}, {n_cases:,} cases x {len(APPROACHES)} approaches"
            checks.append(Check(what=what, measured=one.peak_mb, limit=PEAK_MB, unit="MB"))
            shown = f"{one.seconds:.1f} s ({one.cpu_s:.1f} s of processors), {one.peak_mb:,.0f} MB"
            print(f"steelyard {command}: {shown}", file=sys.stderr, flush=True)
    what = f"steelyard score + decide on the same {suffix.removeprefix('.')} file"
    return [*checks, Check(what=what, measured=total, limit=SECONDS, unit="s")]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--cases", type=int, default=N_CASES, help="cases of each approach")
    parser.add_argument("--format", choices=("parquet", "csv", "jsonl"), default="parquet", help="of the file")
    parser.add_argument("--clusters", type=int, help="let the cases come from so many customers")
    chosen = parser.parse_args()
    checks = section(chosen.cases, suffix=f".{chosen.format}", n_clusters=chosen.clusters)
    print(aligned(("what", "measured", "limit", "ok?"), [check.row() for check in checks]))


# Private


def _write(file: Path, n_cases: int, n_clusters: int | None) -> None:
    frame = outcomes(n_cases, n_clusters=n_clusters)
    if file.suffix == ".parquet":
        frame.write_parquet(file)
    elif file.suffix == ".csv":
        frame.write_csv(file)
    else:
        frame.write_ndjson(file)


def _peak_mb(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / (1_000_000 if sys.platform == "darwin" else 1_000)


if __name__ == "__main__":
    main()
