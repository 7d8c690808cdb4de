"""How to reach Kafka: the one value that every part of aicache takes.

Nothing here assumes the embedded broker: `security` is passed through to librdkafka as it is, so SASL and TLS work as
https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md says. Boundary: no Kafka library is imported.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from aicache.privacy.errors import LocalError

PREFIX_PATTERN = re.compile(r"^([A-Za-z0-9_-]+\.)*$")  # what Kafka allows in a topic's name, ended by a dot
PREFIX_LENGTH_MAX = 100
LOG_LEVEL = 3  # syslog's: librdkafka's errors are shown, its chatter is not; `security` can say otherwise
RESERVED = frozenset(
    {"bootstrap.servers", "client.id", "group.id", "transactional.id", "enable.auto.commit", "isolation.level"}
)


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """One Kafka, and which deployment on it.

    Args:
        bootstrap_servers: `host:port`, several with commas.
        prefix: put before every topic's, group's and transaction's name, `""` or ended by a dot: deployments can share a Kafka.
        deployment: what signatures are bound to: a record of another deployment never verifies here.
        security: settings of librdkafka such as `security.protocol`, `sasl.username`, `ssl.ca.location`.

    Raises:
        LocalError: an address, prefix or setting that cannot be right.
    """

    bootstrap_servers: str
    prefix: str = ""
    deployment: str = "aicache"
    security: Mapping[str, str | int | float | bool] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.bootstrap_servers.strip():
            raise LocalError(
                "bootstrap_servers is empty: give host:port", got=self.bootstrap_servers, needed="host:port"
            )
        if len(self.prefix) > PREFIX_LENGTH_MAX or not PREFIX_PATTERN.match(self.prefix):
            raise LocalError(
                f"the topic prefix {self.prefix!r} has to be empty or letters, digits, - and _ ended by a dot",
                got=self.prefix,
                needed=PREFIX_PATTERN.pattern,
            )
        if not self.deployment:
            raise LocalError("the deployment needs a name: signatures are bound to it", got="", needed="a name")
        taken = sorted(RESERVED.intersection(self.security))
        if taken:
            raise LocalError(
                f"{', '.join(taken)} cannot be set here: aicache sets it", got=taken, needed="other settings"
            )

    def client_config(self, **more: str | float | bool) -> dict[str, str | int | float | bool]:
        """What a confluent-kafka client takes; keywords have underscores for dots (`client_id` is `client.id`)."""
        config: dict[str, str | int | float | bool] = {
            "bootstrap.servers": self.bootstrap_servers,
            "log_level": LOG_LEVEL,
            **self.security,
        }
        config.update({name.replace("_", "."): value for name, value in more.items()})
        return config

    def reader_config(self, client_id: str, **more: str | float | bool) -> dict[str, str | int | float | bool]:
        """What a consumer takes that joins no group: it is assigned its places, sees what is committed, and commits nothing itself.

        Args:
            client_id: its name; also of the group that librdkafka wants and that is never joined.
            more: as in `client_config`; overrides.
        """
        return self.client_config(
            **{
                "client_id": client_id,
                "group_id": self.name(client_id),
                "enable_auto_commit": False,
                "enable_auto_offset_store": False,
                "enable_partition_eof": True,
                "auto_offset_reset": "earliest",
                "isolation_level": "read_committed",
                **more,
            }
        )

    def name(self, plain: str) -> str:
        """A topic's, group's or transaction's name in this deployment."""
        return self.prefix + plain
