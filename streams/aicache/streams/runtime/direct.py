"""The direct shell: confluent-kafka brings batches to a fold, for the data plane.

The new consumer group protocol hands out partitions one by one. An assigned partition is opened (its former owner is fenced, the
state is loaded) and read on at the state's own offset, whatever the group has committed; a revoked one is dropped. Every error of
Kafka ends the process, except being fenced, which gives up one partition. Boundary: confluent-kafka, the clock.
"""

import gc
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Generic, TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from aicache.privacy.errors import LocalError
from aicache.producers.connection import KafkaSettings
from aicache.streams.runtime.contract import Fold
from aicache.streams.runtime.ends import ends_of, positions_of
from aicache.streams.runtime.logs import log
from aicache.streams.runtime.metrics import Metrics, MetricsServer
from aicache.streams.runtime.store import FencedError
from aicache.streams.runtime.tasks import Raw, Task
from aicache.streams.runtime.watchdog import Watchdog

S = TypeVar("S")
BATCH_MAX = 4_000
BATCH_WAIT_S = 0.01
QUEUED_KB_MAX = 32_768
GROUP_PREFIX = "aicache-"
GC_OBJECTS = 100_000
"""New objects before the garbage collector looks at them. A batch is many small objects without cycles, which counting frees; at
Python's own 700 the collector takes a fifth of the time."""
WATCH_S = 5.0
EXIT_STUCK = 70
FENCED_S = 60.0
"""A partition that was fenced and that the group does not take back for so long has no reader: the process ends."""
OPENING_MAX = 8
"""Partitions opened at the same time: most of it is waiting for the broker."""


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
        )
        if instance is not None:
            # The new protocol refuses a killed worker's name until its session is over (KIP-848); the classic one takes it back at once.
            config |= {
                "group.instance.id": instance,
                "group.protocol": "classic",
                "partition.assignment.strategy": "cooperative-sticky",
            }
        self._consumer = Consumer(config)
        self._pool = ThreadPoolExecutor(OPENING_MAX, thread_name_prefix="task")

    def run(self, stop: Callable[[], bool], on_ready: Callable[[], None] = lambda: None) -> None:
        """Until told to stop.

        Raises:
            GapError, BreakerError, KafkaException: see `tasks`; a supervisor starts the process again.
        """
        told = False
        gc.set_threshold(GC_OBJECTS, 20, 10)
        with ExitStack() as held:
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
        """Take one batch, at most `BATCH_MAX` inputs, and process it."""
        if self._fenced and time.monotonic() - min(self._fenced.values()) > FENCED_S:
            raise FencedError("fenced, but the group has not moved the partitions", got=sorted(self._fenced))
        batches: dict[int, list[Raw]] = defaultdict(list)
        for message in self._consumer.consume(BATCH_MAX, BATCH_WAIT_S):
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    continue
                raise KafkaException(error)
            raw = self._raw(message)
            batches[raw.partition].append(raw)
        held = [(task, inputs) for partition, inputs in batches.items() if (task := self.tasks.get(partition))]
        # What is not held was fetched before it was revoked: its new owner reads it. Transactions wait side by side.
        return sum(self._finish(*done) for done in self._pool.map(self._process, held))

    def _raw(self, message: KafkaMessage) -> Raw:
        partition, offset, (_, timestamp_ms) = message.partition(), message.offset(), message.timestamp()
        assert partition is not None and offset is not None, "what is consumed has a place"
        place = (self.fold.inputs[0].name, partition, offset, timestamp_ms)
        return Raw(*place, message.key() or b"", message.value(), message.headers() or ())  # type: ignore[arg-type]

    def _process(self, work: tuple[Task[S], list[Raw]]) -> tuple[int, int | None, float]:
        """In a thread of the pool: the partition, how many inputs were new (None: fenced), and the seconds that it took."""
        task, inputs = work
        began = time.perf_counter()
        try:
            return task.partition, task.process(inputs), time.perf_counter() - began
        except FencedError:
            return task.partition, None, 0.0

    def _finish(self, partition: int, fresh: int | None, seconds: float) -> int:
        if fresh is None:
            # The group has moved the partition and not told us yet, or we were away past our session.
            del self.tasks[partition]
            self._fenced[partition] = time.monotonic()
            self.metrics.fenced()
            self.metrics.held(self.tasks)
            log("fenced", processor=self.fold.name, partition=partition)
            self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])
            return 0
        self._on_batch(partition, fresh, seconds)
        return fresh

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        with ThreadPoolExecutor(OPENING_MAX) as pool:
            opened = list(pool.map(self._open, (place.partition for place in partitions)))
        self.tasks.update((task.partition, task) for task in opened)
        self.metrics.held(self.tasks)
        log("assigned", processor=self.fold.name, partitions=[task.partition for task in opened])
        consumer.incremental_assign([self._place(task) for task in opened])

    def _open(self, partition: int) -> Task[S]:
        return Task(self.fold, self._settings, partition, self.metrics, let_fail=self._let_fail)

    def _place(self, task: Task[S]) -> TopicPartition:
        position = task.position(self.fold.inputs[0].name)
        return TopicPartition(self._topic, task.partition, OFFSET_BEGINNING if position is None else position)

    def _dropped(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # A partition that was given up when it was fenced is not assigned any more.
        held = [place for place in partitions if self.tasks.pop(place.partition, None) is not None]
        for place in partitions:
            self._fenced.pop(place.partition, None)
        self.metrics.held(self.tasks)
        log("revoked", processor=self.fold.name, partitions=[place.partition for place in partitions])
        if held:
            consumer.incremental_unassign(held)
