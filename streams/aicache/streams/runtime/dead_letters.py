"""The way back from the dead letters: the original bytes are written again, for the processor that could not use them.

The record goes to the partition that it came from, with a header that names its letter. The other processors of the topic pass it
over, and the one that it is for counts it once, however often it is replayed: what was replayed is part of its state.
Boundary: confluent-kafka.
"""

from confluent_kafka import Consumer, Producer, TopicPartition

from aicache.privacy.errors import LocalError
from aicache.producers.connection import KafkaSettings
from aicache.schemas import topics
from aicache.schemas.records import DeadLetter
from aicache.streams.runtime.tasks import REPLAY_HEADER

TIMEOUT_S = 30.0


def replay(settings: KafkaSettings, letter: DeadLetter) -> int:
    """Feed what a letter tells of to its processor again; returns the offset that it has got.

    Raises:
        LocalError: the record is no longer in the log, or its topic is not one that clients write.
        KafkaException: Kafka fails.
    """
    topic = next((topic for topic in topics.TOPICS if topic.name == letter.topic), None)
    if topic is None or not topic.contiguous:
        raise LocalError(
            "only what clients wrote is replayed: the rest follows from it",
            got=letter.topic,
            needed="a topic of clients",
        )
    key, value = _original(settings, letter)
    told: list[int] = []
    producer = Producer(settings.client_config(enable_idempotence=True, message_max_bytes=topics.RECORD_BYTES_MAX * 10))

    def delivered(error: object, message: object) -> None:
        if error is None:
            told.append(message.offset())  # type: ignore[attr-defined]

    name = f"{letter.topic}/{letter.partition}/{letter.offset}/{letter.processor}"
    producer.produce(
        settings.name(letter.topic),
        value,
        key,
        partition=letter.partition,
        headers=[(REPLAY_HEADER, name.encode())],
        on_delivery=delivered,
    )
    producer.flush(TIMEOUT_S)
    if not told:
        raise LocalError("the record was not delivered", got=letter.topic, needed="an acknowledgement of the broker")
    return told[0]


def _original(settings: KafkaSettings, letter: DeadLetter) -> tuple[bytes | None, bytes | None]:
    consumer = Consumer(settings.reader_config("aicache-replay", auto_offset_reset="error"))
    try:
        consumer.assign([TopicPartition(settings.name(letter.topic), letter.partition, letter.offset)])
        message = consumer.poll(TIMEOUT_S)
        if message is None or message.error() is not None or message.offset() != letter.offset:
            raise LocalError(
                f"{letter.topic} no longer has the record at {letter.partition}@{letter.offset}",
                got=None if message is None else str(message.error() or message.offset()),
                needed=letter.offset,
            )
        return message.key(), message.value()
    finally:
        consumer.close()
