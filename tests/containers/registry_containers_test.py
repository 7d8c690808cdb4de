"""Confluent framing through a real registry and a real Kafka, each in its container."""

import json
import subprocess
import sys
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer

from aicache.privacy.errors import LocalError, RemoteError
from aicache.schemas.admin import check_topics, create_topics
from aicache.schemas.catalog import RECORD_TYPES
from aicache.schemas.codec import Codec
from aicache.schemas.records import RoundClosed
from aicache.schemas.registry import LEVEL, ConfluentFraming, Registry, register_all
from aicache.schemas.topics import DEAD_LETTERS, all_topics
from support.sample_records import samples

pytestmark = pytest.mark.containers
POLL_S = 30.0


@pytest.fixture
def registry(registry_url: str) -> Any:
    made = Registry(registry_url)
    register_all(made)
    yield made
    made.close()


def test_every_record_goes_through_kafka_and_is_read_with_the_registrys_schema(registry: Registry, broker: str) -> None:
    create_topics({"bootstrap.servers": broker}, "framing.", topics=[DEAD_LETTERS])
    topic = "framing." + DEAD_LETTERS.name
    writer = ConfluentFraming(registry)
    writer.check()
    producer = Producer({"bootstrap.servers": broker})
    for name, record in samples().items():
        producer.produce(topic, key=name, value=Codec(writer).encode(record))
    assert producer.flush(POLL_S) == 0
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "framing", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    reader = Codec(ConfluentFraming(registry))
    messages = consumer.consume(len(RECORD_TYPES), POLL_S)
    consumer.close()
    read = {message.key().decode(): message.value() for message in messages}
    assert {name: reader.decode(data, RECORD_TYPES[name]).record for name, data in read.items()} == samples()


def test_registering_again_changes_nothing(registry: Registry) -> None:
    assert registry.level() == LEVEL
    assert register_all(registry) == register_all(registry)


def test_the_registry_refuses_a_change_that_would_break_readers(registry: Registry) -> None:
    broken = {"type": "record", "name": "Vote", "namespace": "aicache", "fields": [{"name": "x", "type": "bytes"}]}
    with pytest.raises(LocalError, match="409"):
        registry._call("POST", "/subjects/aicache.Vote/versions", {"schema": json.dumps(broken)})


def test_an_id_that_the_registry_does_not_know_is_refused(registry: Registry) -> None:
    with pytest.raises(RemoteError) as caught:
        Codec(ConfluentFraming(registry)).decode(b"\x00\x7f\xff\xff\xffbody", RoundClosed)
    assert caught.value.reason == "unknown-schema"


def test_a_schema_of_somebody_else_in_the_registry_is_refused(registry: Registry) -> None:
    other = {"type": "record", "name": "Other", "fields": [{"name": "x", "type": "bytes"}]}
    found = registry._call("POST", "/subjects/Other/versions", {"schema": json.dumps(other)})
    assert found
    with pytest.raises(RemoteError) as caught:
        Codec(ConfluentFraming(registry)).decode(b"\x00" + found["id"].to_bytes(4, "big") + b"\x02x", RoundClosed)
    assert caught.value.reason == "unknown-schema"


def test_topics_are_created_registered_and_checked_from_the_command_line(registry_url: str, broker: str) -> None:
    words = [sys.executable, "-m", "aicache.cli.main", "--kafka", broker, "--prefix", "commands."]
    words += ["--set", f"registry.url={registry_url}", "topics"]
    created = subprocess.run([*words, "create", "--json"], capture_output=True, text=True, check=True, timeout=60)
    printed = json.loads(created.stdout)
    assert len(printed["changed"]) == len(all_topics())
    assert set(printed["schemas"]) == {f"aicache.{name}" for name in RECORD_TYPES}
    assert subprocess.run([*words, "check"], timeout=60).returncode == 0
    assert check_topics({"bootstrap.servers": broker}, "commands.") == []
