"""Faults of groups of workers, for both shells: real sessions that run out, many rebalances, rolling restarts, one name twice.

The broker's sessions are short, so that what takes 45 s in production takes two here.
"""

import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from aicache.local.kafka import EmbeddedKafka
from support.workers import SHELLS, Crowd, create_counting_topics

SESSION_S = 2.0
REBALANCES = 10


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(settings={"group.consumer.session.timeout.ms": str(int(SESSION_S * 1_000))}) as found:
        yield found


@pytest.fixture(params=SHELLS)
def crowd(request: pytest.FixtureRequest, broker: EmbeddedKafka, tmp_path: Path) -> Iterator[Crowd]:
    kafka = broker.settings(prefix=f"t{uuid.uuid4().hex[:10]}.")
    create_counting_topics(kafka)
    found = Crowd(request.param, kafka, tmp_path, session_s=SESSION_S)
    yield found
    found.close()


@pytest.mark.faults
def test_a_worker_that_sleeps_past_its_session_wakes_up_to_find_its_partitions_taken(crowd: Crowd) -> None:
    """SIGSTOP past a session that really runs out, under load, and SIGCONT: the partitions go to another worker, whose counts stand."""
    zombie = crowd.start().ready()
    crowd.use(200)
    crowd.exact()
    crowd.use(400)  # some of it is in its hands
    zombie.send(signal.SIGSTOP)
    crowd.start().ready()
    crowd.use(200)
    crowd.exact()
    zombie.send(signal.SIGCONT)
    crowd.supervised = True
    for _ in range(5):
        crowd.use(100)
        crowd.exact()


@pytest.mark.faults
def test_ten_rebalances_in_a_row_under_load_come_to_rest(crowd: Crowd) -> None:
    """ten rebalances in a row under load, every second by kill -9: no livelock of workers that fence each other, no gap."""
    crowd.supervised = True
    crowd.start().ready()
    crowd.use(100)
    for number in range(REBALANCES // 2):
        guest = crowd.start()
        crowd.use(200)
        crowd.until(crowd.sent.total() - 150)
        guest.ready()
        crowd.use(200)
        guest.send(signal.SIGKILL if number % 2 else signal.SIGTERM)
        guest.ended()
    crowd.exact()
    assert crowd.revived <= REBALANCES, "workers fence each other"
    assert "records are missing" not in crowd.said() or crowd.shell == "faust"


@pytest.mark.faults
def test_every_worker_is_replaced_under_load_one_after_the_other(crowd: Crowd) -> None:
    """rolling restart of all workers under load: each ends with exit 0, nothing is lost and nothing counts twice."""
    crowd.supervised = True
    old = [crowd.start(), crowd.start()]
    old[0].ready()
    crowd.use(200)
    for worker in old:
        crowd.use(200)
        crowd.start().ready()
        crowd.use(200)
        worker.send(signal.SIGTERM)
        assert worker.ended() == 0, crowd.said()
        crowd.until(crowd.sent.total())
    crowd.exact()


@pytest.mark.faults
def test_two_workers_with_one_name_do_not_count_twice(crowd: Crowd) -> None:
    """two workers under one instance name: at most one of them stays, and each input counts once."""
    first = crowd.start(instance="worker-1").ready()
    crowd.use(200)
    crowd.exact()
    crowd.use(200)
    second = crowd.start(instance="worker-1")
    crowd.use(200)
    crowd.exact()
    ended = [worker for worker in (first, second) if worker.process.poll() is not None]
    if not ended:
        crowd.use(200)
        crowd.exact()
    assert [worker for worker in (first, second) if worker.process.poll() is None]
