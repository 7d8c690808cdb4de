"""The reducer on Kafka: reads what the machine needs, publishes what it answers. It keeps no state and joins no group.

After a start it looks which rounds of the last day have no aggregate yet, and reads their records and ciphertexts again from
where they begin: a crash means computing again, and the same bytes come out. Two reducers may run side by side.
A record may overtake the proposal that it refers to, since topics are read side by side: it is held back until the other topic
has been read to where it ended when the record was seen.
Errors of Kafka end the process; a supervisor restarts it. Boundary: confluent-kafka, the clock.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from aicache.privacy.errors import LocalError, RemoteError
from aicache.producers.connection import KafkaSettings
from aicache.producers.watermarks import watermarks
from aicache.schemas import topics
from aicache.schemas.codec import Codec, Decoded
from aicache.schemas.records import Aggregate, Enrolment, Envelope, Proposal, Record, Task, UpdateChunk
from aicache.schemas.topics import Topic
from aicache.streams.reducer.logic import Reducer
from aicache.streams.reducer.memory import keep_freed_memory
from aicache.streams.reducer.places import Places
from aicache.streams.runtime.contract import Output

LOG = logging.getLogger(__name__)
DAY_MS = 86_400_000
SKEW_MS = 300_000
"""Clocks of those who write may differ by this much; what is older is found by its place in a manifest."""
CONSUME_MAX = 16
"""Far less than the queue holds: a batch is waited for until it is full, so what cannot fill costs the whole wait."""
CONSUME_WAIT_S = 0.02
QUEUED_KB_MAX = 32_768
HASHING_THREADS = 2
"""Digests of large ciphertexts are checked without the interpreter's lock, beside reading and adding."""
HELD_MAX = 20_000
"""Records held back for a proposal; beyond it the oldest are given up (the round then lacks them, and may drop a group)."""
BROKER_TIMEOUT_S = 30.0
START_TIMEOUT_S = 600.0
DELIVERY_TIMEOUT_MS = 60_000
MESSAGE_BYTES_MAX = topics.AGGREGATES.record_bytes_max + 4_096

FIRST = (topics.TASKS, topics.ENROLMENTS, topics.AGGREGATES, topics.ROUNDS)
OF_ROUNDS = (topics.ENVELOPES, topics.VOTES, topics.OPENINGS)
WANTED: tuple[type[Record], ...] = tuple(
    {kind for topic in (*FIRST, *OF_ROUNDS, topics.UPDATES) for kind in topic.records}
)


def run(
    settings: KafkaSettings,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_ready: Callable[[], None] | None = None,
) -> None:
    """Reduce until told to stop; prints `ready reducer` when everything that stood in the log was read.

    Args:
        settings: how to reach Kafka.
        stop: asked after every batch.
        on_ready: called instead of printing.

    Raises:
        LocalError: a topic is missing.
        KafkaException: Kafka failed; start again.
    """
    keep_freed_memory()
    process = ReducerProcess(settings)
    try:
        process.start()
        (on_ready or _say_ready)()
        while not stop():
            process.step()
    finally:
        process.close()


def _say_ready() -> None:
    print("ready reducer", flush=True)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Held:
    """A record that waits for another topic to be read up to an offset."""

    decoded: Decoded[Record]
    topic: str
    until: int

    @property
    def is_proposal(self) -> bool:
        """Whether others may wait for this one."""
        return isinstance(self.decoded.record, Proposal)

    @property
    def round_id(self) -> str:
        """Of its round."""
        return str(getattr(self.decoded.record, "round_id", ""))


