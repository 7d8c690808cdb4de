"""Popularity by context: how often items come in a situation, backing off to everything.

An item's rate among all is multiplied by its lift with each attribute of the situation: how much likelier it is with the attribute than
without knowing, estimated with `prior` examples' worth of no lift (Dirichlet smoothing; Zhai, Lafferty 2004). What is unknown, or seldom
seen, hardly changes anything: an unknown task falls back on the framework and the language, those on everything.
Memory: 4 bytes an item and an attribute seen with one, `attributes` at most: the lightest makes room. Cost of an example: one addition
an attribute; of a question: a pass over all items, and a logarithm each, an attribute.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aicache.streams.recommendations.ranker import Ranker, Scores, grown
from aicache.streams.recommendations.vocabulary import ATTRIBUTES, namespace_of

SCALE_MAX = 1e6


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
        self._all = np.zeros(64, dtype=np.float32)
        self._within: dict[int, NDArray[np.float32]] = {}
        self._sums: dict[int, float] = {}  # of the counts within

    def fade(self) -> None:
        """See `Ranker.fade`."""
        self._scale *= self._growth
        if self._scale > SCALE_MAX:
            inverse = np.float32(1.0 / self._scale)
            self._all *= inverse
            for attribute, counts in self._within.items():
                counts *= inverse
                self._sums[attribute] /= self._scale
            self._scale = 1.0

    def _attributes(self, context: Sequence[int]) -> list[int]:
        return [item for item in context if namespace_of(self.vocabulary.names[item]) in ATTRIBUTES]

    def learn(self, context: Sequence[int], target: int) -> None:
        """See `Ranker.learn`."""
        self.count(self._attributes(context), [target])

    def count(self, attributes: Sequence[int], items: Sequence[int]) -> None:
        """Distinct items came in a situation: their numbers, and those of its attributes."""
        if not items:
            return
        size, unit = max(items) + 1, np.float32(self._scale)
        self._all = grown(self._all, size)
        for item in items:  # few: one by one is faster than all at once
            self._all[item] += unit
        for attribute in attributes:
            counts = self._within.get(attribute)
            if counts is None:
                if len(self._within) == self.attributes:
                    lightest = min(self._sums, key=self._sums.__getitem__)
                    del self._within[lightest], self._sums[lightest]
                counts, self._sums[attribute] = np.zeros(64, dtype=np.float32), 0.0
            self._within[attribute] = counts = grown(counts, size)
            for item in items:
                counts[item] += unit
            self._sums[attribute] += self._scale * len(items)

    def row(self, attribute: int) -> tuple[float, NDArray[np.int64], NDArray[np.float32]]:
        """How many items came with an attribute, decayed; which, and how often each."""
        counts = self._within.get(attribute, np.zeros(0, dtype=np.float32))
        numbers = np.flatnonzero(counts)
        return self._sums.get(attribute, 0.0) / self._scale, numbers, counts[numbers] / np.float32(self._scale)

    def forget(self, numbers: NDArray[np.int64]) -> None:
        """See `Ranker.forget`."""
        for attribute in numbers.tolist():
            self._within.pop(attribute, None)
            self._sums.pop(attribute, None)
        self._all[numbers[numbers < len(self._all)]] = 0.0
        for attribute, counts in self._within.items():
            counts[numbers[numbers < len(counts)]] = 0.0
            self._sums[attribute] = float(counts.sum(dtype=np.float64))

    def scores(self, context: Sequence[int]) -> Scores:
        """See `Ranker.scores`."""
        size = len(self.vocabulary)
        self._all = grown(self._all, size)
        share = self._all[:size] / np.float32(self._scale) + np.float32(1e-3)
        share /= max(float(share.sum()), 1e-3)
        result = np.log(share)
        for attribute in self._attributes(context):
            counts = self._within.get(attribute)
            if counts is not None:
                lift = np.full(size, self.prior, dtype=np.float32)
                known = min(size, len(counts))
                lift[:known] += counts[:known] / (share[:known] * np.float32(self._scale))
                result += np.log(lift)
        return result

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """See `Ranker.arrays`."""
        size = len(self._all)
        within = np.zeros((len(self._within), size), dtype=np.float32)
        for row, counts in enumerate(self._within.values()):
            within[row, : min(size, len(counts))] = counts[:size]
        return {
            "ordered": np.array([self.ordered]),
            "scale": np.array([self._scale]),
            "all": self._all.copy(),
            "attributes": np.array(list(self._within), dtype=np.int32),
            "within": within,
            "sums": np.array([self._sums[attribute] for attribute in self._within], dtype=np.float64),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """See `Ranker.restore`."""
        self.ordered = float(arrays["ordered"][0])
        self._scale = float(arrays["scale"][0])
        self._all = np.array(arrays["all"], dtype=np.float32)
        rows = zip(arrays["attributes"].tolist(), arrays["within"], strict=True)
        self._within = {attribute: np.array(counts, dtype=np.float32) for attribute, counts in rows}
        self._sums = dict(zip(self._within, arrays["sums"].tolist(), strict=True))
