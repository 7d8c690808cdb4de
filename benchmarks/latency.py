"""From a client's call to the insight that a consumer can read, through the direct shell, at a steady rate of usage events.

`python benchmarks/latency.py` prints a table, with `--json` one line. Each event names its own item, so that the output tells which
event it follows from. The worker is a process of its own; source and consumer share this one. The source has the clients' settings.
The broker's first seconds are not counted: Java compiles then.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from confluent_kafka import Consumer, Producer, TopicPartition

from aicache.local.kafka import EmbeddedKafka
from aicache.producers.connection import KafkaSettings
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from aicache.schemas.records import Trend
from report import report
from support.counting import Counting, usage
from support.workers import CODEC, Worker

WARM_S = 10.0
LINGER_MS = 5  # as `aicache.producers.kafka` has it


def reader(kafka: KafkaSettings) -> Consumer:
    config = kafka.client_config(group_id="latency", isolation_level="read_committed", fetch_wait_max_ms=5)
    consumer = Consumer(config)
    consumer.assign([TopicPartition(kafka.name(topics.TRENDS.name), p, 0) for p in range(topics.TRENDS.partitions)])
    return consumer


def measure(kafka: KafkaSettings, rate: int, samples: int) -> tuple[np.ndarray, float]:
    """Latencies in milliseconds of all events after the warm-up, and the rate that was kept."""
    consumer, producer = reader(kafka), Producer(kafka.client_config(linger_ms=LINGER_MS, enable_idempotence=True))
    warm = int(rate * WARM_S)
    total = warm + samples
    sent, seen = np.zeros(total), np.zeros(total)
    began, count, found = time.perf_counter(), 0, 0
    while found < total:
        due = min(total, int((time.perf_counter() - began) * rate))
        for number in range(count, due):
            sent[number] = time.perf_counter()
            value = CODEC.encode(usage([f"n{number}"]))
            producer.produce(kafka.name(topics.USAGE.name), value, b"key", partition=number % topics.USAGE.partitions)
        count = due
        producer.poll(0)
        messages = consumer.consume(200, 0.002)
        now = time.perf_counter()
        for message in messages:
            if message.error() is None:
                seen[int(CODEC.decode(message.value(), Trend).record.series[1:])] = now
                found += 1
    consumer.close()
    return (seen - sent)[warm:] * 1_000, samples / (sent[-1] - sent[warm])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=2_000, help="events a second")
    parser.add_argument("--samples", type=int, default=60_000)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with EmbeddedKafka() as broker, tempfile.TemporaryDirectory() as folder:
        kafka = broker.settings()
        state = topics.state_topic(Counting.name, topics.USAGE.partitions)
        create_topics(kafka.client_config(), "", topics=[topics.USAGE, topics.TRENDS, topics.DEAD_LETTERS, state])
        worker = Worker("direct", kafka, Path(folder) / "worker.log").ready()
        try:
            found, rate = measure(kafka, chosen.rate, chosen.samples)
        finally:
            worker.close()
    figures = {
        "p50_ms": float(np.percentile(found, 50)),
        "p99_ms": float(np.percentile(found, 99)),
        "max_ms": float(found.max()),
        "rate_per_s": rate,
        "samples": len(found),
    }
    report("latency", figures, "From a client's call to a readable insight", as_json=chosen.json)


if __name__ == "__main__":
    main()
