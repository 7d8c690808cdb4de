"""Mechanisms and what they promise: Laplace, Gaussian and geometric noise, k-ary randomized response, optimized unary encoding.

Numeric mechanisms work on integers, or on floats that are first rounded to a grid; rounding to the nearest point moves two
neighbours apart by up to one step a coordinate, and that is counted in the sensitivity (Mironov 2012: what floats give away).
The local ones (Warner 1965; Kairouz, Oh, Viswanath 2016; Wang et al., USENIX Security 2017) flip with probabilities in multiples
of 2^-64, rounded to the private side, so that the promise holds for the coins as they are thrown.
Every mechanism returns a guarantee that composes (`guarantees.py`). They serve all three places: central (at whoever holds the
data), local (at the client), and distributed, where each party adds `accounting.share_sigma` and the sum is accounted for there.
Pure: no clock, no I/O; entropy comes from the caller.
"""

import decimal
import math
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from aicache.privacy import noise
from aicache.privacy.accounting import check_epsilon
from aicache.privacy.entropy import ByteSource
from aicache.privacy.errors import LocalError
from aicache.privacy.guarantees import ANSWER, CLIENT, Concentrated, Pure, Scope

IntVector: TypeAlias = NDArray[np.int64]
FloatVector: TypeAlias = NDArray[np.float64]

CATEGORIES_MAX = 1 << 20
GRID_MAX = 2.0**52  # values beyond it, in steps, are no longer exact in a double


# ---------------------------------------------------------------- central noise


def geometric(
    values: IntVector, *, sensitivity: int, epsilon: float, entropy: ByteSource, scope: Scope = CLIENT
) -> tuple[IntVector, Pure]:
    """Add discrete Laplace noise to integers (Ghosh, Roughgarden, Sundararajan 2009).

    Args:
        values: shape (d,), dtype int64.
        sensitivity: L1, of the whole vector, at least 1.
        epsilon: of the pure guarantee.
        entropy: fresh secret bytes.
        scope: whom the sensitivity speaks of.

    Returns:
        The noisy values and their guarantee.

    Raises:
        LocalError: an argument is out of range.
    """
    check_epsilon(epsilon)
    _check_sensitivity(sensitivity)
    drawn = noise.discrete_laplace(_laplace_scale(sensitivity, epsilon), len(values), entropy)
    return values + drawn, Pure(epsilon, scope)


def laplace(
    values: FloatVector, *, sensitivity: float, epsilon: float, step: float, entropy: ByteSource, scope: Scope = CLIENT
) -> tuple[FloatVector, Pure]:
    """Add Laplace noise to real numbers, on a grid.

    Args:
        values: shape (d,), dtype float64, finite.
        sensitivity: L1, of the whole vector.
        epsilon: of the pure guarantee.
        step: distance of two grid points; d steps are added to the sensitivity for rounding.
        entropy: fresh secret bytes.
        scope: whom the sensitivity speaks of.

    Returns:
        The noisy values, multiples of `step`, and their guarantee.

    Raises:
        LocalError: an argument is out of range.
    """
    check_epsilon(epsilon)
    steps = _to_grid(values, step)
    moved = grid_sensitivity(sensitivity, step, float(len(values)))
    drawn = noise.discrete_laplace(_laplace_scale(moved, epsilon), len(values), entropy)
    return np.multiply(steps + drawn, step, dtype=np.float64), Pure(epsilon, scope)


