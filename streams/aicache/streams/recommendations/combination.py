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

from aicache.streams.recommendations.ease import Ease
from aicache.streams.recommendations.factorization import Factorization
from aicache.streams.recommendations.neighbours import Neighbours
from aicache.streams.recommendations.ranker import CONTEXT_MAX, Ranker, Scores
from aicache.streams.recommendations.sessions import SessionNeighbours

BUCKETS = (0, 1, 2, 3, 4, 8, 16, 32)
"""Lower ends of the lengths of context that share weights."""
START_WEIGHT = 0.1
PARTS = ("neighbours", "transitions", "factorization", "situation", "ease", "sessions")
PRIOR = 3.0
LIKELIHOOD_MIN = 1e-5
EASE_UNIT, VOTES_UNIT = np.float32(5.0), np.float32(4.0)
"""What is no logarithm is brought to about the same size."""
EASE_MIN, VOTES_MIN = np.float32(1e-3), np.float32(3e-2)
ALWAYS_WEIGHED, WEIGHED_EVERY = 4_096, 4
"""The weights take a step at each of the first baskets, then at every few: they have settled, and a step costs a question."""


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
        ease: Ease | None = None,
        sessions: SessionNeighbours | None = None,
        half_life: float = 20_000.0,
        shared_rate: float = 0.1,
        prequential: bool = True,
    ) -> None:
        super().__init__()
        self.neighbours = neighbours or Neighbours()
        self.transitions = transitions or Neighbours(half_lives=(5_500.0,), window=1, directed=True)
        self.factorization = factorization or Factorization()
        self.situation = situation or Neighbours(half_lives=(5_500.0,), directed=True)
        self.ease = ease or Ease()
        self.sessions = sessions or SessionNeighbours()
        self.half_life = half_life
        self.shared_rate = shared_rate
        self.prequential = prequential
        for part in PARTS:
            getattr(self, part).vocabulary = self.vocabulary
        features = len(self.features(()))
        self._weights = np.full((len(BUCKETS), features), START_WEIGHT, dtype=np.float32)
        self._curvature = np.zeros((len(BUCKETS), features, features))
        self._prior = np.eye(features) * PRIOR
        self._fade = 2.0 ** (-1.0 / half_life)
        self._examples = 0

    def begin(self, *, ordered: bool = False) -> None:
        """See `Ranker.begin`."""
        super().begin(ordered=ordered)
        for part in PARTS:
            getattr(self, part).begin(ordered=ordered)

    def features(self, context: Sequence[int]) -> NDArray[np.float32]:
        """What the weights are for: shape (features, len(self.vocabulary))."""
        items, attributes = self._split(context)
        linear = self.ease.scores(items)
        votes = self.sessions.votes(items)
        near = self.neighbours.features(items)
        return np.vstack(
            [
                near,
                self.transitions.features(items)[:1] if items else near[-1:],
                self.factorization.scores(items)[None],
                self.situation.features(attributes)[:1] if attributes else near[-1:],
                linear[None] * EASE_UNIT,
                np.log(np.maximum(linear, EASE_MIN))[None],
                votes[None] * VOTES_UNIT,
                np.log(votes + VOTES_MIN * np.exp(near[-1]))[None],
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
        self._examples += 1
        if self._is_due() and self.neighbours.knows(target):
            self._weigh(context, target)
        items, attributes = self._split(context)
        for part in (self.neighbours, self.transitions, self.factorization, self.ease, self.sessions):
            part.learn(items, target)
        self._learn_situation(attributes, [target])

    def learn_set(self, numbers: Sequence[int]) -> None:
        """See `Ranker.learn_set`: the weights learn from one item of the set in turn, the rankers from each."""
        basket, attributes = self._split(numbers)
        self._examples += 1
        if len(basket) > 1 and self._is_due():
            known = [number for number in basket if self.neighbours.knows(number)]
            if known:
                asked = known[self._examples // WEIGHED_EVERY % len(known)]
                self._weigh([number for number in numbers if number != asked], asked)
        for part in (self.neighbours, self.factorization, self.ease, self.sessions):
            part.learn_set(basket)
        self._learn_situation(attributes, basket)

    def weigh_one(self, x: Sequence[str], y: str) -> None:
        """Let the weights alone learn from an example that was held back: for questions that come long after what is at hand.

        Args:
            x: the items at hand, oldest first.
            y: the item that was held back; passed over where it is not known or at hand.
        """
        target = self.vocabulary.known([y])
        context = self.vocabulary.known(dict.fromkeys(x))[-CONTEXT_MAX:]
        if target and target[0] not in context:
            self._weigh(context, target[0])

    def _is_due(self) -> bool:
        if not self.prequential:
            return False
        return self._examples <= ALWAYS_WEIGHED or self._examples % WEIGHED_EVERY == 0

    def _learn_situation(self, attributes: list[int], targets: Sequence[int]) -> None:
        if attributes:
            for target in targets:
                self.situation.learn(attributes, target)

    def _weigh(self, context: Sequence[int], target: int) -> None:
        features = self.features(context)
        bucket = _bucket(len(self._split(context)[0]))
        scores = self._weights[bucket] @ features
        allowed = self.vocabulary.rankable()
        allowed[list(context)] = False
        if not allowed[target]:
            return
        scores -= scores[allowed].max()
        likelihood = np.where(allowed, np.exp(np.minimum(scores, 0.0)), np.float32(0.0))
        likelihood /= likelihood.sum()
        mean = features @ likelihood
        near = np.flatnonzero(likelihood > LIKELIHOOD_MIN)
        part = features[:, near]
        curvature = (part * likelihood[near]) @ part.T - np.outer(mean, mean)
        share = np.full(len(BUCKETS), self.shared_rate)
        share[0] = 0.0  # without items at hand their features say nothing about those lengths that have some
        if bucket == 0:
            share[:] = 0.0
        share[bucket] = 1.0
        self._curvature *= self._fade
        self._curvature += share[:, None, None] * curvature
        gradient = np.repeat((features[:, target] - mean)[None, :, None], len(BUCKETS), axis=0).astype(np.float64)
        step = np.linalg.solve(self._curvature + self._prior, share[:, None, None] * gradient)
        self._weights += step[:, :, 0].astype(np.float32)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """See `Ranker.arrays`."""
        own = {
            "ordered": np.array([self.ordered]),
            "weights": self._weights.copy(),
            "curvature": self._curvature.copy(),
            "examples": np.array([self._examples]),
        }
        parts = {f"{part}.{name}": array for part in PARTS for name, array in getattr(self, part).arrays().items()}
        return {**own, **parts}

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """See `Ranker.restore`."""
        self.ordered = float(arrays["ordered"][0])
        self._weights = np.array(arrays["weights"], dtype=np.float32)
        self._curvature = np.array(arrays["curvature"], dtype=np.float64)
        self._examples = int(arrays["examples"][0])
        for part in PARTS:
            prefix = f"{part}."
            getattr(self, part).restore(
                {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
            )


def _bucket(length: int) -> int:
    return int(np.searchsorted(BUCKETS, length, side="right")) - 1
