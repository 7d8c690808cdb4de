"""Two workers beside one: recommendations, a fold that is bound by the processor, over the same records.

`python benchmarks/scale_out.py` prints a table, with `--json` one line. Workers are up and have their partitions before the records
come; the clock runs from the first record to the last committed answer. On a machine of two cores the broker takes its part of both.
"""

import argparse
import tempfile
import time
from pathlib import Path

from confluent_kafka.admin import AdminClient

from aicache.local.kafka import EmbeddedKafka
from aicache.producers.connection import KafkaSettings
from aicache.schemas.admin import create_topics
from aicache.streams.recommendations.logic import Recommendations
from aicache.streams.runtime.direct import GROUP_PREFIX
from recommendations_kafka import DEPLOYMENT, EVENTS_A_RECORD, PARTITIONS, Source, Worker, usage_ends, wait_for_answers
from report import report

PEOPLE = 2_000
WARM_RECORDS = 40 * PARTITIONS
SPREAD_S = 60.0
"""Workers get so long to share the partitions."""


def measure(kafka: KafkaSettings, workers: int, events: int, folder: Path) -> float:
    """Events a second."""
    create_topics(kafka.client_config(), kafka.prefix)
    source = Source(kafka, PEOPLE)
    logs = [folder / f"{kafka.prefix}{number}.log" for number in range(workers)]
    running = [Worker(kafka, log).start(log.stem) for log in logs]
    try:
        wait_until_spread(kafka, workers)
        source.send(WARM_RECORDS)
        wait_for_answers(kafka, running, usage_ends(kafka))
        records = source.records(events // EVENTS_A_RECORD)
        began = time.perf_counter()
        source.write(records)
        wait_for_answers(kafka, running, usage_ends(kafka))
        return events / (time.perf_counter() - began)
    finally:
        for worker in running:
            worker.terminate()
            worker.wait(30)


def wait_until_spread(kafka: KafkaSettings, workers: int) -> None:
    """Until each worker has its share of the partitions."""
    admin, group = AdminClient(kafka.client_config()), kafka.name(GROUP_PREFIX + Recommendations.name)
    until_s = time.monotonic() + SPREAD_S
    shares: list[int] = []
    while shares != [PARTITIONS // workers] * workers:
        assert time.monotonic() < until_s, f"partitions are not spread: {shares}"
        time.sleep(0.1)
        found = admin.describe_consumer_groups([group])[group].result(SPREAD_S)
        shares = [len(member.assignment.topic_partitions) for member in found.members if member.assignment]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    figures = {}
    with EmbeddedKafka() as broker, tempfile.TemporaryDirectory() as folder:
        for workers, name in ((1, "one"), (2, "two")):
            kafka = broker.settings(prefix=f"{name}.", deployment=DEPLOYMENT)
            figures[f"{name}_events_per_s"] = measure(kafka, workers, chosen.events, Path(folder))
    figures["ratio"] = figures["two_events_per_s"] / figures["one_events_per_s"]
    report("scale_out", {"events": chosen.events, **figures}, "One worker, then two", as_json=chosen.json, digits=2)


if __name__ == "__main__":
    main()
