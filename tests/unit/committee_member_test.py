"""The member's part of a round, with real signatures and real sealed shares: who is held to what."""

from dataclasses import replace

import numpy as np
import pytest

from aicache.privacy.errors import LocalError, RemoteError
from aicache.privacy.parameters import quorum
from aicache.privacy.statements import member_sender_id
from aicache.schemas.records import (
    DeadLetter,
    Enrolment,
    Envelope,
    Manifest,
    ModelVersion,
    Opening,
    PartitionOffset,
    Place,
    RosterEntry,
    RoundAborted,
    Vote,
)
from aicache.schemas.signing import signed
from aicache.streams.committee.core import ABORT
from aicache.streams.committee.limits import Limits, PurposeBudget
from aicache.streams.committee.member import ABORTED_KEPT_MS
from support.rounds import DEPLOYMENT, LIMITS, START_MS, World, entropy_of

ENDS_MS = START_MS + 60_000 + 1_000 + LIMITS.manifest_wait_ms


def played(world: World, round_id: str = "r1", **changes):
    proposal, rho = world.propose(round_id, **changes)
    total = world.send_all(proposal, rho)
    world.close(proposal, rho)
    return proposal, rho, total


def test_a_round_opens_to_the_exact_sum_and_the_noise_of_its_members() -> None:
    world = World()
    proposal, rho, total = played(world, length=3_000)
    manifest = world.manifest(proposal, rho)
    digest = world.publish_manifest(manifest)
    assert world.votes() == dict.fromkeys([1, 2, 3, 4], digest), "the members of S vote, the fifth is none of them"
    assert sorted(world.openings()) == [1, 2, 3, 4]
    noise = world.open_sum(proposal, rho, manifest) - total
    expected = proposal.sigma * (4 / 2) ** 0.5  # four members' vectors, each with half of the planned variance
    assert noise.std() == pytest.approx(expected, rel=0.1)
    for subset in ([1, 2, 3], [2, 3, 4], [1, 2, 4]):
        assert np.array_equal(world.open_sum(proposal, rho, manifest, using=subset), noise + total)


def test_where_clients_add_the_noise_members_send_zeros() -> None:
    world = World()
    proposal, rho, total = played(world, noise="clients", honest=3)
    manifest = world.manifest(proposal, rho)
    world.publish_manifest(manifest)
    assert np.array_equal(world.open_sum(proposal, rho, manifest), total)


def test_groups_open_one_by_one_and_a_small_one_is_left_out() -> None:
    world = World(clients=12)
    proposal, rho, _ = played(world, groups=3, n_min=4)
    manifest = world.manifest(proposal, rho)
    assert manifest.groups
    world.publish_manifest(manifest)
    for group in manifest.groups:
        assert len(world.openings(group=group.group)) == 4
        world.open_sum(proposal, rho, manifest, group.group)
    for group in manifest.left_out:
        assert not world.openings(group=group)


def test_any_size_of_committee_up_to_nine_opens() -> None:
    for members, threshold in [(3, 2), (4, 2), (7, 5)]:
        world = World(members=members, threshold=threshold, clients=3)
        proposal, rho, _ = played(world)
        manifest = world.manifest(proposal, rho)
        world.publish_manifest(manifest)
        assert len(world.openings()) == quorum(members, threshold)
        world.open_sum(proposal, rho, manifest)


