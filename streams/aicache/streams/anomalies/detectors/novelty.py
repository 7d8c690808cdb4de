"""Is a real-valued series doing what it never did? Novelty of short windows at two scales, and surprise of the value.

A window is a few blocks, each told by its mean, or by its most extreme value if that lies outside of what the warm-up had. Its
novelty is the L1 distance to the nearest of all windows before it, in units of the warm-up's range. The surprise of a value is
−log2 of how often its level, of `levels` in that range, was seen. Their weighted sum is compared with its own decaying maximum, raised
with each alarm (habituation); after an alarm comes a pause. The score is ratio/(1 + ratio): an alarm is a score above 1/2.

Cost: a few µs a point (the nearest neighbour is sought once a block). Memory: twice `windows` blocks a scale, 4 bytes each. Nearest
neighbours in windows are of Keogh, Lin and Fu (HOT SAX, ICDM 2005); the rest was made and measured here. Pure.
"""

import math
from collections.abc import Hashable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from river import base

from aicache.privacy.errors import LocalError
from aicache.streams.anomalies.detectors import state

WINDOWS_MAX = 65_536
FAR = 1e6
"""Ranges away from the warm-up's after which a value is just far away."""
ALARM = 0.5
"""A score above this is an alarm."""
WARM_UP_MAX = 100_000
KEPT = ("low", "unit", "counts", "seen", "quiet_until", "max", "habit")


@dataclass(frozen=True, slots=True)
class Parameters:
    """What was tuned, on three categories of the Numenta Anomaly Benchmark (artificial ones and known causes), the others held back.

    Attributes:
        scales: block (points), length of a window (blocks) and weight of its novelty, of each scale.
        levels: of a value, within the warm-up's range; as many again lie below, and above.
        prior: times that each level counts as seen before.
        surprise: weight of ten bits.
        decay: of the maximum, a point.
        floor: of the maximum, in units of the warm-up's range.
        above: how many times the maximum is an alarm.
        habituation: what each alarm multiplies that with; `forgetting` of the rise a point.
        forgetting: see above.
        pause: points without alarm after one, as a share of the warm-up.
        windows: of a scale that are remembered; older ones are forgotten.
    """

    scales: tuple[tuple[int, int, float], ...] = ((7, 5, 1.0), (3, 3, 0.6))
    levels: int = 12
    prior: float = 0.1
    surprise: float = 0.15
    decay: float = 0.98
    floor: float = 0.2
    above: float = 0.85
    habituation: float = 1.2
    forgetting: float = 0.9993
    pause: float = 0.16
    windows: int = 4_096

    def __post_init__(self) -> None:
        if not 1 <= self.windows <= WINDOWS_MAX or self.levels < 1 or any(min(scale) <= 0 for scale in self.scales):
            raise LocalError("no such parameters", got=self, needed=f"1 … {WINDOWS_MAX} windows, scales above 0")


def read_parameters(fields: dict[str, Any]) -> Parameters:
    """The parameters that `asdict` wrote, after JSON."""
    scales = tuple((int(block), int(length), float(weight)) for block, length, weight in fields["scales"])
    return Parameters(**{**fields, "scales": scales})


