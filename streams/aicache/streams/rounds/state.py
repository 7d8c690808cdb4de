"""What the coordinator remembers: tasks, committee, enrolments, open rounds; and how that is kept in the changelog.

The changelog holds the records themselves under keys that name them, and a small JSON record a round and a task for what the
coordinator decided. Loading files the records in the same way as they were filed when they came. When a round is over its keys
are deleted. Pure.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from aicache.privacy.statements import member_sender_id, record_digest
from aicache.schemas.codec import Codec, SingleObject, body_of
from aicache.schemas.records import (
    Approval,
    Budget,
    CommitteeMember,
    Endorsement,
    Enrolment,
    Envelope,
    Manifest,
    Model,
    ModelVersion,
    PartitionOffset,
    Place,
    Proposal,
    Receipt,
    Record,
    Task,
    Vote,
)

CODEC = Codec(SingleObject())  # of state, which stays the same whatever the wire form of topics
VERSIONS_MAX = 65
"""Digests of model versions that are remembered: the newest, and the widest window behind it."""
PIECE_BYTES = 900_000
"""A manifest may be larger than a record of the changelog: it is kept in pieces."""
PROGRESS = ("rounds", "finished", "failures", "next_ms", "open_round", "clip", "clip_from")
K = TypeVar("K")
V = TypeVar("V")
PROPOSED, COLLECTING, CLOSING, VOTING, OPENING = "proposed", "collecting", "closing", "voting", "opening"


@dataclass(frozen=True, slots=True)
class Claim:
    """What an envelope claims, without its sealed shares."""

    digest: bytes
    model_version: int
    place: Place
    member: int
    group: int


@dataclass(slots=True)
class RoundState:
    """One open round.

    Attributes:
        proposal, rho: the round and its digest.
        phase: proposed, collecting, closing, voting or opening.
        phase_since_ms: when the phase began.
        approvals: commitments to nonces, by member.
        claims: of each sender, by digest.
        endorsed: digests by sender, by member.
        nonces: of the members whose last endorsement has come.
        received: digests of the ciphertexts that the reducer has read, by sender.
        manifest, manifest_digest: once listed.
        votes: digests, by member.
    """

    proposal: Proposal
    rho: bytes
    phase: str = PROPOSED
    phase_since_ms: int = 0
    approvals: dict[int, bytes] = field(default_factory=dict)
    claims: dict[bytes, dict[bytes, Claim]] = field(default_factory=dict)
    endorsed: dict[int, dict[bytes, bytes]] = field(default_factory=dict)
    nonces: dict[int, bytes] = field(default_factory=dict)
    received: dict[bytes, bytes] = field(default_factory=dict)
    manifest: Manifest | None = None
    manifest_digest: bytes = b""
    votes: dict[int, bytes] = field(default_factory=dict)
    keys: set[bytes] = field(default_factory=set)

    def endorsers(self, sender: bytes, digest: bytes) -> int:
        """How many members have endorsed a sender under a digest."""
        return sum(known.get(sender) == digest for known in self.endorsed.values())

    def standing(self) -> list[int]:
        """Members whose noise vectors, one a group, the reducer has read and a quorum has endorsed."""
        found = []
        for entry in self.proposal.roster:
            senders = [member_sender_id(entry.identity_key, group) for group in range(self.proposal.groups)]
            digests = [self.received.get(sender) for sender in senders]
            if entry.member in self.approvals and all(
                digest is not None and self.endorsers(sender, digest) >= self.proposal.quorum
                for sender, digest in zip(senders, digests, strict=True)
            ):
                found.append(entry.member)
        return found

    def unread(self) -> bool:
        """Whether a quorum has endorsed a client whose ciphertext the reducer has not read so far."""
        return any(
            sender not in self.received
            and any(not c.member and self.endorsers(sender, d) >= self.proposal.quorum for d, c in claims.items())
            for sender, claims in self.claims.items()
        )

    def accepted(self) -> int:
        """Clients whose ciphertext has been read and whose envelope a quorum has endorsed under the same digest."""
        return sum(
            1
            for sender, digest in self.received.items()
            if (claim := self.claims.get(sender, {}).get(digest)) is not None
            and not claim.member
            and self.endorsers(sender, digest) >= self.proposal.quorum
        )


@dataclass(slots=True)
class TaskState:
    """A task and where it stands.

    Attributes:
        task: as declared.
        rounds: rounds proposed so far: the number of the last one.
        finished: rounds that gave an aggregate.
        failures: rounds in a row that were aborted: decides how long to wait.
        next_ms: not to open another one before.
        open_round: the round that is open; empty where none is.
        clip: what a clip that adapts has come to, not held to its bounds yet; 0 before the first opened round.
        clip_from: the round that it follows from.
    """

    task: Task
    rounds: int = 0
    finished: int = 0
    failures: int = 0
    next_ms: int = 0
    open_round: str = ""
    clip: float = 0.0
    clip_from: str = ""


@dataclass(slots=True)
class State:
    """All that the coordinator knows."""

    tasks: dict[str, TaskState] = field(default_factory=dict)
    committee: dict[int, CommitteeMember] = field(default_factory=dict)
    clients: dict[bytes, Enrolment] = field(default_factory=dict)
    enrolments_end: int = 0
    updates_end: dict[int, int] = field(default_factory=dict)
    rounds: dict[str, RoundState] = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)
    versions: dict[str, list[ModelVersion]] = field(default_factory=dict)
    momentum: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    budgets: dict[tuple[bytes, str], Budget] = field(default_factory=dict)
    streaks: dict[bytes, float] = field(default_factory=dict)
    now_ms: int = 0
    answered: set[bytes] = field(default_factory=set, compare=False)
    """Clients whose enrolment was written and has not been read back yet; after a restart one may be written again."""

    def enrolled(self) -> int:
        """How many clients may take part."""
        return sum(not client.revoked for client in self.clients.values())


Changes = dict[bytes, bytes | None]


def _key(kind: str, *names: str | bytes) -> bytes:
    return b"|".join(
        [kind.encode(), *(name.encode() if isinstance(name, str) else name.hex().encode() for name in names)]
    )


def keep_task(state: State, name: str, changes: Changes) -> None:
    """Write down a task and where it stands."""
    known = state.tasks[name]
    fields = {name: getattr(known, name) for name in PROGRESS}
    changes[_key("task", name)] = CODEC.encode(known.task)
    changes[_key("progress", name)] = json.dumps(fields).encode()


def keep_member(record: CommitteeMember, changes: Changes) -> None:
    """Write down a member's newest key."""
    changes[_key("member", str(record.member))] = CODEC.encode(record)


