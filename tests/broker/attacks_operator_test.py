"""An operator that attacks, alone and with members: nothing opens that a quorum of members has not checked, and only once."""

import itertools
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from aicache.privacy import masking, parameters, shamir
from aicache.privacy.errors import RemoteError
from aicache.privacy.statements import record_digest
from aicache.producers.board import Board
from aicache.producers.connection import KafkaSettings
from aicache.producers.session import Limits, Pins, Session
from aicache.schemas.records import (
    AdaptiveClipping,
    CommitteeMember,
    Envelope,
    Manifest,
    Opening,
    Proposal,
    Vote,
)
from aicache.schemas.signing import signed
from aicache.streams.committee.limits import PurposeBudget
from aicache.streams.rounds.kafka import round_log
from aicache.streams.rounds.verify import verify_round
from support.attacks import Broker, counted, deployed, only, opened_by, vote, without
from support.rounds import DEPLOYMENT, LIMITS, World


@pytest.fixture
def broker(kafka: KafkaSettings):
    broker = Broker(kafka)
    yield broker
    broker.close()


def sent(world: World, **changes: object) -> tuple[Proposal, bytes, np.ndarray, Manifest]:
    """A round in which everybody has sent, and what an honest coordinator would list."""
    proposal, rho = world.propose(**changes)
    total = world.send_all(proposal, rho)
    world.close(proposal, rho)
    return proposal, rho, total, world.manifest(proposal, rho, [1, 2, 3, 4, 5])


def sum_of(
    world: World, proposal: Proposal, rho: bytes, manifest: Manifest, residues: dict[int, np.ndarray]
) -> np.ndarray:
    """The sum over what a manifest lists, from whoever's sums of shares."""
    mask = parameters.by_name(proposal.parameters)
    total = np.zeros(masking.block_count(proposal.length, mask) * mask.ring_degree, np.uint64)
    places = [e.place for e in manifest.groups[0].clients] + [m.vectors[0].place for m in manifest.members]
    for place in places:
        masking.add_packed(total, world.log.ciphertext(place))
    return masking.open_sum(
        total, shamir.combine(residues, proposal.threshold), len(places), proposal.length, rho, mask
    )


def envelopes_of(world: World, manifest: Manifest) -> list[Envelope]:
    senders = {e.client for e in manifest.groups[0].clients} | {m.vectors[0].sender for m in manifest.members}
    return [e for e in world.log.records("aicache.envelopes", Envelope) if e.sender in senders]


@pytest.mark.parametrize("colluding", [(5,), (4, 5)], ids=["one member", "two members"])
def test_two_manifests_of_a_round_never_both_open_whoever_up_to_two_members_votes_for_both(
    broker: Broker, colluding: tuple[int, ...]
) -> None:
    world = World(log=broker, clients=4)
    proposal, rho, _, everybody = sent(world)
    victim = world.people[0].id
    world.silent = {3, *colluding}  # one honest member sees the second manifest first: the best split that there is
    first = world.publish_manifest(everybody)
    world.silent = {1, 2, 3, 4, 5}
    item = broker.append("aicache.rounds", without(everybody, victim))
    second = record_digest("manifest", item.fingerprint, item.body)
    # The operator shows the third member a log in which the second manifest stands where the first one does.
    world.committee[3].receive([replace(item, offset=item.offset - 1)], world.now_ms, world.entropy)
    world.publish(world.committee[3])
    for number in colluding:
        vote(world, proposal, rho, number, first)
        vote(world, proposal, rho, number, second)
    world.silent = set(colluding)
    world.pump()
    votes = {(v.member, v.manifest_digest) for v in broker.records("aicache.votes", Vote)}
    counts = {digest: sum(1 for _, voted in votes if voted == digest) for digest in (first, second)}
    assert counts[second] == 1 + len(colluding) < proposal.quorum == 4
    assert {opening.manifest_digest for opening in world.openings().values()} == {first}


