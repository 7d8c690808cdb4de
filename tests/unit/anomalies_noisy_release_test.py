"""The comparison of releases from private counts: finds the bad one, leaves good ones alone, never goes back."""

import numpy as np
import pytest
from scipy.stats import binom

from aicache.privacy.errors import LocalError
from aicache.streams.anomalies.detectors.noisy_release import (
    NoisyReleaseComparison,
    NoisyWindow,
    _laplace_law,
    _spent,
)


def play(rate: float, rounds: int, seed: int, sigma: float = 6.0) -> NoisyReleaseComparison:
    random, test = np.random.default_rng(seed), NoisyReleaseComparison()
    for _ in range(rounds):
        noise = random.normal(0, sigma, 4)
        test.learn_one(
            NoisyWindow(
                500 + noise[0] + noise[1],
                random.binomial(500, rate) + noise[1],
                4_500 + noise[2] + noise[3],
                random.binomial(4_500, 0.02) + noise[3],
                sigma,
            )
        )
    return test


def test_a_bad_release_is_found_in_a_few_rounds() -> None:
    assert sum(play(0.08, 3, seed).p_value < 5e-4 for seed in range(50)) >= 48


def test_good_releases_show_no_more_evidence_than_they_may() -> None:
    p_values = np.array([play(0.02, 5, seed).p_value for seed in range(400)])
    for alpha in (0.3, 0.1, 0.02):
        assert (p_values <= alpha).mean() <= alpha + 3 * np.sqrt(alpha / 400)


def test_without_noise_it_is_the_exact_test_of_a_binomial() -> None:
    test = NoisyReleaseComparison()
    test.learn_one(NoisyWindow(100, 12, 10_000_000, 200_000, 1e-9))
    exact = binom.sf(12, 100, 0.02) + binom.pmf(12, 100, 0.02) / 2  # half of what is seen, as noise is symmetric
    assert test.p_value == pytest.approx(exact / 0.1, rel=0.05)


def test_evidence_once_seen_stays() -> None:
    test = play(0.08, 3, 1)
    before = test.p_value
    for _ in range(20):
        test.learn_one(NoisyWindow(500, 0, 4_500, 90, 6.0))
    assert test.p_value == before


@pytest.mark.parametrize("clients", [0.0, 11.0, -5.0])
def test_a_round_with_too_few_clients_for_its_noise_says_nothing(clients: float) -> None:
    test = NoisyReleaseComparison()
    test.learn_one(NoisyWindow(clients, 400, 4_500, 90, 6.0))
    test.learn_one(NoisyWindow(500, 400, clients, 90, 6.0))
    assert test.p_value == 1.0
    assert (test.rate, test.other_rate) == (0.0, 0.0)


def laplace(rate: float, rounds: int, seed: int, scale: float = 1.0, shares: float = 2.5) -> NoisyReleaseComparison:
    """Rounds with the noise of five members, of which two suffice."""
    random, test, keep = np.random.default_rng(seed), NoisyReleaseComparison(), -np.expm1(-1 / scale)
    for _ in range(rounds):
        noise = random.negative_binomial(shares, keep, 4) - random.negative_binomial(shares, keep, 4)
        old, new = random.binomial(4_500, 0.02), random.binomial(500, rate)
        test.learn_one(
            NoisyWindow(
                500 + noise[0] + noise[1],
                new + noise[1],
                4_500 + noise[2] + noise[3],
                old + noise[3],
                scale=scale,
                shares=shares,
            )
        )
    return test


def test_a_bad_release_is_found_in_one_round_under_laplace_noise() -> None:
    assert sum(laplace(0.08, 1, seed).p_value <= 5e-4 for seed in range(100)) >= 92
    found = laplace(0.08, 4, 1)
    assert found.rate == pytest.approx(0.08, abs=0.02)
    assert found.other_rate == pytest.approx(0.02, abs=0.004)


@pytest.mark.parametrize(("scale", "shares"), [(1.0, 2.5), (6.0, 1.5)])
def test_good_releases_show_no_more_evidence_under_laplace_noise_either(scale: float, shares: float) -> None:
    p_values = np.array([laplace(0.02, 4, seed, scale, shares).p_value for seed in range(400)])
    for alpha in (0.3, 0.1, 0.02):
        assert (p_values <= alpha).mean() <= alpha + 3 * np.sqrt(alpha / 400)


def test_the_law_of_laplace_noise_is_whole_and_as_wide_as_stated() -> None:
    for scale, shares in ((0.5, 1.0), (3.0, 2.5), (120.0, 40.0)):
        law = _laplace_law(scale, shares)
        places = np.arange(len(law)) - len(law) // 2
        assert law.sum() == pytest.approx(1.0, abs=1e-9)
        deviation = NoisyWindow(0, 0, 0, 0, scale=scale, shares=shares).deviation
        assert np.sqrt(law @ places**2) == pytest.approx(deviation, rel=1e-6)


def test_looks_share_the_error_among_them() -> None:
    shares = [_spent(look) for look in range(1, 10_001)]
    assert sum(shares) == pytest.approx(1.0, abs=1e-4)
    assert sum(shares) <= 1.0


@pytest.mark.parametrize(
    "bad",
    [
        NoisyWindow(float("nan"), 1, 100, 1, 1.0),
        NoisyWindow(100, 1, float("inf"), 1, 1.0),
        NoisyWindow(100, 1, 100, 1, -1.0),
        NoisyWindow(100, 1, 100, 1, scale=1.0),
        NoisyWindow(100, 1, 100, 1, shares=1.0),
        NoisyWindow(100, 1, 100, 1, scale=2.0, shares=1.0),
    ],
)
def test_numbers_that_cannot_be_and_another_scale_are_refused(bad: NoisyWindow) -> None:
    test = laplace(0.02, 1, 1)
    before = test.to_bytes()
    with pytest.raises(LocalError):
        test.learn_one(bad)
    assert test.to_bytes() == before
