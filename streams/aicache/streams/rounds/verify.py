"""Anybody with read access recomputes a round: roster, approvals, manifest, votes, signatures, ciphertexts, openings, sum.

Nothing is taken from whoever ran the round: what a signature covers is checked, what can be computed is computed again, and the
aggregate has to be what the log and the manifest make of it, byte for byte. Two things a log cannot prove about itself are
arguments: the operator's public key and the identities of the members. Without them those checks say that they were skipped.
Pure: the records come in as an argument; no clock, no Kafka.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from aicache.privacy import parameters
from aicache.privacy.errors import AicacheError, RemoteError
from aicache.privacy.sealing import key_id
from aicache.privacy.statements import NO_EPOCH_KEY, client_id, member_sender_id, record_digest
from aicache.schemas.records import (
    Approval,
    Endorsement,
    Manifest,
    ManifestEntry,
    Opening,
    Proposal,
    RosterEntry,
    Vote,
)
from aicache.schemas.signing import Signed, verify_record
from aicache.streams.committee.rules import Endorsable, check_arithmetic, check_manifest, reason_of
from aicache.streams.rounds.budgets import guarantee_of
from aicache.streams.rounds.exported import RoundLog
from aicache.streams.rounds.verify_records import Found, sort_records
from aicache.streams.rounds.verify_sum import (
    GroupSums,
    OpenedGroups,
    add_ciphertexts,
    check_aggregate,
    check_openings,
    open_groups,
    require,
)
from aicache.streams.rounds.verify_task import check_clip, check_task

OfMember = TypeVar("OfMember", Approval, Vote, Endorsement, Opening)

SKIPPED = "skipped: "


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        ok: whether it holds; also true for a check that was skipped, whose detail then begins with "skipped: ".
        detail: what was found, or the stable reason and what is wrong.
    """

    name: str
    ok: bool
    detail: str


def verify_round(
    log: RoundLog, *, operator_key: bytes | None = None, identities: Mapping[int, bytes] | None = None
) -> list[Check]:
    """Recompute a round from the log.

    Args:
        log: what the log holds of it (`exported.read`, or `kafka.round_log`).
        operator_key: Ed25519, 32 bytes, of the operator who enrols clients; None: enrolments are not checked.
        identities: of the members, by number, as clients pin them; None: the roster is checked against itself alone.

    Returns:
        Every check in the order in which they build on each other; the round is valid if all are `ok`. The list ends early
        where nothing that follows could be checked.
    """
    found = sort_records(log)
    checks: list[Check] = []

    def run(name: str, check: Callable[[], str]) -> bool:
        try:
            checks.append(Check(name, True, check()))
        except AicacheError as error:
            checks.append(Check(name, False, f"{reason_of(error)}: {error}"))
        return checks[-1].ok

    if not run("proposal", lambda: _proposal(found)):
        return checks
    proposal = found.proposals[0].record
    run("task", lambda: check_task(found, proposal))
    run("clip", lambda: check_clip(found, proposal))
    rho = record_digest("proposal", found.proposals[0].fingerprint, found.proposals[0].body)
    if not run("roster", lambda: _roster(found, proposal, identities)):
        return checks
    run("approvals", lambda: _approvals(found, proposal, rho))
    if not run("votes", lambda: _votes(found, proposal, rho)):
        return checks
    manifest, digest = _chosen(found, proposal, rho)
    run("enrolments", lambda: _enrolments(found, proposal, manifest, operator_key))
    run("envelopes", lambda: _envelopes(found, proposal, rho, manifest))
    run("vectors", lambda: _vectors(found, proposal, rho, manifest))
    run("manifest", lambda: _manifest(found, proposal, rho, manifest))
    openings = signed_by_roster(found.openings, proposal, rho)
    run("openings", lambda: check_openings(openings, proposal, manifest, digest))
    sums: GroupSums = {}
    if run("ciphertexts", lambda: add_ciphertexts(log, proposal, rho, manifest, sums)):
        opened: OpenedGroups = {}
        if run("sum", lambda: open_groups(openings, proposal, rho, manifest, digest, sums, opened)):
            run("aggregate", lambda: _aggregate(found, proposal, manifest, digest, rho, opened))
    return checks


# ---------------------------------------------------------------- who, and what was agreed


def _proposal(found: Found) -> str:
    require(bool(found.proposals), "no-proposal", f"the log has no proposal of {found.round_id}")
    first = found.proposals[0]
    same = all((other.fingerprint, other.body) == (first.fingerprint, first.body) for other in found.proposals)
    require(same, "second-proposal", "two different proposals have this name")
    proposal = first.record
    require(proposal.deployment == found.deployment, "foreign-deployment", f"it is of {proposal.deployment}")
    check_arithmetic(proposal)
    guarantee = guarantee_of(proposal)
    rho = record_digest("proposal", first.fingerprint, first.body)
    return (
        f"rho {rho.hex()[:16]}, {proposal.kind} of {proposal.length} coordinates, "
        f"epsilon {guarantee.epsilon:.3f} at delta {guarantee.delta:g}"
    )


