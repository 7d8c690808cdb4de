"""The direct shell: confluent-kafka brings batches to a fold, for the data plane.

The new consumer group protocol hands out partitions one by one. An assigned partition is opened (its former owner is fenced, the
state is loaded) and read on at the state's own offset, whatever the group has committed; a revoked one is dropped. One thread folds;
transactions are committed beside it, one a partition at a time, so that waiting for the broker holds nothing up. Every error of
Kafka ends the process, except being fenced, which gives up one partition. Boundary: confluent-kafka, the clock.
"""

import gc
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Generic, TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from aicache.privacy.errors import LocalError
from aicache.producers.connection import KafkaSettings
from aicache.streams.runtime.contract import Fold
from aicache.streams.runtime.ends import ends_of, positions_of
from aicache.streams.runtime.logs import log
from aicache.streams.runtime.metrics import Metrics, MetricsServer
from aicache.streams.runtime.pace import Pace
from aicache.streams.runtime.store import FencedError
from aicache.streams.runtime.tasks import Raw, Task
from aicache.streams.runtime.watchdog import Watchdog

S = TypeVar("S")
TICK_S = 0.002
"""How long reading gathers inputs while there is other work."""
REST_S = 0.006
"""From the end of a partition's transaction to the next one, unless much waits. What a transaction costs the broker hardly depends
on its size; and one that begins while the broker still completes the last is sent back, to try again after 20 ms (librdkafka)."""
IDLE_S = 0.1
"""How long reading waits for a first input before it looks whether to stop."""
QUEUED_KB_MAX = 16_384
"""What Kafka's client fetches ahead; then it waits until that is read."""
WAITING_BYTES_MAX = 16_000_000
"""Of inputs that were read and not folded: as with their number, what was read is folded before more is read."""
GROUP_PREFIX = "aicache-"
GC_OBJECTS = 50_000
"""New objects after which the garbage collector looks at them, between two batches: within one it would only find the records, which
are many, in use and without cycles, so that counting frees them."""
GC_WHOLE = 100
"""Of so many times it looks at all objects once."""
WATCH_S = 5.0
EXIT_STUCK = 70
FENCED_S = 60.0
"""A partition that was fenced and that the group does not take back for so long has no reader: the process ends."""
THREADS_MAX = 8
"""Partitions opened, or committed, at the same time: most of it is waiting for the broker."""


@dataclass(frozen=True, slots=True)
class Flying(Generic[S]):
    """A transaction that is being committed."""

    task: Task[S]
    inputs: int
    began_s: float
    done: Future[float]


