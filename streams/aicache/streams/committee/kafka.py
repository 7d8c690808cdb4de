"""A member on Kafka: reads all it needs from its own stored places, lets the machine decide, publishes what is on disk.

Nothing is published before everything that stood in the log at the start was read: a store that was restored from a copy meets
its own later signatures there, and stops. Afterwards the outbox is published in order by an idempotent producer, and a row is
deleted only when the broker has confirmed it; a crash in between publishes it again, byte for byte the same.
Errors of Kafka or the disk end the process; a supervisor restarts it. Boundary: confluent-kafka, the clock, the system's entropy.
"""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from aicache.privacy.errors import LocalError, RemoteError
from aicache.producers.connection import KafkaSettings
from aicache.producers.watermarks import watermarks
from aicache.schemas.records import Place, UpdateChunk
from aicache.schemas.topics import topic
from aicache.streams.committee.commands import ROTATE_REQUEST
from aicache.streams.committee.core import Incoming
from aicache.streams.committee.limits import Limits
from aicache.streams.committee.member import Member
from aicache.streams.committee.ordering import ORDER, Ordering
from aicache.streams.committee.store import Outgoing, Store

CONSUME_MAX = 500
CONSUME_WAIT_S = 0.02
TAKE_MAX = 500
QUEUE_MAX = 2_000
"""Records held in memory at most (of envelopes, 18 KB each, that is 36 MB): beyond it nothing more is fetched."""

OUTBOX_MAX = 1_000
TICK_MS = 200
BROKER_TIMEOUT_S = 30.0
DELIVERY_TIMEOUT_MS = 60_000
QUEUED_KB_MAX = 8_192

