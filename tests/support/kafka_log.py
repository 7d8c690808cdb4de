"""The `Log` of support.rounds on a real Kafka: what the test writes goes there, what members write comes from there."""

import time
from collections.abc import Iterable

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition

from aicache.producers.connection import KafkaSettings
from aicache.schemas.records import Place
from aicache.schemas.topics import topic
from support.rounds import RECORDS, START_MS, Incoming, Log

MEMBERS_TOPICS = (
    "aicache.committee",
    "aicache.enrolments",
    "aicache.rounds",
    "aicache.votes",
    "aicache.updates",
    "aicache.envelopes",
    "aicache.endorsements",
    "aicache.openings",
    "aicache.dead-letters",
)
WAIT_S = 60.0


class KafkaLog(Log):
    """Args: settings: the test's Kafka; its topics exist (`create_all`)."""

    def __init__(self, settings: KafkaSettings, more: Iterable[str] = ()) -> None:
        super().__init__()
        self.settings = settings
        self._producer = Producer(settings.client_config(acks="all", linger_ms=0))
        self._consumer = Consumer(
            settings.client_config(group_id="test", enable_auto_commit=False, isolation_level="read_committed")
        )
        self._consumer.assign(
            [
                TopicPartition(settings.name(name), partition, OFFSET_BEGINNING)
                for name in dict.fromkeys((*MEMBERS_TOPICS, *more))
                for partition in range(topic(name).partitions)
            ]
        )
        self._ends: dict[str, int] = {}
        self.chunks: dict[tuple[int, int], bytes] = {}

    @staticmethod
    def create_all(create_topic) -> None:
        for name in MEMBERS_TOPICS:
            create_topic(
                name, topic(name).partitions, **{k.replace(".", "_"): v for k, v in topic(name).config.items()}
            )

    def append_bytes(self, name: str, value: bytes, timestamp_ms: int = START_MS) -> Incoming:
        found = self.codec.decode(value, *RECORDS)
        key = getattr(found.record, "client", None) or getattr(found.record, "round_id", "").encode()
        placed = []
        self._producer.produce(
            self.settings.name(name),
            value,
            key,
            partition=0,
            on_delivery=lambda error, message: placed.append((error, message)),
        )
        self._producer.flush(WAIT_S)
        (error, message), *_ = placed
        assert error is None, error
        self._ends[name] = message.offset() + 1
        return Incoming(name, 0, message.offset(), timestamp_ms, found.record, found.fingerprint, found.body)

    def end(self, name: str) -> int:
        """Behind the last record that the test itself wrote."""
        return self._ends.get(name, 0)

    def ciphertext(self, place: Place) -> bytes:
        return b"".join(self.chunks[place.partition, offset] for offset in place.offsets)

    def refresh(self, timeout_s: float = 0.05) -> None:
        for message in self._consumer.consume(1_000, timeout_s):
            error = message.error()
            if error is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                continue
            name = message.topic().removeprefix(self.settings.prefix)
            found = self.codec.decode(message.value(), *RECORDS)
            item = Incoming(name, message.partition(), message.offset(), 0, found.record, found.fingerprint, found.body)
            self.topics.setdefault(name, []).append(item)
            if name == "aicache.updates":
                self.chunks[message.partition(), message.offset()] = found.record.data

    def until(self, holds, what: str, step=lambda: None, timeout_s: float = WAIT_S):
        """Read until `holds()` gives something true, and give it; `step` is what else has to move."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            step()
            self.refresh()
            found = holds()
            if found:
                return found
        raise AssertionError(f"not within {timeout_s} s: {what}")

    def close(self) -> None:
        self._consumer.close()