def gaussian(
    values: FloatVector, *, sensitivity: float, sigma: float, step: float, entropy: ByteSource, scope: Scope = CLIENT
) -> tuple[FloatVector, Concentrated]:
    """Add Gaussian noise to real numbers, on a grid.

    Args:
        values: shape (d,), dtype float64, finite.
        sensitivity: L2, of the whole vector.
        sigma: standard deviation of the noise, in the values' unit.
        step: distance of two grid points; √d steps are added to the sensitivity for rounding.
        entropy: fresh secret bytes.
        scope: whom the sensitivity speaks of.

    Returns:
        The noisy values, multiples of `step`, and their guarantee, rho = (sensitivity/sigma)²/2.

    Raises:
        LocalError: an argument is out of range.
    """
    steps = _to_grid(values, step)
    moved = grid_sensitivity(sensitivity, step, math.sqrt(len(values)))
    drawn = noise.discrete_gaussian(sigma / step, len(values), entropy)
    ratio = moved * step / sigma
    return np.multiply(steps + drawn, step, dtype=np.float64), Concentrated(ratio * ratio / 2, scope)


def grid_sensitivity(sensitivity: float, step: float, rounding: float) -> float:
    """Sensitivity in grid steps: that of the values, and what rounding to the nearest point can add.

    Args:
        sensitivity: of the values, in their unit.
        step: distance of two grid points.
        rounding: norm of the vector of ones: d for L1, √d for L2 (each coordinate moves by at most half a step, on both sides).
    """
    _check_sensitivity(sensitivity)
    return sensitivity / step + rounding


def _laplace_scale(sensitivity: float, epsilon: float) -> float:
    """Sensitivity/epsilon, rounded up: never below what the guarantee needs."""
    return math.nextafter(sensitivity / epsilon, math.inf)


def _to_grid(values: FloatVector, step: float) -> IntVector:
    if not (math.isfinite(step) and step > 0):
        raise LocalError("the grid step must be a finite number above 0", got=step, needed=0)
    if len(values) == 0:
        raise LocalError("there must be at least one value", got=0, needed=1)
    steps = values / step
    if not (np.abs(steps) <= GRID_MAX).all():  # NaN fails this too
        raise LocalError("values must be finite and within 2^52 steps", got="out of range", needed=GRID_MAX)
    return np.rint(steps).astype(np.int64)


def _check_sensitivity(sensitivity: float) -> None:
    if not (math.isfinite(sensitivity) and sensitivity > 0):
        raise LocalError("sensitivity must be a finite number above 0", got=sensitivity, needed=0)


# ---------------------------------------------------------------- local answers


@dataclass(frozen=True, slots=True)
class Estimate:
    """Unbiased estimates of how many gave each answer, with their variance."""

    counts: FloatVector
    variance: FloatVector


@dataclass(frozen=True, slots=True)
class RandomizedResponse:
    """k-ary randomized response: the true answer with probability e^ε/(e^ε + k - 1), any other one else.

    Best below about 3e^ε + 2 categories; beyond, `UnaryEncoding` has less variance.
    """

    categories: int
    epsilon: float
    scope: Scope = ANSWER
    truth: int = field(init=False)
    """2^64 times the probability of the true answer, rounded down."""

    def __post_init__(self) -> None:
        _check_categories(self.categories)
        check_epsilon(self.epsilon)
        object.__setattr__(self, "truth", _odds_threshold(self.epsilon, self.categories - 1))

    @property
    def guarantee(self) -> Pure:
        """Per answer."""
        return Pure(self.epsilon, self.scope)

    def respond(self, answers: IntVector, entropy: ByteSource) -> IntVector:
        """What to send instead of the answers (integers from 0 to categories - 1), one each."""
        _check_answers(answers, self.categories)
        words = noise.WordStream(entropy)
        honest = words.take(len(answers)) < np.uint64(self.truth)
        other = (answers + 1 + _uniform(words, self.categories - 1, len(answers))) % self.categories
        return np.where(honest, answers, other)

    def estimate(self, reports: IntVector) -> Estimate:
        """From how often each answer was reported (shape (categories,)) to how often it was meant."""
        _check_reports(reports, self.categories)
        n = float(reports.sum())
        p = self.truth / 2.0**64
        q = (1 - p) / (self.categories - 1)
        counts = (reports.astype(np.float64) - n * q) / (p - q)
        return Estimate(counts, _answer_variance(np.clip(counts, 0, n), n, p, q))