def keep_client(state: State, record: Enrolment, changes: Changes) -> None:
    """Write down an enrolment and how far enrolments were read."""
    changes[_key("client", record.client)] = CODEC.encode(record)
    keep_ends(state, changes)


def keep_ends(state: State, changes: Changes) -> None:
    """Write down how far enrolments and updates are known to reach."""
    changes[_key("ends")] = json.dumps([state.enrolments_end, sorted(state.updates_end.items())]).encode()


def keep_model(state: State, task: str, changes: Changes) -> None:
    """Write down a model, its momentum, and the digests of the versions before it, newest last."""
    model = state.models[task]
    changes[_key("model", task)] = CODEC.encode(model)
    known = state.versions.setdefault(task, [])
    if not known or known[-1].version < model.version:
        known.append(ModelVersion(model.version, model.digest))
        del known[:-VERSIONS_MAX]
    changes[_key("versions", task)] = json.dumps([[v.version, v.digest.hex()] for v in known]).encode()
    if task in state.momentum:
        changes[_key("momentum", task)] = state.momentum[task].astype("<f8").tobytes()


def momentum_key(task: str) -> bytes:
    """Where a model's momentum is kept."""
    return _key("momentum", task)


def keep_budget(record: Budget, changes: Changes) -> None:
    """Write down what a client has spent."""
    changes[_key("budget", record.client, record.purpose)] = CODEC.encode(record)


def keep_streak(state: State, client: bytes, changes: Changes) -> None:
    """Write down a client's record of dropped groups; none where it is clean."""
    streak = state.streaks.get(client)
    changes[_key("streak", client)] = None if streak is None else repr(streak).encode()


def keep_phase(current: RoundState, changes: Changes) -> None:
    """Write down where a round stands."""
    name = current.proposal.round_id
    key = _key("proposal", name)
    if key not in current.keys:  # once: written anew in a later version of its schema, it would have another digest
        current.keys.add(key)
        changes[key] = CODEC.encode(current.proposal)
    key = _key("phase", name)
    current.keys.add(key)
    changes[key] = json.dumps([current.phase, current.phase_since_ms]).encode()


def keep_manifest(current: RoundState, changes: Changes) -> None:
    """Write down the manifest, in pieces."""
    assert current.manifest is not None
    data = CODEC.encode(current.manifest)
    for index, start in enumerate(range(0, len(data), PIECE_BYTES)):
        key = _key("manifest", current.proposal.round_id, f"{index:04d}")
        current.keys.add(key)
        changes[key] = data[start : start + PIECE_BYTES]


