"""What a verdict on a study or on imported outcomes rests on, today and as any earlier verdict took it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from typing import Any

import orjson

from steelyard.decision.call import Call, Weighing, choose, weigh
from steelyard.decision.spec import GoalSpec
from steelyard.economics.spec import MoneySpec
from steelyard.engine.journal import Journal
from steelyard.measure.results import ApproachResults
from steelyard.models.spec import LocalModelSpec, PriceSpec
from steelyard.study.history import Basis
from steelyard.study.outcomes import Outcomes
from steelyard.study.record import RECORD_SCHEMA
from steelyard.study.reprice import LOCAL, PriceChange, Prices, reprice, reprice_facts
from steelyard.study.scoring import Evidence

Settings = Mapping[str, Any]
"""`money`, `goal`, `prices`, `retired`, `approaches` as plain JSON: see `Basis.settings`."""


@dataclass(frozen=True, kw_only=True)
class Grounds:
    """What a verdict rests on, and how to reach one under other settings."""

    basis: Basis
    """As the outcomes were paid for: what `decide` rests on."""
    today: Settings
    """The settings of today."""
    under: Callable[[Settings], Weighing]
    """What is weighed under some settings."""
    notes: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    """What will change soon, or has to be done before a recheck says everything."""

    def call(self, settings: Settings) -> Call:
        """The choice under some settings, with today's outcomes."""
        return choose(self.under(settings))


