"""How long a killed worker is missed: kill -9 of the recommendations worker with a large state, and its successor at work.

`python benchmarks/recovery.py` prints a table, with `--json` one line. Real usage records build the state through the worker itself.
Then records keep coming, the worker is killed, a successor of the same instance is started at once, as a supervisor does, and the
clock runs until the first answer to a record that was sent after the kill. `exact`: every event counts once in the state, and
the fold, started in this process from the state before the kill and given the log since then, ends in the same bytes. Sums of
products are rounded as their threads divide them, so there is one here as in the worker.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import tempfile
import time
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"

from confluent_kafka import Consumer, TopicPartition

from aicache.local.kafka import EmbeddedKafka
from aicache.producers.connection import KafkaSettings
from aicache.producers.watermarks import watermarks
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from aicache.schemas.records import Recommendation, UsageBatch
from aicache.streams.recommendations.logic import Recommendations
from aicache.streams.runtime.contract import Batch, Message
from aicache.streams.runtime.store import OFFSETS_KEY
from recommendations_kafka import (
    CODEC,
    DEPLOYMENT,
    EVENTS_A_RECORD,
    PARTITIONS,
    Source,
    Worker,
    read,
    usage_ends,
    wait_for_answers,
)
from report import report

AFTER_RECORDS = 400
"""Sent at the moment of the kill."""


def changelog(kafka: KafkaSettings) -> tuple[dict[int, dict[bytes, bytes]], dict[int, int], int]:
    """State entries of each partition, the place that each has read to, and the bytes that a loading worker reads."""
    state: dict[int, dict[bytes, bytes]] = {partition: {} for partition in range(PARTITIONS)}
    places, size = dict.fromkeys(range(PARTITIONS), 0), 0
    name = kafka.name(topics.STATE_PREFIX + Recommendations.name)
    for partition, _, _, key, value in read(kafka, name, dict.fromkeys(range(PARTITIONS), 0)):
        size += len(value or b"")
        if key == OFFSETS_KEY:
            places[partition] = json.loads(value or b"{}")["offsets"][topics.USAGE.name]
        elif value is None:
            state[partition].pop(key, None)
        else:
            state[partition][key] = value
    return state, places, size


def first_answer_after(kafka: KafkaSettings, worker: subprocess.Popen[bytes], ends: dict[int, int]) -> float:
    """The moment at which an answer to a record at or after these places can be read."""
    consumer = Consumer(kafka.reader_config("aicache-recovery-first", fetch_wait_max_ms=10))
    name = kafka.name(topics.RECOMMENDATIONS.name)
    now = [(p, watermarks(consumer, name, p)[1]) for p in range(topics.RECOMMENDATIONS.partitions)]
    consumer.assign([TopicPartition(name, p, end) for p, end in now])
    try:
        while True:
            assert worker.poll() is None, "the worker ended; its log says why"
            for message in consumer.consume(1_000, 0.01):
                if message.error() is None:
                    source = CODEC.decode(message.value() or b"", Recommendation).record.source
                    if source.offset >= ends[source.partition]:
                        return time.monotonic()
    finally:
        consumer.close()


def same_bytes(
    kafka: KafkaSettings,
    before: dict[int, dict[bytes, bytes]],
    starts: dict[int, int],
    after: dict[int, dict[bytes, bytes]],
) -> bool:
    """Whether the fold, from the state before and the log since, comes to the state after."""
    fold = Recommendations()
    messages: dict[int, list[Message]] = {partition: [] for partition in before}
    for partition, offset, time_ms, key, value in read(kafka, kafka.name(topics.USAGE.name), starts):
        found = CODEC.decode(value or b"", UsageBatch)
        place = topics.USAGE.name, partition, offset, time_ms, key
        messages[partition].append(Message(*place, found.record, found.fingerprint, found.body))
    for partition, entries in before.items():
        entries = dict(entries)
        state = fold.load(partition, entries.items(), fold.version)
        for key, value in fold.apply(state, Batch(partition, messages[partition])).changed.items():
            if value is None:
                entries.pop(key, None)
            else:
                entries[key] = value
        if entries != after[partition]:
            return False
    return True


def measure(kafka: KafkaSettings, events: int, people: int, folder: Path) -> dict[str, float | bool | int]:
    source = Source(kafka, people)
    source.send(events // EVENTS_A_RECORD)
    began, worker = time.monotonic(), Worker(kafka, folder / "worker.log")
    first = worker.start("one")
    wait_for_answers(kafka, [first], usage_ends(kafka))
    built_s = time.monotonic() - began
    before, starts, size = changelog(kafka)
    ends = usage_ends(kafka)
    killed = time.monotonic()
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = worker.start("one")
    source.send(AFTER_RECORDS)
    seconds = first_answer_after(kafka, second, ends) - killed
    wait_for_answers(kafka, [second], usage_ends(kafka))
    after, reached, _ = changelog(kafka)
    second.terminate()
    second.wait(30)
    exact = reached == usage_ends(kafka) and same_bytes(kafka, before, starts, after)
    return {
        "seconds": seconds,
        "exact": exact,
        "events": events,
        "keys": sum(map(len, before.values())),
        "people": min(people, events // EVENTS_A_RECORD),
        "state_mb": sum(len(key) + len(value) for entries in before.values() for key, value in entries.items()) / 1e6,
        "changelog_mb": size / 1e6,
        "built_s": built_s,
        "built_events_per_s": events / built_s,
        "worker_peak_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="that build the state")
    parser.add_argument("--people", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with EmbeddedKafka() as broker, tempfile.TemporaryDirectory() as folder:
        kafka = broker.settings(deployment=DEPLOYMENT)
        create_topics(kafka.client_config(), kafka.prefix)
        figures = measure(kafka, chosen.events, chosen.people, Path(folder))
    report("recovery", figures, "A worker killed with kill -9, and its successor", as_json=chosen.json)


if __name__ == "__main__":
    main()