# ---------------------------------------------------------------- step 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"task": "secret"}, "task-not-allowed"),
        ({"purpose": "ads"}, "purpose-not-allowed"),
        ({"n_min": 1}, "n-min-too-small"),
        ({"n_min": 20, "n_max": 30, "groups": 2}, "n-max-too-small"),
        ({"groups": 65}, "too-many-groups"),
        ({"length": 5_000_000}, "vector-too-long"),
        ({"noise": "none"}, "no-guarantee"),
        ({"noise": "clients", "honest": 4}, "too-many-honest"),
        ({"sigma": 0.0}, "no-guarantee"),
        ({"sigma": 5.0}, "epsilon-too-large"),
        ({"deadline_ms": START_MS + 8 * 86_400_000}, "deadline-too-far"),
        ({"deadline_ms": START_MS - 1}, "deadline-too-far"),
        ({"grace_ms": 3_600_001}, "grace-too-long"),
        ({"opened_ms": START_MS + 400_000, "deadline_ms": START_MS + 500_000}, "opened-in-the-future"),
        ({"opened_ms": START_MS - 60_000, "deadline_ms": START_MS}, "too-late"),
        ({"threshold": 1, "quorum": 3}, "bad-threshold"),
        ({"quorum": 2}, "bad-quorum"),
        ({"parameters": "n99"}, "unknown-parameters"),
        ({"n_max": 9_999}, "round-does-not-fit"),
        ({"scale": 1e7, "sigma": 1e8}, "round-does-not-fit"),
        ({"deployment": "other"}, "foreign-deployment"),
    ],
)
def test_a_proposal_outside_the_owners_limits_is_not_approved(changes: dict, reason: str) -> None:
    limits = replace(LIMITS, tasks=("tags", "item-*"), budgets={"trends": PurposeBudget(20.0)})
    world = World(members=3, threshold=2, clients=1, limits=limits)
    world.propose(**changes)
    assert world.approvals() == set()
    assert reason in world.refusals(1)


def test_a_member_signs_one_rho_a_round() -> None:
    world = World(clients=1)
    world.propose("r1")
    world.propose("r1", n_min=4)
    assert len(world.log.topics["aicache.votes"]) == 5
    assert world.refusals(1) == {"second-proposal": 1}


def test_a_proposal_waits_for_the_enrolments_and_the_keys_that_it_names() -> None:
    world = World(clients=2)
    late = world.person()
    end = [PartitionOffset(0, world.log.end("aicache.enrolments") + 1)]
    world.propose("r1", enrolments_end=end)
    assert world.approvals() == set()
    world.log.append("aicache.enrolments", late.enrolment(world.operator))
    world.pump()
    assert world.approvals() == {1, 2, 3, 4, 5}


def test_a_proposal_that_waits_too_long_is_refused() -> None:
    world = World(clients=2)
    world.propose("r1", enrolments_end=[PartitionOffset(0, 99)])
    world.tick(ENDS_MS + 1)
    assert world.refusals(1) == {"too-late": 1}
    assert world.approvals() == set()


def test_a_roster_with_a_foreign_or_repeated_or_unknown_member_is_refused() -> None:
    world = World(clients=1)
    roster = world.roster()
    stranger = World(members=1, threshold=1, seed="stranger").roster()[0]
    world.propose("r1", roster=[*roster[:4], RosterEntry(5, stranger.identity_key, stranger.epoch_key_id)])
    world.propose("r2", roster=[*roster[:4], RosterEntry(5, stranger.identity_key, roster[4].epoch_key_id)])
    world.propose("r3", roster=[*roster[:4], replace(roster[3], member=5)])
    world.propose("r4", roster=[roster[1], roster[0], *roster[2:]])
    world.propose("r5", roster=[])
    for name in ("r1", "r2", "r3", "r4", "r5"):
        assert world.approvals(name) == set()
    assert world.refusals(1) == {"foreign-roster": 1, "bad-roster": 2, "no-guarantee": 1}, (
        "r1 waits for a key that may still be published"
    )


def test_a_pinned_identity_is_the_only_one_that_a_member_works_with() -> None:
    world = World(members=3, threshold=2, clients=1)
    world.committee[3].core.pins = {1: world.committee[2].core.identity}
    world.propose("r1")
    assert world.approvals() == {1, 2}
    assert world.refusals(3) == {"foreign-roster": 1}


# ---------------------------------------------------------------- step 4


