"""A linear autoencoder in closed form (EASE; Steck, WWW 2019) on a Gram matrix that fades with time.

A basket of n items counts with weight n^-1/2, so that long baskets do not drown short ones. Only the `width` heaviest items have a row
in the Gram matrix; a newcomer takes the row of the lightest (SpaceSaving; Metwally, Agrawal, El Abbadi, ICDT 2005), which forgets at most
that item's weight.

When to solve is decided by the stream itself: as soon as the examples since the last time have paid for it. A thread solves from a copy,
and its weights count from a later example on, which the size alone decides; whoever comes there first waits. So a replay solves and
answers at the same examples, however fast the machine. Memory: 10·width² bytes, and twice that besides while it is solved. Cost of an
example: one addition a pair and, over time and in the thread, PAIRS_PER_EXAMPLE multiplications of solving; of a question: one row an
item at hand.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aicache.streams.recommendations.ranker import Ranker, Scores, grown
from aicache.streams.recommendations.solving import LinearWeights, Solving, below_diagonal, mirror, solve

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
        self._gram = np.zeros((64, 64), dtype=np.float32)
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
            self._gram *= np.float32(1.0 / self._scale)
            self._diagonal *= np.float32(1.0 / self._scale)
            self._scale = 1.0

    def learn_set(self, numbers: Sequence[int]) -> None:
        """See `Ranker.learn_set`."""
        rows = self._rows_of(numbers[-self.window :])
        if len(rows):
            weight = np.float32(self._scale / len(rows) ** 0.5)
            self._gram[rows[:, None], rows] += weight
            self._diagonal[rows] = self._gram[rows, rows]
            self._count(len(rows))

    def learn(self, context: Sequence[int], target: int) -> None:
        """See `Ranker.learn`."""
        weight = np.float32(self._scale / (min(len(context), self.window) + 1) ** 0.5)
        rows = self._rows_of([*context[-self.window :], target])
        row, others = rows[-1], rows[:-1]
        new = others[self._gram[others, others] == 0.0]  # they never came as a target
        self._gram[new, new] = self._diagonal[new] = weight
        self._gram[row, row] += weight
        self._diagonal[row] = self._gram[row, row]
        self._gram[row, others] += weight
        self._gram[others, row] += weight
        self._count(1)

    def _rows_of(self, items: Sequence[int]) -> NDArray[np.int32]:
        """The rows of distinct items, in their order; those that have none are given one."""
        size = max(items, default=0) + 1
        if size > len(self._rows):
            rows = np.full(max(size, 2 * len(self._rows)), NO_ROW, dtype=np.int32)
            rows[: len(self._rows)] = self._rows
            self._rows = rows
        found = self._rows[np.array(items, dtype=np.intp)]
        if len(found) and found.min() == NO_ROW:
            found = np.array([self._row(item) for item in items], dtype=np.int32)
        return found

    def _row(self, item: int) -> int:
        row = int(self._rows[item])
        if row >= 0:
            return row
        if self._used == self.width:
            row = int(self._diagonal[: self._used].argmin())
            if self._items[row] != NO_ROW:  # else it was forgotten, and is empty
                self._rows[self._items[row]] = NO_ROW
                self._gram[row] = 0.0
                self._gram[:, row] = 0.0
        else:
            row = self._used
            self._used += 1
            if row == len(self._gram):
                size = min(2 * row, self.width)
                gram, items = np.zeros((size, size), dtype=np.float32), np.full(size, NO_ROW, dtype=np.int32)
                gram[:row, :row], items[:row] = self._gram, self._items
                self._gram, self._items = gram, items
                self._diagonal = grown(self._diagonal, size)
        self._rows[item], self._items[row] = row, item
        self._diagonal[row] = np.inf  # not the next newcomer's of the same example
        return row

    def forget(self, numbers: NDArray[np.int64]) -> None:
        """See `Ranker.forget`: their rows are free, and what was solved of them says nothing."""
        rows = self._rows[numbers[numbers < len(self._rows)]]
        rows = rows[rows >= 0]
        self._rows[self._items[rows]] = NO_ROW
        self._items[rows] = NO_ROW
        self._gram[rows] = 0.0
        self._gram[:, rows] = 0.0
        self._diagonal[rows] = 0.0
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
        return self._gram[: self._used, : self._used] * np.float32(1.0 / self._scale)

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

    def scores(self, context: Sequence[int]) -> Scores:
        """See `Ranker.scores`."""
        result = np.zeros(len(self.vocabulary) + 1, dtype=np.float32)  # the last one stands for NO_ROW
        items = np.array(context[-self.window :], dtype=np.intp)
        items = items[items < len(self._rows)]
        rows = self._rows[items]
        there = (rows >= 0) & (rows < len(self._solved))
        items, rows = items[there], rows[there]
        rows = rows[self._solved[rows] == items]
        if len(rows):
            result[self._solved] = self._weights.matrix[rows].sum(axis=0)
        return result[:-1]

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """See `Ranker.arrays`: of the Gram matrix what is on and below its diagonal, and what is solved already."""
        ahead = LinearWeights.none() if self._ahead is None else _ready(self._ahead)
        return {
            "ordered": np.array([self.ordered]),
            "scale": np.array([self._scale]),
            "pairs": self._gram[: self._used, : self._used][below_diagonal(self._used, diagonal=True)],
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
        size = max(64, used)
        self._gram, self._items = np.zeros((size, size), dtype=np.float32), np.full(size, NO_ROW, dtype=np.int32)
        self._gram[:used, :used][below_diagonal(used, diagonal=True)] = arrays["pairs"]
        mirror(self._gram)
        self._diagonal = np.diagonal(self._gram).copy()
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