# ---- studies --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _StudyGrounds:
    evidence: Evidence
    journal: Journal
    as_of: date
    _repriced: dict[bytes, dict[str, ApproachResults]] = field(default_factory=dict)

    @cached_property
    def endpoints(self) -> dict[str, list[str]]:
        """Hosted endpoints with the approaches that ask them."""
        found: dict[str, list[str]] = {}
        for name, one in self.evidence.approaches.items():
            for endpoint in one.endpoints:
                if endpoint != LOCAL:
                    found.setdefault(endpoint, []).append(name)
        return found

    @cached_property
    def prices_paid(self) -> dict[str, dict[str, Any]]:
        """What the study files of the runs said about prices: per endpoint in the last run that asked it."""
        found: dict[str, dict[str, Any]] = {LOCAL: {"cpu_hour_usd": LocalModelSpec().cpu_hour_usd}}
        for run in self.journal.runs():
            if run.study.get("schema") != RECORD_SCHEMA:
                continue
            models = run.study["study"].get("models", {})
            found[LOCAL] = _cpu_hour(models.get("local", {}))
            for endpoint, names in self.endpoints.items():
                if any(name in run.study["approaches"] for name in names):
                    found[endpoint] = _price(models.get("endpoints", {}).get(endpoint, {}).get("price_per_million"))
        return {endpoint: price | {_FLAG: True} for endpoint, price in found.items()}

    @cached_property
    def prices_today(self) -> dict[str, dict[str, Any]]:
        """What study.yaml says; as journalled where the calls were paid at just these prices."""
        models = self.evidence.file.models
        now: dict[str, dict[str, Any]] = {LOCAL: {"cpu_hour_usd": models.local.cpu_hour_usd}}
        for endpoint in self.endpoints:
            spec = models.endpoints.get(endpoint)
            if spec is None:  # no longer in study.yaml: nothing is said about its price
                now[endpoint] = _without_flag(self.prices_paid[endpoint])
            else:
                price = spec.price_per_million
                now[endpoint] = _price(price.model_dump(mode="json") if price else None)
        marked = {}
        for endpoint, one in now.items():
            paid = self.prices_paid[endpoint]
            is_paid = all(one.get(key) == paid.get(key) for key in _AMOUNTS) and self._costs_what_was_paid(endpoint)
            marked[endpoint] = one | {_FLAG: is_paid}
        return marked

    def settings(self, prices: Mapping[str, Any], retired: Mapping[str, str]) -> dict[str, Any]:
        """Settings with these prices and retirements."""
        file = self.evidence.file
        return {
            "money": file.money.model_dump(mode="json"),
            "goal": file.goal.model_dump(mode="json"),
            "prices": dict(prices),
            "retired": dict(retired),
        }

    @cached_property
    def retirements(self) -> dict[str, date]:
        """By endpoint, where study.yaml says when its model goes."""
        specs = self.evidence.file.models.endpoints
        return {name: day for name in self.endpoints if name in specs and (day := specs[name].retired_on) is not None}

    def under(self, settings: Settings) -> Weighing:
        """See `Grounds.under`."""
        prices = self._prices(settings["prices"])
        results, facts = dict(self.evidence.results), self.evidence.facts
        if prices is not None:
            key = orjson.dumps(settings["prices"], option=orjson.OPT_SORT_KEYS)
            if key not in self._repriced:
                self._repriced[key] = {name: reprice(one, self.journal, prices) for name, one in results.items()}
            results = self._repriced[key]
            facts = {name: reprice_facts(one, prices) for name, one in facts.items()}
        retired = {
            name: f"its model is retired since {day}"
            for endpoint, day in settings.get("retired", {}).items()
            for name in self.endpoints.get(endpoint, ())
        }
        return weigh(
            results,
            facts,
            money=_money(settings["money"], self.evidence.file.money),
            goal=GoalSpec.model_validate(_fields(GoalSpec, settings["goal"])),
            baseline=self.evidence.baseline,
            dropped=self.evidence.dropped | retired,
        )

    def _prices(self, wanted: Mapping[str, Any]) -> Prices | None:
        changed = {
            endpoint: PriceChange(
                then=_spec(self.prices_paid[endpoint]), now=_spec(wanted.get(endpoint, self.prices_paid[endpoint]))
            )
            for endpoint in self.endpoints
            if not wanted.get(endpoint, {_FLAG: True}).get(_FLAG)
        }
        machine = wanted.get(LOCAL, self.prices_paid[LOCAL])
        if not changed and machine.get(_FLAG):
            return None
        paid = self.prices_paid[LOCAL]["cpu_hour_usd"]
        return Prices(endpoints=changed, cpu_hour_then=paid, cpu_hour_now=machine.get("cpu_hour_usd", paid))

    def _costs_what_was_paid(self, endpoint: str) -> bool:
        """Whether the journalled costs are what the recorded prices come to; the file may have changed between runs."""
        paid = self.prices_paid
        change = (
            {} if endpoint == LOCAL else {endpoint: PriceChange(then=_spec(paid[endpoint]), now=_spec(paid[endpoint]))}
        )
        cpu_hour = paid[LOCAL]["cpu_hour_usd"]
        prices = Prices(endpoints=change, cpu_hour_then=cpu_hour, cpu_hour_now=cpu_hour)
        for name in self.endpoints.get(endpoint, ()):
            one = self.evidence.results[name]
            again, journalled = reprice(one, self.journal, prices).cost_usd, one.cost_usd
            if not all(
                math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-15) or (math.isnan(a) and math.isnan(b))
                for a, b in zip(again.tolist(), journalled.tolist(), strict=True)
            ):
                return False
        return True


def study_grounds(evidence: Evidence, journal: Journal, *, as_of: date) -> Grounds:
    """The grounds of a study.

    Args:
        evidence: What the journal says.
        journal: For the calls behind the costs; it has to stay open while the grounds are used.
        as_of: Today; models retired by then are left out.
    """
    found = _StudyGrounds(evidence=evidence, journal=journal, as_of=as_of)
    retired = {name: day.isoformat() for name, day in found.retirements.items() if day <= as_of}
    return Grounds(
        basis=Basis(settings=found.settings(found.prices_paid, {}), outcomes=_outcomes(evidence.results)),
        today=found.settings(found.prices_today, retired),
        under=found.under,
        notes=(*evidence.outdated, *evidence.not_run),
        notices=tuple(
            f"The model of {endpoint} is retired on {day}, in {(day - as_of).days} days."
            for endpoint, day in found.retirements.items()
            if day > as_of
        ),
    )