def _roster(found: Found, proposal: Proposal, identities: Mapping[int, bytes] | None) -> str:
    roster = proposal.roster
    numbers = [entry.member for entry in roster]
    require(numbers == list(range(1, len(numbers) + 1)), "bad-roster", f"members are numbered {numbers}")
    require(
        len({entry.identity_key for entry in roster}) == len(roster), "bad-roster", "an identity stands in it twice"
    )
    needed = parameters.quorum(len(roster), proposal.threshold)
    require(proposal.quorum == needed, "bad-quorum", f"the quorum is {proposal.quorum}, not {needed}")
    for entry in roster:
        pinned = entry.identity_key if identities is None else identities.get(entry.member)
        require(pinned == entry.identity_key, "foreign-roster", f"member {entry.member} is not the one that was pinned")
        _check_epoch_key(found, entry, proposal)
    pins = f"{SKIPPED}no identities were given; " if identities is None else "all as pinned; "
    return f"{pins}{len(roster)} members, {proposal.threshold} open, {proposal.quorum} decide, epoch keys signed"


def _check_epoch_key(found: Found, entry: RosterEntry, proposal: Proposal) -> None:
    for record in found.committee.get(entry.epoch_key_id, []):
        right = (
            record.member == entry.member
            and record.identity_key == entry.identity_key
            and key_id(record.mlkem_key, record.x25519_key) == entry.epoch_key_id
            and record.valid_from_ms <= proposal.opened_ms
            and proposal.deadline_ms <= record.valid_until_ms
        )
        if right and _verifies(record, entry.identity_key):
            return
    raise RemoteError(f"member {entry.member} has not signed its epoch key", reason="unsigned-epoch-key")


def _verifies(record: Signed, key: bytes) -> bool:
    try:
        verify_record(record, key)
    except RemoteError:
        return False
    return True


def signed_by_roster(records: Iterable[OfMember], proposal: Proposal, rho: bytes) -> list[OfMember]:
    """Those records of members that are for this round and whose signature verifies; what others wrote is no evidence."""
    good = []
    for record in records:
        if not 1 <= record.member <= len(proposal.roster) or record.rho != rho or record.task != proposal.task:
            continue
        entry = proposal.roster[record.member - 1]
        if record.epoch_key_id == entry.epoch_key_id and _verifies(record, entry.identity_key):
            good.append(record)
    return good


def _approvals(found: Found, proposal: Proposal, rho: bytes) -> str:
    members = {record.member for record in signed_by_roster(found.approvals, proposal, rho)}
    count = len(members)
    require(count >= proposal.quorum, "too-few-approvals", f"{count} valid approvals, {proposal.quorum} are needed")
    return f"signed by members {_list(members)}"


def _tally(found: Found, proposal: Proposal, rho: bytes) -> dict[bytes, set[int]]:
    tally: dict[bytes, set[int]] = {}
    for vote in signed_by_roster(found.votes, proposal, rho):
        tally.setdefault(vote.manifest_digest, set()).add(vote.member)
    return tally


def _votes(found: Found, proposal: Proposal, rho: bytes) -> str:
    tally = _tally(found, proposal, rho)
    twice = {n for a, one in tally.items() for b, other in tally.items() if a != b for n in one & other}
    require(not twice, "voted-twice", f"members {_list(twice)} have voted for two things")
    digests = {record_digest("manifest", m.fingerprint, m.body) for m in found.manifests}
    require(bool(digests), "no-manifest", "the log has no manifest of this round")
    best = max((len(tally.get(digest, ())) for digest in digests), default=0)
    require(
        best >= proposal.quorum, "too-few-votes", f"{best} valid votes for a manifest, {proposal.quorum} are needed"
    )
    chosen = _chosen(found, proposal, rho)[1]
    return f"members {_list(tally[chosen])} for manifest {chosen.hex()[:16]}"


def _chosen(found: Found, proposal: Proposal, rho: bytes) -> tuple[Manifest, bytes]:
    """The manifest with k votes: after the check of the votes there is exactly one."""
    tally = _tally(found, proposal, rho)
    for manifest in found.manifests:
        digest = record_digest("manifest", manifest.fingerprint, manifest.body)
        if len(tally.get(digest, ())) >= proposal.quorum:
            return manifest.record, digest
    raise RemoteError("no manifest has a quorum", reason="too-few-votes")


# ---------------------------------------------------------------- clients and members' vectors


