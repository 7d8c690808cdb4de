"""One contract of the log, kept by the simulated one and by a real broker: so the simulation is of something. The same tests, run twice."""

import time
from collections.abc import Callable, Iterator
from typing import Protocol

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from aicache.producers.connection import KafkaSettings
from aicache.producers.watermarks import watermarks
from simulation import log as simulated

WAIT_S = 60.0
FENCED = {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}
Row = tuple[int, bytes, bytes | None]


class Writer(Protocol):
    """A transactional producer."""

    def begin(self) -> None: ...
    def write(self, topic: str, partition: int, key: bytes, value: bytes | None) -> object: ...
    def commit(self) -> None: ...
    def abort(self) -> None: ...


class Simulated:
    """The simulated log."""

    def __init__(self) -> None:
        self.log = simulated.Log()
        self.producer = self.log.producer()

    def create(self, name: str, partitions: int = 1) -> None:
        self.log.create(name, partitions)

    def delete(self, name: str) -> None:
        self.log.delete(name)

    def id_of(self, name: str) -> str:
        return self.log.topics[name].id

    def send(self, name: str, partition: int, key: bytes, value: bytes | None) -> int:
        return self.producer.send(name, partition, key, value)

    def writer(self, name: str) -> Writer:
        return self.log.writer(name)

    def read(self, name: str, partition: int, start: int = 0) -> list[Row]:
        return [(entry.offset, entry.key, entry.value) for entry in self.log.read(name, partition, start)]

    def end(self, name: str, partition: int) -> int:
        return self.log.end(name, partition)

    def compact(self, name: str, partition: int) -> None:
        self.log.compact(name, partition)


class RealWriter:
    """confluent-kafka's; every write waits for the broker."""

    def __init__(self, kafka: KafkaSettings, name: str) -> None:
        self.kafka = kafka
        self.producer = Producer(kafka.client_config(transactional_id=kafka.name(name), linger_ms=0))
        self.producer.init_transactions(WAIT_S)

    def begin(self) -> None:
        self._call(self.producer.begin_transaction)

    def write(self, topic: str, partition: int, key: bytes, value: bytes | None) -> None:
        self._call(self.producer.produce, self.kafka.name(topic), value, key, partition)
        self._call(self.producer.flush, WAIT_S)

    def commit(self) -> None:
        self._call(self.producer.commit_transaction, WAIT_S)

    def abort(self) -> None:
        self._call(self.producer.abort_transaction, WAIT_S)

    def _call(self, what, *arguments) -> None:
        try:
            what(*arguments)
        except KafkaException as error:
            if error.args[0].code() in FENCED:
                raise simulated.FencedError from None
            raise


