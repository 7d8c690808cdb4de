"""What both shells promise, with real worker processes on a real broker. The same tests, run once a shell.

The oracle reads as a consumer does (`read_committed`): every item's newest count is how often it was sent, and no count ever
went back.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from aicache.producers.connection import KafkaSettings
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from aicache.schemas.records import DeadLetter
from aicache.streams.runtime.contract import Step
from aicache.streams.runtime.store import TaskStore
from support.counting import Counting, usage
from support.workers import CODEC, SHELLS, Crowd

KILLS = 2
BACKLOG_MB = 400
HELD_MB_MAX = {"direct": 120, "faust": 250}
"""What a worker's memory may grow by: what its client fetches ahead, and the batches in its hands. Faust bounds them in number only."""


@pytest.fixture(params=SHELLS)
def crowd(request: pytest.FixtureRequest, kafka: KafkaSettings, tmp_path: Path) -> Iterator[Crowd]:
    state = topics.state_topic(Counting.name, topics.USAGE.partitions)
    create_topics(kafka.client_config(), kafka.prefix, topics=[topics.USAGE, topics.TRENDS, topics.DEAD_LETTERS, state])
    found = Crowd(request.param, kafka, tmp_path)
    yield found
    found.close()


def kill_at_random(crowd: Crowd, seed: int, kills: int) -> None:
    dice = np.random.default_rng(seed)
    for _ in range(kills):
        worker = crowd.start().ready()
        goal = crowd.sent.total() + int(dice.integers(0, 300))
        crowd.use(400)
        crowd.until(min(goal, crowd.sent.total()))
        crowd.read(float(dice.random()) * 0.05)
        worker.send(signal.SIGKILL)
        worker.ended()
    crowd.start().ready()
    crowd.exact()


def test_what_was_sent_is_counted_once_whatever_instant_a_worker_is_killed_at(crowd: Crowd) -> None:
    """kill -9 of a worker: nothing is lost and nothing counts twice."""
    kill_at_random(crowd, 1, KILLS)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(2, 7))
def test_ten_kills_in_a_row_change_nothing(crowd: Crowd, seed: int) -> None:
    """kill -9 of a worker, ten in a row: nothing is lost and nothing counts twice."""
    kill_at_random(crowd, seed, 10)


def test_a_worker_that_is_told_to_stop_exits_0_and_the_next_goes_on_where_it_stood(crowd: Crowd) -> None:
    """graceful stop (SIGTERM): exit 0, the next worker goes on where it stood."""
    worker = crowd.start().ready()
    crowd.use(200)
    crowd.exact()
    worker.send(signal.SIGTERM)
    assert worker.ended() == 0, crowd.said()
    crowd.use(200)
    crowd.start().ready()
    crowd.exact()


def test_workers_that_join_and_leave_under_load_share_the_work(crowd: Crowd) -> None:
    """rebalance: a second worker joins, the first leaves, under load; each input counts once."""
    first = crowd.start().ready()
    crowd.use(300)
    second = crowd.start()
    crowd.use(300)
    crowd.exact()
    first.send(signal.SIGTERM)
    crowd.use(300)
    assert first.ended() == 0, crowd.said()
    second.ready()
    crowd.exact()


def test_a_frozen_worker_that_wakes_up_after_its_session_can_write_nothing(crowd: Crowd) -> None:
    """SIGSTOP past the session and SIGCONT (zombie): fenced; its successor's counts stand."""
    zombie = crowd.start().ready()
    crowd.use(200)
    crowd.exact()
    zombie.send(signal.SIGSTOP)
    crowd.use(200)
    # Opening the partitions is what fences: done here as a successor does it, without waiting for the session's end.
    successor = [TaskStore(crowd.kafka, Counting.name, p, Counting.version) for p in range(topics.USAGE.partitions)]
    before = [store.load() for store in successor]
    zombie.send(signal.SIGCONT)
    crowd.read(1.5)
    assert crowd.counts.total() == 200, "a zombie has written"
    assert [store.load() for store in successor] == before
    zombie.send(signal.SIGKILL)
    zombie.ended()
    crowd.start().ready()
    crowd.exact()


def test_poison_goes_to_dead_letters_and_what_follows_is_counted(crowd: Crowd) -> None:
    """poison records in a row: set aside with their origin, in the same transaction; the next ones are processed."""
    producer = Producer(crowd.kafka.client_config())
    for value in (b"\xc3\x01garbage!!", CODEC.encode(usage([], "poison")), b""):
        producer.produce(crowd.kafka.name(topics.USAGE.name), value, b"key", partition=1)
    assert producer.flush(30) == 0
    crowd.use(40)
    crowd.start().ready()
    crowd.exact()
    letters = [record for record in crowd.records(topics.DEAD_LETTERS) if isinstance(record, DeadLetter)]
    assert {(letter.partition, letter.offset) for letter in letters} == {(1, 0), (1, 1), (1, 2)}
    assert {letter.reason for letter in letters} == {"unknown-schema", "poison", "bad-framing"}


@pytest.mark.parametrize("committed", [0, 40])
def test_reading_goes_on_where_the_state_stands_whatever_the_group_has_committed(crowd: Crowd, committed: int) -> None:
    """the group's offsets set back (replay) or ahead: nothing is counted again, nothing is left out."""
    worker = crowd.start().ready()
    crowd.use(100)
    crowd.exact()
    worker.send(signal.SIGTERM)
    assert worker.ended() == 0, crowd.said()
    crowd.use(100)
    crowd.commit(crowd.kafka.name(f"aicache-{Counting.name}"), committed)
    crowd.start().ready()
    if crowd.shell == "faust" and committed > 25:
        crowd.supervise()  # Faust may have read from the group's offset: that is a gap, and the next start knows better
    crowd.exact()


def test_missing_records_end_the_process_instead_of_being_skipped(crowd: Crowd) -> None:
    """records deleted before they were read (gap): the process ends with an error, nothing is skipped."""
    worker = crowd.start().ready()
    crowd.use(100)
    crowd.exact()
    worker.send(signal.SIGTERM)
    worker.ended()
    crowd.use(100)
    admin = AdminClient(crowd.kafka.client_config())
    place = TopicPartition(crowd.kafka.name(topics.USAGE.name), 0, 40)
    for future in admin.delete_records([place]).values():
        future.result(30)
    worker = crowd.start()
    assert worker.ended() != 0
    assert "records are missing" in worker.log.read_text()


def test_a_state_of_a_version_that_cannot_be_read_is_refused(crowd: Crowd) -> None:
    """state of a newer version: refused, never misread."""
    store = TaskStore(crowd.kafka, Counting.name, 0, Counting.version + 1)
    store.write(Step(changed={b"a": b"1"}), {topics.USAGE.name: 0})
    store.commit()
    worker = crowd.start()
    assert worker.ended() != 0
    assert "another version" in worker.log.read_text()


def test_a_slow_worker_reads_no_faster_than_it_folds(crowd: Crowd) -> None:
    """A fold slower than its input: reading waits for it, and memory stays bounded however much waits in the log."""
    worker = crowd.start(slow_s=0.1).ready()
    crowd.use(100)
    crowd.exact()
    before_mb = worker.peak_mb()
    crowd.use(BACKLOG_MB * 5, 1, size_bytes=200_000)
    crowd.exact()
    assert worker.peak_mb() - before_mb < HELD_MB_MAX[crowd.shell]
