"""Popularity by context: how often items come in a situation, backing off to wider ones (Dirichlet smoothing; Zhai, Lafferty 2004).

The chain goes from all items to the attributes of the situation, in their order: the estimate of each link is mixed with `prior`
examples' worth of the one before. An unknown task falls back on the framework, that on the language, that on everything.
Memory: 4 bytes an item and an attribute seen with one, `attributes` at most: the lightest makes room. Cost of an example: one addition
a link; of a question: one pass over all items a link.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aicache.streams.recommendations.ranker import Ranker, Scores, grown
from aicache.streams.recommendations.vocabulary import ATTRIBUTES, namespace_of

SCALE_MAX = 1e6
SPECIFIC = {
    namespace: place for place, namespace in enumerate(("daytime", "os", "language", "framework", "tool", "task"))
}
"""From what says least of the items that come, to what says most."""


class ContextPopularity(Ranker):
    """Scores are log-probabilities.

    Args:
        half_life: examples after which a count weighs half.
        prior: examples' worth of the wider situation that is mixed into each narrower one.
        attributes: how many attributes have counts of their own.

    Examples:
        >>> ranker = ContextPopularity()
        >>> for _ in range(9):
        ...     ranker.learn_one(["language:python"], "pypi:numpy")
        ...     ranker.learn_one(["language:rust"], "crates:serde")
        >>> ranker.predict_one(["language:rust"], k=1)
        ['crates:serde']
    """

    def __init__(self, half_life: float = 50_000.0, prior: float = 20.0, attributes: int = 512) -> None:
        super().__init__()
        self.half_life = half_life
        self.prior = prior
        self.attributes = attributes
        self._growth = 2.0 ** (1.0 / half_life)
        self._scale = 1.0
        self._all = np.zeros(64, dtype=np.float32)
        self._within: dict[int, NDArray[np.float32]] = {}

    def begin(self, *, ordered: bool = False) -> None:
        """See `Ranker.begin`."""
        super().begin(ordered=ordered)
        self._scale *= self._growth
        if self._scale > SCALE_MAX:
            inverse = np.float32(1.0 / self._scale)
            self._all *= inverse
            for counts in self._within.values():
                counts *= inverse
            self._scale = 1.0

    def _chain(self, context: Sequence[int]) -> list[int]:
        """The attributes at hand, the widest first."""
        names = [(namespace_of(self.vocabulary.names[item]), item) for item in context]
        return [item for name, item in sorted(names, key=lambda pair: SPECIFIC.get(pair[0], 0)) if name in ATTRIBUTES]

    def learn(self, context: Sequence[int], target: int) -> None:
        """See `Ranker.learn`."""
        unit = np.float32(self._scale)
        self._all = grown(self._all, target + 1)
        self._all[target] += unit
        for attribute in self._chain(context):
            counts = self._within.get(attribute)
            if counts is None:
                if len(self._within) == self.attributes:
                    del self._within[min(self._within, key=lambda known: float(self._within[known].sum()))]
                counts = np.zeros(64, dtype=np.float32)
            self._within[attribute] = counts = grown(counts, target + 1)
            counts[target] += unit

    def forget(self, numbers: NDArray[np.int64]) -> None:
        """See `Ranker.forget`."""
        for attribute in numbers.tolist():
            self._within.pop(attribute, None)
        for counts in (self._all, *self._within.values()):
            counts[numbers[numbers < len(counts)]] = 0.0

    def scores(self, context: Sequence[int]) -> Scores:
        """See `Ranker.scores`."""
        size = len(self.vocabulary)
        self._all = grown(self._all, size)
        scale = np.float32(self._scale)
        share = self._all[:size] / scale + np.float32(1e-3)
        share /= max(float(share.sum()), 1e-3)
        for attribute in self._chain(context):
            counts = self._within.get(attribute)
            if counts is not None:
                share *= np.float32(self.prior)
                known = min(size, len(counts))
                share[:known] += counts[:known] / scale
                share /= share.sum()
        return np.log(share)

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
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """See `Ranker.restore`."""
        self.ordered = float(arrays["ordered"][0])
        self._scale = float(arrays["scale"][0])
        self._all = np.array(arrays["all"], dtype=np.float32)
        rows = zip(arrays["attributes"].tolist(), arrays["within"], strict=True)
        self._within = {attribute: np.array(counts, dtype=np.float32) for attribute, counts in rows}
