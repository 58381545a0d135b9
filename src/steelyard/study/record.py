"""What a run writes down besides calls and outcomes, so that every report can be made from the journal alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steelyard.approaches.approach import Prepared, Setup
from steelyard.approaches.cascade import endpoints_of
from steelyard.economics.ledger import ApproachFacts, StepCost
from steelyard.engine.entries import Spent, StepSums
from steelyard.engine.journal import Journal
from steelyard.errors import InputError, Problem
from steelyard.figures import Provenance, weakest
from steelyard.measure.scoring import in_ladder_order
from steelyard.models.spec import PriceSpec
from steelyard.study.file import StudyFile

RECORD_SCHEMA = "steelyard.run/1"
NOTHING_SPENT = Spent(0, 0.0, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ApproachRecord:
    """One version of one approach, as the last run that used it left it."""

    name: str
    fingerprint: str
    levers: tuple[str, ...]
    endpoint: str | None
    price: Provenance
    is_local: bool
    settings: Mapping[str, Any]
    """What study.yaml said about it then; see `settings_of`."""
    search: Mapping[str, Any] | None = None
    """The search for its prompt, or for the threshold of a cascade, where there was one: `sentence`, `cost_usd`, `winner`."""
    endpoints: tuple[str, ...] = ()
    """All endpoints it calls; of a cascade those of both members."""

    @property
    def knowledge(self) -> Mapping[str, Any] | None:
        """What it showed of the documents, as study.yaml had it; `None` where it showed nothing."""
        found: Mapping[str, Any] | None = (self.settings["approach"].get("retrieval") or {}).get("knowledge")
        return found

    @property
    def is_ceiling(self) -> bool:
        """Whether it was shown the gold passages."""
        return (self.knowledge or {}).get("context") == "gold"

    def facts(
        self,
        setup: Setup | None,
        *,
        steps: Sequence[StepSums] = (),
        n_outcomes: int = 0,
        paid: PriceSpec | None = None,
        now: PriceSpec | None = None,
    ) -> ApproachFacts:
        """What the ledger and the gates have to know.

        Args:
            setup: What its preparation took.
            steps: What its steps took in all outcomes together.
            n_outcomes: How many outcomes that were.
            paid: The price of its endpoint when it ran, where it has one.
            now: The same as study.yaml has it now.
        """
        index = _index_card(setup)
        return ApproachFacts(
            name=self.name,
            levers=self.levers,
            calls_model=self.endpoint is not None,
            n_labels=setup.n_examples if setup else 0,
            setup_seconds=setup.seconds if setup else 0.0,
            setup_cost_usd=setup.cost_usd if setup else None,
            index_cost_usd=index.get("cost_usd"),
            index_usd_per_hour=_hourly(index),
            index_seconds_per_month=index.get("seconds_per_month"),
            is_ceiling=self.is_ceiling,
            search_cost_usd=self.search["cost_usd"] if self.search else 0.0,
            teacher_cost_usd=_teacher_cost(setup),
            price=self.price,
            batch_discount=now.batch_discount if now else None,
            cached_saving_usd_per_task=_cached_saving(steps, n_outcomes, paid),
            step_costs=_step_costs(steps, n_outcomes),
            endpoint=self.endpoint,
            other_endpoints=tuple(name for name in self.endpoints if name != self.endpoint),
            is_local=self.is_local,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyRecord:
    """Everything the runs of a study wrote down about it."""

    file: StudyFile
    """As it was when the last run began."""
    approaches: Mapping[str, ApproachRecord]
    """Latest version of each approach."""
    split_counts: Mapping[str, int]
    notes: tuple[str, ...]
    models: Mapping[str, str]
    """Identity of the model behind each endpoint."""
    package_version: str
    started_utc: str
    finished_utc: str
    """When the last run began and ended (or began, if it never ended)."""


def run_record(
    file: StudyFile,
    *,
    prepared: Mapping[str, Prepared],
    prices: Mapping[str, Provenance],
    compute_price: Provenance,
    models: Mapping[str, str],
    split_counts: Mapping[str, int],
    notes: tuple[str, ...],
    searches: Mapping[str, Mapping[str, Any]] | None = None,
    spent: Spent = NOTHING_SPENT,
) -> dict[str, Any]:
    """The record of one run, as JSON.

    `spent` is what the study had paid when the run began; so what each command paid is known even if it was killed.
    """
    approaches = {}
    for name, one in prepared.items():
        endpoints = endpoints_of(one.approach)
        price = weakest(prices[name] for name in endpoints) if endpoints else compute_price
        approaches[name] = {
            "fingerprint": one.approach.fingerprint,
            "levers": list(in_ladder_order(one.approach.levers)),
            "endpoint": one.approach.endpoint,
            "endpoints": list(endpoints),
            "price": {"kind": price.kind, "source": price.source, "as_of": price.as_of},
            "is_local": all(name == "local" for name in endpoints),
            "search": (searches or {}).get(name),
        }
    return {
        "schema": RECORD_SCHEMA,
        # Only what the user wrote: a default that is shown as assumed must stay a default.
        "study": file.model_dump(mode="json", exclude_unset=True),
        "approaches": approaches,
        "models": dict(models),
        "split_counts": dict(split_counts),
        "notes": list(notes),
        "spent_before": spent_before(spent),
    }


def read_record(journal: Journal, *, where: str) -> StudyRecord:
    """What the runs of a study wrote down; of each approach the latest version.

    Raises:
        InputError: Nothing was run yet.
    """
    runs = [run for run in journal.runs() if run.study.get("schema") == RECORD_SCHEMA]
    if not runs:
        raise InputError(Problem(where=where, what="nothing was run in this study yet", hint=f"steelyard run {where}"))
    approaches: dict[str, ApproachRecord] = {}
    for run in runs:
        for name, shape in run.study["approaches"].items():
            approaches[name] = ApproachRecord(
                name=name,
                fingerprint=shape["fingerprint"],
                levers=tuple(shape["levers"]),
                endpoint=shape["endpoint"],
                endpoints=tuple(shape.get("endpoints") or ([shape["endpoint"]] if shape["endpoint"] else [])),
                price=Provenance(**shape["price"]),
                is_local=shape["is_local"],
                settings=settings_of(run.study["study"], name),
                search=shape.get("search"),
            )
    last = runs[-1]
    return StudyRecord(
        file=StudyFile.model_validate(last.study["study"]),
        approaches=approaches,
        split_counts=last.study["split_counts"],
        notes=tuple(last.study["notes"]),
        models={name: model for run in runs for name, model in run.study["models"].items()},
        package_version=last.package_version,
        started_utc=last.started_utc,
        finished_utc=last.finished_utc or last.started_utc,
    )


def spent_before(spent: Spent) -> dict[str, Any]:
    """What a study had paid when a command began, as its record has it."""
    return {"calls": spent.calls, "usd": spent.usd}


def settings_of(study: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The parts of a study file, as JSON, that decide what an approach answers and how that is scored."""
    approach = dict(study["approaches"].get(name) or {})
    approach.pop("optimise", None)  # what may be tried changes no answer; what was found has a fingerprint of its own
    endpoint = study.get("models", {}).get("endpoints", {}).get(approach.get("model", "local"), {})
    asked = {key: endpoint.get(key) for key in ("base_url", "model", "extra_body")}
    # What is looked at apart from the score can be named later, without running anything again.
    task = {key: value for key, value in study["task"].items() if key not in ("support", "injections")}
    # Distilled labels are learned from: what was learned is part of the fingerprint.
    cases = {key: value for key, value in study["cases"].items() if key != "distilled"}
    found = {"task": task, "cases": cases, "approach": approach, "endpoint": asked}
    reads = (approach.get("retrieval") or {}).get("knowledge") is not None
    cascade = approach.get("cascade") or {}
    members = {member: settings_of(study, member) for key in ("first", "then") if (member := cascade.get(key))}
    return found | ({"knowledge": study.get("knowledge")} if reads else {}) | ({"members": members} if members else {})


