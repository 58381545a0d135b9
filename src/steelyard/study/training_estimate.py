"""What training the approaches of a study would take, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from steelyard.approaches.hosted_spec import HostedTuningSpec
from steelyard.approaches.lora_spec import LoraTuningSpec
from steelyard.approaches.tuning.examples import choose
from steelyard.cases.case import Case
from steelyard.errors import MissingExtra
from steelyard.figures import MEASURED, Figure, Provenance
from steelyard.models.weights import SMOLLM2_135M_INSTRUCT, is_cached
from steelyard.study.running import Plan, compute_price
from steelyard.study.tuning_ground import Ground, ground_of

if TYPE_CHECKING:
    from steelyard.approaches.tuning.base_model import BaseModel
    from steelyard.approaches.tuning.estimate import TrainingEstimate


def estimate_training(plan: Plan, approach: str, *, measure: bool, say: Callable[[str], None]) -> TrainingEstimate:
    """What training an approach takes at most, in steps, tokens, time and money.

    Args:
        plan: Holds the approach.
        approach: Its name; tuned.
        measure: Time a few steps where no earlier training tells, and fetch the base model for that; left out, what was
            not measured is unknown.
        say: Shows progress.

    Raises:
        InputError: The approach is not tuned, or no example fits.
        MissingExtra: Something has to be timed, and the extra `tune` is not installed.
    """
    ground = ground_of(plan, approach, say)
    cases = choose(ground.cases, ground.target, at_most=ground.max_examples, seed=ground.seed)
    tuning = ground.spec.tuning
    if isinstance(tuning, LoraTuningSpec):
        return _lora(plan, approach, ground, tuning, cases, measure=measure, say=say)
    if isinstance(tuning, HostedTuningSpec):
        return _hosted(approach, ground, tuning, cases)
    from steelyard.approaches.tuning.estimate import TrainingEstimate

    seconds = Figure(value=None, unknown_because="a head takes seconds")
    return TrainingEstimate(
        approach=approach,
        method=ground.method,
        amount=None,
        kept_step=None,
        is_trained=False,
        seconds=seconds,
        cost_usd=seconds,
    )


# Private

_UNMEASURED: Final = "not measured yet: `steelyard tune DIR --approach {approach!r} --dry-run` times a few steps"
_PAIRS: Final = "how long the pass over preference pairs takes is not estimated"


def _lora(
    plan: Plan,
    approach: str,
    ground: Ground,
    spec: LoraTuningSpec,
    cases: tuple[Case, ...],
    *,
    measure: bool,
    say: Callable[[str], None],
) -> TrainingEstimate:
    from steelyard.approaches.tuning.checkpoints import kept_step
    from steelyard.approaches.tuning.estimate import amount_to_train, estimate_lora, measure_rate, rate_before
    from steelyard.approaches.tuning.lora import TrainingData, adapter_digest, checkpoints_of, preferences_of
    from steelyard.approaches.tuning.store import is_complete

    assert ground.prompt is not None
    base = _base(plan, ground, measure=measure)
    amount, shown = amount_to_train(cases, spec, ground.prompt, ground.target, base=base)
    rate = rate_before(ground.bench.folder, spec, base_sha256=base.sha256) if base is not None else None
    is_trained, step = False, None
    if base is not None:
        pairs = preferences_of(spec, ground.bench, ground.target)
        data = TrainingData(
            cases=cases,
            prompt=ground.prompt,
            target=ground.target,
            preferences=pairs,
            distilled_weight=spec.distilled,
        )
        folder = ground.bench.folder / f"lora-{adapter_digest(spec, data, base_sha256=base.sha256)}"
        is_trained, step = is_complete(folder), kept_step(checkpoints_of(folder))
        if pairs:
            rate = None
        elif measure and rate is None and not is_trained:
            rate = measure_rate(base, shown, spec, say=say)
    return estimate_lora(
        approach,
        amount,
        rate,
        unknown_because=_UNMEASURED.format(approach=approach) if spec.preferences is None else _PAIRS,
        kept_step=step,
        is_trained=is_trained,
        cpu_hour_usd=ground.bench.cpu_hour_usd,
        price=compute_price(plan.file).provenance,
    )


def _base(plan: Plan, ground: Ground, *, measure: bool) -> BaseModel | None:
    """The base model, if it is at hand or may be fetched."""
    local = plan.file.models.local
    if not measure and local.gguf is None and local.folder is None and not is_cached(SMOLLM2_135M_INSTRUCT):
        return None
    from steelyard.approaches.tuning.base_model import load_base

    try:
        return load_base(ground.bench.base_gguf())
    except MissingExtra:
        if measure:
            raise
        return None


def _hosted(approach: str, ground: Ground, spec: HostedTuningSpec, cases: tuple[Case, ...]) -> TrainingEstimate:
    from steelyard.approaches.tuning.estimate import amount_to_train, estimate_hosted

    assert ground.prompt is not None
    one_pass = LoraTuningSpec(method="lora", batch_size=1, seed=spec.seed)
    amount, _ = amount_to_train(cases, one_pass, ground.prompt, ground.target, base=None)
    price = spec.price_per_million_training_tokens
    provenance = MEASURED
    if price is not None:
        where = "study.yaml: tuning.price_per_million_training_tokens"
        provenance = Provenance(kind="assumed", source=where)
        if price.as_of is not None:
            provenance = Provenance(kind="quoted", source=price.source, as_of=price.as_of.isoformat())
    return estimate_hosted(
        approach,
        amount,
        usd_per_million=None if price is None else price.input,
        price=provenance,
        epochs=spec.epochs,
    )
