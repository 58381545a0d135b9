"""One hosted tuning job, carried through to its end, and never started twice.

What is known of the job stands in a state file that is written before each step that cannot be taken back:

    reserve the most it can cost -> upload -> note that a job is about to be started -> start it -> note its id -> wait

A command that was killed between the last note and the id cannot know whether there is a job. It asks the host for its
jobs: ours is the one that trains on the file only we have uploaded, or that carries our mark. The same is done after a
start whose answer broke off. Only when there is none is one started.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from steelyard.approaches.hosted_spec import HostedTuningSpec
from steelyard.approaches.till import Till
from steelyard.approaches.tuning.hosted_api import TuningApi, wait_s
from steelyard.approaches.tuning.hosted_data import TrainingFiles
from steelyard.errors import EndpointUnusable, Problem, RunStopped, StorageFailed
from steelyard.models.endpoint import EndpointFault

_CREATE_TRIES = 4
_MOST_EVENTS = 1_000
_ENDED = ("succeeded", "failed", "cancelled", "canceled", "expired")
_READY = ("processed", "uploaded", None)
_BAD_FILE = ("error", "failed", "deleted")


@dataclass(frozen=True, kw_only=True, slots=True)
class JobState:
    """What is known of the job; see the module."""

    key: str
    """Our mark on it, the same in every process; counts up when it was turned away or has ended badly."""
    training_file: str | None = None
    validation_file: str | None = None
    is_asked_for: bool = False
    """Whether a job may have been started."""
    job: str | None = None
    ended_badly: tuple[str, ...] = ()
    """Earlier jobs for the same thing, with how they ended."""

    def next(self, *ended_badly: str) -> JobState:
        """Nothing done yet, under another mark: hosts may answer a mark they know with what they answered before."""
        mark, _, number = self.key.rpartition("-")
        return JobState(key=f"{mark}-{int(number) + 1}", ended_badly=(*self.ended_badly, *ended_badly))


@dataclass(frozen=True, kw_only=True, slots=True)
class JobOrder:
    """What a job is to do."""

    name: str
    """Name of the approach, for messages."""
    where: str
    """Place of its section in study.yaml."""
    digest: str
    """Content address of everything the tuned model follows from."""
    base: str
    spec: HostedTuningSpec
    files: TrainingFiles
    most_usd: float | None
    """No job like this can cost more; `None` where the price is unknown."""

    def body(self, state: JobState) -> dict[str, Any]:
        """The request that starts it."""
        spec = self.spec
        chosen = {
            "n_epochs": spec.epochs,
            "batch_size": spec.batch_size,
            "learning_rate_multiplier": spec.learning_rate_multiplier,
            "beta": spec.beta,
        }
        values = {name: value for name, value in chosen.items() if value is not None} | spec.hyperparameters
        body: dict[str, Any] = {
            "model": self.base,
            "training_file": state.training_file,
            "suffix": spec.suffix,
            "seed": spec.seed,
            "metadata": {"steelyard": state.key},
        }
        if state.validation_file is not None:
            body["validation_file"] = state.validation_file
        if spec.job_format == "hyperparameters":
            return body | {"hyperparameters": values}
        return body | {"method": {"type": spec.method_kind, spec.method_kind: {"hyperparameters": values}}}


@dataclass(frozen=True, kw_only=True, slots=True)
class JobDone:
    """A job that succeeded."""

    body: Mapping[str, Any]
    """As the host shows it."""
    events: tuple[Mapping[str, Any], ...]
    """What happened, oldest first, at most the last thousand."""
    usd: float | None
    """What it cost; `None` where the price or the tokens are unknown."""
    ended_badly: tuple[str, ...] = ()
    """Earlier jobs for the same thing, with how they ended."""


async def carry_out(
    order: JobOrder, api: TuningApi, *, state_file: Path, till: Till, usd_of: Callable[[int], float | None],
    say: Callable[[str], None],
) -> JobDone:  # fmt: skip
    """Start the job, or find the one that was started, and wait until it has ended.

    Args:
        order: What it is to do.
        api: The host.
        state_file: Where its state is kept.
        till: Counts money against the study's budget.
        usd_of: Price of so many training tokens.
        say: Shows one line of progress.

    Raises:
        RunStopped: The job failed, was cancelled or has expired (the next command starts another), it has not ended in
            time (the next command waits again), the budget does not allow it, or the host cannot be used.
        InputError: The budget is in money, and the price is unknown.
    """
    state = read_state(state_file) or JobState(key=f"steelyard-{order.digest[:16]}-1")
    try:
        if state.job is None:
            state = await _started(order, api, state, state_file, till, say)
        body = await _waited_for(order, api, state, say)
        events = await _events(api, str(state.job))
    except EndpointFault as fault:
        raise EndpointUnusable(Problem(what=fault.message, where=order.where, hint=fault.hint)) from None
    status = str(body.get("status"))
    n_tokens = trained_tokens(body)
    usd = None if n_tokens is None else usd_of(n_tokens)
    if status == "succeeded" and body.get("fine_tuned_model"):
        if usd is not None:
            till.settle(state.key, usd)
        return JobDone(body=body, events=events, usd=usd, ended_badly=state.ended_badly)
    if usd is not None or status == "failed":
        # A job that failed and tells of no training has not trained; of others the most they can have cost stays counted.
        till.settle(state.key, usd or 0.0)
    write_state(state_file, state.next(f"{state.job}: {status}"))
    raise RunStopped(_ended_badly(order, state, body, events, api))


def trained_tokens(body: Mapping[str, Any]) -> int | None:
    """The tokens a host charges for, all passes together; `None` where it does not say."""
    found = body.get("trained_tokens")
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None


def how_to_cancel(api: TuningApi, job: str) -> str:
    """A command line that ends the job."""
    key = f' -H "Authorization: Bearer ${api.key_name}"' if api.key_name else ""
    return f"curl -X POST{key} {api.url}/fine_tuning/jobs/{job}/cancel"


def read_state(path: Path) -> JobState | None:
    """What is known of the job, if there is one.

    Raises:
        StorageFailed: The file is damaged.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return JobState(**{**kept, "ended_badly": tuple(kept["ended_badly"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StorageFailed(
            Problem(
                what=f"what is known of a hosted tuning job cannot be read ({error})",
                where=str(path),
                hint="look at the host whether the job is still running; remove the file to start another",
            )
        ) from None


def write_state(path: Path, state: JobState) -> None:
    """Keep the state; it is on disk when this returns.

    Raises:
        StorageFailed: It cannot be written.
    """
    partial = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as stream:
            json.dump(asdict(state), stream, indent=2)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise StorageFailed(
            Problem(what=f"the state of a hosted tuning job cannot be written ({error})", where=str(path))
        ) from None


# ---- private --------------------------------------------------------------------------------------------------------


async def _started(
    order: JobOrder, api: TuningApi, state: JobState, state_file: Path, till: Till, say: Callable[[str], None]
) -> JobState:
    """The state with the id of a job that runs."""
    if state.is_asked_for:
        say("hosted tuning: looking for a job that was perhaps started before")
        found = await _found(order, api, state, state_file)
        if found is not None:
            return found
    else:
        till.reserve(state.key, order.most_usd)
        try:
            state = await _uploaded(order, api, state, state_file, say)
        except EndpointFault:
            till.settle(state.key, 0.0)
            raise
        state = replace(state, is_asked_for=True)
        write_state(state_file, state)
    for number in range(_CREATE_TRIES):
        try:
            body = await api.create(order.body(state), key=state.key)
            return _noted(state, body, state_file, order)
        except EndpointFault as fault:
            if not fault.retry:
                # Turned away: there is no job, and the files may be what is wrong with it.
                till.settle(state.key, 0.0)
                write_state(state_file, state.next())
                raise
            if number + 1 == _CREATE_TRIES:
                raise
            say(f"hosted tuning: {fault.message}; trying again")
            await asyncio.sleep(wait_s(fault, number))
        found = await _found(order, api, state, state_file)
        if found is not None:
            return found
    raise AssertionError("unreachable: the last try either returns or raises")


async def _uploaded(
    order: JobOrder, api: TuningApi, state: JobState, state_file: Path, say: Callable[[str], None]
) -> JobState:
    for field, content, n in (
        ("training_file", order.files.training, order.files.n_train),
        ("validation_file", order.files.validation, order.files.n_validation),
    ):
        if not content or getattr(state, field) is not None:
            continue
        say(f"hosted tuning: uploading {n:,} examples as {field.replace('_', ' ')}")
        body = await api.upload(content, file_name=f"{state.key}-{field.split('_')[0]}.jsonl")
        file_id = body.get("id")
        if not isinstance(file_id, str):
            raise EndpointFault("rejected", f"{api.url}/files took the {field.replace('_', ' ')} but gave it no id")
        await _usable(order, api, body, field)
        if field == "training_file":
            state = replace(state, training_file=file_id)
        else:
            state = replace(state, validation_file=file_id)
        write_state(state_file, state)
    return state


async def _usable(order: JobOrder, api: TuningApi, body: Mapping[str, Any], field: str) -> None:
    """Wait until the host has looked at a file; some start no job before."""
    deadline = time.monotonic() + order.spec.timeout_seconds
    while body.get("status") not in _READY:
        if body.get("status") in _BAD_FILE:
            said = api.clean(str(body.get("status_details") or "no reason given"))
            raise EndpointFault("rejected", f"the host rejected the {field.replace('_', ' ')}: {said}")
        if time.monotonic() > deadline:
            raise EndpointFault("rejected", f"the host has not looked at the {field.replace('_', ' ')} in time")
        await asyncio.sleep(min(order.spec.poll_seconds, 5.0))
        body = await api.file(str(body["id"]))


async def _found(order: JobOrder, api: TuningApi, state: JobState, state_file: Path) -> JobState | None:
    """The job that was started without our hearing of it, if there is one."""
    try:
        async for body in api.jobs():
            mark = (body.get("metadata") or {}).get("steelyard") if isinstance(body.get("metadata"), dict) else None
            if mark == state.key or body.get("training_file") == state.training_file:
                return _noted(state, body, state_file, order)
    except EndpointFault as fault:
        raise EndpointUnusable(
            Problem(
                what=f"a tuning job may have been started, and the host does not tell its jobs: {fault.message}",
                where=order.where,
                hint="run the same command again; if it stays so, look at the host for a job on the file "
                f"{state.training_file}, and remove {state_file} if there is none",
            )
        ) from None
    return None


def _noted(state: JobState, body: Mapping[str, Any], state_file: Path, order: JobOrder) -> JobState:
    job = body.get("id")
    if not isinstance(job, str):
        raise EndpointUnusable(Problem(what="the host started a job but gave it no id", where=order.where))
    state = replace(state, job=job)
    write_state(state_file, state)
    return state


async def _waited_for(
    order: JobOrder, api: TuningApi, state: JobState, say: Callable[[str], None]
) -> Mapping[str, Any]:
    """The job as the host shows it once it has ended; what may pass is waited out."""
    job = str(state.job)
    deadline = time.monotonic() + order.spec.timeout_seconds
    status = "unknown"
    told: str | None = None
    while True:
        try:
            body = await api.job(job)
            status = str(body.get("status"))
            if status in _ENDED:
                return body
            told = await _latest_event(api, job) or told
            say(f"hosted tuning: {job} is {status}" + (f", {told}" if told else ""))
        except EndpointFault as fault:
            if not fault.retry:
                raise
            say(f"hosted tuning: {fault.message}; the job goes on, asking again")
        if time.monotonic() + order.spec.poll_seconds > deadline:
            raise RunStopped(
                Problem(
                    what=f"the tuning job {job} of {order.name!r} has not ended within {order.spec.timeout_seconds:g} s"
                    f" (it is {status})",
                    where=f"{order.where}.timeout_seconds",
                    hint="it goes on at the host and the same command waits for it again; to end it: "
                    + how_to_cancel(api, job),
                )
            )
        await asyncio.sleep(order.spec.poll_seconds)


async def _latest_event(api: TuningApi, job: str) -> str | None:
    try:
        async for event in api.events(job):
            return api.clean(str(event.get("message", "")))[:200]
    except EndpointFault as fault:
        if fault.retry:  # what is waited for is the job; a host without events is a host without events
            raise
    return None


async def _events(api: TuningApi, job: str) -> tuple[Mapping[str, Any], ...]:
    found: list[Mapping[str, Any]] = []
    try:
        async for event in api.events(job):
            kept = {name: event[name] for name in ("created_at", "level", "message", "data") if event.get(name)}
            found.append({**kept, "message": api.clean(str(event.get("message", "")))[:500]})
            if len(found) >= _MOST_EVENTS:
                break
    except EndpointFault:  # the job has ended whether or not anybody tells how
        pass
    return tuple(reversed(found))


def _ended_badly(
    order: JobOrder, state: JobState, body: Mapping[str, Any], events: tuple[Mapping[str, Any], ...], api: TuningApi
) -> Problem:
    status = str(body.get("status"))
    error = body.get("error")
    said = error.get("message") if isinstance(error, dict) else error
    if not said:
        said = next((event["message"] for event in reversed(events) if event.get("level") == "error"), None)
    what = {
        "succeeded": "has ended, but the host names no tuned model",
        "failed": "failed at the host",
        "expired": "has expired: the host gave it up before it was done",
    }.get(status, "was cancelled at the host")
    reason = f": {api.clean(' '.join(str(said).split()))[:500]}" if said else ""
    param = error.get("param") if isinstance(error, dict) else None
    about = f" (about {param})" if isinstance(param, str) and param else ""
    return Problem(
        what=f"the tuning job {state.job} of {order.name!r} {what}{reason}{about}",
        where=order.where,
        hint=("mend what it says; " if reason else "") + "the same command starts another job",
    )
