"""Clients that attack, on a real broker: the honest clients' sum is exact, or the group is dropped, and no member is blamed."""

from dataclasses import replace

import numpy as np
import pytest
from confluent_kafka import KafkaException
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aicache.privacy import shamir
from aicache.privacy.statements import ciphertext_digest, client_id
from aicache.producers.connection import KafkaSettings
from aicache.schemas.chunks import chunks
from aicache.schemas.records import DeadLetter, Envelope, Manifest, Place, Proposal
from aicache.schemas.signing import signed
from aicache.streams.rounds.budgets import excluded
from support.attacks import Broker, deployed, listed
from support.deployment import Deployment
from support.rounds import Person, World


@pytest.fixture
def broker(kafka: KafkaSettings):
    broker = Broker(kafka)
    yield broker
    broker.close()


def play_on(broker: Broker, clients: int = 6, **task: object) -> Deployment:
    return deployed(World(log=broker, clients=clients), **task)


def finished(play: Deployment, rounds: int = 1) -> None:
    for _ in range(400):
        if len(play.aggregates()) >= rounds:
            return
        play.run(100)
    raise AssertionError(f"{rounds} aggregates: {play.dead}")


def honest_sum(play: Deployment, *attackers: Person, round_id: str = "tags-1") -> np.ndarray:
    ids = {person.id for person in attackers}
    return np.sum([vector for client, vector in play.sent[round_id].items() if client not in ids], axis=0)


def opened(play: Deployment, index: int = 0) -> np.ndarray:
    return np.frombuffer(play.aggregates()[index].sum, "<i8")


def letters(play: Deployment) -> dict[str, int]:
    """Why records were refused, each counted once although several parties write a letter about it."""
    rows = {
        (r.topic, r.partition, r.offset, r.reason) for r in play.world.log.records("aicache.dead-letters", DeadLetter)
    }
    reasons = [reason for *_, reason in rows]
    return {reason: reasons.count(reason) for reason in set(reasons)} | {r: play.dead.count(r) for r in set(play.dead)}


def wrong_round(play: Deployment, attacker: Person) -> None:
    real = attacker.envelope
    attacker.envelope = lambda *args, **more: signed(  # type: ignore[method-assign]
        replace(real(*args, **more), rho=bytes(32)), attacker.key
    )


def not_enrolled(play: Deployment, attacker: Person) -> None:
    attacker.key = play.world.person().key


def foreign_model(play: Deployment, attacker: Person) -> None:
    real = attacker.envelope
    attacker.envelope = lambda *args, **more: real(*args, **(more | {"model_version": 7}))  # type: ignore[method-assign]


def shares_that_do_not_open(play: Deployment, attacker: Person) -> None:
    real = attacker.envelope

    def envelope(*args, **more):
        made = real(*args, **more)
        return signed(replace(made, sealed=[bytes(len(part)) for part in made.sealed]), attacker.key)

    attacker.envelope = envelope  # type: ignore[method-assign]


def copied_shares(play: Deployment, attacker: Person) -> None:
    """The shares and the ciphertext of whoever was before it in the log, under its own name."""
    real = attacker.envelope

    def envelope(proposal, rho, digest, shares, place, keys, **more):
        earlier = [e for e in play.world.log.records("aicache.envelopes", Envelope) if not e.member]
        if not earlier:
            return real(proposal, rho, digest, shares, place, keys, **more)
        return signed(replace(earlier[-1], sender=attacker.id), attacker.key)

    attacker.envelope = envelope  # type: ignore[method-assign]
    play.world.people.append(play.world.people.pop(0))  # it acts last


REFUSED = [
    (wrong_round, "wrong-round"),
    (not_enrolled, "not-enrolled"),
    (foreign_model, "wrong-model-version"),
    (shares_that_do_not_open, "unsealing"),
    (copied_shares, "unsealing"),
]


@pytest.mark.parametrize(("attack", "reason"), REFUSED, ids=lambda value: getattr(value, "__name__", value))
def test_what_is_wrong_with_an_envelope_leaves_its_client_out_and_the_others_are_exact(
    broker: Broker, attack, reason: str
) -> None:
    play = play_on(broker)
    attacker = play.world.people[0]
    attack(play, attacker)
    finished(play)
    assert play.aggregates()[0].n == 5
    assert np.array_equal(opened(play), honest_sum(play, attacker))
    assert letters(play).get(reason) == 1, letters(play)


