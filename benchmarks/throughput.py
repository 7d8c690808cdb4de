"""Usage events a second through the direct shell, beside a bare consumer of the same records with the same decoder.

`python benchmarks/throughput.py` prints a table, with `--json` one line. The logic counts 10,000 items of Zipf exponent 1.1;
state and outputs are written in transactions. Only reading is timed: from the first batch to the last record.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from aicache.local.kafka import EmbeddedKafka
from aicache.producers.connection import KafkaSettings
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from aicache.schemas.codec import Codec
from aicache.schemas.records import UsageBatch, UsageEvent
from aicache.streams.runtime.direct import DirectShell
from support.counting import DEPLOYMENT, Counting

KEYS = 10_000
EXPONENT = 1.1
CODEC = Codec()


def fill(kafka: KafkaSettings, records: int, events: int) -> None:
    state = topics.state_topic(Counting.name, topics.USAGE.partitions)
    create_topics(kafka.client_config(), kafka.prefix, topics=[topics.USAGE, topics.TRENDS, topics.DEAD_LETTERS, state])
    weights = np.arange(1, KEYS + 1) ** -EXPONENT
    chosen = np.random.default_rng(1).choice(KEYS, size=(records, events), p=weights / weights.sum())
    producer = Producer(kafka.client_config(linger_ms=20, compression_type="lz4"))
    for number, row in enumerate(chosen):
        told = [UsageEvent("used", 1_700_000_000, [f"item:{i}"], [], "", 1, b"", -1, 0.0) for i in row]
        name = number.to_bytes(16, "big")
        batch = UsageBatch(DEPLOYMENT, name, 1, 0, "python", "", "linux", "build", "pytest@9", told)
        while True:
            try:
                producer.produce(
                    kafka.name(topics.USAGE.name), CODEC.encode(batch), name, partition=number % topics.USAGE.partitions
                )
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(60) == 0


def timed(step: Callable[[], int], records: int) -> float:
    """Seconds from the first record to the last."""
    began, seen = 0.0, 0
    while seen < records:
        before = time.perf_counter()
        new = step()
        began = began or (before if new else 0.0)
        seen += new
    return time.perf_counter() - began


def bare(kafka: KafkaSettings, records: int) -> float:
    consumer = Consumer(kafka.client_config(group_id=kafka.name("bare"), enable_auto_commit=False))
    consumer.assign([TopicPartition(kafka.name(topics.USAGE.name), p, 0) for p in range(topics.USAGE.partitions)])

    def step() -> int:
        found = consumer.consume(1_000, 0.01)
        for message in found:
            CODEC.decode(message.value(), UsageBatch)
        return len(found)

    seconds = timed(step, records)
    consumer.close()
    return seconds


def direct(kafka: KafkaSettings, records: int) -> float:
    shell = DirectShell(Counting(), kafka)
    began, seen = [0.0], [0]

    def told(_partition: int, inputs: int, seconds: float) -> None:
        began[0] = began[0] or time.perf_counter() - seconds
        seen[0] += inputs

    shell._on_batch = told
    shell.run(lambda: seen[0] >= records)
    return time.perf_counter() - began[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=20_000, help="of 20 events; as many single ones again")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    count, figures = chosen.records, {}
    with EmbeddedKafka() as broker:
        for prefix, events in (("many.", 20), ("single.", 1)):
            kafka = broker.settings(prefix=prefix, deployment=DEPLOYMENT)
            fill(kafka, count, events)
            name = "" if events > 1 else "single_"
            seconds = [bare(kafka, count)]  # before and after, the best: others use the cores too
            figures[f"{name}events_per_s"] = count * events / direct(kafka, count)
            figures[f"{name}bare_events_per_s"] = count * events / min(*seconds, bare(kafka, count))
    figures["share_of_bare"] = figures["events_per_s"] / figures["bare_events_per_s"]
    if chosen.json:
        print(json.dumps({"benchmark": "throughput", "records": count, **figures}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "value", title=f"{count:,} records of 20 events, then of one")
    for key, value in figures.items():
        table.add_row(key, f"{value:,.2f}" if value < 10 else f"{value:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
