"""Prepare a LoRA adapter: from labelled train cases to a GGUF file the local server can load, paid for once.

What was trained is kept in `lora-<digest>/`, addressed by all that goes into it: the examples as they are said to
the model, the settings and the weights of the base. The folder holds `adapter.gguf`, the same adapter in PEFT's
layout and `card.json`; it appears in one step, so a killed training leaves nothing that looks finished. Until then
`unfinished/lora-<digest>/` holds its checkpoints and what it has spent, and the same call goes on from there.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steelyard.approaches.approach import Setup
from steelyard.approaches.lora_spec import LoraTuningSpec
from steelyard.approaches.tuning.base_model import BaseModel, file_sha256, load_base
from steelyard.approaches.tuning.checkpoints import drop_checkpoints, kept_step
from steelyard.approaches.tuning.examples import (
    Example,
    PromptOf,
    TargetOf,
    balanced,
    choose,
    hold_out,
    tokenise,
)
from steelyard.approaches.tuning.preferences import Preference, hold_out_pairs, read_preferences, tokenise_pairs
from steelyard.approaches.tuning.spent import Spent
from steelyard.approaches.tuning.store import (
    content_digest,
    damaged,
    is_complete,
    new_folder,
    read_setup,
    write_card,
)
from steelyard.approaches.tuning.trained import Diverged, Train, Trained
from steelyard.cases.case import Case
from steelyard.errors import InputError, Problem, RunStopped, require

if TYPE_CHECKING:
    from steelyard.approaches.tuning.dpo import Preferred
    from steelyard.approaches.workbench import Workbench

_RECIPE = 1
"""Counts up when a change of the training code would give other weights."""
_PACKAGES = ("gguf", "numpy", "safetensors", "tokenizers", "torch")
_PEFT_PACKAGES = ("peft", "transformers", "trl")


@dataclass(frozen=True, kw_only=True, slots=True)
class TunedAdapter:
    """A LoRA adapter on disk."""

    path: Path
    """The GGUF file."""
    digest: str
    """Content address of everything it was made from."""
    setup: Setup


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The chosen cases, and how they are said to the model."""

    cases: Sequence[Case]
    prompt: PromptOf
    target: TargetOf
    preferences: Sequence[Preference] = ()
    """Pairs that are learned after the cases."""
    distilled_weight: float = 1.0
    """How much a label that a teacher gave counts beside one that a person gave."""

    @cached_property
    def digest(self) -> str:
        """Content address of everything that is said."""
        said = [
            [
                [message.parts() for message in self.prompt(case.visible())],
                self.target(case),
                case.cluster,
                *([] if case.teacher is None else ["distilled", self.distilled_weight]),
            ]
            for case in self.cases
        ]
        preferred = [
            [[message.parts() for message in self.prompt(pair.case.visible())], pair.chosen, pair.rejected]
            for pair in self.preferences
        ]
        return content_digest([said, preferred] if preferred else said)


def prepare_adapter(
    spec: LoraTuningSpec,
    *,
    prompt: PromptOf,
    target: TargetOf,
    bench: Workbench,
    where: str = "study.yaml:approaches:tuning",
) -> TunedAdapter:
    """Train a LoRA on the train split, or find the one that was trained from the same things before.

    Args:
        spec: The `tuning:` section, with `method: lora`.
        prompt: The deployed prompt of a case.
        target: The answer wanted for a labelled case, as the model should write it.
        bench: Train split, folder, base model, price of a core.
        where: Place of the `tuning:` section, for messages.

    Returns:
        The adapter with its card.

    Raises:
        InputError: No labelled train case, no example that fits, a loss that is not a number, or a finished training
            that is damaged.
        RunStopped: Memory ran out. The last checkpoint is kept, and the same call goes on from there.
        MissingExtra: The extra `tune` is not installed (only when something has to be trained).
        StorageFailed: The folder cannot be written.
    """
    cases = choose(bench.train, target, at_most=spec.max_examples, seed=spec.seed)
    if not cases:
        raise InputError(
            Problem(
                what="there is no labelled case in the train split to train a LoRA on",
                where=where,
                hint="label some cases, or leave out this approach",
            )
        )
    preferences = preferences_of(spec, bench, target)
    base_path = bench.base_gguf()
    data = TrainingData(
        cases=cases, prompt=prompt, target=target, preferences=preferences, distilled_weight=spec.distilled
    )
    digest = adapter_digest(spec, data, base_sha256=file_sha256(base_path))
    folder = bench.folder / f"lora-{digest}"
    adapter = folder / "adapter.gguf"
    reused = is_complete(folder)
    if not reused:
        require("torch", "gguf", "safetensors", "tokenizers", feature="training a LoRA", extra="tune")
        if spec.trainer == "peft" or preferences:
            from steelyard.approaches.tuning.peft_training import check_placement

            check_placement(spec)
        checkpoints = checkpoints_of(folder)
        with _said_plainly(spec, where, checkpoints):
            _train_into(folder, spec, data, bench, base_path=base_path, checkpoints=checkpoints)
        drop_checkpoints(checkpoints)
    setup = read_setup(folder, cpu_hour_usd=bench.cpu_hour_usd, reused=reused)
    if reused and (not adapter.is_file() or file_sha256(adapter) != (setup.card or {}).get("adapter_sha256")):
        raise damaged(folder, "adapter.gguf is not the file that was written")
    return TunedAdapter(path=adapter, digest=digest, setup=setup)


