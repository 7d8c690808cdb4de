"""Three real brokers on this machine: one that is also the controller, and two that a test can kill to move leaders."""

import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from aicache.local.kafka import JVM_FLAGS, EmbeddedKafka, _free_port
from aicache.producers.connection import KafkaSettings

NODES = 3
REPLICATED = {
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "replica.lag.time.max.ms": "5000",
}


class Node(EmbeddedKafka):
    """One broker of a cluster with a given name."""

    def __init__(self, cluster: str, **keywords: object) -> None:
        super().__init__(**keywords)  # type: ignore[arg-type]
        self._cluster = cluster

    def _format(self, java: str, class_path: str, config: Path) -> None:
        tool = [java, *JVM_FLAGS, "-cp", class_path, "kafka.tools.StorageTool"]
        subprocess.run([*tool, "format", "-t", self._cluster, "-c", str(config)], check=True, capture_output=True)


@contextmanager
def three_nodes() -> Iterator[tuple[list[Node], KafkaSettings]]:
    """The nodes, the first of them the controller, and how to reach them all."""
    cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
    controller = _free_port(())
    ports: list[int] = []
    for _ in range(NODES):
        ports.append(_free_port((controller, *ports)))
    nodes = []
    with ExitStack() as held:
        for number, port in enumerate(ports, 1):
            leads = number == 1
            listeners = f"PLAINTEXT://127.0.0.1:{port}" + (f",CONTROLLER://127.0.0.1:{controller}" if leads else "")
            settings = REPLICATED | {
                "node.id": str(number),
                "process.roles": "broker,controller" if leads else "broker",
                "controller.quorum.voters": f"1@127.0.0.1:{controller}",
                "listeners": listeners,
            }
            nodes.append(held.enter_context(Node(cluster, port=port, settings=settings)))
        yield nodes, KafkaSettings(",".join(f"127.0.0.1:{port}" for port in ports))
