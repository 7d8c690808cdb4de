"""The checks of a member, as pure functions: what may be approved, endorsed, voted for (the protocol's steps 1, 4 and 6).

Everything comes in as an argument, so the same functions serve the running member, the tests and whoever recomputes a round.
Each raises `RemoteError` with a stable reason; the member then stays silent, and the round goes on without its yes.
Pure: no clock, no entropy, no I/O.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aicache.privacy import masking, parameters
from aicache.privacy.accounting import total_sigma
from aicache.privacy.errors import AicacheError, RemoteError
from aicache.privacy.statements import DIGEST_BYTES, client_id, digest, member_sender_id
from aicache.schemas.chunks import CHUNK_BYTES
from aicache.schemas.clipping import check_clipping
from aicache.schemas.records import CommitteeMember, Manifest, ManifestMember, Proposal
from aicache.streams.committee.limits import Limits

MEMBERS_MAX = 64


class NotYetError(RemoteError):
    """A proposal names something that this member has not read yet: it is looked at again later."""


def _require(holds: bool, reason: str, got: object, needed: object) -> None:
    if not holds:
        raise RemoteError(f"{reason}: got {got}, needed {needed}", reason=reason, got=got, needed=needed)


def group_of(nonces: list[bytes], client: bytes, groups: int) -> int:
    """The group of a client, drawn by the nonces of S in member order, after all clients have sent."""
    if groups == 1:
        return 0
    return int.from_bytes(digest("group", *nonces, client)[:8], "big") % groups


def chunks_of(length: int, mask: parameters.MaskParameters) -> int:
    """How many chunks a ciphertext has."""
    return -(-masking.packed_size(length, mask) // CHUNK_BYTES)


def check_limits(proposal: Proposal, limits: Limits, now_ms: int) -> None:
    """The member's own rules, and what no honest proposal breaks."""
    budget = limits.budget(proposal.purpose)
    _require(limits.allows(proposal.task), "task-not-allowed", proposal.task, limits.tasks)
    _require(budget is not None, "purpose-not-allowed", proposal.purpose, sorted(limits.budgets))
    _require(proposal.n_min >= limits.n_min, "n-min-too-small", proposal.n_min, limits.n_min)
    _require(proposal.n_max >= proposal.n_min * proposal.groups, "n-max-too-small", proposal.n_max, "n_min · groups")
    _require(1 <= proposal.groups <= limits.groups_max, "too-many-groups", proposal.groups, limits.groups_max)
    _require(1 <= proposal.length <= limits.length_max, "vector-too-long", proposal.length, limits.length_max)
    _require(proposal.noise in {"committee", "clients"}, "unknown-noise", proposal.noise, "committee or clients")
    # A group may open with n_min clients, so more honest ones than that cannot be promised.
    honest = proposal.noise != "clients" or proposal.honest <= proposal.n_min
    _require(honest, "too-many-honest", proposal.honest, f"at most n_min = {proposal.n_min}")
    # A delta of 1/n would let one of n clients be published outright.
    _require(proposal.delta * proposal.n_max < 1, "delta-too-large", proposal.delta, f"below 1 / {proposal.n_max}")
    duration_ms = proposal.deadline_ms - proposal.opened_ms
    _require(0 < duration_ms <= limits.round_ms, "deadline-too-far", duration_ms, limits.round_ms)
    _require(0 <= proposal.grace_ms <= limits.grace_ms, "grace-too-long", proposal.grace_ms, limits.grace_ms)
    _require(now_ms < proposal.deadline_ms, "too-late", now_ms, proposal.deadline_ms)
    ahead_ms = proposal.opened_ms - now_ms  # behind is fine within the deadline: a member that was away approves late
    _require(ahead_ms <= limits.opened_skew_ms, "opened-in-the-future", ahead_ms, limits.opened_skew_ms)


