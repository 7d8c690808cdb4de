"""Anomalies through Kafka: usage events a second and core through the fold, and from a usage event to the incident that it decides.

Throughput: batches of 20 events (failures, successes, sketches of durations) by 400 people over 40 operations and 4 releases, read and
written in transactions by one worker in this process; a core is a second of the processor, librdkafka's threads included.
Latency: event time runs fast, a minute every `MINUTE_S`; every tenth minute brings an operation that a new release breaks. Each incident
tells which minute decided it: what is timed is from sending the first event of the minute that closes that one, through both workers
(processes of their own), to reading the incident. `python benchmarks/anomalies.py kafka --json`.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from aicache.local.kafka import EmbeddedKafka
from aicache.producers.connection import KafkaSettings
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from aicache.schemas.codec import Codec
from aicache.schemas.records import Incident, UsageBatch, UsageEvent
from aicache.streams.anomalies import sketches
from aicache.streams.anomalies.incidents import GRACE_S
from aicache.streams.anomalies.logic import WINDOW_S, Anomalies
from aicache.streams.runtime.direct import DirectShell

CODEC = Codec()
RECORDS, EVENTS = 6_000, 20
PEOPLE, OPERATIONS, RELEASES = 400, 40, 4
MINUTE_S = 0.05
MINUTES, SETTLE = 1_500, 60
EVERY, LASTS = 10, 6
"""A broken operation begins every so many minutes, and is used for so many."""
PEOPLE_A_MINUTE = 4
SILENT_S = 15.0
WEEK_MS = 7 * 86_400_000


def make_topics(kafka: KafkaSettings) -> None:
    """All topics; usage takes times ahead of the clock, so that event time can run fast."""
    create_topics(kafka.client_config(), kafka.prefix, topics=topics.all_topics())
    admin = AdminClient(kafka.client_config())
    resource = ConfigResource(ResourceType.TOPIC, kafka.name(topics.USAGE.name))
    wanted = ConfigEntry("message.timestamp.after.max.ms", str(WEEK_MS), incremental_operation=AlterConfigOpType.SET)
    resource.add_incremental_config(wanted)
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(30)


def event(kind: str, time_s: int, item: str, release: str, count: int = 1, sketch: bytes = b"") -> UsageEvent:
    return UsageEvent(kind, time_s, [item], [], release, count, sketch, -1, 0.0)


def usage(person: int, events: list[UsageEvent]) -> UsageBatch:
    return UsageBatch(
        "bench", person.to_bytes(4, "big") + bytes(12), 1, 0, "python", "", "linux", "build", "t@1", events
    )


class Source:
    """Sends batches, spread over the partitions by person."""

    def __init__(self, kafka: KafkaSettings, **config: Any) -> None:
        self._topic = kafka.name(topics.USAGE.name)
        self._producer = Producer(kafka.client_config(**config))

    def send(self, batch: UsageBatch, person: int) -> None:
        value, at_ms = CODEC.encode(batch), 1_000 * max(one.time_s for one in batch.events)
        while True:
            try:
                self._producer.produce(
                    self._topic, value, batch.pseudonym, partition=person % topics.USAGE.partitions, timestamp=at_ms
                )
                return
            except BufferError:
                self._producer.poll(0.1)

    def flush(self) -> None:
        assert self._producer.flush(60) == 0


# ---------------------------------------------------------------- throughput


def mixture(random: np.random.Generator, start_s: int) -> Iterator[tuple[int, UsageBatch]]:
    """Ten minutes of use."""
    packed = [sketches.pack(sketches.sketch_of(random.lognormal(0, 0.4, 20))) for _ in range(50)]
    for number in range(RECORDS):
        time_s = start_s + 600 * number // RECORDS
        events = []
        for kind in random.choice(["success", "failure", "duration", "finding"], EVENTS, p=[0.6, 0.1, 0.2, 0.1]):
            item = f"op:o{random.integers(OPERATIONS)}"
            release = f"pypi:tool@1.{random.integers(RELEASES)}"
            sketch = packed[int(random.integers(50))] if kind == "duration" else b""
            events.append(event(str(kind), time_s, item, release, 1, sketch))
        person = int(random.integers(PEOPLE))
        yield person, usage(person, events)


def throughput(kafka: KafkaSettings) -> dict[str, float]:
    make_topics(kafka)
    source = Source(kafka, linger_ms=20)
    for person, batch in mixture(np.random.default_rng(1), int(time.time())):
        source.send(batch, person)
    source.flush()
    shell = DirectShell(Anomalies(), kafka)
    began, seen = [0.0, 0.0], [0]

    def told(_partition: int, inputs: int, _seconds: float) -> None:
        began[0] = began[0] or time.perf_counter()
        began[1] = began[1] or time.process_time()
        seen[0] += inputs

    first: list[int] = []
    shell._on_batch = lambda p, n, s: (told(p, n, s), first.append(n))[0]
    shell.run(lambda: seen[0] >= RECORDS)
    timed = (RECORDS - first[0]) * EVENTS  # the first batch is not timed: it ends where the clock begins
    return {
        "events": RECORDS * EVENTS,
        "events_per_s_and_core": timed / (time.process_time() - began[1]),
        "events_per_s": timed / (time.perf_counter() - began[0]),
    }


# ---------------------------------------------------------------- latency


def minute(random: np.random.Generator, number: int, start_s: int) -> Iterator[tuple[int, UsageBatch]]:
    """The uses of one minute of event time, by a few people."""
    time_s = start_s + WINDOW_S * number
    broken = [one for one in range(0, number + 1, EVERY) if number - LASTS < one <= number]
    for person in range(PEOPLE_A_MINUTE):
        events = [event("success", time_s, "op:usual", "pypi:tool@1.0", 10)]
        for one in broken:
            for release, rate in (("pypi:tool@1.0", 0.05), ("pypi:tool@1.1", 0.6)):
                failed = int(random.binomial(20, rate))
                events.append(event("success", time_s, f"op:b{one}", release, 20 - failed))
                if failed:
                    events.append(event("failure", time_s, f"op:b{one}", release, failed))
        yield person, usage(person, [one for one in events if one.count])


def reader(kafka: KafkaSettings) -> Consumer:
    config = kafka.client_config(group_id="latency", isolation_level="read_committed", fetch_wait_max_ms=5)
    consumer = Consumer(config)
    consumer.assign(
        [TopicPartition(kafka.name(topics.ANOMALIES.name), p, 0) for p in range(topics.ANOMALIES.partitions)]
    )
    return consumer


def play(kafka: KafkaSettings) -> dict[str, float]:
    consumer, source, random = reader(kafka), Source(kafka, linger_ms=0), np.random.default_rng(2)
    start_s = int(time.time()) // WINDOW_S * WINDOW_S + WINDOW_S
    sent: dict[int, float] = {}
    found: list[float] = []
    events, number, began, last = 0, 0, time.perf_counter(), time.perf_counter()
    while number < MINUTES or time.perf_counter() - last < SILENT_S:
        if number < MINUTES and time.perf_counter() >= began + number * MINUTE_S:
            sent[start_s + WINDOW_S * number] = last = time.perf_counter()
            for person, batch in minute(random, number, start_s):
                source.send(batch, person)
                events += sum(one.count for one in batch.events)
            source._producer.poll(0)
            number += 1
        for message in consumer.consume(100, 0.001):
            now = time.perf_counter()
            incident = CODEC.decode(message.value(), Incident).record
            # A window is closed by the first event of the first minute that begins a grace after its end.
            closer = sent.get(incident.updated_s + WINDOW_S + GRACE_S)
            if closer is not None and incident.updated_s >= start_s + WINDOW_S * SETTLE:
                found.append(1_000 * (now - closer))
        if number == MINUTES and time.perf_counter() - last > 5.0:
            break
    consumer.close()
    p50, p99 = np.percentile(found, [50, 99])
    rate = events / (MINUTES * MINUTE_S)
    return {
        "incident_records": len(found),
        "event_to_insight_p50_ms": float(p50),
        "event_to_insight_p99_ms": float(p99),
        "event_to_insight_max_ms": max(found),
        "events_per_s_meanwhile": rate,
    }


def worker(kafka: KafkaSettings, name: str, errors: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "aicache.cli.main", "--kafka", kafka.bootstrap_servers, "--prefix", kafka.prefix]
    with errors.open("w") as file:
        return subprocess.Popen(
            [*words, "worker", "run", name], stdout=subprocess.PIPE, stderr=file, text=True, cwd=errors.parent
        )


def latency(kafka: KafkaSettings, folder: Path) -> dict[str, float]:
    make_topics(kafka)
    workers = [worker(kafka, name, folder / f"{name}.log") for name in ("anomalies", "incidents")]
    try:
        for one in workers:
            assert one.stdout is not None
            line = one.stdout.readline()
            assert "ready" in line, f"a worker did not become ready: {line!r}"
        return play(kafka)
    finally:
        for one in workers:
            one.terminate()
            one.communicate(timeout=30)


def measure(_runs: int | None = None, say: Callable[[str], None] = lambda _text: None) -> dict[str, Any]:
    with EmbeddedKafka() as broker, tempfile.TemporaryDirectory() as folder:
        say("throughput")
        through = throughput(broker.settings(prefix="through."))
        say("latency")
        figures = {**through, **latency(broker.settings(prefix="latency."), Path(folder))}
    return {"benchmark": "anomalies kafka", **{name: round(value, 1) for name, value in figures.items()}}
