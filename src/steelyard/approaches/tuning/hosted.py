"""Prepare a model tuned by a host: from labelled train cases to a model name that can be asked, paid for once.

What came of it is kept in `hosted-<digest>/card.json`, addressed by all that goes into it: the training files as they were
uploaded, base, host and hyperparameters. Until then `hosted-<digest>.job.json` holds what is known of the job, so that a
command that was stopped or killed goes on with the same one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from steelyard.approaches.approach import Setup
from steelyard.approaches.hosted_spec import HostedTuningSpec
from steelyard.approaches.question import Question
from steelyard.approaches.tuning.hosted_api import TuningApi
from steelyard.approaches.tuning.hosted_data import training_files
from steelyard.approaches.tuning.hosted_job import (
    JobDone,
    JobOrder,
    carry_out,
    how_to_cancel,
    read_state,
    trained_tokens,
    write_state,
)
from steelyard.approaches.tuning.store import CARD, content_digest, damaged, is_complete, new_folder
from steelyard.approaches.workbench import Workbench
from steelyard.cases.case import Case
from steelyard.errors import InputError, Problem
from steelyard.models.endpoint import EndpointFault
from steelyard.models.spec import EndpointSpec

_RECIPE = 1
"""Counts up when a change here would have a host train something else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TunedModel:
    """A model at a host."""

    model: str
    """What the host calls it."""
    identity: str
    """What makes two answers of it interchangeable: its name and address, and everything it was made from."""
    setup: Setup


def prepare_hosted(
    name: str,
    spec: HostedTuningSpec,
    *,
    endpoint: str,
    question: Question,
    cases: Sequence[Case],
    bench: Workbench,
) -> TunedModel:
    """Have a model tuned on the train split, or find the one that was tuned from the same things before.

    Args:
        name: Name of the approach in the study.
        spec: The `tuning:` section, with `method: hosted`.
        endpoint: Name of the endpoint whose address and key are used.
        question: What the deployed model is asked.
        cases: The cases of the train split that can serve as examples.
        bench: Folder, hosts and money.

    Returns:
        The tuned model with its card.

    Raises:
        InputError: No train case to tune on, a missing key, a base that is retired, a price that a budget needs, or a
            damaged card.
        RunStopped: The job ended badly or not in time, the budget does not allow it, or the host cannot be used.
        KeyboardInterrupt: Ctrl-C while waiting; says what becomes of the job.
    """
    where = f"study.yaml:approaches.{name}.tuning"
    host = bench.hosts[endpoint]
    base = spec.base or host.model
    files = training_files(cases, spec, question.prompting, [tool.definition for tool in question.tools], where=where)
    data_digest = hashlib.blake2b(files.training + b"\0" + files.validation, digest_size=16).hexdigest()
    hyperparameters = {
        "method_kind": spec.method_kind,
        "epochs": spec.epochs,
        "batch_size": spec.batch_size,
        "learning_rate_multiplier": spec.learning_rate_multiplier,
        "beta": spec.beta,
        "seed": spec.seed,
        **spec.hyperparameters,
    }
    digest = content_digest([_RECIPE, data_digest, base, host.base_url.rstrip("/"), spec.suffix, hyperparameters])
    folder = bench.folder / f"hosted-{digest}"
    reused = is_complete(folder)
    if not reused:
        _refuse_retired(endpoint, host, base)
        price = spec.price_per_million_training_tokens
        order = JobOrder(
            name=name,
            where=where,
            digest=digest,
            base=base,
            spec=spec,
            files=files,
            most_usd=None if price is None else files.most_tokens * spec.epochs * price.input / 1e6,
        )
        state_file = bench.folder / f"hosted-{digest}.job.json"
        done = _carried_out(order, endpoint, host, state_file, bench)
        card = _card(order, done, host, endpoint, data_digest=data_digest, hyperparameters=hyperparameters)
        with new_folder(folder) as made:
            (made / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        state_file.unlink(missing_ok=True)
    model, setup = _read(folder, reused=reused)
    return TunedModel(model=model, identity=f"{model} at {host.base_url.rstrip('/')} ({digest})", setup=setup)


# ---- private --------------------------------------------------------------------------------------------------------


def _read(folder: Path, *, reused: bool) -> tuple[str, Setup]:
    """Name of the tuned model, and what its job took."""
    try:
        card: dict[str, Any] = json.loads((folder / CARD).read_bytes())
        setup = Setup(
            seconds=card["seconds"], cost_usd=card["cost_usd"], n_examples=card["n_examples"], reused=reused, card=card
        )
        return card["tuned_model"], setup
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "put the file back from a copy; without this folder the host is asked, and paid, for another job"
        raise damaged(folder, f"its {CARD} cannot be read ({error})", hint=hint) from error


def _refuse_retired(endpoint: str, host: EndpointSpec, base: str) -> None:
    day = host.retired_on
    if day is not None and day <= date.today():
        raise InputError(
            Problem(
                what=f"the base model {base!r} is retired since {day}, and so would be what is tuned from it",
                where=f"study.yaml:models.endpoints.{endpoint}.retired_on",
                hint="tune another base, or correct the date",
            )
        )


def _carried_out(order: JobOrder, endpoint: str, host: EndpointSpec, state_file: Path, bench: Workbench) -> JobDone:
    till = bench.till
    if till is None:
        raise InputError(
            Problem(
                what=f"{order.name!r} is not tuned yet, and this command starts no job that costs money",
                where=order.where,
                hint="have it tuned by steelyard run",
            )
        )
    api = TuningApi(endpoint, host, where=f"study.yaml:models.endpoints.{endpoint}")
    _say_what_it_takes(order, host, bench)

    async def carry() -> JobDone:
        async with api:
            return await carry_out(
                order,
                api,
                state_file=state_file,
                till=till,
                usd_of=lambda n_tokens: _usd(order.spec, n_tokens),
                say=bench.say,
            )

    try:
        return asyncio.run(carry())
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_when_stopped(order, api, state_file)) from None


