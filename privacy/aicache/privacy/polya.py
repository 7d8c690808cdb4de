"""Shares of discrete Laplace noise: any h of them add up to one, so pure epsilon holds for a sum that nobody trusts alone.

A discrete Laplace of scale b is the difference of two geometric laws of ratio q = e^(-1/b), and a geometric law is the sum of h
negative binomials of shape 1/h (Goryczka and Xiong, IEEE TDSC 2017; Balle, Bell, Gascón and Nissim, CCS 2020). So each of m members
adds the difference of two such: whichever h of them are honest, their noise together is exactly a discrete Laplace, and what the
others add depends on no client. Counts that change by at most `sensitivity` (L1) with one client then have epsilon = sensitivity/b
at delta 0. Where a client is in one place of a table, at epsilon 1 its standard deviation is 1.4 against 4.5 of the Gaussian at
delta 10^-6; but epsilons of many rounds add up, while those of Gaussians grow with the root: for few rounds, few coordinates.

Invariant: a share's law is within 2 · `noise.DISTANCE_MAX` of the exact one. Pure: entropy comes from the caller.
"""

import decimal
import math
from fractions import Fraction
from functools import lru_cache

import numpy as np

from aicache.privacy import accounting, noise
from aicache.privacy.entropy import ByteSource
from aicache.privacy.errors import LocalError
from aicache.privacy.noise import AliasTable, IntVector

HONEST_MAX = 64
SCALE_MAX = 128.0

_WORK_BITS, _TAIL_BITS = 256, 136


def share(scale: float, honest: int, size: int, entropy: ByteSource) -> IntVector:
    """What one party adds, so that `honest` of them add up to discrete Laplace noise.

    Args:
        scale: b, of the whole noise; sensitivity/epsilon.
        honest: h, how many parties are sure to add theirs.
        size: coordinates.
        entropy: fresh secret bytes; asked once.

    Returns:
        Independent samples, shape (size,), dtype int64.

    Raises:
        LocalError: a number is out of range; nothing was drawn.
    """
    _check(scale, honest)
    if not 0 <= size <= noise.SAMPLES_MAX:
        raise LocalError("the number of samples is out of range", got=size, needed=(0, noise.SAMPLES_MAX))
    drawn = np.empty(2 * size, dtype=np.int64)
    _table(float(scale), honest).draw(noise.WordStream(entropy), drawn)
    return drawn[:size] - drawn[size:]


def tally(vector: IntVector, clip: int) -> IntVector:
    """A client's counts, with an L1 norm of at most `clip`: longer ones are shortened, each towards zero.

    Raises:
        LocalError: they are no integers, or the bound makes no sense.
    """
    if not isinstance(vector, np.ndarray) or vector.dtype != np.int64 or vector.ndim != 1 or clip < 1:
        raise LocalError("counts are integers, within a bound of at least 1", got=clip, needed="int64, one axis")
    norm = sum(abs(count) for count in vector.tolist())
    if norm <= clip:
        return vector.copy()
    return np.array([(abs(n) * clip // norm) * (1 if n > 0 else -1) for n in vector.tolist()], dtype=np.int64)


def sigma(scale: float) -> float:
    """The standard deviation of the whole noise: √(2q)/(1 − q)."""
    return math.sqrt(2 * math.exp(-1 / scale)) / -math.expm1(-1 / scale)


def guarantee(sensitivity: int, scale: float, members: int, threshold: int, delta: float) -> accounting.RoundGuarantee:
    """What an opened sum guarantees to one client whose counts are `tally`-ed, when committee members add the noise.

    Args:
        sensitivity: L1, add-or-remove.
        scale: b.
        members: m, of the committee.
        threshold: t, how many open a sum.
        delta: at which rounds are added up; one alone needs none.

    Raises:
        LocalError: a number is out of range.
    """
    accounting.check_delta(delta)
    honest = accounting.honest_shares(accounting.COMMITTEE, members, threshold, 0)
    _check(scale, honest)
    if sensitivity < 1:
        raise LocalError("a client moves a sum by at least 1", got=sensitivity, needed=1)
    epsilon = sensitivity / scale
    return accounting.RoundGuarantee(
        mechanism="discrete-laplace",
        noise=accounting.COMMITTEE,
        unit="client",
        neighbouring=accounting.ADD_OR_REMOVE,
        window="round",
        epsilon=epsilon,
        delta=delta,
        sensitivity=float(sensitivity),
        sigma=sigma(scale),
        honest=honest,
        rdp=[float(value) for value in accounting.pure_rdp(epsilon)],
    )


def _check(scale: float, honest: int) -> None:
    if isinstance(scale, bool) or not (math.isfinite(scale) and 0 < scale <= SCALE_MAX):
        raise LocalError(f"the scale is above 0 and at most {SCALE_MAX:g}", got=scale, needed=(0, SCALE_MAX))
    if not 1 <= honest <= HONEST_MAX:
        raise LocalError("so many honest parties cannot be counted on", got=honest, needed=(1, HONEST_MAX))


@lru_cache(maxsize=8)
def _table(scale: float, honest: int) -> AliasTable:
    """The negative binomial of shape 1/h: p(k+1) = p(k) · q · (hk + 1) / (h(k + 1)); each step truncates below 2^-250."""
    context = decimal.Context(prec=110)
    exact = Fraction(scale)
    exponent = context.divide(decimal.Decimal(-exact.denominator), decimal.Decimal(exact.numerator))
    ratio = int(context.multiply(context.exp(exponent), decimal.Decimal(1 << _WORK_BITS)))
    tail = 1 << (_WORK_BITS - _TAIL_BITS)
    weights, weight = [], 1 << _WORK_BITS
    while weight >= tail:
        weights.append(weight)
        k = len(weights) - 1
        weight = (weight * ratio * (honest * k + 1) // (honest * (k + 1))) >> _WORK_BITS
    return noise.table_of(weights, 0)
