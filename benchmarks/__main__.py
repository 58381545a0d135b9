"""`python -m benchmarks`: run, print, and say plainly where a limit is missed."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from benchmarks.check import Check
from benchmarks.contenders import (
    PEERS,
    STEELYARD,
    BenchmarkFailed,
    Contender,
    Taken,
    TookTooLong,
    first_request_s,
    installed,
    measure,
)
from benchmarks.table import aligned
from benchmarks.workloads import A, B, C, Workload

BOUND_S = 120.0
"""A peer's run that takes longer is stopped."""
PEER_C = replace(C, n_cases=2_000)
"""Workload C for peers: a tenth of the cases, since all of them would take some peers many minutes."""

Section = Literal["engine", "cli", "workflow", "scale", "retrieval", "tuning", "coverage", "decision", "peers"]
SECTIONS: tuple[Section, ...] = get_args(Section)
"""In the order in which they run: what is timed comes first, and peers, who have no limits, last."""


def engine_checks() -> tuple[list[Check], dict[Workload, Taken]]:
    """Workloads A, B and C, each the median of three runs."""
    checks, taken = [], {}
    for workload in (A, B, C):
        _say(f"steelyard on {workload} ...")
        one = taken[workload] = measure(STEELYARD, workload)
        if workload is A:
            checks.append(
                Check(what=str(workload), measured=one.cases_per_s, limit=1500, unit="cases/s", at_least=True)
            )
        else:
            checks.append(Check(what=str(workload), measured=one.seconds, limit=2.6 if workload is B else 8, unit="s"))
    checks.append(Check(what=f"peak memory on {C.name}", measured=taken[C].peak_mb, limit=200, unit="MB"))
    return checks, taken


def cli_checks() -> list[Check]:
    """What a person waits for at the prompt."""
    from benchmarks.command_line import N_APPROACHES, N_CASES, command_seconds, write_study

    _say("steelyard --help, 10 runs ...")
    checks = [
        Check(what="steelyard --help", measured=command_seconds("--help", n_runs=10), limit=0.3, unit="s"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        _say(f"writing a journal of {N_APPROACHES * N_CASES:,} outcomes, then steelyard score, 5 runs ...")
        write_study(Path(folder))
        seconds = command_seconds("score", folder, n_runs=5)
    what = f"steelyard score, {N_APPROACHES} approaches x {N_CASES:,} outcomes"
    return [*checks, Check(what=what, measured=seconds, limit=2.0, unit="s")]


def peer_tables(ours: dict[Workload, Taken]) -> None:
    """Peers beside ourselves, one table a workload; `ours` are runs of this session that need not be repeated."""
    contenders: list[Contender] = [STEELYARD]
    for peer in PEERS:
        try:
            contenders.append(installed(peer))
        except BenchmarkFailed as failure:
            print(f"left out: {failure}\n", flush=True)
    starts = {one.name: _attempted(lambda one=one: f"{first_request_s(one):.2f} s") for one in contenders}  # type: ignore[misc]
    for workload in (A, B, PEER_C):
        reference = ours.get(workload) or measure(STEELYARD, workload)
        rows = []
        for one in contenders:
            _say(f"{one.name} on {workload} ...")
            row = _row(one, workload, reference, is_reference=one is STEELYARD)
            rows.append((one.title, *row, starts[one.name]))
        print(f"{workload}" + (" (a tenth of the limit's cases)" if workload is PEER_C else ""))
        head = ("library", "runs", "seconds", "cases/s", "x ours", "CPU ms/case", "peak MB", "start to first request")
        print(aligned(head, rows), end="\n\n", flush=True)


def checks_of(section: Section) -> list[Check]:
    """The figures with limits of a section; tables, where it has any, are printed."""
    # Imported when run: what one section needs, another one need not load.
    if section == "cli":
        return cli_checks()
    if section == "workflow":
        from benchmarks import workflow

        _say("invoices: own work of checks and repair, then the split side by side and in a row ...")
        return workflow.section()
    if section == "scale":
        from benchmarks import scale

        _say(f"steelyard score and decide on {scale.N_CASES:,} cases x {len(scale.APPROACHES)} approaches ...")
        return scale.section()
    if section == "retrieval":
        from benchmarks import retrieval

        _say("recall on real questions, then 100,000 made-up chunks ...")
        return retrieval.section()
    if section == "tuning":
        from benchmarks import tuning

        _say("a LoRA from 1,200 labelled cases, a plain loop beside it, and serving three adapters ...")
        return tuning.section()
    if section == "coverage":
        from benchmarks import coverage

        return coverage.section()
    if section == "decision":
        from benchmarks import decisions

        _say(f"decisions in {decisions.N_DRAWN + decisions.N_FROM_TABLES:,} worlds ...")
        return decisions.section()
    return []


def main() -> None:
    """Run the chosen sections. The exit code is 0 although limits are missed: a busy machine misses them too."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=SECTIONS, help="run one section")
    only: Section | None = parser.parse_args().only
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    checks: list[Check] = []
    ours: dict[Workload, Taken] = {}
    for section in SECTIONS if only is None else (only,):
        if section == "peers":
            peer_tables(ours)
            continue
        if section == "engine":
            found, ours = engine_checks()
        else:
            found = checks_of(section)
        print(aligned(("what", "measured", "limit", "ok?"), [check.row() for check in found]), end="\n\n", flush=True)
        checks += found
    missed = [check.what for check in checks if not check.is_met]
    if missed:
        print(f"MISSED {len(missed)} of {len(checks)} limits: {'; '.join(missed)}")
        print(f"Load of the machine: {_load()}. See benchmarks/README.md before you believe it.")
    elif checks:
        print(f"All {len(checks)} limits are met.")


# Private


def _row(contender: Contender, workload: Workload, reference: Taken, *, is_reference: bool) -> tuple[str, ...]:
    try:
        taken = reference if is_reference else measure(contender, workload, bound_s=BOUND_S)
    except TookTooLong:
        slower = BOUND_S / reference.seconds
        return ("1", f"> {BOUND_S:g}", f"< {workload.n_cases / BOUND_S:,.0f}", f"> {slower:.0f}", "-", "-")
    except BenchmarkFailed as failure:
        print(failure, file=sys.stderr)
        return ("1", "failed", "-", "-", "-", "-")
    return (
        str(taken.n_runs),
        f"{taken.seconds:.2f}",
        f"{taken.cases_per_s:,.0f}",
        f"{taken.seconds / reference.seconds:.1f}",
        f"{taken.cpu_ms_per_case:.2f}",
        f"{taken.peak_mb:.0f}",
    )


def _attempted(figure: Callable[[], str]) -> str:
    try:
        return figure()
    except BenchmarkFailed as failure:
        print(failure, file=sys.stderr)
        return "-"


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f} over the last minute" if hasattr(os, "getloadavg") else "unknown"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
