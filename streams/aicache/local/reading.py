"""Read a topic as a person wants to see it: from the beginning to what is there now, or live. Never commits, joins no group.

A record that cannot be decoded is shown as such, and the ones after it are read. Boundary: confluent-kafka.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from aicache.privacy.errors import LocalError, RemoteError
from aicache.privacy.statements import record_digest
from aicache.producers.connection import KafkaSettings
from aicache.producers.watermarks import watermarks
from aicache.schemas.codec import Codec
from aicache.schemas.records import Record
from aicache.schemas.topics import Topic, topic_name

POLL_S = 0.2
BATCH = 500
ANSWER_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A record where it stands.

    Args:
        topic: its name in the table, without a prefix.
        partition: of its topic.
        offset: in its partition.
        timestamp_ms: when it was written, Unix milliseconds.
        key: as it is.
        record: decoded; None for a deletion, or if it could not be.
        problem: why it could not be decoded, else empty.
        size_bytes: of its value.
        headers: as they are.
        fingerprint, body: the writer's schema and the Avro body, over which digests are taken; empty where it could not be decoded.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    record: Record | None
    problem: str
    size_bytes: int
    headers: tuple[tuple[str, bytes], ...]
    fingerprint: bytes = field(default=b"", repr=False)
    body: bytes = field(default=b"", repr=False)

    def digest(self, kind: str) -> bytes:
        """Of the record as it stands in the log, as other records name it."""
        return record_digest(kind, self.fingerprint, self.body)


def read_all(kafka: KafkaSettings, *topics: Topic, last: int = 0) -> list[Seen]:
    """What stands in some topics now, in the order of time.

    Args:
        kafka: how to reach it.
        topics: of the table.
        last: only the newest so many of each partition; 0: all.

    Raises:
        LocalError: a topic does not exist.
    """
    found: list[Seen] = []
    with _Reader(kafka, topics) as reader:
        ends = reader.assign(last=last, live=False)
        while not all(reader.reached(place, end) for place, end in ends.items()):
            found.extend(reader.poll())
    found.sort(key=lambda seen: (seen.timestamp_ms, seen.topic, seen.partition, seen.offset))
    return found


def latest(kafka: KafkaSettings, topic: Topic) -> dict[bytes, Seen]:
    """The newest record of each key; deleted keys are left out."""
    newest = {seen.key: seen for seen in read_all(kafka, topic)}
    return {key: seen for key, seen in newest.items() if seen.record is not None or seen.problem}


def follow(kafka: KafkaSettings, *topics: Topic, last: int | None) -> Iterator[Seen]:
    """The newest `last` records of each partition (None: all), then what comes, for ever.

    Raises:
        LocalError: a topic does not exist.
    """
    with _Reader(kafka, topics) as reader:
        reader.assign(last=0 if last is None else last, live=last is not None)
        while True:
            yield from reader.poll()


class _Reader:
    def __init__(self, kafka: KafkaSettings, topics: Sequence[Topic]) -> None:
        self._topics = {topic_name(kafka.prefix, topic): topic for topic in topics}
        self._codec = Codec()
        self._next: dict[tuple[str, int], int] = {}
        self._consumer = Consumer(kafka.reader_config("aicache-reader"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def assign(self, *, last: int, live: bool) -> dict[tuple[str, int], int]:
        """Take every partition; returns the ends that are there now, of those that are not empty."""
        places, ends = [], {}
        for name in self._topics:
            metadata = self._consumer.list_topics(name, timeout=ANSWER_TIMEOUT_S).topics[name]
            if metadata.error is not None:
                raise LocalError(
                    f"the topic {name} does not exist: run `aicache topics create`", got=name, needed="the topic"
                )
            for partition in sorted(metadata.partitions):
                place = TopicPartition(name, partition)
                low, high = watermarks(self._consumer, name, partition)
                place.offset = OFFSET_BEGINNING if last == 0 and not live else max(low, high - last)
                places.append(place)
                if high > low:
                    ends[name, partition] = high
        self._consumer.assign(places)
        return ends

    def reached(self, place: tuple[str, int], end: int) -> bool:
        """Whether a partition was read to an end; the last thing there may be a transaction's marker, no record."""
        return self._next.get(place, 0) >= end

    def poll(self) -> Iterator[Seen]:
        """What has come."""
        for message in self._consumer.consume(BATCH, POLL_S):
            error = message.error()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                self._next[message.topic() or "", message.partition() or 0] = sys.maxsize
                continue
            seen = self._seen(message)
            place = message.topic() or "", seen.partition
            self._next[place] = max(self._next.get(place, 0), seen.offset + 1)
            yield seen

    def _seen(self, message: Message) -> Seen:
        topic = self._topics[message.topic() or ""]
        value = message.value()
        headers: Iterable[tuple[str, bytes | None]] = message.headers() or ()  # type: ignore[assignment]
        found, problem = None, ""
        if value is not None:
            try:
                found = self._codec.decode(value, *topic.records)
            except RemoteError as error:
                problem = f"{error.reason}: {error}"
        return Seen(
            topic=topic.name,
            partition=message.partition() or 0,
            offset=message.offset() or 0,
            timestamp_ms=message.timestamp()[1],
            key=message.key() or b"",
            record=found.record if found else None,
            problem=problem,
            size_bytes=len(value or b""),
            headers=tuple((str(name), bytes(raw or b"")) for name, raw in headers),
            fingerprint=found.fingerprint if found else b"",
            body=found.body if found else b"",
        )