def envelope_cases():
    def unenrolled(world, proposal, rho, sender):
        world.person().send(world.log, proposal, rho, np.zeros(100, np.int64), world.keys())

    def forged(world, proposal, rho, sender):
        envelope = sender.send(world.log, proposal, rho, np.zeros(100, np.int64), world.keys())
        world.log.topics["aicache.envelopes"].pop()
        world.log.append("aicache.envelopes", replace(envelope, place=Place(0, [envelope.place.offsets[0] + 1])))

    def other_round(world, proposal, rho, sender):
        sender.send(world.log, proposal, bytes(32), np.zeros(100, np.int64), world.keys())

    def replayed_under_this_round(world, proposal, rho, sender):
        # Sealed and digested for another rho, then signed for this one: the shares do not open.
        ciphertext, shares, digest = sender.masked(proposal, bytes(32), np.zeros(100, np.int64))
        made = sender.envelope(
            proposal, bytes(32), digest, shares, sender.publish(world.log, proposal, ciphertext), world.keys()
        )
        world.log.append("aicache.envelopes", signed(replace(made, rho=rho), sender.key))

    def other_model(world, proposal, rho, sender):
        sender.send(world.log, proposal, rho, np.zeros(100, np.int64), world.keys(), model_version=7)

    def one_share_missing(world, proposal, rho, sender):
        envelope = sender.send(world.log, proposal, rho, np.zeros(100, np.int64), world.keys())
        world.log.topics["aicache.envelopes"].pop()
        world.log.append("aicache.envelopes", signed(replace(envelope, sealed=envelope.sealed[:4]), sender.key))

    def garbage_share(world, proposal, rho, sender):
        envelope = sender.send(world.log, proposal, rho, np.zeros(100, np.int64), world.keys())
        world.log.topics["aicache.envelopes"].pop()
        sealed = [b"\0" * len(part) for part in envelope.sealed]
        world.log.append("aicache.envelopes", signed(replace(envelope, sealed=sealed), sender.key))

    def claims_a_group(world, proposal, rho, sender):
        sender.send(world.log, proposal, rho, np.zeros(100, np.int64), world.keys(), group=0)

    def bound_to_another_ciphertext(world, proposal, rho, sender):
        envelope = sender.send(world.log, proposal, rho, np.zeros(100, np.int64), world.keys())
        world.log.topics["aicache.envelopes"].pop()
        world.log.append("aicache.envelopes", signed(replace(envelope, digest=bytes(32)), sender.key))

    def places_too_many(world, proposal, rho, sender):
        envelope = sender.send(world.log, proposal, rho, np.zeros(100, np.int64), world.keys())
        world.log.topics["aicache.envelopes"].pop()
        world.log.append("aicache.envelopes", signed(replace(envelope, place=Place(0, [1, 2])), sender.key))

    def short_share(world, proposal, rho, sender):
        ciphertext, shares, digest = sender.masked(proposal, rho, np.zeros(100, np.int64))
        place = sender.publish(world.log, proposal, ciphertext)
        cut = [share[:31] for share in shares]
        world.log.append("aicache.envelopes", sender.envelope(proposal, rho, digest, cut, place, world.keys()))

    return [
        (unenrolled, "not-enrolled"),
        (forged, "bad-signature"),
        (other_round, "wrong-round"),
        (replayed_under_this_round, "unsealing"),
        (other_model, "wrong-model-version"),
        (one_share_missing, "malformed"),
        (garbage_share, "unsealing"),
        (claims_a_group, "malformed"),
        (bound_to_another_ciphertext, "foreign-share"),
        (places_too_many, "malformed"),
        (short_share, "bad-share"),
    ]


