"""Faults of the broker itself, for both shells: each test has a broker of its own."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from aicache.local.kafka import EmbeddedKafka
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from support.counting import Counting
from support.workers import SHELLS, Crowd


@pytest.fixture
def broker() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as found:
        yield found


@pytest.fixture(params=SHELLS)
def crowd(request: pytest.FixtureRequest, broker: EmbeddedKafka, tmp_path: Path) -> Iterator[Crowd]:
    kafka = broker.settings()
    state = topics.state_topic(Counting.name, topics.USAGE.partitions)
    create_topics(kafka.client_config(), "", topics=[topics.USAGE, topics.TRENDS, topics.DEAD_LETTERS, state])
    found = Crowd(request.param, kafka, tmp_path)
    yield found
    found.close()


@pytest.mark.faults
def test_a_broker_that_is_killed_and_comes_back_has_lost_nothing(crowd: Crowd, broker: EmbeddedKafka) -> None:
    """broker kill -9, restarted on the same data: every acknowledged input counts once."""
    crowd.start().ready()
    crowd.use(200)
    crowd.until(50)
    broker.kill()
    broker.restart()
    crowd.use(200)
    crowd.supervise()
    crowd.exact(120)


@pytest.mark.faults
def test_a_broker_that_does_not_answer_for_a_while_costs_time_alone(crowd: Crowd, broker: EmbeddedKafka) -> None:
    """broker frozen (unreachable) and thawed: every input counts once."""
    worker = crowd.start().ready()
    crowd.use(200)
    crowd.until(50)
    broker.freeze()
    crowd.read(12)
    broker.thaw()
    crowd.use(200)
    crowd.supervise()
    crowd.exact(120)
    worker.send(signal.SIGKILL)
