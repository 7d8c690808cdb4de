"""Dead letters have a way back: the record counts once, for the processor that could not use it, and for no other."""

from collections import Counter

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from aicache.privacy.errors import LocalError, RemoteError
from aicache.producers.connection import KafkaSettings
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from aicache.schemas.codec import Codec
from aicache.schemas.records import DeadLetter
from aicache.streams.runtime.contract import Batch, Step
from aicache.streams.runtime.dead_letters import replay
from aicache.streams.runtime.tasks import Raw, Task
from support.counting import Counting, usage

CODEC = Codec()


class Narrow(Counting):
    """Cannot use Rust yet."""

    def apply(self, state: Counter[str], batch: Batch) -> Step:
        bad = [message for message in batch.messages if message.record.language == "rust"]
        step = super().apply(state, Batch(batch.partition, [m for m in batch.messages if m not in bad]))
        step.dead += [(message, RemoteError("not yet", reason="language")) for message in bad]
        return step


class Other(Counting):
    name = "recommendations"


@pytest.fixture
def deployment(kafka: KafkaSettings) -> KafkaSettings:
    states = [topics.state_topic(name, topics.USAGE.partitions) for name in (Counting.name, Other.name)]
    create_topics(
        kafka.client_config(), kafka.prefix, topics=[topics.USAGE, topics.TRENDS, topics.DEAD_LETTERS, *states]
    )
    return kafka


def log_of(kafka: KafkaSettings, count: int) -> list[Raw]:
    consumer = Consumer(kafka.client_config(group_id="reader"))
    consumer.assign([TopicPartition(kafka.name(topics.USAGE.name), 0, 0)])
    found = consumer.consume(count, 30)
    consumer.close()
    assert len(found) == count
    return [
        Raw(topics.USAGE.name, 0, m.offset(), m.timestamp()[1], m.key(), m.value(), m.headers() or ()) for m in found
    ]


def letter_of(offset: int) -> DeadLetter:
    return DeadLetter("test", Counting.name, topics.USAGE.name, 0, offset, 0, "language", "", 1)


def test_a_replayed_letter_counts_once_for_its_processor_alone_also_after_a_restart(deployment: KafkaSettings) -> None:
    producer = Producer(deployment.client_config())
    for language in ("python", "rust"):
        value = CODEC.encode(usage(["tag:a"], language))
        producer.produce(deployment.name(topics.USAGE.name), value, b"key", partition=0)
    assert producer.flush(30) == 0
    Task(Narrow(), deployment, 0).process(log_of(deployment, 2))
    other = Task(Other(), deployment, 0)
    other.process(log_of(deployment, 2))
    assert [replay(deployment, letter_of(1)) for _ in range(2)] == [2, 3]
    log = log_of(deployment, 4)
    assert log[1].value == log[2].value
    mended = Task(Counting(), deployment, 0)
    assert mended.state == Counter({"tag:a": 1})
    mended.process(log[:3])
    again = Task(Counting(), deployment, 0)
    again.process(log)
    assert again.state == Counter({"tag:a": 2})
    other.process(log)
    assert other.state == Counter({"tag:a": 2})
    assert other.position(topics.USAGE.name) == 4


def test_a_record_that_is_no_longer_there_cannot_be_replayed(deployment: KafkaSettings) -> None:
    with pytest.raises(LocalError, match="no longer has the record"):
        replay(deployment, letter_of(7))


def test_what_processors_wrote_is_not_replayed(deployment: KafkaSettings) -> None:
    letter = DeadLetter("test", "incidents", topics.TRENDS.name, 0, 0, 0, "malformed", "", 1)
    with pytest.raises(LocalError, match="only what clients wrote"):
        replay(deployment, letter)