def preferences_of(spec: LoraTuningSpec, bench: Workbench, target: TargetOf) -> tuple[Preference, ...]:
    """The preference pairs that the settings name; none where they name no file.

    Raises:
        InputError: The file cannot be read, or lines of it are wrong.
    """
    if spec.preferences is None:
        return ()
    return read_preferences(
        bench.study / spec.preferences,
        train=bench.train,
        held_out=bench.held_out(),
        input_fields=bench.task.input_fields,
        target=target,
    )


def adapter_digest(spec: LoraTuningSpec, data: TrainingData, *, base_sha256: str) -> str:
    """Content address of an adapter: what is said, the settings, the weights of the base."""
    settings = spec.model_dump(mode="json", exclude={"checkpoint_steps", "distilled", "guard"})
    # How often it is kept changes nothing, and how much distilled labels count is said with the data, if there are any.
    return content_digest([_RECIPE, data.digest, settings, base_sha256])


def checkpoints_of(folder: Path) -> Path:
    """Where the checkpoints of a training lie until `folder` is there."""
    return folder.parent / "unfinished" / folder.name


def trainer_of(spec: LoraTuningSpec) -> Train:
    """The trainer that the settings name."""
    if spec.trainer == "peft":
        from steelyard.approaches.tuning.peft_training import train_adapter_peft

        return train_adapter_peft
    from steelyard.approaches.tuning.training import train_adapter

    return train_adapter


# ---------------------------------------------------------------------------------------------------- private


def _train_into(
    folder: Path, spec: LoraTuningSpec, data: TrainingData, bench: Workbench, *, base_path: Path, checkpoints: Path
) -> None:
    spent = Spent(checkpoints / "spent.json")
    bench.say("training: reading the base model")
    from steelyard.approaches.tuning.gguf_adapter import write_gguf, write_peft

    base = load_base(base_path)
    train_cases, validation_cases = hold_out(data.cases, data.target, seed=spec.seed)
    train = tokenise(
        base,
        train_cases,
        data.prompt,
        data.target,
        max_tokens=spec.max_tokens,
        distilled_weight=data.distilled_weight,
    )
    validation = tokenise(base, validation_cases, data.prompt, data.target, max_tokens=spec.max_tokens)
    shown = balanced(train.examples, spec.balance)

    def say(line: str) -> None:
        spent.note()
        usd = spent.cpu_seconds / 3600 * bench.cpu_hour_usd
        bench.say(f"{line}, ${usd:.4f} so far" if line.startswith("training: step") else line)

    first = None
    if spec.supervised:
        first = trainer_of(spec)(base, shown, validation.examples, spec, say=say, checkpoints=checkpoints)
    preferred = None
    if data.preferences:
        preferred = _learn_preferences(
            base, first, data, spec, validation_cases, validation.examples, say=say, checkpoints=checkpoints
        )
    spent.note(now=True)
    trained = preferred.trained if preferred is not None else first
    assert trained is not None  # without a supervised pass there are preferences
    first = first or trained
    best = min(trained.validations, key=lambda found: found["loss"], default=None)
    with new_folder(folder) as made:
        write_gguf(
            made / "adapter.gguf",
            trained.adapter,
            base.shape,
            alpha=spec.alpha,
            name=folder.name,
            base_sha256=base.sha256,
        )
        write_peft(made, trained.adapter, alpha=spec.alpha, rank=spec.rank, base_name=base.name)
        card = {
            "kind": "lora",
            "made_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "data_digest": data.digest,
            "n_examples": len(train.examples) + len(validation.examples),
            "n_train": len(train.examples),
            "n_validation": len(validation.examples),
            "n_cut": train.n_cut + validation.n_cut,
            "n_left_out": train.n_left_out + validation.n_left_out,
            "balanced": _balance_facts(base, shown, spec),
            "base_model": _base_facts(base),
            "hyperparameters": spec.model_dump(mode="json", exclude={"guard"}),
            "n_steps": first.n_steps,
            "n_tokens": first.n_tokens,
            "n_validation_tokens": sum(one.n_tokens for one in validation.examples) * len(trained.validations),
            "dtype": trained.dtype,
            "device": trained.device,
            "resumed_at": list(first.resumed_at),
            "loss_curve": first.curve,
            "validations": first.validations,
            "preferences": preferred.facts() if preferred is not None else None,
            "validation_loss": best["loss"] if best else None,
            "validation_exact_match": best["exact_match"] if best else None,
            # By case, so that the same cases can be asked again as served.
            "validation_right": {
                example.case_id: right
                for example, right in zip(validation.examples, trained.validation_right, strict=False)
                if example.case_id
            },
            "adapter_sha256": file_sha256(made / "adapter.gguf"),
            "packages": _packages(spec),
        }
        write_card(made, card, seconds=spent.seconds, cpu_seconds=spent.cpu_seconds, cpu_hour_usd=bench.cpu_hour_usd)


