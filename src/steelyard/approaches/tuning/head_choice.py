"""Everything about a head that is chosen on dev, and an honest measure of what was chosen.

On dev are chosen: which of the trained classifiers answers, the calibration of its probabilities, from which
probability a label belongs to a set, the calibration of whole answers, and below which confidence none is given. All
of it is one function of dev cases. To measure it, dev is divided into five folds, cases of a cluster together, and the
answers to each fold are given by what the same function chooses on the other four: no figure comes from a case that had
a part in what gave it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from steelyard.approaches.tuning.calibration import (
    Floats,
    Reliability,
    binary_log_loss,
    log_loss,
    platt,
    platt_by_label,
    reliability,
    sigmoid,
    temperature,
)
from steelyard.approaches.tuning.calibration import log_odds as log_odds_of
from steelyard.approaches.tuning.head_answers import AnswerSpace, Judge
from steelyard.approaches.tuning.head_model import Marks, Rule, calibrated, decisions
from steelyard.cases.case import Case
from steelyard.cases.split import together

FEWEST_DEV: Final = 20
"""With fewer dev cases nothing is chosen: what fits them best would be chance."""
FOLDS: Final = 5
_CUTS: Final = np.linspace(0.05, 0.95, 37)
"""Probabilities that are tried as the least for a label of a set."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dev:
    """Dev cases as the trained classifiers see them."""

    cases: tuple[Case, ...]
    marks: Marks
    """True labels, shape (n_cases, n_labels); labels that no train case has are missing."""
    logits: tuple[Floats, ...]
    """Of each classifier, shape (n_cases, n_labels)."""
    out_of_scope: Marks
    """Cases whose true answer is the label for what is out of scope, shape (n_cases,)."""

    def of(self, rows: NDArray[Any]) -> Dev:
        """Some of them."""
        cases = tuple(self.cases[i] for i in np.arange(len(self.cases))[rows])
        return Dev(
            cases=cases,
            marks=self.marks[rows],
            logits=tuple(one[rows] for one in self.logits),
            out_of_scope=self.out_of_scope[rows],
        )

    @property
    def truth(self) -> NDArray[np.int64]:
        """Column of the one true label, or -1."""
        return np.where(self.marks.any(axis=1), self.marks.argmax(axis=1), -1).astype(np.int64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Aim:
    """What answers are chosen for."""

    labels: tuple[str, ...]
    """In the order of the logits."""
    space: AnswerSpace
    judge: Judge
    out_of_scope: str | None = None
    abstain_below: float | None = None

    @property
    def withholds(self) -> bool:
        """Whether an answer may be withheld."""
        return self.out_of_scope is not None or self.abstain_below is not None

    def success(self, case: Case, labels: tuple[str, ...]) -> bool:
        """Whether these labels are a success on the case."""
        return self.judge(case, labels).is_success


class Chosen(NamedTuple):
    """What was chosen on some dev cases."""

    candidate: int
    """Position of the classifier."""
    rule: Rule


class Trial(NamedTuple):
    """How one classifier does on dev; all cases had a part in the calibration."""

    right: float
    """Share of the likeliest labels that is right; for sets, share of sets that is."""
    log_loss: float
    """Mean negative log probability of the true label; for sets, of each label being there or not."""


class Given(NamedTuple):
    """Answers to dev cases."""

    marks: Marks
    probabilities: Floats
    success: Marks
    """Shape (n_cases,): whether the answer is a success by the task's own scorer."""
    score: Floats
    confidence: Floats
    is_below: Marks
    """Whether the answer was withheld."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Answers to dev cases by what was chosen without them."""

    success: float
    score: float
    """Mean by the task's own scorer, 0..1."""
    answers: Reliability
    """Of the confidence in whole answers."""
    labels: Reliability | None
    """Of the probability of each label for each case; for sets alone."""
    exact: float
    """Share of answers with just the true labels."""
    micro_f1: float | None
    """2 × labels rightly given / (labels given + labels expected), over all cases; for sets alone."""
    coverage: float
    """Share of answers that was not withheld."""
    success_above: float | None
    """Share of those that succeeds; `None` where there are none."""


def trials(dev: Dev, aim: Aim) -> list[Trial]:
    """How each classifier does."""
    return [_trial(dev, raw, _calibration(dev, raw, aim), aim) for raw in dev.logits]


def choose_on_dev(dev: Dev, aim: Aim) -> Chosen:
    """Choose all that is chosen on dev.

    The classifier is the one with the lowest log loss, once calibrated. The share of right answers tells classifiers
    apart less well: on some hundred cases it differs by a few of them, by chance, and for sets it hangs on the cut, which
    is chosen later.
    """
    losses = [one.log_loss for one in trials(dev, aim)]
    best = losses.index(min(losses))
    raw = dev.logits[best]
    rule = _calibration(dev, raw, aim)
    if aim.space.is_set:
        rule = replace(rule, cut=_best_cut(dev, calibrated(raw, rule, is_set=True), rule, aim))
    found = decisions(calibrated(raw, rule, is_set=aim.space.is_set), rule, is_set=aim.space.is_set)
    success = _successes(dev, found.marks, aim)
    of_answers = platt(log_odds_of(found.confidence)[:, None], success[:, None])
    rule = replace(rule, answer_scale=float(of_answers.scale[0]), answer_shift=float(of_answers.shift[0]))
    if aim.withholds:
        confidence = sigmoid(rule.answer_scale * log_odds_of(found.confidence) + rule.answer_shift)
        rule = _with_threshold(rule, dev, confidence, success, found.marks, aim)
    return Chosen(best, rule)


def plain_rule(aim: Aim) -> Rule:
    """The rule where dev is too small to choose one."""
    n = len(aim.labels)
    return Rule(
        scale=np.ones(n),
        shift=np.zeros(n),
        at_least=aim.space.at_least,
        at_most=aim.space.at_most,
        threshold=aim.abstain_below,
        right_below=0.5 if aim.out_of_scope is not None else 0.0,
    )


def cross_fitted(dev: Dev, aim: Aim, *, seed: int) -> Measured:
    """Answer each fifth of dev by what the other four choose, and measure the answers.

    Args:
        dev: At least `FEWEST_DEV` cases.
        aim: What answers are chosen for.
        seed: Of the division into folds.
    """
    folds = _folds(dev.cases, seed)
    parts: list[Given] = []
    order: list[NDArray[np.int64]] = []
    for number in range(FOLDS):
        held = folds == number
        if not held.any() or held.all():
            continue
        chosen = choose_on_dev(dev.of(~held), aim)
        parts.append(_given(dev.of(held), chosen, aim))
        order.append(np.flatnonzero(held))
    rows = np.concatenate(order)
    return _measured(dev.of(rows), Given(*(np.concatenate(one) for one in zip(*parts, strict=True))), aim)


# ---- private --------------------------------------------------------------------------------------------------------


def _calibration(dev: Dev, raw: Floats, aim: Aim) -> Rule:
    if aim.space.is_set:
        of_labels = platt_by_label(raw, dev.marks)
        return replace(plain_rule(aim), scale=of_labels.scale, shift=of_labels.shift, threshold=None)
    n = len(aim.labels)
    return replace(plain_rule(aim), scale=np.full(n, 1 / temperature(raw, dev.truth)), threshold=None)


def _trial(dev: Dev, raw: Floats, rule: Rule, aim: Aim) -> Trial:
    p = calibrated(raw, rule, is_set=aim.space.is_set)
    marks = decisions(p, rule, is_set=aim.space.is_set).marks
    loss = binary_log_loss(p, dev.marks) if aim.space.is_set else log_loss(p, dev.truth)
    return Trial(float((marks == dev.marks).all(axis=1).mean()), loss)


def _best_cut(dev: Dev, p: Floats, rule: Rule, aim: Aim) -> float:
    """The cut with the most successes, of equals the one with the best score, of those the one in the middle."""
    worth = []
    for cut in _CUTS:
        marks = decisions(p, replace(rule, cut=float(cut)), is_set=True).marks
        said = [aim.judge(case, _names(row, aim)) for case, row in zip(dev.cases, marks, strict=True)]
        worth.append((sum(one.is_success for one in said), round(sum(one.score for one in said), 9)))
    best = [float(cut) for cut, one in zip(_CUTS, worth, strict=True) if one == max(worth)]
    return best[len(best) // 2]


def _with_threshold(rule: Rule, dev: Dev, confidence: Floats, success: Marks, marks: Marks, aim: Aim) -> Rule:
    """The rule with the threshold that has the most successes, or with the one that was asked for."""
    instead = _instead(dev, aim)
    may_change = ~_is_out_of_scope(marks, aim)  # an answer that says so already need not be withheld
    threshold = aim.abstain_below
    if threshold is None:
        if not dev.out_of_scope.any():
            return rule
        threshold = _best_threshold(confidence[may_change], success[may_change], instead[may_change])
        if threshold is None:
            return rule
    below = may_change & (confidence < threshold)
    # One more of each kind: a share of few cases is never taken as certain.
    right = (instead[below].sum() + 1) / (below.sum() + 2) if aim.out_of_scope is not None else 0.0
    return replace(rule, threshold=threshold, right_below=float(right))


def _best_threshold(confidence: Floats, success: Marks, instead: Marks) -> float | None:
    """The confidence below which the other answer succeeds most often in sum; `None` where withholding gains nothing."""
    order = np.argsort(confidence, kind="stable")
    sorted_confidence = confidence[order]
    gains = np.cumsum(instead[order].astype(int) - success[order].astype(int))  # of withholding the i + 1 least sure
    # Between two equal confidences there is no threshold.
    possible = np.append(np.diff(sorted_confidence) > 0, True) if len(order) else np.zeros(0, bool)
    gains = np.where(possible, gains, -1)
    if not len(gains) or gains.max() <= 0:
        return None
    best = np.flatnonzero(gains == gains.max())
    at = int(best[len(best) // 2])
    above = sorted_confidence[at + 1] if at + 1 < len(order) else 1.0
    return float((sorted_confidence[at] + above) / 2)


def _given(dev: Dev, chosen: Chosen, aim: Aim) -> Given:
    rule = chosen.rule
    p = calibrated(dev.logits[chosen.candidate], rule, is_set=aim.space.is_set)
    found = decisions(p, rule, is_set=aim.space.is_set)
    marks, confidence = found.marks.copy(), found.confidence.copy()
    below = np.zeros(len(marks), bool)
    if rule.threshold is not None:
        below = ~_is_out_of_scope(marks, aim) & (confidence < rule.threshold)
        confidence[below] = rule.right_below
        marks[below] = [label == aim.out_of_scope for label in aim.labels]
    success, score = np.zeros(len(marks), bool), np.zeros(len(marks))
    for i, case in enumerate(dev.cases):
        if below[i] and aim.out_of_scope is None:
            continue  # no answer at all
        labels = (aim.out_of_scope,) if below[i] and aim.out_of_scope is not None else _names(marks[i], aim)
        mark = aim.judge(case, labels)
        success[i], score[i] = mark.is_success, mark.score
    return Given(marks, p, success, score, confidence, below)


def _measured(dev: Dev, given: Given, aim: Aim) -> Measured:
    above = ~given.is_below
    n_both = float((given.marks & dev.marks).sum())
    n_marks = float(given.marks.sum() + dev.marks.sum())
    is_set = aim.space.is_set
    # A label that no train case has cannot be given: an answer to such a case is never exact.
    is_known = np.array([set(_true_labels(case, aim)) <= set(aim.labels) for case in dev.cases])
    exact = (given.marks == dev.marks).all(axis=1) & is_known
    if aim.out_of_scope is not None:
        exact = np.where(given.is_below, dev.out_of_scope, exact)
    return Measured(
        success=float(given.success.mean()),
        score=float(given.score.mean()),
        answers=reliability(given.confidence, given.success),
        labels=reliability(given.probabilities.ravel(), dev.marks.ravel()) if is_set else None,
        exact=float(exact.mean()),
        micro_f1=(2 * n_both / n_marks if n_marks else 1.0) if is_set else None,
        coverage=float(above.mean()),
        success_above=float(given.success[above].mean()) if above.any() else None,
    )


def _successes(dev: Dev, marks: Marks, aim: Aim) -> Marks:
    found = [aim.success(case, _names(row, aim)) for case, row in zip(dev.cases, marks, strict=True)]
    return np.array(found, dtype=bool)


def _instead(dev: Dev, aim: Aim) -> Marks:
    """Whether the answer given in place of a withheld one would be a success."""
    if aim.out_of_scope is None:
        return np.zeros(len(dev.cases), bool)
    return np.array([aim.success(case, (aim.out_of_scope,)) for case in dev.cases], dtype=bool)


def _is_out_of_scope(marks: Marks, aim: Aim) -> Marks:
    alone = np.array([label == aim.out_of_scope for label in aim.labels])
    return np.asarray((marks == alone).all(axis=1) & alone.any())


def _names(row: Marks, aim: Aim) -> tuple[str, ...]:
    return tuple(label for label, mark in zip(aim.labels, row, strict=True) if mark)


def _true_labels(case: Case, aim: Aim) -> tuple[str, ...]:
    value = (case.expected or {})[aim.space.field]
    return tuple(value) if aim.space.is_set else (value,)


def _folds(cases: Sequence[Case], seed: int) -> NDArray[np.int64]:
    """Fold of each case: drawn by lot, clusters together."""

    def lot(unit: Sequence[int]) -> bytes:
        return hashlib.blake2b(f"{seed}:{cases[unit[0]].id}".encode("utf-8", "replace"), digest_size=8).digest()

    fold = np.zeros(len(cases), dtype=np.int64)
    for i, unit in enumerate(sorted(together(cases, {}), key=lot)):
        fold[list(unit)] = i % FOLDS
    return fold
