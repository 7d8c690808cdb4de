"""Log-bilinear factorization with online updates (Mnih and Hinton 2007; Mikolov et al. 2013, with the whole softmax).

The context's vectors are added up, newer items weigh more, and the likelihood of each item is a softmax of inner products. AdaGrad
(Duchi et al. 2011) moves the vectors, for a few examples at a time: one product with all items' vectors serves them all. Only items with
an error above `threshold` are moved, which is exact up to that error.
Memory: 8·dimension bytes an item. Cost of an example or a question: dimension multiplications an item, an example's shared by a batch.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aicache.streams.recommendations.compiled import compiled
from aicache.streams.recommendations.ranker import Numbers, Ranker, Scores, grown

ADAGRAD_START = 1e-2
INITIAL_SPREAD = 0.1
TARGETS_A_BATCH, BATCH_MAX = 2_000, 32
"""A step waits for one more target with each so many that were learned: the more is known, the less the newest changes."""
NOWHERE = -1
LINE_BYTES = 64
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
        self._waiting: list[NDArray[np.int64]] = []  # of each example what was at hand, then what came
        self._due = 0  # how many came
        self._learned = 0

    def _make_room(self, size: int) -> None:
        if size <= len(self._input):
            return
        start, end = len(self._input), max(size, 2 * len(self._input), 64)
        self._input = _aligned(np.concatenate([self._input, _initial(start, end, self.dimension)]))
        self._output = _aligned(grown(self._output, end))
        for name in ("_bias", "_input_sum", "_output_sum", "_bias_sum"):
            setattr(self, name, grown(getattr(self, name), end))

    def _slowed(self, decay: float) -> float:
        """A decay for how much what was learned is sequences: in sets all items weigh the same."""
        return 1.0 - (1.0 - decay) * self.ordered

    def scores(self, context: Numbers) -> Scores:
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

    def activations(self, context: Numbers, decays: Sequence[float]) -> NDArray[np.float32]:
        """Log-probabilities, but for a number that is the same for all items, at each of some decays: shape (decays, items)."""
        size = len(self.vocabulary)
        self._make_room(size)
        result = np.empty((len(decays), size), dtype=np.float32)
        recent = np.asarray(context[-self.window :], dtype=np.int64)
        hidden = _hidden(self._input, recent, np.array([self._slowed(decay) for decay in decays]))
        return np.add((self._output[:size] @ hidden).T, self._bias[:size], out=result)

    def learn(self, context: Numbers, target: int) -> None:
        """See `Ranker.learn`."""
        self._wait(np.array(context[-self.window :], dtype=np.int64), np.array([target]))

    def learn_set(self, numbers: Numbers) -> None:
        """See `Ranker.learn_set`."""
        if len(numbers):
            self._wait(np.zeros(0, dtype=np.int64), np.array(numbers[-self.window :], dtype=np.int64))

    def _wait(self, context: NDArray[np.int64], targets: NDArray[np.int64]) -> None:
        """Learn as soon as there are as many targets as a step is for: one product for all of them costs little more than for one."""
        self._waiting += (context, targets)
        self._due += len(targets)
        self._learned += len(targets)
        if self._due >= min(max(self._learned // TARGETS_A_BATCH, self.batch), BATCH_MAX):
            self._step()

    def _step(self) -> None:
        """One step of AdaGrad on all targets of the examples that wait, each of them a context and what came, or a set."""
        if not self._waiting:
            return
        size = len(self.vocabulary)
        self._make_room(size)
        numbers, lengths = np.concatenate(self._waiting), np.array([len(part) for part in self._waiting])
        targets, rates, weights, rows = _laid_out(
            numbers, lengths, self._due, self._slowed(self.decay), self.rate, self.event_rate
        )
        hidden = _summed(self._input, numbers, lengths, weights, rows, self._due)
        self._waiting, self._due = [], 0
        # The product of two contiguous matrices takes a part of the time of others.
        likely = self._output[:size] @ np.ascontiguousarray(hidden.T)
        _hide(likely, numbers, lengths)
        likely -= likely.max(axis=0)  # vectors grow with the years, and what they say to each other with them
        np.exp(likely, out=likely)
        odds = np.exp(self._bias[:size])
        total = odds @ likely
        moved = _moved(likely, odds, total, targets, self.threshold)
        error, step = _errors(
            likely, odds, total, moved, targets, rates, hidden, self._bias, self._bias_sum, self._output_sum
        )
        output = self._output[moved]
        back = error.T @ output
        output += step @ hidden
        self._output[moved] = output
        _move(self._input, self._input_sum, numbers, lengths, weights, rows, back, rates)

    def forget(self, numbers: NDArray[np.int64]) -> None:
        """See `Ranker.forget`: vectors begin anew. The base rate of who comes is that of who went, until it is known better."""
        self._step()
        numbers = numbers[numbers < len(self._input)]
        self._input[numbers] = _initial(0, len(self._input), self.dimension)[numbers]
        self._output[numbers] = 0.0
        for sums in (self._input_sum, self._output_sum, self._bias_sum):
            sums[numbers] = 0.0

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """See `Ranker.arrays`."""
        return {
            "ordered": np.array([self.ordered]),
            "learned": np.array([self._learned]),
            "waiting": np.concatenate([*self._waiting, np.zeros(0, dtype=np.int64)]).astype(np.int32),
            "waiting_lengths": np.array([len(part) for part in self._waiting], dtype=np.int32),
            **{name: getattr(self, f"_{name}").copy() for name in LEARNED},
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """See `Ranker.restore`."""
        self.ordered = float(arrays["ordered"][0])
        for name in LEARNED:
            setattr(self, f"_{name}", _aligned(np.asarray(arrays[name], dtype=np.float32)))
        self._learned = int(arrays["learned"][0])
        lengths = arrays["waiting_lengths"].astype(np.int64)
        self._waiting = np.split(arrays["waiting"].astype(np.int64), np.cumsum(lengths)[:-1]) if len(lengths) else []
        self._due = int(lengths[1::2].sum())


def _aligned(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """A copy that begins where a line of the processor's cache does: where rows are whole lines, products take a fifth less time."""
    place = np.empty(array.nbytes + LINE_BYTES, dtype=np.uint8)
    start = -place.ctypes.data % LINE_BYTES
    copy = place[start : start + array.nbytes].view(np.float32).reshape(array.shape)
    copy[...] = array
    return copy