def _packages(spec: LoraTuningSpec) -> dict[str, str]:
    """Versions of what computed."""
    used = _PACKAGES + (_PEFT_PACKAGES if spec.trainer == "peft" or spec.preferences else ())
    return {name: importlib.metadata.version(name) for name in used}


def _learn_preferences(
    base: BaseModel,
    first: Trained | None,
    data: TrainingData,
    spec: LoraTuningSpec,
    validation_cases: Sequence[Case],
    validation: Sequence[Example],
    *,
    say: Callable[[str], None],
    checkpoints: Path,
) -> Preferred:
    from steelyard.approaches.tuning.dpo import learn_preferences

    learned, held = hold_out_pairs(data.preferences, validation=validation_cases, seed=spec.seed)
    return learn_preferences(
        base,
        first,
        tokenise_pairs(base, learned, data.prompt, max_tokens=spec.max_tokens),
        tokenise_pairs(base, held, data.prompt, max_tokens=spec.max_tokens),
        validation,
        spec,
        say=say,
        checkpoints=checkpoints / "preferences",
    )


@contextmanager
def _said_plainly(spec: LoraTuningSpec, where: str, checkpoints: Path) -> Iterator[None]:
    """What can end a training, as a sentence with what to lower; the last checkpoint stays."""
    try:
        yield
    except Diverged as error:
        kept = _kept(checkpoints)
        raise InputError(
            Problem(
                what=f"training diverged: the loss is not a number at step {error.step:,} of {error.n_steps:,}; {kept}",
                where=f"{where}.learning_rate",
                hint=f"lower learning_rate (now {spec.learning_rate:g}), for example to {spec.learning_rate / 4:g}; "
                "it then trains from the beginning",
            )
        ) from error
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise RunStopped(
            Problem(
                what=f"training needs more memory than there is; {_kept(checkpoints)}",
                where=where,
                hint=f"lower batch_size (now {spec.batch_size}), max_tokens (now {spec.max_tokens}) or layers (now "
                f"{spec.layers}), or end other programs and run the same command again",
            )
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    """PyTorch says it in a `RuntimeError`, each of its allocators in words of its own."""
    said = str(error).lower()
    words = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")
    return isinstance(error, MemoryError) or any(word in said for word in words)


def _kept(checkpoints: Path) -> str:
    step = kept_step(checkpoints)
    return "no step was kept" if step is None else f"the checkpoint at step {step:,} is kept"


def _balance_facts(base: BaseModel, shown: Sequence[Example], spec: LoraTuningSpec) -> dict[str, Any] | None:
    """How often, or how heavily, an example of each answer counts in an epoch."""
    if spec.balance == "none":
        return None
    by_answer: dict[tuple[int, ...], list[Example]] = {}
    for example in shown:
        by_answer.setdefault(example.completion, []).append(example)
    weights = {base.decode(answer): round(some[0].weight, 4) for answer, some in by_answer.items()}
    counts = {base.decode(answer): len(some) for answer, some in by_answer.items()}
    return {"how": spec.balance, "n_shown": len(shown), "by_answer": weights if spec.balance == "weight" else counts}


def _base_facts(base: BaseModel) -> dict[str, Any]:
    return {"name": base.name, "file": base.path.name, "sha256": base.sha256, "licence": base.licence}
