"""Ciphertexts are read again from their places, also when more was written after the reader had reached the end."""

from collections.abc import Callable

from confluent_kafka import Producer

from aicache.producers.connection import KafkaSettings
from aicache.schemas.codec import Codec
from aicache.schemas.records import Place, UpdateChunk
from aicache.streams.reducer.places import Places

CODEC = Codec()


def write(kafka: KafkaSettings, numbers: range) -> None:
    producer = Producer(kafka.client_config())
    for number in numbers:
        chunk = UpdateChunk("r", bytes(32), 0, 1, b"%d" % number)
        producer.produce(kafka.name("aicache.updates"), CODEC.encode(chunk), partition=0)
    assert producer.flush(30) == 0


def test_places_beyond_an_end_that_was_reached_before_are_read(
    kafka: KafkaSettings, create_topic: Callable[..., str]
) -> None:
    create_topic("aicache.updates", partitions=4)
    places = Places(kafka)
    for start in range(0, 40, 10):
        write(kafka, range(start, start + 10))
        for offset in (start, start + 3, start + 9):
            assert places.fetch(Place(0, [offset])) == b"%d" % offset
    assert places.fetch(Place(0, [40])) is None
    write(kafka, range(40, 41))
    assert places.fetch(Place(0, [40])) == b"40"
    assert places.fetch(Place(0, [0, 39])) == b"039"
    places.close()
