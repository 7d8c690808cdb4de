"""The rules under which Faust keeps the runtime's contract, each as a check of the shell with played events, consumer and tasks.

A check raises AssertionError where its rule is not kept; tests/unit/faust_rules_test.py takes each rule out and sees that it is missed.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import faust

from aicache.privacy.errors import LocalError
from aicache.producers.connection import KafkaSettings
from aicache.schemas import topics
from aicache.streams import app
from aicache.streams.runtime import faust_shell
from aicache.streams.runtime.contract import Step
from aicache.streams.runtime.faust_shell import FaustShell
from aicache.streams.runtime.store import FencedError
from support.counting import Counting

SETTINGS = KafkaSettings("127.0.0.1:9")
USAGE = topics.USAGE.name
Check = Callable[[], None]


class TimedCounting(Counting):
    def tick(self, state: object, now_ms: int) -> Step:
        return Step()


class Place(NamedTuple):
    topic: str
    partition: int


class DiedError(BaseException):
    """The process has ended."""


class PlayedTask:
    """A task that notes what it is asked."""

    opened: list[int] = []  # noqa: RUF012 -- of all, as a test clears it

    def __init__(self, *_: object, partition: int, position: int | None = None, **__: object) -> None:
        self.opened.append(partition)
        self.partition, self.place, self.said = partition, position, []
        self.fails: Exception | None = None

    def process(self, inputs: Iterable[Any]) -> int:
        if self.fails:
            raise self.fails
        self.said.append(("processed", [raw.offset for raw in inputs]))
        return 1

    def position(self, _topic: str) -> int | None:
        return self.place

    def require_same_topics(self) -> None:
        pass


class PlayedStream:
    """Gives one batch of events, and notes what is acknowledged."""

    def __init__(self, events: list[Any], said: list[Any]) -> None:
        self.events, self.said = events, said

    async def noack_take(self, _count: int, within: float) -> Any:
        del within
        yield self.events

    async def ack(self, event: Any) -> None:
        self.said.append(("acknowledged", event.message.offset))


def event(partition: int, offset: int) -> Any:
    message = SimpleNamespace(
        topic=USAGE, partition=partition, offset=offset, timestamp=1.0, key=b"", value=b"", headers=None
    )
    return SimpleNamespace(message=message)


def shell_with(*partitions: int) -> FaustShell[Any]:
    PlayedTask.opened.clear()
    shell: FaustShell[Any] = FaustShell(TimedCounting(), SETTINGS)
    shell.tasks = {partition: PlayedTask(partition=partition) for partition in partitions}  # type: ignore[misc]
    PlayedTask.opened.clear()
    return shell


def played(work: Coroutine[Any, Any, None]) -> BaseException | None:
    """Run it with played tasks; what the process died of, if it did."""
    died: list[BaseException] = []

    def die(error: BaseException) -> None:
        died.append(error)
        raise DiedError

    with patch.object(faust_shell, "_die", die), patch.object(faust_shell, "Task", PlayedTask), suppress(DiedError):
        asyncio.run(work)
    return died[0] if died else None


# ---------------------------------------------------------------- the rules


def events_of_partitions_not_owned_are_ignored() -> None:
    shell = shell_with(0)
    shell.app.consumer = PlayedConsumer([Place(USAGE, 0)])
    died = played(shell._process([event(0, 5), event(3, 9)]))
    assert died is None
    assert not PlayedTask.opened, "opening a store for a partition that is not owned fences its owner"
    assert shell.tasks[0].said == [("processed", [5])]  # type: ignore[attr-defined]


def events_are_acknowledged_in_order_after_the_whole_batch() -> None:
    shell = shell_with(0, 1)
    said = shell.tasks[0].said = shell.tasks[1].said = []  # type: ignore[attr-defined]
    assert played(shell._agent(PlayedStream([event(0, 5), event(1, 8), event(0, 6)], said))) is None
    assert said == [
        ("processed", [5, 6]),
        ("processed", [8]),
        ("acknowledged", 5),
        ("acknowledged", 8),
        ("acknowledged", 6),
    ]


def a_batch_that_fails_is_not_acknowledged_and_ends_the_process() -> None:
    shell = shell_with(0)
    shell.tasks[0].fails = RuntimeError("no")  # type: ignore[attr-defined]
    said: list[Any] = []
    died = played(shell._agent(PlayedStream([event(0, 5)], said)))
    assert isinstance(died, RuntimeError), "the process goes on after a failure"
    assert not said, "what nobody has processed is acknowledged"


def being_fenced_while_the_partition_is_owned_ends_the_process() -> None:
    shell = shell_with(0)
    shell.app.consumer = PlayedConsumer([Place(USAGE, 0)])
    shell.tasks[0].fails = FencedError("taken")  # type: ignore[attr-defined]
    said: list[Any] = []
    assert isinstance(played(shell._agent(PlayedStream([event(0, 5)], said))), FencedError)
    assert not said


def being_fenced_when_the_partition_is_gone_drops_it_and_goes_on() -> None:
    shell = shell_with(0, 1)
    shell.app.consumer = PlayedConsumer([Place(USAGE, 1)])
    shell.tasks[0].fails = FencedError("taken")  # type: ignore[attr-defined]
    assert played(shell._process([event(0, 5), event(1, 6)])) is None
    assert sorted(shell.tasks) == [1]


def revoked_partitions_are_given_up() -> None:
    shell = shell_with(0, 1)
    assert played(shell._revoked(None, [Place(USAGE, 0)])) is None
    assert sorted(shell.tasks) == [1]


class PlayedConsumer:
    """What the shell asks of Faust's consumer."""

    def __init__(self, assigned: Iterable[Place]) -> None:
        self.assigned = set(assigned)
        self.said: list[Any] = []

    def assignment(self) -> set[Place]:
        return self.assigned

    async def _commit(self, places: dict[Place, int]) -> None:
        self.said.append(("committed", dict(places)))

    async def seek(self, place: Place, position: int) -> None:
        self.said.append(("sought", place, position))


