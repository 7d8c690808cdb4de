"""What comes next, scored on the client from tables: the parts of the worker's combination that are not other people's sessions.

Rows give what came with the items at hand and right after them, and linear weights that add up; vectors give base rates and what is
like the items at hand; the weights of all these come with the tables, as the worker has learned them. Without vectors or weights, as in
tables that an older worker wrote, fixed weights stand in. Rows that were solved from a private task just add up.
Cost of a question: the rows of the `WINDOW` newest items at hand, a product with all vectors, and a few passes over all items. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from aicache.schemas.tables import FEATURES, LENGTHS, SPEEDS, Vectors

FloatArray: TypeAlias = NDArray[np.float32]
Numbers: TypeAlias = NDArray[np.int32]

WINDOW, BASKET, RECENT = 64, 64, 16
"""Items at hand that count: the newest. Of a sequence, so many for what came with them."""
HALF_LIVES = np.array([700.0, 5_500.0, 42_000.0, 5_500.0])
"""Examples of a partition after which a count weighs half: the last one as part of a sequence."""
SMOOTHING = np.float32(3.0)
"""Examples' worth of base rate that is mixed into what is known of an item."""
LIFT_PRIOR = np.float32(20.0)
"""Examples' worth of no lift in what is known of a situation."""
RATE_MIN = np.float32(1e-3)
DECAY = 0.9
"""Weight of an item at hand relative to the next newer one of a sequence, among vectors."""
ORDERED_MIN = 0.05
STEPS, STRIDE, RANKED_MAX = 8, 2.0, 12_288
"""The newest of a sequence's own events that count, and how much more than among everybody's; so many items are ranked for them at most."""
LINEAR_UNIT, LINEAR_MIN = np.float32(5.0), np.float32(1e-3)
"""Linear weights are brought to the size of logarithms; below this they are all alike."""
TIE = np.float32(1e-3)
POPULARITY = np.float32(1e-3)
"""What popularity adds to weights that add up: it decides where they say nothing."""
START: FloatArray = np.array([0.5, 0.0, 0.0, 0.05, 0.1, 0.0, 0.1, 0.5, 0.4], dtype=np.float32)
"""Weights where none have been told."""
SLOW, SITUATION, LINEAR = (FEATURES.index(name) for name in ("slow", "situation", "linear"))
SURE = [FEATURES.index("middle"), SLOW]
"""Base rates that make up for what a partition's model, from its people alone, says of items that it knows little of. They weigh nothing
where what several partitions say has been put together: that is surer, and with them worse."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One item's row, decoded: what each neighbour is given, shape (k,), and how much of the base rate all are given."""

    version: int
    popularity: float
    neighbours: Numbers
    weights: FloatArray
    linear: FloatArray
    after: FloatArray
    count: float
    after_count: float

    def is_situation(self) -> bool:
        """An attribute of a situation has a row, and is nothing that comes."""
        return self.count > 0 and self.popularity == 0

    def near(self) -> tuple[FloatArray, float]:
        """Probabilities of what came with it, and the base rate's share; what an older worker tells is smooth already."""
        if not self.count:
            return self.weights, 0.0
        known = self.count / (self.count + float(SMOOTHING))
        return self.weights * np.float32(known), 1.0 - known

    def next(self) -> tuple[FloatArray, float]:
        """Probabilities of what came right after it, and the base rate's share."""
        known = self.after_count / (self.after_count + float(SMOOTHING))
        return self.after * np.float32(known), 1.0 - known


