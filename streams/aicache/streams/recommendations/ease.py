"""A linear autoencoder in closed form (EASE; Steck, WWW 2019) on a Gram matrix that fades with time.

A basket of n items counts with weight n^-1/2, so that long baskets do not drown short ones. Only the `width` heaviest items have a row
in the Gram matrix; a newcomer takes the row of the lightest (SpaceSaving; Metwally, Agrawal, El Abbadi, ICDT 2005), which forgets at most
that item's weight.

When to solve is decided by the stream itself: as soon as the examples since the last time have paid for it. A thread solves from a copy,
and its weights count from a later example on, which the size alone decides; whoever comes there first waits. So a replay solves and
answers at the same examples, however fast the machine. Memory: 7·width² bytes, and as much besides while it is solved. Cost of an
example: one addition a pair and, over time and in the thread, PAIRS_PER_EXAMPLE multiplications of solving; of a question: one row an
item at hand.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from aicache.streams.recommendations.compiled import compiled
from aicache.streams.recommendations.ranker import Numbers, Ranker, Scores, grown
from aicache.streams.recommendations.solving import LinearWeights, Solving, solve, triangle

SCALE_MAX = 1e6
PAIRS_PER_EXAMPLE = 100_000.0
"""Solving waits until size³ / this many examples have come: about 10 µs an example."""
PAIRS_AHEAD = 2_000_000.0
"""Weights count size³ / this many examples after they were asked for; where that is less than one, they are solved at once."""
SHARE_NEW = 0.04
"""And until this share of all examples is new: what changes little is not solved anew."""
FIRST = 64
NO_ROW = -1


class Ease(Ranker):
    """Scores are the weights from the items at hand, added up.

    Args:
        ridge: λ.
        half_life: examples after which a basket weighs half.
        width: items that have a row.
        window: how many of the newest items at hand count.

    Examples:
        >>> ranker = Ease()
        >>> for _ in range(200):
        ...     ranker.learn_basket(["tag:wifi", "tag:driver"])
        ...     ranker.learn_basket(["tag:boot", "tag:grub"])
        >>> ranker.predict_one(["tag:boot"], k=1)
        ['tag:grub']
    """

    def __init__(self, ridge: float = 3.0, half_life: float = 400_000.0, width: int = 2_048, window: int = 64) -> None:
        super().__init__()
        self.ridge = ridge
        self.half_life = half_life
        self.width = width
        self.window = window
        self._growth = 2.0 ** (1.0 / half_life)
        self._scale = 1.0
        self._pairs = np.zeros(triangle(64), dtype=np.float32)  # the Gram matrix, what is above its diagonal apart
        self._diagonal = np.zeros(64, dtype=np.float32)  # again, in one piece: the lightest row is looked for in it
        self._items = np.full(64, NO_ROW, dtype=np.int32)  # of rows
        self._rows = np.full(64, NO_ROW, dtype=np.int32)  # of items
        self._used = 0
        self._weights = LinearWeights.none()
        self._solved = np.zeros(0, dtype=np.int32)  # items of the rows of the weights
        self._ahead: Solving | LinearWeights | None = None  # what is solved, or waits for its example
        self._ahead_items = np.zeros(0, dtype=np.int32)
        self._ahead_until = 0
        self._examples = 0
        self._since = 0

    def fade(self) -> None:
        """See `Ranker.fade`."""
        self._scale *= self._growth
        if self._scale > SCALE_MAX:
            self._pairs *= np.float32(1.0 / self._scale)
            self._diagonal *= np.float32(1.0 / self._scale)
            self._scale = 1.0

    def learn_set(self, numbers: Numbers) -> None:
        """See `Ranker.learn_set`."""
        items = np.asarray(numbers[-min(self.window, self.width) :], dtype=np.int64)
        if len(items):
            weight = self._scale / len(items) ** 0.5
            if not _add_set(self._pairs, self._diagonal, self._rows, items, weight):
                self._give_rows(items)
                _add_set(self._pairs, self._diagonal, self._rows, items, weight)
            self._count(len(items))

    def learn(self, context: Numbers, target: int) -> None:
        """See `Ranker.learn`."""
        items = np.asarray(context[-min(self.window, self.width - 1) :], dtype=np.int64)
        weight = self._scale / (len(items) + 1) ** 0.5
        if not _add_event(self._pairs, self._diagonal, self._rows, items, target, weight):
            self._give_rows(np.append(items, target))
            _add_event(self._pairs, self._diagonal, self._rows, items, target, weight)
        self._count(1)

    def _give_rows(self, items: NDArray[np.int64]) -> None:
        """Give those of some distinct items a row that have none: a new one, or the lightest of all others."""
        size = int(items.max()) + 1
        if size > len(self._rows):
            rows = np.full(max(size, 2 * len(self._rows)), NO_ROW, dtype=np.int32)
            rows[: len(self._rows)] = self._rows
            self._rows = rows
        there = self._rows[items] != NO_ROW
        stay = self._rows[items[there]]
        weights = self._diagonal[stay]
        self._diagonal[stay] = np.inf  # none of these makes room
        for item in items[~there].tolist():
            row = self._free_row()
            self._rows[item], self._items[row] = row, item
            self._diagonal[row] = np.inf
        self._diagonal[stay] = weights

    def _free_row(self) -> int:
        if self._used < self.width:
            self._used += 1
            if self._used > len(self._items):
                size = min(2 * self._used, self.width)
                self._pairs = grown(self._pairs, triangle(size))
                self._diagonal = grown(self._diagonal, size)
                self._items = np.concatenate([self._items, np.full(size - len(self._items), NO_ROW, dtype=np.int32)])
            return self._used - 1
        row = int(self._diagonal[: self._used].argmin())
        if self._items[row] != NO_ROW:  # else it was forgotten, and is empty
            self._rows[self._items[row]] = NO_ROW
            _clear(self._pairs, row, self._used)
        return row

    def forget(self, numbers: NDArray[np.int64]) -> None:
        """See `Ranker.forget`: their rows are free, and what was solved of them says nothing."""
        rows = self._rows[numbers[numbers < len(self._rows)]]
        rows = rows[rows >= 0]
        self._rows[self._items[rows]] = NO_ROW
        self._items[rows] = NO_ROW
        self._diagonal[rows] = 0.0
        for row in rows.tolist():
            _clear(self._pairs, row, self._used)
        for solved in (self._solved, self._ahead_items):
            solved[np.isin(solved, numbers)] = NO_ROW

    def _count(self, examples: int) -> None:
        self._examples += examples
        self._since += examples
        if self._ahead is not None:
            if self._examples >= self._ahead_until:
                self._take()
        elif self._since >= max(FIRST, self._used**3 / PAIRS_PER_EXAMPLE, SHARE_NEW * self._examples):
            self._begin_solving()

    def _begin_solving(self) -> None:
        ahead = int(self._used**3 / PAIRS_AHEAD)
        if not ahead:
            self.solve()
            return
        self._ahead = Solving(self._faded(), self.ridge)
        self._ahead_items = self._items[: self._used].copy()
        self._ahead_until = self._examples + ahead
        self._since = 0

    def _faded(self) -> NDArray[np.float32]:
        return self._pairs[: triangle(self._used)] * np.float32(1.0 / self._scale)

    def _take(self) -> None:
        """What was solved ahead counts from now on."""
        if self._ahead is not None:
            self._weights = _ready(self._ahead)
            self._solved = self._ahead_items
            self._ahead = None

    def solve(self) -> None:
        """Solve for the weights now."""
        self._ahead = None
        self._weights = solve(self._faded(), self.ridge)
        self._solved = self._items[: self._used].copy()
        self._since = 0

    def scores(self, context: Numbers) -> Scores:
        """See `Ranker.scores`."""
        result = np.zeros(len(self.vocabulary), dtype=np.float32)
        items = np.asarray(context[-self.window :], dtype=np.int64)
        _add_weights(self._weights.matrix, self._solved, self._rows, items, result)
        return result

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """See `Ranker.arrays`: of the Gram matrix what is on and below its diagonal, and what is solved already."""
        ahead = LinearWeights.none() if self._ahead is None else _ready(self._ahead)
        return {
            "ordered": np.array([self.ordered]),
            "scale": np.array([self._scale]),
            "pairs": self._pairs[: triangle(self._used)].copy(),
            "items": self._items[: self._used].copy(),
            "partial": self._weights.partial,
            "spread": self._weights.spread,
            "solved": self._solved.copy(),
            "ahead_partial": ahead.partial,
            "ahead_spread": ahead.spread,
            "ahead_items": self._ahead_items[: len(ahead.spread)].copy(),
            "counts": np.array([self._examples, self._since, self._ahead_until]),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """See `Ranker.restore`."""
        self.ordered = float(arrays["ordered"][0])
        self._scale = float(arrays["scale"][0])
        self._used = used = len(arrays["items"])
        self._pairs = grown(np.array(arrays["pairs"], dtype=np.float32), triangle(64))
        self._diagonal = grown(self._pairs[np.cumsum(np.arange(1, used + 1)) - 1], 64)
        self._items = np.full(max(64, used), NO_ROW, dtype=np.int32)
        self._items[:used] = arrays["items"]
        self._rows = np.full(max(64, int(arrays["items"].max(initial=0)) + 1), NO_ROW, dtype=np.int32)
        filled = np.flatnonzero(self._items[:used] != NO_ROW)
        self._rows[self._items[filled]] = filled
        self._weights = _weights(arrays["partial"], arrays["spread"])
        self._solved = np.array(arrays["solved"], dtype=np.int32)
        self._ahead_items = np.array(arrays["ahead_items"], dtype=np.int32)
        self._ahead = _weights(arrays["ahead_partial"], arrays["ahead_spread"]) if len(self._ahead_items) else None
        self._examples, self._since, self._ahead_until = (int(count) for count in arrays["counts"])


def _ready(ahead: Solving | LinearWeights) -> LinearWeights:
    return ahead.result() if isinstance(ahead, Solving) else ahead


def _weights(partial: NDArray[np.generic], spread: NDArray[np.generic]) -> LinearWeights:
    return LinearWeights.of(np.array(partial, dtype=np.float16), np.array(spread, dtype=np.float32))


@compiled
def _all_there(rows: NDArray[np.int32], items: NDArray[np.int64]) -> bool:
    """Whether each item has a row."""
    there = True
    for item in items:
        there = there and item < len(rows) and rows[item] != NO_ROW
    return there


@compiled
def _add_event(
    pairs: Scores,
    diagonal: Scores,
    rows: NDArray[np.int32],
    context: NDArray[np.int64],
    target: int,
    weight: float,
) -> bool:
    """Add a target, and its pairs with the items at hand; nothing, and false, where one of them has no row."""
    if target >= len(rows) or rows[target] == NO_ROW or not _all_there(rows, context):
        return False
    unit, row = np.float32(weight), rows[target]
    pairs[row * (row + 1) // 2 + row] += unit
    diagonal[row] = pairs[row * (row + 1) // 2 + row]
    for item in context:
        other = rows[item]
        low, high = min(row, other), max(row, other)
        pairs[high * (high + 1) // 2 + low] += unit
        own = other * (other + 1) // 2 + other
        if pairs[own] == 0.0:  # it never came as a target
            pairs[own] = diagonal[other] = unit
    return True


@compiled
def _add_set(pairs: Scores, diagonal: Scores, rows: NDArray[np.int32], items: NDArray[np.int64], weight: float) -> bool:
    """Add the pairs of a set, and each with itself; nothing, and false, where one has no row."""
    if not _all_there(rows, items):
        return False
    unit = np.float32(weight)
    for place in range(len(items)):
        row = rows[items[place]]
        for before in range(place + 1):
            other = rows[items[before]]
            low, high = min(row, other), max(row, other)
            pairs[high * (high + 1) // 2 + low] += unit
        diagonal[row] = pairs[row * (row + 1) // 2 + row]
    return True


@compiled
def _clear(pairs: Scores, row: int, used: int) -> None:
    """Forget all pairs of a row."""
    for other in range(used):
        low, high = min(row, other), max(row, other)
        pairs[high * (high + 1) // 2 + low] = 0.0


@compiled
def _add_weights(
    matrix: NDArray[np.float32],
    solved: NDArray[np.int32],
    rows: NDArray[np.int32],
    context: NDArray[np.int64],
    result: Scores,
) -> None:
    """Add up the weights from those items at hand that were solved; nothing is said of what was forgotten since."""
    total = np.zeros(len(solved), dtype=np.float32)
    for item in context:
        row = rows[item] if item < len(rows) else NO_ROW
        if row != NO_ROW and row < len(solved) and solved[row] == item:
            for column in range(len(solved)):
                total[column] += matrix[row, column]
    for column in range(len(solved)):
        if solved[column] != NO_ROW:
            result[solved[column]] = total[column]
