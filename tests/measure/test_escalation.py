"""The threshold of a cascade: the cheapest on dev that is good enough, found as brute force finds it."""

from __future__ import annotations

import numpy as np
import pytest

from steelyard.measure.escalation import MARGIN, MOST_POINTS, DevCases, choose, curve, point_at


def dev(n: int = 200, *, seed: int = 0, sureness_tells: bool = True, invalid: float = 0.0) -> DevCases:
    """A cheap approach that is right as often as it is sure, and one at fifty times the price, right nine times in ten."""
    source = np.random.default_rng(seed)
    sure = 0.3 + 0.69 * source.random(n)
    kept = source.random(n) < (sure if sureness_tells else 0.6)
    then = source.random(n) < 0.9
    return DevCases(
        confidence=np.where(source.random(n) < invalid, -1.0, sure),
        kept=kept,
        escalated=then,
        then=then,
        first_usd=np.full(n, 0.001),
        then_usd=np.full(n, 0.05),
        cluster=np.arange(n),
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("wanted", [None, 0.7, 0.8, 0.99])
def test_the_threshold_is_the_one_brute_force_finds(seed: int, wanted: float | None) -> None:
    """Of all splits of the cases by confidence: the lowest cost among those good enough, else the highest success."""
    cases = dev(50, seed=seed)  # fewer than there are points, so that the curve leaves no split out
    found = choose(curve(cases), wanted=wanted)
    order = np.argsort(cases.confidence)
    candidates = []
    for n_escalated in range(51):
        goes_on = np.zeros(50, bool)
        goes_on[order[:n_escalated]] = True
        success = float(np.where(goes_on, cases.escalated, cases.kept).mean())
        cost = 0.001 + 0.05 * n_escalated / 50
        threshold = 0.0 if n_escalated == 0 else 1.0
        if 0 < n_escalated < 50:
            threshold = float(cases.confidence[order[n_escalated - 1 : n_escalated + 1]].mean())
        point = point_at(cases, threshold)
        assert point.success == pytest.approx(success)
        assert point.cost_usd == pytest.approx(cost)
        is_good = (
            point.difference >= 0 and point.difference_low >= -MARGIN if wanted is None else point.success_low >= wanted
        )
        candidates.append((is_good, cost, success))
    good = [one for one in candidates if one[0]]
    if good:
        expected = min(good, key=lambda one: one[1])
    else:
        most = max(success for _, _, success in candidates)
        expected = min((one for one in candidates if one[2] == most), key=lambda one: one[1])
    assert found.is_reached == bool(good)
    assert found.point.cost_usd == pytest.approx(expected[1])
    assert found.point.success == pytest.approx(expected[2])


def test_the_ends_of_the_curve_are_the_members_alone() -> None:
    cases = dev(300)
    points = curve(cases)
    assert (points[0].threshold, points[0].escalated, points[0].success) == (0.0, 0.0, cases.kept.mean())
    assert (points[-1].threshold, points[-1].escalated, points[-1].success) == (1.0, 1.0, cases.then.mean())
    assert points[-1].difference == points[-1].difference_low == 0.0
    assert len(points) <= MOST_POINTS
    costs = [point.cost_usd for point in points]
    assert costs == sorted(costs, key=lambda usd: usd or 0.0)


def test_a_case_without_a_valid_answer_goes_on_at_every_threshold() -> None:
    cases = dev(300, invalid=0.2)
    assert curve(cases)[0].escalated == pytest.approx(float((cases.confidence < 0).mean()))


def test_confidence_that_says_nothing_sends_everything_on() -> None:
    """No threshold does as well as the second approach, so that one answers."""
    found = choose(curve(dev(400, sureness_tells=False)), wanted=None)
    assert found.point.escalated > 0.9


def test_a_wanted_success_is_judged_by_the_lower_end() -> None:
    """The share itself passes at a lower threshold; with few cases the demand is harder."""
    found = choose(curve(dev(300)), wanted=0.8)
    assert found.point.success_low >= 0.8
    assert any(point.success >= 0.8 and point.threshold < found.point.threshold for point in curve(dev(300)))
    assert not choose(curve(dev(20)), wanted=0.95).is_reached


def test_an_unknown_price_leaves_the_cost_unknown_and_the_choice_as_it_is() -> None:
    """A higher threshold never costs less, whatever the prices are."""
    cases = dev(200)
    blind = DevCases(
        **{
            name: np.full(200, np.nan) if name.endswith("_usd") else getattr(cases, name)
            for name in DevCases.__dataclass_fields__
        }
    )
    found = choose(curve(blind), wanted=None)
    assert found.point.cost_usd is None
    assert found.point.threshold == choose(curve(cases), wanted=None).point.threshold


def test_cases_of_a_cluster_count_as_fewer() -> None:
    """Ten copies of each case say no more than one."""
    cases = dev(40)
    copies = DevCases(
        **{name: np.repeat(getattr(cases, name), 10) for name in DevCases.__dataclass_fields__ if name != "cluster"},
        cluster=np.repeat(np.arange(40), 10),
    )
    one, many = point_at(cases, 0.7), point_at(copies, 0.7)
    assert many.success == pytest.approx(one.success)
    assert many.success_low == pytest.approx(one.success_low, abs=0.02)