class Real:
    """A real broker."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.kafka = kafka
        self.admin = AdminClient(kafka.client_config())
        self.producer = Producer(kafka.client_config(enable_idempotence=True, linger_ms=0))

    def create(self, name: str, partitions: int = 1) -> None:
        full = self.kafka.name(name)
        often = {"segment.ms": "100", "min.cleanable.dirty.ratio": "0.001", "cleanup.policy": "compact"}
        topic = NewTopic(full, partitions, 1, config=often if name == "compacted" else {})
        self.admin.create_topics([topic], operation_timeout=WAIT_S)[full].result(WAIT_S)

    def delete(self, name: str) -> None:
        full = self.kafka.name(name)
        self.admin.delete_topics([full], operation_timeout=WAIT_S)[full].result(WAIT_S)
        until_s = time.monotonic() + WAIT_S
        while full in self.admin.list_topics(timeout=WAIT_S).topics:
            assert time.monotonic() < until_s

    def id_of(self, name: str) -> str:
        full = self.kafka.name(name)
        while True:
            try:
                return str(self.admin.describe_topics(TopicCollection([full]))[full].result(WAIT_S).topic_id)
            except KafkaException as error:
                assert error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART  # the broker has not heard of it yet

    def send(self, name: str, partition: int, key: bytes, value: bytes | None) -> int:
        told: list[int] = []
        self.producer.produce(
            self.kafka.name(name), value, key, partition, on_delivery=lambda _, message: told.append(message.offset())
        )
        self.producer.flush(WAIT_S)
        return told[0]

    def writer(self, name: str) -> Writer:
        return RealWriter(self.kafka, name)

    def read(self, name: str, partition: int, start: int = 0) -> list[Row]:
        consumer = self._consumer()
        consumer.assign([TopicPartition(self.kafka.name(name), partition, start)])
        rows: list[Row] = []
        until_s = time.monotonic() + WAIT_S
        while time.monotonic() < until_s:
            for message in consumer.consume(100, 0.05):
                if message.error() is None:
                    rows.append((message.offset(), message.key(), message.value()))
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    consumer.close()
                    return rows
        raise AssertionError("the end was not reached")

    def end(self, name: str, partition: int) -> int:
        consumer = self._consumer()
        try:
            return watermarks(consumer, self.kafka.name(name), partition)[1]
        finally:
            consumer.close()

    def compact(self, name: str, partition: int) -> None:
        """Wait for the cleaner, which leaves the newest segment alone."""
        until_s = time.monotonic() + WAIT_S
        while len({key for _, key, _ in self.read(name, partition)}) < len(self.read(name, partition)):
            assert time.monotonic() < until_s, "nothing was compacted"

    def _consumer(self) -> Consumer:
        return Consumer(
            self.kafka.client_config(
                group_id="contract", isolation_level="read_committed", enable_partition_eof=True, fetch_wait_max_ms=10
            )
        )


@pytest.fixture(params=["simulated", "embedded"])
def log(request: pytest.FixtureRequest) -> Iterator[Simulated | Real]:
    yield Simulated() if request.param == "simulated" else Real(request.getfixturevalue("kafka"))


def transact(writer: Writer, *rows: tuple[str, int, bytes, bytes]) -> None:
    writer.begin()
    for row in rows:
        writer.write(*row)
    writer.commit()


def values(log: Simulated | Real, name: str, partition: int = 0) -> list[bytes | None]:
    return [value for _, _, value in log.read(name, partition)]


def soon(look: Callable[[], object], expected: object) -> None:
    """A real broker marks a transaction's end a moment after it has acknowledged it; whoever opens its id next waits for that."""
    until_s = time.monotonic() + WAIT_S
    while (found := look()) != expected:
        assert time.monotonic() < until_s, (found, expected)


def test_offsets_rise_without_gaps_from_0_and_the_end_is_the_next_one(log: Simulated | Real) -> None:
    log.create("a", 2)
    assert log.end("a", 0) == 0
    assert [log.send("a", 0, b"k", b"%d" % n) for n in range(3)] == [0, 1, 2]
    assert log.send("a", 1, b"k", None) == 0
    assert log.read("a", 0) == [(n, b"k", b"%d" % n) for n in range(3)]
    assert log.read("a", 0, 2) == [(2, b"k", b"2")]
    assert (log.read("a", 1), log.end("a", 0), log.end("a", 1)) == ([(0, b"k", None)], 3, 1)


def test_a_transaction_is_seen_when_it_is_committed_and_takes_one_offset_more(log: Simulated | Real) -> None:
    log.create("a")
    writer = log.writer("w")
    writer.begin()
    writer.write("a", 0, b"k", b"1")
    writer.write("a", 0, b"k", b"2")
    assert (log.read("a", 0), log.end("a", 0)) == ([], 0)
    writer.commit()
    soon(lambda: log.read("a", 0), [(0, b"k", b"1"), (1, b"k", b"2")])
    soon(lambda: log.end("a", 0), 3)
    assert log.send("a", 0, b"k", b"3") == 3
    assert log.read("a", 0, 2) == [(3, b"k", b"3")], "the place of the mark is passed over"


