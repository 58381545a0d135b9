"""What a workflow costs besides its model calls, and what it saves that steps run side by side.

Both on the invoices that ship. The first part asks a scripted model in this process that answers at once with the
expected output, so that nothing but the engine's own work on a case is left. The second asks a stub server that takes
100 ms for every call; its one answer fits every part of the split, and the split's steps are asked once as they stand
and once chained with `after`.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import steelyard
from benchmarks.check import Check
from benchmarks.contenders import BenchmarkFailed, stub
from benchmarks.steelyard_run import COMPUTE, ENDPOINT, prepare_approach, scorer
from benchmarks.table import aligned
from steelyard.approaches.spec import ApproachSpec
from steelyard.cases.case import Case
from steelyard.engine.journal import Journal
from steelyard.engine.limits import ManagedEndpoint, managed
from steelyard.engine.outcome import Outcome
from steelyard.engine.run import Work, run
from steelyard.figures import Provenance
from steelyard.models.calls import AttemptStatus, ChatRequest
from steelyard.models.endpoint import Price, Response
from steelyard.models.http import hosted
from steelyard.models.spec import EndpointSpec
from steelyard.studies import copy_study
from steelyard.study.study import Study
from steelyard.task.task import Task

OWN_MS = 1.0
"""Validation and repair may add so much to a case."""
LATENCY_MS = 100.0
N_CASES = 100
IN_FLIGHT = 20
FEWER_SECONDS = 2.5
"""Three steps side by side should take close to a third of the same three in a row."""

_INVOICE = {
    "vendor": "Pumpen GmbH", "invoice_number": "RE-1", "invoice_date": "2025-02-24", "due_date": None,
    "currency": "EUR", "subtotal": 72.0, "tax": 13.68, "total": 85.68,
    "line_items": [{"description": "Dichtring", "quantity": 100, "unit_price": 0.72, "amount": 72.0}],
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """What the cases of one approach took."""

    cases_per_s: float
    latency_p50_s: float
    """Median over the cases, model calls included."""
    own_p50_ms: float
    """Median over the cases, model calls left out."""
    extra_calls: float
    """Mean over the cases."""


def section() -> list[Check]:
    """Own work of checks and repair; steps side by side against steps in a row."""
    with tempfile.TemporaryDirectory() as folder:
        copy_study("invoices", Path(folder))
        study = steelyard.load(folder)
        return [*_own_work(study), *_side_by_side(study)]


# Private

_FREE = Price(
    input_per_million_usd=0.0,
    output_per_million_usd=0.0,
    provenance=Provenance(kind="assumed", source="benchmark"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scripted:
    """Gives the expected output of the document it is asked about; with `errs`, a total of 0 the first time."""

    expected: Mapping[str, Mapping[str, Any]]
    """By the text of the document."""
    errs: bool = False
    name: str = ENDPOINT
    model: str = "scripted"
    price: Price = _FREE
    context_tokens: int | None = None
    _asked: set[str] = field(default_factory=set)

    async def send(self, request: ChatRequest, *, timeout_s: float) -> Response:
        """Answer at once."""
        # The document itself stands in the last message that holds one; examples come before it.
        said = "\n".join(message.content for message in request.messages)
        text = max(self.expected, key=said.rfind)
        answer = dict(self.expected[text])
        if self.errs and text not in self._asked:
            self._asked.add(text)
            answer["total"] = 0.0
        return Response(
            status=AttemptStatus.ANSWERED,
            text=json.dumps(answer),
            prompt_tokens=600,
            cached_tokens=0,
            completion_tokens=200,
        )

    async def close(self) -> None:
        """Nothing to close."""


def _own_work(study: Study) -> list[Check]:
    cases = [case for case in study.material.cases if case.expected is not None]
    examples, cases = cases[:3], cases[3:]
    expected = {case.input["text"]: case.expected or {} for case in cases}
    checks = []
    for what, name, errs in (
        ("schema alone", "schema", False),
        ("schema and checks, right at once", "repair", False),
        ("schema and checks, repaired once", "repair", True),
    ):
        model = _Scripted(expected=expected, errs=errs)
        taken = asyncio.run(
            _run(
                study.file.approaches[name],
                study.task,
                cases,
                ManagedEndpoint(endpoint=model),
                model=model.model,
                examples=examples,
                in_flight=1,
            )
        )
        # A few documents are there twice, or empty; their second answer is right at once.
        if errs and taken.extra_calls < 0.95:
            raise BenchmarkFailed("too few documents were repaired")
        shown = f"invoices, own work a case: {what} ({len(cases)} cases)"
        checks.append(Check(what=shown, measured=taken.own_p50_ms, limit=OWN_MS, unit="ms"))
    return checks


def _side_by_side(study: Study) -> list[Check]:
    # One answer for all parts: a part must not mind the fields of the others.
    task = replace(
        study.task, output_schema={k: v for k, v in study.task.output_schema.items() if k != "additionalProperties"}
    )
    cases = [case for case in study.material.cases if case.expected is not None]
    examples, cases = cases[:3], cases[3 : 3 + N_CASES]
    spec = study.file.approaches["split"]
    taken: dict[str, Taken] = {}
    for what, one in (("side by side", spec), ("in a row", _chained(spec))):
        with stub(LATENCY_MS, json.dumps(_INVOICE)) as url:
            taken[what] = asyncio.run(_ask_stub(url, one, task, cases, examples))
        if taken[what].extra_calls:
            raise BenchmarkFailed("the stub's answer did not fit every part")
    rows = [(what, f"{one.cases_per_s:.0f}", f"{one.latency_p50_s:.3f}") for what, one in taken.items()]
    print(f"invoices split over three calls of {LATENCY_MS:g} ms, {N_CASES} cases, {IN_FLIGHT} in flight")
    print(aligned(("steps", "cases/s", "latency p50, s"), rows), end="\n\n", flush=True)
    ratio = taken["in a row"].latency_p50_s / taken["side by side"].latency_p50_s
    what = "split: latency in a row / side by side"
    return [Check(what=what, measured=ratio, limit=FEWER_SECONDS, unit="x", at_least=True)]


def _chained(spec: ApproachSpec) -> ApproachSpec:
    """The same steps, each prompt waiting for the one before it."""
    assert spec.workflow is not None
    assert spec.workflow.steps is not None
    steps, before = {}, None
    for name, step in spec.workflow.steps.items():
        steps[name] = step
        if step.prompt is not None:
            steps[name] = step if before is None else step.model_copy(update={"after": (before,)})
            before = name
    return spec.model_copy(update={"workflow": spec.workflow.model_copy(update={"steps": steps})})


async def _ask_stub(url: str, spec: ApproachSpec, task: Task, cases: Sequence[Case], examples: Sequence[Case]) -> Taken:
    settings = EndpointSpec(base_url=url, model="stub", concurrency=4 * IN_FLIGHT)
    endpoint = hosted(ENDPOINT, settings)
    try:
        return await _run(
            spec,
            task,
            cases,
            managed(endpoint, settings),
            model=endpoint.model,
            examples=examples,
            in_flight=IN_FLIGHT,
        )
    finally:
        await endpoint.close()


async def _run(
    spec: ApproachSpec,
    task: Task,
    cases: Sequence[Case],
    endpoint: ManagedEndpoint,
    *,
    model: str,
    examples: Sequence[Case],
    in_flight: int,
) -> Taken:
    with tempfile.TemporaryDirectory() as folder, Journal.open(Path(folder) / "journal.sqlite3") as journal:
        local = spec.model_copy(update={"model": ENDPOINT})
        prepared = prepare_approach("measured", local, task, Path(folder), model=model, train=examples)
        journal.record_cases(cases)
        summary = await run(
            [Work(approach=prepared.approach, cases=cases, split="test")],
            endpoints={ENDPOINT: endpoint},
            journal=journal,
            score=scorer(task),
            compute_price=COMPUTE,
            in_flight=in_flight,
        )
        outcomes: list[Outcome] = list(journal.outcomes())
    if len(outcomes) != len(cases):
        raise BenchmarkFailed(f"{len(outcomes)} of {len(cases)} cases were done")
    return Taken(
        cases_per_s=len(cases) / summary.seconds,
        latency_p50_s=statistics.median(one.latency_s for one in outcomes),
        own_p50_ms=1000 * statistics.median(one.own_s for one in outcomes),
        extra_calls=statistics.fmean(one.extra_calls for one in outcomes),
    )