def check_arithmetic(proposal: Proposal) -> None:
    """The sum cannot wrap, whatever the clients send within the rules: checked once, before anybody sends.

    A clip that adapts is within the bounds that the proposal declares. The total of the noise has, with every share present,
    m/(k − t + 1) times the planned variance, or n_max/h.
    """
    check_clipping(proposal)
    mask = parameters.by_name(proposal.parameters)
    members = len(proposal.roster)
    parameters.check_round_fits(
        mask,
        n_max=proposal.n_max,
        scale=proposal.scale,
        clip=proposal.clip,
        sigma_total=total_sigma(
            proposal.noise, proposal.sigma, members, proposal.threshold, proposal.honest, proposal.n_max
        ),
        members=members,
    )


def check_roster(
    proposal: Proposal,
    *,
    me: int,
    identity: bytes,
    my_key_id: bytes,
    pins: Mapping[int, bytes],
    find: Callable[[bytes], CommitteeMember | None],
    ends_ms: int,
    limits: Limits,
) -> None:
    """The roster is complete, distinct, pinned where pinned, and each of its epoch keys is signed and lasts long enough.

    Args:
        proposal: the round.
        me: this member's number.
        identity: its public identity key.
        my_key_id: its current epoch key.
        pins: identities that the owner fixed, by member number.
        find: the verified record of an epoch key, None where none was read.
        ends_ms: until when the keys have to be valid.
        limits: the owner's rules.

    Raises:
        NotYetError: a member's record has not been read.
        RemoteError: anything else.
    """
    numbers = [entry.member for entry in proposal.roster]
    count = len(numbers)
    _require(
        1 <= count <= MEMBERS_MAX and numbers == list(range(1, count + 1)), "bad-roster", numbers, "1 … m in order"
    )
    _require(
        len({entry.identity_key for entry in proposal.roster}) == count, "bad-roster", "an identity twice", "distinct"
    )
    threshold = proposal.threshold
    _require(
        limits.threshold_min <= threshold <= count, "bad-threshold", threshold, f"{limits.threshold_min} … {count}"
    )
    needed = parameters.quorum(count, threshold)
    _require(proposal.quorum == needed, "bad-quorum", proposal.quorum, needed)
    _require(me <= count, "not-in-roster", count, me)
    mine = proposal.roster[me - 1]
    _require(mine.identity_key == identity, "not-in-roster", "another identity under my number", "mine")
    _require(mine.epoch_key_id == my_key_id, "old-epoch-key", mine.epoch_key_id.hex()[:8], my_key_id.hex()[:8])
    for entry in proposal.roster:
        pin = pins.get(entry.member)
        _require(
            pin in (None, entry.identity_key), "foreign-roster", entry.identity_key.hex()[:8], "the pinned identity"
        )
        record = find(entry.epoch_key_id)
        if record is None:
            raise NotYetError(f"member {entry.member}'s epoch key has not been read", reason="unknown-epoch-key")
        same = record.member == entry.member and record.identity_key == entry.identity_key
        _require(same and not record.retired, "foreign-roster", f"member {entry.member}", "its own epoch key")
        lasts = record.valid_from_ms <= proposal.opened_ms + limits.opened_skew_ms and ends_ms <= record.valid_until_ms
        _require(lasts, "epoch-key-expired", ends_ms, record.valid_until_ms)


@dataclass(frozen=True, slots=True)
class Endorsable:
    """What a member knows about a sender whose envelope it accepted."""

    digest: bytes
    model_version: int


