"""A whole round in memory, with real keys, signatures, ciphertexts and sealed shares: for tests of members, clients, coordinator.

`Log` stands for Kafka: one list a topic, and what is read comes out of the codec. `Committee` holds member machines that read
from it and publish into it; `Person` is a client that was enrolled; `World` plays a round step by step. Nothing waits: the clock
is a number that the test moves.
"""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aicache.privacy import masking, parameters, shamir
from aicache.privacy.entropy import ByteSource
from aicache.privacy.quantize import quantize, sensitivity
from aicache.privacy.sealing import seal
from aicache.privacy.statements import (
    NO_EPOCH_KEY,
    ciphertext_digest,
    client_id,
    member_sender_id,
    record_digest,
    share_info,
)
from aicache.schemas.chunks import chunks
from aicache.schemas.codec import Codec
from aicache.schemas.records import (
    Approval,
    CommitteeMember,
    Endorsement,
    Enrolment,
    Envelope,
    Manifest,
    ManifestEntry,
    ManifestGroup,
    ManifestMember,
    MemberVector,
    Opening,
    PartitionOffset,
    Place,
    Proposal,
    Record,
    RosterEntry,
    RoundClosed,
    Vote,
)
from aicache.schemas.signing import signed
from aicache.streams.committee.commands import initialise
from aicache.streams.committee.core import Incoming
from aicache.streams.committee.limits import Limits, PurposeBudget
from aicache.streams.committee.member import Member
from aicache.streams.committee.ordering import ORDER
from aicache.streams.committee.rules import group_of
from aicache.streams.committee.store import Store

START_MS = 1_800_000_000_000
DEPLOYMENT = "test"
LIMITS = Limits(n_min=2, budgets={"*": PurposeBudget(epsilon=20.0, delta=1e-6)}, epsilon_round=20.0)


def entropy_of(seed: str | int) -> ByteSource:
    """A replayable source of bytes: SHA-256 in counter mode, for tests alone."""
    state = [0]

    def source(count: int) -> bytes:
        out = b""
        while len(out) < count:
            out += hashlib.sha256(f"{seed}/{state[0]}".encode()).digest()
            state[0] += 1
        return out[:count]

    return source


class Log:
    """Topics of one partition each, as a member reads them."""

    def __init__(self) -> None:
        self.codec = Codec()
        self.topics: dict[str, list[Incoming]] = {}

    def append(self, topic: str, record: Record, timestamp_ms: int = START_MS) -> Incoming:
        return self.append_bytes(topic, self.codec.encode(record), timestamp_ms)

    def append_bytes(self, topic: str, value: bytes, timestamp_ms: int = START_MS) -> Incoming:
        rows = self.topics.setdefault(topic, [])
        found = self.codec.decode(value, *RECORDS)
        item = Incoming(topic, 0, len(rows), timestamp_ms, found.record, found.fingerprint, found.body)
        rows.append(item)
        return item

    def end(self, topic: str) -> int:
        return len(self.topics.get(topic, []))

    def ciphertext(self, place: Place) -> bytes:
        updates = self.topics["aicache.updates"]
        return b"".join(updates[offset].record.data for offset in place.offsets)

    def records(self, topic: str, kind: type) -> list:
        return [item.record for item in self.topics.get(topic, []) if isinstance(item.record, kind)]


RECORDS = tuple(kind for kind in Record.__args__)


