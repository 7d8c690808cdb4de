"""From a real vector to bounded integers: clip, scale, round at random under a condition.

The condition and its bound are those of Kairouz, Liu and Steinke (ICML 2021, "Conditional randomized rounding").

Each coordinate is rounded up with a probability of its fractional part, so that the rounding is unbiased; the whole vector is
drawn again until its norm is within a bound that it meets with a probability of at least 1 − β. Noise therefore has to hide a
vector of norm √(c² + d/4 + …) rather than c + √d.
Invariant: what `quantize` returns has an L2 norm of at most `sensitivity(clip, scale, length)`, compared in integers: no
floating-point error of clipping or scaling can break it.
Pure: no clock, no I/O; entropy comes from the caller.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aicache.privacy.entropy import ByteSource
from aicache.privacy.errors import LocalError
from aicache.privacy.sampling import SEED_BYTES, Stream

BETA = math.exp(-0.5)
"""A draw misses the bound with at most this probability, 0.61."""
DRAWS_MAX = 256
"""All of them miss with a probability below 2⁻¹⁸⁴."""
SCALED_CLIP_MAX = 2.0**29
"""Squares of norms are added up in 64-bit integers."""
LENGTH_MAX = 2**34

FloatVector = npt.NDArray[np.float64]
IntVector = npt.NDArray[np.int64]


def _check_positive(name: str, value: float, most: float = math.inf) -> None:
    if not (math.isfinite(value) and 0 < value <= most):
        raise LocalError(f"{name} makes no sense", got=value, needed=f"above 0, finite, at most {most:g}")


def _check_vector(vector: FloatVector) -> None:
    if not isinstance(vector, np.ndarray) or vector.dtype != np.float64 or vector.ndim != 1 or vector.size == 0:
        got = (getattr(vector, "dtype", type(vector)), getattr(vector, "shape", None))
        raise LocalError("not a vector of reals", got=got, needed="float64, one axis, not empty")
    if not np.isfinite(vector).all():
        raise LocalError("the vector has coordinates that are no numbers", got="NaN or infinity", needed="finite")


def _root_of_squares(vector: FloatVector) -> float:
    # Not vector @ vector: BLAS wakes its threads for that, and summing pairwise gives the same bits on every machine.
    return math.sqrt(float(np.square(vector).sum()))


def l2_norm(vector: FloatVector) -> float:
    """The L2 norm, also where squares would overflow or vanish; infinity only where the norm itself overflows."""
    largest = float(np.abs(vector).max(initial=0.0))
    if 1e-140 < largest < 1e140:
        return _root_of_squares(vector)
    if largest == 0:
        return 0.0
    return largest * _root_of_squares(vector / largest)


def clip_l2(vector: FloatVector, clip: float) -> FloatVector:
    """Shorten a vector to an L2 norm of at most `clip` (up to rounding in the last place); shorter ones stay as they are.

    Args:
        vector: shape (d,), float64, finite.
        clip: C, above 0.

    Returns:
        A new vector of the same shape.

    Raises:
        LocalError: NaN, infinity, another type or shape, or a bound that makes no sense.
    """
    _check_vector(vector)
    _check_positive("clip", clip)
    norm = l2_norm(vector)
    if norm <= clip:
        return vector.copy()
    largest = float(np.abs(vector).max())
    unit = vector / largest  # first, so that nothing overflows
    return unit * (clip / _root_of_squares(unit))


def clip_layers(vector: FloatVector, layers: Sequence[int], clips: Sequence[float]) -> FloatVector:
    """Shorten each layer to its own norm; the whole then has a norm of at most √(Σ clip²).

    Args:
        vector: shape (d,), float64, finite: the layers one after another.
        layers: how many coordinates each has, d in all.
        clips: the L2 bound of each.

    Raises:
        LocalError: as `clip_l2`, or the layers do not make up the vector.
    """
    _check_vector(vector)
    if len(layers) != len(clips) or any(size < 1 for size in layers) or sum(layers) != vector.size:
        got = (list(layers), len(clips))
        raise LocalError("the layers do not make up the vector", got=got, needed=f"{vector.size} in all, a clip each")
    parts = np.split(vector, np.cumsum(layers)[:-1])
    return np.concatenate([clip_l2(part, clip) for part, clip in zip(parts, clips, strict=True)])


def _norm2_bound(clip: float, scale: float, length: int) -> int:
    _check_positive("clip", clip)
    _check_positive("scale", scale)
    if not 1 <= length <= LENGTH_MAX:
        raise LocalError("the length makes no sense", got=length, needed=f"1 … {LENGTH_MAX}")
    c = scale * clip
    _check_positive("scale · clip", c, SCALED_CLIP_MAX)
    root = math.sqrt(length)
    likely = c * c + length / 4 + math.sqrt(2 * math.log(1 / BETA)) * (c + root / 2)
    return math.floor(min((c + root) ** 2, likely))


def sensitivity(clip: float, scale: float, length: int) -> float:
    """How far one client's integers can move a sum (L2, add-or-remove).

    The root of ⌊min{(c + √d)², c² + d/4 + √(2 ln(1/β))(c + √d/2)}⌋ with c = scale · clip and β = e^(−1/2). Squared norms of
    integer vectors are integers, so rounding down loses nothing. Replacing one client's vector moves the sum by twice as much.

    Args:
        clip: C, the L2 bound before scaling.
        scale: integers a unit.
        length: d.

    Raises:
        LocalError: a number that makes no sense.
    """
    return math.sqrt(_norm2_bound(clip, scale, length))


def quantize(vector: FloatVector, *, clip: float, scale: float, entropy: ByteSource) -> IntVector:
    """Clip to `clip`, multiply by `scale`, and round at random to integers within `sensitivity(clip, scale, d)`.

    A coordinate x becomes ⌊x⌋ + 1 if a uniform 32-bit word is below (x − ⌊x⌋)·2³², else ⌊x⌋: unbiased to 2⁻³² before the
    condition. Leaving out the draws that are too long shifts the mean a little towards zero; the paper bounds by how much.

    Args:
        vector: shape (d,), float64, finite.
        clip: C, above 0.
        scale: above 0; scale · clip is at most 2²⁹.
        entropy: asked once, for a seed of 32 bytes.

    Returns:
        Shape (d,), int64.

    Raises:
        LocalError: NaN, infinity, another type or shape, or a number that makes no sense.
    """
    clipped = clip_l2(vector, clip)
    bound = _norm2_bound(clip, scale, vector.size)
    clipped *= scale
    floor = np.floor(clipped)
    clipped -= floor
    clipped *= 2.0**32
    whole = floor.astype(np.int64)
    stream = Stream(entropy(SEED_BYTES))
    for _ in range(DRAWS_MAX):
        words = np.frombuffer(stream(4 * vector.size), "<u4")
        rounded = whole + (words < clipped)
        if int(rounded @ rounded) <= bound:
            return rounded
    raise LocalError("no draw met the bound", got=f"{DRAWS_MAX} draws", needed="at least one, almost surely")
