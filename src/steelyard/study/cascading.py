"""Set cascades on dev: ask both members, learn how far the first can be believed, choose the threshold.

Everything here rests on the dev split. The calls are the engine's, journalled and under the budget; a cascade that was
set before finds them in the journal and pays nothing. What they cost counts as looking for a setting, once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from steelyard.approaches.approach import Prepared, Setup
from steelyard.approaches.cascade import Calibration, Cascade, calibrate
from steelyard.approaches.cascade_spec import CascadeSpec, in_order
from steelyard.approaches.tuning.calibration import reliability
from steelyard.engine.journal import Journal
from steelyard.engine.outcome import Outcome, OutcomeStatus
from steelyard.engine.run import Work
from steelyard.errors import InputError, Problem
from steelyard.measure.escalation import Choice, DevCases, choose, curve, point_at
from steelyard.study.working import FEWEST_DEV_CASES, dev_cases, dev_work

if TYPE_CHECKING:
    from steelyard.study.running import Plan

_FOLDS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Cascaded:
    """A cascade that is ready, and what setting it took."""

    prepared: Prepared
    sentence: str
    cost_usd: float | None
    """What the dev cases cost with both members; `None` where a price is not known."""

    def record(self) -> dict[str, Any]:
        """What a run that uses it writes down; see `Optimised.record`."""
        return {"sentence": self.sentence, "cost_usd": self.cost_usd, "winner": self.prepared.approach.fingerprint}


def set_cascades(
    plan: Plan, members: Mapping[str, Prepared], *, ask: Callable[[Sequence[Work]], object], journal: Journal
) -> dict[str, Cascaded]:
    """Make the cascades of a plan ready.

    Args:
        plan: Holds them, and the dev cases.
        members: All approaches they name that are no cascades themselves.
        ask: Has the engine do work.
        journal: Where it is recorded.

    Raises:
        InputError: There are too few dev cases, or the first approach stated no confidence.
        RunStopped: The run ended on the way; the same call goes on from there.
    """
    found: dict[str, Cascaded] = {}
    there = dict(members)
    for name in in_order(plan.cascades):
        spec = plan.cascades[name]
        work = dev_work(plan, name, there)
        if any(True for one in work for _ in one.left(journal)):
            ask(work)
        found[name] = _set(name, spec, there, plan, journal)
        there[name] = found[name].prepared
    return {name: found[name] for name in plan.cascades}


# ---- private --------------------------------------------------------------------------------------------------------


def _set(name: str, spec: CascadeSpec, there: Mapping[str, Prepared], plan: Plan, journal: Journal) -> Cascaded:
    first, then = there[spec.first], there[spec.then]
    pairs, n_unscored = _pairs(name, spec, first, then, plan, journal)
    calibration, facts = _calibration(name, spec, pairs)
    dev = _dev(pairs, calibration)
    points = curve(dev)
    if spec.below == "auto":
        choice = choose(points, wanted=spec.success)
    else:
        choice = Choice(point_at(dev, spec.below), is_reached=True)
    alone = float(dev.then.mean())
    sentence = _sentence(spec, choice, alone, n=len(pairs))
    usd = _sum_known([one.cost_usd for pair in pairs for one in pair])
    for member in (spec.first, spec.then):
        if member in plan.searched:  # the prompt of a member was searched for, and the cascade uses it
            usd = _sum_known([usd, plan.searched[member].cost_usd])
    card = {
        **asdict_of(spec),
        "threshold": choice.point.threshold,
        "is_reached": choice.is_reached,
        "chosen": choice.point.to_json(),
        "then_alone": alone,
        "n_dev": len(pairs),
        "n_unscored": n_unscored,
        "dev_cost_usd": usd,
        "calibration": facts,
        "curve": [point.to_json() for point in points],
        "sentence": sentence,
    }
    approach = Cascade(
        name=name,
        first=first.approach,
        then=then.approach,
        calibration=calibration,
        threshold=round(choice.point.threshold, 9),
    )
    prepared = Prepared(approach=approach, setup=_setup(first.setup, then.setup, card))
    return Cascaded(prepared=prepared, sentence=sentence, cost_usd=usd)


def asdict_of(spec: CascadeSpec) -> dict[str, Any]:
    """The settings, as plain data."""
    return spec.model_dump(mode="json")


def _pairs(
    name: str, spec: CascadeSpec, first: Prepared, then: Prepared, plan: Plan, journal: Journal
) -> tuple[list[tuple[Outcome, Outcome]], int]:
    """What both did with each dev case that could be scored, and how many could not."""
    wanted = {case.id: case.digest() for case in dev_cases(plan, name, spec)}

    def outcomes(one: Prepared) -> dict[str, Outcome]:
        versions = {one.approach.name: one.approach.fingerprint}
        rows = journal.outcomes(versions, split="dev")
        return {row.case_id: row for row in rows if row.repeat == 0 and wanted.get(row.case_id) == row.case_digest}

    of_first, of_then = outcomes(first), outcomes(then)
    both = [(of_first[case_id], of_then[case_id]) for case_id in wanted if case_id in of_first and case_id in of_then]
    scored = [pair for pair in both if all(_success(one) is not None for one in pair)]
    if len(scored) < FEWEST_DEV_CASES:
        raise InputError(
            Problem(
                what=f"only {len(scored)} of {len(wanted)} dev cases could be scored, too few to set a cascade",
                where=f"study.yaml:approaches.{name}.cascade",
                hint="look at the scoring of the task; a judge that gives no verdict leaves a case unscored",
            )
        )
    return scored, len(both) - len(scored)


def _success(outcome: Outcome) -> bool | None:
    """Whether it is one; whatever ended without a valid answer is none, scored or not."""
    return False if outcome.status is not OutcomeStatus.ANSWERED else outcome.success


def _calibration(
    name: str, spec: CascadeSpec, pairs: Sequence[tuple[Outcome, Outcome]]
) -> tuple[Calibration, dict[str, Any]]:
    """How far the first one's confidence can be believed; measured on cases that had no part in the fit."""
    known = [(first, first.confidence) for first, _ in pairs if _has_answer(first) and first.confidence is not None]
    if not known:
        raise InputError(
            Problem(
                what=f"{spec.first!r} said of none of {len(pairs)} dev cases how sure it is",
                where=f"study.yaml:approaches.{name}.cascade.first",
                hint="its endpoint gives no log-probabilities, or it had no valid answer: let a tuned head or a vote"
                " answer first, or another endpoint",
            )
        )
    stated = np.array([confidence for _, confidence in known], np.float64)
    right = np.array([_success(first) is True for first, _ in known])
    fold = np.array([_fold(first) for first, _ in known])
    crossed = np.empty_like(stated)
    for one in range(_FOLDS):
        held = fold == one
        if held.any():
            crossed[held] = calibrate(stated[~held], right[~held]).of_all(stated[held])
    found = calibrate(stated, right)
    return found, {
        **asdict(found),
        "n": len(known),
        "stated": reliability(np.clip(stated, 0.0, 1.0), right).to_json(),
        "calibrated": reliability(crossed, right).to_json(),
    }


