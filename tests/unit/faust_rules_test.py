"""Each rule of the Faust shell holds, and its check notices when the shipped code does without it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import faust
import pytest

from aicache.privacy.errors import LocalError
from aicache.streams import app
from aicache.streams.runtime import faust_shell
from aicache.streams.runtime.faust_shell import FaustShell
from aicache.streams.runtime.store import FencedError
from aicache.streams.runtime.watchdog import Watchdog
from support import faust_rules as rules

Patch = pytest.MonkeyPatch
MUTANTS: dict[str, tuple[Callable[[Patch], None], rules.Check]] = {}
RULES = [
    rules.events_of_partitions_not_owned_are_ignored,
    rules.events_are_acknowledged_in_order_after_the_whole_batch,
    rules.a_batch_that_fails_is_not_acknowledged_and_ends_the_process,
    rules.being_fenced_while_the_partition_is_owned_ends_the_process,
    rules.being_fenced_when_the_partition_is_gone_drops_it_and_goes_on,
    rules.revoked_partitions_are_given_up,
    rules.reading_goes_on_where_the_state_stands,
    rules.a_partition_that_cannot_be_opened_ends_the_process,
    rules.a_consumer_that_stops_silently_ends_the_process,
    rules.a_process_that_hangs_while_it_stops_ends_all_the_same,
    rules.no_web_server_is_started,
    rules.nothing_of_fausts_own_state_or_transactions_is_used,
    rules.one_agent_takes_the_batches,
    rules.a_worker_without_a_name_has_none_instead_of_an_empty_one,
]


def noticed_by(rule: rules.Check) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    def register(mutate: Callable[[Patch], None]) -> Callable[[Patch], None]:
        MUTANTS[mutate.__name__] = (mutate, rule)
        return mutate

    return register


@noticed_by(rules.events_of_partitions_not_owned_are_ignored)
def stale_events_open_a_store(patch: Patch) -> None:
    honest = FaustShell._process

    async def process(self: FaustShell[Any], events: Any) -> None:
        for event in events:
            partition = event.message.partition
            if partition not in self.tasks:
                self.tasks[partition] = faust_shell.Task(self.fold, self._settings, partition=partition)
        await honest(self, events)

    patch.setattr(FaustShell, "_process", process)


@noticed_by(rules.events_are_acknowledged_in_order_after_the_whole_batch)
def acknowledged_before_the_work(patch: Patch) -> None:
    async def agent(self: FaustShell[Any], stream: Any) -> None:
        async for events in stream.noack_take(1, within=1):
            for event in events:
                await stream.ack(event)
            await self._process(events)

    patch.setattr(FaustShell, "_agent", agent)


@noticed_by(rules.events_are_acknowledged_in_order_after_the_whole_batch)
def acknowledged_one_by_one_while_others_are_in_flight(patch: Patch) -> None:
    async def agent(self: FaustShell[Any], stream: Any) -> None:
        async for events in stream.noack_take(1, within=1):
            for event in events:
                await self._process([event])
                await stream.ack(event)

    patch.setattr(FaustShell, "_agent", agent)


@noticed_by(rules.events_are_acknowledged_in_order_after_the_whole_batch)
def acknowledged_in_another_order(patch: Patch) -> None:
    async def agent(self: FaustShell[Any], stream: Any) -> None:
        async for events in stream.noack_take(1, within=1):
            await self._process(events)
            for event in reversed(events):
                await stream.ack(event)

    patch.setattr(FaustShell, "_agent", agent)


@noticed_by(rules.a_batch_that_fails_is_not_acknowledged_and_ends_the_process)
def an_agent_that_fails_as_faust_would_have_it(patch: Patch) -> None:
    async def agent(self: FaustShell[Any], stream: Any) -> None:
        async for events in stream.noack_take(1, within=1):
            try:
                await self._process(events)
            except RuntimeError:
                continue
            finally:
                for event in events:
                    await stream.ack(event)

    patch.setattr(FaustShell, "_agent", agent)


def _swallow(patch: Patch) -> None:
    async def guarded(_self: object, _partition: int, work: Any, argument: object) -> None:
        try:
            await asyncio.to_thread(work, argument)
        except FencedError:
            return

    patch.setattr(FaustShell, "_guarded", guarded)


@noticed_by(rules.being_fenced_while_the_partition_is_owned_ends_the_process)
def being_fenced_is_passed_over(patch: Patch) -> None:
    _swallow(patch)


@noticed_by(rules.being_fenced_when_the_partition_is_gone_drops_it_and_goes_on)
def a_fenced_store_is_kept(patch: Patch) -> None:
    _swallow(patch)


@noticed_by(rules.revoked_partitions_are_given_up)
def revoked_partitions_are_kept(patch: Patch) -> None:
    async def revoked(*_: object) -> None:
        return

    patch.setattr(FaustShell, "_revoked", revoked)


@noticed_by(rules.reading_goes_on_where_the_state_stands)
def the_group_decides_where_to_read_on(patch: Patch) -> None:
    async def trust_the_group(*_: object) -> None:
        return

    patch.setattr(FaustShell, "_read_from_state", trust_the_group)


@noticed_by(rules.a_partition_that_cannot_be_opened_ends_the_process)
def a_partition_that_cannot_be_opened_is_left_out(patch: Patch) -> None:
    async def assigned(self: FaustShell[Any], _: object, places: Any) -> None:
        with suppress(LocalError):
            await self._read_from_state(places)

    patch.setattr(FaustShell, "_assigned", assigned)


@noticed_by(rules.a_consumer_that_stops_silently_ends_the_process)
def a_watchdog_that_sees_nothing(patch: Patch) -> None:
    patch.setattr(Watchdog, "look", lambda *_: None)


@noticed_by(rules.a_consumer_that_stops_silently_ends_the_process)
def a_watchdog_that_nobody_calls(patch: Patch) -> None:
    honest = faust.App.timer
    patch.setattr(
        faust.App,
        "timer",
        lambda self, interval: (lambda work: work) if interval == faust_shell.WATCH_S else honest(self, interval),
    )


@noticed_by(rules.a_process_that_hangs_while_it_stops_ends_all_the_same)
def faust_is_waited_for_for_ever(patch: Patch) -> None:
    patch.delattr(faust_shell._Worker, "stop")


def _setting(patch: Patch, **changed: Any) -> None:
    honest = faust.App
    patch.setattr(app.faust, "App", lambda *arguments, **settings: honest(*arguments, **(settings | changed)))


@noticed_by(rules.no_web_server_is_started)
def the_web_server_is_on(patch: Patch) -> None:
    _setting(patch, web_enabled=True)


@noticed_by(rules.nothing_of_fausts_own_state_or_transactions_is_used)
def fausts_exactly_once(patch: Patch) -> None:
    _setting(patch, processing_guarantee="exactly_once")


@noticed_by(rules.nothing_of_fausts_own_state_or_transactions_is_used)
def acknowledged_by_the_leader_alone(patch: Patch) -> None:
    _setting(patch, producer_acks=1)


@noticed_by(rules.one_agent_takes_the_batches)
def several_agents(patch: Patch) -> None:
    honest = faust.App.agent
    patch.setattr(faust.App, "agent", lambda self, *a, **k: honest(self, *a, **(k | {"concurrency": 4})))


@noticed_by(rules.a_worker_without_a_name_has_none_instead_of_an_empty_one)
def an_empty_name(patch: Patch) -> None:
    _setting(patch, consumer_group_instance_id="")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_shell_keeps_its_rule(rule: rules.Check) -> None:
    rule()


@pytest.mark.parametrize("name", MUTANTS)
def test_a_shell_without_the_rule_is_noticed(name: str, monkeypatch: Patch) -> None:
    mutate, rule = MUTANTS[name]
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        rule()


def test_every_rule_has_a_shell_without_it() -> None:
    assert {rule for _, rule in MUTANTS.values()} == set(RULES)
