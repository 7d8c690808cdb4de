"""What clients have spent binds the committee: at endorsement, at the vote, over restarts and over replaced members."""

from dataclasses import replace

import numpy as np
import pytest

from aicache.privacy.accounting import ORDERS, epsilon_from_rdp, gaussian_rdp
from aicache.privacy.errors import LocalError, RemoteError
from aicache.schemas.records import DeadLetter, RoundAborted
from aicache.streams.committee import ledger
from aicache.streams.committee.limits import DAY_MS, PurposeBudget
from aicache.streams.committee.member import Member
from aicache.streams.committee.store import Store
from support.rounds import DEPLOYMENT, LIMITS, Person, World

ROUND = {"sigma": 403.0, "length": 100}  # about epsilon 1.1 a round at delta 1e-6
ONE_ROUND = replace(LIMITS, budgets={"*": PurposeBudget(epsilon=1.5, delta=1e-6)})


def endorse(world: World, round_id: str, people: list[Person] | None = None, **changes):
    proposal, rho = world.propose(round_id, **ROUND, **changes)
    world.send_all(proposal, rho, people)
    world.close(proposal, rho)
    return proposal, rho


def finish(world: World, proposal, rho) -> None:
    world.publish_manifest(world.manifest(proposal, rho))


def open_round(world: World, round_id: str, people: list[Person] | None = None, **changes):
    proposal, rho = endorse(world, round_id, people, **changes)
    finish(world, proposal, rho)
    assert world.openings(round_id)
    return proposal, rho


def test_an_overspender_is_named_and_left_out_and_the_round_goes_on() -> None:
    world = World(clients=7, limits=ONE_ROUND)
    spender, others = world.people[0], world.people[1:]
    open_round(world, "r1", [spender, *others[:3]])
    proposal, rho = endorse(world, "r2", [spender, *others[3:]])
    assert world.refusals(2)["over-budget"] == 1
    detail = world.committee[2].store.one("SELECT sender, detail FROM refusals WHERE reason = 'over-budget'")
    assert detail[0] == spender.id
    assert spender.id.hex() in detail[1]
    letters = [
        entry for entry in world.log.records("aicache.dead-letters", DeadLetter) if entry.reason == "over-budget"
    ]
    assert len(letters) == 5
    assert all(spender.id.hex() in letter.detail for letter in letters)
    manifest = world.manifest(proposal, rho)
    assert {entry.client for entry in manifest.groups[0].clients} == {person.id for person in others[3:]}
    world.publish_manifest(manifest)
    world.open_sum(proposal, rho, manifest)


def test_what_was_spent_is_forgotten_long_after_its_window_and_not_before() -> None:
    world = World(clients=3, limits=ONE_ROUND)
    proposal, _ = open_round(world, "r1")
    member = world.committee[1]
    window_ms = member.core.limits.window_ms("trends", proposal.opened_ms)
    ends_ms = window_ms + 30 * DAY_MS
    for later_ms, kept in ((ends_ms, 3), (ends_ms + 399 * DAY_MS, 3), (ends_ms + 401 * DAY_MS, 0)):
        with member.store.transaction():
            member.core.ledger.forget(later_ms)
        assert member.store.one("SELECT count(*) FROM spent")[0] == kept
        assert member.core.ledger.spent(world.people[0].id, "trends", window_ms).any() == bool(kept)


def test_a_member_that_makes_a_new_epoch_key_forgets_old_windows() -> None:
    world = World(clients=3, limits=ONE_ROUND)
    open_round(world, "r1")
    world.tick(world.now_ms + 500 * DAY_MS)
    assert world.committee[1].store.one("SELECT count(*) FROM spent")[0] == 0


def test_two_rounds_at_a_time_cannot_both_spend_what_one_may() -> None:
    world = World(clients=3, limits=ONE_ROUND)
    first, second = (world.propose(name, **ROUND) for name in ("r1", "r2"))
    world.send_all(*first)
    world.send_all(*second)
    assert world.refusals(1)["over-budget"] == 3, "the second finds everything reserved"
    assert len(world.endorsed("r1", 1)) == 3 + 5
    assert len(world.endorsed("r2", 1)) == 5


def test_what_an_aborted_round_reserved_is_free_again() -> None:
    world = World(clients=3, limits=ONE_ROUND)
    _, rho = endorse(world, "r1")
    world.log.append("aicache.rounds", RoundAborted(DEPLOYMENT, "tags", "r1", rho, world.now_ms, "test"))
    world.pump()
    open_round(world, "r2")


def test_who_is_endorsed_but_not_listed_pays_nothing() -> None:
    world = World(clients=4, limits=ONE_ROUND)
    proposal, rho = endorse(world, "r1")
    manifest = world.manifest(proposal, rho)
    unlisted = manifest.groups[0].clients[0].client
    world.publish_manifest(
        replace(manifest, groups=[replace(manifest.groups[0], clients=manifest.groups[0].clients[1:])])
    )
    assert world.openings("r1")
    for member in world.committee.values():
        assert member.core.ledger.spent(unlisted, "trends", window(member, proposal)).sum() == 0
        assert member.store.one("SELECT count(*) FROM reserved")[0] == 0