@pytest.mark.parametrize(("send", "reason"), envelope_cases(), ids=lambda value: getattr(value, "__name__", value))
def test_a_bad_envelope_is_not_endorsed_but_counted_and_dead_lettered_and_hurts_nobody(send, reason: str) -> None:
    world = World(clients=4)
    proposal, rho = world.propose()
    bad, good = world.people[0], world.people[1:]
    send(world, proposal, rho, bad)
    world.send_all(proposal, rho, good)
    assert world.refusals(4) == {reason: 1}
    assert bad.id not in world.endorsed("r1", 4)
    letters = world.log.records("aicache.dead-letters", DeadLetter)
    assert {letter.reason for letter in letters} == {reason}
    assert all(letter.topic == "aicache.envelopes" for letter in letters)
    world.close(proposal, rho)
    manifest = world.manifest(proposal, rho)
    assert len(manifest.groups[0].clients) == 3
    world.publish_manifest(manifest)
    world.open_sum(proposal, rho, manifest)


def test_a_client_that_pretends_to_be_a_member_is_refused_and_the_member_still_sends() -> None:
    world = World(clients=4)
    proposal, rho = world.propose()
    entry = proposal.roster[0]
    world.people[0].send(
        world.log,
        proposal,
        rho,
        np.zeros(100, np.int64),
        world.keys(),
        member=1,
        group=0,
        sender=member_sender_id(entry.identity_key, 1),
        epoch_key_id=entry.epoch_key_id,
    )
    world.pump()
    assert world.refusals(2) == {"foreign-vector": 1}
    assert member_sender_id(entry.identity_key, 0) in world.endorsed("r1", 2)


def test_shares_or_ciphertext_of_another_client_count_under_no_other_name() -> None:
    world = World(clients=4)
    proposal, rho = world.propose()
    victim, thief = world.people[:2]
    envelope = victim.send(world.log, proposal, rho, np.ones(100, np.int64), world.keys())
    world.log.append("aicache.envelopes", signed(replace(envelope, sender=thief.id), thief.key))
    world.pump()
    assert world.refusals(3) == {"unsealing": 1}
    assert victim.id in world.endorsed("r1", 3)
    assert thief.id not in world.endorsed("r1", 3)


def test_a_front_runner_with_a_copied_ciphertext_does_not_push_the_victim_out() -> None:
    world = World(clients=4)
    proposal, rho = world.propose()
    victim, thief = world.people[:2]
    ciphertext, shares, digest = victim.masked(proposal, rho, np.ones(100, np.int64))
    place = victim.publish(world.log, proposal, ciphertext)
    # The thief saw the chunks before the envelope: all it can do is claim the digest with shares of its own.
    _, own_shares, _ = thief.masked(proposal, rho, np.zeros(100, np.int64))
    world.log.append("aicache.envelopes", thief.envelope(proposal, rho, digest, own_shares, place, world.keys()))
    world.log.append("aicache.envelopes", victim.envelope(proposal, rho, digest, shares, place, world.keys()))
    world.pump()
    assert world.endorsed("r1", 1)[victim.id] == digest


def test_the_first_envelope_of_a_client_stands_and_the_same_one_again_is_nothing() -> None:
    world = World(clients=4)
    proposal, rho = world.propose()
    person = world.people[0]
    first = person.send(world.log, proposal, rho, np.zeros(100, np.int64), world.keys())
    world.log.append("aicache.envelopes", first)
    person.send(world.log, proposal, rho, np.ones(100, np.int64), world.keys())
    world.pump()
    assert world.endorsed("r1", 1)[person.id] == first.digest
    assert world.refusals(1) == {"second-envelope": 1}


def test_revoked_clients_and_those_enrolled_after_the_proposal_are_left_out() -> None:
    world = World(clients=4)
    revoked, late = world.people[0], world.person()
    proposal, rho = world.propose()
    world.log.append("aicache.enrolments", revoked.enrolment(world.operator, revoked=True, reason="lost"))
    world.log.append("aicache.enrolments", late.enrolment(world.operator))
    world.pump()
    world.send_all(proposal, rho, [*world.people, late])
    assert world.refusals(1) == {"not-enrolled": 2}
    assert len(world.endorsed("r1", 1)) == 3 + 5


