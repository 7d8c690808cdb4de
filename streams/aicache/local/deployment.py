"""Everything on one machine: a Kafka, its topics, and every service as a process of its own.

`aicache up` and `aicache demo` are two ways to run one of these. It ends with this process, however that ends.
"""

import hashlib
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from aicache.local import address, operator
from aicache.local.kafka import EmbeddedKafka
from aicache.local.supervisor import Service, Supervisor
from aicache.privacy.errors import LocalError
from aicache.producers.connection import KafkaSettings
from aicache.schemas.admin import create_topics
from aicache.streams.committee import commands
from aicache.streams.committee.store import FILE as MEMBER_STORE

WORKERS = ("recommendations", "merging", "private-tables", "anomalies", "incidents", "trends")


@dataclass(frozen=True, slots=True)
class Plan:
    """What shall run.

    Args:
        folder: for everything that is kept: Kafka's data, logs, keys of committee and operator.
        members: committee members, a process each.
        threshold: how many open a sum.
        services: names to run; empty: all.
        kafka: an existing Kafka; None: an embedded one.
        prefix: of topics, for the embedded one.
        deployment: what signatures are bound to, for the embedded one.
        port: of the embedded one; 0: a free one.
        before: arguments before each command, as `("--config", "x.toml")`.
        ready_timeout_s: how long a service may take to be ready.
        admission: "open" or "manual"; empty: as configured.
    """

    folder: Path
    members: int = 5
    threshold: int = 3
    services: Sequence[str] = ()
    kafka: KafkaSettings | None = None
    prefix: str = ""
    deployment: str = "aicache"
    port: int = 0
    before: Sequence[str] = ()
    ready_timeout_s: float = 60.0
    admission: str = ""

    @property
    def operator_key(self) -> Path:
        """The file of the operator's key."""
        return self.folder / "operator.key"

    @property
    def committee_folder(self) -> Path:
        """The folder with one folder a member."""
        return self.folder / "committee"


def service_names(members: int) -> list[str]:
    """Every service, in the order in which they are listed."""
    return ["coordinator", *(f"member-{number}" for number in range(1, members + 1)), "reducer", *WORKERS]


def command_of(name: str) -> list[str]:
    """The words of the command line that run a service.

    Raises:
        LocalError: there is no such service.
    """
    kind, _, number = name.partition("-")
    if kind == "member" and number.isdigit():
        return ["committee", "run", "--member", number]
    if name in ("coordinator", "reducer"):
        return [name, "run"]
    if name in WORKERS:
        return ["worker", "run", name]
    raise LocalError(
        f"there is no service {name}", got=name, needed="one of: coordinator, member-N, reducer, " + ", ".join(WORKERS)
    )


class Deployment:
    """A running deployment; use it as a context manager.

    Args:
        plan: what shall run.
        on_change: called with (name, what) for Kafka, topics and each service: "started", "ready", "failed", "stopped".
    """

    def __init__(self, plan: Plan, on_change: Callable[[str, str], None] = lambda _name, _what: None) -> None:
        self.plan = plan
        self._on_change = on_change
        self._broker: EmbeddedKafka | None = None
        self._kafka: KafkaSettings | None = plan.kafka
        self.supervisor = Supervisor(
            plan.folder / "services", ready_timeout_s=plan.ready_timeout_s, on_change=on_change
        )

    @property
    def kafka(self) -> KafkaSettings:
        """How to reach it."""
        if self._kafka is None:
            raise LocalError("the deployment was not started", got="not started", needed="start() or a with block")
        return self._kafka

    @property
    def broker(self) -> EmbeddedKafka | None:
        """The embedded Kafka, if it is one."""
        return self._broker

    def start(self) -> Self:
        """Bring everything up; returns when every service reads.

        Raises:
            LocalError: Kafka does not come up, or its topics are wrong.
            ServiceFailedError: a service does not become ready.
        """
        try:
            self.plan.folder.mkdir(parents=True, exist_ok=True)
            self._start_kafka()
            self._make_topics()
            self._prepare()
            self.supervisor.start(self._services())
            self.supervisor.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Keep the services running until told otherwise or interrupted."""
        self.supervisor.run(until)

    def stop(self) -> None:
        """End everything in order: services first, so that they can still commit, then Kafka."""
        self.supervisor.stop()
        if self._broker is not None:
            address.withdraw(self.plan.folder)
            self._broker.stop()
            self._on_change("kafka", "stopped")
            self._broker = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_kafka(self) -> None:
        if self.plan.kafka is not None:
            return
        self._on_change("kafka", "started")
        self._broker = EmbeddedKafka(self.plan.folder / "kafka", port=self.plan.port or None)
        self._broker.start()
        self._kafka = self._broker.settings(prefix=self.plan.prefix, deployment=self.plan.deployment)
        address.publish(self.plan.folder, self._kafka.bootstrap_servers)
        self._on_change("kafka", "ready")

    def _make_topics(self) -> None:
        self._on_change("topics", "started")
        create_topics(self.kafka.client_config(), self.kafka.prefix, replication=-1)
        self._on_change("topics", "ready")

    def _prepare(self) -> None:
        """Make the keys that are not there yet: the operator's, and each member's."""
        public = operator.load_or_create(self.plan.operator_key).public_key().public_bytes_raw()
        for number in range(1, self.plan.members + 1):
            folder = self.plan.committee_folder / f"member-{number}"
            if not (folder / MEMBER_STORE).exists():
                commands.init(folder, number, deployment=self.kafka.deployment, operator_key=public)

    def _services(self) -> list[Service]:
        names = self.plan.services or service_names(self.plan.members)
        words = [sys.executable, "-m", "aicache.cli.main", *self.plan.before]
        # By variable, because a secret on a command line can be read by everybody on the machine.
        env = {
            "AICACHE_KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "AICACHE_KAFKA__PREFIX": self.kafka.prefix,
            "AICACHE_KAFKA__DEPLOYMENT": self.kafka.deployment,
            "AICACHE_COMMITTEE__FOLDER": str(self.plan.committee_folder),
            "AICACHE_COMMITTEE__MEMBERS": str(self.plan.members),
            "AICACHE_COMMITTEE__THRESHOLD": str(self.plan.threshold),
            "AICACHE_OPERATOR__KEY": str(self.plan.operator_key),
        }
        if self.plan.admission:
            env["AICACHE_OPERATOR__ADMISSION"] = self.plan.admission
        return [Service(name, [*words, *command_of(name), *self._instance(name)], env) for name in names]

    def _instance(self, name: str) -> list[str]:
        """A worker's name in its group: one that was killed takes its partitions back at once, and two deployments never share one."""
        if name not in WORKERS:
            return []
        place = f"{platform.node()}/{self.plan.folder.resolve()}"
        return ["--instance", f"{name}-{hashlib.sha256(place.encode()).hexdigest()[:12]}"]
