"""How a client bounds its vector: flat, per layer, or by a private quantile; and counts of people with noise and a threshold.

Whatever the rule, the L2 norm of all that is masked is at most C, so sensitivity, noise and budget follow from C alone.
Flat: the whole vector is shortened to C. Per layer: each layer to its own bound, and C is the root of the sum of their squares.
Adaptive: the clip follows a quantile of the clients' norms (Andrew, Thakkar, McMahan, Ramaswamy, NeurIPS 2021): each client's bit
"my norm is within the clip" travels as one more coordinate of the same masked vector, under the same noise and the same budget, so
it costs no second mechanism; C bounds vector and bit together.
Counts of people are released with discrete Laplace noise, and only above a threshold that makes a name that a single person
brought in show up with probability at most delta (Korolova et al. 2009; thresholds from the exact tail of the law).
Pure: no clock, no I/O; entropy comes from the caller.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aicache.privacy import noise
from aicache.privacy.accounting import RoundGuarantee, check_delta, check_epsilon
from aicache.privacy.entropy import ByteSource
from aicache.privacy.errors import LocalError
from aicache.privacy.guarantees import CLIENT, Approximate, Scope
from aicache.privacy.quantize import clip_l2, clip_layers, l2_norm

FloatVector = NDArray[np.float64]

CLIP_MIN, CLIP_MAX = 1e-9, 1e9
ROUNDING = 1e-9
"""Two ways of computing the same clip differ by less, relative."""
FLAT, PER_LAYER, ADAPTIVE = "flat", "per-layer", "adaptive"


# ---------------------------------------------------------------- adaptive clipping


@dataclass(frozen=True, slots=True)
class AdaptiveClip:
    """How the clip follows the norms.

    Args:
        quantile: share of the clients whose norm should be within the clip, strictly between 0 and 1.
        rate: step of the geometric update, above 0 and at most 1 (the paper uses 0.2).
        weight: how loudly the bit speaks, in units of the clip; the joint norm is clip·√(1 + weight²/4).
    """

    quantile: float = 0.5
    rate: float = 0.2
    weight: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise LocalError("the quantile lies strictly between 0 and 1", got=self.quantile, needed=(0, 1))
        if not 0 < self.rate <= 1:
            raise LocalError("the rate is above 0 and at most 1", got=self.rate, needed=(0, 1))
        if not 0 < self.weight <= 4:
            raise LocalError("the weight of the bit is above 0 and at most 4", got=self.weight, needed=(0, 4))

    def joint_clip(self, clip: float) -> float:
        """L2 bound of the clipped vector and its bit together: what sensitivity is computed from.

        The vector's norm is at most clip, the bit's coordinate is ±weight·clip/2, and orthogonal parts add in squares.
        """
        _check_clip(clip)
        return clip * math.sqrt(1 + self.weight * self.weight / 4)

    def vector_clip(self, joint: float) -> float:
        """The inverse: what is left for the vector itself where vector and bit together have the bound `joint`."""
        return joint / self.joint_clip(1.0)

    def with_bit(self, vector: FloatVector, clip: float) -> FloatVector:
        """Clip a vector and append its bit: shape (d,) becomes (d + 1,), norm at most `joint_clip(clip)`."""
        _check_clip(clip)
        # Shrunk by a hair more than needed, so that rounding of the quotient never leaves the norm above the clip.
        shortened = clip_l2(vector, clip * (1 - 1e-12))
        within = 0.5 if l2_norm(vector) <= clip else -0.5
        return np.append(shortened, within * self.weight * clip)

    def next_clip(self, clip: float, bit_sum: float, n: int) -> float:
        """The clip of the next round, from the opened sum of the bits' coordinate.

        Args:
            clip: of the round that was opened.
            bit_sum: the last coordinate of its sum, in the vector's unit (unscaled).
            n: clients in the sum.

        Returns:
            clip·exp(-rate·(share within - quantile)), the share cut to 0 … 1, the result to 10^-9 … 10^9.
        """
        _check_clip(clip)
        if n < 1 or not math.isfinite(bit_sum):
            raise LocalError("the next clip needs a finite sum over at least one client", got=n, needed=1)
        share = min(1.0, max(0.0, 0.5 + bit_sum / (self.weight * clip * n)))
        return min(CLIP_MAX, max(CLIP_MIN, clip * math.exp(-self.rate * (share - self.quantile))))


@dataclass(frozen=True, slots=True)
class Clipping:
    """The rule of a round.

    Args:
        clip: C, the L2 bound of all that is masked, before scaling.
        layers: lengths of the layers; empty where clipping is not per layer.
        clips: the L2 bound of each; the root of the sum of their squares is at most C.
        adaptive: how the clip follows the norms; None where it does not.
    """

    clip: float
    layers: Sequence[int] = ()
    clips: Sequence[float] = ()
    adaptive: AdaptiveClip | None = None

    def __post_init__(self) -> None:
        _check_clip(self.clip)
        if len(self.layers) != len(self.clips) or (self.layers and self.adaptive is not None):
            got = (len(self.layers), len(self.clips), self.adaptive)
            raise LocalError(
                "layers have a clip each, and none of them adapts", got=got, needed="as many clips as layers"
            )
        if any(size < 1 for size in self.layers):
            raise LocalError("a layer has at least one coordinate", got=min(self.layers), needed=1)
        for clip in self.clips:
            _check_clip(clip)
        together = math.hypot(*self.clips)
        if together > self.clip * (1 + ROUNDING):
            raise LocalError("the layers together pass the clip", got=together, needed=f"≤ {self.clip:g}")

    @property
    def extra(self) -> int:
        """Coordinates that are masked besides the vector's own: the bit, where the clip adapts."""
        return 0 if self.adaptive is None else 1

    def apply(self, vector: FloatVector) -> FloatVector:
        """What is scaled, rounded and masked: shape (d + extra,), norm at most C up to rounding in the last place.

        The quantizer clips to C once more, so that no error here can pass the bound.

        Raises:
            LocalError: NaN, infinity, another type or shape, or layers that do not make up the vector.
        """
        if self.adaptive is not None:
            return self.adaptive.with_bit(vector, self.adaptive.vector_clip(self.clip))
        if self.layers:
            return clip_layers(vector, self.layers, self.clips)
        return vector  # the quantizer's clip is the rule