def check_manifest(
    manifest: Manifest,
    proposal: Proposal,
    *,
    rho: bytes,
    me: int,
    commitments: Mapping[int, bytes],
    endorsed: Callable[[bytes], Endorsable | None],
    own_vectors: Mapping[int, bytes],
) -> None:
    """Step 6: everything in it was endorsed by me, and it reveals no group that is too small.

    Args:
        manifest: what the coordinator wants opened.
        proposal: the round that I approved.
        rho: its digest.
        me: this member's number.
        commitments: to nonces, of the approvals that I have verified.
        endorsed: what I endorsed of a sender, None where nothing.
        own_vectors: digests of my own noise vectors, by group.

    Raises:
        RemoteError: with the reason; `not-in-s` where the manifest is none of this member's business.
    """
    _require(
        manifest.rho == rho and manifest.task == proposal.task, "wrong-round", manifest.rho.hex()[:8], rho.hex()[:8]
    )
    numbers = [entry.member for entry in manifest.members]
    _require(numbers == sorted(set(numbers)), "bad-set", numbers, "members in rising order")
    _require(len(numbers) >= proposal.quorum, "set-under-quorum", len(numbers), proposal.quorum)
    _require(
        all(1 <= number <= len(proposal.roster) for number in numbers), "bad-set", numbers, "members of the roster"
    )
    _require(me in numbers, "not-in-s", numbers, me)
    for entry in manifest.members:
        commitment = hashlib.sha256(entry.nonce).digest()
        known = commitments.get(entry.member)
        _require(
            len(entry.nonce) == DIGEST_BYTES and known == commitment,
            "bad-nonce",
            f"member {entry.member}",
            "its commitment",
        )
    groups = [group.group for group in manifest.groups]
    _require(bool(groups) and groups == sorted(set(groups)), "bad-groups", groups, "rising, at least one")
    _require(groups[0] >= 0 and groups[-1] < proposal.groups, "bad-groups", groups, f"below {proposal.groups}")
    for entry in manifest.members:
        _check_vectors(entry, proposal, groups, endorsed, own_vectors if entry.member == me else None)
    _check_clients(manifest, proposal, endorsed)


def _check_vectors(
    entry: ManifestMember,
    proposal: Proposal,
    groups: list[int],
    endorsed: Callable[[bytes], Endorsable | None],
    own: Mapping[int, bytes] | None,
) -> None:
    listed = [vector.group for vector in entry.vectors]
    name = f"member {entry.member}"
    _require(
        listed == sorted(set(listed)) and set(groups) <= set(listed), "missing-vector", f"{name}: {listed}", groups
    )
    identity = proposal.roster[entry.member - 1].identity_key
    for vector in entry.vectors:
        sender = member_sender_id(identity, vector.group)
        _require(
            0 <= vector.group < proposal.groups and vector.sender == sender,
            "foreign-vector",
            name,
            "its own sender name",
        )
        known = endorsed(sender)
        _require(known is not None and known.digest == vector.digest, "vector-not-endorsed", name, "endorsed by me")
        _require(own is None or own.get(vector.group) == vector.digest, "not-my-vector", name, "the vector that I sent")


def _check_clients(manifest: Manifest, proposal: Proposal, endorsed: Callable[[bytes], Endorsable | None]) -> None:
    nonces = [entry.nonce for entry in manifest.members]
    seen: set[bytes] = set()
    for group in manifest.groups:
        count = len(group.clients)
        _require(count >= proposal.n_min, "group-under-n-min", f"group {group.group}: {count}", proposal.n_min)
        for client in group.clients:
            name = client.client.hex()[:8]
            _require(client.client not in seen, "client-twice", name, "once")
            seen.add(client.client)
            known = endorsed(client.client)
            _require(known is not None and known.digest == client.digest, "not-endorsed", name, "endorsed by me")
            same = known is not None and known.model_version == client.model_version
            _require(same, "wrong-model-version", client.model_version, "that of its envelope")
            drawn = group_of(nonces, client.client, proposal.groups)
            _require(drawn == group.group, "wrong-group", f"{name} in {group.group}", drawn)
    _require(len(seen) <= proposal.n_max, "too-many-clients", len(seen), proposal.n_max)


def check_client_name(client: bytes, public_key: bytes) -> None:
    """An enrolment names the client that its key belongs to."""
    _require(client == client_id(public_key), "wrong-client-name", client.hex()[:8], "the digest of its key")


def reason_of(error: AicacheError) -> str:
    """The stable word of an error."""
    return error.reason if isinstance(error, RemoteError) else "invalid"
