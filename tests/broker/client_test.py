"""The client on a real Kafka: what it sends is acknowledged and stands there, a restart of the broker loses nothing."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from aicache.local.kafka import EmbeddedKafka
from aicache.privacy.errors import LocalError
from aicache.privacy.statements import ciphertext_digest
from aicache.producers import (
    BlockingClient,
    Client,
    Hub,
    Insight,
    Insights,
    KafkaSettings,
    Limit,
    Limits,
    Pins,
)
from aicache.producers import kafka as client_kafka
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from aicache.schemas.codec import Codec
from aicache.schemas.records import (
    Enrolment,
    Envelope,
    JoinRequest,
    PartitionOffset,
    Recommendation,
    Recommended,
    UpdateChunk,
    UsageBatch,
)
from aicache.schemas.signing import signed, verify_record
from aicache.schemas.topics import Topic
from support.deployment import make_task
from support.rounds import World

WAIT_S = 30.0
CODEC = Codec()
CONTROL = (topics.COMMITTEE, topics.TASKS, topics.ENROLMENTS, topics.ROUNDS, topics.VOTES)


class Deployment:
    """A committee in memory whose records are copied to Kafka, and a client that knows only Kafka."""

    def __init__(self, settings: KafkaSettings) -> None:
        create_topics(settings.client_config(), settings.prefix)
        self.settings = settings
        self.producer = Producer(settings.client_config())
        now_ms = time.time_ns() // 1_000_000
        self.world = World(clients=0, deployment=settings.deployment, now_ms=now_ms, seed=settings.deployment)
        self.copied: dict[str, int] = {}
        roster = self.world.roster()
        self.pins = Pins({entry.member: entry.identity_key for entry in roster}, self.world.threshold)
        self.limits = Limits(budgets={"*": Limit(20.0)}, n_min=2)

    def write(self, topic: Topic, record: Any, key: bytes = b"k") -> None:
        self.producer.produce(self.settings.name(topic.name), CODEC.encode(record), key)
        assert self.producer.flush(WAIT_S) == 0

    def copy(self) -> None:
        """What is new in the committee's log goes to Kafka."""
        for topic in CONTROL:
            rows = self.world.log.topics.get(topic.name, [])
            for item in rows[self.copied.get(topic.name, 0) :]:
                self.write(topic, item.record)
            self.copied[topic.name] = len(rows)

    def enrol(self, client: BlockingClient | Client) -> None:
        identity = client.identity
        record = Enrolment(
            self.settings.deployment, identity.client, identity.public_key, self.world.now_ms, False, "", b""
        )
        self.world.log.append("aicache.enrolments", signed(record, self.world.operator))
        self.world.pump()
        self.copy()

    def propose(self, round_id: str, **changes: Any) -> None:
        self.world.propose(round_id, kind="histogram", length=3, **changes)
        self.copy()

    def read(self, topic: Topic, kind: type, count: int) -> list[Insight[Any]]:
        reader = Insights(self.settings, topic, kind, start="beginning", idle_s=WAIT_S)
        found: list[Insight[Any]] = []
        for insight in reader:
            found.append(insight)
            if len(found) == count:
                break
        reader.close()
        return found


@pytest.fixture
def there(kafka: KafkaSettings) -> Deployment:
    deployment = Deployment(kafka)
    task = replace(
        make_task(), deployment=kafka.deployment, kind="histogram", labels=["a", "b", "c"], length=3, deadline_ms=60_000
    )
    deployment.write(topics.TASKS, task, b"tags")
    deployment.copy()
    return deployment


@pytest.fixture
def hub(there: Deployment) -> Iterator[Hub]:
    with Hub(there.settings) as hub:
        yield hub


