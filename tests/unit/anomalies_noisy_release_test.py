"""The comparison of releases from private counts: finds the bad one, leaves good ones alone, never goes back."""

import numpy as np
import pytest
from scipy.stats import binom

from aicache.streams.anomalies.detectors.noisy_release import NoisyReleaseComparison, NoisyWindow


def play(rate: float, rounds: int, seed: int, sigma: float = 6.0) -> NoisyReleaseComparison:
    random, test = np.random.default_rng(seed), NoisyReleaseComparison()
    for _ in range(rounds):
        noise = random.normal(0, sigma, 4)
        test.learn_one(
            NoisyWindow(
                500 + noise[0],
                random.binomial(500, rate) + noise[1],
                4_500 + noise[2],
                random.binomial(4_500, 0.02) + noise[3],
                sigma,
            )
        )
    return test


def test_a_bad_release_is_found_in_a_few_rounds() -> None:
    assert sum(play(0.08, 3, seed).p_value < 0.001 for seed in range(50)) >= 48


def test_good_releases_show_no_more_evidence_than_they_may() -> None:
    p_values = np.array([play(0.02, 5, seed).p_value for seed in range(400)])
    for alpha in (0.3, 0.1, 0.02):
        assert (p_values <= alpha).mean() <= alpha + 3 * np.sqrt(alpha / 400)


def test_without_noise_it_is_the_exact_test_of_a_binomial() -> None:
    test = NoisyReleaseComparison()
    test.learn_one(NoisyWindow(100, 12, 10_000_000, 200_000, 1e-9))
    exact = binom.sf(12, 100, 0.02) + binom.pmf(12, 100, 0.02) / 2  # half of what is seen, as noise is symmetric
    assert test.p_value == pytest.approx(2 * exact, rel=0.05)


def test_evidence_once_seen_stays() -> None:
    test = play(0.08, 3, 1)
    before = test.p_value
    for _ in range(20):
        test.learn_one(NoisyWindow(500, 0, 4_500, 90, 6.0))
    assert test.p_value == before


@pytest.mark.parametrize("clients", [0.0, 11.0, -5.0, float("nan"), float("inf")])
def test_a_round_with_too_few_clients_for_its_noise_says_nothing(clients: float) -> None:
    test = NoisyReleaseComparison()
    test.learn_one(NoisyWindow(clients, 400, 4_500, 90, 6.0))
    test.learn_one(NoisyWindow(500, 400, clients, 90, 6.0))
    assert test.p_value == 1.0
