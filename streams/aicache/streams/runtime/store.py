"""The state of one task in Kafka: what changed, what follows and how far was read, in one transaction.

The changelog is one partition of the processor's compacted state topic. Whoever opens it first makes itself the only one who can
write (`init_transactions` fences the producer before), then reads it. Invariant: state, outputs and offsets that a reader with
`read_committed` sees belong to the same moment. Boundary: confluent-kafka.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from aicache.privacy.errors import AicacheError, LocalError, RemoteError
from aicache.producers.connection import KafkaSettings
from aicache.producers.tracing import Headers
from aicache.producers.watermarks import watermarks
from aicache.schemas import topics
from aicache.schemas.codec import Codec
from aicache.schemas.records import DeadLetter
from aicache.streams.runtime.contract import Message, Step

OFFSETS_KEY = b"\x00offsets"
REPLAYED_PREFIX = b"\x00replayed/"
TIMEOUT_S = 30.0
TRANSACTION_TIMEOUT_MS = 60_000
LOAD_BATCH = 5_000
LOAD_WAIT_S = 0.02
ANY_PARTITION = -1
"""The key decides."""


class FencedError(AicacheError):
    """Another worker has opened the partition: what this one holds of it is worthless."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a changelog holds.

    Attributes:
        version: of the fold that wrote it; 0 where it is empty.
        offsets: the next offset to read, by topic (without prefix).
        entries: state keys and values.
        replayed: dead letters that were fed again, each counts once.
        told: what else the task had `TaskStore.told` remember with its place.
    """

    version: int
    offsets: Mapping[str, int]
    entries: Mapping[bytes, bytes]
    replayed: frozenset[bytes] = frozenset()
    told: Mapping[str, Any] = field(default_factory=dict)


class TaskStore:
    """The changelog of one task, opened for writing.

    Args:
        settings: how to reach Kafka.
        processor: name of the fold.
        partition: of the task.
        version: of the fold; written with every transaction.
        deployment: named in dead letters.

    Attributes:
        told: written with every transaction beside the offsets: small, JSON.
    """

    def __init__(self, settings: KafkaSettings, processor: str, partition: int, version: int) -> None:
        self._settings = settings
        self._processor = processor
        self.partition = partition
        self._version = version
        self.told: dict[str, Any] = {}
        self._codec = Codec()
        self._topic = settings.name(topics.STATE_PREFIX + processor)
        self._producer = Producer(
            settings.client_config(
                client_id=f"aicache-{processor}-{partition}",
                transactional_id=f"{settings.prefix}aicache-{processor}-{partition}",
                transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
                linger_ms=2,
                compression_type="lz4",
                partitioner="murmur2_random",
                message_max_bytes=topics.RECORD_BYTES_MAX * 10,
            )
        )
        self._call(self._producer.init_transactions, TIMEOUT_S)

    def load(self) -> Loaded:
        """Read the changelog to its end.

        Raises:
            KafkaException: Kafka fails.
        """
        entries: dict[bytes, bytes] = {}
        header, replayed = b"", set()
        for key, value in self._changelog():
            if key == OFFSETS_KEY:
                header = value or b""
            elif key.startswith(REPLAYED_PREFIX):
                replayed.add(key)
            elif value is None:
                entries.pop(key, None)
            else:
                entries[key] = value
        if not header:
            return Loaded(0, {}, entries, frozenset(replayed))
        told = json.loads(header)
        return Loaded(told.pop("version"), told.pop("offsets"), entries, frozenset(replayed), told)

    def _changelog(self) -> Iterator[tuple[bytes, bytes | None]]:
        consumer = Consumer(self._settings.reader_config("aicache-load", fetch_wait_max_ms=10))
        try:
            self._require_partition(consumer)
            # From offset 0, not from "the beginning": that would be asked for, half a second after the leader is not yet known.
            consumer.assign([TopicPartition(self._topic, self.partition, 0)])
            silent_s = 0.0
            while True:
                batch = consumer.consume(LOAD_BATCH, LOAD_WAIT_S)  # waits until it is full or the time is up
                silent_s = 0.0 if batch else silent_s + LOAD_WAIT_S
                if silent_s > TIMEOUT_S:
                    raise LocalError(
                        "the broker does not give the state", got=f"{silent_s:.0f} s of silence", needed="an answer"
                    )
                for message in batch:
                    error = message.error()
                    if error is not None:
                        if error.code() == KafkaError._PARTITION_EOF:
                            return
                        raise KafkaException(error)
                    yield message.key() or b"", message.value()
        finally:
            consumer.close()

    def ends(self, names: Iterable[str]) -> dict[str, int]:
        """Where this partition of each topic ends now: the offset that the next record will get.

        Raises:
            KafkaException: Kafka fails.
        """
        consumer = Consumer(self._settings.reader_config("aicache-load"))
        try:
            found = {}
            for name in names:
                found[name] = watermarks(consumer, self._settings.name(name), self.partition)[1]
            return found
        finally:
            consumer.close()

    def topic_ids(self, names: Iterable[str]) -> dict[str, str]:
        """Which topics these names stand for now: a topic that is deleted and made anew has another id.

        Raises:
            KafkaException: Kafka fails.
        """
        plain = {self._settings.name(name): name for name in names}
        admin = AdminClient(self._settings.client_config())
        found = {}
        for full, future in admin.describe_topics(TopicCollection(list(plain)), request_timeout=TIMEOUT_S).items():
            try:
                found[plain[full]] = str(future.result(TIMEOUT_S).topic_id)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
        return found

    def _require_partition(self, consumer: Consumer) -> None:
        """Raise unless the state topic has this partition: reading one that is not there would wait for ever."""
        found = consumer.list_topics(self._topic, timeout=TIMEOUT_S).topics[self._topic]
        if self.partition not in found.partitions:
            raise LocalError(
                f"{self._topic} has no partition {self.partition}: run `aicache topics check`",
                got=len(found.partitions),
                needed=f"> {self.partition}",
            )

    def write(
        self,
        step: Step,
        offsets: Mapping[str, int],
        bad: Sequence[tuple[Message, RemoteError]] = (),
        headers: Headers = (),
    ) -> None:
        """Begin a transaction and write what follows from a batch, and how far was read.

        Args:
            step: from the fold.
            offsets: the next offset to read, by topic.
            bad: inputs that could not even be decoded.
            headers: for every output, besides its own.

        Raises:
            FencedError, KafkaException: see `commit`.
        """
        self._call(self._producer.begin_transaction)
        for key, value in step.changed.items():
            self._produce(self._topic, key, value, self.partition)
        header = json.dumps({**self.told, "version": self._version, "offsets": dict(offsets)}, sort_keys=True).encode()
        self._produce(self._topic, OFFSETS_KEY, header, self.partition)
        names = {name: self._settings.name(name) for name in {output.topic for output in step.outputs}}
        encode, produce = self._codec.encode, self._produce
        for topic, key, record, own in step.outputs:
            data = None if record is None else encode(record)
            produce(names[topic], key, data, ANY_PARTITION, (*own, *headers) if own or headers else ())
        for message, error in (*bad, *step.dead):
            self._produce(*self._dead_letter(message, error), ANY_PARTITION)

    def commit(self) -> None:
        """End the transaction: all of what was written counts.

        Raises:
            FencedError: another worker owns the partition now.
            KafkaException: Kafka fails; nothing of it will be seen.
        """
        self._call(self._producer.commit_transaction, TIMEOUT_S)

    def _dead_letter(self, message: Message, error: RemoteError) -> tuple[str, bytes, bytes]:
        letter = DeadLetter(
            deployment=self._settings.deployment,
            processor=self._processor,
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            timestamp_ms=message.timestamp_ms,
            reason=error.reason,
            detail=str(error)[:200],
            size_bytes=len(message.body),
        )
        key = f"{message.topic}/{message.partition}/{message.offset}/{self._processor}".encode()
        return self._settings.name(topics.DEAD_LETTERS.name), key, self._codec.encode(letter)

    def _produce(
        self,
        topic: str,
        key: bytes,
        value: bytes | None,
        partition: int,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, partition, headers=list(headers) if headers else None)
                return
            except BufferError:
                self._producer.poll(0.1)  # the queue is full: writing waits, so reading waits

    def _call(self, what: object, *args: float) -> None:
        try:
            what(*args)  # type: ignore[operator]
        except KafkaException as error:
            reason = error.args[0]
            if reason.code() in {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}:
                raise FencedError(
                    f"another worker has opened partition {self.partition} of {self._processor}",
                    got="fenced",
                    needed="to be its only writer",
                ) from None
            raise
