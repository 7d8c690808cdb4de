"""Faults of a cluster of three brokers, for both shells: leaders move while workers read and write."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from aicache.producers.connection import KafkaSettings
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from support.cluster import Node, three_nodes
from support.workers import SHELLS, TOPICS, Crowd


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[list[Node], KafkaSettings]]:
    with three_nodes() as found:
        yield found


@pytest.fixture(params=SHELLS)
def crowd(request: pytest.FixtureRequest, cluster, tmp_path: Path) -> Iterator[Crowd]:
    kafka = replace(cluster[1], prefix=f"t{uuid.uuid4().hex[:10]}.")
    create_topics(kafka.client_config(), kafka.prefix, topics=list(TOPICS), replication=3)
    found = Crowd(request.param, kafka, tmp_path)
    found.supervised = True
    yield found
    found.close()


def leaders(crowd: Crowd, topic: str) -> list[int]:
    found = AdminClient(crowd.kafka.client_config()).list_topics(timeout=30).topics[crowd.kafka.name(topic)]
    return [found.partitions[p].leader for p in sorted(found.partitions)]


@pytest.mark.faults
@pytest.mark.timeout(400)
def test_moving_leaders_cost_time_alone(crowd: Crowd, cluster) -> None:
    """leader change on a cluster of three nodes: each broker in turn is killed with kill -9 and comes back; each input counts once."""
    nodes, _ = cluster
    crowd.start().ready()
    crowd.use(200)
    crowd.exact()
    for node in nodes[1:]:
        number = nodes.index(node) + 1
        led = leaders(crowd, topics.USAGE.name) + leaders(crowd, topics.TRENDS.name)
        crowd.use(200)
        node.kill()
        crowd.use(200)
        crowd.exact(120)
        now = leaders(crowd, topics.USAGE.name) + leaders(crowd, topics.TRENDS.name)
        assert number not in now
        assert number not in led or now != led
        node.restart()
        crowd.use(200)
        crowd.exact(120)
