"""One look at a Kafka: does it answer, is it new enough, who runs it.

librdkafka does not tell a broker's version. Kafka 4.0 took `inter.broker.protocol.version` out of the broker's
configuration, and every version before has it, so its presence says "older than 4.0" and its value says which (seen with 3.9.1).
"""

import logging
import time
from dataclasses import dataclass
from typing import Any

from aicache.privacy.errors import AicacheError, LocalError
from aicache.producers.connection import KafkaSettings

OLD_VERSION_KEYS = ("inter.broker.protocol.version", "zookeeper.connect")
SLICE_S = 0.5  # a call into librdkafka does not notice a Ctrl-C before it returns
NEEDED = "Kafka 4.0 or newer"


class UnreachableError(AicacheError):
    """Kafka does not answer: an infrastructure error, to be tried again, never a bad record."""

    unreachable = True


@dataclass(frozen=True, slots=True)
class Probed:
    """What one look found.

    Args:
        bootstrap_servers: where it was looked for.
        cluster: its id.
        brokers: how many there are.
        old_version: the version if it is older than 4.0, else empty.
        topics: name → number of partitions, internal topics left out.
    """

    bootstrap_servers: str
    cluster: str
    brokers: int
    old_version: str
    topics: dict[str, int]

    def require(self) -> None:
        """Refuse a Kafka that is too old."""
        if self.old_version:
            raise LocalError(
                f"the Kafka at {self.bootstrap_servers} is version {self.old_version}; aicache needs {NEEDED} "
                "(its consumer group protocol): upgrade it, or give another address",
                got=self.old_version,
                needed=NEEDED,
            )


def old_version(broker_settings: dict[str, str]) -> str:
    """The version of a broker that is older than 4.0, from its configuration; empty if it is not. Pure."""
    protocol, zookeeper = (broker_settings.get(key, "") for key in OLD_VERSION_KEYS)
    if protocol:
        return protocol.split("-")[0]
    return "3 with ZooKeeper" if zookeeper else ""


def probe(kafka: KafkaSettings, *, timeout_s: float) -> Probed:
    """Look once.

    Args:
        kafka: how to reach it.
        timeout_s: for the whole look, in seconds.

    Raises:
        UnreachableError: no broker answered in time; says what librdkafka said.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.admin._config import ConfigResource

    said: list[str] = []
    config: dict[str, Any] = dict(
        kafka.client_config(client_id="aicache-probe", socket_connection_setup_timeout_ms=5_000)
    )
    config["error_cb"] = lambda error: said.append(str(error.str()))
    admin = AdminClient(config, logger=_silent())
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            found = admin.list_topics(timeout=min(SLICE_S, timeout_s))
            break
        except KafkaException as error:
            admin.poll(0)  # delivers the complaints
            if time.monotonic() < deadline_s:
                continue
            # The last complaint names the address and the reason; the exception itself says only that time was up.
            telling = (text for text in reversed(said) if "refused" in text or "SSL" in text or "SASL" in text)
            reason = next(telling, said[-1] if said else error.args[0].str())
            raise UnreachableError(
                f"Kafka at {kafka.bootstrap_servers} does not answer: {reason}",
                got=reason,
                needed=f"an answer within {timeout_s:.0f} s",
            ) from None
    broker = next(iter(found.brokers))
    resource = ConfigResource(ConfigResource.Type.BROKER, str(broker))
    try:
        settings = admin.describe_configs([resource], request_timeout=timeout_s)[resource].result(timeout_s)
        version = old_version({name: str(entry.value or "") for name, entry in settings.items()})
    except KafkaException:
        version = ""  # not everybody may read a broker's configuration: then the consumers will tell
    topics = {name: len(topic.partitions) for name, topic in found.topics.items() if not name.startswith("__")}
    return Probed(kafka.bootstrap_servers, str(found.cluster_id), len(found.brokers), version, topics)


def _silent() -> logging.Logger:
    logger = logging.getLogger("aicache.probe")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger
