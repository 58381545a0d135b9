import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from steelyard.measure.comparing import comparisons
from steelyard.measure.intervals import wilson
from steelyard.measure.judged import (
    judge_agreement,
    predicted_rate,
    prediction_powered,
    success_with_judge,
)
from steelyard.measure.results import ApproachResults, from_rows
from steelyard.measure.scoring import scorecard, success_rate

from .rows import results_of, row

Floats = NDArray[np.float64]


def study(
    rng: np.random.Generator, *, n: int, n_all: int, p: float, right_if_right: float, right_if_wrong: float
) -> tuple[Floats, Floats, Floats]:
    """Labels of the first n cases, verdicts of a judge on all, and the truth."""
    truth = (rng.random(n_all) < p).astype(np.float64)
    agrees = rng.random(n_all) < np.where(truth == 1, right_if_right, right_if_wrong)
    label = truth.copy()
    label[n:] = np.nan
    return label, np.where(agrees, truth, 1 - truth), truth


def judged_results(label: Floats, judged: Floats, name: str = "a") -> list[dict[str, object]]:
    return [
        row(name, i, None if np.isnan(y) else int(y), judge=None if np.isnan(f) else float(f))
        for i, (y, f) in enumerate(zip(label.tolist(), judged.tolist(), strict=True))
    ]


def test_the_estimate_is_the_judges_mean_corrected_by_people() -> None:
    """The textbook formula, written out: people's mean plus trust times (judge on all minus judge where people looked)."""
    label = np.array([1, 1, 0, 1, 0, 1, 1, 0, 1, 1] + [np.nan] * 10)
    judged = np.array([1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1], dtype=float)
    found = prediction_powered(label, judged)
    # The slope with the two disagreements that are always reckoned with, from an independent least-squares fit.
    slope = np.polyfit(np.append(judged[:10], [0.0, 1.0]), np.append(label[:10], [1.0, 0.0]), 1)[0]
    assert found.trust == pytest.approx(slope)
    assert found.value == pytest.approx(0.7 + slope * (judged.mean() - 0.7))
    assert found.n_labelled == 10


def test_variance_is_that_of_ppi_plus_plus() -> None:
    """Sums of squared influences agree with var(label - trust · judge) / n + trust² · var(judge) / N of the paper."""
    rng = np.random.default_rng(0)
    label, judged, _ = study(rng, n=400, n_all=4000, p=0.7, right_if_right=0.9, right_if_wrong=0.8)
    found = prediction_powered(label, judged)
    paper = found.trust * 3600 / 4000  # the paper weighs the unlabelled cases, we all of them
    y, f, rest = label[:400], judged[:400], judged[400:]
    assert found.value == pytest.approx(y.mean() + paper * (rest.mean() - f.mean()), abs=1e-12)
    expected = (y - paper * f).var() / 400 + paper**2 * rest.var() / 3600
    assert float(found.influence @ found.influence) == pytest.approx(expected, rel=0.01)
    assert abs(found.influence.sum()) < 1e-12


def test_a_good_judge_narrows_the_interval_and_it_still_covers() -> None:
    """With a judge right in 95 of 100 cases the interval is clearly narrower than people's alone and holds as often."""
    rng = np.random.default_rng(1)
    held, widths, alone = [], [], []
    for _ in range(400):
        label, judged, _ = study(rng, n=100, n_all=1000, p=0.7, right_if_right=0.95, right_if_wrong=0.95)
        rate = predicted_rate(label, judged, np.arange(1000))
        assert rate is not None
        found = rate.interval()
        assert found is not None
        held.append(found.low <= 0.7 <= found.high)
        widths.append(found.high - found.low)
        low, high = wilson(float(label[:100].mean()), 100)
        alone.append(high - low)
    assert np.mean(held) >= 0.93
    assert np.mean(widths) <= 0.75 * np.mean(alone)