def garbage(play: Deployment, attacker: Person) -> None:
    real = attacker.masked

    def masked(proposal, rho, vector):
        ciphertext, shares, _ = real(proposal, rho, vector)
        noise = attacker.entropy(len(ciphertext))
        return noise, shares, ciphertext_digest(rho, attacker.id, noise)

    attacker.masked = masked  # type: ignore[method-assign]


def inconsistent(play: Deployment, attacker: Person) -> None:
    """Shares of five different keys: no three of them belong together."""
    real = attacker.masked

    def masked(proposal, rho, vector):
        ciphertext, shares, digest = real(proposal, rho, vector)
        strange = [
            shamir.split(np.full(2048, 100 + n, np.int64), 3, 5, attacker.entropy)[n] for n in range(len(shares))
        ]
        return ciphertext, strange, digest

    attacker.masked = masked  # type: ignore[method-assign]


@pytest.mark.parametrize("attack", [garbage, inconsistent])
def test_a_group_that_was_spoiled_is_dropped_and_the_other_groups_stand(broker: Broker, attack) -> None:
    play = play_on(broker, clients=14, groups=2, n_min=3, honest=2)
    spoiler = play.world.people[0]
    attack(play, spoiler)
    finished(play)
    (aggregate,) = play.aggregates()
    (manifest,) = play.world.log.records("aicache.rounds", Manifest)
    lost = next(group.group for group in manifest.groups if any(e.client == spoiler.id for e in group.clients))
    assert {group.group: group.status for group in aggregate.groups} == {lost: "dropped", 1 - lost: "opened"}
    kept = next(group for group in manifest.groups if group.group != lost)
    expected = np.sum([play.sent["tags-1"][entry.client] for entry in kept.clients], axis=0)
    assert np.array_equal(opened(play), expected)


def test_shares_that_are_wrong_for_one_member_only_open_without_it_and_nobody_is_blamed(broker: Broker) -> None:
    play = play_on(broker)
    cheat = play.world.people[0]
    real = cheat.masked

    def masked(proposal, rho, vector):
        ciphertext, shares, digest = real(proposal, rho, vector)
        strange = shamir.split(np.full(2048, 5, np.int64), 3, 5, cheat.entropy)
        return ciphertext, [strange[0], *shares[1:]], digest

    cheat.masked = masked  # type: ignore[method-assign]
    finished(play)
    (aggregate,) = play.aggregates()
    assert aggregate.n == 6
    assert np.array_equal(opened(play), honest_sum(play)), "another three members fit"
    detail = aggregate.groups[0]
    assert detail.status == "opened"
    text = str(detail).lower()
    assert "blame" not in text and "guilty" not in text
    assert not excluded(play.state), "neither the client nor the member is shut out for a sum that opened"
    finished_members = {number for number in play.world.committee if play.world.refusals(number).get("false-sum")}
    assert finished_members == set()


def test_values_out_of_range_bias_their_group_and_no_other(broker: Broker) -> None:
    play = play_on(broker, clients=14, groups=2, n_min=3)
    liar = play.world.people[0]

    def vector(person: Person, proposal: Proposal) -> np.ndarray:
        value = np.zeros(proposal.length, np.int64)
        value[1] = 1_000_000 if person is liar else 3
        return value

    play.vector_of = vector
    finished(play)
    (aggregate,) = play.aggregates()
    (manifest,) = play.world.log.records("aicache.rounds", Manifest)
    sums = {group.group: np.frombuffer(group.sum, "<i8") for group in aggregate.groups if group.sum}
    for group in manifest.groups:
        ids = {entry.client for entry in group.clients}
        expected = 3 * len(ids - {liar.id}) + 1_000_000 * (liar.id in ids)
        assert group.group not in sums or sums[group.group][1] == expected
    assert opened(play)[1] == 3 * 13 + 1_000_000
    assert (np.delete(opened(play), 1) == 0).all()


