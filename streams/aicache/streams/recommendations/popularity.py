"""Popularity by context: how often items come in a situation, backing off to everything.

An item's rate among all is multiplied by its lift with each attribute of the situation: how much likelier it is with the attribute than
without knowing, estimated with `prior` examples' worth of no lift (Dirichlet smoothing; Zhai, Lafferty 2004). What is unknown, or seldom
seen, hardly changes anything: an unknown task falls back on the framework and the language, those on everything.
Memory: 4 bytes an item and an attribute seen with one, `attributes` at most: the lightest makes room. Cost of an example: one addition
an attribute; of a question: a pass over all items, and a logarithm each, an attribute.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from aicache.streams.recommendations.compiled import compiled
from aicache.streams.recommendations.ranker import Numbers, Ranker, Scores, grown
from aicache.streams.recommendations.vocabulary import ATTRIBUTES, namespace_of

SCALE_MAX = 1e6
RATE_MIN = 1e-3
"""Examples' worth that every item has, so that its rate has a logarithm."""


class ContextPopularity(Ranker):
    """Scores are log-probabilities, but for a constant.

    Args:
        half_life: examples after which a count weighs half.
        prior: examples' worth of no lift in each attribute's.
        attributes: how many attributes have counts of their own.

    Examples:
        >>> ranker = ContextPopularity()
        >>> for _ in range(9):
        ...     ranker.learn_one(["language:python"], "pypi:numpy")
        ...     ranker.learn_one(["language:rust"], "crates:serde")
        >>> ranker.predict_one(["language:rust"], k=1)
        ['crates:serde']
    """

    def __init__(self, half_life: float = 42_000.0, prior: float = 20.0, attributes: int = 512) -> None:
        super().__init__()
        self.half_life = half_life
        self.prior = prior
        self.attributes = attributes
        self._growth = 2.0 ** (1.0 / half_life)
        self._scale = 1.0
        self._counts = np.zeros((8, 64), dtype=np.float32)  # a row an attribute, the first one of everything
        self._rows: dict[int, int] = {}
        self._sums: dict[int, float] = {}  # of an attribute's counts

    def fade(self) -> None:
        """See `Ranker.fade`."""
        self._scale *= self._growth
        if self._scale > SCALE_MAX:
            self._counts *= np.float32(1.0 / self._scale)
            self._sums = {attribute: total / self._scale for attribute, total in self._sums.items()}
            self._scale = 1.0

    def _attributes(self, context: Numbers) -> list[int]:
        return [item for item in context if namespace_of(self.vocabulary.names[item]) in ATTRIBUTES]

    def learn(self, context: Numbers, target: int) -> None:
        """See `Ranker.learn`."""
        self.count(self._attributes(context), [target])

    def count(self, attributes: Numbers, items: Numbers) -> None:
        """Distinct items came in a situation: their numbers, and those of its attributes."""
        if not len(items):
            return
        self._make_room(len(self.vocabulary))
        rows = np.array([0, *(self._row(attribute) for attribute in attributes)], dtype=np.int64)
        _count(self._counts, rows, np.asarray(items, dtype=np.int64), self._scale)
        for attribute in attributes:
            self._sums[attribute] += self._scale * len(items)

    def _row(self, attribute: int) -> int:
        """Where the counts of an attribute are: a new one takes the place of the lightest where there is no room."""
        row = self._rows.get(attribute)
        if row is None:
            if len(self._rows) == self.attributes:
                lightest = min(self._sums, key=self._sums.__getitem__)
                row = self._rows.pop(lightest)
                del self._sums[lightest]
                self._counts[row] = 0.0
            else:
                row = len(self._rows) + 1
                self._counts = grown(self._counts, row + 1)
            self._rows[attribute], self._sums[attribute] = row, 0.0
        return row

    def _make_room(self, size: int) -> None:
        if size > self._counts.shape[1]:
            self._counts = np.ascontiguousarray(grown(self._counts.T, size).T)

    def row(self, attribute: int) -> tuple[float, NDArray[np.int64], NDArray[np.float32]]:
        """How many items came with an attribute, decayed; which, and how often each."""
        if attribute not in self._rows:
            return 0.0, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        counts = self._counts[self._rows[attribute]]
        numbers = np.flatnonzero(counts)
        return self._sums[attribute] / self._scale, numbers, counts[numbers] / np.float32(self._scale)

    def forget(self, numbers: NDArray[np.int64]) -> None:
        """See `Ranker.forget`."""
        self._make_room(len(self.vocabulary))
        for attribute in set(numbers.tolist()).intersection(self._rows):
            del self._rows[attribute], self._sums[attribute]
        kept = self._counts[[0, *self._rows.values()]]
        kept[:, numbers] = 0.0
        self._take(kept)
        self._sums = dict(zip(self._rows, kept[1:].sum(axis=1, dtype=np.float64).tolist(), strict=True))

    def _take(self, counts: NDArray[np.float32]) -> None:
        """Rows of everything and then of each attribute, in their order."""
        self._rows = {attribute: row for row, attribute in enumerate(self._rows, start=1)}
        self._counts = counts

    def scores(self, context: Numbers) -> Scores:
        """See `Ranker.scores`."""
        size = len(self.vocabulary)
        self._make_room(size)
        rows = [0, *(self._rows[attribute] for attribute in self._attributes(context) if attribute in self._rows)]
        lifts = np.empty((len(rows), size), dtype=np.float32)
        whole = float(self._counts[0, :size].sum()) / self._scale + RATE_MIN * size
        _lift(self._counts, np.array(rows, dtype=np.int64), self._scale, whole, self.prior, lifts)
        np.log(lifts, out=lifts)
        return lifts.sum(axis=0) if len(rows) > 1 else lifts[0]

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """See `Ranker.arrays`."""
        size = len(self.vocabulary)
        self._make_room(size)
        return {
            "ordered": np.array([self.ordered]),
            "scale": np.array([self._scale]),
            "all": self._counts[0, :size].copy(),
            "attributes": np.array(list(self._rows), dtype=np.int32),
            "within": self._counts[list(self._rows.values()), :size],
            "sums": np.array(list(self._sums.values()), dtype=np.float64),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """See `Ranker.restore`."""
        self.ordered = float(arrays["ordered"][0])
        self._scale = float(arrays["scale"][0])
        self._rows = dict.fromkeys(arrays["attributes"].tolist(), 0)
        self._sums = dict(zip(self._rows, arrays["sums"].tolist(), strict=True))
        self._take(np.vstack([arrays["all"], arrays["within"]]).astype(np.float32))


@compiled
def _count(counts: NDArray[np.float32], rows: NDArray[np.int64], items: NDArray[np.int64], unit: float) -> None:
    """Count some items in some rows."""
    for row in rows:
        for item in items:
            counts[row, item] += np.float32(unit)


@compiled
def _lift(
    counts: NDArray[np.float32],
    rows: NDArray[np.int64],
    scale: float,
    whole: float,
    prior: float,
    out: NDArray[np.float32],
) -> None:
    """Rates of all items, of the first row, and below them how much likelier each is with what the other rows are of."""
    unit, share, least = np.float32(1.0 / scale), np.float32(1.0 / whole), np.float32(prior)
    rates = out[0]
    for item in range(len(rates)):
        rates[item] = (counts[0, item] * unit + np.float32(RATE_MIN)) * share
    for place in range(1, len(rows)):
        within, lifts = counts[rows[place]], out[place]
        for item in range(len(rates)):
            lifts[item] = least + within[item] * unit / rates[item]
