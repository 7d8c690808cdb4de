"""Workers of the counting fold as processes, and what consumers see of them: the oracle of the runtime's tests."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from aicache.producers.connection import KafkaSettings
from aicache.schemas import topics
from aicache.schemas.codec import Codec
from aicache.schemas.records import Trend
from support.counting import usage

CODEC = Codec()
TESTS = Path(__file__).parents[1]
SHELLS = ("direct", "faust")
WAIT_S = 60.0
SETTLE_S = 4.0


class Worker:
    """One process; its error output goes to a file."""

    def __init__(self, shell: str, kafka: KafkaSettings, log: Path) -> None:
        self.log = log
        command = [sys.executable, "-m", f"support.run_{shell}_counting", kafka.bootstrap_servers, kafka.prefix]
        with log.open("a") as errors:
            self.process = subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, stderr=errors, text=True)

    def ready(self) -> "Worker":
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "ready " in line, (line, self.log.read_text()[-3_000:])
        return self

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def ended(self, timeout_s: float = WAIT_S) -> int:
        return self.process.wait(timeout_s)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


class Crowd:
    """Workers, a source of usage records whose items name their partition, and the counts that consumers read."""

    def __init__(self, shell: str, kafka: KafkaSettings, folder: Path) -> None:
        self.shell, self.kafka, self.folder = shell, kafka, folder
        self.workers: list[Worker] = []
        self.sent: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self._producer = Producer(kafka.client_config(linger_ms=5))
        self._reader = Consumer(kafka.client_config(group_id="oracle", isolation_level="read_committed"))
        self._reader.assign(
            [TopicPartition(kafka.name(topics.TRENDS.name), p, 0) for p in range(topics.TRENDS.partitions)]
        )

    def start(self) -> Worker:
        worker = Worker(self.shell, self.kafka, self.folder / f"worker-{len(self.workers)}.log")
        self.workers.append(worker)
        return worker

    def supervise(self) -> None:
        """Start the last worker once more if it ends within a while, as a supervisor does."""
        with suppress(subprocess.TimeoutExpired):
            self.workers[-1].ended(SETTLE_S)
            self.start().ready()

    def use(self, records: int, partitions: int = topics.USAGE.partitions) -> None:
        """Send so many records, spread over the partitions."""
        for number in range(records):
            partition = number % partitions
            item = f"p{partition}-{number % 7}"
            value = CODEC.encode(usage([item]))
            self._producer.produce(self.kafka.name(topics.USAGE.name), value, b"key", partition=partition)
            self.sent[item] += 1
        assert self._producer.flush(30) == 0

    def read(self, wait_s: float) -> None:
        for message in self._reader.consume(500, wait_s):
            error = message.error()
            if error is not None:
                assert error.code() == KafkaError._PARTITION_EOF or error.retriable() or not error.fatal(), error
                continue
            record = CODEC.decode(message.value(), Trend).record
            assert record.value >= self.counts[record.series], "a count went back"
            self.counts[record.series] = int(record.value)

    def until(self, total: int, timeout_s: float = WAIT_S) -> None:
        """Read until so many uses are counted."""
        deadline = time.monotonic() + timeout_s
        while self.counts.total() < total:
            self.read(0.05)
            assert time.monotonic() < deadline, (self.counts.total(), total, self.said())

    def exact(self, timeout_s: float = WAIT_S) -> None:
        """Read until all that was sent is counted; each once."""
        self.until(self.sent.total(), timeout_s)
        self.read(0.5)
        assert self.counts == self.sent

    def records(self, topic: topics.Topic) -> list[object]:
        """All that a topic holds."""
        config = self.kafka.client_config(
            group_id="oracle", isolation_level="read_committed", enable_partition_eof=True
        )
        consumer = Consumer(config)
        consumer.assign([TopicPartition(self.kafka.name(topic.name), p, 0) for p in range(topic.partitions)])
        found, ended = [], 0
        while ended < topic.partitions:
            for message in consumer.consume(500, 0.1):
                if message.error():
                    ended += message.error().code() == KafkaError._PARTITION_EOF
                else:
                    found.append(CODEC.decode(message.value(), *topic.records).record)
        consumer.close()
        return found

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
