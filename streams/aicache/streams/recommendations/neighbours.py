"""Item-to-item neighbours whose counts fade with time (Sarwar et al., WWW 2001, with exponential decay).

For each item the `width` heaviest neighbours are kept at several speeds of forgetting. A full row replaces its lightest entry and
the newcomer inherits its count (SpaceSaving; Metwally, Agrawal, El Abbadi, ICDT 2005): a count is too high by at most W/width,
where W is all that the row has ever received, decayed. Newcomers of one example take one another's place: an example drives out one
neighbour of a row at most. Memory: 4·(1 + speeds)·width bytes an item.
Cost of an example: a search in `width` ids a context item. Cost of a question: O(width · speeds) a context item.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from aicache.streams.recommendations.compiled import compiled
from aicache.streams.recommendations.ranker import Numbers, Ranker, Scores, grown

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
        self._used = np.zeros(64, dtype=np.int32)

    def fade(self) -> None:
        """See `Ranker.fade`."""
        self._scale *= self._growth
        if self._scale[self._fastest] > SCALE_MAX:
            inverse = (1.0 / self._scale).astype(np.float32)
            self._total *= inverse[:, None]
            self._counts *= inverse[:, None, None]
            self._scale[:] = 1.0

    def learn(self, context: Numbers, target: int) -> None:
        """See `Ranker.learn`: each of the newest items at hand is a neighbour of the target and, if not directed, the reverse."""
        self._make_room(len(self.vocabulary))
        recent = np.asarray(context[-self.window :], dtype=np.int64)
        _learn(self._total, self._counts, self._ids, self._used, self._scale, recent, target, self.directed)

    def learn_set(self, numbers: Numbers) -> None:
        """See `Ranker.learn_set`."""
        self._make_room(len(self.vocabulary))
        together = np.asarray(numbers, dtype=np.int64)
        _learn_set(self._total, self._counts, self._ids, self._used, self._scale, together, self.basket)

    def _make_room(self, size: int) -> None:
        if size > len(self._ids):
            self._ids, self._used = grown(self._ids, size), grown(self._used, size)
            self._total = np.stack([grown(total, size) for total in self._total])
            self._counts = np.stack([grown(counts, size) for counts in self._counts])

    def forget(self, numbers: NDArray[np.int64]) -> None:
        """See `Ranker.forget`. In other items' rows they stay as neighbours that never came, which make room first."""
        numbers = numbers[numbers < len(self._ids)]
        gone = np.zeros(len(self._ids), dtype=np.bool_)
        gone[numbers] = True
        self._counts[:, gone[self._ids]] = 0.0
        self._counts[:, numbers] = 0.0
        self._total[:, numbers] = 0.0
        self._ids[numbers] = self._used[numbers] = 0

    def scores(self, context: Numbers) -> Scores:
        """See `Ranker.scores`."""
        result = np.empty((len(self.half_lives), len(self.vocabulary)), dtype=np.float32)
        self.features(context, result)
        return result[-1]

    def knows(self, item: int) -> bool:
        """Whether an item has come before: nothing can be told of how well one is ranked that never did."""
        return item < len(self._ids) and bool(self._total[-1, item] > 0)

    def conditionals(self, items: Numbers, neighbours: Numbers) -> NDArray[np.float32]:
        """How often, of 1, neighbours came with items, by the slowest speed and smoothed towards never: a row an item."""
        self._make_room(len(self.vocabulary))
        result = np.empty((len(items), len(neighbours)), dtype=np.float32)
        rows, columns = np.asarray(items, dtype=np.int64), np.asarray(neighbours, dtype=np.int64)
        rest = self.smoothing * float(self._scale[-1])
        _share(self._total[-1], self._counts[-1], self._ids, self._used, rest, rows, columns, result)
        return result

    def row(self, item: int) -> tuple[float, NDArray[np.int32], NDArray[np.float32]]:
        """How often an item came, by the slowest speed of forgetting; its neighbours, and how often each came with it."""
        self._make_room(len(self.vocabulary))
        used, scale = self._used[item], self._scale[-1]
        counts = self._counts[-1, item, :used] / np.float32(scale)
        return float(self._total[-1, item] / scale), self._ids[item, :used].copy(), counts

    def totals(self, items: Numbers) -> NDArray[np.float32]:
        """How often items came, at each speed of forgetting: shape (n, speeds)."""
        self._make_room(len(self.vocabulary))
        return (self._total[:, items].T / self._scale).astype(np.float32)

    def features(self, context: Numbers, out: NDArray[np.float32]) -> None:
        """Log mean conditional probabilities, a row a speed, and below them, where there is room, log base rates.

        Args:
            context: the items at hand, oldest first; where there are none, the base rates stand for what is conditional.
            out: what they are written to, shape (speeds or 2 · speeds, len(self.vocabulary)).
        """
        self._make_room(out.shape[1])
        recent = np.asarray(context[-self._reach() :], dtype=np.int64)
        rates = np.empty(out.shape, dtype=np.float32)
        _rates(self._total, self._counts, self._ids, self._used, self._scale, self.smoothing, recent, rates)
        np.log(rates, out=out)

    def base_rates(self) -> Scores:
        """Log base rates by the slowest speed of forgetting, as the last row of `features` has them: shape (len(self.vocabulary),)."""
        self._make_room(len(self.vocabulary))
        rates = np.empty((1, len(self.vocabulary)), dtype=np.float32)
        nothing = np.empty(0, dtype=np.int64)
        slowest = (self._total[-1:], self._counts[-1:], self._ids, self._used, self._scale[-1:])
        _rates(*slowest, self.smoothing, nothing, rates)
        return np.log(rates[0])

    def _reach(self) -> int:
        """How many items at hand count: a window of a sequence, more of a set, by what was learned so far."""
        return round(self.ordered * self.window + (1 - self.ordered) * self.basket)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """See `Ranker.arrays`."""
        size = len(self.vocabulary)
        self._make_room(size)
        return {
            "ordered": np.array([self.ordered]),
            "scale": self._scale.copy(),
            "total": self._total[:, :size].copy(),
            "ids": self._ids[:size].copy(),
            "counts": self._counts[:, :size].copy(),
            "used": self._used[:size].copy(),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """See `Ranker.restore`."""
        self.ordered = float(arrays["ordered"][0])
        self._scale = np.array(arrays["scale"], dtype=np.float64)
        self._total = np.array(arrays["total"], dtype=np.float32)
        self._ids = np.array(arrays["ids"], dtype=np.int32)
        self._counts = np.array(arrays["counts"], dtype=np.float32)
        self._used = np.array(arrays["used"], dtype=np.int32)


@compiled
def _find(ids: NDArray[np.int32], used: int, neighbour: int) -> int:
    """Where a neighbour is in a row, -1 where it is not: without a branch, several are compared at once."""
    found, wanted = np.int32(0), np.int32(neighbour)
    for slot in range(used):
        found = np.int32(found | (np.int32(slot + 1) if ids[slot] == wanted else np.int32(0)))
    return int(found) - 1


@compiled
def _lightest(counts: NDArray[np.float32]) -> int:
    """Where the first of the lightest counts is: what is not negative is ordered as its bits are."""
    bits = counts.view(np.int32)
    best = 1 << 62
    for slot in range(len(bits)):
        weighed = int(bits[slot]) << 16 | slot
        if weighed < best:
            best = weighed
    return best & 0xFFFF


@compiled
def _place(
    counts: NDArray[np.float32], ids: NDArray[np.int32], used: NDArray[np.int32], item: int, neighbour: int
) -> int:
    """Where the count of a pair is in its row: one that is not in a full row takes the place and the count of the lightest."""
    slot = _find(ids[item], used[item], neighbour)
    if slot < 0:
        if used[item] < ids.shape[1]:
            slot = int(used[item])
            used[item] += 1
        else:
            slot = _lightest(counts[-1, item])
        ids[item, slot] = neighbour
    return slot


@compiled
def _learn(
    total: NDArray[np.float32],
    counts: NDArray[np.float32],
    ids: NDArray[np.int32],
    used: NDArray[np.int32],
    scale: NDArray[np.float64],
    recent: NDArray[np.int64],
    target: int,
    directed: bool,
) -> None:
    """Count a target and its pairs with the items at hand, in both directions or in one."""
    for speed in range(len(scale)):
        total[speed, target] += np.float32(scale[speed])
    slots = np.empty((2, len(recent)), dtype=np.int64)
    for place in range(len(recent)):
        slots[0, place] = _place(counts, ids, used, recent[place], target)
        if not directed:
            slots[1, place] = _place(counts, ids, used, target, recent[place])
    for place in range(len(recent)):
        for speed in range(len(scale)):
            counts[speed, recent[place], slots[0, place]] += np.float32(scale[speed])
            if not directed and ids[target, slots[1, place]] == recent[place]:
                counts[speed, target, slots[1, place]] += np.float32(scale[speed])


@compiled
def _learn_set(
    total: NDArray[np.float32],
    counts: NDArray[np.float32],
    ids: NDArray[np.int32],
    used: NDArray[np.int32],
    scale: NDArray[np.float64],
    numbers: NDArray[np.int64],
    basket: int,
) -> None:
    """Count the items of a set, and all pairs of the last ones."""
    for item in numbers:
        for speed in range(len(scale)):
            total[speed, item] += np.float32(scale[speed])
    near = numbers[-basket:]
    slots = np.empty(len(near), dtype=np.int64)
    for item in near:
        for place in range(len(near)):
            if near[place] != item:
                slots[place] = _place(counts, ids, used, item, near[place])
        for place in range(len(near)):
            if near[place] != item and ids[item, slots[place]] == near[place]:
                for speed in range(len(scale)):
                    counts[speed, item, slots[place]] += np.float32(scale[speed])


@compiled
def _share(
    total: NDArray[np.float32],
    counts: NDArray[np.float32],
    ids: NDArray[np.int32],
    used: NDArray[np.int32],
    rest: float,
    items: NDArray[np.int64],
    neighbours: NDArray[np.int64],
    out: NDArray[np.float32],
) -> None:
    """The share of each of some neighbours in what came with items, with `rest` more that came with nothing."""
    for row in range(len(items)):
        item = items[row]
        for column in range(len(neighbours)):
            slot = _find(ids[item], used[item], neighbours[column])
            out[row, column] = counts[item, slot] / (total[item] + rest) if slot >= 0 else 0.0


@compiled
def _rates(
    total: NDArray[np.float32],
    counts: NDArray[np.float32],
    ids: NDArray[np.int32],
    used: NDArray[np.int32],
    scale: NDArray[np.float64],
    smoothing: float,
    recent: NDArray[np.int64],
    out: NDArray[np.float32],
) -> None:
    """Mean conditional probabilities given some items, a row a speed, and below them, where there is room, base rates."""
    speeds, size = len(scale), out.shape[1]
    weights = np.empty(len(recent), dtype=np.float32)
    for speed in range(speeds):
        unit, mixed = np.float32(1.0 / scale[speed]), 0.0
        for place in range(len(recent)):
            weights[place] = 1.0 / ((total[speed, recent[place]] * unit + smoothing) * len(recent))
            mixed += smoothing * weights[place]
        rates = out[speed]
        for number in range(size):
            rates[number] = total[speed, number] * unit + np.float32(RATE_MIN)
        whole = _sum(rates)
        norm, share = np.float32(1.0 / whole), np.float32((mixed if len(recent) else 1.0) / whole)
        for number in range(size):
            if len(out) > speeds:
                out[speeds + speed, number] = rates[number] * norm
            rates[number] *= share
        for place in range(len(recent)):
            item, weight = recent[place], weights[place] * unit
            for slot in range(used[item]):
                rates[np.uint32(ids[item, slot])] += counts[speed, item, slot] * weight


@compiled
def _sum(values: NDArray[np.float32]) -> float:
    """The sum of many: each lane its own, so that they are added at once."""
    lanes, whole = np.zeros(16, dtype=np.float32), len(values) - len(values) % 16
    for start in range(0, whole, 16):
        for lane in range(16):
            lanes[lane] += values[start + lane]
    for place in range(whole, len(values)):
        lanes[place - whole] += values[place]
    result = 0.0
    for lane in range(16):
        result += float(lanes[lane])
    return result
