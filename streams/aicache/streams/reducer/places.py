"""Ciphertexts read again from where they stand: for what the manifest lists and the reducer no longer holds, or never saw.

Places are asked for in rising order, so the reader stays where it is and reads on over short gaps instead of seeking.
Boundary: confluent-kafka.
"""

import time
from collections import deque

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from aicache.privacy.errors import RemoteError
from aicache.producers.connection import KafkaSettings
from aicache.producers.watermarks import watermarks
from aicache.schemas import topics
from aicache.schemas.codec import Codec
from aicache.schemas.records import Place, UpdateChunk

READ_ON_BYTES_MAX = 4_000_000
"""How much is skipped by reading on, as far as the size of the last record tells; beyond it the reader seeks."""
CONSUME_MAX = 64
CONSUME_WAIT_S = 0.5
ANSWER_TIMEOUT_S = 30.0
QUEUED_KB_MAX = 16_384


class Places:
    """Fetches the chunks at a place.

    Args:
        settings: how to reach Kafka.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._name = settings.name(topics.UPDATES.name)
        self._codec = Codec()
        self._consumer = Consumer(
            settings.reader_config(
                "aicache-reducer-places",
                auto_offset_reset="error",
                queued_max_messages_kbytes=QUEUED_KB_MAX,
                fetch_wait_max_ms=10,
            )
        )
        self._at: tuple[int, int] | None = None  # the partition, and the next offset that will come
        self._ready: deque[Message] = deque()
        self._record_bytes = 1

    def close(self) -> None:
        """Close the reader."""
        self._consumer.close()

    def fetch(self, place: Place) -> bytes | None:
        """The joined data of the chunks; None where one is not in the log any more, or is no chunk."""
        found = []
        for offset in place.offsets:
            data = self._chunk(place.partition, offset)
            if data is None:
                return None
            found.append(data)
        return b"".join(found)

    def _chunk(self, partition: int, offset: int) -> bytes | None:
        if not self._go_to(partition, offset):
            return None
        message = self._read(partition, offset)
        value = message.value() if message is not None else None
        if value is None:
            return None
        self._record_bytes = len(value)
        try:
            return self._codec.decode(value, UpdateChunk).record.data
        except RemoteError:
            return None

    def _go_to(self, partition: int, offset: int) -> bool:
        if not 0 <= partition < topics.UPDATES.partitions:
            return False
        if self._at is not None and self._at[0] == partition:
            gap = offset - self._at[1]
            if gap >= 0 and gap * self._record_bytes <= READ_ON_BYTES_MAX:
                return True
        target = TopicPartition(self._name, partition, offset)
        low, high = watermarks(self._consumer, self._name, partition)
        if not low <= offset < high:
            return False
        self._ready.clear()
        self._consumer.assign([target])
        self._at = (partition, offset)
        return True

    def _end(self, partition: int) -> int:
        return watermarks(self._consumer, self._name, partition)[1]

    def _read(self, partition: int, offset: int) -> Message | None:
        """The message at an offset ahead; None where the partition ends or jumps over it."""
        until_s = time.monotonic() + ANSWER_TIMEOUT_S
        while time.monotonic() < until_s:
            if not self._ready:
                self._ready.extend(self._consumer.consume(CONSUME_MAX, CONSUME_WAIT_S))
                continue
            message = self._ready[0]
            error, at = message.error(), message.offset()
            if error is not None:
                self._ready.popleft()
                if error.code() == KafkaError._PARTITION_EOF:
                    if offset < self._end(partition):
                        continue  # an end that was reached before more was written
                    self._at = None
                    return None
                raise KafkaException(error)
            assert at is not None, "what is consumed has a place"
            if at > offset:
                return None  # deleted, or a mark of a transaction: what was read ahead stays for the next place
            self._ready.popleft()
            self._at = (partition, at + 1)
            if at == offset:
                return message
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "a ciphertext could not be read again in time"))
