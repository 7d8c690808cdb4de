"""A learned combination of rankers: online stacking by softmax regression over their log-scores.

Each ranker gives every item one feature or several; the combination's score is their weighted sum, with weights of its own for
each length of context. Weights are learned prequentially: first the combination is asked for an item that it has not learned yet,
then it takes a step on the log-likelihood (AdaGrad), and only then do the rankers learn the example. Nothing is
tuned on the future.
Cost of a question: that of the rankers plus a product of features and weights.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aicache.streams.recommendations.factorization import Factorization
from aicache.streams.recommendations.neighbours import Neighbours
from aicache.streams.recommendations.ranker import CONTEXT_MAX, Ranker, Scores

BUCKETS = (0, 1, 2, 3, 4, 8, 16, 32)
"""Lower ends of the lengths of context that share weights."""
START_WEIGHT = 0.1
PARTS = ("neighbours", "transitions", "factorization", "situation")
ADAGRAD_START = 1e-2


class Combination(Ranker):
    """Neighbours at several speeds, transitions and a factorization, weighed by what has proved right so far.

    Args:
        neighbours, transitions, factorization: what goes with the items at hand.
        situation: what goes with the attributes of the situation. All share this one's vocabulary.
        rate: AdaGrad's step for the weights of the context's own length.
        shared_rate: the step for all other lengths, so that a rare length learns from the others.

    Examples:
        >>> ranker = Combination()
        >>> for _ in range(20):
        ...     ranker.learn_basket(["language:c", "pypi:cffi", "pypi:pycparser"])
        >>> ranker.predict_one(["pypi:cffi"], k=1)
        ['pypi:pycparser']
    """

    def __init__(
        self,
        neighbours: Neighbours | None = None,
        transitions: Neighbours | None = None,
        factorization: Factorization | None = None,
        situation: Neighbours | None = None,
        rate: float = 0.1,
        shared_rate: float = 0.02,
    ) -> None:
        super().__init__()
        self.neighbours = neighbours or Neighbours()
        self.transitions = transitions or Neighbours(half_lives=(5_500.0,), window=1, directed=True)
        self.factorization = factorization or Factorization()
        self.situation = situation or Neighbours(half_lives=(5_500.0,))
        self.rate = rate
        self.shared_rate = shared_rate
        for part in PARTS:
            getattr(self, part).vocabulary = self.vocabulary
        features = len(self.features(()))
        self._weights = np.full((len(BUCKETS), features), START_WEIGHT, dtype=np.float32)
        self._squares = np.full((len(BUCKETS), features), ADAGRAD_START, dtype=np.float32)
        self._baskets = 0

    def begin(self) -> None:
        """See `Ranker.begin`."""
        for part in PARTS:
            getattr(self, part).begin()

    def features(self, context: Sequence[int]) -> NDArray[np.float32]:
        """What the weights are for: shape (features, len(self.vocabulary))."""
        items, attributes = self._split(context)
        return np.vstack(
            [
                self.neighbours.features(items),
                self.transitions.features(items)[:1],
                self.factorization.scores(items)[None],
                self.situation.features(attributes)[:1],
            ]
        )

    def _split(self, context: Sequence[int]) -> tuple[list[int], list[int]]:
        """Items and attributes: four attributes beside one item would drown it in a common mean."""
        rankable = self.vocabulary.rankable()
        return [n for n in context if rankable[n]], [n for n in context if not rankable[n]]

    def scores(self, context: Sequence[int]) -> Scores:
        """See `Ranker.scores`."""
        return self._weights[_bucket(len(self._split(context)[0]))] @ self.features(context)

    def learn(self, context: Sequence[int], target: int) -> None:
        """See `Ranker.learn`."""
        if self.neighbours.knows(target):
            self._weigh(context, target)
        items, attributes = self._split(context)
        self.neighbours.learn(items, target)
        self.neighbours.learn_back(items, target)
        self.transitions.learn(items, target)
        self.factorization.learn(items, target)
        self.situation.learn(attributes, target)

    def learn_basket(self, x: Sequence[str]) -> None:
        """Learn a set of items: the weights by one of them in turn, the rankers by each."""
        self.begin()
        items = list(dict.fromkeys(x))[-CONTEXT_MAX:]
        numbers = [number for item in items if (number := self.vocabulary.add(item)) >= 0]
        basket, attributes = self._split(numbers)
        seen_before = [number for number in basket if self.neighbours.knows(number)]
        self._baskets += 1
        if len(basket) > 1 and seen_before:
            asked = seen_before[self._baskets % len(seen_before)]
            self._weigh([number for number in numbers if number != asked], asked)
        for target in basket:
            others = [number for number in basket if number != target]
            self.neighbours.learn(others, target)
            self.factorization.learn(others, target)
            self.situation.learn(attributes, target)

    def _weigh(self, context: Sequence[int], target: int) -> None:
        features = self.features(context)
        bucket = _bucket(len(self._split(context)[0]))
        scores = self._weights[bucket] @ features
        allowed = self.vocabulary.rankable()
        allowed[list(context)] = False
        if not allowed[target]:
            return
        scores[~allowed] = -np.inf
        likelihood = np.exp(scores - scores.max())
        likelihood /= likelihood.sum()
        gradient = features[:, target] - features @ likelihood
        self._squares[bucket] += np.square(gradient)
        step = gradient / np.sqrt(self._squares[bucket])
        if bucket:  # without items at hand their features say nothing about those lengths that have some
            self._weights[1:] += self.shared_rate * step
            self._weights[bucket] -= self.shared_rate * step
        self._weights[bucket] += self.rate * step

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """See `Ranker.arrays`."""
        own = {"weights": self._weights.copy(), "squares": self._squares.copy(), "baskets": np.array([self._baskets])}
        parts = {f"{part}.{name}": array for part in PARTS for name, array in getattr(self, part).arrays().items()}
        return {**own, **parts}

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """See `Ranker.restore`."""
        self._weights = np.array(arrays["weights"], dtype=np.float32)
        self._squares = np.array(arrays["squares"], dtype=np.float32)
        self._baskets = int(arrays["baskets"][0])
        for part in PARTS:
            prefix = f"{part}."
            getattr(self, part).restore(
                {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
            )


def _bucket(length: int) -> int:
    return int(np.searchsorted(BUCKETS, length, side="right")) - 1
