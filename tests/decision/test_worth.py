"""The worth of more evidence against brute force, and 'stop, it does not matter'."""

from __future__ import annotations

import numpy as np
import pytest

from steelyard.decision import wording
from steelyard.decision.spec import GoalSpec
from steelyard.decision.standings import JointDraws, draw_jointly
from steelyard.decision.worth import gains_over, worth_of_evidence, worth_per_month
from steelyard.economics.ledger import ApproachFacts
from steelyard.economics.spec import MoneySpec
from steelyard.figures import MEASURED
from steelyard.measure.results import Floats, from_rows
from tests.decision.test_verdict import study, weigh
from tests.measure.rows import row


def normal_draws(
    means: list[float], sds: list[float], *, n_cases: int, n_draws: int = 200_000, seed: int = 0
) -> JointDraws:
    """What is known of the cost per success of some approaches, normal and independent; one task succeeds a month."""
    rng = np.random.default_rng(seed)
    cost = rng.normal(means, sds, (n_draws, len(means)))
    return JointDraws(
        names=tuple("abcd"[: len(means)]),
        n_cases=n_cases,
        cost_per_success=cost,
        successes_per_month=np.ones_like(cost),
        meets_goal=np.ones(cost.shape, dtype=bool),
    )


def brute_force(means: list[float], sds: list[float], *, n: int, k: int, seed: int = 1) -> float:
    """Draw a truth, draw k further cases from it, update, choose; the saving against choosing now."""
    rng = np.random.default_rng(seed)
    mean, sd = np.array(means), np.array(sds)
    truth = rng.normal(mean, sd, (200_000, len(means)))
    noise = sd * np.sqrt(n)  # of one case: n of them leave the standard deviation sd
    seen = rng.normal(truth, noise / np.sqrt(k))  # mean of the further cases
    known: Floats = (n * mean + k * seen) / (n + k)
    chosen = truth[np.arange(len(truth)), known.argmin(axis=1)]
    return float(truth[:, mean.argmin()].mean() - chosen.mean())


@pytest.mark.parametrize("means", [[1.0, 1.1], [1.0, 1.02, 1.3], [1.0, 1.0]])
@pytest.mark.parametrize("k", [25, 100, 1000])
def test_in_a_normal_world_it_agrees_with_brute_force(means: list[float], k: int) -> None:
    sds = [0.2, 0.15, 0.3][: len(means)]
    draws = normal_draws(means, sds, n_cases=100)
    assert worth_per_month(draws, "a", k) == pytest.approx(brute_force(means, sds, n=100, k=k), abs=0.0015)


def test_one_rival_gives_the_unit_normal_loss() -> None:
    """Raiffa and Schlaifer: s' times (pdf(u) - u times the upper tail at u), u the advantage over s'."""
    from scipy.stats import norm

    draws = normal_draws([1.0, 1.1], [0.2, 0.15], n_cases=100)
    s = np.sqrt((0.2**2 + 0.15**2) * 50 / 150)
    u = 0.1 / s
    assert worth_per_month(draws, "a", 50) == pytest.approx(s * (norm.pdf(u) - u * norm.sf(u)), abs=0.001)


def test_more_cases_are_worth_more_and_never_more_than_perfect_knowledge() -> None:
    """With a goal as well: what further cases tell grows towards the expected loss of the choice."""
    rng = np.random.default_rng(3)
    plain = normal_draws([1.0, 1.1], [0.2, 0.15], n_cases=100, n_draws=4000)
    success = rng.normal(0.9, 0.03, plain.cost_per_success.shape)
    draws = JointDraws(
        names=plain.names,
        n_cases=100,
        cost_per_success=plain.cost_per_success,
        successes_per_month=1000 * success,
        meets_goal=success > np.diag(np.quantile(success, [0.3, 0.1], axis=0)),
    )
    leader = min(draws.names, key=draws.loss_of)
    worths = [worth_per_month(draws, leader, k) for k in (1, 25, 100, 1000, 100_000)]
    perfect = worth_per_month(draws, leader, None)
    assert worths == sorted(worths)
    assert worths[0] >= 0
    assert worths[-1] <= perfect * 1.001
    assert perfect == pytest.approx(draws.loss_of(leader), rel=1e-9)
    assert worths[-1] == pytest.approx(perfect, rel=0.05)


