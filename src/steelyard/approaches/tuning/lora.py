"""Prepare a LoRA adapter: from labelled train cases to a GGUF file the local server can load, paid for once.

What was trained is kept in `lora-<digest>/`, addressed by all that goes into it: the examples as they are said to
the model, the settings and the weights of the base. The folder holds `adapter.gguf`, the same adapter in PEFT's
layout and `card.json`; it appears in one step, so a killed training leaves nothing that looks finished.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steelyard.approaches.approach import Setup
from steelyard.approaches.lora_spec import LoraTuningSpec
from steelyard.approaches.tuning.base_model import BaseModel, file_sha256, load_base
from steelyard.approaches.tuning.examples import PromptOf, TargetOf, choose, hold_out, tokenise
from steelyard.approaches.tuning.store import content_digest, is_complete, new_folder, read_setup, write_card
from steelyard.approaches.tuning.trained import Train
from steelyard.cases.case import Case
from steelyard.errors import InputError, Problem, require

if TYPE_CHECKING:
    from steelyard.approaches.workbench import Workbench

_RECIPE = 1
"""Counts up when a change of the training code would give other weights."""
_PACKAGES = ("gguf", "numpy", "safetensors", "tokenizers", "torch")


@dataclass(frozen=True, kw_only=True, slots=True)
class TunedAdapter:
    """A LoRA adapter on disk."""

    path: Path
    """The GGUF file."""
    digest: str
    """Content address of everything it was made from."""
    setup: Setup


def prepare_adapter(spec: LoraTuningSpec, *, prompt: PromptOf, target: TargetOf, bench: Workbench) -> TunedAdapter:
    """Train a LoRA on the train split, or find the one that was trained from the same things before.

    Args:
        spec: The `tuning:` section, with `method: lora`.
        prompt: The deployed prompt of a case.
        target: The answer wanted for a labelled case, as the model should write it.
        bench: Train split, folder, base model, price of a core.

    Returns:
        The adapter with its card.

    Raises:
        InputError: No labelled train case, no example that fits, or a loss that is not a number. Nothing is kept.
        MissingExtra: The extra `tune` is not installed (only when something has to be trained).
        StorageFailed: The folder cannot be written.
    """
    cases = choose(bench.train, target, at_most=spec.max_examples, seed=spec.seed)
    if not cases:
        raise InputError(
            Problem(
                what="there is no labelled case in the train split to train a LoRA on",
                where="study.yaml:approaches:tuning",
                hint="label some cases, or leave out this approach",
            )
        )
    base_path = bench.base_gguf()
    said = [[[message.parts() for message in prompt(case.visible())], target(case), case.cluster] for case in cases]
    data_digest = content_digest(said)
    digest = content_digest([_RECIPE, data_digest, spec.model_dump(mode="json"), file_sha256(base_path)])
    folder = bench.folder / f"lora-{digest}"
    reused = is_complete(folder)
    if not reused:
        require("torch", "gguf", "safetensors", "tokenizers", feature="training a LoRA", extra="tune")
        _train_into(folder, spec, cases, prompt, target, bench, base_path=base_path, data_digest=data_digest)
    setup = read_setup(folder, cpu_hour_usd=bench.cpu_hour_usd, reused=reused)
    return TunedAdapter(path=folder / "adapter.gguf", digest=digest, setup=setup)


# ---------------------------------------------------------------------------------------------------- private


def _train_into(
    folder: Path,
    spec: LoraTuningSpec,
    cases: Sequence[Case],
    prompt: PromptOf,
    target: TargetOf,
    bench: Workbench,
    *,
    base_path: Path,
    data_digest: str,
) -> None:
    started, started_cpu = time.monotonic(), time.process_time()
    bench.say("training: reading the base model")
    from steelyard.approaches.tuning.gguf_adapter import write_gguf, write_peft

    base = load_base(base_path)
    train_cases, validation_cases = hold_out(cases, target, seed=spec.seed)
    train = tokenise(base, train_cases, prompt, target, max_tokens=spec.max_tokens)
    validation = tokenise(base, validation_cases, prompt, target, max_tokens=spec.max_tokens)
    checkpoints = bench.folder / "unfinished" / folder.name
    trained = _trainer(spec)(base, train.examples, validation.examples, spec, say=bench.say, checkpoints=checkpoints)
    best = min(trained.validations, key=lambda found: found["loss"], default=None)
    with new_folder(folder) as made:
        write_gguf(made / "adapter.gguf", trained.adapter, base.shape, alpha=spec.alpha, name=folder.name)
        write_peft(made, trained.adapter, alpha=spec.alpha, rank=spec.rank, base_name=base.name)
        card = {
            "kind": "lora",
            "made_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "data_digest": data_digest,
            "n_examples": len(train.examples) + len(validation.examples),
            "n_train": len(train.examples),
            "n_validation": len(validation.examples),
            "n_cut": train.n_cut + validation.n_cut,
            "n_left_out": train.n_left_out + validation.n_left_out,
            "base_model": _base_facts(base),
            "hyperparameters": spec.model_dump(mode="json"),
            "n_steps": trained.n_steps,
            "n_tokens": trained.n_tokens,
            "dtype": trained.dtype,
            "loss_curve": trained.curve,
            "validations": trained.validations,
            "validation_loss": best["loss"] if best else None,
            "validation_exact_match": best["exact_match"] if best else None,
            # By case, so that the same cases can be asked again as served.
            "validation_right": {
                example.case_id: right
                for example, right in zip(validation.examples, trained.validation_right, strict=False)
                if example.case_id
            },
            "adapter_sha256": file_sha256(made / "adapter.gguf"),
            "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        }
        write_card(
            made,
            card,
            seconds=time.monotonic() - started,
            cpu_seconds=time.process_time() - started_cpu,
            cpu_hour_usd=bench.cpu_hour_usd,
        )


def _trainer(spec: LoraTuningSpec) -> Train:
    if spec.trainer == "peft":
        from steelyard.approaches.tuning.peft_training import train_adapter_peft

        return train_adapter_peft
    from steelyard.approaches.tuning.training import train_adapter

    return train_adapter


def _base_facts(base: BaseModel) -> dict[str, Any]:
    return {"name": base.name, "file": base.path.name, "sha256": base.sha256, "licence": base.licence}
