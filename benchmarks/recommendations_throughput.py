"""How fast the recommendations worker is, through Kafka: learning each event, answering each record.

`python benchmarks/recommendations_throughput.py` prints a table, with `--json` one line. The records are in Kafka before the shipped worker
starts; first it begins with nothing (`young`), then it is started again, loads what it knows by then (`warm`) and reads as many more.
`events_per_s` is by the times at which answers were written, from the first to the last; `cpu_us_an_event` is what the worker's process
spent meanwhile, threads of librdkafka and of the linear autoencoder included; `events_per_cpu_s` is the same the other way round: a core's
worth. `load_s` is from the start of the process to the first answer that can be read.
"""

import argparse
import tempfile
import time
from pathlib import Path

import psutil
from confluent_kafka import Consumer, TopicPartition

from aicache.local.kafka import EmbeddedKafka
from aicache.producers.connection import KafkaSettings
from aicache.producers.watermarks import watermarks
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from recommendations_kafka import DEPLOYMENT, EVENTS_A_RECORD, Source, Worker
from report import report

STOP_S = 60


class Answers:
    """Reads answers from where they end now."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._consumer = Consumer(kafka.reader_config("aicache-throughput", fetch_wait_max_ms=10))
        name = kafka.name(topics.RECOMMENDATIONS.name)
        ends = [(p, watermarks(self._consumer, name, p)[1]) for p in range(topics.RECOMMENDATIONS.partitions)]
        self._consumer.assign([TopicPartition(name, partition, end) for partition, end in ends])

    def read(self) -> list[int]:
        """When those that have come were written, in milliseconds."""
        return [message.timestamp()[1] for message in self._consumer.consume(1_000, 0.05) if message.error() is None]

    def close(self) -> None:
        self._consumer.close()


def phase(kafka: KafkaSettings, source: Source, records: int, folder: Path) -> dict[str, float]:
    """Send records, start a worker, and measure it until it has answered them."""
    answers = Answers(kafka)
    source.send(records)
    began = time.monotonic()
    worker = Worker(kafka, folder / "worker.log").start("one")
    watched = psutil.Process(worker.pid)
    try:
        written: list[int] = []
        while not written:
            assert worker.poll() is None, "the worker ended; its log says why"
            written += answers.read()
        load_s, spent_before, before = time.monotonic() - began, _cpu_s(watched), len(written)
        while len(written) < records:
            assert worker.poll() is None, "the worker ended; its log says why"
            written += answers.read()
        spent_s = _cpu_s(watched) - spent_before
    finally:
        answers.close()
        worker.terminate()
        worker.wait(STOP_S)
    seconds = (max(written) - min(written)) / 1_000
    at_first = written.count(min(written))
    cpu_us = spent_s * 1e6 / ((records - before) * EVENTS_A_RECORD)
    return {
        "events_per_s": (records - at_first) * EVENTS_A_RECORD / seconds,
        "cpu_us_an_event": cpu_us,
        "events_per_cpu_s": 1e6 / cpu_us,
        "load_s": load_s,
    }


def _cpu_s(process: psutil.Process) -> float:
    spent = process.cpu_times()
    return float(spent.user + spent.system)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=50_000, help="that are measured, each time")
    parser.add_argument(
        "--warm", type=int, default=100_000, help="that the worker has learned before it is measured as warm"
    )
    parser.add_argument("--people", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    records = chosen.events // EVENTS_A_RECORD
    figures: dict[str, float] = {"events": chosen.events, "warm": max(chosen.warm, chosen.events)}
    with EmbeddedKafka() as broker, tempfile.TemporaryDirectory() as folder:
        kafka = broker.settings(deployment=DEPLOYMENT)
        create_topics(kafka.client_config(), kafka.prefix)
        source = Source(kafka, chosen.people)
        young = phase(kafka, source, records, Path(folder))
        between = chosen.warm // EVENTS_A_RECORD - records
        if between > 0:
            phase(kafka, source, between, Path(folder))
        warm = phase(kafka, source, records, Path(folder))
    for name, measured in (("young", young), ("warm", warm)):
        figures |= {f"{name}_{key}": value for key, value in measured.items()}
    report("recommendations_throughput", figures, "The recommendations worker through Kafka", as_json=chosen.json)


if __name__ == "__main__":
    main()