@dataclass(frozen=True, slots=True)
class UnaryEncoding:
    """Optimized unary encoding: one bit a category; the true one is sent as 1 with 1/2, the others with 1/(e^ε + 1)."""

    categories: int
    epsilon: float
    scope: Scope = ANSWER
    lie: int = field(init=False)
    """2^64 times the probability that a zero is sent as one, rounded up."""

    def __post_init__(self) -> None:
        _check_categories(self.categories)
        check_epsilon(self.epsilon)
        object.__setattr__(self, "lie", (1 << 64) - _odds_threshold(self.epsilon, 1))

    @property
    def guarantee(self) -> Pure:
        """Per answer."""
        return Pure(self.epsilon, self.scope)

    def respond(self, answers: IntVector, entropy: ByteSource) -> NDArray[np.uint8]:
        """What to send instead of the answers: shape (answers, categories), zeros and ones."""
        _check_answers(answers, self.categories)
        words = noise.WordStream(entropy)
        limit = np.full((len(answers), self.categories), self.lie, dtype=np.uint64)
        limit[np.arange(len(answers)), answers] = 1 << 63
        return (words.take(limit.size).reshape(limit.shape) < limit).astype(np.uint8)

    def estimate(self, reports: IntVector, n: int) -> Estimate:
        """From how often each bit was set (shape (categories,)) by `n` answers to how often each category was meant."""
        _check_reports(reports, self.categories)
        p, q = 0.5, self.lie / 2.0**64
        counts = (reports.astype(np.float64) - n * q) / (p - q)
        return Estimate(counts, _answer_variance(np.clip(counts, 0, n), n, p, q))


def _answer_variance(counts: FloatVector, n: float, p: float, q: float) -> FloatVector:
    """Variance of (reports - nq)/(p - q) when `counts` of n answers report with probability p, the rest with q."""
    variance: FloatVector = (counts * p * (1 - p) + (n - counts) * q * (1 - q)) / (p - q) ** 2
    return variance


def _odds_threshold(epsilon: float, others: int) -> int:
    """⌊2^64 · e^ε/(e^ε + others)⌋, at most 2^64 - 1: odds of at most e^ε to 1 against each of the others."""
    context = decimal.Context(prec=60)
    odds = context.exp(context.minus(decimal.Decimal(epsilon)))
    share = context.divide(decimal.Decimal(1), context.add(decimal.Decimal(1), context.multiply(odds, others)))
    return min((1 << 64) - others, int(context.multiply(share, decimal.Decimal(1 << 64))))


def _uniform(words: noise.WordStream, bound: int, count: int) -> IntVector:
    """Uniform integers below `bound`, by rejection: words from the last, incomplete run of `bound` are drawn again.

    The loop ends: for `bound` ≤ 2^20 a word is rejected with probability below 2^-44.
    """
    limit = (1 << 64) - (1 << 64) % bound
    word = words.take(count).copy()
    while limit < 1 << 64 and (late := word >= np.uint64(limit)).any():
        word[late] = words.take(int(late.sum()))
    return (word % np.uint64(bound)).astype(np.int64)


def _check_categories(categories: int) -> None:
    if not 2 <= categories <= CATEGORIES_MAX:
        raise LocalError("a categorical answer has 2 to 2^20 categories", got=categories, needed=(2, CATEGORIES_MAX))


def _check_answers(answers: IntVector, categories: int) -> None:
    if len(answers) and (int(answers.min()) < 0 or int(answers.max()) >= categories):
        raise LocalError("answers must be from 0 to categories - 1", got="out of range", needed=categories)


def _check_reports(reports: IntVector, categories: int) -> None:
    if reports.shape != (categories,) or (len(reports) and int(reports.min()) < 0):
        raise LocalError("reports are one count ≥ 0 a category", got=reports.shape, needed=(categories,))
