"""Success where a judge scored all cases and people scored some: prediction-powered estimates.

The judge is cheap and may be wrong; people are right and dear. The estimate takes the judge's mean over all cases and
corrects it by what people found on theirs, so a biased judge does no harm, and a good one narrows the interval. How
far the judge is listened to is tuned on the cases both scored: a judge that says nothing about people's verdicts gets
no weight, and the estimate is that of the people alone. People's scores are never replaced: this figure stands
beside `success`, it does not enter it.

It rests on one assumption that the figures cannot show: which of the judged cases people scored was left to chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steelyard.figures import Figure, Provenance, unknown
from steelyard.measure.intervals import MIN_CASES, Interval, effective_n, normal_quantile, wilson
from steelyard.measure.paired import combined
from steelyard.measure.results import ApproachResults, Floats, Ints, cluster_sums, renumber

MIN_LABELLED = 10
"""Fewer cases scored by both than this cannot correct a judge."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictionPowered:
    """A mean over cases that were all predicted and partly labelled."""

    value: float
    """Estimate of the mean label; not confined to the range of the labels."""
    trust: float
    """Weight of the judge: 0 is not listened to, 1 is taken at its word up to a constant."""
    influence: Floats
    """What each case contributes to the error of `value`, shape (n_cases,); its sum is 0."""
    prior_variance: float
    """Variance added for the two disagreements that are always reckoned with."""
    n_labelled: int
    """Cases with label and prediction."""


def prediction_powered(label: Floats, prediction: Floats) -> PredictionPowered:
    """Mean of a label that only some cases carry, with the help of a prediction.

    Cases fall in two groups. Those with a prediction carry a label or not, by chance: there the mean is
    mean(label) + trust · (mean of all predictions - mean of predictions where there is a label). Those with a label
    alone (a call that failed has no answer to judge and is known to be wrong) count as they are.

    `trust` is the slope of label on prediction, which makes the variance least, and never negative. Two disagreements,
    one each way, are added to the labelled cases before slope and variance are taken, so that a judge who happened to
    agree on 20 cases is not taken for one who always does.

    Args:
        label: 0..1 per case, `nan` where nobody scored it; shape (n_cases,).
        prediction: 0..1 per case, `nan` where there is none. At least one of the two is known for each case, and at
            least one case has both.

    Source: Angelopoulos, Bates, Fannjiang, Jordan, Zrnic (2023), Science 382; Angelopoulos, Duchi, Zrnic (2023),
        'PPI++', for the tuning.
    """
    n = len(label)
    predicted = ~np.isnan(prediction)
    both = predicted & ~np.isnan(label)
    n_predicted, n_both = int(predicted.sum()), int(both.sum())
    share = n_predicted / n
    y, f = label[both], prediction[both]
    trust = _slope(np.append(y, [1.0, 0.0]), np.append(f, [0.0, 1.0]))
    residual = y - trust * f
    correction = float(residual.mean())
    mean_prediction = float(prediction[predicted].mean())
    mean_predicted = trust * mean_prediction + correction
    value = share * mean_predicted + float(label[~predicted].sum()) / n
    influence = np.where(predicted, mean_predicted, np.nan_to_num(label)) - value
    influence[predicted] += trust * (prediction[predicted] - mean_prediction)
    influence[both] += (residual - correction) * n_predicted / n_both
    return PredictionPowered(
        value=value,
        trust=trust,
        influence=influence / n,
        prior_variance=(share / n_both) ** 2 * ((1 - correction) ** 2 + (trust + correction) ** 2),
        n_labelled=n_both,
    )


def success_with_judge(results: ApproachResults, *, alpha: float = 0.05) -> Figure:
    """Success rate from people's scores on some cases and a judge's on all, with a cluster-aware interval.

    The interval is Wilson's on as many cases as people alone would have had to score to know it as well. Cases that
    neither a person nor the judge scored widen it from all of them wrong to all of them right.

    Returns:
        In 0..1; unknown where there is no judge, or people scored fewer than `MIN_LABELLED` of the judged cases, or
        all of them, so that a judge adds nothing.
    """
    because = _not_wanted(results)
    if because is not None:
        return unknown(because)
    rate = _judged_rate(results, np.arange(results.n), results.cluster, alpha=alpha)
    if rate is None:
        return unknown(f"people scored fewer than {MIN_LABELLED} of the judged cases")
    return Figure(
        value=rate.value,
        low=rate.at(rate.lowest, alpha).low if rate.has_interval else None,
        high=rate.at(rate.highest, alpha).high if rate.has_interval else None,
        provenance=_provenance(rate.powered.n_labelled, int((~np.isnan(results.judged)).sum())),
    )


def judge_agreement(results: ApproachResults, *, alpha: float = 0.05) -> Figure:
    """Share of the cases scored by both where judge and people agree on success, with its Wilson interval."""
    both = ~np.isnan(results.judged) & ~np.isnan(results.success)
    n_both = int(both.sum())
    if n_both == 0:
        return unknown(_no_judge(results) or "no judged case was scored by a person")
    agrees = ((results.judged[both] >= 0.5) == (results.success[both] >= 0.5)).astype(np.float64)
    n_effective = effective_n(agrees, renumber(results.cluster[both]), alpha=alpha)
    value = float(agrees.mean())
    interval = wilson(value, n_effective, alpha=alpha) if n_effective >= MIN_CASES else None
    return Figure(
        value=value,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        provenance=_provenance(n_both, int((~np.isnan(results.judged)).sum())),
    )


