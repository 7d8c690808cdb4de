"""The settings of an embedded broker: one node that is broker and controller, small and quick.

Pure: text from numbers and paths. Everything that is not Kafka's default is here with its reason, so that a difference from
a production cluster can be found in one place.
"""

from collections.abc import Mapping
from pathlib import Path

NODE_ID = 1

# One node: nothing can be replicated. Few internal partitions: every one costs files and start time.
SINGLE_NODE = {
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
}

# A person or a test waits for this broker.
QUICK = {
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
    "group.consumer.min.session.timeout.ms": "500",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "500",
    "group.coordinator.append.linger.ms": "1",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "log.cleaner.backoff.ms": "5000",
    "controlled.shutdown.enable": "false",
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",  # after a kill -9 the node waits this long for its own former self
    "initial.broker.registration.timeout.ms": "30000",
    "metadata.max.idle.interval.ms": "5000",
    "controller.quorum.election.timeout.ms": "200",
    "controller.quorum.election.backoff.max.ms": "200",
}

# It shares a laptop with all the services.
SMALL = {
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "num.replica.fetchers": "1",
    "num.recovery.threads.per.data.dir": "1",
    "log.cleaner.dedupe.buffer.size": "8388608",
    "log.index.size.max.bytes": "1048576",
    "group.coordinator.threads": "1",
    "group.share.enable": "false",
    "log.segment.bytes": "268435456",
    "socket.send.buffer.bytes": "1048576",
    "socket.receive.buffer.bytes": "1048576",
}

# A misspelt topic has to be an error, as in production, and doctor says what to run.
STRICT = {"auto.create.topics.enable": "false", "delete.topic.enable": "true"}


def properties(*, port: int, controller_port: int, data: Path, overrides: Mapping[str, str]) -> dict[str, str]:
    """The whole configuration; `overrides` win.

    Args:
        port: where clients connect, on 127.0.0.1 only.
        controller_port: where the node talks to itself.
        data: folder of the logs.
        overrides: broker settings of the caller, for tests of limits and time-outs.
    """
    listeners = f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}"
    return {
        "process.roles": "broker,controller",
        "node.id": str(NODE_ID),
        "controller.quorum.voters": f"{NODE_ID}@127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listeners": listeners,
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(data),
        **SINGLE_NODE,
        **QUICK,
        **SMALL,
        **STRICT,
        **overrides,
    }


def render(settings: Mapping[str, str]) -> str:
    """A Java properties file."""
    return "".join(f"{name}={value.replace(chr(92), chr(92) * 2)}\n" for name, value in settings.items())
