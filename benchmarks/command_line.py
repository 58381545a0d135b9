"""The command line as a person meets it: `steelyard --help`, and `steelyard score` on a large journal."""

from __future__ import annotations

import asyncio
import hashlib
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders import BenchmarkFailed
from benchmarks.steelyard_run import COMPUTE, ENDPOINT, TASK, prepare_approach, scorer
from benchmarks.workloads import LABELS
from steelyard.approaches.prompt_spec import PromptSpec
from steelyard.approaches.spec import ApproachSpec
from steelyard.cases.case import Case
from steelyard.engine.journal import Journal
from steelyard.engine.limits import ManagedEndpoint
from steelyard.engine.run import Work, run
from steelyard.figures import Provenance
from steelyard.models.calls import AttemptStatus, ChatRequest
from steelyard.models.endpoint import Price, Response
from steelyard.study.record import run_record
from steelyard.study.scoring import journal_path
from steelyard.study.yaml_source import read_study_file
from steelyard.task.resolve import resolve_task

N_APPROACHES = 8
"""As many as are all compared with one another: the most work for `score`."""
N_CASES = 2_500


def command_seconds(*arguments: str, n_runs: int) -> float:
    """Median wall-clock seconds of a `steelyard` command in a fresh process.

    Raises:
        BenchmarkFailed: The command failed.
    """
    program = Path(sys.executable).with_name("steelyard")
    command = [str(program)] if program.exists() else [sys.executable, "-m", "steelyard"]
    seconds = []
    for _ in range(n_runs):
        began = time.perf_counter()
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        seconds.append(time.perf_counter() - began)
        if done.returncode:
            raise BenchmarkFailed(f"steelyard {' '.join(arguments)} failed: {done.stderr.strip()}")
    return statistics.median(seconds)


def write_study(folder: Path) -> None:
    """A study with `N_APPROACHES` times `N_CASES` outcomes, run by the engine on a simulated model."""
    (folder / "study.yaml").write_text(_study_yaml(), encoding="utf-8")
    (folder / "cases.jsonl").touch()  # the cases are in the journal; scoring reads no case file
    asyncio.run(_run_study(folder))


# Private

_PRICE = Price(
    input_per_million_usd=0.1,
    output_per_million_usd=0.4,
    provenance=Provenance(kind="assumed", source="benchmark"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _SimulatedModel:
    """Right more often at a higher temperature, so that the approaches differ; always the same for the same request."""

    name: str = ENDPOINT
    model: str = "simulated"
    price: Price = _PRICE
    context_tokens: int | None = None

    async def send(self, request: ChatRequest, *, timeout_s: float) -> Response:
        """Answer at once."""
        drawn = int.from_bytes(hashlib.blake2b(repr(request).encode(), digest_size=2).digest()) / 2**16
        is_right = drawn < 0.6 + 0.4 * request.temperature
        text = LABELS[0] if is_right else LABELS[1]
        return Response(
            status=AttemptStatus.ANSWERED, text=text, prompt_tokens=60, cached_tokens=0, completion_tokens=3
        )

    async def close(self) -> None:
        """Nothing to close."""


def _specs() -> dict[str, ApproachSpec]:
    return {
        f"warm-{number}": ApproachSpec(model=ENDPOINT, prompt=PromptSpec(temperature=number / 10))
        for number in range(N_APPROACHES)
    }


def _study_yaml() -> str:
    approaches = "".join(
        f"  {name}: {{model: {ENDPOINT}, prompt: {{temperature: {spec.prompt.temperature}}}}}\n"
        for name, spec in _specs().items()
    )
    return (
        "study: benchmark\n"
        "cases: cases.jsonl\n"
        f"task: {{instruction: '{TASK.instruction}', input: text, expected: label, labels: [{', '.join(LABELS)}]}}\n"
        f"models: {{endpoints: {{{ENDPOINT}: {{base_url: 'http://127.0.0.1:9/v1', model: stub}}}}}}\n"
        f"approaches:\n{approaches}"
    )


async def _run_study(folder: Path) -> None:
    model = _SimulatedModel()
    task = resolve_task(TASK, folder)
    prepared = {name: prepare_approach(name, spec, task, folder, model=model.model) for name, spec in _specs().items()}
    cases = [
        Case(id=f"ticket-{number}", input={"text": f"parcel {number}"}, expected={"label": LABELS[0]})
        for number in range(N_CASES)
    ]
    with Journal.open(journal_path(folder)) as journal:
        record = run_record(
            read_study_file(folder / "study.yaml"),
            prepared=prepared,
            prices={ENDPOINT: model.price.provenance},
            compute_price=COMPUTE.provenance,
            models={ENDPOINT: model.model},
            split_counts={"train": 0, "dev": 0, "test": N_CASES},
            notes=(),
        )
        journal.record_cases(cases)
        number = journal.start_run(command="benchmark", package_version="0", study=record)
        for name, one in prepared.items():
            journal.record_preparation(name, one.approach.fingerprint, one.setup)
        await run(
            [Work(approach=one.approach, cases=cases, split="test") for one in prepared.values()],
            endpoints={ENDPOINT: ManagedEndpoint(endpoint=model, concurrency=64)},
            journal=journal,
            score=scorer(task),
            compute_price=COMPUTE,
            in_flight=64,
        )
        journal.finish_run(number)
