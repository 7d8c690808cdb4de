"""A member that dies at any write, before or after it reached the disk, repeats itself and never contradicts itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aicache.privacy.errors import LocalError
from aicache.schemas.records import Approval, Endorsement, Envelope, Vote
from aicache.streams.committee.core import ABORT, StaleStoreError
from aicache.streams.committee.member import Member
from aicache.streams.committee.store import Store
from support.rounds import LIMITS, World


class CrashError(Exception):
    """The process is gone."""


class MortalStore(Store):
    """Dies at its n-th transaction: just before it is committed, or just after."""

    def __init__(self, path: Path, at: int, *, committed: bool) -> None:
        super().__init__(path)
        self.left = at
        self.committed = committed

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.left -= 1
        if self.left or not self.committed:
            with super().transaction():
                yield
                if not self.left:
                    raise CrashError
        else:
            with super().transaction():
                yield
            raise CrashError


class Mortal(World):
    """A world whose first member dies once, at a chosen write, and comes back from its file."""

    died = False

    def mortal(self, at: int, *, committed: bool) -> None:
        path = Path(self.committee[1].store.path)
        self.committee[1].store.close()
        self.committee[1] = Member(MortalStore(path, at, committed=committed), self.limits)

    def step(self, member: Member) -> bool:
        try:
            return super().step(member)
        except CrashError:
            self.died = True
            path = Path(member.store.path)
            member.store.close()
            self.committee[1] = Member(Store(path), self.limits)
            return True

    def pump(self) -> None:
        moved = True
        while moved:
            moved = sum(self.step(self.committee[number]) for number in list(self.committee)) > 0


def play(folder: Path, at: int, *, committed: bool) -> Mortal:
    world = Mortal(members=3, threshold=2, clients=3, folder=folder)
    world.mortal(at, committed=committed)
    proposal, rho = world.propose(noise="clients", honest=3)
    total = world.send_all(proposal, rho)
    world.close(proposal, rho)
    manifest = world.manifest(proposal, rho)
    world.publish_manifest(manifest)
    assert np.array_equal(world.open_sum(proposal, rho, manifest), total)
    said_once(world)
    assert world.committee[1].store.one("SELECT count(*), max(rounds) FROM spent") == (3, 1), "charged once"
    return world


def said_once(world: World) -> None:
    votes = {(vote.member, vote.manifest_digest) for vote in world.log.records("aicache.votes", Vote)}
    assert len(votes) == 3
    approvals = {(record.member, record.nonce_commitment) for record in world.log.records("aicache.votes", Approval)}
    assert len(approvals) == 3
    vectors = {(e.sender, e.digest) for e in world.log.records("aicache.envelopes", Envelope) if e.member}
    assert len(vectors) == 3
    first: dict[tuple[int, int], bytes] = {}
    for record in world.log.records("aicache.endorsements", Endorsement):
        assert first.setdefault((record.member, record.sequence), record.signature) == record.signature


@pytest.mark.parametrize("committed", [False, True], ids=["before the commit", "after the commit"])
def test_a_member_that_dies_at_any_write_finishes_its_round_with_one_word(tmp_path: Path, committed: bool) -> None:
    deaths = 0
    for at in range(1, 200):
        folder = tmp_path / str(at)
        folder.mkdir()
        world = play(folder, at, committed=committed)
        if not world.died:
            break
        deaths += 1
    assert deaths > 10, "every write of the round was a death"


def copied(world: World, folder: Path) -> Member:
    store = world.committee[1].store
    store.checkpoint()
    copy = folder / f"copy-{world.entropy(4).hex()}.db"
    copy.write_bytes(Path(store.path).read_bytes())
    return Member(Store(copy), LIMITS)


def test_a_copy_from_before_the_approval_is_found_out(tmp_path: Path) -> None:
    world = World(members=3, threshold=2, clients=3, folder=tmp_path)
    restored = copied(world, tmp_path)
    world.propose()
    votes = len(world.log.topics["aicache.votes"])
    with pytest.raises(StaleStoreError, match="after-loss"):
        world.step(restored)
    assert len(world.log.topics["aicache.votes"]) == votes


def test_a_copy_from_before_the_vote_says_the_same_or_is_found_out(tmp_path: Path) -> None:
    world = World(members=3, threshold=2, clients=4, folder=tmp_path)
    proposal, rho = world.propose()
    world.send_all(proposal, rho)
    world.close(proposal, rho)
    same, other = copied(world, tmp_path), copied(world, tmp_path)
    manifest = world.manifest(proposal, rho)
    digest = world.publish_manifest(manifest)
    world.step(same)
    assert world.votes()[1] == digest, "the same manifest gets the same vote, byte for byte"
    # Now the operator shows the copy another manifest: everybody but one.
    clients = manifest.groups[0].clients[1:]
    world.log.topics["aicache.rounds"].pop()
    world.log.append("aicache.rounds", replace(manifest, groups=[replace(manifest.groups[0], clients=clients)]))
    votes = len(world.log.topics["aicache.votes"])
    with pytest.raises(StaleStoreError):
        world.step(other)
    assert len(world.log.topics["aicache.votes"]) == votes


def test_after_a_loss_nothing_old_is_continued_and_the_ledger_is_not_trusted(tmp_path: Path) -> None:
    world = World(members=3, threshold=2, clients=3, folder=tmp_path)
    proposal, rho = world.propose()
    world.send_all(proposal, rho)
    restored = copied(world, tmp_path)
    world.close(proposal, rho)
    world.publish_manifest(world.manifest(proposal, rho))
    old_key = restored.core.current_epoch()[1]
    restored.lose_history(world.now_ms, world.entropy)
    world.committee[1] = restored
    world.pump()
    assert restored.core.current_epoch()[1] != old_key
    assert restored.store.one("SELECT count(*) FROM epochs WHERE secret IS NOT NULL")[0] == 1
    assert {vote.manifest_digest for vote in world.log.records("aicache.votes", Vote)} != {ABORT}
    world.propose("r2")
    assert world.approvals("r2") == {2, 3}, "it waits for the ledgers of the others"


def test_a_full_disk_publishes_nothing_and_says_so(tmp_path: Path) -> None:
    world = World(members=3, threshold=2, clients=3, folder=tmp_path)
    member = world.committee[1]
    pages = member.store.one("PRAGMA page_count")[0]
    member.store.all(f"PRAGMA max_page_count = {pages}")
    offset = member.store.next_offset("aicache.envelopes", 0)
    with pytest.raises(LocalError, match="nothing of this batch was published"):
        proposal, rho = world.propose()
        world.send_all(proposal, rho)
    assert member.store.next_offset("aicache.envelopes", 0) == offset
    assert not world.endorsed("r1", 1)
    member.store.all("PRAGMA max_page_count = 1000000")
    world.pump()
    assert len(world.endorsed("r1", 1)) >= 3, "with space again, it goes on where it was"
