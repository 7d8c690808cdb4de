"""Tables from a private sum, through a real Kafka to a client that answers from them; what changes later follows by itself."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Producer

from aicache.producers import BlockingClient, Client, Hub, KafkaSettings
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from aicache.schemas.codec import Codec
from aicache.schemas.records import Aggregate
from aicache.schemas.topics import Topic
from support.pairs import BASKETS, LABELS, aggregate, declared
from support.processes import HEAD, Processes

WAIT_S = 30.0
SERVICE = (
    HEAD
    + """
from aicache.streams.recommendations.agents import run_private_tables
run_private_tables(settings)
"""
)


def write(kafka: KafkaSettings, topic: Topic, key: bytes, record: Aggregate) -> None:
    producer = Producer(kafka.client_config())
    producer.produce(kafka.name(topic.name), Codec().encode(record), key)
    assert producer.flush(WAIT_S) == 0


@pytest.fixture
def services(kafka: KafkaSettings, tmp_path: Path):
    create_topics(kafka.client_config(), kafka.prefix, replication=1)
    services = Processes(kafka, tmp_path)
    yield services
    services.stop()


def test_an_opened_sum_answers_on_the_client(kafka: KafkaSettings, services: Processes, tmp_path: Path) -> None:
    task = declared()
    write(kafka, topics.AGGREGATES, b"r-1", replace(aggregate(task), deployment=kafka.deployment))
    services.ready(services.start(SERVICE))
    with Hub(kafka) as hub, BlockingClient(hub, tmp_path / "client") as client:
        assert client.recommend_locally([LABELS[0]], "pypi", task="another") == []
        assert hub.wait_for(lambda: len(hub.tables.rows("together")) == len(LABELS), WAIT_S)
        best = client.recommend_locally([LABELS[0]], "pypi", 3, task="together")
        assert {found.item for found in best} == set(LABELS[1:4])
        assert [reason.item for reason in best[0].reasons] == [LABELS[0]]

        # The next round knows fewer labels: rows that are gone leave the client's tables, too.
        fewer = aggregate(replace(task, version=2, labels=LABELS[:8], length=36), 2, BASKETS[:800])
        write(kafka, topics.AGGREGATES, b"r-2", replace(fewer, deployment=kafka.deployment))
        assert hub.wait_for(lambda: len(hub.tables.rows("together")) == 8, WAIT_S)
        assert not hub.refused

    async def ask() -> list[str]:
        with Hub(kafka) as late:
            async with Client(late, tmp_path / "late") as client:
                return [found.item for found in await client.recommend_locally([LABELS[0]], "pypi", 3, task="together")]

    assert set(asyncio.run(ask())) == set(LABELS[1:4])