def _initial(start: int, end: int, dimension: int) -> NDArray[np.float32]:
    """Small, fixed, scattered numbers: they only break symmetry, so they are a function of their place, not of chance."""
    place = np.arange(start * dimension, end * dimension, dtype=np.uint64) + np.uint64(1)
    place *= np.uint64(0x9E3779B97F4A7C15)
    place ^= place >> np.uint64(29)
    place *= np.uint64(0xBF58476D1CE4E5B9)
    place ^= place >> np.uint64(32)
    uniform = (place >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)
    return ((uniform - np.float32(0.5)) * np.float32(INITIAL_SPREAD * 12**0.5)).reshape(end - start, dimension)


@compiled
def _descend(weights: NDArray[np.float32], start: int, end: int, decay: float) -> None:
    """Weights of what is at hand, of which the newest is the last: their squares add up to 1."""
    weight, squares = 1.0, 0.0
    for place in range(end - 1, start - 1, -1):
        weights[place] = weight
        squares += weight * weight
        weight *= decay
    for place in range(start, end):
        weights[place] /= math.sqrt(squares)


@compiled
def _hidden(inputs: NDArray[np.float32], recent: NDArray[np.int64], decays: NDArray[np.float64]) -> NDArray[np.float32]:
    """The weighted sums of the vectors of what is at hand, at each of some decays: shape (dimension, decays)."""
    size = inputs.shape[1]
    hidden = np.empty((size, len(decays)), dtype=np.float32)
    weights = np.empty(len(recent), dtype=np.float32)
    for column in range(len(decays)):
        total = np.zeros(size, dtype=np.float32)
        _descend(weights, 0, len(recent), decays[column])
        for place in range(len(recent)):
            item, weight = recent[place], weights[place]
            for k in range(size):
                total[k] += weight * inputs[item, k]
        for k in range(size):
            hidden[k, column] = total[k]
    return hidden


