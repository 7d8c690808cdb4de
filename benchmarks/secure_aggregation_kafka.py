"""A round of 1,000 clients at d = 100,000 through an embedded Kafka: members, coordinator and reducer as processes, clients of the SDK.

All clients live in one process on one connection, so their arithmetic is one after the other; what they send is what 1,000
processes would send. Times are the broker's own: of the proposal, of the close, of the aggregate.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aicache.local.kafka import EmbeddedKafka
from aicache.producers.client import BlockingClient
from aicache.producers.connection import KafkaSettings
from aicache.producers.kafka import Hub
from aicache.producers.session import Limits, Pins
from aicache.schemas.admin import create_topics
from aicache.schemas.codec import Codec
from aicache.schemas.records import Aggregate, Manifest, Opening, Proposal, Record, RoundClosed, Task, Vote
from aicache.schemas.topics import topic
from aicache.streams.committee import commands
from aicache.streams.committee import limits as committee
from aicache.streams.rounds.kafka import create_task

CLIENTS = int(os.environ.get("AICACHE_BENCHMARK_CLIENTS", "1000"))
LENGTH = 100_000
MEMBERS, THRESHOLD = 5, 3
WAIT_S = 300
HEAD = (
    "import sys; from pathlib import Path; from aicache.producers.connection import KafkaSettings;"
    "servers, prefix, deployment, *rest = sys.argv[1:];"
    "settings = KafkaSettings(servers, prefix=prefix, deployment=deployment);"
)
SERVICES = {
    "member": "from aicache.streams.committee.commands import run; run(settings, Path(rest[0]))",
    "reducer": "from aicache.streams.reducer.kafka import run; run(settings)",
    "coordinator": (
        "from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey as K;"
        "from aicache.streams.rounds.agents import run; from aicache.streams.rounds.enrolment import Admission;"
        "run(settings, Admission('open', 100_000, K.from_private_bytes(bytes.fromhex(rest[0]))))"
    ),
}
READ = ("aicache.rounds", "aicache.votes", "aicache.openings", "aicache.insights.aggregates")


@contextmanager
def service(kind: str, settings: KafkaSettings, log: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HEAD + SERVICES[kind], settings.bootstrap_servers, settings.prefix]
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*command, settings.deployment, *arguments], stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
        assert process.stdout is not None
        process.stdout.close()


def task(deployment: str) -> Task:
    return Task(
        deployment=deployment,
        task="benchmark",
        version=1,
        state="active",
        kind="sum",
        description="a vector of 100,000 numbers from each client",
        purpose="benchmark",
        length=LENGTH,
        labels=[],
        clip=1.0,
        clipping="flat",
        layers=[],
        scale=10_000.0,
        noise="clients",
        noise_multiplier=2.0,
        honest=CLIENTS // 2,
        delta=1e-6,
        n_min=CLIENTS // 2 + 1,
        n_max=CLIENTS,
        deadline_ms=240_000,
        grace_ms=10_000,
        interval_ms=0,
        rounds=1,
        groups=1,
        robust="none",
        members=MEMBERS,
        threshold=THRESHOLD,
        parameters="n10k",
        sketch_depth=0,
        sketch_width=0,
        model=None,
        evaluates="",
    )


class Times:
    """When each kind of record first stood in the log, by the broker's clock."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.codec = Codec()
        self.first_ms: dict[type, int] = {}
        self.aggregate: Aggregate | None = None
        self.consumer = Consumer(
            settings.client_config(
                group_id=settings.name("benchmark"), enable_auto_commit=False, isolation_level="read_committed"
            )
        )
        self.consumer.assign([TopicPartition(settings.name(name), 0, OFFSET_BEGINNING) for name in READ])
        self.records = {settings.name(name): topic(name).records for name in READ}

    def read(self, until_s: float) -> Aggregate:
        while time.monotonic() < until_s:
            message = self.consumer.poll(0.2)
            if message is None or message.error() is not None:
                continue
            record: Record = self.codec.decode(message.value(), *self.records[message.topic()]).record
            self.first_ms.setdefault(type(record), message.timestamp()[1])
            if isinstance(record, Aggregate):
                return record
        raise TimeoutError(f"no aggregate; there were {sorted(kind.__name__ for kind in self.first_ms)}")