def test_enrolments_that_the_operator_did_not_sign_enrol_nobody() -> None:
    world = World(clients=1)
    person = world.person()
    forged = person.enrolment(person.key)
    named = signed(replace(person.enrolment(world.operator), client=world.people[0].id), world.operator)
    for record in (forged, named):
        assert isinstance(record, Enrolment)
        world.log.append("aicache.enrolments", record)
    world.pump()
    assert world.refusals(1) == {"bad-signature": 1, "wrong-client-name": 1}


def test_nothing_is_endorsed_after_the_nonce_is_revealed() -> None:
    world = World(clients=5)
    proposal, rho = world.propose()
    world.send_all(proposal, rho, world.people[:4])
    assert world.nonces("r1") == {}
    world.close(proposal, rho)
    assert sorted(world.nonces("r1")) == [1, 2, 3, 4, 5]
    world.send_all(proposal, rho, world.people[4:])
    assert world.people[4].id not in world.endorsed("r1", 1)
    assert world.refusals(1) == {"closed": 1}


# ---------------------------------------------------------------- step 6


def manifest_cases():
    def no_nonce(manifest: Manifest) -> Manifest:
        return replace(manifest, members=[replace(manifest.members[0], nonce=bytes(32)), *manifest.members[1:]])

    def under_quorum(manifest: Manifest) -> Manifest:
        return replace(manifest, members=manifest.members[:3])

    def member_twice(manifest: Manifest) -> Manifest:
        return replace(manifest, members=[manifest.members[0], *manifest.members])

    def no_groups(manifest: Manifest) -> Manifest:
        return replace(manifest, groups=[])

    def one_client(manifest: Manifest) -> Manifest:
        return with_clients(manifest, manifest.groups[0].clients[:1])

    def under_n_min(manifest: Manifest) -> Manifest:
        return with_clients(manifest, manifest.groups[0].clients[:2])

    def client_twice(manifest: Manifest) -> Manifest:
        return with_clients(manifest, [*manifest.groups[0].clients, manifest.groups[0].clients[0]])

    def unknown_client(manifest: Manifest) -> Manifest:
        clients = manifest.groups[0].clients
        return with_clients(manifest, [*clients[1:], replace(clients[0], client=bytes(32))])

    def other_digest(manifest: Manifest) -> Manifest:
        clients = manifest.groups[0].clients
        return with_clients(manifest, [*clients[1:], replace(clients[0], digest=bytes(32))])

    def other_version(manifest: Manifest) -> Manifest:
        clients = manifest.groups[0].clients
        return with_clients(manifest, [*clients[1:], replace(clients[0], model_version=3)])

    def other_group(manifest: Manifest) -> Manifest:
        return replace(manifest, groups=[replace(manifest.groups[0], group=1)])

    def no_noise(manifest: Manifest) -> Manifest:
        return replace(manifest, members=[replace(entry, vectors=[]) for entry in manifest.members])

    def my_noise_swapped(manifest: Manifest) -> Manifest:
        first = manifest.members[0]
        vector = replace(first.vectors[0], digest=bytes(32))
        return replace(manifest, members=[replace(first, vectors=[vector]), *manifest.members[1:]])

    def borrowed_noise(manifest: Manifest) -> Manifest:
        first, second = manifest.members[:2]
        return replace(manifest, members=[replace(first, vectors=second.vectors), *manifest.members[1:]])

    def other_round(manifest: Manifest) -> Manifest:
        return replace(manifest, rho=bytes(32))

    def with_clients(manifest: Manifest, clients: list) -> Manifest:
        return replace(manifest, groups=[replace(manifest.groups[0], clients=clients)])

    return [
        (no_nonce, "bad-nonce"),
        (under_quorum, "set-under-quorum"),
        (member_twice, "bad-set"),
        (no_groups, "bad-groups"),
        (one_client, "group-under-n-min"),
        (under_n_min, "group-under-n-min"),
        (client_twice, "client-twice"),
        (unknown_client, "not-endorsed"),
        (other_digest, "not-endorsed"),
        (other_version, "wrong-model-version"),
        (other_group, "bad-groups"),
        (no_noise, "missing-vector"),
        (my_noise_swapped, "vector-not-endorsed"),
        (borrowed_noise, "foreign-vector"),
        (other_round, "wrong-round"),
    ]


