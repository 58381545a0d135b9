"""Calls and outcomes as rows of the journal, and back.

An outcome's row names its calls by digest, so a prompt and its answer lie in the journal once however many outcomes
used them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson

from steelyard.cases.case import Case
from steelyard.engine.outcome import Outcome, OutcomeStatus
from steelyard.models.calls import Attempt, AttemptStatus, ChatRequest, Message, Tool, ToolCall
from steelyard.task.field_scorers import FieldScore

CALL_COLUMNS = (
    "digest, endpoint, model, request, status, text, error, prompt_tokens, cached_tokens, completion_tokens, latency_s,"
    " price_usd, transport_retries, started_utc, logprob"
)
OUTCOME_COLUMNS = (
    "approach, fingerprint, case_id, repeat, case_digest, split, status, success, score, schema_pass, retried,"
    " extra_calls, transport_retries, latency_s, own_s, cost_usd, prompt_tokens, cached_tokens, completion_tokens,"
    " segment, cluster, time, payload"
)
MEASUREMENT_COLUMNS = (
    "approach, fingerprint, split, case_id, repeat, status, success, score, schema_pass, retried, extra_calls,"
    " transport_retries, latency_s, own_s, cost_usd, prompt_tokens, cached_tokens, completion_tokens,"
    " NULL AS review_seconds, NULL AS corrected, segment, cluster, time,"
    " json_extract(payload, '$.judge_usd') AS judge_cost_usd"
)
STEP_SUMS = """
SELECT approach, json_extract(made.value, '$[1]') AS step, count(*),
    avg(calls.prompt_tokens) * count(*), sum(calls.cached_tokens), avg(calls.completion_tokens) * count(*),
    sum(calls.latency_s),
    CASE WHEN count(calls.price_usd) = count(*) THEN sum(calls.price_usd) END
FROM outcomes, json_each(outcomes.payload, '$.calls') AS made
    JOIN calls ON calls.digest = json_extract(made.value, '$[0]')
{condition} GROUP BY approach, step ORDER BY approach, min(made.key), step
"""
"""Query of `StepSums`; an outcome's payload names its calls as digest, step and more."""
FIELD_VERDICTS = """
SELECT approach, case_id, repeat, cluster, scored.key AS field, json_extract(scored.value, '$[0]') AS score,
    json_extract(scored.value, '$[1]') AS verdict
FROM outcomes, json_each(outcomes.payload, '$.fields') AS scored
{condition} ORDER BY outcomes.id, scored.id
"""
"""Query of `Journal.field_verdicts`."""
Row = tuple[Any, ...]


def call_row(request: ChatRequest, attempt: Attempt) -> Row:
    """One row of `calls`, in the order of `CALL_COLUMNS`."""
    return (
        attempt.digest,
        attempt.endpoint,
        attempt.model,
        request_json(request),
        attempt.status.value,
        _storable(_answer_text(attempt)),
        None if attempt.error is None else _storable(attempt.error),
        attempt.prompt_tokens,
        attempt.cached_tokens,
        attempt.completion_tokens,
        attempt.latency_s,
        attempt.price_usd,
        attempt.transport_retries,
        attempt.started_utc,
        attempt.logprob,
    )


def attempt_from(row: Row, *, step: str = "answer", extra: bool = False, replayed: bool = True) -> Attempt:
    """The attempt a row of `calls` describes (all of `CALL_COLUMNS`)."""
    digest, endpoint, model, _, status, text, error, prompt, cached, completion, latency, price, retries, *rest = row
    started, logprob = rest
    tool_calls: tuple[ToolCall, ...] = ()
    if status == AttemptStatus.CALLED_TOOLS:
        text, called = orjson.loads(text)
        tool_calls = tuple(ToolCall(*call) for call in called)
    return Attempt(
        digest=digest,
        endpoint=endpoint,
        model=model,
        status=AttemptStatus(status),
        text=text,
        tool_calls=tool_calls,
        error=error,
        prompt_tokens=prompt,
        cached_tokens=cached,
        completion_tokens=completion,
        logprob=logprob,
        latency_s=latency,
        price_usd=price,
        transport_retries=retries,
        started_utc=started,
        step=step,
        extra=extra,
        replayed=replayed,
    )