def _enrolments(found: Found, proposal: Proposal, manifest: Manifest, operator_key: bytes | None) -> str:
    if operator_key is None:
        return f"{SKIPPED}no operator key was given"
    ends = {place.partition: place.offset for place in proposal.enrolments_end}
    clients = [entry.client for group in manifest.groups for entry in group.clients]
    for client in clients:
        admitted = False
        for partition, offset, record in sorted(found.enrolments.get(client, []), key=lambda row: row[:2]):
            counts = offset < ends.get(partition, 0) and record.client == client_id(record.public_key)
            if counts and _verifies(record, operator_key):
                admitted = not record.revoked
        require(admitted, "not-enrolled", f"client {client.hex()[:8]} was not enrolled when the round was proposed")
    return f"all {len(clients)} clients were enrolled before the proposal"


def _key_of(found: Found, client: bytes) -> bytes:
    """A client's public key: its name is the key's digest, so whoever wrote the record cannot have chosen another."""
    for _, _, record in found.enrolments.get(client, []):
        if client_id(record.public_key) == client:
            return record.public_key
    raise RemoteError(f"the log does not hold the key of client {client.hex()[:8]}", reason="unknown-client")


def _envelopes(found: Found, proposal: Proposal, rho: bytes, manifest: Manifest) -> str:
    count = 0
    for group in manifest.groups:
        for entry in group.clients:
            _check_envelope(found, proposal, rho, entry)
            count += 1
    return f"{count} clients have signed digest, place and model version"


def _check_envelope(found: Found, proposal: Proposal, rho: bytes, entry: ManifestEntry) -> None:
    name = f"client {entry.client.hex()[:8]}"
    key = _key_of(found, entry.client)
    for envelope in found.envelopes.get(entry.client, []):
        claims = (envelope.rho, envelope.digest, envelope.place, envelope.model_version, envelope.member)
        listed = (rho, entry.digest, entry.place, entry.model_version, 0)
        whole = envelope.task == proposal.task and len(envelope.sealed) == len(proposal.roster)
        if claims == listed and whole and envelope.epoch_key_id == NO_EPOCH_KEY and _verifies(envelope, key):
            return
    raise RemoteError(f"{name} has signed no envelope that says what the manifest lists", reason="no-envelope")


def _vectors(found: Found, proposal: Proposal, rho: bytes, manifest: Manifest) -> str:
    count = 0
    for member in manifest.members:
        require(1 <= member.member <= len(proposal.roster), "bad-set", f"member {member.member} is not in the roster")
        entry = proposal.roster[member.member - 1]
        for vector in member.vectors:
            name = f"member {member.member}, group {vector.group}"
            sender = member_sender_id(entry.identity_key, vector.group)
            require(vector.sender == sender, "foreign-vector", f"{name}: another sender's name")
            signed = any(
                (e.rho, e.digest, e.place, e.member, e.group)
                == (rho, vector.digest, vector.place, member.member, vector.group)
                and e.epoch_key_id == entry.epoch_key_id
                and _verifies(e, entry.identity_key)
                for e in found.envelopes.get(sender, [])
            )
            require(signed, "no-envelope", f"{name}: no signed envelope says what the manifest lists")
            count += 1
    return f"{count} vectors of members {_list(member.member for member in manifest.members)}"


def _manifest(found: Found, proposal: Proposal, rho: bytes, manifest: Manifest) -> str:
    """What each member of S had to check before it voted, from what it has signed."""
    commitments = {r.member: r.nonce_commitment for r in reversed(signed_by_roster(found.approvals, proposal, rho))}
    versions = {entry.client: entry.model_version for group in manifest.groups for entry in group.clients}
    endorsements = signed_by_roster(found.endorsements, proposal, rho)
    for member in manifest.members:
        digests: dict[bytes, bytes] = {}
        for record in endorsements:
            if record.member == member.member:
                for entry in record.entries:
                    digests.setdefault(entry.sender, entry.digest)

        def endorsed(sender: bytes, known: Mapping[bytes, bytes] = digests) -> Endorsable | None:
            return Endorsable(known[sender], versions.get(sender, -1)) if sender in known else None

        check_manifest(
            manifest,
            proposal,
            rho=rho,
            me=member.member,
            commitments=commitments,
            endorsed=endorsed,
            own_vectors={vector.group: vector.digest for vector in member.vectors},
        )
    accepted = {version.version for version in proposal.model_versions} or {-1}
    require(set(versions.values()) <= accepted, "wrong-model-version", f"{sorted(set(versions.values()) - accepted)}")
    drawn = [group.group for group in manifest.groups] + manifest.left_out
    require(sorted(drawn) == sorted(set(drawn)), "bad-groups", "a group is opened and left out")
    return f"{len(versions)} clients in {len(manifest.groups)} groups, each endorsed by all of S and where the nonces drew it"


def _aggregate(
    found: Found, proposal: Proposal, manifest: Manifest, digest: bytes, rho: bytes, opened: OpenedGroups
) -> str:
    return check_aggregate(found.aggregates, found.closings, found.tasks, proposal, manifest, digest, rho, opened)


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(set(numbers))))