def test_what_stands_behind_an_open_transaction_waits_for_its_end(log: Simulated | Real) -> None:
    log.create("a")
    log.send("a", 0, b"k", b"before")
    writer = log.writer("w")
    writer.begin()
    writer.write("a", 0, b"k", b"open")
    log.send("a", 0, b"k", b"behind")
    assert (values(log, "a"), log.end("a", 0)) == ([b"before"], 1)
    writer.abort()
    soon(lambda: (values(log, "a"), log.end("a", 0)), ([b"before", b"behind"], 4))


def test_an_aborted_transaction_is_never_seen(log: Simulated | Real) -> None:
    log.create("a")
    writer = log.writer("w")
    writer.begin()
    writer.write("a", 0, b"k", b"aborted")
    writer.abort()
    transact(writer, ("a", 0, b"k", b"committed"))
    soon(lambda: values(log, "a"), [b"committed"])


def test_opening_ends_what_the_one_before_has_left_open_and_fences_it(log: Simulated | Real) -> None:
    log.create("a")
    old = log.writer("w")
    old.begin()
    old.write("a", 0, b"k", b"left")
    new = log.writer("w")
    transact(new, ("a", 0, b"k", b"new"))
    with pytest.raises(simulated.FencedError):
        old.commit()
    soon(lambda: values(log, "a"), [b"new"])
    transact(new, ("a", 0, b"k", b"again"))  # the one that was fenced does not fence in turn
    soon(lambda: values(log, "a"), [b"new", b"again"])


def test_an_idle_writer_that_was_fenced_writes_nothing(log: Simulated | Real) -> None:
    log.create("a")
    old = log.writer("w")
    transact(old, ("a", 0, b"k", b"1"))
    log.writer("w")
    with pytest.raises(simulated.FencedError):
        transact(old, ("a", 0, b"k", b"2"))
    transact(log.writer("other"), ("a", 0, b"k", b"3"))
    soon(lambda: values(log, "a"), [b"1", b"3"])


def test_one_commit_holds_for_all_partitions_of_all_topics_or_for_none(log: Simulated | Real) -> None:
    log.create("a", 2)
    log.create("b")
    group = [("a", 0, b"k", b"1"), ("a", 1, b"k", b"1"), ("b", 0, b"k", b"1")]
    old = log.writer("w")
    transact(old, *group)
    old.begin()
    for row in group:
        old.write(*row)
    new = log.writer("w")
    with pytest.raises(simulated.FencedError):
        old.commit()
    places = [("a", 0), ("a", 1), ("b", 0)]
    soon(lambda: [values(log, *place) for place in places], [[b"1"]] * 3)
    transact(new, *group)
    soon(lambda: [values(log, *place) for place in places], [[b"1", b"1"]] * 3)


def test_a_topic_that_is_made_anew_begins_at_0_under_another_id(log: Simulated | Real) -> None:
    log.create("a")
    log.send("a", 0, b"k", b"old")
    before = log.id_of("a")
    log.delete("a")
    log.create("a")
    assert log.id_of("a") != before
    assert log.send("a", 0, b"k", b"new") == 0
    assert log.read("a", 0) == [(0, b"k", b"new")]


@pytest.mark.faults
def test_compaction_keeps_the_newest_of_each_key_where_it_stands(log: Simulated | Real) -> None:
    log.create("compacted")
    writer = log.writer("w")
    for number in range(3):
        transact(writer, ("compacted", 0, b"a", b"%d" % number), ("compacted", 0, b"b", b"%d" % number))
    before = {b"a": b"2", b"b": b"2"}
    soon(lambda: {key: value for _, key, value in log.read("compacted", 0)}, before)
    newest = {key: offset for offset, key, _ in log.read("compacted", 0)}
    transact(writer, ("compacted", 0, b"c", b"new"))
    soon(lambda: log.read("compacted", 0)[-1][1:], (b"c", b"new"))
    end = log.end("compacted", 0)
    log.compact("compacted", 0)
    rows = log.read("compacted", 0)
    assert {key: value for _, key, value in rows} == {**before, b"c": b"new"}
    assert [(key, offset) for offset, key, _ in rows if key != b"c"] == sorted(newest.items())
    assert log.end("compacted", 0) == end
