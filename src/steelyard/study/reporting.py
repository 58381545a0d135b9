"""Put together everything a report shows, from the journal alone."""

from __future__ import annotations

import hashlib
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import orjson

from steelyard.approaches.approach import Setup
from steelyard.cases.distilled import UNKNOWN_LICENCE, UNKNOWN_TERMS
from steelyard.engine.journal import Journal
from steelyard.engine.outcome import Outcome
from steelyard.errors import Problem, StorageFailed
from steelyard.figures import MEASURED, Figure, Provenance, unknown
from steelyard.measure.forgetting import Forgetting
from steelyard.measure.intervals import wilson
from steelyard.measure.segments import segment_tables
from steelyard.models.calls import Attempt, ChatRequest
from steelyard.models.operations import shown_answer
from steelyard.report.content import (
    CaseAnswer,
    Goals,
    Method,
    ModelFact,
    Parity,
    ReportContent,
    RunFacts,
    SetupRow,
    TranscriptCall,
    WorstCase,
    choose_worst_cases,
)
from steelyard.report.forgetting import forgetting_facts
from steelyard.report.format import money
from steelyard.study import local_model
from steelyard.study.cascade_use import cascade_lines
from steelyard.study.curve_file import read_curves
from steelyard.study.file import StudyFile
from steelyard.study.record import ApproachRecord
from steelyard.study.scoring import Evidence, decide_evidence, score_evidence

TextFormat = Literal["html", "md", "json", "csv"]
ReportFormat = TextFormat | Literal["xlsx"]
WORST_CASES = 12


def render(content: ReportContent, form: ReportFormat) -> bytes:
    """The report as the bytes of a file; the same content gives the same bytes."""
    match form:
        case "html":
            from steelyard.report.html import render_html

            text = render_html(content)
        case "md":
            from steelyard.report.markdown import render_markdown

            text = render_markdown(content)
        case "json":
            from steelyard.report.json import render_json

            text = render_json(content)
        case "csv":
            from steelyard.report.ledger_csv import render_ledger_csv

            text = render_ledger_csv(content.verdict.economics.ledgers)
        case "xlsx":
            from steelyard.report.spreadsheet import render_xlsx

            return render_xlsx(content)
    return text.encode()


def render_report(
    evidence: Evidence, journal: Journal, *, form: ReportFormat, command: str, folder: Path | None = None
) -> bytes:
    """The report of a study as the bytes of a file; with its folder, learning curves that are kept there are shown."""
    content = build_content(evidence, journal, command=command)
    if folder is not None:
        fingerprints = {name: one.fingerprint for name, one in evidence.approaches.items()}
        content = replace(content, curves=read_curves(folder, fingerprints))
    return render(content, form)


def write_report(path: Path, rendered: bytes) -> Path:
    """Write a report, and say where it is.

    Raises:
        StorageFailed: It cannot be written there.
    """
    try:
        path.write_bytes(rendered)
    except OSError as error:
        what = f"the report cannot be written here: {error.strerror}"
        raise StorageFailed(Problem(where=str(path), what=what)) from error
    return path


def build_content(evidence: Evidence, journal: Journal, *, command: str) -> ReportContent:
    """Everything the report shows.

    Args:
        evidence: Approaches with their results.
        journal: For transcripts, cases and looks.
        command: What a person types to make this report again.
    """
    scores = score_evidence(evidence, journal)
    verdict = decide_evidence(evidence).verdict
    file, record = evidence.file, evidence.record
    settings = file.model_dump(mode="json", exclude_unset=True)
    return ReportContent(
        study=file.study,
        instruction=file.task.instruction,
        scorecards=scores.scorecards,
        comparisons=scores.comparisons,
        verdict=verdict,
        goals=Goals(**file.goal.model_dump()),
        worst_cases=tuple(_worst_cases(evidence, journal, best=verdict.choice)),
        data_notes=(*record.notes, *evidence.notes),
        split_counts=record.split_counts,
        test_looks=max((journal.looks(name) for name in evidence.approaches), default=0),
        setup=tuple(
            _setup_row(one, evidence.setups[name], journal, evidence.forgotten.get(name))
            for name, one in evidence.approaches.items()
        ),
        method=Method(
            seeds={"split": file.cases.split.seed, "bootstrap": 0},
            package_version=record.package_version,
            command=command,
            source=RunFacts(
                models=tuple(
                    ModelFact(endpoint=name, identity=model)
                    for name, model in record.models.items()
                    if any(name in one.endpoints for one in evidence.approaches.values())
                ),
                repeats=file.run.repeats,
                started_utc=record.started_utc,
                finished_utc=record.finished_utc,
                study_digest=hashlib.blake2b(
                    orjson.dumps(settings, option=orjson.OPT_SORT_KEYS), digest_size=16
                ).hexdigest(),
            ),
        ),
        segments=scores.segments or segment_tables(evidence.results),
        fields=scores.fields,
        retrieval=scores.retrieval,
    )


