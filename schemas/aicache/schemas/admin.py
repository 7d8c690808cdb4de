"""Creates the topics of a deployment and says how those that exist differ from the table.

Boundary: confluent-kafka's AdminClient. Nothing is ever deleted or shrunk: what cannot be mended in place is reported.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from aicache.schemas.topics import Topic, all_topics, topic_name

TIMEOUT_S = 30.0
SHOWN_TIMEOUT_S = 30.0
Settings = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class Difference:
    """How a topic differs from the table.

    Attributes:
        topic: full name.
        what: `missing`, `partitions`, or the name of a setting.
        got: as it is.
        needed: as the table says.
        mend: what to do about it.
    """

    topic: str
    what: str
    got: str
    needed: str
    mend: str


def create_topics(
    config: Settings, prefix: str = "", *, topics: Iterable[Topic] | None = None, replication: int = 1
) -> list[str]:
    """Create what is missing and set what is set wrong.

    Args:
        config: settings of librdkafka, at least `bootstrap.servers`.
        prefix: of the deployment.
        topics: which ones; all of the table where none are given.
        replication: copies of each partition of new topics; -1: the broker's default.

    Returns:
        The full names of the topics that were created or changed; empty where all was well.

    Raises:
        KafkaException: the broker cannot be reached or refuses.
    """
    wanted = list(all_topics() if topics is None else topics)
    admin = AdminClient(dict(config))
    existing = set(admin.list_topics(timeout=TIMEOUT_S).topics)
    missing = [topic for topic in wanted if topic_name(prefix, topic) not in existing]
    new = [
        NewTopic(
            topic_name(prefix, topic),
            num_partitions=topic.partitions,
            replication_factor=replication,
            config=dict(topic.config),
        )
        for topic in missing
    ]
    for future in (admin.create_topics(new, operation_timeout=TIMEOUT_S) if new else {}).values():
        _done_or_there(future)
    _wait_until_shown(admin, {topic_name(prefix, topic): topic for topic in missing})
    changed = sorted(
        {found.topic for found in check_topics(config, prefix, topics=wanted) if found.what in _settable(wanted)}
    )
    altered = {name: next(topic for topic in wanted if topic_name(prefix, topic) == name) for name in changed}
    for name, topic in altered.items():
        _alter(admin, name, topic)
    _wait_until_shown(admin, altered)
    return sorted({new_topic.topic for new_topic in new} | set(changed))


def check_topics(config: Settings, prefix: str = "", *, topics: Iterable[Topic] | None = None) -> list[Difference]:
    """Compare the topics of a deployment with the table.

    Args:
        config: settings of librdkafka, at least `bootstrap.servers`.
        prefix: of the deployment.
        topics: which ones; all of the table where none are given.

    Returns:
        What differs, with what to do about it; empty where all is well.

    Raises:
        KafkaException: the broker cannot be reached or refuses.
    """
    wanted = {topic_name(prefix, topic): topic for topic in (all_topics() if topics is None else topics)}
    admin = AdminClient(dict(config))
    existing = admin.list_topics(timeout=TIMEOUT_S).topics
    settings = _settings(admin, [name for name in wanted if name in existing])
    found: list[Difference] = []
    for name, topic in wanted.items():
        if name not in settings:
            found.append(Difference(name, "missing", "no such topic", "the topic", "aicache topics create"))
            continue
        partitions = len(existing[name].partitions)
        if partitions != topic.partitions:
            found.append(
                Difference(
                    name,
                    "partitions",
                    str(partitions),
                    str(topic.partitions),
                    "delete the topic if its records may go, then run: aicache topics create",
                )
            )
        found += [
            Difference(name, key, settings[name].get(key, "unset"), value, "aicache topics create")
            for key, value in topic.config.items()
            if settings[name].get(key) != value
        ]
    return found


def _settable(topics: Iterable[Topic]) -> set[str]:
    return {key for topic in topics for key in topic.config}


def _settings(admin: AdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    futures = admin.describe_configs(resources, request_timeout=TIMEOUT_S) if resources else {}
    found = {}
    for resource, future in futures.items():
        try:
            found[resource.name] = {key: entry.value for key, entry in future.result(TIMEOUT_S).items()}
        except KafkaException as error:  # listed by one broker, not known to this one yet
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
    return found


def _alter(admin: AdminClient, name: str, topic: Topic) -> None:
    entries = [
        ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in topic.config.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
    for future in admin.incremental_alter_configs([resource], request_timeout=TIMEOUT_S).values():
        future.result(TIMEOUT_S)


def _wait_until_shown(admin: AdminClient, wanted: Mapping[str, Topic]) -> None:
    """The controller answers first; the broker shows what is new a moment later, and a check would still find what was."""
    until_s = time.monotonic() + SHOWN_TIMEOUT_S
    while wanted and time.monotonic() < until_s:
        shown = _settings(admin, list(wanted))
        if all(
            shown.get(name, {}).get(key) == value
            for name, topic in wanted.items()
            for key, value in topic.config.items()
        ):
            return


def _done_or_there(future: Any) -> None:
    """Wait for a creation; somebody else creating the same topic meanwhile is as good."""
    try:
        future.result(TIMEOUT_S)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
