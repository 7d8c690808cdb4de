"""The Faust shell: an agent brings batches to a fold, a timer lets it act, for the control plane.

Faust acknowledges an event also when its agent fails, and several events in flight can commit past an unfinished one. So a batch
is taken without acknowledgement, its transaction is done in a thread, then each event is acknowledged in order; and whatever goes
wrong ends the process at once, before Faust can acknowledge anything. Partitions are those of the last assignment; events of
others still arrive after a rebalance and are ignored, for opening their store would fence the new owner. Faust can hang when it is
told to stop during a rebalance: the process waits a while for it, then ends, for what counts is in Kafka.
Boundary: faust, the clock.
"""

import asyncio
import os
import shutil
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Generic, NoReturn, TypeVar

import faust
from confluent_kafka import KafkaException

from aicache.privacy.errors import LocalError
from aicache.producers.connection import KafkaSettings
from aicache.streams.app import make_app
from aicache.streams.runtime.contract import TimedFold
from aicache.streams.runtime.ends import ends_of, positions_of
from aicache.streams.runtime.logs import log
from aicache.streams.runtime.metrics import Metrics, MetricsServer
from aicache.streams.runtime.store import FencedError
from aicache.streams.runtime.tasks import GapError, Raw, Task
from aicache.streams.runtime.watchdog import Watchdog

S = TypeVar("S")
BATCH_MAX = 500
BATCH_WAIT_S = 0.02
TICK_S = 0.1
WATCH_S = 5.0
EXIT_FAILED = 70
COMMIT_S = 5.0
STOP_GRACE_S = 10.0
"""Faust gets so long to stop. An orchestrator's own patience is often 30 s, and then it kills."""


