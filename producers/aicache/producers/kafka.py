"""The connection of a process to Kafka, shared by all its clients.

One consumer reads the control topics once for all and keeps the board; one idempotent producer writes, and every record written is
acknowledged through a future. One thread reads, another does the clients' arithmetic, so callers may be blocking or asynchronous.
librdkafka reconnects by itself: a broker that restarts costs time, not records. Boundary: confluent-kafka, threads, the clock.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from aicache.privacy.errors import LocalError, RemoteError
from aicache.producers.board import Board, OpenRound
from aicache.producers.connection import KafkaSettings
from aicache.producers.tables import Tables
from aicache.producers.tracing import record_headers
from aicache.producers.watermarks import watermarks
from aicache.schemas import topics
from aicache.schemas.codec import Codec
from aicache.schemas.records import (
    CommitteeMember,
    Enrolment,
    ItemTable,
    ItemVectors,
    Model,
    Recommendation,
    Record,
    TableWeights,
    Task,
)
from aicache.schemas.topics import Topic

CONTROL = (
    topics.COMMITTEE,
    topics.TASKS,
    topics.ENROLMENTS,
    topics.MODELS,
    topics.BUDGETS,
    topics.ROUNDS,
    topics.VOTES,
)
RANKS = {topic.name: rank for rank, topic in enumerate(CONTROL)}
AWAITED = (CommitteeMember, Enrolment, Model, Task)
"""When one of these comes, a round that a client could not take part in may have become possible."""
CONSUME_MAX = 500
CONSUME_WAIT_S = 0.02
TICK_S = 0.25
PASSING = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
}
"""A broker that is away: librdkafka connects again by itself."""
READY_TIMEOUT_S = 30.0
FLUSH_TIMEOUT_S = 30.0
DELIVERY_TIMEOUT_MS = 120_000
QUEUE_KB_MAX = 262_144


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A record that the broker has: where it stands."""

    topic: str
    partition: int
    offset: int