def _say_what_it_takes(order: JobOrder, host: EndpointSpec, bench: Workbench) -> None:
    day = host.retired_on
    most = "at an unknown price" if order.most_usd is None else f"for at most {order.most_usd:.4g} USD"
    left = "" if day is None else f"; the host retires it on {day}, in {(day - date.today()).days:,} days"
    bench.say(f"hosted tuning: {order.base} on {order.files.n_train:,} examples {most}{left}")


def _when_stopped(order: JobOrder, api: TuningApi, state_file: Path) -> str:
    """What becomes of the job, in a sentence; cancels it where study.yaml says so."""
    state = read_state(state_file)
    if state is None or not (state.job or state.is_asked_for):
        return "stopped before any tuning job was started; the same command starts one"
    if state.job is None:
        return "stopped while a tuning job was being started; the same command finds it, if there is one"
    if order.spec.when_stopped == "continue":
        return (
            f"stopped waiting; the tuning job {state.job} goes on at the host and will be charged, and the same command"
            f" waits for it again; to end it: {how_to_cancel(api, state.job)}"
        )

    async def cancel(job: str) -> None:
        async with api:
            await api.cancel(job)

    try:
        asyncio.run(cancel(state.job))
    except EndpointFault as fault:
        return f"stopped, but the tuning job {state.job} could not be cancelled ({fault.message}); end it with: " + (
            how_to_cancel(api, state.job)
        )
    write_state(state_file, state.next(f"{state.job}: cancelled"))
    return (
        f"stopped, and the tuning job {state.job} is cancelled; what it has trained so far may be charged, and the same"
        " command starts another"
    )


def _usd(spec: HostedTuningSpec, n_tokens: int) -> float | None:
    price = spec.price_per_million_training_tokens
    return None if price is None else n_tokens * price.input / 1e6


def _card(
    order: JobOrder,
    done: JobDone,
    host: EndpointSpec,
    endpoint: str,
    *,
    data_digest: str,
    hyperparameters: Mapping[str, Any],
) -> dict[str, Any]:
    spec, files, body = order.spec, order.files, done.body
    price = spec.price_per_million_training_tokens
    reported = trained_tokens(body)
    n_tokens = files.likely_tokens * spec.epochs if reported is None else reported
    return {
        "kind": "hosted",
        "made_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "data_digest": data_digest,
        "n_examples": files.n_train + files.n_validation,
        "n_train": files.n_train,
        "n_validation": files.n_validation,
        "n_left_out": files.n_left_out,
        "base_model": {"name": order.base, "licence": "the host's terms"},
        "retired_on": None if host.retired_on is None else host.retired_on.isoformat(),
        "hyperparameters": dict(hyperparameters),
        "hyperparameters_used": _used(body),
        "provider": urlsplit(host.base_url).netloc,
        "endpoint": endpoint,
        "job": body.get("id"),
        "earlier_jobs": list(done.ended_badly),
        "tuned_model": body["fine_tuned_model"],
        "training_file": body.get("training_file"),
        "validation_file": body.get("validation_file"),
        "events": list(done.events),
        "loss_curve": _curve(done.events),
        "n_tokens": n_tokens,
        "trained_tokens": f"{n_tokens:,} ({'estimated' if reported is None else 'as the host reports'})",
        "price_per_million_training_tokens": None if price is None else price.model_dump(mode="json"),
        "seconds": _seconds(body),
        "cost_usd": _usd(spec, n_tokens),
    }


def _used(body: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever a host shows
    method = body.get("method")
    kind = method.get("type") if isinstance(method, dict) else None
    inside = method.get(kind) if isinstance(method, dict) and isinstance(kind, str) else None
    found = inside.get("hyperparameters") if isinstance(inside, dict) else None
    return found or body.get("hyperparameters")


def _curve(events: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Losses by step, from the events that carry figures."""
    points = []
    for event in events:
        data = event.get("data")
        if isinstance(data, dict) and all(isinstance(data.get(name), int | float) for name in ("step", "train_loss")):
            held_out = (
                {"validation_loss": data["valid_loss"]} if isinstance(data.get("valid_loss"), int | float) else {}
            )
            points.append({"step": data["step"], "loss": data["train_loss"], **held_out})
    return points


def _seconds(body: Mapping[str, Any]) -> float:
    """From the start of the job to its end, as the host has it."""
    began, ended = body.get("created_at"), body.get("finished_at")
    if not isinstance(began, int | float):
        return 0.0
    return max(0.0, float(ended if isinstance(ended, int | float) else time.time()) - float(began))