class FaustShell(Generic[S]):
    """Runs a timed fold.

    Args:
        fold: the logic.
        settings: how to reach Kafka.
        instance: see `make_app`.
        metrics_port: for metrics and health on 127.0.0.1; 0: off.
        let_fail: how many inputs of each partition may fail before the breaker looks.
    """

    def __init__(
        self,
        fold: TimedFold[S],
        settings: KafkaSettings,
        *,
        instance: str | None = None,
        metrics_port: int = 0,
        let_fail: int = 0,
    ) -> None:
        self.fold = fold
        self.tasks: dict[int, Task[S]] = {}
        self._settings = settings
        self._names = {settings.name(topic.name): topic.name for topic in fold.inputs}
        self._lock = asyncio.Lock()
        self._told = False
        self._require_same_topics: Callable[[], None] = lambda: None
        self.metrics = Metrics(fold.name)
        self._metrics_port = metrics_port
        self._let_fail = let_fail
        self._watchdog = Watchdog()
        self.app = make_app(fold.name, settings, instance=instance)
        topic = self.app.topic(
            *self._names, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
        )
        self.app.agent(topic, concurrency=1, name=fold.name)(self._agent)
        self.app.timer(interval=TICK_S)(self._tick)
        self.app.timer(interval=WATCH_S)(self._watch)
        self.app.on_partitions_assigned.connect(self._assigned)  # type: ignore[arg-type]
        self.app.on_partitions_revoked.connect(self._revoked)  # type: ignore[arg-type]

    def run(self) -> NoReturn:
        """Until a signal ends it (exit 0), or an error (exit `EXIT_FAILED`)."""
        if self._metrics_port:
            MetricsServer(self.metrics, self._metrics_port)
        try:
            _Worker(self.app, loglevel="WARN", quiet=True).execute_from_commandline()
        finally:
            shutil.rmtree(self.app.conf.datadir, ignore_errors=True)
        raise SystemExit(0)

    # ------------------------------------------------------------ partitions

    async def _assigned(self, _: object, assigned: Iterable[Any] = (), *__: object, **___: object) -> None:
        try:
            held: dict[int, set[str]] = defaultdict(set)
            for place in assigned:
                held[place.partition].add(place.topic)
            async with self._lock:
                whole = {partition for partition, names in held.items() if self._inputs_of(partition) <= names}
                for partition in self.tasks.keys() - whole:
                    del self.tasks[partition]
                new = sorted(whole - self.tasks.keys())
                task_of = partial(Task, self.fold, self._settings, metrics=self.metrics, let_fail=self._let_fail)
                opening = (asyncio.to_thread(task_of, partition=partition) for partition in new)
                self.tasks.update(zip(new, await asyncio.gather(*opening), strict=True))
                if new:
                    self._require_same_topics = self.tasks[new[0]].require_same_topics
                self.metrics.held(self.tasks)
                await self._read_from_state(assigned)
                log("assigned", processor=self.fold.name, partitions=sorted(self.tasks))
        except BaseException as error:  # Faust would go on without the partition
            if self.app.should_stop and isinstance(error, Exception):
                return
            _die(error)
        if not self._told:
            self._told = self.metrics.ready = True
            print(f"ready {self.fold.name}", flush=True)

    async def _read_from_state(self, assigned: Iterable[Any]) -> None:
        """Read on where the state stands: what the group has committed may be ahead of it, for Faust commits what it skips.

        Faust may have sought the group's offset before; then the first batch shows a gap, the process ends, and the next one
        finds the offset that is committed here.
        """
        consumer: Any = self.app.consumer
        for place in assigned:
            task, topic = self.tasks.get(place.partition), self._names.get(place.topic)
            position = task.position(topic) if task is not None and topic is not None else None
            if position is not None:
                # Faust's consumer takes no calls any more when it stops, and would be waited for for ever.
                await asyncio.wait_for(consumer._commit({place: position}), COMMIT_S)
                await consumer.seek(place, position)

    def _inputs_of(self, partition: int) -> set[str]:
        return {self._settings.name(topic.name) for topic in self.fold.inputs if partition < topic.partitions}

    def _assigned_now(self) -> set[int]:
        return {place.partition for place in self.app.consumer.assignment()}

    async def _revoked(self, _: object, revoked: Iterable[Any] = (), *__: object, **___: object) -> None:
        async with self._lock:
            for place in revoked:
                self.tasks.pop(place.partition, None)
            self.metrics.held(self.tasks)

    # ------------------------------------------------------------ work

    async def _agent(self, stream: Any) -> None:
        async for events in stream.noack_take(BATCH_MAX, within=BATCH_WAIT_S):
            try:
                await self._process(events)
            except BaseException as error:  # an agent that fails acknowledges what it was given
                _die(error)
            for event in events:
                await stream.ack(event)

    async def _process(self, events: Sequence[Any]) -> None:
        batches: dict[int, list[Raw]] = defaultdict(list)
        for event in events:
            message = event.message
            key, value = message.key or b"", message.value
            place = (self._names[message.topic], message.partition, message.offset, int(message.timestamp * 1000))
            batches[message.partition].append(Raw(*place, key, value, tuple(message.headers or ())))
        async with self._lock:
            for partition, inputs in batches.items():
                task = self.tasks.get(partition)
                if task is not None:
                    await self._guarded(partition, task.process, inputs)

    async def _tick(self) -> None:
        try:
            async with self._lock:
                for partition, task in list(self.tasks.items()):
                    await self._guarded(partition, task.tick, time.time_ns() // 1_000_000)
        except BaseException as error:
            _die(error)

    async def _guarded(self, partition: int, work: Any, argument: object) -> None:
        try:
            await asyncio.to_thread(work, argument)
        except FencedError:
            if partition in self._assigned_now():
                raise  # to go on would acknowledge what nobody has processed
            self.tasks.pop(partition, None)
            self.metrics.fenced()
            self.metrics.held(self.tasks)
            log("fenced", processor=self.fold.name, partition=partition)

    async def _watch(self) -> None:
        """End the process when a partition stands still while records wait."""
        positions = positions_of(self.fold, self.tasks)
        try:
            # Faust reads on in a topic that was made anew, or drops its partitions and waits for minutes.
            await asyncio.to_thread(self._require_same_topics)
            ends = await asyncio.to_thread(ends_of, self._settings, positions)
        except (
            KafkaException,
            LocalError,
        ) as error:  # not reached: nothing can be told, and transactions have a limit of their own
            log("broker not reached", processor=self.fold.name, error=str(error))
            return
        except GapError as error:
            _die(error)
        self.metrics.places(positions, ends)
        stuck = self._watchdog.look(positions, ends, time.monotonic_ns() // 1_000_000)
        if stuck is not None:
            self.metrics.live = False
            _die(RuntimeError(stuck))


class _Worker(faust.Worker):
    """Ends the process when Faust does not stop in time."""

    async def stop(self) -> None:
        code = EXIT_FAILED if self.crashed else 0
        limit = threading.Timer(STOP_GRACE_S, os._exit, [code])
        limit.daemon = True
        limit.start()
        await super().stop()


def _die(error: BaseException) -> NoReturn:
    """End the process now: nothing is acknowledged, and a supervisor starts it again from the state in Kafka."""
    if isinstance(error, asyncio.CancelledError):
        raise error
    traceback.print_exception(error, file=sys.stderr)
    sys.stderr.flush()
    os._exit(EXIT_FAILED)