def difference_with_judge(
    a: ApproachResults, b: ApproachResults, in_a: Ints, in_b: Ints, cluster: Ints, *, alpha: float = 0.05
) -> Figure:
    """Success rate of `a` minus that of `b` on their common cases, both with the help of the judge.

    Args:
        a: One approach.
        b: The other.
        in_a: Positions of the common cases in `a`.
        in_b: Positions of the same cases in `b`.
        cluster: Cluster codes of the common cases, 0-based without gaps.
        alpha: One minus the confidence level.

    Returns:
        Unknown unless a judge helps with at least one of the two and both can be estimated.
    """
    missing = [because for one in (a, b) if (because := _no_judge(one)) is not None]
    if missing:
        return unknown(missing[0])
    reasons = [_not_wanted(one) for one in (a, b)]
    if None not in reasons:
        return unknown(reasons[0] or "")
    rates = [_judged_rate(one, where, cluster, alpha=alpha) for one, where in ((a, in_a), (b, in_b))]
    rate_a, rate_b = rates
    if rate_a is None or rate_b is None:
        return unknown(f"people scored fewer than {MIN_LABELLED} of the judged cases of one of them")
    n_clusters = int(cluster.max()) + 1
    sums = cluster_sums(cluster, n_clusters, rate_a.influence, rate_b.influence)  # (n_clusters, 2)
    scale = rate_a.variance * rate_b.variance
    correlation = float(sums[:, 0] @ sums[:, 1]) / math.sqrt(scale) if scale > 0 else 0.0
    correlation = min(1.0, max(-1.0, correlation))

    def interval(value_a: float, value_b: float) -> Interval:
        return combined(value_a, rate_a.at(value_a, alpha), value_b, rate_b.at(value_b, alpha), correlation=correlation)

    has_interval = rate_a.has_interval and rate_b.has_interval
    fewest = min(rate_a.powered.n_labelled, rate_b.powered.n_labelled)
    return Figure(
        value=rate_a.value - rate_b.value,
        low=interval(rate_a.lowest, rate_b.highest).low if has_interval else None,
        high=interval(rate_a.highest, rate_b.lowest).high if has_interval else None,
        provenance=_provenance(fewest, len(in_a)),
    )


# Private


@dataclass(frozen=True, kw_only=True, eq=False)
class _JudgedRate:
    powered: PredictionPowered
    value: float
    lowest: float
    """With the cases nobody scored counted as wrong."""
    highest: float
    variance: float
    n_effective: float
    """Cases that people alone would have had to score."""
    influence: Floats
    """Of all cases, 0 for those nobody scored."""

    @property
    def has_interval(self) -> bool:
        return self.n_effective >= MIN_CASES

    def at(self, rate: float, alpha: float) -> Interval:
        return wilson(rate, self.n_effective, alpha=alpha)


def _judged_rate(results: ApproachResults, where: Ints, cluster: Ints, *, alpha: float) -> _JudgedRate | None:
    from scipy.special import stdtrit

    label, judged = results.success[where], results.judged[where]
    known = ~(np.isnan(label) & np.isnan(judged))
    labelled = ~np.isnan(label) & ~np.isnan(judged)
    if int(labelled.sum()) < MIN_LABELLED:
        return None
    powered = prediction_powered(label[known], judged[known])
    influence = np.zeros(len(label))
    influence[known] = powered.influence
    n_units = len(np.unique(cluster[labelled]))
    if n_units < 2:
        return None
    totals = np.bincount(cluster, weights=influence)
    variance = float(totals @ totals) * n_units / (n_units - 1) + powered.prior_variance
    value = min(1.0, max(0.0, powered.value))
    # Two more cases, as in the variance: a rate of 0 or 1 has a variance, too.
    moved = (value * powered.n_labelled + 1) / (powered.n_labelled + 2)
    shrink = 1.0
    if n_units < int(labelled.sum()):  # few clusters say little about their own variance, as in `effective_n`
        shrink = normal_quantile(1 - alpha / 2) / float(stdtrit(n_units - 1, 1 - alpha / 2))
    known_share = float(known.mean())
    return _JudgedRate(
        powered=powered,
        value=value,
        lowest=value * known_share,
        highest=value * known_share + 1 - known_share,
        variance=variance,
        n_effective=min(float(len(label)), moved * (1 - moved) / variance * shrink**2),
        influence=influence,
    )


def _slope(y: Floats, x: Floats) -> float:
    gaps = x - x.mean()
    squares = float(gaps @ gaps)
    return max(0.0, float(gaps @ y) / squares) if squares > 0 else 0.0


def _no_judge(results: ApproachResults) -> str | None:
    return "no judge scored the cases" if np.isnan(results.judged).all() else None


def _not_wanted(results: ApproachResults) -> str | None:
    """Why a judge cannot add anything, if it cannot."""
    if (because := _no_judge(results)) is not None:
        return because
    unscored: NDArray[np.bool_] = np.isnan(results.success)
    return None if unscored.any() else "people scored every case, so a judge adds nothing"


def _provenance(n_labelled: int, n_judged: int) -> Provenance:
    return Provenance(kind="measured", source=f"people scored {n_labelled:,} of {n_judged:,} judged cases")