class Hub:
    """A process's connection.

    Args:
        settings: how to reach Kafka.
        tracing: begin a trace with each record that is written (`tracing`); needs the extra of that name.

    Examples:
        >>> with Hub(KafkaSettings("localhost:9092")) as hub:  # doctest: +SKIP
        ...     client = BlockingClient(hub, folder, pins=pins)
    """

    def __init__(self, settings: KafkaSettings, *, tracing: bool = False) -> None:
        self.settings = settings
        self.tracing = tracing
        self.board = Board(settings.deployment)
        self.codec = Codec()
        self.refused: dict[str, int] = {}
        self._names = {settings.name(topic.name): topic for topic in (*CONTROL, topics.RECOMMENDATIONS, topics.TABLES)}
        self._listeners: list[Callable[[OpenRound], None]] = []
        self._tickers: list[Callable[[], None]] = []
        self._next_tick_s = 0.0
        self._ticked: Future[None] = Future()
        self._ticked.set_result(None)
        self._pseudonyms: set[bytes] = set()
        self._recommendations: dict[tuple[bytes, str], Recommendation] = {}
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._changed = threading.Condition()
        self._failed: BaseException | None = None
        self._look_again = False
        self.tables = Tables(settings.deployment)
        self._tables_wanted = False
        self._tables_waiting: set[tuple[str, int]] | None = None
        self._work = ThreadPoolExecutor(1, thread_name_prefix="aicache-work")
        self._thread = threading.Thread(target=self._run, name="aicache-hub", daemon=True)
        self._producer = Producer(
            settings.client_config(
                client_id="aicache-client",
                enable_idempotence=True,
                acks="all",
                linger_ms=5,
                partitioner="murmur2_random",
                delivery_timeout_ms=DELIVERY_TIMEOUT_MS,
                queue_buffering_max_kbytes=QUEUE_KB_MAX,
                message_max_bytes=topics.RECORD_BYTES_MAX + 4 * topics.KIB,
            )
        )

    # ------------------------------------------------------------ life

    def start(self) -> Self:
        """Read all that stands in the control topics, then go on in the background.

        Raises:
            LocalError: Kafka does not answer.
        """
        self._thread.start()
        if not self._ready.wait(READY_TIMEOUT_S):
            self.close()
            raise LocalError(
                f"Kafka at {self.settings.bootstrap_servers} does not answer: {self._failed or 'no word of it'}",
                got="silence",
                needed=f"an answer within {READY_TIMEOUT_S:.0f} s",
            )
        self._check()
        return self

    def close(self) -> None:
        """Deliver what is queued, then let go."""
        self._work.shutdown(wait=True, cancel_futures=True)
        self._producer.flush(FLUSH_TIMEOUT_S)
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(FLUSH_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self) -> None:
        if self._failed is not None:
            raise LocalError(
                f"the connection to Kafka has failed: {self._failed}", got=str(self._failed), needed="Kafka"
            )

    # ------------------------------------------------------------ listening

    def on_round(self, listener: Callable[[OpenRound], None]) -> None:
        """Call this from the reading thread whenever a quorum has approved a round; it must not block."""
        self._listeners.append(listener)

    def off_round(self, listener: Callable[[OpenRound], None]) -> None:
        """Call it no more."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def on_tick(self, listener: Callable[[], None]) -> None:
        """Call this in the working thread every `TICK_S` seconds."""
        self._tickers.append(listener)

    def off_tick(self, listener: Callable[[], None]) -> None:
        """Call it no more."""
        if listener in self._tickers:
            self._tickers.remove(listener)

    def _tick(self) -> None:
        """Let the working thread make one turn; the next is asked for when this one is done."""
        now_s = time.monotonic()
        if now_s >= self._next_tick_s and self._ticked.done():
            self._next_tick_s = now_s + TICK_S
            with contextlib.suppress(RuntimeError):
                self._ticked = self._work.submit(self._turn)

    def _turn(self) -> None:
        for listener in list(self._tickers):
            listener()

    def run(self, work: Callable[[OpenRound], None], current: OpenRound) -> None:
        """Do a client's work in the working thread, after what others have asked for; nothing once the hub is closed."""
        with contextlib.suppress(RuntimeError):
            self._work.submit(work, current)

    def settle(self) -> None:
        """Wait until the work that was asked for before this call is done."""
        with contextlib.suppress(RuntimeError, CancelledError):
            self._work.submit(int).result()

    def wait_for(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until something is so on the board or in a client's outcomes; False where the time is up."""
        with self._changed:
            return self._changed.wait_for(lambda: holds() or self._failed is not None, timeout_s) and holds()

    def tell_waiting(self) -> None:
        """Let those who wait look again."""
        with self._changed:
            self._changed.notify_all()

    def watch(self, pseudonym: bytes) -> None:
        """Keep the newest recommendations for a pseudonym of this process; others are read past."""
        self._pseudonyms.add(pseudonym)

    def unwatch(self, pseudonym: bytes) -> None:
        """Forget a pseudonym and what came for it."""
        self._pseudonyms.discard(pseudonym)
        for key in [key for key in self._recommendations if key[0] == pseudonym]:
            self._recommendations.pop(key, None)

    def recommendation(self, pseudonym: bytes, namespace: str) -> Recommendation | None:
        """The newest recommendation for a watched pseudonym."""
        return self._recommendations.get((pseudonym, namespace))

    def read_tables(self, timeout_s: float = READY_TIMEOUT_S) -> Tables:
        """The tables for scoring on this machine: read whole by the first call, followed from then on.

        Every process that asks reads all of them, so the broker learns nothing of what is asked.

        Raises:
            LocalError: they are not there in time.
        """
        self._tables_wanted = True
        if not self.wait_for(lambda: self._tables_waiting == set(), timeout_s):
            self._check()
            raise LocalError(
                "the tables could not be read in time", got="silence", needed=f"an answer within {timeout_s:.0f} s"
            )
        return self.tables

    def _run(self) -> None:
        try:
            self._read()
        except BaseException as error:
            self._failed = error
            self._ready.set()
            self._producer.purge()
            self._producer.poll(0)
            with self._changed:
                self._changed.notify_all()

    def _read(self) -> None:
        consumer = Consumer(self.settings.reader_config("aicache-client", fetch_wait_max_ms=50))
        try:
            waiting = self._assign(consumer)
            if not waiting:
                self._ready.set()
            while not self._stop.is_set():
                if self._tables_wanted and self._tables_waiting is None:
                    self._follow_tables(consumer)
                messages = consumer.consume(CONSUME_MAX, CONSUME_WAIT_S)
                for message in sorted((m for m in messages if m.error() is None), key=self._order):
                    self._take(message)
                for message in messages:
                    self._note_end(message, waiting)
                    if self._tables_waiting:
                        self._note_end(message, self._tables_waiting)
                if not waiting:
                    self._ready.set()
                if self._look_again:
                    self._look_again = False
                    for current in [current for current in self.board.rounds.values() if current.approved]:
                        self._tell(current)
                if messages:
                    self.tell_waiting()
                self._producer.poll(0)
                self._tick()
        finally:
            consumer.close()

    def _assign(self, consumer: Consumer) -> set[tuple[str, int]]:
        places = [
            TopicPartition(self.settings.name(topic.name), partition, 0)
            for topic in CONTROL
            for partition in range(topic.partitions)
        ]
        waiting = {(place.topic, place.partition) for place in places}
        for partition in range(topics.RECOMMENDATIONS.partitions):
            name = self.settings.name(topics.RECOMMENDATIONS.name)
            places.append(TopicPartition(name, partition, watermarks(consumer, name, partition)[1]))
        consumer.assign(places)
        return waiting

    def _follow_tables(self, consumer: Consumer) -> None:
        name = self.settings.name(topics.TABLES.name)
        consumer.incremental_assign(
            [TopicPartition(name, partition, 0) for partition in range(topics.TABLES.partitions)]
        )
        self._tables_waiting = {(name, partition) for partition in range(topics.TABLES.partitions)}

    def _order(self, message: Message) -> int:
        """Keys before the rounds that name them, rounds before their votes."""
        return RANKS.get(self._names[message.topic() or ""].name, len(RANKS))

    @staticmethod
    def _note_end(message: Message, waiting: set[tuple[str, int]]) -> None:
        error = message.error()
        if error is None:
            return
        if error.code() == KafkaError._PARTITION_EOF:
            waiting.discard((message.topic() or "", message.partition() or 0))
        elif error.fatal() or not (error.retriable() or error.code() in PASSING):
            raise KafkaException(error)

    def _take(self, message: Message) -> None:
        value = message.value()
        topic = self._names[message.topic() or ""]
        if value is None:
            if topic is topics.TABLES:
                self.tables.remove(message.key() or b"")
            return
        try:
            found = self.codec.decode(value, *topic.records)
            if isinstance(found.record, ItemTable | ItemVectors | TableWeights):
                self.tables.apply(found.record)
                return
            if isinstance(found.record, Recommendation):
                if found.record.pseudonym in self._pseudonyms:
                    self._recommendations[found.record.pseudonym, found.record.namespace] = found.record
                return
            approved = self.board.receive(found.record, found.fingerprint, found.body, message.offset() or 0)
        except RemoteError as error:
            self.refused[error.reason] = self.refused.get(error.reason, 0) + 1
            return
        self._look_again |= isinstance(found.record, AWAITED)
        if approved is not None:
            self._tell(approved)

    def _tell(self, current: OpenRound) -> None:
        for listener in list(self._listeners):
            listener(current)

    # ------------------------------------------------------------ writing

    def publish(self, topic: Topic, key: bytes, record: Record) -> Future[Acknowledged]:
        """Write a record; the future tells where it stands, or why it does not.

        Raises:
            LocalError: the record does not fit, or the connection has failed.
        """
        return self._produce(topic, key, self.codec.encode(record))

    def erase(self, topic: Topic, key: bytes) -> Future[Acknowledged]:
        """Write a tombstone: what is kept under a key is to be forgotten.

        Raises:
            LocalError: the connection has failed.
        """
        return self._produce(topic, key, None)

    def _produce(self, topic: Topic, key: bytes, data: bytes | None) -> Future[Acknowledged]:
        self._check()
        done: Future[Acknowledged] = Future()
        done.set_running_or_notify_cancel()  # what was handed over cannot be taken back: waiting for it can end, it cannot

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                done.set_exception(
                    LocalError(
                        f"the broker did not take a record of {topic.name}: {error.str()}",
                        got=error.str(),
                        needed="an acknowledgement",
                    )
                )
                return
            partition, offset = message.partition(), message.offset()
            assert partition is not None and offset is not None, "what was delivered has a place"
            done.set_result(Acknowledged(topic.name, partition, offset))

        until_s = time.monotonic() + FLUSH_TIMEOUT_S
        headers: list[tuple[str, str | bytes | None]] = [*record_headers(topic.name)] if self.tracing else []
        while True:
            try:
                self._producer.produce(
                    self.settings.name(topic.name), data, key, on_delivery=delivered, headers=headers
                )
                return done
            except BufferError:
                if time.monotonic() > until_s:
                    raise LocalError(
                        "the queue to the broker is full: nothing was sent",
                        got="a full queue",
                        needed="a broker that takes records",
                    ) from None
                self._producer.poll(0.05)

    def flush(self, timeout_s: float = FLUSH_TIMEOUT_S) -> int:
        """Wait until everything is delivered or the time is up; gives how many records are still on their way."""
        return self._producer.flush(timeout_s)