@compiled
def _laid_out(
    numbers: NDArray[np.int64], lengths: NDArray[np.int64], count: int, decay: float, rate: float, event_rate: float
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """The targets of some examples and the rates of their steps; of each number how much it weighs, and the row that it goes to.

    What came after others goes nowhere. What came in a set goes to a row of its own, and from there to all others of the set.
    """
    targets, rates = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.float32)
    weights, rows = np.empty(len(numbers), dtype=np.float32), np.empty(len(numbers), dtype=np.int64)
    start = row = 0
    for example in range(0, len(lengths), 2):
        near, those = lengths[example], lengths[example + 1]
        _descend(weights, start, start + near, decay)
        for place in range(start, start + near):
            rows[place] = row
        start += near
        for place in range(start, start + those):
            rows[place] = NOWHERE if near else row
            weights[place] = 1.0 / math.sqrt(max(those - 1, 1))
            targets[row] = numbers[place]
            rates[row] = event_rate if near or those == 1 else rate
            row += 1
        start += those
    return targets, rates, weights, rows


@compiled
def _summed(
    inputs: NDArray[np.float32],
    numbers: NDArray[np.int64],
    lengths: NDArray[np.int64],
    weights: NDArray[np.float32],
    rows: NDArray[np.int64],
    count: int,
) -> NDArray[np.float32]:
    """The weighted sums of the vectors of what predicts some targets: shape (count, dimension)."""
    size = inputs.shape[1]
    hidden = np.zeros((count, size), dtype=np.float32)
    for place in range(len(numbers)):
        item, weight, row = numbers[place], weights[place], rows[place]
        if row != NOWHERE:
            for k in range(size):
                hidden[row, k] += weight * inputs[item, k]
    _give_others(hidden, lengths)
    return hidden


@compiled
def _give_others(vectors: NDArray[np.float32], lengths: NDArray[np.int64]) -> None:
    """Each of a set is given the sum of the others."""
    start = 0
    for example in range(0, len(lengths), 2):
        end = start + lengths[example + 1]
        if lengths[example] == 0:
            for k in range(vectors.shape[1]):
                total = np.float32(0.0)
                for row in range(start, end):
                    total += vectors[row, k]
                for row in range(start, end):
                    vectors[row, k] = total - vectors[row, k]
        start = end