def test_a_thousand_identities_that_nobody_enrolled_count_for_nothing(broker: Broker) -> None:
    play = play_on(broker, n_max=6)
    template = play.world.people[0]
    real = template.envelope

    def flood(proposal, rho, digest, shares, place, keys, **more):
        made = real(proposal, rho, digest, shares, place, keys, **more)
        codec, name = broker.codec, broker.settings.name("aicache.envelopes")
        for number in range(1_000):
            key = Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))
            copy = replace(made, sender=client_id(key.public_key().public_bytes_raw()))
            broker._producer.produce(name, codec.encode(signed(copy, key)), partition=0)
        broker._producer.flush()
        return made

    template.envelope = flood  # type: ignore[method-assign]
    finished(play)
    (aggregate,) = play.aggregates()
    assert aggregate.n == 6
    assert np.array_equal(opened(play), honest_sum(play))
    assert letters(play)["not-enrolled"] == 1_000


def test_one_identity_counts_once_however_often_it_sends(broker: Broker) -> None:
    play = play_on(broker)
    eager = play.world.people[0]
    real = eager.send

    def send(log, proposal, rho, vector, keys, **more):
        first = real(log, proposal, rho, vector, keys, **more)
        real(log, proposal, rho, vector * 5, keys, **more)
        log.append("aicache.envelopes", first)
        return first

    eager.send = send  # type: ignore[method-assign]
    finished(play)
    assert play.aggregates()[0].n == 6
    assert np.array_equal(opened(play), honest_sum(play))


def test_huge_and_hostile_bytes_stop_nobody(broker: Broker) -> None:
    play = play_on(broker)
    loud = play.world.people[0]
    real = loud.envelope

    def envelope(proposal, rho, digest, shares, place, keys, **more):
        made = real(proposal, rho, digest, shares, place, keys, **more)
        data = broker.codec.encode(replace(made, sealed=[bytes(40_000)] * 5))
        broker.put("aicache.envelopes", data)
        broker.put("aicache.envelopes", data[:10] + b"\xff" * 100_000)
        with pytest.raises(KafkaException):
            broker.put("aicache.envelopes", bytes(2_000_000))
        for piece in chunks(proposal.round_id, loud.id, bytes(2_000_000)):
            broker.append("aicache.updates", piece)
        return made

    loud.envelope = envelope  # type: ignore[method-assign]
    finished(play)
    assert play.aggregates()[0].n == 6
    assert np.array_equal(opened(play), honest_sum(play))
    assert broker.refused, "bytes of no known schema are refused before they are decoded"


def test_a_front_runner_with_a_copied_ciphertext_hurts_only_itself(broker: Broker) -> None:
    """It sees the victim's chunks before the envelope, and claims them with shares of its own."""
    play = play_on(broker)
    victim, thief = play.world.people[:2]
    play.absent = {thief.id}
    real = victim.envelope

    def front_run(proposal, rho, digest, shares, place, keys, **more):
        _, own, _ = thief.masked(proposal, rho, np.zeros(proposal.length, np.int64))
        stolen = thief.envelope(proposal, rho, digest, own, place, keys)
        broker.append("aicache.envelopes", stolen)
        made = real(proposal, rho, digest, shares, place, keys, **more)
        broker.append("aicache.envelopes", signed(replace(made, sender=thief.id), thief.key))
        return made

    victim.envelope = front_run  # type: ignore[method-assign]
    finished(play)
    (manifest,) = play.world.log.records("aicache.rounds", Manifest)
    assert victim.id in listed(manifest)
    assert thief.id not in listed(manifest), (
        "the digest names its sender, so the reducer reads another one at that place"
    )
    assert np.array_equal(opened(play), honest_sum(play))


def test_a_place_that_holds_something_else_leaves_only_the_liar_out(broker: Broker) -> None:
    play = play_on(broker)
    liar = play.world.people[0]
    real = liar.publish
    liar.publish = lambda log, proposal, data: replace(real(log, proposal, data), offsets=[0])  # type: ignore[method-assign]
    finished(play)
    assert play.aggregates()[0].n == 5
    assert np.array_equal(opened(play), honest_sum(play, liar))
    assert Place(0, [0]) in [e.place for e in broker.records("aicache.envelopes", Envelope)]
