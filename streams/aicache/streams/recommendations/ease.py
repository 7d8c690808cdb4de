"""A linear autoencoder in closed form (EASE; Steck, WWW 2019) on a Gram matrix that fades with time.

With P = (G + λI)^-1 the weights from item i to item j are B_ij = -P_ij / P_jj, zero on the diagonal. A basket of n items counts with
weight n^-1/2, so that long baskets do not drown short ones. Only the `width` heaviest items have a row in G; a newcomer takes the
row of the lightest (SpaceSaving; Metwally, Agrawal, El Abbadi, ICDT 2005), which forgets at most that item's weight.

When to solve is decided by the stream itself, so that a replay solves at the same examples: as soon as the examples since the last
time have paid for it. Memory: 12·width² bytes, and 5 times that while it is solved. Cost of an example: one addition a pair and, over
time, PAIRS_PER_EXAMPLE multiplications of solving; of a question: one row an item at hand.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from aicache.streams.recommendations.ranker import Ranker, Scores

SCALE_MAX = 1e6
PAIRS_PER_EXAMPLE = 100_000.0
"""Solving waits until size³ / this many examples have come: about 10 µs an example."""
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
        self._gram = np.zeros((64, 64))
        self._items = np.full(64, NO_ROW, dtype=np.int32)  # of rows
        self._rows = np.full(64, NO_ROW, dtype=np.int32)  # of items
        self._used = 0
        self._weights = np.zeros((0, 0), dtype=np.float32)
        self._solved = np.zeros(0, dtype=np.int32)  # items of the rows of the weights
        self._examples = 0
        self._since = 0

    def begin(self, *, ordered: bool = False) -> None:
        """See `Ranker.begin`."""
        super().begin(ordered=ordered)
        self._scale *= self._growth
        if self._scale > SCALE_MAX:
            self._gram /= self._scale
            self._scale = 1.0

    def learn_set(self, numbers: Sequence[int]) -> None:
        """See `Ranker.learn_set`."""
        rows = [self._row(number) for number in numbers[-self.window :]]
        if rows:
            place = np.array(list(dict.fromkeys(rows)))
            self._gram[place[:, None], place] += self._scale / len(rows) ** 0.5
            self._count(len(rows))

    def learn(self, context: Sequence[int], target: int) -> None:
        """See `Ranker.learn`."""
        weight = self._scale / (min(len(context), self.window) + 1) ** 0.5
        others = [self._row(item) for item in context[-self.window :]]
        row = self._row(target)
        others = [other for other in dict.fromkeys(others) if other != row]
        for new in others:
            if self._gram[new, new] == 0.0:  # it never came as a target
                self._gram[new, new] = weight
        self._gram[row, row] += weight
        self._gram[row, others] += weight
        self._gram[others, row] += weight
        self._count(1)

    def _row(self, item: int) -> int:
        if item >= len(self._rows):
            rows = np.full(max(item + 1, 2 * len(self._rows)), NO_ROW, dtype=np.int32)
            rows[: len(self._rows)] = self._rows
            self._rows = rows
        row = int(self._rows[item])
        if row >= 0:
            return row
        if self._used == self.width:
            row = int(np.diagonal(self._gram)[: self._used].argmin())
            self._rows[self._items[row]] = NO_ROW
            self._gram[row] = 0.0
            self._gram[:, row] = 0.0
        else:
            row = self._used
            self._used += 1
            if row == len(self._gram):
                size = min(2 * row, self.width)
                gram, items = np.zeros((size, size)), np.full(size, NO_ROW, dtype=np.int32)
                gram[:row, :row], items[:row] = self._gram, self._items
                self._gram, self._items = gram, items
        self._rows[item], self._items[row] = row, item
        return row

    def _count(self, examples: int) -> None:
        self._examples += examples
        self._since += examples
        if self._since >= max(FIRST, self._used**3 / PAIRS_PER_EXAMPLE, SHARE_NEW * self._examples):
            self.solve()

    def solve(self) -> None:
        """Solve for the weights now."""
        gram = self._gram[: self._used, : self._used] / self._scale
        ridge, failed = self.ridge, 1
        while failed:  # sequences cut by the window may leave G indefinite; a ridge above its largest row sum ends this
            factor, failed = lapack.dpotrf(gram + ridge * np.eye(self._used), lower=1)
            ridge *= 4.0
        inverse, _ = lapack.dpotri(factor, lower=1)  # its lower triangle
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        weights = inverse / -np.diagonal(inverse)
        np.fill_diagonal(weights, 0.0)
        self._weights = weights.astype(np.float32)
        self._solved = self._items[: self._used].copy()
        self._since = 0

    def scores(self, context: Sequence[int]) -> Scores:
        """See `Ranker.scores`."""
        result = np.zeros(len(self.vocabulary), dtype=np.float32)
        size = len(self._solved)
        rows = [
            row
            for item in context[-self.window :]
            if item < len(self._rows) and 0 <= (row := int(self._rows[item])) < size and self._solved[row] == item
        ]
        if rows:
            result[self._solved] = self._weights[rows].sum(axis=0)
        return result

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """See `Ranker.arrays`."""
        return {
            "ordered": np.array([self.ordered]),
            "scale": np.array([self._scale]),
            "gram": self._gram[: self._used, : self._used].copy(),
            "items": self._items[: self._used].copy(),
            "weights": self._weights.copy(),
            "solved": self._solved.copy(),
            "counts": np.array([self._examples, self._since]),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """See `Ranker.restore`."""
        self.ordered = float(arrays["ordered"][0])
        self._scale = float(arrays["scale"][0])
        self._used = len(arrays["items"])
        size = max(64, self._used)
        self._gram, self._items = np.zeros((size, size)), np.full(size, NO_ROW, dtype=np.int32)
        self._gram[: self._used, : self._used] = arrays["gram"]
        self._items[: self._used] = arrays["items"]
        self._rows = np.full(max(64, int(arrays["items"].max(initial=0)) + 1), NO_ROW, dtype=np.int32)
        self._rows[self._items[: self._used]] = np.arange(self._used, dtype=np.int32)
        self._weights = np.array(arrays["weights"], dtype=np.float32)
        self._solved = np.array(arrays["solved"], dtype=np.int32)
        self._examples, self._since = (int(count) for count in arrays["counts"])
