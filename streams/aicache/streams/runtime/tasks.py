"""One task of a fold: its state, its store, its place in the log. The part of the contract that both shells share.

A batch is checked against the place that the state knows: what was seen before is dropped, and where offsets are contiguous a gap
stops the process instead of being skipped. Boundary: the store.
"""

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from aicache.privacy.errors import AicacheError, RemoteError
from aicache.producers.connection import KafkaSettings
from aicache.producers.tracing import Headers, batch_span
from aicache.schemas.codec import Codec
from aicache.streams.runtime.contract import Batch, Fold, Message, Step, TimedFold
from aicache.streams.runtime.metrics import Metrics
from aicache.streams.runtime.store import REPLAYED_PREFIX, TaskStore

S = TypeVar("S")
REPLAY_HEADER = "aicache-dead-letter"
"""On a record that is fed again: the key of its dead letter, which ends with the processor that it is for."""
BREAKER_MESSAGES = 200
BREAKER_SHARE = 0.5
_LOADING = threading.Lock()
"""States are read from Kafka side by side and made one after the other: several at once would only take turns at the interpreter's lock."""


class GapError(AicacheError):
    """Offsets are missing: records were lost, or the topic was made anew. Nothing may be skipped, so the process ends."""


class BreakerError(AicacheError):
    """So much of the input fails that the processor itself is likely wrong: it stops before it drains a topic.

    What has failed lately is part of the state, so that starting it again and again drains nothing either.
    """


