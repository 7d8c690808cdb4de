"""Workers of the counting fold as processes, and what consumers see of them: the oracle of the runtime's tests."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from aicache.producers.connection import KafkaSettings
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from aicache.schemas.codec import Codec
from aicache.schemas.records import Trend
from support.counting import Counting, usage
from support.reading import records_of

CODEC = Codec()
TESTS = Path(__file__).parents[1]
SHELLS = ("direct", "faust")
WAIT_S = 60.0
SETTLE_S = 4.0
REVIVALS_MAX = 40
TOPICS = (topics.USAGE, topics.TRENDS, topics.DEAD_LETTERS, topics.state_topic(Counting.name, topics.USAGE.partitions))


def create_counting_topics(kafka: KafkaSettings) -> None:
    """What the counting fold reads and writes."""
    create_topics(kafka.client_config(), kafka.prefix, topics=list(TOPICS))


class Worker:
    """One process; its error output goes to a file."""

    def __init__(self, shell: str, kafka: KafkaSettings, log: Path, options: Mapping[str, Any] | None = None) -> None:
        self.log = log
        self.told_to_end = False
        command = [sys.executable, "-m", f"support.run_{shell}_counting", kafka.bootstrap_servers, kafka.prefix]
        command.append(json.dumps(dict(options or {})))
        with log.open("a") as errors:
            self.process = subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, stderr=errors, text=True)

    def ready(self) -> "Worker":
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "ready " in line, (line, self.log.read_text()[-3_000:])
        return self

    def send(self, number: signal.Signals) -> None:
        self.told_to_end |= number in {signal.SIGTERM, signal.SIGKILL}
        os.kill(self.process.pid, number)

    def ended(self, timeout_s: float = WAIT_S) -> int:
        return self.process.wait(timeout_s)

    def peak_mb(self) -> float:
        """The most memory that it has had so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1e3

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


class Crowd:
    """Workers, a source of usage records whose items name their partition, and the counts that consumers read.

    Attributes:
        options: of the workers that are started from now on (`run_options`).
        workers_kafka: how workers reach Kafka, where that is another way than the source's and the reader's.
        codec: of the source and the reader.
        supervised: start a worker again that ended although nobody told it to, as a supervisor does, while counts are awaited.
        revived: how often that was done.
    """

    def __init__(self, shell: str, kafka: KafkaSettings, folder: Path, **options: Any) -> None:
        self.shell, self.kafka, self.folder = shell, kafka, folder
        self.options = options
        self.workers_kafka = kafka
        self.codec = CODEC
        self.supervised = False
        self.revived = 0
        self.workers: list[Worker] = []
        self.sent: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        # Idempotent: a source that sends again after a lost acknowledgement would make the oracle count twice.
        self._producer = Producer(kafka.client_config(linger_ms=5, enable_idempotence=True))
        self._reader = Consumer(kafka.client_config(group_id="oracle", isolation_level="read_committed"))
        self._reader.assign(
            [TopicPartition(kafka.name(topics.TRENDS.name), p, 0) for p in range(topics.TRENDS.partitions)]
        )

    def start(self, **options: Any) -> Worker:
        log = self.folder / f"worker-{len(self.workers)}.log"
        worker = Worker(self.shell, self.workers_kafka, log, {**self.options, **options})
        self.workers.append(worker)
        return worker

    def supervise(self) -> None:
        """Start the last worker once more if it ends within a while, as a supervisor does."""
        with suppress(subprocess.TimeoutExpired):
            self.workers[-1].ended(SETTLE_S)
            self.start().ready()

    def revive(self) -> None:
        """Start a worker for each that ended by itself."""
        for worker in self.workers:
            if not worker.told_to_end and worker.process.poll() is not None:
                worker.told_to_end = True
                self.revived += 1
                assert self.revived <= REVIVALS_MAX, ("workers end again and again", self.said())
                self.start()

    def use(self, records: int, partitions: int = topics.USAGE.partitions, size_bytes: int = 0) -> None:
        """Send so many records, spread over the partitions, each at least so large."""
        for number in range(records):
            partition = number % partitions
            self.use_one(partition, f"p{partition}-{number % 7}", size_bytes)
        assert self._producer.flush(30) == 0

    def use_one(self, partition: int, item: str, size_bytes: int = 0) -> None:
        """Send a record, as soon as there is room for it."""
        value = self.codec.encode(usage([item], size_bytes=size_bytes))
        while True:
            try:
                self._producer.produce(self.kafka.name(topics.USAGE.name), value, b"key", partition=partition)
                break
            except BufferError:
                self._producer.poll(0.1)
        self.sent[item] += 1

    def read(self, wait_s: float) -> None:
        for message in self._reader.consume(500, wait_s):
            error = message.error()
            if error is not None:
                assert error.code() == KafkaError._PARTITION_EOF or error.retriable() or not error.fatal(), error
                continue
            record = self.codec.decode(message.value(), Trend).record
            assert record.value >= self.counts[record.series], "a count went back"
            self.counts[record.series] = int(record.value)

    def until(self, total: int, timeout_s: float = WAIT_S) -> None:
        """Read until so many uses are counted."""
        deadline = time.monotonic() + timeout_s
        while self.counts.total() < total:
            self.read(0.05)
            if self.supervised:
                self.revive()
            assert time.monotonic() < deadline, (self.counts.total(), total, self.said())

    def exact(self, timeout_s: float = WAIT_S) -> None:
        """Read until all that was sent is counted; each once."""
        self.until(self.sent.total(), timeout_s)
        self.read(0.5)
        wrong = {item: (self.counts[item], self.sent[item]) for item in self.counts | self.sent}
        wrong = {item: pair for item, pair in wrong.items() if pair[0] != pair[1]}
        assert not wrong, (wrong, "counted and sent", self.said())

    def records(self, topic: topics.Topic) -> list[object]:
        """All that a topic holds."""
        return records_of(self.kafka, topic, self.codec)

    def commit(self, group: str, offset: int) -> None:
        """Set back what a group has committed."""
        consumer = Consumer(self.kafka.client_config(group_id=group))
        name = self.kafka.name(topics.USAGE.name)
        places = [TopicPartition(name, p, offset) for p in range(topics.USAGE.partitions)]
        consumer.commit(offsets=places, asynchronous=False)
        consumer.close()

    def said(self) -> str:
        return "\n".join(worker.log.read_text()[-1_500:] for worker in self.workers)

    def close(self) -> None:
        for worker in self.workers:
            worker.close()
        self._reader.close()
