"""Learning from preference pairs: direct preference optimisation (DPO) with the loss of `trl`.

The adapter begins where the supervised pass ended, or at nothing, and that beginning is also the reference it is held
to. `trl` computes the loss; steps, early stopping and checkpoints are those of every training here, so nothing is
written by pickle and a killed training goes on.

Source of the loss: Rafailov et al. 2023, "Direct Preference Optimization".
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from steelyard.approaches.lora_spec import LoraTuningSpec
from steelyard.approaches.tuning.adam import AdapterWeights
from steelyard.approaches.tuning.base_model import BaseModel
from steelyard.approaches.tuning.course import VALIDATION_BATCH, Course, Run, Validation, by_length, follow
from steelyard.approaches.tuning.examples import Example
from steelyard.approaches.tuning.peft_model import PeftLlama, quiet
from steelyard.approaches.tuning.peft_training import check_placement, device_name, judged_by, load_peft
from steelyard.approaches.tuning.preferences import Pair
from steelyard.approaches.tuning.store import content_digest
from steelyard.approaches.tuning.threads import shard_threads
from steelyard.approaches.tuning.trained import Trained
from steelyard.approaches.tuning.training import N_SHARDS

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Preferring:
    """How far the rewards of the two answers of a pair are apart.

    The reward of an answer is beta times the log of how much likelier it became against the reference.
    """

    n_pairs: int
    margin: float
    """Mean reward of the chosen answer less that of the rejected one; 0 for the reference itself."""
    accuracy: float
    """Share of pairs whose chosen answer has the higher reward; 0 for the reference itself."""
    ranked_right: float
    """Share of pairs whose chosen answer is likelier than the rejected one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preferred:
    """What came of the pairs."""

    trained: Trained
    """The adapter, validated on the labelled examples."""
    pair_losses: Sequence[Mapping[str, float]]
    """Each time the held-out pairs were judged: step, loss."""
    n_pairs: int
    """Learned from."""
    before: Preferring | None
    """On held-out pairs; nothing without any."""
    after: Preferring | None

    def facts(self) -> dict[str, Any]:
        """For the tuning card."""
        judged = {"before": self.before, "after": self.after}
        found = {
            name: None
            if one is None
            else {"n_pairs": one.n_pairs, "reward_margin": one.margin, "reward_accuracy": one.accuracy}
            | {"ranked_right": one.ranked_right}
            for name, one in judged.items()
        }
        trained = self.trained
        return {
            "n_pairs": self.n_pairs,
            "n_steps": trained.n_steps,
            "n_tokens": trained.n_tokens,
            "loss_curve": list(trained.curve),
            "pair_losses": list(self.pair_losses),
            "held_out": found,
            "resumed_at": list(trained.resumed_at),
        }


def learn_preferences(
    base: BaseModel,
    start: Trained | None,
    pairs: Sequence[Pair],
    held_out: Sequence[Pair],
    validation: Sequence[Example],
    spec: LoraTuningSpec,
    *,
    say: Callable[[str], None],
    checkpoints: Path,
) -> Preferred:
    """Learn to prefer the chosen answers, or go on with a training that was stopped.

    Args:
        base: The frozen model.
        start: What the supervised pass made; without it the adapter begins at nothing.
        pairs: At least one pair to learn from.
        held_out: Pairs to judge by; may be empty, then the last weights are kept.
        validation: Labelled examples that the adapter is validated on once more.
        spec: Hyperparameters.
        say: Shows progress, about once a second.
        checkpoints: Folder of this training's checkpoints.

    Returns:
        The weights with the lowest loss on the held-out pairs.

    Raises:
        MissingExtra: The extra `peft` is not installed.
        Diverged: The loss is no longer a number.
        StorageFailed: A checkpoint cannot be written.
    """
    placement = check_placement(spec)
    sides = [side for pair in pairs for side in _sides(pair)]
    batches = by_length(pairs, spec.batch_size, seed=spec.seed)
    model = load_peft(
        base, spec, placement, [sides[i : i + 2 * spec.batch_size] for i in range(0, len(sides), 2 * spec.batch_size)]
    )
    top = min(spec.layers, base.shape.layers)
    run = Run(AdapterWeights(base.shape, top=top, rank=spec.rank, seed=spec.seed))
    if start is not None:
        run.weights.put(start.adapter)
    course = Course(
        n_steps=max(1, round(spec.preference_epochs * len(batches))),
        learning_rate=spec.preference_learning_rate,
        validate_steps=len(batches),
        patience=spec.patience,
        checkpoint_steps=spec.checkpoint_steps,
        seed=spec.seed,
        belongs_to=_belongs_to(base, run.weights, pairs, held_out, spec, str(placement)),
        checkpoints=checkpoints,
    )
    with quiet(), shard_threads(N_SHARDS), tempfile.TemporaryDirectory() as nowhere:
        engine = _Dpo(model, base, run.weights, held_out, spec, folder=Path(nowhere))
        before = engine.preferring()
        follow(course, run, engine, batches, say=say)
        trained = run.trained(dtype=placement.dtype, device=device_name(placement))
        after = engine.preferring()
        judged = judged_by(model, run.weights, validation)
    exact = [{"step": trained.n_steps, "loss": judged.loss, "exact_match": judged.exact_match}] if judged else []
    return Preferred(
        trained=replace(trained, validations=exact, validation_right=judged.right if judged else ()),
        pair_losses=[{"step": found["step"], "loss": found["loss"]} for found in trained.validations],
        n_pairs=len(pairs),
        before=before,
        after=after,
    )


