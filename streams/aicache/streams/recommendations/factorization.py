"""Log-bilinear factorization with online updates (Mnih and Hinton 2007; Mikolov et al. 2013, with the whole softmax).

The context's vectors are added up, newer items weigh more, and the likelihood of each item is a softmax of inner products. AdaGrad
(Duchi et al. 2011) moves the vectors, for a few examples at a time: one product with all items' vectors serves them all. Only items with
an error above `threshold` are moved, which is exact up to that error.
Memory: 8·dimension bytes an item. Cost of an example or a question: dimension multiplications an item, an example's shared by a batch.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from aicache.streams.recommendations.ranker import Ranker, Scores, grown

ADAGRAD_START = 1e-2
INITIAL_SPREAD = 0.1
TARGETS_A_BATCH, BATCH_MAX = 2_000, 32
"""A step waits for one more target with each so many that were learned: the more is known, the less the newest changes."""
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
        batch: targets that a step is taken for while little is known.

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
        batch: int = 4,
    ) -> None:
        super().__init__()
        self.dimension = dimension
        self.rate = rate
        self.event_rate = event_rate
        self.decay = decay
        self.window = window
        self.threshold = threshold
        self.batch = batch
        self._input = np.zeros((0, dimension), dtype=np.float32)
        self._output = np.zeros((64, dimension), dtype=np.float32)
        self._bias = np.zeros(64, dtype=np.float32)
        self._input_sum = np.zeros(64, dtype=np.float32)
        self._output_sum = np.zeros(64, dtype=np.float32)
        self._bias_sum = np.zeros(64, dtype=np.float32)
        self._waiting: list[tuple[list[int], list[int]]] = []
        self._learned = 0

    def _make_room(self, size: int) -> None:
        if size <= len(self._input):
            return
        start, end = len(self._input), max(size, 2 * len(self._input), 64)
        self._input = np.concatenate([self._input, _initial(start, end, self.dimension)])
        self._output = grown(self._output, end)
        for name in ("_bias", "_input_sum", "_output_sum", "_bias_sum"):
            setattr(self, name, grown(getattr(self, name), end))

    def _weights(self, length: int, decay: float) -> NDArray[np.float32]:
        decay = 1.0 - (1.0 - decay) * self.ordered
        weights = np.power(np.float32(decay), np.arange(length - 1, -1, -1, dtype=np.float32))
        return weights / np.sqrt(np.square(weights).sum())

    def scores(self, context: Sequence[int]) -> Scores:
        """See `Ranker.scores`: log-probabilities over all items."""
        scores = self.activations(context, (self.decay,))[0]
        if len(scores):
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

    def activations(self, context: Sequence[int], decays: Sequence[float]) -> NDArray[np.float32]:
        """Log-probabilities, but for a number that is the same for all items, at each of some decays: shape (decays, items)."""
        size = len(self.vocabulary)
        self._make_room(size)
        result = np.empty((len(decays), size), dtype=np.float32)
        result[:] = self._bias[:size]
        recent = np.array(context[-self.window :], dtype=np.intp)
        if len(recent):
            weights = np.stack([self._weights(len(recent), decay) for decay in decays])
            result += self._answers(weights @ self._input[recent])
        return result

    def learn(self, context: Sequence[int], target: int) -> None:
        """See `Ranker.learn`."""
        self._wait(list(context), [target])

    def learn_set(self, numbers: Sequence[int]) -> None:
        """See `Ranker.learn_set`."""
        if numbers:
            self._wait([], list(numbers[-self.window :]))

    def _wait(self, context: list[int], targets: list[int]) -> None:
        """Learn as soon as there are as many targets as a step is for: one product for all of them costs little more than for one."""
        self._waiting.append((context, targets))
        self._learned += len(targets)
        batch = min(max(self._learned // TARGETS_A_BATCH, self.batch), BATCH_MAX)
        if sum(len(those) for _, those in self._waiting) >= batch:
            self._step(self._waiting)
            self._waiting = []

    def _step(self, examples: Sequence[tuple[list[int], list[int]]]) -> None:
        """One step of AdaGrad on all targets of some examples, each of them a context and what came, or a set."""
        if not examples:
            return
        size = len(self.vocabulary)
        self._make_room(size)
        targets = [target for _, those in examples for target in those]
        place = np.arange(len(targets))
        items, weights = self._mixture(examples)
        vectors = self._input[items]
        hidden = weights @ vectors
        rates = [self.event_rate if context or len(those) == 1 else self.rate for context, those in examples]
        rate = np.repeat(np.array(rates, dtype=np.float32), [len(those) for _, those in examples])

        likely = self._answers(hidden)
        likely += self._bias[:size]
        likely[:, items] = np.where(weights, -np.inf, likely[:, items])  # what is at hand is no candidate
        likely -= likely.max(axis=1, keepdims=True)
        np.exp(likely, out=likely)
        likely *= 1.0 / likely.sum(axis=1, keepdims=True)
        above = likely.max(axis=0) > self.threshold
        above[targets] = True
        moved = np.flatnonzero(above)
        error = -likely[:, moved]
        error[place, np.searchsorted(moved, targets)] += 1.0

        square = np.square(error)
        self._bias_sum[moved] += square.sum(axis=0)
        self._bias[moved] += np.einsum("i,ij->j", rate, error) / np.sqrt(self._bias_sum[moved] + ADAGRAD_START)
        output = self._output[moved]
        back = error @ output
        self._output_sum[moved] += np.einsum("i,ij->j", _mean_square(hidden), square)
        error *= rate[:, None]
        error /= np.sqrt(self._output_sum[moved] + ADAGRAD_START)
        output += error.T @ hidden
        self._output[moved] = output
        if len(items):
            gradient = weights.T @ back
            self._input_sum[items] += _mean_square(gradient)
            vectors += (weights.T @ (back * rate[:, None])) / np.sqrt(self._input_sum[items] + ADAGRAD_START)[:, None]
            self._input[items] = vectors

    def _answers(self, hidden: NDArray[np.float32]) -> NDArray[np.float32]:
        """What all items answer to some vectors, a row each; a product of two contiguous matrices takes a tenth of the time of others."""
        products = self._output[: len(self.vocabulary)] @ np.ascontiguousarray(hidden.T)
        return np.ascontiguousarray(products.T)

    def _mixture(self, examples: Sequence[tuple[list[int], list[int]]]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Which items predict some targets, and with what weights: shapes (items,) and (targets, items)."""
        near = [context[-self.window :] or those for context, those in examples]
        places = np.array([*chain.from_iterable(near)], dtype=np.intp)
        columns = np.zeros(len(self._input), dtype=np.intp)
        columns[places] = 1
        items = np.flatnonzero(columns)
        columns[items] = np.arange(len(items))
        columns = columns[places]
        weights = np.zeros((sum(len(those) for _, those in examples), len(items)), dtype=np.float32)
        newest = self._weights(self.window, self.decay)[::-1]
        norms = np.sqrt(np.cumsum(np.square(newest)))
        row = start = 0
        for (context, those), names in zip(examples, near, strict=True):
            place = columns[start : start + len(names)]
            if context:
                weights[row, place] = newest[len(names) - 1 :: -1] / norms[len(names) - 1]
            elif len(those) > 1:
                weights[row : row + len(those), place] = _each_from_all_others(len(those))
            row += len(those)
            start += len(names)
        return items, weights

    def forget(self, numbers: NDArray[np.int64]) -> None:
        """See `Ranker.forget`: vectors begin anew. The base rate of who comes is that of who went, until it is known better."""
        self._step(self._waiting)
        self._waiting = []
        numbers = numbers[numbers < len(self._input)]
        self._input[numbers] = _initial(0, len(self._input), self.dimension)[numbers]
        self._output[numbers] = 0.0
        for sums in (self._input_sum, self._output_sum, self._bias_sum):
            sums[numbers] = 0.0

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """See `Ranker.arrays`."""
        waiting = [part for example in self._waiting for part in example]
        return {
            "ordered": np.array([self.ordered]),
            "learned": np.array([self._learned]),
            "waiting": np.fromiter(chain.from_iterable(waiting), np.int32),
            "waiting_lengths": np.array([len(part) for part in waiting], dtype=np.int32),
            **{name: getattr(self, f"_{name}").copy() for name in LEARNED},
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """See `Ranker.restore`."""
        self.ordered = float(arrays["ordered"][0])
        for name in LEARNED:
            setattr(self, f"_{name}", np.array(arrays[name], dtype=np.float32))
        self._learned = int(arrays["learned"][0])
        numbers = iter(arrays["waiting"].tolist())
        parts = [list(islice(numbers, length)) for length in arrays["waiting_lengths"].tolist()]
        self._waiting = list(zip(parts[::2], parts[1::2], strict=True))


@cache
def _each_from_all_others(size: int) -> NDArray[np.float32]:
    """Weights of the items of a set in what predicts each of them: shape (size, size)."""
    weights = np.full((size, size), (size - 1) ** -0.5, dtype=np.float32)
    np.fill_diagonal(weights, 0.0)
    return weights


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
