from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from steelyard.measure.comparing import comparisons
from steelyard.measure.intervals import wilson
from steelyard.measure.results import ApproachResults, from_rows
from steelyard.measure.segments import (
    MAX_SEGMENTS,
    NO_SEGMENT,
    OTHER_SEGMENTS,
    SegmentTables,
    segment_tables,
    shrunken_rates,
)
from steelyard.study.results import Scores, as_text

from .rows import row


def study(**successes: Sequence[tuple[str | None, int | None]]) -> dict[str, ApproachResults]:
    """Approaches on the same cases, each given as segment and success."""
    return from_rows(
        [row(name, i, y, segment=s) for name, cases in successes.items() for i, (s, y) in enumerate(cases)]
    )


def cases(**counts: tuple[int, int]) -> list[tuple[str | None, int | None]]:
    """Segments as `name=(right, wrong)`."""
    return [(s, y) for s, (right, wrong) in counts.items() for y in [1] * right + [0] * wrong]


def tables_of(results: dict[str, ApproachResults]) -> SegmentTables:
    found = segment_tables(results)
    assert found is not None
    return found


def test_raw_rates_are_those_of_the_cases_with_wilsons_interval() -> None:
    """Each segment is counted by itself, largest first."""
    found = tables_of(study(a=cases(de=(18, 2), fr=(40, 20), it=(2, 1))))
    assert found.segments == ("fr", "de", "it")
    assert [row.n for row in found.rows] == [60, 20, 3]
    assert [row.success.value for row in found.rows] == pytest.approx([2 / 3, 0.9, 2 / 3])
    assert (found.rows[1].success.low, found.rows[1].success.high) == pytest.approx(wilson(0.9, 20))
    assert found.differences == ()
    assert "3 segments were looked at" in found.warning


def test_few_cases_make_no_claim() -> None:
    """Three cases have a rate and a shrunken rate, and no interval; cases in one cluster are one."""
    few = tables_of(study(a=cases(fr=(40, 20), it=(2, 1)))).rows[1]
    assert few.success.value == pytest.approx(2 / 3)
    assert (few.success.low, few.shrunken.low, few.shrunken.high) == (None, None, None)
    rows = [row("a", i, 1, segment="de", cluster="k") for i in range(30)]
    rows += [row("a", 30 + i, i % 2, segment="fr") for i in range(30)]
    clustered = tables_of(from_rows(rows)).rows[0]
    assert (clustered.n, clustered.success.value, clustered.success.low) == (30, 1.0, None)
    assert clustered.shrunken.value is not None
    assert clustered.shrunken.value < 0.9  # thirty copies weigh as one case


@pytest.mark.parametrize(
    ("right", "n"), [([9, 10, 280], [10, 20, 400]), ([5, 5, 5, 5], [10, 10, 10, 10]), ([0, 30], [12, 30])]
)
def test_shrinkage_agrees_with_numerical_integration(right: list[int], n: list[int]) -> None:
    """The posterior means of the same model, integrated over mean and weight by another method."""
    middling = float(np.median(n))

    def likelihood(weight: float, mu: float) -> float:
        size = middling * weight / (1 - weight)
        return float(np.prod(stats.betabinom.pmf(right, n, mu * size, (1 - mu) * size)))

    def mean_of(i: int) -> float:
        def integrand(weight: float, mu: float) -> float:
            size = middling * weight / (1 - weight)
            return likelihood(weight, mu) * (right[i] + mu * size) / (n[i] + size)

        return _integral(integrand) / _integral(likelihood)

    found = shrunken_rates(np.array(right) / np.array(n), np.array(n, dtype=float))
    assert found.value == pytest.approx([mean_of(i) for i in range(len(n))], abs=0.004)