# ---------------------------------------------------------------------------------------------------- private


class _Dpo:
    """Gradients of the DPO loss, and how held-out pairs are ranked."""

    def __init__(
        self,
        model: PeftLlama,
        base: BaseModel,
        weights: AdapterWeights,
        held_out: Sequence[Pair],
        spec: LoraTuningSpec,
        *,
        folder: Path,
    ) -> None:
        self._model, self._weights, self._held_out, self._beta = model, weights, held_out, spec.preference_beta
        model.put(weights.named)
        # The trainer copies the adapter as it is now: the reference.
        self._trainer, self._collate = _trl(model, base, spec, folder)
        self._reference = self._log_likelihoods()

    def gradient(self, batch: Sequence[Pair]) -> tuple[float, Any]:
        """Loss of a batch of pairs, and its gradient."""
        self._model.put(self._weights.named)
        rows = [
            {"prompt_ids": list(pair.prompt), "chosen_ids": list(pair.chosen), "rejected_ids": list(pair.rejected)}
            for pair in batch
        ]
        inputs = {name: values.to(self._model.placement.device) for name, values in self._collate(rows).items()}
        loss = self._trainer.compute_loss(self._model.model, inputs)
        loss.backward()
        return loss.item(), self._model.gradient(list(self._weights.named))

    def judge(self) -> Validation | None:
        """DPO loss on the held-out pairs, and for each whether its chosen answer has the higher reward."""
        if not self._held_out:
            return None
        margins = self._margins(self._log_likelihoods())
        loss = float(np.logaddexp(0.0, -margins).mean())  # -log sigmoid
        return Validation(loss=loss, right=tuple(bool(margin > 0) for margin in margins))

    def preferring(self) -> Preferring | None:
        """How the held-out pairs are ranked."""
        if not self._held_out:
            return None
        found = self._log_likelihoods()
        margins = self._margins(found)
        return Preferring(
            n_pairs=len(self._held_out),
            margin=float(margins.mean()),
            accuracy=float((margins > 0).mean()),
            ranked_right=float((found[:, 0] > found[:, 1]).mean()),
        )

    def _margins(self, found: NDArray[np.float64]) -> NDArray[np.float64]:
        gained = self._beta * (found - self._reference)  # (n_pairs, 2)
        return np.asarray(gained[:, 0] - gained[:, 1])

    def _log_likelihoods(self) -> NDArray[np.float64]:
        """Log-likelihood of the chosen and the rejected answer of every held-out pair, shape (n_pairs, 2)."""
        import torch

        self._model.put(self._weights.named)
        sides = [side for pair in self._held_out for side in _sides(pair)]
        sums: list[float] = []
        for start in range(0, len(sides), VALIDATION_BATCH):
            batch = sides[start : start + VALIDATION_BATCH]
            with torch.no_grad():
                nll, _ = self._model.nll(batch)
            by_answer = torch.split(nll, [len(side.completion) for side in batch])
            sums += [-float(part.sum()) for part in by_answer]
        return np.array(sums).reshape(-1, 2)


def _trl(
    model: PeftLlama, base: BaseModel, spec: LoraTuningSpec, folder: Path
) -> tuple[Any, Callable[[Any], Mapping[str, Tensor]]]:
    """The trainer of trl, for its loss, and what makes its batches; it neither trains nor writes by itself."""
    import datasets
    from transformers import PreTrainedTokenizerFast
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer

    end = base.tokens[base.end_token]
    make_tokenizer: Any = PreTrainedTokenizerFast
    settings = DPOConfig(
        output_dir=str(folder),
        beta=spec.preference_beta,
        seed=spec.seed,
        bf16=False,  # the model is in its numbers already
        use_cpu=model.placement.device == "cpu",
        activation_checkpointing=False,  # likewise
        max_length=None,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    had_bars = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        trainer = DPOTrainer(
            model=model.model,
            args=settings,
            # It insists on data of its own; batches come from `by_length`.
            train_dataset=datasets.Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}]),
            processing_class=make_tokenizer(tokenizer_object=base.tokenizer, eos_token=end, pad_token=end),
        )
    finally:
        if had_bars:
            datasets.enable_progress_bars()
    return trainer, DataCollatorForPreference(pad_token_id=base.end_token)


def _sides(pair: Pair) -> tuple[Example, Example]:
    return Example(prompt=pair.prompt, completion=pair.chosen), Example(prompt=pair.prompt, completion=pair.rejected)


def _belongs_to(
    base: BaseModel,
    weights: AdapterWeights,
    pairs: Sequence[Pair],
    held_out: Sequence[Pair],
    spec: LoraTuningSpec,
    placement: str,
) -> str:
    said = [[[pair.prompt, pair.chosen, pair.rejected] for pair in some] for some in (pairs, held_out)]
    settings = spec.model_dump(mode="json", exclude={"checkpoint_steps"})
    start = hashlib.sha256(weights.state()["weights"].tobytes()).hexdigest()
    return content_digest([base.sha256, start, said, settings, placement])
