"""Workers of the data plane under faults: the runtime's tasks over a simulated log, killed at every write, frozen, replaced, delayed.

Everything ends, and nothing grows without bound; what else must hold is in `oracles`.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from confluent_kafka import KafkaException

from aicache.schemas import topics
from aicache.streams.runtime.contract import Fold
from aicache.streams.runtime.metrics import Metrics
from aicache.streams.runtime.store import FencedError
from aicache.streams.runtime.tasks import GapError, Prepared, Raw, Task
from simulation.log import CrashedError, Log
from simulation.store import Place, simulated_tasks

Input = tuple[bytes, bytes | None]
"""Key and value."""
WORKERS = 2
BATCH_MAX = 12
HELD_MAX = 4 * BATCH_MAX
"""What a worker may have in its hands: back-pressure, not memory."""
TURNS_MAX = 500
NESTED_MAX = 3
START_MS = 1_700_001_800_000


@dataclass
class Worker:
    """One process; all of it is lost when it crashes."""

    number: int
    tasks: dict[int, Task[Any]] = field(default_factory=dict)
    positions: dict[int, int] = field(default_factory=dict)
    held: list[tuple[int, int, list[Raw]]] = field(default_factory=list)
    frozen: int = 0
    pending: dict[int, tuple[int, Prepared]] = field(default_factory=dict)
    """By partition: a transaction that is written and not yet committed, and how many turns it still takes."""


class Plane:
    """A fold's partitions with their log, their workers, and the clients that write.

    Args:
        fold: the logic.
        inputs: what is written to the topic that it reads, by partition.
        random: where the faults come from.
    """

    def __init__(self, fold: Fold[Any], inputs: Sequence[Sequence[Input]], random: np.random.Generator) -> None:
        self.fold, self.inputs, self.random = fold, inputs, random
        self.topic = fold.inputs[0].name
        self.partitions = len(inputs)
        self.log = log_for(fold, self.partitions)
        self.place = Place(self.log)
        self.faults: Counter[str] = Counter()
        self.trace: list[str] = []
        self.client = self.log.producer()
        self.acknowledged = [0] * self.partitions
        self.unanswered: dict[int, int] = {}
        self.metrics = Metrics(fold.name)
        self.workers = [Worker(n) for n in range(WORKERS)]
        self.started = WORKERS
        self.owner = {p: self.workers[p % WORKERS] for p in range(self.partitions)}
        self.depth = 0
        self.busy: Worker | None = None
        self.writes_left: int | None = None
        self.log.before_write = self.before_write

    def note(self, fault: str, more: object = "") -> None:
        """Something goes wrong."""
        self.faults[fault] += 1
        self.trace.append(f"{self.log.now_ms - START_MS:>7} ms  {fault} {more}")

    def chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    # ------------------------------------------------------------ time

    def run(self) -> None:
        """Until everything is committed; the bound says that it ends."""
        with simulated_tasks():
            for _ in range(TURNS_MAX):
                self.write()
                self.turn()
                if self.done():
                    return
        raise AssertionError("the partitions do not come to their end")

    def done(self) -> bool:
        ends = [len(rows) for rows in self.inputs]
        return self.acknowledged == ends and [self.committed(p) for p in range(self.partitions)] == ends

    def committed(self, partition: int) -> int:
        rows = self.log.read(topics.STATE_PREFIX + self.fold.name, partition)
        entries = {entry.key: entry.value for entry in rows}
        return loaded_offset(entries, self.topic)

    def turn(self) -> None:
        """Every worker does something; the group may move partitions; the clock goes on, or jumps."""
        self.log.now_ms += int(self.random.integers(1, 50))
        if self.chance(0.02):
            jump = int(self.random.integers(-3_600_000, 3_600_000))
            self.log.now_ms += jump
            self.note("clock jump", f"{jump} ms")
        if self.chance(0.06):
            partition = int(self.random.integers(self.partitions))
            self.move(partition, "rebalance")
        if self.chance(0.03):
            self.log.compact(topics.STATE_PREFIX + self.fold.name, int(self.random.integers(self.partitions)))
            self.note("compaction")
        for worker in list(self.workers):
            if worker.frozen:
                worker.frozen -= 1
            elif worker in self.workers:
                self.live(worker)

    # ------------------------------------------------------------ clients

    def write(self) -> None:
        """A client sends; where the acknowledgement is lost, it sends the same again."""
        for partition, rows in enumerate(self.inputs):
            for _ in range(int(self.random.integers(0, 4))):
                number = self.acknowledged[partition]
                if number >= len(rows):
                    break
                sequence = self.unanswered.get(partition)
                if sequence is None:
                    sequence = self.client.next_sequence(self.topic, partition)
                    assert len(self.unanswered) <= self.partitions, "what clients have in flight grows without bound"
                times = 2 if self.chance(0.05) else 1
                if times == 2:
                    self.note("duplicate", f"request of input {number} arrives twice")
                for _ in range(times):
                    self.client.send(self.topic, partition, *rows[number], sequence=sequence)
                if self.chance(0.08):
                    self.note("lost acknowledgement", f"of input {number} in partition {partition}")
                    self.unanswered[partition] = sequence
                    break
                self.unanswered.pop(partition, None)
                self.acknowledged[partition] += 1

    # ------------------------------------------------------------ workers

    def live(self, worker: Worker) -> None:
        """One worker opens what is its own, reads, and processes."""
        before, self.busy = self.busy, worker
        try:
            for partition in [p for p in worker.tasks if self.owner[p] is not worker]:
                if self.chance(0.7):  # it may hear late that a partition was taken from it
                    self.drop(worker, partition)
            for partition in [p for p, owner in self.owner.items() if owner is worker and p not in worker.tasks]:
                self.open(worker, partition)
            self.fetch(worker)
            self.process(worker)
            for partition, (left, prepared) in list(worker.pending.items()):
                worker.pending[partition] = (left - 1, prepared)
                if left <= 0:
                    self.end(worker, partition)
        except (
            GapError
        ) as error:  # batches of an assignment before: the process ends, the next one reads from the state
            self.note("stale batches", error)
            self.crash(worker)
        except (CrashedError, KafkaException):
            self.crash(worker)
        finally:
            self.busy = before

    def open(self, worker: Worker, partition: int) -> None:
        """Fence the former owner, load, read on at the state's own offset."""
        assert self.owner[partition] is worker, "a store is opened for a partition that is not owned"
        task = Task(self.fold, self.place, partition, self.metrics)  # type: ignore[arg-type]
        worker.tasks[partition] = task
        worker.positions[partition] = task.position(self.topic) or 0

    def drop(self, worker: Worker, partition: int) -> None:
        worker.tasks.pop(partition, None)
        worker.pending.pop(partition, None)
        worker.positions.pop(partition, None)

    def fetch(self, worker: Worker) -> None:
        """Batches arrive, in any order of the partitions, and may wait before they are processed."""
        for partition in self.random.permutation(list(worker.positions)):
            if sum(len(raws) for _, _, raws in worker.held) >= HELD_MAX or self.chance(0.2):
                continue
            position = worker.positions[partition]
            if self.chance(0.04):
                position = int(self.random.integers(0, position + 1))
                self.note("redelivery", f"of partition {partition} from {position}")
            rows = self.log.read(self.topic, int(partition), position)[: int(self.random.integers(1, BATCH_MAX))]
            if not rows:
                continue
            delay = 0
            if self.chance(0.1):
                delay = int(self.random.integers(1, 5))
                self.note("delay", f"a batch of partition {partition} waits {delay} turns")
            raws = [Raw(self.topic, int(partition), e.offset, e.timestamp_ms, e.key, e.value, e.headers) for e in rows]
            worker.held.append((delay, int(partition), raws))
            worker.positions[partition] = rows[-1].offset + 1
        assert sum(len(raws) for _, _, raws in worker.held) <= HELD_MAX + BATCH_MAX, "a worker's hands overflow"

    def process(self, worker: Worker) -> None:
        """Process what has arrived; the order within a partition stays."""
        waiting: set[int] = set()
        kept = []
        held, worker.held = worker.held, []
        if len({partition for _, partition, _ in held}) > 1 and self.chance(0.3):
            held.sort(key=lambda one: one[1], reverse=self.chance(0.5))
            self.note("reorder across partitions")
        for delay, partition, raws in held:
            if delay or partition in waiting:
                waiting.add(partition)
                kept.append((max(0, delay - 1), partition, raws))
            elif worker.frozen:
                kept.append((0, partition, raws))
            else:
                self.deliver(worker, partition, raws)
        worker.held += kept

    def deliver(self, worker: Worker, partition: int, raws: list[Raw]) -> None:
        """What is not held is of the assignment before: to open its store would fence the owner."""
        if partition in worker.tasks:
            self.commit(worker, partition, raws)

    def commit(self, worker: Worker, partition: int, raws: list[Raw]) -> None:
        """One batch through the task; something may go wrong at each of its writes."""
        fault = self.random.random()
        if fault < 0.08:
            self.writes_left = int(self.random.integers(0, 12))
        elif fault < 0.12:
            self.note("zombie", f"worker {worker.number} sleeps past its session with {len(raws)} inputs")
            worker.frozen = int(self.random.integers(1, 6))
            worker.held.append((0, partition, raws))
            for taken in [p for p, owner in self.owner.items() if owner is worker]:
                self.move(taken, "rebalance")
            return
        task = worker.tasks[partition]
        try:
            prepared = task.prepare(raws)  # while the transaction before may still be on its way
            if prepared is not None:
                if partition in worker.pending:
                    self.end(worker, partition)
                if worker.tasks.get(partition) is task:
                    task.write(prepared)
                    worker.pending[partition] = (0, prepared)
        except FencedError:
            self.drop(worker, partition)
        finally:
            self.writes_left = None
        if 0.12 <= fault < 0.16:
            self.note("crash with a transaction open", f"worker {worker.number}")
            raise CrashedError
        if 0.16 <= fault < 0.20 and partition in worker.pending:
            self.note("slow disk", f"a commit of worker {worker.number} takes its time")
            worker.pending[partition] = (int(self.random.integers(1, 5)), worker.pending[partition][1])

    def end(self, worker: Worker, partition: int) -> None:
        """Commit what is written."""
        _, prepared = worker.pending.pop(partition)
        try:
            worker.tasks[partition].commit(prepared)
        except FencedError:
            self.drop(worker, partition)
        fault = self.random.random()
        if fault < 0.03:
            self.note("crash after the commit", f"worker {worker.number}")
            raise CrashedError
        if fault < 0.06:
            self.note("lost acknowledgement of a commit", f"worker {worker.number} takes it for failed and ends")
            raise CrashedError

    def before_write(self, what: str) -> None:
        """A process may die at any write; a slow disk lets others act in between."""
        if self.writes_left is not None:
            self.writes_left -= 1
            if self.writes_left < 0:
                self.writes_left = None
                self.note("crash at a write", what)
                raise CrashedError
        if self.depth == 0 and self.chance(0.01):
            self.note("slow disk", f"others go on before {what}")
            self.depth, left, self.writes_left = 1, self.writes_left, None
            try:
                for _ in range(int(self.random.integers(1, NESTED_MAX))):
                    if self.chance(0.5):
                        self.move(int(self.random.integers(self.partitions)), "rebalance in mid-batch")
                    self.turn_of_others()
            finally:
                self.depth, self.writes_left = 0, left

    def turn_of_others(self) -> None:
        for worker in list(self.workers):
            if worker is not self.busy and not worker.frozen:
                self.live(worker)

    def move(self, partition: int, fault: str) -> None:
        """The group gives a partition to another worker."""
        others = [worker for worker in self.workers if worker is not self.owner[partition] and not worker.frozen]
        if not others:
            others = [self.start()]
        self.owner[partition] = others[int(self.random.integers(len(others)))]
        self.note(fault, f"partition {partition} goes to worker {self.owner[partition].number}")

    def start(self) -> Worker:
        worker = Worker(self.started)
        self.started += 1
        self.workers.append(worker)
        return worker

    def crash(self, worker: Worker) -> None:
        """The process is gone; a supervisor starts another, and the group gives it what was left."""
        if worker in self.workers:
            self.workers.remove(worker)
        new = self.start()
        for partition, owner in self.owner.items():
            if owner is worker:
                self.owner[partition] = new


def log_for(fold: Fold[Any], partitions: int) -> Log:
    """A log with every topic, and the fold's state topic."""
    log = Log(now_ms=START_MS)
    for topic in topics.TOPICS:
        log.create(topic.name, partitions if topic in fold.inputs else topic.partitions)
    log.create(topics.STATE_PREFIX + fold.name, partitions)
    return log


def loaded_offset(entries: dict[bytes, bytes | None], topic: str) -> int:
    """The next offset that a changelog tells of."""
    header = entries.get(b"\x00offsets")
    return int(json.loads(header)["offsets"].get(topic, 0)) if header else 0
