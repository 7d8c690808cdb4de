"""All that a topic holds, decoded: how tests look at what came out."""

from confluent_kafka import Consumer, KafkaError, TopicPartition

from aicache.producers.connection import KafkaSettings
from aicache.schemas.codec import Codec
from aicache.schemas.topics import Topic


def records_of(kafka: KafkaSettings, topic: Topic, codec: Codec | None = None) -> list[object]:
    """The committed records, partition by partition as they come; one that cannot be decoded is an error.

    Args:
        kafka: how to reach it.
        topic: of the table.
        codec: for another wire form than the process's.
    """
    codec = codec or Codec()
    consumer = Consumer(kafka.reader_config("oracle"))
    consumer.assign([TopicPartition(kafka.name(topic.name), p, 0) for p in range(topic.partitions)])
    found, ended = [], 0
    while ended < topic.partitions:
        for message in consumer.consume(500, 0.1):
            error = message.error()
            if error is None:
                found.append(codec.decode(message.value(), *topic.records).record)
            elif error.code() == KafkaError._PARTITION_EOF:
                ended += 1
    consumer.close()
    return found