class DirectShell(Generic[S]):
    """Runs a fold.

    Args:
        fold: the logic; it reads one topic.
        settings: how to reach Kafka.
        instance: name of this worker, unique among those of the fold; None: a restart is a new member of the group.
        on_batch: told (partition, inputs, seconds) after each transaction.
        metrics_port: for metrics and health on 127.0.0.1; 0: off.
        let_fail: how many inputs of each partition may fail before the breaker looks.
    """

    def __init__(
        self,
        fold: Fold[S],
        settings: KafkaSettings,
        *,
        instance: str | None = None,
        on_batch: Callable[[int, int, float], None] = lambda _partition, _inputs, _seconds: None,
        metrics_port: int = 0,
        let_fail: int = 0,
    ) -> None:
        if len(fold.inputs) != 1:
            raise LocalError("the direct shell reads one topic", got=len(fold.inputs), needed=1)
        self.fold = fold
        self._settings = settings
        self._topic = settings.name(fold.inputs[0].name)
        self._on_batch = on_batch
        self.tasks: dict[int, Task[S]] = {}
        self._fenced: dict[int, float] = {}
        self.metrics = Metrics(fold.name)
        self._metrics_port = metrics_port
        self._let_fail = let_fail
        config = settings.client_config(
            client_id=f"aicache-{fold.name}",
            group_id=settings.name(GROUP_PREFIX + fold.name),
            group_protocol="consumer",
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            queued_max_messages_kbytes=QUEUED_KB_MAX,
            fetch_wait_max_ms=10,
            fetch_queue_backoff_ms=10,  # a full queue is looked at again so soon; else reading stands still for a second
        )
        if instance is not None:
            # The new protocol refuses a killed worker's name until its session is over (KIP-848); the classic one takes it back at once.
            config |= {
                "group.instance.id": instance,
                "group.protocol": "classic",
                "partition.assignment.strategy": "cooperative-sticky",
            }
        self._consumer = Consumer(config)
        self._pool = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="task")
        self._waiting: dict[int, list[Raw]] = defaultdict(list)
        self._waiting_bytes: Counter[int] = Counter()
        self._flying: dict[int, Flying[S]] = {}
        self._resting: dict[int, float] = {}
        self._pace = Pace()
        self._collected = 0

    def run(self, stop: Callable[[], bool], on_ready: Callable[[], None] = lambda: None) -> None:
        """Until told to stop.

        Raises:
            GapError, BreakerError, KafkaException: see `tasks`; a supervisor starts the process again.
        """
        told = False
        with ExitStack() as held:
            if gc.isenabled():
                gc.disable()
                held.callback(gc.enable)
            held.callback(self._consumer.close)
            if self._metrics_port:
                held.callback(MetricsServer(self.metrics, self._metrics_port).close)
            ended = threading.Event()
            held.callback(ended.set)
            threading.Thread(target=self._watch, args=(ended,), name="watchdog", daemon=True).start()
            self._consumer.subscribe(
                [self._topic], on_assign=self._assigned, on_revoke=self._dropped, on_lost=self._dropped
            )
            while not stop():
                self.step()
                if self.tasks and not told:
                    told = self.metrics.ready = True
                    on_ready()

    def _watch(self, ended: threading.Event) -> None:
        """End the process when a partition stands still while records wait: whatever it hangs in, a new one goes on."""
        watchdog = Watchdog()
        while not ended.wait(WATCH_S):
            positions = positions_of(self.fold, self.tasks)
            try:
                ends = ends_of(self._settings, positions)
            except (
                KafkaException
            ) as error:  # not reached: nothing can be told, and transactions have a limit of their own
                log("broker not reached", processor=self.fold.name, error=str(error))
                continue
            self.metrics.places(positions, ends)
            stuck = watchdog.look(positions, ends, time.monotonic_ns() // 1_000_000)
            if stuck is not None:
                self.metrics.live = False
                log("stuck", processor=self.fold.name, where=stuck)
                os._exit(EXIT_STUCK)

    def step(self) -> int:
        """Read what has come, and fold it where the last transaction is done; returns how many inputs were committed meanwhile."""
        if self._fenced and time.monotonic() - min(self._fenced.values()) > FENCED_S:
            raise FencedError("fenced, but the group has not moved the partitions", got=sorted(self._fenced))
        self._sort(self._read())
        began = time.perf_counter()
        done = sum(self._settle(partition) for partition, flying in list(self._flying.items()) if flying.done.done())
        waiting = sum(map(len, self._waiting.values()))
        full = waiting >= self._pace.size or self._waiting_bytes.total() >= WAITING_BYTES_MAX
        taken = 0
        for partition in list(self._waiting):
            if full or (partition not in self._flying and self._resting.get(partition, 0.0) <= began):
                inputs = self._take(partition)
                taken += len(inputs)
                task = self.tasks.get(partition)
                if task is not None:  # what is not held was fetched before it was revoked: its new owner reads it
                    done += self._process(task, inputs)
        if taken:
            self._pace.took(taken, time.perf_counter() - began, full=full)
            self._collect()
        return done

    def _read(self) -> list[KafkaMessage]:
        """What has come; at rest, at once when something comes."""
        size = max(1, self._pace.size - sum(map(len, self._waiting.values())))
        if self._waiting or self._flying:
            return self._consumer.consume(size, TICK_S)
        found = self._consumer.consume(1, IDLE_S)
        return found + self._consumer.consume(size, 0) if found else found

    def _sort(self, messages: Iterable[KafkaMessage]) -> None:
        """Put inputs to those of their partitions."""
        topic = self.fold.inputs[0].name
        for message in messages:
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    continue
                raise KafkaException(error)
            partition, offset, value = message.partition(), message.offset(), message.value()
            assert partition is not None and offset is not None, "what is consumed has a place"
            place = (topic, partition, offset, message.timestamp()[1])
            raw = Raw(*place, message.key() or b"", value, message.headers() or ())  # type: ignore[arg-type]
            self._waiting[partition].append(raw)
            self._waiting_bytes[partition] += len(value or b"")

    def _take(self, partition: int) -> list[Raw]:
        """What waits of a partition, which waits no longer."""
        self._waiting_bytes.pop(partition, None)
        return self._waiting.pop(partition, [])

    def _process(self, task: Task[S], inputs: list[Raw]) -> int:
        """Fold inputs and begin to commit what follows, once what they followed on is committed; returns how many that were."""
        began = time.perf_counter()
        step = task.prepare(inputs)
        done = self._settle(task.partition)
        if step is None or self.tasks.get(task.partition) is not task:
            return done
        try:
            task.write(step)
        except FencedError:
            self._give_up(task)
            return done
        self._flying[task.partition] = Flying(task, step.inputs, began, self._pool.submit(task.commit, step))
        return done

    def _settle(self, partition: int) -> int:
        """Wait until a partition's transaction is committed; returns how many inputs it was for."""
        flying = self._flying.pop(partition, None)
        if flying is None:
            return 0
        try:
            ended = flying.done.result()
        except FencedError:
            self._give_up(flying.task)
            return 0
        self._resting[partition] = ended + REST_S
        self._on_batch(partition, flying.inputs, ended - flying.began_s)
        return flying.inputs

    def _give_up(self, task: Task[S]) -> None:
        """The group has moved the partition and not told us yet, or we were away past our session."""
        del self.tasks[task.partition]
        self._fenced[task.partition] = time.monotonic()
        self.metrics.fenced()
        self.metrics.held(self.tasks)
        log("fenced", processor=self.fold.name, partition=task.partition)
        self._consumer.incremental_unassign([TopicPartition(self._topic, task.partition)])

    def _collect(self) -> None:
        if gc.get_count()[0] > GC_OBJECTS:
            self._collected += 1
            gc.collect(2 if self._collected % GC_WHOLE == 0 else 1)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        with ThreadPoolExecutor(THREADS_MAX) as pool:
            opened = list(pool.map(self._open, (place.partition for place in partitions)))
        self.tasks.update((task.partition, task) for task in opened)
        for task in opened:  # what had come before the partition was given away and came back
            self._take(task.partition)
        self.metrics.held(self.tasks)
        log("assigned", processor=self.fold.name, partitions=[task.partition for task in opened])
        consumer.incremental_assign([self._place(task) for task in opened])

    def _open(self, partition: int) -> Task[S]:
        return Task(self.fold, self._settings, partition, self.metrics, let_fail=self._let_fail)

    def _place(self, task: Task[S]) -> TopicPartition:
        position = task.position(self.fold.inputs[0].name)
        return TopicPartition(self._topic, task.partition, OFFSET_BEGINNING if position is None else position)

    def _dropped(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for place in partitions:
            self._settle(place.partition)
            self._take(place.partition)
        # A partition that was given up when it was fenced is not assigned any more.
        held = [place for place in partitions if self.tasks.pop(place.partition, None) is not None]
        for place in partitions:
            self._fenced.pop(place.partition, None)
        self.metrics.held(self.tasks)
        log("revoked", processor=self.fold.name, partitions=[place.partition for place in partitions])
        if held:
            consumer.incremental_unassign(held)