def test_a_quorum_of_t_would_have_leaked_the_victims_vector_exactly(broker: Broker) -> None:
    """With t = 3 votes, one colluding member and two halves of the honest ones open both manifests: their difference is the
    victim. Here three members are made to add up for both, as such a protocol would let them."""
    world = World(log=broker, clients=4)
    proposal, rho = world.propose(noise="clients", honest=2)
    vectors = {person.id: counted(proposal) * (place + 1) // 4 for place, person in enumerate(world.people)}
    for person in world.people:
        person.send(broker, proposal, rho, vectors[person.id], world.keys())
    world.pump()
    world.close(proposal, rho)
    everybody = world.manifest(proposal, rho, [1, 2, 3, 4, 5])
    victim = world.people[0].id
    others = without(everybody, victim)
    halves = {3: (1, 2, 5), 4: (3, 4, 5)}
    opened = []
    for manifest, members in ((everybody, halves[3]), (others, halves[4])):
        residues = {n: opened_by(world, n, envelopes_of(world, manifest)) for n in members}
        opened.append(sum_of(world, proposal, rho, manifest, residues))
    assert np.array_equal(opened[0] - opened[1], vectors[victim])
    assert len(set(halves[3]) & set(halves[4])) == 1, "one liar was enough"
    assert 2 * proposal.quorum - 5 > 2, "two quorums share more members than may lie"


@pytest.mark.parametrize("owned_count", [19, pytest.param(999, marks=pytest.mark.faults)])
def test_whoever_owns_all_clients_but_one_sees_the_victim_under_the_members_whole_noise(
    broker: Broker, owned_count: int
) -> None:
    """Every client but the victim is the operator's, and so are two of the members of S: what it cannot subtract has
    the planned variance, measured within 5%."""
    world = World(log=broker, clients=owned_count + 1)
    proposal, rho = world.propose(length=10_000, n_min=3, n_max=1_000)
    victim, *owned = world.people
    secret = counted(proposal)
    victim.send(broker, proposal, rho, secret, world.keys())
    for person in owned:
        person.send(broker, proposal, rho, np.zeros(proposal.length, np.int64), world.keys())
    world.pump()
    world.close(proposal, rho)
    manifest = world.manifest(proposal, rho)
    world.publish_manifest(manifest)
    seen = world.open_sum(proposal, rho, manifest) - secret
    members, honest = len(manifest.members), len(manifest.members) - (proposal.threshold - 1)
    assert (members, honest) == (4, 2)
    # Members' vectors are independent and alike, so taking two out of four leaves half of the variance.
    left = seen.std() * (honest / members) ** 0.5
    assert left == pytest.approx(proposal.sigma, rel=0.05)
    assert abs(seen.mean()) < 5 * seen.std() / proposal.length**0.5


def one_client(manifest: Manifest) -> Manifest:
    return only(manifest, manifest.groups[0].clients[0].client)


def under_n_min(manifest: Manifest) -> Manifest:
    return only(manifest, *(entry.client for entry in manifest.groups[0].clients[:2]))


def client_in_two_groups(manifest: Manifest) -> Manifest:
    return replace(manifest, groups=[manifest.groups[0], replace(manifest.groups[0], group=1)])


def client_twice(manifest: Manifest) -> Manifest:
    group = manifest.groups[0]
    return replace(manifest, groups=[replace(group, clients=[*group.clients, group.clients[0]])])


def no_noise(manifest: Manifest) -> Manifest:
    return replace(manifest, members=[replace(member, vectors=[]) for member in manifest.members])


def fewer_members(manifest: Manifest) -> Manifest:
    return replace(manifest, members=manifest.members[:3])


@pytest.mark.parametrize(
    "spoil", [one_client, under_n_min, client_in_two_groups, client_twice, no_noise, fewer_members]
)
def test_a_manifest_against_the_rules_gets_no_honest_vote_even_with_two_colluding_members(
    broker: Broker, spoil
) -> None:
    world = World(log=broker, clients=4)
    proposal, rho, _, right = sent(world)
    digest = world.publish_manifest(spoil(right))
    assert world.votes() == {}
    for number in (4, 5):
        vote(world, proposal, rho, number, digest)
    world.pump()
    assert world.openings() == {}
    world.publish_manifest(right)
    assert set(world.openings()) >= {1, 2, 3}, "or fewer than k, had the colluding two stopped the round"


def test_a_round_of_an_earlier_log_is_not_opened_again(broker: Broker) -> None:
    world = World(log=broker, clients=4)
    proposal, _, _, manifest = sent(world)
    world.publish_manifest(manifest)
    before = len(broker.records("aicache.openings", Opening))
    assert before
    broker.append("aicache.rounds", proposal)
    broker.append("aicache.rounds", without(manifest, world.people[0].id))
    for envelope in broker.records("aicache.envelopes", Envelope):
        broker.append("aicache.envelopes", envelope)
    world.pump()
    replayed = replace(proposal, number=2, opened_ms=world.now_ms + 1)
    broker.append("aicache.rounds", replayed)
    world.pump()
    assert len(broker.records("aicache.openings", Opening)) == before
    assert len(set(world.votes().values())) == 1


def test_the_ciphertexts_of_an_old_round_count_in_no_new_one(broker: Broker) -> None:
    world = World(log=broker, clients=4)
    _, _, _, manifest = sent(world)
    world.publish_manifest(manifest)
    old = [e for e in broker.records("aicache.envelopes", Envelope) if not e.member]
    again, rho2 = world.propose("r2", number=2)
    for envelope, person in zip(old, world.people, strict=True):
        broker.append("aicache.envelopes", signed(replace(envelope, round_id="r2", rho=rho2), person.key))
    world.pump()
    assert world.refusals(1)["unsealing"] == 4
    assert not {person.id for person in world.people} & set(world.endorsed("r2", 1))
    assert again.round_id == "r2"


def test_a_roster_made_for_one_victim_is_refused_by_its_client_whoever_signed_it(broker: Broker) -> None:
    """All of a roster, or one member of it, is the operator's: members' approvals are there for the second, pins are not."""
    world = World(log=broker, clients=4)
    pinned = {entry.member: entry.identity_key for entry in world.roster()}
    puppets = World(members=5, threshold=3, clients=0, seed="puppets")
    own = puppets.roster()
    for record in puppets.log.records("aicache.committee", CommitteeMember)[:5]:
        broker.append("aicache.committee", record)
    foreign, _ = world.propose("foreign", roster=own)
    mixed, _ = world.propose("mixed", roster=[*world.roster()[:4], own[4]])
    world.propose("real")
    assert world.approvals("foreign") == set()
    assert world.approvals("real") == {1, 2, 3, 4, 5}
    board = Board(DEPLOYMENT)
    for name in ("aicache.committee", "aicache.enrolments", "aicache.rounds", "aicache.votes"):
        for item in broker.topics[name]:
            with suppress(RemoteError):
                board.receive(item.record, item.fingerprint, item.body)
    victim = SimpleNamespace(client=world.people[0].id)
    session = Session(board, victim, None, Pins(pinned, 3), Limits(n_min=2))  # type: ignore[arg-type]
    for proposal in (foreign, mixed):
        with pytest.raises(RemoteError) as refused:
            session.check(board.rounds[proposal.round_id], world.now_ms)
        assert refused.value.reason == "foreign-roster"


def test_a_budget_that_the_operator_ignores_holds_all_the_same(broker: Broker) -> None:
    limits = replace(LIMITS, budgets={"*": PurposeBudget(epsilon=4.0, delta=1e-6)}, epsilon_round=20.0)
    world = World(log=broker, clients=4, limits=limits)
    opened = 0
    for number in range(1, 5):
        name = f"r{number}"
        proposal, rho = world.propose(name, number=number)
        if len(world.approvals(name)) < proposal.quorum:
            break
        world.send_all(proposal, rho)
        world.close(proposal, rho)
        clients = {person.id for person in world.people} & set(world.endorsed(name, 1))
        if len(clients) < proposal.n_min:
            break
        world.publish_manifest(world.manifest(proposal, rho))
        opened += bool(world.openings(name))
    assert 1 <= opened < 4
    assert any("budget" in reason or "overspent" in reason for reason in world.refusals(1)), world.refusals(1)


def test_two_rounds_at_a_time_cannot_both_spend_what_one_client_may(broker: Broker) -> None:
    limits = replace(LIMITS, budgets={"*": PurposeBudget(epsilon=3.0, delta=1e-6)}, epsilon_round=20.0)
    world = World(log=broker, clients=4, limits=limits)
    first, rho1 = world.propose("r1")
    second, rho2 = world.propose("r2", task="packages", number=1)
    person = world.people[0]
    for proposal, rho in ((first, rho1), (second, rho2)):
        for other in world.people:
            other.send(broker, proposal, rho, np.zeros(proposal.length, np.int64), world.keys())
    world.pump()
    endorsed = [person.id in world.endorsed(name, 1) for name in ("r1", "r2")]
    assert endorsed == [True, False], world.refusals(1)


def test_a_victim_among_colluding_clients_is_drawn_there_after_it_has_sent(broker: Broker) -> None:
    """The operator may choose which members make S, and gets a draw for each choice; moving a client costs it the votes."""
    world = World(log=broker, clients=12)
    proposal, rho = world.propose(groups=2, n_min=2)
    world.send_all(proposal, rho)
    world.close(proposal, rho)
    chosen = world.manifest(proposal, rho, [1, 2, 3, 4])
    first, second = chosen.groups
    moved = replace(
        chosen,
        groups=[
            replace(first, clients=first.clients[1:]),
            replace(second, clients=[*second.clients, first.clients[0]]),
        ],
    )
    world.publish_manifest(moved)
    assert world.votes() == {}
    assert world.refusals(1) == {"wrong-group": 1}
    draws = {
        tuple(sorted(e.client for e in world.manifest(proposal, rho, list(s)).groups[0].clients))
        for k in (4, 5)
        for s in itertools.combinations(range(1, 6), k)
    }
    assert len(draws) <= 6


def test_a_clip_that_does_not_follow_from_the_opened_bits_is_found_by_whoever_verifies(broker: Broker) -> None:
    """Within its bounds no member can know it, since none of them reads sums; the log tells, whoever reads it."""
    how = AdaptiveClipping(quantile=0.5, rate=0.5, weight=0.5, clip_min=0.1, clip_max=10.0)
    play = deployed(World(log=broker), rounds=3, interval_ms=2_000, clipping="adaptive", adaptive=how)
    for count, factor in ((1, 1.0), (2, 1.2), (3, 1.0)):
        for _ in range(200):
            if len(play.aggregates()) >= count:
                break
            play.run(100)
        play.run(200)  # the coordinator reads the result
        play.state.tasks["tags"].clip *= factor
    found = {}
    for number in (1, 2, 3):
        log = round_log(replace(broker.settings, deployment=DEPLOYMENT), f"tags-{number}")
        found[number] = {check.name: check.detail for check in verify_round(log) if not check.ok}
    assert found[1] == found[2] == {}
    assert found[3].keys() == {"clip"}
    assert found[3]["clip"].startswith("clip-does-not-follow"), "exact, approved by all, and still a lie"