def request_json(request: ChatRequest) -> str:
    """A request as the journal keeps it: without address and key, which it never had, and pictures by digest."""
    body: dict[str, Any] = {
        "endpoint": request.endpoint,
        "messages": [message.parts() for message in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
        "response_schema": request.response_schema,
        "adapter": request.adapter,
        "extra": request.extra,
    }
    if request.tools:
        body["tools"] = request.tools
    if request.operation != "chat":
        body["operation"] = request.operation
    if request.logprobs:
        body["logprobs"] = True
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def request_from(text: str) -> ChatRequest:
    """The request that `request_json` wrote."""
    body = orjson.loads(text)
    body["messages"] = tuple(Message.from_parts(parts) for parts in body["messages"])
    body["tools"] = tuple(Tool(**tool) for tool in body.get("tools", ()))
    return ChatRequest(**body)


def outcome_row(outcome: Outcome) -> Row:
    """One row of `outcomes`, in the order of `OUTCOME_COLUMNS`."""
    attempts = outcome.attempts
    payload: dict[str, Any] = {
        "output": outcome.output,
        "problem": outcome.problem,
        "unscored_because": outcome.unscored_because,
        "sources": outcome.sources,
        "confidence": outcome.confidence,
        "calls": [(a.digest, a.step, a.extra, a.replayed) for a in attempts],
    }
    # Most outcomes have none of these; what is not there takes no room.
    if outcome.notes:
        payload["notes"] = outcome.notes
    if outcome.asked:
        payload["asked"] = outcome.asked
    if outcome.fields:
        payload["fields"] = {name: (one.score, one.verdict) for name, one in outcome.fields.items()}
    if outcome.judge_attempts:
        payload["judge_calls"] = [(a.digest, a.step, a.extra, a.replayed) for a in outcome.judge_attempts]
        payload["judge_usd"] = outcome.judge_usd
    return (
        outcome.approach,
        outcome.fingerprint,
        outcome.case_id,
        outcome.repeat,
        outcome.case_digest,
        outcome.split,
        outcome.status.value,
        outcome.success,
        outcome.score,
        outcome.schema_pass,
        outcome.retried,
        outcome.extra_calls,
        outcome.transport_retries,
        outcome.latency_s,
        outcome.own_s,
        outcome.cost_usd,
        outcome.prompt_tokens,
        _sum_known(a.cached_tokens for a in attempts),
        outcome.completion_tokens,
        outcome.segment,
        outcome.cluster,
        outcome.time,
        _payload_json(payload),
    )


def outcome_from(row: Mapping[str, Any], call: Callable[[str], Row | None]) -> Outcome:
    """The whole outcome again.

    Args:
        row: All of `OUTCOME_COLUMNS` by name.
        call: Finds a row of `calls` by digest.
    """
    payload = orjson.loads(row["payload"])

    def attempts_of(calls: list[tuple[str, str, bool, bool]]) -> tuple[Attempt, ...]:
        rows = [(call(digest), step, extra, replayed) for digest, step, extra, replayed in calls]
        return tuple(
            attempt_from(found, step=step, extra=extra, replayed=replayed)
            for found, step, extra, replayed in rows
            if found is not None
        )

    return Outcome(
        approach=row["approach"],
        fingerprint=row["fingerprint"],
        case_id=row["case_id"],
        case_digest=row["case_digest"],
        split=row["split"],
        repeat=row["repeat"],
        status=OutcomeStatus(row["status"]),
        output=payload["output"],
        problem=payload["problem"],
        score=row["score"],
        unscored_because=payload["unscored_because"],
        success=None if row["success"] is None else bool(row["success"]),
        schema_pass=bool(row["schema_pass"]),
        attempts=attempts_of(payload["calls"]),
        latency_s=row["latency_s"],
        own_s=row["own_s"],
        cost_usd=row["cost_usd"],
        sources=tuple(payload["sources"]),
        confidence=payload["confidence"],
        notes=tuple(payload.get("notes", ())),
        asked=tuple(payload.get("asked", ())),
        fields={
            name: FieldScore(score=score, verdict=verdict)
            for name, (score, verdict) in payload.get("fields", {}).items()
        },
        judge_attempts=attempts_of(payload.get("judge_calls", [])),
        segment=row["segment"],
        cluster=row["cluster"],
        time=row["time"],
    )


def of_versions(fingerprints: Mapping[str, str] | None, split: str | None) -> tuple[str, list[str]]:
    """The condition of a query on outcomes, and its values: these versions of approaches, this split."""
    conditions, values = [], []
    if fingerprints is not None:
        pairs = " OR ".join(["(approach = ? AND fingerprint = ?)"] * len(fingerprints)) or "0"
        conditions.append(f"({pairs})")
        values += [text for pair in fingerprints.items() for text in pair]
    if split is not None:
        conditions.append("split = ?")
        values.append(split)
    return ("WHERE " + " AND ".join(conditions) if conditions else "", values)


def _payload_json(payload: dict[str, Any]) -> str:
    # An approach written by a user may put anything into its output; what JSON cannot hold is kept as its repr.
    try:
        return orjson.dumps(payload, option=orjson.OPT_SERIALIZE_NUMPY, default=repr).decode()
    except (TypeError, ValueError):
        payload = {**payload, "output": None, "problem": f"the output cannot be stored: {payload['output']!r}"[:500]}
        return orjson.dumps(payload, default=repr).decode("utf-8", "replace")


def _answer_text(attempt: Attempt) -> str:
    """What the text column holds: the text, or with it what was asked of tools, where the status says so."""
    if attempt.status is not AttemptStatus.CALLED_TOOLS:
        return attempt.text
    return orjson.dumps(
        [_storable(attempt.text), [[_storable(one) for one in call] for call in attempt.tool_calls]]
    ).decode()


def case_body(case: Case, versions: Sequence[Any] | None) -> str:
    """What is kept of a case, as JSON: `input`, `expected`, `where`, and where known `sources`, `passages`, `versions`."""
    body: dict[str, Any] = {"input": case.input, "expected": case.expected, "where": case.where}
    known = {"sources": case.sources, "passages": [one._asdict() for one in case.passages], "versions": versions}
    return orjson.dumps(body | {name: value for name, value in known.items() if value}).decode()


def _storable(text: str) -> str:
    """Text that SQLite takes: lone surrogates, which a model can produce through JSON escapes, are replaced."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _sum_known(counts: Iterable[int | None]) -> int | None:
    """The sum, or `None` as soon as one part is unknown."""
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total
