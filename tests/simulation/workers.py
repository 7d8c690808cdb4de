"""Workers of the data plane under faults: a fold over a simulated partition, killed, frozen, replaced, its log cut at random.

Oracles: every input is in the result exactly once, and the committed state and outputs are those of an undisturbed fold, byte for byte.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aicache.streams.runtime.contract import Batch, Fold, Message
from simulation.log import FencedError, Store

BATCH_MAX = 12
WORKERS = 2
TURNS_MAX = 400
FAULTS = (
    "crash before the commit",
    "crash after the commit",
    "frozen past its session",
    "rebalance",
    "redelivery",
    "lost acknowledgement",
)


@dataclass
class Worker:
    """One process; its state is lost when it crashes."""

    epoch: int
    state: Any
    offsets: dict[str, int]
    frozen: int = 0


class Partition:
    """A task of a fold with its log, its store and whoever believes to own it.

    Args:
        fold: the logic.
        messages: the partition's log, offsets from 0.
        random: where the faults come from.
    """

    def __init__(self, fold: Fold[Any], messages: Sequence[Message], random: np.random.Generator) -> None:
        self.fold, self.messages, self.random = fold, messages, random
        self.topic = fold.inputs[0].name
        self.store = Store()
        self.workers: list[Worker] = [self.start()]
        self.faults: list[str] = []

    def start(self) -> Worker:
        """A process opens the store: it fences the one before, loads the state, and reads on at its offset."""
        epoch = self.store.open()
        entries = list(self.store.entries.items())
        state = self.fold.load(0, entries, self.fold.version) if self.store.offsets else self.fold.empty(0)
        return Worker(epoch, state, dict(self.store.offsets))

    def run(self) -> None:
        """Until everything is committed; the bound says that it ends."""
        for _ in range(TURNS_MAX):
            if self.store.offsets.get(self.topic, 0) >= len(self.messages):
                return
            self.turn()
        raise AssertionError("the partition does not come to its end")

    def turn(self) -> None:
        """One worker takes a batch; something may go wrong."""
        for worker in list(self.workers):
            if worker.frozen:
                worker.frozen -= 1
                continue
            self.work(worker)
        if not any(not worker.frozen for worker in self.workers):
            self.workers.append(self.start())  # the group notices, and gives the partition to another

    def work(self, worker: Worker) -> None:
        fault = self.random.random()
        position = worker.offsets.get(self.topic, 0)
        if (
            fault < 0.04
        ):  # delivered again from an earlier offset, as after a lost acknowledgement of the group's commit
            position = int(self.random.integers(0, position + 1))
            self.faults.append("redelivery")
        batch = self.messages[position : position + int(self.random.integers(1, BATCH_MAX))]
        fresh = self.fresh(worker, batch)
        if not fresh:
            return
        step = self.fold.apply(worker.state, Batch(0, fresh))
        worker.offsets[self.topic] = fresh[-1].offset + 1
        if 0.04 <= fault < 0.10:
            self.faults.append("crash before the commit")
            self.replace(worker)
            return
        if 0.10 <= fault < 0.14:
            self.faults.append("frozen past its session")
            worker.frozen = int(self.random.integers(1, 6))
            self.workers.append(self.start())
            return
        try:
            self.commit(worker, step)
        except FencedError:
            self.workers.remove(worker)
            if not self.workers:
                self.workers.append(self.start())
            return
        if 0.14 <= fault < 0.20:
            self.faults.append("crash after the commit")
            self.replace(worker)
        elif 0.20 <= fault < 0.24:
            self.faults.append("rebalance")
            self.workers.append(self.start())

    def fresh(self, worker: Worker, batch: Sequence[Message]) -> list[Message]:
        """What the state has not seen: the rule of the runtime's tasks."""
        return [message for message in batch if message.offset >= worker.offsets.get(self.topic, 0)]

    def commit(self, worker: Worker, step: Any) -> None:
        """One transaction."""
        self.store.commit(worker.epoch, step, worker.offsets)

    def replace(self, worker: Worker) -> None:
        """The process is gone; a supervisor starts another."""
        self.workers.remove(worker)
        self.workers.append(self.start())


def undisturbed(fold: Fold[Any], messages: Sequence[Message]) -> Store:
    """What must come out: one batch, nothing goes wrong."""
    store = Store()
    epoch = store.open()
    step = fold.apply(fold.empty(0), Batch(0, messages))
    store.commit(epoch, step, {fold.inputs[0].name: len(messages)})
    return store


def check(partition: Partition) -> None:
    """The oracles."""
    expected = undisturbed(partition.fold, partition.messages)
    assert partition.store.offsets == expected.offsets, "an input is missing"
    assert partition.store.entries == expected.entries, "the state is not that of every input exactly once"
    assert partition.store.outputs == expected.outputs, "the outputs do not converge to the same bytes"