class _Scale:
    """Blocks and windows of one scale, in units of the warm-up's range: inside of it lies 0 to 1."""

    __slots__ = ("_ahead", "_blocks", "_count", "_length", "_room", "_sum", "_windows", "block", "novelty", "points")

    def __init__(self, block: int, length: int, windows: int) -> None:
        self.block, self._length, self._windows = block, length, windows
        self.points: list[float] = []
        self.novelty = 0.0
        self._blocks = np.zeros(2 * (windows + length), dtype=np.float32)
        self._room, self._sum = np.zeros((2, windows), dtype=np.float32)
        self._count = 0
        self._ahead: tuple[float, np.float32, float] | None = None

    def ahead(self, value: float) -> float:
        """The novelty once this point is taken; a new one if the point completes a block, and with it a window."""
        if len(self.points) + 1 < self.block:
            return self.novelty
        points = [*self.points, value]
        top, bottom, mean = max(points), min(points), sum(points) / self.block
        extreme = top if top - mean >= mean - bottom else bottom
        own = np.float32(mean if 0 <= extreme <= 1 else extreme)
        novelty = self._nearest(own)
        self._ahead = (value, own, novelty)
        return novelty

    def add(self, value: float) -> None:
        """Take a point."""
        if len(self.points) + 1 < self.block:
            self.points.append(value)
            return
        if self._ahead is None or self._ahead[0] != value:
            self.ahead(value)
            assert self._ahead is not None
        _, own, self.novelty = self._ahead
        self._ahead = None
        self.points.clear()
        if self._count == len(self._blocks):
            keep = self._windows + self._length
            self._blocks[:keep] = self._blocks[self._count - keep :]
            self._count = keep
        self._blocks[self._count] = own
        self._count += 1

    def blocks(self) -> npt.NDArray[np.float32]:
        """Those that windows may still begin at."""
        return self._blocks[max(0, self._count - self._windows - self._length) : self._count]

    def restore(self, points: list[float], blocks: npt.NDArray[np.float32], novelty: float) -> None:
        """Become what gave these."""
        self.points, self.novelty, self._count = points, novelty, len(blocks)
        self._blocks[: self._count] = blocks

    def _nearest(self, own: np.float32) -> float:
        """The distance a block of the window that ends with this block to the nearest one before it."""
        length, count, blocks = self._length, self._count, self._blocks
        windows = min(count - length + 1, self._windows)
        if windows < 1:
            return 0.0
        first = count - length + 1 - windows
        distance, room = self._sum[:windows], self._room[:windows]
        for offset in range(length):
            into = room if offset else distance
            now = own if offset == length - 1 else blocks[count - length + 1 + offset]
            np.subtract(blocks[first + offset : first + offset + windows], now, out=into)
            np.abs(into, out=into)
            if offset:
                distance += room
        return float(distance.min()) / length