@pytest.mark.parametrize(("right_if_right", "right_if_wrong"), [(1.0, 0.4), (0.6, 1.0), (0.5, 0.5)])
def test_a_biased_judge_does_no_harm(right_if_right: float, right_if_wrong: float) -> None:
    """Lenient, strict or guessing: the estimate stays unbiased, the interval holds and is hardly wider than without."""
    rng = np.random.default_rng(2)
    values, held, widths, alone = [], [], [], []
    for _ in range(300):
        label, judged, _ = study(
            rng, n=80, n_all=800, p=0.6, right_if_right=right_if_right, right_if_wrong=right_if_wrong
        )
        rate = predicted_rate(label, judged, np.arange(800))
        assert rate is not None
        found = rate.interval()
        assert found is not None
        values.append(rate.value)
        held.append(found.low <= 0.6 <= found.high)
        widths.append(found.high - found.low)
        low, high = wilson(float(label[:80].mean()), 80)
        alone.append(high - low)
    standard_error = np.std(values) / 300**0.5
    assert abs(np.mean(values) - 0.6) < 3.5 * standard_error
    assert np.mean(held) >= 0.92
    assert np.mean(widths) <= 1.04 * np.mean(alone)


def test_clusters_of_equal_cases_are_no_more_than_their_number() -> None:
    """Copies in a cluster leave the estimate and do not narrow the interval; judged as if independent, they would."""
    rng = np.random.default_rng(3)
    label, judged, _ = study(rng, n=60, n_all=240, p=0.7, right_if_right=0.9, right_if_wrong=0.9)
    once = predicted_rate(label, judged, np.arange(240))
    label5, judged5 = np.repeat(label, 5), np.repeat(judged, 5)
    copied = predicted_rate(label5, judged5, np.repeat(np.arange(240), 5))
    naive = predicted_rate(label5, judged5, np.arange(1200))
    assert once is not None
    assert copied is not None
    assert naive is not None
    assert copied.value == pytest.approx(once.value, abs=0.01)
    assert copied.n_effective == pytest.approx(once.n_effective, rel=0.12)
    assert naive.n_effective > 3 * once.n_effective


def test_failed_calls_count_as_wrong_without_a_judge() -> None:
    """A call that failed has nothing to judge; it is known to be wrong and stays in the denominator."""
    rng = np.random.default_rng(4)
    label, judged, _ = study(rng, n=100, n_all=400, p=0.8, right_if_right=0.9, right_if_wrong=0.9)
    answered = prediction_powered(label, judged)
    label = np.append(label, np.zeros(100))
    judged = np.append(judged, np.full(100, np.nan))
    assert prediction_powered(label, judged).value == pytest.approx(0.8 * answered.value)


def test_cases_that_nobody_scored_widen_both_ends() -> None:
    """Neither person nor judge: from all of them wrong to all of them right."""
    rng = np.random.default_rng(5)
    label, judged, _ = study(rng, n=100, n_all=400, p=0.8, right_if_right=0.9, right_if_wrong=0.9)
    full = predicted_rate(label, judged, np.arange(400))
    holes = predicted_rate(np.append(label, [np.nan] * 100), np.append(judged, [np.nan] * 100), np.arange(500))
    assert full is not None
    assert holes is not None
    assert holes.value == pytest.approx(full.value)
    assert (holes.lowest, holes.highest) == pytest.approx((0.8 * full.value, 0.8 * full.value + 0.2))
    inner, outer = full.interval(), holes.interval()
    assert inner is not None
    assert outer is not None
    assert outer.low < inner.low - 0.1
    assert outer.high > inner.high


def test_people_alone_stay_the_main_figure() -> None:
    """`success` is the same with and without a judge column; the judge's help stands beside it with its origin."""
    rng = np.random.default_rng(6)
    label, judged, _ = study(rng, n=60, n_all=300, p=0.8, right_if_right=0.95, right_if_wrong=0.9)
    rows = judged_results(label, judged)
    with_judge = from_rows(rows)["a"]
    without = from_rows([one | {"judge": None} for one in rows])["a"]
    card = scorecard(with_judge)
    assert card.success == success_rate(without)
    assert card.success.low is not None
    assert card.success.high is not None
    assert card.success.high - card.success.low > 0.7  # 240 of 300 cases that people did not score
    assert card.success_with_judge.low is not None
    assert card.success_with_judge.high is not None
    assert card.success_with_judge.high - card.success_with_judge.low < 0.25
    assert str(card.success_with_judge.provenance) == "measured (people scored 60 of 300 judged cases)"
    shape = card.to_json()
    assert shape["success_with_judge"]["value"] == card.success_with_judge.value
    assert shape["judge_agreement"]["value"] == card.judge_agreement.value


