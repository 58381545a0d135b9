"""Evidence that is looked at after every case: how often it misleads, and how soon it finds what is there."""

import numpy as np
import pytest

from steelyard.measure.layout import Floats
from steelyard.measure.paired import log_e_values
from steelyard.measure.sequential import (
    confidence_sequence,
    first_crossing,
    log_wealth,
    log_wealth_of_differences,
)

ALPHA = 0.05
N_STUDIES = 1500
N_CASES = 400
TOLERANCE = 3 * float(np.sqrt(ALPHA * (1 - ALPHA) / N_STUDIES))
"""Three standard errors of a rate of alpha among so many studies."""


def wrong_at_some_look(values: Floats) -> float:
    """Share of studies that would have announced a difference after some case."""
    return float((first_crossing(log_wealth(values), ALPHA) > 0).mean())


@pytest.mark.parametrize("discordance", [0.9, 0.3, 0.05, 0.01])
def test_looking_after_every_case_misleads_at_most_alpha_of_the_studies(discordance: float) -> None:
    """Paired successes that differ equally often either way, up to one pair in a hundred."""
    rng = np.random.default_rng(1)
    share = discordance / 2
    values = rng.choice([-1.0, 0.0, 1.0], size=(N_STUDIES, N_CASES), p=[share, 1 - discordance, share])
    assert wrong_at_some_look(values) <= ALPHA + TOLERANCE


@pytest.mark.parametrize("sign", [1, -1])
def test_skewed_costs_mislead_at_most_alpha_either_way(sign: int) -> None:
    """Costs of which a few are fifty times the usual, compared with their own mean."""
    rng = np.random.default_rng(2)
    costs = np.minimum(rng.lognormal(0.0, 1.5, size=(N_STUDIES, N_CASES)), 50.0)
    mean = float(np.minimum(rng.lognormal(0.0, 1.5, size=4_000_000), 50.0).mean())
    values = sign * (costs - mean)
    assert wrong_at_some_look(values / -values.min()) <= ALPHA + TOLERANCE


def test_wealth_has_expectation_one_when_stopped_at_the_worst_moment() -> None:
    """Stopping as soon as one is ahead by half, else at the end: a rule that would profit if anything could."""
    rng = np.random.default_rng(3)
    wealth = np.exp(log_wealth(rng.choice([-1.0, 1.0], size=(20_000, 60))))
    ahead = wealth >= 1.5
    stop = np.where(ahead.any(axis=1), ahead.argmax(axis=1), wealth.shape[1] - 1)
    stopped = wealth[np.arange(len(wealth)), stop]
    assert float(stopped.mean()) == pytest.approx(1.0, abs=4 * float(stopped.std()) / len(stopped) ** 0.5)


def test_values_that_follow_each_other_do_not_mislead() -> None:
    """Only the mean given the past counts: the size of the next step may hang on everything before."""
    rng = np.random.default_rng(4)
    values = rng.choice([-1.0, 1.0], size=(N_STUDIES, N_CASES))
    for k in range(1, N_CASES):
        values[:, k] *= np.where(values[:, :k].sum(axis=1) > 0, 1.0, 0.05)
    assert wrong_at_some_look(values) <= ALPHA + TOLERANCE


def test_power_keeps_up_with_the_evidence_from_discordant_pairs() -> None:
    """On paired successes, and at the same level in both directions, it finds as much as the e-process made for them."""
    rng = np.random.default_rng(5)
    for better, worse in [(0.2, 0.1), (0.1, 0.05), (0.04, 0.01)]:
        values = rng.choice([-1.0, 0.0, 1.0], size=(300, 800), p=[worse, 1 - better - worse, better])
        ours = float((first_crossing(log_wealth(values), ALPHA / 2) > 0).mean())
        theirs = float(
            np.mean([log_e_values(one[one != 0].astype(np.int64)).max(initial=0.0) >= -np.log(ALPHA) for one in values])
        )
        assert ours >= theirs - 0.04


def test_a_value_beyond_the_bound_ruins_large_bets_and_leaves_small_ones() -> None:
    """Where the bound was an estimate, wealth shrinks but neither turns negative nor ends for good."""
    wealth = np.exp(log_wealth(np.array([0.5, -3.0, *[1.0] * 40])))
    assert 0 < wealth[1] < 0.5 * wealth[0]
    assert wealth[-1] > 20
    assert np.isneginf(log_wealth(np.array([-1000.0, 1.0]))).all()


def test_many_processes_at_once_are_each_as_alone() -> None:
    rng = np.random.default_rng(6)
    values = rng.uniform(-1, 1, size=(3, 4, 50))
    together = log_wealth(values)
    assert together.shape == values.shape
    assert together[1, 2] == pytest.approx(log_wealth(values[1, 2]), rel=1e-12)
    assert first_crossing(np.array([[0.0, 3.0, 1.0], [0.0, 1.0, 2.0]]), ALPHA).tolist() == [2, 0]


def test_differences_are_taken_in_units_of_their_bound() -> None:
    differences = np.array([0.02, -0.01, 0.03])
    assert log_wealth_of_differences(differences, 0.05) == pytest.approx(log_wealth(differences / 0.05))
    with pytest.raises(ValueError, match="at least"):
        log_wealth_of_differences(differences, 0.005)


@pytest.mark.parametrize("rate", [0.02, 0.5, 0.9])
def test_a_confidence_sequence_holds_at_all_times(rate: float) -> None:
    """The true rate is outside after some case in at most alpha of the studies."""
    rng = np.random.default_rng(7)
    missed = 0
    for _ in range(60):
        low, high = confidence_sequence((rng.random(150) < rate).astype(np.float64), alpha=0.1)
        missed += bool((low > rate).any() or (high < rate).any())
    assert missed / 60 <= 0.1 + 3 * (0.1 * 0.9 / 60) ** 0.5


def test_a_confidence_sequence_only_narrows_mirrors_and_closes_in() -> None:
    rng = np.random.default_rng(8)
    values = rng.beta(4, 2, size=600)
    low, high = confidence_sequence(values)
    assert (np.diff(low) >= 0).all()
    assert (np.diff(high) <= 0).all()
    assert low[-1] < 2 / 3 < high[-1]
    assert high[-1] - low[-1] < 0.08
    mirrored = confidence_sequence(1 - values)
    assert mirrored[0] == pytest.approx(1 - high)
    with pytest.raises(ValueError, match="0, 1"):
        confidence_sequence(np.array([1.2]))