def test_a_manifest_that_is_wrong_in_any_way_gets_no_vote_and_the_right_one_still_does() -> None:
    world = World(clients=4)
    proposal, rho, _ = played(world)
    right = world.manifest(proposal, rho)
    for spoil, reason in manifest_cases():
        # A member remembers four manifests of a round, so each case gets a copy of the member's memory as it was.
        member = world.committee[2]
        item = world.log.append("aicache.rounds", spoil(right))
        with pytest.raises(UndoError), member.store.transaction():
            member._take(item, world.now_ms, world.entropy)
            reasons = dict(member.store.all("SELECT reason, n FROM counts"))
            raise UndoError
        world.log.topics["aicache.rounds"].pop()
        assert reasons == {reason: 1}, spoil.__name__
    digest = world.publish_manifest(right)
    assert world.votes()[2] == digest


class UndoError(Exception):
    """Ends a transaction without a trace."""


def test_clients_are_where_the_nonces_put_them() -> None:
    world = World(clients=9)
    proposal, rho, _ = played(world, groups=2, n_min=2)
    right = world.manifest(proposal, rho)
    first, second = right.groups
    moved = [replace(first, clients=first.clients[1:]), replace(second, clients=[*second.clients, first.clients[0]])]
    world.publish_manifest(replace(right, groups=moved))
    assert world.refusals(1) == {"wrong-group": 1}
    assert world.votes() == {}


def test_there_is_one_vote_a_round_so_two_manifests_are_never_both_opened() -> None:
    world = World()
    proposal, rho, _ = played(world)
    everybody = world.manifest(proposal, rho)
    without = [entry for entry in everybody.groups[0].clients if entry.client != world.people[0].id]
    all_but_one = replace(everybody, groups=[replace(everybody.groups[0], clients=without)])
    first = world.publish_manifest(everybody)
    second = world.publish_manifest(all_but_one)
    # Two colluding members (t − 1) vote for both; a quorum of t would have needed only one honest member for each.
    for number in (4, 5):
        vote_for(world, proposal, rho, number, second)
        vote_for(world, proposal, rho, number, first)
    world.pump()
    counts = {digest: sum(1 for row in voted(world) if row[1] == digest) for digest in (first, second)}
    assert counts[first] >= proposal.quorum > counts[second]
    assert {opening.manifest_digest for opening in world.openings().values()} == {first}


def voted(world: World) -> set[tuple[int, bytes]]:
    return {(vote.member, vote.manifest_digest) for vote in world.log.records("aicache.votes", Vote)}


def vote_for(world: World, proposal, rho: bytes, number: int, digest: bytes) -> None:
    """What a dishonest member says, past its own machine."""
    core = world.committee[number].core
    vote = Vote(DEPLOYMENT, "tags", "r1", rho, number, proposal.roster[number - 1].epoch_key_id, digest, b"")
    record = signed(vote, core.identity_key)
    with core.store.transaction():
        core.store.run("INSERT OR IGNORE INTO own VALUES (?)", record.signature)
    world.log.append("aicache.votes", record)


def test_a_member_that_votes_twice_is_counted_and_reported() -> None:
    world = World()
    proposal, rho, _ = played(world)
    vote_for(world, proposal, rho, 5, bytes([1]) * 32)
    vote_for(world, proposal, rho, 5, bytes([2]) * 32)
    world.pump()
    assert world.refusals(1) == {"voted-twice": 1}


