"""What the story reads back from the log when all is done. Boundary: confluent-kafka."""

from collections.abc import Iterator
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from aicache.privacy.errors import RemoteError
from aicache.privacy.statements import record_digest
from aicache.producers.connection import KafkaSettings
from aicache.schemas.codec import Codec
from aicache.schemas.records import Record
from aicache.schemas.topics import Topic

WAIT_S = 0.1
SILENCE_S = 15.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A record in the log; None where it is none of ours."""

    partition: int
    offset: int
    record: Record | None
    digest: bytes
    """As a manifest."""


def read_all(settings: KafkaSettings, topic: Topic) -> list[Seen]:
    """Every committed record of a topic, partition by partition in the order of offsets."""
    return sorted(_read(settings, topic), key=lambda seen: (seen.partition, seen.offset))


def _read(settings: KafkaSettings, topic: Topic) -> Iterator[Seen]:
    codec = Codec()
    consumer = Consumer(
        settings.client_config(
            group_id=settings.name("aicache-demo"),
            enable_auto_commit=False,
            isolation_level="read_committed",
            enable_partition_eof=True,
            auto_offset_reset="earliest",
        )
    )
    name = settings.name(topic.name)
    consumer.assign([TopicPartition(name, partition, 0) for partition in range(topic.partitions)])
    waiting = set(range(topic.partitions))
    silent_s = 0.0
    try:
        while waiting and silent_s < SILENCE_S:
            messages = consumer.consume(1_000, WAIT_S)
            silent_s = 0.0 if messages else silent_s + WAIT_S
            for message in messages:
                error = message.error()
                if error is not None:
                    if error.code() != KafkaError._PARTITION_EOF:
                        raise KafkaException(error)
                    waiting.discard(message.partition() or 0)
                    continue
                place = (message.partition() or 0, message.offset() or 0)
                try:
                    found = codec.decode(message.value() or b"", *topic.records)
                    yield Seen(*place, found.record, record_digest("manifest", found.fingerprint, found.body))
                except RemoteError:
                    yield Seen(*place, None, b"")
    finally:
        consumer.close()
