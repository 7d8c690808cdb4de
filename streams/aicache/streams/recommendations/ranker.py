"""What every ranker has in common: River's estimator interface over baskets of items.

A ranker sees a context (the items at hand, oldest first) and gives every item a score, higher is likelier to come next. It learns
from an example: a context and the item that came. `River <https://riverml.xyz>`_ supplies parameters, `clone` and representation.
Pure: the order of examples is all that matters, so a replay gives the same numbers.
"""

import abc
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from river import base

from aicache.streams.recommendations.compiled import compiled
from aicache.streams.recommendations.vocabulary import Vocabulary

Scores = NDArray[np.float32]
Numbers = Sequence[int] | NDArray[np.int64]
"""Of items, in an order; who loops over them compiled takes them as an array."""
Number = TypeVar("Number", np.float32, np.int32, np.int64)
CONTEXT_MAX = 256
"""A context is cut to its newest items, whatever it is given: bounds the cost of one question."""
ORDERED_RATE = 1e-2
"""How fast a ranker notices that what it learns are sequences, or sets."""


@compiled
def top(scores: Scores, allowed: NDArray[np.bool_], k: int) -> NDArray[np.int64]:
    """The `k` allowed numbers with the highest scores, best first; ties go to the smaller number. Made for a small `k`."""
    best = np.empty(min(k, len(scores)), dtype=np.int64)
    found = 0
    for number in range(len(scores)):
        if not allowed[number]:
            continue
        if found < len(best):
            found += 1
        elif found == 0 or scores[number] <= scores[best[found - 1]]:
            continue
        place = found - 1
        while place > 0 and scores[number] > scores[best[place - 1]]:
            best[place] = best[place - 1]
            place -= 1
        best[place] = number
    return best[:found]


class Ranker(base.Estimator):
    """Base of all rankers.

    Numbers come from a vocabulary that several rankers may share: `learn` and `scores` take numbers, `learn_one`, `learn_basket`
    and `rank` take names.
    """

    def __init__(self) -> None:
        self.vocabulary = Vocabulary()
        self.ordered = 0.0

    @abc.abstractmethod
    def learn(self, context: Sequence[int], target: int) -> None:
        """Learn that `target` came after (or with) `context`; every number is below len(self.vocabulary)."""

    @abc.abstractmethod
    def scores(self, context: Sequence[int]) -> Scores:
        """A score for every number: shape (len(self.vocabulary),)."""

    @abc.abstractmethod
    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All that was learned, the vocabulary apart."""

    @abc.abstractmethod
    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Become what gave these arrays; parameters and vocabulary must be the same."""

    @abc.abstractmethod
    def forget(self, numbers: NDArray[np.int64]) -> None:
        """Forget what is known of these numbers, which are in rising order: they are given to other names."""

    def begin(self, *, ordered: bool = False) -> None:
        """A new basket or event begins.

        Args:
            ordered: whether it is one event of a sequence. What is mostly so decides how much the order of a context counts.
        """
        self.ordered += (float(ordered) - self.ordered) * ORDERED_RATE
        self.fade()

    def fade(self) -> None:
        """What is old weighs less by one step: by nothing where a ranker has no use for it."""

    def learn_set(self, numbers: Sequence[int]) -> None:
        """Learn a set in which each came with all the others; the numbers are distinct."""
        for target in numbers:
            self.learn([other for other in numbers if other != target], target)

    def learn_one(self, x: Sequence[str], y: str) -> None:
        """Learn one example.

        Args:
            x: the items at hand, oldest first.
            y: the item that came.
        """
        self.begin(ordered=True)
        *numbers, target = self._numbers(_newest([*x, y]))
        self.vocabulary.use([target], numbers)
        self.learn(numbers, target)

    def learn_basket(self, x: Sequence[str]) -> None:
        """Learn a set of items in which each came with all the others."""
        self.begin()
        numbers = self._numbers(_newest(x))
        self.vocabulary.use(numbers)
        self.learn_set(numbers)

    def _numbers(self, names: Sequence[str]) -> list[int]:
        """Numbers of distinct names, those with the newest last; new ones take the place of what weighs least where there is no room."""
        known = self.vocabulary.known(names)
        if len(known) == len(names):
            return known
        names = names[-self.vocabulary.capacity :]
        known = self.vocabulary.known(names)
        missing = len(names) - len(known)
        if not missing:
            return known
        if missing > self.vocabulary.room:
            self.forget(self.vocabulary.make_room(missing, keep=names))
        return [self.vocabulary.add(name) for name in names]

    def predict_one(self, x: Sequence[str], k: int = 10) -> list[str]:
        """The likeliest next items, best first."""
        return [item for item, _ in self.rank(x, k)]

    def rank(
        self, x: Sequence[str], k: int = 10, *, namespaces: Sequence[str] = (), seen: Sequence[str] = ()
    ) -> list[tuple[str, float]]:
        """The likeliest next items with their scores.

        Args:
            x: the items at hand, oldest first; unknown ones are passed over.
            k: how many to name at most.
            namespaces: only items of these; none named: all items.
            seen: items that are not to be named, besides those of `x`.

        Returns:
            At most `k` pairs, best first; empty where nothing is known.
        """
        context = self.vocabulary.known(dict.fromkeys(x[-CONTEXT_MAX:]))
        allowed = self.vocabulary.within(namespaces) if namespaces else self.vocabulary.rankable()
        allowed[context] = False
        allowed[self.vocabulary.known(seen)] = False
        scores = self.scores(context)
        return [(self.vocabulary.names[number], float(scores[number])) for number in top(scores, allowed, k)]


def _newest(x: Sequence[str]) -> list[str]:
    """The newest distinct items, oldest first."""
    return list(dict.fromkeys(reversed(x[-CONTEXT_MAX:])))[::-1]


def grown(array: NDArray[Number], size: int) -> NDArray[Number]:
    """The array with at least `size` rows, zeros where there were none; doubles, so that growing stays cheap."""
    have = len(array)
    if size <= have:
        return array
    result = np.zeros((max(size, 2 * have), *array.shape[1:]), dtype=array.dtype)
    result[:have] = array
    return result