def window(member: Member, proposal) -> int:
    return member.core.limits.window_ms(proposal.purpose, proposal.opened_ms)


def test_budgets_are_kept_apart_by_purpose_and_come_back_with_a_new_window() -> None:
    named = replace(ONE_ROUND, budgets=ONE_ROUND.budgets | {"models": ONE_ROUND.budgets["*"]})
    world = World(clients=3, limits=named)
    open_round(world, "r1")
    open_round(world, "r2", purpose="models")
    world.now_ms += ONE_ROUND.budgets["*"].window_ms
    member = world.committee[1]
    assert member.core.current_epoch()[0] == 1
    world.tick(world.now_ms)
    assert member.core.current_epoch()[0] == 2, "a month later the epoch key is another one, too"
    open_round(world, "r3")


def test_every_member_counts_exactly_what_the_rounds_cost() -> None:
    world = World(clients=3)
    for name in ("r1", "r2", "r3"):
        proposal, _ = open_round(world, name)
    expected = 3 * np.asarray(world.committee[1].core.round("r3").rdp)
    for member in world.committee.values():
        spent = member.core.ledger.spent(world.people[0].id, "trends", window(member, proposal))
        assert np.allclose(spent, expected, rtol=1e-12)
        assert epsilon_from_rdp(spent, 1e-6) < 3 * epsilon_from_rdp(expected / 3, 1e-6), "composition is not addition"


# ---------------------------------------------------------------- members come and go


def exported(world: World, numbers: list[int]) -> list[str]:
    return [
        ledger.export(
            world.committee[number].store,
            deployment=DEPLOYMENT,
            member=number,
            key=world.committee[number].core.identity_key,
            now_ms=world.now_ms,
        )
        for number in numbers
    ]


def identities(world: World) -> dict[int, bytes]:
    return {number: member.core.identity for number, member in world.committee.items()}


def test_a_member_that_replaces_another_votes_only_with_the_ledgers_of_those_before_it() -> None:
    world = World(clients=6, limits=ONE_ROUND)
    before = identities(world)
    open_round(world, "r1", world.people[:3])
    texts = exported(world, [1, 2, 3, 4])
    newcomer = world.new_member(5, replaces=True)
    world.committee[5] = newcomer
    world.pump()
    proposal, rho = world.propose("r2", **ROUND)
    assert world.approvals("r2") == {1, 2, 3, 4}
    with newcomer.store.transaction():
        taken = ledger.import_all(newcomer.store, texts, deployment=DEPLOYMENT, roster=before, quorum=4)
        newcomer.store.run("DELETE FROM meta WHERE name = 'needs_ledgers'")
    assert taken == 4 * 3
    world.tick(world.now_ms + 1)
    assert world.approvals("r2") == {1, 2, 3, 4, 5}
    world.send_all(proposal, rho)
    # The rounds before were charged from the log (the newcomer sees k votes) and the ledgers hold them too: never less.
    assert world.refusals(5)["over-budget"] == 3


def test_a_number_that_is_taken_is_refused_without_the_word_that_its_member_is_gone() -> None:
    world = World(members=3, threshold=2, clients=1)
    world.committee[3] = world.new_member(3)
    with pytest.raises(LocalError, match="exists already"):
        world.pump()


def test_ledgers_that_are_forged_foreign_or_too_few_are_not_taken() -> None:
    world = World(clients=3)
    before = identities(world)
    open_round(world, "r1")
    texts = exported(world, [1, 2, 3, 4])
    store = world.new_member(5, replaces=True).store

    def take(some: list[str], roster: dict[int, bytes] = before) -> int:
        with store.transaction():
            return ledger.import_all(store, some, deployment=DEPLOYMENT, roster=roster, quorum=4)

    with pytest.raises(LocalError, match="4 distinct members"):
        take(texts[:3])
    with pytest.raises(LocalError, match="4 distinct members"):
        take([texts[0]] * 4)
    with pytest.raises(RemoteError, match="does not verify"):
        take([text.replace('\\"rows\\": [[', '\\"rows\\": [ [', 1) for text in texts])
    with pytest.raises(RemoteError, match="roster before"):
        take(texts, {1: before[1]})
    with pytest.raises(RemoteError, match="does not verify"):
        take(texts, dict.fromkeys(before, before[5]))
    with pytest.raises(RemoteError, match="not an exported ledger"):
        take(["{}"])
    assert store.one("SELECT count(*) FROM spent")[0] == 0
    assert take(texts) == 12