@dataclass(slots=True, eq=False)
class Partition:
    """Vectors of one partition, over a table's numbers; `clocks` say when each item's were told, below zero: never.

    An item that was forgotten and comes again may be in another piece than before.
    """

    clock: int = 0
    pieces: dict[int, tuple[int, set[int]]] = field(default_factory=dict)
    input: FloatArray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))
    output: FloatArray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))
    pace: FloatArray = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    bias: FloatArray = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    counts: FloatArray = field(default_factory=lambda: np.zeros((0, SPEEDS), dtype=np.float32))
    clocks: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def put(self, piece: int, numbers: Sequence[int], told: Vectors, clock: int) -> None:
        """Take the vectors of some items in; what the piece held before and no other holds is forgotten."""
        _, before = self.pieces.pop(piece, (0, set[int]()))
        before.difference_update(numbers, *(held for _, held in self.pieces.values()))
        self.clocks[list(before)] = -1
        self.pieces[piece] = (clock, set(numbers))
        size, dimension = max(numbers) + 1, told.input.shape[1]
        if size > len(self.clocks) or dimension != self.input.shape[1]:
            room = max(size, 2 * len(self.clocks), 64)
            self.input, self.output = (_room(a, room, dimension) for a in (self.input, self.output))
            self.counts = _room(self.counts, room, SPEEDS)
            self.pace, self.bias = (_room(a[:, None], room, 1)[:, 0] for a in (self.pace, self.bias))
            self.clocks = np.concatenate([self.clocks, np.full(room - len(self.clocks), -1)])
        at = list(numbers)
        self.input[at], self.output[at] = told.input, told.output
        self.pace[at], self.bias[at], self.counts[at] = told.pace, told.bias, told.counts
        self.clocks[at] = clock
        self.clock = max(self.clock, clock)

    def log_likelihoods(self, items: Sequence[int], size: int, ordered: float) -> FloatArray:
        """How likely each number comes next, as the vectors have it; NaN for what they do not know."""
        end = min(size, len(self.clocks))
        known = self.clocks[:end] >= 0
        scores: FloatArray = np.where(known, self.bias[:end], np.float32(-np.inf))
        recent = [number for number in items if number < end and known[number]][-WINDOW:]
        if recent:
            hidden = _fades(len(recent), ordered) @ self.input[recent]
            if ordered > ORDERED_MIN:
                hidden += self._own_steps(recent, scores, ordered)
            scores += self.output[:end] @ hidden
        scores -= scores.max()
        scores -= np.log(np.exp(scores).sum(), dtype=np.float32)
        return np.pad(np.where(known, scores, np.float32(np.nan)), (0, size - end), constant_values=np.nan)

    def _own_steps(self, recent: list[int], bias: FloatArray, ordered: float) -> FloatArray:
        """What the worker would have learned by now had it been told of this sequence, all steps from the same vectors: shape (dimension,).

        Each item at hand came after those before it. A step on the likelihood of that moves the inputs of these by their pace.
        """
        first = max(len(recent) - max(min(STEPS, RANKED_MAX // len(bias)), 1), 1)
        targets = recent[first:]
        if not targets:
            return np.zeros(self.input.shape[1], dtype=np.float32)
        before = np.zeros((len(targets), len(recent)), dtype=np.float32)
        for step in range(len(targets)):
            before[step, : first + step] = _fades(first + step, ordered)
        output = self.output[: len(bias)]
        likely = (before @ self.input[recent]) @ output.T + bias
        for step in range(len(targets)):
            likely[step, recent[: first + step]] = -np.inf
        likely -= likely.max(axis=1, keepdims=True)
        np.exp(likely, out=likely)
        likely /= likely.sum(axis=1, keepdims=True)
        gradients = output[targets] - likely @ output
        shares = (before * self.pace[recent]) @ _fades(len(recent), ordered)
        moved: FloatArray = (np.float32(STRIDE * ordered) * shares @ gradients).astype(np.float32)
        return moved


def _fades(length: int, ordered: float) -> FloatArray:
    """How much each item at hand counts among vectors, oldest first."""
    decay = np.float32(1.0 - (1.0 - DECAY) * ordered)
    fades = np.power(decay, np.arange(length - 1, -1, -1, dtype=np.float32))
    return fades / np.sqrt(np.square(fades).sum())


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """How one partition weighs features: `head` where linear weights alone name more among the first."""

    clock: int
    ordered: float
    head: bool
    weights: FloatArray


@dataclass(slots=True, eq=False)
class Table:
    """All that is known of one task, over numbers in the order of first sight.

    Attributes:
        partitions, weighing: vectors and weights by partition of usage; a private task has none.
        base: base rates and their logarithms, shape (2, 4, n); None: to be made anew.
    """

    names: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)
    popularity: FloatArray = field(default_factory=lambda: np.zeros(64, dtype=np.float32))
    partitions: dict[int, Partition] = field(default_factory=dict)
    weighing: dict[int, Weights] = field(default_factory=dict)
    base: FloatArray | None = None

    def number(self, name: str) -> int:
        """The number of a name, a new one where it has none."""
        number = self.numbers.setdefault(name, len(self.names))
        if number == len(self.names):
            self.names.append(name)
            if number == len(self.popularity):
                self.popularity = np.concatenate([self.popularity, np.zeros_like(self.popularity)])
        return number

    def rates(self) -> FloatArray:
        """Base rates at four speeds and their logarithms: what all partitions counted, each faded by its own clock."""
        size = len(self.names)
        if self.base is not None and self.base.shape[2] == size:
            return self.base
        counts = np.zeros((size, SPEEDS), dtype=np.float32)
        for known in self.partitions.values():
            end = min(size, len(known.clocks))
            age = (known.clock - known.clocks[:end])[:, None]
            counts[:end] += known.counts[:end] * np.exp2(-age / HALF_LIVES).astype(np.float32)
        if not self.partitions:
            counts += self.popularity[:size, None]
        counts += RATE_MIN
        rates = (counts / counts.sum(axis=0)).T
        self.base = np.stack([rates, np.log(rates)])
        return self.base

    def weighed(self) -> Weights:
        """The partitions' weights together, each by the examples that it has learned."""
        told = [known for _, known in sorted(self.weighing.items())]
        total = float(sum(known.clock for known in told))
        if not total:
            return Weights(0, 0.0, False, np.tile(START, (len(LENGTHS), 1)))
        shares = [known.clock / total for known in told]
        weights = sum(share * known.weights for share, known in zip(shares, told, strict=True))
        ordered = sum(share * known.ordered for share, known in zip(shares, told, strict=True))
        head = sum(share for share, known in zip(shares, told, strict=True) if known.head) > 0.5
        return Weights(0, ordered, head, np.asarray(weights, dtype=np.float32))


def table_scores(table: Table, at_hand: Sequence[int], *, probabilities: bool) -> FloatArray:
    """A score for each number; -∞ for what was neither seen nor is a neighbour of what is at hand."""
    popularity = table.popularity[: len(table.names)]
    if probabilities:
        return _combined(table, at_hand, popularity)
    rows = [row for number in at_hand[-WINDOW:] if (row := table.rows.get(number)) is not None]
    summed = _added([(row.neighbours, row.weights) for row in rows], len(popularity))
    scores = popularity.copy() if not rows else summed + POPULARITY * popularity
    scores[(popularity <= 0) & (summed == 0)] = -np.inf
    return scores


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What is weighed.

    Attributes:
        values: shape (len(FEATURES), n).
        length: how many items are at hand.
        situated: whether something is known of the situation; where not, its feature is the slow base rate.
        named: which numbers a row names that is at hand, shape (n,).
    """

    values: FloatArray
    length: int
    situated: bool
    named: NDArray[np.bool_]


def features_of(table: Table, at_hand: Sequence[int], ordered: float) -> Features:
    """What is weighed.

    Args:
        table: learned from usage.
        at_hand: numbers, oldest first.
        ordered: how much of what was learned were sequences.
    """
    size = len(table.names)
    (_, _, slow, in_order), logs = table.rates()
    found = [(number, table.rows.get(number)) for number in at_hand[-WINDOW:]]
    situation = [row for _, row in found if row is not None and row.is_situation()]
    items = [number for number, row in found if row is None or not row.is_situation()]
    rows = [row for _, row in found if row is not None and not row.is_situation()]
    near = rows[-round(ordered * RECENT + (1 - ordered) * BASKET) :]
    last = rows[-max(round(ordered + (1 - ordered) * BASKET), 1) :]
    linear = _added([(row.neighbours, row.linear) for row in rows], size)
    values = np.stack(
        [
            _pooled([(row.neighbours, *row.near()) for row in near], slow, logs[2]),
            *logs[:3],
            _pooled([(row.neighbours, *row.next()) for row in last], in_order, logs[3 if items else 2]),
            _likely(table, items, size, ordered),
            _lifted(situation, slow, logs[2]),
            linear * LINEAR_UNIT,
            np.log(np.maximum(linear, LINEAR_MIN)),
        ]
    )
    named = np.zeros(size, dtype=np.bool_)
    for row in (*rows, *situation):
        named[row.neighbours] = True
    return Features(values, len(items), bool(situation), named)


def _combined(table: Table, at_hand: Sequence[int], popularity: FloatArray) -> FloatArray:
    """The worker's combination, as far as tables go."""
    weighing = table.weighed()
    found = features_of(table, at_hand, weighing.ordered)
    if weighing.head and found.length:
        scores = found.values[LINEAR] + TIE * found.values[SLOW]
    else:
        weights = weighing.weights[np.searchsorted(LENGTHS, found.length, side="right") - 1].copy()
        if len(table.weighing) > 1 and found.length:
            weights[SURE if found.situated else [*SURE, SITUATION]] = 0.0
        scores = weights @ found.values
    seen = found.named | (popularity > 0)
    for told in table.partitions.values():
        seen[: len(told.clocks)] |= told.clocks[: len(seen)] >= 0
    scores[~seen] = -np.inf
    return scores


def _likely(table: Table, items: Sequence[int], size: int, ordered: float) -> FloatArray:
    """The mean of what those partitions' vectors say that know an item; what none knows is as unlikely as the least likely."""
    told = [known.log_likelihoods(items, size, ordered) for _, known in sorted(table.partitions.items())]
    if not told:
        return np.zeros(size, dtype=np.float32)
    known = ~np.isnan(told)
    summed = np.nansum(told, axis=0) / np.maximum(known.sum(axis=0), 1)
    summed[~known.any(axis=0)] = summed.min()
    return summed.astype(np.float32)


def _pooled(told: Sequence[tuple[Numbers, FloatArray, float]], base: FloatArray, alone: FloatArray) -> FloatArray:
    """The log of the mean of what rows say and of the base rate's share in each; `alone` where there are no rows."""
    if not told:
        return alone
    summed = _added([(numbers, values) for numbers, values, _ in told], len(base))
    summed += np.float32(sum(share for _, _, share in told)) * base
    return np.log(np.maximum(summed / np.float32(len(told)), np.float32(1e-12)))


def _lifted(situation: Sequence[Row], base: FloatArray, logs: FloatArray) -> FloatArray:
    """The log of base rates times the lift that each attribute of a situation gives; what a row does not name has that of all the rest."""
    result = logs.copy()
    for row in situation:
        named = base[row.neighbours]
        rest = max(1.0 - float(row.weights.sum()), 0.0) / max(1.0 - float(named.sum()), float(RATE_MIN))
        lift = np.full(len(base), LIFT_PRIOR + np.float32(row.count * rest))
        lift[row.neighbours] = LIFT_PRIOR + np.float32(row.count) * row.weights / named
        result += np.log(lift)
    return result


def _added(told: Sequence[tuple[Numbers, FloatArray]], size: int) -> FloatArray:
    """What rows give to each number, added up."""
    if not told:
        return np.zeros(size, dtype=np.float32)
    numbers, values = (np.concatenate(parts) for parts in zip(*told, strict=True))
    return np.bincount(numbers, weights=values, minlength=size).astype(np.float32)


def _room(array: FloatArray, rows: int, columns: int) -> FloatArray:
    """The array with room for more; nothing of it where its columns are others."""
    result = np.zeros((rows, columns), dtype=np.float32)
    if array.shape[1] == columns:
        result[: len(array)] = array
    return result
