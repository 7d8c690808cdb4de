"""Two workers beside one: recommendations, a fold that is bound by the processor, over the same records.

`python benchmarks/scale_out.py` prints a table, with `--json` one line. Workers are up and have their partitions before the records
come; the clock runs from the first record to the last committed answer. On a machine of two cores the broker takes its part of both.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

from aicache.local.kafka import EmbeddedKafka
from aicache.producers.connection import KafkaSettings
from aicache.schemas.admin import create_topics
from recommendations_kafka import DEPLOYMENT, EVENTS_A_RECORD, PARTITIONS, Source, Worker, usage_ends, wait_for_answers
from report import report

PEOPLE = 2_000
WARM_RECORDS = 40 * PARTITIONS
SETTLE_ROUNDS = 3
"""Warm-up records are answered so often before the clock starts: partitions have been spread by then."""


def measure(kafka: KafkaSettings, workers: int, events: int, folder: Path) -> float:
    """Events a second."""
    create_topics(kafka.client_config(), kafka.prefix)
    source = Source(kafka, PEOPLE)
    running: list[subprocess.Popen[bytes]] = []
    for number in range(workers):
        running.append(Worker(kafka, folder / f"{kafka.prefix}{number}.log").start(f"worker-{number}"))
        for _ in range(SETTLE_ROUNDS):
            source.send(WARM_RECORDS)
            wait_for_answers(kafka, running, usage_ends(kafka))
    try:
        began = time.perf_counter()
        source.send(events // EVENTS_A_RECORD)
        wait_for_answers(kafka, running, usage_ends(kafka))
        return events / (time.perf_counter() - began)
    finally:
        for worker in running:
            worker.terminate()
            worker.wait(30)


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