class ReducerProcess:
    """One reducer, running.

    Args:
        settings: how to reach Kafka.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._codec = Codec()
        self._places = Places(settings)
        self._hashing = ThreadPoolExecutor(HASHING_THREADS, thread_name_prefix="digest")
        self.reducer = Reducer(settings.deployment, self._places.fetch, self._hashing.map)
        self._consumer = Consumer(
            settings.reader_config(
                "aicache-reducer",
                fetch_queue_backoff_ms=10,
                queued_max_messages_kbytes=QUEUED_KB_MAX,
                fetch_wait_max_ms=20,
            )
        )
        self._producer = Producer(
            settings.client_config(
                client_id="aicache-reducer",
                enable_idempotence=True,
                acks="all",
                linger_ms=2,
                delivery_timeout_ms=DELIVERY_TIMEOUT_MS,
                message_max_bytes=MESSAGE_BYTES_MAX,
            )
        )
        self._read_to: dict[tuple[str, int], int] = {}
        self._held: deque[Held] = deque()
        self._failed: KafkaError | None = None

    # ------------------------------------------------------------ life

    def start(self) -> None:
        """Read which rounds are unfinished, then all that stands in the log about them."""
        since_ms = _now_ms() - DAY_MS
        places = self._beginnings(topics.TASKS) + self._beginnings(topics.ENROLMENTS)
        for topic in (topics.AGGREGATES, topics.ROUNDS):
            places += self._from_time(topic, since_ms)
        self._read_on(places)
        opened = [current.proposal.opened_ms for current in self.reducer.rounds.values()]
        since_ms = min(opened, default=_now_ms()) - SKEW_MS
        places = [place for topic in OF_ROUNDS for place in self._from_time(topic, since_ms)]
        self._read_on(places + self._updates(since_ms))

    def close(self) -> None:
        """Say what is still to be said, and leave."""
        self._producer.flush(BROKER_TIMEOUT_S)
        self._consumer.close()
        self._places.close()
        self._hashing.shutdown()

    def step(self) -> int:
        """Read a batch, answer it; gives how many records were read."""
        messages = self._consumer.consume(CONSUME_MAX, CONSUME_WAIT_S)
        ends: dict[str, int] = {}
        for message in messages:
            self._take(message, ends)
        self._release()
        self._publish(self.reducer.step(_now_ms()))
        return len(messages)

    # ------------------------------------------------------------ where to read

    def _partitions(self, topic: Topic) -> list[int]:
        name = self._settings.name(topic.name)
        found = self._consumer.list_topics(name, timeout=BROKER_TIMEOUT_S).topics[name]
        if found.error is not None:
            raise LocalError(
                f"the topic {name} does not exist: run `aicache topics create`", got=name, needed="the topic"
            )
        return sorted(found.partitions)

    def _beginnings(self, topic: Topic) -> list[TopicPartition]:
        name = self._settings.name(topic.name)
        return [TopicPartition(name, partition, OFFSET_BEGINNING) for partition in self._partitions(topic)]

    def _from_time(self, topic: Topic, since_ms: int) -> list[TopicPartition]:
        name = self._settings.name(topic.name)
        asked = [TopicPartition(name, partition, since_ms) for partition in self._partitions(topic)]
        found = self._consumer.offsets_for_times(asked, timeout=BROKER_TIMEOUT_S)
        return [
            TopicPartition(
                name, place.partition, place.offset if place.offset >= 0 else self._end(name, place.partition)
            )
            for place in found
        ]

    def _updates(self, since_ms: int) -> list[TopicPartition]:
        """From where the ciphertexts of unfinished rounds begin, as their proposals say; else as time says."""
        said = [
            {place.partition: place.offset for place in current.proposal.updates_start}
            for current in self.reducer.rounds.values()
        ]
        places = []
        for place in self._from_time(topics.UPDATES, since_ms):
            starts = [start.get(place.partition, place.offset) for start in said]
            # Never beyond what time says: a proposal's word is taken from envelopes, which anybody may write.
            places.append(TopicPartition(place.topic, place.partition, min([place.offset, *starts])))
        return places

    def _end(self, name: str, partition: int = 0) -> int:
        return watermarks(self._consumer, name, partition)[1]

    def _read_on(self, places: list[TopicPartition]) -> None:
        """Read these partitions too, and return when they have been read to where they end now."""
        targets = {}
        for place in places:
            end = self._end(place.topic, place.partition)
            targets[place.topic.removeprefix(self._settings.prefix), place.partition] = end
            if place.offset >= 0:
                self._reached(place.topic.removeprefix(self._settings.prefix), place.partition, place.offset)
        self._consumer.incremental_assign(places)
        until_s = time.monotonic() + START_TIMEOUT_S
        while any(self._read_to.get(key, 0) < end for key, end in targets.items()):
            self.step()
            if time.monotonic() > until_s:
                raise LocalError("the log could not be read in time", got=START_TIMEOUT_S, needed="a faster broker")

    # ------------------------------------------------------------ what is read

    def _reached(self, topic: str, partition: int, offset: int) -> None:
        key = (topic, partition)
        self._read_to[key] = max(offset, self._read_to.get(key, 0))
        if topic == topics.UPDATES.name:
            self.reducer.position(partition, offset)

    def _take(self, message: Message, ends: dict[str, int]) -> None:
        name, partition, offset, error = message.topic(), message.partition(), message.offset(), message.error()
        assert name is not None and partition is not None and offset is not None, "what is consumed has a place"
        topic = name.removeprefix(self._settings.prefix)
        if error is not None:
            if error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            self._reached(topic, partition, offset)
            return
        value = message.value()
        try:
            if value is not None:
                self._arrived(partition, offset, self._codec.decode(value, *WANTED), ends)
        except RemoteError as problem:
            LOG.warning("%s, partition %d, offset %d: %s", topic, partition, offset, problem.reason)
        self._reached(topic, partition, offset + 1)

    def _arrived(self, partition: int, offset: int, decoded: Decoded[Record], ends: dict[str, int]) -> None:
        record = decoded.record
        if isinstance(record, UpdateChunk):
            self.reducer.receive_chunk(partition, offset, record)
            return
        other = self._waits_for(record)
        if other is not None:
            if other not in ends:
                ends[other] = self._end(self._settings.name(other))
            if self._read_to.get((other, 0), 0) < ends[other]:
                self._held.append(Held(decoded, other, ends[other]))
                while len(self._held) > HELD_MAX:
                    self._held.popleft()
                return
        self._receive(decoded)

    def _waits_for(self, record: Record) -> str | None:
        """Which topic has to be read first, if the record refers to something in it that has not come yet."""
        if isinstance(record, Proposal):
            return topics.TASKS.name
        if isinstance(record, Task | Aggregate | Enrolment):
            return None
        if getattr(record, "round_id", "") not in self.reducer.rounds:
            return topics.ROUNDS.name
        if isinstance(record, Envelope) and not record.member and not self.reducer.knows_client(record.sender):
            return topics.ENROLMENTS.name
        return None

    def _receive(self, decoded: Decoded[Record]) -> None:
        try:
            self.reducer.receive(decoded.record, fingerprint=decoded.fingerprint, body=decoded.body, now_ms=_now_ms())
        except RemoteError as problem:
            LOG.warning("%s: %s", type(decoded.record).__name__, problem.reason)

    def _release(self) -> None:
        """Give the machine what was held back and need not wait any more: proposals first, the others in their order."""
        for proposals in (True, False):
            waiting = {held.round_id for held in self._held if held.is_proposal}
            for _ in range(len(self._held)):
                held = self._held.popleft()
                free = self._read_to.get((held.topic, 0), 0) >= held.until
                if free and held.is_proposal == proposals and (proposals or held.round_id not in waiting):
                    self._receive(held.decoded)
                else:
                    self._held.append(held)

    # ------------------------------------------------------------ what is said

    def _publish(self, outputs: list[Output]) -> None:
        for output in outputs:
            assert output.record is not None, "the reducer deletes nothing"
            value = self._codec.encode(output.record)
            self._producer.produce(self._settings.name(output.topic), value, output.key, on_delivery=self._delivered)
        self._producer.poll(0)
        if self._failed is not None:
            raise KafkaException(self._failed)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failed = error