@compiled
def _hide(likely: NDArray[np.float32], numbers: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
    """What is at hand is no candidate."""
    start = target = 0
    for example in range(0, len(lengths), 2):
        near, those = lengths[example], lengths[example + 1]
        for column in range(those):
            for place in range(start, start + (near or those)):
                if near or place != start + column:
                    likely[numbers[place], target + column] = -np.inf
        start += near + those
        target += those


@compiled
def _moved(
    likely: NDArray[np.float32],
    odds: NDArray[np.float32],
    total: NDArray[np.float32],
    targets: NDArray[np.int64],
    threshold: float,
) -> NDArray[np.int64]:
    """The targets, and what else has a likelihood above the threshold: that is `likely` times `odds`, divided by `total`."""
    size, count = likely.shape
    above = np.zeros(size, dtype=np.bool_)
    scale = np.empty(count, dtype=np.float32)
    for column in range(count):
        above[targets[column]] = True
        scale[column] = 1.0 / total[column]
    moved = np.empty(size, dtype=np.int64)
    found = 0
    for row in range(size):
        there, odd = above[row], odds[row]
        for column in range(count):
            there |= likely[row, column] * scale[column] * odd > np.float32(threshold)
        if there:
            moved[found] = row
            found += 1
    return moved[:found]


@compiled
def _errors(
    likely: NDArray[np.float32],
    odds: NDArray[np.float32],
    total: NDArray[np.float32],
    moved: NDArray[np.int64],
    targets: NDArray[np.int64],
    rates: NDArray[np.float32],
    hidden: NDArray[np.float32],
    bias: NDArray[np.float32],
    bias_sum: NDArray[np.float32],
    output_sum: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The errors of those that move and how far their vectors move, of shape (moved, targets); their biases move at once."""
    count, found = len(targets), len(moved)
    power, scale = np.empty(count, dtype=np.float32), np.empty(count, dtype=np.float32)
    for column in range(count):
        likely[targets[column], column] -= total[column] / odds[targets[column]]
        power[column] = _mean_square(hidden[column])
        scale[column] = -1.0 / total[column]
    error, step = np.empty((found, count), dtype=np.float32), np.empty((found, count), dtype=np.float32)
    for place in range(found):
        row = moved[place]
        odd = odds[row]
        push = squares = output_squares = np.float32(0.0)
        for column in range(count):
            wrong = likely[row, column] * scale[column] * odd
            error[place, column] = wrong
            push += rates[column] * wrong
            squares += wrong * wrong
            output_squares += power[column] * (wrong * wrong)
        bias_sum[row] += squares
        bias[row] += push / math.sqrt(bias_sum[row] + np.float32(ADAGRAD_START))
        output_sum[row] += output_squares
        pace = np.float32(1.0) / math.sqrt(output_sum[row] + np.float32(ADAGRAD_START))
        for column in range(count):
            step[place, column] = error[place, column] * rates[column] * pace
    return error, step


@compiled
def _move(
    inputs: NDArray[np.float32],
    inputs_sum: NDArray[np.float32],
    numbers: NDArray[np.int64],
    lengths: NDArray[np.int64],
    weights: NDArray[np.float32],
    rows: NDArray[np.int64],
    back: NDArray[np.float32],
    rates: NDArray[np.float32],
) -> None:
    """Move the vectors of what was at hand along what came back to the rows that they went to."""
    _give_others(back, lengths)
    size = inputs.shape[1]
    first, later = np.full(len(inputs), NOWHERE), np.full(len(numbers), NOWHERE)  # places of the same item
    for place in range(len(numbers) - 1, -1, -1):
        if rows[place] != NOWHERE:
            later[place], first[numbers[place]] = first[numbers[place]], place
    gradient, step = np.empty(size, dtype=np.float32), np.empty(size, dtype=np.float32)
    for begin in range(len(numbers)):
        item, place = numbers[begin], begin
        if first[item] != begin:
            continue
        for k in range(size):
            gradient[k] = step[k] = 0.0
        while place != NOWHERE:
            row, weight = rows[place], weights[place]
            rate = rates[row]
            for k in range(size):
                pull = weight * back[row, k]
                gradient[k] += pull
                step[k] += rate * pull
            place = later[place]
        inputs_sum[item] += _mean_square(gradient)
        pace = np.float32(1.0) / math.sqrt(inputs_sum[item] + np.float32(ADAGRAD_START))
        for k in range(size):
            inputs[item, k] += pace * step[k]


@compiled
def _mean_square(vector: NDArray[np.float32]) -> np.float32:
    """In four sums, which do not wait for each other."""
    first = second = third = fourth = np.float32(0.0)
    whole = len(vector) // 4 * 4
    for k in range(0, whole, 4):
        first += vector[k] * vector[k]
        second += vector[k + 1] * vector[k + 1]
        third += vector[k + 2] * vector[k + 2]
        fourth += vector[k + 3] * vector[k + 3]
    for k in range(whole, len(vector)):
        first += vector[k] * vector[k]
    return np.float32((first + second + third + fourth) / np.float32(len(vector)))