# Worst cases


def _worst_cases(evidence: Evidence, journal: Journal, *, best: str | None) -> list[WorstCase]:
    fingerprints = {name: one.fingerprint for name, one in evidence.approaches.items()}
    by_case: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in journal.outcomes(fingerprints, split="test"):
        by_case[outcome.case_id].append(outcome)
    cases = journal.cases()
    field = evidence.file.task.expected[0] if evidence.file.task.labels else None
    labels = {
        case_id: str(case["expected"].get(field)) for case_id, case in cases.items() if field and case["expected"]
    }
    chosen = choose_worst_cases(by_case, k=WORST_CASES, best=best, label_of=labels or None)
    return [
        WorstCase(
            case_id=case_id,
            where=cases[case_id]["where"],
            fields=cases[case_id]["input"],
            expected=cases[case_id]["expected"],
            answers=tuple(
                _answer(outcome, journal, evidence.record.file) for outcome in by_case[case_id] if outcome.repeat == 0
            ),
        )
        for case_id in chosen
        if case_id in cases
    ]


def _answer(outcome: Outcome, journal: Journal, file: StudyFile) -> CaseAnswer:
    transcript = journal.transcript(outcome.approach, outcome.fingerprint, outcome.case_id, repeat=outcome.repeat)
    judged = _calls(outcome.judge_attempts, transcript.judge_requests if transcript else ())
    return CaseAnswer(
        approach=outcome.approach,
        output=outcome.output,
        status=str(outcome.status),
        score=outcome.score,
        unscored_because=outcome.unscored_because,
        success=outcome.success,
        problem=outcome.problem,
        latency_s=outcome.latency_s,
        cost_usd=outcome.cost_usd,
        sources=outcome.sources,
        calls=_calls(outcome.attempts, transcript.requests if transcript else ()),
        judge_calls=tuple(
            replace(call, price_from=_price_from(attempt.endpoint, file))
            for call, attempt in zip(judged, outcome.judge_attempts, strict=False)
        ),
        notes=outcome.notes,
        fields=outcome.fields,
    )


def _calls(attempts: Iterable[Attempt], requests: Iterable[ChatRequest]) -> tuple[TranscriptCall, ...]:
    return tuple(
        TranscriptCall(
            step=attempt.step,
            messages=tuple(message._replace(content=message.shown()) for message in request.messages),
            text=_said(attempt, request),
            status=str(attempt.status),
            error=attempt.error,
            prompt_tokens=attempt.prompt_tokens,
            cached_tokens=attempt.cached_tokens,
            completion_tokens=attempt.completion_tokens,
            latency_s=attempt.latency_s,
            price_usd=attempt.price_usd,
            extra=attempt.extra,
            replayed=attempt.replayed,
            transport_retries=attempt.transport_retries,
        )
        for attempt, request in zip(attempts, requests, strict=False)
    )


def _said(attempt: Attempt, request: ChatRequest) -> str:
    """What came back, as text for people."""
    answer = shown_answer(request.operation, attempt.text)
    return "\n".join(part for part in (answer, *(call.shown() for call in attempt.tool_calls)) if part)


def _price_from(endpoint: str, file: StudyFile) -> Provenance:
    """Where the price of a call comes from that no approach made."""
    from steelyard.models.http import price_of  # only where something was judged: it loads the HTTP client

    spec = file.models.endpoints.get(endpoint)
    return (price_of(spec) if spec else local_model.price(file.models.local, cores=1)).provenance


# Setup


