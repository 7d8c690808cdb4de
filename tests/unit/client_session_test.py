"""What a client agrees to take part in, row by row, and that what it sends opens for the committee."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aicache.privacy.accounting import epsilon_from_rdp
from aicache.privacy.errors import AicacheError, LocalError, RemoteError
from aicache.privacy.quantize import sensitivity
from aicache.producers.ledger import FILE, Limit
from aicache.producers.session import CLOCK_SKEW_MS, Limits, MissingError, Pins
from aicache.schemas.records import AdaptiveClipping, Approval, Enrolment, Place, RoundClosed
from aicache.schemas.signing import signed, verify_record
from support.owner import ENTROPY, Owner
from support.rounds import DEPLOYMENT, START_MS

DAY_MS = 86_400_000
GENEROUS = {"*": Limit(100.0)}


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    return Owner(tmp_path, GENEROUS)


def other_pins(owner: Owner, **changes: object) -> None:
    owner.session.pins = replace(owner.session.pins, **changes)


def test_what_a_client_sends_is_endorsed_by_every_member_and_signed_by_its_key(owner: Owner) -> None:
    operator, client = owner.world.operator, owner.identity
    enrolment = Enrolment(DEPLOYMENT, client.client, client.public_key, START_MS, False, "", b"")
    owner.world.log.append("aicache.enrolments", signed(enrolment, operator))
    owner.world.pump()
    owner.propose("r1", length=3_000)
    made = owner.contribute("r1")
    offsets = [owner.world.log.append("aicache.updates", chunk).offset for chunk in made.chunks]
    envelope = owner.session.envelope(made, Place(0, offsets))
    verify_record(envelope, client.public_key)
    owner.world.log.append("aicache.envelopes", envelope)
    owner.world.pump()
    owner.world.close(made.proposal, made.rho)
    for member in range(1, 6):
        assert owner.world.endorsed("r1", member)[client.client] == made.digest


def test_a_client_contributes_to_a_round_once_also_after_a_restart(owner: Owner) -> None:
    owner.propose("r1")
    owner.contribute("r1")
    for _ in range(2):
        with pytest.raises(LocalError, match="already"):
            owner.contribute("r1")
        owner.restart()


def test_a_preview_makes_the_same_records_and_costs_nothing(owner: Owner) -> None:
    owner.propose("r1")
    current = owner.board.rounds["r1"]
    made = owner.session.contribute(current, np.ones(100), START_MS, ENTROPY, preview=True)
    assert made.chunks
    assert len(made.sealed) == 5
    assert not owner.ledger.spent()


def unapproved(owner: Owner) -> None:
    owner.board.rounds["r1"].approvals.discard(1)
    owner.board.rounds["r1"].approvals.discard(2)


def closed(owner: Owner) -> None:
    owner.board.rounds["r1"].closed = True


def unenrolled(owner: Owner) -> None:
    owner.board.enrolments.clear()


def revoked(owner: Owner) -> None:
    client = owner.identity.client
    owner.board.enrolments[client] = replace(owner.board.enrolments[client], revoked=True)


def enrolled_later(owner: Owner) -> None:
    owner.board.enrolled_at[owner.identity.client] = owner.board.rounds["r1"].proposal.enrolments_end[0].offset


def foreign_identity(owner: Owner) -> None:
    other_pins(owner, identities={**owner.session.pins.identities, 3: bytes(32)})


def fewer_members(owner: Owner) -> None:
    other_pins(owner, identities={n: key for n, key in owner.session.pins.identities.items() if n < 5})


def members_swapped(owner: Owner) -> None:
    keys = dict(owner.session.pins.identities)
    keys[1], keys[2] = keys[2], keys[1]
    other_pins(owner, identities=keys)


def other_threshold(owner: Owner) -> None:
    other_pins(owner, threshold=2)


def key_missing(owner: Owner) -> None:
    del owner.board.epoch_keys[owner.board.rounds["r1"].proposal.roster[1].epoch_key_id]


def changed_key(owner: Owner, **changes: object) -> None:
    keys = owner.board.epoch_keys
    name = owner.board.rounds["r1"].proposal.roster[1].epoch_key_id
    keys[name] = replace(keys[name], **changes)


def key_of_another(owner: Owner) -> None:
    changed_key(owner, identity_key=bytes(32))


def key_retired(owner: Owner) -> None:
    changed_key(owner, retired=True)


def key_ends_before_the_round(owner: Owner) -> None:
    changed_key(owner, valid_until_ms=START_MS + 59_999)


def large_crowds_only(owner: Owner) -> None:
    owner.session.limits = Limits(budgets=GENEROUS, n_min=4)


def cheap_rounds_only(owner: Owner) -> None:
    owner.session.limits = Limits(budgets=GENEROUS, n_min=2, epsilon_round=0.5)


def other_purposes_only(owner: Owner) -> None:
    owner.session.limits = Limits(budgets={"research": Limit(100.0)}, n_min=2)


def little_budget(owner: Owner) -> None:
    owner.session.limits = Limits(budgets={"*": Limit(0.5)}, n_min=2)


@pytest.mark.parametrize(
    ("spoil", "kind", "text"),
    [
        (unapproved, RemoteError, "quorum"),
        (closed, LocalError, "closed"),
        (unenrolled, MissingError, "not enrolled"),
        (revoked, LocalError, "not enrolled"),
        (enrolled_later, LocalError, "after the round was opened"),
        (foreign_identity, RemoteError, "not the pinned committee"),
        (fewer_members, RemoteError, "not the pinned committee"),
        (members_swapped, RemoteError, "not the pinned committee"),
        (other_threshold, RemoteError, "threshold or quorum"),
        (key_missing, MissingError, "epoch key"),
        (key_of_another, RemoteError, "not its member's"),
        (key_retired, RemoteError, "not valid"),
        (key_ends_before_the_round, RemoteError, "not valid"),
        (large_crowds_only, LocalError, "too few together"),
        (cheap_rounds_only, LocalError, "costs too much"),
        (other_purposes_only, LocalError, "allows nothing"),
        (little_budget, LocalError, "does not cover"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_client_refuses_and_spends_nothing(
    owner: Owner, spoil: Callable[[Owner], None], kind: type[AicacheError], text: str
) -> None:
    owner.propose("r1")
    spoil(owner)
    with pytest.raises(kind, match=text):
        owner.contribute("r1")
    assert not (owner.folder / FILE).exists()


@pytest.mark.parametrize(
    ("now_ms", "text"),
    [
        (START_MS + 60_000, "closed"),
        (START_MS + DAY_MS, "set the clock"),
        (START_MS - DAY_MS, "set the clock"),
        (START_MS - CLOCK_SKEW_MS - 1, "set the clock"),
    ],
)
def test_a_round_of_another_time_is_refused(owner: Owner, now_ms: int, text: str) -> None:
    owner.propose("r1")
    with pytest.raises(LocalError, match=text):
        owner.contribute("r1", now_ms)


@pytest.mark.parametrize(
    "changes",
    [{"delta": 0.01}, {"sigma": 0.0}, {"sigma": 1e12}, {"n_max": 1 << 40}, {"scale": 1e12}, {"noise": "none"}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_proposal_whose_guarantee_cannot_hold_is_refused_whoever_approved_it(
    owner: Owner, changes: dict[str, object]
) -> None:
    owner.propose("r1")
    current = owner.board.rounds["r1"]
    current.proposal = replace(current.proposal, **changes)
    with pytest.raises(AicacheError):
        owner.contribute("r1")
    assert not (owner.folder / FILE).exists()


@pytest.mark.parametrize(
    "vector", [np.ones(99), np.ones((100, 1)), np.full(100, np.nan), np.full(100, np.inf)], ids=str
)
def test_a_vector_that_does_not_fit_is_refused_and_costs_nothing(owner: Owner, vector: np.ndarray) -> None:
    owner.propose("r1")
    with pytest.raises(LocalError):
        owner.session.contribute(owner.board.rounds["r1"], vector, START_MS, ENTROPY)
    assert not owner.ledger.spent()


def test_a_huge_vector_is_clipped_to_the_rounds_norm(owner: Owner) -> None:
    owner.propose("r1", noise="clients", honest=3)
    made = owner.session.contribute(owner.board.rounds["r1"], np.full(100, 1e9), START_MS, ENTROPY)
    share = made.proposal.sigma / 3**0.5
    assert np.linalg.norm(made.message) < made.proposal.scale * made.proposal.clip + 3 * share * 10


def test_where_the_clip_adapts_the_clients_bit_is_the_last_integer_and_the_cost_covers_it(owner: Owner) -> None:
    how = AdaptiveClipping(quantile=0.5, rate=0.2, weight=0.5, clip_min=0.1, clip_max=10.0)
    owner.propose("r1", length=101, clipping="adaptive", adaptive=how)
    rdp = owner.session.check(owner.board.rounds["r1"], START_MS)
    for norm, sign in ((0.5, 1), (50.0, -1)):
        vector = np.full(100, norm / 10)
        made = owner.session.contribute(owner.board.rounds["r1"], vector, START_MS, ENTROPY, preview=True)
        assert made.message.size == 101
        assert made.message[-1] == pytest.approx(sign * 0.25 * 100 / 1.0625**0.5, abs=1)
        assert np.linalg.norm(made.message) <= sensitivity(1.0, 100.0, 101)
    owner.session.contribute(owner.board.rounds["r1"], np.ones(100), START_MS, ENTROPY)
    assert owner.ledger.spent(1e-6)[0].epsilon == pytest.approx(epsilon_from_rdp(rdp, 1e-6))


def test_nothing_of_a_contribution_shows_what_the_client_holds(owner: Owner) -> None:
    owner.propose("r1")
    shown = repr(owner.contribute("r1"))
    assert "message" not in shown
    assert "sealed" not in shown
    assert owner.identity.pseudonym_key.hex() not in repr(owner.identity)


# ------------------------------------------------------------ the board


def test_approvals_that_come_before_their_proposal_count(owner: Owner) -> None:
    owner.world.propose("r1")
    for topic in ("aicache.committee", "aicache.votes", "aicache.rounds"):
        for item in owner.world.log.topics[topic]:
            owner.board.receive(item.record, item.fingerprint, item.body)
    assert owner.board.rounds["r1"].approved


def test_a_forged_approval_and_one_of_another_round_do_not_count(owner: Owner) -> None:
    owner.world.propose("r1")
    item = owner.world.log.topics["aicache.rounds"][-1]
    owner.board.receive(item.record, item.fingerprint, item.body)
    good = next(r for r in owner.world.log.records("aicache.votes", Approval) if r.member == 2)
    with pytest.raises(RemoteError):
        owner.board.receive(replace(good, member=3))
    with pytest.raises(RemoteError):
        owner.board.receive(replace(good, nonce_commitment=bytes(32)))
    with pytest.raises(RemoteError):
        owner.board.receive(replace(good, member=9))
    owner.board.receive(replace(good, rho=bytes(32)))
    assert not owner.board.rounds["r1"].approvals
    owner.board.receive(good)
    assert owner.board.rounds["r1"].approvals == {2}


def test_records_of_another_deployment_and_forged_members_are_refused(owner: Owner) -> None:
    member = owner.world.log.topics["aicache.committee"][0].record
    with pytest.raises(RemoteError) as caught:
        owner.board.receive(replace(member, deployment="elsewhere"))
    assert caught.value.reason == "wrong-deployment"
    with pytest.raises(RemoteError):
        owner.board.receive(replace(member, valid_until_ms=member.valid_until_ms + 1))


def test_a_round_that_closed_is_gone_and_takes_nothing_more(owner: Owner) -> None:
    owner.propose("r1")
    current = owner.board.rounds["r1"]
    owner.world.log.append("aicache.rounds", RoundClosed(DEPLOYMENT, "tags", "r1", current.rho, START_MS, "full"))
    owner.feed()
    assert "r1" not in owner.board.rounds
    with pytest.raises(LocalError, match="closed"):
        owner.session.contribute(current, np.ones(100), START_MS, ENTROPY)


def test_pins_are_all_members_with_different_keys(owner: Owner) -> None:
    keys = dict(owner.session.pins.identities)
    for wrong in ({**keys, 2: keys[1]}, {n + 1: key for n, key in keys.items()}, {}):
        with pytest.raises(LocalError):
            Pins(wrong, 3)
    with pytest.raises(LocalError):
        Pins(keys, 6)