class Raw(NamedTuple):
    """An input as it came from Kafka."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """What follows from a batch and is not written yet.

    Attributes:
        step: from the fold.
        offsets: the next to read, by topic, once this is committed.
        bad: inputs that could not be decoded.
        headers: for what is written.
        inputs: how many there were.
        reasons: why some of them failed.
        newest_ms: when the last one was written.
        began_s: when the work began.
    """

    step: Step
    offsets: dict[str, int]
    bad: list[tuple[Message, RemoteError]]
    headers: Headers
    inputs: int
    reasons: list[str]
    newest_ms: int
    began_s: float


class Task(Generic[S]):
    """A fold's task of one partition; opening it fences whoever had it before.

    Args:
        fold: the logic.
        settings: how to reach Kafka.
        partition: of every input topic.
        metrics: told what is done.
        let_fail: how many inputs may fail before the breaker looks: an operator has seen that they are bad, not the processor.
    """

    def __init__(
        self,
        fold: Fold[S],
        settings: KafkaSettings,
        partition: int,
        metrics: Metrics | None = None,
        *,
        let_fail: int = 0,
    ) -> None:
        began = time.perf_counter()
        self.fold = fold
        self._metrics = metrics or Metrics(fold.name)
        self.partition = partition
        self._codec = Codec()
        self._store = TaskStore(settings, fold.name, partition, fold.version)
        loaded = self._store.load()
        if loaded.version:
            with _LOADING:
                self.state = fold.load(partition, loaded.entries.items(), loaded.version)
        else:
            self.state = fold.empty(partition)
        self._inputs = {topic.name: topic for topic in fold.inputs}
        # An earlier version of the fold may have read more: what becomes of those topics is nothing to this one.
        self.offsets = {topic: offset for topic, offset in loaded.offsets.items() if topic in self._inputs}
        self._committed = dict(self.offsets)
        self._replayed = set(loaded.replayed)
        self._topic_ids: dict[str, str] = loaded.told.get("topics", {})
        self.require_same_topics()
        self._require_same_log()
        self._recent = [failed == "1" for failed in loaded.told.get("failed", "")]
        self._let_fail = let_fail
        self._metrics.opened(partition, time.perf_counter() - began)

    def position(self, topic: str) -> int | None:
        """The next offset to read after what is committed; None where nothing is."""
        return self._committed.get(topic)

    def require_same_topics(self) -> None:
        """Raise where an input's name stands for another topic than the one that was read, however many records it holds.

        Raises:
            GapError: the topic was deleted and made anew.
        """
        found = self._store.topic_ids(self._inputs)
        for topic, before in self._topic_ids.items():
            if found.get(topic, before) != before:
                raise GapError(
                    f"{topic} was made anew after {self.fold.name} had read partition {self.partition} to "
                    f"{self.offsets.get(topic)}: delete the state of {self.fold.name} to begin again",
                    got=found[topic],
                    needed=before,
                )
        self._topic_ids = self._store.told["topics"] = {**self._topic_ids, **found}

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
        prepared = self.prepare(inputs)
        if prepared is None:
            return 0
        self.write(prepared)
        self.commit(prepared)
        return prepared.inputs

    def prepare(self, inputs: Sequence[Raw]) -> Prepared | None:
        """Fold a batch into the state; None where nothing of it is new.

        What was prepared before may still be on its way: if that fails, this state is given up with it.

        Raises:
            GapError, BreakerError, KafkaException: see `process`.
        """
        fresh = self._fresh(inputs)
        if len(fresh) < len(inputs):  # seen before: delivered again, or the first ones of a topic that was made anew
            self.require_same_topics()
        if not fresh:
            return None
        began_s = time.perf_counter()
        with batch_span(self.fold.name, self.partition, (raw.headers for raw in fresh)) as headers:
            wanted, replayed = self._without_replays_of_others(fresh)
            messages, bad = self._decode(wanted)
            step = self.fold.apply(self.state, Batch(self.partition, messages))
            step.changed.update(replayed)
        reasons = [error.reason for _, error in (*bad, *step.dead)]
        self._check_breaker(len(fresh), reasons)
        return Prepared(step, dict(self.offsets), bad, headers, len(fresh), reasons, fresh[-1].timestamp_ms, began_s)

    def write(self, prepared: Prepared) -> None:
        """Begin the transaction of what was prepared; the one before has to be committed.

        Raises:
            FencedError, KafkaException: see `process`.
        """
        self._store.write(prepared.step, prepared.offsets, prepared.bad, prepared.headers)

    def commit(self, prepared: Prepared) -> float:
        """End the transaction of what was written; returns when, on the clock of `time.perf_counter`.

        Raises:
            FencedError, KafkaException: see `process`.
        """
        self._store.commit()
        ended_s = time.perf_counter()
        self._committed = prepared.offsets
        self._metrics.batch(self.partition, prepared.inputs, ended_s - prepared.began_s)
        self._metrics.step(
            self.partition,
            reasons=prepared.reasons,
            changes=len(prepared.step.changed),
            skew_ms=time.time_ns() // 1_000_000 - prepared.newest_ms,
        )
        return ended_s

    def tick(self, now_ms: int) -> None:
        """Let a timed fold act; does nothing where nothing follows."""
        fold: TimedFold[S] = self.fold  # type: ignore[assignment]
        step = fold.tick(self.state, now_ms)
        if step.outputs or step.changed:
            self._store.write(step, self.offsets)
            self._store.commit()

    def _fresh(self, inputs: Sequence[Raw]) -> Sequence[Raw]:
        """What was not seen before.

        Raises:
            GapError: see `process`.
        """
        if not inputs:
            return inputs
        first = inputs[0]
        start = self.offsets.get(first.topic, first.offset)
        # As a rule a batch is just what comes next; told at once, since asking for each input costs more than reading it.
        if [(raw.topic, raw.offset) for raw in inputs] == [(first.topic, start + n) for n in range(len(inputs))]:
            self.offsets[first.topic] = start + len(inputs)
            return inputs
        return [raw for raw in inputs if self._is_next(raw)]

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
        decode = self._codec.decode
        for topic, partition, offset, timestamp_ms, key, value, _ in inputs:
            if value is None:
                messages.append(Message(topic, partition, offset, timestamp_ms, key, None))
                continue
            try:
                found = decode(value, *self._inputs[topic].records)
            except RemoteError as error:
                bad.append((Message(topic, partition, offset, timestamp_ms, key, None, b"", value), error))
            else:
                messages.append(Message(topic, partition, offset, timestamp_ms, key, *found))
        return messages, bad

    def _check_breaker(self, count: int, reasons: Sequence[str]) -> None:
        """Raise, before anything of the batch is set aside, when too much of the input fails."""
        failed = len(reasons)
        if not failed and not any(self._recent):
            return
        self._recent = (self._recent + [True] * failed + [False] * (count - failed))[-BREAKER_MESSAGES:]
        self._store.told["failed"] = "".join("01"[failed] for failed in self._recent)
        share = sum(self._recent) / BREAKER_MESSAGES
        if not failed or share <= BREAKER_SHARE:
            return
        if self._let_fail >= failed:
            self._let_fail -= failed
            return
        raise BreakerError(
            f"{share:.0%} of the last {BREAKER_MESSAGES} inputs of {self.fold.name} failed, the last {failed} mostly as "
            f"{Counter(reasons).most_common(1)[0][0]!r}; these were left in the log. Mend the processor; or, where the inputs are "
            f"bad (`aicache dead-letters list --processor {self.fold.name}`), start it once with --let-fail {failed}",
            got=share,
            needed=f"≤ {BREAKER_SHARE}",
        )