def test_a_client_joins_contributes_and_its_share_is_endorsed(there: Deployment, hub: Hub, tmp_path: Path) -> None:
    with BlockingClient(hub, tmp_path, pins=there.pins, limits=there.limits) as client:
        (place,) = client.join().acknowledged
        (request,) = there.read(topics.JOINS, JoinRequest, 1)
        assert (place.partition, place.offset) == (request.partition, request.offset)
        verify_record(request.record, request.record.public_key)
        client.allow("tags", lambda task: ["a", "a", task.labels[2]])
        there.propose("r0")
        there.enrol(client)
        assert hub.wait_for(lambda: "after the round was opened" in client.outcomes.get("r0", ""), WAIT_S)
        assert not client.spent(), "members would not endorse it"
        there.propose("r1")
        (sent,) = there.read(topics.ENVELOPES, Envelope, 1)
        envelope = sent.record
        verify_record(envelope, client.identity.public_key)
        pieces = {(p.partition, p.offset): p.record for p in there.read(topics.UPDATES, UpdateChunk, 1)}
        ciphertext = b"".join(pieces[envelope.place.partition, offset].data for offset in envelope.place.offsets)
        assert ciphertext_digest(envelope.rho, client.identity.client, ciphertext) == envelope.digest
        there.world.log.append("aicache.envelopes", envelope)
        there.world.pump()
        proposal = hub.board.rounds["r1"].proposal
        there.world.close(proposal, envelope.rho)
        assert there.world.endorsed("r1", 1)[client.identity.client] == envelope.digest
        assert hub.wait_for(lambda: client.outcomes.get("r1") == "sent", WAIT_S)
        assert client.spent()[0].rounds == 1


def test_a_round_is_contributed_to_once_whatever_is_restarted(there: Deployment, tmp_path: Path) -> None:
    for turn in range(2):
        with Hub(there.settings) as hub, BlockingClient(hub, tmp_path, pins=there.pins, limits=there.limits) as client:
            if turn == 0:
                there.enrol(client)
                there.propose("r1")
            client.allow("tags", lambda _task: ["a"])
            assert hub.wait_for(lambda: "r1" in client.outcomes, WAIT_S)
            hub.settle()
            hub.flush()
            outcome = client.outcomes["r1"]
        assert ("already" in outcome) == (turn == 1)
    found = there.read(topics.ENVELOPES, Envelope, 1)
    assert len(found) == 1


def test_usage_is_acknowledged_where_it_stands(there: Deployment, hub: Hub, tmp_path: Path) -> None:
    with BlockingClient(hub, tmp_path) as client:
        for _ in range(150):
            client.record("used", ["pypi:numpy"])
        places = client.flush().acknowledged
        found = {(i.partition, i.offset): i.record for i in there.read(topics.USAGE, UsageBatch, 2)}
        assert {(place.partition, place.offset) for place in places} == set(found)
        assert sum(len(record.events) for record in found.values()) == 150
        client.record("used", ["pypi:numpy"])
    assert len(there.read(topics.USAGE, UsageBatch, 3)) == 3, "closing publishes what is queued"


def test_an_event_that_fills_no_batch_is_published_by_itself(there: Deployment, hub: Hub, tmp_path: Path) -> None:
    with BlockingClient(hub, tmp_path / "client") as client:
        client.record("used", ["pypi:numpy"])
        assert client.queued == 1
        assert hub.wait_for(lambda: client.queued == 0, 30)
        assert len(client.flush().acknowledged) == 1


def test_a_dry_run_shows_all_and_sends_nothing(there: Deployment, hub: Hub, tmp_path: Path) -> None:
    with BlockingClient(hub, tmp_path, pins=there.pins, limits=there.limits, dry_run=True) as client:
        there.enrol(client)
        client.allow("tags", lambda _task: ["a"])
        there.propose("r1")
        assert hub.wait_for(lambda: client.outcomes.get("r1") == "withheld", WAIT_S)
        client.record("used", ["pypi:numpy"])
        shown = [*client.join().withheld, *client.flush().withheld, *client.withheld]
        assert {type(record) for record in shown} == {JoinRequest, UsageBatch, UpdateChunk, Envelope}
        assert not client.spent()
    for topic, kind in ((topics.JOINS, JoinRequest), (topics.USAGE, UsageBatch), (topics.UPDATES, UpdateChunk)):
        assert list(Insights(there.settings, topic, kind, start="beginning", idle_s=0.4)) == []