def _integral(function: Callable[[float, float], float]) -> float:
    """Over the unit square, by Gauss and Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    points = list(zip(((nodes + 1) / 2).tolist(), (weights / 2).tolist(), strict=True))
    return float(sum(wx * wy * function(x, y) for x, wx in points for y, wy in points))


def test_shrunken_rates_beat_raw_ones_and_their_intervals_hold() -> None:
    """Over many studies the squared error is far below that of raw rates, and about 95 of 100 intervals hold."""
    rng = np.random.default_rng(1)
    raw_error, error, held = [], [], []
    for _ in range(120):
        truth = rng.beta(16, 4, 8)
        n = np.maximum(rng.poisson(20, 8), 1)
        rates = rng.binomial(n, truth) / n
        found = shrunken_rates(rates, n.astype(float))
        raw_error.append(((rates - truth) ** 2).mean())
        error.append(((found.value - truth) ** 2).mean())
        held.append(((found.low <= truth) & (truth <= found.high)).mean())
    assert np.mean(error) < 0.75 * np.mean(raw_error)
    assert np.mean(held) > 0.91


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=2, max_size=7))
def test_shrinking_keeps_order_and_bounds(groups: list[tuple[int, int]]) -> None:
    """Groups of equal size keep their order; ends lie around the value; order of groups does not matter."""
    right = np.array([min(a, b) for a, b in groups], dtype=float)
    n = np.full(len(groups), 40.0)
    found = shrunken_rates(right / n, n)
    order = np.argsort(right, kind="stable")
    assert (np.diff(found.value[order]) >= -1e-9).all()
    assert ((found.low <= found.value) & (found.value <= found.high)).all()
    assert ((found.low >= 0) & (found.high <= 1)).all()
    turned = shrunken_rates((right / n)[::-1], n)
    assert turned.value[::-1] == pytest.approx(found.value)


def test_the_smaller_segment_is_drawn_further() -> None:
    """Of two segments with the same raw rate the one with fewer cases ends nearer to the approach's level."""
    found = tables_of(study(a=cases(big=(60, 40), small=(6, 4), rest=(180, 20))))
    by_segment = {row.segment: row.shrunken.value for row in found.rows}
    assert by_segment["big"] is not None
    assert by_segment["small"] is not None
    assert 0.6 < by_segment["big"] < by_segment["small"] < 0.85


def test_unscored_cases_widen_a_segment() -> None:
    """They are neither right nor wrong: the value stays, both intervals reach from all wrong to all right."""
    full = cases(de=(40, 10), fr=(30, 10))
    sure = tables_of(study(a=full)).rows[0]
    open_cases: list[tuple[str | None, int | None]] = [*full, *[("de", None)] * 10]
    unsure = tables_of(study(a=open_cases)).rows[0]
    assert (unsure.n, unsure.n_unscored, unsure.success.value) == (60, 10, sure.success.value)
    for wide, narrow in ((unsure.success, sure.success), (unsure.shrunken, sure.shrunken)):
        assert wide.low is not None
        assert wide.high is not None
        assert narrow.low is not None
        assert narrow.high is not None
        assert wide.low < narrow.low - 0.05
        assert wide.high > narrow.high


def test_a_real_difference_in_one_segment_is_named() -> None:
    """It stands after Holm, the warning says so, and the other segment stays open."""
    found = tables_of(
        study(
            workflow=[("de", 1)] * 60 + [("fr", i % 2) for i in range(40)],
            prompt=[("de", int(i > 20)) for i in range(60)] + [("fr", 1 - i % 2) for i in range(40)],
        )
    )
    german, french = found.differences
    assert (german.segment, german.a, german.evidence) == ("de", "workflow", "a")
    assert french.evidence == "undecided"
    assert german.p_adjusted == pytest.approx(2 * (german.p_mcnemar or 0))
    assert found.warning == (
        "workflow and prompt were compared in 2 segments: by chance alone up to 0.1 of them would look different, "
        "1 does, and after Holm's correction 1 stands: workflow is better in 'de'. Check what was found by looking on "
        "new cases."
    )
    alone = comparisons(study(workflow=[("de", 1)] * 60, prompt=[("de", int(i > 20)) for i in range(60)]))[0]
    assert german.difference == alone.difference


