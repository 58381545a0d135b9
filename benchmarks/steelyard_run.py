"""Steelyard on one job: a prompted approach, prepared as `steelyard run` prepares it, through engine and journal."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from benchmarks.workloads import INSTRUCTION, LABELS, MAX_TOKENS, Job, measured, read_job
from steelyard.approaches.approach import Answer, Ask, Prepared
from steelyard.approaches.prepare import prepare
from steelyard.approaches.spec import ApproachSpec
from steelyard.approaches.workbench import EndpointFacts, Workbench
from steelyard.cases.case import Case
from steelyard.engine.journal import Journal
from steelyard.engine.limits import managed
from steelyard.engine.run import Score, Work, run
from steelyard.figures import Provenance
from steelyard.models.endpoint import Price
from steelyard.models.http import hosted
from steelyard.models.spec import EndpointSpec, PriceSpec
from steelyard.task.resolve import resolve_task
from steelyard.task.scorers import Scored, score_output
from steelyard.task.spec import TaskSpec
from steelyard.task.task import Task

ENDPOINT = "stub"
COMPUTE = Price(cpu_hour_usd=0.05, provenance=Provenance(kind="assumed", source="benchmark"))
TASK = TaskSpec(
    instruction=INSTRUCTION, input=["text"], expected=["label"], labels=list(LABELS), max_output_tokens=MAX_TOKENS
)


async def run_job(job: Job) -> None:
    """Render, ask, read, score and journal every case."""
    folder = Path(job.folder)
    spec = EndpointSpec(
        base_url=job.url, model="stub", price_per_million=PriceSpec(input=0.1, output=0.4), concurrency=job.in_flight
    )
    endpoint = hosted(ENDPOINT, spec)
    task = resolve_task(TASK, folder)
    prepared = prepare_approach("zero-shot", ApproachSpec(model=ENDPOINT), task, folder, model=endpoint.model)
    cases = [Case(id=name, input={"text": text}, expected={"label": label}) for name, text, label in job.tickets()]
    with Journal.open(folder / "journal.sqlite3") as journal:
        journal.record_cases(cases)
        await run(
            [Work(approach=prepared.approach, cases=cases, split="test")],
            endpoints={ENDPOINT: managed(endpoint, spec)},
            journal=journal,
            score=scorer(task),
            compute_price=COMPUTE,
            in_flight=job.in_flight,
        )
    await endpoint.close()


def prepare_approach(
    name: str, spec: ApproachSpec, task: Task, folder: Path, *, model: str, train: Sequence[Case] = ()
) -> Prepared:
    """An approach that asks the endpoint `ENDPOINT`; its examples come from `train`."""
    bench = Workbench(
        task=task,
        train=tuple(train),
        dev=(),
        folder=folder,
        endpoints={ENDPOINT: EndpointFacts(model=model, native_schema=True, context_tokens=None)},
        embedder=_not_needed,
        base_gguf=_not_needed,
        cpu_hour_usd=0.05,
        say=lambda _: None,
    )
    return prepare(name, spec, bench)


def scorer(task: Task) -> Score:
    """The task's own scoring, as a run uses it."""

    async def score(answer: Answer, case: Case, ask: Ask) -> Scored:
        return score_output(answer.output, case.expected, task)

    return score


def n_successes(folder: Path) -> int:
    """Successes in the journal: nothing is counted that was not written."""
    with Journal.open(folder / "journal.sqlite3", read_only=True) as journal:
        return sum(row["success"] == 1 for row in journal.measurements())


def _not_needed() -> NoReturn:
    raise AssertionError("this approach uses its endpoint alone")


if __name__ == "__main__":
    job = read_job()
    with measured() as tally:
        asyncio.run(run_job(job))
        tally.n_right = n_successes(Path(job.folder))