def test_gains_are_losses_the_other_way_round() -> None:
    draws = normal_draws([1.0, 1.1], [0.2, 0.15], n_cases=100, n_draws=1000)
    gain = gains_over(draws, "a", 1.0)[:, 0]
    np.testing.assert_allclose(gain, draws.cost_per_success[:, 0] - draws.cost_per_success[:, 1])


def test_stop_it_does_not_matter() -> None:
    """A clear winner: no number of further cases is worth its price, and the verdict says stop."""
    found = weigh(study({"zero-shot": 0.55, "workflow": 0.95})).worth
    assert found is not None
    assert not found.is_worth_it
    assert found.sentence.startswith("Stop, it does not matter")
    assert (found.perfect_usd.value or 0) < 1


def test_stop_also_where_something_is_at_stake_but_too_little() -> None:
    """An open verdict at a small volume: labels cost more than they could save."""
    money = MoneySpec(volume_per_month=30, failed_task_usd=1, labelling_seconds_per_case=300)
    rates = {"zero-shot": 0.8, "few-shot": 0.8}
    found = weigh(study(rates, n=40, seed=5), money=money)
    assert found.worth is not None
    assert not found.worth.is_worth_it
    assert "Stop" in found.worth.sentence
    assert all((one.worth_usd.value or 0) <= (one.price_usd.value or 0) for one in found.worth.offers)


def test_label_more_where_much_is_at_stake() -> None:
    """Few cases, many tasks, dear failures: the offer that gains most is named with worth and price, in the verdict."""
    money = MoneySpec(failed_task_usd=20, volume_per_month=50_000)
    found = weigh(study({"zero-shot": 0.9, "retrieval": 0.92}, n=60), money=money)
    assert found.choice is None
    worth = found.worth
    assert worth is not None
    assert worth.is_worth_it
    assert f"Label {worth.n_cases:,} more cases" in found.sentence
    gains = {one.n_cases: (one.worth_usd.value or 0) - (one.price_usd.value or 0) for one in worth.offers}
    assert worth.n_cases == max(gains, key=lambda n: gains[n])
    assert worth.price_usd.value == pytest.approx(worth.n_cases * (20 / 3600 * 40 + 2 * 0.001))
    assert worth.price_usd.provenance.kind == "assumed"


def test_one_candidate_leaves_nothing_to_learn() -> None:
    assert weigh(study({"zero-shot": 0.9})).worth is None


def test_cases_that_are_labelled_already_cost_their_calls_alone() -> None:
    """Waiting cases are offered as such; beyond them labelling is paid for again."""
    rows = [row(name, i, int(i % 10 < 8), cost_usd=0.01) for name in "ab" for i in range(50)]
    results = from_rows(rows)
    facts = {name: ApproachFacts(name=name, levers=("prompt",)) for name in "ab"}
    draws = draw_jointly(results, facts, MoneySpec(), GoalSpec(), ["a", "b"], seed=0)

    def prices(n_waiting: int) -> dict[int, float]:
        worth = worth_of_evidence(draws, "a", results, facts, MoneySpec(), n_waiting=n_waiting, provenance=MEASURED)
        assert worth is not None
        return {offer.n_cases: offer.price_usd.value or 0.0 for offer in worth.offers}

    before, after = prices(0), prices(150)
    labelling = 20 / 3600 * 40
    assert before[100] == pytest.approx(100 * (labelling + 0.02))
    assert after[100] == pytest.approx(100 * 0.02)
    assert after[200] == pytest.approx(before[200] - 150 * labelling)
    assert after[150] == pytest.approx(150 * 0.02)


def test_the_sentence_says_which_cases_are_there_already() -> None:
    """Labelled, some labelled, none labelled."""
    said = {
        n: wording.more_evidence(100, n_labelled=n, worth=50, price=1, perfect=60, months=12, is_worth_it=True)
        for n in (0, 40, 100)
    }
    assert said[0].startswith("Label 100 more cases and run them: that costs $1.00")
    assert said[40].startswith("Run the other 40 labelled cases and label 60 more: ")
    assert said[100].startswith("Run 100 more of the labelled cases: ")