@dataclass
class Person:
    """An enrolled client: its key, and what it sends."""

    key: Ed25519PrivateKey
    entropy: ByteSource

    @property
    def public(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    @property
    def id(self) -> bytes:
        return client_id(self.public)

    def enrolment(self, operator: Ed25519PrivateKey, **changes) -> Enrolment:
        record = Enrolment(DEPLOYMENT, self.id, self.public, START_MS, False, "", b"")
        return signed(replace(record, **changes), operator)

    def send(
        self,
        log: Log,
        proposal: Proposal,
        rho: bytes,
        vector: np.ndarray,
        keys: dict[bytes, CommitteeMember],
        **changes,
    ) -> Envelope:
        """Encrypt integers, publish the chunks and the envelope; `changes` replace fields before signing."""
        ciphertext, shares, digest = self.masked(proposal, rho, vector)
        envelope = self.envelope(
            proposal, rho, digest, shares, self.publish(log, proposal, ciphertext), keys, **changes
        )
        log.append("aicache.envelopes", envelope)
        return envelope

    def masked(self, proposal: Proposal, rho: bytes, vector: np.ndarray) -> tuple[bytes, list[bytes], bytes]:
        mask = parameters.by_name(proposal.parameters)
        secret = masking.sample_key(mask, self.entropy)
        ciphertext = masking.encrypt(vector, secret, rho, mask, self.entropy)
        shares = shamir.split(secret, proposal.threshold, len(proposal.roster), self.entropy)
        return ciphertext, shares, ciphertext_digest(rho, self.id, ciphertext)

    def publish(self, log: Log, proposal: Proposal, ciphertext: bytes) -> Place:
        pieces = chunks(proposal.round_id, self.id, ciphertext)
        offsets = [log.append("aicache.updates", piece).offset for piece in pieces]
        return Place(0, offsets)

    def envelope(
        self,
        proposal: Proposal,
        rho: bytes,
        digest: bytes,
        shares: list[bytes],
        place: Place,
        keys: dict[bytes, CommitteeMember],
        **changes,
    ) -> Envelope:
        sealed = []
        for entry, share in zip(proposal.roster, shares, strict=True):
            key = keys[entry.epoch_key_id]
            sealed.append(seal(key.mlkem_key, key.x25519_key, share_info(rho, entry.member, self.id), share + digest))
        version = proposal.model_versions[0].version if proposal.model_versions else -1
        record = Envelope(
            deployment=proposal.deployment,
            task=proposal.task,
            round_id=proposal.round_id,
            rho=rho,
            sender=self.id,
            member=0,
            epoch_key_id=NO_EPOCH_KEY,
            group=-1,
            model_version=version,
            digest=digest,
            place=place,
            sealed=sealed,
            signature=b"",
        )
        return signed(replace(record, **changes), self.key)


@dataclass
class World:
    """A deployment in memory.

    Args:
        members: m.
        threshold: t.
        clients: how many are enrolled.
        limits: of all members.
        folder: where stores are kept; None: in memory.
        outside: the members are processes elsewhere, which read and write the same log.
    """

    members: int = 5
    threshold: int = 3
    clients: int = 6
    limits: Limits = LIMITS
    folder: Path | None = None
    outside: bool = False
    seed: str = "world"
    deployment: str = DEPLOYMENT
    now_ms: int = START_MS
    log: Log = field(default_factory=Log)
    committee: dict[int, Member] = field(default_factory=dict)
    silent: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.entropy = entropy_of(self.seed)
        self.operator = Ed25519PrivateKey.from_private_bytes(self.entropy(32))
        self.people = [self.person() for _ in range(self.clients)]
        for person in self.people:
            self.log.append("aicache.enrolments", person.enrolment(self.operator, deployment=self.deployment))
        for number in range(1, 1 if self.outside else self.members + 1):
            self.committee[number] = self.new_member(number)
        self.pump()

    def person(self) -> Person:
        key = Ed25519PrivateKey.from_private_bytes(self.entropy(32))
        return Person(key, entropy_of(f"{self.seed}/{self.entropy(8).hex()}"))

    def new_member(self, number: int, *, replaces: bool = False, pins: dict[int, bytes] | None = None) -> Member:
        path = ":memory:" if self.folder is None else self.folder / f"member-{number}-{self.entropy(4).hex()}.db"
        store = Store(path, create=True)
        initialise(
            store,
            number,
            deployment=self.deployment,
            operator_key=self.operator.public_key().public_bytes_raw(),
            limits=self.limits,
            pins=pins or {},
            replaces=replaces,
            now_ms=self.now_ms - 1_000,
            entropy=self.entropy,
        )
        return Member(store, self.limits)

    # ------------------------------------------------------------ moving

    def pump(self) -> None:
        """Every member that is not silent reads, decides, publishes, until nothing moves any more."""
        moved = True
        while moved:
            moved = False
            for number, member in self.committee.items():
                if number not in self.silent:
                    moved |= self.step(member)

    def step(self, member: Member) -> bool:
        moved = False
        for topic in ORDER:
            start = member.store.next_offset(topic, 0)
            batch = self.log.topics.get(topic, [])[start:]
            if batch:
                member.receive(batch, self.now_ms, self.entropy)
                moved = True
        return self.publish(member) or moved

    def publish(self, member: Member) -> bool:
        for round_id, group in member.vectors.due():
            places = [
                self.log.append("aicache.updates", chunk)
                for chunk in member.vectors.chunks(round_id, group, self.entropy)
            ]
            member.vectors.placed(round_id, group, Place(0, [item.offset for item in places]))
        rows = member.store.outbox(10_000)
        for row in rows:
            self.log.append_bytes(row.topic, row.value)
        with member.store.transaction():
            member.store.published([row.id for row in rows])
        return bool(rows)

    def tick(self, to_ms: int) -> None:
        """Let time pass for all members."""
        self.now_ms = to_ms
        for number, member in self.committee.items():
            if number not in self.silent:
                member.tick(to_ms, self.entropy)
        self.pump()

    # ------------------------------------------------------------ a round

    def roster(self) -> list[RosterEntry]:
        if self.outside:
            newest = {r.member: r for r in self.log.records("aicache.committee", CommitteeMember)}
            return [RosterEntry(n, newest[n].identity_key, newest[n].epoch_key_id) for n in sorted(newest)]
        return [
            RosterEntry(number, member.core.identity, member.core.current_epoch()[1])
            for number, member in sorted(self.committee.items())
        ]

    def keys(self) -> dict[bytes, CommitteeMember]:
        return {record.epoch_key_id: record for record in self.log.records("aicache.committee", CommitteeMember)}

    def proposal(self, round_id: str = "r1", **changes) -> Proposal:
        length = changes.get("length", 100)
        scale = changes.get("scale", 100.0)
        record = Proposal(
            deployment=self.deployment,
            task="tags",
            task_version=1,
            round_id=round_id,
            number=1,
            kind="sum",
            purpose="trends",
            model_versions=[],
            enrolments_end=[PartitionOffset(0, self.log.end("aicache.enrolments"))],
            updates_start=[],
            opened_ms=self.now_ms,
            deadline_ms=self.now_ms + 60_000,
            grace_ms=1_000,
            n_min=3,
            n_max=1_000,
            roster=self.roster(),
            threshold=self.threshold,
            quorum=parameters.quorum(self.members, self.threshold),
            length=length,
            clip=1.0,
            scale=scale,
            noise="committee",
            sigma=2 * sensitivity(1.0, scale, length),
            honest=2,
            delta=1e-6,
            groups=1,
            robust="none",
            parameters="n10k",
        )
        return replace(record, **changes)

    def propose(self, round_id: str = "r1", **changes) -> tuple[Proposal, bytes]:
        """Propose a round and let the members answer; gives the proposal and rho."""
        item = self.log.append("aicache.rounds", self.proposal(round_id, **changes))
        self.pump()
        return item.record, record_digest("proposal", item.fingerprint, item.body)

    def send_all(self, proposal: Proposal, rho: bytes, people: list[Person] | None = None) -> np.ndarray:
        """Every client sends a random vector; gives their exact sum, noise left out."""
        total = np.zeros(proposal.length, np.int64)
        for person in self.people if people is None else people:
            raw = np.frombuffer(self.entropy(proposal.length), np.uint8).astype(np.float64) - 128
            vector = quantize(
                raw / np.linalg.norm(raw), clip=proposal.clip, scale=proposal.scale, entropy=person.entropy
            )
            person.send(self.log, proposal, rho, vector, self.keys())
            total += vector
        self.pump()
        return total

    def close(self, proposal: Proposal, rho: bytes) -> None:
        self.log.append(
            "aicache.rounds", RoundClosed(self.deployment, proposal.task, proposal.round_id, rho, self.now_ms, "full")
        )
        self.pump()

    def nonces(self, round_id: str) -> dict[int, bytes]:
        return {
            record.member: record.nonce
            for record in self.log.records("aicache.endorsements", Endorsement)
            if record.round_id == round_id and record.last
        }

    def endorsed(self, round_id: str, number: int) -> dict[bytes, bytes]:
        return {
            entry.sender: entry.digest
            for record in self.log.records("aicache.endorsements", Endorsement)
            if record.round_id == round_id and record.member == number
            for entry in record.entries
        }

    def manifest(self, proposal: Proposal, rho: bytes, members: list[int] | None = None) -> Manifest:
        """What an honest coordinator lists."""
        round_id = proposal.round_id
        nonces = self.nonces(round_id)
        chosen = sorted(nonces)[: proposal.quorum] if members is None else members
        envelopes = {e.sender: e for e in self.log.records("aicache.envelopes", Envelope) if e.round_id == round_id}
        common = set.intersection(*(set(self.endorsed(round_id, number).items()) for number in chosen))
        known = {sender for sender, _ in common}
        people = sorted(sender for sender in known if envelopes[sender].member == 0)
        order = [nonces[number] for number in chosen]
        by_group = {
            group: [c for c in people if group_of(order, c, proposal.groups) == group]
            for group in range(proposal.groups)
        }
        entries = []
        for number in chosen:
            identity = proposal.roster[number - 1].identity_key
            senders = [(group, member_sender_id(identity, group)) for group in range(proposal.groups)]
            vectors = [MemberVector(g, s, envelopes[s].digest, envelopes[s].place) for g, s in senders]
            entries.append(ManifestMember(number, nonces[number], vectors))
        groups = [
            ManifestGroup(
                group,
                [
                    ManifestEntry(c, envelopes[c].digest, envelopes[c].model_version, envelopes[c].place)
                    for c in clients
                ],
            )
            for group, clients in by_group.items()
            if len(clients) >= proposal.n_min
        ]
        left_out = [group for group, clients in by_group.items() if len(clients) < proposal.n_min]
        return Manifest(self.deployment, proposal.task, round_id, rho, entries, groups, left_out)

    def publish_manifest(self, manifest: Manifest) -> bytes:
        item = self.log.append("aicache.rounds", manifest)
        self.pump()
        return record_digest("manifest", item.fingerprint, item.body)

    def votes(self, round_id: str = "r1") -> dict[int, bytes]:
        records = self.log.records("aicache.votes", Vote)
        return {record.member: record.manifest_digest for record in records if record.round_id == round_id}

    def approvals(self, round_id: str = "r1") -> set[int]:
        return {record.member for record in self.log.records("aicache.votes", Approval) if record.round_id == round_id}

    def openings(self, round_id: str = "r1", group: int = 0) -> dict[int, Opening]:
        records = self.log.records("aicache.openings", Opening)
        return {record.member: record for record in records if record.round_id == round_id and record.group == group}

    def refusals(self, number: int) -> dict[str, int]:
        return dict(self.committee[number].store.all("SELECT reason, n FROM counts"))

    def open_sum(
        self, proposal: Proposal, rho: bytes, manifest: Manifest, group: int = 0, using: list[int] | None = None
    ) -> np.ndarray:
        """What a reducer would publish: the exact sum of a group, noise included."""
        mask = parameters.by_name(proposal.parameters)
        total = np.zeros(masking.block_count(proposal.length, mask) * mask.ring_degree, np.uint64)
        clients = next(entry for entry in manifest.groups if entry.group == group).clients
        places = [entry.place for entry in clients]
        places += [v.place for member in manifest.members for v in member.vectors if v.group == group]
        for place in places:
            masking.add_packed(total, self.log.ciphertext(place))
        openings = self.openings(proposal.round_id, group)
        chosen = sorted(openings)[: proposal.threshold] if using is None else using
        residues = {number: np.frombuffer(openings[number].shares, "<u2").astype(np.uint16) for number in chosen}
        key_sum = shamir.combine(residues, proposal.threshold)
        return masking.open_sum(total, key_sum, len(places), proposal.length, rho, mask)