def run() -> dict[str, float | bool]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(EmbeddedKafka())
        settings = broker.settings(prefix="", deployment="benchmark")
        create_topics(settings.client_config(), settings.prefix, replication=1)
        return play(stack, settings, folder)


def deploy(stack: ExitStack, settings: KafkaSettings, folder: Path, *more: str) -> Hub:
    """Members, coordinator, reducer and other services as processes, ready; the hub of all clients."""
    operator = Ed25519PrivateKey.generate()
    public = operator.public_key().public_bytes_raw()
    budgets = {"*": committee.PurposeBudget(epsilon=50.0)}
    limits = committee.Limits(n_min=2, budgets=budgets, epsilon_round=20.0)
    processes = []
    for number in range(1, MEMBERS + 1):
        where = folder / f"member-{number}"
        commands.init(where, number, deployment=settings.deployment, operator_key=public, limits=limits)
        processes.append(stack.enter_context(service("member", settings, folder / f"{number}.log", str(where))))
    key = operator.private_bytes_raw().hex()
    processes.append(stack.enter_context(service("coordinator", settings, folder / "coordinator.log", key)))
    processes += [stack.enter_context(service(name, settings, folder / f"{name}.log")) for name in ("reducer", *more)]
    for process in processes:
        assert process.stdout is not None
        assert "ready" in process.stdout.readline(), [log.read_text()[-500:] for log in folder.glob("*.log")]
    hub = stack.enter_context(Hub(settings))
    assert hub.wait_for(lambda: len(hub.board.epoch_keys) == MEMBERS, WAIT_S)
    return hub


def play(stack: ExitStack, settings: KafkaSettings, folder: Path) -> dict[str, float | bool]:
    hub = deploy(stack, settings, folder)
    pins = Pins({record.member: record.identity_key for record in hub.board.epoch_keys.values()}, THRESHOLD)
    total = np.zeros(LENGTH, np.int64)
    sent = [0]

    def add(made) -> None:
        np.add(total, made.message, out=total)
        sent[0] += 1

    vector = np.random.default_rng(1).standard_normal(LENGTH)
    clients = [
        BlockingClient(hub, folder / f"client-{n}", pins=pins, limits=Limits(epsilon_round=20.0), on_contribution=add)
        for n in range(CLIENTS)
    ]
    for client in clients:
        client.join()
        client.allow("benchmark", lambda _task: vector)
    assert hub.wait_for(lambda: all(client.enrolled for client in clients), WAIT_S)
    times = Times(settings)
    create_task(settings, task(settings.deployment))
    aggregate = times.read(time.monotonic() + WAIT_S)
    first = times.first_ms
    figures: dict[str, float | bool] = {
        "kafka_exact": bool(np.array_equal(np.frombuffer(aggregate.sum, "<i8"), total)),
        "kafka_clients": float(aggregate.n),
        "kafka_round_s": (first[Aggregate] - first[Proposal]) / 1e3,
        "kafka_close_to_aggregate_s": (first[Aggregate] - first[RoundClosed]) / 1e3,
        "kafka_open_to_close_s": (first[RoundClosed] - first[Proposal]) / 1e3,
        "kafka_close_to_manifest_s": (first[Manifest] - first[RoundClosed]) / 1e3,
        "kafka_manifest_to_vote_s": (first[Vote] - first[Manifest]) / 1e3,
        "kafka_vote_to_opening_s": (first[Opening] - first[Vote]) / 1e3,
    }
    for client in clients:
        client.close()
    return figures