def _index_card(setup: Setup | None) -> Mapping[str, Any]:
    """What is known of the index of documents; empty where there is none."""
    return ((setup.card or {}).get("knowledge") or {}) if setup else {}


def _teacher_cost(setup: Setup | None) -> float | None:
    """What teachers were paid for labels it learned from; nothing where it learned from none."""
    distilled = (setup.card or {}).get("distilled") if setup else None
    return distilled["cost_usd"] if distilled else 0.0


def _hourly(index: Mapping[str, Any]) -> float | None:
    """Price of an hour of keeping an index up to date, in USD: of the machine, and of an endpoint that embeds."""
    usd, seconds = index.get("cost_usd"), index.get("seconds")
    if usd is None or not seconds:
        return None
    embeddings = index.get("embeddings") or {}
    machine = (usd - embeddings.get("usd", 0.0)) / seconds
    monthly, busy = embeddings.get("usd_per_month"), index.get("seconds_per_month")
    return float(machine + (monthly / busy if monthly and busy else 0.0)) * 3600


def _step_costs(steps: Sequence[StepSums], n_outcomes: int) -> tuple[StepCost, ...]:
    """Steps per task; none where an endpoint does not say how many tokens it used."""
    costs = []
    for step in steps:
        if step.prompt_tokens is None or step.completion_tokens is None:
            return ()
        costs.append(
            StepCost(
                step=step.step,
                calls=step.calls / n_outcomes,
                prompt_tokens=step.prompt_tokens / n_outcomes,
                completion_tokens=step.completion_tokens / n_outcomes,
                seconds=step.seconds / n_outcomes,
                usd=None if step.usd is None else step.usd / n_outcomes,
            )
        )
    return tuple(costs)


def _cached_saving(steps: Sequence[StepSums], n_outcomes: int, paid: PriceSpec | None) -> float | None:
    """USD a task by which cached prompt tokens cost less than others; `None` where nobody said how many there were."""
    known = [step.cached_tokens for step in steps if step.cached_tokens is not None]
    if paid is None or paid.cached_input is None or not known:
        return None
    return sum(known) * (paid.input - paid.cached_input) / 1e6 / n_outcomes


def nothing_run(where: str) -> InputError:
    """The error for a study without outcomes."""
    return InputError(Problem(where=where, what="nothing was run in this study yet", hint=f"steelyard run {where}"))
