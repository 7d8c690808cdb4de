"""Reads an insight topic, typed: for dashboards, alerting, plugins, other services.

Reads `read_committed`, joins no group and commits nothing: where to begin is the reader's business, and so is remembering where it
was. Boundary: confluent-kafka.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from aicache.privacy.errors import RemoteError
from aicache.producers.connection import KafkaSettings
from aicache.schemas.codec import Codec
from aicache.schemas.records import Record
from aicache.schemas.topics import Topic

R = TypeVar("R", bound=Record)
POLL_S = 0.2
BEGINNING, NOW = "beginning", "now"


@dataclass(frozen=True, slots=True)
class Insight(Generic[R]):
    """One insight and where it stands; `next_offset` of its partition is where a later reader goes on."""

    record: R
    partition: int
    offset: int
    timestamp_ms: int

    @property
    def next_offset(self) -> int:
        """Where a later reader of the partition goes on."""
        return self.offset + 1


class Insights(Generic[R]):
    """An endless sequence of insights, for `for` and for `async for`; close it when done.

    Args:
        settings: how to reach Kafka.
        topic: one of the insight topics of `aicache.schemas.topics`.
        kind: the record that it holds.
        start: `beginning`, `now`, or an offset for each partition.
        idle_s: end the iteration after so long without a record; None: never.

    Examples:
        >>> from aicache.schemas.records import Incident
        >>> from aicache.schemas.topics import ANOMALIES
        >>> for insight in Insights(KafkaSettings("localhost:9092"), ANOMALIES, Incident):  # doctest: +SKIP
        ...     print(insight.record.explanation)
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: Topic,
        kind: type[R],
        *,
        start: str | Mapping[int, int] = NOW,
        idle_s: float | None = None,
    ) -> None:
        self._kind = kind
        self._codec = Codec()
        self._idle_s = idle_s
        self._consumer = Consumer(
            settings.reader_config("aicache-insights", enable_partition_eof=False, fetch_wait_max_ms=20)
        )
        where = {BEGINNING: OFFSET_BEGINNING, NOW: OFFSET_END}
        self._consumer.assign(
            [
                TopicPartition(
                    settings.name(topic.name),
                    partition,
                    where[start] if isinstance(start, str) else start.get(partition, OFFSET_BEGINNING),
                )
                for partition in range(topic.partitions)
            ]
        )

    def poll(self, timeout_s: float = POLL_S) -> Insight[R] | None:
        """The next insight; None where none comes in time. What is no record of this kind is passed over.

        Raises:
            KafkaException: Kafka fails.
        """
        message = self._consumer.poll(timeout_s)
        if message is None:
            return None
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                return None
            raise KafkaException(error)
        value = message.value()
        if value is None:
            return None
        try:
            record = self._codec.decode(value, self._kind).record
        except RemoteError:
            return None
        return Insight(record, message.partition() or 0, message.offset() or 0, message.timestamp()[1])

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def __iter__(self) -> Iterator[Insight[R]]:
        silent_s = 0.0
        while self._idle_s is None or silent_s < self._idle_s:
            found = self.poll()
            silent_s = silent_s + POLL_S if found is None else 0.0
            if found is not None:
                yield found

    async def __aiter__(self) -> AsyncIterator[Insight[R]]:
        silent_s = 0.0
        while self._idle_s is None or silent_s < self._idle_s:
            found = await asyncio.to_thread(self.poll)
            silent_s = silent_s + POLL_S if found is None else 0.0
            if found is not None:
                yield found
