"""The runtime's own store over the simulated log: only its producer and its consumer are played, so the rest of it is what ships."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch
from zlib import crc32

from confluent_kafka import KafkaError, KafkaException

from aicache.schemas import topics
from aicache.schemas.codec import Codec
from aicache.streams.runtime import tasks
from aicache.streams.runtime.store import ANY_PARTITION, TaskStore
from simulation.log import FencedError, Log, Writer


@dataclass
class Place:
    """What a task takes for `KafkaSettings`."""

    log: Log
    prefix: str = ""
    deployment: str = "test"

    def name(self, plain: str) -> str:
        """Without a prefix."""
        return plain


class PlayedProducer:
    """confluent-kafka's transactional producer over the log: it hears that it was fenced when it commits."""

    def __init__(self, log: Log, name: str) -> None:
        self.log = log
        self.writer: Writer = log.writer(name)
        self.fenced = False

    def begin_transaction(self) -> None:
        self.fenced = False
        self.writer.begin()

    def produce(self, topic: str, value: bytes | None, key: bytes, partition: int, headers: Any = None) -> None:
        if partition == ANY_PARTITION:
            partition = crc32(key) % len(self.log.topics[topic].partitions)
        try:
            self.writer.write(topic, partition, key, value, tuple(headers or ()))
        except (FencedError, KeyError):
            self.fenced = True

    def commit_transaction(self, _timeout_s: float) -> None:
        try:
            if self.fenced:
                raise FencedError
            self.writer.commit()
        except (FencedError, KeyError):
            raise KafkaException(KafkaError(KafkaError._FENCED)) from None


class SimulatedStore(TaskStore):
    """See the module."""

    def __init__(self, settings: Place, processor: str, partition: int, version: int) -> None:
        self._settings = settings  # type: ignore[assignment]
        self._processor = processor
        self.partition = partition
        self._version = version
        self.told: dict[str, Any] = {}
        self._codec = Codec()
        self._topic = topics.STATE_PREFIX + processor
        self._log = settings.log
        self._producer = PlayedProducer(self._log, f"{processor}-{partition}")  # type: ignore[assignment]

    def _changelog(self) -> Iterator[tuple[bytes, bytes | None]]:
        for entry in self._log.read(self._topic, self.partition):
            yield entry.key, entry.value

    def ends(self, names: Iterable[str]) -> dict[str, int]:
        return {name: self._log.end(name, self.partition) for name in names}

    def topic_ids(self, names: Iterable[str]) -> dict[str, str]:
        return {name: self._log.topics[name].id for name in names}


def simulated_tasks() -> Any:
    """A context in which tasks open simulated stores."""
    return patch.object(tasks, "TaskStore", SimulatedStore)
