"""What an attacker can prove: lower bounds on epsilon from how often it guesses right.

Clopper and Pearson (1934) bound the two probabilities of an event under two neighbouring inputs; Steinke, Nasr and Jagielski
(2023, algorithm 1 and theorem 5.2) bound epsilon from one run with many canaries. Sample sizes and events are fixed beforehand.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE_LOST = 1e-7
"""Each bound is wrong with at most this probability."""


def pairwise_bound(hits: int, false_hits: int, trials: int, delta: float, events: int = 1) -> float:
    """The epsilon that an event proves: it happened `hits` times of `trials` with the client, `false_hits` times without.

    (epsilon, delta) means P ≤ e^ε Q + δ, so ε ≥ ln((P - δ)/Q), at the pessimistic ends of both intervals.
    """
    lost = CONFIDENCE_LOST / (2 * events)
    least = float(stats.beta.ppf(lost, hits, trials - hits + 1)) if hits else 0.0
    most = float(stats.beta.ppf(1 - lost, false_hits + 1, trials - false_hits)) if false_hits < trials else 1.0
    return math.log((least - delta) / most) if least > delta else -math.inf


def threshold_bound(
    present: NDArray[np.float64], absent: NDArray[np.float64], thresholds: list[float], delta: float
) -> float:
    """The best pairwise bound over the events `statistic ≥ threshold`, the confidence split among them."""
    trials = len(present)
    assert len(absent) == trials
    return max(
        pairwise_bound(int((present >= at).sum()), int((absent >= at).sum()), trials, delta, len(thresholds))
        for at in thresholds
    )


def one_run_bound(right: int, guesses: int, canaries: int, delta: float) -> float:
    """The epsilon that `right` of `guesses` guesses about `canaries` independent coin flips prove, from one run."""
    low, high = 0.0, 40.0
    if _one_run_p_value(right, guesses, canaries, low, delta) > CONFIDENCE_LOST:
        return 0.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        if _one_run_p_value(right, guesses, canaries, middle, delta) <= CONFIDENCE_LOST:
            low = middle
        else:
            high = middle
    return low


def _one_run_p_value(right: int, guesses: int, canaries: int, epsilon: float, delta: float) -> float:
    """How likely an (epsilon, delta) mechanism lets anyone be right so often, at most."""
    correct = 1 / (1 + math.exp(-epsilon))
    beta = float(stats.binom.sf(right - 1, guesses, correct))
    misses = np.arange(1, right + 1)
    tails = np.cumsum(stats.binom.pmf(right - misses, guesses, correct))
    alpha = float(np.max(tails / misses, initial=0.0))
    return min(1.0, beta + 2 * alpha * delta * canaries)
