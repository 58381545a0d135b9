"""`steelyard tune --curve`: train on parts of the labels, fit a learning curve, and say whether labelling more pays.

Everything happens on train and dev. The test split is taken out of the material before anything else is done.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from steelyard.approaches.approach import Prepared
from steelyard.approaches.head_spec import HeadTuningSpec
from steelyard.approaches.spec import ApproachSpec
from steelyard.approaches.tuning.examples import choose
from steelyard.approaches.tuning.head_answers import answer_space
from steelyard.approaches.tuning.repeats import without_repeats
from steelyard.cases.case import Case
from steelyard.cases.nested import nested_shares
from steelyard.diagnosis.label_worth import LabelWorth, worth_of_labels
from steelyard.diagnosis.learning_curve import CurvePoint, LearningCurve, learning_curve
from steelyard.economics.ledger import ApproachFacts
from steelyard.engine.journal import Journal
from steelyard.engine.lock import study_lock
from steelyard.errors import InputError, Problem
from steelyard.figures import Figure, Provenance, unknown, weakest
from steelyard.measure.results import Floats, Ints
from steelyard.measure.scoring import in_ladder_order, task_costs
from steelyard.study.curve_file import FOLDER, curve_file
from steelyard.study.curve_points import N_TIMED, HeadLearner, Learner, LoraLearner, write_whole
from steelyard.study.curve_results import Cost, Curve, Curves
from steelyard.study.running import Plan, compute_price, plan_run
from steelyard.study.scoring import Evidence, journal_path, read_evidence
from steelyard.study.talk import Talk
from steelyard.study.till import counting_money
from steelyard.study.trainable import refuse_untrainable
from steelyard.study.tuning_ground import Ground, ground_of

if TYPE_CHECKING:
    from steelyard.study.study import Study

SHARES: Final = (0.125, 0.25, 0.5, 1.0)
FEWEST_CASES: Final = 10
"""Smaller parts teach nothing that could be measured."""
DRAWS: Final = {"head": 3, "lora": 1}
"""Draws of labels at each size below all of them, where nothing else is said: a head takes seconds, a LoRA minutes."""

Tuner = Literal["own", "head", "both"]


def curve_of(
    study: Study,
    approach: str,
    *,
    target: float | None = None,
    draws: int | None = None,
    tuner: Tuner = "both",
    max_seconds: float | None = None,
    progress: bool = True,
) -> Curves:
    """Measure the learning curve of a tuned approach.

    Args:
        study: The study.
        approach: Name of an approach that is tuned on this machine.
        target: Success that is wanted, 0..1: how many labels does it take?
        draws: Draws of labels at each size below all of them; left out, see `DRAWS`.
        tuner: `own`: the approach's; `head`: a head in its place, for the shape; `both`: first the head where the task
            has labels and the approach is a LoRA, then its own.
        max_seconds: Sizes that would take it beyond this are left out, and named.
        progress: Show progress on standard error.

    Raises:
        InputError: The approach is not tuned, is tuned at a host, or has nothing to learn from or to be judged on.
    """
    say = Talk(sys.stderr if progress else None)
    deadline = None if max_seconds is None else time.monotonic() + max_seconds
    plan = _plan_without_test(study, approach)
    with study_lock(study.folder), counting_money(study) as till:
        ground = ground_of(plan, approach, say, till).without_distilled()  # the curve is of labels that people give
        refuse_untrainable({approach: ground.spec}, file=study.file, task=study.task, train=plan.material.splits.train)
        curves: list[Curve] = []
        left_out: list[str] = []
        for learner in _learners(plan, approach, ground, tuner):
            if curves and deadline is not None and time.monotonic() > deadline:
                left_out.append(f"{learner.tuner}: no time left")
                continue
            curves.append(_measure(plan, ground, learner, target=target, draws=draws, deadline=deadline, say=say))
        say.end()
        found = Curves(approach=approach, curves=tuple(curves), left_out=tuple(left_out), file=curve_file(approach))
        write_whole(study.folder / found.file, json.dumps(found.to_json(), indent=2) + "\n")
    return found


# ---- private --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Trained:
    """One training."""

    share: float
    n_labels: int
    prepared: Prepared
    right: Floats


def _plan_without_test(study: Study, approach: str) -> Plan:
    material = study.material
    blind = replace(material, splits=replace(material.splits, test=()))
    return plan_run(study.folder, study.file, study.task, blind, approaches=[approach], limit=None)


def _learners(plan: Plan, approach: str, ground: Ground, tuner: Tuner) -> Iterator[Learner]:
    """The cheap one first."""
    where = f"study.yaml:approaches.{approach}.tuning"
    has_labels = answer_space(plan.task) is not None
    if tuner == "head" and not has_labels:
        raise InputError(Problem(what="a head chooses among labels, and this task has none", where=where))
    if ground.method == "hosted" and tuner != "head":
        hint = "--tuner head shows the shape without a job" if has_labels else "measure it with a LoRA of your own"
        raise InputError(
            Problem(what="every point of the curve would be a paid job at the host", where=where, hint=hint)
        )
    if ground.method == "head":
        yield HeadLearner(name=approach, spec=ground.spec, bench=ground.bench)
        return
    if has_labels and tuner != "own":
        head = HeadTuningSpec(method="head", max_examples=ground.max_examples, seed=ground.seed)
        yield HeadLearner(name=approach, spec=ApproachSpec(model="none", tuning=head), bench=ground.bench)
    if tuner != "head":
        yield LoraLearner(
            name=approach,
            spec=ground.spec,
            bench=ground.bench,
            target=ground.target,
            kept=plan.folder / FOLDER / "judged",
        )


def _measure(
    plan: Plan,
    ground: Ground,
    learner: Learner,
    *,
    target: float | None,
    draws: int | None,
    deadline: float | None,
    say: Callable[[str], None],
) -> Curve:
    usable = without_repeats(learner.usable(plan.material.splits.train))
    dev = learner.usable(plan.material.splits.dev)
    if not dev:
        hint = "give dev a share under cases.split"
        raise InputError(Problem(what="dev has no labelled case to judge on", where="study.yaml:cases", hint=hint))
    pool = choose(usable, learner.stratum, at_most=ground.max_examples, seed=ground.seed)
    n_draws = draws or DRAWS[learner.tuner]
    trained, left_out = _train_all(plan, ground, learner, pool, dev, n_draws, deadline=deadline, say=say)
    if not trained:
        hint = f"a part has at least {FEWEST_CASES} cases and two different answers; label more, or give more seconds"
        raise InputError(Problem(what="no size of the curve could be trained", where=ground.where, hint=hint))
    by_size = [list(same) for _, same in groupby(trained, key=lambda one: one.share)]
    curve = learning_curve(
        [CurvePoint(n_labels=_size(same), right=np.stack([one.right for one in same])) for same in by_size],
        _cluster_codes(dev),
        target=target,
        seed=ground.seed,
    )
    last = trained[-1]
    is_own = learner.tuner == ground.method
    return Curve(
        tuner=learner.tuner,
        is_own=is_own,
        fingerprint=last.prepared.approach.fingerprint if is_own and last.share == 1 else None,
        judged=learner.judged,
        curve=curve,
        costs=tuple(_cost(same) for same in by_size),
        n_available=len(usable),
        worth=_worth(plan, learner, last, dev, curve=curve, n_available=len(usable)) if is_own else None,
        left_out=tuple(left_out),
    )


def _train_all(
    plan: Plan,
    ground: Ground,
    learner: Learner,
    pool: tuple[Case, ...],
    dev: tuple[Case, ...],
    n_draws: int,
    *,
    deadline: float | None,
    say: Callable[[str], None],
) -> tuple[list[_Trained], list[str]]:
    """Every size and draw, the smallest first; and sentences on those that were left out."""
    by_draw = [
        nested_shares(
            pool,
            SHARES[:-1],
            label=learner.stratum,
            groups=plan.material.audit.groups,
            seed=ground.seed + draw,
        )
        for draw in range(n_draws)
    ]
    trained: list[_Trained] = []
    left_out: list[str] = []
    for place, share in enumerate(SHARES):
        # All labels are drawn in one way only.
        samples = [samples[place] for samples in by_draw] if share < 1 else [pool]
        for draw, sample in enumerate(samples):
            name = f"{share:.1%} of the labels".replace(".0%", "%")
            if any(one.share < share and one.n_labels >= len(sample) for one in trained):
                left_out.append(f"{name}: clusters are so large that it is no more than the size before")
                break
            if len(sample) < FEWEST_CASES or len({learner.stratum(case) for case in sample}) < 2:
                left_out.append(f"{name} ({len(sample):,}): too few to learn from")
                break
            needs = _seconds_needed(trained, len(sample))
            if trained and deadline is not None and time.monotonic() + needs > deadline:
                which = f", draw {draw + 1} of {len(samples)}" if len(samples) > 1 else ""
                left_out.append(f"{name} ({len(sample):,}){which}: no time left, it takes about {needs:,.0f} s")
                break
            say(f"curve: {learner.tuner} on {len(sample):,} labels, draw {draw + 1} of {len(samples)}")
            prepared = learner.train(sample if share < 1 else None, seed=ground.seed + draw)
            right = learner.right(prepared, dev)
            trained.append(_Trained(share=share, n_labels=len(sample), prepared=prepared, right=right))
    return trained, left_out


def _size(same: Sequence[_Trained]) -> int:
    """Whole clusters make draws of one share differ by a few cases."""
    return round(sum(one.n_labels for one in same) / len(same))


def _seconds_needed(trained: Sequence[_Trained], n: int) -> float:
    """What the last training took, in proportion; nothing is known before the first."""
    if not trained:
        return 0.0
    return trained[-1].prepared.setup.seconds * n / trained[-1].n_labels


def _cluster_codes(cases: Sequence[Case]) -> Ints:
    names = [f"cluster {case.cluster}" if case.cluster is not None else f"case {i}" for i, case in enumerate(cases)]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _cost(same: Sequence[_Trained]) -> Cost:
    """What one size took, all its draws together."""
    setups = [one.prepared.setup for one in same]
    costs = [setup.cost_usd for setup in setups]
    return Cost(
        seconds=sum(setup.seconds for setup in setups),
        usd=None if None in costs else sum(cost for cost in costs if cost is not None),
        reused=all(setup.reused for setup in setups),
    )


def _worth(
    plan: Plan,
    learner: Learner,
    last: _Trained,
    dev: tuple[Case, ...],
    *,
    curve: LearningCurve,
    n_available: int,
) -> LabelWorth:
    facts, variable_usd, n_evaluated = _facts(plan, learner, last, dev)
    return worth_of_labels(
        curve, facts, variable_usd, plan.file.money, n_available=n_available, n_evaluated=n_evaluated
    )


def _facts(plan: Plan, learner: Learner, last: _Trained, dev: tuple[Case, ...]) -> tuple[ApproachFacts, Figure, int]:
    """What the ledger has to know: from the runs where there were any, else from this training and its dev cases."""
    name, setup = last.prepared.approach.name, last.prepared.setup
    evidence = _evidence(plan, last.prepared)
    if evidence is not None:
        facts, results = evidence.facts[name], evidence.results[name]
        facts = replace(facts, setup_seconds=setup.seconds, setup_cost_usd=setup.cost_usd)
        costs = task_costs(results, facts.price)
        if costs.usd is None:
            return facts, unknown(costs.unknown_because or "no price is known"), results.n
        return facts, Figure(value=float(costs.usd.mean()), provenance=costs.provenance), results.n
    price = compute_price(plan.file)
    endpoint = last.prepared.approach.endpoint
    facts = ApproachFacts(
        name=name,
        levers=in_ladder_order(last.prepared.approach.levers),
        calls_model=endpoint is not None,
        n_labels=last.n_labels,
        setup_seconds=setup.seconds,
        setup_cost_usd=setup.cost_usd,
        price=price.provenance,
        endpoint=endpoint,
    )
    if not isinstance(learner, HeadLearner):
        return facts, unknown(f"it was not run yet (steelyard run {plan.folder} --approach {name})"), len(dev)
    seconds = learner.seconds_per_task(last.prepared, dev)
    timed = Provenance(kind="measured", source=f"{min(N_TIMED, len(dev))} dev cases answered here")
    usd = seconds / 3600 * plan.file.models.local.cpu_hour_usd
    return facts, Figure(value=usd, provenance=weakest([timed, price.provenance])), len(dev)


def _evidence(plan: Plan, prepared: Prepared) -> Evidence | None:
    """What runs of exactly this approach found; `None` where there were none."""
    path, name = journal_path(plan.folder), prepared.approach.name
    if not path.exists():
        return None
    with Journal.open(path, read_only=True) as journal:
        try:
            evidence = read_evidence(journal, plan.file, where=str(plan.folder), approaches=[name])
        except InputError:
            return None
    return evidence if evidence.approaches[name].fingerprint == prepared.approach.fingerprint else None
