"""Where the inputs of a worker's tasks stand and end, for its watchdog and its metrics. Boundary: confluent-kafka."""

from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import Consumer

from aicache.producers.connection import KafkaSettings
from aicache.producers.watermarks import watermarks
from aicache.streams.runtime.contract import Fold
from aicache.streams.runtime.tasks import Task


def positions_of(fold: Fold[Any], tasks: Mapping[int, Task[Any]]) -> dict[tuple[str, int], int]:
    """The next offset to read of every contiguous input held; another thread may change what is held."""
    return {
        (topic.name, partition): task.position(topic.name) or 0
        for partition, task in list(tasks.items())
        for topic in fold.inputs
        if topic.contiguous and partition < topic.partitions
    }


def ends_of(settings: KafkaSettings, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """Where each place ends.

    Raises:
        KafkaException: Kafka is not reached.
    """
    consumer = Consumer(settings.reader_config("aicache-watch"))
    try:
        return {
            (topic, partition): watermarks(consumer, settings.name(topic), partition)[1] for topic, partition in places
        }
    finally:
        consumer.close()
