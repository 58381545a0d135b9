"""What a training will take before it is started: examples, steps, tokens, and the time and money they come to.

Tokens are counted, or guessed at four characters each where no tokenizer is at hand. Time is never guessed: it follows
from an earlier training of the same base and settings on this machine, or from a few steps that are timed now.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from steelyard.approaches.lora_spec import LoraTuningSpec
from steelyard.approaches.tuning.base_model import BaseModel
from steelyard.approaches.tuning.examples import Example, PromptOf, TargetOf, balanced, hold_out, tokenise
from steelyard.approaches.tuning.lora import trainer_of
from steelyard.approaches.tuning.store import CARD
from steelyard.cases.case import Case
from steelyard.figures import Figure, Provenance, unknown

CHARACTERS_PER_TOKEN: Final = 4
_TIMED_STEPS: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Amount:
    """What is to be trained, at most: early stopping can only make it less."""

    n_train: int
    """Examples that are learned from; repeats that balance the labels are not counted."""
    n_validation: int
    n_steps: int
    n_tokens: int
    """Tokens of all steps, prompts included."""
    n_validation_tokens: int
    """Tokens of all validations, prompts included."""
    is_counted: bool
    """Whether a tokenizer counted them."""

    @property
    def n_tokens_in_all(self) -> int:
        """Tokens that go through the model."""
        return self.n_tokens + self.n_validation_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """How fast this machine trains."""

    start_s: float
    """Wall-clock seconds before the first step: reading the base and what all prompts share."""
    token_s: float
    """Wall-clock seconds a token."""
    cores: float
    """Processor seconds a wall-clock second."""
    source: str
    """What was measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingEstimate:
    """What training an approach takes at most."""

    approach: str
    method: str
    amount: Amount | None
    """`None` for a head, which takes seconds."""
    kept_step: int | None
    """Step of the checkpoint it would go on from."""
    is_trained: bool
    """Whether it was trained from the same things before, and is only read again."""
    seconds: Figure
    cost_usd: Figure

    def to_json(self) -> dict[str, Any]:
        """One entry of `trainings` in `steelyard.estimate/1`."""
        amount = self.amount
        return {
            "approach": self.approach,
            "method": self.method,
            "is_trained": self.is_trained,
            "examples": None if amount is None else amount.n_train,
            "validation_examples": None if amount is None else amount.n_validation,
            "most_steps": None if amount is None else amount.n_steps,
            "most_tokens": None if amount is None else amount.n_tokens,
            "tokens_are_counted": None if amount is None else amount.is_counted,
            "goes_on_from_step": self.kept_step,
            "most_seconds": self.seconds.to_json(),
            "most_usd": self.cost_usd.to_json(),
        }

    def __str__(self) -> str:
        if self.is_trained:
            return f"{self.approach}: trained already; nothing is left to do"
        if self.amount is None:
            return f"{self.approach}: a head, which takes seconds on one core"
        amount = self.amount
        counted = "" if amount.is_counted else " (four characters a token)"
        going_on = f", from the checkpoint at step {self.kept_step:,}" if self.kept_step is not None else ""
        steps = f"at most {amount.n_steps:,} steps{going_on} on" if self.method == "lora" else "a job on"
        seconds = None if self.seconds.value is None else f"{self.seconds.value:,.0f} s"
        usd = None if self.cost_usd.value is None else f"${self.cost_usd.value:,.4f}"
        return (
            f"{self.approach}: {steps} {amount.n_train:,} examples, "
            f"{amount.n_tokens:,} tokens{counted}; {amount.n_validation:,} examples to validate on\n"
            f"  time: {_at_most(seconds, self.seconds)}\n"
            f"  cost: {_at_most(usd, self.cost_usd)}"
        )


def amount_to_train(
    cases: Sequence[Case], spec: LoraTuningSpec, prompt: PromptOf, target: TargetOf, *, base: BaseModel | None
) -> tuple[Amount, tuple[Example, ...]]:
    """Count what a LoRA would be trained on.

    Args:
        cases: The chosen train cases.
        spec: Settings.
        prompt: The deployed prompt of a case.
        target: The answer wanted for a case.
        base: The model whose tokenizer counts; left out, tokens are guessed.

    Returns:
        The amount, and the examples of an epoch; none where they were guessed.

    Raises:
        InputError: Not one case fits.
    """
    train_cases, validation_cases = hold_out(cases, target, seed=spec.seed)
    if base is None:
        lengths, held = ([_guess(case, prompt, target) for case in some] for some in (train_cases, validation_cases))
        shown: tuple[Example, ...] = ()
        n_train = len(train_cases)
    else:
        trained, validated = (
            tokenise(base, some, prompt, target, max_tokens=spec.max_tokens).examples
            for some in (train_cases, validation_cases)
        )
        n_train = len(trained)
        shown = balanced(trained, spec.balance)
        lengths, held = [one.n_tokens for one in shown], [one.n_tokens for one in validated]
    n_batches = math.ceil(len(lengths) / spec.batch_size)
    n_steps = max(1, math.ceil(spec.epochs * n_batches))
    n_validations = math.ceil(n_steps / (spec.validate_steps or n_batches))
    amount = Amount(
        n_train=n_train,
        n_validation=len(held),
        n_steps=n_steps,
        n_tokens=round(sum(lengths) * n_steps / n_batches),
        n_validation_tokens=sum(held) * n_validations,
        is_counted=base is not None,
    )
    return amount, shown


