"""Which cases a run puts to which approach: the test split, parity cases, and dev cases for cascades."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from steelyard.approaches.approach import Prepared
from steelyard.approaches.cascade_spec import CascadeSpec
from steelyard.cases.case import Case
from steelyard.cases.sample import take
from steelyard.engine.run import Work
from steelyard.errors import InputError, Problem

if TYPE_CHECKING:
    from steelyard.study.racing import Rounds
    from steelyard.study.running import Plan

PARITY_CASES = 60
"""Validation cases a LoRA is asked again as served; enough to see a wrong export, cheap enough for every run."""
FEWEST_DEV_CASES = 20
"""Labelled dev cases below which no threshold can be chosen."""


def work_of(plan: Plan, prepared: Mapping[str, Prepared]) -> list[Work]:
    """The test split for every approach, each after its own parity cases if it has any."""
    parity = {one.approach.name: one for one in parity_work(plan, prepared)}
    work = []
    for name, one in prepared.items():
        if name in parity:
            work.append(parity[name])
        work.append(Work(approach=one.approach, cases=plan.test, split="test", repeats=plan.file.run.repeats))
    return work


def parity_work(plan: Plan, prepared: Mapping[str, Prepared]) -> list[Work]:
    """For a LoRA the cases its training was validated on.

    They show whether the adapter answers as served as it did where it was trained; they are journalled under `train`
    and enter no figure of the test split.
    """
    work = []
    by_id = {case.id: case for case in plan.material.splits.train}
    for one in prepared.values():
        card = one.setup.card or {}
        held_out = [
            by_id[case_id] for case_id in list(card.get("validation_right", {}))[:PARITY_CASES] if case_id in by_id
        ]
        if one.adapter is not None and held_out:
            work.append(Work(approach=one.approach, cases=held_out, split="train"))
    return work


def first_round(plan: Plan, prepared: Mapping[str, Prepared], rounds: Rounds) -> list[Work]:
    """The parity cases of those still in, and where the race goes on."""
    first = rounds.more()
    left = {one.approach.name for one in first}
    return [*(one for one in parity_work(plan, prepared) if one.approach.name in left), *first]


def dev_work(plan: Plan, cascade: str, prepared: Mapping[str, Prepared]) -> list[Work]:
    """The dev cases for both members of a cascade."""
    spec = plan.cascades[cascade]
    cases = dev_cases(plan, cascade, spec)
    return [
        Work(approach=prepared[member].approach, cases=cases, split="dev")
        for member in (spec.first, spec.then)
        if member in prepared
    ]


def dev_cases(plan: Plan, cascade: str, spec: CascadeSpec) -> tuple[Case, ...]:
    """The dev cases a cascade is set by: labelled ones, a seeded sample. Never a test case.

    Raises:
        InputError: There are too few.
    """
    labelled = [case for case in plan.material.splits.dev if case.expected]
    if len(labelled) < FEWEST_DEV_CASES:
        raise InputError(
            Problem(
                what=f"a cascade is set on labelled dev cases, at least {FEWEST_DEV_CASES}, and there are"
                f" {len(labelled)}",
                where=f"study.yaml:approaches.{cascade}.cascade",
                hint="raise cases.split.dev, label more cases, or leave out the cascade",
            )
        )
    return take(labelled, spec.dev_cases, plan.file.cases.split.seed)
