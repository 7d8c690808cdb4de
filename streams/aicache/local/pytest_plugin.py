"""Fixtures with a real Kafka: `pytest -p aicache.local.pytest_plugin`.

`embedded_kafka` is one broker for the whole run; it starts when the first test asks for it. `kafka` gives a test a topic
prefix of its own on that broker, so that tests do not see each other.
"""

import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from aicache.producers.connection import KafkaSettings

if TYPE_CHECKING:
    from aicache.local.kafka import EmbeddedKafka

CREATE_TIMEOUT_S = 30.0


@pytest.fixture(scope="session")
def embedded_kafka() -> Iterator["EmbeddedKafka"]:
    """One Kafka for the whole run."""
    from aicache.local.kafka import EmbeddedKafka

    with EmbeddedKafka() as broker:
        yield broker


@pytest.fixture
def kafka(embedded_kafka: "EmbeddedKafka") -> KafkaSettings:
    """How to reach the shared Kafka under a prefix that no other test has."""
    name = f"t{uuid.uuid4().hex[:10]}"
    return embedded_kafka.settings(prefix=f"{name}.", deployment=name)


@pytest.fixture
def create_topic(kafka: KafkaSettings) -> Callable[..., str]:
    """A function `create_topic(name, partitions=1, **settings)`: makes it under the test's prefix, returns its full name."""

    def create(name: str, partitions: int = 1, **settings: str) -> str:
        from confluent_kafka.admin import AdminClient
        from confluent_kafka.cimpl import NewTopic

        full = kafka.name(name)
        config = {key.replace("_", "."): value for key, value in settings.items()}
        topic = NewTopic(full, num_partitions=partitions, replication_factor=1, config=config)
        admin = AdminClient(kafka.client_config())  # held by a name: its futures fail when it is collected
        admin.create_topics([topic], operation_timeout=CREATE_TIMEOUT_S)[full].result(CREATE_TIMEOUT_S)
        return full

    return create