def test_members_shown_different_manifests_open_neither() -> None:
    world = World()
    proposal, rho, _ = played(world)
    everybody = world.manifest(proposal, rho, [1, 2, 3, 4, 5])
    without = replace(everybody, groups=[replace(everybody.groups[0], clients=everybody.groups[0].clients[1:])])
    world.silent = {3, 4, 5}
    world.publish_manifest(everybody)
    log = world.log.topics["aicache.rounds"]
    shown_to_others = log.pop()
    world.silent = {1, 2}
    world.publish_manifest(without)
    world.silent = set()
    assert shown_to_others.record == everybody
    assert len(set(world.votes().values())) == 2
    world.pump()
    assert world.openings() == {}


# ---------------------------------------------------------------- aborts


def test_without_enough_members_the_round_aborts_and_reveals_nothing() -> None:
    world = World()
    world.silent = {4, 5}
    proposal, rho = world.propose()
    world.send_all(proposal, rho)
    assert world.log.records("aicache.envelopes", Envelope)[0].member == 0, "no member sends without k approvals"
    world.close(proposal, rho)
    world.tick(ENDS_MS + 1)
    assert world.votes() == dict.fromkeys([1, 2, 3], ABORT)
    assert world.openings() == {}
    assert reserved(world, 1) == 0


def reserved(world: World, number: int) -> int:
    return world.committee[number].store.one("SELECT count(*) FROM reserved")[0]


def spent(world: World, number: int) -> int:
    return world.committee[number].store.one("SELECT count(*) FROM spent")[0]


def test_the_coordinators_abort_frees_what_was_reserved_and_no_manifest_follows_it() -> None:
    world = World()
    proposal, rho, _ = played(world)
    assert reserved(world, 1) == 6
    world.log.append("aicache.rounds", RoundAborted(DEPLOYMENT, "tags", "r1", rho, world.now_ms, "test"))
    world.pump()
    assert reserved(world, 1) == 0
    assert set(world.votes().values()) == {ABORT}
    world.publish_manifest(world.manifest(proposal, rho))
    assert world.openings() == {}
    assert spent(world, 1) == 0


def test_k_votes_override_an_abort_also_for_the_ledger() -> None:
    world = World()
    proposal, rho, _ = played(world)
    manifest = world.manifest(proposal, rho, [1, 2, 3, 4, 5])
    world.committee[5].tick(ENDS_MS + 1, world.entropy)  # the fifth lost patience, the others see the manifest in time
    world.pump()
    digest = world.publish_manifest(manifest)
    assert world.votes() == {1: digest, 2: digest, 3: digest, 4: digest, 5: ABORT}
    assert spent(world, 5) == 6
    assert 5 in world.openings(), "what it promised was not to vote; opening what a quorum voted for is its part"
    world.open_sum(proposal, rho, manifest, using=[3, 4, 5])


def test_a_member_that_is_not_in_s_charges_what_the_others_open() -> None:
    world = World()
    proposal, rho, _ = played(world)
    world.publish_manifest(world.manifest(proposal, rho))
    assert 5 not in world.votes()
    assert spent(world, 5) == 6
    assert reserved(world, 5) == 0


def test_votes_that_come_when_a_round_was_given_up_are_charged_but_no_longer_opened() -> None:
    world = World()
    proposal, rho, _ = played(world)
    world.silent = {5}
    manifest = world.manifest(proposal, rho, [1, 2, 3, 4, 5])
    world.publish_manifest(manifest)
    late = world.committee[5]
    late.tick(ENDS_MS + 1, world.entropy)
    late.tick(ENDS_MS + ABORTED_KEPT_MS + 1, world.entropy)
    assert late.core.live_rounds() == []
    assert spent(world, 5) == 0
    world.silent = set()
    world.pump()
    assert world.votes()[5] == ABORT
    assert spent(world, 5) == 6
    assert 5 not in world.openings()
    assert spent_rounds(world, 5) == 1


def spent_rounds(world: World, number: int) -> int:
    return world.committee[number].store.one("SELECT max(rounds) FROM spent")[0]


