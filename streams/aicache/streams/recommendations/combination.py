"""A learned combination of rankers: online stacking by softmax regression over their scores.

Each ranker gives every item one feature or several; the combination's score is their weighted sum, with weights of its own for
each length of context. Weights are learned prequentially: first the combination is asked for an item that it has not learned yet,
then it takes a Newton step on the log-likelihood, and only then do the rankers learn the example. Nothing is tuned on the future.
The best likelihood is not always the best head of a ranking. So there are two stacks: of all features, and of the linear weights and
the sessions' votes alone, which say little of the tail. Of the two, the one that lately named more items among its first ten answers.

Memory: that of the rankers. Cost of an example: that of the rankers, and of a question at one in three, later at one in 32. Cost of a
question: that of the rankers, a logarithm for each item and feature, and a product of features and weights.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aicache.streams.recommendations.compiled import compiled
from aicache.streams.recommendations.ease import Ease
from aicache.streams.recommendations.factorization import Factorization
from aicache.streams.recommendations.neighbours import Neighbours
from aicache.streams.recommendations.popularity import ContextPopularity
from aicache.streams.recommendations.ranker import CONTEXT_MAX, Ranker, Scores
from aicache.streams.recommendations.sessions import SessionNeighbours

BUCKETS = (0, 1, 2, 3, 4, 8, 16, 32)
"""Lower ends of the lengths of context that share weights."""
START_WEIGHT = 0.1
PARTS = ("neighbours", "transitions", "factorization", "situation", "ease", "sessions")
PRIOR = 10.0
SUCCESS_PLACES, SUCCESS_RATE = 10, 5e-4
"""A stack succeeds where the item is among its first ten; how fast that is noticed."""
EASE_UNIT, VOTES_UNIT = np.float32(5.0), np.float32(4.0)
"""What is no logarithm is brought to about the same size."""
EASE_MIN, VOTES_MIN = np.float32(1e-3), np.float32(3e-2)
BASE, TRANSITIONS, FACTORS, SITUATION, LINEAR, LINEAR_LOG, VOTES, VOTES_LOG, FAST_FACTORS = (
    5,
    6,
    7,
    8,
    9,
    10,
    slice(11, 13),
    13,
    14,
)
"""Rows of the features; those above are the neighbours'."""
FEATURES, HEAD = 15, (LINEAR, 11, 12)
"""How many there are, and which of them are no logarithms."""
FAST_DECAY = 0.7
"""The factorization is asked once more, with more weight for what is newest in a sequence."""
TIE = np.float32(1e-3)
"""What has no vote at all is ranked by its base rate."""
WEIGHED_SOON, WEIGHED_LATE, WEIGHED_ONCE_MORE = 3, 32, 2_048
"""The weights take a step at one in so many examples, at first and at last, and at one less with each so many: they settle, and a step
costs a question."""
SHARED_EVERY = 8
"""Other lengths of context than the one at hand move at one in so many steps, by all that they were given since."""
COLD = 4
"""For one step in so many, an example is asked once more, with nothing but its situation at hand."""


