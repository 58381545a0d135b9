"""A trained head: a small network on embeddings, and the rule that turns its logits into an answer; numpy alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from steelyard.approaches.tuning.calibration import Floats, log_odds, sigmoid, softmax

Singles = NDArray[np.float32]
Marks = NDArray[np.bool_]


class Layer(NamedTuple):
    """Maps n_in numbers to n_out."""

    weights: Singles
    """Shape (n_out, n_in)."""
    bias: Singles
    """Shape (n_out,)."""


Network = tuple[Layer, ...]
"""Layers with rectifiers between them; a single one is a linear classifier. The last gives one logit a label."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """From logits to an answer: all the numbers that were chosen on dev."""

    scale: Floats
    """Logits are multiplied by it; shape (n_labels,). The inverse of the temperature where labels exclude each other."""
    shift: Floats
    """Added to them then; shape (n_labels,)."""
    cut: float = 0.5
    """Sets of labels: a label is given from this probability on."""
    at_least: int = 0
    """Sets of labels: the fewest that may be given; the likeliest are."""
    at_most: int | None = None
    """Sets of labels: the most that may be given; the likeliest are."""
    answer_scale: float = 1.0
    """Log odds of a whole answer are multiplied by it, so that confidence is the share of answers that is right."""
    answer_shift: float = 0.0
    """Added to them then."""
    threshold: float | None = None
    """Answers whose confidence is below it are not given."""
    right_below: float = 0.0
    """Confidence of the answer that is given instead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decisions:
    """What a head makes of some texts."""

    marks: Marks
    """Labels given, before any is withheld; shape (n_texts, n_labels)."""
    confidence: Floats
    """Probability that exactly these are right, shape (n_texts,)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """A trained classifier on embeddings."""

    labels: tuple[str, ...]
    """In the order of the logits, and of an answer with several."""
    is_set: bool
    """Whether an answer is a set of labels, each there or not; else it is one label."""
    network: Network
    rule: Rule

    def probabilities(self, embeddings: Singles) -> Floats:
        """Shape (n_texts, n_labels); each row sums to 1 where labels exclude each other."""
        return calibrated(logits(self.network, embeddings), self.rule, is_set=self.is_set)

    def decide(self, embeddings: Singles) -> Decisions:
        """The likeliest label of each text, or its set of labels."""
        return decisions(self.probabilities(embeddings), self.rule, is_set=self.is_set)

    def names(self, marks: Marks) -> tuple[str, ...]:
        """The labels that a row of marks stands for."""
        return tuple(label for label, mark in zip(self.labels, marks, strict=True) if mark)


def logits(network: Network, embeddings: Singles) -> Floats:
    """Shape (n_texts, n_labels)."""
    *hidden, last = network
    x: NDArray[Any] = embeddings
    for layer in hidden:
        x = np.maximum(x @ layer.weights.T + layer.bias, 0)
    return np.asarray(x @ last.weights.T + last.bias, np.float64)


def calibrated(raw: Floats, rule: Rule, *, is_set: bool) -> Floats:
    """Logits as probabilities."""
    scaled = raw * rule.scale + rule.shift
    return sigmoid(scaled) if is_set else softmax(scaled)


def decisions(probabilities: Floats, rule: Rule, *, is_set: bool) -> Decisions:
    """Labels with the confidence in them, from probabilities of shape (n_texts, n_labels)."""
    if is_set:
        marks = _sets(probabilities, rule)
        # As if labels came and went independently; the answer's own calibration mends what is wrong with that.
        own = np.exp(np.log(np.maximum(np.where(marks, probabilities, 1 - probabilities), 1e-12)).sum(axis=1))
    else:
        marks = np.zeros(probabilities.shape, bool)
        marks[np.arange(len(marks)), probabilities.argmax(axis=1)] = True
        own = probabilities.max(axis=1)
    return Decisions(marks=marks, confidence=sigmoid(rule.answer_scale * log_odds(own) + rule.answer_shift))


def save_head(path: Path, head: Head) -> None:
    """Write a head as plain arrays."""
    rule = head.rule
    arrays: dict[str, Any] = {
        "labels": np.array(head.labels, dtype=np.str_),
        "is_set": np.bool_(head.is_set),
        "n_layers": np.int64(len(head.network)),
        "scale": rule.scale,
        "shift": rule.shift,
        "at_most": np.int64(-1 if rule.at_most is None else rule.at_most),
        "threshold": np.float64(np.nan if rule.threshold is None else rule.threshold),
    }
    for name in _NUMBERS:
        arrays[name] = np.float64(getattr(rule, name))
    for number, layer in enumerate(head.network):
        arrays |= {f"weights_{number}": layer.weights, f"bias_{number}": layer.bias}
    np.savez(path, **arrays)


def read_head(path: Path) -> Head:
    """Read what `save_head` wrote; nothing in it is executed."""
    with np.load(path, allow_pickle=False) as kept:
        threshold, at_most = float(kept["threshold"]), int(kept["at_most"])
        numbers = {name: float(kept[name]) for name in _NUMBERS}
        return Head(
            labels=tuple(str(label) for label in kept["labels"]),
            is_set=bool(kept["is_set"]),
            network=tuple(Layer(kept[f"weights_{i}"], kept[f"bias_{i}"]) for i in range(int(kept["n_layers"]))),
            rule=Rule(
                scale=kept["scale"],
                shift=kept["shift"],
                cut=numbers["cut"],
                at_least=int(numbers["at_least"]),
                at_most=None if at_most < 0 else at_most,
                answer_scale=numbers["answer_scale"],
                answer_shift=numbers["answer_shift"],
                threshold=None if np.isnan(threshold) else threshold,
                right_below=numbers["right_below"],
            ),
        )


# ---- private --------------------------------------------------------------------------------------------------------

_NUMBERS = ("cut", "at_least", "answer_scale", "answer_shift", "right_below")


def _sets(probabilities: Floats, rule: Rule) -> Marks:
    marks = probabilities >= rule.cut
    rank = (-probabilities).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")  # 0 for the likeliest
    marks |= rank < rule.at_least
    if rule.at_most is not None:
        marks &= rank < rule.at_most
    return np.asarray(marks)