def keep_record(current: RoundState, record: Record, place: str, changes: Changes) -> None:
    """Write down a record of a round; `place` tells records of one kind apart."""
    key = _key("record", current.proposal.round_id, type(record).__name__, place)
    current.keys.add(key)
    changes[key] = CODEC.encode(record)


def forget_round(state: State, round_id: str, changes: Changes) -> None:
    """Delete all that is kept of a round."""
    current = state.rounds.pop(round_id)
    for key in current.keys:
        changes[key] = None


def file_record(current: RoundState, record: Record) -> bool:
    """Note a record of a round; False where it says nothing new."""
    match record:
        case Approval():
            return _put(current.approvals, record.member, record.nonce_commitment)
        case Vote():
            return _put(current.votes, record.member, record.manifest_digest)
        case Receipt():
            fresh = [_put(current.received, entry.sender, entry.digest) for entry in record.entries]
            return any(fresh)
        case Endorsement():
            known = current.endorsed.setdefault(record.member, {})
            fresh = [_put(known, entry.sender, entry.digest) for entry in record.entries]
            if record.last:
                fresh.append(_put(current.nonces, record.member, record.nonce))
            return any(fresh)
        case Envelope():
            claim = Claim(record.digest, record.model_version, record.place, record.member, record.group)
            return _put(current.claims.setdefault(record.sender, {}), record.digest, claim)
        case _:
            return False


def _put(table: dict[K, V], key: K, value: V) -> bool:
    """The first word counts."""
    if key in table:
        return False
    table[key] = value
    return True


def set_manifest(current: RoundState, manifest: Manifest) -> None:
    """Note the manifest under its digest."""
    current.manifest = manifest
    current.manifest_digest = record_digest("manifest", *body_of(manifest))


def load(entries: Iterable[tuple[bytes, bytes]]) -> State:
    """The state from the changelog."""
    state = State()
    later: list[tuple[list[str], bytes, bytes]] = []
    pieces: dict[str, list[bytes]] = {}
    for key, value in entries:
        kind, *names = key.decode().split("|")
        if kind in {"progress", "phase", "manifest", "record", "momentum"}:
            later.append(([kind, *names], key, value))
        else:
            _load_plain(state, kind, names, key, value)
    for (kind, name, *_), key, value in sorted(later, key=lambda entry: entry[1]):
        if kind == "progress":
            for attribute, number in json.loads(value).items():
                setattr(state.tasks[name], attribute, number)
        elif kind == "momentum":
            state.momentum[name] = np.frombuffer(value, dtype="<f8").copy()
        elif kind == "manifest":
            pieces.setdefault(name, []).append(value)
            state.rounds[name].keys.add(key)
        else:
            _load_of_round(state.rounds[name], kind, key, value)
    for name, found in pieces.items():
        set_manifest(state.rounds[name], CODEC.decode(b"".join(found), Manifest).record)
    return state


def _load_plain(state: State, kind: str, names: list[str], key: bytes, value: bytes) -> None:
    if kind == "task":
        state.tasks[names[0]] = TaskState(CODEC.decode(value, Task).record)
    elif kind == "member":
        state.committee[int(names[0])] = CODEC.decode(value, CommitteeMember).record
    elif kind == "client":
        state.clients[bytes.fromhex(names[0])] = CODEC.decode(value, Enrolment).record
    elif kind == "ends":
        state.enrolments_end, updates = json.loads(value)
        state.updates_end = dict(updates)
    elif kind == "model":
        state.models[names[0]] = CODEC.decode(value, Model).record
    elif kind == "versions":
        found = [ModelVersion(version, bytes.fromhex(digest)) for version, digest in json.loads(value)]
        state.versions[names[0]] = found
    elif kind == "budget":
        budget = CODEC.decode(value, Budget).record
        state.budgets[budget.client, budget.purpose] = budget
    elif kind == "streak":
        state.streaks[bytes.fromhex(names[0])] = float(value)
    elif kind == "proposal":
        decoded = CODEC.decode(value, Proposal)
        rho = record_digest("proposal", decoded.fingerprint, decoded.body)
        state.rounds[names[0]] = RoundState(decoded.record, rho, keys={key})


def _load_of_round(current: RoundState, kind: str, key: bytes, value: bytes) -> None:
    current.keys.add(key)
    if kind == "phase":
        current.phase, current.phase_since_ms = json.loads(value)
    else:
        file_record(current, CODEC.decode(value, Approval, Vote, Receipt, Endorsement, Envelope).record)


def enrolments_end(state: State) -> list[PartitionOffset]:
    """How far enrolments count for a round that is proposed now."""
    return [PartitionOffset(0, state.enrolments_end)]