def test_agreement_is_a_rate_with_wilsons_interval() -> None:
    """Share of cases where both say success or both say failure."""
    label = np.array([1.0] * 30 + [0.0] * 10 + [np.nan] * 20)
    judged = np.array([1.0] * 27 + [0.2] * 3 + [0.1] * 9 + [0.9] + [1.0] * 20)
    found = judge_agreement(from_rows(judged_results(label, judged))["a"])
    assert found.value == pytest.approx(36 / 40)
    assert (found.low, found.high) == pytest.approx(wilson(0.9, 40))


@pytest.mark.parametrize(
    ("n_labelled", "judge", "because"),
    [(30, None, "no judge scored the cases"), (3, 1.0, "people scored fewer than 10"), (40, 1.0, "adds nothing")],
)
def test_it_is_unknown_with_a_reason(n_labelled: int, judge: float | None, because: str) -> None:
    """No judge, too few cases scored by people, or all of them."""
    rows = [row("a", i, 1 if i < n_labelled else None, judge=judge) for i in range(40)]
    found = success_with_judge(from_rows(rows)["a"])
    assert found.value is None
    assert because in (found.unknown_because or "")


def judged_pair(rng: np.random.Generator, *, lead: float) -> dict[str, ApproachResults]:
    """Two approaches whose successes hang together, on 600 judged cases of which people scored 120."""
    base = rng.random(600)
    rows: list[dict[str, object]] = []
    for name, p in (("a", 0.7 + lead), ("b", 0.7)):
        truth = np.where(rng.random(600) < 0.5, base, rng.random(600)) < p
        judged = (truth ^ (rng.random(600) < 0.08)).astype(np.float64)
        label = truth.astype(np.float64)
        label[120:] = np.nan
        rows += judged_results(label, judged, name)
    return from_rows(rows)


@pytest.mark.slow
def test_differences_with_a_judge_cover() -> None:
    """The paired difference holds the truth in about 95 of 100 studies, and is no evidence by itself."""
    rng = np.random.default_rng(8)
    held = []
    for _ in range(200):
        found = comparisons(judged_pair(rng, lead=0.1))[0]
        assert found.evidence == "undecided"  # of 600 cases people scored 120: too much is open
        one = found.difference_with_judge
        assert one.low is not None
        assert one.high is not None
        held.append(one.low <= 0.1 <= one.high)
    assert np.mean(held) >= 0.91


def test_swapping_the_two_flips_the_difference() -> None:
    """Sign and ends turn round."""
    results = judged_pair(np.random.default_rng(9), lead=0.05)
    one = comparisons(results, pairs=[("a", "b")])[0].difference_with_judge
    other = comparisons(results, pairs=[("b", "a")])[0].difference_with_judge
    assert one.value is not None
    assert (one.value, one.low, one.high) == pytest.approx(
        tuple(-x for x in (other.value, other.high, other.low) if x is not None)
    )
    assert comparisons(results_of({"a": [1] * 20, "b": [0] * 20}))[0].difference_with_judge.value is None


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, None]), st.floats(0, 1)), min_size=12, max_size=60))
def test_the_order_of_cases_does_not_matter(cases: list[tuple[float | None, float]]) -> None:
    """Nor does the estimate leave 0..1, and a failure instead of a success never raises it."""
    label = np.array([1.0, 0.0] * 5 + [np.nan if y is None else y for y, _ in cases])
    judged = np.array([1.0, 0.0, 0.7, 0.4, 0.9] * 2 + [f for _, f in cases])
    n = len(label)
    found = predicted_rate(label, judged, np.arange(n))
    order = np.random.default_rng(n).permutation(n)
    shuffled = predicted_rate(label[order], judged[order], np.arange(n))
    assert found is not None
    assert shuffled is not None
    assert 0 <= found.value <= 1
    assert shuffled.value == pytest.approx(found.value)
    assert shuffled.n_effective == pytest.approx(found.n_effective)
    more_failures = predicted_rate(np.append(label, [0.0] * 5), np.append(judged, [np.nan] * 5), np.arange(n + 5))
    assert more_failures is not None
    assert more_failures.value <= found.value + 1e-12