def study_basis(evidence: Evidence, journal: Journal) -> Basis:
    """What `decide` on a study rests on."""
    found = _StudyGrounds(evidence=evidence, journal=journal, as_of=evidence.as_of)
    return Basis(settings=found.settings(found.prices_paid, {}), outcomes=_outcomes(evidence.results))


# ---- imported outcomes ----------------------------------------------------------------------------------------------


def outcomes_grounds(outcomes: Outcomes) -> Grounds:
    """The grounds of outcomes made elsewhere; their costs are as stated, so there are no prices to change."""
    basis = outcomes_basis(outcomes)

    def under(settings: Settings) -> Weighing:
        stated, there = settings.get("approaches", {}), outcomes
        if stated != basis.settings["approaches"]:
            written = outcomes.settings.model_dump(mode="json", exclude_unset=True)
            there = replace(outcomes, settings=type(outcomes.settings).model_validate(written | {"approaches": stated}))
        return weigh(
            there.results,
            there.facts,
            money=_money(settings["money"], outcomes.settings.money),
            goal=GoalSpec.model_validate(_fields(GoalSpec, settings["goal"])),
        )

    return Grounds(basis=basis, today=basis.settings, under=under, notes=outcomes.notes)


def outcomes_basis(outcomes: Outcomes) -> Basis:
    """What `decide` on outcomes made elsewhere rests on."""
    settings = outcomes.settings.model_dump(mode="json", exclude={"as_of"})
    return Basis(settings=settings, outcomes=_outcomes(outcomes.results))


# --- private ---------------------------------------------------------------------------------------------------------

_FLAG = "as_journalled"
_AMOUNTS = ("input", "output", "cached_input", "batch_discount", "cpu_hour_usd")


def _outcomes(results: Mapping[str, ApproachResults]) -> dict[str, dict[str, Any]]:
    found = {}
    for name, one in results.items():
        digest = hashlib.blake2b(digest_size=16)
        digest.update("\0".join(one.case_ids).encode())
        for column in (one.n_repeats, one.success_low, one.success_high, one.cost_usd, one.review_seconds):
            digest.update(column.tobytes())
        found[name] = {"cases": one.n, "fingerprint": one.fingerprint, "digest": digest.hexdigest()}
    return found


def _money(settings: Settings, written: MoneySpec) -> MoneySpec:
    """A money section with other values; what nobody wrote stays assumed by default where it has the same value."""
    present = written.model_dump(mode="json")
    found = _fields(MoneySpec, settings)
    if found == {key: present[key] for key in found}:
        return written
    changed = {key: value for key, value in found.items() if value != present[key] or key in written.model_fields_set}
    return MoneySpec.model_validate(changed).written_in(written.file)


def _fields(section: type[MoneySpec | GoalSpec], settings: Settings) -> dict[str, Any]:
    """The fields this version knows; an older or newer one may have kept others."""
    return {key: value for key, value in settings.items() if key in section.model_fields}


def _price(written: Mapping[str, Any] | None) -> dict[str, Any]:
    if written is None:
        return dict.fromkeys(("input", "output", "cached_input", "batch_discount", "source", "as_of"))
    return PriceSpec.model_validate(written).model_dump(mode="json")


def _without_flag(price: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in price.items() if key != _FLAG}


def _spec(price: Mapping[str, Any]) -> PriceSpec | None:
    if price.get("input") is None:
        return None
    return PriceSpec.model_validate({key: value for key, value in price.items() if key in PriceSpec.model_fields})


def _cpu_hour(written: Mapping[str, Any]) -> dict[str, Any]:
    return {"cpu_hour_usd": LocalModelSpec.model_validate(written).cpu_hour_usd}
