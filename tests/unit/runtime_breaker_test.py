"""The breaker and the check of topics, with the runtime's own tasks over the simulated log: quick, and in every run."""

from collections.abc import Iterator

import pytest

from aicache.privacy.errors import RemoteError
from aicache.schemas import topics
from aicache.schemas.codec import Codec
from aicache.streams.runtime.contract import Batch, Step
from aicache.streams.runtime.tasks import BREAKER_MESSAGES, BreakerError, GapError, Raw, Task
from simulation.log import Log
from simulation.store import Place, simulated_tasks
from simulation.workers import log_for
from support.counting import Counting, usage

GOOD = Codec().encode(usage(["a"]))
BAD = b"garbage"
USAGE = topics.USAGE.name
LETTERS = topics.DEAD_LETTERS.name


class Broken(Counting):
    """A bad deploy: it can use nothing."""

    def apply(self, state: object, batch: Batch) -> Step:
        del state
        return Step(dead=[(message, RemoteError("no", reason="broken")) for message in batch.messages])


@pytest.fixture
def log() -> Iterator[Log]:
    with simulated_tasks():
        yield log_for(Counting(), 1)


def send(log: Log, *values: bytes) -> None:
    producer = log.producer()
    for value in values:
        producer.send(USAGE, 0, b"", value)


def task_of(log: Log, fold: Counting | None = None, **more: int) -> Task:
    return Task(fold or Counting(), Place(log), 0, **more)  # type: ignore[arg-type]


def read_on(log: Log, task: Task, batch: int) -> None:
    """Process what is there in batches, as a worker does."""
    rows = log.read(USAGE, 0, task.position(USAGE) or 0)
    for start in range(0, len(rows), batch):
        task.process([Raw(USAGE, 0, e.offset, 0, b"", e.value) for e in rows[start : start + batch]])


def set_aside(log: Log) -> int:
    return len(log.read(LETTERS, 0))


@pytest.mark.parametrize("batch", [1, 30, 1_000])
def test_poison_is_left_in_the_log_however_often_the_worker_is_started(log: Log, batch: int) -> None:
    send(log, *[BAD] * 500)
    for _ in range(5):
        with pytest.raises(BreakerError, match="--let-fail"):
            read_on(log, task_of(log), batch)
        assert set_aside(log) <= BREAKER_MESSAGES / 2


def test_a_processor_that_was_mended_goes_on_at_once(log: Log) -> None:
    send(log, *[GOOD] * 300)
    with pytest.raises(BreakerError, match="'broken'"):
        read_on(log, task_of(log, Broken()), 20)
    lost = set_aside(log)
    task = task_of(log)
    read_on(log, task, 20)
    assert task.state["a"] == 300 - lost
    assert set_aside(log) == lost


def test_an_operator_lets_bad_inputs_pass_once(log: Log) -> None:
    send(log, *[BAD] * 300, GOOD)
    task = task_of(log, let_fail=300)
    read_on(log, task, 50)
    assert task.state["a"] == 1
    assert set_aside(log) == 300
    send(log, *[BAD] * 400)
    with pytest.raises(BreakerError):
        read_on(log, task_of(log), 50)


def test_a_few_bad_inputs_among_many_stop_nobody(log: Log) -> None:
    send(log, *[BAD, GOOD, GOOD] * 400)
    task = task_of(log)
    read_on(log, task, 7)
    assert (task.state["a"], set_aside(log)) == (800, 400)


@pytest.mark.parametrize("records", [1, 60])
def test_a_topic_made_anew_is_refused_whatever_it_holds(log: Log, records: int) -> None:
    send(log, *[GOOD] * 20)
    task = task_of(log)
    read_on(log, task, 10)
    log.delete(USAGE)
    log.create(USAGE)
    send(log, *[GOOD] * records)
    with pytest.raises(GapError, match="made anew"):
        task_of(log)
    with pytest.raises(
        GapError, match="made anew"
    ):  # and under a task that is open, by the first record that looks like one it has seen
        task.process([Raw(USAGE, 0, 0, 0, b"", GOOD)])


def test_the_place_is_that_of_what_is_committed_not_of_what_is_in_hand(log: Log) -> None:
    send(log, GOOD, GOOD)
    task = task_of(log)
    prepared = task.prepare([Raw(USAGE, 0, 0, 0, b"", GOOD)])
    assert prepared is not None
    assert task.position(USAGE) is None, "a watchdog would take a worker that hangs for an idle one"
    task.write(prepared)
    assert task.position(USAGE) is None
    task.commit(prepared)
    assert task.position(USAGE) == 1
