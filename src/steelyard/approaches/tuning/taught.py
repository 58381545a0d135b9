"""What a tuned approach learns from: the labels people gave, and beside them those a teacher gave."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from steelyard.approaches.examples import usable_examples
from steelyard.approaches.tuning.repeats import without_repeats
from steelyard.cases.distilled import by_teacher

if TYPE_CHECKING:
    from steelyard.approaches.approach import Setup
    from steelyard.approaches.head_spec import HeadTuningSpec
    from steelyard.approaches.hosted_spec import HostedTuningSpec
    from steelyard.approaches.lora_spec import LoraTuningSpec
    from steelyard.approaches.workbench import Workbench
    from steelyard.cases.case import Case

    Tuning = LoraTuningSpec | HeadTuningSpec | HostedTuningSpec


def taught(bench: Workbench, spec: Tuning) -> Workbench:
    """The bench for a tuner: its train cases are followed by those a teacher labelled, unless they weigh nothing.

    Prompts and indexes keep the bench they have, so that examples shown are people's labels and a teacher that
    retrieves does not change with what it taught.
    """
    distilled = bench.distilled if spec.distilled > 0 else ()
    return replace(bench, train=(*bench.train, *distilled))


def training_cases(bench: Workbench, spec: Tuning) -> tuple[Case, ...]:
    """What can be learned from: usable cases that do not repeat each other, people's labels first."""
    return without_repeats(usable_examples(taught(bench, spec).train, bench.task))


def with_teachers(setup: Setup, cases: Sequence[Case], spec: Tuning) -> Setup:
    """What a training took and shows, with what its teachers did.

    Args:
        setup: Of the training.
        cases: All it could learn from.
        spec: How many it takes, and how much a distilled label weighs.

    Returns:
        `n_examples` counts labels of people alone: nobody labelled the others. What the teachers were paid is on the card,
        for a line of its own in the ledger: a retraining does not pay it again.
    """
    distilled = [case for case in cases if case.teacher is not None]
    if not distilled:
        return setup
    n_by_people = min(setup.n_examples, len(cases) - len(distilled), spec.max_examples)
    facts = {
        "n": setup.n_examples - n_by_people,
        "n_by_people": n_by_people,
        "n_there": len(distilled),
        "weight": spec.distilled,
        "teachers": by_teacher(distilled),
        "licences": _licences(distilled),
        "cost_usd": cost_of_teachers(distilled),
    }
    return replace(setup, n_examples=n_by_people, card={**(setup.card or {}), "distilled": facts})


def cost_of_teachers(cases: Sequence[Case]) -> float | None:
    """What the labels cost in calls and computing, in USD; `None` where that is not known of one of them."""
    costs: list[float | None] = [case.meta.get("cost_usd") for case in cases if case.teacher is not None]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None


# ---- private --------------------------------------------------------------------------------------------------------


def _licences(cases: Sequence[Case]) -> Mapping[str, Any]:
    """The licence notes of each teacher."""
    found: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        assert case.teacher is not None
        found[case.teacher].add(str(case.meta.get("licence")))
    return {name: sorted(notes) for name, notes in found.items()}
