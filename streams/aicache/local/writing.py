"""Write a few records and know that they are there: what an operator's command does. Boundary: confluent-kafka."""

from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from aicache.producers.connection import KafkaSettings
from aicache.schemas.codec import Codec
from aicache.schemas.records import Record
from aicache.schemas.topics import Topic, topic_name

DELIVERY_TIMEOUT_S = 30.0


def write(kafka: KafkaSettings, topic: Topic, entries: Sequence[tuple[bytes, Record | None]]) -> None:
    """Write records, in order; returns when the brokers have confirmed all of them.

    Args:
        kafka: how to reach it.
        topic: of the table.
        entries: (key, record) each; None deletes the key of a compacted topic.

    Raises:
        KafkaException: not confirmed in time; some may have been written.
    """
    failed: list[KafkaError] = []

    def done(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failed.append(error)

    codec = Codec()
    producer = Producer(
        kafka.client_config(
            client_id="aicache-operator",
            enable_idempotence=True,
            acks="all",
            delivery_timeout_ms=int(DELIVERY_TIMEOUT_S * 1_000),
            message_max_bytes=topic.record_bytes_max + 4_096,
        )
    )
    for key, record in entries:
        value = None if record is None else codec.encode(record)
        producer.produce(topic_name(kafka.prefix, topic), value, key, on_delivery=done)
    left = producer.flush(DELIVERY_TIMEOUT_S)
    if failed or left:
        raise KafkaException(failed[0] if failed else KafkaError(KafkaError._MSG_TIMED_OUT))