def reading_goes_on_where_the_state_stands() -> None:
    shell = shell_with(0)
    shell.tasks[0].place = 36_287  # type: ignore[attr-defined]
    place = Place(USAGE, 0)
    consumer = shell.app.consumer = PlayedConsumer([place])
    assert played(shell._assigned(None, [place])) is None
    assert consumer.said == [("committed", {place: 36_287}), ("sought", place, 36_287)]


def a_partition_that_cannot_be_opened_ends_the_process() -> None:
    shell = shell_with()
    place = Place(USAGE, 0)
    shell.app.consumer = PlayedConsumer([place])

    async def refuse(*_: object) -> None:
        raise LocalError("no")

    with patch.object(shell, "_read_from_state", refuse):
        assert isinstance(played(shell._assigned(None, [place])), LocalError), "Faust goes on without the partition"


def a_consumer_that_stops_silently_ends_the_process() -> None:
    shell = shell_with(0)
    shell.tasks[0].place = 5  # type: ignore[attr-defined]
    assert "_watch" in {task.__name__ for task in shell.app._app_tasks}, "nobody looks"
    shell._watchdog.stuck_ms = 0
    ends = {(USAGE, 0): 9}
    with patch.object(faust_shell, "ends_of", lambda *_: ends):
        assert played(shell._watch()) is None
        died = played(shell._watch())
    assert "stands still at 5" in str(died)
    assert not shell.metrics.live


def a_process_that_hangs_while_it_stops_ends_all_the_same() -> None:
    ended: list[int] = []
    hanging = threading.Event()

    async def hang(_self: object) -> None:
        await asyncio.to_thread(hanging.wait, 0.5)

    def leave(code: int) -> None:
        ended.append(code)
        hanging.set()

    with (
        patch.object(faust_shell, "STOP_GRACE_S", 0.01),
        patch.object(os, "_exit", leave),
        patch.object(faust.Worker, "stop", hang),
    ):
        worker = faust_shell._Worker.__new__(faust_shell._Worker)
        worker._crashed = SimpleNamespace(is_set=lambda: False)  # type: ignore[assignment]
        asyncio.run(worker.stop())
    assert ended == [0], "an orchestrator has to kill it"


def no_web_server_is_started() -> None:
    shell = shell_with()
    assert not shell.app.conf.web_enabled, "Faust's pages are open to everybody on port 6066"


def nothing_of_fausts_own_state_or_transactions_is_used() -> None:
    conf = shell_with().app.conf
    assert conf.processing_guarantee.value == "at_least_once", "Faust's transactions lose and repeat"
    assert str(conf.store) == "memory:"
    assert conf.topic_allow_declare is False
    assert conf.topic_disable_leader is True
    assert conf.producer_acks == -1
    assert conf.consumer_auto_offset_reset == "earliest"
    assert [str(url) for url in conf.broker] == ["kafka://127.0.0.1:9"]


def one_agent_takes_the_batches() -> None:
    (agent,) = shell_with().app.agents.values()
    assert agent.concurrency == 1, "several agents acknowledge past each other"


def a_worker_without_a_name_has_none_instead_of_an_empty_one() -> None:
    assert shell_with().app.conf.consumer_group_instance_id is None
    try:
        app.make_app("trends", SETTINGS, instance="")
    except LocalError:
        return
    raise AssertionError("two workers with an empty name throw each other out for ever")
