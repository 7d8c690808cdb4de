"""Exact integer noise: discrete Gaussian and discrete Laplace (Canonne, Kamath, Steinke, NeurIPS 2020; arXiv 2004.00010).

The fast samplers draw from a table of the law's own weights, computed with 256-bit integers and rounded to multiples of 2^-128
that add up to one, by the alias method (Walker 1974, Vose 1991): one 64-bit word picks a slot and decides between its two
values; only if the word agrees with the slot's threshold in every bit does a second word decide, so that all 128 bits count.
Where the law is too wide for a table, |x| = 2^s a + b: `a` comes from the table of the law at scale σ/2^s on a ≥ 0, `b` is
uniform below 2^s, and the pair is accepted with probability exp(-b(2·2^s a + b)/2σ²) (Karney 2016), respectively exp(-b/scale).
That Bernoulli is exact: floating point only settles what is farther than 2^-36 from the edge, integers settle the rest.

Invariant: whatever the standard deviation, the law of one sample is within `DISTANCE_MAX` = 2^-112 of the exact one in total
variation (rounding: at most 2^15 weights of 2^-128 each; tail cut off: below 2^-130), so a vector of 2^20 coordinates
is within 2^-92: that is what to add to delta, and it is nothing.

Words come from AES-256 in counter mode under a fresh key from the caller's byte source, one key a call: never from a
generator made for simulation. What remains: the samplers are not constant in time (table look-ups depend on the secret noise,
wide laws reject), so whoever can time a client's cache to the nanosecond learns something; see docs/privacy.md.
Pure: no clock, no I/O; entropy comes from the caller. `exact_*` are the slow references, straight from the paper, with rationals.
"""

import decimal
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from aicache.privacy.entropy import ByteSource
from aicache.privacy.errors import LocalError
from aicache.privacy.sampling import SEED_BYTES, Stream

IntVector: TypeAlias = NDArray[np.int64]
WordVector: TypeAlias = NDArray[np.uint64]

DISTANCE_MAX = 2.0**-112
"""Total variation between one sample of a fast sampler and the exact law."""
SCALE_MAX = 2.0**40
GAUSSIAN_TABLE_MAX = 1024.0  # the widest law that has a whole table: 28,200 values, 512 kB
LAPLACE_TABLE_MAX = 128.0  # 24,200 values: exponential tails are longer
SAMPLES_MAX = 1 << 28

_WEIGHT_BITS = 128
_WORK_BITS = 256
_TAIL_BITS = 136  # values whose weight, relative to the mode's, is below 2^-136 are cut off
_CHUNK = 1 << 15  # words at a time: what a chunk needs stays in the second-level cache
_EDGE = 2.0**-36  # farther from the edge than this, double precision decides rightly (its error is below 2^-40)


# ---------------------------------------------------------------- words


class WordStream:
    """Uniform 64-bit words: AES-256-CTR under a key drawn from the byte source.

    A stream is good for one call of a sampler; 2^68 bytes of one key's stream are far more than any call takes.
    """

    def __init__(self, entropy: ByteSource) -> None:
        key = entropy(SEED_BYTES)
        if len(key) != SEED_BYTES:
            raise LocalError("the byte source returned a key of the wrong size", got=len(key), needed=SEED_BYTES)
        self._stream = Stream(key)

    def take(self, count: int) -> WordVector:
        """The next `count` words, shape (count,), dtype uint64."""
        return np.frombuffer(self._stream(8 * count), dtype="<u8").astype(np.uint64, copy=False)


# ---------------------------------------------------------------- tables


@dataclass(frozen=True, slots=True, eq=False)
class AliasTable:
    """A law on consecutive integers with weights in multiples of 2^-128, ready for look-up.

    Slot i holds the words from i·2^(64-bits) on: those below `edge[i]` mean `value[2i+1]`, those above `value[2i]`, and
    the one that is equal is settled by a second word below `rest[i]`.
    """

    bits: int
    edge: WordVector
    rest: WordVector
    value: NDArray[np.int32]
    weights: tuple[int, ...]
    first: int

    def draw(self, words: WordStream, out: IntVector) -> None:
        """Fill `out` with samples."""
        shift = np.uint64(64 - self.bits)
        for start in range(0, len(out), _CHUNK):
            part = out[start : start + _CHUNK]
            word = words.take(len(part))
            slot = (word >> shift).view(np.int64)
            edge = self.edge[slot]
            own = word < edge
            tied = word == edge
            if tied.any():
                where = np.flatnonzero(tied)
                own[where] = words.take(len(where)) < self.rest[slot[where]]
            slot <<= 1
            slot += own
            part[:] = self.value[slot]