class Combination(Ranker):
    """Neighbours at several speeds, transitions and a factorization, weighed by what has proved right so far.

    Args:
        neighbours, transitions, factorization: what goes with the items at hand.
        situation: what is popular with the attributes of the situation.
        ease, sessions: the linear autoencoder, and sessions like the one at hand. All share this one's vocabulary.
        half_life: steps after which what the weights were learned from counts half.
        shared_rate: how much of a step all other lengths of context take, so that a rare one learns from the others.
        prequential: whether the weights learn from each example before it is learned; if not, only from `weigh_one`.

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
        situation: ContextPopularity | None = None,
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
        self.situation = situation or ContextPopularity()
        self.ease = ease or Ease()
        self.sessions = sessions or SessionNeighbours()
        self.half_life = half_life
        self.shared_rate = shared_rate
        self.prequential = prequential
        self._parts: list[Ranker] = [getattr(self, part) for part in PARTS]
        for part in self._parts:
            part.vocabulary = self.vocabulary
        self._features = np.empty((FEATURES, 64), dtype=np.float32)
        self._stacks = [_Stack(np.arange(FEATURES), self), _Stack(np.array(HEAD), self)]
        self._examples = self._weighed = 0

    def begin(self, *, ordered: bool = False) -> None:
        """See `Ranker.begin`."""
        super().begin(ordered=ordered)
        for part in self._parts:
            part.ordered = self.ordered
            part.fade()

    def forget(self, numbers: NDArray[np.int64]) -> None:
        """See `Ranker.forget`."""
        for part in self._parts:
            part.forget(numbers)

    def features(self, context: Sequence[int]) -> NDArray[np.float32]:
        """What the weights are for, until the next question: shape (FEATURES, len(self.vocabulary))."""
        known, attributes = self.vocabulary.split(context)
        items, size = np.array(known, dtype=np.int64), len(self.vocabulary)
        if size > self._features.shape[1]:
            self._features = np.empty((FEATURES, 2 * size), dtype=np.float32)
        out = self._features[:, :size]
        self.neighbours.features(items, out[:TRANSITIONS])
        if known:
            self.transitions.features(items, out[TRANSITIONS : TRANSITIONS + 1])
        else:
            out[TRANSITIONS] = out[BASE]
        out[SITUATION] = self.situation.scores(attributes) if attributes else out[BASE]
        out[[FACTORS, FAST_FACTORS]] = self.factorization.activations(items, (self.factorization.decay, FAST_DECAY))
        linear = self.ease.scores(items)
        np.multiply(linear, EASE_UNIT, out=out[LINEAR])
        np.log(np.maximum(linear, EASE_MIN), out=out[LINEAR_LOG])
        votes = self.sessions.votes(items)
        np.multiply(votes, VOTES_UNIT, out=out[VOTES])
        np.log(votes[0] + VOTES_MIN * np.exp(out[BASE]), out=out[VOTES_LOG])
        return out

    def scores(self, context: Sequence[int]) -> Scores:
        """See `Ranker.scores`."""
        known, _ = self.vocabulary.split(context)
        whole, head = self._stacks
        if not known or not self.ranks_by_head():
            return whole.scores(self.features(context), _bucket(len(known)))
        items = np.array(known, dtype=np.int64)
        features = np.vstack((EASE_UNIT * self.ease.scores(items), VOTES_UNIT * self.sessions.votes(items)))
        return head.scores(features, _bucket(len(known))) + TIE * self.neighbours.base_rates()

    def ranks_by_head(self) -> bool:
        """Whether the stack of what is no logarithm ranks, where items are at hand."""
        whole, head = self._stacks
        return whole.success < head.success

    def weights_of(self, kept: Sequence[int]) -> NDArray[np.float32]:
        """Weights of some features for who does not have the others: shape (len(BUCKETS), len(kept)).

        Around its maximum the log-likelihood is a paraboloid whose curvature is known: here is the maximum where the others weigh 0.
        """
        stack = self._stacks[0]
        curvature = stack.curvature + PRIOR * np.eye(FEATURES)
        others = np.setdiff1d(stack.chosen, kept)
        within = curvature[:, np.array(kept)[:, None], np.array(kept)]
        across = curvature[:, np.array(kept)[:, None], others]
        moved = np.linalg.solve(within, across @ stack.weights[:, others, None].astype(np.float64))
        return stack.weights[:, list(kept)] + moved[:, :, 0].astype(np.float32)

    def learn(self, context: Sequence[int], target: int) -> None:
        """See `Ranker.learn`."""
        self._examples += 1
        if self._is_due() and self.neighbours.knows(target):
            self._weigh(context, target)
        known, attributes = self.vocabulary.split(context)
        self._weigh_cold(attributes, [target])
        items = np.array(known, dtype=np.int64)
        for part in (self.neighbours, self.transitions, self.factorization, self.ease, self.sessions):
            part.learn(items, target)
        self.situation.count(attributes, [target])

    def learn_set(self, numbers: Sequence[int]) -> None:
        """See `Ranker.learn_set`: the weights learn from one item of the set in turn, the rankers from each."""
        basket, attributes = self.vocabulary.split(numbers)
        self._examples += 1
        if len(basket) > 1 and self._is_due():
            known = [number for number in basket if self.neighbours.knows(number)]
            if known:
                asked = known[self._weighed % len(known)]
                self._weigh([number for number in numbers if number != asked], asked)
        self._weigh_cold(attributes, basket)
        items = np.array(basket, dtype=np.int64)
        for part in (self.neighbours, self.factorization, self.ease, self.sessions):
            part.learn_set(items)
        self.situation.count(attributes, basket)

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

    def _weigh_cold(self, attributes: Sequence[int], items: Sequence[int]) -> None:
        """Weights for when nothing is at hand but a situation: examples seldom are so, and are asked as if they were."""
        if attributes and self._is_due(COLD):
            known = [number for number in items if self.neighbours.knows(number)]
            if known:
                self._weigh(attributes, known[self._weighed % len(known)])

    def _is_due(self, rarer: int = 1) -> bool:
        every = min(max(self._examples // WEIGHED_ONCE_MORE, WEIGHED_SOON), WEIGHED_LATE)
        return self.prequential and self._examples % (rarer * every) == 0

    def _weigh(self, context: Sequence[int], target: int) -> None:
        hidden = ~self.vocabulary.rankable()
        hidden[context] = True
        if not hidden[target]:
            features = self.features(context)
            bucket = _bucket(len(self.vocabulary.split(context)[0]))
            self._weighed += 1
            for stack in self._stacks:
                stack.learn(features, bucket, target, hidden, every=self._weighed % SHARED_EVERY == 0)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """See `Ranker.arrays`."""
        own: dict[str, NDArray[np.generic]] = {
            "ordered": np.array([self.ordered]),
            "examples": np.array([self._examples, self._weighed]),
        }
        for number, stack in enumerate(self._stacks):
            own[f"weights{number}"] = stack.weights.copy()
            own[f"curvature{number}"] = stack.curvature.copy()
            own[f"gradient{number}"] = stack.gradient.copy()
            own[f"success{number}"] = np.array([stack.success])
        for name, part in zip(PARTS, self._parts, strict=True):
            own.update({f"{name}.{key}": array for key, array in part.arrays().items()})
        return own

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """See `Ranker.restore`."""
        self.ordered = float(arrays["ordered"][0])
        self._examples, self._weighed = (int(count) for count in arrays["examples"])
        for number, stack in enumerate(self._stacks):
            stack.weights = np.array(arrays[f"weights{number}"], dtype=np.float32)
            stack.curvature = np.array(arrays[f"curvature{number}"], dtype=np.float64)
            stack.gradient = np.array(arrays[f"gradient{number}"], dtype=np.float64)
            stack.success = float(arrays[f"success{number}"][0])
        for name, part in zip(PARTS, self._parts, strict=True):
            prefix = f"{name}."
            part.restore({key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)})


def load_loops() -> None:
    """Run what is compiled once, on a model that is thrown away, so that the first event does not wait for it."""
    model = Combination()
    for _ in range(2 * WEIGHED_SOON):
        model.learn_basket(["language:c", "pypi:cffi", "pypi:pycparser"])
        model.learn_one(["language:c", "pypi:cffi"], "pypi:pycparser")
    model.predict_one(["pypi:cffi"], k=1)
    model.neighbours.conditionals([0], [1])
    model.ease.solve()
    model.forget(np.arange(len(model.vocabulary)))


class _Stack:
    """Weights of some features, for each length of context: softmax regression by online Newton steps (Hazan et al. 2007).

    Args:
        chosen: numbers of the features.
        ranker: has the parameters.
    """

    def __init__(self, chosen: NDArray[np.int64], ranker: "Combination") -> None:
        self.chosen = chosen
        self.fade = 2.0 ** (-1.0 / ranker.half_life)
        self.shared_rate = ranker.shared_rate
        self.weights = np.full((len(BUCKETS), len(chosen)), START_WEIGHT, dtype=np.float32)
        self.curvature = np.zeros((len(BUCKETS), len(chosen), len(chosen)))
        self.gradient = np.zeros((len(BUCKETS), len(chosen)))
        self.success = 0.0

    def scores(self, features: NDArray[np.float32], bucket: int) -> Scores:
        """The weighted sum of its features."""
        return self.weights[bucket] @ (features if len(self.chosen) == len(features) else features[self.chosen])

    def learn(
        self, features: NDArray[np.float32], bucket: int, target: int, hidden: NDArray[np.bool_], *, every: bool
    ) -> None:
        """Note whether the target is among the first, then take a step on its log-likelihood.

        Args:
            features: as the combination has them.
            bucket: of the length of the context.
            target: what came.
            hidden: what could not have come.
            every: whether all other lengths take their step as well.
        """
        if len(self.chosen) < len(features):
            features = features[self.chosen]
        likelihood = self.weights[bucket] @ features
        likelihood[hidden] = -np.inf
        if bucket:  # who says the same of all names none
            found = np.count_nonzero(likelihood >= likelihood[target]) <= SUCCESS_PLACES
            self.success += (found - self.success) * SUCCESS_RATE
        likelihood -= likelihood.max()
        np.exp(likelihood, out=likelihood)
        likelihood /= likelihood.sum()
        apart = features - (features @ likelihood)[:, None]
        covariance = (apart * likelihood) @ apart.T
        # Without items at hand their features say nothing about those lengths that have some.
        shared = self.shared_rate if bucket else 0.0
        _note(self.curvature, self.gradient, self.fade, covariance, apart[:, target], bucket, shared)
        for moved in range(len(BUCKETS)) if every else (bucket,):
            _move(self.weights[moved], self.curvature[moved], self.gradient[moved])


def _bucket(length: int) -> int:
    return bisect_right(BUCKETS, length) - 1


@compiled
def _note(
    curvature: NDArray[np.float64],
    gradient: NDArray[np.float64],
    fade: float,
    covariance: NDArray[np.float32],
    came: NDArray[np.float32],
    bucket: int,
    shared: float,
) -> None:
    """Add what an example says of each length of context: the covariance of the features, and how far what came is from their mean."""
    buckets, size = gradient.shape
    for other in range(buckets):
        share = 1.0 if other == bucket else shared if other else 0.0
        for row in range(size):
            gradient[other, row] += share * came[row]
            for column in range(size):
                curvature[other, row, column] = fade * curvature[other, row, column] + share * covariance[row, column]


@compiled
def _move(weights: NDArray[np.float32], curvature: NDArray[np.float64], gradient: NDArray[np.float64]) -> None:
    """A Newton step, which takes the gradient to nothing: by the Cholesky factor of the curvature with its prior."""
    size = len(gradient)
    factor = np.zeros((size, size))
    for row in range(size):
        for column in range(row + 1):
            rest = curvature[row, column] + (PRIOR if row == column else 0.0)
            for k in range(column):
                rest -= factor[row, k] * factor[column, k]
            factor[row, column] = math.sqrt(rest) if row == column else rest / factor[column, column]
        for k in range(row):
            gradient[row] -= factor[row, k] * gradient[k]
        gradient[row] /= factor[row, row]
    for row in range(size - 1, -1, -1):
        for k in range(row + 1, size):
            gradient[row] -= factor[k, row] * gradient[k]
        gradient[row] /= factor[row, row]
        weights[row] += gradient[row]
    gradient[:] = 0.0
