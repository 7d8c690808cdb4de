"""Topics come out of the table, and what differs from it is named with its remedy."""

from collections.abc import Callable
from dataclasses import replace

from aicache.producers.connection import KafkaSettings
from aicache.schemas import topics
from aicache.schemas.admin import check_topics, create_topics


def test_creating_all_topics_leaves_nothing_to_mend(kafka: KafkaSettings) -> None:
    config = kafka.client_config()
    created = create_topics(config, kafka.prefix)
    assert created == sorted(kafka.name(topic.name) for topic in topics.all_topics())
    assert check_topics(config, kafka.prefix) == []
    assert create_topics(config, kafka.prefix) == []


def test_a_missing_topic_is_named_with_the_command_that_makes_it(kafka: KafkaSettings) -> None:
    found = check_topics(kafka.client_config(), kafka.prefix, topics=[topics.VOTES])
    assert [(difference.topic, difference.what) for difference in found] == [(kafka.name("aicache.votes"), "missing")]
    assert found[0].mend == "aicache topics create"


def test_wrong_partitions_and_retention_are_found_and_settings_are_mended(
    kafka: KafkaSettings, create_topic: Callable[..., str]
) -> None:
    create_topic("aicache.usage", partitions=2, retention_ms="1000")
    found = check_topics(kafka.client_config(), kafka.prefix, topics=[topics.USAGE])
    assert {difference.what for difference in found} == {"partitions", "retention.ms"}
    create_topics(kafka.client_config(), kafka.prefix, topics=[topics.USAGE])
    left = check_topics(kafka.client_config(), kafka.prefix, topics=[topics.USAGE])
    assert [(difference.what, difference.got, difference.needed) for difference in left] == [("partitions", "2", "4")]


def test_a_topic_of_another_deployment_on_the_same_kafka_is_left_alone(kafka: KafkaSettings) -> None:
    create_topics(kafka.client_config(), kafka.prefix, topics=[topics.VOTES])
    other = replace(kafka, prefix=f"other.{kafka.prefix}")
    assert check_topics(other.client_config(), other.prefix, topics=[topics.VOTES])[0].what == "missing"
