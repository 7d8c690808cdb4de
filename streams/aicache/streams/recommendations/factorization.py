"""Log-bilinear factorization with online updates (Mnih and Hinton 2007; Mikolov et al. 2013, with the whole softmax).

The context's vectors are added up, newer items weigh more, and the likelihood of each item is a softmax of inner products. Each
example moves the vectors by AdaGrad (Duchi et al. 2011). Only items with an error above `threshold` are moved, which is exact up
to that error and makes the cost of an example one product with all items' vectors.
Memory: 8·dimension bytes an item. Cost of an example or a question: dimension multiplications an item.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aicache.streams.recommendations.ranker import Ranker, Scores, grown

ADAGRAD_START = 1e-2
INITIAL_SPREAD = 0.1
LEARNED = ("input", "output", "bias", "input_sum", "output_sum", "bias_sum")


class Factorization(Ranker):
    """Scores are log-probabilities.

    Args:
        dimension: length of the vectors.
        rate: AdaGrad's step for a set.
        event_rate: its step for one event of a sequence.
        decay: weight of an item at hand relative to the next newer one in a sequence; in a set all weigh the same.
        window: how many of the newest items at hand count.
        threshold: errors below this are not propagated.

    Examples:
        >>> ranker = Factorization(dimension=8)
        >>> for _ in range(50):
        ...     ranker.learn_basket(["tag:wifi", "tag:driver"])
        ...     ranker.learn_basket(["tag:boot", "tag:grub"])
        >>> ranker.predict_one(["tag:boot"], k=1)
        ['tag:grub']
    """

    def __init__(
        self,
        dimension: int = 64,
        rate: float = 0.15,
        event_rate: float = 0.1,
        decay: float = 0.9,
        window: int = 64,
        threshold: float = 1e-3,
    ) -> None:
        super().__init__()
        self.dimension = dimension
        self.rate = rate
        self.event_rate = event_rate
        self.decay = decay
        self.window = window
        self.threshold = threshold
        self._input = np.zeros((0, dimension), dtype=np.float32)
        self._output = np.zeros((64, dimension), dtype=np.float32)
        self._bias = np.zeros(64, dtype=np.float32)
        self._input_sum = np.zeros(64, dtype=np.float32)
        self._output_sum = np.zeros(64, dtype=np.float32)
        self._bias_sum = np.zeros(64, dtype=np.float32)

    def _make_room(self, size: int) -> None:
        if size <= len(self._input):
            return
        start, end = len(self._input), max(size, 2 * len(self._input), 64)
        self._input = np.concatenate([self._input, _initial(start, end, self.dimension)])
        self._output = grown(self._output, end)
        for name in ("_bias", "_input_sum", "_output_sum", "_bias_sum"):
            setattr(self, name, grown(getattr(self, name), end))

    def _weights(self, length: int) -> NDArray[np.float32]:
        decay = 1.0 - (1.0 - self.decay) * self.ordered
        weights = np.power(np.float32(decay), np.arange(length - 1, -1, -1, dtype=np.float32))
        return weights / np.sqrt(np.square(weights).sum())

    def scores(self, context: Sequence[int]) -> Scores:
        """See `Ranker.scores`: log-probabilities over all items."""
        size = len(self.vocabulary)
        self._make_room(size)
        recent = list(context[-self.window :])
        scores = self._bias[:size].copy()
        if recent:
            scores += self._output[:size] @ (self._weights(len(recent)) @ self._input[recent])
        if size:
            scores -= scores.max()
            scores -= np.log(np.exp(scores).sum())
        return scores

    def vectors(self, items: Sequence[int]) -> tuple[NDArray[np.float32], ...]:
        """What items say where they are at hand and what they answer to, of shape (n, dimension); how far an event moves the former,
        in gradients, and their biases.
        """
        self._make_room(len(self.vocabulary))
        pace = np.float32(self.event_rate) / np.sqrt(self._input_sum[items] + np.float32(ADAGRAD_START))
        return self._input[items], self._output[items], pace, self._bias[items]

    def learn(self, context: Sequence[int], target: int) -> None:
        """See `Ranker.learn`."""
        self._make_room(len(self.vocabulary))
        recent = list(context[-self.window :])
        weights = self._weights(len(recent))
        error = self._move(weights[None] @ self._input[recent], [target], list(context), self.event_rate)
        if recent:
            self._move_input(recent, weights[:, None] * error, self.event_rate)

    def learn_set(self, numbers: Sequence[int]) -> None:
        """See `Ranker.learn_set`: one step for all."""
        self._make_room(len(self.vocabulary))
        if len(numbers) < 2:
            for target in numbers:
                self.learn([], target)
            return
        near = list(numbers[-self.window :])
        vectors = self._input[near]
        share = np.float32(1.0 / np.sqrt(len(near) - 1))
        error = self._move((vectors.sum(axis=0) - vectors) * share, near, near, self.rate)
        self._move_input(near, (error.sum(axis=0) - error) * share, self.rate)

    def _move(
        self, hidden: NDArray[np.float32], targets: list[int], at_hand: list[int], rate: float
    ) -> NDArray[np.float32]:
        """Move what is predicted, from what is at hand, towards each target; the errors, one row a target, in terms of the input."""
        size = len(self.vocabulary)
        place = np.arange(len(targets))
        likely = hidden @ self._output[:size].T
        likely += self._bias[:size]
        wanted = likely[place, targets]
        likely[:, at_hand] = -np.inf  # what is at hand is no candidate
        likely[place, targets] = wanted
        likely -= likely.max(axis=1, keepdims=True)
        np.exp(likely, out=likely)
        total = likely.sum(axis=1, keepdims=True)
        above = likely > total * np.float32(self.threshold)
        above[place, targets] = True
        moved = np.flatnonzero(above.any(axis=0))
        error = likely[:, moved]
        error /= -total
        error[place, np.searchsorted(moved, targets)] += 1.0
        square = np.square(error)
        self._bias_sum[moved] += square.sum(axis=0)
        self._bias[moved] += np.float32(rate) * error.sum(axis=0) / np.sqrt(self._bias_sum[moved] + ADAGRAD_START)
        output = self._output[moved]
        back = error @ output
        self._output_sum[moved] += _mean_square(hidden) @ square
        steps = np.float32(rate) / np.sqrt(self._output_sum[moved] + ADAGRAD_START)
        self._output[moved] = output + (error * steps).T @ hidden
        return back.astype(np.float32, copy=False)

    def _move_input(self, items: list[int], gradient: NDArray[np.float32], rate: float) -> None:
        self._input_sum[items] += _mean_square(gradient)
        self._input[items] += np.float32(rate) * gradient / np.sqrt(self._input_sum[items] + ADAGRAD_START)[:, None]

    def forget(self, numbers: NDArray[np.int64]) -> None:
        """See `Ranker.forget`: vectors begin anew. The base rate of who comes is that of who went, until it is known better."""
        numbers = numbers[numbers < len(self._input)]
        self._input[numbers] = _initial(0, len(self._input), self.dimension)[numbers]
        self._output[numbers] = 0.0
        for sums in (self._input_sum, self._output_sum, self._bias_sum):
            sums[numbers] = 0.0

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """See `Ranker.arrays`."""
        return {"ordered": np.array([self.ordered]), **{name: getattr(self, f"_{name}").copy() for name in LEARNED}}

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """See `Ranker.restore`."""
        self.ordered = float(arrays["ordered"][0])
        for name in LEARNED:
            setattr(self, f"_{name}", np.array(arrays[name], dtype=np.float32))


def _mean_square(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    mean: NDArray[np.float32] = np.einsum("ij,ij->i", rows, rows) / np.float32(rows.shape[1])
    return mean


def _initial(start: int, end: int, dimension: int) -> NDArray[np.float32]:
    """Small, fixed, scattered numbers: they only break symmetry, so they are a function of their place, not of chance."""
    place = np.arange(start * dimension, end * dimension, dtype=np.uint64) + np.uint64(1)
    place *= np.uint64(0x9E3779B97F4A7C15)
    place ^= place >> np.uint64(29)
    place *= np.uint64(0xBF58476D1CE4E5B9)
    place ^= place >> np.uint64(32)
    uniform = (place >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)
    return ((uniform - np.float32(0.5)) * np.float32(INITIAL_SPREAD * 12**0.5)).reshape(end - start, dimension)