ALLOWED = {name: topic(name).records for name in ORDER}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class MemberProcess:
    """One member, running.

    Args:
        settings: how to reach Kafka.
        folder: the member's own; this process holds its lock.
        store: opened from it.
    """

    def __init__(self, settings: KafkaSettings, folder: Path, store: Store) -> None:
        self._settings = settings
        self._folder = folder
        self._store = store
        self.member = Member(store, Limits.load(folder))
        if self.member.core.deployment != settings.deployment:
            raise LocalError(
                f"the member in {folder} is of deployment {self.member.core.deployment!r}, not of {settings.deployment!r}",
                got=settings.deployment,
                needed=self.member.core.deployment,
            )
        number = self.member.core.number
        self._consumer = Consumer(
            settings.reader_config(
                f"aicache-committee-{number}",
                auto_offset_reset="error",
                queued_max_messages_kbytes=QUEUED_KB_MAX,
                fetch_wait_max_ms=50,
            )
        )
        self._producer = Producer(
            settings.client_config(
                client_id=f"aicache-committee-{number}",
                enable_idempotence=True,
                acks="all",
                linger_ms=2,
                delivery_timeout_ms=DELIVERY_TIMEOUT_MS,
                message_max_bytes=2_000_000,
            )
        )
        self._ordering = Ordering(self.member.knows, self._end_of)
        self._flying: set[int] = set()
        self._confirmed: list[int] = []
        self._failed: KafkaError | None = None
        self._targets: dict[str, int] = {}
        self._caught_up = False
        self._next_tick_ms = 0

    # ------------------------------------------------------------ life

    def run(self, stop: Callable[[], bool], on_ready: Callable[[], None]) -> None:
        """Until told to stop.

        Raises:
            LocalError: the store is stale, the disk or Kafka failed.
        """
        if self._store.meta("retired"):
            self._publish_rest()
        try:
            self._assign()
            while not stop():
                self.step(on_ready)
            self._producer.flush(BROKER_TIMEOUT_S)
            self._note_confirmed()
        finally:
            self._consumer.close()

    def step(self, on_ready: Callable[[], None]) -> None:
        """Read, decide, publish once."""
        self._read()
        moved = self._decide()
        if not self._caught_up and self._is_caught_up():
            self._caught_up = moved = True
            on_ready()
        if not self._caught_up:
            return  # nothing is published, and no time has passed, before all that stood in the log was read
        if self._tick() or moved or self._flying:
            self._send_vectors()
            self._publish()

    # ------------------------------------------------------------ reading

    def _assign(self) -> None:
        places = []
        for name in ORDER:
            low, high = self._watermarks(name)
            start = self._store.next_offset(name, 0)
            if start > high:
                raise LocalError(
                    f"{name} ends at {high}, but this member has read to {start}: another Kafka, or one that lost records",
                    got=high,
                    needed=start,
                )
            if 0 < start < low and name == "aicache.votes":
                raise LocalError(
                    f"{name} was deleted from {start} to {low} while this member was away: it cannot tell whether its store is "
                    "an old copy. Run `aicache committee rotate --after-loss`",
                    got=low,
                    needed=start,
                )
            self._targets[name] = high
            self._ordering.read_to(name, start)
            places.append(
                TopicPartition(self._settings.name(name), 0, max(start, low) if high > low else OFFSET_BEGINNING)
            )
        self._consumer.assign(places)

    def _watermarks(self, plain: str) -> tuple[int, int]:
        name = self._settings.name(plain)
        return watermarks(self._consumer, name)

    def _end_of(self, plain: str) -> int:
        return self._watermarks(plain)[1]

    def _read(self) -> None:
        room = QUEUE_MAX - len(self._ordering)
        if room <= 0:
            return
        for message in self._consumer.consume(min(CONSUME_MAX, room), CONSUME_WAIT_S):
            name, offset, error = message.topic(), message.offset(), message.error()
            assert name is not None and offset is not None, "the consumer names the place of what it gives"
            plain = name.removeprefix(self._settings.prefix)
            if error is None:
                self._arrived(plain, offset, message)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._ordering.read_to(plain, offset)
            else:
                raise KafkaException(error)

    def _arrived(self, name: str, offset: int, message: Message) -> None:
        value, partition, (_, timestamp_ms) = message.value(), message.partition(), message.timestamp()
        assert partition is not None
        if value is None:  # a tombstone: nothing that a member keeps is ever withdrawn
            self._ordering.read_to(name, offset + 1)
            return
        try:
            found = self.member.core.codec.decode(value, *ALLOWED[name])
            item = Incoming(name, partition, offset, timestamp_ms, found.record, found.fingerprint, found.body)
        except RemoteError as error:
            item = Incoming(name, partition, offset, timestamp_ms, None, b"", value, error)
        self._ordering.put(item)

    def _decide(self) -> bool:
        moved = False
        for _ in range(QUEUE_MAX):
            batch = self._ordering.take(TAKE_MAX)
            if not batch:
                break
            self.member.receive(batch, _now_ms(), os.urandom)
            moved = True
        ends = {name: self._ordering.position(name) for name in ORDER if self._ordering.empty(name)}
        self.member.reached(ends)
        return moved

    def _is_caught_up(self) -> bool:
        return not len(self._ordering) and all(
            self._ordering.position(name) >= end for name, end in self._targets.items()
        )

    # ------------------------------------------------------------ writing

    def _publish(self) -> None:
        self._note_confirmed()
        for outgoing in self._store.outbox(OUTBOX_MAX + len(self._flying)):
            if outgoing.id not in self._flying:
                self._produce(outgoing)
        self._producer.poll(0)
        self._check_failed()

    def _publish_rest(self) -> None:
        """What a retired member still has to say: that it is retired."""
        self._publish()
        self._producer.flush(BROKER_TIMEOUT_S)
        self._check_failed()
        self._note_confirmed()
        number = self.member.core.number
        raise LocalError(f"member {number} is retired, and all know", got="retired", needed="a member with a key")

    def _produce(self, outgoing: Outgoing) -> None:
        def done(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                self._failed = error
            else:
                self._confirmed.append(outgoing.id)

        self._flying.add(outgoing.id)
        self._producer.produce(self._settings.name(outgoing.topic), outgoing.value, outgoing.key, on_delivery=done)

    def _note_confirmed(self) -> None:
        if self._confirmed:
            with self._store.transaction():
                self._store.published(self._confirmed)
            self._flying.difference_update(self._confirmed)
            self._confirmed = []

    def _check_failed(self) -> None:
        if self._failed is not None:
            raise KafkaException(self._failed)

    def _send_vectors(self) -> None:
        for round_id, group in self.member.vectors.due()[:1]:  # one a step: envelopes go on being read
            place = self._deliver(self.member.vectors.chunks(round_id, group, os.urandom))
            self.member.vectors.placed(round_id, group, place)

    def _deliver(self, chunks: Sequence[UpdateChunk]) -> Place:
        delivered: list[tuple[int, int]] = []

        def done(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._failed = error
                return
            partition, offset = message.partition(), message.offset()
            assert partition is not None and offset is not None
            delivered.append((partition, offset))

        for chunk in chunks:
            value = self.member.core.codec.encode(chunk)
            key = chunk.round_id.encode() + chunk.sender
            self._producer.produce(self._settings.name("aicache.updates"), value, key, on_delivery=done)
        self._producer.flush(BROKER_TIMEOUT_S)
        self._check_failed()
        if len(delivered) < len(chunks):
            raise LocalError("the broker did not confirm the noise vector", got=len(delivered), needed=len(chunks))
        return Place(delivered[0][0], sorted(offset for _, offset in delivered))

    def _tick(self) -> bool:
        now_ms = _now_ms()
        if now_ms < self._next_tick_ms:
            return False
        self._next_tick_ms = now_ms + TICK_MS
        self.member.tick(now_ms, os.urandom)
        request = self._folder / ROTATE_REQUEST
        if request.exists():
            self.member.rotate(now_ms, os.urandom)
            request.unlink()
        return True