def test_the_client_for_asyncio_does_the_same(there: Deployment, hub: Hub, tmp_path: Path) -> None:
    async def play() -> None:
        async with Client(hub, tmp_path, pins=there.pins, limits=there.limits) as client:
            assert (await client.join()).acknowledged
            there.enrol(client)
            client.allow("tags", lambda _task: ["b"])
            there.propose("r1")
            assert await asyncio.to_thread(hub.wait_for, lambda: client.outcomes.get("r1") == "sent", WAIT_S)
            client.record("used", ["pypi:numpy"])
            assert len((await client.flush()).acknowledged) == 1
            await client.pause()
            with pytest.raises(LocalError, match="paused"):
                client.record("used", ["pypi:numpy"])
            await client.resume()
            reader = client.insights(topics.USAGE, UsageBatch, "beginning")
            async for insight in reader:
                assert insight.record.events[0].items == ["pypi:numpy"]
                break
            reader.close()
            await client.leave()
            with pytest.raises(LocalError, match="left"):
                await client.join()

    asyncio.run(play())


def test_recommendations_come_for_the_clients_own_pseudonym(there: Deployment, hub: Hub, tmp_path: Path) -> None:
    with BlockingClient(hub, tmp_path) as client:
        client.record("used", ["pypi:numpy"])
        client.flush()
        (usage,) = there.read(topics.USAGE, UsageBatch, 1)
        source = PartitionOffset(usage.partition, usage.offset)
        best = [Recommended("pypi:scipy", 1.0, []), Recommended("pypi:pandas", 0.5, [])]
        record = Recommendation(there.settings.deployment, usage.record.pseudonym, "pypi", 0, source, best)
        there.write(topics.RECOMMENDATIONS, replace(record, pseudonym=bytes(16)))
        there.write(topics.RECOMMENDATIONS, record)
        assert hub.wait_for(lambda: bool(client.recommend("pypi")), WAIT_S)
        assert [found.item for found in client.recommend("pypi", 1)] == ["pypi:scipy"]
        assert client.recommend("npm") == []


def test_a_reader_goes_on_where_an_earlier_one_stopped(there: Deployment, hub: Hub, tmp_path: Path) -> None:
    with BlockingClient(hub, tmp_path) as client:
        offsets = []
        for _ in range(3):
            client.record("used", ["pypi:numpy"])
            offsets += client.flush().acknowledged
        (partition,) = {place.partition for place in offsets}
        start = dict.fromkeys(range(topics.USAGE.partitions), 0) | {partition: offsets[0].offset + 1}
        reader = Insights(there.settings, topics.USAGE, UsageBatch, start=start, idle_s=0.6)
        assert [insight.offset for insight in reader] == [place.offset for place in offsets[1:]]
        reader.close()


def test_a_broker_that_is_away_at_the_start_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_kafka, "READY_TIMEOUT_S", 1.0)
    monkeypatch.setattr(client_kafka, "FLUSH_TIMEOUT_S", 1.0)
    with pytest.raises(LocalError, match=r"127\.0\.0\.1:9"):
        Hub(KafkaSettings("127.0.0.1:9")).start()


def test_a_broker_that_restarts_costs_time_and_no_event(tmp_path: Path) -> None:
    with EmbeddedKafka() as own:
        there = Deployment(own.settings(deployment="restart"))
        with Hub(there.settings) as hub, BlockingClient(hub, tmp_path / "client") as client:
            client.record("used", ["pypi:before"])
            assert len(client.flush().acknowledged) == 1
            own.kill()
            client.record("used", ["pypi:away"])
            sent = client.take_pending()
            own.restart()
            client.record("used", ["pypi:after"])
            sent += client.take_pending()
            for _, done in sent:
                done.result(WAIT_S)
            assert client.queued == 0
            found = [i.record.events[0].items[0] for i in there.read(topics.USAGE, UsageBatch, 3)]
            assert sorted(found) == ["pypi:after", "pypi:away", "pypi:before"]