def _relative_weights(square: bool, scale: float, half: bool) -> tuple[list[int], int]:
    """The law's weights relative to its mode, as integers over 2^256, and the first value.

    p(x+1) = p(x)·q(x), with q(x+1) = q(x)·r² for the Gaussian (r = exp(-1/2σ²), q(0) = r) and q constant for Laplace. Each step
    truncates below 2^-255, so after T steps the relative error is below T²·2^-254: under 2^-224 for T ≤ 2^15.
    """
    context = decimal.Context(prec=110)
    exact = Fraction(scale)
    gamma = 1 / (2 * exact * exact) if square else 1 / exact
    exponent = context.divide(decimal.Decimal(-gamma.numerator), decimal.Decimal(gamma.denominator))
    one = 1 << _WORK_BITS
    ratio = int(context.multiply(context.exp(exponent), decimal.Decimal(one)))
    growth = ratio * ratio >> _WORK_BITS if square else one
    tail = 1 << (_WORK_BITS - _TAIL_BITS)
    side, weight = [], one
    while weight >= tail:
        side.append(weight)
        weight = weight * ratio >> _WORK_BITS
        ratio = ratio * growth >> _WORK_BITS
    if half:
        return side, 0
    return side[:0:-1] + side, 1 - len(side)


def _round_weights(relative: list[int], mode: int) -> list[int]:
    """Scale weights to integers that add up to 2^128 exactly; what rounding leaves over goes to the mode."""
    total = sum(relative)
    weights = [(weight << _WEIGHT_BITS) // total for weight in relative]
    weights[mode] += (1 << _WEIGHT_BITS) - sum(weights)
    return weights


@lru_cache(maxsize=16)
def alias_table(law: str, scale: float, half: bool) -> AliasTable:
    """The table of a law; building one takes up to 0.1 s, the last 16 are kept.

    Args:
        law: `gaussian` or `laplace`.
        scale: sigma, or the Laplace scale.
        half: the law on the integers ≥ 0 only (for wide laws) instead of on all.
    """
    return table_of(*_relative_weights(law == "gaussian", scale, half))


def table_of(relative: list[int], first: int) -> AliasTable:
    """The table of a law that is given by weights, of which the mode's, at 0, is the largest.

    Args:
        relative: weights of consecutive integers, in any unit that leaves the rounding to multiples of 2^-128 its precision.
        first: the integer of the first weight, 0 or below.
    """
    weights = _round_weights(relative, -first)
    bits = max(1, (len(weights) - 1).bit_length())
    slots = 1 << bits
    capacity = 1 << (_WEIGHT_BITS - bits)
    left = weights + [0] * (slots - len(weights))
    other = list(range(slots))
    threshold = [0] * slots
    small = [i for i, weight in enumerate(left) if weight < capacity]
    large = [i for i, weight in enumerate(left) if weight >= capacity]
    while small and large:
        poor, rich = small.pop(), large[-1]
        threshold[poor], other[poor] = left[poor], rich
        left[rich] -= capacity - left[poor]
        if left[rich] < capacity:
            small.append(large.pop())
    # Integers: what is left are slots that are exactly full, whose two values are the same.
    low = (1 << 64) - 1
    value = np.empty(2 * slots, dtype=np.int32)
    value[0::2] = other
    value[1::2] = np.arange(slots)
    return AliasTable(
        bits=bits,
        edge=np.array([(i << (64 - bits)) + (t >> 64) for i, t in enumerate(threshold)], dtype=np.uint64),
        rest=np.array([t & low for t in threshold], dtype=np.uint64),
        value=value + np.int32(first),
        weights=tuple(weights),
        first=first,
    )


# ---------------------------------------------------------------- fast samplers


def discrete_gaussian(sigma: float, size: int, entropy: ByteSource) -> IntVector:
    """Draw from the discrete Gaussian: P(x) ∝ exp(-x²/2σ²) on the integers.

    Cost: one word and 5 to 10 ns a sample up to σ = 1,024; beyond, three words and 20 to 40 ns.

    Args:
        sigma: the parameter σ, above 0 and at most 2^40; from σ = 1 on it is the standard deviation to 10 digits.
        size: how many samples.
        entropy: asked once, for 32 bytes.

    Returns:
        Independent samples, shape (size,), dtype int64, each within `DISTANCE_MAX` of the law.

    Raises:
        LocalError: sigma is not a number in range, or size is out of range.
    """
    _check("sigma", sigma, size)
    words = WordStream(entropy)
    out = np.empty(size, dtype=np.int64)
    if sigma <= GAUSSIAN_TABLE_MAX:
        alias_table("gaussian", float(sigma), half=False).draw(words, out)
    else:
        _draw_wide("gaussian", float(sigma), GAUSSIAN_TABLE_MAX, words, out)
    return out


def discrete_laplace(scale: float, size: int, entropy: ByteSource) -> IntVector:
    """Draw from the discrete Laplace law (two-sided geometric): P(x) ∝ exp(-|x|/scale) on the integers.

    Args:
        scale: above 0 and at most 2^40; sensitivity/epsilon for pure differential privacy.
        size: how many samples.
        entropy: asked once, for 32 bytes.

    Returns:
        Independent samples, shape (size,), dtype int64, each within `DISTANCE_MAX` of the law.

    Raises:
        LocalError: scale is not a number in range, or size is out of range.
    """
    _check("scale", scale, size)
    words = WordStream(entropy)
    out = np.empty(size, dtype=np.int64)
    if scale <= LAPLACE_TABLE_MAX:
        alias_table("laplace", float(scale), half=False).draw(words, out)
    else:
        _draw_wide("laplace", float(scale), LAPLACE_TABLE_MAX, words, out)
    return out


def _check(name: str, scale: float, size: int) -> None:
    if isinstance(scale, bool) or not (math.isfinite(scale) and 0 < scale <= SCALE_MAX):
        raise LocalError(f"{name} must be a number above 0 and at most 2^40", got=scale, needed=(0, SCALE_MAX))
    if not 0 <= size <= SAMPLES_MAX:
        raise LocalError("the number of samples is out of range", got=size, needed=(0, SAMPLES_MAX))


def _draw_wide(law: str, scale: float, table_max: float, words: WordStream, out: IntVector) -> None:
    """Fill `out` from a law too wide for a table: coarse part from the table, fine part uniform, reject.

    A pass accepts nearly all (the exponent is about b/(2^s)·a/σ'² ≤ 1/50 for most), so the loop ends after a few passes; the
    bound only states that it does: 200 passes fail to fill a chunk with probability below 2^-200.
    """
    shift = math.ceil(math.log2(scale / table_max))
    table = alias_table(law, math.ldexp(scale, -shift), half=True)
    for start in range(0, len(out), _CHUNK):
        part, filled = out[start : start + _CHUNK], 0
        for _ in range(200):
            kept = _wide_pass(law, scale, shift, table, words, len(part) - filled)
            part[filled : filled + len(kept)] = kept
            filled += len(kept)
            if filled == len(part):
                break
        assert filled == len(part)


def _wide_pass(law: str, scale: float, shift: int, table: AliasTable, words: WordStream, count: int) -> IntVector:
    """One pass of proposals: those that are accepted, at most `count`."""
    coarse = np.empty(count, dtype=np.int64)
    table.draw(words, coarse)
    word = words.take(count)
    fine = (word >> np.uint64(64 - shift)).view(np.int64)
    negative = (word & np.uint64(1)).view(np.int64)  # below the bits of `fine`, as shift ≤ 40
    magnitude = (coarse << shift) + fine
    climb = (coarse << shift) * 2.0 + fine
    gamma = fine * climb / (2 * scale * scale) if law == "gaussian" else fine / scale
    keep = _bernoulli_exp(gamma, words, lambda i: _exact_gamma(law, scale, int(coarse[i]) << shift, int(fine[i])))
    keep &= (magnitude != 0) | (negative == 0)  # zero has one sign only
    signed = (magnitude ^ -negative) + negative
    return signed[keep]


def _exact_gamma(law: str, scale: float, base: int, fine: int) -> Fraction:
    exact = Fraction(scale)
    return Fraction(fine * (2 * base + fine)) / (2 * exact * exact) if law == "gaussian" else Fraction(fine) / exact


def _bernoulli_exp(
    gamma: NDArray[np.float64], words: WordStream, exact_gamma: Callable[[int], Fraction]
) -> NDArray[np.bool_]:
    """Bernoulli(exp(-γ)) for each γ ≥ 0, decided by doubles away from the edge and by integers at it."""
    word = words.take(len(gamma))
    distance = np.exp(-gamma) - word * 2.0**-64
    keep: NDArray[np.bool_] = distance > 0
    for i in map(int, np.flatnonzero(np.abs(distance) < _EDGE)):
        keep[i] = _settle(int(word[i]), exact_gamma(i), words)
    return keep


def _settle(word: int, gamma: Fraction, words: WordStream) -> bool:
    """Whether the uniform number that begins with the 64 bits of `word` is below exp(-γ), with as many bits as it takes."""
    bits = 64
    while True:
        low, high = exp_bounds(gamma, bits + 8)
        if Fraction(word + 1, 1 << bits) <= low:
            return True
        if Fraction(word, 1 << bits) >= high:
            return False
        assert bits < 1 << 12  # each further word is undecided with probability 2^-64
        word = word << 64 | int(words.take(1)[0])
        bits += 64


def exp_bounds(gamma: Fraction, bits: int) -> tuple[Fraction, Fraction]:
    """Rationals just below and above exp(-γ), at most 2^-bits apart, for 0 ≤ γ."""
    context = decimal.Context(prec=bits // 3 + 20)
    quotient = context.divide(decimal.Decimal(-gamma.numerator), decimal.Decimal(gamma.denominator))
    value = Fraction(context.exp(quotient))
    margin = Fraction(1, 1 << (bits + 2))
    return max(Fraction(0), value - margin), min(Fraction(1), value + margin)


# ---------------------------------------------------------------- references


def exact_uniform(bound: int, entropy: ByteSource) -> int:
    """A uniform integer in 0 … bound-1, by rejection."""
    if bound < 1:
        raise LocalError("a uniform integer needs a positive bound", got=bound, needed=1)
    bits = bound.bit_length()
    size = (bits + 7) // 8
    while True:
        value = int.from_bytes(entropy(size), "big") >> (8 * size - bits)
        if value < bound:
            return value


def exact_bernoulli(probability: Fraction, entropy: ByteSource) -> bool:
    """True with exactly this rational probability."""
    return exact_uniform(probability.denominator, entropy) < probability.numerator


def exact_bernoulli_exp(gamma: Fraction, entropy: ByteSource) -> bool:
    """True with probability exp(-γ), γ ≥ 0 (algorithm 1 of the paper)."""
    if gamma < 0:
        raise LocalError("Bernoulli(exp(-γ)) needs γ ≥ 0", got=gamma, needed=0)
    while gamma > 1:
        if not exact_bernoulli_exp(Fraction(1), entropy):
            return False
        gamma -= 1
    k = 1
    while exact_bernoulli(gamma / k, entropy):
        k += 1
    return k % 2 == 1


def exact_discrete_laplace(scale: Fraction, entropy: ByteSource) -> int:
    """One sample of P(x) ∝ exp(-|x|/scale), scale = t/s rational (algorithm 2 of the paper)."""
    t, s = scale.numerator, scale.denominator
    while True:
        u = exact_uniform(t, entropy)
        if not exact_bernoulli_exp(Fraction(u, t), entropy):
            continue
        v = 0
        while exact_bernoulli_exp(Fraction(1), entropy):
            v += 1
        magnitude = (u + t * v) // s
        negative = exact_bernoulli(Fraction(1, 2), entropy)
        if negative and magnitude == 0:
            continue
        return -magnitude if negative else magnitude


def exact_discrete_gaussian(sigma_squared: Fraction, entropy: ByteSource) -> int:
    """One sample of P(x) ∝ exp(-x²/2σ²), σ² rational (algorithm 3 of the paper)."""
    t = math.isqrt(sigma_squared.numerator // sigma_squared.denominator) + 1
    while True:
        y = exact_discrete_laplace(Fraction(t), entropy)
        excess = abs(y) - sigma_squared / t
        if exact_bernoulli_exp(excess * excess / (2 * sigma_squared), entropy):
            return y
