"""Recommendations over a real Kafka, for benchmarks: made-up usage, the shipped worker, and waiting for its answers."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from aicache.producers.connection import KafkaSettings
from aicache.producers.watermarks import watermarks
from aicache.schemas import topics
from aicache.schemas.codec import Codec
from aicache.schemas.records import Recommendation, UsageBatch, UsageEvent
from aicache.streams.recommendations.logic import Recommendations

DEPLOYMENT = "recommendations"
ITEMS = 3_000
EXPONENT = 1.1
EVENTS_A_RECORD = 10
CODEC = Codec()
PARTITIONS = topics.USAGE.partitions


class Source:
    """Usage of made-up people: each has a taste, a stretch of the items."""

    def __init__(self, kafka: KafkaSettings, people: int) -> None:
        self._producer = Producer(kafka.client_config(linger_ms=20, compression_type="lz4", enable_idempotence=True))
        self._topic = kafka.name(topics.USAGE.name)
        self._people = people
        self._draw = np.random.default_rng(7)
        weights = np.arange(1, ITEMS + 1) ** -EXPONENT
        self._weights = weights / weights.sum()
        self.sent = 0

    def records(self, count: int) -> list[tuple[bytes, bytes, int]]:
        """The next records: pseudonym, value and partition."""
        chosen = self._draw.choice(ITEMS, size=(count, EVENTS_A_RECORD, 2), p=self._weights)
        return [self._record(self.sent + number, row) for number, row in enumerate(chosen.tolist())]

    def _record(self, number: int, row: list[list[int]]) -> tuple[bytes, bytes, int]:
        person, now_s = number % self._people, 1_700_000_000 + number // 100
        events = [
            UsageEvent(
                "used", now_s, [f"pypi:p{(a + 31 * (person % 50)) % ITEMS}", f"pypi:p{b}"], [], "", 1, b"", -1, 0.0
            )
            for a, b in row
        ]
        name = person.to_bytes(16, "big")
        batch = UsageBatch(DEPLOYMENT, name, 1, 0, "python", "", "linux", "build", "pytest@9", events)
        return name, CODEC.encode(batch), person % PARTITIONS

    def write(self, records: Sequence[tuple[bytes, bytes, int]]) -> None:
        for name, value, partition in records:
            while True:
                try:
                    self._producer.produce(self._topic, value, name, partition=partition)
                    break
                except BufferError:
                    self._producer.poll(0.1)
            self.sent += 1
        assert self._producer.flush(60) == 0

    def send(self, count: int) -> None:
        self.write(self.records(count))


@dataclass
class Worker:
    """The shipped command, as a supervisor starts it."""

    kafka: KafkaSettings
    log: Path

    def start(self, instance: str) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-m",
            "aicache.cli.main",
            "worker",
            "run",
            Recommendations.name,
            "--instance",
            instance,
        ]
        env = os.environ | {
            "AICACHE_KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "AICACHE_KAFKA__DEPLOYMENT": self.kafka.deployment,
            "AICACHE_KAFKA__PREFIX": self.kafka.prefix,
        }
        with self.log.open("a") as errors:
            return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=env)


def read(
    kafka: KafkaSettings, topic: str, starts: dict[int, int]
) -> Iterator[tuple[int, int, int, bytes, bytes | None]]:
    """(partition, offset, timestamp, key, value) of every committed record from these places to where they end now."""
    consumer = Consumer(kafka.reader_config("aicache-recovery"))
    try:
        waiting = {}
        for partition, start in starts.items():
            low, high = watermarks(consumer, topic, partition)
            if high > max(low, start):
                waiting[partition] = max(low, start)
        consumer.assign([TopicPartition(topic, partition, start) for partition, start in waiting.items()])
        while waiting:
            for message in consumer.consume(5_000, 0.1):
                error = message.error()
                if error is not None:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    waiting.pop(message.partition(), None)
                    continue
                place = message.partition(), message.offset(), message.timestamp()[1]
                yield *place, message.key() or b"", message.value()
    finally:
        consumer.close()


def wait_for_answers(kafka: KafkaSettings, workers: Sequence[subprocess.Popen[bytes]], places: dict[int, int]) -> None:
    """Until a committed answer stands in the log for the record before each of these places."""
    consumer = Consumer(kafka.reader_config("aicache-recovery-wait", fetch_wait_max_ms=10))
    name = kafka.name(topics.RECOMMENDATIONS.name)
    consumer.assign([TopicPartition(name, p, 0) for p in range(topics.RECOMMENDATIONS.partitions)])
    left = {partition: place for partition, place in places.items() if place}
    while left:
        assert all(worker.poll() is None for worker in workers), "a worker ended; its log says why"
        for message in consumer.consume(1_000, 0.05):
            if message.error() is None:
                source = CODEC.decode(message.value() or b"", Recommendation).record.source
                if source.offset + 1 >= left.get(source.partition, sys.maxsize):
                    del left[source.partition]
    consumer.close()


def usage_ends(kafka: KafkaSettings) -> dict[int, int]:
    consumer = Consumer(kafka.reader_config("aicache-recovery-ends"))
    try:
        return {p: watermarks(consumer, kafka.name(topics.USAGE.name), p)[1] for p in range(PARTITIONS)}
    finally:
        consumer.close()