def _fold(outcome: Outcome) -> int:
    """Cases of a cluster stay together; the same in every process."""
    key = f"cluster {outcome.cluster}" if outcome.cluster is not None else f"case {outcome.case_id}"
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest()) % _FOLDS


def _has_answer(outcome: Outcome) -> bool:
    return outcome.status is OutcomeStatus.ANSWERED


def _dev(pairs: Sequence[tuple[Outcome, Outcome]], calibration: Calibration) -> DevCases:
    kept = np.array([_success(first) is True for first, _ in pairs])
    then = np.array([_success(then) is True for _, then in pairs])
    has_better = np.array([_has_answer(then) for _, then in pairs])
    confidence = np.array([_confidence(first, calibration) for first, _ in pairs])
    clusters = [("c", one.cluster) if one.cluster is not None else ("i", one.case_id) for one, _ in pairs]
    codes = {key: code for code, key in enumerate(dict.fromkeys(clusters))}
    return DevCases(
        confidence=confidence,
        kept=kept,
        escalated=np.where(has_better, then, kept),  # a valid answer is not given up for an invalid one
        then=then,
        first_usd=np.array([_or_nan(first.cost_usd) for first, _ in pairs]),
        then_usd=np.array([_or_nan(then.cost_usd) for _, then in pairs]),
        cluster=np.array([codes[key] for key in clusters], np.int64),
    )


def _confidence(first: Outcome, calibration: Calibration) -> float:
    if not _has_answer(first):
        return -1.0
    return 0.0 if first.confidence is None else calibration.of(first.confidence)


def _sentence(spec: CascadeSpec, choice: Choice, alone: float, *, n: int) -> str:
    point = choice.point
    sure = f"where it is at least {point.threshold:.1%} sure" if point.threshold else "whatever it can"
    does = (
        f"{spec.first} answers {sure}, {spec.then} the other"
        f" {point.escalated:.0%}: {point.success:.1%} of {n} dev cases right (at least {point.success_low:.1%}),"
        f" {spec.then} alone {alone:.1%}"
    )
    if spec.below != "auto":
        return f"{does}; threshold as in study.yaml"
    wanted = f"the success of {spec.then} alone" if spec.success is None else f"{spec.success:.0%}"
    if choice.is_reached:
        return f"{does}; the cheapest threshold that reaches {wanted} on dev"
    return f"{does}; no threshold reaches {wanted} on dev, this is the most successful one"


def _setup(first: Setup, then: Setup, card: Mapping[str, Any]) -> Setup:
    """Both members have to be made ready, and what keeps an index up to date is kept for the cascade too."""
    cards = [one.card for one in (then, first) if one.card and "knowledge" in one.card]
    index = {"knowledge": cards[0]["knowledge"]} if cards else {}
    return Setup(
        seconds=first.seconds + then.seconds,
        cost_usd=_sum_known([first.cost_usd, then.cost_usd]),
        n_examples=max(first.n_examples, then.n_examples),
        reused=first.reused and then.reused,
        card={"cascade": dict(card), **index},
    )


def _sum_known(amounts: Sequence[float | None]) -> float | None:
    known = [one for one in amounts if one is not None]
    return sum(known) if len(known) == len(amounts) else None


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
