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


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictedRate:
    """A success rate from labels and predictions, with what its interval is made of."""

    value: float
    """Rate over the cases that somebody scored, confined to 0..1."""
    lowest: float
    """With the cases nobody scored counted as wrong."""
    highest: float
    """With them counted as right."""
    n_labelled: int
    """Cases scored by both people and judge."""
    trust: float
    """Weight of the judge."""
    variance: float
    n_effective: float
    """Cases that people alone would have had to score to know the rate as well."""
    influence: Floats
    """What each case contributes to the error, shape (n_cases,); 0 where nobody scored."""

    def interval(self, *, alpha: float = 0.05) -> Interval | None:
        """From the lower end of `lowest` to the upper end of `highest`; `None` with too few cases."""
        if self.n_effective < MIN_CASES:
            return None
        return Interval(self.at(self.lowest, alpha=alpha).low, self.at(self.highest, alpha=alpha).high)

    def at(self, rate: float, *, alpha: float) -> Interval:
        """Wilson's interval at some rate, on the effective number of cases."""
        return wilson(rate, self.n_effective, alpha=alpha)


def predicted_rate(label: Floats, prediction: Floats, cluster: Ints, *, alpha: float = 0.05) -> PredictedRate | None:
    """A success rate from people's labels on some cases and a judge's on all, with cluster-aware variance.

    The variance comes from sums of influences over clusters, so cases of a cluster stand or fall together. The
    interval is Wilson's on as many cases as would give a plain rate that variance: it stays within 0..1 and holds at
    rates near either end, where a normal interval fails.

    Args:
        label: 0..1 per case, `nan` where nobody scored it; shape (n_cases,).
        prediction: 0..1 per case, `nan` where the judge gave none.
        cluster: Cluster code of each case, 0-based without gaps.
        alpha: One minus the confidence level it is for.

    Returns:
        `None` where fewer than `MIN_LABELLED` cases, or than two clusters, were scored by both.
    """
    from scipy.special import stdtrit

    is_labelled, is_predicted = ~np.isnan(label), ~np.isnan(prediction)
    known, both = is_labelled | is_predicted, is_labelled & is_predicted
    n_both = int(both.sum())
    n_units = len(np.unique(cluster[both]))
    if n_both < MIN_LABELLED or n_units < 2:
        return None
    powered = prediction_powered(label[known], prediction[known])
    influence = np.zeros(len(label))
    influence[known] = powered.influence
    totals = np.bincount(cluster, weights=influence)
    # Where a cluster is the unit, the disagreements reckoned with are those of whole clusters.
    prior_variance = powered.prior_variance * (n_both / n_units) ** 2
    variance = float(totals @ totals) * n_units / (n_units - 1) + prior_variance
    value = min(1.0, max(0.0, powered.value))
    # Two more cases, as in the variance: a rate of 0 or 1 has a variance, too.
    moved = (value * n_units + 1) / (n_units + 2)
    shrink = 1.0
    if n_units < n_both:  # few clusters say little about their own variance, as in `effective_n`
        shrink = normal_quantile(1 - alpha / 2) / float(stdtrit(n_units - 1, 1 - alpha / 2))
    known_share = float(known.mean())
    return PredictedRate(
        value=value,
        lowest=value * known_share,
        highest=value * known_share + 1 - known_share,
        n_labelled=n_both,
        trust=powered.trust,
        variance=variance,
        n_effective=min(float(len(label)), moved * (1 - moved) / variance * shrink**2),
        influence=influence,
    )


def success_with_judge(results: ApproachResults, *, alpha: float = 0.05) -> Figure:
    """Success rate from people's scores on some cases and a judge's on all, with its interval.

    Cases that neither a person nor the judge scored widen the interval from all of them wrong to all of them right.

    Returns:
        In 0..1; unknown where there is no judge, or people scored fewer than `MIN_LABELLED` of the judged cases, or
        all of them, so that a judge adds nothing.
    """
    because = _not_wanted(results)
    if because is not None:
        return unknown(because)
    rate = predicted_rate(results.success, results.judged, results.cluster, alpha=alpha)
    if rate is None:
        return unknown(f"people scored fewer than {MIN_LABELLED} of the judged cases")
    interval = rate.interval(alpha=alpha)
    return Figure(
        value=rate.value,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        provenance=_provenance(rate.n_labelled, int((~np.isnan(results.judged)).sum())),
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
    rate_a = predicted_rate(a.success[in_a], a.judged[in_a], cluster, alpha=alpha)
    rate_b = predicted_rate(b.success[in_b], b.judged[in_b], cluster, alpha=alpha)
    if rate_a is None or rate_b is None:
        return unknown(f"people scored fewer than {MIN_LABELLED} of the judged cases of one of them")
    sums = cluster_sums(cluster, int(cluster.max()) + 1, rate_a.influence, rate_b.influence)  # (n_clusters, 2)
    covariance = float(sums[:, 0] @ sums[:, 1])
    correlation = min(1.0, max(-1.0, covariance / math.sqrt(rate_a.variance * rate_b.variance)))
    has_interval = min(rate_a.n_effective, rate_b.n_effective) >= MIN_CASES
    ends = []
    for of_a, of_b in ((rate_a.lowest, rate_b.highest), (rate_a.highest, rate_b.lowest)):
        around_a, around_b = rate_a.at(of_a, alpha=alpha), rate_b.at(of_b, alpha=alpha)
        ends.append(combined(of_a, around_a, of_b, around_b, correlation=correlation))
    return Figure(
        value=rate_a.value - rate_b.value,
        low=ends[0].low if has_interval else None,
        high=ends[1].high if has_interval else None,
        provenance=_provenance(min(rate_a.n_labelled, rate_b.n_labelled), len(in_a)),
    )


# Private


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
