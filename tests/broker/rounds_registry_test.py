"""A whole round in the wire form of a schema registry: every service and client writes and reads what the registry numbers."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from aicache.local.deployment import Deployment, Plan
from aicache.local.reading import read_all
from aicache.producers import BlockingClient, Hub, KafkaSettings, Limit, Limits, Pins
from aicache.schemas import topics
from aicache.schemas.codec import SingleObject, use_framing
from aicache.schemas.records import Aggregate
from aicache.schemas.registry import ConfluentFraming, Registry, register_all
from aicache.streams.committee import commands
from aicache.streams.rounds.kafka import create_task
from support.deployment import make_task
from support.workers import TESTS

CLIENTS = 22
LABELS = ["tag:a", "tag:b", "tag:c"]
WAIT_S = 60


@pytest.fixture
def registry() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "support.run_registry", "0"], cwd=TESTS, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    url = f"http://127.0.0.1:{process.stdout.readline().split()[-1]}"
    known = Registry(url)
    register_all(known)
    use_framing(ConfluentFraming(known))
    yield url
    use_framing(SingleObject())
    known.close()
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_round_goes_through_a_registry(
    kafka: KafkaSettings, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AICACHE_REGISTRY__URL", registry)
    services = ["coordinator", *(f"member-{number}" for number in range(1, 6)), "reducer"]
    plan = Plan(tmp_path / "deployment", services=services, kafka=kafka, admission="open", deployment=kafka.deployment)
    with Deployment(plan) as deployment, Hub(kafka) as hub:
        pins = {n: commands.status(plan.committee_folder / f"member-{n}")["identity"] for n in range(1, 6)}
        limits = Limits(budgets={"*": Limit(50.0)}, n_min=2)
        clients = [
            BlockingClient(
                hub,
                tmp_path / f"client-{number}",
                pins=Pins({n: bytes.fromhex(key) for n, key in pins.items()}, 3),
                limits=limits,
            )
            for number in range(CLIENTS)
        ]
        for number, client in enumerate(clients):
            client.join(wait_s=WAIT_S)
            client.allow("tags", lambda _task, number=number: [LABELS[number % 3]])
        create_task(
            kafka,
            make_task(
                deployment=kafka.deployment,
                length=3,
                labels=LABELS,
                noise="clients",
                honest=11,
                n_min=20,
                n_max=CLIENTS,
                deadline_ms=30_000,
            ),
        )
        sent = hub.wait_for(lambda: all("sent" in client.outcomes.values() for client in clients), WAIT_S)
        assert sent, [client.outcomes for client in clients]
        deployment.run(until=lambda: bool(read_all(kafka, topics.AGGREGATES)))
        (aggregate,) = [seen.record for seen in read_all(kafka, topics.AGGREGATES)]
        for client in clients:
            client.close()
    assert isinstance(aggregate, Aggregate)
    assert aggregate.n == CLIENTS
    assert np.frombuffer(aggregate.sum, dtype="<i8").shape == (3,)
    assert all(seen.record is not None for seen in read_all(kafka, topics.ROUNDS, topics.VOTES, topics.ENVELOPES))
