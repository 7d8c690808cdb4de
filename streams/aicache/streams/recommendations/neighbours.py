"""Item-to-item neighbours whose counts fade with time (Sarwar et al., WWW 2001, with exponential decay).

For each item the `width` heaviest neighbours are kept at several speeds of forgetting. A full row replaces its lightest entry and
the newcomer inherits its count (SpaceSaving; Metwally, Agrawal, El Abbadi, ICDT 2005): a count is too high by at most W/width,
where W is all that the row has ever received, decayed. Memory: 4·(1 + speeds)·width bytes an item.
Cost of an example: O(speeds) a context item. Cost of a question: O(width · speeds) a context item.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aicache.streams.recommendations.ranker import Ranker, Scores, grown

SCALE_MAX = 1e6
"""Counts are kept in units that grow instead of fading one by one; beyond this they are rescaled once."""


class Neighbours(Ranker):
    """The log of the mean probability of an item given each item at hand, smoothed by its base rate.

    Args:
        half_lives: events after which a count weighs half, one for each speed; the last one is used for scores.
        width: neighbours kept an item.
        smoothing: examples' worth of base rate that is mixed into each conditional probability.
        window: how many of the newest items at hand count.
        directed: whether only what came after an item counts as its neighbour (transitions).

    Examples:
        >>> neighbours = Neighbours()
        >>> for _ in range(3):
        ...     neighbours.learn_basket(["tag:wifi", "tag:driver"])
        >>> neighbours.learn_basket(["tag:boot", "tag:grub"])
        >>> neighbours.rank(["tag:wifi"], k=1)[0][0]
        'tag:driver'
    """

    def __init__(
        self,
        half_lives: tuple[float, ...] = (700.0, 5_500.0, 42_000.0),
        width: int = 256,
        smoothing: float = 3.0,
        window: int = 16,
        directed: bool = False,
    ) -> None:
        super().__init__()
        self.half_lives = half_lives
        self.width = width
        self.smoothing = smoothing
        self.window = window
        self.directed = directed
        speeds = len(half_lives)
        self._growth = np.exp2(1.0 / np.asarray(half_lives))
        self._scale = np.ones(speeds)
        self._total = np.zeros((64, speeds), dtype=np.float32)
        self._ids = np.zeros((64, width), dtype=np.int32)
        self._counts = np.zeros((64, speeds, width), dtype=np.float32)
        self._slots: list[dict[int, int]] = []

    def begin(self) -> None:
        """Let everything fade by one event."""
        self._scale *= self._growth
        if self._scale.max() > SCALE_MAX:
            inverse = (1.0 / self._scale).astype(np.float32)
            self._total *= inverse
            self._counts *= inverse[:, None]
            self._scale[:] = 1.0

    def learn(self, context: Sequence[int], target: int) -> None:
        """See `Ranker.learn`."""
        self._make_room(max((target, *context)) + 1)
        unit = self._scale.astype(np.float32)
        self._total[target] += unit
        for item in context[-self.window :]:
            self._count(item, target, unit)

    def learn_back(self, context: Sequence[int], target: int) -> None:
        """The other direction of an example that came as a sequence: each item at hand is a neighbour of the target too."""
        unit = self._scale.astype(np.float32)
        for item in context[-self.window :]:
            self._count(target, item, unit)

    def _count(self, item: int, neighbour: int, unit: NDArray[np.float32]) -> None:
        slots = self._slots[item]
        slot = slots.get(neighbour)
        if slot is None:
            slot = len(slots)
            if slot == self.width:
                slot = int(self._counts[item, -1].argmin())
                del slots[int(self._ids[item, slot])]
            slots[neighbour] = slot
            self._ids[item, slot] = neighbour
        self._counts[item, :, slot] += unit

    def _make_room(self, size: int) -> None:
        self._total = grown(self._total, size)
        self._counts = grown(self._counts, size)
        self._ids = grown(self._ids, size)
        while len(self._slots) < size:
            self._slots.append({})

    def scores(self, context: Sequence[int]) -> Scores:
        """See `Ranker.scores`."""
        return self.features(context)[len(self.half_lives) - 1]

    def knows(self, item: int) -> bool:
        """Whether an item has come before: nothing can be told of how well one is ranked that never did."""
        return item < len(self._slots) and bool(self._total[item, -1] > 0)

    def conditional(self, item: int, neighbour: int) -> float:
        """How often, of 1, `neighbour` came with `item`, by the slowest speed and smoothed towards never."""
        if item >= len(self._slots) or (slot := self._slots[item].get(neighbour)) is None:
            return 0.0
        scale = float(self._scale[-1])
        return float(self._counts[item, -1, slot] / scale / (self._total[item, -1] / scale + self.smoothing))

    def row(self, item: int) -> tuple[float, list[int], NDArray[np.float32]]:
        """How often an item came, by the slowest speed of forgetting; its neighbours, and how often each came with it."""
        if item >= len(self._slots):
            return 0.0, [], np.zeros(0, dtype=np.float32)
        slots, scale = self._slots[item], self._scale[-1]
        counts = self._counts[item, -1, list(slots.values())] / np.float32(scale)
        return float(self._total[item, -1] / scale), list(slots), counts

    def features(self, context: Sequence[int]) -> NDArray[np.float32]:
        """Log mean conditional probabilities, then log base rates, a row a speed: shape (2 · speeds, len(self.vocabulary))."""
        size, speeds = len(self.vocabulary), len(self.half_lives)
        self._make_room(size)
        rate = self._total[:size].T / self._scale[:, None].astype(np.float32) + np.float32(1e-3)
        base = rate / rate.sum(axis=1, keepdims=True)
        result = np.empty((2 * speeds, size), dtype=np.float32)
        np.log(base, out=result[speeds:])
        if not context:
            result[:speeds] = result[speeds:]
            return result
        scale = self._scale.astype(np.float32)
        recent = list(context[-self.window :])
        weight = 1.0 / (self._total[recent] / scale + np.float32(self.smoothing))  # (context, speeds)
        mean = base * (np.float32(self.smoothing) * weight.sum(axis=0))[:, None]
        for row, item in enumerate(recent):
            used = len(self._slots[item])
            mean[:, self._ids[item, :used]] += self._counts[item, :, :used] * (weight[row] / scale)[:, None]
        np.log(mean / np.float32(len(recent)), out=result[:speeds])
        return result

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """See `Ranker.arrays`."""
        size = len(self._slots)
        return {
            "scale": self._scale.copy(),
            "total": self._total[:size].copy(),
            "ids": self._ids[:size].copy(),
            "counts": self._counts[:size].copy(),
            "used": np.array([len(slots) for slots in self._slots], dtype=np.int32),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """See `Ranker.restore`."""
        self._scale = np.array(arrays["scale"], dtype=np.float64)
        self._total = np.array(arrays["total"], dtype=np.float32)
        self._ids = np.array(arrays["ids"], dtype=np.int32)
        self._counts = np.array(arrays["counts"], dtype=np.float32)
        self._slots = [
            {int(item): slot for slot, item in enumerate(ids[:used])}
            for ids, used in zip(self._ids, arrays["used"].tolist(), strict=True)
        ]