class WindowNovelty(base.AnomalyDetector):
    """Scores values of one series by how new what they do is.

    Args:
        warm_up: points that are learned before any is scored; a season or more.
        parameters: see there.

    Examples:
        >>> detector = WindowNovelty(warm_up=200)
        >>> scores = []
        >>> for n in range(600):
        ...     x = {"value": n % 20 + (100.0 if n == 500 else 0.0)}
        ...     scores.append(detector.score_one(x))
        ...     detector.learn_one(x)
        >>> [n for n, score in enumerate(scores) if score > ALARM]
        [500]
    """

    def __init__(self, warm_up: int = 500, parameters: Parameters | None = None) -> None:
        if not 1 <= warm_up <= WARM_UP_MAX:
            raise LocalError("no such warm-up", got=warm_up, needed=f"1 … {WARM_UP_MAX}")
        self.warm_up = warm_up
        self.parameters = parameters
        self._p = parameters or Parameters()
        self._low, self._unit = 0.0, 1.0
        self._counts = [0] * (3 * self._p.levels + 1)
        self._seen = self._quiet_until = 0
        self._first: list[float] = []
        self._scales = [(_Scale(block, length, self._p.windows), weight) for block, length, weight in self._p.scales]
        self._max = self._p.floor
        self._habit = 1.0

    def _unit_test_skips(self) -> set[str]:
        """River's checks that need more than one value a point."""
        return {"check_emerging_features", "check_disappearing_features", "check_radically_disappearing_features"}

    def score_one(self, x: dict[Hashable, Any]) -> float:
        """How new the value is, 0 to 1; above `ALARM` is an alarm. 0 while warming up, and where the value is no finite number."""
        value = _value(x)
        if self._seen < self.warm_up or not math.isfinite(value):
            return 0.0
        return self._score(self._strength(value))

    def learn_one(self, x: dict[Hashable, Any]) -> None:
        """Learn a value; what is no finite number is left out."""
        value = _value(x)
        if math.isfinite(value):
            self.update(value)

    def update(self, value: float) -> float:
        """Score a finite value and learn it: `score_one` and `learn_one` in one."""
        if self._seen < self.warm_up:
            self._first.append(value)
            self._seen += 1
            if self._seen == self.warm_up:
                self._begin()
            return 0.0
        strength = self._strength(value)
        score = self._score(strength)
        p = self._p
        if score > ALARM:
            self._quiet_until = self._seen + int(p.pause * self.warm_up)
            self._habit *= p.habituation
        self._max = max(self._max * p.decay, strength, p.floor)
        self._habit = 1 + (self._habit - 1) * p.forgetting
        self._take(value)
        return score

    def to_bytes(self) -> bytes:
        """All that it has learned; `from_bytes` of it goes on with the same scores."""
        scales = [scale for scale, _ in self._scales]
        fields = {
            "warm_up": self.warm_up,
            "parameters": None if self.parameters is None else asdict(self.parameters),
            **{name: getattr(self, f"_{name}") for name in KEPT},
            "points": [scale.points for scale in scales],
            "novelty": [scale.novelty for scale in scales],
        }
        blocks = {str(place): scale.blocks() for place, scale in enumerate(scales)}
        return state.pack("WindowNovelty", fields, {**blocks, "first": np.array(self._first, dtype=np.float64)})

    @classmethod
    def from_bytes(cls, data: bytes) -> "WindowNovelty":
        """The detector that wrote these bytes.

        Raises:
            LocalError: they are of another one, or damaged.
        """
        fields, arrays = state.unpack("WindowNovelty", data)
        parameters = None if fields["parameters"] is None else read_parameters(fields["parameters"])
        made = cls(fields["warm_up"], parameters)
        for name in KEPT:
            setattr(made, f"_{name}", fields[name])
        made._first = arrays["first"].tolist()
        for place, (scale, _) in enumerate(made._scales):
            scale.restore(fields["points"][place], arrays[str(place)], fields["novelty"][place])
        return made

    def _score(self, strength: float) -> float:
        if self._seen < self._quiet_until:
            return 0.0
        ratio = strength / (self._max * self._habit * self._p.above)
        return ratio / (1 + ratio)

    def _strength(self, value: float) -> float:
        """Novelty and surprise together, in units of the warm-up's range."""
        p = self._p
        inside = self._inside(value)
        novelty = 0.0
        for scale, weight in self._scales:
            novelty += weight * scale.ahead(inside)
        seen = (self._counts[self._level(inside)] + p.prior) / (self._seen + p.prior * (p.levels + 1))
        return novelty - p.surprise / 10 * math.log2(seen)

    def _inside(self, value: float) -> float:
        """The value in units of the warm-up's range, at most `FAR` of them away."""
        return min(max((value - self._low) / self._unit, -FAR), FAR)

    def _level(self, inside: float) -> int:
        levels = self._p.levels
        return math.floor(min(max(inside * levels, -levels), 2 * levels)) + levels

    def _take(self, value: float) -> None:
        inside = self._inside(value)
        for scale, _ in self._scales:
            scale.add(inside)
        self._counts[self._level(inside)] += 1
        self._seen += 1

    def _begin(self) -> None:
        """Learn the warm-up now that its range is known; its second half says how strong is usual."""
        self._low, high = min(self._first), max(self._first)
        self._unit = (high - self._low) or max(abs(high), 1.0) / 100
        self._seen = 0
        for place, value in enumerate(self._first):
            strength = self._strength(value)
            if place >= self.warm_up // 2:
                self._max = max(self._max, strength)
            self._take(value)
        self._first = []


def _value(x: dict[Hashable, Any]) -> float:
    """The one value of a point."""
    if len(x) != 1:
        raise LocalError("a point of a series has one value", got=len(x), needed=1)
    (value,) = x.values()
    return float(value)