def test_rounds_that_nobody_finished_do_not_block_the_next_ones() -> None:
    world = World(clients=1, limits=replace(LIMITS, rounds_open=3))
    world.silent = {4, 5}
    for number in range(6):
        world.propose(f"r{number}")
        world.tick(world.now_ms + 100_000)
    assert world.approvals("r5") == {1, 2, 3}
    for name in ("a", "b", "c", "d"):
        world.propose(name)
    assert world.approvals("d") == set()
    assert world.refusals(1) == {"too-many-rounds": 1}


def test_a_member_that_came_too_late_to_approve_charges_too() -> None:
    world = World()
    world.silent = {5}
    proposal, rho, _ = played(world)
    world.publish_manifest(world.manifest(proposal, rho))
    world.silent = set()
    world.now_ms = START_MS + 3_600_000
    world.pump()
    assert world.refusals(5)["too-late"] == 1
    assert spent(world, 5) == 6
    assert 5 not in world.openings()


# ---------------------------------------------------------------- openings


def test_a_false_sum_of_one_member_is_passed_over_by_another_subset() -> None:
    world = World()
    proposal, rho, total = played(world, noise="clients", honest=3)
    manifest = world.manifest(proposal, rho)
    world.publish_manifest(manifest)
    rows = world.log.topics["aicache.openings"]
    index = next(i for i, item in enumerate(rows) if isinstance(item.record, Opening) and item.record.member == 1)
    false = np.frombuffer(rows[index].record.shares, "<u2").copy()
    false[7] = (int(false[7]) + 1_000) % 65_521
    rows[index] = replace(rows[index], record=replace(rows[index].record, shares=false.tobytes()))
    with pytest.raises(RemoteError, match=r"sum|key"):
        world.open_sum(proposal, rho, manifest, using=[1, 2, 3])
    assert np.array_equal(world.open_sum(proposal, rho, manifest, using=[2, 3, 4]), total)


def test_shares_are_gone_when_a_round_is_over() -> None:
    world = World()
    proposal, rho, _ = played(world)
    world.publish_manifest(world.manifest(proposal, rho))
    for member in world.committee.values():
        assert member.store.one("SELECT count(*) FROM senders")[0] == 0


def test_model_rounds_accept_their_window_of_versions() -> None:
    world = World(clients=4)
    versions = [ModelVersion(4, bytes(32)), ModelVersion(3, bytes(32))]
    proposal, rho = world.propose(model_versions=versions)
    for person, version in zip(world.people, (4, 3, 2, 4), strict=True):
        person.send(world.log, proposal, rho, np.zeros(100, np.int64), world.keys(), model_version=version)
    world.pump()
    assert world.refusals(1) == {"wrong-model-version": 1}
    world.close(proposal, rho)
    manifest = world.manifest(proposal, rho)
    assert sorted(entry.model_version for entry in manifest.groups[0].clients) == [3, 4, 4]
    world.publish_manifest(manifest)
    world.open_sum(proposal, rho, manifest)


def test_limits_read_what_they_wrote_and_refuse_what_they_do_not_know(tmp_path) -> None:
    limits = Limits(tasks=("a", "b*"), budgets={"trends": PurposeBudget(1.0, 1e-7, 1_000)}, n_min=50)
    limits.write(tmp_path)
    assert Limits.load(tmp_path) == limits
    assert limits.window_ms("trends", 123_456) == 123_000
    (tmp_path / "limits.json").write_text('{"n_mni": 3}')
    with pytest.raises(LocalError, match="n_mni"):
        Limits.load(tmp_path)
    (tmp_path / "limits.json").write_text("{")
    with pytest.raises(LocalError, match="JSON"):
        Limits.load(tmp_path)
    with pytest.raises(LocalError, match="epsilon"):
        PurposeBudget(epsilon=float("nan"))


def test_the_same_bytes_come_from_the_same_seed() -> None:
    assert entropy_of("a")(40) == entropy_of("a")(40) != entropy_of("b")(40)
