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
RATE_MIN = 1e-3
"""Examples' worth that every item has, so that its base rate has a logarithm."""


class Neighbours(Ranker):
    """The log of the mean probability of an item given each item at hand, smoothed by its base rate.

    Args:
        half_lives: events after which a count weighs half, one for each speed; the last one is used for scores.
        width: neighbours kept an item.
        smoothing: examples' worth of base rate that is mixed into each conditional probability.
        window: how many of the newest items at hand count in a sequence.
        basket: how many items of a set count.
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
        basket: int = 64,
        directed: bool = False,
    ) -> None:
        super().__init__()
        self.half_lives = half_lives
        self.width = width
        self.smoothing = smoothing
        self.window = window
        self.basket = basket
        self.directed = directed
        speeds = len(half_lives)
        self._growth = np.exp2(1.0 / np.asarray(half_lives))
        self._scale = np.ones(speeds)
        self._fastest = int(self._growth.argmax())
        self._total = np.zeros((speeds, 64), dtype=np.float32)
        self._ids = np.zeros((64, width), dtype=np.int32)
        self._counts = np.zeros((speeds, 64, width), dtype=np.float32)
        self._slots: list[dict[int, int]] = []

    def fade(self) -> None:
        """See `Ranker.fade`."""
        self._scale *= self._growth
        if self._scale[self._fastest] > SCALE_MAX:
            inverse = (1.0 / self._scale).astype(np.float32)
            self._total *= inverse[:, None]
            self._counts *= inverse[:, None, None]
            self._scale[:] = 1.0

    def learn(self, context: Sequence[int], target: int) -> None:
        """See `Ranker.learn`: each of the newest items at hand is a neighbour of the target and, if not directed, the reverse."""
        recent = context[-self.window :]
        self._make_room(max((target, *recent)) + 1)
        places = [self._place(item, target) for item in recent]
        if not self.directed:
            places += [self._place(target, item) for item in recent]
        self._add(places, target)

    def learn_set(self, numbers: Sequence[int]) -> None:
        """See `Ranker.learn_set`."""
        if numbers:
            self._make_room(max(numbers) + 1)
            near = numbers[-self.basket :]
            self._add([self._place(item, other) for item in near for other in near if item != other], list(numbers))

    def _add(self, places: list[int], targets: int | list[int]) -> None:
        unit = self._scale.astype(np.float32)
        self._total.T[targets] += unit
        if places:
            self._counts.reshape(len(unit), -1)[:, np.array(places, dtype=np.intp)] += unit[:, None]

    def _place(self, item: int, neighbour: int) -> int:
        """Where the count of a pair is, among all counts."""
        slots = self._slots[item]
        slot = slots.get(neighbour)
        if slot is None:
            slot = len(slots)
            if slot == self.width:
                slot = int(self._counts[-1, item].argmin())
                del slots[int(self._ids[item, slot])]
            slots[neighbour] = slot
            self._ids[item, slot] = neighbour
        return item * self.width + slot

    def _make_room(self, size: int) -> None:
        if size <= len(self._slots):
            return
        if size > len(self._ids):
            self._ids = grown(self._ids, size)
            self._total = np.stack([grown(total, size) for total in self._total])
            self._counts = np.stack([grown(counts, size) for counts in self._counts])
        while len(self._slots) < size:
            self._slots.append({})

    def forget(self, numbers: NDArray[np.int64]) -> None:
        """See `Ranker.forget`. In other items' rows they stay as neighbours that never came, which make room first."""
        numbers = numbers[numbers < len(self._slots)]
        gone = np.zeros(len(self._ids), dtype=np.bool_)
        gone[numbers] = True
        self._counts[:, gone[self._ids]] = 0.0
        self._counts[:, numbers] = 0.0
        self._total[:, numbers] = 0.0
        self._ids[numbers] = 0
        for number in numbers.tolist():
            self._slots[number].clear()

    def scores(self, context: Sequence[int]) -> Scores:
        """See `Ranker.scores`."""
        speeds = len(self.half_lives)
        result = np.empty((speeds, len(self.vocabulary)), dtype=np.float32)
        self.features(context, result)
        return result[speeds - 1]

    def knows(self, item: int) -> bool:
        """Whether an item has come before: nothing can be told of how well one is ranked that never did."""
        return item < len(self._slots) and bool(self._total[-1, item] > 0)

    def conditional(self, item: int, neighbour: int) -> float:
        """How often, of 1, `neighbour` came with `item`, by the slowest speed and smoothed towards never."""
        if item >= len(self._slots) or (slot := self._slots[item].get(neighbour)) is None:
            return 0.0
        scale = float(self._scale[-1])
        return float(self._counts[-1, item, slot] / scale / (self._total[-1, item] / scale + self.smoothing))

    def row(self, item: int) -> tuple[float, list[int], NDArray[np.float32]]:
        """How often an item came, by the slowest speed of forgetting; its neighbours, and how often each came with it."""
        if item >= len(self._slots):
            return 0.0, [], np.zeros(0, dtype=np.float32)
        slots, scale = self._slots[item], self._scale[-1]
        counts = self._counts[-1, item, list(slots.values())] / np.float32(scale)
        return float(self._total[-1, item] / scale), list(slots), counts

    def totals(self, items: Sequence[int]) -> NDArray[np.float32]:
        """How often items came, at each speed of forgetting: shape (n, speeds)."""
        self._make_room(len(self.vocabulary))
        return (self._total[:, items].T / self._scale).astype(np.float32)

    def features(self, context: Sequence[int], out: NDArray[np.float32]) -> None:
        """Log mean conditional probabilities, a row a speed, and below them, where there is room, log base rates.

        Args:
            context: the items at hand, oldest first; where there are none, the base rates stand for what is conditional.
            out: what they are written to, shape (speeds or 2 · speeds, len(self.vocabulary)).
        """
        size, speeds = out.shape[1], len(self.half_lives)
        self._make_room(size)
        scale = self._scale.astype(np.float32)
        rate = self._total[:, :size] / scale[:, None]
        rate += np.float32(RATE_MIN)
        rate /= rate.sum(axis=1, keepdims=True)
        if len(out) > speeds:
            np.log(rate, out=out[speeds:])
        if context:
            recent = list(context[-self._reach() :])
            weight = 1.0 / (self._total[:, recent] / scale[:, None] + np.float32(self.smoothing))  # (speeds, context)
            used = max(len(self._slots[item]) for item in recent)
            ids = self._ids[recent, :used].ravel().astype(np.intp)
            counts = self._counts[:, recent, :used]
            counts *= (weight / scale[:, None])[:, :, None]
            rate *= np.float32(self.smoothing) * weight.sum(axis=1, keepdims=True)
            for speed in range(speeds):
                rate[speed] += np.bincount(ids, weights=counts[speed].ravel(), minlength=size)
            rate /= np.float32(len(recent))
        np.log(rate, out=out[:speeds])

    def _reach(self) -> int:
        """How many items at hand count: a window of a sequence, more of a set, by what was learned so far."""
        return round(self.ordered * self.window + (1 - self.ordered) * self.basket)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """See `Ranker.arrays`."""
        size = len(self._slots)
        return {
            "ordered": np.array([self.ordered]),
            "scale": self._scale.copy(),
            "total": self._total[:, :size].copy(),
            "ids": self._ids[:size].copy(),
            "counts": self._counts[:, :size].copy(),
            "used": np.array([len(slots) for slots in self._slots], dtype=np.int32),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """See `Ranker.restore`."""
        self.ordered = float(arrays["ordered"][0])
        self._scale = np.array(arrays["scale"], dtype=np.float64)
        self._total = np.array(arrays["total"], dtype=np.float32)
        self._ids = np.array(arrays["ids"], dtype=np.int32)
        self._counts = np.array(arrays["counts"], dtype=np.float32)
        self._slots = [
            {int(item): slot for slot, item in enumerate(ids[:used])}
            for ids, used in zip(self._ids, arrays["used"].tolist(), strict=True)
        ]
