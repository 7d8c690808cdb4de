"""The second level: adds up what the partitions of usage have counted, so that tables and estimates are of everybody.

Counts add up, as each person's events are in one partition; they fade by the examples of their own partition, and a row that has not been
published for a while fades by those that came since. One task reads what all partitions publish, so its answers are a function of
one log, and a row or estimate that is published again overwrites itself. What a partition leaves out of a row came less often there than
all that it names: so much a merged count is too low at most, a partition.
State: the newest row of each item and partition, the newest sums of each namespace and partition. Pure.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aicache.privacy.errors import LocalError, RemoteError
from aicache.schemas import topics
from aicache.schemas.records import FeedbackSums, ItemCount, Lift
from aicache.streams.recommendations.off_policy import CONFIDENCE, ONE, TAKEN, TERMS, Matrix, estimates
from aicache.streams.recommendations.tables import encode_row, key_of
from aicache.streams.recommendations.vocabulary import ATTRIBUTES, namespace_of
from aicache.streams.runtime.contract import Batch, Message, Output, Step

HALF_LIFE = 42_000.0
"""Examples of a partition after which a count weighs half: that of the slowest neighbours."""
ITEMS_MAX = 65_536
NAMESPACES_MAX = 256

_ROW, _SUMS, _TOTAL = b"r", b"f", b"t"


@dataclass(frozen=True, slots=True)
class Row:
    """What one partition has published of one item."""

    clock: int
    count: float
    neighbours: list[str]
    counts: NDArray[np.float32]
    linear: NDArray[np.float32]


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
    version = 1
    inputs = (topics.COUNTS,)

    def empty(self, partition: int) -> State:
        """See `Fold.empty`."""
        del partition
        return State()

    def load(self, partition: int, entries: Iterable[tuple[bytes, bytes]], version: int) -> State:
        """See `Fold.load`."""
        if version != self.version:
            raise LocalError("the merged counts are of another version", got=version, needed=self.version)
        state = self.empty(partition)
        for key, value in entries:
            kind, of, name = key[:1], int.from_bytes(key[1:3], "big"), key[3:].decode()
            if kind == _ROW:
                clock, count, neighbours, counts, linear = json.loads(value)
                row = Row(clock, count, neighbours, *(np.frombuffer(bytes.fromhex(a), "<f4") for a in (counts, linear)))
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
            except RemoteError as error:
                step.dead.append((message, error))
        return step


def _take_row(state: State, record: ItemCount, message: Message, step: Step) -> None:
    if len(record.counts) != 4 * len(record.neighbours) or len(record.linear) not in (0, len(record.counts)):
        raise RemoteError("a row has a count a neighbour", reason="bad-counts", got=len(record.counts))
    if record.item not in state.rows and len(state.rows) >= ITEMS_MAX:
        raise RemoteError("too many items", reason="too-many-items", needed=f"≤ {ITEMS_MAX}")
    counts, linear = (np.frombuffer(data, dtype="<f4") for data in (record.counts, record.linear))
    if not (np.isfinite(counts).all() and np.isfinite(linear).all() and (counts >= 0).all() and record.count >= 0):
        raise RemoteError("counts are finite and not below 0", reason="bad-counts", got=record.partition)
    try:
        counted = namespace_of(record.item) not in ATTRIBUTES  # an attribute of a situation is nothing that people use
    except LocalError:
        raise RemoteError("an item has no namespace", reason="bad-item", needed="namespace:name") from None
    known = state.rows.setdefault(record.item, {})
    before = known.get(record.partition)
    if counted:
        state.total += record.count - (0.0 if before is None else before.count)
    known[record.partition] = Row(record.clock, record.count, record.neighbours, counts, linear)
    state.clocks[record.partition] = max(state.clocks.get(record.partition, 0), record.clock)
    value = [record.clock, record.count, record.neighbours, record.counts.hex(), record.linear.hex()]
    step.changed[_key(_ROW, record.partition, record.item)] = json.dumps(value).encode()
    step.changed[_TOTAL] = repr(state.total).encode()
    count, weights = merged(state, record.item)
    popularity = count / max(state.total, count, 1.0) if counted else 0.0
    linear_weights = merged_linear(state, record.item)
    table = encode_row(record.deployment, record.item, message.offset + 1, popularity, weights, linear=linear_weights)
    step.outputs.append(Output(topics.TABLES.name, key_of(record.item), table))


def merged(state: State, item: str) -> tuple[float, dict[str, float]]:
    """How often an item came in all partitions, and the probability of each neighbour given it."""
    total, counts = 0.0, dict[str, float]()
    for partition, row in _in_order(state.rows[item]):
        fade = 2.0 ** ((row.clock - state.clocks[partition]) / HALF_LIFE)
        total += fade * row.count
        for name, count in zip(row.neighbours, row.counts.tolist(), strict=True):
            counts[name] = counts.get(name, 0.0) + fade * count
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