def test_the_largest_entry_of_each_client_counts() -> None:
    world = World(clients=1)
    member = world.committee[1]
    client = world.people[0].id
    small, large = gaussian_rdp(0.1), gaussian_rdp(0.2)
    for number, rdp in ((1, small), (2, large), (3, small)):
        store = world.committee[number].store
        with store.transaction():
            world.committee[number].core.ledger.charge([client], "trends", 0, rdp)
    texts = exported(world, [1, 2, 3])
    with member.store.transaction():
        ledger.import_all(member.store, texts, deployment=DEPLOYMENT, roster=identities(world), quorum=3)
    assert np.array_equal(member.core.ledger.spent(client, "trends", 0), large)


def test_what_is_reserved_counts_as_spent_in_an_exported_ledger() -> None:
    world = World(clients=3)
    endorse(world, "r1")
    store = world.new_member(5, replaces=True).store
    with store.transaction():
        taken = ledger.import_all(
            store, exported(world, [1, 2, 3, 4]), deployment=DEPLOYMENT, roster=identities(world), quorum=4
        )
    assert taken == 12
    assert len(np.frombuffer(store.one("SELECT rdp FROM spent")[0])) == len(ORDERS)


# ---------------------------------------------------------------- epochs


def test_a_rotated_key_is_erased_when_its_last_round_is_over_and_opens_nothing_any_more() -> None:
    world = World(clients=3)
    proposal, rho = endorse(world, "r1")
    member = world.committee[1]
    member.rotate(world.now_ms, world.entropy)
    world.pump()
    assert secrets(member) == [1, 2], "the open round still needs the old one"
    finish(world, proposal, rho)
    assert world.openings("r1")
    assert secrets(member) == [2]
    with pytest.raises(RemoteError, match="erased"):
        member.core.epoch_key(1)
    rows = member.store.all("SELECT secret, storage_key FROM epochs WHERE epoch = 1")
    assert rows == [(None, None)]


def secrets(member: Member) -> list[int]:
    return [row[0] for row in member.store.all("SELECT epoch FROM epochs WHERE secret IS NOT NULL ORDER BY epoch")]


def test_erased_keys_are_nowhere_in_the_members_files(tmp_path) -> None:
    world = World(members=3, threshold=2, clients=3, folder=tmp_path)
    member = world.committee[1]
    secret = member.core.epoch_key(1)[0].to_bytes()
    files = [path for path in tmp_path.iterdir() if path.name.startswith("member-1-")]
    assert any(secret in path.read_bytes() for path in files)
    member.rotate(world.now_ms, world.entropy)
    assert all(secret not in path.read_bytes() for path in tmp_path.iterdir())


def test_a_key_that_could_not_leave_the_journal_leaves_it_as_soon_as_nobody_reads(tmp_path) -> None:
    world = World(members=3, threshold=2, clients=3, folder=tmp_path)
    member = world.committee[1]
    proposal, rho = endorse(world, "r1")
    secret = member.core.epoch_key(1)[0].to_bytes()
    member.rotate(world.now_ms, world.entropy)
    member.store.run("PRAGMA busy_timeout = 10")
    reader = Store(member.store.path, read_only=True)
    rows = reader.each("SELECT * FROM senders")
    next(rows)
    finish(world, proposal, rho)
    assert secrets(member) == [2]
    assert any(secret in path.read_bytes() for path in tmp_path.iterdir()), "the reader's view holds the journal"
    del rows  # an unfinished query keeps its view of the file
    reader.close()
    world.tick(world.now_ms + 1)
    assert all(secret not in path.read_bytes() for path in tmp_path.iterdir())


def test_a_proposal_under_the_old_key_is_not_approved() -> None:
    world = World(clients=3)
    old = world.roster()
    world.committee[1].rotate(world.now_ms, world.entropy)
    world.pump()
    world.propose("r1", roster=old)
    assert world.approvals("r1") == {2, 3, 4, 5}
    assert world.refusals(1) == {"old-epoch-key": 1}


def test_a_key_whose_time_ends_before_the_round_does_is_not_relied_on() -> None:
    world = World(clients=3)
    world.now_ms += LIMITS.epoch_ms + LIMITS.lasting_ms - 10_000
    world.propose("r1")
    assert world.approvals("r1") == set()
    assert world.refusals(1) == {"epoch-key-expired": 1}


def test_purposes_that_are_not_named_share_one_budget() -> None:
    world = World(clients=3, limits=replace(LIMITS, budgets={"*": PurposeBudget(epsilon=3.0, delta=1e-6)}))
    listed = []
    for number in range(4):
        proposal, rho = world.propose(f"r{number}", purpose=f"invented-{number}")
        world.send_all(proposal, rho)
        listed.append(len(world.endorsed(f"r{number}", 1).keys() & {person.id for person in world.people}))
    assert listed[0] == 3
    assert listed[-1] == 0, "each invented purpose has a budget of its own"
