"""A head: a linear classifier on sentence embeddings, for tasks whose answer is one label.

Where the labels are easy this is the tuning to beat: it trains in seconds, answers in milliseconds without a
generative model, and knows how sure it is. scikit-learn fits it; what is kept is a matrix, so answering needs numpy
alone. Regularisation and the temperature of its confidence are chosen on the dev split, never on test.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from steelyard.approaches.approach import Answer, Ask, Prepared
from steelyard.approaches.head_spec import HeadTuningSpec
from steelyard.approaches.spec import Lever
from steelyard.approaches.tuning.examples import choose
from steelyard.approaches.tuning.store import content_digest, is_complete, new_folder, read_setup, write_card
from steelyard.cases.case import Case, CaseInput
from steelyard.errors import InputError, Problem, require
from steelyard.task.task import Task

if TYPE_CHECKING:
    from steelyard.approaches.workbench import Workbench
    from steelyard.models.embeddings import Embed

Floats = NDArray[np.float32]

_RECIPE = 1
"""Counts up when a change of this code would give other weights."""
_STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)
_USUAL_STRENGTH = 10.0
"""Inverse regularisation for unit-length embeddings where dev is too small to choose it."""
_FEWEST_DEV = 20
_TEMPERATURES = np.geomspace(0.2, 5.0, 49)


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """A trained linear classifier."""

    labels: tuple[str, ...]
    weights: Floats
    """Shape (n_labels, n_dimensions)."""
    bias: Floats
    """Shape (n_labels,)."""
    temperature: float
    """Logits are divided by it, so that the confidence agrees with the accuracy on dev."""

    def probabilities(self, embeddings: Floats) -> NDArray[np.float64]:
        """Shape (n_texts, n_labels), each row sums to 1."""
        return _softmax((embeddings @ self.weights.T + self.bias) / self.temperature)


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadApproach:
    """Answers with the likeliest label; calls no model endpoint."""

    name: str
    fingerprint: str
    field: str
    """The expected field it fills."""
    input_fields: tuple[str, ...]
    head: Head
    embed: Embed
    levers: frozenset[Lever] = frozenset({Lever.TUNING})
    endpoint: str | None = None

    async def answer(self, case: CaseInput, ask: Ask) -> Answer:
        """Classify one case."""
        # Some milliseconds of computing: a hop to another thread would only blur the latency.
        embedding = self.embed.embed([_text(case.fields, self.input_fields)])
        (probabilities,) = self.head.probabilities(embedding)
        best = int(probabilities.argmax())
        return Answer(
            output={self.field: self.head.labels[best]},
            valid=True,
            schema_pass=True,
            confidence=float(probabilities[best]),
        )


def prepare_head(name: str, spec: HeadTuningSpec, bench: Workbench) -> Prepared:
    """Train a head on the train split, or find the one that was trained from the same things before.

    Args:
        name: Name of the approach in the study.
        spec: The `tuning:` section, with `method: head`.
        bench: Task, train and dev splits, embedder, folder.

    Returns:
        The approach, ready to answer.

    Raises:
        InputError: The task has no labels, or the train split has fewer than two of them.
        MissingExtra: scikit-learn is not installed (only when something has to be trained).
        StorageFailed: The folder cannot be written.
    """
    task = bench.task
    where = f"study.yaml:approaches.{name}.tuning"
    if not task.labels or len(task.expected_fields) != 1:
        raise InputError(
            Problem(
                what="a tuned head chooses one of a set of labels, and this task has none",
                where=where,
                hint="use method: lora, or give task.labels",
            )
        )
    train = choose(
        _labelled(bench.train, task), lambda case: _label(case, task), at_most=spec.max_examples, seed=spec.seed
    )
    dev = _labelled(bench.dev, task)
    seen = sorted({_label(case, task) for case in train})
    if len(seen) < 2:
        found = f"only {seen[0]!r}" if seen else "none"
        raise InputError(
            Problem(
                what=f"a tuned head needs train cases of at least two labels, and there is {found}",
                where=where,
                hint="label more cases, or leave out this approach",
            )
        )
    embed = bench.embedder()
    said = [[[_text(case.input, task.input_fields), _label(case, task)] for case in cases] for cases in (train, dev)]
    data_digest = content_digest(said)
    digest = content_digest([_RECIPE, data_digest, spec.seed, embed.identity])
    folder = bench.folder / f"head-{digest}"
    reused = is_complete(folder)
    if not reused:
        require("sklearn", feature="a tuned head", extra="local")
        _train_into(folder, train, dev, spec, embed, bench, data_digest=data_digest)
    approach = HeadApproach(
        name=name,
        fingerprint=content_digest(["head", digest, task.digest()]),
        field=task.expected_fields[0],
        input_fields=task.input_fields,
        head=_read(folder / "head.npz"),
        embed=embed,
    )
    setup = read_setup(folder, cpu_hour_usd=bench.cpu_hour_usd, reused=reused)
    return Prepared(approach=approach, setup=setup)


# ---------------------------------------------------------------------------------------------------- private


def _train_into(
    folder: Path,
    train: Sequence[Case],
    dev: Sequence[Case],
    spec: HeadTuningSpec,
    embed: Embed,
    bench: Workbench,
    *,
    data_digest: str,
) -> None:
    started, started_cpu = time.monotonic(), time.process_time()
    task = bench.task
    bench.say(f"training: embedding {len(train):,} train and {len(dev):,} dev cases")
    train_x = embed.embed([_text(case.input, task.input_fields) for case in train])
    train_y = [_label(case, task) for case in train]
    dev_x = embed.embed([_text(case.input, task.input_fields) for case in dev]) if dev else train_x[:0]
    dev_y = [_label(case, task) for case in dev]
    tried: list[dict[str, float]] = []
    if len(dev) >= _FEWEST_DEV:
        heads = {}
        for strength in _STRENGTHS:
            bench.say(f"training: fitting the head, C = {strength:g}")
            heads[strength] = _fit(train_x, train_y, strength)
            accuracy, loss = _accuracy_and_loss(heads[strength], dev_x, dev_y)
            tried.append({"C": strength, "dev_accuracy": accuracy, "dev_log_loss": loss})
        chosen = max(tried, key=lambda trial: (trial["dev_accuracy"], -trial["dev_log_loss"]))["C"]
        head = _calibrated(heads[chosen], dev_x, dev_y)
    else:
        chosen = _USUAL_STRENGTH
        head = _fit(train_x, train_y, chosen)
    dev_accuracy, dev_loss = _accuracy_and_loss(head, dev_x, dev_y) if dev else (None, None)
    card = {
        "kind": "head",
        "made_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "data_digest": data_digest,
        "n_examples": len(train),
        "n_dev": len(dev),
        "n_left_out": sum(case.expected is not None for case in bench.train) - len(_labelled(bench.train, task)),
        "n_labels": len(head.labels),
        "labels_without_examples": sorted(set(task.labels) - set(head.labels)),
        "base_model": {"name": embed.identity},
        "hyperparameters": {"C": chosen, "max_examples": spec.max_examples, "seed": spec.seed},
        "tried": tried,
        "temperature": head.temperature,
        "dev_accuracy": dev_accuracy,
        "dev_log_loss": dev_loss,
        "packages": {package: importlib.metadata.version(package) for package in ("numpy", "scikit-learn")},
    }
    with new_folder(folder) as made:
        np.savez(
            made / "head.npz",
            labels=np.array(head.labels, dtype=np.str_),
            weights=head.weights,
            bias=head.bias,
            temperature=np.float64(head.temperature),
        )
        write_card(
            made,
            card,
            seconds=time.monotonic() - started,
            cpu_seconds=time.process_time() - started_cpu,
            cpu_hour_usd=bench.cpu_hour_usd,
        )


def _fit(x: Floats, y: Sequence[str], strength: float) -> Head:
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    model = LogisticRegression(C=strength, max_iter=5000)
    with threadpool_limits(1):  # matrices this small are waited for longer than worked on when cores share them
        model.fit(x, y)
    weights, bias = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # the library keeps one row of log odds; the first label's logit is then 0
        weights, bias = np.vstack([np.zeros_like(weights), weights]), np.concatenate([[0.0], bias])
    return Head(
        labels=tuple(str(label) for label in model.classes_),
        weights=weights.astype(np.float32),
        bias=bias.astype(np.float32),
        temperature=1.0,
    )


def _calibrated(head: Head, x: Floats, y: Sequence[str]) -> Head:
    """The same head with the temperature that makes its probabilities likeliest on dev (Guo et al. 2017)."""
    candidates = [
        Head(labels=head.labels, weights=head.weights, bias=head.bias, temperature=float(temperature))
        for temperature in _TEMPERATURES
    ]
    return min(candidates, key=lambda candidate: _accuracy_and_loss(candidate, x, y)[1])


def _accuracy_and_loss(head: Head, x: Floats, y: Sequence[str]) -> tuple[float, float]:
    """Share of right labels, and mean negative log probability of the true one (one in a million where unseen)."""
    probabilities = head.probabilities(x)
    at = {label: i for i, label in enumerate(head.labels)}
    best = probabilities.argmax(axis=1)
    of_truth = [probabilities[i, at[label]] if label in at else 0.0 for i, label in enumerate(y)]
    right = sum(head.labels[b] == label for b, label in zip(best, y, strict=True))
    return right / len(y), float(-np.log(np.maximum(of_truth, 1e-6)).mean())


def _softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    shifted = np.exp((logits - logits.max(axis=1, keepdims=True)).astype(np.float64))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def _read(path: Path) -> Head:
    with np.load(path, allow_pickle=False) as kept:
        return Head(
            labels=tuple(str(label) for label in kept["labels"]),
            weights=kept["weights"],
            bias=kept["bias"],
            temperature=float(kept["temperature"]),
        )


def _labelled(cases: Sequence[Case], task: Task) -> list[Case]:
    """Cases whose expected label is one of the task's."""
    (name,) = task.expected_fields
    return [case for case in cases if case.expected is not None and case.expected.get(name) in task.labels]


def _label(case: Case, task: Task) -> str:
    assert case.expected is not None
    return str(case.expected[task.expected_fields[0]])


def _text(fields: Mapping[str, Any], names: Sequence[str]) -> str:
    """What is embedded: the one input field, or all of them, one a line."""
    values = {name: "" if fields.get(name) is None else str(fields[name]) for name in names}
    if len(values) == 1:
        return next(iter(values.values()))
    return "\n".join(f"{name}: {value}" for name, value in values.items())