def _setup_row(one: ApproachRecord, setup: Setup | None, journal: Journal, forgotten: Forgetting | None) -> SetupRow:
    if setup is None:
        because = "no preparation was recorded"
        return SetupRow(
            approach=one.name, seconds=unknown(because), cost_usd=unknown(because), n_examples=0, reused=False
        )
    cost = (
        Figure(value=setup.cost_usd, provenance=one.price)
        if setup.cost_usd is not None
        else unknown("no price of machine time is known")
    )
    card = setup.card or {}
    searched = {"prompt_search": one.search["sentence"]} if one.search and "cascade" not in card else {}
    return SetupRow(
        approach=one.name,
        seconds=Figure(value=setup.seconds, provenance=MEASURED),
        cost_usd=cost,
        n_examples=setup.n_examples,
        reused=setup.reused,
        card=(*card_lines({**card, **searched}), *(forgetting_facts(forgotten) if forgotten is not None else ())),
        parity=parity_of(one.name, one.fingerprint, card, journal),
        forgetting=forgotten,
    )


CARD_LABELS = {
    "prompt_search": "search",
    "kind": "kind",
    "made_utc": "made",
    "n_train": "trained on",
    "n_validation": "validated on",
    "n_cut": "examples cut to fit",
    "n_left_out": "examples left out",
    "provider": "host",
    "job": "job",
    "tuned_model": "tuned model",
    "retired_on": "retired by the host on",
    "trained_tokens": "tokens trained on",
    "dtype": "arithmetic",
    "n_steps": "optimiser steps",
    "validation_loss": "validation loss",
    "validation_exact_match": "validation exact match",
    "validation_accuracy": "validation accuracy",
    "cpu_seconds": "CPU seconds",
    "data_digest": "data digest",
    "adapter_sha256": "adapter SHA-256",
}
"""Fields of a tuning card that a report shows, with their words."""


def card_lines(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a tuning card says, label and text."""
    lines = []
    base = card.get("base_model")
    if isinstance(base, dict):
        known = [str(base["licence"])] if base.get("licence") else []
        known += [f"SHA-256 {str(base['sha256'])[:12]}"] if base.get("sha256") else []
        lines.append(("base model", f"{base.get('name')} ({', '.join(known)})" if known else str(base.get("name"))))
    if cascade := card.get("cascade"):
        lines += cascade_lines(cascade)
    if distilled := card.get("distilled"):
        lines += _distilled_lines(distilled)
    for field, label in CARD_LABELS.items():
        value = card.get(field)
        if value is not None:
            lines.append((label, f"{value:.4g}" if isinstance(value, float) else str(value)))
    chosen = card.get("hyperparameters")
    if isinstance(chosen, dict):
        lines.append(("settings", ", ".join(f"{name} {value}" for name, value in chosen.items() if value is not None)))
    return lines


def _distilled_lines(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Whose labels were learned, and what the licences of those of teachers are."""
    teachers = ", ".join(repr(name) for name in facts["teachers"])
    weight = "" if facts["weight"] == 1 else f", each counting {facts['weight']:g} times"
    licences = [
        f"{note} ({name!r})" if note != UNKNOWN_LICENCE else f"unknown ({name!r}): {UNKNOWN_TERMS}"
        for name, notes in facts["licences"].items()
        for note in notes
    ]
    usd = "not known" if facts["cost_usd"] is None else money(facts["cost_usd"])
    return [
        ("labels", f"{facts['n_by_people']:,} by people, {facts['n']:,} distilled from {teachers}{weight}"),
        ("licence of distilled labels", "; ".join(licences)),
        ("cost of distilled labels", usd),
    ]


def parity_of(name: str, fingerprint: str, card: Mapping[str, Any], journal: Journal) -> Parity | None:
    """The validation cases answered twice: forced through PyTorch at the end of training, and by the server.

    `None` where they were not asked as served yet.
    """
    in_torch: Mapping[str, bool] = card.get("validation_right", {})
    served = {
        outcome.case_id: bool(outcome.success) and outcome.schema_pass  # token for token, as in training
        for outcome in journal.outcomes({name: fingerprint}, split="train")
        if outcome.case_id in in_torch and outcome.repeat == 0
    }
    if not served:
        return None
    return Parity(
        n=len(served),
        in_training_library=_rate([in_torch[case_id] for case_id in served]),
        as_served=_rate(list(served.values())),
    )


def _rate(right: list[bool]) -> Figure:
    share = statistics.fmean(right)
    low, high = wilson(share, len(right))
    return Figure(value=share, low=low, high=high)
