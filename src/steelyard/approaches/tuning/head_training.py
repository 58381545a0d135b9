"""Train a head: fit the classifiers that are tried, choose among them on dev, and write down what came of it."""

from __future__ import annotations

import importlib.metadata
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from steelyard.approaches.head_spec import HeadTuningSpec
from steelyard.approaches.tuning.examples import hold_out
from steelyard.approaches.tuning.head import HEAD_FILE, text_of
from steelyard.approaches.tuning.head_answers import AnswerSpace, judge_of, labels_of, scored_as_labels
from steelyard.approaches.tuning.head_choice import (
    FEWEST_DEV,
    FOLDS,
    Aim,
    Chosen,
    Dev,
    Measured,
    choose_on_dev,
    cross_fitted,
    plain_rule,
    trials,
)
from steelyard.approaches.tuning.head_fit import HIDDEN, MLP_DECAYS, Learnt, fit_linear, fit_mlp
from steelyard.approaches.tuning.head_model import Head, Marks, Network, Rule, Singles, logits, save_head
from steelyard.approaches.tuning.store import new_folder, write_card
from steelyard.cases.case import Case

if TYPE_CHECKING:
    from steelyard.approaches.workbench import Workbench
    from steelyard.models.embeddings import Embed

_STRENGTHS: Final = (1.0, 3.0, 10.0, 30.0, 100.0)
_USUAL_STRENGTH: Final = 10.0
"""Inverse regularisation for unit-length embeddings where dev is too small to choose it."""
_USUAL_DECAY: Final = MLP_DECAYS[0]
_FEW: Final = 5
"""Labels with fewer train cases are named on the card."""
_NAMED: Final = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One trained classifier."""

    settings: Mapping[str, Any]
    network: Network


def train_into(
    folder: Path,
    train: Sequence[Case],
    dev: Sequence[Case],
    fields: Sequence[str],
    space: AnswerSpace,
    spec: HeadTuningSpec,
    embed: Embed,
    bench: Workbench,
    *,
    data_digest: str,
    n_usable: int,
) -> None:
    """Train a head and write it with its card.

    Args:
        folder: To write to; appears in one step, complete.
        train: Cases to learn from, at least two different answers among them.
        dev: Cases to choose on.
        fields: Input fields that are embedded.
        space: The labels of the task.
        spec: What is tried.
        embed: Embeds texts.
        bench: Task, price of machine time, progress.
        data_digest: Content address of the cases.
        n_usable: Train cases that could have been learned from, before a sample was taken.

    Raises:
        StorageFailed: The folder cannot be written.
    """
    started, started_cpu = time.monotonic(), time.process_time()
    bench.say(f"training: embedding {len(train):,} train and {len(dev):,} dev cases")
    seen = {label for case in train for label in labels_of(case, space) or ()}
    # One label: by the alphabet. Sets: in the order in which answers list them.
    labels = tuple(label for label in space.labels if label in seen) if space.is_set else tuple(sorted(seen))
    learnt = Learnt(
        x=embed.embed([text_of(case.input, fields) for case in train]),
        marks=_marks(train, labels, space),
        is_set=space.is_set,
        weights=_weights(train, spec),
    )
    aim = Aim(
        labels=labels,
        space=space,
        judge=judge_of(bench.task, space),
        out_of_scope=spec.out_of_scope,
        abstain_below=spec.abstain_below,
    )
    is_chosen = len(dev) >= FEWEST_DEV
    candidates = _candidates(learnt, train, spec, space, is_chosen=is_chosen, say=bench.say)
    tried: list[dict[str, Any]] = []
    measured = None
    chosen = Chosen(0, plain_rule(aim))
    if is_chosen:
        bench.say("training: choosing on dev")
        x = embed.embed([text_of(case.input, fields) for case in dev])
        on_dev = Dev(
            cases=tuple(dev),
            marks=_marks(dev, labels, space),
            logits=tuple(logits(one.network, x) for one in candidates),
            out_of_scope=np.array([labels_of(case, space) == (spec.out_of_scope,) for case in dev], dtype=bool),
        )
        tried = [
            {**one.settings, "dev_accuracy": trial.right, "dev_log_loss": trial.log_loss}
            for one, trial in zip(candidates, trials(on_dev, aim), strict=True)
        ]
        chosen = choose_on_dev(on_dev, aim)
        measured = cross_fitted(on_dev, aim, seed=spec.seed)
    best = candidates[chosen.candidate]
    head = Head(labels=labels, is_set=space.is_set, network=best.network, rule=chosen.rule)
    counts = Counter(label for case in train for label in labels_of(case, space) or ())
    card = {
        "kind": "head",
        "made_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "data_digest": data_digest,
        "n_examples": len(train),
        "n_dev": len(dev),
        "n_left_out": sum(case.expected is not None for case in bench.train) - n_usable,
        "n_labels": len(labels),
        "labels_without_examples": sorted(set(space.labels) - seen),
        "labels_with_few_examples": {label: n for label, n in sorted(counts.items()) if n < _FEW},
        "base_model": {"name": embed.identity},
        "hyperparameters": {
            **best.settings,
            "balance": spec.balance,
            "max_examples": spec.max_examples,
            "seed": spec.seed,
        },
        "tried": tried,
        **_rule_facts(chosen.rule, space),
        **(_dev_facts(measured, tried[chosen.candidate]) if measured is not None else _NO_DEV_FACTS),
        "out_of_scope": _threshold_facts(chosen.rule, dev, spec, space),
        "packages": {package: importlib.metadata.version(package) for package in ("numpy", "scikit-learn")},
    }
    card["notes"] = _notes(card, train, dev, fields, space, bench)
    with new_folder(folder) as made:
        save_head(made / HEAD_FILE, head)
        write_card(
            made,
            card,
            seconds=time.monotonic() - started,
            cpu_seconds=time.process_time() - started_cpu,
            cpu_hour_usd=bench.cpu_hour_usd,
        )


# ---- private --------------------------------------------------------------------------------------------------------


def _weights(cases: Sequence[Case], spec: HeadTuningSpec) -> Singles | None:
    """How much each example counts, 1 on average; `None` where all count alike."""
    if all(case.teacher is None for case in cases) or spec.distilled == 1:
        return None
    weights = np.array([1.0 if case.teacher is None else spec.distilled for case in cases], np.float32)
    return np.asarray(weights / weights.mean())


def _marks(cases: Sequence[Case], labels: Sequence[str], space: AnswerSpace) -> Marks:
    """Shape (n_cases, n_labels)."""
    column = {label: i for i, label in enumerate(labels)}
    marks = np.zeros((len(cases), len(labels)), bool)
    for row, case in zip(marks, cases, strict=True):
        row[[column[label] for label in labels_of(case, space) or () if label in column]] = True
    return marks


def _candidates(
    learnt: Learnt,
    train: Sequence[Case],
    spec: HeadTuningSpec,
    space: AnswerSpace,
    *,
    is_chosen: bool,
    say: Callable[[str], None],
) -> list[Candidate]:
    """The classifiers that are tried; one alone where dev cannot choose, the linear one before any other."""
    found = []
    is_weighted = spec.balance == "weight"
    if spec.classifier != "mlp":
        for strength in _STRENGTHS if is_chosen else (_USUAL_STRENGTH,):
            say(f"training: fitting a linear head, C = {strength:g}")
            network = fit_linear(learnt, strength=strength, is_weighted=is_weighted)
            found.append(Candidate(settings={"classifier": "linear", "C": strength}, network=network))
    if spec.classifier == "mlp" or (spec.classifier == "auto" and is_chosen):
        _, validation = hold_out(train, lambda case: "\n".join(labels_of(case, space) or ()), seed=spec.seed)
        out = {id(case) for case in validation}
        held = np.array([id(case) in out for case in train], dtype=bool)
        for decay in MLP_DECAYS if is_chosen else (_USUAL_DECAY,):
            say(f"training: fitting a head with a hidden layer, decay = {decay:g}")
            fitted = fit_mlp(learnt, held, decay=decay, seed=spec.seed, is_weighted=is_weighted)
            settings = {"classifier": "mlp", "hidden": HIDDEN, "decay": decay, "epochs": fitted.epochs}
            found.append(Candidate(settings=settings, network=fitted.network))
    return found


def _rule_facts(rule: Rule, space: AnswerSpace) -> dict[str, Any]:
    if space.is_set:
        return {"temperature": None, "cut": rule.cut}
    return {"temperature": float(1 / rule.scale[0]), "cut": None}


_NO_DEV_FACTS: Final[Mapping[str, Any]] = {"dev_accuracy": None, "dev_log_loss": None, "calibration": None}


def _dev_facts(measured: Measured, trial: Mapping[str, Any]) -> dict[str, Any]:
    how = (
        f"cross-fitted within dev: each of {FOLDS} folds is answered by the classifier, calibration and thresholds that "
        "were chosen on the others, clusters whole"
    )
    return {
        "dev_accuracy": trial["dev_accuracy"],
        "dev_log_loss": trial["dev_log_loss"],
        "calibration": {
            "measured": how,
            "success": measured.success,
            "score": measured.score,
            "exact": measured.exact,
            "micro_f1": measured.micro_f1,
            "coverage": measured.coverage,
            "success_above": measured.success_above,
            "answers": measured.answers.to_json(),
            "labels": None if measured.labels is None else measured.labels.to_json(),
        },
    }


def _threshold_facts(
    rule: Rule, dev: Sequence[Case], spec: HeadTuningSpec, space: AnswerSpace
) -> dict[str, Any] | None:
    """The threshold, or why there is none."""
    if spec.out_of_scope is None and spec.abstain_below is None:
        return None
    n_dev = sum(labels_of(case, space) == (spec.out_of_scope,) for case in dev)
    because = None
    if spec.abstain_below is not None:
        because = "set in study.yaml"
    elif rule.threshold is not None:
        because = "the most successes on dev"
    elif len(dev) < FEWEST_DEV:
        because = f"none: {len(dev)} labelled dev cases are too few to choose one"
    elif not n_dev:
        because = "none: dev has no case of this label, so it cannot be chosen"
    else:
        because = "none: withholding answers gains nothing on dev"
    return {"label": spec.out_of_scope, "threshold": rule.threshold, "because": because, "n_dev": n_dev}


def _notes(
    card: Mapping[str, Any],
    train: Sequence[Case],
    dev: Sequence[Case],
    fields: Sequence[str],
    space: AnswerSpace,
    bench: Workbench,
) -> list[str]:
    """What a person should know before trusting this head, one sentence each."""
    notes = []
    if len(dev) < FEWEST_DEV:
        notes.append(
            f"dev has {len(dev)} labelled cases, fewer than {FEWEST_DEV}: usual settings were taken, and confidence is"
            " not calibrated"
        )
    if few := card["labels_with_few_examples"]:
        shown = [f"{label!r} ({n})" for label, n in few.items()]
        notes.append(f"labels with fewer than {_FEW} train cases, hardly learned: {_some(shown)}")
    if unseen := card["labels_without_examples"]:
        notes.append(f"labels without a train case, never given: {_some([repr(label) for label in unseen])}")
    if n_empty := sum(not text_of(case.input, fields).strip() for case in train):
        notes.append(f"{n_empty:,} train cases have an empty text; they teach what is answered to one")
    if card["n_left_out"]:
        notes.append(f"{card['n_left_out']:,} labelled train cases were left out: their answer is none of the labels")
    threshold = card["out_of_scope"]
    if threshold is not None and threshold["threshold"] is None:
        notes.append(f"threshold for {threshold['label']!r}: {threshold['because']}")
    if scored_as_labels(bench.task):
        notes.append(f"{space.field!r} is scored by more than its labels: here an answer counts as right when all are")
    return notes


def _some(shown: Sequence[str]) -> str:
    more = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    return ", ".join(shown[:_NAMED]) + more
