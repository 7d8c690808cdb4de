"""What another order of the same items would have brought, from answers that were shown with known probabilities.

Value of an order: items taken an answer. Three estimators, each summed over the places of the head (the item-position
model of Li et al., "Offline Evaluation of Ranking Policies with Click Models", KDD 2018): inverse propensity (IPS), the same
divided by the mean weight (self-normalised; Swaminathan, Joachims, NeurIPS 2015), and doubly robust (Dudík et al., ICML 2011), whose
expectation comes from what the bandit had learned before the answer was over.

All three and their variances follow from one matrix of summed products, which adds up over partitions. Intervals: by the central
limit theorem, valid for one look; and an asymptotic confidence sequence (Waudby-Smith et al., "Time-uniform central limit theory",
2021), valid however often one looks. Pure.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aicache.schemas.records import LiftEstimate

ANSWERS_MIN = 100
"""Fewer say nothing."""
CONFIDENCE = 0.95
QUANTILE = 1.959964
FREEDOM_MIN = 4.0
WATCHED_FROM = 2_000
"""Answers at which the interval that may be watched is tightest."""

ONE, RANKER, RANKER_WEIGHT, BANDIT, BANDIT_WEIGHT, RANKER_DOUBLE, BANDIT_DOUBLE, TAKEN, LIFT_SQUARE, DOUBLE_SQUARE = (
    range(10)
)
TERMS = 10

Matrix = NDArray[np.float64]
Expected = Callable[[int, int], float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """An answer whose time for feedback is over; orders are of the ranker's ranks.

    Attributes:
        shown: the order that was shown.
        propensities: of each place of it.
        bandit: the order that the bandit would have chosen.
        depth: places that the client showed.
        taken: places of what was taken.
    """

    shown: Sequence[int]
    propensities: Sequence[float]
    bandit: Sequence[int]
    depth: int
    taken: Sequence[int]


def terms(outcome: Outcome, expected: Expected) -> Matrix:
    """What one answer adds to the matrix's root: shape (TERMS,).

    Args:
        outcome: the answer.
        expected: probability that a rank of the ranker's is taken at a place, known before the outcome.
    """
    head = len(outcome.shown)
    seen = min(head, outcome.depth)
    result = np.zeros(TERMS)
    result[ONE] = 1.0
    result[TAKEN] = float(bool(outcome.taken))
    beyond = float(sum(at >= head for at in outcome.taken))  # the same in every order
    orders: tuple[Sequence[int], ...] = (range(head), outcome.bandit)
    places = ((RANKER, RANKER_WEIGHT, RANKER_DOUBLE), (BANDIT, BANDIT_WEIGHT, BANDIT_DOUBLE))
    for order, (value, weight, double) in zip(orders, places, strict=True):
        result[value] = result[double] = beyond
        for at in range(seen):
            matched = float(order[at] == outcome.shown[at]) / outcome.propensities[at]
            taken = float(at in outcome.taken)
            result[value] += matched * taken
            result[weight] += matched / seen
            result[double] += expected(order[at], at) + matched * (taken - expected(outcome.shown[at], at))
    result[LIFT_SQUARE] = (result[BANDIT] - result[RANKER]) ** 2
    result[DOUBLE_SQUARE] = (result[BANDIT_DOUBLE] - result[RANKER_DOUBLE]) ** 2
    return result


def estimates(sums: Matrix) -> list[LiftEstimate]:
    """What the summed products of the terms say; empty where there are too few answers."""
    n = sums[ONE, ONE]
    if n < ANSWERS_MIN or sums[ONE, RANKER_WEIGHT] <= 0 or sums[ONE, BANDIT_WEIGHT] <= 0:
        return []
    mean = sums[ONE] / n
    covariance = (sums / n - np.outer(mean, mean)) * (n / (n - 1.0))
    found = []
    for name, ranker, bandit, square in (
        ("ips", RANKER, BANDIT, LIFT_SQUARE),
        ("doubly-robust", RANKER_DOUBLE, BANDIT_DOUBLE, DOUBLE_SQUARE),
    ):
        gradient = np.zeros(TERMS)
        gradient[ranker], gradient[bandit] = -1.0, 1.0
        quantiles = _quantiles(sums, ranker, bandit, square)
        found.append(_estimate(name, mean[ranker], mean[bandit], gradient @ covariance @ gradient, n, quantiles))
    ratios = mean[RANKER] / mean[RANKER_WEIGHT], mean[BANDIT] / mean[BANDIT_WEIGHT]
    gradient = np.zeros(TERMS)
    gradient[RANKER], gradient[RANKER_WEIGHT] = -1.0 / mean[RANKER_WEIGHT], ratios[0] / mean[RANKER_WEIGHT]
    gradient[BANDIT], gradient[BANDIT_WEIGHT] = 1.0 / mean[BANDIT_WEIGHT], -ratios[1] / mean[BANDIT_WEIGHT]
    quantiles = _quantiles(sums, RANKER, BANDIT, LIFT_SQUARE)
    found.insert(1, _estimate("self-normalised", *ratios, gradient @ covariance @ gradient, n, quantiles))
    return found


def _quantiles(sums: Matrix, ranker: int, bandit: int, square: int) -> tuple[float, float]:
    """Standard errors below and above an estimate that its interval takes in.

    A few answers with large weights make the mean and the variance: while few of them have been seen, both are too small at once.
    Hence Student's quantile, with the degrees of freedom that a variance of such tails has (Satterthwaite): 2n / (kurtosis − 1); and on
    the side of the longer tail the second-order term of a studentized mean (Hall, "The Bootstrap and Edgeworth Expansion", 1992,
    section 2.6): skewness · (2z² + 1) / 6√n.
    """
    n = sums[ONE, ONE]
    first = (sums[ONE, bandit] - sums[ONE, ranker]) / n
    second, third = sums[ONE, square] / n, (sums[bandit, square] - sums[ranker, square]) / n
    fourth = sums[square, square] / n
    variance = second - first**2
    if variance <= 0:
        return QUANTILE, QUANTILE
    skewness = (third - 3 * first * second + 2 * first**3) / variance**1.5
    kurtosis = (fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4) / variance**2
    freedom = max(2.0 * n / max(kurtosis - 1.0, 1.0), FREEDOM_MIN)
    z = QUANTILE  # Cornish and Fisher's expansion
    student = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    longer = skewness * (2 * z * z + 1) / (6 * math.sqrt(n))
    return float(student + max(-longer, 0.0)), float(student + max(longer, 0.0))


def _estimate(
    name: str, ranker: float, bandit: float, variance: float, n: float, quantiles: tuple[float, float]
) -> LiftEstimate:
    variance = max(float(variance), 0.0)
    low, high = (quantile * math.sqrt(variance / n) for quantile in quantiles)
    wide = _watched(variance, n)
    lift = float(bandit - ranker)
    return LiftEstimate(
        estimator=name,
        ranker=float(ranker),
        bandit=float(bandit),
        lift=lift,
        low=lift - low,
        high=lift + high,
        watched_low=lift - max(wide, low),
        watched_high=lift + max(wide, high),
    )


def _watched(variance: float, n: float) -> float:
    """Half the width of the confidence sequence."""
    alpha = 1.0 - CONFIDENCE
    tight = math.sqrt((-2.0 * math.log(alpha) + math.log(-2.0 * math.log(alpha) + 1.0)) / WATCHED_FROM)
    scaled = n * tight * tight + 1.0
    return math.sqrt(variance) * math.sqrt(2.0 * scaled / (n * n * tight * tight) * math.log(math.sqrt(scaled) / alpha))