def test_the_more_successful_one_comes_first_whatever_it_is_called() -> None:
    """With the names swapped only the names change."""
    one = [("de", 1)] * 30 + [("fr", i % 2) for i in range(30)]
    other = [("de", int(i > 8)) for i in range(30)] + [("fr", i % 2) for i in range(30)]
    found = tables_of(study(x=one, y=other)).differences
    swapped = tables_of(study(y=one, x=other)).differences
    assert [(d.a, d.difference, d.p_adjusted) for d in found] == [("x", d.difference, d.p_adjusted) for d in swapped]


@pytest.mark.slow
def test_differences_are_announced_wrongly_in_at_most_alpha_of_studies() -> None:
    """Three equally good approaches, eight segments that differ in difficulty: any announcement at all is an error."""
    rng = np.random.default_rng(5)
    n, n_studies = 320, 200
    segments = [f"s{i % 8}" for i in range(n)]
    difficulty = np.array([0.5 + 0.05 * (i % 8) for i in range(n)])
    wrong = 0
    for _ in range(n_studies):
        found = segment_tables(
            study(
                **{
                    name: list(zip(segments, (rng.random(n) < difficulty).astype(int).tolist(), strict=True))
                    for name in "abc"
                }
            )
        )
        assert found is not None
        wrong += any(one.evidence != "undecided" for one in found.differences)
    # At a true 5% more than 18 of 200 have a chance of 1%.
    assert wrong <= stats.binom.ppf(0.99, n_studies, 0.05)


def test_no_segments_no_tables() -> None:
    """Nothing to divide: no column, or one value."""
    assert segment_tables(study(a=[(None, 1)] * 20)) is None
    assert segment_tables(study(a=[("de", 1)] * 20)) is None


def test_cases_without_segment_and_many_segments_have_rows_of_their_own() -> None:
    """No case is left out: the unnamed stand together, and so do the smallest beyond the limit."""
    found = tables_of(study(a=[("de", 1)] * 10 + [(None, 0)] * 5))
    assert found.segments == ("de", NO_SEGMENT)
    many = tables_of(study(a=[(f"s{i % 70:02d}", 1) for i in range(200)]))
    assert len(many.segments) == MAX_SEGMENTS
    assert many.segments[-1] == OTHER_SEGMENTS
    assert sum(row.n for row in many.rows) == 200


def test_approaches_on_other_cases_keep_their_own_rows() -> None:
    """One approach never met a segment: its row has no cases, and the pair is compared where both were."""
    rows = [row("a", i, i % 2, segment="de" if i < 30 else "fr") for i in range(60)]
    rows += [row("b", i, 1, segment="de") for i in range(30)]
    found = tables_of(from_rows(rows))
    by_place = {(one.approach, one.segment): one for one in found.rows}
    assert by_place["b", "fr"].n == 0
    assert by_place["b", "fr"].success.value is None
    assert {one.segment: one.n for one in found.differences} == {"de": 30, "fr": 0}


def test_scores_carry_them_in_json_and_on_request_in_the_terminal() -> None:
    """`score --json` has a key `segments`; the tables are printed when asked for; hostile names stay on one line."""
    results = study(
        a=cases(**{"d\ne\x1b[31m": (30, 5)}, fr=(20, 20)), b=cases(**{"d\ne\x1b[31m": (20, 15)}, fr=(20, 20))
    )
    scores = Scores(scorecards=(), comparisons=(), segments=tables_of(results))
    shape = scores.to_json()["segments"]
    assert [one["n"] for one in shape["rows"]] == [40, 35, 40, 35]
    assert set(shape) == {"segments", "rows", "differences", "warning"}
    text = as_text(scores.renderables(by_segment=True))
    assert "shrunken" in text
    assert "compared in 2 segments" in text
    assert "\x1b" not in text
    assert "shrunken" not in as_text(scores.renderables())
    assert Scores(scorecards=(), comparisons=()).to_json()["segments"] is None
    assert "do not fall into segments" in as_text(Scores(scorecards=(), comparisons=()).renderables(by_segment=True))