def _check_clip(clip: float) -> None:
    if not (math.isfinite(clip) and clip > 0):
        raise LocalError("the clip must be a finite number above 0", got=clip, needed=0)


# ---------------------------------------------------------------- counts of people


@dataclass(frozen=True, slots=True)
class PeopleCounts:
    """How counts of people are published.

    Args:
        epsilon: of the whole table.
        delta: probability that it names something that only one person brought in.
        names_max: how many names one person may count towards; whoever counts cuts each person down to that.
        minimum: never publish a (noisy) count below this, whatever epsilon allows.
    """

    epsilon: float
    delta: float
    names_max: int = 1
    minimum: int = 5
    scope: Scope = CLIENT
    scale: float = field(init=False)
    threshold: int = field(init=False)

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        check_delta(self.delta)
        if self.names_max < 1 or self.minimum < 1:
            raise LocalError("names and minimum are at least 1", got=(self.names_max, self.minimum), needed=1)
        scale = self.names_max / self.epsilon
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "threshold", max(self.minimum, count_threshold(scale, self.delta / self.names_max)))

    @property
    def guarantee(self) -> Approximate:
        """Of the whole table, for one person."""
        return Approximate(self.epsilon, self.delta, self.scope)

    def published(self, window: str) -> RoundGuarantee:
        """The guarantee in the fields of the record.

        Its list of divergences is empty: a name that one person brought in shows with probability delta, and no finite Rényi
        divergence says that. Several such tables compose by adding epsilons and deltas.

        Args:
            window: what one release spans, for example `day`.
        """
        ratio = math.exp(-1 / self.scale)
        return RoundGuarantee(
            mechanism="discrete-laplace",
            noise="central",
            unit=self.scope.unit,
            neighbouring=self.scope.neighbouring,
            window=window,
            epsilon=self.epsilon,
            delta=self.delta,
            sensitivity=math.sqrt(self.names_max),
            sigma=math.sqrt(2 * ratio) / (1 - ratio),
            honest=0,
            rdp=[],
        )

    def release(self, counts: Mapping[str, int], entropy: ByteSource) -> dict[str, int]:
        """The noisy counts that reach the threshold.

        Args:
            counts: how many different people, by name, each person in at most `names_max` of them. Zeros may be left out: a
                name that nobody brought in is not published.
            entropy: fresh secret bytes.

        Returns:
            Names and noisy counts, in the names' order.
        """
        names = sorted(name for name, count in counts.items() if count > 0)
        drawn = noise.discrete_laplace(self.scale, len(names), entropy)
        noisy = {name: counts[name] + int(extra) for name, extra in zip(names, drawn, strict=True)}
        return {name: count for name, count in noisy.items() if count >= self.threshold}


def count_threshold(scale: float, delta: float) -> int:
    """The smallest threshold that one person's count of 1, with noise, reaches with probability at most delta.

    P(1 + X ≥ t) = P(X ≥ t-1) = e^(-(t-1)/s)/(1 + e^(-1/s)) for t ≥ 2 (discrete Laplace at scale s).
    """
    check_delta(delta)
    log_delta = math.log(delta) + math.log1p(math.exp(-1 / scale))
    return max(2, 1 + math.ceil(-scale * log_delta - 1e-12))
