"""The second level: adds up what the partitions of usage have counted, so that tables and estimates are of everybody.

Counts add up, as each person's events are in one partition; they fade by the examples of their own partition, and a row that has not been
published for a while fades by those that came since. One task reads what all partitions publish, so its answers are a function of
one log, and a row or estimate that is published again overwrites itself. What a partition leaves out of a row came less often there than
all that it names: so much a merged count is too low at most, a partition. Vectors do not add up: those of the first partitions are
handed on as they are, and clients ask one after the other.
State: the newest row of each item and partition, the newest sums of each namespace and partition. Pure.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aicache.privacy.errors import LocalError, RemoteError
from aicache.schemas import topics
from aicache.schemas.records import FeedbackSums, ItemCount, ItemVectors, Lift, TableWeights
from aicache.schemas.tables import PARTITIONS_MAX, vectors_of, weights_of
from aicache.streams.recommendations.off_policy import CONFIDENCE, ONE, TAKEN, TERMS, Matrix, estimates
from aicache.streams.recommendations.tables import encode_row, key_of
from aicache.streams.recommendations.vocabulary import ATTRIBUTES, namespace_of
from aicache.streams.runtime.contract import Batch, Message, Output, Step

HALF_LIFE, AFTER_HALF_LIFE = 42_000.0, 5_500.0
"""Examples of a partition after which a count weighs half: that of the slowest neighbours, and that of the transitions."""
ITEMS_MAX = 65_536
NAMESPACES_MAX = 256

READABLE = (1, 2)
"""Versions of the state: in the first a row did not say what came right after its item."""

_ROW, _SUMS, _TOTAL = b"r", b"f", b"t"


@dataclass(frozen=True, slots=True)
class Row:
    """What one partition has published of one item."""

    clock: int
    count: float
    neighbours: list[str]
    counts: NDArray[np.float32]
    linear: NDArray[np.float32]
    after: NDArray[np.float32]
    after_count: float


@dataclass(slots=True)
class State:
    """What has been published.

    Attributes:
        rows: by item, then partition.
        clocks: examples of each partition, as far as is known.
        total: of all counts.
        sums: by namespace, then partition, with their time.
    """

    rows: dict[str, dict[int, Row]] = field(default_factory=dict)
    clocks: dict[int, int] = field(default_factory=dict)
    total: float = 0.0
    sums: dict[str, dict[int, tuple[int, Matrix]]] = field(default_factory=dict)


class Merging:
    """The fold."""

    name = "merging"
    version = 2
    inputs = (topics.COUNTS,)

    def empty(self, partition: int) -> State:
        """See `Fold.empty`."""
        del partition
        return State()

    def load(self, partition: int, entries: Iterable[tuple[bytes, bytes]], version: int) -> State:
        """See `Fold.load`."""
        if version not in READABLE:
            raise LocalError("the merged counts are of another version", got=version, needed=READABLE)
        state = self.empty(partition)
        for key, value in entries:
            kind, of, name = key[:1], int.from_bytes(key[1:3], "big"), key[3:].decode()
            if kind == _ROW:
                clock, count, neighbours, counts, linear, after, after_count = (*json.loads(value), "", 0.0)[:7]
                read = [np.frombuffer(bytes.fromhex(data), "<f4") for data in (counts, linear, after)]
                row = Row(clock, count, neighbours, read[0], read[1], read[2], after_count)
                state.rows.setdefault(name, {})[of] = row
                state.clocks[of] = max(state.clocks.get(of, 0), clock)
            elif kind == _SUMS:
                sums = np.frombuffer(value[8:], dtype="<f8").reshape(TERMS, TERMS)
                state.sums.setdefault(name, {})[of] = (int.from_bytes(value[:8], "big"), sums)
            elif kind == _TOTAL:
                state.total = float(value)
        return state

    def apply(self, state: State, batch: Batch) -> Step:
        """See `Fold.apply`."""
        step = Step()
        for message in batch.messages:
            try:
                if isinstance(message.record, ItemCount):
                    _take_row(state, message.record, message, step)
                elif isinstance(message.record, FeedbackSums):
                    _take_sums(state, message.record, step)
                elif isinstance(message.record, ItemVectors | TableWeights):
                    _hand_on(message.record, message.key, step)
            except RemoteError as error:
                step.dead.append((message, error))
        return step


def _take_row(state: State, record: ItemCount, message: Message, step: Step) -> None:
    size = len(record.counts)
    if size != 4 * len(record.neighbours) or any(len(data) not in (0, size) for data in (record.linear, record.after)):
        raise RemoteError("a row has a count a neighbour", reason="bad-counts", got=size)
    if record.item not in state.rows and len(state.rows) >= ITEMS_MAX:
        raise RemoteError("too many items", reason="too-many-items", needed=f"≤ {ITEMS_MAX}")
    counts, linear, after = (np.frombuffer(data, "<f4") for data in (record.counts, record.linear, record.after))
    numbers = np.concatenate([counts, after, [record.count, record.after_count]])
    if not (np.isfinite(numbers).all() and np.isfinite(linear).all() and (numbers >= 0).all()):
        raise RemoteError("counts are finite and not below 0", reason="bad-counts", got=record.partition)
    try:
        counted = namespace_of(record.item) not in ATTRIBUTES  # an attribute of a situation is nothing that people use
    except LocalError:
        raise RemoteError("an item has no namespace", reason="bad-item", needed="namespace:name") from None
    known = state.rows.setdefault(record.item, {})
    before = known.get(record.partition)
    if counted:
        state.total += record.count - (0.0 if before is None else before.count)
    known[record.partition] = Row(
        record.clock, record.count, record.neighbours, counts, linear, after, record.after_count
    )
    state.clocks[record.partition] = max(state.clocks.get(record.partition, 0), record.clock)
    arrays = [data.hex() for data in (record.counts, record.linear, record.after)]
    value = [record.clock, record.count, record.neighbours, *arrays, record.after_count]
    step.changed[_key(_ROW, record.partition, record.item)] = json.dumps(value).encode()
    step.changed[_TOTAL] = repr(state.total).encode()
    count, weights = merged(state, record.item)
    after_count, after_weights = merged_after(state, record.item)
    table = encode_row(
        record.deployment,
        record.item,
        message.offset + 1,
        count / max(state.total, count, 1.0) if counted else 0.0,
        weights,
        linear=merged_linear(state, record.item),
        after=after_weights,
        counts=(count, after_count),
    )
    step.outputs.append(Output(topics.TABLES.name, key_of(record.item), table))


def _hand_on(record: ItemVectors | TableWeights, key: bytes, step: Step) -> None:
    """Nothing of it is kept: what clients read is what the partition wrote."""
    if isinstance(record, ItemVectors):
        vectors_of(record)
    else:
        weights_of(record)
    if record.partition < PARTITIONS_MAX:
        step.outputs.append(Output(topics.TABLES.name, key, record))


def merged(state: State, item: str) -> tuple[float, dict[str, float]]:
    """How often an item came in all partitions, and how likely each neighbour came with it."""
    return _likely(state, item, HALF_LIFE, lambda row: (row.count, row.counts))


def merged_after(state: State, item: str) -> tuple[float, dict[str, float]]:
    """How often an item came, and how likely each neighbour came right after it: as `merged`, of what fades faster."""
    total, likely = _likely(state, item, AFTER_HALF_LIFE, lambda row: (row.after_count, row.after))
    return total, {name: share for name, share in likely.items() if share}


def _likely(
    state: State, item: str, half_life: float, counted: Callable[[Row], tuple[float, NDArray[np.float32]]]
) -> tuple[float, dict[str, float]]:
    """What was counted in all partitions, each faded to where its clock stands now: a total, and shares of it."""
    total, counts = 0.0, dict[str, float]()
    for partition, row in _in_order(state.rows[item]):
        fade = 2.0 ** ((row.clock - state.clocks[partition]) / half_life)
        count, of_neighbours = counted(row)
        total += fade * count
        for name, times in zip(row.neighbours, of_neighbours.tolist(), strict=False):  # none, or one a neighbour
            counts[name] = counts.get(name, 0.0) + fade * times
    return total, {name: count / total for name, count in counts.items()} if total > 0 else {}


def merged_linear(state: State, item: str) -> dict[str, float]:
    """The linear weight of each neighbour: the mean over partitions, by how often the item came in each."""
    total, weights = 0.0, dict[str, float]()
    for partition, row in _in_order(state.rows[item]):
        came = 2.0 ** ((row.clock - state.clocks[partition]) / HALF_LIFE) * row.count
        total += came
        for name, weight in zip(row.neighbours, row.linear.tolist(), strict=False):  # none, or one a neighbour
            weights[name] = weights.get(name, 0.0) + came * weight
    return {name: weight / total for name, weight in weights.items()} if total > 0 else {}


def _in_order(known: dict[int, Row]) -> Iterator[tuple[int, Row]]:
    """By partition: floating-point sums depend on the order."""
    return iter(sorted(known.items()))


def _take_sums(state: State, record: FeedbackSums, step: Step) -> None:
    if len(record.sums) != 8 * TERMS * TERMS:
        raise RemoteError("sums are a square matrix", reason="bad-sums", got=len(record.sums), needed=8 * TERMS * TERMS)
    sums = np.frombuffer(record.sums, dtype="<f8").reshape(TERMS, TERMS)
    if not np.isfinite(sums).all():
        raise RemoteError("sums are finite", reason="bad-sums", got=record.partition)
    if record.namespace not in state.sums and len(state.sums) >= NAMESPACES_MAX:
        raise RemoteError("too many namespaces", reason="too-many-namespaces", needed=f"≤ {NAMESPACES_MAX}")
    known = state.sums.setdefault(record.namespace, {})
    known[record.partition] = (record.time_s, sums)
    step.changed[_key(_SUMS, record.partition, record.namespace)] = record.time_s.to_bytes(8, "big") + record.sums
    step.outputs.append(Output(topics.TRENDS.name, f"lift/{record.namespace}".encode(), lift(state, record)))


def lift(state: State, record: FeedbackSums) -> Lift:
    """What all partitions together say of a namespace."""
    known = sorted(state.sums[record.namespace].items())
    sums = np.sum([matrix for _, (_, matrix) in known], axis=0)
    answers = int(sums[ONE, ONE])
    return Lift(
        deployment=record.deployment,
        namespace=record.namespace,
        time_s=max(time_s for _, (time_s, _) in known),
        answers=answers,
        taken=float(sums[ONE, TAKEN] / answers) if answers else 0.0,
        confidence=CONFIDENCE,
        estimates=estimates(sums),
    )


def _key(kind: bytes, partition: int, name: str) -> bytes:
    return kind + partition.to_bytes(2, "big") + name.encode()
