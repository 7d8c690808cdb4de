"""A Kafka in memory, as far as the processors rely on it: ordered partitions, transactions, fencing, idempotent producers, compaction.

The contract suite (tests/broker/log_contract_test.py) holds it and a real broker to the same behaviour. A transaction's end takes an
offset in every partition that it wrote to, as Kafka's control records do.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

Headers = Sequence[tuple[str, bytes]]
OPEN, COMMITTED, ABORTED = "open", "committed", "aborted"


class FencedError(Exception):
    """Another producer has taken the transactional id."""


class CrashedError(Exception):
    """The process is gone: what it held in memory is lost."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One offset: a record, or the mark of a transaction's end (`control`)."""

    offset: int
    key: bytes
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int = 0
    transaction: int = 0
    control: bool = False


@dataclass
class Topic:
    """Partitions of entries, offsets rising; `ends` goes on after what was compacted away."""

    id: str
    partitions: list[list[Entry]]
    ends: list[int]


@dataclass
class Log:
    """The broker.

    Attributes:
        now_ms: its clock, which stamps records.
        states: of transactions, by number; 0 is no transaction.
        before_write: called before every write of a transactional producer: where processes die.
    """

    topics: dict[str, Topic] = field(default_factory=dict)
    now_ms: int = 0
    epochs: dict[str, int] = field(default_factory=dict)
    states: dict[int, str] = field(default_factory=lambda: {0: COMMITTED})
    before_write: Callable[[str], None] = lambda what: None
    _open: dict[str, "Transaction"] = field(default_factory=dict)
    _seen: dict[tuple[int, str, int, int], int] = field(default_factory=dict)
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    def create(self, name: str, partitions: int = 1) -> None:
        """A topic with an id that no other has had."""
        assert name not in self.topics, name
        self.topics[name] = Topic(f"id-{next(self._numbers)}", [[] for _ in range(partitions)], [0] * partitions)

    def delete(self, name: str) -> None:
        """The topic and all that it holds."""
        del self.topics[name]

    # ------------------------------------------------------------ writing

    def producer(self) -> "Producer":
        """An idempotent producer."""
        return Producer(self, next(self._numbers))

    def writer(self, name: str) -> "Writer":
        """A transactional producer: fences the one before of this name and aborts what it has left open."""
        self.epochs[name] = self.epochs.get(name, 0) + 1
        left = self._open.pop(name, None)
        if left is not None:
            self._end(left, ABORTED)
        return Writer(self, name, self.epochs[name])

    def _append(
        self,
        topic: str,
        partition: int,
        key: bytes,
        value: bytes | None,
        headers: Headers,
        transaction: int,
        control: bool,
    ) -> int:
        found = self.topics[topic]
        offset = found.ends[partition]
        found.ends[partition] += 1
        found.partitions[partition].append(Entry(offset, key, value, headers, self.now_ms, transaction, control))
        return offset

    def _end(self, transaction: "Transaction", state: str) -> None:
        self.states[transaction.number] = state
        for topic, partition in sorted(transaction.places):
            if topic in self.topics:
                self._append(topic, partition, b"", b"", (), transaction.number, True)

    # ------------------------------------------------------------ reading

    def end(self, topic: str, partition: int, *, committed: bool = True) -> int:
        """Behind the last record; with `committed`, not behind the first one of an open transaction."""
        found = self.topics[topic]
        if committed:
            for entry in found.partitions[partition]:
                if self.states[entry.transaction] == OPEN:
                    return entry.offset
        return found.ends[partition]

    def read(self, topic: str, partition: int, start: int = 0, *, committed: bool = True) -> list[Entry]:
        """Records from an offset on; with `committed`, without those of transactions that were aborted or are open."""
        end = self.end(topic, partition, committed=committed)
        rows = self.topics[topic].partitions[partition]
        first = start - (rows[0].offset if rows else 0)
        if not 0 <= first <= len(rows) or (first < len(rows) and rows[first].offset != start):  # compacted
            first = next((n for n, entry in enumerate(rows) if entry.offset >= start), len(rows))
        return [
            entry
            for entry in rows[first:]
            if entry.offset < end
            and not entry.control
            and (not committed or self.states[entry.transaction] == COMMITTED)
        ]

    def compact(self, topic: str, partition: int) -> None:
        """Of each key only the newest committed record stays, at its offset; the end stays where it is."""
        end = self.end(topic, partition)
        rows = self.topics[topic].partitions[partition]
        newest = {entry.key: entry.offset for entry in self.read(topic, partition)}
        self.topics[topic].partitions[partition] = [
            entry
            for entry in rows
            if entry.offset >= end or (not entry.control and newest.get(entry.key) == entry.offset)
        ]


@dataclass
class Producer:
    """Idempotent: a record that is sent again keeps its sequence number and is written once."""

    log: Log
    number: int
    sequences: dict[tuple[str, int], int] = field(default_factory=dict)

    def next_sequence(self, topic: str, partition: int) -> int:
        """The number of a new record."""
        self.sequences[topic, partition] = self.sequences.get((topic, partition), -1) + 1
        return self.sequences[topic, partition]

    def send(
        self,
        topic: str,
        partition: int,
        key: bytes,
        value: bytes | None,
        *,
        headers: Headers = (),
        sequence: int | None = None,
    ) -> int:
        """Write a record, or find it written; returns its offset."""
        if sequence is None:
            sequence = self.next_sequence(topic, partition)
        place = (self.number, topic, partition, sequence)
        if place not in self.log._seen:
            self.log._seen[place] = self.log._append(topic, partition, key, value, headers, 0, False)
        return self.log._seen[place]


@dataclass
class Transaction:
    """What one writer has begun."""

    number: int
    places: set[tuple[str, int]] = field(default_factory=set)


@dataclass
class Writer:
    """A transactional producer."""

    log: Log
    name: str
    epoch: int

    def _require_newest(self) -> None:
        if self.log.epochs[self.name] != self.epoch:
            raise FencedError(self.name)

    def begin(self) -> None:
        """Start a transaction."""
        assert self.name not in self.log._open or self.log.epochs[self.name] != self.epoch
        if self.log.epochs[self.name] == self.epoch:
            number = next(self.log._numbers)
            self.log.states[number] = OPEN
            self.log._open[self.name] = Transaction(number)

    def write(self, topic: str, partition: int, key: bytes, value: bytes | None, headers: Headers = ()) -> int:
        """Write a record that counts once the transaction is committed."""
        self.log.before_write(f"{topic}/{partition}")
        self._require_newest()
        transaction = self.log._open[self.name]
        transaction.places.add((topic, partition))
        return self.log._append(topic, partition, key, value, headers, transaction.number, False)

    def commit(self) -> None:
        """All of it counts from now on."""
        self.log.before_write("commit")
        self._require_newest()
        self.log._end(self.log._open.pop(self.name), COMMITTED)

    def abort(self) -> None:
        """Nothing of it ever counts."""
        self._require_newest()
        self.log._end(self.log._open.pop(self.name), ABORTED)