def rate_before(folder: Path, spec: LoraTuningSpec, *, base_sha256: str | None) -> Rate | None:
    """How fast the last training of the same base, trainer and layers was, by its card.

    Args:
        folder: Where trained things are kept.
        spec: Settings.
        base_sha256: Of the base model's file.
    """
    found = []
    for path in folder.glob(f"lora-*/{CARD}"):
        try:
            card = json.loads(path.read_bytes())
            settings = card["hyperparameters"]
            is_alike = (
                card["base_model"]["sha256"] == base_sha256
                and settings.get("trainer", "lean") == spec.trainer
                and settings["layers"] == spec.layers
            )
            n_tokens = card["n_tokens"] + card["n_validation_tokens"]
            if is_alike and n_tokens and card["seconds"]:
                found.append((str(card["made_utc"]), card["seconds"] / n_tokens, card["cpu_seconds"] / card["seconds"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    if not found:
        return None
    made, token_s, cores = max(found)
    source = f"the training of {made[:10]} on this machine, {1 / token_s:,.0f} tokens/s"
    return Rate(start_s=0.0, token_s=token_s, cores=cores, source=source)


def measure_rate(
    base: BaseModel, shown: Sequence[Example], spec: LoraTuningSpec, *, say: Callable[[str], None]
) -> Rate:
    """Time a few steps of the very trainer on examples of middling length; what it learns is thrown away.

    Trained on one batch, on the same again and on four: the difference of the last two is the time of three steps, and
    the rest of the first one is the start. Without the first, what is done once would pass for slow steps of the short
    training, and the others would seem too fast.
    """
    say("estimate: timing a few steps")
    middle = sorted(shown, key=lambda example: example.n_tokens)
    wanted = min(len(middle), (1 + _TIMED_STEPS) * spec.batch_size)
    first = (len(middle) - wanted) // 2
    some = middle[first : first + wanted]
    few = some[: spec.batch_size]
    once = spec.model_copy(update={"epochs": 1.0, "checkpoint_steps": None, "validate_steps": None})
    cold_s, _ = _timed(base, few, once)
    short_s, _ = _timed(base, few, once)
    long_s, long_cpu_s = _timed(base, some, once) if len(some) > len(few) else (short_s, short_s)
    n_few, n_some = (sum(example.n_tokens for example in part) for part in (few, some))
    token_s = (long_s - short_s) / (n_some - n_few) if long_s > short_s and n_some > n_few else long_s / n_some
    return Rate(
        start_s=max(0.0, cold_s - token_s * n_few),
        token_s=token_s,
        cores=max(1.0, long_cpu_s / long_s),
        source=f"a few steps timed now, {1 / token_s:,.0f} tokens/s",
    )


def estimate_hosted(
    approach: str, amount: Amount, *, usd_per_million: float | None, price: Provenance, epochs: int
) -> TrainingEstimate:
    """What a job at a host takes: its tokens have a price where one was given, its time is the host's.

    Args:
        approach: Its name.
        amount: One pass over the examples.
        usd_per_million: Price of a million training tokens.
        price: Where that price is from.
        epochs: Passes.
    """
    cost = unknown("the study gives no price of training tokens (tuning.price_per_million_training_tokens)")
    if usd_per_million is not None:
        cost = Figure(value=amount.n_tokens * epochs * usd_per_million / 1e6, provenance=price)
    return TrainingEstimate(
        approach=approach,
        method="hosted",
        amount=replace(amount, n_steps=amount.n_steps * epochs, n_tokens=amount.n_tokens * epochs),
        kept_step=None,
        is_trained=False,
        seconds=unknown("the host decides when it is done"),
        cost_usd=cost,
    )


def estimate_lora(
    approach: str,
    amount: Amount,
    rate: Rate | None,
    *,
    unknown_because: str,
    kept_step: int | None,
    is_trained: bool,
    cpu_hour_usd: float,
    price: Provenance,
) -> TrainingEstimate:
    """Put amount and rate together.

    Args:
        approach: Its name.
        amount: What is to be trained.
        rate: How fast; `None` where nobody has measured.
        unknown_because: Why it is `None`, and what to do.
        kept_step: Step of the checkpoint it would go on from.
        is_trained: Whether nothing is left to train.
        cpu_hour_usd: Price of a core for an hour.
        price: Where that price was written down.
    """
    left = 0.0 if is_trained else 1.0 - (kept_step or 0) / amount.n_steps
    if is_trained or rate is not None:
        seconds = 0.0 if rate is None or is_trained else rate.start_s + rate.token_s * amount.n_tokens_in_all * left
        cores = 0.0 if rate is None else rate.cores
        time_figure = Figure(
            value=seconds, provenance=Provenance(kind="measured", source=rate.source if rate else None)
        )
        cost_figure = Figure(value=seconds * cores / 3600 * cpu_hour_usd, provenance=price)
    else:
        time_figure = cost_figure = unknown(unknown_because)
    return TrainingEstimate(
        approach=approach,
        method="lora",
        amount=amount,
        kept_step=kept_step,
        is_trained=is_trained,
        seconds=time_figure,
        cost_usd=cost_figure,
    )


# ---------------------------------------------------------------------------------------------------- private


def _timed(base: BaseModel, examples: Sequence[Example], spec: LoraTuningSpec) -> tuple[float, float]:
    """Seconds and processor seconds of a training."""
    started, started_cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        alike = [replace(example, weight=1.0) for example in examples]
        trainer_of(spec)(base, alike, (), spec, say=lambda _: None, checkpoints=Path(folder))
    return time.perf_counter() - started, time.process_time() - started_cpu


def _guess(case: Case, prompt: PromptOf, target: TargetOf) -> int:
    said = sum(len(message.content) for message in prompt(case.visible()))
    return math.ceil((said + len(target(case))) / CHARACTERS_PER_TOKEN)


def _at_most(shown: str | None, figure: Figure) -> str:
    return f"unknown, {figure.unknown_because}" if shown is None else f"at most {shown}, {figure.provenance}"
