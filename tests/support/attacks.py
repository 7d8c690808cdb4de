"""Attackers on a real Kafka: the worlds of support.rounds and support.deployment with every record through a broker.

The parties run in the test's process, so that a test says exactly who acts when; what they read is what the broker gives back.
"""

from dataclasses import replace

import numpy as np
from confluent_kafka import KafkaException

from aicache.privacy import shamir
from aicache.privacy.errors import RemoteError
from aicache.privacy.statements import share_info
from aicache.producers.connection import KafkaSettings
from aicache.schemas.admin import create_topics
from aicache.schemas.records import (
    Envelope,
    Manifest,
    Opening,
    Proposal,
    Vote,
)
from aicache.schemas.signing import signed
from support.deployment import REDUCER_TOPICS, Deployment, make_task
from support.kafka_log import KafkaLog
from support.rounds import DEPLOYMENT, RECORDS, Incoming, World

MORE = ("aicache.tasks", "aicache.models", "aicache.budgets", "aicache.joins", *REDUCER_TOPICS)


class Broker(KafkaLog):
    """The log on Kafka, read up to its end before anybody looks at it."""

    def __init__(self, settings: KafkaSettings) -> None:
        create_topics(settings.client_config(), settings.prefix, replication=1)
        super().__init__(settings, MORE)
        self.refused: list[str] = []

    def append_bytes(self, name: str, value: bytes, timestamp_ms: int = 0) -> Incoming:
        item = super().append_bytes(name, value, timestamp_ms)
        self.sync()
        return item

    def put(self, name: str, value: bytes) -> None:
        """Any bytes, from somebody who has no codec.

        Raises:
            KafkaException: the broker takes them not.
        """
        placed: list[tuple[object, object]] = []
        self._producer.produce(
            self.settings.name(name), value, partition=0, on_delivery=lambda *answer: placed.append(answer)
        )
        self._producer.flush()
        (error, message), *_ = placed
        if error is not None:
            raise KafkaException(error)
        self._ends[name] = message.offset() + 1
        self.sync()

    def sync(self) -> None:
        """Read until everything that was written is here."""
        while any(len(self.topics.get(name, ())) < end for name, end in self._ends.items()):
            message = self._consumer.poll(10.0)
            assert message is not None, "the broker gives back what it took"
            assert message.error() is None, message.error()
            self.take(message)

    def take(self, message) -> None:
        name = message.topic().removeprefix(self.settings.prefix)
        place = (name, message.partition(), message.offset(), message.timestamp()[1])
        try:
            found = self.codec.decode(message.value(), *RECORDS)
            item = Incoming(*place, found.record, found.fingerprint, found.body)
        except RemoteError as error:
            self.refused.append(error.reason)
            item = Incoming(*place, None, b"", message.value(), error)
        self.topics.setdefault(name, []).append(item)
        if name == "aicache.updates" and item.record is not None:
            self.chunks[message.partition(), message.offset()] = item.record.data


def deployed(world: World, **task: object) -> Deployment:
    """Coordinator and reducer beside a world, and one task whose clients add no noise."""
    play = Deployment(world)
    fields = {"deployment": DEPLOYMENT, "noise": "clients"} | task
    world.log.append("aicache.tasks", make_task(**fields))
    return play


def counted(proposal: Proposal) -> np.ndarray:
    """The largest vector that clipping lets through, all on one coordinate."""
    vector = np.zeros(proposal.length, np.int64)
    vector[0] = int(proposal.clip * proposal.scale)
    return vector


def vote(world: World, proposal: Proposal, rho: bytes, number: int, digest: bytes) -> None:
    """What a dishonest member says past its own machine, with its real key."""
    core = world.committee[number].core
    record = signed(
        Vote(
            DEPLOYMENT,
            proposal.task,
            proposal.round_id,
            rho,
            number,
            proposal.roster[number - 1].epoch_key_id,
            digest,
            b"",
        ),
        core.identity_key,
    )
    remember(world, number, record.signature)
    world.log.append("aicache.votes", record)


def remember(world: World, number: int, signature: bytes) -> None:
    """The member knows its own forgery, so it does not take it for an old copy of its store."""
    store = world.committee[number].core.store
    with store.transaction():
        store.run("INSERT OR IGNORE INTO own VALUES (?)", signature)


def opened_by(world: World, number: int, clients: list[Envelope]) -> np.ndarray:
    """What a dishonest member can add up for whom it likes: the sum of its shares over these senders, mod p."""
    core = world.committee[number].core
    total = shamir.ShareSum()
    for envelope in clients:
        epoch, _ = core.epoch_key(core.current_epoch()[0])
        plain = epoch.open(envelope.sealed[number - 1], share_info(envelope.rho, number, envelope.sender))
        total.add(shamir.expand(plain[:-32]))
    return total.residues()


def falsify(world: World, numbers: tuple[int, ...]) -> None:
    """These members publish sums that are wrong in one coefficient, signed with their own keys."""
    real = world.log.append_bytes

    def append(topic: str, value: bytes, timestamp_ms: int = 0) -> Incoming:
        if topic == "aicache.openings":
            record = world.log.codec.decode(value, Opening).record
            if record.member in numbers:
                shares = np.frombuffer(record.shares, "<u2").copy()
                shares[7] = (int(shares[7]) + 1_000 * record.member**3) % 65_521  # no two of them cancel
                changed = replace(record, shares=shares.tobytes())
                record = signed(changed, world.committee[record.member].core.identity_key)
                remember(world, record.member, record.signature)
                value = world.log.codec.encode(record)
        return real(topic, value, timestamp_ms)

    world.log.append_bytes = append  # type: ignore[method-assign]


def listed(manifest: Manifest) -> set[bytes]:
    return {entry.client for group in manifest.groups for entry in group.clients}


def without(manifest: Manifest, client: bytes) -> Manifest:
    groups = [
        replace(group, clients=[entry for entry in group.clients if entry.client != client])
        for group in manifest.groups
    ]
    return replace(manifest, groups=groups)


def only(manifest: Manifest, *clients: bytes) -> Manifest:
    groups = [replace(g, clients=[e for e in g.clients if e.client in clients]) for g in manifest.groups]
    return replace(manifest, groups=groups)
