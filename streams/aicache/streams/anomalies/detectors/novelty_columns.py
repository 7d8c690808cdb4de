"""`WindowNovelty` for many series side by side: one array operation for all of them, the same scores. Pure.

Cost: about 1 µs a point with 1,000 series. Memory: `WINDOWS_MAX` blocks a scale and series, allocated as they come.
"""

import numpy as np
import numpy.typing as npt

from aicache.privacy.errors import LocalError
from aicache.streams.anomalies.detectors.novelty import ALARM, FAR, WINDOWS_MAX, Parameters

CACHE_NUMBERS = 32_768
"""Numbers of 4 bytes that are worked on at once."""

Floats = npt.NDArray[np.float64]


class _Scale:
    """Blocks of one scale, a row a block and a column a series, in units of the warm-up's range."""

    def __init__(self, series: int, block: int, length: int) -> None:
        self._length = length
        self._points = np.zeros((block, series))
        self._filled = 0
        self._blocks = np.zeros((64, series), dtype=np.float32)
        self._count = 0
        self._rows = max(1, CACHE_NUMBERS // max(1, series))
        self._room, self._sum = np.zeros((2, self._rows, series), dtype=np.float32)
        self.novelty = np.zeros(series)

    def add(self, inside: Floats) -> Floats:
        """Take a point of each series; the novelty with it."""
        points = self._points
        points[self._filled] = inside
        self._filled += 1
        if self._filled == len(points):
            self._filled = 0
            top, bottom, mean = points.max(axis=0), points.min(axis=0), points.sum(axis=0) / len(points)
            extreme = np.where(top - mean >= mean - bottom, top, bottom)
            self._append(np.where((extreme >= 0) & (extreme <= 1), mean, extreme))
            self.novelty = self._nearest()
        return self.novelty

    def _append(self, own: Floats) -> None:
        if self._count == len(self._blocks):
            keep = WINDOWS_MAX + self._length
            if len(self._blocks) < 2 * keep:
                self._blocks = np.concatenate([self._blocks, np.zeros_like(self._blocks)])[: 2 * keep]
            else:
                self._blocks[:keep] = self._blocks[self._count - keep :]
                self._count = keep
        self._blocks[self._count] = own
        self._count += 1

    def _nearest(self) -> Floats:
        """See the single detector's; in pieces that stay in the processor's cache."""
        length, blocks = self._length, self._blocks
        windows = min(self._count - length, WINDOWS_MAX)
        if windows < 1:
            return np.zeros_like(self.novelty)
        first, own = self._count - length - windows, blocks[self._count - length : self._count]
        best = np.full(blocks.shape[1], np.inf, dtype=np.float32)
        for start in range(first, first + windows, self._rows):
            rows = min(self._rows, first + windows - start)
            distance, room = self._sum[:rows], self._room[:rows]
            for offset in range(length):
                into = room if offset else distance
                np.subtract(blocks[start + offset : start + offset + rows], own[offset], out=into)
                np.abs(into, out=into)
                if offset:
                    distance += room
            np.minimum(best, distance.min(axis=0), out=best)
        return best.astype(np.float64) / length


class WindowNoveltyColumns:
    """Scores a point of each series at a time.

    Args:
        series: how many.
        warm_up: points of each that are learned before any is scored.
        parameters: see `WindowNovelty`.
    """

    def __init__(self, series: int, warm_up: int = 500, parameters: Parameters | None = None) -> None:
        self.warm_up = warm_up
        self._p = p = parameters or Parameters()
        self._each = np.arange(series)
        self._low = np.zeros(series)
        self._unit = np.ones(series)
        self._counts = np.zeros((series, 3 * p.levels + 1))
        self._seen = 0
        self._quiet_until = np.zeros(series, dtype=np.int64)
        self._first: list[Floats] = []
        self._scales = [(_Scale(series, block, length), weight) for block, length, weight in p.scales]
        self._max = np.full(series, p.floor)
        self._habit = np.ones(series)

    def update(self, values: Floats) -> Floats:
        """Score a value of each series and learn it.

        Args:
            values: finite, shape (series,).

        Returns:
            Scores 0 to 1, above `ALARM` an alarm; shape (series,).

        Raises:
            LocalError: wrong shape, or not finite; nothing was learned.
        """
        if values.shape != self._each.shape or not np.isfinite(values).all():
            raise LocalError("a column is a finite value a series", got=values.shape, needed=self._each.shape)
        if self._seen < self.warm_up:
            self._first.append(values.astype(np.float64))
            if len(self._first) == self.warm_up:
                self._begin()
            self._seen = len(self._first)
            return np.zeros(len(values))
        p = self._p
        strength = self._take(values)
        ratio = strength / (self._max * self._habit * p.above)
        score = np.where(self._seen - 1 < self._quiet_until, 0.0, ratio / (1 + ratio))
        alarm = score > ALARM
        if alarm.any():
            self._quiet_until[alarm] = self._seen - 1 + int(p.pause * self.warm_up)
            self._habit[alarm] *= p.habituation
        self._max = np.maximum(np.maximum(self._max * p.decay, strength), p.floor)
        self._habit = 1 + (self._habit - 1) * p.forgetting
        return score

    def _take(self, values: Floats) -> Floats:
        """Learn a point of each series; how strong it was."""
        p = self._p
        inside = np.clip((values - self._low) / self._unit, -FAR, FAR)
        novelty = np.zeros(len(values))
        for scale, weight in self._scales:
            novelty += weight * scale.add(inside)
        level = np.floor(np.clip(inside * p.levels, -p.levels, 2 * p.levels)).astype(np.int64) + p.levels
        seen = (self._counts[self._each, level] + p.prior) / (self._seen + p.prior * (p.levels + 1))
        self._counts[self._each, level] += 1
        self._seen += 1
        strength: Floats = novelty - p.surprise / 10 * np.log2(seen)
        return strength

    def _begin(self) -> None:
        first = np.stack(self._first)
        self._low, high = first.min(axis=0), first.max(axis=0)
        self._unit = np.where(high > self._low, high - self._low, np.maximum(np.abs(high), 1.0) / 100)
        self._seen = 0
        for place, values in enumerate(self._first):
            strength = self._take(values)
            if place >= self.warm_up // 2:
                self._max = np.maximum(self._max, strength)
