"""One task of a fold: its state, its store, its place in the log. The part of the contract that both shells share.

A batch is checked against the place that the state knows: what was seen before is dropped, and where offsets are contiguous a gap
stops the process instead of being skipped. Boundary: the store.
"""

import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from aicache.privacy.errors import AicacheError, RemoteError
from aicache.producers.connection import KafkaSettings
from aicache.schemas.codec import Codec
from aicache.streams.runtime.contract import Batch, Fold, Message, TimedFold
from aicache.streams.runtime.metrics import Metrics
from aicache.streams.runtime.store import REPLAYED_PREFIX, TaskStore

S = TypeVar("S")
REPLAY_HEADER = "aicache-dead-letter"
"""On a record that is fed again: the key of its dead letter, which ends with the processor that it is for."""
BREAKER_MESSAGES = 200
BREAKER_SHARE = 0.5


class GapError(AicacheError):
    """Offsets are missing: records were lost, or the topic was made anew. Nothing may be skipped, so the process ends."""


class BreakerError(AicacheError):
    """So much of the input fails that the processor itself is likely wrong: it stops before it drains a topic."""


@dataclass(frozen=True, slots=True)
class Raw:
    """An input as it came from Kafka."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


class Task(Generic[S]):
    """A fold's task of one partition; opening it fences whoever had it before.

    Args:
        fold: the logic.
        settings: how to reach Kafka.
        partition: of every input topic.
        metrics: told what is done.
    """

    def __init__(self, fold: Fold[S], settings: KafkaSettings, partition: int, metrics: Metrics | None = None) -> None:
        began = time.perf_counter()
        self.fold = fold
        self._metrics = metrics or Metrics(fold.name)
        self.partition = partition
        self._codec = Codec()
        self._store = TaskStore(settings, fold.name, partition, fold.version)
        loaded = self._store.load()
        if loaded.version:
            self.state = fold.load(partition, loaded.entries.items(), loaded.version)
        else:
            self.state = fold.empty(partition)
        self.offsets = dict(loaded.offsets)
        self._replayed = set(loaded.replayed)
        self._require_same_log()
        self._inputs = {topic.name: topic for topic in fold.inputs}
        self._recent: list[bool] = []
        self._metrics.opened(partition, time.perf_counter() - began)

    def position(self, topic: str) -> int | None:
        """The next offset to read; None where nothing has been read."""
        return self.offsets.get(topic)

    def _require_same_log(self) -> None:
        """Raise where an input ends before the place that was read: all that it holds would pass for seen.

        Raises:
            GapError: the topic was deleted and made anew, or its broker has lost its end.
        """
        for topic, end in self._store.ends(self.offsets).items():
            if end < self.offsets[topic]:
                raise GapError(
                    f"{topic} partition {self.partition} ends at {end}, but {self.fold.name} has read to "
                    f"{self.offsets[topic]}: the topic was made anew; delete the state of {self.fold.name} to begin again",
                    got=end,
                    needed=f"≥ {self.offsets[topic]}",
                )

    def process(self, inputs: Sequence[Raw]) -> int:
        """Fold a batch into the state and write what follows; returns how many inputs were new.

        Raises:
            GapError, BreakerError, FencedError, KafkaException: the process has to end, or to give up the partition.
        """
        fresh = [raw for raw in inputs if self._is_next(raw)]
        if not fresh:
            return 0
        began = time.perf_counter()
        wanted, replayed = self._without_replays_of_others(fresh)
        messages, bad = self._decode(wanted)
        step = self.fold.apply(self.state, Batch(self.partition, messages))
        step.changed.update(replayed)
        self._store.commit(step, self.offsets, bad)
        self._metrics.batch(self.partition, len(fresh), time.perf_counter() - began)
        self._metrics.step(
            self.partition,
            reasons=[error.reason for _, error in (*bad, *step.dead)],
            changes=len(step.changed),
            skew_ms=time.time_ns() // 1_000_000 - fresh[-1].timestamp_ms,
        )
        self._check_breaker(len(fresh), len(bad) + len(step.dead))
        return len(fresh)

    def tick(self, now_ms: int) -> None:
        """Let a timed fold act; does nothing where nothing follows."""
        fold: TimedFold[S] = self.fold  # type: ignore[assignment]
        step = fold.tick(self.state, now_ms)
        if step.outputs or step.changed:
            self._store.commit(step, self.offsets)

    def _is_next(self, raw: Raw) -> bool:
        expected = self.offsets.get(raw.topic)
        if expected is not None:
            if raw.offset < expected:
                return False
            if raw.offset > expected and self._inputs[raw.topic].contiguous:
                raise GapError(
                    f"{raw.topic} partition {raw.partition} goes on at {raw.offset}, but {self.fold.name} has read to "
                    f"{expected}: records are missing",
                    got=raw.offset,
                    needed=expected,
                )
        self.offsets[raw.topic] = raw.offset + 1
        return True

    def _without_replays_of_others(self, inputs: Sequence[Raw]) -> tuple[Sequence[Raw], dict[bytes, bytes]]:
        """Inputs without what is fed again for other processors, or a second time; and what to remember of the rest."""
        if not any(raw.headers for raw in inputs):
            return inputs, {}
        wanted, replayed = [], {}
        for raw in inputs:
            letter = dict(raw.headers).get(REPLAY_HEADER)
            if letter is not None:
                if letter.rpartition(b"/")[2] != self.fold.name.encode():
                    continue
                # With the record's digest: who only claims to replay a letter does not stop the real one.
                seen = REPLAYED_PREFIX + letter + b"/" + hashlib.sha256(raw.value or b"").digest()[:8]
                if seen in self._replayed:
                    continue
                self._replayed.add(seen)
                replayed[seen] = b"1"
            wanted.append(raw)
        return wanted, replayed

    def _decode(self, inputs: Iterable[Raw]) -> tuple[list[Message], list[tuple[Message, RemoteError]]]:
        messages: list[Message] = []
        bad: list[tuple[Message, RemoteError]] = []
        for raw in inputs:
            place = (raw.topic, raw.partition, raw.offset, raw.timestamp_ms, raw.key)
            if raw.value is None:
                messages.append(Message(*place, None))
                continue
            try:
                found = self._codec.decode(raw.value, *self._inputs[raw.topic].records)
                messages.append(Message(*place, found.record, found.fingerprint, found.body))
            except RemoteError as error:
                bad.append((Message(*place, None, b"", raw.value), error))
        return messages, bad

    def _check_breaker(self, count: int, failed: int) -> None:
        self._recent = (self._recent + [True] * failed + [False] * (count - failed))[-BREAKER_MESSAGES:]
        share = sum(self._recent) / BREAKER_MESSAGES
        if len(self._recent) == BREAKER_MESSAGES and share > BREAKER_SHARE:
            raise BreakerError(
                f"{share:.0%} of the last {BREAKER_MESSAGES} inputs of {self.fold.name} failed: look at "
                f"`aicache dead-letters list --processor {self.fold.name}` before starting it again",
                got=share,
                needed=f"≤ {BREAKER_SHARE}",
            )
