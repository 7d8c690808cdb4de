"""Models over a real broker: asynchronous rounds, an evaluation's curve, and the way back to an earlier version."""

from dataclasses import replace

import numpy as np
import pytest

from aicache.producers.connection import KafkaSettings
from aicache.producers.session import staleness_weight
from aicache.schemas.records import Aggregate, Envelope, ModelSpec, Proposal
from aicache.streams.rounds.kafka import rollback
from support.attacks import Broker, deployed
from support.deployment import Deployment, make_task
from support.rounds import DEPLOYMENT, Person, World

SPEC = ModelSpec(["tag:a"], ["tag:a", "tag:b"], step=1.0, momentum=0.0, window=1)


@pytest.fixture
def broker(kafka: KafkaSettings):
    broker = Broker(kafka)
    yield broker
    broker.close()


def until(play: Deployment, holds) -> None:
    for _ in range(600):
        if holds():
            return
        play.run(100)
        play.world.log.refresh(0.0)
    raise AssertionError(play.dead)


def play_on(broker: Broker, rounds: int) -> Deployment:
    world = World(log=broker, clients=5)
    return deployed(world, kind="model", length=4, labels=[], model=SPEC, rounds=rounds, deadline_ms=2_000)


def test_clients_that_start_from_the_older_model_of_the_window_count_with_less_weight(broker: Broker) -> None:
    play = play_on(broker, rounds=2)
    late = play.world.people[0]
    real = late.envelope

    def vector(person: Person, proposal: Proposal) -> np.ndarray:
        accepted = [version.version for version in proposal.model_versions]
        start = min(accepted) if person is late else max(accepted)
        return np.rint(np.full(proposal.length, 40) * staleness_weight(proposal, start)).astype(np.int64)

    def envelope(proposal, rho, digest, shares, place, keys, **more):
        oldest = min(version.version for version in proposal.model_versions)
        return real(proposal, rho, digest, shares, place, keys, model_version=oldest, **more)

    play.vector_of = vector
    late.envelope = envelope  # type: ignore[method-assign]
    until(play, lambda: len(play.aggregates()) == 2)
    second = [p for p in broker.records("aicache.rounds", Proposal) if p.number == 2][-1]
    assert [version.version for version in second.model_versions] == [1, 0]
    started = {
        e.sender: e.model_version
        for e in broker.records("aicache.envelopes", Envelope)
        if e.round_id == second.round_id and not e.member
    }
    assert started == {person.id: 0 if person is late else 1 for person in play.world.people}
    aggregate = play.aggregates()[-1]
    assert aggregate.n == 5
    assert np.array_equal(np.frombuffer(aggregate.sum, "<i8"), np.full(4, 4 * 40 + 28))


def test_an_evaluation_draws_the_curve_and_a_bad_model_is_rolled_back(broker: Broker, kafka: KafkaSettings) -> None:
    play = play_on(broker, rounds=2)
    play.vector_of = lambda person, proposal: (
        np.array([25, 50]) if proposal.kind == "evaluation" else np.full(proposal.length, 40)
    )
    until(play, lambda: len(play.aggregates()) == 2)
    fields = {"kind": "evaluation", "length": 2, "labels": [], "evaluates": "tags", "noise": "clients"}
    broker.append("aicache.tasks", make_task(task="quality", deployment=DEPLOYMENT, deadline_ms=2_000, **fields))

    def evaluated() -> bool:
        return any(model.metrics for model in play.models())

    until(play, evaluated)
    newest = play.models()[-1]
    (point,) = newest.metrics
    assert (point.name, point.value, point.n) == ("recall@v2", 0.5, 5)
    first = next(model for model in play.models() if model.version == 1)
    written = rollback(replace(kafka, deployment=DEPLOYMENT), "tags", 1)
    assert (written.version, written.parent, written.weights) == (newest.version + 1, 1, first.weights)
    until(play, lambda: play.state.models["tags"].version == written.version)
    assert play.state.models["tags"].weights == first.weights
    assert len(broker.records("aicache.insights.aggregates", Aggregate)) == 3
